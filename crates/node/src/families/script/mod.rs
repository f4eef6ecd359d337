//! EVAL and SCRIPT. FUNCTION is in [`library`], how scripts run in [`run`].

mod engine;
mod library;
mod run;
mod texts;

use storage::types::scripts as kept;

use crate::command::keys::Keys;
use crate::command::row::Access;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{After, Command, NestedCx, ReadCx, SessionCx, WriteCx};
pub(super) use library::Loaded;
use run::{Script, Text};
use texts::Kind;

const KEYS: Keys = Keys::Counted { also: 0, count: 2 };
const WRITES: (Keys, Access) = (KEYS, Access::None);
const READS: (Keys, Access) = (KEYS, Access::Read);

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    scripted(Command::scripted("eval",       -3, WRITES, eval)).may_replicate(),
    scripted(Command::scripted("evalsha",    -3, WRITES, evalsha)).may_replicate(),
    scripted(Command::scripted("eval_ro",    -3, READS,  eval_ro)),
    scripted(Command::scripted("evalsha_ro", -3, READS,  evalsha_ro)),
    scripted(Command::scripted("fcall",      -3, WRITES, library::fcall)).may_replicate(),
    scripted(Command::scripted("fcall_ro",   -3, READS,  library::fcall_ro)),
    Command::container("script", SCRIPT),
    Command::container("function", library::FUNCTION),
];

#[rustfmt::skip]
const SCRIPT: &[Command] = &[
    Command::read   ("script|exists", -3, Keys::None, exists).keyspace().no_script(),
    shared(Command::write("script|flush", -2, Keys::None, flush)),
    Command::session("script|help",    2, help).loading().stale(),
    Command::session("script|kill",    2, kill).no_script(),
    shared(Command::scripted("script|load", 3, (Keys::None, Access::Write), load)).stale(),
];

const fn scripted(command: Command) -> Command {
    command.no_script().stale().keyspace()
}

/// What a master keeps in its database, and a replica, which writes nothing by itself, in memory.
const fn shared(command: Command) -> Command {
    command.no_script().keyspace().may_replicate().removes()
}

const HELP: &[&str] = &[
    "SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "EXISTS <sha1> [<sha1> ...]",
    "    Say which scripts are known.",
    "FLUSH [ASYNC|SYNC]",
    "    Forget all scripts.",
    "KILL",
    "    End the scripts that run and have written nothing.",
    "LOAD <script>",
    "    Keep a script without running it.",
    "HELP",
    "    Print this help.",
];

/// The text and its hash, which everybody may use once it was compiled.
fn brought(text: &[u8]) -> Script<'_> {
    Script { name: script::sha1_hex(text), text: Text::Brought(text), is_kept: false }
}

/// The script with a hash: of this node's EVAL, or of SCRIPT LOAD.
fn known<'a>(cx: &NestedCx<'_>, write: &WriteCx<'_>, hash: &[u8]) -> Result<Script<'a>> {
    let none = || Error::text("NOSCRIPT No matching script. Please use EVAL.");
    let hash = std::str::from_utf8(hash).map_err(|_| none())?.to_ascii_lowercase();
    if hash.len() != 40 {
        return Err(none());
    }
    let known = texts::at_hand(&write.txn, Kind::Script, hash.as_bytes());
    let text = match known.or_else(|| cx.node.scripts.text(&hash)) {
        Some(text) => text,
        None => texts::find(&write.txn, Kind::Script, hash.as_bytes())?.ok_or_else(none)?,
    };
    Ok(Script { name: hash, text: Text::Shared(text), is_kept: true })
}

fn eval(cx: &mut NestedCx<'_>, write: &mut WriteCx<'_>, args: &mut Args<'_>) -> Result<Replied> {
    run::eval(cx, write, args, (false, |_, _, text| Ok(brought(text))))
}

fn eval_ro(cx: &mut NestedCx<'_>, write: &mut WriteCx<'_>, args: &mut Args<'_>) -> Result<Replied> {
    run::eval(cx, write, args, (true, |_, _, text| Ok(brought(text))))
}

fn evalsha(cx: &mut NestedCx<'_>, write: &mut WriteCx<'_>, args: &mut Args<'_>) -> Result<Replied> {
    run::eval(cx, write, args, (false, known))
}

fn evalsha_ro(
    cx: &mut NestedCx<'_>,
    write: &mut WriteCx<'_>,
    args: &mut Args<'_>,
) -> Result<Replied> {
    run::eval(cx, write, args, (true, known))
}

fn exists(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let is_known = |hash: &[u8]| -> Result<bool> {
        let hash = hash.to_ascii_lowercase();
        let is_here =
            std::str::from_utf8(&hash).is_ok_and(|hash| cx.node.scripts.text(hash).is_some());
        Ok(is_here || hash.len() == 40 && kept::script(cx.txn, &hash)?.is_some())
    };
    let known = args.rest().iter().map(|hash| is_known(hash)).collect::<Result<Vec<bool>>>()?;
    Ok(reply.with(|writer| {
        writer.array(known.len());
        known.iter().for_each(|is_known| writer.integer(i64::from(*is_known)));
    }))
}

/// ASYNC or SYNC, or nothing.
fn flush_mode(args: &mut Args<'_>, command: &str) -> Result<()> {
    let word = args.word();
    let is_right = matches!(word.as_deref(), None | Some(b"ASYNC" | b"SYNC")) && args.is_empty();
    let verb = if command == "SCRIPT" { "support" } else { "supports" };
    match is_right {
        true => Ok(()),
        false => Err(Error::err(format!("{command} FLUSH only {verb} SYNC|ASYNC option"))),
    }
}

fn flush(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    flush_mode(args, "SCRIPT")?;
    cx.node.scripts.forget();
    if cx.node.engine().role.is_master() {
        kept::flush(&mut cx.txn);
    }
    Ok(reply.ok())
}

/// A long text takes long to compile: as a script, on a thread for them and without the write gate.
fn load(cx: &mut NestedCx<'_>, write: &mut WriteCx<'_>, args: &mut Args<'_>) -> Result<Replied> {
    let text = args.bytes()?;
    script::check(text, engine::memory_max(cx.config))
        .map_err(|error| Error::text(error.to_string()))?;
    let hash = script::sha1_hex(text);
    if !cx.node.engine().role.is_master() {
        cx.node.scripts.remember(&hash, text);
    } else if kept::script(&write.txn, hash.as_bytes())?.is_none() {
        kept::put(&mut write.txn, &hash, text);
    }
    Ok(cx.reply().bulk(hash.as_bytes()))
}

fn kill(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    end_scripts(cx, false, reply)
}

/// SCRIPT KILL and FUNCTION KILL. A client of a namespace ends what runs in that one.
fn end_scripts(cx: &SessionCx<'_>, is_function: bool, reply: Reply<'_>) -> Result<After> {
    let own = (!cx.session.is_admin()).then_some(&*cx.session.namespace);
    cx.node.scripts.kill(is_function, own).map_err(Error::text)?;
    Ok(reply.ok().into())
}

fn help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(HELP).into())
}
