//! What happened, when and why: the log behind `ctl events`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the log; given by the store.
    #[serde(default)]
    pub number: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Term of the controller that wrote it.
    pub term: u64,
    /// `namespace/cluster`, empty for the controller itself.
    pub cluster: String,
    /// `change`, `alarm`, `over`, `start`, `failed`.
    pub kind: String,
    /// What happened and why.
    pub text: String,
}

impl Event {
    /// An entry of this moment.
    pub fn now(term: u64, cluster: String, kind: &str, text: String) -> Self {
        Self { number: 0, at_ms: now_ms(), term, cluster, kind: kind.to_owned(), text }
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
