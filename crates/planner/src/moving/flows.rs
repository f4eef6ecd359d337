//! What masters say of the streams of a move, for people.
//!
//! Nothing is ordered or decided by it.

use api::moves::{Brake, Flow};

use crate::context::Context;
use crate::moves::{A_SHORT_STOP, Move, Moved};
use crate::{Observed, Record, ShardId};

/// What the master of a shard says of a stream of the move.
pub(super) fn flow(
    record: &Record,
    observed: &Observed,
    one: &Move,
    (of, is_taken): (ShardId, bool),
) -> Option<Flow> {
    let master = record.shards[record.place_of(of)?].master()?;
    let reply = &observed.node(&master.id).seen.as_ref()?.reply;
    let mut flows = reply.flows.iter().flatten();
    flows.find(|flow| flow.id == one.id && flow.is_taken == is_taken).copied()
}

/// What keeps the copy of a move from its rate just now, as its masters say.
pub fn slowed_by(record: &Record, observed: &Observed, one: &Move) -> Option<String> {
    let brake = |of, is_taken, side: &str| {
        let brake = flow(record, observed, one, (of, is_taken))?.brake?;
        Some(format!("{} at the {side}", brake.text()))
    };
    let both = [brake(one.from, false, "giver"), brake(one.to, true, "taker")];
    let both: Vec<String> = both.into_iter().flatten().collect();
    (!both.is_empty()).then(|| both.join(", "))
}

/// Why a move does not advance, behind what it waits for: what stops its copy altogether, or, where
/// the taker does not keep up, both rates (rule M10).
///
/// Numbers are rounded: an alarm whose words change all the time is one that is told all the time.
pub(super) fn why(cx: &Context<'_>, one: &Move, sign: &Moved) -> Option<String> {
    let of = |of, is_taken| flow(cx.record, cx.observed, one, (of, is_taken));
    let (giver, taker) = (of(one.from, false), of(one.to, true));
    if sign.waits_for == A_SHORT_STOP {
        let giver = giver.filter(|flow| flow.written_per_s > 0)?;
        return Some(format!(
            ", while the giver's log grows by over {} a second and the taker keeps up with over {}",
            about(giver.written_per_s),
            about(giver.taken_per_s)
        ));
    }
    let stopped = |flow: Option<Flow>, side: &str| {
        let brake = flow.filter(|flow| flow.bytes_per_s == 0)?.brake?;
        let is_lasting =
            matches!(brake, Brake::Engine | Brake::Room | Brake::Paused | Brake::Replica);
        is_lasting.then(|| format!(", which is held up by {} at the {side}", brake.text()))
    };
    stopped(taker, "taker").or_else(|| stopped(giver, "giver"))
}

/// The largest of 1, 2, 5, 10, 20 … kB that is not more.
fn about(bytes: u64) -> String {
    let kb = bytes / 1_000;
    let mut step = 1_u64;
    while step <= kb / 10 {
        step *= 10;
    }
    let digit = match kb / step {
        0 => return "nothing".to_owned(),
        1 => 1,
        2..=4 => 2,
        _ => 5,
    };
    let kb = digit * step;
    if kb >= 1_000 { format!("{} MB", kb / 1_000) } else { format!("{kb} kB") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_few() {
        for (bytes, text) in [
            (0, "nothing"),
            (999, "nothing"),
            (1_000, "1 kB"),
            (4_999, "2 kB"),
            (9_999, "5 kB"),
            (10_000, "10 kB"),
            (612_345, "500 kB"),
            (1_999_999, "1 MB"),
            (48_000_000, "20 MB"),
            (u64::MAX, "10000000000000 MB"),
        ] {
            assert_eq!(about(bytes), text, "{bytes}");
        }
    }
}
