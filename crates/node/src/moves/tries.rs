//! How long the gate is waited for behind all that holds it, and when not at all.
//!
//! What waits for the gate holds up everything that comes behind it. Beside a node that always has
//! a longer transaction, or script, under way that would be so at every heartbeat: so each attempt
//! in a row that fails waits longer, and leaves the commands alone for fifty times as long.

use std::time::Duration;

/// The first attempt, ms.
const FIRST_MS: u64 = 20;
/// How often that doubles at most: far from the time after which a node counts as down.
const DOUBLINGS: u32 = 2;
/// How often the first attempts may fail without a pause: something may just have been long.
const AT_ONCE: u32 = 1;
/// Pauses are so many times as long as what was waited.
const PAUSE: u64 = 50;

/// Attempts that have failed in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tries {
    failed: u32,
    /// Not before.
    after_ms: u64,
}

impl Tries {
    fn wait_ms(self) -> u64 {
        FIRST_MS << self.failed.min(DOUBLINGS)
    }

    /// For how long the gate may be waited for at `now_ms`; `None`: not now.
    pub(super) fn wait(self, now_ms: u64) -> Option<Duration> {
        (now_ms >= self.after_ms).then(|| Duration::from_millis(self.wait_ms()))
    }

    /// It was waited for in vain until `now_ms`.
    pub(super) fn fails(&mut self, now_ms: u64) {
        let pause_ms = if self.failed < AT_ONCE { 0 } else { PAUSE * self.wait_ms() };
        self.after_ms = now_ms.saturating_add(pause_ms);
        self.failed = self.failed.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_that_fails_waits_longer_and_the_next_one_comes_later() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let mut tries = Tries::default();
        assert_eq!(tries.wait(0), ms(20));
        tries.fails(1_000);
        assert_eq!(tries.wait(1_000), ms(40), "it may have been an exception");
        for (wait_ms, pause_ms) in [(40, 2_000), (80, 4_000), (80, 4_000)] {
            assert_eq!(tries.wait(10_000), ms(wait_ms));
            tries.fails(10_000);
            assert_eq!(tries.wait(10_000 + pause_ms - 1), None);
            assert!(tries.wait(10_000 + pause_ms).is_some());
            tries.after_ms = 0;
        }
    }
}
