//! PERFLOG: shows and forgets samples, with Kvrocks' words and replies.

use crate::command::args::parse_integer;
use crate::command::row::Usage;
use crate::command::{Args, Error, Reply, Result};
use crate::perflog::Entry;
use crate::session::table::SessionHandler;
use crate::session::{After, Command, SessionCx};

/// Entries that are shown where no number is given.
const SHOWN: usize = 10;

#[rustfmt::skip]
pub(super) const COMMANDS: &[Command] = &[
    perflog("perflog|get",   -2, get),
    perflog("perflog|len",    2, len),
    perflog("perflog|reset",  2, reset),
];

/// Kvrocks' text for what is none of them.
pub(super) const USAGE: Usage =
    Usage::Text("ERR PERFLOG subcommand must be one of RESET, LEN, GET");

const fn perflog(name: &'static str, arity: i8, handler: SessionHandler) -> Command {
    Command::session(name, arity, handler).usage(USAGE).admin().loading().stale()
}

fn get(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let count = match args.rest() {
        [] => SHOWN,
        [count] if *count == b"*" => usize::MAX,
        // As in Kvrocks 0, and less, is all.
        [count] => match parse_integer(count).ok_or(Error::NotInteger)? {
            ..=0 => usize::MAX,
            count => usize::try_from(count).unwrap_or(usize::MAX),
        },
        _ => return Err(Error::Syntax),
    };
    let entries = cx.node.perflog.newest(count);
    let integer = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let replied = reply.with(|writer| {
        writer.array(entries.len());
        for Entry { id, at, command, micros, work, files } in &entries {
            writer.array(6);
            writer.integer(integer(*id));
            writer.integer(integer(*at));
            writer.bulk(command.as_bytes());
            writer.integer(integer(*micros));
            writer.bulk(work.as_bytes());
            writer.bulk(files.as_bytes());
        }
    });
    Ok(replied.into())
}

fn len(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.count(cx.node.perflog.len()).into())
}

fn reset(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    cx.node.perflog.clear();
    Ok(reply.ok().into())
}
