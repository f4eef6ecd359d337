//! Which slots a foreign batch writes to.

use std::collections::BTreeSet;

use super::layout::{STAGES, bounds, slot_of};
use crate::Error;
use crate::batch::{self, Record};

/// The slots of the records of a batch, in every family of data; of a range that is deleted all
/// that it goes through. Records that lie in no slot name none.
///
/// # Errors
/// Bytes that are no batch.
pub fn named(bytes: &[u8]) -> Result<BTreeSet<u16>, Error> {
    let mut slots = BTreeSet::new();
    let mut newest = None;
    for record in batch::records(bytes) {
        match record? {
            Record::Put { family, key, .. } | Record::Delete { family, key }
                if STAGES.contains(&family) =>
            {
                // Mostly the one of the record before.
                let slot = slot_of(key);
                if slot != newest {
                    slots.extend(slot);
                    newest = slot;
                }
            }
            Record::DeleteRange { family, begin, end } if STAGES.contains(&family) => {
                let from = first_slot(begin)..topology::SLOT_COUNT;
                slots.extend(from.take_while(|slot| &bounds(*slot).0[..] < end));
            }
            _ => {}
        }
    }
    Ok(slots)
}

/// The first slot of which a key may lie at the place or behind it; one too many where none does.
fn first_slot(place: &[u8]) -> u16 {
    let (mut first, mut end) = (0, topology::SLOT_COUNT);
    while first < end {
        let middle = first + (end - first) / 2;
        match &bounds(middle).1[..] <= place {
            true => first = middle + 1,
            false => end = middle,
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Family;
    use crate::batch::Writer;

    #[test]
    fn a_batch_names_the_slots_of_its_records_and_of_what_it_deletes() {
        let key = |slot: u16, rest: &[u8]| [&bounds(slot).0[..], rest].concat();
        let mut writer = Writer::new(Vec::new());
        writer.put(Family::Metadata, &[&key(7, b"a")], &[b"v"]);
        writer.put(Family::Default, &[&key(7, b"a1")], &[b"v"]);
        writer.put(Family::Stream, &[&key(16_383, b"x")], &[b"v"]);
        writer.put(Family::Propagate, &[&key(9, b"no slot's")], &[b"v"]);
        writer.delete_range(Family::Metadata, &key(100, b"b"), &key(102, b""));
        let bytes = writer.finish().to_vec();
        assert_eq!(Vec::from_iter(named(&bytes).unwrap()), [7, 100, 101, 16_383]);
        assert!(named(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn a_range_names_what_it_goes_through_wherever_it_begins_and_ends() {
        let of = |begin: &[u8], end: &[u8]| {
            let mut writer = Writer::new(Vec::new());
            writer.delete_range(Family::Metadata, begin, end);
            Vec::from_iter(named(writer.finish()).unwrap())
        };
        let (lower, upper) = (|slot| bounds(slot).0, |slot| bounds(slot).1);
        assert_eq!(of(&lower(7), &upper(7)), [7]);
        assert_eq!(of(b"", &upper(1)), [0, 1]);
        // In no slot, behind all that is in 0xff.
        let at = lower(0x100);
        let between = &at[..at.len() - 1];
        assert_eq!(of(between, &upper(0x100)), [0xff, 0x100]);
        assert_eq!(of(&lower(0xfe), between), [0xfe, 0xff]);
        assert_eq!(of(&lower(16_382), b"\xff"), [16_382, 16_383]);
        assert!(of(&upper(16_383), b"\xff").is_empty());
        assert_eq!(of(b"", b"\xff").len(), usize::from(topology::SLOT_COUNT));
    }
}
