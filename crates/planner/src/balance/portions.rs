//! Moves of bounded size: each that is done frees the giver's disk, and what is begun anew is
//! little.

use api::moves::{Slots, Weights};

use super::{Given, joined};

/// What one move brings at most, bytes, unless a slot alone weighs more: 4 GiB.
pub const MOVE_BYTES: u64 = 4 << 30;

/// The same in moves of at most [`MOVE_BYTES`]; of more, where these would be more than `most`.
pub fn portions(all: &[Given], weights: &Weights, most: usize) -> Vec<Given> {
    let mut bytes = MOVE_BYTES;
    loop {
        let parts: Vec<Given> = all.iter().flat_map(|one| of(one, weights, bytes)).collect();
        if parts.len() <= most.max(all.len()) || bytes == u64::MAX {
            return parts;
        }
        bytes = bytes.saturating_mul(2);
    }
}

fn of(one: &Given, weights: &Weights, most: u64) -> Vec<Given> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0_u64);
    for slot in one.slots.iter() {
        let more = bytes.saturating_add(weights.of(slot));
        if more > most && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
            bytes = weights.of(slot);
        } else {
            bytes = more;
        }
        part.push(slot);
    }
    parts.push(part);
    // A part has no more ranges than the whole.
    let slots = parts.into_iter().filter_map(|part| Slots::new(&joined(part)).ok());
    slots.map(|slots| Given { slots, ..one.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShardId;

    fn shown(all: &[Given]) -> Vec<String> {
        all.iter().map(|one| one.slots.to_string()).collect()
    }

    #[test]
    fn a_move_is_cut_where_it_would_be_too_large() {
        let given =
            |slots: &str| Given { slots: slots.parse().unwrap(), from: ShardId(1), to: ShardId(2) };
        let all = [given("0-9,20-29"), given("100")];
        let mut weights = Weights::default();
        assert_eq!(portions(&all, &weights, 10), all, "nothing is known");
        for slot in 0..30 {
            weights.set(slot, 1 << 30);
        }
        weights.set(22, 5 << 30);
        let parts = portions(&all, &weights, 10);
        let expected = ["0-3", "4-7", "8-9,20-21", "22", "23-26", "27-29", "100"];
        assert_eq!(shown(&parts), expected);
        assert!(parts.iter().all(|part| (part.from, part.to) == (ShardId(1), ShardId(2))));
        let few = portions(&all, &weights, 4);
        assert_eq!(shown(&few), ["0-9,20-21", "22-29", "100"]);
        assert_eq!(portions(&all, &weights, 0), all, "no more than were asked for");
    }
}
