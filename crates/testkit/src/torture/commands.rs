//! Operations as commands, and what the replies to them mean.
//!
//! An error counts as a refusal only where it is certain that nothing was done; of any other the
//! outcome is unknown.

use anyhow::Result;

use super::history::{Answer, Call, Outcome, id, id_text};
use super::keys::{Key, Kind};
use super::scripts;
use crate::linear::queue::End;
use crate::linear::set::MEMBERS;
use crate::wire::{Connection, Reply, encode};

/// Bytes of an element of a list that is one string, its end mark included.
const ELEMENT: usize = 9;
/// The field, and the member, that counters are in.
const COUNTED: &str = "n";
/// How long a pop waits for an element, s.
const WAIT_S: &str = "0.1";
/// The same, ms.
const WAIT_MS: &str = "100";
/// The group of consumers that every stream has.
pub(super) const GROUP: &str = "group";
/// The field of an entry that holds its element.
const FIELD: &str = "e";
/// For how long an entry was with one consumer before another claims it, ms.
const IDLE_MS: &str = "300";
/// More entries than a run adds.
const ALL: &str = "1000000";

/// Errors that are given before anything is done.
const REFUSALS: [&str; 13] = [
    "MOVED",
    "ASK",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "NOREPLICAS",
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "NOAUTH",
    "DENIED",
    "BUSY",
    // A command that waited is answered once, so that it was given nothing.
    "UNBLOCKED",
    "NOSCRIPT",
];

/// A read of a key in its own right: what is there at the end, or at a replica.
pub fn read(connection: &mut Connection, key: &Key, call: Call) -> Result<Outcome> {
    connection.send_raw(&command(key, call))?;
    Ok(outcome(call, key, &connection.receive()?))
}

/// As it is sent.
pub(super) fn command(key: &Key, call: Call) -> Vec<u8> {
    let name = key.name.as_str();
    match call {
        Call::Get => match key.kind {
            Kind::Queue => encode(&["LRANGE", name, "0", "-1"]),
            Kind::Set => encode(&["SMEMBERS", name]),
            Kind::Field => encode(&["HGET", name, COUNTED]),
            Kind::Score => encode(&["ZSCORE", name, COUNTED]),
            Kind::Script => scripts::read(key),
            Kind::Stream => encode(&["XRANGE", name, "-", "+"]),
            _ => encode(&["GET", name]),
        },
        Call::Set(value) => encode(&["SET", name, &value.to_string()]),
        Call::Swap(value) => encode(&["SET", name, &value.to_string(), "GET"]),
        Call::Incr => match key.kind {
            Kind::Field => encode(&["HINCRBY", name, COUNTED, "1"]),
            Kind::Score => encode(&["ZINCRBY", name, "1", COUNTED]),
            _ => encode(&["INCR", name]),
        },
        Call::Append(element) => encode(&["APPEND", name, &format!("{element:08};")]),
        Call::Acquire(token) => {
            encode(&["SET", name, &token.to_string(), "NX", "PX", &key.ttl_ms.to_string()])
        }
        // It is not one command; see `client::release`.
        Call::Release(_) => Vec::new(),
        Call::Push(End::Left, element) => encode(&["LPUSH", name, &element.to_string()]),
        Call::Push(End::Right, element) => encode(&["RPUSH", name, &element.to_string()]),
        Call::Pop(End::Left) => encode(&["BLPOP", name, WAIT_S]),
        Call::Pop(End::Right) => encode(&["BRPOP", name, WAIT_S]),
        Call::Move => encode(&["BLMOVE", name, &key.aside(), "RIGHT", "LEFT", WAIT_S]),
        Call::Done(element) => encode(&["LREM", &key.aside(), "1", &element.to_string()]),
        Call::Aside => encode(&["LRANGE", &key.aside(), "0", "-1"]),
        Call::Add(member) => encode(&["SADD", name, &member.to_string()]),
        Call::Remove(member) => encode(&["SREM", name, &member.to_string()]),
        Call::Has(member) => encode(&["SISMEMBER", name, &member.to_string()]),
        Call::Draw => encode(&["SPOP", name]),
        Call::Compare(way, old, new) => scripts::compare(key, way, old, new),
        Call::Enter(element) => encode(&["XADD", name, "*", FIELD, &element.to_string()]),
        Call::Take(consumer) => {
            let (consumer, of) = (consumer.to_string(), ["COUNT", "1", "BLOCK", WAIT_MS]);
            let group = ["XREADGROUP", "GROUP", GROUP, &consumer];
            encode(&[&group[..], &of, &["STREAMS", name, ">"]].concat())
        }
        Call::Claim(consumer) => {
            let consumer = consumer.to_string();
            encode(&["XAUTOCLAIM", name, GROUP, &consumer, IDLE_MS, "0-0", "COUNT", "1"])
        }
        Call::Ack(id) => encode(&["XACK", name, GROUP, &id_text(id)]),
        Call::Publish(element) => encode(&["PUBLISH", name, &element.to_string()]),
        Call::Pending => encode(&["XPENDING", name, GROUP, "-", "+", ALL]),
    }
}

