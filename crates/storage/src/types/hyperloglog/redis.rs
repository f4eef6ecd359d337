//! HyperLogLogs as Redis keeps them: in a string, dense or sparse, behind a head of sixteen bytes.

use super::sketch::{REGISTERS, SEGMENT_BYTES, SEGMENTS, raise};
use super::{FAMILY, HyperLogLog, checked, name, write};
use crate::types::CommandError;
use crate::types::object::Object;
use crate::{At, Read, Txn};

const HEAD: usize = 16;
/// A dense one: no estimate is known, which its highest bit says.
const DENSE: &[u8; HEAD] = b"HYLL\0\0\0\0\0\0\0\0\0\0\0\x80";

/// The registers of all segments, as they are stored.
pub type Segments = Vec<[u8; SEGMENT_BYTES]>;

/// The registers in a string; `None` if no HyperLogLog is in it.
pub fn of_redis(text: &[u8]) -> Option<Segments> {
    let (head, registers) = text.split_first_chunk::<HEAD>()?;
    let (magic, rest) = head.split_first_chunk::<4>()?;
    if magic != b"HYLL" {
        return None;
    }
    match rest.first()? {
        0 => {
            let (segments, rest) = registers.as_chunks::<SEGMENT_BYTES>();
            (segments.len() == SEGMENTS && rest.is_empty()).then(|| segments.to_vec())
        }
        1 => sparse(registers),
        _ => None,
    }
}

/// Runs of zeros, and of small values.
fn sparse(mut runs: &[u8]) -> Option<Segments> {
    let mut segments = vec![[0; SEGMENT_BYTES]; SEGMENTS];
    let mut at = 0;
    while let Some((&code, rest)) = runs.split_first() {
        runs = rest;
        let (value, length) = match code {
            0x00..0x40 => (0, usize::from(code) + 1),
            0x40..0x80 => {
                let (&low, rest) = runs.split_first()?;
                runs = rest;
                (0, (usize::from(code & 0x3f) << 8 | usize::from(low)) + 1)
            }
            _ => ((code >> 2 & 0x1f) + 1, usize::from(code & 3) + 1),
        };
        if value > 0 {
            for register in at..at + length {
                raise(segments.get_mut(register / REGISTERS)?, register % REGISTERS, value);
            }
        }
        at += length;
    }
    (at == SEGMENTS * REGISTERS).then_some(segments)
}

/// The string in which Redis would keep a HyperLogLog that is there.
///
/// # Errors
/// Wrong type.
pub fn to_redis(read: &impl Read, at: &At<'_>) -> Result<Vec<u8>, CommandError> {
    let object = Object::<HyperLogLog>::find(read, at)?.ok_or(CommandError::NoSuchKey)?;
    let names: Vec<String> = (0..SEGMENTS).map(name).collect();
    let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    let mut text = DENSE.to_vec();
    for stored in object.elements_at(read, FAMILY, &names)? {
        match stored {
            Some(stored) => text.extend_from_slice(checked(&stored)?),
            None => text.extend_from_slice(&[0; SEGMENT_BYTES]),
        }
    }
    Ok(text)
}

/// Replaces whatever a key holds by these registers. It ends then, Unix ms; 0 for never.
pub fn replace(txn: &mut Txn<'_>, at: &At<'_>, end_ms: u64, segments: &Segments) {
    let mut object = Object::<HyperLogLog>::new(at);
    object.set_expire_ms(end_ms);
    let filled = segments.iter().enumerate().filter(|(_, bytes)| **bytes != [0; SEGMENT_BYTES]);
    write(txn, object, filled, true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_and_dense_ones_are_read() {
        let head = |encoding: u8| [&b"HYLL"[..], &[encoding], &[0; 11]].concat();
        // A zero, twice the value 3, and zeros to the end.
        let text = [head(1), vec![0x00, 0x89, 0x7f, 0xfc]].concat();
        let segments = of_redis(&text).unwrap();
        // Registers 1 and 2 are bits 6 to 17.
        assert_eq!(segments[0][..3], [0b1100_0000, 0b0011_0000, 0]);
        assert!(segments[1..].iter().all(|segment| *segment == [0; SEGMENT_BYTES]));
        let dense = [head(0), segments.concat()].concat();
        assert_eq!(of_redis(&dense).unwrap(), segments);
        for other in [&dense[..dense.len() - 1], &text[..text.len() - 1], b"HYLL", &head(2), b""] {
            assert!(of_redis(other).is_none(), "{}", other.escape_ascii());
        }
        let too_many = [&text[..], &[0x00]].concat();
        assert!(of_redis(&too_many).is_none());
        let beyond = [head(1), vec![0x7f, 0xff, 0x80]].concat();
        assert!(of_redis(&beyond).is_none());
    }
}
