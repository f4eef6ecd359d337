//! Writes of one pipeline that have run but are not committed: they become one batch, as the commands of a MULTI do.
//!
//! A client that sends sixteen SETs at once pays for one append to the WAL instead of sixteen. No
//! client can tell: the keys stay locked until the commit, no reply leaves before it, a write of
//! one of the keys sees what waits, and a command that is not a write commits first. If the commit
//! fails, every one of the commands is answered with the error.

use parking_lot::MutexGuard;
use smallvec::SmallVec;
use storage::Suspended;

use super::serve::{self, Ready, Server};
use crate::events::Event;
use crate::locks::{Held, Locks, Stripes};

/// Commands that may wait together. More gain little and keep others from the keys.
const COMMANDS_MAX: usize = 64;

/// The waiting writes.
#[derive(Default)]
pub struct Pending<'n> {
    writes: Option<Suspended>,
    held: SmallVec<[MutexGuard<'n, ()>; 16]>,
    stripes: SmallVec<[u16; 16]>,
    commands: usize,
    /// What they did to keys, to be told once it is written.
    events: Vec<Event>,
    /// Where in the output the first of their replies begins.
    mark: usize,
}

/// A commit that failed.
#[derive(Debug)]
pub struct Failed {
    /// Where the replies of the commands begin in the output.
    pub mark: usize,
    /// How many commands are to be answered with the error.
    pub commands: usize,
    /// Why.
    pub cause: storage::Error,
}

impl<'n> Pending<'n> {
    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.commands == 0
    }

    /// Locks the stripes of one more command, as far as they are not locked for those that wait; if
    /// that is possible without waiting.
    pub fn join(&self, locks: &'n Locks, stripes: &[u16]) -> Option<Held<'n>> {
        let more = stripes.iter().filter(|stripe| !self.stripes.contains(stripe));
        let more: Stripes = more.copied().collect();
        if self.commands < COMMANDS_MAX { locks.try_lock(&more) } else { None }
    }

    /// Takes the writes, to add to them.
    pub fn take_writes(&mut self) -> Option<Suspended> {
        self.writes.take()
    }

    /// Gives the writes back after a command that added nothing.
    pub fn put_back(&mut self, writes: Suspended) {
        if !self.is_empty() {
            self.writes = Some(writes);
        }
    }

    /// Gives the writes back with those of one more command, whose reply begins at `mark`.
    pub fn add(
        &mut self,
        (writes, events): (Suspended, Vec<Event>),
        held: Held<'n>,
        stripes: &Stripes,
        mark: usize,
    ) {
        self.events.extend(events);
        if self.is_empty() {
            self.mark = mark;
        }
        self.commands += 1;
        self.writes = Some(writes);
        self.held.extend(held);
        self.stripes.extend_from_slice(stripes);
    }

    /// Commits what waits, serves those who waited for its keys, and lets go of them. Returns
    /// whether something was written.
    pub fn commit(&mut self, server: Option<Server<'_>>) -> Result<bool, Failed> {
        let (commands, mark) = (self.commands, self.mark);
        let (Some(writes), Some(server)) = (self.writes.take(), server) else {
            self.clear();
            return Ok(false);
        };
        let events = std::mem::take(&mut self.events);
        let mut ready = Ready::new();
        // While the keys are locked: a client that watches one and reads it afterwards sees the
        // new value.
        let tell = |batch: &[u8]| serve::note(&server, batch, &mut ready);
        let result = server.store.txn_resumed(writes).commit_and_tell(tell);
        if !ready.is_empty() {
            server.serve_holding(&mut ready, &self.stripes);
        }
        self.clear();
        if !ready.is_empty() {
            server.serve(ready);
        }
        match result {
            Ok(sequence) => {
                server.tell_events(&events);
                Ok(sequence.is_some())
            }
            Err(cause) => Err(Failed { mark, commands, cause }),
        }
    }

    fn clear(&mut self) {
        self.held.clear();
        self.stripes.clear();
        self.events.clear();
        self.commands = 0;
    }
}
