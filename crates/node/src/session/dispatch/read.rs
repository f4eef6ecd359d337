//! Reads. They run at once; or on another thread, if they take long; or later, if memory is short.
//!
//! A read never writes, and one that is tried again leaves nothing in the buffer of replies.

use std::sync::atomic::Ordering;

use resp::{Room, Writer};
use storage::{Txn, budget};

use super::super::gates;
use super::super::long::{self, Job};
use super::super::table::ReadHandler;
use super::super::{After, Command, ReadCx, Session};
use super::Batch;
use crate::command::{Args, Error, Reply};
use crate::memory::held::Level;

impl Batch<'_> {
    /// Runs a read. If connections already use all the memory they may, its reply must fit into the
    /// connection's share, or the read is tried again.
    pub(super) fn run_read(
        &self,
        session: &Session,
        command: &'static Command,
        handler: ReadHandler,
        words: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<After, Error> {
        let (txn, mark) = (self.store()?.txn(), out.len());
        let cx = self.read_cx(session, &txn);
        let room = self.room(session, mark);
        let mut read = || {
            let writer = Writer::new(out, session.protocol);
            let reply = Reply::new(writer.within(room.as_ref()));
            handler(&cx, &mut Args::behind(command.names, words), reply)
        };
        let done = if self.is_aside {
            Some(read())
        } else {
            budget::within(long::budget(&self.config), read)
        };
        if self.asks_much(session, room.as_ref()) {
            out.truncate(mark);
            return Ok(After::Again(gates::until_there_is_room()));
        }
        match done {
            Some(replied) => replied.map(After::Next),
            None => Ok(self.run_elsewhere(session, (command, words), (mark, out))),
        }
    }

    /// What a reply behind so many bytes must fit into; `None` where it may be of any size.
    pub(super) fn room(&self, session: &Session, mark: usize) -> Option<Room> {
        let memory = &self.node.memory;
        let is_bound = memory.level() == Level::Full && gates::is_bound_in_memory(session);
        is_bound.then(|| Room::new(mark.saturating_add(memory.share())))
    }

    /// Whether a reply did not fit into its room.
    pub(super) fn asks_much(&self, session: &Session, room: Option<&Room>) -> bool {
        let asks_much = room.is_some_and(Room::is_over);
        if self.node.memory.is_bounded() {
            // The gate lets it wait from here on, so that it is not read again and again.
            session.client.asks_much.store(asks_much, Ordering::Relaxed);
        }
        asks_much
    }

    /// Leaves a read that has used up what its worker has for it to another thread. What it has
    /// written is taken back.
    pub(super) fn run_elsewhere(
        &self,
        session: &Session,
        call: (&'static Command, &[&[u8]]),
        (mark, out): (usize, &mut Vec<u8>),
    ) -> After {
        out.truncate(mark);
        let job =
            Job::new((self.node, &self.config), session, call, (self.now_ms, self.generation));
        After::Long(long::answer(job))
    }

    /// What a read sees that came just now.
    pub(super) fn read_cx<'c>(&'c self, session: &'c Session, txn: &'c Txn<'c>) -> ReadCx<'c> {
        ReadCx {
            txn,
            serves: None,
            scope: session.scope(&self.config, self.now_ms),
            node: self.node,
            config: &self.config,
            worker: self.worker,
        }
    }
}
