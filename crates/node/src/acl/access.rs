//! What a command does with each of its keys: which of `%R~` and `%W~` it takes.
//!
//! As in Redis, reading means that something of the value comes back. A command that tells only
//! whether a key is there, or how long, takes any permission. Where nothing is said here, a command
//! that writes takes both: too much is refused rather than too little.

use crate::command::Row;
use crate::command::row::Access;

/// What is done with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Needs {
    /// Something of its value comes back.
    pub(crate) read: bool,
    /// It is changed.
    pub(crate) write: bool,
}

const NOTHING: Needs = Needs { read: false, write: false };
const READ: Needs = Needs { read: true, write: false };
const WRITE: Needs = Needs { read: false, write: true };
const BOTH: Needs = Needs { read: true, write: true };

/// They write, and what was there does not come back.
#[rustfmt::skip]
const ONLY_WRITE: &[&str] = &[
    "append", "del", "expire", "expireat", "geoadd", "hdel", "hmset", "hset", "hsetnx", "linsert",
    "lpush", "lpushx", "lrem", "lset", "ltrim", "mset", "msetex", "msetnx", "persist", "pexpire", "pexpireat",
    "psetex", "restore", "rpush", "rpushx", "sadd", "setex", "setnx", "setrange", "srem", "unlink",
    "xack", "xadd", "xdel", "xgroup|create", "xgroup|createconsumer", "xgroup|delconsumer",
    "xgroup|destroy", "xgroup|setid", "xsetid", "xtrim", "zadd", "zrem", "zremrangebylex",
    "zremrangebyrank", "zremrangebyscore", "pfadd", "siadd", "sirem", "hpexpire", "hexpire",
    "hexpireat", "hpexpireat", "hpersist", "tdigest.add", "tdigest.create", "tdigest.reset",
    "ts.add", "ts.alter", "ts.create", "ts.del", "ts.madd", "cf.add", "cf.addnx", "cf.del", "cf.insert",
    "cf.insertnx", "cf.reserve",
    "ts.deleterule", "restore-asking",
];

/// They tell of a key, and nothing of what is in it.
#[rustfmt::skip]
const ABOUT: &[&str] = &[
    "exists", "hexists", "hlen", "hstrlen", "kmetadata", "llen", "memory|usage", "disk|usage",
    "object|encoding", "object|freq", "object|idletime", "object|refcount", 
    "scard", "sismember", "strlen", "touch", "type", "watch", "xlen", "zcard",
    "sicard",
];

/// The first key is written, of the others something is read.
#[rustfmt::skip]
const FIRST_IS_WRITTEN: &[&str] = &[
    "bitop", "geosearchstore", "pfmerge", "sdiffstore", "sinterstore", "sunionstore", "tdigest.merge",
    "zdiffstore", "zinterstore", "zrangestore", "zunionstore",
];

/// The first key is read, all others are written: GEORADIUS may name several places to store in,
/// and a word that looks like STORE may be the key behind one.
#[rustfmt::skip]
const OTHERS_ARE_WRITTEN: &[&str] = &["copy", "georadius", "georadiusbymember", "sort"];

/// The last key is written, the first one read and written.
#[rustfmt::skip]
const MOVES: &[&str] = &["blmove", "brpoplpush", "lmove", "rename", "renamenx", "rpoplpush", "smove"];

/// What a call does with the key at `place` of `count`.
pub(crate) fn needs(row: &Row, words: &[&[u8]], (place, count): (usize, usize)) -> Needs {
    let (is_first, is_last) = (place == 0, place + 1 == count);
    let name = row.name;
    if ABOUT.contains(&name) {
        return NOTHING;
    }
    match row.access {
        _ if matches!(name, "pfmerge" | "tdigest.merge") && is_first => BOTH,
        _ if FIRST_IS_WRITTEN.contains(&name) => {
            if is_first {
                WRITE
            } else {
                READ
            }
        }
        _ if MOVES.contains(&name) => {
            if is_last && !is_first {
                WRITE
            } else {
                BOTH
            }
        }
        _ if OTHERS_ARE_WRITTEN.contains(&name) => {
            if is_first {
                READ
            } else {
                WRITE
            }
        }
        Access::Write if name == "zadd" && adds_up(words) => BOTH,
        Access::Write if ONLY_WRITE.contains(&name) => WRITE,
        Access::Write if name == "set" => {
            // A value that is taken for an option costs its writer a permission, no more.
            const TELL: [&str; 5] = ["get", "ifeq", "ifne", "ifdeq", "ifdne"];
            let tells = |word: &&[u8]| TELL.iter().any(|t| word.eq_ignore_ascii_case(t.as_bytes()));
            if words.iter().skip(3).any(tells) { BOTH } else { WRITE }
        }
        // With a condition it tells something of the value.
        Access::Write if name == "delex" => {
            if words.len() > 2 {
                BOTH
            } else {
                WRITE
            }
        }
        Access::Write if name == "xreadgroup" => READ,
        // What a script may do with its keys is not known before it runs.
        Access::None if matches!(name, "eval" | "evalsha" | "fcall") => BOTH,
        Access::Write => BOTH,
        Access::Read | Access::None => READ,
    }
}

