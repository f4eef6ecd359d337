//! RocksDB's write-batch bytes: the unit of atomicity, the WAL record, and what replicas receive.
//!
//! Layout: u64 sequence, u32 count (both little-endian), then records. A record is a tag, for
//! families other than 0 the family id (varint32), and length-prefixed (varint32) strings. Log data
//! carries no sequence number and is not counted.
//!
//! [`Writer`] builds a batch in a reused buffer; [`parse`] validates foreign bytes completely,
//! because RocksDB applies a batch record by record and notices a wrong count only after having
//! changed the database.

use crate::Family;

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 12;

const TAG_DELETE: u8 = 0x0;
const TAG_PUT: u8 = 0x1;
const TAG_LOG: u8 = 0x3;
const TAG_FAMILY_DELETE: u8 = 0x4;
const TAG_FAMILY_PUT: u8 = 0x5;
const TAG_SINGLE_DELETE: u8 = 0x7;
const TAG_FAMILY_SINGLE_DELETE: u8 = 0x8;
const TAG_NOOP: u8 = 0xd;
const TAG_FAMILY_DELETE_RANGE: u8 = 0xe;
const TAG_DELETE_RANGE: u8 = 0xf;

/// Why foreign bytes are not a batch that may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Shorter than the header.
    #[error("batch of {0} bytes has no header")]
    NoHeader(usize),
    /// A record ends behind the end of the batch.
    #[error("batch is truncated at byte {0}")]
    Truncated(usize),
    /// A record kind that Kvrocks does not write.
    #[error("batch has a record of unknown kind {0:#x}")]
    UnknownTag(u8),
    /// A family this version does not have.
    #[error("batch names the unknown column family {0}")]
    UnknownFamily(u32),
    /// A range that ends before it begins: RocksDB finds out after the log has it.
    #[error("batch removes a range that ends before it begins")]
    ReversedRange,
    /// The header's count is not the number of records.
    #[error("batch header counts {header} records, but there are {found}")]
    WrongCount {
        /// As the header says.
        header: u32,
        /// As found.
        found: u32,
    },
}

/// One record of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// Sets a key.
    Put {
        /// Where.
        family: Family,
        /// Raw key.
        key: &'a [u8],
        /// Raw value.
        value: &'a [u8],
    },
    /// Removes a key.
    Delete {
        /// Where.
        family: Family,
        /// Raw key.
        key: &'a [u8],
    },
    /// Removes `[begin, end)`.
    DeleteRange {
        /// Where.
        family: Family,
        /// First key.
        begin: &'a [u8],
        /// First key that stays.
        end: &'a [u8],
    },
    /// Informational: which type or command the following records belong to.
    LogData(&'a [u8]),
}

impl Record<'_> {
    /// Where it is; log data is nowhere.
    pub fn family(&self) -> Option<Family> {
        match self {
            Self::Put { family, .. }
            | Self::Delete { family, .. }
            | Self::DeleteRange { family, .. } => Some(*family),
            Self::LogData(_) => None,
        }
    }
}

/// Header of a batch: (sequence, count).
pub fn header(bytes: &[u8]) -> Result<(u64, u32), BatchError> {
    let (Some(sequence), Some(count)) =
        (bytes.first_chunk::<8>(), bytes.get(8..).and_then(|rest| rest.first_chunk::<4>()))
    else {
        return Err(BatchError::NoHeader(bytes.len()));
    };
    Ok((u64::from_le_bytes(*sequence), u32::from_le_bytes(*count)))
}

/// Iterates over the records of a batch. Ends after the first error. The count of the header is not
/// checked here.
pub fn records(bytes: &[u8]) -> Records<'_> {
    Records { bytes, at: HEADER_BYTES.min(bytes.len()), failed: bytes.len() < HEADER_BYTES }
}

/// Validates a batch completely and returns its (sequence, count). The count may be 0: RocksDB
/// itself writes such records when it starts a log file after recovery, and a Kvrocks master sends
/// them along.
pub fn parse(bytes: &[u8]) -> Result<(u64, u32), BatchError> {
    let (sequence, count) = header(bytes)?;
    let mut found = 0u32;
    for record in records(bytes) {
        match record? {
            Record::LogData(_) => continue,
            Record::DeleteRange { begin, end, .. } if begin > end => {
                return Err(BatchError::ReversedRange);
            }
            _ => found += 1,
        }
    }
    if found != count {
        return Err(BatchError::WrongCount { header: count, found });
    }
    Ok((sequence, count))
}

