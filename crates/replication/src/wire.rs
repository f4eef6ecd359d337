//! Bytes of the replication stream: requests, bulks, lines, and the head of a write batch.
//!
//! The readers are incremental (any split of the input gives the same result) and bounded: they
//! hold at most what has arrived, never what a header promises, and fail once a limit is passed.

use std::borrow::Cow;

use crate::history::EpochId;
use crate::number::decimal;

/// Heartbeat in the stream, a bulk like any other.
pub const PING: &[u8] = b"$4\r\nping\r\n";
/// Asks the replica for an acknowledgement at once (Kvrocks 2.14 and later).
pub const GETACK: &[u8] = b"$7\r\n_getack\r\n";
/// Payload of [`PING`].
pub const PING_PAYLOAD: &[u8] = b"ping";
/// Payload of [`GETACK`].
pub const GETACK_PAYLOAD: &[u8] = b"_getack";

/// Bytes the peer sent that are not what the protocol has there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No line end within the limit.
    #[error("line longer than {max} bytes")]
    LineTooLong {
        /// The limit.
        max: usize,
    },
    /// Something else than `$<n>` where a bulk begins.
    #[error("bulk header expected")]
    BulkHeader,
    /// A bulk of a size that is zero or above the limit.
    #[error("bulk of {len} bytes, allowed are 1 to {max}")]
    BulkLength {
        /// What the header says.
        len: u64,
        /// The limit.
        max: u64,
    },
    /// A bulk that does not end in CR LF.
    #[error("bulk without line end")]
    BulkEnd,
    /// Fewer bytes than the head of a write batch.
    #[error("write batch of {len} bytes")]
    ShortBatch {
        /// Its size.
        len: usize,
    },
}

/// A request: RESP array of bulk strings.
pub fn request(args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + args.iter().map(|a| a.len() + 16).sum::<usize>());
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        bulk(arg, &mut out);
    }
    out
}

/// Appends a bulk string.
pub fn bulk(payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("${}\r\n", payload.len()).as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// The acknowledgement of everything up to `sequence`.
pub fn ack(sequence: u64) -> Vec<u8> {
    request(&[b"replconf", b"ack", sequence.to_string().as_bytes()])
}

/// A master's clock, as it goes to a replica and comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The master's CLOCK_BOOTTIME, ns.
    pub clock_ns: u64,
    /// Length of its lease.
    pub lease_ms: u64,
}

/// Longest payload of a heartbeat with a clock. A batch is longer, or is not all digits.
const STAMP_BYTES_MAX: usize = 64;

impl Stamp {
    /// Appends a heartbeat with the clock, a bulk `ping <ns> <lease ms>`.
    pub fn ping(self, out: &mut Vec<u8>) {
        bulk(format!("ping {} {}", self.clock_ns, self.lease_ms).as_bytes(), out);
    }

    /// Reads the payload of such a heartbeat.
    pub fn parse_ping(payload: &[u8]) -> Option<Self> {
        if payload.len() > STAMP_BYTES_MAX {
            return None;
        }
        let mut words = payload.strip_prefix(b"ping ")?.split(|byte| *byte == b' ');
        let stamp = Self { clock_ns: decimal(words.next()?)?, lease_ms: decimal(words.next()?)? };
        words.next().is_none().then_some(stamp)
    }
}

/// The acknowledgement of a member of a set: everything up to `sequence` is applied, under the
/// newest epoch `epoch`. With `echo` it says besides that this node will not become master before
/// the master's lease, counted from that stamp, is over.
pub fn ack_of_member(sequence: u64, epoch: Option<EpochId>, echo: Option<Stamp>) -> Vec<u8> {
    let sequence = sequence.to_string();
    let epoch = epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
    let stamp = echo.map(|stamp| [stamp.clock_ns.to_string(), stamp.lease_ms.to_string()]);
    let mut args: Vec<&[u8]> = vec![b"replconf", b"ack", sequence.as_bytes(), epoch.as_bytes()];
    args.extend(stamp.iter().flatten().map(|number| number.as_bytes()));
    request(&args)
}

/// How far a replica is whose process is about to end, and that asks to be in no in-sync set first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Its master was told. One of an earlier version passes over it, and says nothing.
    Told,
    /// The master has heard it, and may still count on the replica.
    Heard,
    /// No set that the controller's store may hold has it.
    Gone,
}

/// What a replica says in its stream to leave its master's set; it goes on acknowledging.
pub fn leaving() -> Vec<u8> {
    request(&[b"replconf", LEAVING, b"1"])
}

