//! Strings. Replies are Redis 7's; CAS and CAD are Kvrocks'.

mod compared;

use storage::types::CommandError;
use storage::types::expiry::{Expiry, Unit};
use storage::types::lcs;
use storage::types::strings::{self, Compared, Condition, SetOptions};

use crate::command::args::parse_integer;
use crate::command::keys::{KEY, KEYS, KEYS2, PAIRS};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{Command, ReadCx, WriteCx};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::read ("get",          2, KEY,   get).fast(),
    Command::write("getex",       -2, KEY,   getex).fast(),
    Command::read ("strlen",       2, KEY,   strlen).fast(),
    Command::write("getset",       3, KEY,   getset).fast(),
    Command::read ("getrange",     4, KEY,   getrange),
    Command::read ("substr",       4, KEY,   getrange),
    Command::write("getdel",       2, KEY,   getdel).fast().removes(),
    Command::write("setrange",     4, KEY,   setrange),
    Command::read ("mget",        -2, KEYS,  mget).fast(),
    Command::write("append",       3, KEY,   append).fast(),
    Command::write("set",         -3, KEY,   set),
    Command::write("setex",        4, KEY,   setex),
    Command::write("psetex",       4, KEY,   psetex),
    Command::write("setnx",        3, KEY,   setnx).fast(),
    Command::write("msetnx",      -3, PAIRS, msetnx),
    Command::write("mset",        -3, PAIRS, mset),
    Command::write("incrby",       3, KEY,   incrby).fast(),
    Command::write("incrbyfloat",  3, KEY,   incrbyfloat).fast(),
    Command::write("incr",         2, KEY,   incr).fast(),
    Command::write("decrby",       3, KEY,   decrby).fast(),
    Command::write("decr",         2, KEY,   decr).fast(),
    Command::write("cas",         -4, KEY,   cas),
    Command::write("cad",          3, KEY,   cad).removes(),
    Command::write("delex",       -2, KEY,   compared::delex).fast().removes(),
    Command::read ("digest",       2, KEY,   compared::digest).fast(),
    Command::write("msetex",      -4, compared::MSETEX_KEYS, compared::msetex),
    Command::read ("lcs",         -3, KEYS2, lcs),
];

fn get(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let bitmap_max = cx.config.bitmap_bytes_max();
    let value = strings::get_within(cx.txn, &cx.scope.at(args.bytes()?), bitmap_max)?;
    cx.count(value.is_some());
    Ok(reply.bulk_or_null(value.as_deref()))
}

fn getex(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let key = args.bytes()?;
    let mut chosen = None;
    while let Some(word) = args.word() {
        match &*word {
            b"PERSIST" => choose(&mut chosen, Lifetime::Endless)?,
            other => timed(&mut chosen, other, args)?,
        }
    }
    let bitmap_max = cx.config.bitmap_bytes_max();
    let is_there = |cx: &WriteCx<'_>| {
        strings::get_within(&cx.txn, &cx.scope.at(key), bitmap_max).map(|found| found.is_some())
    };
    // A key that is not there is no error, whatever the time.
    let expiry = match chosen {
        Some(chosen) if is_there(cx)? => Some(chosen.expiry(cx, "getex")?),
        _ => None,
    };
    let value = strings::getex(&mut cx.txn, &cx.scope.at(key), expiry, bitmap_max)?;
    Ok(reply.bulk_or_null(value.as_deref()))
}

fn strlen(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.count(strings::strlen(cx.txn, &cx.scope.at(args.bytes()?))?))
}

fn getset(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, value) = (args.bytes()?, args.bytes()?);
    let options = SetOptions { get: true, ..SetOptions::default() };
    let outcome = strings::set(&mut cx.txn, &cx.scope.at(key), value, &options)?;
    Ok(reply.bulk_or_null(outcome.old.as_deref()))
}

fn getrange(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, start, end) = (args.bytes()?, args.integer()?, args.integer()?);
    let part = strings::getrange(cx.txn, &cx.scope.at(key), start, end)?;
    Ok(reply.bulk(part.as_deref().unwrap_or_default()))
}

fn getdel(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let value = strings::getdel(&mut cx.txn, &cx.scope.at(args.bytes()?))?;
    Ok(reply.bulk_or_null(value.as_deref()))
}

fn setrange(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, offset, patch) = (args.bytes()?, args.integer()?, args.bytes()?);
    Ok(reply.count(strings::setrange(&mut cx.txn, &cx.scope.at(key), offset, patch)?))
}

