//! XINFO.

use resp::Writer;
use storage::types::object::Object;
use storage::types::stream::{self, Group, Id, InGroup, Span, Stream};
use storage::{Direction, Snapshot};

use super::{SECOND, write_entry, write_id, wrong_usage};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{After, Command, ReadCx, SessionCx};

#[rustfmt::skip]
pub(super) const COMMANDS: &[Command] = &[
    Command::read("xinfo|consumers", 4, SECOND, consumers),
    Command::read("xinfo|groups",    3, SECOND, groups),
    Command::session("xinfo|help",   2, help).loading().stale(),
    Command::read("xinfo|stream",   -3, SECOND, info),
];

const HELP: &[&str] = &[
    "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CONSUMERS <key> <groupname>",
    "    Show the consumers of a group.",
    "GROUPS <key>",
    "    Show the groups of a stream.",
    "STREAM <key> [FULL [COUNT <count>]]",
    "    Show what is known of a stream; with FULL also its entries and groups.",
    "HELP",
    "    Print this help.",
];

fn help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(HELP).into())
}

/// The stream that is asked for.
fn found(cx: &ReadCx<'_>, read: &Snapshot<'_>, key: &[u8]) -> Result<Object<Stream>> {
    let found = stream::find(read, &cx.scope.at(key))?;
    cx.count(found.is_some());
    found.ok_or_else(|| Error::text("ERR no such key"))
}

fn name(writer: &mut Writer<'_>, name: &str) {
    writer.bulk(name.as_bytes());
}

fn number(writer: &mut Writer<'_>, of: &str, number: u64) {
    name(writer, of);
    writer.integer(i64::try_from(number).unwrap_or(i64::MAX));
}

/// A time; -1 is none.
fn or_never(writer: &mut Writer<'_>, of: &str, time: Option<u64>) {
    name(writer, of);
    writer.integer(time.map_or(-1, |time| i64::try_from(time).unwrap_or(i64::MAX)));
}

fn identifier(writer: &mut Writer<'_>, of: &str, id: Id) {
    name(writer, of);
    write_id(writer, id);
}

fn consumers(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, group) = (args.bytes()?, args.bytes()?);
    let snapshot = cx.txn.snapshot();
    found(cx, &snapshot, key)?;
    let group = stream::find_group(&snapshot, &cx.scope.at(key), group)?.ok_or_else(|| {
        let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
        Error::text(format!("NOGROUP No such consumer group '{group}' for key name '{key}'"))
    })?;
    let consumers = group.consumers(&snapshot)?;
    Ok(reply.with(|writer| {
        writer.array(consumers.len());
        for (consumer, known) in &consumers {
            writer.map(4);
            name(writer, "name");
            writer.bulk(consumer);
            number(writer, "pending", known.pending);
            number(writer, "idle", cx.scope.now_ms.saturating_sub(known.seen_ms));
            let inactive = known.active_ms.map(|ms| cx.scope.now_ms.saturating_sub(ms));
            or_never(writer, "inactive", inactive);
        }
    }))
}

/// How far a group has read.
fn progress(writer: &mut Writer<'_>, stream: &Object<Stream>, group: &Group) {
    let or_null = |writer: &mut Writer<'_>, number: Option<i64>| match number {
        Some(number) => writer.integer(number),
        None => writer.null(),
    };
    identifier(writer, "last-delivered-id", group.last_delivered);
    name(writer, "entries-read");
    or_null(writer, group.entries_read.map(|read| i64::try_from(read).unwrap_or(i64::MAX)));
    name(writer, "lag");
    or_null(writer, stream::lag(stream, group));
}

fn groups(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let snapshot = cx.txn.snapshot();
    let stream = found(cx, &snapshot, args.bytes()?)?;
    let groups = stream::groups(&snapshot, &stream)?;
    Ok(reply.with(|writer| {
        writer.array(groups.len());
        for (group, known) in &groups {
            writer.map(6);
            name(writer, "name");
            writer.bulk(group);
            number(writer, "consumers", known.consumers);
            number(writer, "pending", known.pending);
            progress(writer, &stream, known);
        }
    }))
}

/// How much of each list FULL shows if it is not told.
const SHOWN: u64 = 10;

/// How much is to be shown, with FULL; 0 is everything.
fn full(args: &mut Args<'_>) -> Result<Option<u64>> {
    let words = args.len();
    let is_full = match args.word() {
        None => return Ok(None),
        Some(word) => *word == *b"FULL",
    };
    if !is_full || words != 1 && words != 3 {
        return Err(wrong_usage(args));
    }
    match args.word() {
        None => Ok(Some(SHOWN)),
        Some(word) if *word == *b"COUNT" => {
            Ok(Some(u64::try_from(args.integer()?).unwrap_or(SHOWN)))
        }
        Some(_) => Err(wrong_usage(args)),
    }
}

