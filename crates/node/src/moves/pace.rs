//! How fast the copy of a move goes: at most its rate, over time; and how fast the log goes on that
//! it has to keep up with.

use crate::clock;

/// An idle stream saves up so much time, microseconds: timers wake that much too late. It is no
/// more, since all of it may go at once, and clients would wait for that.
const SAVED_US: u64 = 8_000;
/// Nothing is paid for longer than that, however large a record was, microseconds.
const DEBT_US: u64 = 30_000_000;
/// The same at a taker, which acknowledges what is paid: a giver ends a stream without a word after
/// 10 s, and pays for all of it itself.
const DEBT_TAKER_US: u64 = 5_000_000;

/// The clock that paces are measured by, microseconds.
pub(super) fn now_us() -> u64 {
    clock::boottime_ns() / 1_000
}

/// What has left, as time that it takes at the rate. Times are of any monotonic clock,
/// microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// 0: nothing goes.
    bytes_per_s: u64,
    /// When all that has left is paid.
    paid_at_us: u64,
}

impl Pace {
    /// Another rate, of what leaves from now on; 0: nothing does.
    pub(super) fn set(&mut self, bytes_per_s: u64) {
        self.bytes_per_s = bytes_per_s;
    }

    /// So many bytes leave.
    pub(super) fn leave(&mut self, bytes: usize, now_us: u64) {
        self.leave_within(bytes, now_us, DEBT_US);
    }

    /// So many bytes have come, and are acknowledged once they are paid.
    pub(super) fn leave_in_part(&mut self, bytes: usize, now_us: u64) {
        self.leave_within(bytes, now_us, DEBT_TAKER_US);
    }

    fn leave_within(&mut self, bytes: usize, now_us: u64, most_us: u64) {
        let since = self.paid_at_us.max(now_us.saturating_sub(SAVED_US));
        let micros = (bytes as u64).saturating_mul(1_000_000).checked_div(self.bytes_per_s);
        let paid_at = since.saturating_add(micros.unwrap_or(0));
        self.paid_at_us = paid_at.min(now_us.saturating_add(most_us));
    }

    /// Whether more of the copy may leave.
    pub(super) fn is_paid(&self, now_us: u64) -> bool {
        self.bytes_per_s > 0 && self.paid_at_us <= now_us
    }
}

/// So often growth is measured, ms.
const MEASURE_MS: u64 = 1_000;

/// How fast a log grows, and how much of it a taker keeps up with.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Growth {
    /// When it was measured, ms, and both sums then; `None` before.
    since: Option<(u64, (u64, u64))>,
    per_s: (u64, u64),
}

impl Growth {
    /// Bytes of the log so far, and those that the taker has.
    pub(super) fn note(&mut self, (written, taken): (u64, u64), now_ms: u64) {
        let Some((at_ms, (written_before, taken_before))) = self.since else {
            self.since = Some((now_ms, (written, taken)));
            return;
        };
        let passed_ms = now_ms.saturating_sub(at_ms);
        if passed_ms < MEASURE_MS {
            return;
        }
        let per_s = |more: u64| more.saturating_mul(1_000) / passed_ms;
        let written_more = written.saturating_sub(written_before);
        // Before its first answer the taker has nothing of the log, and then all at once.
        let taken_more = if taken_before == 0 { 0 } else { taken.saturating_sub(taken_before) };
        self.per_s = (per_s(written_more), per_s(taken_more));
        self.since = Some((now_ms, (written, taken)));
    }

    /// Bytes a second, over the last second that was measured.
    pub(super) fn per_s(&self) -> (u64, u64) {
        self.per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_measured_over_a_second_and_more() {
        let mut growth = Growth::default();
        growth.note((5_000, 0), 100);
        growth.note((9_000, 0), 1_099);
        assert_eq!(growth.per_s(), (0, 0));
        growth.note((9_000, 8_000), 2_100);
        assert_eq!(growth.per_s(), (2_000, 0), "what the taker had at once is no rate");
        growth.note((12_000, 9_000), 3_100);
        assert_eq!(growth.per_s(), (3_000, 1_000));
        growth.note((0, 0), 4_100);
        assert_eq!(growth.per_s(), (0, 0));
    }

    fn at(mb: u64) -> Pace {
        Pace { bytes_per_s: mb * 1_000_000, ..Pace::default() }
    }

    /// What leaves in a second, looked at every two milliseconds.
    fn in_a_second(mb: u64, chunk: usize) -> usize {
        let mut pace = at(mb);
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
            let bytes = in_a_second(mb, 64 << 10);
            let due = mb as usize * 1_000_000;
            // What was saved up, and the chunk that was not paid yet.
            assert!(bytes <= due + due / 50 + (64 << 10), "{bytes} at {mb} MB/s");
            assert!(bytes >= due - due / 20 - (64 << 10), "{bytes} at {mb} MB/s");
        }
    }

    #[test]
    fn an_idle_time_is_not_saved_up_and_a_huge_record_is_paid_for_in_part() {
        let mut pace = at(10);
        assert!(pace.is_paid(0));
        pace.leave(10_000_000, 60_000_000);
        assert!(!pace.is_paid(60_900_000) && pace.is_paid(61_000_000));
        pace.leave(usize::MAX, 100_000_000);
        assert!(!pace.is_paid(129_999_999) && pace.is_paid(130_000_000));
        pace.leave_in_part(usize::MAX, 140_000_000);
        assert!(!pace.is_paid(144_999_999) && pace.is_paid(145_000_000), "the giver waits for it");
        pace.set(0);
        assert!(!pace.is_paid(200_000_000), "nothing goes");
        pace.leave(1, 200_000_000);
        pace.set(1);
        assert!(pace.is_paid(200_000_000), "what came all the same is not paid for");
    }
}
