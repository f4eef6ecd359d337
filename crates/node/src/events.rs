//! Keyspace notifications: what commands did to keys, told to channels.
//!
//! Channels and names of events are Redis'. Which keys a command changed its records say
//! ([`storage::changes::Outcome`]); what the change is called is in one table here. Told are the
//! subscribers of the node that ran the command, after its batch was written: a replica, which gets
//! batches and no commands, tells none.
//!
//! Of keys that were not there when a command came is told what somebody wants to know ([`look`]):
//! that a read missed them (`m`), that they are new (`n`), that they had ended (`x`). Nothing else
//! removes keys that have ended at a moment that could be told; where it is wanted,
//! `session::expire` does.

use std::collections::HashSet;

use storage::changes::Outcome;
use storage::types::keys::{self, Standing};
use storage::{DEFAULT_NAMESPACE, Family, Name, Read, Scope, Txn};

use crate::command::row::Access;
use crate::command::{Flags, Row};
use crate::config::value::Events;
use crate::inbox::Limit;
use crate::pubsub::{Message, Pubsub};

/// Classes of events, by their letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Generic,
    String,
    List,
    Set,
    Hash,
    SortedSet,
    Stream,
    Expired,
    New,
}

impl Class {
    fn letter(self) -> u8 {
        match self {
            Self::Generic => b'g',
            Self::String => b'$',
            Self::List => b'l',
            Self::Set => b's',
            Self::Hash => b'h',
            Self::SortedSet => b'z',
            Self::Stream => b't',
            Self::Expired => b'x',
            Self::New => b'n',
        }
    }
}

/// One event of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub name: &'static str,
    /// Id of the name of the key.
    pub id: Vec<u8>,
}

/// What commands do is called, for the key they change; of two keys the first and the last one.
/// An empty name: it is not told.
#[rustfmt::skip]
const NAMES: &[(Class, &[&str], &str, &str)] = &[
    (Class::String, &["set", "setex", "psetex", "setnx", "getset", "mset", "msetnx", "msetex", "cas"], "set", "set"),
    (Class::String, &["append"], "append", "append"),
    (Class::String, &["setrange"], "setrange", "setrange"),
    (Class::String, &["incr", "incrby", "decr", "decrby"], "incrby", "incrby"),
    (Class::String, &["incrbyfloat"], "incrbyfloat", "incrbyfloat"),
    (Class::String, &["setbit", "bitfield"], "setbit", "setbit"),
    (Class::String, &["bitop"], "set", "set"),
    (Class::String, &["pfadd", "pfmerge"], "pfadd", "pfadd"),
    (Class::Generic, &["expire", "pexpire", "expireat", "pexpireat", "getex"], "expire", "expire"),
    (Class::Generic, &["persist"], "persist", "persist"),
    (Class::Generic, &["rename", "renamenx"], "rename_from", "rename_to"),
    (Class::Generic, &["copy"], "copy_to", "copy_to"),
    (Class::Generic, &["move", "movex"], "move_from", "move_to"),
    (Class::Generic, &["restore", "restore-asking"], "restore", "restore"),
    (Class::List, &["lpush", "lpushx"], "lpush", "lpush"),
    (Class::List, &["rpush", "rpushx"], "rpush", "rpush"),
    (Class::List, &["lpop", "blpop"], "lpop", "lpop"),
    (Class::List, &["rpop", "brpop"], "rpop", "rpop"),
    (Class::List, &["rpoplpush", "brpoplpush"], "rpop", "lpush"),
    (Class::List, &["linsert"], "linsert", "linsert"),
    (Class::List, &["lset"], "lset", "lset"),
    (Class::List, &["lrem"], "lrem", "lrem"),
    (Class::List, &["ltrim"], "ltrim", "ltrim"),
    (Class::List, &["sort"], "sortstore", "sortstore"),
    (Class::Set, &["sadd"], "sadd", "sadd"),
    (Class::Set, &["srem"], "srem", "srem"),
    (Class::Set, &["spop"], "spop", "spop"),
    (Class::Set, &["smove"], "srem", "sadd"),
    (Class::Set, &["sinterstore"], "sinterstore", "sinterstore"),
    (Class::Set, &["sunionstore"], "sunionstore", "sunionstore"),
    (Class::Set, &["sdiffstore"], "sdiffstore", "sdiffstore"),
    (Class::Hash, &["hset", "hmset", "hsetnx", "hsetex"], "hset", "hset"),
    (Class::Hash, &["hincrby"], "hincrby", "hincrby"),
    (Class::Hash, &["hincrbyfloat"], "hincrbyfloat", "hincrbyfloat"),
    (Class::Hash, &["hdel", "hgetdel"], "hdel", "hdel"),
    (Class::Hash, &["hexpire", "hpexpire", "hexpireat", "hpexpireat", "hgetex"], "hexpire", "hexpire"),
    (Class::Hash, &["hpersist"], "hpersist", "hpersist"),
    (Class::SortedSet, &["zadd"], "zadd", "zadd"),
    (Class::SortedSet, &["zincrby"], "zincr", "zincr"),
    (Class::SortedSet, &["zrem"], "zrem", "zrem"),
    (Class::SortedSet, &["zpopmin", "bzpopmin"], "zpopmin", "zpopmin"),
    (Class::SortedSet, &["zpopmax", "bzpopmax"], "zpopmax", "zpopmax"),
    (Class::SortedSet, &["zremrangebyscore"], "zremrangebyscore", "zremrangebyscore"),
    (Class::SortedSet, &["zremrangebyrank"], "zremrangebyrank", "zremrangebyrank"),
    (Class::SortedSet, &["zremrangebylex"], "zremrangebylex", "zremrangebylex"),
    (Class::SortedSet, &["zunionstore"], "zunionstore", "zunionstore"),
    (Class::SortedSet, &["zinterstore"], "zinterstore", "zinterstore"),
    (Class::SortedSet, &["zdiffstore"], "zdiffstore", "zdiffstore"),
    (Class::SortedSet, &["zrangestore"], "zrangestore", "zrangestore"),
    (Class::SortedSet, &["geoadd"], "zadd", "zadd"),
    (Class::SortedSet, &["georadius", "georadiusbymember"], "georadiusstore", "georadiusstore"),
    (Class::SortedSet, &["geosearchstore"], "geosearchstore", "geosearchstore"),
    (Class::Stream, &["xadd"], "xadd", "xadd"),
    (Class::Stream, &["xdel"], "xdel", "xdel"),
    (Class::Stream, &["xtrim"], "xtrim", "xtrim"),
    (Class::Stream, &["xsetid"], "xsetid", "xsetid"),
    (Class::Stream, &["xgroup|create"], "xgroup-create", "xgroup-create"),
    (Class::Stream, &["xgroup|createconsumer"], "xgroup-createconsumer", "xgroup-createconsumer"),
    (Class::Stream, &["xgroup|delconsumer"], "xgroup-delconsumer", "xgroup-delconsumer"),
    (Class::Stream, &["xgroup|destroy"], "xgroup-destroy", "xgroup-destroy"),
    (Class::Stream, &["xgroup|setid"], "xgroup-setid", "xgroup-setid"),
];

