//! Members taken out at one end: ZPOPMIN, ZPOPMAX, ZMPOP, and those that wait for one.

use storage::Direction;
use storage::types::zset::{self, Member};

use super::{listing, pairs};
use crate::command::args::parse_integer;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::WriteCx;
use crate::session::table::{Nil, Taken, Wait};

fn pop(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
    direction: Direction,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    if args.len() > 1 {
        return Err(Error::Syntax);
    }
    let count = match args.is_empty() {
        true => None,
        false => Some(
            u64::try_from(args.integer()?)
                .map_err(|_| Error::text("ERR value is out of range, must be positive"))?,
        ),
    };
    let popped = zset::pop(&mut cx.txn, &at, direction, count.unwrap_or(1))?;
    Ok(reply.with(|writer| match (count, popped.as_slice()) {
        // One that nobody has counted is no list of pairs in RESP3 either.
        (None, [(member, score)]) => {
            writer.array(2);
            writer.bulk(member);
            writer.float(*score);
        }
        _ => listing(writer, &popped, true),
    }))
}

pub(super) fn zpopmin(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    pop(cx, args, reply, Direction::Forward)
}

pub(super) fn zpopmax(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    pop(cx, args, reply, Direction::Reverse)
}

/// A number from 1 on; whatever else it is, is said in the same words.
fn positive(word: &[u8], error: &'static str) -> Result<u64> {
    let number = parse_integer(word).and_then(|number| u64::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or_else(|| Error::text(error))
}

/// What ZMPOP and BZMPOP are to take.
struct Wanted<'a> {
    keys: Vec<&'a [u8]>,
    direction: Direction,
    count: u64,
}

/// Reads it from its number of keys on.
fn wanted<'a>(args: &mut Args<'a>) -> Result<Wanted<'a>> {
    let keys = positive(args.bytes()?, "ERR numkeys should be greater than 0")?;
    if keys >= args.len() as u64 {
        return Err(Error::Syntax);
    }
    let keys = (0..keys).map(|_| args.bytes()).collect::<Result<Vec<_>>>()?;
    let direction = match args.word().as_deref() {
        Some(b"MIN") => Direction::Forward,
        Some(b"MAX") => Direction::Reverse,
        _ => return Err(Error::Syntax),
    };
    let mut count = None;
    while let Some(word) = args.word() {
        if *word != *b"COUNT" || count.is_some() || args.is_empty() {
            return Err(Error::Syntax);
        }
        count = Some(positive(args.bytes()?, "ERR count should be greater than 0")?);
    }
    Ok(Wanted { keys, direction, count: count.unwrap_or(1) })
}

/// The members with the least or greatest scores of a key, if it has any.
fn take(
    cx: &mut WriteCx<'_>,
    key: &[u8],
    direction: Direction,
    count: u64,
) -> Result<Option<Vec<Member>>> {
    let popped = zset::pop(&mut cx.txn, &cx.scope.at(key), direction, count)?;
    Ok((!popped.is_empty()).then_some(popped))
}

fn write_popped(reply: Reply<'_>, key: &[u8], members: &[Member]) -> Replied {
    reply.with(|writer| {
        writer.array(2);
        writer.bulk(key);
        pairs(writer, members);
    })
}

pub(super) fn zmpop(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let Wanted { keys, direction, count } = wanted(args)?;
    for key in keys {
        if let Some(popped) = take(cx, key, direction, count)? {
            return Ok(write_popped(reply, key, &popped));
        }
    }
    Ok(reply.with(|writer| writer.null_array()))
}

pub(super) fn bzmpop<'a>(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'a>,
    reply: Reply<'_>,
) -> Result<Taken<'a>> {
    let patience = args.patience(cx.scope.now_ms)?;
    let Wanted { keys, direction, count } = wanted(args)?;
    for key in &keys {
        if let Some(popped) = cx.find_or_wait(key, |cx| take(cx, key, direction, count))? {
            return Ok(write_popped(reply, key, &popped).into());
        }
    }
    Ok(Taken::Nothing(Wait::new(keys, patience, Nil::Array)))
}

/// BZPOPMIN and BZPOPMAX: key, member and score of the first key that has any.
fn wait_and_pop<'a>(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'a>,
    direction: Direction,
    reply: Reply<'_>,
) -> Result<Taken<'a>> {
    let keys = args.take(args.len().saturating_sub(1))?;
    let patience = args.patience(cx.scope.now_ms)?;
    for key in keys {
        let found = cx.find_or_wait(key, |cx| take(cx, key, direction, 1))?;
        if let Some((member, score)) = found.into_iter().flatten().next() {
            let replied = reply.with(|writer| {
                writer.array(3);
                writer.bulk(key);
                writer.bulk(&member);
                writer.float(score);
            });
            return Ok(replied.into());
        }
    }
    Ok(Taken::Nothing(Wait::new(keys.to_vec(), patience, Nil::Array)))
}

pub(super) fn bzpopmin<'a>(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'a>,
    reply: Reply<'_>,
) -> Result<Taken<'a>> {
    wait_and_pop(cx, args, Direction::Forward, reply)
}

pub(super) fn bzpopmax<'a>(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'a>,
    reply: Reply<'_>,
) -> Result<Taken<'a>> {
    wait_and_pop(cx, args, Direction::Reverse, reply)
}
