//! What clients did and were told.

use std::fmt;
use std::sync::Arc;

use super::keys::Key;
use super::timeline::seconds;
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
}

impl Call {
    /// Changes nothing, whatever its outcome.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::Aside | Self::Has(_))
    }

    /// May wait for a key to get something.
    pub fn waits(self) -> bool {
        matches!(self, Self::Pop(_) | Self::Move)
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
    /// Whether a lock was taken or released, a member was there, an element was removed.
    Whether(bool),
    /// Bytes that nobody wrote.
    Garbage(String),
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
    /// Who asked.
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

    /// A line for reports.
    pub fn line(&self, keys: &[Key]) -> String {
        let name = keys.get(self.key).map_or("?", |key| key.name.as_str());
        let by = self.by.as_deref().map_or("?", |id| id.get(..6).unwrap_or(id));
        format!(
            "{} – {}  client {:>2}  {name:<16} {:<18} {}  by {by}",
            seconds(self.invoked),
            seconds(self.ended),
            self.client,
            self.call.to_string(),
            self.outcome,
        )
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
