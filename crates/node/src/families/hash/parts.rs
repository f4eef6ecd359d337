//! Parts of a hash: by chance, page by page, and between two names. HRANGEBYLEX is Kvrocks'.

use resp::{Protocol, Writer};
use storage::Direction;
use storage::types::bounds::Lex;
use storage::types::hash;
use storage::types::page::{Page, Request};
use storage::types::pick::{Element, Wanted};

use super::super::walk;
use crate::command::args::{Limit, ScanWords};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::ReadCx;

pub(super) fn hrandfield(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    if args.is_empty() {
        let one = hash::pick(&cx.txn.snapshot(), &at, Wanted::Distinct(1))?;
        return Ok(reply.bulk_or_null(one.first().map(|(field, _)| field.as_slice())));
    }
    let (wanted, with_values) = args.draws(b"WITHVALUES")?;
    let picked = hash::pick(&cx.txn.snapshot(), &at, wanted)?;
    Ok(reply.with(|writer| match (with_values, writer.protocol()) {
        (true, Protocol::V2) => flat(writer, &picked),
        (true, Protocol::V3) => {
            writer.array(picked.len());
            for (field, value) in &picked {
                writer.bulks(&[field, value]);
            }
        }
        (false, _) => {
            writer.array(picked.len());
            picked.iter().for_each(|(field, _)| writer.bulk(field));
        }
    }))
}

/// Fields and values, one after the other.
fn flat(writer: &mut Writer<'_>, pairs: &[Element]) {
    writer.array(pairs.len() * 2);
    for (field, value) in pairs {
        writer.bulk(field);
        writer.bulk(value);
    }
}

pub(super) fn hscan(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, position) = (cx.scope.at(args.bytes()?), walk::position(cx, args.bytes()?)?);
    let snapshot = cx.txn.snapshot();
    // As in Redis, options do not matter where there is nothing.
    let page = match hash::find(&snapshot, &at)? {
        Some(hash) => {
            let options = args.scan_options(ScanWords::WithoutType)?;
            let (count, pattern) = (options.count, options.pattern);
            hash::scan(&snapshot, &hash, &Request { position: &position, count, pattern })?
        }
        None => Page { items: Vec::new(), next: None },
    };
    Ok(walk::reply(cx, &page, reply, flat))
}

pub(super) fn hrangebylex(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let (first, last) = (args.lex_bound()?, args.lex_bound()?);
    let (mut limit, mut direction) = (Limit::NONE, Direction::Forward);
    while let Some(word) = args.word() {
        match &*word {
            b"LIMIT" => limit = args.limit()?,
            b"REV" => direction = Direction::Reverse,
            _ => return Err(Error::Syntax),
        }
    }
    let (min, max) = match direction {
        Direction::Forward => (first, last),
        Direction::Reverse => (last, first),
    };
    if min == Lex::Greatest || max == Lex::Least {
        return Err(Error::text("ERR min > max"));
    }
    // Unlike ZRANGEBYLEX, it takes a negative offset for none.
    let part = Limit { offset: limit.offset.max(0), ..limit }.range();
    let range = hash::Range { min, max, direction, part };
    let found = hash::range(&cx.txn.snapshot(), &at, &range)?;
    Ok(reply.with(|writer| flat(writer, &found)))
}
