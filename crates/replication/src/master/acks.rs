//! Reads what a replica sends while it is fed: `replconf ack <sequence> [<epoch id> [<clock ns>
//! <lease ms>]]`, and `replconf leaving 1` once its process is about to end.

use crate::history::EpochId;
use crate::number::decimal;
use crate::wire::{BulkReader, LEAVING, LineReader, Malformed, Stamp};

/// What a replica acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Newest sequence applied.
    pub sequence: u64,
    /// Newest epoch applied, of replicas that say so.
    pub epoch: Option<EpochId>,
    /// A stamp of the master's clock that came back.
    pub echo: Option<Stamp>,
}

impl Ack {
    /// What a later acknowledgement adds to this one.
    fn and(self, later: Self) -> Self {
        let newest = if later.sequence >= self.sequence { later } else { self };
        Self { echo: later.echo.or(self.echo), ..newest }
    }
}

/// Largest argument and most arguments of a request; an acknowledgement has three short ones.
const ARG_BYTES_MAX: u64 = 1024;
const ARGS_MAX: u64 = 16;

/// Incremental reader of requests on a stream's connection.
#[derive(Debug)]
pub struct AckReader {
    header: LineReader,
    bulks: BulkReader,
    missing: usize,
    args: Vec<Vec<u8>>,
    is_leaving: bool,
}

impl Default for AckReader {
    fn default() -> Self {
        let (header, bulks) = (LineReader::new(32), BulkReader::new(ARG_BYTES_MAX));
        Self { header, bulks, missing: 0, args: Vec::new(), is_leaving: false }
    }
}

impl AckReader {
    /// Takes all of `input`; the highest acknowledgement in it, if any. Other requests are skipped.
    pub fn read(&mut self, mut input: &[u8]) -> Result<Option<Ack>, Malformed> {
        let mut highest: Option<Ack> = None;
        while !input.is_empty() {
            if self.missing == 0 {
                let Some(line) = self.header.read(&mut input)? else { break };
                let count = line.strip_prefix(b"*").and_then(decimal);
                let count = count.filter(|n| (1..=ARGS_MAX).contains(n));
                self.missing = count.ok_or(Malformed::BulkHeader)? as usize;
                self.args.clear();
                continue;
            }
            let Some(arg) = self.bulks.read(&mut input)? else { break };
            self.args.push(arg.into_owned());
            self.missing -= 1;
            if self.missing > 0 {
                continue;
            }
            self.is_leaving |= self.leaves();
            if let Some(ack) = self.acked() {
                highest = Some(highest.map_or(ack, |before| before.and(ack)));
            }
        }
        Ok(highest)
    }

    /// Whether the replica has asked to be in no set.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    fn leaves(&self) -> bool {
        matches!(&self.args[..], [name, option, _]
            if name.eq_ignore_ascii_case(b"replconf") && option.eq_ignore_ascii_case(LEAVING))
    }

    fn acked(&self) -> Option<Ack> {
        match &self.args[..] {
            [name, option, value, rest @ ..]
                if name.eq_ignore_ascii_case(b"replconf")
                    && option.eq_ignore_ascii_case(b"ack") =>
            {
                let number = |at: usize| rest.get(at).and_then(|text| decimal(text));
                let echo = number(1).zip(number(2));
                Some(Ack {
                    sequence: decimal(value)?,
                    epoch: rest.first().and_then(|text| EpochId::parse(text)),
                    echo: echo.map(|(clock_ns, lease_ms)| Stamp { clock_ns, lease_ms }),
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ack, ack_of_member, leaving, request};
    use proptest::prelude::*;

    fn plain(sequence: u64) -> Ack {
        Ack { sequence, epoch: None, echo: None }
    }

    #[test]
    fn a_member_says_its_epoch_and_returns_a_clock() {
        let epoch = Some(EpochId::from_random(0xbeef));
        let echo = Some(Stamp { clock_ns: 5, lease_ms: 1000 });
        let mut stream = ack_of_member(7, epoch, echo);
        assert_eq!(AckReader::default().read(&stream), Ok(Some(Ack { sequence: 7, epoch, echo })));
        // The newest epoch counts, and a clock is not lost to the acknowledgement behind it.
        stream.extend(ack_of_member(7, None, None));
        let found = AckReader::default().read(&stream);
        assert_eq!(found, Ok(Some(Ack { sequence: 7, epoch: None, echo })));
    }

    #[test]
    fn one_that_leaves_is_heard_between_its_acknowledgements() {
        let mut reader = AckReader::default();
        assert_eq!(reader.read(&ack(5)), Ok(Some(plain(5))));
        assert!(!reader.is_leaving());
        let mut stream = leaving();
        stream.extend(ack(6));
        let (head, tail) = stream.split_at(20);
        assert_eq!(reader.read(head), Ok(None));
        assert!(!reader.is_leaving(), "half of it says nothing");
        assert_eq!(reader.read(tail), Ok(Some(plain(6))));
        assert!(reader.is_leaving());
        reader.read(&request(&[b"replconf", b"other", b"1"])).unwrap();
        assert!(reader.is_leaving(), "it is not taken back");
    }

    #[test]
    fn finds_acknowledgements_among_other_requests() {
        let mut stream = ack(5);
        stream.extend(request(&[b"ping"]));
        stream.extend(ack(9));
        assert_eq!(AckReader::default().read(&stream), Ok(Some(plain(9))));
        let mut reader = AckReader::default();
        let found: Vec<_> = stream.iter().filter_map(|b| reader.read(&[*b]).unwrap()).collect();
        assert_eq!(found, [plain(5), plain(9)]);
        assert!(AckReader::default().read(b"SET a b\r\n").is_err());
        assert!(AckReader::default().read(b"*99999\r\n").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = AckReader::default().read(&input);
        }
    }
}
