//! What a node said of itself in its last heartbeat, as `status` shows it.

use serde::{Deserialize, Serialize};

/// The last heartbeat reply of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAnswer {
    /// Age of it, ms.
    pub age_ms: u64,
    /// What the process does: `master` or `slave`.
    pub role: String,
    /// Newest sequence.
    pub sequence: u64,
    /// Topology version it holds.
    pub version: i64,
    /// What it does without a lease.
    pub lease_mode: String,
    /// Rest of its lease at that moment, ms.
    pub lease_remaining_ms: u64,
    /// For how long its disk has taken nothing of the log, ms; 0 while nothing waits.
    #[serde(default)]
    pub log_wait_ms: u64,
    /// Which connections may touch keys.
    pub client_access: String,
    /// State of its replication link.
    pub link_status: String,
    /// Why there is no stream, where an attempt has failed.
    pub link_error: Option<String>,
    /// Newest epoch and sequence of what lies in its `db.deposed`.
    pub deposed: Option<(u64, u64)>,
    /// Whether its data must be replaced first.
    pub resync: String,
    /// Writes are paused.
    pub paused: bool,
    /// It is replacing its data.
    pub loading: bool,
}
