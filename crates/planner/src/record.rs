//! What the controller's store holds for one cluster: the only truth about who is master.
//!
//! Invariants, checked by [`Record::check`]: one master per shard, ids unique, slots disjoint,
//! no two masters behind one announced endpoint. Every change is one compare-and-swap on
//! `tag`; `version` is what nodes see and rises with every change of the topology.

use std::borrow::Cow;
use std::collections::BTreeSet;

use api::grant::{CommitMode, EpochId, Least, Member, Members};
use api::heartbeat::{ClientAccess, LeaseMode, Reply};
use api::moves::MoveId;
use api::store::StoreId;
use serde::{Deserialize, Serialize};
use topology::{Endpoint, TlsPorts};

use crate::queue::{Floor, Moves};
use crate::shard_id::ShardId;

/// What the record makes of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Owns the shard's slots.
    Master,
    /// Follows the shard's master.
    Slave,
}

/// What a node said of itself: the properties a fence is built on. Kept in the store, because a
/// restarted controller may have to fence a node that no longer answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stated {
    /// `lease_mode` of its last reply.
    pub lease_mode: String,
    /// `client_access` of its last reply.
    pub client_access: String,
    /// `balancer_sources` of its last reply.
    pub balancer_sources: Vec<String>,
}

impl Stated {
    /// The statement inside a heartbeat reply.
    pub fn of(reply: &Reply) -> Self {
        Self {
            lease_mode: reply.lease_mode.as_str().to_owned(),
            client_access: reply.client_access.as_str().to_owned(),
            balancer_sources: reply.balancer_sources.clone(),
        }
    }

    /// Whether the reply makes the same statement.
    pub(crate) fn is_of(&self, reply: &Reply) -> bool {
        let Self { lease_mode, client_access, balancer_sources } = self;
        lease_mode == reply.lease_mode.as_str()
            && client_access == reply.client_access.as_str()
            && *balancer_sources == reply.balancer_sources
    }

    /// The lease mode; anything unreadable counts as the weakest.
    pub fn lease_mode(&self) -> LeaseMode {
        self.lease_mode.parse().unwrap_or_default()
    }

    /// Which connections may touch keys; anything unreadable counts as the weakest.
    pub fn client_access(&self) -> ClientAccess {
        self.client_access.parse().unwrap_or_default()
    }
}

/// One node of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// 40 characters.
    pub id: String,
    /// Where the controller and peers reach it.
    pub local: Endpoint,
    /// Where clients reach the role this node has; moves with the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<Endpoint>,
    /// Where TLS alone is spoken beside these two. The announced one moves with the announced
    /// endpoint, the local one stays. A controller that does not know them drops them with its next
    /// change of the record.
    #[serde(default, skip_serializing_if = "TlsPorts::is_none")]
    pub tls: TlsPorts,
    /// Master or slave.
    pub role: Role,
    /// Seconds since 1970.
    #[serde(default)]
    pub created_at: u64,
    /// What it said of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated: Option<Stated>,
}

impl Node {
    /// Where clients are sent to the role this node has: the announced endpoint, and its port of
    /// TLS. Each has a frontend of its own at balancers.
    pub fn announced_addresses(&self) -> impl Iterator<Item = Cow<'_, Endpoint>> {
        let tls = self.tls.announced;
        self.announced.iter().flat_map(move |endpoint| endpoint.with_tls(tls))
    }

    /// Exchanges what belongs to the role.
    fn swap_announced(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.announced, &mut other.announced);
        std::mem::swap(&mut self.tls.announced, &mut other.tls.announced);
    }
}

/// A planned switchover, or the end of a loss, that was asked for and is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Chosen by whoever asked, to find the result again.
    pub id: String,
    /// Wanted new master; the most advanced one without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred: Option<String>,
    /// Go on when the replica does not catch up in time.
    pub force: bool,
    /// How long the replica may take to catch up, ms.
    pub sync_timeout_ms: u64,
    /// How long the old master pauses writes at most, ms.
    pub pause_ms: u64,
    /// No switchover: `preferred` is to go on as master with what it has, because nobody holds what
    /// the in-sync set acknowledged any more. An operator has said so.
    #[serde(default)]
    pub accept_loss: bool,
}

/// How the last switchover of a shard ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentResult {
    /// Of the intent.
    pub id: String,
    /// Why it was given up; `None` if it was done.
    pub error: Option<String>,
}

/// The store already names a new master, but its predecessor is not yet known to be fenced: until
/// then the new one gets neither topology nor lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingFence {
    /// The predecessor.
    pub node: String,
    /// The version at which it is not master.
    pub version: i64,
    /// What the in-sync set named it for: only with that data may it become master again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Member>,
}

/// What the record holds of a shard's epoch (rules R2, R3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Epoch {
    /// Rises by at least one with every epoch; 0 before the first, while nodes serve by topology
    /// and lease alone.
    pub number: u64,
    /// Random.
    pub id: EpochId,
    /// The process it was opened for.
    pub nonce: String,
    /// What that process must hold.
    pub least: Least,
    /// Number of the newest in-sync set of this epoch that the store has taken over.
    pub request: u64,
    /// That set; empty in asynchronous clusters.
    pub in_sync: Members,
    /// The record's version at its opening, which its holder must have as a topology; 0 in epochs
    /// of earlier versions, which ask for none.
    pub version: i64,
}

