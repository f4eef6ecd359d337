//! One clock and one list of what happened.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

/// Nanoseconds since the start of a run, of CLOCK_MONOTONIC: the same in every namespace.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at 0.
    pub fn start() -> Self {
        // Times are subtracted from (slack, tolerance), so 0 must be in the past.
        Self(Instant::now())
    }

    /// ns since the start.
    pub fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What happened when; shared by all threads of a run.
#[derive(Debug, Clone)]
pub struct Timeline {
    clock: Clock,
    lines: Arc<Mutex<Vec<(u64, String)>>>,
}

impl Timeline {
    /// An empty one.
    pub fn new(clock: Clock) -> Self {
        Self { clock, lines: Arc::default() }
    }

    /// Its clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Something happened now.
    pub fn note(&self, text: impl Into<String>) {
        self.note_at(self.clock.now(), text);
    }

    /// Something happened then.
    pub fn note_at(&self, at: u64, text: impl Into<String>) {
        self.lines.lock().push((at, text.into()));
    }

    /// All of it, in order.
    pub fn render(&self) -> String {
        let mut lines = self.lines.lock().clone();
        lines.sort_by_key(|(at, _)| *at);
        lines.iter().map(|(at, text)| format!("{:>9} s  {text}\n", seconds(*at))).collect()
    }
}

/// `12.345678`
pub fn seconds(at: u64) -> String {
    format!("{}.{:06}", at / 1_000_000_000, at % 1_000_000_000 / 1_000)
}
