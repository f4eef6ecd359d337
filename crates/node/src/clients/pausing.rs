//! CLIENT PAUSE.
//!
//! Nothing is held up here: gates look, and wait for its end.

use std::sync::atomic::Ordering;

use super::{Clients, Pause, PauseKind};

impl Clients {
    /// Starts a pause or extends the one in force: as in Redis, neither its end nor its kind ever
    /// shrinks.
    pub fn pause(&self, kind: PauseKind, until_ns: u64, now_ns: u64) {
        let mut pause = self.pause.lock();
        let running = pause.filter(|pause| pause.until_ns > now_ns);
        *pause = Some(Pause {
            kind: running.map_or(kind, |running| running.kind.max(kind)),
            until_ns: running.map_or(until_ns, |running| running.until_ns.max(until_ns)),
        });
        self.is_paused.store(true, Ordering::SeqCst);
    }

    /// Ends the pause.
    pub fn unpause(&self) {
        *self.pause.lock() = None;
        self.is_paused.store(false, Ordering::SeqCst);
        self.resumed.notify_waiters();
    }

    /// The pause in force at `now_ns`.
    pub fn paused(&self, now_ns: impl FnOnce() -> u64) -> Option<Pause> {
        if !self.is_paused.load(Ordering::SeqCst) {
            return None;
        }
        let now_ns = now_ns();
        let mut pause = self.pause.lock();
        if let Some(running) = *pause
            && running.until_ns > now_ns
        {
            return Some(running);
        }
        *pause = None;
        self.is_paused.store(false, Ordering::SeqCst);
        None
    }

    /// Returns when a pause ends early, or after `longest`.
    pub async fn resumed(&self, longest: std::time::Duration) {
        let resumed = self.resumed.notified();
        if self.is_paused.load(Ordering::SeqCst) {
            // Either end of the wait is the same to the caller: it looks again.
            let _ = tokio::time::timeout(longest, resumed).await;
        }
    }
}
