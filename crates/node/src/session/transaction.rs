//! MULTI and WATCH of one connection.

use std::sync::atomic::Ordering;

use crate::node::Node;
use crate::watch::Dirty;

/// Bytes of queued commands a connection may hold.
pub const QUEUE_BYTES_MAX: usize = 256 << 20;

/// One queued command.
pub type Queued = Vec<Vec<u8>>;

/// Bytes that a queued command with words of these lengths counts for.
pub fn cost(lengths: impl Iterator<Item = usize>) -> usize {
    lengths.map(|length| length + 24).sum()
}

/// State of MULTI and WATCH.
#[derive(Debug, Default)]
pub struct Transaction {
    /// Commands queued since MULTI.
    pub queue: Option<Vec<Queued>>,
    /// Bytes in it.
    pub queue_bytes: usize,
    /// A command was refused while queueing: EXEC will abort.
    pub is_aborted: bool,
    dirty: Dirty,
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    key: Vec<u8>,
    existed: bool,
}

impl Transaction {
    /// True between MULTI and EXEC or DISCARD.
    pub fn is_open(&self) -> bool {
        self.queue.is_some()
    }

    /// Takes the queue and closes the transaction.
    pub fn take(&mut self) -> Vec<Queued> {
        self.is_aborted = false;
        self.queue_bytes = 0;
        self.queue.take().unwrap_or_default()
    }

    /// From now on a change of `key` aborts the next EXEC.
    pub fn watch(&mut self, node: &Node, key: &[u8]) {
        node.watches.add(key, &self.dirty);
        if !self.watched.iter().any(|watched| watched.key == key) {
            self.watched.push(Watched { key: key.to_vec(), existed: false });
        }
    }

    /// Whether a watched key existed when it was watched, learnt after [`Self::watch`].
    pub fn note_existing(&mut self, key: &[u8], existed: bool) {
        if let Some(watched) = self.watched.iter_mut().find(|watched| watched.key == key) {
            watched.existed |= existed;
        }
    }

    /// Keys watched that existed then: if one has expired since, EXEC aborts.
    pub fn watched_existing(&self) -> impl Iterator<Item = &[u8]> {
        self.watched.iter().filter(|watched| watched.existed).map(|watched| watched.key.as_slice())
    }

    /// Whether there is anything that a change of keys could abort, or has aborted.
    pub fn is_watching(&self) -> bool {
        !self.watched.is_empty() || self.is_dirty()
    }

    /// What happened to the watched keys cannot be known any more: the next EXEC aborts.
    pub fn give_up_watch(&mut self) {
        self.dirty.store(true, Ordering::SeqCst);
    }

    /// Whether a watched key changed.
    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::SeqCst)
    }

    /// Watches nothing any more.
    pub fn unwatch(&mut self, node: &Node) {
        if !self.watched.is_empty() {
            node.watches.remove(self.watched.iter().map(|w| w.key.as_slice()), &self.dirty);
            self.watched.clear();
        }
        self.dirty.store(false, Ordering::SeqCst);
    }
}
