//! CRC64 as Redis computes it (Jones), and the footer of a payload: version and checksum.

use crc::{CRC_64_REDIS, Crc, Digest, Table};

use crate::{Error, VERSION_MAX};

static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// A checksum that goes on while bytes are read.
pub(crate) type Running = Digest<'static, u64, Table<16>>;

/// One that has seen nothing.
pub(crate) fn begin() -> Running {
    CRC.digest()
}

/// Bytes of the footer: version and checksum, both with the low byte first.
const FOOTER: usize = 2 + 8;

/// The value within a payload of DUMP: its type, and what it consists of.
///
/// # Errors
/// [`Error::Footer`].
pub fn body(payload: &[u8]) -> Result<&[u8], Error> {
    let at = payload.len().checked_sub(FOOTER).ok_or(Error::Footer)?;
    let (value, footer) = payload.split_at_checked(at).ok_or(Error::Footer)?;
    let (version, checksum) = footer.split_first_chunk::<2>().ok_or(Error::Footer)?;
    let is_known = u16::from_le_bytes(*version) <= VERSION_MAX;
    let summed = payload.get(..at + 2).map(|bytes| CRC.checksum(bytes).to_le_bytes());
    let is_sound = summed.is_some_and(|sum| sum == *checksum);
    if is_known && is_sound { Ok(value) } else { Err(Error::Footer) }
}

/// Makes a payload of a value: appends the footer.
pub fn seal(mut value: Vec<u8>, version: u16) -> Vec<u8> {
    value.extend_from_slice(&version.to_le_bytes());
    let checksum = CRC.checksum(&value);
    value.extend_from_slice(&checksum.to_le_bytes());
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_redis() {
        assert_eq!(CRC.checksum(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        let sealed = seal(b"\x00\x05hello".to_vec(), 6);
        assert_eq!(sealed, b"\x00\x05hello\x06\x00\xf5\x9f\xb7\xf6\x90a\x1c\x99");
        assert_eq!(body(&sealed).unwrap(), b"\x00\x05hello");
    }

    #[test]
    fn another_version_or_checksum_is_refused() {
        let newest = seal(b"\x00\x01a".to_vec(), VERSION_MAX);
        assert!(body(&newest).is_ok());
        let later = seal(b"\x00\x01a".to_vec(), VERSION_MAX + 1);
        assert!(matches!(body(&later), Err(Error::Footer)));
        for at in 0..newest.len() {
            let mut changed = newest.clone();
            changed[at] ^= 1;
            assert!(body(&changed).is_err(), "{at}");
            assert!(body(&newest[..at]).is_err(), "{at}");
        }
    }
}
