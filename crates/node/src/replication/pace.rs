//! `max-replication-mb`: all file transfers of this node share one rate.

use std::time::Duration;

use parking_lot::Mutex;

/// Hands out sending time.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    /// Time until which everything is taken, in ns of any monotonic clock.
    busy_until_ns: Mutex<u64>,
}

/// An idle pacer lets this much time's worth of bytes pass at once.
const BURST_NS: u64 = 50_000_000;

impl Pacer {
    /// How long to wait before `bytes` may be sent at `mb_per_second` (2^20 bytes; 0: no limit).
    pub(super) fn delay(&self, bytes: usize, mb_per_second: u32, now_ns: u64) -> Duration {
        if mb_per_second == 0 {
            return Duration::ZERO;
        }
        let rate = u128::from(mb_per_second) << 20;
        let cost = (bytes as u128 * 1_000_000_000 / rate).min(u128::from(u64::MAX / 2)) as u64;
        let mut busy_until = self.busy_until_ns.lock();
        *busy_until = (*busy_until).max(now_ns.saturating_sub(BURST_NS)).saturating_add(cost);
        Duration::from_nanos(busy_until.saturating_sub(now_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_shared_and_an_idle_time_is_not_saved_up() {
        let pacer = Pacer::default();
        let start = 10_000_000_000;
        let waits: Vec<_> = (0..4).map(|_| pacer.delay(1 << 20, 10, start).as_millis()).collect();
        assert_eq!(waits, [50, 150, 250, 350]);
        assert_eq!(pacer.delay(1 << 20, 0, start), Duration::ZERO);
        assert_eq!(pacer.delay(1 << 20, 10, start + 60_000_000_000).as_millis(), 50);
    }
}
