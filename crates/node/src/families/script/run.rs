//! How a script runs: what stands in front of it, what its commands may do, how it ends.
//!
//! Its commands run one after the other on the transaction of the command that runs it. They see
//! each other's writes; a script that fails by itself keeps what it has written, as in Redis. One
//! that is stopped keeps nothing, and nor does one that gives way on its worker.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use resp::Protocol;
use script::{Called, Control, Header, HeaderError, Host, Job, Level, ScriptFlags, Stop, Tick};
use storage::Txn;
use topology::{Route, ScriptScope, key_slot};

use super::engine;
use crate::command::args::parse_integer;
use crate::command::row::Access;
use crate::command::{Args, Error, Flags, Replied, Result, Row};
use crate::node::Node;
use crate::scripts::{Guard, Running};
use crate::session::gates::{self, Refusal};
use crate::session::nested::{CHANGED, GIVES_WAY, TIME_HERE, Why};
use crate::session::table::{self, Handler};
use crate::session::{Command, NestedCx, WriteCx};

/// The text of a script.
pub(super) enum Text<'a> {
    /// It came with the command.
    Brought(&'a [u8]),
    /// It was known before.
    Shared(Arc<[u8]>),
}

impl Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Brought(text) => text,
            Self::Shared(text) => text,
        }
    }
}

/// A script and its hash.
pub(super) struct Script<'a> {
    pub(super) name: String,
    pub(super) text: Text<'a>,
    /// Others may call it by its hash; if not, they may once it was compiled.
    pub(super) is_kept: bool,
}

/// Where EVAL and its kin find their script: from their first argument.
pub(super) type Find = for<'a> fn(&NestedCx<'_>, &WriteCx<'_>, &'a [u8]) -> Result<Script<'a>>;

/// Words of a command.
type List<'a> = &'a [&'a [u8]];

/// Longest text that a worker compiles, bytes: that takes a few milliseconds, once.
pub(super) const TEXT_HERE: usize = 64 << 10;
/// Lines of `redis.log` that are kept until a script on its worker has ended.
const SAID_HERE: usize = 16;

/// Keys and arguments behind their number.
pub(super) fn split<'a>(words: &'a [&'a [u8]], what: &str) -> Result<(List<'a>, List<'a>)> {
    let (count, rest) = words.split_first().ok_or(Error::Syntax)?;
    let count = parse_integer(count).ok_or_else(|| Error::text(what.to_owned()))?;
    let count =
        usize::try_from(count).map_err(|_| Error::err("Number of keys can't be negative"))?;
    rest.split_at_checked(count)
        .ok_or_else(|| Error::err("Number of keys can't be greater than number of args"))
}

/// EVAL and its kin.
pub(super) fn eval(
    cx: &mut NestedCx<'_>,
    write: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    (is_read_only, find): (bool, Find),
) -> Result<Replied> {
    let words = args.all();
    let text = args.bytes()?;
    let (keys, arguments) = split(args.rest(), "ERR value is not an integer or out of range")?;
    let script = find(cx, write, text)?;
    if cx.is_here() && script.text.len() > TEXT_HERE {
        return Err(cx.give_way(Why::Long));
    }
    let Header { flags, .. } = script::parse_header(&script.text, false)
        .map_err(|error: HeaderError| Error::err(error))?;
    let rules = Rules { flags, is_read_only, is_function: false };
    let node = cx.node;
    run(cx, write, (words, &script.name, rules), (keys, arguments), |engine, host, job| {
        if !script.is_kept {
            engine.prepare(&script.text, job.name)?;
            node.scripts.remember(job.name, &script.text);
        }
        engine.eval(&script.text, host, job)
    })
}

/// What a script may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Its own; `None` for scripts without a first line that says them.
    pub(super) flags: Option<ScriptFlags>,
    pub(super) is_read_only: bool,
    pub(super) is_function: bool,
}

/// What must be so before a script runs at all.
fn prepare(cx: &NestedCx<'_>, command: &Row, words: &[&[u8]], rules: Rules) -> Result<()> {
    let flags = rules.flags.unwrap_or_default();
    if cx.config.cluster_enabled && flags.no_cluster {
        return Err(Error::err("Can not run script on cluster, 'no-cluster' flag is set."));
    }
    // A script without flags may not know that it writes nothing: its commands are looked at.
    let writes = rules.flags.is_some_and(|flags| !flags.no_writes);
    if writes && rules.is_read_only {
        return Err(Error::err("Can not execute a script with write flag using *_ro command."));
    }
    let stale = if flags.allow_stale { Flags::STALE } else { Flags::NONE };
    let space = if flags.allow_oom { Flags::REMOVES } else { Flags::NONE };
    let row = Row {
        access: if writes { Access::Write } else { Access::Read },
        flags: Flags::KEYSPACE.with(stale).with(space),
        ..*command
    };
    cx.enter(|caller| gates::pass_to_write(&caller.check(&row, words), true)).map(|_| ())
}

