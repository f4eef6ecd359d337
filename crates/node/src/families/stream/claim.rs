//! Pending entries that change hands.

use storage::types::stream::{self, AutoClaim, Claim, Id};

use super::{first, id, note_consumer, there, write_entries, write_id};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::WriteCx;

/// The time since the last delivery; a negative one is none.
fn idle_ms(args: &mut Args<'_>, command: &str) -> Result<u64> {
    let wrong = |_| Error::err(format_args!("Invalid min-idle-time argument for {command}"));
    Ok(u64::try_from(args.integer().map_err(wrong)?).unwrap_or(0))
}

/// What follows an option of XCLAIM.
fn option(args: &mut Args<'_>, name: &str) -> Result<i64> {
    let wrong = |_| Error::err(format_args!("Invalid {name} option argument for XCLAIM"));
    args.integer().map_err(wrong)
}

/// Reads the options of XCLAIM behind the identifiers.
fn options<'a>(args: &mut Args<'_>, now_ms: u64, mut claim: Claim<'a>) -> Result<Claim<'a>> {
    let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
    // A time that makes no sense is the present one: the client's clock may be ahead.
    let sane = |ms: i64| u64::try_from(ms).ok().filter(|ms| *ms <= now_ms).unwrap_or(now_ms);
    loop {
        let name = args.clone().bytes();
        let Some(word) = args.word() else { break };
        match &*word {
            b"FORCE" => claim.forces = true,
            b"JUSTID" => claim.only_ids = true,
            b"IDLE" if !args.is_empty() => {
                claim.delivered_ms = sane(now.saturating_sub(option(args, "IDLE")?));
            }
            b"TIME" if !args.is_empty() => claim.delivered_ms = sane(option(args, "TIME")?),
            b"RETRYCOUNT" if !args.is_empty() => {
                claim.count = u64::try_from(option(args, "RETRYCOUNT")?).ok();
            }
            b"LASTID" if !args.is_empty() => claim.last_id = Some(id(args.bytes()?, 0)?),
            _ => {
                let name = String::from_utf8_lossy(name?);
                return Err(Error::err(format_args!("Unrecognized XCLAIM option '{name}'")));
            }
        }
    }
    Ok(claim)
}

pub(super) fn xclaim(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (key, name, consumer) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let group = stream::find_group(&cx.txn, &cx.scope.at(key), name)?;
    let group = there(group, (key, name), "")?;
    let idle_ms = idle_ms(args, "XCLAIM")?;
    let mut ids = Vec::new();
    // The first word that is no identifier begins the options.
    while let Some(id) = args.clone().bytes().ok().and_then(|word| Id::parse(word, 0)) {
        args.bytes()?;
        ids.push(id);
    }
    let now_ms = cx.scope.now_ms;
    let claim = Claim {
        consumer,
        idle_ms,
        delivered_ms: now_ms,
        count: None,
        forces: false,
        only_ids: false,
        last_id: None,
    };
    let claim = options(args, now_ms, claim)?;
    note_consumer(cx, key, &group, consumer)?;
    let entries = stream::claim(&mut cx.txn, group, &ids, &claim)?;
    reply.parts(|writer| write_entries(writer, &entries, claim.only_ids))
}

pub(super) fn xautoclaim(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (key, name, consumer) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let idle_ms = idle_ms(args, "XAUTOCLAIM")?;
    let mut auto = AutoClaim { first: first(args.bytes()?)?, count: COUNT };
    let mut only_ids = false;
    while let Some(word) = args.word() {
        match &*word {
            b"COUNT" if !args.is_empty() => {
                let count = args.integer().ok().and_then(|count| u64::try_from(count).ok());
                let count = count.filter(|count| (1..=COUNT_MAX).contains(count));
                auto.count = count.ok_or_else(|| Error::text("ERR COUNT must be > 0"))?;
            }
            b"JUSTID" => only_ids = true,
            _ => return Err(Error::Syntax),
        }
    }
    let group = stream::find_group(&cx.txn, &cx.scope.at(key), name)?;
    let group = there(group, (key, name), "")?;
    let claim = Claim {
        consumer,
        idle_ms,
        delivered_ms: cx.scope.now_ms,
        count: None,
        forces: false,
        only_ids,
        last_id: None,
    };
    note_consumer(cx, key, &group, consumer)?;
    let claimed = stream::autoclaim(&mut cx.txn, group, &auto, &claim)?;
    reply.parts(|writer| {
        writer.array(3);
        write_id(writer, claimed.next);
        write_entries(writer, &claimed.entries, only_ids)?;
        writer.array(claimed.deleted.len());
        claimed.deleted.iter().for_each(|id| write_id(writer, *id));
        Ok(())
    })
}

/// Entries that XAUTOCLAIM takes if it is not told how many.
const COUNT: u64 = 100;
/// More than Redis can be told.
const COUNT_MAX: u64 = i64::MAX as u64 / 16;
