//! Keys of any type: life time, type, removal, renaming, and walks over the key space.

use storage::types::CommandError;
use storage::types::copy;
use storage::types::expiry::Unit;
use storage::types::keys::{self, ExpireCondition, Lifetime};
use storage::types::keyspace::{self, Selection};

use super::walk;
use crate::command::args::ScanWords;
use crate::command::keys::{KEY, KEYS, KEYS2, NONE};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{Command, ReadCx, WriteCx};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::read ("ttl",          2, KEY,   ttl).fast(),
    Command::read ("pttl",         2, KEY,   pttl).fast(),
    Command::read ("type",         2, KEY,   type_).fast(),
    Command::read ("exists",      -2, KEYS,  exists).fast(),
    Command::read ("touch",       -2, KEYS,  exists).fast(),
    Command::write("persist",      2, KEY,   persist).fast(),
    Command::write("expire",      -3, KEY,   expire).fast(),
    Command::write("pexpire",     -3, KEY,   pexpire).fast(),
    Command::write("expireat",    -3, KEY,   expireat).fast(),
    Command::write("pexpireat",   -3, KEY,   pexpireat).fast(),
    Command::read ("expiretime",   2, KEY,   expiretime).fast(),
    Command::read ("pexpiretime",  2, KEY,   pexpiretime).fast(),
    Command::write("del",         -2, KEYS,  del).removes(),
    Command::write("unlink",      -2, KEYS,  del).fast().removes(),
    Command::write("rename",       3, KEYS2, rename),
    Command::write("renamenx",     3, KEYS2, renamenx).fast(),
    Command::write("copy",        -3, KEYS2, copy_),
    Command::write("move",         3, KEY,   move_).fast(),
    Command::read ("keys",         2, NONE,  keys_).keyspace(),
    Command::read ("scan",        -2, NONE,  scan).keyspace(),
    Command::read ("randomkey",    1, NONE,  randomkey).keyspace(),
];

fn lifetime(cx: &ReadCx<'_>, args: &mut Args<'_>) -> Result<Lifetime> {
    Ok(keys::lifetime(cx.txn, &cx.scope.at(args.bytes()?))?)
}

fn ttl(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.integer(lifetime(cx, args)?.ttl_seconds(cx.scope.now_ms)))
}

fn pttl(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.integer(lifetime(cx, args)?.ttl_ms(cx.scope.now_ms)))
}

fn type_(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.simple(keys::type_name(cx.txn, &cx.scope.at(args.bytes()?))?))
}

fn exists(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let count = keys::exists(cx.txn, &cx.scope, args.rest())?;
    Ok(reply.integer(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn persist(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.flag(keys::persist(&mut cx.txn, &cx.scope.at(args.bytes()?))?))
}

fn expire(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    end_at(Unit::Seconds, "expire", cx, args, reply)
}

fn pexpire(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    end_at(Unit::Milliseconds, "pexpire", cx, args, reply)
}

fn expireat(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    end_at(Unit::UnixSeconds, "expireat", cx, args, reply)
}

fn pexpireat(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    end_at(Unit::UnixMilliseconds, "pexpireat", cx, args, reply)
}

fn end_at(
    unit: Unit,
    command: &str,
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (key, amount) = (args.bytes()?, args.integer()?);
    let condition = expire_condition(args)?;
    let end_ms = unit.for_expire(amount, &cx.scope).map_err(|error| match error {
        CommandError::InvalidExpire => {
            Error::err(format!("invalid expire time in '{command}' command"))
        }
        other => other.into(),
    })?;
    Ok(reply.flag(keys::expire(&mut cx.txn, &cx.scope.at(key), end_ms, condition)?))
}

fn expire_condition(args: &mut Args<'_>) -> Result<ExpireCondition> {
    let mut condition = ExpireCondition::default();
    while !args.is_empty() {
        let word = args.bytes()?;
        match word.to_ascii_uppercase().as_slice() {
            b"NX" => condition.only_endless = true,
            b"XX" => condition.only_limited = true,
            b"GT" => condition.only_later = true,
            b"LT" => condition.only_earlier = true,
            _ => {
                return Err(Error::err(format!(
                    "Unsupported option {}",
                    String::from_utf8_lossy(word)
                )));
            }
        }
    }
    if condition.only_endless
        && (condition.only_limited || condition.only_later || condition.only_earlier)
    {
        return Err(Error::text(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if condition.only_later && condition.only_earlier {
        return Err(Error::text("ERR GT and LT options at the same time are not compatible"));
    }
    Ok(condition)
}

fn expiretime(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.integer(lifetime(cx, args)?.unix_seconds()))
}

fn pexpiretime(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.integer(lifetime(cx, args)?.unix_ms()))
}

fn del(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let count = keys::del(&mut cx.txn, &cx.scope, args.rest())?;
    Ok(reply.integer(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn rename(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (from, to) = (cx.scope.at(args.bytes()?), cx.scope.at(args.bytes()?));
    copy::rename(&mut cx.txn, &from, &to)?;
    Ok(reply.ok())
}

fn renamenx(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (from, to) = (cx.scope.at(args.bytes()?), cx.scope.at(args.bytes()?));
    Ok(reply.flag(copy::renamenx(&mut cx.txn, &from, &to)?))
}

fn copy_(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (from, to) = (args.bytes()?, args.bytes()?);
    let mut replaces = false;
    while let Some(word) = args.word() {
        match &*word {
            b"REPLACE" => replaces = true,
            b"DB" => {
                if args.integer()? != 0 {
                    return Err(Error::text("ERR DB index is out of range"));
                }
            }
            _ => return Err(Error::Syntax),
        }
    }
    if from == to {
        return Err(Error::text("ERR source and destination objects are the same"));
    }
    Ok(reply.flag(copy::copy(&mut cx.txn, &cx.scope.at(from), &cx.scope.at(to), replaces)?))
}

/// As in Kvrocks: the answer of a move to another database, of which there is none.
fn move_(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, _database) = (args.bytes()?, args.number::<i32>()?);
    Ok(reply.flag(keys::exists(&cx.txn, &cx.scope, &[key])? > 0))
}

fn keys_(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.bulks(&keyspace::keys(cx.txn, &cx.scope, args.bytes()?)?))
}

fn scan(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let position = walk::position(cx, args.bytes()?)?;
    let options = args.scan_options(ScanWords::WithType)?;
    let selection = Selection { pattern: options.pattern, type_name: options.type_name };
    let page = keyspace::scan(cx.txn, &cx.scope, &position, options.count, &selection)?;
    Ok(walk::reply(cx, &page, reply, |writer, keys| writer.bulks(keys)))
}

fn randomkey(cx: &ReadCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let key = keyspace::random_key(cx.txn, &cx.scope)?;
    Ok(reply.bulk_or_null(key.as_deref()))
}