/// See [`records`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    failed: bool,
}

impl<'a> Records<'a> {
    /// Where the next record begins.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    fn varint(&mut self) -> Result<u32, BatchError> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = *self.bytes.get(self.at).ok_or(BatchError::Truncated(self.at))?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| BatchError::Truncated(self.at));
            }
        }
        Err(BatchError::Truncated(self.at))
    }

    fn string(&mut self) -> Result<&'a [u8], BatchError> {
        let length = self.varint()? as usize;
        let start = self.at;
        let end = start.checked_add(length).ok_or(BatchError::Truncated(start))?;
        let string = self.bytes.get(start..end).ok_or(BatchError::Truncated(start))?;
        self.at = end;
        Ok(string)
    }

    fn family(&mut self, tag: u8) -> Result<Family, BatchError> {
        match tag {
            TAG_FAMILY_DELETE
            | TAG_FAMILY_PUT
            | TAG_FAMILY_SINGLE_DELETE
            | TAG_FAMILY_DELETE_RANGE => {
                let id = self.varint()?;
                Family::from_id(id).ok_or(BatchError::UnknownFamily(id))
            }
            _ => Ok(Family::Default),
        }
    }

    fn record(&mut self) -> Result<Option<Record<'a>>, BatchError> {
        while let Some(&tag) = self.bytes.get(self.at) {
            self.at += 1;
            let family = self.family(tag)?;
            return Ok(Some(match tag {
                TAG_NOOP => continue,
                TAG_LOG => Record::LogData(self.string()?),
                TAG_PUT | TAG_FAMILY_PUT => {
                    Record::Put { family, key: self.string()?, value: self.string()? }
                }
                TAG_DELETE | TAG_FAMILY_DELETE | TAG_SINGLE_DELETE | TAG_FAMILY_SINGLE_DELETE => {
                    Record::Delete { family, key: self.string()? }
                }
                TAG_DELETE_RANGE | TAG_FAMILY_DELETE_RANGE => {
                    Record::DeleteRange { family, begin: self.string()?, end: self.string()? }
                }
                other => return Err(BatchError::UnknownTag(other)),
            }));
        }
        Ok(None)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let record = self.record();
        self.failed = record.is_err();
        record.transpose()
    }
}

/// A place in a batch that is being built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    bytes: usize,
    count: u32,
}

impl Mark {
    /// Before the first record.
    pub(crate) const BEGIN: Self = Self { bytes: HEADER_BYTES, count: 0 };

    /// Bytes of the batch so far.
    pub(crate) fn bytes(self) -> usize {
        self.bytes
    }
}

/// Builds a batch. Bytes are exactly those of RocksDB's own builder.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    count: u32,
    /// A record was of a family that is made late; it may have been taken back since.
    has_named_late: bool,
    /// Where the first record of the propagate family begins.
    propagate_at: Option<usize>,
    /// A range of metadata was deleted; it may have been taken back since.
    has_cut_keys: bool,
}

impl Writer {
    /// An empty batch in `buffer`, whose content is dropped and whose capacity is reused.
    pub fn new(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(HEADER_BYTES, 0);
        let (has_named_late, propagate_at, has_cut_keys) = (false, None, false);
        Self { bytes: buffer, count: 0, has_named_late, propagate_at, has_cut_keys }
    }

    /// Whether a record is of a family that is made late ([`Family::is_late`]).
    pub fn names_late(&self) -> bool {
        let is_late = |record: Record<'_>| record.family().is_some_and(Family::is_late);
        self.has_named_late && self.records_from(0).map_while(Result::ok).any(is_late)
    }

    /// Whether a record is of the propagate family. Each script on top of the batch asks, so the
    /// records are not looked through.
    pub(crate) fn names_propagate(&self) -> bool {
        self.propagate_at.is_some()
    }

