//! One change of the record for all shards that are ready for theirs (rule O8): of a rack with
//! fifty masters each would else wait for the swaps of those before it.
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
    // All fields are named, so that a new one is decided about. Nothing is copied, because it is
    // asked of each shard of a thousand.
    let Record {
        namespace,
        name,
        revision,
        tag,
        version: _,
        shards,
        balancers,
        longest_lease_ms,
        allow_unfenced,
        password,
        commit_mode,
        min_in_sync,
        max_lag,
        term,
        cluster_id,
        paused,
        moves,
        instead_of,
    } = record;
    let alike = |place: usize| place == index || shards[place] == wanted.shards[place];
    wanted.revision == revision + 1
        && *namespace == wanted.namespace
        && *name == wanted.name
        && *tag == wanted.tag
        && shards.len() == wanted.shards.len()
        && (0..shards.len()).all(alike)
        && *balancers == wanted.balancers
        && *longest_lease_ms == wanted.longest_lease_ms
        && *allow_unfenced == wanted.allow_unfenced
        && *password == wanted.password
        && *commit_mode == wanted.commit_mode
        && *min_in_sync == wanted.min_in_sync
        && *max_lag == wanted.max_lag
        && *term == wanted.term
        && *cluster_id == wanted.cluster_id
        && *paused == wanted.paused
        && *moves == wanted.moves
        && *instead_of == wanted.instead_of
}
