//! From what clients saw to what is reported: pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::witness::Seen;
use super::writer::{Acknowledged, Log};

/// One fault, seen from the clients.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Longest time without a successful write of any one writer.
    pub(crate) outage: Duration,
    /// When it began.
    pub(crate) outage_from: Option<Instant>,
    /// Writes acknowledged while it was watched.
    pub(crate) acknowledged: usize,
    /// Of these, not found afterwards.
    pub(crate) missing: usize,
    /// Reads and writes that the old master answered after a new one had answered.
    pub(crate) stale: usize,
    /// Keyed commands that the old master served at its own port.
    pub(crate) direct_served: u64,
    /// What it replied there.
    pub(crate) direct: BTreeMap<String, u64>,
    /// What writers were told instead of +OK.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Another node than the old master acknowledged.
    pub(crate) has_moved: bool,
    /// And that would be wrong: the master was fit to go on.
    pub(crate) may_not_move: bool,
}

/// Longest time between two successes, the end of the watch counting as one, and when it began.
pub(crate) fn longest_gap(times: &[Instant], end: Instant) -> (Duration, Option<Instant>) {
    let ends = times.iter().skip(1).copied().chain([end]);
    let gaps = times.iter().zip(ends).map(|(from, to)| (to.duration_since(*from), Some(*from)));
    gaps.max().unwrap_or_default()
}

/// Answers of `old` that came after the first acknowledgement by another node.
pub(crate) fn stale_answers(acknowledged: &[Acknowledged], seen: &Seen, old: &str) -> usize {
    let Some(takeover) =
        acknowledged.iter().filter(|write| write.by != old).map(|write| write.at).min()
    else {
        return 0;
    };
    let writes = acknowledged.iter().map(|write| (write.at, write.by.as_str()));
    let reads = seen.served.iter().map(|(at, by)| (*at, by.as_str()));
    writes.chain(reads).filter(|(at, by)| *by == old && *at > takeover).count()
}

impl Outcome {
    /// Puts together what the writers and the witness of one fault saw. `missing` is added by
    /// whoever looked.
    pub(crate) fn of(logs: &[Log], seen: Seen, old: &str, end: Instant) -> Self {
        let mut outcome = Self::default();
        let mut all = Vec::new();
        for log in logs {
            let times: Vec<Instant> = log.acknowledged.iter().map(|write| write.at).collect();
            let longest = (outcome.outage, outcome.outage_from).max(longest_gap(&times, end));
            (outcome.outage, outcome.outage_from) = longest;
            outcome.acknowledged += times.len();
            all.extend(log.acknowledged.iter().cloned());
            for (message, count) in &log.errors {
                *outcome.errors.entry(message.clone()).or_default() += count;
            }
        }
        outcome.stale = stale_answers(&all, &seen, old);
        outcome.has_moved = all.iter().any(|write| write.by != old);
        outcome.direct_served = seen.direct_served;
        outcome.direct = seen.direct;
        outcome
    }

    /// Nothing happened that may never happen, however long it took.
    pub(crate) fn is_good(&self) -> bool {
        let is_deaf = self.stale == 0 && self.direct_served == 0;
        self.missing == 0 && is_deaf && !(self.has_moved && self.may_not_move)
    }
}

/// Middle value (the upper one of two) and the largest.
pub(crate) fn median_and_worst(values: &[Duration]) -> Option<(Duration, Duration)> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    Some((*sorted.get(sorted.len() / 2)?, *sorted.last()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(at: Instant, by: &str) -> Acknowledged {
        Acknowledged { key: String::new(), sent: at, at, by: by.into() }
    }

    #[test]
    fn the_gap_to_the_end_counts() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let gap = |from, ms| (Duration::from_millis(ms), Some(at(from)));
        assert_eq!(longest_gap(&[at(0), at(5), at(105), at(110)], at(111)), gap(5, 100));
        assert_eq!(longest_gap(&[at(0), at(5)], at(1000)), gap(5, 995));
        assert_eq!(longest_gap(&[], at(1)), (Duration::ZERO, None));
    }

    #[test]
    fn an_answer_of_the_old_master_is_stale_only_after_the_new_one_answered() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut seen = Seen { served: vec![(at(1), "old".into())], ..Seen::default() };
        let mut writes = vec![write(at(0), "old"), write(at(10), "new")];
        assert_eq!(stale_answers(&writes, &seen, "old"), 0);
        seen.served.push((at(11), "old".into()));
        writes.push(write(at(12), "old"));
        assert_eq!(stale_answers(&writes, &seen, "old"), 2);
        assert_eq!(stale_answers(&writes[..1], &seen, "old"), 0);
    }

    #[test]
    fn a_lost_write_an_answer_of_the_old_master_and_a_needless_takeover_are_not_good() {
        let good =
            || Outcome { outage: Duration::from_secs(9), has_moved: true, ..Outcome::default() };
        assert!(good().is_good());
        assert!(!Outcome { missing: 1, ..good() }.is_good());
        assert!(!Outcome { stale: 1, ..good() }.is_good());
        assert!(!Outcome { direct_served: 1, ..good() }.is_good());
        assert!(!Outcome { may_not_move: true, ..good() }.is_good());
        assert!(Outcome { may_not_move: true, has_moved: false, ..good() }.is_good());
    }

    #[test]
    fn median_of_five_is_the_third() {
        let values: Vec<_> = [5, 1, 4, 2, 3].map(Duration::from_millis).to_vec();
        let expected = (Duration::from_millis(3), Duration::from_millis(5));
        assert_eq!(median_and_worst(&values), Some(expected));
        assert_eq!(median_and_worst(&[]), None);
    }
}