    /// Whether a range of keys is deleted, or was before it was taken back.
    pub(crate) fn has_cut_keys(&self) -> bool {
        self.has_cut_keys
    }

    /// Records so far, log data not counted.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Size of the whole batch in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True without any record; log data does not count.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Where the batch ends now, to come back to with [`Writer::rollback`].
    pub fn mark(&self) -> Mark {
        Mark { bytes: self.bytes.len(), count: self.count }
    }

    /// Takes back everything appended since `mark`.
    pub fn rollback(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        self.count = mark.count;
        self.propagate_at = self.propagate_at.filter(|at| *at < mark.bytes);
    }

    /// The records that begin at this byte or behind it.
    pub(crate) fn records_from(&self, at: usize) -> Records<'_> {
        Records { bytes: &self.bytes, at: at.max(HEADER_BYTES), failed: false }
    }

    /// Appends log data.
    pub fn log(&mut self, data: &[u8]) {
        self.bytes.push(TAG_LOG);
        self.string(&[data]);
    }

    /// Appends a put of the concatenated `key` and `value` parts.
    pub fn put(&mut self, family: Family, key: &[&[u8]], value: &[&[u8]]) {
        self.tag(family, TAG_PUT, TAG_FAMILY_PUT);
        self.string(key);
        self.string(value);
    }

    /// Appends a put whose value is what `write` appends; it leaves alone what stands before that.
    pub(crate) fn put_written(
        &mut self,
        family: Family,
        key: &[&[u8]],
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.tag(family, TAG_PUT, TAG_FAMILY_PUT);
        self.string(key);
        let at = self.bytes.len();
        // The length of nearly every such value is one byte.
        self.bytes.push(0);
        write(&mut self.bytes);
        let length = self.bytes.len().saturating_sub(at + 1);
        match self.bytes.get_mut(at) {
            Some(place) if length < 0x80 => *place = length as u8,
            _ => {
                let mut varint = Vec::with_capacity(5);
                push_varint(&mut varint, length);
                self.bytes.splice(at..=at, varint);
            }
        }
    }

    /// Appends a delete.
    pub fn delete(&mut self, family: Family, key: &[u8]) {
        self.delete_parts(family, &[key]);
    }

    /// Appends a delete of the concatenated `key` parts.
    pub fn delete_parts(&mut self, family: Family, key: &[&[u8]]) {
        self.tag(family, TAG_DELETE, TAG_FAMILY_DELETE);
        self.string(key);
    }

    /// Appends a delete of `[begin, end)`.
    pub fn delete_range(&mut self, family: Family, begin: &[u8], end: &[u8]) {
        self.has_cut_keys |= family == Family::Metadata;
        self.tag(family, TAG_DELETE_RANGE, TAG_FAMILY_DELETE_RANGE);
        self.string(&[begin]);
        self.string(&[end]);
    }

    /// The batch, with the count filled in and sequence 0.
    pub fn finish(&mut self) -> &mut Vec<u8> {
        if let Some(count) = self.bytes.get_mut(8..HEADER_BYTES) {
            count.copy_from_slice(&self.count.to_le_bytes());
        }
        &mut self.bytes
    }

    /// Begins an empty batch in the same buffer.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(std::mem::take(&mut self.bytes));
    }

    /// Bytes of the buffer.
    pub(crate) fn room(&self) -> usize {
        self.bytes.capacity()
    }

    fn tag(&mut self, family: Family, plain: u8, with_family: u8) {
        self.count += 1;
        match family {
            Family::Default => self.bytes.push(plain),
            // Ids are below 128, so the varint is one byte.
            _ => {
                self.has_named_late |= family.is_late();
                if family == Family::Propagate {
                    self.propagate_at = self.propagate_at.or(Some(self.bytes.len()));
                }
                self.bytes.extend_from_slice(&[with_family, family.id()]);
            }
        }
    }

    fn string(&mut self, parts: &[&[u8]]) {
        push_varint(&mut self.bytes, parts.iter().map(|part| part.len()).sum());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }
}

