//! Bits of a key: those of a bitmap, and those of a string.
//!
//! A bitmap lies in segments of 1024 bytes, each under the decimal number of its first byte. In a
//! segment bit 0 of a byte is the lowest one, in a string the highest: GET turns every byte around.
//! A segment that is not there is zeros, and so is what a segment lacks at its end. The size is the
//! number of the highest byte ever written, and one more; it never shrinks.
//!
//! A key that is made anew by a bit command is a bitmap; a string stays one. Batches are those of
//! Kvrocks: log data `6` and the command's number, the segments that change, and the metadata last,
//! if the size grew. One deliberate difference: Kvrocks' BITFIELD takes the highest bit of a stored
//! byte for its first one, and contradicts GETBIT and GET there. Here all commands see the same
//! bits, as in Redis.
//!
//! Commands that look at more than one bit take a [`crate::Snapshot`].

use std::borrow::Cow;
use std::ops::Range;

use super::CommandError;
use super::bounds::SubRange;
use super::head::Header;
use super::kind::Type;
use super::living::Living;
use super::object::{Kind, Object};
use super::strings::payload::{Found, MAX_BYTES, Payload};
use crate::{At, Direction, Error, Family, Read, Value};

mod combine;
mod edit;
mod field;
mod search;

pub use combine::{Operation, combine};
pub use edit::set;
pub use field::{Action, Encoding, Field, Overflow, edit_fields, read_fields};
pub use search::{Span, Unit};

/// The type.
#[derive(Debug)]
pub enum Bitmap {}

impl Kind for Bitmap {
    const TYPE: Type = Type::Bitmap;
    type Tail = ();
}

/// Bits that a key may have.
pub const MAX_BITS: u64 = 8 * MAX_BYTES as u64;

/// Where segments lie.
const SEGMENTS: Family = Family::Default;
/// Bytes of a segment.
const SEGMENT_BYTES: usize = 1024;
/// Bits of a segment.
const SEGMENT_BITS: u64 = 8 * SEGMENT_BYTES as u64;
/// So many segments are looked up one by one; of more, those that are there are walked.
const LOOKS_MAX: u64 = 128;

/// The bits of a key that is there.
#[derive(Debug)]
pub struct Bits<'v>(Body<'v>);

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "lives on the stack, and is seldom the small one")]
enum Body<'v> {
    Text(Payload<'v>),
    Segments(Object<Bitmap>),
}

impl<'v> Bits<'v> {
    /// Those of a key; `None` if there is none.
    ///
    /// # Errors
    /// Wrong type.
    pub fn find(read: &'v impl Read, at: &At<'_>) -> Result<Option<Self>, CommandError> {
        at.living(read)?.map(|living| Self::of(at, living)).transpose()
    }

    fn of(at: &At<'_>, living: Living<'v>) -> Result<Self, CommandError> {
        Ok(Self(match living.header().kind() {
            Some(Type::Bitmap) => Body::Segments(Object::open(at, living.header())?),
            _ => Body::Text(Found::of(living)?.payload),
        }))
    }

    /// How many bytes they fill.
    pub fn len_bytes(&self) -> u64 {
        match &self.0 {
            Body::Text(payload) => payload.len() as u64,
            Body::Segments(object) => object.size,
        }
    }

    /// GETBIT.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn get(&self, read: &impl Read, bit: u64) -> Result<bool, CommandError> {
        let (index, within) = (bit / SEGMENT_BITS, bit % SEGMENT_BITS);
        let Some(segment) = self.segment(read, index)? else { return Ok(false) };
        let byte = usize::try_from(within / 8).ok().and_then(|place| segment.get(place).copied());
        Ok(byte.unwrap_or(0) & (0x80 >> (within % 8)) != 0)
    }

    /// How many segments they reach over.
    fn segments(&self) -> u64 {
        self.len_bytes().div_ceil(SEGMENT_BYTES as u64)
    }

    /// The bytes of a segment in the order of strings; it may be shorter than it is long, and
    /// absent. What lies behind the size does not count.
    fn segment(&self, read: &impl Read, index: u64) -> Result<Option<Cow<'_, [u8]>>, CommandError> {
        match &self.0 {
            Body::Text(payload) => Ok(part(payload, index).map(Cow::Borrowed)),
            Body::Segments(object) => {
                let stored = stored(read, object, index)?;
                Ok(stored.map(|stored| Cow::Owned(turned(clipped(&stored, object.size, index)))))
            }
        }
    }

    /// Calls `visit` with each segment of a range that is there, as [`Self::segment`] gives them.
    /// Their order is open.
    fn for_each(
        &self,
        read: &impl Read,
        range: Range<u64>,
        mut visit: impl FnMut(u64, &[u8]),
    ) -> Result<(), CommandError> {
        let is_wide = range.end.saturating_sub(range.start) > LOOKS_MAX;
        if let (Body::Segments(object), true) = (&self.0, is_wide) {
            return walk(read, object, |index, stored| {
                if range.contains(&index) {
                    visit(index, &turned(clipped(stored, object.size, index)));
                }
            });
        }
        for index in range {
            if let Some(segment) = self.segment(read, index)? {
                visit(index, &segment);
            }
        }
        Ok(())
    }
}

