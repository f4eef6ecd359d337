//! From what clients saw to what is reported: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What 99 of 100 keys that move are to wait at most.
const STALL_GOAL: Duration = Duration::from_millis(50);
/// So many times as long writes to keys that stay may take meanwhile, 99 of 100 of them.
pub(super) const OTHERS_GOAL: f64 = 2.0;

/// What is going on while a write is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing moves yet.
    Before,
    /// Slots move.
    Moving,
    /// Nothing moves any more, or not again yet.
    After,
}

/// An answered write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    /// Index of its key.
    pub key: u32,
    /// When it was answered.
    pub phase: Phase,
    /// The same, since clients began, ms.
    pub at_ms: u32,
    /// From when it was sent until it was acknowledged, every redirection included, µs.
    pub us: u32,
}

/// What one client saw.
#[derive(Debug, Default)]
pub struct Log {
    /// In order.
    pub writes: Vec<Write>,
    /// What was answered that a client library passes on, by its text.
    pub errors: BTreeMap<String, u64>,
    /// MOVED and ASK that were followed.
    pub redirected: u64,
}

/// One run, seen from the clients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Per second.
    pub rate: u64,
    /// Of these, not found afterwards.
    pub missing: u64,
    /// What a client library would have passed on.
    pub errors: BTreeMap<String, u64>,
    /// MOVED and ASK that were followed.
    pub redirected: u64,
    /// Of keys that moved, each with its longest write since then: the one that 99 of 100 do not
    /// exceed.
    pub stall_p99: Duration,
    /// And the longest of all.
    pub stall_worst: Duration,
    /// Writes to keys that stay where they are, before anything moves: 99 of 100 are as fast.
    pub others_before: Duration,
    /// The same while slots move.
    pub others_moving: Duration,
    /// How long slots moved, there and back.
    pub moved_for: Duration,
}

impl Found {
    /// Puts together what clients saw within `time`. `slots` has the slot of each key.
    pub fn of(logs: &[Log], slots: &[u16], moved: &BTreeSet<u16>, time: Duration) -> Self {
        let has_moved = |key: u32| slots.get(key as usize).is_some_and(|slot| moved.contains(slot));
        let mut found = Self::default();
        let mut longest: BTreeMap<u32, u32> = BTreeMap::new();
        let (mut before, mut moving) = (Vec::new(), Vec::new());
        for write in logs.iter().flat_map(|log| &log.writes) {
            found.acknowledged += 1;
            match (has_moved(write.key), write.phase) {
                (true, Phase::Before) => {}
                (true, _) => {
                    let longest = longest.entry(write.key).or_default();
                    *longest = write.us.max(*longest);
                }
                (false, Phase::Before) => before.push(write.us),
                (false, Phase::Moving) => moving.push(write.us),
                (false, Phase::After) => {}
            }
        }
        for log in logs {
            found.redirected += log.redirected;
            for (text, count) in &log.errors {
                *found.errors.entry(text.clone()).or_default() += count;
            }
        }
        let stalls: Vec<u32> = longest.into_values().collect();
        found.rate = (found.acknowledged as f64 / time.as_secs_f64().max(0.001)) as u64;
        found.stall_worst = micros(stalls.iter().max().copied());
        found.stall_p99 = of_a_hundred(stalls, 99);
        found.others_before = of_a_hundred(before, 99);
        found.others_moving = of_a_hundred(moving, 99);
        found
    }

    /// Writes to keys that stay take so many times as long while slots move as before, 99 of 100 of
    /// them.
    pub fn times_others(&self) -> f64 {
        self.others_moving.as_secs_f64() / self.others_before.as_secs_f64().max(1e-6)
    }

    /// Nothing happened that may never happen, however long it took.
    pub fn is_good(&self) -> bool {
        self.missing == 0 && self.errors.is_empty()
    }
}

pub(super) fn micros(us: Option<u32>) -> Duration {
    Duration::from_micros(us.unwrap_or_default().into())
}

/// What so many of a hundred do not exceed; 0 of none.
pub(super) fn of_a_hundred(mut values: Vec<u32>, share: usize) -> Duration {
    values.sort_unstable();
    let place = (values.len() * share).div_ceil(100).saturating_sub(1);
    micros(values.get(place).copied())
}

