//! From a parsed command to its reply: look-up, gates, locks, handler, commit.
//!
//! A [`Batch`] runs the commands of one read buffer, or those of several connections one after the
//! other, under one hold of the write gate. Nothing it wrote may be answered before [`Ran::finish`]
//! has handed the WAL to the operating system, and nothing may be answered at all once the lease is
//! over or the role has changed meanwhile.

mod aside;
mod ended;
mod here;
mod ran;
mod read;
mod refused;
mod sampled;
mod settled;
mod shared;
mod unknown;
mod wait;
mod write;

#[cfg(test)]
pub(super) use ran::UNWRITTEN;
pub use ran::{Ended, Ran};

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::Guard;
use parking_lot::RwLockReadGuard;
use smallvec::SmallVec;
use storage::Store;
use topology::Cluster;

use super::gates::{self, Caller, Refusal};
use super::nested::tell_monitors;
use super::pipeline::Pending;
use super::table::{self, Call, Handler};
use super::transaction::Queued;
use super::{After, Command, ReplyMode, Session, SessionCx, Tells};
use crate::clients::Via;
use crate::command::texts::LOADING;
use crate::command::{Args, Error, Flags, Replied, Reply};
use crate::config::Values;
use crate::gate::Engine;
use crate::node::Node;
use crate::slowlog;
use crate::stats::Outcome;
use unknown::unknown_command;
use write::Failed;

/// The commands of one read buffer after the other.
pub struct Batch<'n> {
    node: &'n Arc<Node>,
    /// Options of this batch.
    pub config: Arc<Values>,
    guard: Option<RwLockReadGuard<'n, Engine>>,
    cluster: Option<Guard<Arc<Cluster>>>,
    worker: usize,
    now_ms: u64,
    pending: Pending<'n>,
    /// Which of the connections that share the batch runs now. What follows is about it alone.
    member: usize,
    has_written: bool,
    has_data: bool,
    generation: u64,
    /// Replies waited for the in-sync set when the first command ran.
    waits: bool,
    /// What data the last command's answer shows, if the answer comes later.
    later: Tells,
    /// It runs on a thread for scripts.
    is_aside: bool,
    /// The connections whose commands have run, and whose writes were committed since.
    written: SmallVec<[usize; 8]>,
    /// The same for writes that could not be committed.
    failed: Vec<Failed>,
    /// Ids of keys that its commands found past their ends, and that are to be removed.
    ended: Vec<Vec<u8>>,
    begun: Instant,
    /// When the last command began.
    last: Instant,
    /// When it ended, if nothing was done since but to find the next one.
    idle_since: Option<Instant>,
}

/// A command of so many words is found in no time: it begins when the one before it ended.
const FEW_WORDS: usize = 64;

