//! Which slots a foreign batch writes to.

use std::collections::BTreeSet;

use super::{STAGES, bounds, slot_of};
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
                slots.extend((0..topology::SLOT_COUNT).filter(|slot| {
                    let (lower, upper) = bounds(*slot);
                    begin < &upper[..] && &lower[..] < end
                }));
            }
            _ => {}
        }
    }
    Ok(slots)
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
}
