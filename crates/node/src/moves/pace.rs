//! How fast the copy of a move leaves: at most its rate, over time.

use api::moves::Rate;

/// An idle stream saves up so much time, microseconds: timers wake that much too late.
const SAVED_US: u64 = 20_000;
/// Nothing is paid for longer than that, however large a record was, microseconds.
const DEBT_US: u64 = 30_000_000;

/// What has left, as time that it takes at the rate. Times are of any monotonic clock, microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    rate: Rate,
    /// When all that has left is paid.
    paid_at_us: u64,
}

impl Pace {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, paid_at_us: 0 }
    }

    /// Another rate, of what leaves from now on.
    pub(super) fn set(&mut self, rate: Rate) {
        self.rate = rate;
    }

    /// So many bytes leave.
    pub(super) fn leave(&mut self, bytes: usize, now_us: u64) {
        let since = self.paid_at_us.max(now_us.saturating_sub(SAVED_US));
        let paid_at = since.saturating_add(self.rate.micros_of(bytes as u64));
        self.paid_at_us = paid_at.min(now_us.saturating_add(DEBT_US));
    }

    /// Whether more of the copy may leave.
    pub(super) fn is_paid(&self, now_us: u64) -> bool {
        self.paid_at_us <= now_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What leaves in a second, looked at every two milliseconds.
    fn in_a_second(mb: u32, chunk: usize) -> usize {
        let mut pace = Pace::new(Rate::new(mb).unwrap());
        let (start, mut bytes) = (1_000_000_000, 0);
        for now in (start..start + 1_000_000).step_by(2_000) {
            // As often as the window has room.
            for _ in 0..8 {
                if pace.is_paid(now) {
                    pace.leave(chunk, now);
                    bytes += chunk;
                }
            }
        }
        bytes
    }

    #[test]
    fn no_more_leaves_than_the_rate_and_no_less() {
        for mb in [1, 5, 64, 200] {
            let bytes = in_a_second(mb, 128 << 10);
            let due = mb as usize * 1_000_000;
            // What was saved up, and the chunk that was not paid yet.
            assert!(bytes <= due + due / 50 + (128 << 10), "{bytes} at {mb} MB/s");
            assert!(bytes >= due - due / 20 - (128 << 10), "{bytes} at {mb} MB/s");
        }
    }

    #[test]
    fn an_idle_time_is_not_saved_up_and_a_huge_record_is_paid_for_in_part() {
        let mut pace = Pace::new(Rate::new(10).unwrap());
        assert!(pace.is_paid(0));
        pace.leave(10_000_000, 60_000_000);
        assert!(!pace.is_paid(60_900_000) && pace.is_paid(61_000_000));
        pace.leave(usize::MAX, 100_000_000);
        assert!(!pace.is_paid(129_999_999) && pace.is_paid(130_000_000));
    }
}