/// Name of the option of [`leaving`], and the master's word in the stream that it was heard.
pub const LEAVING: &[u8] = b"leaving";
/// The master's word in the stream that it counts on the replica no more.
const LEFT: &[u8] = b"left";

impl Leave {
    /// Appends the master's word for it. Only to a replica that asked: others would take it for a
    /// batch.
    pub fn answer(self, out: &mut Vec<u8>) {
        match self {
            Self::Told => {}
            Self::Heard => bulk(LEAVING, out),
            Self::Gone => bulk(LEFT, out),
        }
    }

    /// Reads the payload of such a word.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        match payload {
            LEAVING => Some(Self::Heard),
            LEFT => Some(Self::Gone),
            _ => None,
        }
    }
}

/// First sequence and number of updates of a RocksDB write batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHead {
    /// Sequence number of its first record.
    pub sequence: u64,
    /// Records that take a sequence number.
    pub count: u32,
}

impl BatchHead {
    /// Reads the 12 bytes at the front.
    pub fn parse(batch: &[u8]) -> Result<Self, Malformed> {
        let short = Malformed::ShortBatch { len: batch.len() };
        let (sequence, rest) = batch.split_first_chunk::<8>().ok_or(short)?;
        let count = rest.first_chunk::<4>().ok_or(short)?;
        Ok(Self { sequence: u64::from_le_bytes(*sequence), count: u32::from_le_bytes(*count) })
    }

    /// The sequence number that must follow.
    pub fn next(self) -> u64 {
        self.sequence.saturating_add(u64::from(self.count))
    }
}

/// Reads lines that end in LF or CR LF.
#[derive(Debug)]
pub struct LineReader {
    partial: Vec<u8>,
    max: usize,
}

impl LineReader {
    /// Refuses lines of more than `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { partial: Vec::new(), max }
    }

    /// The next line without its end, taken off `input`; `None` consumes all of it and waits for
    /// more.
    pub fn read<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, Malformed> {
        let end = input.iter().position(|b| *b == b'\n');
        let taken = end.map_or(input.len(), |at| at + 1);
        if self.partial.len() + taken > self.max.saturating_add(2) {
            return Err(Malformed::LineTooLong { max: self.max });
        }
        let (head, rest) = input.split_at(taken);
        *input = rest;
        if end.is_none() {
            self.partial.extend_from_slice(head);
            return Ok(None);
        }
        if self.partial.is_empty() {
            return Ok(Some(Cow::Borrowed(strip_line_end(head))));
        }
        let mut line = std::mem::take(&mut self.partial);
        line.extend_from_slice(head);
        line.truncate(strip_line_end(&line).len());
        Ok(Some(Cow::Owned(line)))
    }
}

fn strip_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Reads bulk strings. One that lies in the input as a whole is lent, not copied.
#[derive(Debug)]
pub struct BulkReader {
    header: LineReader,
    /// Size of the payload being read.
    expected: Option<usize>,
    partial: Vec<u8>,
    max: u64,
}

/// `$` and twenty digits.
const HEADER_BYTES_MAX: usize = 21;

impl BulkReader {
    /// Refuses payloads of more than `max` bytes.
    pub fn new(max: u64) -> Self {
        let max = max.min(isize::MAX as u64 - 2);
        Self { header: LineReader::new(HEADER_BYTES_MAX), expected: None, partial: Vec::new(), max }
    }

    /// The next payload, taken off `input`; `None` consumes all of it and waits for more.
    pub fn read<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, Malformed> {
        let len = match self.expected {
            Some(len) => len,
            None => match self.header.read(input)? {
                None => return Ok(None),
                Some(line) => self.length(&line)?,
            },
        };
        self.expected = Some(len);
        let missing = (len + 2) - self.partial.len();
        let (head, rest) = input.split_at(missing.min(input.len()));
        *input = rest;
        if head.len() < missing {
            self.partial.extend_from_slice(head);
            return Ok(None);
        }
        self.expected = None;
        if self.partial.is_empty() {
            let payload = head.strip_suffix(b"\r\n").ok_or(Malformed::BulkEnd)?;
            return Ok(Some(Cow::Borrowed(payload)));
        }
        let mut payload = std::mem::take(&mut self.partial);
        payload.extend_from_slice(head);
        if !payload.ends_with(b"\r\n") {
            return Err(Malformed::BulkEnd);
        }
        payload.truncate(len);
        Ok(Some(Cow::Owned(payload)))
    }

