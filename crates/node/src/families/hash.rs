//! Hashes. Replies are Redis 7's.

mod at_once;
mod lifetimes;
mod parts;

use at_once::{hgetdel, hgetex, hsetex};
use lifetimes::{
    hexpire, hexpireat, hexpiretime, hpersist, hpexpire, hpexpireat, hpexpiretime, hpttl,
    hsetexpire, httl,
};
use parts::{hrandfield, hrangebylex, hscan};
use resp::Writer;
use storage::types::hash;
use storage::types::numbers::parse_float;
use storage::types::score;

use crate::command::keys::KEY;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::config::value::HashLength;
use crate::session::{Command, ReadCx, WriteCx};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::write("hset",         -4, KEY, hset).fast(),
    Command::write("hsetnx",        4, KEY, hsetnx).fast(),
    Command::write("hmset",        -4, KEY, hmset).fast(),
    Command::read ("hget",          3, KEY, hget).fast(),
    Command::read ("hmget",        -3, KEY, hmget).fast(),
    Command::read ("hgetall",       2, KEY, hgetall),
    Command::read ("hkeys",         2, KEY, hkeys),
    Command::read ("hvals",         2, KEY, hvals),
    Command::read ("hlen",          2, KEY, hlen).fast(),
    Command::read ("hstrlen",       3, KEY, hstrlen).fast(),
    Command::read ("hexists",       3, KEY, hexists).fast(),
    Command::write("hdel",         -3, KEY, hdel).fast().removes(),
    Command::write("hincrby",       4, KEY, hincrby).fast(),
    Command::write("hincrbyfloat",  4, KEY, hincrbyfloat).fast(),
    Command::read ("hrandfield",   -2, KEY, hrandfield),
    Command::read ("hscan",        -3, KEY, hscan),
    Command::read ("hrangebylex",  -4, KEY, hrangebylex),
    Command::write("hexpire",      -6, KEY, hexpire).fast(),
    Command::write("hpexpire",     -6, KEY, hpexpire).fast(),
    Command::write("hexpireat",    -6, KEY, hexpireat).fast(),
    Command::write("hpexpireat",   -6, KEY, hpexpireat).fast(),
    Command::read ("httl",         -5, KEY, httl).fast(),
    Command::read ("hpttl",        -5, KEY, hpttl).fast(),
    Command::read ("hexpiretime",  -5, KEY, hexpiretime).fast(),
    Command::read ("hpexpiretime", -5, KEY, hpexpiretime).fast(),
    Command::write("hpersist",     -5, KEY, hpersist).fast().removes(),
    Command::write("hgetdel",      -5, KEY, hgetdel).fast().removes(),
    Command::write("hgetex",       -5, KEY, hgetex).fast(),
    Command::write("hsetex",       -6, KEY, hsetex).fast(),
    Command::write("hsetexpire",   -5, KEY, hsetexpire),
];

fn set(cx: &mut WriteCx<'_>, args: &mut Args<'_>, command: &str) -> Result<u64> {
    let (at, before) = (cx.scope.at(args.bytes()?), cx.txn.count());
    let added = hash::set(&mut cx.txn, &at, &args.pairs(command)?)?;
    cx.touch_unless_written(&at, before);
    Ok(added)
}

fn hset(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.number(set(cx, args, "hset")?))
}

fn hsetnx(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    Ok(reply.flag(hash::setnx(&mut cx.txn, &at, args.bytes()?, args.bytes()?)?))
}

fn hmset(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    set(cx, args, "hmset")?;
    Ok(reply.ok())
}

fn hget(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let value = hash::get(cx.txn, &cx.scope.at(args.bytes()?), args.bytes()?)?;
    cx.count(value.is_some());
    Ok(reply.bulk_or_null(value.as_deref()))
}

fn hmget(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, fields) = (cx.scope.at(args.bytes()?), args.rest());
    reply.elements(fields.len(), |writer| {
        Ok(hash::mget(cx.txn, &at, fields, |value| {
            writer.bulk_or_null(value);
            Ok(())
        })?)
    })
}

/// Writes some of each field and value; returns how many fields there are.
fn fields(cx: &ReadCx<'_>, key: &[u8], mut write: impl FnMut(&[u8], &[u8])) -> Result<usize> {
    let mut count = 0;
    hash::for_each(&cx.txn.snapshot(), &cx.scope.at(key), |field, value| {
        count += 1;
        write(field, value);
    })?;
    cx.count(count > 0);
    Ok(count)
}

fn hgetall(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let key = args.bytes()?;
    reply.listing(Writer::map, |writer| {
        fields(cx, key, |field, value| {
            writer.bulk(field);
            writer.bulk(value);
        })
    })
}

fn hkeys(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let key = args.bytes()?;
    reply.listing(Writer::array, |writer| fields(cx, key, |field, _| writer.bulk(field)))
}

fn hvals(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let key = args.bytes()?;
    reply.listing(Writer::array, |writer| fields(cx, key, |_, value| writer.bulk(value)))
}

fn hlen(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    Ok(reply.number(match cx.config.hash_length_mode {
        HashLength::Accurate => hash::len(cx.txn, &at)?,
        HashLength::Approximate => hash::len_when_written(cx.txn, &at)?,
    }))
}

fn hstrlen(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let value = hash::get(cx.txn, &cx.scope.at(args.bytes()?), args.bytes()?)?;
    Ok(reply.count(value.map_or(0, |value| value.len())))
}

fn hexists(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let value = hash::get(cx.txn, &cx.scope.at(args.bytes()?), args.bytes()?)?;
    Ok(reply.flag(value.is_some()))
}

fn hdel(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    Ok(reply.number(hash::del(&mut cx.txn, &at, args.rest())?))
}

fn hincrby(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, field) = (cx.scope.at(args.bytes()?), args.bytes()?);
    Ok(reply.integer(hash::incrby(&mut cx.txn, &at, field, args.integer()?)?))
}

fn hincrbyfloat(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, field, increment) = (cx.scope.at(args.bytes()?), args.bytes()?, args.bytes()?);
    match parse_float(increment) {
        // Redis takes hexadecimal numbers, and so looks at the key before it can say anything.
        None if score::parse(increment).is_some() => {
            hash::find(&cx.txn, &at)?;
            return Err(Error::text("ERR value is not a valid float"));
        }
        None => return Err(Error::text("ERR value is not a valid float")),
        // What no double holds may still fit Redis' wider numbers, and fails when it is added.
        Some(number) if number.is_infinite() && !increment.iter().any(u8::is_ascii_digit) => {
            return Err(Error::text("ERR value is NaN or Infinity"));
        }
        Some(_) => {}
    }
    Ok(reply.bulk(&hash::incrbyfloat(&mut cx.txn, &at, field, increment)?))
}
