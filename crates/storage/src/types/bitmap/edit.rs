//! Bytes of a key under change: SETBIT, and what BITFIELD stands on.

use std::collections::BTreeMap;

use super::{Bitmap, SEGMENT_BYTES, SEGMENTS, part, stored, sub_key};
use crate::types::head::Prefix;
use crate::types::kind::Type;
use crate::types::living::Living;
use crate::types::object::{IfEmpty, Object};
use crate::types::strings::payload::{Found, MAX_BYTES, Payload, put};
use crate::types::{CommandError, log};
use crate::{At, Read, Txn};

/// SETBIT's number in log data.
const SETBIT: &[u8] = b"9";

/// The bytes of a key as a string has them. What is asked for is kept, so that it is read once.
#[expect(clippy::large_enum_variant, reason = "lives on the stack, and is seldom the small one")]
pub(super) enum Editor<'v> {
    Text(Text<'v>),
    Segments(Segments),
}

/// See [`Editor`].
pub(super) struct Text<'v> {
    stored: Payload<'v>,
    prefix: Prefix,
    /// All of it, once it changes.
    edited: Option<Vec<u8>>,
}

/// See [`Editor`].
pub(super) struct Segments {
    object: Object<Bitmap>,
    size: u64,
    kept: BTreeMap<u64, Segment>,
}

/// A segment as it is stored.
#[derive(Default)]
struct Segment {
    bytes: Vec<u8>,
    is_changed: bool,
}

impl Segment {
    /// Makes it so long at least, by the steps in which Kvrocks lets segments grow.
    fn grow(&mut self, least: usize) {
        let len = self.bytes.len();
        if least > len {
            let doubled = len.saturating_mul(2).min(SEGMENT_BYTES);
            self.bytes.resize(if least > len * 2 { least } else { doubled }, 0);
            self.is_changed = true;
        }
    }
}

impl<'v> Editor<'v> {
    /// A key that is not there is a bitmap.
    pub(super) fn of(at: &At<'_>, living: Option<Living<'v>>) -> Result<Self, CommandError> {
        let object = match living {
            Some(living) if living.header().kind() == Some(Type::Bitmap) => {
                Object::open(at, living.header())?
            }
            Some(living) => {
                let Found { payload, prefix, .. } = Found::of(living)?;
                return Ok(Self::Text(Text { stored: payload, prefix, edited: None }));
            }
            None => Object::new(at),
        };
        Ok(Self::Segments(Segments { size: object.size, object, kept: BTreeMap::new() }))
    }

    /// A byte; 0 behind the end.
    pub(super) fn byte(&mut self, read: &impl Read, at: u64) -> Result<u8, CommandError> {
        let (index, place) = (at / SEGMENT_BYTES as u64, at as usize % SEGMENT_BYTES);
        match self {
            Self::Text(text) => {
                let bytes = text.edited.as_deref().unwrap_or(&text.stored);
                Ok(part(bytes, index).and_then(|part| part.get(place)).copied().unwrap_or(0))
            }
            Self::Segments(segments) => {
                let segment = segments.segment(read, index)?;
                Ok(segment.bytes.get(place).map_or(0, |byte| byte.reverse_bits()))
            }
        }
    }

    /// Sets a byte. It lies before [`Self::grow`]'s end.
    pub(super) fn set_byte(
        &mut self,
        read: &impl Read,
        at: u64,
        value: u8,
    ) -> Result<(), CommandError> {
        if let Self::Segments(segments) = self {
            let place = at as usize % SEGMENT_BYTES;
            let segment = segments.segment(read, at / SEGMENT_BYTES as u64)?;
            segment.grow(place + 1);
            if let Some(byte) = segment.bytes.get_mut(place) {
                segment.is_changed |= *byte != value.reverse_bits();
                *byte = value.reverse_bits();
            }
            return Ok(());
        }
        if self.byte(read, at)? == value {
            return Ok(());
        }
        if let (Self::Text(text), Ok(at)) = (self, usize::try_from(at)) {
            let bytes = text.edited.get_or_insert_with(|| text.stored.to_vec());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        Ok(())
    }

    /// Makes the whole so many bytes long at least.
    ///
    /// # Errors
    /// [`CommandError::TooLong`].
    pub(super) fn grow(&mut self, len: u64) -> Result<(), CommandError> {
        let length = usize::try_from(len).ok().filter(|len| *len <= MAX_BYTES);
        let length = length.ok_or(CommandError::TooLong)?;
        match self {
            Self::Text(text) => {
                if text.edited.as_ref().map_or(text.stored.len(), Vec::len) < length {
                    let bytes = text.edited.get_or_insert_with(|| text.stored.to_vec());
                    bytes.resize(length, 0);
                }
            }
            Self::Segments(segments) => segments.size = segments.size.max(len),
        }
        Ok(())
    }

    /// Writes what has changed; with these words behind the type's number, if it is a bitmap.
    pub(super) fn store(self, txn: &mut Txn<'_>, at: &At<'_>, words: &[&[u8]]) {
        let Segments { mut object, size, kept } = match self {
            Self::Text(Text { prefix, edited, .. }) => {
                if let Some(bytes) = edited {
                    put(txn, at, &prefix, &[&bytes]);
                }
                return;
            }
            Self::Segments(segments) => segments,
        };
        txn.log(&log::words(Type::Bitmap, words));
        for (index, segment) in kept.iter().filter(|(_, segment)| segment.is_changed) {
            object.put(txn, SEGMENTS, &[sub_key(*index).as_bytes()], &[&segment.bytes]);
        }
        if object.size != size {
            object.size = size;
            object.store(txn, IfEmpty::Keep);
        }
    }
}

impl Segments {
    fn segment(&mut self, read: &impl Read, index: u64) -> Result<&mut Segment, CommandError> {
        use std::collections::btree_map::Entry;
        match self.kept.entry(index) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let mut segment = Segment::default();
                // One that is new has none.
                if self.object.size > 0
                    && let Some(stored) = stored(read, &self.object, index)?
                {
                    segment.bytes = stored.to_vec();
                    segment.bytes.truncate(SEGMENT_BYTES);
                }
                Ok(entry.insert(segment))
            }
        }
    }
}

/// SETBIT. Returns what the bit was.
///
/// # Errors
/// Wrong type; [`CommandError::TooLong`] from [`super::MAX_BITS`] on.
pub fn set(txn: &mut Txn<'_>, at: &At<'_>, bit: u64, is_one: bool) -> Result<bool, CommandError> {
    let mut editor = Editor::of(at, at.load(txn)?)?;
    editor.grow(bit / 8 + 1)?;
    let (mask, old) = (0x80_u8 >> (bit % 8), editor.byte(txn, bit / 8)?);
    editor.set_byte(txn, bit / 8, if is_one { old | mask } else { old & !mask })?;
    editor.store(txn, at, &[SETBIT, itoa::Buffer::new().format(bit).as_bytes()]);
    Ok(old & mask != 0)
}
