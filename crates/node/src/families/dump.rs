//! DUMP and RESTORE: values in the form of Redis. Replies are Redis 7's, payloads those of Kvrocks.
//! MIGRATE of a Redis in cluster mode sends RESTORE-ASKING.

use rdb::Reader;
use storage::types::CommandError;
use storage::types::dump::{self, Sink};
use storage::types::keys;

use crate::command::keys::KEY;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{Command, ReadCx, WriteCx};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::read ("dump",     2, KEY, dump_),
    Command::write("restore", -4, KEY, restore),
    Command::write("restore-asking", -4, KEY, restore).asking(),
];

fn dump_(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let payload = dump::dump(&cx.txn.snapshot(), &cx.scope.at(args.bytes()?))?;
    Ok(reply.bulk_or_null(payload.as_deref()))
}

/// Options of RESTORE.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Options {
    replaces: bool,
    is_absolute: bool,
}

/// When a key was used last, and how often, is read and not kept: nothing is evicted here.
fn options(args: &mut Args<'_>) -> Result<Options> {
    let mut options = Options::default();
    let (mut has_idle, mut has_frequency) = (false, false);
    while let Some(word) = args.word() {
        match &*word {
            b"REPLACE" => options.replaces = true,
            b"ABSTTL" => options.is_absolute = true,
            b"IDLETIME" if !args.is_empty() && !has_frequency => {
                has_idle = true;
                if args.integer()? < 0 {
                    return Err(Error::text("ERR Invalid IDLETIME value, must be >= 0"));
                }
            }
            b"FREQ" if !args.is_empty() && !has_idle => {
                has_frequency = true;
                if !(0..=255).contains(&args.integer()?) {
                    return Err(Error::text("ERR Invalid FREQ value, must be >= 0 and <= 255"));
                }
            }
            _ => return Err(Error::Syntax),
        }
    }
    Ok(options)
}

fn restore(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, ttl, payload) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let options = options(args)?;
    let is_there = keys::exists(&cx.txn, &cx.scope, &[key])? > 0;
    if is_there && !options.replaces {
        return Err(Error::text("BUSYKEY Target key name already exists."));
    }
    let end_ms = end(ttl, options, cx.scope.now_ms)?;
    let value = rdb::body(payload).map_err(CommandError::from)?;
    let (&code, rest) = value.split_first().ok_or(CommandError::Redis(rdb::Error::Cut))?;
    let mark = cx.txn.mark();
    let mut sink = Sink::new(&mut cx.txn, cx.scope.at(key), code, end_ms);
    Reader::new(rest).value::<CommandError>(code, &mut |part| sink.take(part))?;
    let is_stored = sink.finish()?;
    let is_past = end_ms != 0 && end_ms <= cx.scope.now_ms;
    if is_past || !is_stored {
        cx.txn.rollback(mark);
        keys::del(&mut cx.txn, &cx.scope, &[key])?;
    }
    Ok(reply.ok())
}

/// Unix ms; 0 for never.
fn end(ttl: &[u8], options: Options, now_ms: u64) -> Result<u64> {
    const WRONG: &str = "ERR Invalid TTL value, must be >= 0";
    let ttl = Args::new(&[b"", ttl]).integer()?;
    let ttl = u64::try_from(ttl).map_err(|_| Error::text(WRONG))?;
    if ttl == 0 || options.is_absolute {
        return Ok(ttl);
    }
    // Beyond what a clock of Redis shows there is nothing.
    let end_ms = ttl.checked_add(now_ms).filter(|end_ms| i64::try_from(*end_ms).is_ok());
    end_ms.ok_or_else(|| Error::text(WRONG))
}