/// An error: whether it says that nothing was done.
pub(super) fn refusal(reply: &Reply) -> Outcome {
    let (text, code) = (reply.text(), reply.error_code().unwrap_or_default());
    let is_known = REFUSALS.contains(&code.as_str())
        || text.starts_with("ERR this node serves clients only through")
        || text == "ERR max number of clients reached";
    if is_known { Outcome::Refused(text) } else { Outcome::Unknown(text) }
}

/// What a reply to an operation means.
pub(super) fn outcome(call: Call, key: &Key, reply: &Reply) -> Outcome {
    if let Reply::Error(_) = reply {
        return match key.kind {
            Kind::Script if scripts::garbage(&reply.text()) => strange(reply),
            // The group was acknowledged before the first fault.
            Kind::Stream if reply.error_code().as_deref() == Some("NOGROUP") => strange(reply),
            _ => refusal(reply),
        };
    }
    let answer = match key.kind {
        Kind::Queue => of_queue(call, key, reply),
        Kind::Set => of_set(call, reply),
        Kind::Script if call == Call::Get => scripts::both(reply, value),
        Kind::Script => value(reply).map(Answer::Value),
        Kind::Stream => of_stream(call, key, reply),
        _ => of_string(call, key.kind, reply),
    };
    answer.map_or_else(|| strange(reply), Outcome::Answered)
}

fn strange(reply: &Reply) -> Outcome {
    let text = match reply {
        Reply::Error(_) => reply.text(),
        other => format!("{other:?}"),
    };
    Outcome::Answered(Answer::Garbage(text.chars().take(200).collect()))
}

/// `None`: neither nothing nor a number.
fn value(reply: &Reply) -> Option<Option<u64>> {
    match reply {
        Reply::NilBulk | Reply::NilArray | Reply::Null => Some(None),
        Reply::Bulk(_) => reply.text().parse().ok().map(Some),
        _ => None,
    }
}

fn whether(reply: &Reply) -> Option<Answer> {
    match reply {
        Reply::Integer(number @ 0..=1) => Some(Answer::Whether(*number == 1)),
        _ => None,
    }
}

fn of_string(call: Call, kind: Kind, reply: &Reply) -> Option<Answer> {
    let number = |reply: &Reply| match reply {
        Reply::Integer(number) => Some(*number),
        _ => value(reply).and_then(|value| i64::try_from(value.unwrap_or(0)).ok()),
    };
    let is_counter = matches!(kind, Kind::Counter | Kind::Field | Kind::Score);
    match (call, reply) {
        (Call::Set(_), Reply::Simple(_)) => Some(Answer::Done),
        (Call::Publish(_), Reply::Integer(count)) => Some(Answer::Number(*count)),
        (Call::Get, _) if kind == Kind::List => content(reply).map(Answer::Content),
        (Call::Get | Call::Incr, _) if is_counter => number(reply).map(Answer::Number),
        (Call::Get | Call::Swap(_), _) => value(reply).map(Answer::Value),
        (Call::Append(_), Reply::Integer(bytes)) => {
            let bytes = usize::try_from(*bytes).unwrap_or(1);
            let elements = i64::try_from(bytes / ELEMENT).unwrap_or(0);
            (bytes % ELEMENT == 0).then_some(Answer::Number(elements))
        }
        (Call::Acquire(_), Reply::Simple(_)) => Some(Answer::Whether(true)),
        (Call::Acquire(_), Reply::NilBulk | Reply::Null) => Some(Answer::Whether(false)),
        _ => None,
    }
}

fn of_queue(call: Call, key: &Key, reply: &Reply) -> Option<Answer> {
    match (call, reply) {
        (Call::Get | Call::Aside, Reply::Many(_, elements)) => {
            let elements = elements.iter().map(|element| value(element).flatten());
            elements.collect::<Option<_>>().map(Answer::Content)
        }
        (Call::Push(..), Reply::Integer(length)) => Some(Answer::Number(*length)),
        // The name of the list comes with the element.
        (Call::Pop(_), Reply::Many(_, both)) => match both.as_slice() {
            [name, element] if name.text() == key.name => {
                value(element).flatten().map(|element| Answer::Value(Some(element)))
            }
            _ => None,
        },
        (Call::Pop(_), Reply::Bulk(_)) => None,
        (Call::Pop(_) | Call::Move, _) => value(reply).map(Answer::Value),
        (Call::Done(_), _) => whether(reply),
        _ => None,
    }
}

