//! How long clients waited for their replies: a histogram, as Prometheus counts one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::WorkerStats;

/// Upper bounds of the buckets, microseconds; what is above the last one is in none of them.
pub const BOUNDS_US: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];

/// Commands that were begun together: those of one read buffer.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    /// When the first of them was.
    pub at: Instant,
    /// How many.
    pub commands: u64,
}

/// Times of one worker; only its thread adds.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; BOUNDS_US.len()],
    commands: AtomicU64,
    micros: AtomicU64,
}

/// Times of all workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LatencyTotal {
    /// Commands that took at most as long as the bound of the same index.
    pub within: [u64; BOUNDS_US.len()],
    /// Commands answered.
    pub commands: u64,
    /// Sum of their times, microseconds.
    pub micros: u64,
}

impl Latency {
    /// Replies that left just now, to commands that all waited for that long.
    pub fn add(&self, waited: Duration, commands: u64) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(bucket) {
            WorkerStats::add(bucket, commands);
        }
        WorkerStats::add(&self.commands, commands);
        WorkerStats::add(&self.micros, micros.saturating_mul(commands));
    }

    /// All counters, for a reset.
    pub fn counters(&self) -> impl Iterator<Item = &AtomicU64> {
        self.buckets.iter().chain([&self.commands, &self.micros])
    }
}

impl LatencyTotal {
    /// Sums up what workers counted.
    pub fn of<'w>(workers: impl Iterator<Item = &'w Latency>) -> Self {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut total = Self::default();
        for worker in workers {
            for (sum, bucket) in total.within.iter_mut().zip(&worker.buckets) {
                *sum += now(bucket);
            }
            total.commands += now(&worker.commands);
            total.micros += now(&worker.micros);
        }
        let mut below = 0;
        for within in &mut total.within {
            below += *within;
            *within = below;
        }
        total
    }

    /// What was counted since `earlier`; nothing of what was reset meanwhile.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        for (now, before) in since.within.iter_mut().zip(&earlier.within) {
            *now = now.saturating_sub(*before);
        }
        since.commands = self.commands.saturating_sub(earlier.commands);
        since.micros = self.micros.saturating_sub(earlier.micros);
        since
    }

    /// 99 of 100 commands took no longer, microseconds, as if those of a bucket lay evenly in it;
    /// `None` without any.
    pub fn p99_us(&self) -> Option<u64> {
        let due = self.commands - self.commands / 100;
        let (mut lower_us, mut below) = (0, 0);
        for (upper_us, within) in BOUNDS_US.into_iter().zip(self.within) {
            if within >= due {
                let (of, all) = (due.saturating_sub(below), within.saturating_sub(below).max(1));
                let share = (upper_us - lower_us).saturating_mul(of) / all;
                return (due > 0).then_some(lower_us + share);
            }
            (lower_us, below) = (upper_us, within);
        }
        Some(lower_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_all_that_took_no_longer() {
        let (one, other) = (Latency::default(), Latency::default());
        one.add(Duration::from_micros(50), 2);
        one.add(Duration::from_micros(51), 1);
        other.add(Duration::from_millis(2), 16);
        other.add(Duration::from_secs(60), 1);
        let total = LatencyTotal::of([&one, &other].into_iter());
        assert_eq!(total.within[..6], [2, 3, 3, 3, 3, 19]);
        assert_eq!(total.within[BOUNDS_US.len() - 1], 19);
        assert_eq!((total.commands, total.micros), (20, 100 + 51 + 32_000 + 60_000_000));
    }

    #[test]
    fn the_hundredth_that_waits_longest_is_left_out() {
        let one = Latency::default();
        let total = || LatencyTotal::of([&one].into_iter());
        assert_eq!(total().p99_us(), None);
        one.add(Duration::from_micros(80), 990);
        one.add(Duration::from_millis(40), 10);
        assert_eq!(total().p99_us(), Some(100), "the end of its bucket");
        let before = total();
        one.add(Duration::from_millis(2), 200);
        assert_eq!(total().since(&before).p99_us(), Some(1_000 + 1_500 * 198 / 200));
        one.add(Duration::from_secs(60), 200);
        assert_eq!(total().since(&before).p99_us(), Some(10_000_000), "as far as it is told");
        assert_eq!(before.since(&total()), LatencyTotal::default());
    }
}
