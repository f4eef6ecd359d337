//! What waits for an element where there is none.

use storage::types::list::{self, End, Move};

use super::pop::{Wanted, popped, wanted};
use super::{end, transferred};
use crate::command::{Args, Reply, Result};
use crate::session::WriteCx;
use crate::session::table::{Nil, Taken, Wait};

/// BLPOP and BRPOP: keys, and the time to wait behind them, which Redis reads first.
fn pop<'a>(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'a>,
    end: End,
    reply: Reply<'_>,
) -> Result<Taken<'a>> {
    let keys = args.take(args.len().saturating_sub(1))?;
    let patience = args.patience(cx.scope.now_ms)?;
    for key in keys {
        let found =
            cx.find_or_wait(key, |cx| Ok(list::pop(&mut cx.txn, &cx.scope.at(key), end, 1)?))?;
        if let Some(value) = found.into_iter().flatten().next() {
            return Ok(reply.bulks(&[*key, &value]).into());
        }
    }
    Ok(Taken::Nothing(Wait::new(keys.to_vec(), patience, Nil::Array)))
}

pub(super) fn blpop<'a>(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'a>,
    reply: Reply<'_>,
) -> Result<Taken<'a>> {
    pop(cx, args, End::Left, reply)
}

pub(super) fn brpop<'a>(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'a>,
    reply: Reply<'_>,
) -> Result<Taken<'a>> {
    pop(cx, args, End::Right, reply)
}

pub(super) fn blmpop<'a>(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'a>,
    reply: Reply<'_>,
) -> Result<Taken<'a>> {
    let patience = args.patience(cx.scope.now_ms)?;
    let Wanted { keys, end, count } = wanted(args)?;
    for key in keys {
        let found =
            cx.find_or_wait(key, |cx| Ok(list::pop(&mut cx.txn, &cx.scope.at(key), end, count)?))?;
        if let Some(values) = found {
            return Ok(popped(reply, key, &values).into());
        }
    }
    Ok(Taken::Nothing(Wait::new(keys.to_vec(), patience, Nil::Array)))
}

/// BLMOVE and BRPOPLPUSH. Only the source is waited for: a destination of another type is an error,
/// also when the element is there at last.
fn transfer<'a>(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'a>,
    (source, destination): (&'a [u8], &'a [u8]),
    way: Move,
    reply: Reply<'_>,
) -> Result<Taken<'a>> {
    let patience = args.patience(cx.scope.now_ms)?;
    args.end()?;
    let is_there =
        cx.find_or_wait(source, |cx| Ok(list::find(&cx.txn, &cx.scope.at(source))?.map(|_| ())))?;
    if is_there.is_some() {
        let (from, to) = (cx.scope.at(source), cx.scope.at(destination));
        let value = transferred(cx, &from, &to, way)?;
        return Ok(reply.bulk_or_null(value.as_deref()).into());
    }
    Ok(Taken::Nothing(Wait::new(vec![source], patience, Nil::Bulk)))
}

pub(super) fn blmove<'a>(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'a>,
    reply: Reply<'_>,
) -> Result<Taken<'a>> {
    let keys = (args.bytes()?, args.bytes()?);
    let way = Move { from: end(args)?, to: end(args)? };
    transfer(cx, args, keys, way, reply)
}

pub(super) fn brpoplpush<'a>(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'a>,
    reply: Reply<'_>,
) -> Result<Taken<'a>> {
    let keys = (args.bytes()?, args.bytes()?);
    transfer(cx, args, keys, Move { from: End::Right, to: End::Left }, reply)
}
