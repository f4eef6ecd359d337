//! Which slots compaction filters do not judge yet, or not by an older view, since records of them
//! were brought from elsewhere.

use std::collections::BTreeMap;

use replication::slots::{Mark, State};

use super::layout::slot_of;

/// For each slot the first sequence of the newest copy of it, from when on compaction filters may
/// judge what they see of it (rule M13): a copy brings back versions that an earlier view knows as
/// dead.
#[derive(Debug, Default)]
pub(crate) struct Barriers(parking_lot::RwLock<BTreeMap<u16, u64>>);

impl Barriers {
    /// To be called before a batch is written that begins at `first`.
    pub(crate) fn note<'m>(&self, marks: impl Iterator<Item = &'m Mark>, first: u64) {
        for mark in marks.filter(|mark| matches!(mark.state, State::Staged { at: None, .. })) {
            let mut barriers = self.0.write();
            for slot in mark.slots.iter() {
                barriers.insert(slot, first);
            }
        }
    }

    /// Whether a view at `sequence` knows nothing of the slot of this key that could mislead.
    pub(crate) fn allow(&self, key: &[u8], sequence: u64) -> bool {
        let barriers = self.0.read();
        if barriers.is_empty() {
            return true;
        }
        let slot = slot_of(key);
        slot.and_then(|slot| barriers.get(&slot)).is_none_or(|first| *first <= sequence)
    }

    /// Whether records of the slot of this key are coming just now, in whatever order.
    pub(crate) fn are_held(&self, key: &[u8]) -> bool {
        !self.allow(key, u64::MAX - 1)
    }

    pub(super) fn set(&self, slots: topology::SlotRange, first: u64) {
        let mut barriers = self.0.write();
        for slot in slots.slots() {
            barriers.insert(slot.number(), first);
        }
    }
}
