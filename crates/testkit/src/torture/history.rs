//! What clients did and were told.

use std::fmt;
use std::sync::Arc;

use crate::linear::queue::End;

/// What was asked of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// All of it: GET, LRANGE, SMEMBERS, HGET, ZSCORE.
    Get,
    /// SET value
    Set(u64),
    /// SET value GET
    Swap(u64),
    /// INCR, HINCRBY 1, ZINCRBY 1
    Incr,
    /// APPEND element
    Append(u64),
    /// SET token NX PX
    Acquire(u64),
    /// WATCH, GET, and if it is this token: MULTI, DEL, EXEC
    Release(u64),
    /// LPUSH, RPUSH
    Push(End, u64),
    /// BLPOP, BRPOP
    Pop(End),
    /// BLMOVE to the list that consumers put elements aside in
    Move,
    /// LREM of what was put aside
    Done(u64),
    /// LRANGE of what was put aside
    Aside,
    /// SADD
    Add(u64),
    /// SREM
    Remove(u64),
    /// SISMEMBER
    Has(u64),
    /// SPOP
    Draw,
    /// A script that writes the second, in several places, where the first is in all of them
    Compare(Way, Option<u64>, u64),
    /// XADD element
    Enter(u64),
    /// XREADGROUP of what no consumer was given, as the consumer of this number
    Take(u32),
    /// XAUTOCLAIM of what a consumer was given a while ago, as the consumer of this number
    Claim(u32),
    /// XACK id
    Ack(u64),
    /// XPENDING: ids
    Pending,
    /// PUBLISH
    Publish(u64),
}

/// How a script is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// EVAL
    Text,
    /// EVALSHA
    Sha,
    /// FCALL
    Function,
}

impl Call {
    /// Changes nothing, whatever its outcome.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::Aside | Self::Has(_) | Self::Pending)
    }

    /// May wait for a key to get something.
    pub fn waits(self) -> bool {
        matches!(self, Self::Pop(_) | Self::Move | Self::Take(_))
    }
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Done,
    /// A number.
    Number(i64),
    /// A value, or nothing there.
    Value(Option<u64>),
    /// The elements of a list, or the members of a set in order.
    Content(Vec<u64>),
    /// Entries of a stream: ids, see [`id`], and elements.
    Entries(Vec<(u64, u64)>),
    /// Whether a lock was taken or released, a member was there, an element was removed or an
    /// entry acknowledged.
    Whether(bool),
    /// Bytes that nobody wrote.
    Garbage(String),
}

/// Bits of an entry's id that count within a millisecond.
const COUNT_BITS: u32 = 20;

/// The id of an entry as one number, in the order of ids; `None` where it is none, or absurd.
pub fn id(text: &str) -> Option<u64> {
    let (ms, count) = text.split_once('-')?;
    let (ms, count): (u64, u64) = (ms.parse().ok()?, count.parse().ok()?);
    let fits = ms < 1 << (u64::BITS - COUNT_BITS) && count < 1 << COUNT_BITS;
    fits.then_some(ms << COUNT_BITS | count)
}

/// As the server writes it.
pub fn id_text(id: u64) -> String {
    format!("{}-{}", id >> COUNT_BITS, id & ((1 << COUNT_BITS) - 1))
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer.
    Answered(Answer),
    /// With an error that says that nothing was done.
    Refused(String),
    /// Nobody knows.
    Unknown(String),
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The client that asked.
    pub client: u32,
    /// Position in the list of keys.
    pub key: usize,
    /// What.
    pub call: Call,
    /// When it was sent, ns.
    pub invoked: u64,
    /// When the answer was read, or it was given up, ns.
    pub ended: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Which node served it; `None` where the connection changed from one to another meanwhile.
    pub by: Option<Arc<str>>,
}

impl Record {
    /// The answer, if there is one.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Answered(answer) => Some(answer),
            _ => None,
        }
    }

    /// False where it is certain that nothing was done.
    pub fn may_have_effect(&self) -> bool {
        !matches!(self.outcome, Outcome::Refused(_))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => f.write_str("get"),
            Self::Set(value) => write!(f, "set {value}"),
            Self::Swap(value) => write!(f, "swap {value}"),
            Self::Incr => f.write_str("incr"),
            Self::Append(element) => write!(f, "append {element}"),
            Self::Acquire(token) => write!(f, "acquire {token}"),
            Self::Release(token) => write!(f, "release {token}"),
            Self::Push(End::Left, element) => write!(f, "lpush {element}"),
            Self::Push(End::Right, element) => write!(f, "rpush {element}"),
            Self::Pop(End::Left) => f.write_str("blpop"),
            Self::Pop(End::Right) => f.write_str("brpop"),
            Self::Move => f.write_str("blmove"),
            Self::Done(element) => write!(f, "lrem {element}"),
            Self::Aside => f.write_str("get aside"),
            Self::Add(member) => write!(f, "sadd {member}"),
            Self::Remove(member) => write!(f, "srem {member}"),
            Self::Has(member) => write!(f, "sismember {member}"),
            Self::Draw => f.write_str("spop"),
            Self::Compare(way, old, new) => {
                let name = match way {
                    Way::Text => "eval",
                    Way::Sha => "evalsha",
                    Way::Function => "fcall",
                };
                match old {
                    Some(old) => write!(f, "{name} {old} {new}"),
                    None => write!(f, "{name} nil {new}"),
                }
            }
            Self::Enter(element) => write!(f, "xadd {element}"),
            Self::Take(_) => f.write_str("xreadgroup"),
            Self::Claim(_) => f.write_str("xautoclaim"),
            Self::Ack(id) => write!(f, "xack {}", id_text(*id)),
            Self::Pending => f.write_str("xpending"),
            Self::Publish(element) => write!(f, "publish {element}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(Answer::Done) => f.write_str("ok"),
            Self::Answered(Answer::Number(number)) => write!(f, "ok {number}"),
            Self::Answered(Answer::Value(Some(value))) => write!(f, "ok {value}"),
            Self::Answered(Answer::Value(None)) => f.write_str("ok nil"),
            Self::Answered(Answer::Whether(whether)) => write!(f, "ok {whether}"),
            Self::Answered(Answer::Garbage(text)) => write!(f, "garbage {text:?}"),
            Self::Answered(Answer::Entries(entries)) => {
                write!(f, "ok {} entries", entries.len())?;
                let tail = entries.get(entries.len().saturating_sub(3)..).unwrap_or_default();
                tail.iter().try_for_each(|(id, element)| write!(f, " {}:{element}", id_text(*id)))
            }
            Self::Answered(Answer::Content(content)) => {
                write!(f, "ok {} elements", content.len())?;
                let tail = content.get(content.len().saturating_sub(3)..).unwrap_or_default();
                write!(f, " … {tail:?}")
            }
            Self::Refused(text) => write!(f, "refused: {text}"),
            Self::Unknown(text) => write!(f, "UNKNOWN: {text}"),
        }
    }
}
