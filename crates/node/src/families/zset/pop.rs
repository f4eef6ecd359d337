//! Members taken out at one end: ZPOPMIN, ZPOPMAX, ZMPOP.

use storage::Direction;
use storage::types::zset;

use super::{listing, pairs};
use crate::command::args::parse_integer;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::WriteCx;

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

pub(super) fn zmpop(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
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
    for key in keys {
        let popped = zset::pop(&mut cx.txn, &cx.scope.at(key), direction, count.unwrap_or(1))?;
        if !popped.is_empty() {
            return Ok(reply.with(|writer| {
                writer.array(2);
                writer.bulk(key);
                pairs(writer, &popped);
            }));
        }
    }
    Ok(reply.with(|writer| writer.null_array()))
}
