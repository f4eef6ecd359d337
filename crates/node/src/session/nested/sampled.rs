//! PERFLOG samples of commands inside EXEC or a script. If the whole is sampled already, its
//! commands are not sampled again.

use super::super::{Command, WriteCx};
use super::NestedCx;
use crate::command::Result;
use crate::perflog::Sampling;

impl NestedCx<'_> {
    /// Runs a command; its sample holds what it reads, as all that the commands write is written
    /// together at their end.
    pub(super) fn run_sampled(
        &mut self,
        write: &mut WriteCx<'_>,
        command: &'static Command,
        words: &[&[u8]],
    ) -> Result<bool> {
        if std::mem::take(&mut self.is_whole) {
            return self.run(write, command, words);
        }
        let Some(sampling) = Sampling::begin(self.config, command) else {
            return self.run(write, command, words);
        };
        let before = self.put_aside();
        let ran = self.run(write, command, words);
        // A read that was put aside is sampled where it is run.
        if self.put_aside() == before {
            self.node.perflog.note(sampling, self.config);
        }
        ran
    }

    /// How many reads were put aside.
    pub(super) fn put_aside(&self) -> usize {
        self.aside.as_ref().map_or(0, |aside| aside.jobs.len())
    }
}
