//! Where the TLS records of a client end, and a balancer's own bytes begin.
//!
//! A balancer that passes TLS on tells of its client's end by a mark in clear (`docs/protocol.md`
//! §12). To TLS that is a broken record, and what was asked before would not be answered. What a
//! client encrypts comes in records that say how long they are, so what comes between two of them,
//! and begins none, is the balancer's. A client that ended within a record leaves one that is not
//! whole: there the mark is told by its being the last that came. It is random, and no client knows
//! it.

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
    /// The last bytes that were taken for records'; less than a mark.
    tail: Vec<u8>,
}

impl Records {
    /// A stream that begins with a record, or with the mark.
    pub fn until(mark: Mark) -> Self {
        Self { mark, head: [0; HEAD], seen: 0, left: 0, rest: Vec::new(), tail: Vec::new() }
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
        if self.rest.is_empty() && self.ends_with_mark(bytes) {
            // Nothing comes behind it, so of what comes together it is the end.
            self.rest = self.mark.bytes().to_vec();
            return Ok(bytes.len().saturating_sub(Mark::BYTES));
        }
        let mut taken = 0;
        if self.rest.is_empty() {
            let passed = self.pass_over(bytes);
            // Where these begin no mark, it may have begun before and been taken for the end of a
            // record.
            let begun = if passed < bytes.len() { self.begun_in(bytes) } else { 0 };
            taken = passed.min(bytes.len().saturating_sub(begun));
            let earlier = begun.saturating_sub(bytes.len());
            self.rest.extend_from_slice(&self.mark.bytes()[..earlier]);
            self.remember(&bytes[..taken]);
        }
        self.rest.extend_from_slice(&bytes[taken..]);
        if self.rest.len() <= Mark::BYTES && self.mark.bytes().starts_with(&self.rest) {
            return Ok(taken);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "neither a TLS record nor a mark"))
    }

    /// Whether the stream, with these bytes, ends with the whole mark.
    fn ends_with_mark(&self, bytes: &[u8]) -> bool {
        let here = bytes.len().min(Mark::BYTES);
        let (before, here) = self.mark.bytes().split_at(Mark::BYTES - here);
        bytes.ends_with(here) && self.tail.ends_with(before)
    }

    fn remember(&mut self, bytes: &[u8]) {
        const KEPT: usize = Mark::BYTES - 1;
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT)..]);
        let surplus = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..surplus);
    }

    /// How many of the last bytes of the stream, with these, may be the beginning of the mark.
    fn begun_in(&self, bytes: &[u8]) -> usize {
        let last = &bytes[bytes.len().saturating_sub(Mark::BYTES)..];
        self.mark.begun_in(&[self.tail.as_slice(), last].concat())
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

    fn mark() -> Mark {
        Mark::new(std::array::from_fn(|at| 0x80 + at as u8))
    }

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[kind, 3, 3][..], &length, body].concat()
    }

    #[test]
    fn a_mark_is_found_behind_whole_records_however_the_stream_is_cut() {
        let mark = mark();
        // The beginning of the mark within a record is chance, and an empty record is one.
        let begun = &mark.bytes()[..Mark::BYTES - 1];
        let records =
            [record(22, b"hello"), record(23, begun), record(20, b""), record(23, &begun[..3])];
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

    /// The client ended there, or its balancer ended for it.
    #[test]
    fn a_mark_is_found_within_a_record_however_the_stream_is_cut() {
        let mark = mark();
        let whole = record(23, b"hello");
        let cut = record(23, &[9; 100]);
        // In its head, in its body, and so that it would be whole with a part of the mark.
        for left in [1, 3, 5, 6, 50, cut.len() - 16, cut.len() - 1] {
            let stream = [&whole[..], &cut[..left], mark.bytes()].concat();
            for size in 1..=stream.len() {
                let (mut passing, mut passed) = (Records::until(mark), 0);
                for part in stream.chunks(size) {
                    assert!(!passing.are_over(), "{left}, in parts of {size}");
                    passed += passing.take(part).unwrap();
                }
                assert!(passing.are_over(), "{left}, in parts of {size}");
                assert!(passed <= whole.len() + left + 15, "{left}, in parts of {size}");
            }
            let mut passing = Records::until(mark);
            assert_eq!(passing.take(&stream).unwrap(), whole.len() + left);
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
