//! Operations as commands, and what the replies to them mean.
//!
//! An error counts as a refusal only where it is certain that nothing was done; of any other the outcome is unknown.

use anyhow::Result;

use super::history::{Answer, Call, Outcome};
use super::keys::{Key, Kind};
use crate::linear::queue::End;
use crate::linear::set::MEMBERS;
use crate::wire::{Connection, Reply, encode};

/// Bytes of an element of a list that is one string, its end mark included.
const ELEMENT: usize = 9;
/// The field, and the member, that counters are in.
const COUNTED: &str = "n";
/// How long a pop waits for an element, s.
const WAIT_S: &str = "0.1";

/// Errors that are given before anything is done.
const REFUSALS: [&str; 12] = [
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
        return refusal(reply);
    }
    let answer = match key.kind {
        Kind::Queue => of_queue(call, key, reply),
        Kind::Set => of_set(call, reply),
        _ => of_string(call, key.kind, reply),
    };
    let garbage = || Answer::Garbage(format!("{reply:?}").chars().take(200).collect());
    Outcome::Answered(answer.unwrap_or_else(garbage))
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
