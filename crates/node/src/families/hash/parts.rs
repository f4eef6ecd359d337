//! Parts of a hash: by chance, page by page, and between two names. HRANGEBYLEX is Kvrocks'.

use resp::{Protocol, Writer};
use storage::Direction;
use storage::types::bounds::Lex;
use storage::types::hash;
use storage::types::page::{Page, Request};
use storage::types::pick::{Element, Picked, Wanted};

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
        let one = one.as_ref().and_then(Picked::first);
        return Ok(reply.bulk_or_null(one.map(|(field, _)| field.as_slice())));
    }
    let (wanted, with_values) = args.draws(b"WITHVALUES")?;
    let Some(picked) = hash::pick(&cx.txn.snapshot(), &at, wanted)? else {
        return reply.elements(0, |_| Ok(()));
    };
    let is_nested = reply.protocol() == Protocol::V3;
    let words = if with_values && !is_nested { 2 } else { 1 };
    reply.elements(words * picked.len(), |writer| {
        picked.each(|field, value| {
            match (with_values, is_nested) {
                (true, true) => writer.bulks(&[field, value]),
                (true, false) => {
                    writer.bulk(field);
                    writer.bulk(value);
                }
                (false, _) => writer.bulk(field),
            }
            Ok(())
        })
    })
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
    reply.listing(Writer::array, |writer| {
        let mut count = 0;
        hash::range(&cx.txn.snapshot(), &at, &range, |field, value| {
            count += 2;
            writer.bulk(field);
            writer.bulk(value);
        })?;
        Ok(count)
    })
}
