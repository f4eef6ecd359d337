//! One change of the record for all shards that are ready for theirs (rule O8): of a rack with
//! fifty masters each would else wait for the swaps of those before it.
//!
//! What is joined is what would have come one after the other: each change is of one shard, and was
//! decided by nothing that the others change.

use crate::Record;
use crate::verdict::Verdict;

/// What the verdicts want, and why. Nothing is copied where they want nothing.
pub(crate) fn of(record: &Record, verdicts: &mut [Verdict]) -> Option<(Record, String)> {
    let mut all: Option<(Record, String)> = None;
    for (index, verdict) in verdicts.iter_mut().enumerate() {
        let Some((draft, reason)) = verdict.swap.take() else { continue };
        let (joined, reasons) = all.get_or_insert_with(|| (record.next(), String::new()));
        // One topology has them all.
        joined.version = joined.version.max(draft.version);
        joined.shards[index] = draft.shard;
        if !reasons.is_empty() {
            reasons.push_str("; ");
        }
        reasons.push_str(&reason);
    }
    all
}