fn mget(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let keys = args.rest();
    let (bitmap_max, mut hits) = (cx.config.bitmap_bytes_max(), 0);
    let replied = reply.elements(keys.len(), |writer| {
        strings::mget(cx.txn, &cx.scope, keys, bitmap_max, |value| {
            hits += usize::from(value.is_some());
            writer.bulk_or_null(value);
        })?;
        Ok(())
    })?;
    (0..keys.len()).for_each(|place| cx.count(place < hits));
    Ok(replied)
}

fn append(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, suffix) = (cx.scope.at(args.bytes()?), args.bytes()?);
    let before = cx.txn.count();
    let length = strings::append(&mut cx.txn, &at, suffix)?;
    cx.touch_unless_written(&at, before);
    Ok(reply.count(length))
}

/// What options said about the time to live. Numbers are read only after all options have been: a
/// word that makes no sense is told first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lifetime<'a> {
    /// EX, PX, EXAT, PXAT and what follows.
    Until(Unit, &'a [u8]),
    /// KEEPTTL.
    Kept,
    /// PERSIST.
    Endless,
}

impl Lifetime<'_> {
    fn expiry(self, cx: &WriteCx<'_>, command: &str) -> Result<Expiry> {
        match self {
            Self::Until(unit, amount) => {
                let amount = parse_integer(amount).ok_or(Error::NotInteger)?;
                point_in_time(unit, amount, cx, command)
            }
            Self::Kept => Ok(Expiry::Keep),
            Self::Endless => Ok(Expiry::Never),
        }
    }
}

/// As in Redis an option may be repeated, and the last one counts; two different ones may not.
fn choose<'a>(chosen: &mut Option<Lifetime<'a>>, new: Lifetime<'a>) -> Result<()> {
    let is_same = match (*chosen, new) {
        (None, _) => true,
        (Some(Lifetime::Until(old, _)), Lifetime::Until(new, _)) => old == new,
        (Some(old), new) => old == new,
    };
    if !is_same {
        return Err(Error::Syntax);
    }
    *chosen = Some(new);
    Ok(())
}

/// EX, PX, EXAT or PXAT and its number; any other word is an error.
fn timed<'a>(chosen: &mut Option<Lifetime<'a>>, word: &[u8], args: &mut Args<'a>) -> Result<()> {
    let unit = match word {
        b"EX" => Unit::Seconds,
        b"PX" => Unit::Milliseconds,
        b"EXAT" => Unit::UnixSeconds,
        b"PXAT" => Unit::UnixMilliseconds,
        _ => return Err(Error::Syntax),
    };
    choose(chosen, Lifetime::Until(unit, args.bytes()?))
}

fn point_in_time(unit: Unit, amount: i64, cx: &WriteCx<'_>, command: &str) -> Result<Expiry> {
    match unit.for_value(amount, &cx.scope) {
        Ok(at_ms) => Ok(Expiry::At(at_ms)),
        Err(CommandError::InvalidExpire) => {
            Err(Error::err(format!("invalid expire time in '{command}' command")))
        }
        Err(error) => Err(error.into()),
    }
}

fn set(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, value) = (args.bytes()?, args.bytes()?);
    let mut options = SetOptions::default();
    let mut chosen = None;
    while let Some(word) = args.word() {
        match &*word {
            b"NX" => compared::condition(&mut options.condition, Condition::IfAbsent)?,
            b"XX" => compared::condition(&mut options.condition, Condition::IfPresent)?,
            b"IFEQ" | b"IFNE" | b"IFDEQ" | b"IFDNE" if options.condition == Condition::Always => {
                options.condition = Condition::If(compared::comparison(&word, args)?);
            }
            b"GET" => options.get = true,
            b"KEEPTTL" => choose(&mut chosen, Lifetime::Kept)?,
            other => timed(&mut chosen, other, args)?,
        }
    }
    if let Some(chosen) = chosen {
        options.expiry = chosen.expiry(cx, "set")?;
    }
    let outcome = strings::set(&mut cx.txn, &cx.scope.at(key), value, &options)?;
    Ok(match (options.get, outcome.is_set) {
        (true, _) => reply.bulk_or_null(outcome.old.as_deref()),
        (false, true) => reply.ok(),
        (false, false) => reply.null(),
    })
}

fn setex(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    set_with(Unit::Seconds, "setex", cx, args, reply)
}

fn psetex(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    set_with(Unit::Milliseconds, "psetex", cx, args, reply)
}

fn set_with(
    unit: Unit,
    command: &str,
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (key, amount, value) = (args.bytes()?, args.integer()?, args.bytes()?);
    let expiry = point_in_time(unit, amount, cx, command)?;
    let options = SetOptions { expiry, ..SetOptions::default() };
    strings::set(&mut cx.txn, &cx.scope.at(key), value, &options)?;
    Ok(reply.ok())
}

