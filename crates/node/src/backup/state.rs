//! What is known of backups.

use parking_lot::Mutex;

use crate::clock;

/// What is known of backups, for INFO and LASTSAVE.
#[derive(Debug, Default)]
pub struct Backups(Mutex<State>);

/// See [`Backups`].
#[derive(Debug, Clone, Copy, Default)]
pub struct State {
    /// One is being made, or removed.
    pub is_running: bool,
    /// When the newest one was complete, Unix ms.
    pub last_ms: Option<u64>,
    /// Whether the last attempt failed.
    pub has_failed: bool,
    /// How long the last attempt took, seconds.
    pub last_seconds: Option<u64>,
}

impl Backups {
    /// What is known.
    pub fn state(&self) -> State {
        *self.0.lock()
    }

    /// One was removed.
    pub(super) fn removed(&self) {
        self.0.lock().is_running = false;
    }

    /// False if one runs.
    pub(super) fn begin(&self) -> bool {
        !std::mem::replace(&mut self.0.lock().is_running, true)
    }

    pub(super) fn end(&self, began_ms: u64, outcome: Result<(), ()>) {
        let now_ms = clock::unix_ms();
        let mut state = self.0.lock();
        state.is_running = false;
        state.has_failed = outcome.is_err();
        state.last_seconds = Some(now_ms.saturating_sub(began_ms) / 1000);
        if outcome.is_ok() {
            state.last_ms = Some(now_ms);
        }
    }
}