/// What a call did to its first key and to its last one.
fn names(row: &Row, words: &[&[u8]]) -> Option<(Class, &'static str, &'static str)> {
    let at = |place: usize, wanted: &str| {
        words.get(place).is_some_and(|word| word.eq_ignore_ascii_case(wanted.as_bytes()))
    };
    // A key may be called as an option is: it stands behind the keys.
    let behind_keys = |before: usize| before + row.keys_in(words).count();
    let side = |is_left, left, right| if is_left { left } else { right };
    match row.name {
        "lmove" | "blmove" => {
            let (from, to) = (at(3, "left"), at(4, "left"));
            Some((Class::List, side(from, "lpop", "rpop"), side(to, "lpush", "rpush")))
        }
        "lmpop" | "blmpop" => {
            let place = behind_keys(if row.name == "lmpop" { 2 } else { 3 });
            let name = side(at(place, "left"), "lpop", "rpop");
            Some((Class::List, name, name))
        }
        "zmpop" | "bzmpop" => {
            let place = behind_keys(if row.name == "zmpop" { 2 } else { 3 });
            let name = side(at(place, "min"), "zpopmin", "zpopmax");
            Some((Class::SortedSet, name, name))
        }
        "zadd" if increments(words) => Some((Class::SortedSet, "zincr", "zincr")),
        "getex" if at(2, "persist") => Some((Class::Generic, "persist", "persist")),
        name => NAMES
            .iter()
            .find(|(_, commands, ..)| commands.contains(&name))
            .map(|(class, _, first, last)| (*class, *first, *last)),
    }
}

