//! From what clients saw to what is reported: pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// An answered write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its key, written once.
    pub key: String,
    /// When the attempt began.
    pub sent: Instant,
    /// When the answer was read.
    pub at: Instant,
    /// Node id of whoever answered.
    pub by: String,
}

/// What one writer saw.
#[derive(Debug, Default)]
pub struct Log {
    /// In order.
    pub acknowledged: Vec<Acknowledged>,
    /// Attempts that failed, by message.
    pub errors: BTreeMap<String, u64>,
}

/// One fault, seen from the clients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Longest time without a successful write of any one writer.
    pub outage: Duration,
    /// Writes acknowledged while it was watched.
    pub acknowledged: usize,
    /// Of these, not found afterwards.
    pub missing: usize,
    /// Answers of the old master after another node had answered.
    pub stale: usize,
    /// What writers were told instead of +OK.
    pub errors: BTreeMap<String, u64>,
    /// Another node than the old master acknowledged.
    pub has_moved: bool,
    /// And that would be wrong.
    pub may_not_move: bool,
}

impl Outcome {
    /// Puts together what writers saw, and reads: when, and by which node. `missing` is added by
    /// whoever looked.
    pub fn of(logs: &[Log], reads: &[(Instant, String)], old: &str, end: Instant) -> Self {
        let mut outcome = Self::default();
        let all = || logs.iter().flat_map(|log| &log.acknowledged);
        for log in logs {
            let times: Vec<Instant> = log.acknowledged.iter().map(|write| write.at).collect();
            outcome.outage = outcome.outage.max(longest_gap(&times, end));
            outcome.acknowledged += times.len();
            for (message, count) in &log.errors {
                *outcome.errors.entry(message.clone()).or_default() += count;
            }
        }
        let takeover = all().filter(|write| write.by != old).map(|write| write.at).min();
        outcome.has_moved = takeover.is_some();
        if let Some(takeover) = takeover {
            let answers = all().map(|write| (write.at, write.by.as_str()));
            let answers = answers.chain(reads.iter().map(|(at, by)| (*at, by.as_str())));
            outcome.stale = answers.filter(|(at, by)| *by == old && *at > takeover).count();
        }
        outcome
    }

    /// Nothing happened that may never happen, however long it took.
    pub fn is_good(&self) -> bool {
        self.missing == 0 && self.stale == 0 && !(self.has_moved && self.may_not_move)
    }
}

/// Longest time between two successes, the end of the watch counting as one.
pub(super) fn longest_gap(times: &[Instant], end: Instant) -> Duration {
    let ends = times.iter().skip(1).copied().chain([end]);
    times.iter().zip(ends).map(|(from, to)| to.duration_since(*from)).max().unwrap_or_default()
}

/// Middle value (the upper one of two) and the largest.
pub fn median_and_worst(values: &[Duration]) -> Option<(Duration, Duration)> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    Some((*sorted.get(sorted.len() / 2)?, *sorted.last()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_takeovers_and_late_answers_are_found() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let write = |ms, by: &str| Acknowledged {
            key: String::new(),
            sent: at(ms),
            at: at(ms),
            by: by.to_owned(),
        };
        let acknowledged = vec![write(0, "old"), write(300, "new"), write(310, "new")];
        let logs = [Log { acknowledged, ..Log::default() }];
        let reads = [(at(299), "old".to_owned()), (at(301), "old".to_owned())];
        let outcome = Outcome::of(&logs, &reads, "old", at(320));
        assert_eq!((outcome.outage.as_millis(), outcome.stale), (300, 1));
        assert!(outcome.has_moved && !outcome.is_good());
        let outcome = Outcome::of(&logs, &reads[..1], "old", at(1_000));
        assert_eq!(outcome.outage.as_millis(), 690, "the end counts");
        assert!(outcome.is_good());
        assert!(!Outcome { may_not_move: true, ..outcome.clone() }.is_good());
        assert!(!Outcome { missing: 1, ..outcome }.is_good());
    }
}
