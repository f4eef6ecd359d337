//! Sets. Replies are Redis 7's.

use std::ops::ControlFlow;

use resp::Writer;
use storage::types::page::{Page, Request};
use storage::types::pick::{Picked, Wanted};
use storage::types::set::{self, Combination};

use super::walk;
use crate::command::args::ScanWords;
use crate::command::keys::{KEY, KEYS, KEYS2, Keys};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{Command, ReadCx, WriteCx};

/// Keys behind their number, which is the first argument.
const COUNTED: Keys = Keys::Counted { also: 0, count: 1 };

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::write("sadd",         -3, KEY,     sadd).fast(),
    Command::write("srem",         -3, KEY,     srem).fast().removes(),
    Command::read ("scard",         2, KEY,     scard).fast(),
    Command::read ("smembers",      2, KEY,     smembers),
    Command::read ("sismember",     3, KEY,     sismember).fast(),
    Command::read ("smismember",   -3, KEY,     smismember).fast(),
    Command::write("spop",         -2, KEY,     spop).fast().removes(),
    Command::read ("srandmember",  -2, KEY,     srandmember),
    Command::write("smove",         4, KEYS2,   smove).fast(),
    Command::read ("sdiff",        -2, KEYS,    sdiff),
    Command::read ("sunion",       -2, KEYS,    sunion),
    Command::read ("sinter",       -2, KEYS,    sinter),
    Command::read ("sintercard",   -3, COUNTED, sintercard),
    Command::write("sdiffstore",   -3, KEYS,    sdiffstore),
    Command::write("sunionstore",  -3, KEYS,    sunionstore),
    Command::write("sinterstore",  -3, KEYS,    sinterstore),
    Command::read ("sscan",        -3, KEY,     sscan),
];

fn sadd(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    Ok(reply.number(set::add(&mut cx.txn, &at, args.rest())?))
}

fn srem(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    Ok(reply.number(set::remove(&mut cx.txn, &at, args.rest())?))
}

fn scard(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.number(set::len(cx.txn, &cx.scope.at(args.bytes()?))?))
}

fn smembers(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    reply.listing(Writer::set, |writer| {
        let mut count = 0;
        set::for_each(&cx.txn.snapshot(), &at, |member| {
            count += 1;
            writer.bulk(member);
        })?;
        cx.count(count > 0);
        Ok(count)
    })
}

fn sismember(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let held = set::has(cx.txn, &cx.scope.at(args.bytes()?), args.rest())?;
    Ok(reply.flag(*held == [true]))
}

fn smismember(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let held = set::has(cx.txn, &cx.scope.at(args.bytes()?), args.rest())?;
    Ok(reply.with(|writer| {
        writer.array(held.len());
        held.iter().for_each(|is_held| writer.integer(i64::from(*is_held)));
    }))
}

fn spop(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    if args.is_empty() {
        let popped = set::pop(&mut cx.txn, &at, 1)?;
        return Ok(reply.bulk_or_null(popped.first().map(Vec::as_slice)));
    }
    let count = args.bytes()?;
    args.end()?;
    let count = Args::behind(0, &[count]).number();
    let count = count.map_err(|_| Error::text("ERR value is out of range, must be positive"))?;
    let popped = set::pop(&mut cx.txn, &at, count)?;
    Ok(reply.with(|writer| {
        writer.set(popped.len());
        popped.iter().for_each(|member| writer.bulk(member));
    }))
}

fn srandmember(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    if args.is_empty() {
        let one = set::pick(&cx.txn.snapshot(), &at, Wanted::Distinct(1))?;
        let one = one.as_ref().and_then(Picked::first);
        return Ok(reply.bulk_or_null(one.map(|(member, _)| member.as_slice())));
    }
    if args.len() > 1 {
        return Err(Error::Syntax);
    }
    let (wanted, _) = args.draws(b"")?;
    let Some(picked) = set::pick(&cx.txn.snapshot(), &at, wanted)? else {
        return reply.elements(0, |_| Ok(()));
    };
    reply.elements(picked.len(), |writer| {
        picked.each(|member, _| {
            writer.bulk(member);
            Ok(())
        })
    })
}

fn smove(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (from, to) = (cx.scope.at(args.bytes()?), cx.scope.at(args.bytes()?));
    Ok(reply.flag(set::shift(&mut cx.txn, &from, &to, args.bytes()?)?))
}

/// Writes the members of a combination.
fn combined(
    how: Combination,
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let keys = args.rest();
    reply.listing(Writer::set, |writer| {
        let mut count = 0;
        set::combine(&cx.txn.snapshot(), &cx.scope, how, keys, |member| {
            count += 1;
            writer.bulk(member);
            ControlFlow::Continue(())
        })?;
        Ok(count)
    })
}

fn sdiff(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    combined(Combination::Difference, cx, args, reply)
}

fn sunion(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    combined(Combination::Union, cx, args, reply)
}

fn sinter(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    combined(Combination::Intersection, cx, args, reply)
}

fn sintercard(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let keys = args.numkeys(1).map_err(|error| match error {
        Error::NotInteger => Error::text("ERR numkeys should be greater than 0"),
        Error::Syntax => Error::text("ERR Number of keys can't be greater than number of args"),
        other => other,
    })?;
    let mut limit = 0;
    while let Some(word) = args.word() {
        if *word != *b"LIMIT" || args.is_empty() {
            return Err(Error::Syntax);
        }
        let number = args.number::<u64>();
        limit = number.map_err(|_| Error::text("ERR LIMIT can't be negative"))?;
    }
    let (mut count, snapshot) = (0, cx.txn.snapshot());
    set::combine(&snapshot, &cx.scope, Combination::Intersection, keys, |_| {
        count += 1;
        if count == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(reply.number(count))
}

/// Replaces a key with a combination.
fn stored(
    how: Combination,
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let to = cx.scope.at(args.bytes()?);
    Ok(reply.number(set::store(&mut cx.txn, &to, how, args.rest())?))
}

fn sdiffstore(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    stored(Combination::Difference, cx, args, reply)
}

fn sunionstore(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    stored(Combination::Union, cx, args, reply)
}

fn sinterstore(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    stored(Combination::Intersection, cx, args, reply)
}

fn sscan(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, position) = (cx.scope.at(args.bytes()?), walk::position(cx, args.bytes()?)?);
    let snapshot = cx.txn.snapshot();
    // As in Redis, options do not matter where there is nothing.
    let page = match set::find(&snapshot, &at)? {
        Some(set) => {
            let options = args.scan_options(ScanWords::WithoutType)?;
            let (count, pattern) = (options.count, options.pattern);
            set::scan(&snapshot, &set, &Request { position: &position, count, pattern })?
        }
        None => Page { items: Vec::new(), next: None },
    };
    Ok(walk::reply(cx, &page, reply, |writer, members| writer.bulks(members)))
}