/// Whether a ZADD is one with INCR: its options stand before the scores and members.
fn increments(words: &[&[u8]]) -> bool {
    const OPTIONS: [&str; 6] = ["nx", "xx", "gt", "lt", "ch", "incr"];
    let is_option =
        |word: &&&[u8]| OPTIONS.iter().any(|option| word.eq_ignore_ascii_case(option.as_bytes()));
    let mut options = words.iter().skip(2).take_while(is_option);
    options.any(|word| word.eq_ignore_ascii_case(b"incr"))
}

/// What they store replaces their key: of nothing at all they only tell that the key is gone.
#[rustfmt::skip]
const STORES: &[&str] = &[
    "bitop", "georadius", "georadiusbymember", "geosearchstore", "sdiffstore", "sinterstore", "sort",
    "sunionstore", "zdiffstore", "zinterstore", "zrangestore", "zunionstore",
];

/// Whether a call takes from its first key what it gives to its last one: as in Redis, that it was
/// given is told first.
fn hands_over(row: &Row) -> bool {
    matches!(row.name, "lmove" | "blmove" | "rpoplpush" | "brpoplpush")
}

/// Whether a call gives its key an end besides.
fn expires(row: &Row, words: &[&[u8]]) -> bool {
    const OPTIONS: [&str; 4] = ["ex", "px", "exat", "pxat"];
    const COMPARED: [&str; 4] = ["ifeq", "ifne", "ifdeq", "ifdne"];
    let is_one_of = |word: &[u8], options: &[&str]| {
        options.iter().any(|option| word.eq_ignore_ascii_case(option.as_bytes()))
    };
    // What follows a comparison is a value, whatever it looks like.
    let has_option = |first: usize| {
        let mut words = words.iter().skip(first);
        while let Some(word) = words.next() {
            if is_one_of(word, &OPTIONS) {
                return true;
            }
            if is_one_of(word, &COMPARED) {
                words.next();
            }
        }
        false
    };
    match row.name {
        "setex" | "psetex" => true,
        "set" => has_option(3),
        "msetex" => has_option(2 + 2 * row.keys_in(words).count()),
        _ => false,
    }
}

/// What a command found of its keys before it ran, as far as somebody wants to know: ids of names.
#[derive(Debug, Default)]
pub struct Before {
    /// Those that were not there.
    absent: Vec<Vec<u8>>,
    /// Of these, those whose end is past.
    pub ended: Vec<Vec<u8>>,
}

/// What a command did that its records do not tell.
#[derive(Debug, Default)]
pub struct Touched {
    /// Keys on which it has done its work without writing anything: ids of names.
    pub keys: Vec<Vec<u8>>,
    /// Streams in a group of which it has made a consumer without being told to.
    pub consumers: Vec<Vec<u8>>,
}

/// Whether a command is to be looked at before it runs. Of a script what it calls is.
pub fn minds_absence(wanted: Events, row: &Row) -> bool {
    // Kvrocks writes an empty set where nothing was, too, which is no end of a key.
    let is_store = wanted.any() && STORES.contains(&row.name);
    (wanted.minds_absence() || is_store) && row.is_data() && !row.flags.has(Flags::SCRIPT)
}

/// Looks for the keys that a command names, if what is not there is to be told.
pub fn look(
    wanted: Events,
    row: &Row,
    words: &[&[u8]],
    read: &impl Read,
    scope: Scope<'_>,
) -> Before {
    let mut before = Before::default();
    if !minds_absence(wanted, row) {
        return before;
    }
    for key in row.keys_in(words) {
        // What cannot be read the command itself will say.
        let Ok(standing) = keys::standing(read, &scope.at(key)) else { continue };
        let id = || scope.name(key).id().to_vec();
        match standing {
            Standing::There => {}
            Standing::Absent => before.absent.push(id()),
            Standing::Ended => {
                before.absent.push(id());
                before.ended.push(id());
            }
        }
    }
    before
}

/// Reads that look for a key and miss none, as in Redis.
#[rustfmt::skip]
const MISS_NONE: &[&str] = &[
    "disk|usage", "kmetadata", "memory|usage", "object|encoding", "object|freq", "object|idletime",
    "object|refcount",
];

/// What is told of keys that a read has looked for in vain.
pub fn missed(wanted: Events, row: &Row, before: &Before) -> Vec<Event> {
    let is_told = wanted.has(b'm') && row.access == Access::Read && !MISS_NONE.contains(&row.name);
    if !is_told {
        return Vec::new();
    }
    before.absent.iter().map(|id| Event { name: "keymiss", id: id.clone() }).collect()
}

/// The end of a key, of which it is told once it is removed.
pub fn expired(id: &[u8]) -> Event {
    Event { name: "expired", id: id.to_vec() }
}

