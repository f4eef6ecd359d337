//! MULTI and WATCH of one connection.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use storage::Name;

use super::Command;
use super::table::{self, Call};
use crate::command::{Flags, Renames, Words};
use crate::memory::held::name_bytes;
use crate::node::Node;
use crate::watch::{Dirty, Since};

/// Bytes of queued commands a connection may hold.
pub const QUEUE_BYTES_MAX: usize = 256 << 20;

/// Commands that a connection may queue. EXEC makes a multiple of a short one's bytes of each.
const QUEUE_MAX: usize = 1 << 20;

/// Bytes of names of keys that a connection may watch: EXEC locks and looks up each of them.
const WATCHED_BYTES_MAX: usize = 64 << 20;

/// One queued command. What it is was found out when it was queued; its words are kept as the
/// client sent them, for a node that takes the session over.
#[derive(Debug, Clone)]
pub struct Queued {
    /// Row of the table.
    pub command: &'static Command,
    /// The command, name included.
    pub words: Vec<Vec<u8>>,
}

impl Queued {
    /// The same, as gates and handlers take it.
    pub fn call(&self) -> Call<'_> {
        (self.command, self.words.iter().map(Vec::as_slice).collect())
    }
}

/// Bytes that a queued command with words of these lengths counts for.
fn cost(lengths: impl Iterator<Item = usize>) -> usize {
    lengths.map(|length| length + size_of::<Vec<u8>>()).sum::<usize>() + 2 * size_of::<Queued>()
}

/// State of MULTI and WATCH.
#[derive(Debug, Default)]
pub struct Transaction {
    queue: Option<Vec<Queued>>,
    queue_bytes: usize,
    /// A command was refused while queueing: EXEC will abort.
    pub is_aborted: bool,
    dirty: Dirty,
    /// Whether each existed then, by the ids of their names: a client may watch any number of keys.
    watched: HashMap<Vec<u8>, bool>,
    /// Bytes that their names take, here and in the table of the node.
    watched_bytes: usize,
    since: Since,
}

impl Transaction {
    /// True between MULTI and EXEC or DISCARD.
    pub fn is_open(&self) -> bool {
        self.queue.is_some()
    }

    /// Opens a transaction.
    pub fn open(&mut self) {
        self.queue = Some(Vec::new());
    }

    /// Commands queued since MULTI; `None` without one.
    pub fn queue(&self) -> Option<&[Queued]> {
        self.queue.as_deref()
    }

    /// Bytes in the queue.
    pub fn queue_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// Queues a command of an open transaction; false if there is no room for it.
    pub fn push(&mut self, command: &'static Command, words: &[&[u8]]) -> bool {
        let bytes = cost(words.iter().map(|word| word.len()));
        if self.queue_bytes + bytes > QUEUE_BYTES_MAX {
            return false;
        }
        if let Some(queue) = &mut self.queue {
            if queue.len() >= QUEUE_MAX {
                return false;
            }
            self.queue_bytes += bytes;
            queue.push(Queued { command, words: words.iter().map(|word| word.to_vec()).collect() });
        }
        true
    }

    /// Opens the transaction that a session brought along from another node. A command that this
    /// node does not know, or would not have queued, aborts it: names may differ from node to node.
    pub fn resume(&mut self, queue: Vec<Vec<Vec<u8>>>, renames: &Renames) {
        self.open();
        for words in queue {
            let words: Words<'_> = words.iter().map(Vec::as_slice).collect();
            let found = table::find(renames, &words);
            let is_queued = found
                .filter(|(_, command)| !command.flags.has(Flags::UNQUEUED))
                .is_some_and(|(_, command)| self.push(command, &words));
            self.is_aborted |= !is_queued;
        }
    }

    /// Watched keys.
    pub fn watched(&self) -> usize {
        self.watched.len()
    }

    /// Bytes that watched keys take.
    pub fn watched_bytes(&self) -> usize {
        self.watched_bytes
    }

    /// Takes the queue and closes the transaction.
    pub fn take(&mut self) -> Vec<Queued> {
        self.is_aborted = false;
        self.queue_bytes = 0;
        self.queue.take().unwrap_or_default()
    }