/// Runs a script or a function.
pub(super) fn run(
    cx: &mut NestedCx<'_>,
    write: &mut WriteCx<'_>,
    (words, name, rules): (&[&[u8]], &str, Rules),
    (keys, args): (&[&[u8]], &[&[u8]]),
    start: impl FnOnce(
        &mut script::Engine,
        &mut dyn Host,
        Job<'_>,
    ) -> std::result::Result<Vec<u8>, script::Error>,
) -> Result<Replied> {
    let node = cx.node;
    if let Some((_, command)) = table::find(&cx.config.renames, words) {
        prepare(cx, &command.row, words, rules)?;
    }
    let Watched { control, tick, shown } = watch(cx, node, (words, name, rules.is_function));
    let (protocol, config, is_here) = (cx.session.protocol, cx.config, cx.is_here());
    let job = Job { name, keys, args, protocol, control: Arc::clone(&control), tick };
    let mark = cx.mark();
    cx.count_script(None);
    let flags = rules.flags.unwrap_or_default();
    let (ended, said) = {
        let mut outside = Outside {
            cx: &mut *cx,
            write,
            declared: keys,
            is_read_only: rules.is_read_only || flags.no_writes,
            allows_oom: flags.allow_oom,
            slots: ScriptScope {
                last_slot: keys.first().map(|key| key_slot(key)),
                allow_cross_slot: flags.allow_cross_slot_keys,
            },
            control: &control,
            said: Vec::new(),
        };
        outside.cx.is_in_script = true;
        let ended = engine::with(node, config, is_here, |engine| {
            let ended = start(engine, &mut outside, job);
            // With the memory that there is aside it might go on.
            let lacks = is_here && engine.has_lacked_memory();
            if lacks { Err(script::Error::Stopped(Stop::Aborted)) } else { ended }
        });
        outside.cx.is_in_script = false;
        (ended, outside.said)
    };
    drop(shown);
    cx.session.protocol = protocol;
    cx.take_back(mark);
    if is_here && !matches!(&ended, Ok(Ok(_) | Err(script::Error::Script(_)))) {
        return Err(cx.give_way(Why::Long));
    }
    said.iter().for_each(|(level, text)| engine::log(*level, text));
    let ended = ended?;
    match &ended {
        Ok(reply) => cx.count_script(Some(reply)),
        Err(script::Error::Script(text)) => cx.count_script(Some(format!("-{text}").as_bytes())),
        Err(script::Error::Stopped(_)) => {}
    }
    match ended {
        Ok(reply) => Ok(cx.reply().with(|writer| writer.raw(&reply))),
        Err(script::Error::Script(text)) => Ok(cx.reply().error(&text)),
        Err(script::Error::Stopped(why)) => Err(stopped(cx, why, rules.is_function)),
    }
}

/// A script that is about to run: how it is stopped.
struct Watched<'n> {
    control: Arc<Control>,
    tick: Tick,
    /// It is seen by others, as long as this is there.
    shown: Option<Guard<'n>>,
}

fn watch<'n>(
    cx: &NestedCx<'_>,
    node: &'n Arc<Node>,
    (words, name, is_function): (&[&[u8]], &str, bool),
) -> Watched<'n> {
    if cx.is_here() {
        // Over, or aside, before anybody could ask for it.
        return Watched { control: Arc::default(), tick: soon(), shown: None };
    }
    // For FUNCTION STATS; long words are cut, and none is a secret.
    let words = crate::slowlog::shorten("eval", words);
    let running = Running::new(name.to_owned(), words, is_function);
    let running = node.scripts.begin(running.within(Arc::clone(&cx.session.namespace)));
    let limit = Duration::from_millis(u64::from(cx.config.script_time_max_ms));
    let tick = tick(Arc::clone(node), Arc::clone(&running.running), cx.generation(), limit);
    Watched { control: Arc::clone(&running.running.control), tick, shown: Some(running) }
}

