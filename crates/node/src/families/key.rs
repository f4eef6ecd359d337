//! Keys of any type: life time, type, removal, renaming, and walks over the key space.

use resp::Writer;
use storage::types::CommandError;
use storage::types::copy;
use storage::types::expiry::Unit;
use storage::types::keys::{self, ExpireCondition, Lifetime};
use storage::types::keyspace::{self, Selection};
use storage::{DEFAULT_NAMESPACE, Scope};

use super::walk;
use crate::command::args::{ScanWords, parse_integer};
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
    Command::write("copy",        -3, KEYS2, copy_).elsewhere(),
    Command::write("move",         3, KEY,   move_).fast().elsewhere(),
    Command::write("movex",        3, KEY,   movex).skip_slowlog().elsewhere(),
    Command::container("object", super::object::COMMANDS),
    Command::read ("kmetadata",    2, KEY,   super::object::metadata),
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
    let (key, amount) = (args.bytes()?, args.bytes()?);
    // As in Redis, options that make no sense are told before a number that is none.
    let condition = expire_condition(args)?;
    let amount = parse_integer(amount).ok_or(Error::NotInteger)?;
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
    let (mut replaces, mut database) = (false, None);
    while let Some(word) = args.word() {
        match &*word {
            b"REPLACE" => replaces = true,
            b"DB" => {
                database = Some(database_of(cx, args)?);
            }
            _ => return Err(Error::Syntax),
        }
    }
    let namespace = database.as_deref().unwrap_or(cx.scope.namespace);
    let (from, to) = (cx.scope.at(from), Scope { namespace, ..cx.scope }.at(to));
    if *from.ns_key == *to.ns_key {
        return Err(same());
    }
    Ok(reply.flag(copy::copy(&mut cx.txn, &from, &to, replaces)?))
}

fn same() -> Error {
    Error::text("ERR source and destination objects are the same")
}

/// The namespace of a database by its number, the next argument. A client of a namespace has no
/// other.
fn database_of(cx: &WriteCx<'_>, args: &mut Args<'_>) -> Result<Vec<u8>> {
    let index = args.integer()?;
    let is_only = index == 0 && cx.config.redis_databases == 0;
    let namespace = match is_only {
        true => Some(cx.scope.namespace.to_vec()),
        false => cx.config.database(index),
    };
    namespace.ok_or_else(|| Error::text("ERR DB index is out of range"))
}

fn move_(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    if cx.config.cluster_enabled {
        return Err(Error::err("MOVE is not allowed in cluster mode"));
    }
    let (key, namespace) = (args.bytes()?, database_of(cx, args)?);
    if *namespace == *cx.scope.namespace {
        return Err(same());
    }
    Ok(reply.flag(move_to(cx, key, &namespace)?))
}

/// Moves a key into the namespace of a token, `requirepass` being the token of the default one.
fn movex(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, token) = (args.bytes()?, args.bytes()?);
    if cx.config.requirepass.is_empty() {
        return Err(Error::err("Forbidden to move key when requirepass is empty"));
    }
    let is_default = cx.config.client_secrets().any(|secret| secret.as_bytes() == token);
    let namespace = match is_default {
        true => Some(DEFAULT_NAMESPACE.into()),
        false => cx.node.namespaces.of_token(token),
    };
    let namespace = namespace.ok_or_else(|| Error::err("Invalid password"))?;
    if *namespace == *cx.scope.namespace {
        return Ok(reply.flag(false));
    }
    Ok(reply.flag(move_to(cx, key, &namespace)?))
}

/// False if there is no such key here, or one there.
fn move_to(cx: &mut WriteCx<'_>, key: &[u8], namespace: &[u8]) -> Result<bool> {
    let (from, to) = (cx.scope.at(key), Scope { namespace, ..cx.scope }.at(key));
    match copy::renamenx(&mut cx.txn, &from, &to) {
        Err(CommandError::NoSuchKey) => Ok(false),
        done => Ok(done?),
    }
}

fn keys_(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let pattern = args.bytes()?;
    reply.listing(Writer::array, |writer| {
        let mut count = 0;
        keyspace::keys(cx.txn, &cx.scope, pattern, |key| {
            count += 1;
            writer.bulk(key);
        })?;
        Ok(count)
    })
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
