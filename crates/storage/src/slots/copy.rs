//! Records of slots in the order in which they are copied: slot; metadata before the other
//! families; key. See `replication::slots::copy`.
//!
//! A place in that order is `u16 slot | u8 family's rank | key on disk`.

use replication::slots::marks::CURSOR_BYTES_MAX;
use replication::slots::{Cursor, Slots};

use super::layout::{STAGES, bounds, slot_of};
use crate::batch::{self, Record, Writer};
use crate::key::split_internal;
use crate::types::head::Header;
use crate::types::scripts;
use crate::{Direction, Error, Family, Snapshot};

const ACTION: &str = "read slots that move";

/// The place of a record; `None` for one that does not move.
pub fn position(family: Family, key: &[u8]) -> Option<Vec<u8>> {
    let slot = slot_of(key)?;
    let rank = STAGES.iter().position(|stage| *stage == family)?;
    Some(place(slot, rank, key))
}

fn place(slot: u16, rank: usize, key: &[u8]) -> Vec<u8> {
    let rank = u8::try_from(rank).unwrap_or(u8::MAX);
    [&slot.to_be_bytes()[..], &[rank], key].concat()
}

/// Slot, rank and key of a place.
fn split(place: &[u8]) -> Option<(u16, usize, &[u8])> {
    let (slot, rest) = place.split_first_chunk::<2>()?;
    let (rank, key) = rest.split_first()?;
    Some((u16::from_be_bytes(*slot), usize::from(*rank), key))
}

/// A part of the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Puts, as a batch; without any where nothing is left.
    pub records: Vec<u8>,
    /// How far the copy is with them.
    pub cursor: Cursor,
}

/// About how much of a copy is read at once. The thread that appends it keeps others from writing
/// meanwhile; with small records, their number decides for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// Bytes.
    pub bytes: usize,
    /// Records.
    pub records: usize,
}

/// Reads what lies above `from`, about as much as `most` says. Sub-keys without an owner of their
/// version are left out: nobody can see them. What has expired is not: the clock of another node
/// decides nothing (rule M15).
///
/// # Errors
/// I/O errors, a cursor that is none; [`Error::TooLarge`] where much more lies behind each other
/// than a chunk is to have, under keys of which no cursor can name one.
pub fn chunk(at: &Snapshot<'_>, slots: &Slots, from: &Cursor, most: Most) -> Result<Chunk, Error> {
    let (mut writer, mut records) = (Writer::new(Vec::new()), 0);
    let begin = match from {
        Cursor::Start => (0, 0, &[][..]),
        Cursor::At(place) => {
            split(place).ok_or_else(|| Error::corrupt(ACTION, "malformed cursor"))?
        }
        Cursor::End => return Ok(Chunk { records: Vec::new(), cursor: Cursor::End }),
    };
    let mut owners = Owners { at, last: Vec::new(), version: Owner::None };
    let mut long = Long::default();
    for slot in slots.iter().skip_while(|slot| *slot < begin.0) {
        let (lower, upper) = bounds(slot);
        let skipped = if slot == begin.0 { begin.1 } else { 0 };
        for (rank, family) in STAGES.into_iter().enumerate().skip(skipped) {
            let lower = match (slot, rank) == (begin.0, begin.1) {
                true => begin.2.max(&lower),
                false => &lower,
            };
            let mut cursor = at.walk(family, (lower, &upper), Direction::Forward)?;
            while let Some((key, value)) = cursor.next()? {
                let cut = long.before(key);
                if let Some(cut) = cut {
                    let cursor = Cursor::At(place(slot, rank, &cut));
                    return Ok(Chunk { records: std::mem::take(writer.finish()), cursor });
                }
                if family != Family::Metadata && !owners.have(key)? {
                    continue;
                }
                writer.put(family, &[key], &[value]);
                records += 1;
                if writer.len() < most.bytes && records < most.records {
                    continue;
                }
                if key.len() + 4 <= CURSOR_BYTES_MAX {
                    let next = [key, &[0]].concat();
                    let cursor = Cursor::At(place(slot, rank, &next));
                    return Ok(Chunk { records: std::mem::take(writer.finish()), cursor });
                }
                long.ends_with(key, writer.len())?;
            }
            if long.last.is_some() {
                let cursor = Cursor::At(place(slot, rank, &upper));
                return Ok(Chunk { records: std::mem::take(writer.finish()), cursor });
            }
        }
    }
    Ok(Chunk { records: std::mem::take(writer.finish()), cursor: Cursor::End })
}

/// The end of a chunk at a key that is too long for a cursor: where something shorter lies between
/// it and the next one, the chunk ends there.
#[derive(Default)]
struct Long {
    /// The newest record's key, where the chunk is as large as it should be.
    last: Option<Vec<u8>>,
    /// Length of the chunk when it first was.
    from: usize,
}

/// A chunk has no end among keys that begin alike for longer than a cursor is; so much of them is
/// read, and no more.
const ALIKE_BYTES_MAX: usize = 64 << 20;

impl Long {
    fn ends_with(&mut self, key: &[u8], length: usize) -> Result<(), Error> {
        if self.last.is_none() {
            self.from = length;
        }
        self.last = Some(key.to_vec());
        match length - self.from > ALIKE_BYTES_MAX {
            true => Err(Error::TooLarge { bytes: length, max: self.from + ALIKE_BYTES_MAX }),
            false => Ok(()),
        }
    }

