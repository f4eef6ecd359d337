//! Commands that run scripts *aside*: on a thread for scripts, in a batch of their own, while the
//! worker serves its other connections. Exception: a script that begins on its worker and is over
//! soon (`dispatch::here`).
//!
//! Unlike other commands, a command aside does not hold the write gate while it runs, so a change
//! of role need not wait for it. Before its writes are appended, it takes the write gate, and the
//! checks of `session::gates` are made again (`NestedCx::enter`): if the role has changed
//! meanwhile, the writes are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::table::{self, Call, Handler, Prepare};
use super::super::transaction::Queued;
use super::super::{Command, NestedCx, Session};
use super::Batch;
use super::refused::ABORTED;
use crate::clock;
use crate::command::row::Access;
use crate::command::{Error, Flags, Words};
use crate::config::Values;
use crate::node::Node;
use crate::session::{After, Back, Tells};

/// A command that was aside and is to be tried again waits at most so long.
const AGAIN_MAX: Duration = Duration::from_millis(10);

const WAITING: u8 = 0;
const STARTED: u8 = 1;
const GIVEN_UP: u8 = 2;

/// Whether a command runs scripts: by itself, or what is queued.
pub(super) fn runs_scripts(session: &Session, command: &Command) -> bool {
    if command.flags.has(Flags::RUNS_QUEUE) {
        let queue = session.transaction.queue().unwrap_or_default();
        return queue.iter().any(|queued| queued.command.flags.has(Flags::SCRIPT));
    }
    command.flags.has(Flags::SCRIPT)
}

/// The part of a session that a command aside takes along. When it is dropped, its watches end.
struct Lent {
    session: Session,
    node: Arc<Node>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.session.transaction.unwatch(&self.node);
    }
}

/// A command aside, and what it needs.
struct Errand {
    lent: Lent,
    config: Arc<Values>,
    now_ms: u64,
    words: Vec<Vec<u8>>,
}

/// How a try ended.
enum Tried {
    Answered(Back),
    /// It is to be tried again after so long.
    Again(Box<Errand>, Duration),
}

impl Errand {
    /// Runs the command on this thread, whose counters have that index.
    fn run(mut self: Box<Self>, worker: usize) -> Tried {
        let node = Arc::clone(&self.lent.node);
        // It may have waited for this thread: its time is when it begins.
        self.now_ms = self.now_ms.max(clock::unix_ms());
        let mut batch = Batch::begin(&node, Arc::clone(&self.config), worker, self.now_ms);
        batch.is_aside = true;
        let words: Words<'_> = self.words.iter().map(Vec::as_slice).collect();
        let prepared = prepare(&node, &self.config, &self.lent.session, &words);
        let mut out = Vec::new();
        let after = batch.run(&mut self.lent.session, &words, &mut out);
        if let Some(prepare) = prepared {
            prepare(&node, &self.config, &[]);
        }
        drop(words);
        let ran = batch.close(&self.lent.session, &mut out);
        // What only read may leave where too few replicas have what is written.
        let tells = if ran.has_written { Tells::Write } else { Tells::Read };
        // Here and not by the connection alone, which may have ended: nobody would publish it
        // before the next command. A change of role that has the gate publishes by itself.
        if let Some(engine) = node.gate.try_read()
            && let Some(Err(error)) = engine.store.as_ref().map(storage::Store::publish)
        {
            // The connection finds out, too: nothing of it is answered.
            tracing::error!(%error, "cannot publish what a script wrote");
        }
        match after {
            After::Again(pause) => {
                let left = pause.until_ns.saturating_sub(clock::boottime_ns());
                let left = Duration::from_nanos(left).clamp(Duration::from_millis(1), AGAIN_MAX);
                Tried::Again(self, left)
            }
            After::Drop(why) => {
                let bytes = error(&self.lent.session, why);
                Tried::Answered(Back { bytes, tells, closes: false, state: None })
            }
            after => Tried::Answered(Back {
                bytes: out,
                tells,
                closes: matches!(after, After::Close),
                state: Some(self.lent.session.state()),
            }),
        }
    }
}

/// What takes long and needs nothing held comes first. The gates have been passed already. Returns
/// what was called and forgets again.
fn prepare(node: &Node, config: &Values, session: &Session, words: &[&[u8]]) -> Option<Prepare> {
    let (_, command) = table::find(&config.renames, words)?;
    let mut calls: Vec<Call<'_>> = vec![(command, words.iter().copied().collect())];
    if command.flags.has(Flags::RUNS_QUEUE) {
        calls.extend(session.transaction.queue().unwrap_or_default().iter().map(Queued::call));
    }
    calls.retain(|(command, _)| command.prepare.is_some());
    let prepare = calls.first().and_then(|(command, _)| command.prepare)?;
    let calls: Vec<Words<'_>> = calls.into_iter().map(|(_, words)| words).collect();
    prepare(node, config, &calls);
    Some(prepare)
}

fn error(session: &Session, text: impl std::fmt::Display) -> Vec<u8> {
    let mut out = Vec::new();
    session.reply(&mut out).error(&format!("ERR {text}"));
    out
}

