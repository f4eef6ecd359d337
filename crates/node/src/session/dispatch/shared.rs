//! A batch of several connections: their commands run one after the other, and are committed
//! together.

use storage::Store;

use super::super::table::Handler;
use super::super::{Command, ReplyMode, Session, Tells};
use super::{Batch, Ended, Ran, can_join};
use crate::command::Flags;

impl Batch<'_> {
    /// Ends the part of one connection: another's may follow. Its writes may not be committed yet.
    pub fn leave(&mut self) -> Ran {
        if self.node.tracking.any() {
            // A client that is not told of its own changes is the one that wrote: one a commit.
            let failed = self.commit();
            self.failed.extend(failed);
        }
        let ran = Ran {
            has_written: self.has_written,
            has_data: self.has_data,
            generation: self.generation,
            waits: self.waits,
            later: self.later,
            lease_mode: self.config.master_lease_mode,
            sequence: None,
        };
        self.member += 1;
        self.idle_since = None;
        (self.has_written, self.has_data) = (false, false);
        self.later = Tells::Nothing;
        if let Some(guard) = &self.guard {
            self.generation = guard.generation;
            self.waits = self.node.grants.commit.is_waiting();
        }
        ran
    }

    /// Commits what is left and lets go of the gate. `leave` was called for every connection.
    pub fn end(mut self) -> Ended {
        let failed = self.commit();
        self.failed.extend(failed);
        let sequence = self.guard.as_deref().and_then(|engine| engine.store.as_ref());
        Ended {
            sequence: sequence.map(Store::seen_sequence),
            written: self.written,
            failed: self.failed,
        }
    }

    /// The same for a batch of one connection.
    pub fn close(mut self, session: &Session, out: &mut Vec<u8>) -> Ran {
        self.settle(session, out);
        let ran = self.leave();
        self.end().apply(0, ran, session, out)
    }

    /// Whether a command may run while writes wait to be committed: a write or script that may join
    /// them, or a short read of a connection that has no write among them. Other connections'
    /// writes are answered after such a read, so the read may come before them. A long read would
    /// keep others from the locked keys.
    pub(super) fn may_wait(&self, session: &Session, command: &Command, words: &[&[u8]]) -> bool {
        match command.handler {
            Handler::Read(_) => {
                command.flags.has(Flags::FAST)
                    && !self.pending.has_of(self.member)
                    && session.reply_mode == ReplyMode::On
            }
            Handler::Script(_) => {
                session.reply_mode == ReplyMode::On && self.begins_here(session, command, words)
            }
            _ => can_join(session, command),
        }
    }
}