/// The name of a segment under its key.
fn sub_key(index: u64) -> String {
    index.saturating_mul(SEGMENT_BYTES as u64).to_string()
}

/// A segment as it is stored.
fn stored<'r>(
    read: &'r impl Read,
    object: &Object<Bitmap>,
    index: u64,
) -> Result<Option<Value<'r>>, Error> {
    object.element(read, SEGMENTS, sub_key(index).as_bytes())
}

/// Calls `visit` with the number and the bytes of each segment that is stored, in the order of
/// their names.
fn walk(
    read: &impl Read,
    object: &Object<Bitmap>,
    mut visit: impl FnMut(u64, &[u8]),
) -> Result<(), CommandError> {
    let mut segments = object.elements(read, SEGMENTS, &SubRange::all(), Direction::Forward)?;
    while let Some((name, stored)) = segments.next()? {
        let offset = std::str::from_utf8(name).ok().and_then(|name| name.parse::<u64>().ok());
        let offset = offset.ok_or_else(|| CommandError::corrupt("a segment has no number"))?;
        visit(offset / SEGMENT_BYTES as u64, stored);
    }
    Ok(())
}

/// What of a stored segment lies before the end of a bitmap.
fn clipped(stored: &[u8], size: u64, index: u64) -> &[u8] {
    let left = size.saturating_sub(index.saturating_mul(SEGMENT_BYTES as u64));
    let left = usize::try_from(left).unwrap_or(usize::MAX).min(SEGMENT_BYTES);
    stored.get(..left).unwrap_or(stored)
}

/// The part of a string that is a segment's; `None` behind its end.
fn part(text: &[u8], index: u64) -> Option<&[u8]> {
    let start = usize::try_from(index).ok()?.checked_mul(SEGMENT_BYTES)?;
    let end = text.len().min(start.checked_add(SEGMENT_BYTES)?);
    text.get(start..end).filter(|part| !part.is_empty())
}

/// Bytes of a segment as a string has them, and the other way round.
fn turned(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte.reverse_bits()).collect()
}

/// Whether a living bitmap fills no more bytes than `max`.
///
/// # Errors
/// [`CommandError::BitmapTooLong`].
pub(super) fn check_length(at: &At<'_>, header: Header<'_>, max: u64) -> Result<(), CommandError> {
    let bits = Bits(Body::Segments(Object::open(at, header)?));
    if bits.len_bytes() > max { Err(CommandError::BitmapTooLong) } else { Ok(()) }
}

/// The part of a living bitmap's string that `part` finds, given how long that is.
///
/// # Errors
/// [`CommandError::TooLong`] above [`MAX_BYTES`].
pub(super) fn to_string(
    read: &impl Read,
    at: &At<'_>,
    header: Header<'_>,
    part: impl FnOnce(usize) -> Range<usize>,
) -> Result<Vec<u8>, CommandError> {
    let bits = Bits(Body::Segments(Object::open(at, header)?));
    let size = usize::try_from(bits.len_bytes()).ok().filter(|size| *size <= MAX_BYTES);
    let part = part(size.ok_or(CommandError::TooLong)?);
    let mut string = vec![0; part.len()];
    let segments = part.start / SEGMENT_BYTES..part.end.div_ceil(SEGMENT_BYTES);
    bits.for_each(read, segments.start as u64..segments.end as u64, |index, segment| {
        let begin = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(SEGMENT_BYTES);
        let segment = segment.get(part.start.saturating_sub(begin)..).unwrap_or_default();
        let place = string.iter_mut().skip(begin.saturating_sub(part.start));
        place.zip(segment).for_each(|(to, from)| *to = *from);
    })?;
    Ok(string)
}

#[cfg(test)]
mod tests;