/// Ends what takes longer than it may on a worker. The clock is looked at by what is not over
/// before the first look.
pub(super) fn soon() -> Tick {
    let end: Cell<Option<Instant>> = Cell::new(None);
    Box::new(move || {
        let now = Instant::now();
        let until = end.get().unwrap_or(now + TIME_HERE);
        end.set(Some(until));
        (now > until).then_some(Stop::Aborted)
    })
}

/// What is answered for a script that was stopped. Nothing of it stays.
fn stopped(cx: &mut NestedCx<'_>, why: Stop, is_function: bool) -> Error {
    let command = if is_function { "FUNCTION" } else { "SCRIPT" };
    match why {
        Stop::Killed => {
            Error::err(format!("Error running script (user killed with {command} KILL)."))
        }
        Stop::TooLong => Error::err(
            "Error running script (longer than script-time-max-ms): nothing of it was written.",
        ),
        // If there is another reason, it was said already.
        Stop::Aborted => cx.fail(Error::err(CHANGED)),
    }
}

/// Looks from time to time whether a script is to end.
fn tick(node: Arc<Node>, running: Arc<Running>, generation: Option<u64>, limit: Duration) -> Tick {
    let taken: Cell<Option<Instant>> = Cell::new(None);
    Box::new(move || {
        Guard::look(&node.scripts, &running);
        if !limit.is_zero() && running.since.elapsed() > limit {
            return Some(Stop::TooLong);
        }
        if *node.shutdown().borrow() {
            return Some(Stop::Aborted);
        }
        let generation = generation?;
        match node.gate.try_read() {
            Some(engine) if engine.generation == generation => {
                taken.set(None);
                None
            }
            Some(_) => Some(Stop::Aborted),
            None => {
                let since = taken.get().unwrap_or_else(Instant::now);
                taken.set(Some(since));
                (since.elapsed() > GIVES_WAY).then_some(Stop::Aborted)
            }
        }
    })
}

/// The commands of a script.
struct Outside<'c, 'n, 'w, 'k> {
    cx: &'c mut NestedCx<'n>,
    write: &'c mut WriteCx<'w>,
    declared: &'k [&'k [u8]],
    is_read_only: bool,
    allows_oom: bool,
    slots: ScriptScope,
    control: &'c Control,
    /// Lines for the log, until it is known that the script has run.
    said: Vec<(Level, Vec<u8>)>,
}

/// Whether a command that may wait is asked to: XREAD and XREADGROUP with BLOCK.
fn waits(words: &[&[u8]]) -> bool {
    let options = words.iter().take_while(|word| !word.eq_ignore_ascii_case(b"STREAMS"));
    options.skip(1).any(|word| word.eq_ignore_ascii_case(b"BLOCK"))
}

fn refused(text: impl Into<String>) -> Called {
    Called::Refused(text.into())
}

impl Host for Outside<'_, '_, '_, '_> {
    fn call(&mut self, words: &[&[u8]], protocol: Protocol) -> Called {
        let found = table::find(&self.cx.config.renames, words).map(|(_, command)| command);
        // Of a container none of its commands is meant.
        let found = found.filter(|command| !command.is_container || words.len() == 1);
        let admitted = match found {
            Some(command) => self.admit(command, words).map(|()| command),
            None => Err(refused("ERR Unknown Redis command called from script")),
        };
        match admitted {
            Ok(command) => self.carry_out(command, words, protocol),
            Err(called) => {
                if let Called::Refused(text) = &called {
                    self.cx.count_rejected(found, text);
                }
                called
            }
        }
    }

    fn log(&mut self, level: Level, text: &[u8]) {
        if !self.cx.is_here() {
            engine::log(level, text);
        } else if self.said.len() < SAID_HERE {
            self.said.push((level, text.get(..engine::LINE_MAX).unwrap_or(text).to_vec()));
        } else {
            self.cx.give_way(Why::Long);
            self.control.stop(Stop::Aborted);
        }
    }

    fn may_call(&mut self, words: &[&[u8]]) -> Option<bool> {
        let (_, command) = table::find(&self.cx.config.renames, words)?;
        let pass = self.cx.enter(|caller| gates::may_call(&caller.check(&command.row, words)));
        Some(pass.is_ok())
    }
}

