//! The outcome of commands that ran, and whether it may be answered.
//!
//! Invariant: a reply leaves only after the log records that it depends on were handed to the
//! operating system, and only while the lease lasts and the role is unchanged.

use api::heartbeat::LeaseMode;
use smallvec::SmallVec;
use storage::Store;

use super::super::{Session, Tells};
use super::write::Failed;
use crate::gate::Engine;
use crate::grants::state::Ticket;
use crate::node::Node;

/// What a batch came to.
#[derive(Debug)]
pub struct Ended {
    /// Newest sequence number its commands could see; `None` if the gate was released earlier.
    pub(super) sequence: Option<u64>,
    pub(super) written: SmallVec<[usize; 8]>,
    pub(super) failed: Vec<Failed>,
}

impl Ended {
    /// Tells one of its connections, by the order in which they ran, what became of the writes that
    /// it left behind.
    pub fn apply(&self, member: usize, ran: Ran, session: &Session, out: &mut Vec<u8>) -> Ran {
        // The last ones first: they stand behind the others.
        for failed in self.failed.iter().rev().filter(|failed| failed.group.member == member) {
            failed.answer(session.protocol, out);
        }
        let has_written = ran.has_written || self.written.contains(&member);
        Ran { has_written, sequence: self.sequence, ..ran }
    }
}

/// The commands of one read buffer, run and committed, but not answered yet.
#[derive(Debug, Clone, Copy)]
pub struct Ran {
    /// Something was written.
    pub has_written: bool,
    pub(super) has_data: bool,
    pub(super) generation: u64,
    pub(super) waits: bool,
    pub(super) later: Tells,
    pub(super) lease_mode: LeaseMode,
    /// Newest sequence number the commands could see; `None` if the gate was released earlier.
    pub(super) sequence: Option<u64>,
}

impl Ran {
    /// Hands what was written to the operating system. `Ok` with a ticket: the replies wait for the
    /// in-sync set.
    ///
    /// # Errors
    /// Why the replies may not be sent at all.
    pub fn finish(self, node: &Node) -> Result<Option<Ticket>, &'static str> {
        if !self.has_data {
            return Ok(None);
        }
        let engine = node.engine();
        // No store here means that a shutdown or a full sync took it. Its new owner may or may not
        // write the log to the end: nothing is answered.
        self.publish(engine.store.as_ref().ok_or("the database was replaced")?)?;
        let commit = &node.grants.commit;
        if self.waits || commit.is_waiting() {
            return self.ticket(&engine).map(Some);
        }
        if self.has_written && commit.lacks_copies() {
            return Err("too few replicas have what the reply tells of");
        }
        if !Node::is_lease_blocking(self.lease_mode) {
            return Ok(None);
        }
        // A write was in the WAL before the role changed, but its client could take a later answer
        // for a promise of the new master.
        if engine.generation != self.generation {
            return Err("the role of this node changed while the command ran");
        }
        let check = node.check_lease(self.lease_mode, self.has_written, &engine.role);
        check.map(|()| None).map_err(|_| "the lease ran out while the command ran")
    }

    /// For a command whose answer has come: the answer shows data as `later` says.
    #[must_use]
    pub fn telling(self, later: Tells) -> Self {
        Self { later, ..self }
    }

    /// The same for the answer that came later, now that it is there.
    ///
    /// # Errors
    /// Why it may not be sent.
    pub fn finish_later(self, node: &Node) -> Result<Option<Ticket>, &'static str> {
        let has_data = self.later != Tells::Nothing;
        let has_written = self.later == Tells::Write;
        // It may have seen anything that was written until now.
        Self { has_data, has_written, sequence: None, ..self }.finish(node)
    }

    /// Hands to the operating system all log records that the replies depend on, also those of
    /// other clients: even a read must not show data that the next process might not have. After a
    /// failed append nothing may be said at all, not even that the append failed (rule R14).
    fn publish(&self, store: &Store) -> Result<(), &'static str> {
        if self.seen(store) > store.published() {
            publish(store)?;
        }
        if store.has_failed() { Err(UNWRITTEN) } else { Ok(()) }
    }

    /// Newest sequence the commands could see.
    fn seen(&self, store: &Store) -> u64 {
        self.sequence.unwrap_or_else(|| store.seen_sequence())
    }

    /// What the replies wait for: everything these commands could see, also other clients' writes
    /// (rule R4).
    fn ticket(&self, engine: &Engine) -> Result<Ticket, &'static str> {
        let store = engine.store.as_ref().ok_or("the database was replaced")?;
        let sequence = self.seen(store);
        // Replicas are sent only what is published, and what another worker wrote may not be yet.
        publish(store)?;
        Ok(Ticket { sequence, generation: self.generation, is_write: self.has_written })
    }
}

/// Why a connection is closed after a failed append.
pub(in crate::session) const UNWRITTEN: &str = "the WAL could not be written";

fn publish(store: &Store) -> Result<(), &'static str> {
    store.publish().map(|_| ()).map_err(|error| {
        tracing::error!(%error, "cannot write the WAL: the connection is closed instead of answered");
        UNWRITTEN
    })
}
