//! Writes: they run under their key locks, on top of the pipeline's uncommitted writes, and are
//! committed together with these.

use std::sync::Arc;

use resp::{Protocol, Writer};
use smallvec::SmallVec;
use storage::Suspended;

use super::super::expire::AT_ONCE;
use super::super::nested::{is_awaited, lock};
use super::super::pipeline::{Committed, Group};
use super::super::serve::Server;
use super::super::table::WriteHandler;
use super::super::{Beyond, Command, Session, WriteCx};
use super::Batch;
use crate::command::{Args, Error, Flags, Replied};
use crate::events::{self, Event};
use crate::locks::Locks;
use crate::node::Node;

/// How often a write is tried that is told of more and more keys it writes besides.
const TRIES: u32 = 4;

/// The records that a write has put into its transaction, and its events.
type Written = (Suspended, Vec<Event>);

/// How the handler of a write ended.
struct Handled {
    result: Result<Replied, Error>,
    written: Written,
    /// Ids of keys that it found past their ends.
    ended: Vec<Vec<u8>>,
}

/// Commands of a connection that are to be answered with the error of their commit.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) group: Group,
    pub(super) text: Arc<str>,
}

impl Failed {
    /// Puts the error in the place of their replies, which are the last ones there.
    pub(super) fn answer(&self, protocol: Protocol, out: &mut Vec<u8>) {
        out.truncate(self.group.mark);
        for _ in 0..self.group.commands {
            Writer::new(out, protocol).error(&self.text);
        }
    }
}

impl<'n> Batch<'n> {
    /// Commits the writes that wait. If that fails, their replies become the error.
    pub(super) fn settle(&mut self, session: &Session, out: &mut Vec<u8>) {
        for failed in self.commit() {
            if failed.group.member == self.member {
                failed.answer(session.protocol, out);
            } else {
                self.failed.push(failed);
            }
        }
    }

    /// Commits the writes that wait, of whichever connection, and returns those that are to be
    /// answered with an error.
    pub(super) fn commit(&mut self) -> SmallVec<[Failed; 4]> {
        if self.pending.is_empty() {
            return SmallVec::new();
        }
        let failed = self.commit_what_waits();
        self.remove_ended();
        failed
    }

    fn commit_what_waits(&mut self) -> SmallVec<[Failed; 4]> {
        let store = self.guard.as_deref().and_then(|engine| engine.store.as_ref());
        let (node, config, worker, now_ms) = (self.node, &*self.config, self.worker, self.now_ms);
        let server =
            store.map(|store| Server { node, config, store, worker, now_ms, writer: None });
        let Committed { groups, result } = self.pending.commit(server);
        match result {
            Ok(false) => SmallVec::new(),
            Ok(true) => {
                for group in groups {
                    if group.member == self.member {
                        self.has_written = true;
                    } else {
                        self.written.push(group.member);
                    }
                }
                SmallVec::new()
            }
            Err(error) => {
                let commands: usize = groups.iter().map(|group| group.commands).sum();
                tracing::error!(%error, commands, "a write failed in storage");
                let text: Arc<str> = error.to_string().into();
                groups
                    .iter()
                    .map(|group| Failed { group: *group, text: Arc::clone(&text) })
                    .collect()
            }
        }
    }

    /// Runs a write and, if it can wait, leaves it to be committed with the next ones of the
    /// pipeline.
    pub(super) fn run_write(
        &mut self,
        session: &Session,
        command: &Command,
        handler: WriteHandler,
        words: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<Replied, Error> {
        let node: &'n Arc<Node> = self.node;
        let takes_all = command.flags.has(Flags::ALL_KEYS);
        let mut stripes = Locks::stripes(command.keys_in(words));
        let joins = !takes_all && self.pending.is_in(&session.namespace);
        let joined = if joins { self.pending.join(&node.locks, &stripes) } else { None };
        let mut held = match joined {
            Some(held) => held,
            None => {
                // What waits for a lock may hold none.
                self.settle(session, out);
                let stripes = if takes_all { Locks::all_stripes() } else { stripes.clone() };
                lock(node, &stripes)?
            }
        };
        let mut waiting = self.pending.take_writes();
        let (mut mark, mut beyond, mut tries) = (out.len(), Vec::new(), 0);
        let (result, written) = loop {
            let call = (command, words, Beyond::These(&beyond));
            let handled = self.run_handler(call, handler, waiting, session, out)?;
            let Handled { result, written, ended } = handled;
            self.ended.extend(ended.into_iter().take(AT_ONCE));
            tries += 1;
            match result {
                // Too large only together with what waits: that is committed first.
                Err(Error::Storage(storage::Error::TooLarge { .. }))
                    if !self.pending.is_empty() => {}
                // Of the series that rules lead to the locks come before they are read.
                Err(Error::Beyond(keys)) if tries < TRIES => {
                    let named = command.keys_in(words).chain(keys.iter().map(Vec::as_slice));
                    stripes = Locks::stripes(named);
                    beyond = keys;
                }
                result => break (result, written),
            }
            out.truncate(mark);
            self.pending.put_back(written.0);
            drop(held);
            self.settle(session, out);
            held = lock(node, &stripes)?;
            waiting = None;
            mark = out.len();
        };
        if result.is_err() {
            out.truncate(mark);
            self.pending.put_back(written.0);
            return result;
        }
        let written = (written, &session.namespace, session.client.id);
        self.pending.add(written, (held, &stripes), (self.member, mark));
        // Those that wait for one of its keys are served before the next command runs, as in Redis.
        if takes_all || is_awaited(node, &session.namespace, command, words) {
            self.settle(session, out);
        }
        result
    }

    /// Runs a write handler on top of `waiting`; what it wrote is taken back if it failed, or if it
    /// would not be written.
    fn run_handler(
        &self,
        (command, words, beyond): (&Command, &[&[u8]], Beyond<'_>),
        handler: WriteHandler,
        waiting: Option<Suspended>,
        session: &Session,
        out: &mut Vec<u8>,
    ) -> Result<Handled, Error> {
        let store = self.store()?;
        let txn = waiting.map_or_else(|| store.txn(), |writes| store.txn_resumed(writes));
        let (before, wanted) = (txn.mark(), self.config.notify_keyspace_events);
        let scope = session.scope(&self.config, self.now_ms);
        let found = events::look(wanted, command, words, &txn, scope);
        let mut cx = WriteCx {
            txn,
            serves: None,
            beyond,
            scope,
            node: self.node,
            config: &self.config,
            worker: self.worker,
            touched: events::Touched::default(),
        };
        let mut args = Args::behind(command.names, words);
        let mut result = handler(&mut cx, &mut args, session.reply(out));
        let (bytes, max) = (cx.txn.size_bytes(), store.batch_bytes_max());
        if result.is_ok() && cx.txn.count() > 0 && bytes > max {
            result = Err(storage::Error::TooLarge { bytes, max }.into());
        }
        let mut events = Vec::new();
        if result.is_err() {
            cx.txn.rollback(before);
        } else {
            let touched = cx.take_touched(Some(session.client.id));
            let at = (&cx.txn, before, cx.scope);
            events = events::of(wanted, command, words, at, (touched, &found));
        }
        Ok(Handled { result, written: (cx.txn.suspend(), events), ended: found.ended })
    }
}
