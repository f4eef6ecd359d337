//! What was measured of a store that is far away, for `/metrics`. Pure: times and counts go in.

use std::time::Duration;

/// Bounds of the classes into which calls are sorted, ms: by reads of more than 250 nobody leads.
const BOUNDS_MS: [u64; 9] = [1, 2, 5, 10, 25, 50, 125, 250, 1_000];

/// How long calls took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    within: [u64; BOUNDS_MS.len()],
    sum: Duration,
    count: u64,
}

impl Times {
    /// One call more.
    pub(super) fn took(&mut self, took: Duration) {
        for (bound, within) in BOUNDS_MS.iter().zip(&mut self.within) {
            *within += u64::from(took <= Duration::from_millis(*bound));
        }
        self.sum = self.sum.saturating_add(took);
        self.count += 1;
    }

    /// Bounds in seconds, and how many calls were within each.
    pub fn within(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS_MS.iter().map(|ms| Duration::from_millis(*ms).as_secs_f64());
        bounds.zip(self.within.iter().copied())
    }

    /// Of all, seconds.
    pub fn sum(&self) -> f64 {
        self.sum.as_secs_f64()
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// What was measured since the start of this process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measures {
    /// Reads that were answered, but for those of all that there is.
    pub reads: Times,
    /// Changes that were answered.
    pub writes: Times,
    /// Calls that came to nothing.
    pub failures: u64,
    /// Since the last answer; `None` before the first.
    pub answered_ago: Option<Duration>,
    /// What it has on its disk, bytes, as far as it has said.
    pub size: Option<u64>,
    /// What it may have there, bytes, as far as it has said.
    pub quota: Option<u64>,
    /// The largest request that it takes, bytes, as the configuration says.
    pub request_max: Option<u64>,
    /// Rises with each election among its members.
    pub raft_term: u64,
    /// How often this process has seen another controller lead than before.
    pub leader_changes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_in_each_class_that_is_long_enough() {
        let mut times = Times::default();
        for micros in [900, 1_000, 1_001, 200_000, 5_000_000] {
            times.took(Duration::from_micros(micros));
        }
        let within: Vec<u64> = times.within().map(|(_, within)| within).collect();
        assert_eq!(within, [2, 3, 3, 3, 3, 3, 3, 4, 4]);
        assert_eq!(times.count(), 5);
        let bounds: Vec<String> = times.within().map(|(bound, _)| bound.to_string()).collect();
        let expected = ["0.001", "0.002", "0.005", "0.01", "0.025", "0.05", "0.125", "0.25", "1"];
        assert_eq!(bounds, expected);
        assert!((times.sum() - 5.202_901).abs() < 1e-9, "{}", times.sum());
    }
}
