//! Commands about the node as a whole: INFO, CONFIG, COMMAND, DBSIZE, FLUSHALL, BGSAVE, SLOWLOG,
//! SHUTDOWN, DEBUG.
//!
//! Behaviour and error texts are Redis 7's; ROLE has Kvrocks' shape. What changes the node itself
//! is refused to clients that came through a balancer of a balancer-only node.

mod config;
pub(crate) use config::{change_options, is_of_tls, set_lease_mode};
mod dbsize;
mod engine;
mod latency;
mod namespace;
mod not_here;
mod perflog;
mod profile;
mod rewrite;
mod usage;

use std::sync::atomic::Ordering;
use std::time::Duration;

use resp::Protocol;
use storage::types::keyspace;

use super::docs;
use crate::backup;
use crate::clock;
use crate::command::keys::NONE;
use crate::command::row::Usage;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::info;
use crate::session::table::SessionHandler;
use crate::session::{After, Command, SessionCx, Tells, WriteCx};
use crate::slowlog::Entry;

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::session("info",     -1, info_text).loading().stale(),
    Command::container("config", config::COMMANDS).admin().loading().stale().no_script(),
    Command::session("command",  -1, docs::command).loading().stale().containing(docs::COMMANDS),
    Command::session("dbsize",   -1, dbsize::dbsize).keyspace(),
    Command::write  ("flushdb",  -1, NONE, flushdb).removes().keyspace().all_keys(),
    Command::write  ("flushall", -1, NONE, flushall).removes().keyspace().all_keys().whole(),
    Command::container("namespace", namespace::COMMANDS).usage(namespace::USAGE).loading().stale().no_script(),
    Command::session("time",      1, time).fast().loading().stale(),
    Command::session("lastsave",  1, lastsave).admin().fast().loading().stale(),
    Command::session("bgsave",   -1, bgsave).admin().peer().loading().stale().no_script(),
    Command::session("save",      1, save).admin().peer().loading().stale().no_script().no_multi().skip_slowlog(),
    Command::session("flushbackup", 1, flushbackup).admin().peer().loading().stale().no_script(),
    Command::session("role",      1, role).fast().loading().stale().no_script(),
    Command::container("slowlog", SLOWLOG).admin().loading().stale(),
    Command::container("memory", usage::MEMORY).loading().stale(),
    Command::container("disk", usage::DISK).usage(usage::UNKNOWN),
    Command::container("latency", latency::COMMANDS).admin().loading().stale().no_script(),
    Command::container("perflog", perflog::COMMANDS).usage(perflog::USAGE).admin().loading().stale(),
    Command::session("compact",   1, engine::compact).no_script(),
    Command::session("flushmemtable", -1, engine::flush_memtable).admin().at_node().no_script().no_multi().skip_slowlog(),
    Command::session("flushblockcache", 1, engine::flush_block_cache).admin().at_node().no_script().no_multi(),
    Command::session("kprofile", -3, profile::kprofile).admin().at_node().loading().stale().no_script().no_multi().skip_slowlog(),
    Command::session("stats",     1, engine::stats).whole().loading().stale(),
    Command::session("pollupdates", -2, engine::poll_updates).admin().at_node().no_script().no_multi(),
    Command::write  ("applybatch", -2, NONE, engine::apply_batch).admin().keyspace().all_keys().no_script().no_multi().skip_slowlog(),
    Command::container("module", not_here::MODULE),
    Command::session("failover", -1, not_here::failover).admin().peer().no_script().stale(),
    Command::session("lolwut",   -1, not_here::lolwut).fast().loading().stale(),
    Command::session("monitor",   1, monitor).admin().at_node().loading().stale().no_script().no_multi(),
    Command::session("shutdown", -1, shutdown).admin().peer().loading().stale().no_script().no_multi(),
    Command::container("debug", DEBUG).usage(Usage::Either).admin().peer().loading().stale().no_script().no_multi(),
];

fn info_text(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let wanted: Vec<String> =
        args.rest().iter().map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).collect();
    Ok(reply.verbatim(&info::render(cx.node, &wanted)).into())
}

/// From here on this connection is told of every command; RESET ends it.
fn monitor(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    cx.node.monitors.add(&cx.session.client);
    Ok(reply.ok().into())
}

/// ASYNC and SYNC are the same: one range delete takes no time, compaction does the rest.
fn no_options_but_sync(args: &mut Args<'_>) -> Result<()> {
    match args.word().as_deref() {
        None | Some(b"ASYNC" | b"SYNC") => args.end(),
        Some(_) => Err(Error::Syntax),
    }
}

fn flushdb(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    no_options_but_sync(args)?;
    cx.node.migration.flushed(None);
    keyspace::flush_namespace(&mut cx.txn, &cx.scope);
    Ok(reply.ok())
}

