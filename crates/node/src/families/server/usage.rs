//! MEMORY and DISK: what keys and the process take.

use storage::types::weigh;

use crate::command::keys::Keys;
use crate::command::row::Usage;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::info::process;
use crate::session::{After, Command, ReadCx, SessionCx};

const KEY_BEHIND: Keys = Keys::Range { first: 2, last: 2, step: 1 };

#[rustfmt::skip]
pub(super) const MEMORY: &[Command] = &[
    Command::session("memory|doctor",       2, doctor).loading().stale(),
    Command::session("memory|help",         2, help).loading().stale(),
    Command::session("memory|malloc-stats", 2, allocator).loading().stale(),
    Command::session("memory|purge",        2, purge).loading().stale(),
    Command::session("memory|stats",        2, stats).loading().stale(),
    Command::read   ("memory|usage",       -3, KEY_BEHIND, memory_usage),
];

#[rustfmt::skip]
pub(super) const DISK: &[Command] = &[
    Command::read("disk|usage", 3, KEY_BEHIND, disk_usage).usage(UNKNOWN),
];

/// Kvrocks' text for what DISK does not know.
pub(super) const UNKNOWN: Usage = Usage::Text("ERR Unknown operation");

const HELP: &[&str] = &[
    "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DOCTOR",
    "    Say what to look at.",
    "MALLOC-STATS",
    "    Show what the allocator counts.",
    "PURGE",
    "    Give memory that is not used back to the system.",
    "STATS",
    "    Show what memory is used for.",
    "USAGE <key> [SAMPLES <count>]",
    "    Say about how many bytes a key takes on disk, before compression. Of a",
    "    large value <count> elements are looked at (default: 5, 0: all).",
    "HELP",
    "    Print this help.",
];

fn help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(HELP).into())
}

/// Elements that are looked at unless told otherwise, as in Redis.
const SAMPLES: u64 = 5;
/// Elements that DISK USAGE looks at, and USAGE with SAMPLES 0: more take long.
const SAMPLES_MAX: u64 = 1 << 20;

fn memory_usage(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, mut samples) = (args.bytes()?, SAMPLES);
    while let Some(word) = args.word() {
        match &*word {
            b"SAMPLES" if !args.is_empty() => {
                samples = u64::try_from(args.integer()?).map_err(|_| Error::Syntax)?;
            }
            _ => return Err(Error::Syntax),
        }
    }
    let samples = if samples == 0 { SAMPLES_MAX } else { samples.min(SAMPLES_MAX) };
    usage(cx, key, samples, reply)
}

fn disk_usage(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    usage(cx, args.bytes()?, SAMPLES_MAX, reply)
}

fn usage(cx: &ReadCx<'_>, key: &[u8], samples: u64, reply: Reply<'_>) -> Result<Replied> {
    Ok(match weigh::weigh(cx.txn, &cx.scope.at(key), samples)? {
        Some(bytes) => reply.number(bytes),
        None => reply.null(),
    })
}

fn doctor(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let text = "Data lies on disk: memory holds the block cache, memtables and buffers of clients, \
                each with a limit of its own. INFO memory and INFO rocksdb show their sizes.";
    Ok(reply.verbatim(text).into())
}

/// What is measured, by Redis' names where they mean the same.
fn measured(cx: &SessionCx<'_>) -> Vec<(&'static str, u64)> {
    let mut all = vec![
        ("startup.allocated", process::startup_bytes()),
        ("resident", process::resident_bytes()),
    ];
    if let Some(heap) = process::heap() {
        all.extend([
            ("total.allocated", heap.allocated),
            ("allocator.allocated", heap.allocated),
            ("allocator.active", heap.active),
            ("allocator.resident", heap.resident),
        ]);
    }
    // Not under the gate: it may wait for the disk.
    let store = cx.node.engine().store.clone();
    let stats = store.as_ref().map(storage::Store::stats);
    if let Some(Ok(stats)) = stats {
        all.extend([
            ("block.cache", stats.block_cache_bytes),
            ("block.cache.capacity", stats.block_cache_capacity),
            ("memtables", stats.memtable_bytes()),
        ]);
    }
    all
}

fn stats(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let all = measured(cx);
    let replied = reply.with(|writer| {
        writer.map(all.len());
        for (name, bytes) in &all {
            writer.bulk(name.as_bytes());
            writer.integer(i64::try_from(*bytes).unwrap_or(i64::MAX));
        }
    });
    Ok(replied.into())
}

fn allocator(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    let text = match process::heap() {
        Some(heap) => format!(
            "jemalloc: allocated {}, active {}, resident {}",
            heap.allocated, heap.active, heap.resident
        ),
        None => "jemalloc tells no numbers".to_owned(),
    };
    Ok(reply.verbatim(&text).into())
}

fn purge(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    if process::purge() {
        Ok(reply.ok().into())
    } else {
        Err(Error::err("Error purging dirty pages"))
    }
}