    /// Opens the transaction again with the commands that were taken.
    pub fn put_back(&mut self, queue: Vec<Queued>) {
        let lengths = queue.iter().map(|queued| cost(queued.words.iter().map(Vec::len)));
        self.queue_bytes = lengths.sum();
        self.queue = Some(queue);
    }

    /// From now on a change of `key` aborts the next EXEC; false if the names of all that is
    /// watched would take more than they may.
    #[must_use]
    pub fn watch(&mut self, node: &Node, key: &Name<'_>) -> bool {
        let id = key.id();
        let bytes = 2 * name_bytes(&id);
        let is_new = !self.watched.contains_key(&*id);
        if is_new && self.watched_bytes.saturating_add(bytes) > WATCHED_BYTES_MAX {
            return false;
        }
        self.since = self.since.max(node.watches.add(key, &self.dirty));
        if is_new {
            self.watched_bytes += bytes;
            self.watched.insert(id.to_vec(), false);
        }
        true
    }

    /// Whether a watched key existed when it was watched, learnt after [`Self::watch`].
    pub fn note_existing(&mut self, key: &Name<'_>, existed: bool) {
        if let Some(known) = self.watched.get_mut(&*key.id()) {
            *known |= existed;
        }
    }

    /// Keys watched that existed then: if one has expired since, EXEC aborts.
    pub fn watched_existing(&self) -> impl Iterator<Item = Name<'_>> {
        let existing = self.watched.iter().filter(|(_, existed)| **existed);
        existing.filter_map(|(id, _)| Name::of(id))
    }

    /// All keys watched.
    pub fn watched_keys(&self) -> impl Iterator<Item = &[u8]> {
        self.watched.keys().filter_map(|id| Some(Name::of(id)?.key))
    }

    /// Whether there is anything that a change of keys could abort, or has aborted.
    pub fn is_watching(&self) -> bool {
        !self.watched.is_empty() || self.is_dirty()
    }

    /// What happened to the watched keys cannot be known any more: the next EXEC aborts.
    pub fn give_up_watch(&mut self) {
        self.dirty.changed.store(true, Ordering::SeqCst);
    }

    /// Whether a watched key changed. A flush changes those that existed when they were watched;
    /// one that was made since counts as changed already.
    pub fn is_dirty(&self) -> bool {
        self.dirty.changed.load(Ordering::SeqCst)
            || self.dirty.flushed.load(Ordering::SeqCst) && self.watched_existing().next().is_some()
    }

    /// Whether a watched key may have changed for all that is known by now.
    pub fn may_have_changed(&self, node: &Node) -> bool {
        let is_missing = !self.watched.is_empty() && node.watches.may_have_missed(self.since);
        is_missing || self.is_dirty()
    }

    /// Watches nothing any more.
    pub fn unwatch(&mut self, node: &Node) {
        if !self.watched.is_empty() {
            node.watches.remove(self.watched.keys().map(Vec::as_slice), &self.dirty);
            self.watched.clear();
            self.watched_bytes = 0;
        }
        self.dirty.changed.store(false, Ordering::SeqCst);
        self.dirty.flushed.store(false, Ordering::SeqCst);
        self.since = Since::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_bounded_by_its_commands_and_by_their_bytes() {
        crate::shell::table();
        let long = vec![b'x'; QUEUE_BYTES_MAX / 2];
        let (short, long): ([&[u8]; 1], [&[u8]; 2]) = ([b"PING"], [b"ECHO", &long]);
        let find = |words: &[&[u8]]| table::find(&Renames::default(), words).unwrap().1;
        let (ping, echo) = (find(&short), find(&long));
        let mut transaction = Transaction::default();
        transaction.open();
        assert!((0..QUEUE_MAX).all(|_| transaction.push(ping, &short)));
        assert!(!transaction.push(ping, &short));
        assert_eq!((transaction.take().len(), transaction.queue_bytes()), (QUEUE_MAX, 0));
        transaction.open();
        assert!(transaction.push(echo, &long) && !transaction.push(echo, &long));
        assert!(transaction.push(ping, &short));
    }
}