fn setnx(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, value) = (args.bytes()?, args.bytes()?);
    let options = SetOptions { condition: Condition::IfAbsent, ..SetOptions::default() };
    let outcome = strings::set(&mut cx.txn, &cx.scope.at(key), value, &options)?;
    Ok(reply.flag(outcome.is_set))
}

fn msetnx(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let pairs = args.pairs("msetnx")?;
    Ok(reply.flag(strings::msetnx(&mut cx.txn, &cx.scope, &pairs)?))
}

fn mset(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let pairs = args.pairs("mset")?;
    strings::mset(&mut cx.txn, &cx.scope, &pairs);
    Ok(reply.ok())
}

fn add(cx: &mut WriteCx<'_>, key: &[u8], delta: i64, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.integer(strings::incrby(&mut cx.txn, &cx.scope.at(key), delta)?))
}

fn incrby(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, delta) = (args.bytes()?, args.integer()?);
    add(cx, key, delta, reply)
}

fn incrbyfloat(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, delta) = (args.bytes()?, args.bytes()?);
    Ok(reply.bulk(&strings::incrbyfloat(&mut cx.txn, &cx.scope.at(key), delta)?))
}

fn incr(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    add(cx, args.bytes()?, 1, reply)
}

fn decrby(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, delta) = (args.bytes()?, args.integer()?);
    let delta = delta.checked_neg().ok_or_else(|| Error::text("ERR decrement would overflow"))?;
    add(cx, key, delta, reply)
}

fn decr(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    add(cx, args.bytes()?, -1, reply)
}

fn compared(reply: Reply<'_>, outcome: Compared) -> Replied {
    reply.integer(match outcome {
        Compared::Absent => -1,
        Compared::Different => 0,
        Compared::Equal => 1,
    })
}

fn cas(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, old, new) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let mut chosen = None;
    while let Some(word) = args.word() {
        timed(&mut chosen, &word, args)?;
    }
    let expiry = match chosen {
        Some(chosen) => chosen.expiry(cx, "cas")?,
        None => Expiry::Never,
    };
    Ok(compared(reply, strings::cas(&mut cx.txn, &cx.scope.at(key), old, new, expiry)?))
}

fn cad(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, old) = (args.bytes()?, args.bytes()?);
    Ok(compared(reply, strings::cad(&mut cx.txn, &cx.scope.at(key), old)?))
}

/// Options of LCS.
#[derive(Default)]
struct LcsOptions {
    length: bool,
    index: bool,
    least: i64,
    with_lengths: bool,
}

fn lcs(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let not_strings = |_| Error::text("ERR The specified keys must contain string values");
    // Both as of one moment: two values that were written at once are compared as such. As in
    // Redis, what is no string is told before the options.
    let (first, second) = (cx.scope.at(args.bytes()?), cx.scope.at(args.bytes()?));
    let read = cx.txn.snapshot();
    let first = strings::get(&read, &first).map_err(not_strings)?;
    let second = strings::get(&read, &second).map_err(not_strings)?;
    let mut options = LcsOptions::default();
    while let Some(word) = args.word() {
        match &*word {
            b"LEN" => options.length = true,
            b"IDX" => options.index = true,
            b"MINMATCHLEN" => options.least = args.integer()?,
            b"WITHMATCHLEN" => options.with_lengths = true,
            _ => return Err(Error::Syntax),
        }
    }
    if options.length && options.index {
        return Err(Error::text(
            "ERR If you want both the length and indexes, please just use IDX.",
        ));
    }
    let found =
        lcs::lcs(first.as_deref().unwrap_or_default(), second.as_deref().unwrap_or_default())?;
    Ok(match (options.length, options.index) {
        (true, _) => reply.count(found.text.len()),
        (_, true) => indexes(reply, &found, &options),
        _ => reply.bulk(&found.text),
    })
}

fn indexes(reply: Reply<'_>, found: &lcs::Lcs, options: &LcsOptions) -> Replied {
    let least = usize::try_from(options.least).unwrap_or(0);
    let matches: Vec<_> = found.matches.iter().filter(|m| m.length() >= least).collect();
    let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    reply.with(|writer| {
        writer.map(2);
        writer.bulk(b"matches");
        writer.array(matches.len());
        for item in &matches {
            writer.array(if options.with_lengths { 3 } else { 2 });
            for (start, end) in [item.first, item.second] {
                writer.array(2);
                writer.integer(number(start));
                writer.integer(number(end));
            }
            if options.with_lengths {
                writer.integer(number(item.length()));
            }
        }
        writer.bulk(b"len");
        writer.integer(number(found.text.len()));
    })
}
