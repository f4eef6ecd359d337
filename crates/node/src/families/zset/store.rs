//! Several sorted sets, and what is stored of them: ZUNION, ZINTER, ZDIFF, ZRANGESTORE.
//!
//! Of several errors in one command the first is told in Redis' order: the number of keys, the
//! types of their values, the options.

use storage::types::zset::{self, Aggregate, Member, Sources};
use storage::{Read, budget};

use super::range::{self, Form};
use super::{float, listing};
use crate::command::args::parse_integer;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{ReadCx, WriteCx};

/// How sets become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

/// What may follow the keys.
#[derive(Debug, Default)]
struct Options {
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
}

impl Options {
    fn parse(args: &mut Args<'_>, operation: Operation, keys: usize, stores: bool) -> Result<Self> {
        let mut options = Self::default();
        let is_weighted = operation != Operation::Diff;
        while let Some(word) = args.word() {
            match &*word {
                b"WEIGHTS" if is_weighted && args.len() >= keys => {
                    options.weights = (0..keys).map(|_| weight(args)).collect::<Result<_>>()?;
                }
                b"AGGREGATE" if is_weighted => {
                    options.aggregate = match args.word().as_deref() {
                        Some(b"SUM") => Aggregate::Sum,
                        Some(b"MIN") => Aggregate::Min,
                        Some(b"MAX") => Aggregate::Max,
                        _ => return Err(Error::Syntax),
                    };
                }
                b"WITHSCORES" if !stores => options.with_scores = true,
                _ => return Err(Error::Syntax),
            }
        }
        Ok(options)
    }
}

fn weight(args: &mut Args<'_>) -> Result<f64> {
    float(args.bytes()?).map_err(|_| Error::text("ERR weight value is not a float"))
}

/// The keys behind their number, which is of any size as long as they are there.
fn keys<'a>(args: &mut Args<'a>, command: &str) -> Result<Vec<&'a [u8]>> {
    let count = args.integer()?;
    if count < 1 {
        return Err(Error::err(format_args!(
            "at least 1 input key is needed for '{command}' command"
        )));
    }
    if usize::try_from(count).map_or(true, |count| count > args.len()) {
        return Err(Error::Syntax);
    }
    (0..count).map(|_| args.bytes()).collect()
}

fn combine<R: Read>(
    sources: &Sources<'_, R>,
    operation: Operation,
    options: &Options,
) -> Result<Vec<Member>> {
    let Options { weights, aggregate, .. } = options;
    Ok(match operation {
        Operation::Union => sources.union(weights, *aggregate)?,
        Operation::Inter => sources.inter(weights, *aggregate, u64::MAX)?,
        Operation::Diff => sources.diff()?,
    })
}

fn show(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
    (command, operation): (&str, Operation),
) -> Result<Replied> {
    let (keys, snapshot) = (keys(args, command)?, cx.txn.snapshot());
    let sources = Sources::find(&snapshot, keys.iter().map(|key| cx.scope.at(key)))?;
    let options = Options::parse(args, operation, keys.len(), false)?;
    let members = zset::in_order(combine(&sources, operation, &options)?);
    Ok(reply.with(|writer| listing(writer, &members, options.with_scores)))
}

fn store(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
    (command, operation): (&str, Operation),
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let keys = keys(args, command)?;
    let sources = Sources::find(&cx.txn, keys.iter().map(|key| cx.scope.at(key)))?;
    let options = Options::parse(args, operation, keys.len(), true)?;
    let max = cx.txn.store().batch_bytes_max();
    let members = budget::gathering(max, || combine(&sources, operation, &options))?;
    Ok(reply.number(zset::store(&mut cx.txn, &at, &members)?))
}

pub(super) fn zunion(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    show(cx, args, reply, ("zunion", Operation::Union))
}

pub(super) fn zinter(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    show(cx, args, reply, ("zinter", Operation::Inter))
}

pub(super) fn zdiff(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    show(cx, args, reply, ("zdiff", Operation::Diff))
}

pub(super) fn zintercard(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (keys, snapshot) = (keys(args, "zintercard")?, cx.txn.snapshot());
    let sources = Sources::find(&snapshot, keys.iter().map(|key| cx.scope.at(key)))?;
    let mut limit = 0;
    while let Some(word) = args.word() {
        if *word != *b"LIMIT" || args.is_empty() {
            return Err(Error::Syntax);
        }
        limit = parse_integer(args.bytes()?)
            .and_then(|limit| u64::try_from(limit).ok())
            .ok_or_else(|| Error::text("ERR LIMIT can't be negative"))?;
    }
    let limit = if limit == 0 { u64::MAX } else { limit };
    Ok(reply.count(sources.inter(&[], Aggregate::Sum, limit)?.len()))
}

pub(super) fn zunionstore(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    store(cx, args, reply, ("zunionstore", Operation::Union))
}

pub(super) fn zinterstore(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    store(cx, args, reply, ("zinterstore", Operation::Inter))
}

pub(super) fn zdiffstore(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    store(cx, args, reply, ("zdiffstore", Operation::Diff))
}

pub(super) fn zrangestore(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (to, from) = (cx.scope.at(args.bytes()?), cx.scope.at(args.bytes()?));
    let (range, _) = range::parse(args, Form { by: None, direction: None, stores: true })?;
    let members = zset::range(&cx.txn, &from, &range)?;
    Ok(reply.number(zset::store(&mut cx.txn, &to, &members)?))
}
