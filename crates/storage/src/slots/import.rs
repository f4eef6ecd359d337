//! Slots that Kvrocks' own migration brings: by ordinary writes, without marks.

use topology::SlotRange;

use super::empty;
use crate::batch::Writer;
use crate::{Error, Store};

impl Store {
    /// Deletes all records of these slots, sub-keys too: the same versions may come back. Until
    /// [`Store::slots_have_come`] no compaction judges what is written there.
    ///
    /// # Errors
    /// I/O errors.
    pub fn empty_slots(&self, slots: SlotRange) -> Result<u64, Error> {
        let inner = self.inner();
        inner.filters.barriers().set(slots, u64::MAX);
        let mut writer = Writer::new(Vec::new());
        empty(&mut writer, (slots.first().number(), slots.last().number()));
        self.append(writer.finish())
    }

    /// Nothing of these slots is on its way any more: what a compaction knows from now on counts.
    pub fn slots_have_come(&self, slots: SlotRange) {
        let next = self.latest_sequence().saturating_add(1);
        self.inner().filters.barriers().set(slots, next);
    }
}
