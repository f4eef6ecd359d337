//! XGROUP.

use storage::types::CommandError;
use storage::types::stream::{self, Creation, Position};

use super::{SECOND, any_id, id, wrong_usage};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{After, Command, SessionCx, WriteCx};

#[rustfmt::skip]
pub(super) const COMMANDS: &[Command] = &[
    Command::write("xgroup|create",         -5, SECOND, create),
    Command::write("xgroup|createconsumer",  5, SECOND, create_consumer),
    Command::write("xgroup|delconsumer",     5, SECOND, delete_consumer).removes(),
    Command::write("xgroup|destroy",         4, SECOND, destroy).removes(),
    Command::session("xgroup|help",          2, help).loading().stale(),
    Command::write("xgroup|setid",          -5, SECOND, set_id).removes(),
];

const HELP: &[&str] = &[
    "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CREATE <key> <groupname> <id|$> [MKSTREAM] [ENTRIESREAD <entries-read>]",
    "    Make a group that reads what comes behind an entry; MKSTREAM makes the stream too.",
    "CREATECONSUMER <key> <groupname> <consumer>",
    "    Make a consumer in a group.",
    "DELCONSUMER <key> <groupname> <consumer>",
    "    Delete a consumer and what is pending for it.",
    "DESTROY <key> <groupname>",
    "    Delete a group.",
    "SETID <key> <groupname> <id|$> [ENTRIESREAD <entries-read>]",
    "    Set behind which entry a group reads on.",
    "HELP",
    "    Print this help.",
];

fn help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(HELP).into())
}

/// Where there is no stream, Redis says more than that.
fn worded(error: CommandError) -> Error {
    match error {
        CommandError::NoSuchKey => Error::text(
            "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may \
             want to use the MKSTREAM option to create an empty stream automatically.",
        ),
        other => other.into(),
    }
}

fn no_group(key: &[u8], group: &[u8]) -> Error {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    Error::text(format!("NOGROUP No such consumer group '{group}' for key name '{key}'"))
}

/// What follows ENTRIESREAD.
fn entries_read(args: &mut Args<'_>) -> Result<Option<u64>> {
    match args.integer()? {
        -1 => Ok(None),
        number => u64::try_from(number)
            .map(Some)
            .map_err(|_| Error::text("ERR value for ENTRIESREAD must be positive or -1")),
    }
}

fn create(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, group, begin) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let (at, mut read, mut makes_stream) = (cx.scope.at(key), None, false);
    while let Some(word) = args.word() {
        match &*word {
            b"MKSTREAM" => makes_stream = true,
            b"ENTRIESREAD" if !args.is_empty() => read = entries_read(args)?,
            _ => return Err(wrong_usage(args)),
        }
    }
    let position = match begin {
        b"$" => Position::End,
        word => match id(word, 0) {
            Ok(id) => Position::After(id),
            // As in Redis, the key is looked at first.
            Err(error) => {
                let found = stream::find(&cx.txn, &at)?;
                let is_missing = found.is_none() && !makes_stream;
                return Err(if is_missing { worded(CommandError::NoSuchKey) } else { error });
            }
        },
    };
    let creation = Creation { position, entries_read: read, makes_stream };
    match stream::create_group(&mut cx.txn, &at, group, &creation).map_err(worded)? {
        true => Ok(reply.ok()),
        false => Err(Error::text("BUSYGROUP Consumer Group name already exists")),
    }
}

fn set_id(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, group, begin) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let (at, mut read) = (cx.scope.at(key), None);
    while let Some(word) = args.word() {
        match &*word {
            b"ENTRIESREAD" if !args.is_empty() => read = entries_read(args)?,
            _ => return Err(wrong_usage(args)),
        }
    }
    let position = match begin {
        b"$" => Ok(Position::End),
        word => any_id(word, 0).map(Position::After),
    };
    // As in Redis, the group is looked at first: with what the identifier should be it fails alike.
    let wanted = (*position.as_ref().unwrap_or(&Position::End), read);
    match stream::set_group(&mut cx.txn, &at, group, wanted).map_err(worded)? {
        true => position.map(|_| reply.ok()),
        false => Err(no_group(key, group)),
    }
}

fn destroy(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, group) = (cx.scope.at(args.bytes()?), args.bytes()?);
    Ok(reply.flag(stream::destroy_group(&mut cx.txn, &at, group).map_err(worded)?))
}

fn create_consumer(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, group, consumer) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let (at, names) = (cx.scope.at(key), (group, consumer));
    let is_new = stream::create_consumer(&mut cx.txn, &at, names).map_err(worded)?;
    Ok(reply.flag(is_new.ok_or_else(|| no_group(key, group))?))
}

fn delete_consumer(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, group, consumer) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let (at, names) = (cx.scope.at(key), (group, consumer));
    let pending = stream::delete_consumer(&mut cx.txn, &at, names).map_err(worded)?;
    Ok(reply.number(pending.ok_or_else(|| no_group(key, group))?))
}
