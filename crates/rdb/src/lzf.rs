//! LZF, with which Redis compresses strings: runs of bytes as they are, and references back.

use crate::{Error, STRING_MAX};

/// A reference of three bytes stands for 264 at most: no input grows more.
const GROWTH_MAX: u64 = 88;

/// Undoes the compression of a string that was `length` bytes long.
///
/// # Errors
/// [`Error::Malformed`].
pub(crate) fn expand(packed: &[u8], length: u64) -> Result<Vec<u8>, Error> {
    const WRONG: Error = Error::Malformed("a compressed string is not what it says");
    let most = GROWTH_MAX.saturating_mul(packed.len() as u64).min(STRING_MAX);
    let length = usize::try_from(length).ok().filter(|length| *length as u64 <= most);
    let length = length.ok_or(WRONG)?;
    let (mut out, mut rest) = (Vec::with_capacity(length), packed);
    while let Some((&control, behind)) = rest.split_first() {
        let (high, low) = (usize::from(control >> 5), usize::from(control & 0x1f));
        if high == 0 {
            let (run, behind) = behind.split_at_checked(low + 1).ok_or(WRONG)?;
            out.extend_from_slice(run);
            rest = behind;
        } else {
            let (more, behind) = match high {
                7 => behind.split_first().map(|(more, behind)| (usize::from(*more), behind)),
                _ => Some((0, behind)),
            }
            .ok_or(WRONG)?;
            let (&offset, behind) = behind.split_first().ok_or(WRONG)?;
            let back = (low << 8 | usize::from(offset)) + 1;
            let from = out.len().checked_sub(back).ok_or(WRONG)?;
            // It may reach into what it writes itself.
            for at in from..from + high + more + 2 {
                let byte = *out.get(at).ok_or(WRONG)?;
                out.push(byte);
            }
            rest = behind;
        }
        if out.len() > length {
            return Err(WRONG);
        }
    }
    if out.len() == length { Ok(out) } else { Err(WRONG) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_references_are_undone() {
        assert_eq!(expand(b"\x02abc", 3).unwrap(), b"abc");
        // One byte, and then itself again: seven and two more.
        assert_eq!(expand(b"\x00a\xc0\x00", 9).unwrap(), b"aaaaaaaaa");
        // As redis-server packs a hundred times the same letter.
        assert_eq!(expand(b"\x01aa\xe0\x57\x00\x01aa", 100).unwrap(), b"a".repeat(100));
    }

    #[test]
    fn foreign_lengths_take_no_memory() {
        for (packed, length) in [
            (&b"\x00a"[..], u64::MAX),
            (b"\x00a", 512 << 20),
            (b"\x00a", 0),
            (b"\x00a", 2),
            (b"\x20\x00", 3),
            (b"\x00a\xe0", 9),
            (b"\x05a", 6),
            (b"", 1),
        ] {
            assert!(expand(packed, length).is_err(), "{}", packed.escape_ascii());
        }
        assert_eq!(expand(b"", 0).unwrap(), b"");
    }
}
