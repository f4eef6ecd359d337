//! Reads what a replica sends while it is fed: `replconf ack <sequence>`.

use crate::wire::{BulkReader, LineReader, Malformed, decimal};

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
}

impl Default for AckReader {
    fn default() -> Self {
        let (header, bulks) = (LineReader::new(32), BulkReader::new(ARG_BYTES_MAX));
        Self { header, bulks, missing: 0, args: Vec::new() }
    }
}

impl AckReader {
    /// Takes all of `input`; the highest sequence acknowledged in it, if any. Other requests are skipped.
    pub fn read(&mut self, mut input: &[u8]) -> Result<Option<u64>, Malformed> {
        let mut highest = None;
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
            if self.missing == 0 {
                highest = highest.max(self.acked());
            }
        }
        Ok(highest)
    }

    fn acked(&self) -> Option<u64> {
        match &self.args[..] {
            [name, option, value, ..]
                if name.eq_ignore_ascii_case(b"replconf")
                    && option.eq_ignore_ascii_case(b"ack") =>
            {
                decimal(value)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ack, request};
    use proptest::prelude::*;

    #[test]
    fn finds_acknowledgements_among_other_requests() {
        let mut stream = ack(5);
        stream.extend(request(&[b"ping"]));
        stream.extend(ack(9));
        assert_eq!(AckReader::default().read(&stream), Ok(Some(9)));
        let mut reader = AckReader::default();
        let found: Vec<_> = stream.iter().filter_map(|b| reader.read(&[*b]).unwrap()).collect();
        assert_eq!(found, [5, 9]);
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
