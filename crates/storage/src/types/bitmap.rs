//! Bitmaps, as far as strings need them: a bitmap read as a string.
//!
//! A bitmap lies in segments of 1024 bytes, bit 0 of a byte being the lowest; a Redis string has bit 0 highest.

use super::CommandError;
use super::head::{Header, Metadata};
use super::kind::Type;
use super::strings::MAX_BYTES;
use crate::{At, Family, Read};

/// Bytes of a segment.
const SEGMENT_BYTES: usize = 1024;

/// The string a living bitmap stands for.
pub(super) fn to_string(
    read: &impl Read,
    at: &At<'_>,
    header: Header<'_>,
) -> Result<Vec<u8>, CommandError> {
    let metadata = Metadata::of(&header.of(Type::Bitmap)?)?;
    let size = usize::try_from(metadata.size).ok().filter(|size| *size <= MAX_BYTES);
    let size = size.ok_or(CommandError::TooLong)?;
    let mut string = vec![0; size];
    let mut sub_key = at.scope.sub_key_prefix(at.key, metadata.version);
    let prefix_length = sub_key.len();
    for (index, segment) in string.chunks_mut(SEGMENT_BYTES).enumerate() {
        sub_key.truncate(prefix_length);
        sub_key.push(itoa::Buffer::new().format(index * SEGMENT_BYTES).as_bytes());
        let Some(stored) = read.get(Family::Default, &sub_key)? else { continue };
        for (byte, stored) in segment.iter_mut().zip(stored.iter()) {
            *byte = stored.reverse_bits();
        }
    }
    Ok(string)
}
