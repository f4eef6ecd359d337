//! What was delivered and is not acknowledged yet.

use storage::types::stream::{self, Filter, Span};

use super::{first, ids, last, there, write_id};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{ReadCx, WriteCx};

pub(super) fn xack(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, group) = (cx.scope.at(args.bytes()?), args.bytes()?);
    let Some(group) = stream::find_group(&cx.txn, &at, group)? else {
        return Ok(reply.integer(0));
    };
    Ok(reply.number(stream::ack(&mut cx.txn, group, &ids(args.rest())?)?))
}

/// Which entries XPENDING lists; without any more words it counts them.
fn filter<'a>(args: &mut Args<'a>) -> Result<Option<Filter<'a>>> {
    if args.is_empty() {
        return Ok(None);
    }
    // As in Redis, too few or too many words are told before what is wrong with them.
    if !(3..=6).contains(&args.len()) {
        return Err(Error::Syntax);
    }
    let mut idle_ms = 0;
    if args.clone().word().as_deref() == Some(b"IDLE") {
        args.bytes()?;
        idle_ms = u64::try_from(args.integer()?).unwrap_or(0);
        if args.len() < 3 {
            return Err(Error::Syntax);
        }
    }
    let (begin, end) = (args.bytes()?, args.bytes()?);
    let count = u64::try_from(args.integer()?).unwrap_or(0);
    let span = Span { first: first(begin)?, last: last(end)? };
    let consumer = if args.is_empty() { None } else { Some(args.bytes()?) };
    Ok(Some(Filter { span, count, idle_ms, consumer }))
}

pub(super) fn xpending(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, name) = (args.bytes()?, args.bytes()?);
    let filter = filter(args)?;
    let snapshot = cx.txn.snapshot();
    let group = stream::find_group(&snapshot, &cx.scope.at(key), name)?;
    let group = there(group, (key, name), "")?;
    let Some(filter) = filter else {
        let summary = stream::summary(&snapshot, &group)?;
        return Ok(reply.with(|writer| {
            writer.array(4);
            let Some((first, last)) = summary.ends else {
                writer.integer(0);
                writer.null();
                writer.null();
                return writer.null_array();
            };
            writer.integer(i64::try_from(summary.count).unwrap_or(i64::MAX));
            write_id(writer, first);
            write_id(writer, last);
            writer.array(summary.consumers.len());
            for (name, count) in &summary.consumers {
                writer.array(2);
                writer.bulk(name);
                writer.bulk(count.to_string().as_bytes());
            }
        }));
    };
    let found = stream::list_pending(&snapshot, &group, &filter)?;
    Ok(reply.with(|writer| {
        writer.array(found.len());
        for (id, pending) in &found {
            writer.array(4);
            write_id(writer, *id);
            writer.bulk(&pending.consumer);
            let idle_ms = pending.idle_ms(cx.scope.now_ms);
            writer.integer(i64::try_from(idle_ms).unwrap_or(i64::MAX));
            writer.integer(i64::try_from(pending.count).unwrap_or(i64::MAX));
        }
    }))
}