fn of_set(call: Call, reply: &Reply) -> Option<Answer> {
    match (call, reply) {
        (Call::Get, Reply::Many(_, members)) => {
            let members = members.iter().map(|member| value(member).flatten());
            let mut members = members.collect::<Option<Vec<u64>>>()?;
            members.sort_unstable();
            let is_set = members.windows(2).all(|pair| pair[0] < pair[1]);
            let is_ours = members.iter().all(|member| *member < MEMBERS);
            (is_set && is_ours).then_some(Answer::Content(members))
        }
        (Call::Draw, _) => {
            let drawn = value(reply)?;
            drawn.is_none_or(|member| member < MEMBERS).then_some(Answer::Value(drawn))
        }
        (Call::Add(_) | Call::Remove(_) | Call::Has(_), _) => whether(reply),
        _ => None,
    }
}

fn of_stream(call: Call, key: &Key, reply: &Reply) -> Option<Answer> {
    let one = |reply: &Reply| {
        reply
            .elements()
            .first()
            .and_then(|of| id(&of.text()))
            .filter(|_| reply.elements().len() == 4)
    };
    match (call, reply) {
        (Call::Enter(_), Reply::Bulk(_)) => id(&reply.text()).map(|id| Answer::Value(Some(id))),
        (Call::Take(_), Reply::NilArray | Reply::NilBulk | Reply::Null) => {
            Some(Answer::Entries(Vec::new()))
        }
        (Call::Take(_), Reply::Many(_, streams)) => match streams.as_slice() {
            [stream] => match stream.elements() {
                [name, read] if name.text() == key.name => entries(read),
                _ => None,
            },
            _ => None,
        },
        // A place to go on from, the entries, and ids of such as were deleted, which nobody does.
        (Call::Claim(_), Reply::Many(_, parts)) => match parts.as_slice() {
            [_, claimed, deleted] if deleted.elements().is_empty() => entries(claimed),
            _ => None,
        },
        (Call::Get, Reply::Many(..)) => entries(reply),
        (Call::Pending, Reply::Many(_, pending)) => {
            pending.iter().map(one).collect::<Option<_>>().map(Answer::Content)
        }
        (Call::Ack(_), _) => whether(reply),
        _ => None,
    }
}

/// Ids and elements; `None` where an entry is none of ours.
fn entries(reply: &Reply) -> Option<Answer> {
    let Reply::Many(_, entries) = reply else { return None };
    let entry = |entry: &Reply| {
        let [name, fields] = entry.elements() else { return None };
        let [field, element] = fields.elements() else { return None };
        let element = value(element).flatten().filter(|_| field.text() == FIELD)?;
        Some((id(&name.text())?, element))
    };
    entries.iter().map(entry).collect::<Option<_>>().map(Answer::Entries)
}

