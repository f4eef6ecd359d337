//! Writes: under their key locks, on top of what waits before them in the pipeline, committed together.

use std::sync::Arc;

use storage::Suspended;

use super::super::nested::lock;
use super::super::serve::Server;
use super::super::table::WriteHandler;
use super::super::{Command, Session, WriteCx};
use super::Batch;
use crate::command::{Args, Error, Flags, Replied};
use crate::events::{self, Event};
use crate::locks::Locks;
use crate::node::Node;

/// What a write has put into its transaction, and what it did to keys.
type Written = (Suspended, Vec<Event>);

impl<'n> Batch<'n> {
    /// Commits the writes of this pipeline that wait. Where that fails, their replies become the error.
    pub(super) fn settle(&mut self, session: &Session, out: &mut Vec<u8>) {
        if self.pending.is_empty() {
            return;
        }
        let store = self.guard.as_deref().and_then(|engine| engine.store.as_ref());
        let server = store.map(|store| Server {
            writer: Some(session.client.id),
            node: self.node,
            config: &self.config,
            store,
            worker: self.worker,
            now_ms: self.now_ms,
        });
        match self.pending.commit(server) {
            Ok(has_written) => self.has_written |= has_written,
            Err(failed) => {
                tracing::error!(error = %failed.cause, commands = failed.commands, "a write failed in storage");
                out.truncate(failed.mark);
                let text = Error::from(failed.cause).to_string();
                for _ in 0..failed.commands {
                    session.reply(out).error(&text);
                }
            }
        }
    }

    /// Runs a write and leaves it to be committed with the next ones of the pipeline, where it can wait.
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
        let stripes = Locks::stripes(command.keys_in(words));
        let joined = if takes_all { None } else { self.pending.join(&node.locks, &stripes) };
        let mut held = match joined {
            Some(held) => held,
            None => {
                // Whoever waits for a lock may hold none.
                self.settle(session, out);
                let stripes = if takes_all { Locks::all_stripes() } else { stripes.clone() };
                lock(node, &stripes)?
            }
        };
        let waiting = self.pending.take_writes();
        let mut mark = out.len();
        let (mut result, mut written) =
            self.run_handler(command, handler, words, waiting, session, out)?;
        if matches!(result, Err(Error::Storage(storage::Error::TooLarge { .. })))
            && !self.pending.is_empty()
        {
            // Too large only together with what waits: that is committed first.
            out.truncate(mark);
            self.pending.put_back(written.0);
            drop(held);
            self.settle(session, out);
            held = lock(node, &stripes)?;
            mark = out.len();
            (result, written) = self.run_handler(command, handler, words, None, session, out)?;
        }
        if result.is_err() {
            out.truncate(mark);
            self.pending.put_back(written.0);
            return result;
        }
        self.pending.add(written, held, &stripes, mark);
        // Who waits for one of its keys is served before the next command runs, as in Redis.
        if takes_all || node.waiters.any() {
            self.settle(session, out);
        }
        result
    }

    /// Runs a write handler on top of `waiting`; what it wrote is taken back if it failed, or if it
    /// would not be written.
    fn run_handler(
        &self,
        command: &Command,
        handler: WriteHandler,
        words: &[&[u8]],
        waiting: Option<Suspended>,
        session: &Session,
        out: &mut Vec<u8>,
    ) -> Result<(Result<Replied, Error>, Written), Error> {
        let store = self.store()?;
        let txn = waiting.map_or_else(|| store.txn(), |writes| store.txn_resumed(writes));
        let before = txn.mark();
        let mut cx = WriteCx {
            txn,
            serves: None,
            scope: session.scope(&self.config, self.now_ms),
            node: self.node,
            config: &self.config,
            worker: self.worker,
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
            let at = (&cx.txn, before, cx.scope);
            events = events::of(self.config.notify_keyspace_events, command, words, at);
        }
        Ok((result, (cx.txn.suspend(), events)))
    }
}
