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
}
