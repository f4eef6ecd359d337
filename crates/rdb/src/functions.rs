//! Libraries of functions, as FUNCTION DUMP answers them and FUNCTION RESTORE takes them: their
//! sources one after the other, and the footer of a payload.

use crate::checksum::{body, seal};
use crate::read::Reader;
use crate::write::push_bytes;
use crate::{Error, FUNCTION};

/// The first version of Redis' files that has functions.
const VERSION: u16 = 10;

/// The payload of libraries with these sources.
pub fn dump<'s>(sources: impl IntoIterator<Item = &'s [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for source in sources {
        out.push(FUNCTION);
        push_bytes(&mut out, source);
    }
    seal(out, VERSION)
}

/// The sources in a payload.
///
/// # Errors
/// [`Error::Footer`]; [`Error::Kind`] of what is no library; those of a string.
pub fn read(payload: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let all = body(payload)?;
    let mut reader = Reader::new(all);
    let mut sources = Vec::new();
    while reader.taken() < all.len() as u64 {
        match reader.byte()? {
            FUNCTION => sources.push(reader.string()?),
            other => return Err(Error::Kind(other)),
        }
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FUNCTION DUMP of redis-server 7.0.15, with one library and with none.
    const ONE: &[u8] = b"\xf5\x40\x56#!lua name=lib1\nredis.register_function(\"f1\", function(keys, args) return keys[1] end)\
        \n\x00\xe0\t\x92{\xe3\xaa\x1e\xd2";
    const NONE: &[u8] = b"\n\x00]\x9b\\@\x0f\x7f\xa2\xda";

    #[test]
    fn payloads_are_those_of_redis() {
        let source = b"#!lua name=lib1\nredis.register_function(\"f1\", function(keys, args) return keys[1] end)";
        assert_eq!(dump([&source[..]]).escape_ascii().to_string(), ONE.escape_ascii().to_string());
        assert_eq!(read(ONE).unwrap(), [source.to_vec()]);
        assert_eq!(dump([]), NONE);
        assert!(read(NONE).unwrap().is_empty());
        assert_eq!(read(&dump([&b"a"[..], b"bc"])).unwrap(), [b"a".to_vec(), b"bc".to_vec()]);
    }

    #[test]
    fn what_holds_no_libraries_is_refused() {
        let refused = |payload: &[u8]| read(payload).unwrap_err();
        assert!(matches!(refused(b""), Error::Footer));
        assert!(matches!(refused(&ONE[1..]), Error::Footer));
        assert!(matches!(refused(&seal(b"\x00\x01a\x01x".to_vec(), 10)), Error::Kind(0)));
        assert!(matches!(refused(&seal(b"\xf6\x03abc".to_vec(), 10)), Error::Kind(246)));
        assert!(matches!(refused(&seal(b"\xf5\x20abc".to_vec(), 10)), Error::Cut));
        assert!(matches!(refused(&seal(b"\xf5".to_vec(), 10)), Error::Cut));
    }
}