fn flushall(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    no_options_but_sync(args)?;
    cx.node.migration.flushed(None);
    keyspace::flush_all(&mut cx.txn)?;
    Ok(reply.ok())
}

fn time(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let now_us = cx.began_us.unwrap_or_else(clock::unix_us);
    let (seconds, micros) = (now_us / 1_000_000, now_us % 1_000_000);
    Ok(reply.bulks(&[seconds.to_string(), micros.to_string()]).into())
}

/// When the newest backup was made; as in Kvrocks before the first one, the time of the start.
fn lastsave(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let seconds = info::last_save_ms(cx.node) / 1000;
    Ok(reply.integer(i64::try_from(seconds).unwrap_or(i64::MAX)).into())
}

/// Begins a backup; as in Kvrocks the answer comes at once, and INFO tells what came of it.
/// SCHEDULE is Redis', and some clients always send it: nothing else writes files here that a
/// backup would have to wait for.
fn bgsave(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    match (args.word().as_deref(), args.is_empty()) {
        (None | Some(b"SCHEDULE"), true) => {}
        _ => return Err(Error::Arity("bgsave".into())),
    }
    backup::begin(cx.node).map_err(|_| Error::err("bgsave in-progress"))?;
    Ok(reply.ok().into())
}

/// Makes a backup and answers when it is complete and on the disk. Unlike Redis' it stops nobody.
fn save(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, _reply: Reply<'_>) -> Result<After> {
    let made = backup::make_and_tell(cx.node);
    let made = made.map_err(|_| Error::err("Background save already in progress"))?;
    let answer = Box::pin(async move {
        match made.await {
            Ok(Ok(())) => b"+OK\r\n".to_vec(),
            Ok(Err(why)) => format!("-ERR {why}\r\n").into_bytes(),
            Err(_) => b"-ERR the backup was given up\r\n".to_vec(),
        }
    });
    Ok(After::Later(answer, Tells::Nothing))
}

/// Removes the backup.
fn flushbackup(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    backup::remove(cx.node).map_err(|_| Error::err("bgsave in-progress"))?;
    Ok(reply.ok().into())
}

fn role(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let role = crate::replication::role(cx.node);
    Ok(reply.with(|writer| role.write(writer)).into())
}

#[rustfmt::skip]
const SLOWLOG: &[Command] = &[
    Command::session("slowlog|get",  -2, slowlog_get).admin().loading().stale(),
    Command::session("slowlog|help",  2, slowlog_help).admin().loading().stale(),
    Command::session("slowlog|len",   2, slowlog_len).admin().loading().stale(),
    Command::session("slowlog|reset", 2, slowlog_reset).admin().loading().stale(),
];

const SLOWLOG_HELP: &[&str] = &[
    "SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET [<count>]",
    "    Show the newest <count> slow commands (default: 10, -1: all), each with",
    "    id, Unix time, microseconds, arguments, client address, client name.",
    "LEN",
    "    Say how many entries there are.",
    "RESET",
    "    Forget all entries.",
    "HELP",
    "    Print this help.",
];

fn slowlog_help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(SLOWLOG_HELP).into())
}

fn slowlog_len(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.count(cx.node.slowlog.len()).into())
}

fn slowlog_reset(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    cx.node.slowlog.clear();
    Ok(reply.ok().into())
}

fn slowlog_get(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let count = if args.is_empty() { Ok(10) } else { args.integer() };
    let count = count.ok().filter(|count| *count >= -1);
    let count = count.ok_or_else(|| Error::err("count should be greater than or equal to -1"))?;
    args.end()?;
    let entries = cx.node.slowlog.newest(usize::try_from(count).unwrap_or(usize::MAX));
    let integer = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let replied = reply.with(|writer| {
        writer.array(entries.len());
        for Entry { id, at, micros, words, client, name } in &entries {
            writer.array(6);
            writer.integer(integer(*id));
            writer.integer(integer(*at));
            writer.integer(integer(*micros));
            writer.array(words.len());
            for word in words {
                writer.bulk(word);
            }
            writer.bulk(client.as_bytes());
            writer.bulk(name.as_bytes());
        }
    });
    Ok(replied.into())
}

/// Ends the process. Like Redis it answers nothing on success: the client sees its connection end.
fn shutdown(cx: &mut SessionCx<'_>, args: &mut Args<'_>, _reply: Reply<'_>) -> Result<After> {
    let (mut saves, mut says_not, mut aborts, mut others) = (false, false, false, 0);
    while let Some(word) = args.word() {
        match &*word {
            b"SAVE" => saves = true,
            b"NOSAVE" => says_not = true,
            b"NOW" | b"FORCE" => others += 1,
            b"ABORT" => aborts = true,
            _ => return Err(Error::Syntax),
        }
    }
    if (saves && says_not) || (aborts && (saves || says_not || others > 0)) {
        return Err(Error::Syntax);
    }
    if aborts {
        // It never waits for replicas, so there is never one to abort.
        return Err(Error::err("No shutdown in progress."));
    }
    tracing::info!(client = %cx.session.client.address, "SHUTDOWN received");
    cx.node.shut_down();
    Ok(After::Close)
}

