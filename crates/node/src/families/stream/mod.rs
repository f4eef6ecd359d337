//! Streams. Replies are Redis 7's.

mod claim;
mod edit;
mod group;
mod info;
mod pending;
mod read;

use claim::{xautoclaim, xclaim};
use edit::{xadd, xdel, xsetid, xtrim};
use pending::{xack, xpending};
use read::{settle, xread, xreadgroup};
use resp::Writer;
use smallvec::SmallVec;
use storage::Direction;
use storage::types::stream::{self, Entry, Id, InGroup, Span, fields};

use crate::command::keys::{KEY, Keys};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{Command, ReadCx, WriteCx};

/// The keys of XREAD and XREADGROUP.
const STREAMS: Keys = Keys::With(read::keys);

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::write("xadd",       -5, KEY, xadd).fast(),
    Command::read ("xlen",        2, KEY, xlen).fast(),
    Command::read ("xrange",     -4, KEY, xrange),
    Command::read ("xrevrange",  -4, KEY, xrevrange),
    Command::write("xdel",       -3, KEY, xdel).fast().removes(),
    Command::write("xtrim",      -4, KEY, xtrim).removes(),
    Command::write("xsetid",     -3, KEY, xsetid).fast(),
    Command::waiting_read("xread", -4, STREAMS, xread, settle),
    Command::container("xgroup", group::COMMANDS),
    Command::waiting("xreadgroup", -7, STREAMS, xreadgroup).removes(),
    Command::write("xack",       -4, KEY, xack).fast().removes(),
    Command::read ("xpending",   -3, KEY, xpending),
    Command::write("xclaim",     -6, KEY, xclaim).fast().removes(),
    Command::write("xautoclaim", -6, KEY, xautoclaim).fast().removes(),
    Command::container("xinfo",  info::COMMANDS),
];

/// The second argument of a command in a container.
const SECOND: Keys = Keys::Range { first: 2, last: 2, step: 1 };

const WRONG_ID: &str = "ERR Invalid stream ID specified as stream command argument";

/// An identifier; without a number within its millisecond it has this one.
fn id(word: &[u8], missing_seq: u64) -> Result<Id> {
    Id::parse(word, missing_seq).ok_or_else(|| Error::text(WRONG_ID))
}

/// An identifier, or `-` and `+` for the first and the last one.
fn any_id(word: &[u8], missing_seq: u64) -> Result<Id> {
    match word {
        b"-" => Ok(Id::MIN),
        b"+" => Ok(Id::MAX),
        word => id(word, missing_seq),
    }
}

/// From where on: an identifier, included or behind `(`.
fn first(word: &[u8]) -> Result<Id> {
    match word {
        [b'(', word @ ..] if !word.is_empty() => {
            id(word, 0)?.next().ok_or_else(|| Error::text("ERR invalid start ID for the interval"))
        }
        word => any_id(word, 0),
    }
}

/// As far as.
fn last(word: &[u8]) -> Result<Id> {
    match word {
        [b'(', word @ ..] if !word.is_empty() => id(word, u64::MAX)?
            .previous()
            .ok_or_else(|| Error::text("ERR invalid end ID for the interval")),
        word => any_id(word, u64::MAX),
    }
}

/// Several identifiers.
fn ids(words: &[&[u8]]) -> Result<Vec<Id>> {
    words.iter().map(|word| id(word, 0)).collect()
}

/// An identifier as its clients see it, without a string for it.
fn text(id: Id) -> SmallVec<[u8; 64]> {
    let mut text = SmallVec::new();
    text.extend_from_slice(itoa::Buffer::new().format(id.ms).as_bytes());
    text.push(b'-');
    text.extend_from_slice(itoa::Buffer::new().format(id.seq).as_bytes());
    text
}

fn write_id(writer: &mut Writer<'_>, id: Id) {
    writer.bulk(&text(id));
}

/// An entry: its identifier, its fields and values in turn.
fn write_entry(writer: &mut Writer<'_>, id: Id, fields: &[&[u8]]) {
    writer.array(2);
    write_id(writer, id);
    writer.bulks(fields);
}

/// Entries, or their identifiers alone.
fn write_entries(writer: &mut Writer<'_>, entries: &[Entry], only_ids: bool) -> Result<()> {
    writer.array(entries.len());
    for (id, value) in entries {
        if only_ids {
            write_id(writer, *id);
        } else {
            write_entry(writer, *id, &fields::decode(value)?);
        }
    }
    Ok(())
}

/// The group that a command is about.
fn there<'n>(
    found: Option<InGroup<'n>>,
    (key, group): (&[u8], &[u8]),
    behind: &str,
) -> Result<InGroup<'n>> {
    found.ok_or_else(|| {
        let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
        Error::text(format!("NOGROUP No such key '{key}' or consumer group '{group}'{behind}"))
    })
}

/// Notes that a command is about to make the consumer that asks, where somebody is told of events.
fn note_consumer(
    cx: &mut WriteCx<'_>,
    key: &[u8],
    group: &InGroup<'_>,
    consumer: &[u8],
) -> Result<()> {
    let is_told = cx.config.notify_keyspace_events.any();
    if is_told && group.consumer(&cx.txn, consumer)?.is_none() {
        let at = cx.scope.at(key);
        cx.note_consumer(&at);
    }
    Ok(())
}

/// What Redis answers to words behind a subcommand that do not fit.
fn wrong_usage(args: &Args<'_>) -> Error {
    let word = |at: usize| args.all().get(at).copied().unwrap_or_default();
    let container = String::from_utf8_lossy(word(0)).to_uppercase();
    let leaf = String::from_utf8_lossy(word(1));
    Error::err(format_args!(
        "unknown subcommand or wrong number of arguments for '{leaf}'. Try {container} HELP."
    ))
}

fn xlen(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.number(stream::len(cx.txn, &cx.scope.at(args.bytes()?))?))
}

fn range(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    direction: Direction,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (at, begin, end) = (cx.scope.at(args.bytes()?), args.bytes()?, args.bytes()?);
    let span = match direction {
        Direction::Forward => Span { first: first(begin)?, last: last(end)? },
        Direction::Reverse => Span { first: first(end)?, last: last(begin)? },
    };
    let mut count = u64::MAX;
    while let Some(word) = args.word() {
        match &*word {
            b"COUNT" => count = u64::try_from(args.integer()?).unwrap_or(0),
            _ => return Err(Error::Syntax),
        }
    }
    let snapshot = cx.txn.snapshot();
    let found = stream::find(&snapshot, &at)?;
    cx.count(found.is_some());
    let Some(found) = found else { return Ok(reply.with(|writer| writer.array(0))) };
    if count == 0 {
        return Ok(reply.with(|writer| writer.null_array()));
    }
    reply.listing(Writer::array, |writer| {
        let mut written = 0;
        stream::range(&snapshot, &found, span, (direction, count), |id, fields| {
            written += 1;
            write_entry(writer, id, fields);
        })?;
        Ok(written)
    })
}

fn xrange(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    range(cx, args, Direction::Forward, reply)
}

fn xrevrange(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    range(cx, args, Direction::Reverse, reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_written_as_it_is_shown() {
        for id in [Id::MIN, Id { ms: 1_733_022_000_123, seq: 7 }, Id { ms: 0, seq: 10 }, Id::MAX] {
            let shown = id.to_string();
            assert_eq!(&*text(id), shown.as_bytes());
            let mut out = Vec::new();
            write_id(&mut Writer::new(&mut out, resp::Protocol::V2), id);
            assert_eq!(out, format!("${}\r\n{shown}\r\n", shown.len()).into_bytes());
        }
    }
}