/// The elements of a list; `None` where it is torn.
fn content(reply: &Reply) -> Option<Vec<u64>> {
    let text = match reply {
        Reply::NilBulk | Reply::Null => return Some(Vec::new()),
        Reply::Bulk(_) => reply.text(),
        _ => return None,
    };
    let is_whole = text.len() % ELEMENT == 0 && text.is_ascii();
    let elements = text.as_bytes().chunks(ELEMENT).map(|chunk| {
        let digits = chunk.strip_suffix(b";")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    });
    is_whole.then(|| elements.collect::<Option<_>>()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(text.as_bytes().to_vec())
    }

    fn many(texts: &[&str]) -> Reply {
        Reply::Many(crate::wire::Shape::Array, texts.iter().map(|text| bulk(text)).collect())
    }

    fn answered(call: Call, kind: Kind, reply: Reply) -> Answer {
        let key = Key { name: "{q}".to_owned(), kind, shard: 0, ttl_ms: 0, successor: None };
        match outcome(call, &key, &reply) {
            Outcome::Answered(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn replies_are_understood_and_torn_lists_are_garbage() {
        let list = answered(Call::Get, Kind::List, bulk("00100001;00100002;"));
        assert_eq!(list, Answer::Content(vec![100_001, 100_002]));
        let torn = answered(Call::Get, Kind::List, bulk("00100001;001000"));
        assert!(matches!(torn, Answer::Garbage(_)));
        let length = answered(Call::Append(1), Kind::List, Reply::Integer(18));
        assert_eq!(length, Answer::Number(2));
        assert_eq!(answered(Call::Get, Kind::Counter, Reply::NilBulk), Answer::Number(0));
        assert_eq!(answered(Call::Acquire(1), Kind::Lock, Reply::NilBulk), Answer::Whether(false));
    }

    #[test]
    fn elements_and_members_are_understood_and_anything_else_is_garbage() {
        let queue = |call, reply| answered(call, Kind::Queue, reply);
        let pop = Call::Pop(End::Left);
        assert_eq!(queue(pop, many(&["{q}", "7"])), Answer::Value(Some(7)));
        assert_eq!(queue(pop, Reply::NilArray), Answer::Value(None));
        assert_eq!(queue(Call::Move, bulk("7")), Answer::Value(Some(7)));
        assert_eq!(queue(Call::Aside, many(&["9", "7"])), Answer::Content(vec![9, 7]));
        assert_eq!(queue(Call::Done(7), Reply::Integer(1)), Answer::Whether(true));
        let set = |call, reply| answered(call, Kind::Set, reply);
        assert_eq!(set(Call::Get, many(&["9", "7"])), Answer::Content(vec![7, 9]));
        assert_eq!(set(Call::Draw, Reply::NilBulk), Answer::Value(None));
        assert_eq!(set(Call::Add(1), Reply::Integer(0)), Answer::Whether(false));
        assert_eq!(answered(Call::Incr, Kind::Score, bulk("3")), Answer::Number(3));
        assert_eq!(answered(Call::Incr, Kind::Field, Reply::Integer(3)), Answer::Number(3));
        for garbage in [
            queue(pop, many(&["{r}", "7"])),
            queue(pop, bulk("7")),
            queue(Call::Get, many(&["x"])),
            queue(Call::Done(7), Reply::Integer(2)),
            set(Call::Get, many(&["7", "7"])),
            set(Call::Get, many(&["700"])),
            set(Call::Draw, bulk("700")),
        ] {
            assert!(matches!(garbage, Answer::Garbage(_)), "{garbage:?}");
        }
    }

    #[test]
    fn entries_and_values_of_scripts_are_understood_and_halves_are_garbage() {
        let list = |of: Vec<Reply>| Reply::Many(crate::wire::Shape::Array, of);
        let entry = |id: &str| list(vec![bulk(id), many(&["e", "7"])]);
        let stream = |call, reply| answered(call, Kind::Stream, reply);
        let first = Answer::Entries(vec![(id("5-1").unwrap(), 7)]);
        let read = list(vec![list(vec![bulk("{q}"), list(vec![entry("5-1")])])]);
        assert_eq!(stream(Call::Take(1), read), first);
        assert_eq!(stream(Call::Take(1), Reply::NilArray), Answer::Entries(vec![]));
        let claimed =
            |deleted: &[&str]| list(vec![bulk("0-0"), list(vec![entry("5-1")]), many(deleted)]);
        assert_eq!(stream(Call::Claim(1), claimed(&[])), first);
        assert_eq!(stream(Call::Get, list(vec![entry("5-1")])), first);
        assert_eq!(stream(Call::Ack(5), Reply::Integer(0)), Answer::Whether(false));
        assert_eq!(stream(Call::Enter(7), bulk("5-1")), Answer::Value(id("5-1")));
        let pending = list(vec![many(&["5-1", "1", "20", "1"])]);
        assert_eq!(stream(Call::Pending, pending), Answer::Content(vec![id("5-1").unwrap()]));
        assert_eq!(id_text(id("1700000000000-3").unwrap()), "1700000000000-3");
        let script = |call, reply| answered(call, Kind::Script, reply);
        let compare = Call::Compare(super::super::history::Way::Sha, None, 2);
        assert_eq!(script(Call::Get, many(&["7", "7"])), Answer::Value(Some(7)));
        assert_eq!(script(compare, Reply::NilBulk), Answer::Value(None));
        let error = |text: &str| Reply::Error(text.as_bytes().to_vec());
        for garbage in [
            stream(Call::Enter(7), bulk("5")),
            stream(Call::Claim(1), claimed(&["5-1"])),
            stream(Call::Get, list(vec![list(vec![bulk("5-1"), many(&["x", "7"])])])),
            stream(Call::Take(1), error("NOGROUP No such key")),
            script(Call::Get, many(&["7", "8"])),
            script(compare, error("TORN 7 8 7 7")),
            script(compare, error("ERR Function not found")),
        ] {
            assert!(matches!(garbage, Answer::Garbage(_)), "{garbage:?}");
        }
    }

    #[test]
    fn only_errors_that_come_before_the_effect_are_refusals() {
        let error = |text: &str| refusal(&Reply::Error(text.as_bytes().to_vec()));
        assert!(matches!(error("MOVED 1 h:1"), Outcome::Refused(_)));
        assert!(matches!(
            error("NOREPLICAS Not enough good replicas to write."),
            Outcome::Refused(_)
        ));
        let unblocked = "UNBLOCKED force unblock from blocking operation";
        assert!(matches!(error(unblocked), Outcome::Refused(_)));
        assert!(matches!(error("ERR max number of clients reached"), Outcome::Refused(_)));
        assert!(matches!(error("ERR IO error: No space left on device"), Outcome::Unknown(_)));
    }
}