impl Outside<'_, '_, '_, '_> {
    /// Whether the script may call a command now.
    fn admit(&mut self, command: &Command, words: &[&[u8]]) -> std::result::Result<(), Called> {
        if command.is_container || !command.accepts(words.len()) {
            return Err(refused("ERR Wrong number of args calling Redis command from script"));
        }
        let flags = command.flags;
        let is_barred = [Flags::NO_SCRIPT, Flags::PEER, Flags::CONTROL, Flags::AT_NODE]
            .iter()
            .any(|flag| flags.has(*flag))
            || matches!(command.handler, Handler::Nested(_) | Handler::Script(_));
        if is_barred {
            return Err(refused("ERR This Redis command is not allowed from script"));
        }
        if flags.has(Flags::BLOCKING) && waits(words) {
            let name = String::from_utf8_lossy(words.first().copied().unwrap_or_default());
            let text = format!("ERR {name} command is not allowed with BLOCK option from scripts");
            return Err(refused(text));
        }
        if command.is_write() && self.is_read_only {
            return Err(refused("ERR Write commands are not allowed from read-only scripts."));
        }
        // What it does besides could not be taken back, or takes long.
        let is_session = matches!(command.handler, Handler::Session(_));
        let acts = is_session && !flags.has(Flags::FAST) || self.cx.tells_at_once(command);
        if acts && self.cx.is_here() {
            self.cx.give_way(Why::Long);
            return Err(self.stop());
        }
        self.pass(command, words)?;
        self.locate(command, words)?;
        if self.cx.lock_more(command, words).is_err() {
            return Err(self.stop());
        }
        Ok(())
    }

    /// The gates that the script itself has not passed for this command.
    fn pass(&self, command: &Command, words: &[&[u8]]) -> std::result::Result<(), Called> {
        let asks_memory = !self.allows_oom && !self.control.has_written();
        let is_stopped = || self.control.stopped().is_some();
        let passed = self.cx.enter(|caller| {
            let check = caller.check(&command.row, words);
            gates::pass_in_script(&check)?;
            let passed = match command.is_write() {
                true => gates::pass_to_write(&check, asks_memory),
                false => gates::pass_to_read(&check),
            };
            match passed {
                // It holds locks, and may wait for as long as a move stays sealed.
                Err(Refusal::Wait(_)) if is_stopped() => Err(Refusal::Error(CHANGED.into())),
                passed => passed,
            }
        });
        match passed {
            Ok(_) => Ok(()),
            Err(_) if self.cx.has_failed() || is_stopped() => Err(self.stop()),
            Err(error) => Err(refused(error.to_string())),
        }
    }

    /// Whether the keys are here, and of the slot of the script's other keys.
    fn locate(&mut self, command: &Command, words: &[&[u8]]) -> std::result::Result<(), Called> {
        let (cx, declared) = (&mut *self.cx, self.declared);
        let is_declared = |key: &[u8]| declared.contains(&key);
        if cx.config.lua_strict_key_accessing && !command.keys_in(words).all(is_declared) {
            return Err(refused("ERR Script attempted to access an undeclared key"));
        }
        if !cx.config.cluster_enabled {
            return Ok(());
        }
        let cluster = cx.node.cluster.load();
        let request = topology::RouteRequest {
            is_write: command.is_write(),
            readonly: cx.session.is_readonly,
            asking: cx.session.is_asking,
            asker: cx.session.asker(cx.config),
        };
        let slots = || command.keys_in(words).map(key_slot);
        match cluster.route_in_script(slots(), request, &mut self.slots) {
            Route::Run => {}
            // By a topology that is older than the data is. All keys are of one slot.
            Route::ScriptNonLocal
                if cx.enter(|caller| gates::are_opened(caller, slots())).is_ok() =>
            {
                if slots().next().is_some_and(|slot| !self.slots.admit(slot)) {
                    return Err(refused(Route::ScriptCrossSlot.to_string()));
                }
            }
            other => return Err(refused(other.to_string())),
        }
        for slot in slots() {
            if !cx.touched.contains(&slot) {
                cx.touched.push(slot);
            }
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        command: &'static Command,
        words: &[&[u8]],
        protocol: Protocol,
    ) -> Called {
        if command.is_write() {
            self.control.note_write();
        }
        let reply = self.cx.call_in_script(self.write, command, words, protocol);
        if self.cx.has_failed() {
            return self.stop();
        }
        match Txn::must_fit(&self.write.txn) {
            Ok(()) => Called::Reply(reply),
            Err(error) => {
                // It would not be written at the end: better no more of it.
                self.cx.fail(error.into());
                self.stop()
            }
        }
    }

    /// The script ends here.
    fn stop(&self) -> Called {
        self.control.stop(Stop::Aborted);
        Called::Stop
    }
}
