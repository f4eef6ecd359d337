//! How far a copy is, for people: what has come, and about how much there is.

use ::replication::slots::{Cursor, MoveId, Slots};
use api::moves::Progress;
use storage::batch;

/// What a stream has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Copied {
    records: u64,
    bytes: u64,
    /// Slots that lay below the cursor before the first frame, and after the newest.
    below: Option<(u64, u64)>,
    /// Slots of the move.
    of_slots: u64,
    /// Frames after which the cursor was another one.
    parts: u64,
}

impl Copied {
    /// Nothing yet, by this stream; so many parts by those before it.
    pub(super) fn after(parts: u64) -> Self {
        Self { parts, ..Self::default() }
    }

    /// What changes as long as the copy advances.
    pub(super) fn parts(&self) -> u64 {
        self.parts
    }

    /// A frame was appended whose records came from between the cursors.
    pub(super) fn took(&mut self, slots: &Slots, (from, to): (&Cursor, &Cursor), records: &[u8]) {
        self.records += batch::header(records).map_or(0, |(_, count)| u64::from(count));
        self.bytes += records.len() as u64;
        self.parts += u64::from(from != to);
        self.of_slots = below(slots, &Cursor::End);
        let begin = self.below.map_or_else(|| below(slots, from), |(begin, _)| begin);
        self.below = Some((begin, below(slots, to)));
    }

    /// As if what is left had as many bytes a slot as what has come.
    pub(super) fn progress(&self, id: MoveId) -> Progress {
        let of_bytes = self.below.and_then(|(begin, now)| {
            let (left, done) = (self.of_slots.saturating_sub(now), now.saturating_sub(begin));
            let more = (u128::from(self.bytes) * u128::from(left)).checked_div(u128::from(done));
            let more = if left == 0 { Some(0) } else { more };
            more.and_then(|more| u64::try_from(more).ok()?.checked_add(self.bytes))
        });
        Progress { id, records: self.records, bytes: self.bytes, of_bytes }
    }
}

/// Slots that lie below a cursor as a whole. A place begins with its slot.
fn below(slots: &Slots, cursor: &Cursor) -> u64 {
    let at = match cursor {
        Cursor::Start => 0,
        Cursor::End => u32::from(u16::MAX) + 1,
        Cursor::At(place) => {
            let slot = place.first_chunk::<2>().map_or(0, |slot| u16::from_be_bytes(*slot));
            u32::from(slot)
        }
    };
    slots.iter().filter(|slot| u32::from(*slot) < at).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_estimated_from_what_has_come() {
        let slots: Slots = "0-9".parse().unwrap();
        let at = |slot: u16| Cursor::At([&slot.to_be_bytes()[..], b"\0k"].concat());
        let mut writer = batch::Writer::new(Vec::new());
        writer.put(storage::Family::Metadata, &[b"k"], &[b"v"]);
        let records = std::mem::take(writer.finish());
        let length = records.len() as u64;
        let mut copied = Copied::default();
        assert_eq!(copied.progress(MoveId(1)).of_bytes, None);
        copied.took(&slots, (&Cursor::Start, &at(0)), &records);
        assert_eq!(copied.progress(MoveId(1)).of_bytes, None, "not one slot yet");
        copied.took(&slots, (&at(0), &at(4)), &records);
        let of_bytes = Some(2 * length + 2 * length * 6 / 4);
        let expected = Progress { id: MoveId(1), records: 2, bytes: 2 * length, of_bytes };
        assert_eq!(copied.progress(MoveId(1)), expected);
        copied.took(&slots, (&at(4), &Cursor::End), &records);
        copied.took(&slots, (&Cursor::End, &Cursor::End), &[]);
        let progress = copied.progress(MoveId(1));
        assert_eq!((progress.records, progress.of_bytes), (3, Some(progress.bytes)));
        assert_eq!(copied.parts(), 3, "what clients write is no part");
        // Another process goes on from the middle.
        let mut copied = Copied::default();
        copied.took(&slots, (&at(5), &at(6)), &records);
        assert_eq!(copied.progress(MoveId(1)).of_bytes, Some(length + length * 4));
    }
}