/// Tries a command on a thread for scripts. If none is free for as long as a script may run
/// unanswered, the others are busy.
async fn attempt(errand: Box<Errand>) -> Tried {
    let node = Arc::clone(&errand.lent.node);
    let (protocol, threshold) = (errand.lent.session.protocol, errand.config.lua_time_limit);
    let is_exec = errand.lent.session.transaction.is_open();
    let (tell, mut told) = oneshot::channel();
    let state = Arc::new(AtomicU8::new(WAITING));
    let first_counter = node.workers;
    let job = {
        let state = Arc::clone(&state);
        Box::new(move |number: usize| {
            if state.compare_exchange(WAITING, STARTED, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            {
                // The connection may have ended: then nobody is told.
                let _ = tell.send(errand.run(first_counter + number));
            }
        })
    };
    let fail = |text: String, tells: Tells| {
        node.stats.errors.note(text.as_bytes());
        let mut bytes = Vec::new();
        resp::Writer::new(&mut bytes, protocol).error(&text);
        Tried::Answered(Back { bytes, tells, closes: false, state: None })
    };
    // It may have written something before.
    let fault = || fail("ERR the script ended by a fault of its engine".to_owned(), Tells::Write);
    if let Err(cause) = node.scripts.run(job) {
        return fail(format!("ERR no thread for scripts: {cause}"), Tells::Nothing);
    }
    let patience = Duration::from_millis(u64::from(threshold));
    if !patience.is_zero()
        && let Ok(tried) = tokio::time::timeout(patience, &mut told).await
    {
        return tried.unwrap_or_else(|_| fault());
    }
    if !patience.is_zero()
        && let Some(busy) = node.scripts.busy(patience)
        && state.compare_exchange(WAITING, GIVEN_UP, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    {
        let text = if is_exec { format!("{ABORTED}{busy}") } else { busy.into() };
        return fail(text, Tells::Nothing);
    }
    told.await.unwrap_or_else(|_| fault())
}

impl<'n> Batch<'n> {
    /// Sends a command aside; its answer comes later. What waits is committed first: a command
    /// aside lets go of the write gate.
    pub(super) fn send_aside(
        &mut self,
        session: &mut Session,
        command: &Command,
        words: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> After {
        self.settle(session, out);
        let mut errand = Box::new(Errand {
            lent: Lent { session: session.lend(), node: Arc::clone(self.node) },
            config: Arc::clone(&self.config),
            now_ms: self.now_ms,
            words: words.iter().map(|word| word.to_vec()).collect(),
        });
        self.release();
        self.later = if command.access == Access::Read { Tells::Read } else { Tells::Write };
        After::Aside(Box::pin(async move {
            loop {
                match attempt(errand).await {
                    Tried::Answered(back) => return back,
                    Tried::Again(again, left) => {
                        tokio::time::sleep(left).await;
                        errand = again;
                    }
                }
            }
        }))
    }

    /// Runs a script under the locks of the keys it names. If it needs more and cannot get them
    /// while it holds those, it runs under the locks of all keys.
    pub(super) fn run_script(
        &mut self,
        session: &mut Session,
        (command, words): (&'static Command, &[&[u8]]),
        out: &mut Vec<u8>,
    ) -> Result<After, Error> {
        let (store, reads_only) = (self.store()?.clone(), self.reads_only());
        if self.is_aside {
            self.guard = None;
        }
        let calls: [Call<'_>; 1] = [(command, words.iter().copied().collect())];
        let mut cx = self.nested(session, (&store, reads_only), out);
        let mut result = cx.lock(&calls).and_then(|()| cx.run_one(&calls));
        if cx.wants_all && matches!(result, Err(Error::Locked)) {
            cx.unlock();
            result = cx.lock(&calls).and_then(|()| cx.run_one(&calls));
        }
        let ended = cx.end();
        self.note(ended);
        result
    }

    /// Runs a command that runs others.
    pub(super) fn run_nested(
        &mut self,
        session: &mut Session,
        (command, words): (&'static Command, &[&[u8]]),
        out: &mut Vec<u8>,
    ) -> Result<After, Error> {
        let Handler::Nested(handler) = command.handler else { return Err(Error::Syntax) };
        let (store, reads_only) = (self.store()?.clone(), self.reads_only());
        if self.is_aside {
            self.guard = None;
        }
        let mut cx = self.nested(session, (&store, reads_only), out);
        let mut args = crate::command::Args::behind(command.names, words);
        let result = handler(&mut cx, &mut args);
        let ended = cx.end();
        self.note(ended);
        result
    }

    fn note(&mut self, (has_data, has_written): (bool, bool)) {
        self.has_data |= has_data;
        self.has_written |= has_written;
    }

    fn nested<'c>(
        &'c self,
        session: &'c mut Session,
        (store, reads_only): (&'c storage::Store, bool),
        out: &'c mut Vec<u8>,
    ) -> NestedCx<'c> {
        let at = (self.node, &self.config, self.worker, self.now_ms);
        let mut cx = NestedCx::new(at, session, (store, self.generation, !self.is_aside), out);
        cx.reads_only = reads_only;
        cx
    }

    /// Whether only the master's batches change what commands read here.
    pub(super) fn reads_only(&self) -> bool {
        let is_replica = self.guard.as_deref().is_some_and(|engine| !engine.role.is_master());
        is_replica && self.config.slave_read_only
    }
}
