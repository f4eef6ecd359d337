//! How long clients waited for their replies: a histogram, as Prometheus counts one, and finer.
//!
//! Whether clients wait longer than before (`crate::moves::guest`) is a question of parts of
//! what a bucket of Prometheus holds, whose end is up to two and a half times its beginning.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::WorkerStats;

/// Upper bounds of the buckets that are shown, microseconds; what is above the last one is in none
/// of them.
pub const BOUNDS_US: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];

/// The buckets of a decade that are counted: each ends at most a quarter above the one before, and
/// those of [`BOUNDS_US`] are among them.
const DECADE: [u64; 13] = [12, 14, 17, 21, 25, 30, 35, 42, 50, 60, 70, 85, 100];
/// What a decade is multiplied with.
const DECADES: [u64; 6] = [1, 10, 100, 1_000, 10_000, 100_000];
const BUCKETS: usize = DECADE.len() * DECADES.len();

/// Upper bounds of the buckets that are counted, microseconds; the last one is that of
/// [`BOUNDS_US`].
const COUNTED_US: [u64; BUCKETS] = {
    let mut bounds = [0; BUCKETS];
    let mut place = 0;
    while place < BUCKETS {
        bounds[place] = DECADE[place % DECADE.len()] * DECADES[place / DECADE.len()];
        place += 1;
    }
    bounds
};

/// Commands that were begun together: those of one read buffer.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    /// When the first of them was.
    pub at: Instant,
    /// How many.
    pub commands: u64,
}

/// Times of one worker; only its thread adds.
#[derive(Debug)]
pub struct Latency {
    buckets: [AtomicU64; BUCKETS],
    commands: AtomicU64,
    micros: AtomicU64,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            commands: AtomicU64::new(0),
            micros: AtomicU64::new(0),
        }
    }
}

/// Times of all workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencyTotal {
    /// Commands of each bucket that is counted.
    counts: [u64; BUCKETS],
    /// Commands answered.
    pub commands: u64,
    /// Sum of their times, microseconds.
    pub micros: u64,
}

impl Default for LatencyTotal {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], commands: 0, micros: 0 }
    }
}

impl Latency {
    /// Replies that left just now, to commands that all waited for that long.
    pub fn add(&self, waited: Duration, commands: u64) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        let bucket = COUNTED_US.partition_point(|bound| *bound < micros);
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
            for (sum, bucket) in total.counts.iter_mut().zip(&worker.buckets) {
                *sum += now(bucket);
            }
            total.commands += now(&worker.commands);
            total.micros += now(&worker.micros);
        }
        total
    }

    /// Commands that took at most as long as the bound of the same index of [`BOUNDS_US`].
    #[must_use]
    pub fn within(&self) -> [u64; BOUNDS_US.len()] {
        BOUNDS_US.map(|bound| {
            let counted = COUNTED_US.iter().zip(&self.counts);
            counted.take_while(|(upper, _)| **upper <= bound).map(|(_, count)| *count).sum()
        })
    }

    /// What was counted since `earlier`; nothing of what was reset meanwhile.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        for (now, before) in since.counts.iter_mut().zip(&earlier.counts) {
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
        let (mut lower_us, mut below) = (0, 0_u64);
        for (upper_us, count) in COUNTED_US.into_iter().zip(self.counts) {
            let within = below.saturating_add(count);
            if within >= due {
                let (of, all) = (due.saturating_sub(below), count.max(1));
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
        assert_eq!(total.within()[..6], [2, 3, 3, 3, 3, 19]);
        assert_eq!(total.within()[BOUNDS_US.len() - 1], 19);
        assert_eq!((total.commands, total.micros), (20, 100 + 51 + 32_000 + 60_000_000));
    }

    #[test]
    fn what_is_shown_is_counted_and_no_bucket_is_wide() {
        assert!(BOUNDS_US.iter().all(|bound| COUNTED_US.contains(bound)));
        assert_eq!(COUNTED_US.last(), BOUNDS_US.last());
        for (lower, upper) in COUNTED_US.iter().zip(&COUNTED_US[1..]) {
            assert!(lower < upper && upper * 4 <= lower * 5, "{lower} {upper}");
        }
    }

    /// A bucket that ends at two and a half times its beginning would make 1,100 µs 2,500.
    #[test]
    fn the_hundredth_is_told_to_a_quarter() {
        for us in (15..2_000_000_u64).step_by(997) {
            let one = Latency::default();
            one.add(Duration::from_micros(us), 1_000);
            let told = LatencyTotal::of([&one].into_iter()).p99_us().unwrap();
            assert!(told * 5 >= us * 4 && told * 4 <= us * 5, "{told} of {us}");
        }
    }

    #[test]
    fn the_hundredth_that_waits_longest_is_left_out() {
        let one = Latency::default();
        let total = || LatencyTotal::of([&one].into_iter());
        assert_eq!(total().p99_us(), None);
        one.add(Duration::from_micros(80), 990);
        one.add(Duration::from_millis(40), 10);
        assert_eq!(total().p99_us(), Some(85), "the end of its bucket");
        let before = total();
        one.add(Duration::from_millis(2), 200);
        assert_eq!(total().since(&before).p99_us(), Some(1_700 + 400 * 198 / 200));
        one.add(Duration::from_secs(60), 200);
        assert_eq!(total().since(&before).p99_us(), Some(10_000_000), "as far as it is told");
        assert_eq!(before.since(&total()), LatencyTotal::default());
    }
}
