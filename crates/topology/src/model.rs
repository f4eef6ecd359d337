//! The values a topology is made of. Text forms live in the sibling modules.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Number of hash slots of a cluster.
pub const SLOT_COUNT: u16 = 16_384;

/// Id of a node: exactly 40 bytes, any bytes (real controllers use alphanumerics).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId([u8; 40]);

impl NodeId {
    /// `None` unless `bytes` has exactly 40 bytes.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 40 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A hash slot, 0..=16383.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u16);

impl Slot {
    /// `None` above 16383.
    pub fn new(number: u16) -> Option<Self> {
        (number < SLOT_COUNT).then_some(Self(number))
    }

    /// 0..=16383.
    pub fn number(self) -> u16 {
        self.0
    }
}

/// A set of slots.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet(Box<[u64; 256]>);

impl Default for SlotSet {
    fn default() -> Self {
        Self(Box::new([0; 256]))
    }
}

impl SlotSet {
    /// Adds a slot; false if it was there.
    pub fn insert(&mut self, slot: Slot) -> bool {
        let (word, bit) = Self::place(slot);
        let was = self.0[word] & bit != 0;
        self.0[word] |= bit;
        !was
    }

    /// Removes a slot; false if it was not there.
    pub fn remove(&mut self, slot: Slot) -> bool {
        let (word, bit) = Self::place(slot);
        let was = self.0[word] & bit != 0;
        self.0[word] &= !bit;
        was
    }

    /// Whether the slot is in the set.
    pub fn contains(&self, slot: Slot) -> bool {
        let (word, bit) = Self::place(slot);
        self.0[word] & bit != 0
    }

    /// Number of slots, 0..=16384.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// True without any slot.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Slots in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..SLOT_COUNT).map(Slot).filter(|slot| self.contains(*slot))
    }

    /// Maximal runs of consecutive slots, ascending, both ends included.
    pub fn ranges(&self) -> Vec<(Slot, Slot)> {
        let mut ranges: Vec<(Slot, Slot)> = Vec::new();
        for slot in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if last.0 + 1 == slot.0 => *last = slot,
                _ => ranges.push((slot, slot)),
            }
        }
        ranges
    }

    fn place(slot: Slot) -> (usize, u64) {
        (usize::from(slot.0 / 64), 1 << (slot.0 % 64))
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.ranges().iter().map(|(a, b)| format!("{}-{}", a.0, b.0)))
            .finish()
    }
}

/// A TCP endpoint. A type rather than a pair, so that an announced TLS port can join it later.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// Host name, IPv4, or IPv6 without brackets.
    pub host: String,
    /// 0..=65535; an announced port is at least 1.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    /// `host:port`, IPv6 in brackets: the form of URLs, configuration and logs. Redis' own form, without brackets, is made in `view`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Whom an address is rendered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// Sees the announced endpoint where there is one.
    Client,
    /// Replication, migration, controller: sees the local endpoint.
    Peer,
}

/// What a topology makes of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Owns slots.
    Master,
    /// Replicates from a master, which need not be in the table.
    Replica {
        /// Its master.
        of: NodeId,
    },
}

/// One line of a topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Who.
    pub id: NodeId,
    /// Where peers reach it.
    pub local: Endpoint,
    /// Where clients reach it, when that differs: a load balancer, NAT or proxy.
    pub announced: Option<Endpoint>,
    /// Master or replica.
    pub role: Role,
    /// Marked by the controller as not answering (`slave,fail`).
    pub failed: bool,
    /// Slots owned; empty for replicas.
    pub slots: SlotSet,
}

impl Node {
    /// The one place that chooses between the local and the announced endpoint.
    pub fn endpoint(&self, viewer: Viewer) -> &Endpoint {
        match viewer {
            Viewer::Client => self.announced.as_ref().unwrap_or(&self.local),
            Viewer::Peer => &self.local,
        }
    }

    /// True for masters.
    pub fn is_master(&self) -> bool {
        self.role == Role::Master
    }
}

/// A whole topology: nodes in the order they were given, ids unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// 0 and up.
    pub version: i64,
    /// Every node.
    pub nodes: Vec<Node>,
}

impl Topology {
    /// The node of that id.
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == *id)
    }
}