/// Whether ZADD answers the score that comes of it: with INCR among what stands before the scores.
fn adds_up(words: &[&[u8]]) -> bool {
    const OPTIONS: [&str; 6] = ["nx", "xx", "gt", "lt", "ch", "incr"];
    let is_option =
        |word: &&&[u8]| OPTIONS.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()));
    let mut options = words.iter().skip(2).take_while(is_option);
    options.any(|word| word.eq_ignore_ascii_case(b"incr"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Catalog;

    #[track_caller]
    fn check(command: &str, expected: &[Needs]) {
        crate::shell::table();
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let catalog = Catalog::get();
        let name = command.split(' ').next().unwrap().to_lowercase();
        let row = catalog.entries()[catalog.find(&name).unwrap()].row;
        let count = row.keys_in(&words).count();
        let found: Vec<Needs> =
            (0..count).map(|place| needs(row, &words, (place, count))).collect();
        assert_eq!(found, expected, "{command}");
    }

    #[test]
    fn each_key_takes_what_is_done_with_it() {
        check("GET k", &[READ]);
        check("SET k v", &[WRITE]);
        check("SET k v XX GET", &[BOTH]);
        check("EVAL return(1) 1 k", &[BOTH]);
        check("EVAL_RO return(1) 1 k", &[READ]);
        check("FCALL f 2 k l", &[BOTH, BOTH]);
        check("MOVEX k token", &[BOTH]);
        check("SET k get", &[WRITE]);
        check("SET k v IFEQ x", &[BOTH]);
        check("SET k v ifdne 0123456789abcdef", &[BOTH]);
        check("MSETEX 2 a 1 b 2 NX", &[WRITE, WRITE]);
        check("DELEX k", &[WRITE]);
        check("DELEX k IFNE x", &[BOTH]);
        check("DIGEST k", &[READ]);
        check("KMETADATA k", &[NOTHING]);
        check("TTL k", &[READ]);
        check("EXISTS k", &[NOTHING]);
        check("PFMERGE a b", &[BOTH, READ]);
        check("TDIGEST.MERGE a 1 b", &[BOTH, READ]);
        check("TS.ADD a 1 2", &[WRITE]);
        check("TS.INCRBY a 1", &[BOTH]);
        check("CF.INSERT a ITEMS x", &[WRITE]);
        check("CF.COUNT a x", &[READ]);
        check("INCR k", &[BOTH]);
        check("DEL a b", &[WRITE, WRITE]);
        check("RENAME a b", &[BOTH, WRITE]);
        check("COPY a b", &[READ, WRITE]);
        check("ZUNIONSTORE d 2 a b", &[WRITE, READ, READ]);
        check("SORT l", &[READ]);
        check("SORT l STORE d", &[READ, WRITE]);
        check("LMOVE a b LEFT LEFT", &[BOTH, WRITE]);
        check("GEORADIUS a 0 0 1 m STORE b STOREDIST c", &[READ, WRITE, WRITE]);
        check("GEORADIUS a 0 0 1 m STORE store ASC", &[READ, WRITE, WRITE]);
        // The score comes back.
        check("ZADD z XX incr 0 m", &[BOTH]);
        check("ZADD z CH 1 incr", &[WRITE]);
        // Entries come back, with all that is in them.
        check("XAUTOCLAIM s g c 0 0", &[BOTH]);
        check("XCLAIM s g c 0 1-1", &[BOTH]);
    }

    #[test]
    fn every_name_here_is_a_command() {
        crate::shell::table();
        let catalog = Catalog::get();
        // Those are of commands that are still to come.
        let later = ["restore"];
        let lists = [ONLY_WRITE, ABOUT, FIRST_IS_WRITTEN, OTHERS_ARE_WRITTEN, MOVES];
        for name in lists.into_iter().flatten() {
            assert!(catalog.find(name).is_some() || later.contains(name), "{name}");
        }
    }
}
