//! One change of the record for all shards that are ready for theirs (rule O8): of a rack with fifty
//! masters each would else wait for the swaps of those before it.
//!
//! What is joined is what would have come one after the other: each change is of one shard, and was
//! decided by nothing that the others change.

use crate::Record;
use crate::verdict::Verdict;

/// What the verdicts want, joined as far as that goes, and why. What is left is wanted again by the
/// next plan.
pub(crate) fn of(record: &Record, verdicts: &mut [Verdict]) -> Option<(Record, String)> {
    let mut all: Option<(Record, String)> = None;
    for (index, verdict) in verdicts.iter_mut().enumerate() {
        let Some((wanted, reason)) = verdict.swap.take() else { continue };
        let is_alone = !is_of_one_shard(record, &wanted, index);
        match &mut all {
            None if is_alone => return Some((wanted, reason)),
            None => all = Some((wanted, reason)),
            Some(_) if is_alone => {}
            Some((joined, reasons)) => {
                // One topology has them all.
                joined.version = joined.version.max(wanted.version);
                let shard = wanted.shards.into_iter().nth(index);
                joined.shards.splice(index..=index, shard);
                reasons.push_str("; ");
                reasons.push_str(&reason);
            }
        }
    }
    all
}

/// Nothing but that shard and the version differs.
fn is_of_one_shard(record: &Record, wanted: &Record, index: usize) -> bool {
    let mut alike = record.next();
    alike.version = wanted.version;
    if let (Some(to), Some(from)) = (alike.shards.get_mut(index), wanted.shards.get(index)) {
        to.clone_from(from);
    }
    alike == *wanted
}
