//! The values a topology is made of. Text forms live in the sibling modules.

use std::{borrow::Cow, fmt, num::NonZeroU16};

use serde::{Deserialize, Serialize};

use crate::tls_ports::TlsPorts;

/// Number of hash slots of a cluster; a power of two.
pub const SLOT_COUNT: u16 = 16_384;
/// Highest version of a topology that a node takes. One without a next could never be replaced, so
/// there is place for as many again above those that a controller believes.
pub const VERSION_MAX: i64 = i64::MAX / 2;

/// Id of a node: exactly 40 bytes, any bytes (real controllers use alphanumerics).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId([u8; 40]);

impl NodeId {
    /// `None` unless `bytes` has exactly 40 bytes.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// 40 random hexadecimal digits, as Redis' own: `redis-cli --cluster` lowers the letters of ids
    /// before it compares them.
    pub fn random(rng: &mut impl rand::Rng) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        Self(std::array::from_fn(|_| DIGITS[rng.random_range(0..DIGITS.len())]))
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

/// Name of a cluster, chosen at random by its controller: 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(u64);

impl std::str::FromStr for ClusterId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number.map(Self).ok_or(())
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
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

    /// The slot `number` modulo the number of slots.
    pub(crate) fn wrapping(number: u16) -> Self {
        Self(number % SLOT_COUNT)
    }

    /// 0..=16383.
    pub fn number(self) -> u16 {
        self.0
    }

    /// For indexing a table of [`SLOT_COUNT`] entries.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Consecutive slots, both ends included; the first is never above the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotRange {
    first: Slot,
    last: Slot,
}

impl SlotRange {
    /// `None` if `first` is above `last`.
    pub fn new(first: Slot, last: Slot) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// A range of one slot.
    pub fn single(slot: Slot) -> Self {
        Self { first: slot, last: slot }
    }

    /// The lowest slot.
    pub fn first(self) -> Slot {
        self.first
    }

    /// The highest slot.
    pub fn last(self) -> Slot {
        self.last
    }

    /// Whether the slot lies in the range.
    pub fn contains(self, slot: Slot) -> bool {
        self.first <= slot && slot <= self.last
    }

    /// Every slot, ascending.
    pub fn slots(self) -> impl Iterator<Item = Slot> {
        (self.first.0..=self.last.0).map(Slot)
    }
}

impl fmt::Display for SlotRange {
    /// `n` or `a-b`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
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

    /// Maximal runs of consecutive slots, ascending.
    pub fn ranges(&self) -> Vec<SlotRange> {
        let mut ranges: Vec<SlotRange> = Vec::new();
        let mut add = |first: u16, last: u16| match ranges.last_mut() {
            Some(range) if range.last.0 + 1 == first => range.last = Slot(last),
            _ => ranges.push(SlotRange { first: Slot(first), last: Slot(last) }),
        };
        for (word, base) in self.0.iter().zip((0_u16..).step_by(64)) {
            match *word {
                0 => {}
                // Most sets are of few, long ranges.
                u64::MAX => add(base, base + 63),
                some => {
                    let ones = (0..64).filter(|bit| some >> bit & 1 == 1);
                    ones.for_each(|bit| add(base + bit, base + bit));
                }
            }
        }
        ranges
    }

    fn place(slot: Slot) -> (usize, u64) {
        (usize::from(slot.0 / 64), 1 << (slot.0 % 64))
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut set = Self::default();
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges().iter().map(ToString::to_string)).finish()
    }
}

/// A TCP endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// Host name, IPv4, or IPv6 without brackets.
    pub host: String,
    /// 0..=65535; an announced port is at least 1.
    pub port: u16,
}

impl Endpoint {
    /// This one, and the same host at the port where TLS alone is spoken, if there is one.
    pub fn with_tls(&self, port: Option<NonZeroU16>) -> impl Iterator<Item = Cow<'_, Self>> {
        let secure = port.map(|port| Self { host: self.host.clone(), port: port.get() });
        std::iter::once(Cow::Borrowed(self)).chain(secure.map(Cow::Owned))
    }
}

impl fmt::Display for Endpoint {
    /// `host:port`, IPv6 in brackets: the form of URLs, configuration and logs. Redis' own form,
    /// without brackets, is made in `view`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The side that an address is rendered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// Sees the announced endpoint where there is one.
    Client,
    /// Replication, migration, controller: sees the local endpoint.
    Peer,
}

/// What a client can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Nodes themselves: one without an announced endpoint is shown by its own address, as Kvrocks
    /// does.
    #[default]
    Nodes,
    /// Announced endpoints only, because the nodes serve clients through load balancers: a node
    /// without one is not shown.
    Announced,
}

/// A client that asks where nodes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asker {
    /// What it can reach.
    pub reach: Reach,
    /// It speaks TLS, with the node that answers or with a balancer in front of it: where TLS has
    /// ports of its own, it is sent to these.
    pub is_tls: bool,
}