    fn length(&self, line: &[u8]) -> Result<usize, Malformed> {
        let digits = line.strip_prefix(b"$").ok_or(Malformed::BulkHeader)?;
        let len = decimal(digits).ok_or(Malformed::BulkHeader)?;
        if len == 0 || len > self.max {
            return Err(Malformed::BulkLength { len, max: self.max });
        }
        usize::try_from(len).map_err(|_| Malformed::BulkLength { len, max: self.max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bulks(reader: &mut BulkReader, chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, Malformed> {
        let mut found = Vec::new();
        for chunk in chunks {
            let mut input = *chunk;
            while !input.is_empty() {
                if let Some(payload) = reader.read(&mut input)? {
                    found.push(payload.into_owned());
                }
            }
        }
        Ok(found)
    }

    #[test]
    fn request_is_a_resp_array() {
        assert_eq!(request(&[b"_db_name"]), b"*1\r\n$8\r\n_db_name\r\n");
        assert_eq!(ack(42), b"*3\r\n$8\r\nreplconf\r\n$3\r\nack\r\n$2\r\n42\r\n");
    }

    #[test]
    fn a_clock_travels_in_a_heartbeat_that_is_no_batch() {
        let stamp = Stamp { clock_ns: 123, lease_ms: 1000 };
        let mut out = Vec::new();
        stamp.ping(&mut out);
        assert_eq!(out, b"$13\r\nping 123 1000\r\n");
        assert_eq!(Stamp::parse_ping(b"ping 123 1000"), Some(stamp));
        let texts: [&[u8]; 5] = [b"ping", b"ping 1", b"ping 1 2 3", b"ping -1 2", b"ping 1  2"];
        for text in texts {
            assert_eq!(Stamp::parse_ping(text), None);
        }
    }

    #[test]
    fn words_of_a_leave_are_read_back_and_no_batches() {
        let words = [(Leave::Heard, "$7\r\nleaving\r\n"), (Leave::Gone, "$4\r\nleft\r\n")];
        for (leave, text) in words {
            let mut out = Vec::new();
            leave.answer(&mut out);
            assert_eq!(out, text.as_bytes());
            let payload = bulks(&mut BulkReader::new(64), &[&out]).unwrap().remove(0);
            assert_eq!(Leave::parse(&payload), Some(leave));
            assert!(BatchHead::parse(&payload).is_err());
        }
        assert_eq!(Leave::parse(PING_PAYLOAD), None);
        assert_eq!(leaving(), b"*3\r\n$8\r\nreplconf\r\n$7\r\nleaving\r\n$1\r\n1\r\n");
    }

    #[test]
    fn bad_bulks_are_refused() {
        let read = |text: &[u8]| bulks(&mut BulkReader::new(100), &[text]);
        assert_eq!(read(b"$0\r\n\r\n"), Err(Malformed::BulkLength { len: 0, max: 100 }));
        assert_eq!(read(b"$101\r\n"), Err(Malformed::BulkLength { len: 101, max: 100 }));
        assert_eq!(read(b"$-1\r\n"), Err(Malformed::BulkHeader));
        assert_eq!(read(b"+OK\r\n"), Err(Malformed::BulkHeader));
        assert_eq!(read(b"$4\r\npingXX"), Err(Malformed::BulkEnd));
        assert_eq!(read(&[b'$'; 64]), Err(Malformed::LineTooLong { max: 21 }));
        assert_eq!(read(b"$18446744073709551616\r\n"), Err(Malformed::BulkHeader));
    }

    #[test]
    fn a_batch_head_needs_twelve_bytes() {
        assert_eq!(BatchHead::parse(&[0; 11]), Err(Malformed::ShortBatch { len: 11 }));
        let head = BatchHead::parse(&[5, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 9]).unwrap();
        assert_eq!((head.sequence, head.count, head.next()), (5, 3, 8));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_bulks(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut stream = Vec::new();
            payloads.iter().for_each(|p| bulk(p, &mut stream));
            let mut at: Vec<usize> = cuts.iter().map(|c| c.index(stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
            prop_assert_eq!(bulks(&mut BulkReader::new(64), &chunks), Ok(payloads));
        }

        #[test]
        fn arbitrary_bytes_never_panic_nor_hoard(input in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = BulkReader::new(1 << 40);
            let _ = bulks(&mut reader, &[&input]);
            prop_assert!(reader.partial.capacity() <= 1024);
        }
    }
}
