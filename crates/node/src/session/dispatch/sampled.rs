//! PERFLOG samples: commands whose work in RocksDB is measured.

use super::super::{After, Command, Session};
use super::Batch;
use crate::command::Error;
use crate::perflog::{self, Sampling};

/// How a command has ended so far.
type Ran = Result<After, Error>;

/// Whether it is tried again, or ends on another thread: it is sampled there.
fn is_to_come(ran: &Ran) -> bool {
    matches!(ran, Err(Error::Locked) | Ok(After::Again(_) | After::Long(_)))
}

impl Batch<'_> {
    /// Runs a command. A sampled one is committed alone: the waiting writes are committed before
    /// it, and its own within its sample. So the sample holds all of its work, and of other
    /// commands' work only that of the waiters it wakes.
    pub(super) fn call_sampled(
        &mut self,
        session: &mut Session,
        command: &'static Command,
        words: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Ran {
        let Some(sampling) = self.begin_sample(session, command, out) else {
            return self.call_handler(session, command, words, out);
        };
        let ran = self.call_handler(session, command, words, out);
        self.settle(session, out);
        if !is_to_come(&ran) {
            self.node.perflog.note(sampling, &self.config);
        }
        ran
    }

    /// The same for a script that begins here; `None` if it is to run aside.
    pub(super) fn run_here_sampled(
        &mut self,
        session: &mut Session,
        call: (&'static Command, &[&[u8]]),
        out: &mut Vec<u8>,
    ) -> Option<Ran> {
        let Some(sampling) = self.begin_sample(session, call.0, out) else {
            return self.run_here(session, call, out);
        };
        let ran = self.run_here(session, call, out);
        self.settle(session, out);
        if ran.as_ref().is_some_and(|ran| !is_to_come(ran)) {
            self.node.perflog.note(sampling, &self.config);
        }
        ran
    }

    /// Begins the sample of a command that is sampled.
    fn begin_sample(
        &mut self,
        session: &Session,
        command: &'static Command,
        out: &mut Vec<u8>,
    ) -> Option<Sampling> {
        if !perflog::is_chosen(&self.config, command) {
            return None;
        }
        self.settle(session, out);
        Sampling::of_chosen(command)
    }
}
