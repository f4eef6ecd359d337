//! What a connection holds where `maxmemory` bounds it: counted whenever it changes, and a reason
//! to wait while it is more than the connection's share.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::sending::SENT_AT_ONCE;
use super::{Connection, End, KEEP_BYTES, READ_BYTES, REPLY_BYTES};
use crate::config::Values;
use crate::memory::held::Level;
use crate::session::{Auth, Session};

/// How often a connection that waits looks whether there is room.
const LOOK: Duration = Duration::from_millis(30);
/// An empty buffer of replies that is kept where memory is bounded, bytes.
const REPLIES_KEPT: usize = 4 << 10;

impl Connection {
    /// Bytes of one argument, and of unsent replies above which no further command runs.
    pub(super) fn bounds(&self, config: &Values) -> (usize, usize) {
        let argument = match self.node.memory.is_bounded() {
            true => config.parts().argument,
            false => config.proto_max_bulk_len.0,
        };
        (usize::try_from(argument).unwrap_or(usize::MAX), self.replies_max())
    }

    /// Bytes of unsent replies above which no further command runs.
    pub(super) fn replies_max(&self) -> usize {
        match self.node.memory.level() {
            Level::Free => REPLY_BYTES,
            Level::Tight | Level::Full => self.node.memory.share().min(REPLY_BYTES),
        }
    }

    /// Bytes that a client may send ahead.
    pub(super) fn query_max(&self) -> u64 {
        let config = self.node.config.now();
        match self.node.memory.is_bounded() {
            true => config.parts().query,
            false => config.client_query_buffer_limit.0,
        }
    }

    /// Bytes that are sent before the other connections of the worker have a turn. Where memory is
    /// bounded they tell a slow reader from one that reads nothing, and are fewer.
    pub(super) fn sent_at_once(&self) -> usize {
        if self.node.memory.is_bounded() { SENT_AT_ONCE / 8 } else { SENT_AT_ONCE }
    }

    /// How large buffers are kept while they are empty, of what came and of replies. Where memory
    /// is bounded, no larger than `memory::parts::CONNECTION` says.
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
        let is_counted = session.auth != Auth::Peer && !client.is_replica.load(Ordering::Relaxed);
        let buffers = self.buffer.capacity() + self.out.capacity() + held;
        let bytes = is_counted.then(|| buffers + session.transaction.queue_bytes());
        self.charge.set(bytes);
        client.charged.store(self.charge.bytes(), Ordering::Relaxed);
    }

    /// While memory is tight, one that holds more than its share reads no more of what its client
    /// sends. It ends with its connection, which may be chosen to be closed, or with the want of
    /// memory.
    pub(super) async fn wait_for_room(&mut self, session: &Session) -> Result<(), End> {
        while self.holds_too_much() {
            // What waits for the in-sync set is a part of it.
            self.drain(session).await?;
            self.show_buffers(session);
            if self.holds_too_much() {
                self.event(session, false, tokio::time::sleep(LOOK)).await?;
            }
        }
        Ok(())
    }

    fn holds_too_much(&self) -> bool {
        let memory = &self.node.memory;
        memory.level() > Level::Free && self.charge.bytes() > memory.share()
    }
}