/// What a command did since `mark`, and to keys that it has touched without writing anything, by
/// the ids of their names; nothing where nobody is to be told.
pub fn of(
    wanted: Events,
    row: &Row,
    words: &[&[u8]],
    (txn, mark, scope): (&Txn<'_>, storage::batch::Mark, Scope<'_>),
    (touched, before): (Touched, &Before),
) -> Vec<Event> {
    // What a script did is told of what it has called.
    if !wanted.any() || row.flags.has(Flags::SCRIPT) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut add = |class: Class, name, id: &[u8]| {
        if wanted.has(class.letter()) {
            found.push(Event { name, id: id.to_vec() });
        }
    };
    let names = names(row, words);
    let (first, hands_over) = (row.keys_in(words).next(), hands_over(row));
    let mut outcomes = txn.outcomes_since(mark, scope.cluster, scope.now_ms);
    outcomes.extend(touched.keys.into_iter().map(|id| (id, Outcome::Kept)));
    let is_within_one = hands_over && outcomes.len() == 1;
    let absent: HashSet<&[u8]> = before.absent.iter().map(Vec::as_slice).collect();
    let ended: HashSet<&[u8]> = before.ended.iter().map(Vec::as_slice).collect();
    if hands_over {
        outcomes.reverse();
    }
    for id in &touched.consumers {
        add(Class::Stream, "xgroup-createconsumer", id);
    }
    for (id, outcome) in outcomes {
        let is_first = Name::of(&id).is_some_and(|name| Some(name.key) == first);
        if outcome == Outcome::Kept && absent.contains(id.as_slice()) {
            if ended.contains(id.as_slice()) {
                add(Class::Expired, "expired", &id);
            }
            add(Class::New, "new", &id);
        }
        let is_moved = outcome == Outcome::Deleted
            && matches!(row.name, "rename" | "renamenx" | "move" | "movex");
        if let Some((class, at_first, at_last)) = names {
            let is_end = match outcome {
                Outcome::Kept => false,
                Outcome::Emptied => STORES.contains(&row.name),
                Outcome::Deleted => class == Class::Generic || STORES.contains(&row.name),
            };
            if is_moved {
                add(class, at_first, &id);
            } else if is_within_one {
                add(class, at_last, &id);
                add(class, at_first, &id);
            } else if !is_end {
                let is_of_two = matches!(row.name, "rename" | "renamenx" | "move" | "movex");
                add(class, if is_first && !is_of_two { at_first } else { at_last }, &id);
            }
        }
        match outcome {
            Outcome::Emptied if STORES.contains(&row.name) && absent.contains(id.as_slice()) => {}
            Outcome::Deleted | Outcome::Emptied if !is_moved => add(Class::Generic, "del", &id),
            Outcome::Kept if expires(row, words) => add(Class::Generic, "expire", &id),
            _ if row.name == "xadd" && txn.has_deleted_since(mark, Family::Stream) => {
                add(Class::Stream, "xtrim", &id);
            }
            _ => {}
        }
    }
    found
}

/// Tells those who subscribe.
pub fn deliver(pubsub: &Pubsub, wanted: Events, events: &[Event], limit: Limit, now_ms: u64) {
    if events.is_empty() || !pubsub.any() {
        return;
    }
    for Event { name, id } in events {
        let Some(Name { namespace, key }) = Name::of(id) else { continue };
        let database = if namespace == DEFAULT_NAMESPACE { b"0" } else { namespace };
        let send = |kind: &[u8], about: &[u8], text: &[u8]| {
            let channel = [kind, database, b"__:", about].concat();
            let message = Message { is_shard: false, channel: &channel, text };
            pubsub.publish(message, limit, now_ms);
        };
        if wanted.has(b'K') {
            send(b"__keyspace@", key, name.as_bytes());
        }
        if wanted.has(b'E') {
            send(b"__keyevent@", name.as_bytes(), key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Catalog;

    #[test]
    fn every_name_here_is_a_command_and_stands_once() {
        crate::shell::table();
        for name in MISS_NONE.iter().chain(STORES) {
            assert!(Catalog::get().find(name).is_some(), "{name}");
        }
        let later = ["restore"];
        let mut seen = std::collections::BTreeSet::new();
        for name in NAMES.iter().flat_map(|(_, commands, ..)| *commands) {
            assert!(Catalog::get().find(name).is_some() || later.contains(name), "{name}");
            assert!(seen.insert(name), "{name} twice");
        }
    }
}