    /// What lies above the newest record's key, and not above the next one.
    fn before(&self, next: &[u8]) -> Option<Vec<u8>> {
        let last = self.last.as_ref()?;
        let alike = last.iter().zip(next).take_while(|(a, b)| a == b).count();
        next.get(..=alike).filter(|cut| cut.len() + 3 <= CURSOR_BYTES_MAX).map(<[u8]>::to_vec)
    }
}

/// Looks up which version of a key lives.
struct Owners<'a, 's> {
    at: &'a Snapshot<'s>,
    /// The metadata key that was looked up last.
    last: Vec<u8>,
    version: Owner,
}

#[derive(Clone, Copy)]
enum Owner {
    /// No metadata, or a type without sub-keys.
    None,
    /// This version.
    Version(u64),
    /// Not decodable: in doubt, all sub-keys move.
    Unknown,
}

impl Owners<'_, '_> {
    /// Whether a sub-key belongs to a key that is there.
    fn have(&mut self, internal: &[u8]) -> Result<bool, Error> {
        let Some((prefix, key, version)) = split_internal(internal, true) else { return Ok(true) };
        let is_same = self.last.strip_prefix(prefix).is_some_and(|rest| rest == key);
        if !is_same {
            self.last = [prefix, key].concat();
            let found = self.at.find(Family::Metadata, &self.last)?;
            self.version = match found.as_deref().map(Header::decode) {
                None => Owner::None,
                Some(None) => Owner::Unknown,
                Some(Some(header)) if header.is_single() => Owner::None,
                Some(Some(header)) => match header.version_and_size() {
                    Some((version, _)) => Owner::Version(version),
                    None => Owner::Unknown,
                },
            };
        }
        Ok(match self.version {
            Owner::None => false,
            Owner::Version(current) => current == version,
            Owner::Unknown => true,
        })
    }
}

/// Adds to `out` what a batch of the log changes of these slots below the cursor. Ranges are cut to
/// what is copied. Says which scripts or functions the batch also keeps, which have no slot.
///
/// # Errors
/// Bytes that are no batch.
pub fn forward(
    bytes: &[u8],
    slots: &Slots,
    below: &Cursor,
    out: &mut Writer,
) -> Result<scripts::Kept, Error> {
    let mut kept = scripts::Kept::default();
    let is_copied = |family, key: &[u8]| {
        slot_of(key).is_some_and(|slot| slots.contains(slot))
            && position(family, key).is_some_and(|place| below.is_above(&place))
    };
    for record in batch::records(bytes) {
        match record? {
            Record::Put { family, key, value } if is_copied(family, key) => {
                out.put(family, &[key], &[value]);
            }
            Record::Delete { family, key } if is_copied(family, key) => out.delete(family, key),
            Record::DeleteRange { family, begin, end } => {
                cut_range(family, (begin, end), (slots, below), out);
            }
            Record::Put { family, key, value } => kept.note(family, key, value),
            Record::Delete { .. } | Record::LogData(_) => {}
        }
    }
    Ok(kept)
}

/// The parts of a range that lie in these slots below the cursor; neighbours become one.
fn cut_range(
    family: Family,
    (begin, end): (&[u8], &[u8]),
    (slots, below): (&Slots, &Cursor),
    out: &mut Writer,
) {
    let Some(rank) = STAGES.iter().position(|stage| *stage == family) else { return };
    let mut pending: Option<(Vec<u8>, Vec<u8>)> = None;
    for slot in slots.iter() {
        let (lower, upper) = bounds(slot);
        let copied_to = match below {
            Cursor::Start => return,
            Cursor::End => None,
            Cursor::At(place) => match split(place) {
                None => return,
                Some((at, at_rank, key)) if (at, at_rank) == (slot, rank) => Some(key),
                Some((at, at_rank, _)) if (at, at_rank) < (slot, rank) => continue,
                Some(_) => None,
            },
        };
        let from = begin.max(&lower);
        let to = end.min(&upper);
        let to = copied_to.map_or(to, |key| key.min(to));
        if from >= to {
            continue;
        }
        match &mut pending {
            Some((_, last)) if *last == from => *last = to.to_vec(),
            _ => {
                if let Some((from, to)) = pending.take() {
                    out.delete_range(family, &from, &to);
                }
                pending = Some((from.to_vec(), to.to_vec()));
            }
        }
    }
    if let Some((from, to)) = pending {
        out.delete_range(family, &from, &to);
    }
}

/// Adds to `out` the records of a giver.
///
/// # Errors
/// One of them belongs to other slots, or to no family of data; bytes that are no batch.
pub(super) fn take(bytes: &[u8], slots: &Slots, out: &mut Writer) -> Result<(), Error> {
    if bytes.is_empty() {
        return Ok(());
    }
    batch::parse(bytes)?;
    let foreign = || Error::corrupt("take records of a slot move", "a record of something else");
    let moves = |family, key: &[u8]| {
        STAGES.contains(&family) && slot_of(key).is_some_and(|slot| slots.contains(slot))
    };
    for record in batch::records(bytes) {
        match record? {
            Record::Put { family, key, value } if moves(family, key) => {
                out.put(family, &[key], &[value]);
            }
            Record::Delete { family, key } if moves(family, key) => out.delete(family, key),
            Record::DeleteRange { family, begin, end } => {
                let lies = slots.ranges().iter().any(|&(first, last)| {
                    *bounds(first).0 <= *begin && *end <= *bounds(last).1 && begin < end
                });
                if !lies || !STAGES.contains(&family) {
                    return Err(foreign());
                }
                out.delete_range(family, begin, end);
            }
            Record::LogData(_) => {}
            Record::Put { .. } | Record::Delete { .. } => return Err(foreign()),
        }
    }
    Ok(())
}
