//! Sending of replies in parts, as the worker has other connections, too.

use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::io::AsyncWriteExt as _;

use super::{Connection, End, KEEP_BYTES};
use crate::clients::Kind;
use crate::clock;
use crate::session::{Auth, Session};
use crate::stats::WorkerStats;

/// Sent before the other connections of the worker have a turn, where memory is not bounded.
pub(super) const SENT_AT_ONCE: usize = 256 * 1024;
/// Giving back a larger buffer takes so long that another thread does it.
const LARGE_BYTES: usize = 16 << 20;

impl Connection {
    pub(super) async fn send(&mut self, session: &Session) -> Result<(), End> {
        if self.out.is_empty() {
            self.leaving.clear();
            return Ok(());
        }
        if session.client.is_killed() {
            return Err(End::Killed);
        }
        let limit = self.node.config.now().client_output_buffer_limit.normal.hard;
        if limit > 0 && self.out.len() as u64 > limit && session.client.kind() == Kind::Normal {
            return Err(End::Refused("client-output-buffer-limit exceeded".into()));
        }
        if self.out.len() > KEEP_BYTES.min(self.keeps().1) {
            // An answer that came later is counted before it is waited for.
            self.show_buffers(session);
        }
        let mut parts = self.out.chunks(self.sent_at_once()).peekable();
        while let Some(part) = parts.next() {
            tokio::select! {
                biased;
                sent = self.stream.write_all(part) => sent?,
                () = session.client.killed() => return Err(End::Killed),
            }
            self.count_sent(session, part.len());
            if parts.peek().is_some() {
                // One that reads a long reply is not idle.
                session.client.last_ms.store(clock::unix_ms(), Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
        self.out.clear();
        self.note_latency(session);
        if self.out.capacity() > self.keeps().1 {
            give_back(std::mem::take(&mut self.out));
        }
        self.show_buffers(session);
        Ok(())
    }

    /// Counts bytes that have left.
    pub(super) fn count_sent(&self, session: &Session, bytes: usize) {
        WorkerStats::add(&session.client.taken, bytes as u64);
        self.count(|stats| &stats.bytes_out, bytes);
    }

    /// Counts how long the replies that have just left were waited for. Nodes and controllers are
    /// no clients.
    fn note_latency(&mut self, session: &Session) {
        if let Some(stats) = self.node.stats.workers.get(self.worker)
            && session.auth != Auth::Peer
        {
            let now = Instant::now();
            for begun in self.leaving.iter().filter(|begun| begun.commands > 0) {
                stats.latency.add(now.duration_since(begun.at), begun.commands);
            }
        }
        self.leaving.clear();
    }

    /// Writes down for CLIENT LIST what is kept of what came, and what was not sent.
    pub(super) fn show_buffers(&mut self, session: &Session) {
        let client = &session.client;
        client.query_bytes.store(self.buffer.len(), Ordering::Relaxed);
        let (waiting, held) = (self.out.len(), self.held.bytes());
        client.reply_bytes.store(waiting + held, Ordering::Relaxed);
        client.pushed_bytes.store(self.held.pushed_bytes(), Ordering::Relaxed);
        // An empty buffer is kept for the next reply.
        let memory = if waiting > 0 { self.out.capacity() } else { 0 };
        client.reply_memory.store(memory + held, Ordering::Relaxed);
        client.held_bytes.store(held, Ordering::Relaxed);
        self.count_memory(session, held);
    }
}

/// Lets go of an empty buffer.
pub(super) fn give_back(buffer: Vec<u8>) {
    if buffer.capacity() > LARGE_BYTES {
        drop(tokio::task::spawn_blocking(move || drop(buffer)));
    }
}
