//! Reads among the commands inside a command: how long they may take, and what they see.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use resp::{Room, Writer};
use storage::budget;

use super::super::long::{self, Job};
use super::super::{Command, ReadCx, WriteCx};
use super::{CHANGED, NestedCx};
use crate::command::{Error, Reply, Result};

/// Steps of a read between two looks at whether the role is still the same.
const STEPS_OF_A_LOOK: u64 = 1024;
/// Bytes of replies from which on it is looked whether more may come: what stands before a
/// transaction in the same buffer is fewer.
const LOOKS_FROM: usize = 512 << 10;

impl NestedCx<'_> {
    /// Runs a read; `None` if it took too long and is put aside: it is to see then what it would
    /// have seen now.
    pub(super) fn read<T>(
        &mut self,
        write: &WriteCx<'_>,
        call: (&'static Command, &[&[u8]]),
        read: impl FnOnce(&ReadCx<'_>, Reply<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.must_have_room()?;
        if !self.holds_gate {
            return self.read_watched(write, read).map(Some);
        }
        let Some(mut aside) = self.aside.take() else {
            return read(&read_in(write), self.reply()).map(Some);
        };
        let mark = self.mark();
        let done = aside.within(self.config, || read(&read_in(write), self.reply()));
        let put = match done {
            Some(_) => Ok(()),
            None => {
                self.take_back(mark);
                let when = (self.now_ms, self.generation);
                let job = Job::new((self.node, self.config), self.session, call, when);
                let room = self.node.long_reads.share_bytes();
                aside.put((mark, job), &write.txn, self.moment.as_ref(), room)
            }
        };
        self.aside = Some(aside);
        put?;
        done.transpose()
    }

    /// Whether a further read may add to the replies. A look-up of a large value is none of the
    /// reads that take long, and a transaction may ask for one as often as it has commands.
    fn must_have_room(&self) -> Result<()> {
        let gathered = self.out.len();
        if gathered < LOOKS_FROM {
            return Ok(());
        }
        let share = self.node.long_reads.share_bytes();
        if gathered > share { Err(long::too_much(share)) } else { Ok(()) }
    }

    /// A read on a thread for scripts: it may take long, but ends after a change of role, and where
    /// it gathers more than a long read may.
    fn read_watched<T>(
        &mut self,
        write: &WriteCx<'_>,
        read: impl FnOnce(&ReadCx<'_>, Reply<'_>) -> Result<T>,
    ) -> Result<T> {
        let (node, generation) = (Arc::clone(self.node), self.generation);
        let share = node.long_reads.share_bytes();
        let (room, is_too_much) = (Rc::new(Room::new(share)), Rc::new(Cell::new(false)));
        let goes_on = {
            let (room, is_too_much) = (Rc::clone(&room), Rc::clone(&is_too_much));
            move |gathered: usize| {
                is_too_much.set(gathered > share || room.is_over());
                let is_current =
                    node.gate.try_read().is_none_or(|engine| engine.generation == generation);
                is_current && !is_too_much.get()
            }
        };
        let done = budget::watched(STEPS_OF_A_LOOK, Box::new(goes_on), || {
            let writer = Writer::new(self.out, self.session.protocol).within(Some(&*room));
            read(&read_in(write), Reply::new(writer))
        });
        if room.is_over() || is_too_much.get() {
            return Err(long::too_much(share));
        }
        done.unwrap_or_else(|| Err(self.fail(Error::err(CHANGED))))
    }
}

/// What a read sees in the middle of a transaction.
fn read_in<'w>(write: &'w WriteCx<'_>) -> ReadCx<'w> {
    ReadCx {
        txn: &write.txn,
        serves: None,
        scope: write.scope,
        node: write.node,
        config: write.config,
        worker: write.worker,
    }
}