/// A table, a line per run.
pub fn render(balancer: &str, runs: &[Found]) -> String {
    let mut text = format!(
        "\n3 shards become 4 and 3 again under load, each with a replica, behind {balancer}; ms\n\
         {:>3} {:>9} {:>8} {:>10} {:>7} {:>8} {:>10} {:>11} {:>12} {:>13} {:>6} {:>8}\n",
        "run",
        "acked",
        "acked/s",
        "redirected",
        "errors",
        "missing",
        "stall p99",
        "stall worst",
        "others p99",
        "while moving",
        "times",
        "moved s"
    );
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    for (run, found) in (1..).zip(runs) {
        text += &format!(
            "{run:>3} {:>9} {:>8} {:>10} {:>7} {:>8} {:>10} {:>11} {:>12} {:>13} {:>6.2} {:>8.1}\n",
            found.acknowledged,
            found.rate,
            found.redirected,
            found.errors.values().sum::<u64>(),
            found.missing,
            ms(found.stall_p99),
            ms(found.stall_worst),
            ms(found.others_before),
            ms(found.others_moving),
            found.times_others(),
            found.moved_for.as_secs_f64(),
        );
    }
    let count = |is_kept: fn(&Found) -> bool| runs.iter().filter(|found| is_kept(found)).count();
    text += &format!(
        "goals, kept in so many of {} runs: no error and no write missing {}, stall p99 at most {} \
         ms {}, others p99 at most twice {}\n",
        runs.len(),
        count(Found::is_good),
        STALL_GOAL.as_millis(),
        count(|found| found.stall_p99 <= STALL_GOAL),
        count(|found| found.times_others() <= OTHERS_GOAL),
    );
    for (error, count) in runs.iter().flat_map(|found| &found.errors) {
        text += &format!("  {count:>6} × {error}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(key: u32, phase: Phase, us: u32) -> Write {
        Write { key, phase, at_ms: 0, us }
    }

    #[test]
    fn keys_that_move_are_told_apart_from_those_that_stay() {
        let mut log = Log { redirected: 2, ..Log::default() };
        log.writes = vec![
            write(0, Phase::Before, 30_000),
            write(0, Phase::Moving, 9_000),
            write(1, Phase::Before, 200),
            write(1, Phase::Moving, 400),
            write(1, Phase::After, 70_000),
        ];
        let moved = BTreeSet::from([7]);
        let found = Found::of(&[log], &[7, 8], &moved, Duration::from_secs(5));
        assert_eq!((found.acknowledged, found.rate, found.redirected), (5, 1, 2));
        assert_eq!(found.stall_worst, Duration::from_millis(9));
        assert_eq!(found.stall_p99, Duration::from_millis(9));
        assert_eq!(found.others_before, Duration::from_micros(200));
        assert_eq!(found.others_moving, Duration::from_micros(400));
        assert!(found.is_good() && (found.times_others() - 2.0).abs() < 1e-9);
        assert!(!Found { missing: 1, ..found.clone() }.is_good());
        let errors = BTreeMap::from([("ERR".to_owned(), 1)]);
        assert!(!Found { errors, ..found }.is_good());
    }

    #[test]
    fn ninety_nine_of_a_hundred_do_not_exceed_it() {
        let of = |values: std::ops::RangeInclusive<u32>| of_a_hundred(values.collect(), 99);
        assert_eq!(of(1..=100), Duration::from_micros(99));
        assert_eq!(of(1..=1_000), Duration::from_micros(990));
        assert_eq!(of(5..=5), Duration::from_micros(5));
        assert_eq!(of_a_hundred(Vec::new(), 99), Duration::ZERO);
    }

    #[test]
    fn a_line_per_run_and_what_clients_were_told() {
        let errors = BTreeMap::from([("CROSSSLOT".to_owned(), 3)]);
        let text = render("builtin", &[Found::default(), Found { errors, ..Found::default() }]);
        assert_eq!(text.trim().lines().count(), 6, "{text}");
        assert!(text.contains("no write missing 1, stall p99 at most 50 ms 2, "), "{text}");
        assert!(text.ends_with("3 × CROSSSLOT\n"), "{text}");
    }
}
