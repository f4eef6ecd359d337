//! The line of a connection that waits for a key and does nothing else: the thread that answers the
//! command sends the answer, and the connection's worker sleeps on ([`crate::waiters`]).
//!
//! Such an answer is checked as any reply that comes later (rule R4). If it may not leave at once,
//! the connection sends or holds it.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Connection, READ_BYTES};
use crate::clients::Kind;
use crate::clock;
use crate::session::dispatch::Ran;
use crate::session::{ReplyMode, Session};
use crate::waiters::{Lent, Waiting};

/// A longer answer may not fit into the socket's buffer, and takes long to copy.
const BYTES_MAX: usize = READ_BYTES;

impl Connection {
    /// Lends the line for the answer of a command that waits, if nothing else may come in between.
    pub(super) fn lend(
        &mut self,
        session: &Session,
        waiting: &Waiting,
        (ran, replies): (Ran, ReplyMode),
    ) {
        let idle = self.is_idle(session) && replies == ReplyMode::On;
        let Some(descriptor) = self.stream.clear_descriptor().filter(|_| idle) else { return };
        let (node, client) = (Arc::clone(&self.node), Arc::clone(&session.client));
        let wire = move |answer: &[u8]| {
            let limit = node.config.now().client_output_buffer_limit.normal.hard;
            let length = answer.len();
            let is_long = length > BYTES_MAX || limit > 0 && length as u64 > limit;
            if is_long || client.is_killed() || !matches!(ran.finish_later(&node), Ok(None)) {
                return 0;
            }
            let sent = send_now(descriptor, answer);
            if sent == length {
                // Nobody wakes the connection to say so itself. It is idle from here on.
                client.shown.is_blocked.store(false, Ordering::Relaxed);
                client.last_ms.store(clock::unix_ms(), Ordering::Relaxed);
            }
            sent
        };
        self.lent = Some(waiting.lend(Box::new(wire)));
    }

    /// Whether there is nothing to be sent or run before the answer of the last command, and no
    /// push that could meet it.
    fn is_idle(&self, session: &Session) -> bool {
        let client = &session.client;
        let sends = !self.out.is_empty() || !self.held.is_empty();
        let runs = self.start < self.buffer.len() || self.at_end || self.is_over;
        let is_pushed_to = client.kind() != Kind::Normal
            || client.is_monitor.load(Ordering::Relaxed)
            || session.tracks.is_some();
        // Where replies wait for the in-sync set, this one does. Where they wait for the disk, a
        // sync is for all replies of a turn, and not for each answer that its batches serve.
        let is_held = self.node.grants.commit.is_waiting() || self.node.config.now().syncs_writes();
        !sends && !runs && !is_pushed_to && !is_held && !client.is_visitor()
    }

    /// Whether the connection may send: its line is its own. If not, the answer that it waits for
    /// has left, or a part of it.
    pub(super) fn take_back(&self) -> bool {
        self.lent.as_ref().is_none_or(Lent::take_back)
    }
}

/// Sends what the kernel takes at once: how many bytes. Why it was not more the connection will
/// find out.
#[expect(unsafe_code, reason = "the socket is another thread's")]
fn send_now(descriptor: RawFd, bytes: &[u8]) -> usize {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the pointer is to so many live bytes. The descriptor is open, and the connection's:
    // it ends its wait before it lets go of it, and so takes the line back, which waits for this.
    let sent = unsafe { libc::send(descriptor, bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).unwrap_or(0)
}
