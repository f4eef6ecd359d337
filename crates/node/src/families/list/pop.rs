//! What removes elements from the ends and returns them.

use storage::types::list::{self, End};

use super::{end, positive};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::WriteCx;

fn pop(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    (name, end): (&str, End),
    reply: Reply<'_>,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    if args.len() > 1 {
        return Err(Error::Arity(name.into()));
    }
    if args.is_empty() {
        let popped = list::pop(&mut cx.txn, &at, end, 1)?;
        return Ok(reply.bulk_or_null(popped.iter().flatten().next().map(Vec::as_slice)));
    }
    let count = positive(args, "ERR value is out of range, must be positive")?;
    let popped = list::pop(&mut cx.txn, &at, end, count)?;
    Ok(reply.with(|writer| match &popped {
        Some(values) => writer.bulks(values),
        None => writer.null_array(),
    }))
}

pub(super) fn lpop(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    pop(cx, args, ("lpop", End::Left), reply)
}

pub(super) fn rpop(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    pop(cx, args, ("rpop", End::Right), reply)
}

/// What LMPOP and BLMPOP are to take.
pub(super) struct Wanted<'a> {
    pub(super) keys: &'a [&'a [u8]],
    pub(super) end: End,
    pub(super) count: u64,
}

/// Reads it from its number of keys on.
pub(super) fn wanted<'a>(args: &mut Args<'a>) -> Result<Wanted<'a>> {
    // Redis has one text for all that is wrong with these numbers.
    let keys = args.numkeys(1).map_err(|error| match error {
        Error::NotInteger => Error::text("ERR numkeys should be greater than 0"),
        other => other,
    })?;
    let (end, mut count) = (end(args)?, 1);
    if let Some(word) = args.word() {
        if *word != *b"COUNT" {
            return Err(Error::Syntax);
        }
        const WRONG: &str = "ERR count should be greater than 0";
        count = positive(args, WRONG)?;
        if count == 0 {
            return Err(Error::text(WRONG));
        }
    }
    args.end()?;
    Ok(Wanted { keys, end, count })
}

/// The key and the elements that were taken from it.
pub(super) fn popped(reply: Reply<'_>, key: &[u8], values: &[Vec<u8>]) -> Replied {
    reply.with(|writer| {
        writer.array(2);
        writer.bulk(key);
        writer.bulks(values);
    })
}

pub(super) fn lmpop(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let Wanted { keys, end, count } = wanted(args)?;
    for key in keys {
        if let Some(values) = list::pop(&mut cx.txn, &cx.scope.at(key), end, count)? {
            return Ok(popped(reply, key, &values));
        }
    }
    Ok(reply.with(|writer| writer.null_array()))
}