fn push_varint(out: &mut Vec<u8>, mut rest: usize) {
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn set_is_the_recorded_batch() {
        let mut writer = Writer::new(Vec::new());
        writer.log(b"1");
        writer.put(Family::Metadata, &[b"\x0b__namespace", b"a"], &[b"\x81\0\0\0\0\0\0\0\0", b"1"]);
        let bytes = writer.finish();
        bytes[0] = 1;
        assert_eq!(
            bytes.as_slice(),
            b"\x01\0\0\0\0\0\0\0\x01\0\0\0\x03\x011\x05\x01\x0d\x0b__namespacea\x0a\x81\0\0\0\0\0\0\0\x001"
        );
        assert_eq!(parse(bytes), Ok((1, 1)));
    }

    #[test]
    fn rejects_what_would_break_the_database() {
        let mut writer = Writer::new(Vec::new());
        writer.put(Family::Search, &[b"k"], &[b"v"]);
        let good = writer.finish().clone();
        assert_eq!(parse(&good), Ok((0, 1)));
        let mut wrong_count = good.clone();
        wrong_count[8] = 2;
        assert_eq!(parse(&wrong_count), Err(BatchError::WrongCount { header: 2, found: 1 }));
        let mut wrong_family = good.clone();
        wrong_family[13] = 7;
        assert_eq!(parse(&wrong_family), Ok((0, 1)), "it may be made late");
        wrong_family[13] = 8;
        assert_eq!(parse(&wrong_family), Err(BatchError::UnknownFamily(8)));
        let mut merge = good.clone();
        merge[12] = 2;
        assert_eq!(parse(&merge), Err(BatchError::UnknownTag(2)));
        assert!(matches!(parse(&good[..good.len() - 1]), Err(BatchError::Truncated(_))));
        assert!(matches!(parse(&good[..5]), Err(BatchError::NoHeader(5))));
        assert_eq!(parse(&[0; 12]), Ok((0, 0)));
        let range = |begin: &[u8], end: &[u8]| {
            let mut writer = Writer::new(Vec::new());
            writer.put(Family::Metadata, &[b"k"], &[b"v"]);
            writer.delete_range(Family::Metadata, begin, end);
            parse(&writer.finish().clone())
        };
        assert_eq!(range(b"a", b"b"), Ok((0, 2)));
        assert_eq!(range(b"a", b"a"), Ok((0, 2)));
        assert_eq!(range(b"b", b"a"), Err(BatchError::ReversedRange));
    }

    #[test]
    fn a_late_family_is_named_until_its_records_are_taken_back() {
        let mut writer = Writer::new(Vec::new());
        writer.put(Family::Metadata, &[b"k"], &[b"v"]);
        assert!(!writer.names_late());
        let mark = writer.mark();
        writer.delete(Family::Index, b"k");
        assert!(writer.names_late());
        writer.rollback(mark);
        assert!(!writer.names_late());
        writer.delete_range(Family::Index, b"a", b"b");
        assert!(writer.names_late());
        assert_eq!(parse(&writer.finish().clone()), Ok((0, 2)));
    }

    #[test]
    fn the_propagate_family_is_named_until_its_first_record_is_taken_back() {
        let mut writer = Writer::new(Vec::new());
        writer.put(Family::Metadata, &[b"k"], &[b"v"]);
        assert!(!writer.names_propagate());
        let first = writer.mark();
        writer.put(Family::Propagate, &[b"k"], &[b"v"]);
        let second = writer.mark();
        writer.delete(Family::Propagate, b"k");
        writer.put(Family::Metadata, &[b"k"], &[b"v"]);
        writer.rollback(second);
        assert!(writer.names_propagate());
        writer.rollback(first);
        assert!(!writer.names_propagate());
        writer.delete_range(Family::Propagate, b"a", b"b");
        assert!(writer.names_propagate());
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn lengths_survive(length in 0usize..70_000) {
            let value = vec![7; length];
            let mut writer = Writer::new(Vec::new());
            writer.put(Family::Default, &[b"k"], &[&value]);
            let bytes = writer.finish().clone();
            let all: Vec<_> = records(&bytes).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(all, vec![Record::Put { family: Family::Default, key: b"k", value: &value }]);
            let mut written = Writer::new(Vec::new());
            written.put_written(Family::Default, &[b"k"], |out| out.extend_from_slice(&value));
            prop_assert_eq!(written.finish().clone(), bytes);
        }
    }
}
