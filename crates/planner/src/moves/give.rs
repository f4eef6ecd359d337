//! The slots change their owner.

use api::moves::Slots;

use crate::{Record, queue::Move};

/// The ranges without the slots, or with them: ascending, and those that touch are one.
pub(super) fn ranges(ranges: &[(u16, u16)], slots: &Slots, is_added: bool) -> Vec<(u16, u16)> {
    let mut all: Vec<u16> = ranges.iter().flat_map(|&(first, last)| first..=last).collect();
    match is_added {
        true => all.extend(slots.iter()),
        false => all.retain(|slot| !slots.contains(*slot)),
    }
    all.sort_unstable();
    let mut joined: Vec<(u16, u16)> = Vec::new();
    for slot in all {
        match joined.last_mut() {
            Some((_, last)) if *last + 1 == slot => *last = slot,
            _ => joined.push((slot, slot)),
        }
    }
    joined
}

/// The owner of the slots changes: the one compare-and-swap by which it does (M1).
pub(super) fn give(record: &mut Record, one: &Move) {
    for (id, is_added) in [(one.from, false), (one.to, true)] {
        let shard = record.place_of(id).and_then(|place| record.shards.get_mut(place));
        if let Some(shard) = shard {
            shard.slot_ranges = ranges(&shard.slot_ranges, &one.slots, is_added);
        }
    }
    record.version += 1;
}
