//! The numbers a plan is made with.

use crate::Time;

/// How long the leader of several controllers must be silent before another claims, ms, at the
/// least.
const SILENT_MS: u64 = 400;

/// Settings of the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Pause between two heartbeats to a node, ms.
    pub heartbeat_ms: u64,
    /// Heartbeats without an answer before a node counts as down.
    pub misses: u32,
    /// After a refused connection or a FIN, how long until the node is asked again, ms.
    pub recheck_ms: u64,
    /// Lease granted by each heartbeat, ms.
    pub lease_ms: u64,
    /// How much faster the controller's clock may run than a node's, in parts per thousand.
    pub drift_permille: u64,
    /// A failed push is tried again after this, ms.
    pub push_retry_ms: u64,
    /// Replicas hear of a new topology this long after the store at the latest, ms, even if their
    /// new master did not settle.
    pub settle_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            heartbeat_ms: 200,
            misses: 4,
            recheck_ms: 50,
            lease_ms: 1_000,
            drift_permille: 10,
            push_retry_ms: 200,
            settle_ms: 1_000,
        }
    }
}

impl Policy {
    /// How long a node may be silent, or its disk take nothing, before it counts as down, ms.
    pub fn down_ms(&self) -> u64 {
        self.heartbeat_ms.saturating_mul(u64::from(self.misses))
    }

    /// How long the leader of several controllers is silent before another one takes it to be gone,
    /// ms.
    pub fn silence_ms(&self) -> u64 {
        SILENT_MS.max(self.heartbeat_ms.saturating_mul(2))
    }

    /// When a lease is over for certain, if the reply whose clock it was counted from arrived at
    /// `received`: the node read its clock before that, and may run slower than ours by the drift.
    pub fn lease_end(&self, received: Time, lease_ms: u64) -> Time {
        let slack = lease_ms.saturating_mul(self.drift_permille).div_ceil(1_000);
        received.plus_millis(lease_ms.saturating_add(slack))
    }
}
