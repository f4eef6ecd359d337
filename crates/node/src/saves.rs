//! Backups on demand (BGSAVE): whether one runs, and what became of the last.

use parking_lot::Mutex;

/// What INFO and LASTSAVE tell of backups.
#[derive(Debug, Default)]
pub struct Saves(Mutex<State>);

/// State of the backups of one process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    /// When the running one began, Unix ms.
    pub running_since_ms: Option<u64>,
    /// The last one that ended.
    pub last: Option<Ended>,
    /// When the last good one ended, Unix ms.
    pub last_good_ms: Option<u64>,
}

/// A backup that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// When, Unix ms.
    pub at_ms: u64,
    /// How long it took, ms.
    pub took_ms: u64,
    /// It is whole.
    pub is_good: bool,
}

impl Saves {
    /// A backup begins; false if one runs already.
    pub fn begin(&self, now_ms: u64) -> bool {
        let mut state = self.0.lock();
        if state.running_since_ms.is_some() {
            return false;
        }
        state.running_since_ms = Some(now_ms);
        true
    }

    /// The running backup ended.
    pub fn end(&self, now_ms: u64, is_good: bool) {
        let mut state = self.0.lock();
        let Some(since_ms) = state.running_since_ms.take() else { return };
        let took_ms = now_ms.saturating_sub(since_ms);
        state.last = Some(Ended { at_ms: now_ms, took_ms, is_good });
        if is_good {
            state.last_good_ms = Some(now_ms);
        }
    }

    /// What is known.
    pub fn state(&self) -> State {
        *self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_runs_at_a_time_and_a_failed_one_is_not_the_last_good_one() {
        let saves = Saves::default();
        assert!(saves.begin(1_000) && !saves.begin(1_001));
        saves.end(3_000, true);
        assert!(saves.begin(5_000));
        saves.end(5_500, false);
        let last = Some(Ended { at_ms: 5_500, took_ms: 500, is_good: false });
        let expected = State { running_since_ms: None, last, last_good_ms: Some(3_000) };
        assert_eq!(saves.state(), expected);
    }
}
