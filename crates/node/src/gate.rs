//! What the write gate covers: the database, the role, and the generation of both.

use std::sync::atomic::{AtomicBool, Ordering};

use api::heartbeat::Resync;
use storage::Store;
use topology::Endpoint;

/// What the node does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Accepts writes.
    Master,
    /// Applies the stream of `from`.
    Replica {
        /// Local endpoint of the master.
        from: Endpoint,
    },
}

impl Role {
    /// True for a master.
    pub fn is_master(&self) -> bool {
        *self == Self::Master
    }
}

/// What the write gate covers: the right to append, and the database. Commands hold it shared from
/// their last check until their batch is in the WAL. A change of role or of the database takes it
/// exclusively, so nothing can slip through between check and append (rule R5).
pub struct Engine {
    /// `None` while the database is being replaced.
    pub store: Option<Store>,
    /// The current role.
    pub role: Role,
    /// Rises with every change of role or database: a replication link that was started under
    /// another generation may not append.
    pub generation: u64,
}

/// The data must be replaced by the master's before anything else.
#[derive(Debug, Default)]
pub struct ResyncState {
    required: AtomicBool,
    running: AtomicBool,
    touched: AtomicBool,
}

impl ResyncState {
    /// As the heartbeat reply says it.
    pub fn now(&self) -> Resync {
        match (self.required.load(Ordering::SeqCst), self.running.load(Ordering::SeqCst)) {
            (true, true) => Resync::Running,
            (true, false) => Resync::Required,
            (false, _) => Resync::None,
        }
    }

    /// Sets whether a full sync is required.
    pub fn set_required(&self, required: bool) {
        self.required.store(required, Ordering::SeqCst);
    }

    /// Sets whether a full sync runs.
    pub fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::SeqCst);
    }

    /// Sets whether something has begun to take the place of the data that is to be replaced.
    pub fn set_touched(&self, touched: bool) {
        self.touched.store(touched, Ordering::SeqCst);
    }

    /// True from when a copy or a cut begins to take the place of the data until that is known to
    /// be the master's, or to be what it was.
    pub fn is_touched(&self) -> bool {
        self.touched.load(Ordering::SeqCst)
    }

    /// True while the data here is not to be trusted.
    pub fn is_required(&self) -> bool {
        self.required.load(Ordering::SeqCst)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("is_open", &self.store.is_some())
            .field("role", &self.role)
            .field("generation", &self.generation)
            .finish()
    }
}
