//! Which failed attempts of the link are logged. A master that stays away is tried every few
//! seconds, maybe for days: the same line each time would hide all others.
//!
//! INFO and heartbeats have the newest fault in any case.

use replication::replica::Fault;

/// After so long the same fault is told again, ms.
const AGAIN_MS: u64 = 60_000;

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// With when, in the clock that the caller goes by, ms.
    told: Option<(Fault, u64)>,
    /// How often it came since.
    untold: u32,
}

impl Failures {
    /// Whether a fault is to be told at `now_ms`, and then how many were not, since the last one
    /// that was.
    pub(super) fn tell(&mut self, fault: &Fault, now_ms: u64) -> Option<u32> {
        let is_same =
            |(told, at): &(Fault, u64)| told == fault && now_ms.saturating_sub(*at) < AGAIN_MS;
        if self.told.as_ref().is_some_and(is_same) {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.told = Some((fault.clone(), now_ms));
        Some(std::mem::take(&mut self.untold))
    }

    /// The link has worked meanwhile: the next fault is news.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_fault_is_told_once_a_minute_and_another_at_once() {
        let mut failures = Failures::default();
        let (away, silent) = (Fault::Closed("refused".to_owned()), Fault::TimedOut(5));
        assert_eq!(failures.tell(&away, 0), Some(0));
        assert_eq!(failures.tell(&away, 4_000), None);
        assert_eq!(failures.tell(&away, 59_999), None);
        assert_eq!(failures.tell(&away, 60_000), Some(2));
        assert_eq!(failures.tell(&away, 61_000), None);
        assert_eq!(failures.tell(&silent, 62_000), Some(1), "of the other before");
        assert_eq!(failures.tell(&silent, 63_000), None);
        failures.forget();
        assert_eq!(failures.tell(&silent, 64_000), Some(0));
    }
}