/// Where a client is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address<'a> {
    /// Host name, IPv4, or IPv6 without brackets.
    pub host: &'a str,
    /// That of its kind of connection.
    pub port: u16,
}

impl fmt::Display for Address<'_> {
    /// `host:port` as Redis writes it: IPv6 without brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
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
    /// Its id.
    pub id: NodeId,
    /// Where peers reach it.
    pub local: Endpoint,
    /// Where clients reach it, when that differs: a load balancer, NAT or proxy.
    pub announced: Option<Endpoint>,
    /// Where it speaks TLS alone, beside these two.
    pub tls: TlsPorts,
    /// Master or replica.
    pub role: Role,
    /// Marked by the controller as not answering (`slave,fail`).
    pub failed: bool,
    /// Slots owned; empty for replicas.
    pub slots: SlotSet,
}

impl Node {
    /// The one place that chooses between the local and the announced endpoint, with the port of
    /// TLS beside it.
    fn place(&self, viewer: Viewer) -> (&Endpoint, Option<NonZeroU16>) {
        match (viewer, &self.announced) {
            (Viewer::Client, Some(announced)) => (announced, self.tls.announced),
            (Viewer::Client, None) | (Viewer::Peer, _) => (&self.local, self.tls.local),
        }
    }

    /// Where it is for those who speak in clear, and names it in roles, links and messages.
    pub fn endpoint(&self, viewer: Viewer) -> &Endpoint {
        self.place(viewer).0
    }

    /// Where a client finds the node that asks so; `None` if it cannot reach it.
    pub fn shown(&self, asker: Asker) -> Option<Address<'_>> {
        if asker.reach == Reach::Announced && self.announced.is_none() {
            return None;
        }
        let (endpoint, tls) = self.place(Viewer::Client);
        let port = tls.filter(|_| asker.is_tls).map_or(endpoint.port, NonZeroU16::get);
        Some(Address { host: &endpoint.host, port })
    }

    /// Where TLS alone is spoken, beside where a client of that reach is sent in clear.
    pub fn shown_tls_port(&self, reach: Reach) -> Option<u16> {
        let clear = self.shown(Asker { reach, is_tls: false })?.port;
        let secure = self.shown(Asker { reach, is_tls: true })?.port;
        (secure != clear).then_some(secure)
    }

    /// Addresses of its own: the local endpoint, and the port of TLS beside it.
    pub fn local_addresses(&self) -> impl Iterator<Item = Cow<'_, Endpoint>> {
        self.local.with_tls(self.tls.local)
    }

    /// Addresses that are announced for it: none, one, or the one with its port of TLS.
    pub fn announced_addresses(&self) -> impl Iterator<Item = Cow<'_, Endpoint>> {
        let tls = self.tls.announced;
        self.announced.iter().flat_map(move |endpoint| endpoint.with_tls(tls))
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

    /// The same, with these replicas marked as failed beside those that are marked already.
    pub fn with_failed(&self, is_failed: impl Fn(&NodeId) -> bool) -> Self {
        let mut marked = self.clone();
        for node in marked.nodes.iter_mut().filter(|node| !node.is_master()) {
            node.failed |= is_failed(&node.id);
        }
        marked
    }

    /// Masters that own at least one slot: the `cluster_size` of CLUSTER INFO.
    pub fn size(&self) -> usize {
        self.nodes.iter().filter(|node| !node.slots.is_empty()).count()
    }

    /// Slots with an owner, 0..=16384.
    pub fn assigned_slots(&self) -> usize {
        self.nodes.iter().map(|node| node.slots.len()).sum()
    }

    /// Replicas of a node, in table order.
    pub fn replicas_of(&self, id: NodeId) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.role == Role::Replica { of: id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_id_is_of_the_digits_that_redis_cli_reads() {
        let id = NodeId::random(&mut rand::rng()).to_string();
        assert!(id.len() == 40 && id == id.to_ascii_lowercase(), "{id}");
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }

    #[test]
    fn ranges_are_those_of_the_slots_one_by_one() {
        let mut set = SlotSet::default();
        let all: [(u16, u16); 8] = [
            (0, 0),
            (2, 63),
            (65, 127),
            (128, 300),
            (302, 302),
            (1_000, 2_047),
            (16_320, 16_381),
            (16_383, 16_383),
        ];
        for (first, last) in all {
            for number in first..=last {
                set.insert(Slot(number));
            }
        }
        let ends = |range: &SlotRange| (range.first.0, range.last.0);
        let found: Vec<_> = set.ranges().iter().map(ends).collect();
        // 65 to 300 is one.
        let wanted = [(0, 0), (2, 63), (65, 300), (302, 302), (1_000, 2_047)];
        assert_eq!(found[..5], wanted);
        assert_eq!(found[5..], [(16_320, 16_381), (16_383, 16_383)]);
        let slots: Vec<Slot> = set.ranges().into_iter().flat_map(SlotRange::slots).collect();
        assert_eq!(slots, set.iter().collect::<Vec<_>>());
    }
}
