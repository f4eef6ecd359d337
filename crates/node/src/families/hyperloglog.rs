//! HyperLogLogs. Replies are Redis 7's.

use storage::types::hyperloglog;

use crate::command::keys::{KEY, KEYS};
use crate::command::{Args, Replied, Reply, Result};
use crate::session::{Command, ReadCx, WriteCx};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::write("pfadd",   -2, KEY,  pfadd).fast(),
    Command::read ("pfcount", -2, KEYS, pfcount),
    Command::write("pfmerge", -2, KEYS, pfmerge),
];

fn pfadd(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    Ok(reply.flag(hyperloglog::add(&mut cx.txn, &at, args.rest())?))
}

fn pfcount(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.number(hyperloglog::count(&cx.txn.snapshot(), &cx.scope, args.rest())?))
}

fn pfmerge(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let before = cx.txn.count();
    hyperloglog::merge(&mut cx.txn, &at, args.rest())?;
    cx.touch_unless_written(&at, before);
    Ok(reply.ok())
}
