//! Absent keys that commands inside EXEC or a script looked for, kept for keyspace notifications
//! (expired, key miss) until the whole is over.
//!
//! Their number and their bytes are bounded: a script may look for any number of keys.

use std::collections::{BTreeSet, HashSet};

use super::super::expire::AT_ONCE;
use super::super::{Command, WriteCx};
use super::NestedCx;
use crate::events::{self, Before};

/// Keys of each kind that are kept in mind for one command, and bytes of all of them: a script may
/// ask for any number of keys, of any length.
const KEPT: usize = 4096;
const KEPT_BYTES: usize = 4 << 20;

/// What is kept in mind until the command is over: ids of names.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// Past their ends.
    ended: BTreeSet<Vec<u8>>,
    /// Missed by a script, and to be told of.
    missed: HashSet<Vec<u8>>,
    /// Bytes of both together.
    bytes: usize,
}

impl Noted {
    /// The commands begin, perhaps again: misses are told of anew.
    pub(super) fn begin(&mut self) {
        for id in self.missed.drain() {
            self.bytes = self.bytes.saturating_sub(id.len());
        }
    }

    fn note_ended(&mut self, id: &[u8]) {
        if !self.ended.contains(id) && self.has_room(self.ended.len(), id) {
            self.bytes += id.len();
            self.ended.insert(id.to_vec());
        }
    }

    /// Notes a key that was missed; false if it was before, or if there is no room for it.
    fn note_missed(&mut self, id: &[u8]) -> bool {
        let is_noted = !self.missed.contains(id) && self.has_room(self.missed.len(), id);
        if is_noted {
            self.bytes += id.len();
            self.missed.insert(id.to_vec());
        }
        is_noted
    }

    /// Whether there is room for one more beside so many of its kind.
    fn has_room(&self, count: usize, id: &[u8]) -> bool {
        count < KEPT && self.bytes.saturating_add(id.len()) <= KEPT_BYTES
    }
}

impl NestedCx<'_> {
    /// Looks for the keys that a command names, if absent ones are to be told of. If long reads are
    /// put aside, the look counts as part of the read, and nothing is told of a read that was put
    /// aside.
    pub(super) fn look(
        &mut self,
        write: &WriteCx<'_>,
        command: &Command,
        words: &[&[u8]],
    ) -> Before {
        let wanted = self.config.notify_keyspace_events;
        if !events::minds_absence(wanted, command) {
            return Before::default();
        }
        let look = || events::look(wanted, command, words, &write.txn, write.scope);
        let found = match &mut self.aside {
            Some(aside) if !command.is_write() => {
                aside.within(self.config, look).unwrap_or_default()
            }
            _ => look(),
        };
        // Else they are the master's to remove.
        if !self.reads_only {
            found.ended.iter().for_each(|id| self.noted.note_ended(id));
        }
        found
    }

    /// Notes which keys a read has missed. A script that reads on and on tells of each key once.
    pub(super) fn note_missed(&mut self, command: &Command, found: &Before) {
        let mut missed = events::missed(self.config.notify_keyspace_events, command, found);
        if self.is_in_script {
            missed.retain(|event| self.noted.note_missed(&event.id));
        }
        self.events.extend(missed);
    }

    /// Removes what was found past its end. No locks are held.
    pub(super) fn remove_ended(&mut self) {
        let ended: Vec<Vec<u8>> = std::mem::take(&mut self.noted.ended).into_iter().collect();
        for ids in ended.chunks(AT_ONCE) {
            let engine = self.node.engine();
            // Else there is another database.
            if engine.generation != self.generation {
                return;
            }
            self.server().remove_ended(&engine, ids);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_in_mind_is_bounded_and_missed_anew_by_the_next_try() {
        let mut noted = Noted::default();
        assert!(noted.note_missed(b"k") && !noted.note_missed(b"k"));
        noted.begin();
        assert!(noted.note_missed(b"k"));
        let large = vec![b'x'; KEPT_BYTES];
        assert!(!noted.note_missed(&large));
        for id in [large.as_slice(), b"e", b"e"] {
            noted.note_ended(id);
        }
        assert_eq!(noted.ended.len(), 1);
        let missed = (0..2 * KEPT).filter(|number| noted.note_missed(&number.to_be_bytes()));
        assert_eq!(missed.count(), KEPT - 1);
        noted.begin();
        assert_eq!((noted.missed.len(), noted.bytes), (0, 1));
    }
}
