//! Statistics of commands inside EXEC or a script: commandstats, errorstats, SLOWLOG and LATENCY
//! count each of them as if it had come alone, as in Redis.
//!
//! They are reported once the whole is over, and only for its last try. E.g. a script that takes
//! too long on its worker begins anew on another thread: only the calls made there count.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use smallvec::SmallVec;

use super::super::Command;
use super::NestedCx;
use crate::command::{Catalog, Flags};
use crate::slowlog::{self, Entry};
use crate::stats::errors::code;
use crate::stats::{Calls, Outcome};

/// Slow ones that are kept in mind until the whole is over, the newest: a script may call any
/// number.
const SLOW_MAX: usize = 1024;

/// What is kept in mind until then.
#[derive(Default)]
pub(super) struct Counted {
    /// By command: few, however many calls there are.
    calls: SmallVec<[(&'static Command, Calls); 2]>,
    /// Errors that were answered, by their codes.
    errors: BTreeMap<String, u64>,
    /// How the last one that a call of the script was answered begins.
    said: Vec<u8>,
    /// The answer of a script is an error that counts already.
    is_error_counted: bool,
    /// Microseconds of the longest one that is fast by its row, and of any other.
    longest: (u64, u64),
    slow: VecDeque<Entry>,
    /// When the last one ended, where the next one begins then.
    ended: Option<Instant>,
}

/// So many bytes of an error tell it from others.
const SAID_MAX: usize = 128;

impl Counted {
    fn add_error(&mut self, text: &[u8]) {
        *self.errors.entry(code(text).into_owned()).or_default() += 1;
    }

    /// A script was answered an error by what it has called.
    fn add_error_of_call(&mut self, text: &[u8]) {
        self.add_error(text);
        self.said = text.get(..SAID_MAX).unwrap_or(text).trim_ascii_end().to_vec();
    }

    /// A script answers an error: what a call was answered counts once, however far it goes.
    fn add_error_of_script(&mut self, text: &[u8]) {
        if self.said.is_empty() || !text.starts_with(&self.said) {
            self.add_error(text);
        }
        self.is_error_counted = true;
    }

    fn add(&mut self, command: &'static Command, micros: u64, outcome: Outcome) {
        let known = self.calls.iter_mut().find(|(known, _)| std::ptr::eq(*known, command));
        match known {
            Some((_, calls)) => calls.add(micros, outcome),
            None => {
                let mut calls = Calls::default();
                calls.add(micros, outcome);
                self.calls.push((command, calls));
            }
        }
    }

    fn note_slow(&mut self, entry: Entry) {
        if self.slow.len() >= SLOW_MAX {
            self.slow.pop_front();
        }
        self.slow.push_back(entry);
    }
}

impl NestedCx<'_> {
    /// When a command begins.
    pub(super) fn begin_count(&mut self) -> Instant {
        self.counted.ended.take().unwrap_or_else(Instant::now)
    }

    /// A command has ended. Whether a read that was put aside is slow is told where it is run.
    pub(super) fn count(
        &mut self,
        (command, words): (&'static Command, &[&[u8]]),
        began: Instant,
        (outcome, is_put_aside): (Outcome, bool),
    ) {
        let now = Instant::now();
        // Between two that a script calls there is the script.
        self.counted.ended = (!self.is_in_script).then_some(now);
        let micros = u64::try_from(now.duration_since(began).as_micros()).unwrap_or(u64::MAX);
        self.counted.add(command, micros, outcome);
        if is_put_aside {
            return;
        }
        let (fast, other) = &mut self.counted.longest;
        let longest = if command.flags.has(Flags::FAST) { fast } else { other };
        *longest = micros.max(*longest);
        if slowlog::is_slow(self.config, command.flags, micros) {
            let entry = Entry {
                id: 0,
                at: self.now_ms / 1000,
                micros,
                words: slowlog::shorten(command.first_word(), words),
                client: self.session.client.address.to_string(),
                name: slowlog::shorten_name(&self.session.client.names.lock().name),
            };
            self.counted.note_slow(entry);
        }
    }

    /// The commands begin, perhaps once more.
    pub(super) fn forget_counted(&mut self) {
        self.counted = Counted::default();
    }

    /// A script may not call what it has called, as it is told; `None`: there is no such command.
    pub fn count_rejected(&mut self, command: Option<&'static Command>, text: &str) {
        if let Some(command) = command {
            self.counted.add(command, 0, Outcome::Rejected);
        }
        self.counted.add_error_of_call(text.as_bytes());
    }

    /// The reply of a command begins there, and may be an error. Where the whole has failed that is
    /// the only one.
    pub(super) fn count_error(&mut self, mark: usize) {
        let is_counted = std::mem::take(&mut self.counted.is_error_counted);
        if let Some([b'-', text @ ..]) = self.out.get(mark..)
            && !is_counted
            && self.failed.is_none()
        {
            match self.is_in_script {
                true => self.counted.add_error_of_call(text),
                false => self.counted.add_error(text),
            }
        }
    }

    /// A script begins, or has ended with this reply, as RESP.
    pub fn count_script(&mut self, reply: Option<&[u8]>) {
        match reply {
            None => self.counted.said.clear(),
            Some([b'-', text @ ..]) => self.counted.add_error_of_script(text),
            Some(_) => {}
        }
    }

    /// Tells what the commands have counted for: the whole is over.
    pub fn tell_counted(&mut self) {
        let counted = std::mem::take(&mut self.counted);
        for (code, count) in &counted.errors {
            self.node.stats.errors.add(code, *count);
        }
        if counted.calls.is_empty() {
            return;
        }
        if let Some(stats) = self.node.stats.workers.get(self.worker) {
            for (command, calls) in &counted.calls {
                if let Some(place) = Catalog::get().find(command.name) {
                    stats.calls(place, calls);
                }
            }
        }
        let (threshold_ms, at) = (self.config.latency_monitor_threshold, self.now_ms / 1000);
        let (fast, other) = counted.longest;
        for (is_fast, micros) in [(true, fast), (false, other)] {
            self.node.latency.note_command(is_fast, micros, threshold_ms, at);
        }
        for entry in counted.slow {
            self.node.slowlog.add(entry, self.config);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_slow_ones_the_newest_are_kept_in_mind() {
        let mut counted = Counted::default();
        for id in 0..=SLOW_MAX as u64 {
            let (client, name) = (String::new(), String::new());
            counted.note_slow(Entry { id, at: 0, micros: 0, words: Vec::new(), client, name });
        }
        assert_eq!(counted.slow.len(), SLOW_MAX);
        assert_eq!(counted.slow.front().map(|entry| entry.id), Some(1));
    }
}
