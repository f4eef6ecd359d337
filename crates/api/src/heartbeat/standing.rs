//! What a reply says of grants.

use crate::grant::{EpochId, Members, show_id};
use crate::store::Heeds;

/// What a node says of grants: its name as a member of a set, what it holds, what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Of the data; `None` from nodes that have none.
    pub incarnation: Option<u64>,
    /// Of the kernel, `None` with `durable-ack`.
    pub boot: Option<u128>,
    /// Newest epoch in the database, 0 if none.
    pub history_epoch: u64,
    /// Its id.
    pub history_id: Option<EpochId>,
    /// The epoch this process holds a grant of, 0 if none.
    pub granted_epoch: u64,
    /// The version of the topology that grant names, 0 if none; `None` from a node that takes none
    /// with a grant.
    pub granted_version: Option<i64>,
    /// Newest sequence that the whole set has.
    pub committed: u64,
    /// Number of the newest set this master asks for, within its epoch.
    pub request: u64,
    /// That set.
    pub request_members: Members,
    /// For how long it refuses any grant, because it promised its master so.
    pub promised_ms: u64,
    /// From which store its controllers must lead it.
    pub store: Heeds,
}

impl Standing {
    /// Says its fields to `line`.
    pub(super) fn render(&self, line: &mut impl FnMut(&str, &dyn std::fmt::Display)) {
        if let Some(incarnation) = self.incarnation {
            line("incarnation", &format_args!("{incarnation:016x}"));
        }
        match self.boot {
            Some(boot) => line("boot", &format_args!("{boot:032x}")),
            None => line("boot", &"-"),
        }
        line("history_epoch", &self.history_epoch);
        line("history_id", &show_id(self.history_id));
        line("granted_epoch", &self.granted_epoch);
        if let Some(version) = self.granted_version {
            line("granted_version", &version);
        }
        line("committed", &self.committed);
        line("request", &self.request);
        line("request_members", &self.request_members);
        line("promised_ms", &self.promised_ms);
        if let Some(store) = self.store.shown() {
            line("store", &store);
        }
    }
}
