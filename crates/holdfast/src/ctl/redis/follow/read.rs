//! What the spool holds, made out: first keys with their values, then commands.

use std::io::{BufReader, Read};

use anyhow::{Context as _, Result, anyhow};
use rdb::Kind;
use rdb::file::{File, Next};
use resp::{Limits, Parser, request::Parsed};
use tokio::sync::mpsc::Sender;

use super::super::values::{Dumped, Ends, Put};

/// Keys, or commands, that are handed on together, unless they have more bytes than this.
const TOGETHER: usize = 512;
const TOGETHER_BYTES: usize = 4 << 20;
/// Bytes that are read at once.
const READ: usize = 256 << 10;
/// Redis' own limit of an argument.
const BULK_MAX: usize = 512 << 20;

/// A command as the Redis tells its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) words: Vec<Vec<u8>>,
    /// The place in the stream behind it.
    pub(super) end: u64,
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Work {
    Keys(Vec<Put>),
    /// The source of a library of functions.
    Library(Vec<u8>),
    /// The data is at its end; values of modules were passed over.
    Copied {
        passed: u64,
    },
    Commands(Vec<Told>),
}

/// Reads to the end; what goes wrong is handed on as the last thing.
pub(super) fn run(input: impl Read, db: u64, offset: u64, out: &Sender<Result<Work>>) {
    let mut input = BufReader::with_capacity(READ, input);
    let done = data(&mut input, db, out).and_then(|()| commands(&mut input, offset, out));
    if let Err(error) = done {
        // A receiver that does not listen any more has ended.
        let _ = out.blocking_send(Err(error));
    }
}

fn hand(out: &Sender<Result<Work>>, work: Work) -> Result<()> {
    out.blocking_send(Ok(work)).map_err(|_| anyhow!("the copy has ended"))
}

fn data(input: &mut impl Read, db: u64, out: &Sender<Result<Work>>) -> Result<()> {
    let unreadable = "read the data of the Redis";
    let mut file = File::open(input).context(unreadable)?;
    let (mut keys, mut bytes, mut passed) = (Vec::new(), 0, 0);
    loop {
        match file.read_next().context(unreadable)? {
            Next::Key(key) if key.db != db => file.pass(&key).context(unreadable)?,
            Next::Key(key) if Kind::of(key.code).is_none() => {
                file.pass(&key).context(unreadable)?;
                passed += 1;
            }
            Next::Key(key) => {
                let payload = file.payload(&key);
                let payload = payload
                    .with_context(|| format!("{unreadable} at key {}", key.name.escape_ascii()))?;
                let ends = if key.expire_ms == 0 { Ends::Never } else { Ends::At(key.expire_ms) };
                bytes += payload.len();
                keys.push(Put::Value(Dumped { key: key.name, payload, ends }));
                if keys.len() >= TOGETHER || bytes >= TOGETHER_BYTES {
                    hand(out, Work::Keys(std::mem::take(&mut keys)))?;
                    bytes = 0;
                }
            }
            Next::Library(code) => hand(out, Work::Library(code))?,
            Next::End => {
                hand(out, Work::Keys(keys))?;
                return hand(out, Work::Copied { passed });
            }
        }
    }
}

fn commands(input: &mut impl Read, mut offset: u64, out: &Sender<Result<Work>>) -> Result<()> {
    let limits = Limits { arguments: usize::MAX, ..Limits::new(BULK_MAX) };
    let mut parser = Parser::new();
    let (mut buffer, mut part) = (Vec::new(), vec![0; READ]);
    loop {
        let (mut at, mut told) = (0, Vec::new());
        while told.len() < TOGETHER {
            let rest = buffer.get(at..).unwrap_or_default();
            let parsed = parser.parse(rest, &limits).context("read the commands of the Redis")?;
            let Parsed::Command { length } = parsed else { break };
            let words = parser.arguments(rest).map(<[u8]>::to_vec).collect();
            at += length;
            offset += length as u64;
            told.push(Told { words, end: offset });
        }
        buffer.drain(..at);
        if !told.is_empty() {
            hand(out, Work::Commands(told))?;
            continue;
        }
        let count = input.read(&mut part).context("read what the Redis sent")?;
        if count == 0 {
            return Ok(());
        }
        buffer.reserve(parser.wanted(buffer.len()));
        buffer.extend_from_slice(part.get(..count).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::channel;

    use super::*;

    #[test]
    fn data_and_commands_are_told_apart_and_places_are_exact() {
        let mut bytes = b"REDIS0011\xfe\x00\x00\x01a\x02hi\xfe\x01\x00\x01b\x01x\xff".to_vec();
        bytes.extend_from_slice(&[0; 8]);
        let commands =
            b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n";
        bytes.extend_from_slice(commands);
        let (out, mut works) = channel(16);
        run(&bytes[..], 0, 100, &out);
        drop(out);
        let Some(Ok(Work::Keys(keys))) = works.blocking_recv() else { panic!("no keys") };
        let [Put::Value(Dumped { key, payload, ends: Ends::Never })] = &keys[..] else {
            panic!("{keys:?}")
        };
        assert_eq!((&key[..], rdb::body(payload).unwrap()), (&b"a"[..], &b"\x00\x02hi"[..]));
        assert!(matches!(works.blocking_recv(), Some(Ok(Work::Copied { passed: 0 }))));
        let Some(Ok(Work::Commands(told))) = works.blocking_recv() else { panic!("no commands") };
        let ends: Vec<u64> = told.iter().map(|told| told.end).collect();
        assert_eq!(ends, [123, 100 + commands.len() as u64]);
        assert_eq!(told[1].words, [&b"SET"[..], b"a", b"b"]);
        assert!(works.blocking_recv().is_none());
    }

    #[test]
    fn what_is_no_data_is_told() {
        let (out, mut works) = channel(16);
        run(&b"REDIS0011\xfe\x00\x00\x01a\x02h"[..], 0, 0, &out);
        assert!(works.blocking_recv().unwrap().is_err());
    }
}
