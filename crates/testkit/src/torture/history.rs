//! What clients did and were told.

use std::fmt;
use std::sync::Arc;

use super::keys::Key;
use super::timeline::seconds;

/// What was asked of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// GET
    Get,
    /// SET value
    Set(u64),
    /// SET value GET
    Swap(u64),
    /// INCR
    Incr,
    /// APPEND element
    Append(u64),
    /// SET token NX PX
    Acquire(u64),
    /// WATCH, GET, and if it is this token: MULTI, DEL, EXEC
    Release(u64),
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
    /// The elements of a list.
    Content(Vec<u64>),
    /// Whether a lock was taken or released.
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
