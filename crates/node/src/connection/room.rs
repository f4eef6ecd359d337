//! The memory that a connection uses, if `maxmemory` bounds it. It is counted whenever it changes;
//! while it exceeds the connection's share, the connection waits.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::sending::SENT_AT_ONCE;
use super::{Connection, End, KEEP_BYTES, READ_BYTES, REPLY_BYTES};
use crate::config::Values;
use crate::memory::held::Level;
use crate::memory::parts;
use crate::session::{Session, gates};

/// How often a connection that waits looks whether there is room.
pub(super) const LOOK: Duration = Duration::from_millis(30);
/// An empty buffer of replies that is kept where memory is bounded, bytes.
const REPLIES_KEPT: usize = 4 << 10;

impl Connection {
    /// Bytes of one argument, and of unsent replies above which no further command runs.
    pub(super) fn bounds(&self, session: &Session, config: &Values) -> (usize, usize) {
        let argument = match self.is_bounded(session) {
            true => parts::argument(config.maxmemory.0, config.proto_max_bulk_len.0),
            false => config.proto_max_bulk_len.0,
        };
        (usize::try_from(argument).unwrap_or(usize::MAX), self.replies_max(session))
    }

    /// Whether what it holds is bounded: limits are not lowered for peers and replicas.
    fn is_bounded(&self, session: &Session) -> bool {
        self.node.memory.is_bounded() && gates::is_bound_in_memory(session)
    }

    /// Whether it is bounded, and there is little room.
    fn is_short(&self, session: &Session) -> bool {
        self.node.memory.level() > Level::Free && gates::is_bound_in_memory(session)
    }

    /// Bytes of unsent replies above which no further command runs. All that one is told that has
    /// yet to say who it is are errors.
    pub(super) fn replies_max(&self, session: &Session) -> usize {
        let most = if session.is_stranger() { READ_BYTES } else { REPLY_BYTES };
        match self.is_short(session) {
            false => most,
            true => self.node.memory.share().min(most),
        }
    }

    /// Bytes that a client may send ahead.
    pub(super) fn query_max(&self, session: &Session) -> u64 {
        let config = self.node.config.now();
        match self.is_bounded(session) {
            true => parts::query(config.maxmemory.0, config.client_query_buffer_limit.0),
            false => config.client_query_buffer_limit.0,
        }
    }

    /// Bytes above which nothing is read ahead while something is waited for.
    pub(super) fn ahead_max(&self, session: &Session) -> usize {
        if self.is_short(session) { self.node.memory.share() } else { usize::MAX }
    }

    /// A connection that waits for a key goes on reading, or the client's end would not be noticed.
    ///
    /// # Errors
    /// It uses more than its share, and connections use all the memory they may.
    pub(super) fn may_send_ahead(&self, ahead: usize) -> Result<(), End> {
        let memory = &self.node.memory;
        let is_much = ahead > READ_BYTES && self.charge.bytes() > memory.share();
        if !is_much || memory.level() < Level::Full {
            return Ok(());
        }
        memory.evicted.fetch_add(1, Ordering::Relaxed);
        Err(End::Refused("it sends more ahead than maxmemory leaves it".into()))
    }

    /// Bytes that are sent before the other connections of the worker have a turn. Where memory is
    /// bounded they tell a slow reader from one that reads nothing, and are fewer.
    pub(super) fn sent_at_once(&self) -> usize {
        if self.node.memory.is_bounded() { SENT_AT_ONCE / 8 } else { SENT_AT_ONCE }
    }

    /// Sizes of the buffers (input, replies) that are kept while they are empty. If memory is
    /// bounded, they are no larger than `memory::parts::CONNECTION` says.
    pub(super) fn keeps(&self) -> (usize, usize) {
        match self.node.memory.is_bounded() {
            true => (READ_BYTES, REPLIES_KEPT),
            false => (KEEP_BYTES, 4 * KEEP_BYTES),
        }
    }

    /// Counts what the connection holds; `held`: bytes of replies that wait for the in-sync set.
    /// What peers and replicas hold is not counted: they are not to wait for clients.
    pub(super) fn count_memory(&mut self, session: &Session, held: usize) {
        let client = &session.client;
        let is_counted = gates::is_bound_in_memory(session);
        let buffers = self.buffer.capacity() + self.parsed + self.out.capacity() + held;
        let bytes = is_counted.then(|| {
            let transaction = &session.transaction;
            let kept = transaction.queue_bytes() + transaction.watched_bytes();
            buffers + kept + client.names_bytes()
        });
        self.charge.set(bytes);
        client.charged.store(self.charge.bytes(), Ordering::Relaxed);
    }

    /// While memory is tight, one that holds more than its share reads no more of what its client
    /// sends. It ends with its connection, which may be chosen to be closed, with the want of
    /// memory, or with its turn: what merely waits must not stop each other.
    pub(super) async fn wait_for_room(&mut self, session: &Session) -> Result<(), End> {
        while self.holds_too_much() {
            // What waits for the in-sync set is a part of it.
            self.drain(session).await?;
            self.show_buffers(session);
            if !self.holds_too_much() || self.charge.goes_first(session.client.id) {
                break;
            }
            self.set_waiting(session, true);
            self.event(session, false, tokio::time::sleep(LOOK)).await?;
        }
        self.set_waiting(session, false);
        Ok(())
    }

    /// Whether its last command waits until connections use less memory. If only waiting
    /// connections are in the way, one of them goes first and does not wait.
    pub(super) fn waits_for_memory(&mut self, session: &Session) -> bool {
        let waits = |connection: &Self| {
            let row = session.client.last_command.get();
            row.is_some_and(|row| gates::waits_for_memory(&connection.node, session, row))
        };
        if !waits(self) {
            return false;
        }
        if self.holds_too_much() && self.charge.goes_first(session.client.id) {
            if !waits(self) {
                return false;
            }
            // It wants more than what it holds.
            self.charge.step_back();
        }
        true
    }

    /// Notes whether it waits until connections hold less.
    pub(super) fn set_waiting(&mut self, session: &Session, waits: bool) {
        let waited = &session.client.waits_for_room;
        if waits || waited.load(Ordering::Relaxed) {
            self.charge.set_waiting(waits);
            waited.store(waits, Ordering::Relaxed);
        }
    }

    fn holds_too_much(&self) -> bool {
        let memory = &self.node.memory;
        memory.level() > Level::Free && self.charge.bytes() > memory.share()
    }
}
