//! Where the TLS records of a client end, and a balancer's own bytes begin.
//!
//! A balancer that passes TLS on tells of its client's end by a mark in clear (`docs/protocol.md`
//! §12). To TLS that is a broken record, and what was asked before would not be answered. What a
//! client encrypts comes in records that say how long they are, so what comes between two of them,
//! and begins none, is the balancer's.

use std::io;
use std::ops::RangeInclusive;

use api::moving::Mark;

/// The first byte of a record: its kind.
const KINDS: RangeInclusive<u8> = 20..=24;
/// Kind, version, length.
const HEAD: usize = 5;

/// Follows a stream of records up to a mark.
#[derive(Debug)]
pub struct Records {
    mark: Mark,
    head: [u8; HEAD],
    /// Bytes of the head that were seen.
    seen: usize,
    /// Bytes of the body that are to come.
    left: usize,
    /// What came behind the last record.
    rest: Vec<u8>,
}

impl Records {
    /// A stream that begins with a record, or with the mark.
    pub fn until(mark: Mark) -> Self {
        Self { mark, head: [0; HEAD], seen: 0, left: 0, rest: Vec::new() }
    }

    /// Whether the mark has come.
    pub fn are_over(&self) -> bool {
        self.rest.len() == Mark::BYTES
    }

    /// How many of these bytes, the next of the stream, belong to records; the others are the
    /// beginning of the mark, or what is left of it.
    ///
    /// # Errors
    /// What comes behind a record is neither another one nor the mark.
    pub fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = if self.rest.is_empty() { self.pass_over(bytes) } else { 0 };
        self.rest.extend_from_slice(&bytes[taken..]);
        if self.rest.len() <= Mark::BYTES && self.mark.bytes().starts_with(&self.rest) {
            return Ok(taken);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "neither a TLS record nor a mark"))
    }

    fn pass_over(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.left > 0 {
                let count = self.left.min(bytes.len() - at);
                (self.left, at) = (self.left - count, at + count);
                continue;
            }
            if self.seen == 0 && !KINDS.contains(&byte) {
                break;
            }
            self.head[self.seen] = byte;
            (self.seen, at) = (self.seen + 1, at + 1);
            if self.seen == HEAD {
                let [.., high, low] = self.head;
                (self.left, self.seen) = (usize::from(u16::from_be_bytes([high, low])), 0);
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[kind, 3, 3][..], &length, body].concat()
    }

    #[test]
    fn a_mark_is_found_behind_whole_records_however_the_stream_is_cut() {
        let mark = Mark::new([7; Mark::BYTES]);
        // The mark within a record is the client's business, and an empty record is one.
        let records =
            [record(22, b"hello"), record(23, mark.bytes()), record(20, b""), record(23, &[7; 3])];
        let records = records.concat();
        let stream = [&records[..], mark.bytes()].concat();
        for size in 1..=stream.len() {
            let (mut passing, mut passed) = (Records::until(mark), 0);
            for part in stream.chunks(size) {
                assert!(!passing.are_over());
                passed += passing.take(part).unwrap();
            }
            assert_eq!((passed, passing.are_over()), (records.len(), true), "in parts of {size}");
            assert!(passing.take(b"x").is_err(), "nothing follows the mark");
        }
    }

    #[test]
    fn what_is_neither_is_an_error_at_once() {
        let mark = Mark::new([7; Mark::BYTES]);
        let mut passing = Records::until(mark);
        assert_eq!(passing.take(&record(23, b"x")).unwrap(), 6);
        assert!(passing.take(b"PING\r\n").is_err());
        let mut passing = Records::until(mark);
        assert_eq!(passing.take(&[7; 3]).unwrap(), 0);
        assert!(passing.take(&[8]).is_err());
    }
}
