//! EXEC: the queued commands run one after the other under their key locks, see each other's writes, and become one batch.
//!
//! No gate is asked here: all of them were passed for the whole transaction before its first
//! command runs (`Batch::pass`), so a transaction that is not allowed to run does not run by half.
//! What a single command can still say is what depends on its data.

use std::sync::Arc;

use resp::Writer;

use super::super::table::Handler;
use super::super::transaction::Queued;
use super::super::{Command, Flow, ReadCx, Session, SessionCx, WriteCx};
use super::{Batch, keys, write_error};
use crate::command::{Args, Error, Flags, Reply, Words};
use crate::locks::Locks;

impl Batch<'_> {
    pub(super) fn exec(&mut self, session: &mut Session, out: &mut Vec<u8>) -> Result<Flow, Error> {
        if !session.transaction.is_open() {
            return Err(Error::text("ERR EXEC without MULTI"));
        }
        let is_aborted = session.transaction.is_aborted;
        let queued = session.transaction.take();
        if is_aborted {
            session.transaction.unwatch(self.node);
            return Err(Error::text("EXECABORT Transaction discarded because of previous errors."));
        }
        let commands: Vec<(&'static Command, Words<'_>)> =
            queued.iter().map(|queued: &Queued| (queued.command, queued.words())).collect();
        let node = Arc::clone(self.node);
        let _alone = if commands.iter().any(|(command, _)| command.flags.has(Flags::ALL_KEYS)) {
            node.locks.lock_all()
        } else {
            let keys = commands.iter().flat_map(|(command, words)| keys(command, words));
            node.locks.lock(&Locks::stripes(keys))
        };
        let has_changed =
            session.transaction.may_have_changed(&node) || self.has_expired(session)?;
        let (mark, only_reads) = (out.len(), commands.iter().all(|(command, _)| is_read(command)));
        let done = match has_changed {
            true => Ok(None),
            false => self.exec_all(session, &commands, out).map(Some),
        };
        // A replica applies without key locks: what was read may be newer than what was watched.
        let is_torn = only_reads && session.transaction.may_have_changed(&node);
        session.transaction.unwatch(&node);
        match done? {
            Some(done) if !is_torn => Ok(done),
            _ => {
                out.truncate(mark);
                let reply = Reply::new(Writer::new(out, session.protocol));
                Ok(reply.with(|writer| writer.null_array()).into())
            }
        }
    }

    /// A watched key that existed and has expired since is a change too.
    fn has_expired(&self, session: &Session) -> Result<bool, Error> {
        let txn = self.store()?.txn();
        for key in session.transaction.watched_existing() {
            if storage::types::keys::exists(&txn, &self.scope(), &[key])? == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn exec_all(
        &mut self,
        session: &mut Session,
        commands: &[(&'static Command, Words<'_>)],
        out: &mut Vec<u8>,
    ) -> Result<Flow, Error> {
        let mark = out.len();
        let mut closes = false;
        Writer::new(out, session.protocol).array(commands.len());
        let store = self.store()?.clone();
        let (node, config, worker, scope) =
            (Arc::clone(self.node), Arc::clone(&self.config), self.worker, self.scope());
        let mut cx = WriteCx { txn: store.txn(), scope, node: &node, config: &config, worker };
        for (command, words) in commands {
            self.has_data |= command.is_data();
            let (element, before) = (out.len(), cx.txn.mark());
            match self.exec_one(session, &mut cx, command, words, out) {
                Ok(is_last) => closes |= is_last,
                Err(error) => {
                    cx.txn.rollback(before);
                    out.truncate(element);
                    self.log_failure(command, &error);
                    write_error(session, out, &error.to_string());
                }
            }
        }
        let tell = |batch: &[u8]| node.watches.touch_changed(batch, &cx.scope);
        match cx.txn.commit_and_tell(tell) {
            Ok(Some(_)) => self.has_written = true,
            Ok(None) => {}
            Err(error) => {
                out.truncate(mark);
                return Err(error.into());
            }
        }
        // The array was written piece by piece; this only says so.
        let replied = Reply::new(Writer::new(out, session.protocol)).with(|_| {});
        Ok(if closes { Flow::Close } else { replied.into() })
    }

    /// Runs one command; true if the connection is to be closed after the transaction.
    fn exec_one(
        &self,
        session: &mut Session,
        cx: &mut WriteCx<'_>,
        command: &Command,
        words: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        let mut args = Args::new(words);
        let reply = Reply::new(Writer::new(out, session.protocol));
        match command.handler {
            Handler::Read(handler) => {
                let read = ReadCx {
                    txn: &cx.txn,
                    scope: cx.scope,
                    node: cx.node,
                    config: cx.config,
                    worker: cx.worker,
                };
                handler(&read, &mut args, reply)?;
            }
            Handler::Write(handler) => {
                handler(cx, &mut args, reply)?;
            }
            Handler::Session(handler) => {
                let mut cx = SessionCx {
                    node: self.node,
                    session,
                    config: &self.config,
                    exec: Some(&cx.txn),
                    now_ms: self.now_ms,
                };
                match handler(&mut cx, &mut args, reply)? {
                    Flow::Replied(_) => {}
                    Flow::Close => return Ok(true),
                    Flow::Wrote(_) | Flow::Later(..) | Flow::Detach(_) => {
                        return Err(Error::err("this command is not possible inside EXEC"));
                    }
                }
            }
            Handler::Exec => return Err(Error::err("MULTI calls can not be nested")),
        }
        Ok(false)
    }
}

fn is_read(command: &Command) -> bool {
    matches!(command.handler, Handler::Read(_))
}
