//! OBJECT and KMETADATA: how a value is kept.
//!
//! Values lie in RocksDB, not in memory: there is no encoding that depends on their size, nobody is
//! evicted, and no use of a key is noted. What Redis clients ask is answered as far as it has a
//! meaning here.

use resp::Writer;
use storage::types::fields::Form;
use storage::types::head::Header;
use storage::types::kind::Type;
use storage::types::numbers::parse_integer;

use crate::command::keys::Keys;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::info::date;
use crate::session::table::ReadHandler;
use crate::session::{After, Command, ReadCx, SessionCx};

#[rustfmt::skip]
pub(super) const COMMANDS: &[Command] = &[
    object("object|dump",     dump),
    object("object|encoding", encoding),
    object("object|freq",     frequency),
    Command::session("object|help", 2, help).loading().stale(),
    object("object|idletime", idle_time),
    object("object|refcount", count_references),
];

const KEY_BEHIND: Keys = Keys::Range { first: 2, last: 2, step: 1 };

const fn object(name: &'static str, handler: ReadHandler) -> Command {
    Command::read(name, 3, KEY_BEHIND, handler)
}

const HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DUMP <key>",
    "    Show the metadata of a key, as Kvrocks keeps it.",
    "ENCODING <key>",
    "    Say how the value is kept, in the words of Redis for large values.",
    "FREQ <key>",
    "    Refused: how often a key is used is not noted.",
    "IDLETIME <key>",
    "    Refused: when a key was used last is not noted.",
    "REFCOUNT <key>",
    "    Answer 1 for every key.",
    "HELP",
    "    Print this help.",
];

fn help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(HELP).into())
}

/// Bits of a version below its time in microseconds.
const VERSION_COUNTER_BITS: u32 = 11;

/// Kvrocks': names and values of what stands in the metadata of a key.
fn dump(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let Some(living) = at.living(cx.txn)? else { return Ok(reply.with(|w| w.array(0))) };
    let header = living.header();
    let (version, size) = header.version_and_size().unwrap_or_default();
    let made_us = version >> VERSION_COUNTER_BITS;
    let made = format!("{}.{}", date(made_us / 1_000_000), made_us % 1_000_000);
    let number = |number: u64| number.to_string();
    let mut parts = vec![
        ("namespace", String::from_utf8_lossy(cx.scope.namespace).into_owned()),
        ("type", header.kind().map_or("unknown", Type::name).to_owned()),
        ("version", number(version)),
        ("expire", number(header.expire_ms / 1000)),
        ("pexpire", number(header.expire_ms)),
        ("size", number(size)),
        ("is_64bit_common_field", number(u64::from(header.is_wide()))),
        ("created_at", made),
    ];
    if header.kind() == Some(Type::List)
        && let Some((head, tail)) = ends(&header)
    {
        parts.push(("head", number(head)));
        parts.push(("tail", number(tail)));
    }
    let words: Vec<&str> = parts.iter().flat_map(|(name, value)| [*name, value]).collect();
    Ok(reply.bulks(&words))
}

/// Where a list begins and where it ends, as its metadata has it.
fn ends(header: &Header<'_>) -> Option<(u64, u64)> {
    let (head, tail) = header.tail().split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*head), u64::from_be_bytes(*tail.first_chunk::<8>()?)))
}

/// A part of the metadata, for KMETADATA.
enum Fact {
    Number(u64),
    Word(&'static str),
}

/// What the metadata of some types says besides.
fn particulars(header: &Header<'_>) -> Vec<(&'static str, Fact)> {
    match header.kind() {
        Some(Type::Hash) => match header.form() {
            Some(Form::Plain) => vec![("mode", Fact::Word("legacy"))],
            Some(Form::Timed(times)) => vec![
                ("mode", Fact::Word("field-expiration")),
                ("persist", Fact::Number(times.endless)),
                ("lower", Fact::Number(times.lower_ms)),
                ("upper", Fact::Number(times.upper_ms)),
            ],
            None => Vec::new(),
        },
        Some(Type::List) => ends(header).map_or_else(Vec::new, |(head, tail)| {
            vec![("head", Fact::Number(head)), ("tail", Fact::Number(tail))]
        }),
        Some(Type::Json) => match header.rest.first() {
            Some(0) => vec![("format", Fact::Word("json"))],
            Some(1) => vec![("format", Fact::Word("cbor"))],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// Kvrocks': what stands in the metadata of a key, as a map. Types that have neither version nor
/// size show 0.
pub(super) fn metadata(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let Some(living) = at.living(cx.txn)? else { return Err(Error::text("ERR NotFound: ")) };
    let header = living.header();
    let (version, size) = header.version_and_size().unwrap_or_default();
    let mut facts = vec![
        ("type", Fact::Word(header.kind().map_or("unknown", Type::name))),
        ("size", Fact::Number(size)),
        ("expire", Fact::Number(header.expire_ms)),
        ("flags", Fact::Number(u64::from(header.flags()))),
        ("version", Fact::Number(version)),
    ];
    facts.extend(particulars(&header));
    Ok(reply.with(|writer| write_facts(writer, &facts)))
}

fn write_facts(writer: &mut Writer<'_>, facts: &[(&str, Fact)]) {
    writer.map(facts.len());
    for (name, fact) in facts {
        writer.bulk(name.as_bytes());
        match fact {
            Fact::Number(number) => writer.integer(i64::try_from(*number).unwrap_or(i64::MAX)),
            Fact::Word(word) => writer.bulk(word.as_bytes()),
        }
    }
}

/// The longest string that Redis keeps beside its head.
const EMBEDDED_MAX: usize = 44;

fn encoding(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let Some(living) = at.living(cx.txn)? else { return Ok(reply.null()) };
    let header = living.header();
    let word = match header.kind() {
        Some(Type::String) => match header.rest {
            text if parse_integer(text).is_some() => "int",
            text if text.len() <= EMBEDDED_MAX => "embstr",
            _ => "raw",
        },
        Some(Type::Hash | Type::Set) => "hashtable",
        Some(Type::List) => "quicklist",
        Some(Type::Zset) => "skiplist",
        Some(Type::Stream) => "stream",
        Some(_) | None => "raw",
    };
    Ok(reply.bulk(word.as_bytes()))
}

fn frequency(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    if cx.scope.at(args.bytes()?).living(cx.txn)?.is_none() {
        return Ok(reply.null());
    }
    Err(Error::err("An LFU maxmemory policy is not selected, access frequency not tracked."))
}

fn idle_time(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    if cx.scope.at(args.bytes()?).living(cx.txn)?.is_none() {
        return Ok(reply.null());
    }
    Err(Error::err("idle time not tracked: keys are on disk, and none is evicted"))
}

fn count_references(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    match cx.scope.at(args.bytes()?).living(cx.txn)? {
        Some(_) => Ok(reply.integer(1)),
        None => Ok(reply.null()),
    }
}
