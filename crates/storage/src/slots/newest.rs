//! Which mark is the newest of each slot: every command asks, also where there have been hundreds
//! of moves.

use std::sync::Arc;

use replication::slots::{MoveId, Slots, State, Table};
use topology::SLOT_COUNT;

use super::layout::joined;

/// By slot; without any mark nothing is kept. Shared, since marks are put with every part of a
/// copy, and few of them say something new of a slot.
#[derive(Debug, Clone, Default)]
pub(super) struct Newest(Arc<Vec<Option<MoveId>>>);

impl Newest {
    /// As the table says it.
    pub(super) fn new(table: &Table) -> Self {
        let mut newest = Self::default();
        table.iter().for_each(|mark| newest.add(mark.id, &mark.slots));
        newest
    }

    /// A mark of these slots was put, and no other ones had its number before.
    pub(super) fn add(&mut self, id: MoveId, slots: &Slots) {
        let all = Arc::make_mut(&mut self.0);
        all.resize(usize::from(SLOT_COUNT), None);
        for slot in slots.iter() {
            if let Some(newest) = all.get_mut(usize::from(slot)) {
                *newest = Some(id).max(*newest);
            }
        }
    }

    /// The move whose mark is the newest one of a slot.
    pub(super) fn of(&self, slot: u16) -> Option<MoveId> {
        self.0.get(usize::from(slot)).copied().flatten()
    }

    /// Slots whose newest mark says that they are not this shard's, as ranges in order.
    pub(super) fn foreign(&self, table: &Table) -> Vec<(u16, u16)> {
        // Neighbours mostly have the same one.
        let mut last = (None, false);
        let is_foreign = |slot: &u16| {
            let id = self.of(*slot);
            if last.0 != id {
                let mark = id.and_then(|id| table.of(id));
                last = (id, mark.is_some_and(|mark| mark.state != State::Held));
            }
            last.1
        };
        joined((0..SLOT_COUNT).filter(is_foreign))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use replication::slots::{Cursor, Mark};

    use super::super::Marks;

    fn state(number: u8) -> super::State {
        match number {
            0 => super::State::Held,
            1 => super::State::Gone { is_empty: false },
            _ => super::State::Staged { at: None, cursor: Cursor::Start },
        }
    }

    proptest! {
        /// In whatever order they come, and whatever slots a number had before.
        #[test]
        fn each_slot_has_the_newest_mark_of_the_table(
            puts in prop::collection::vec((1_u64..9, 0_u16..30, 1_u16..12, 0_u8..3), 0..30),
        ) {
            let mut marks = Marks::default();
            prop_assert!(marks.newest(3).is_none());
            for (number, (id, first, count, what)) in (1..).zip(puts) {
                let slots = super::Slots::new(&[(first, first + count), (16_383, 16_383)]).unwrap();
                let mark =
                    Mark { id: super::MoveId(id), slots, version: 7, state: state(what) };
                marks.put(mark, number);
                let mut foreign = Vec::new();
                for slot in (0..60).chain([16_383]) {
                    let newest = marks.table().newest(slot);
                    prop_assert_eq!(marks.newest(slot), newest);
                    for is_given in [false, true] {
                        prop_assert_eq!(
                            marks.serves(slot, is_given, 6),
                            marks.table().serves(slot, is_given, 6)
                        );
                    }
                    if newest.is_some_and(|mark| mark.state != super::State::Held) {
                        foreign.push(slot);
                    }
                }
                let found: Vec<u16> =
                    marks.foreign().iter().flat_map(|range| range.0..=range.1).collect();
                prop_assert_eq!(found, foreign);
            }
        }
    }
}
