//! Keys that are not there, where somebody wants to be told of that: what commands inside a command
//! find of them.

use std::collections::{BTreeSet, HashSet};

use super::super::expire::AT_ONCE;
use super::super::{Command, WriteCx};
use super::NestedCx;
use crate::events::{self, Before};

/// Keys that are kept in mind for one command: a script may ask for any number of them.
const KEPT: usize = 4096;

/// What is kept in mind until the command is over: ids of names.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// Past their ends.
    ended: BTreeSet<Vec<u8>>,
    /// Missed by a script, and to be told of.
    missed: HashSet<Vec<u8>>,
}

impl NestedCx<'_> {
    /// Looks for the keys that a command names, if what is not there is to be told. Where reads are
    /// put aside that take too long, this is part of the read; of one that is nothing is told.
    pub(super) fn look(
        &mut self,
        write: &WriteCx<'_>,
        command: &Command,
        words: &[&[u8]],
    ) -> Before {
        let wanted = self.config.notify_keyspace_events;
        if !wanted.minds_absence() {
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
            let room = KEPT.saturating_sub(self.noted.ended.len());
            self.noted.ended.extend(found.ended.iter().take(room).cloned());
        }
        found
    }

    /// Notes which keys a read has missed. A script that reads on and on tells of each key once.
    pub(super) fn note_missed(&mut self, command: &Command, found: &Before) {
        let mut missed = events::missed(self.config.notify_keyspace_events, command, found);
        if self.is_in_script {
            let known = &mut self.noted.missed;
            missed.retain(|event| known.len() < KEPT && known.insert(event.id.clone()));
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