impl Default for Epoch {
    fn default() -> Self {
        Self {
            number: 0,
            id: EpochId(0),
            nonce: String::new(),
            least: Least::default(),
            request: 0,
            in_sync: Members::default(),
            version: 0,
        }
    }
}

impl Epoch {
    /// No epoch was opened yet.
    pub fn is_none(&self) -> bool {
        self.number == 0
    }
}

/// A master, its replicas and its slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its lasting name; none in records of earlier versions, until the next controller gives it
    /// one.
    #[serde(default, skip_serializing_if = "ShardId::is_none")]
    pub id: ShardId,
    /// Exactly one is master.
    pub nodes: Vec<Node>,
    /// Both ends included, ascending, disjoint.
    pub slot_ranges: Vec<(u16, u16)>,
    /// A switchover under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// How the last one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_intent: Option<IntentResult>,
    /// A predecessor that must be fenced first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<PendingFence>,
    /// What its master is granted.
    #[serde(default, skip_serializing_if = "Epoch::is_none")]
    pub epoch: Epoch,
    /// What whoever becomes its master must hold, since slots were moved here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
}

impl Shard {
    /// The master.
    pub fn master(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.role == Role::Master)
    }

    /// Everybody else.
    pub fn replicas(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role == Role::Slave)
    }

    /// What an operator asked for is over: done, or why not.
    pub(crate) fn conclude(&mut self, intent: &Intent, error: Option<&str>) {
        self.intent = None;
        let error = error.map(str::to_owned);
        self.last_intent = Some(IntentResult { id: intent.id.clone(), error });
    }

    /// The node of that id.
    pub fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// See [`Record::promote`].
    pub(crate) fn promote(&mut self, id: &str) -> bool {
        let old = self.nodes.iter().position(|node| node.role == Role::Master);
        let new = self.nodes.iter().position(|node| node.id == id);
        let (Some(old), Some(new)) = (old, new) else { return false };
        if old == new {
            return false;
        }
        // A master without an announced endpoint has nothing to hand over: its clients use local
        // endpoints, and the replica keeps the one that is its own.
        if self.nodes[old].announced.is_some()
            && let Ok([old, new]) = self.nodes.get_disjoint_mut([old, new])
        {
            old.swap_announced(new);
        }
        self.nodes[old].role = Role::Slave;
        self.nodes[new].role = Role::Master;
        true
    }
}

/// The driver that speaks to a balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BalancerKind {
    /// `holdfast balancer`, over HTTP.
    Builtin,
    /// HAProxy's Runtime API.
    Haproxy,
}

/// One balancer instance in front of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balancer {
    /// Unique within the cluster.
    pub name: String,
    /// Which driver.
    pub kind: BalancerKind,
    /// URL of the built-in balancer, or HAProxy's Runtime API and, after a comma, its master
    /// socket, each as `host:port` or path.
    pub endpoint: String,
    /// Bearer token of the built-in balancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Networks (CIDR or address) it dials nodes from.
    #[serde(default)]
    pub sources: Vec<String>,
    /// It is being removed: it is told to close, and leaves the record once it has. A controller
    /// that does not know the word keeps it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closing: bool,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Grouping of clusters.
    pub namespace: String,
    /// Unique within the namespace.
    pub name: String,
    /// Rises with every write.
    pub revision: u64,
    /// What compare-and-swap compares: random, and new with each write. The store gives it; 0 in
    /// records of earlier versions.
    #[serde(default)]
    pub tag: u64,
    /// Topology version, pushed to nodes.
    pub version: i64,
    /// In slot order at creation. An index names a shard only as long as none is removed.
    pub shards: Vec<Shard>,
    /// Every balancer instance in front of the nodes.
    #[serde(default)]
    pub balancers: Vec<Balancer>,
    /// Longest lease a node of this cluster may ever have been granted, ms; never shrinks.
    pub longest_lease_ms: u64,
    /// Failover is allowed although no sound fence is possible.
    #[serde(default)]
    pub allow_unfenced: bool,
    /// Secret the nodes know as `peer-auth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// When writes count as done.
    #[serde(default)]
    pub commit_mode: CommitMode,
    /// Writes are refused below so many members of the in-sync set, the master included.
    #[serde(default = "one")]
    pub min_in_sync: u32,
    /// In an asynchronous shard nobody is promoted that is further behind its master than so many
    /// writes, as far as is known; `None`: whoever has most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lag: Option<u64>,
    /// Term of the newest controller that has taken over. It is written before that controller
    /// grants or fences anything, so an older one's compare-and-swap fails from then on.
    #[serde(default)]
    pub term: u64,
    /// What nodes and their data call this cluster, 16 hexadecimal digits; empty until a node was
    /// seen that can keep it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster_id: String,
    /// An operator has asked for no automatic failover, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// Slots on their way from shard to shard.
    #[serde(default, skip_serializing_if = "Moves::is_empty")]
    pub moves: Moves,
    /// The stores that have led its nodes, where it was imported from them: this one takes their
    /// place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instead_of: Vec<StoreId>,
}