const DEBUG_HELP: &[&str] = &[
    "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "SLEEP <seconds>",
    "    Stop serving for <seconds>. Decimals allowed.",
    "PROTOCOL <type>",
    "    Answer with a value of that type of RESP.",
    "DBSIZE-LIMIT <0|1>",
    "    Refuse what may grow, as if max-db-size were reached, or take that back.",
    "HELP",
    "    Print this help.",
];

#[rustfmt::skip]
const DEBUG: &[Command] = &[
    debug("debug|dbsize-limit", 3, debug_dbsize_limit),
    debug("debug|help",     2, debug_help),
    debug("debug|protocol", 3, debug_protocol),
    debug("debug|sleep",    3, debug_sleep),
];

const fn debug(name: &'static str, arity: i8, handler: SessionHandler) -> Command {
    let command = Command::session(name, arity, handler).usage(Usage::Either);
    command.admin().peer().loading().stale().no_script().no_multi()
}

fn debug_help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(DEBUG_HELP).into())
}

fn debug_dbsize_limit(
    cx: &mut SessionCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<After> {
    let is_full = match args.bytes()? {
        b"0" => false,
        b"1" => true,
        _ => return Err(Error::err("invalid debug dbsize-limit value")),
    };
    cx.node.counts_as_full.store(is_full, Ordering::Relaxed);
    Ok(reply.ok().into())
}

fn debug_sleep(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let seconds = args.text()?.parse().map_err(|_| Error::err("value is not a valid float"))?;
    let length =
        Duration::try_from_secs_f64(seconds).map_err(|_| Error::err("value is out of range"))?;
    sleep(cx, length);
    Ok(reply.ok().into())
}

fn debug_protocol(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let kind = args.word().unwrap_or_default();
    Ok(sample(&kind, cx.session.protocol, reply)?.into())
}

/// DEBUG PROTOCOL: Redis' own sample values, for tests of client libraries.
fn sample(kind: &[u8], protocol: Protocol, reply: Reply<'_>) -> Result<Replied> {
    Ok(match kind {
        b"STRING" => reply.bulk(b"Hello World"),
        b"INTEGER" => reply.integer(12345),
        b"DOUBLE" => reply.with(|writer| writer.double("3.141")),
        b"NULL" => reply.null(),
        b"ARRAY" | b"SET" => reply.with(|writer| {
            if kind == b"SET" {
                writer.set(3)
            } else {
                writer.array(3)
            }
            (0..3).for_each(|number| writer.integer(number));
        }),
        b"MAP" => reply.with(|writer| {
            writer.map(3);
            for number in 0..3 {
                writer.integer(number);
                writer.boolean(number == 1);
            }
        }),
        b"VERBATIM" => reply.verbatim("This is a verbatim\nstring"),
        b"ATTRIB" => reply.with(|writer| {
            // Said about the reply that follows it; RESP2 has none.
            if protocol == Protocol::V3 {
                writer.attribute(1);
                writer.bulk(b"key-popularity");
                writer.array(2);
                writer.bulk(b"key:123");
                writer.integer(90);
            }
            writer.bulk(b"Some real reply following the attribute");
        }),
        b"PUSH" if protocol == Protocol::V2 => {
            return Err(Error::err("RESP2 is not supported by this command"));
        }
        b"PUSH" => reply.with(|writer| {
            writer.push(2);
            writer.bulk(b"server-cpu-usage");
            writer.integer(42);
            // A push is no reply: a client that waits for one gets it behind the push.
            writer.bulk(b"Some real reply following the push reply");
        }),
        b"BIGNUM" => reply.with(|w| w.big_number("1234567999999999999999999999999999999")),
        b"TRUE" | b"FALSE" => reply.with(|writer| writer.boolean(kind == b"TRUE")),
        _ => {
            return Err(Error::err(
                "Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    })
}

/// Redis has one thread, so DEBUG SLEEP stops all of it; here the write gate does: no command,
/// heartbeat or replicated batch runs meanwhile.
#[expect(clippy::disallowed_methods, reason = "sleeping is what DEBUG SLEEP is for")]
fn sleep(cx: &SessionCx<'_>, length: Duration) {
    let _alone = cx.node.gate.write();
    std::thread::sleep(length);
}
