//! Commands whose share of RocksDB's work is looked at, for PERFLOG.

use super::super::{After, Command, Session};
use super::Batch;
use crate::command::Error;
use crate::perflog::{self, Sampling};

impl Batch<'_> {
    /// Runs a command. One that is sampled is written alone: what waits is written before it, and
    /// what it writes within its sample, which so holds all of that, and of others only those that
    /// it wakes.
    pub(super) fn call_sampled(
        &mut self,
        session: &mut Session,
        command: &'static Command,
        words: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<After, Error> {
        if !perflog::is_chosen(&self.config, command) {
            return self.call_handler(session, command, words, out);
        }
        self.settle(session, out);
        let sampling = Sampling::of_chosen(command);
        let ran = self.call_handler(session, command, words, out);
        self.settle(session, out);
        // What is tried again, or ends on another thread, is sampled there.
        let is_to_come = matches!(ran, Err(Error::Locked) | Ok(After::Again(_) | After::Long(_)));
        if let Some(sampling) = sampling.filter(|_| !is_to_come) {
            self.node.perflog.note(sampling, &self.config);
        }
        ran
    }
}