impl<'n> Batch<'n> {
    /// Begins a batch on a worker at `now_ms`, unix ms: its commands see that time alone.
    pub fn begin(node: &'n Arc<Node>, config: Arc<Values>, worker: usize, now_ms: u64) -> Self {
        let begun = Instant::now();
        Self {
            node,
            config,
            begun,
            last: begun,
            idle_since: None,
            guard: None,
            cluster: None,
            worker,
            now_ms,
            pending: Pending::default(),
            member: 0,
            has_written: false,
            has_data: false,
            generation: 0,
            waits: false,
            later: Tells::Nothing,
            is_aside: false,
            written: SmallVec::new(),
            failed: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Unix ms at which this batch began.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// How long it ran when its last command began.
    pub fn age(&self) -> Duration {
        self.last.duration_since(self.begun)
    }

    /// Runs one command and appends its reply to `out`.
    pub fn run(&mut self, session: &mut Session, words: &[&[u8]], out: &mut Vec<u8>) -> After {
        if words.is_empty() {
            return After::Next(Replied::to_nothing());
        }
        let idle_since = self.idle_since.take().filter(|_| words.len() <= FEW_WORDS);
        self.last = idle_since.unwrap_or_else(Instant::now);
        let found = table::find(&self.config.renames, words);
        if !found.is_some_and(|(_, command)| self.may_wait(session, command, words)) {
            self.settle(session, out);
        }
        let mark = out.len();
        let Some((place, command)) = found else {
            if unknown::is_http(words) {
                unknown::note_http(session.client.address, self.now_ms);
                return After::Drop(unknown::HTTP);
            }
            session.transaction.is_aborted |= session.transaction.is_open();
            session.caches &= session.transaction.is_open();
            session.is_asking &= session.transaction.is_open();
            let text = unknown_command(words);
            self.node.stats.errors.note(text.as_bytes());
            let replied = session.reply(out).error(&text);
            session.show();
            return Self::silence(session, out, mark, replied.into());
        };
        session.client.last_command.set(&command.row);
        let (after, outcome) = self.run_found(session, command, words, out);
        session.show();
        self.remove_ended();
        if matches!(after, After::Again(_)) {
            return after;
        }
        (session.standing, session.has_looked) = (None, false);
        if outcome == Outcome::Rejected {
            // ASKING was for it.
            session.is_asking &= session.transaction.is_open();
        }
        if session.caches {
            // CACHING is for the next command, be it refused, or the next transaction. As in Redis
            // what else the connection says of itself may stand between.
            session.caches =
                session.transaction.is_open() || matches!(command.first_word(), "client" | "multi");
        }
        if outcome == Outcome::Aside {
            // Counted where it runs.
            return Self::silence(session, out, mark, after);
        }
        let is_long = matches!(after, After::Long(_));
        let reply = out.get(mark..).unwrap_or_default();
        self.count(session, (place, command, words), (outcome, is_long), reply);
        if command.flags.has(Flags::MAY_REPLICATE) && self.node.pubsub.any() {
            self.idle_since = None;
            self.settle(session, out);
            let after = Self::silence(session, out, mark, after);
            // The client may be among those who get it: as in Redis, before the reply.
            let mut pushes = Vec::new();
            session.client.inbox.take(&mut pushes);
            let mark = mark.min(out.len());
            out.splice(mark..mark, pushes);
            return after;
        }
        if session.reply_mode != ReplyMode::On {
            // An error of the commit is a reply too, and is not sent either.
            self.idle_since = None;
            self.settle(session, out);
        }
        let flags = command.flags;
        let is_pushed = flags.has(Flags::PUBSUB) && flags.has(Flags::SUBSCRIBER);
        // As in Redis: what subscriptions answer are pushes, and the messages before them too.
        let mark = if is_pushed && outcome == Outcome::Done { out.len() } else { mark };
        Self::silence(session, out, mark, after)
    }

    fn run_found(
        &mut self,
        session: &mut Session,
        command: &'static Command,
        words: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> (After, Outcome) {
        self.hold();
        let is_queueing = session.transaction.is_open() && !command.flags.has(Flags::UNQUEUED);
        if let Err(refusal) = self.pass(session, command, words, is_queueing) {
            self.settle(session, out);
            let refusal = match command.flags.has(Flags::RUNS_QUEUE) {
                true => self.abort_exec(session, refusal),
                false => refusal,
            };
            return (self.refuse(session, refusal, out), Outcome::Rejected);
        }
        if command.flags.has(Flags::PEER) && session.client.via == Via::Direct {
            session.asks_as_peer = true;
            // If a secret is configured, it alone proves a peer: words do not.
            if self.config.peer_secrets().next().is_none() {
                session.client.show_peer();
            }
        }
        if is_queueing {
            return queue(session, command, words, out);
        }
        let may_go = !self.is_aside && aside::runs_scripts(session, command);
        if may_go && !self.begins_here(session, command, words) {
            here::note_aside(words);
            return (self.send_aside(session, command, words, out), Outcome::Aside);
        }
        let was_asking = std::mem::take(&mut session.is_asking);
        self.has_data |= command.is_data();
        let mark = out.len();
        let Some(result) = self.run_or_give_way(session, command, words, out) else {
            session.is_asking = was_asking;
            return (self.send_aside(session, command, words, out), Outcome::Aside);
        };
        // As in Redis, ASKING before MULTI is for the whole transaction.
        session.is_asking |= was_asking && session.transaction.is_open();
        match result {
            Ok(after) => {
                session.is_asking |= was_asking && matches!(after, After::Again(_));
                match &after {
                    After::Wrote(_) => (self.has_data, self.has_written) = (true, true),
                    After::Later(_, tells) => self.later = *tells,
                    After::Long(read) => self.later = read.tells,
                    // Also "nothing" tells of what was read.
                    After::Blocked(_) if command.is_write() => self.later = Tells::Write,
                    After::Blocked(_) => self.later = Tells::Read,
                    _ => {}
                }
                (after, Outcome::Done)
            }
            Err(Error::Locked) => {
                self.settle(session, out);
                session.is_asking |= was_asking;
                let is_exec = command.flags.has(Flags::RUNS_QUEUE);
                (self.wait_for_script(session, is_exec, out), Outcome::Rejected)
            }
            Err(error) => {
                // A write or script took its own half reply back: committing what waited before it
                // may have moved the mark.
                let is_read = !command.is_write() || matches!(command.handler, Handler::Read(_));
                if is_read && !matches!(command.handler, Handler::Script(_)) {
                    out.truncate(mark);
                }
                self.settle(session, out);
                error.log(command.name);
                (session.reply(out).error(&error.to_string()).into(), Outcome::Failed)
            }
        }
    }

    /// Runs a command, and tells those who watch of it, as in Redis once it has run: not each time
    /// that it is tried again.
    fn handle(
        &mut self,
        session: &mut Session,
        command: &'static Command,
        words: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<After, Error> {
        session.note_reading(self.node, &self.config, command, words);
        let ran = self.call_sampled(session, command, words, out);
        let is_to_come = matches!(ran, Err(Error::Locked) | Ok(After::Again(_)));
        // A script is told of where it begins, before what it runs.
        if !is_to_come && !matches!(command.handler, Handler::Script(_)) {
            tell_monitors(self.node, &self.config, session, command, words);
        }
        ran
    }

    fn call_handler(
        &mut self,
        session: &mut Session,
        command: &'static Command,
        words: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<After, Error> {
        match command.handler {
            Handler::Read(handler) => {
                let missed = self.look_for_absent(session, command, words);
                let ran = self.run_read(session, command, handler, words, out);
                self.tell_missed(&missed, &ran);
                ran
            }
            Handler::Write(handler) => {
                self.run_write(session, command, handler, words, out).map(After::Next)
            }
            Handler::Blocking(handler) => self.run_blocking(session, command, handler, words, out),
            Handler::BlockingRead(..) => {
                let missed = self.look_for_absent(session, command, words);
                let ran = self.run_settled(session, command, words, out);
                self.tell_missed(&missed, &ran);
                ran
            }
            Handler::Nested(_) => self.run_nested(session, (command, words), out),
            Handler::Script(_) => self.run_script(session, (command, words), out),
            // The gates let nothing through that is not in it.
            Handler::Container => Err(Error::Syntax),
            Handler::Session(handler) => {
                self.release();
                let protocol = session.protocol;
                let reply = Reply::new(resp::Writer::new(out, protocol));
                let mut cx = SessionCx {
                    node: self.node,
                    session,
                    config: &self.config,
                    exec: None,
                    began_us: None,
                    now_ms: self.now_ms,
                };
                handler(&mut cx, &mut Args::behind(command.names, words), reply)
            }
        }
    }

    /// Takes the write gate, once per batch.
    fn hold(&mut self) {
        if self.guard.is_some() {
            return;
        }
        let guard = self.node.gate.read();
        if !self.has_data {
            self.generation = guard.generation;
            self.waits = self.node.grants.commit.is_waiting();
        }
        // Loaded under the gate: role and topology change together.
        self.cluster = self.config.cluster_enabled.then(|| self.node.cluster.load());
        self.guard = Some(guard);
    }

    /// Lets go of the gate, for handlers that may wait or change the role.
    fn release(&mut self) {
        self.guard = None;
        self.cluster = None;
    }

    /// The gates of one command. For EXEC they are also the gates of all commands it is about to
    /// run: the whole is judged before any of it runs, and the judgement holds while the write gate
    /// is held.
    fn pass(
        &self,
        session: &Session,
        command: &Command,
        words: &[&[u8]],
        is_queueing: bool,
    ) -> Result<(), Refusal> {
        let Some(engine) = self.guard.as_deref() else {
            return Err(Refusal::Close("the write gate is not held"));
        };
        let caller = Caller {
            node: self.node,
            config: &self.config,
            session,
            engine,
            cluster: self.cluster.as_deref().map(Arc::as_ref),
        };
        let queue = session.transaction.queue().filter(|_| command.flags.has(Flags::RUNS_QUEUE));
        match (queue, is_queueing) {
            (_, true) => gates::pass_to_queue(&caller.check(command, words)),
            (None, false) => gates::pass(&caller.check(command, words)),
            (Some(queue), false) => {
                let queue: Vec<Call<'_>> = queue.iter().map(Queued::call).collect();
                gates::pass(&caller.check(command, words))?;
                gates::pass_all(queue.iter().map(|(command, words)| caller.check(command, words)))
            }
        }
    }

    fn store(&self) -> Result<&Store, Error> {
        let store = self.guard.as_deref().and_then(|engine| engine.store.as_ref());
        store.ok_or_else(|| Error::text(LOADING))
    }

    /// Counts the command that was begun last, and notes it if it was slow, unless it is to end on
    /// another thread.
    fn count(
        &mut self,
        session: &Session,
        (place, command, words): (usize, &Command, &[&[u8]]),
        (outcome, is_long): (Outcome, bool),
        reply: &[u8],
    ) {
        // As in Redis: it counts once it runs.
        if outcome == Outcome::Queued {
            return;
        }
        let now = Instant::now();
        self.idle_since = (!is_long).then_some(now);
        let micros = now.duration_since(self.last).as_micros();
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        // A command that answers with an error has failed, e.g. a script with the error of a call.
        let is_error = outcome == Outcome::Done && reply.first() == Some(&b'-');
        // Of a script, and of what it calls, the errors are counted where they are answered.
        if !(is_error && matches!(command.handler, Handler::Script(_))) {
            self.node.stats.errors.note_reply(reply);
        }
        if let Some(stats) = self.node.stats.workers.get(self.worker) {
            stats.command(place, micros, if is_error { Outcome::Failed } else { outcome });
        }
        if !is_long {
            self.note_if_slow(session, command, words, micros);
        }
    }

    fn note_if_slow(&self, session: &Session, command: &Command, words: &[&[u8]], micros: u64) {
        let (threshold_ms, at) = (self.config.latency_monitor_threshold, self.now_ms / 1000);
        self.node.latency.note_command(command.flags.has(Flags::FAST), micros, threshold_ms, at);
        if !slowlog::is_slow(&self.config, command.flags, micros) {
            return;
        }
        let entry = slowlog::Entry {
            id: 0,
            at: self.now_ms / 1000,
            micros,
            words: slowlog::shorten(command.first_word(), words),
            client: session.client.address.to_string(),
            name: slowlog::shorten_name(&session.client.names.lock().name),
        };
        self.node.slowlog.add(entry, &self.config);
    }

    /// CLIENT REPLY OFF and SKIP: what was written is taken back.
    fn silence(session: &mut Session, out: &mut Vec<u8>, mark: usize, after: After) -> After {
        match session.reply_mode {
            ReplyMode::On => {}
            ReplyMode::Off => out.truncate(mark),
            ReplyMode::Skip(left) => {
                out.truncate(mark);
                session.reply_mode =
                    if left == 0 { ReplyMode::On } else { ReplyMode::Skip(left - 1) };
            }
        }
        after
    }
}

/// Whether a command may wait for the next ones of its pipeline before it is committed. A command
/// that runs aside may not: it lets go of the write gate, under which the waiting writes are
/// committed.
fn can_join(session: &Session, command: &Command) -> bool {
    matches!(command.handler, Handler::Write(_))
        && !command.flags.has(Flags::SCRIPT)
        && !session.transaction.is_open()
        && session.reply_mode == ReplyMode::On
}

fn queue(
    session: &mut Session,
    command: &'static Command,
    words: &[&[u8]],
    out: &mut Vec<u8>,
) -> (After, Outcome) {
    if session.transaction.push(command, words) {
        return (session.reply(out).simple("QUEUED").into(), Outcome::Queued);
    }
    session.transaction.is_aborted = true;
    (session.reply(out).error("ERR transaction is too large").into(), Outcome::Rejected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Role;
    use crate::shell;

    #[test]
    fn a_command_begins_when_the_one_before_it_has_ended_unless_something_is_done_between() {
        let dir = tempfile::tempdir().unwrap();
        let node = shell::node(dir.path(), shell::small(), Cluster::default(), Role::Master);
        let (mut session, mut out) = (shell::session(&node), Vec::new());
        let mut batch = Batch::begin(&node, node.config.now(), 0, 1);
        batch.run(&mut session, &[b"SET", b"a", b"1"], &mut out);
        let ended = batch.idle_since;
        assert!(ended.is_some());
        batch.run(&mut session, &[b"INCR", b"a"], &mut out);
        assert_eq!(Some(batch.last), ended);
        // What is queued counts when it runs.
        batch.run(&mut session, &[b"MULTI"], &mut out);
        batch.run(&mut session, &[b"INCR", b"a"], &mut out);
        assert_eq!(batch.idle_since, None);
        batch.run(&mut session, &[b"EXEC"], &mut out);
        assert!(batch.idle_since.is_some());
        batch.leave();
        assert_eq!(batch.idle_since, None);
        batch.run(&mut session, &[b"CLIENT", b"REPLY", b"OFF"], &mut out);
        assert_eq!(batch.idle_since, None);
        assert_eq!(out, b"+OK\r\n:2\r\n+OK\r\n+QUEUED\r\n*1\r\n:3\r\n");
    }
}