/// Entries in one node of Redis' tree.
const TOGETHER: u64 = 100;

/// What both forms begin with. There is no tree here: its numbers are those of one whose nodes are
/// full, for clients that look for them.
fn begin(writer: &mut Writer<'_>, stream: &Object<Stream>) {
    let state = &stream.tail;
    let nodes = stream.size.div_ceil(TOGETHER);
    number(writer, "length", stream.size);
    number(writer, "radix-tree-keys", nodes);
    number(writer, "radix-tree-nodes", nodes + 1);
    identifier(writer, "last-generated-id", state.last_generated);
    identifier(writer, "max-deleted-entry-id", state.max_deleted);
    number(writer, "entries-added", state.entries_added);
    identifier(writer, "recorded-first-entry-id", state.recorded_first);
}

fn info(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let key = args.bytes()?;
    let snapshot = cx.txn.snapshot();
    let stream = found(cx, &snapshot, key)?;
    let Some(count) = full(args)? else {
        return short(&snapshot, &stream, reply);
    };
    let count = if count == 0 { u64::MAX } else { count };
    reply.parts(|writer| {
        writer.map(9);
        begin(writer, &stream);
        name(writer, "entries");
        writer.counted(
            |writer, count| writer.array(count),
            |writer| entries(writer, &snapshot, &stream, count),
        )?;
        name(writer, "groups");
        let groups = stream::groups(&snapshot, &stream)?;
        writer.array(groups.len());
        for (name, _) in &groups {
            let group = stream::find_group(&snapshot, &cx.scope.at(key), name)?;
            if let Some(group) = group {
                write_group(writer, &snapshot, &group, count)?;
            }
        }
        Ok(())
    })
}

fn entries(
    writer: &mut Writer<'_>,
    read: &Snapshot<'_>,
    stream: &Object<Stream>,
    count: u64,
) -> Result<usize> {
    let mut written = 0;
    stream::range(read, stream, Span::ALL, (Direction::Forward, count), |id, fields| {
        written += 1;
        write_entry(writer, id, fields);
    })?;
    Ok(written)
}

fn short(read: &Snapshot<'_>, stream: &Object<Stream>, reply: Reply<'_>) -> Result<Replied> {
    let groups = stream::groups(read, stream)?.len();
    reply.parts(|writer| {
        writer.map(10);
        begin(writer, stream);
        number(writer, "groups", groups as u64);
        for (end, direction) in
            [("first-entry", Direction::Forward), ("last-entry", Direction::Reverse)]
        {
            name(writer, end);
            let mut is_there = false;
            stream::range(read, stream, Span::ALL, (direction, 1), |id, fields| {
                is_there = true;
                write_entry(writer, id, fields);
            })?;
            if !is_there {
                writer.null();
            }
        }
        Ok(())
    })
}

/// A group with what is pending in it, and its consumers with what is pending for each.
fn write_group(
    writer: &mut Writer<'_>,
    read: &Snapshot<'_>,
    group: &InGroup<'_>,
    count: u64,
) -> Result<()> {
    let consumers = group.consumers(read)?;
    let names = consumers.iter().map(|(name, _)| name.clone());
    let listed = stream::list_all(read, group, names, count)?;
    writer.map(7);
    name(writer, "name");
    writer.bulk(group.name);
    progress(writer, &group.stream, &group.group);
    number(writer, "pel-count", group.group.pending);
    name(writer, "pending");
    writer.array(listed.all.len());
    for (id, pending) in &listed.all {
        writer.array(4);
        write_id(writer, *id);
        writer.bulk(&pending.consumer);
        writer.integer(i64::try_from(pending.delivered_ms).unwrap_or(i64::MAX));
        writer.integer(i64::try_from(pending.count).unwrap_or(i64::MAX));
    }
    name(writer, "consumers");
    writer.array(consumers.len());
    for (consumer, known) in &consumers {
        writer.map(5);
        name(writer, "name");
        writer.bulk(consumer);
        number(writer, "seen-time", known.seen_ms);
        or_never(writer, "active-time", known.active_ms);
        number(writer, "pel-count", known.pending);
        name(writer, "pending");
        let pending = listed.of_consumers.get(consumer).map_or(&[][..], Vec::as_slice);
        writer.array(pending.len());
        for (id, delivered_ms, times) in pending {
            writer.array(3);
            write_id(writer, *id);
            writer.integer(i64::try_from(*delivered_ms).unwrap_or(i64::MAX));
            writer.integer(i64::try_from(*times).unwrap_or(i64::MAX));
        }
    }
    Ok(())
}
