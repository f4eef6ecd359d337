//! Rules: what the buckets of one series say becomes the samples of another one. Kvrocks has no
//! TS.DELETERULE.

use storage::types::timeseries::{self, NoRule, Says};

use super::range::aggregator;
use super::{no_series, number};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::WriteCx;

/// The alignment stands behind the length of a bucket in Redis, and behind ALIGN in Kvrocks. Words
/// that are not known are passed over, as by Kvrocks.
fn says(args: &mut Args<'_>) -> Result<Says> {
    const INVALID: &str = "ERR unknown ALIGN parameter";
    let (mut found, mut alignment) = (None, 0);
    while let Some(word) = args.word() {
        match &*word {
            b"AGGREGATION" => {
                found = Some(aggregator(args)?);
                let mut ahead = args.clone();
                if let Ok(at) = ahead.number() {
                    (alignment, *args) = (at, ahead);
                }
            }
            b"ALIGN" => alignment = number(args, INVALID)?,
            _ => {}
        }
    }
    let (aggregator, duration) = found.ok_or(Error::Syntax)?;
    Ok(Says { aggregator, duration, alignment })
}

pub(super) fn create(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (from, to) = (cx.scope.at(args.bytes()?), cx.scope.at(args.bytes()?));
    let says = says(args)?;
    match timeseries::create_rule(&mut cx.txn, (&from, &to), says)? {
        Ok(()) => Ok(reply.ok()),
        Err(NoRule::Missing) => Err(no_series()),
        Err(NoRule::Same) => {
            Err(Error::text("ERR the source key and destination key should be different"))
        }
        Err(NoRule::SourceHasSource) => {
            Err(Error::text("ERR the source key already has a source rule"))
        }
        Err(NoRule::TargetHasSource) => {
            Err(Error::text("ERR the destination key already has a src rule"))
        }
        Err(NoRule::TargetHasRules) => {
            Err(Error::text("ERR the destination key already has a dst rule"))
        }
    }
}

pub(super) fn delete(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (from, to) = (cx.scope.at(args.bytes()?), cx.scope.at(args.bytes()?));
    match timeseries::delete_rule(&mut cx.txn, (&from, &to))? {
        Some(true) => Ok(reply.ok()),
        Some(false) => Err(Error::text("ERR the compaction rule does not exist")),
        None => Err(no_series()),
    }
}
