//! The contexts that handlers are given.

use std::sync::Arc;

use storage::{At, Name, Scope, Txn};

use super::Session;
use crate::command::Error;
use crate::config::Values;
use crate::events::Touched;
use crate::node::Node;
use crate::stats::WorkerStats;
use crate::tracking::Sending;

/// What a read handler sees.
pub struct ReadCx<'a> {
    /// Reads go here: outside MULTI straight to the database.
    pub txn: &'a Txn<'a>,
    /// The key for which a waiting command is tried again; `None` when it came just now.
    pub serves: Option<&'a [u8]>,
    /// Namespace, mode and time.
    pub scope: Scope<'a>,
    /// The node.
    pub node: &'a Node,
    /// The current options.
    pub config: &'a Values,
    /// Which worker runs this, for counters.
    pub worker: usize,
}

/// Keys that a write has the locks of although it does not name them.
#[derive(Debug, Clone, Copy)]
pub enum Beyond<'a> {
    /// These.
    These(&'a [Vec<u8>]),
    /// All there are.
    All,
}

impl Beyond<'_> {
    /// Whether a key is one of them.
    pub fn holds(self, key: &[u8]) -> bool {
        match self {
            Self::These(keys) => keys.iter().any(|held| held == key),
            Self::All => true,
        }
    }
}

/// What a write handler sees.
pub struct WriteCx<'a> {
    /// Reads and writes go here; committed when the handler returns `Ok`.
    pub txn: Txn<'a>,
    /// The key for which a waiting command is tried again; `None` when it came just now.
    pub serves: Option<&'a [u8]>,
    /// What it has locks of beside the keys that it names.
    pub beyond: Beyond<'a>,
    /// Namespace, mode and time.
    pub scope: Scope<'a>,
    /// The node.
    pub node: &'a Node,
    /// The current options.
    pub config: &'a Values,
    /// Which worker runs this, for counters.
    pub worker: usize,
    /// What [`WriteCx::touch_unless_written`] has touched, and [`WriteCx::note_consumer`] noted.
    pub touched: Touched,
}

/// What a session handler sees.
pub struct SessionCx<'a> {
    /// The node.
    pub node: &'a Arc<Node>,
    /// The connection.
    pub session: &'a mut Session,
    /// The current options.
    pub config: &'a Values,
    /// Inside EXEC what the transaction has written so far. A command there may not wait.
    pub exec: Option<&'a Txn<'a>>,
    /// Inside EXEC when that began, Unix µs: as in Redis 7.2 time stands still there.
    pub began_us: Option<u64>,
    /// Unix ms.
    pub now_ms: u64,
}

impl SessionCx<'_> {
    /// Waits until every write that is under way is done. A command inside EXEC is part of one, and
    /// holds the gate itself.
    pub fn wait_for_writes(&self) {
        if self.exec.is_none() {
            drop(self.node.gate.write());
        }
    }

    /// The keys of this connection, by the clock of this command.
    pub fn scope(&self) -> Scope<'_> {
        self.session.scope(self.config, self.now_ms)
    }
}

impl WriteCx<'_> {
    /// Notes that a command has done its work on a key. If that wrote nothing, e.g. an HSET of the
    /// value that a field already has, clients that watch or track the key and events are told of a
    /// change all the same, as in Redis. `before`: records of the transaction when the command
    /// began.
    pub fn touch_unless_written(&mut self, at: &At<'_>, before: u32) {
        if self.txn.count() == before {
            self.touched.keys.push(at.scope.name(at.key).id().to_vec());
        }
    }

    /// Notes that a command makes a consumer in a group of a stream without being told to.
    pub fn note_consumer(&mut self, at: &At<'_>) {
        self.touched.consumers.push(at.scope.name(at.key).id().to_vec());
    }

    /// Tells those who watch or track the keys that a command has touched; to be called while their
    /// locks are held. Returns them, for events. `writer`: the connection, if it is one's.
    pub(super) fn take_touched(&mut self, writer: Option<u64>) -> Touched {
        let touched = std::mem::take(&mut self.touched);
        let keys = &touched.keys;
        if !keys.is_empty() {
            self.node.watches.touch(keys.iter().filter_map(|id| Name::of(id)));
            let (limit, now_ms) = (self.config.subscriber_limit(), self.scope.now_ms);
            self.node.tracking.tell_of(keys, writer, Sending { limit, now_ms });
        }
        touched
    }

    /// What a waiting command finds at a key it waits for; `None` if nothing. When it came, a key
    /// of another type is an error; later it is none of its business, as in Redis.
    ///
    /// # Errors
    /// Those of `find`.
    pub fn find_or_wait<T>(
        &mut self,
        key: &[u8],
        find: impl FnOnce(&mut Self) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let serves = self.serves;
        find_or_wait(serves, key, || find(self))
    }
}

fn find_or_wait<T>(
    serves: Option<&[u8]>,
    key: &[u8],
    find: impl FnOnce() -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    if serves.is_some_and(|served| served != key) {
        return Ok(None);
    }
    match find() {
        Err(Error::WrongType) if serves.is_some() => Ok(None),
        found => found,
    }
}

impl ReadCx<'_> {
    /// See [`WriteCx::find_or_wait`].
    ///
    /// # Errors
    /// Those of `find`.
    pub fn find_or_wait<T>(
        &self,
        key: &[u8],
        find: impl FnOnce() -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        find_or_wait(self.serves, key, find)
    }

    /// Counts a look-up of a key for INFO.
    pub fn count(&self, is_hit: bool) {
        if let Some(stats) = self.node.stats.workers.get(self.worker) {
            WorkerStats::add(if is_hit { &stats.hits } else { &stats.misses }, 1);
        }
    }
}