/// No failover happens by itself, for the time of a maintenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Ms since 1970.
    pub since_ms: u64,
    /// In the operator's words; may be empty.
    pub reason: String,
}

fn one() -> u32 {
    1
}

/// Why a record cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Zero or several masters.
    #[error("shard {0} must have exactly one master")]
    Masters(usize),
    /// An id is there twice or has a bad length.
    #[error("node id `{0}` must be 40 characters and unique")]
    Id(String),
    /// Two nodes at one address.
    #[error("address {0} is used by two nodes")]
    Address(Endpoint),
    /// Two masters behind one announced endpoint: clients would be redirected for ever.
    #[error("announced endpoint {0} is used by two masters")]
    Announced(Endpoint),
    /// A slot is out of range or owned twice.
    #[error("slots {0}-{1} are out of range or overlap")]
    Slots(u16, u16),
    /// Two shards share a name.
    #[error("shard id {0} is used twice")]
    ShardId(ShardId),
    /// A shard that gives or takes slots is not there.
    #[error("shard {0} is in move {1}")]
    Moving(ShardId, MoveId),
    /// Two balancers share a name or an endpoint.
    #[error("balancer `{0}` is listed twice")]
    Balancer(String),
}

impl Record {
    /// Every node with the index of its shard.
    pub fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.shards
            .iter()
            .enumerate()
            .flat_map(|(index, shard)| shard.nodes.iter().map(move |node| (index, node)))
    }

    /// The node of that id.
    pub fn node(&self, id: &str) -> Option<&Node> {
        self.nodes().map(|(_, node)| node).find(|node| node.id == id)
    }

    /// How the node is named to people: by its address, and the beginning of its id.
    pub fn called(&self, id: &str) -> String {
        match self.node(id) {
            Some(node) => format!("{} ({})", node.local, id.get(..8).unwrap_or(id)),
            None => id.to_owned(),
        }
    }

    /// The index of the shard of that name.
    pub fn place_of(&self, id: ShardId) -> Option<usize> {
        self.shards.iter().position(|shard| !id.is_none() && shard.id == id)
    }

    /// Checks the invariants of the module.
    pub fn check(&self) -> Result<(), RecordError> {
        let mut ids = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        let mut announced = BTreeSet::new();
        let mut owned = vec![false; usize::from(topology::model::SLOT_COUNT)];
        let mut take = |slot: u16| {
            let owned = owned.get_mut(usize::from(slot));
            owned.is_some_and(|owned| !std::mem::replace(owned, true))
        };
        let mut named = BTreeSet::new();
        for (index, shard) in self.shards.iter().enumerate() {
            if !shard.id.is_none() && !named.insert(shard.id) {
                return Err(RecordError::ShardId(shard.id));
            }
            if shard.nodes.iter().filter(|node| node.role == Role::Master).count() != 1 {
                return Err(RecordError::Masters(index));
            }
            for node in &shard.nodes {
                if node.id.len() != 40 || !ids.insert(&node.id) {
                    return Err(RecordError::Id(node.id.clone()));
                }
                let mut local = node.local.with_tls(node.tls.local);
                if let Some(taken) = local.find(|address| !addresses.insert(address.clone())) {
                    return Err(RecordError::Address(taken.into_owned()));
                }
                let mut shown = node.announced_addresses().filter(|_| node.role == Role::Master);
                if let Some(taken) = shown.find(|address| !announced.insert(address.clone())) {
                    return Err(RecordError::Announced(taken.into_owned()));
                }
            }
            for &(first, last) in &shard.slot_ranges {
                let fits = first <= last && last < topology::model::SLOT_COUNT;
                if !fits || !(first..=last).all(&mut take) {
                    return Err(RecordError::Slots(first, last));
                }
            }
        }
        for one in &self.moves.list {
            if let Some(gone) = [one.from, one.to].iter().find(|id| !named.contains(*id)) {
                return Err(RecordError::Moving(*gone, one.id));
            }
        }
        let mut balancers = BTreeSet::new();
        for balancer in &self.balancers {
            if !balancers.insert(&balancer.name) || !balancers.insert(&balancer.endpoint) {
                return Err(RecordError::Balancer(balancer.name.clone()));
            }
        }
        Ok(())
    }

    /// This record after one more write, before any change.
    #[must_use]
    pub fn next(&self) -> Self {
        Self { revision: self.revision + 1, ..self.clone() }
    }

    /// Makes `id` master of shard `index`: roles and announced endpoints change places. Returns
    /// false if there is nothing to swap.
    pub fn promote(&mut self, index: usize, id: &str) -> bool {
        self.shards.get_mut(index).is_some_and(|shard| shard.promote(id))
    }
}
