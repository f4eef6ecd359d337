//! What one connection subscribes to.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Client;
use crate::memory::held::{NAMES_BYTES_MAX, name_bytes};

/// What a subscription is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A channel.
    Channel,
    /// All channels that a pattern matches.
    Pattern,
    /// A shard channel: it belongs to the slot of its name.
    Shard,
}

/// What one client subscribes to.
#[derive(Debug, Default)]
pub struct Subscriptions {
    channels: BTreeSet<Vec<u8>>,
    patterns: BTreeSet<Vec<u8>>,
    shards: BTreeSet<Vec<u8>>,
    bytes: usize,
}

/// A name is here and in the table of the node.
fn cost(name: &[u8]) -> usize {
    2 * name_bytes(name)
}

impl Subscriptions {
    /// Those of one kind.
    pub fn of(&self, kind: Kind) -> &BTreeSet<Vec<u8>> {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
            Kind::Shard => &self.shards,
        }
    }

    /// Bytes that all of them take, here and in the table of the node.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is room for one more: a client may name any number.
    pub fn has_room(&self, name: &[u8]) -> bool {
        self.bytes.saturating_add(cost(name)) <= NAMES_BYTES_MAX
    }

    /// Adds one, together with the table of the node; false if it is there.
    pub(crate) fn insert(&mut self, kind: Kind, name: &[u8]) -> bool {
        let is_new = self.of_mut(kind).insert(name.to_vec());
        if is_new {
            self.bytes += cost(name);
        }
        is_new
    }

    /// Removes one, in the same way; false if it is not there.
    pub(crate) fn remove(&mut self, kind: Kind, name: &[u8]) -> bool {
        let was_there = self.of_mut(kind).remove(name);
        if was_there {
            self.bytes = self.bytes.saturating_sub(cost(name));
        }
        was_there
    }

    fn of_mut(&mut self, kind: Kind) -> &mut BTreeSet<Vec<u8>> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shards,
        }
    }

    /// How many a reply counts: shard channels by themselves, as in Redis.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Shard => self.shards.len(),
            Kind::Channel | Kind::Pattern => self.channels.len() + self.patterns.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count(Kind::Channel) + self.count(Kind::Shard) == 0
    }
}

impl Client {
    /// Bytes of names that the node keeps for it: channels, prefixes of keys that it tracks, and
    /// keys that it waits for.
    pub fn names_bytes(&self) -> usize {
        let load = |bytes: &AtomicUsize| bytes.load(Ordering::Relaxed);
        let others = load(&self.tracks.bytes) + load(&self.shown.awaited_bytes);
        match self.is_subscriber.load(Ordering::Relaxed) {
            true => others + self.subscriptions.lock().bytes(),
            false => others,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_no_more_than_they_may_and_give_it_back() {
        let mut own = Subscriptions::default();
        assert!(own.insert(Kind::Channel, b"a") && !own.insert(Kind::Channel, b"a"));
        assert!(own.insert(Kind::Pattern, b"a") && own.insert(Kind::Shard, b"b"));
        assert_eq!(own.bytes(), 3 * cost(b"a"));
        let large = vec![0_u8; NAMES_BYTES_MAX / 2 - 96];
        assert!(!own.has_room(&large) && Subscriptions::default().has_room(&large));
        assert!(own.remove(Kind::Channel, b"a") && !own.remove(Kind::Channel, b"a"));
        assert!(own.remove(Kind::Pattern, b"a") && own.remove(Kind::Shard, b"b"));
        assert!(own.bytes() == 0 && own.has_room(&large));
    }
}
