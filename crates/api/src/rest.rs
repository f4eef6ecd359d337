//! REST types of the controller, in the shape of kvrocks-controller where it has one.
//!
//! Requests accept what existing users send, misspellings of known tools included; secrets go in
//! and never come out. Ports are 0..=65535, times in ms unless a name says otherwise.

use serde::{Deserialize, Serialize};

use crate::grant::CommitMode;

mod access;
mod answer;
mod certificates;
mod moves;
mod node;
mod operator;
mod store;

pub use access::{Actor, UnknownRole, User, UserAdded, UserRole, UserSpec, Users, if_known};
pub use answer::NodeAnswer;
pub use certificates::{CertificateHolder, CertificateHolders};
pub use moves::{
    By, DrainSpec, MigrateSpec, Move, MoveAnswer, MoveChange, MoveProgress, MoveWish, Moves,
    MovesAnswer, MovesSpec, PastMove, RebalanceSpec,
};
pub use node::{Announced, Node, NodeChange, NodeFields, NodeSpec, NodeStatus};
pub use operator::{
    Balancer, BalancerChange, BalancerRemoved, Balancers, ClusterChange, Discarded, DiscardedApply,
    DiscardedChange, DiscardedExport, DiscardedOutcome, DiscardedPage, DiscardedSilent, LossAnswer,
    LossSpec, LostMember, MaxLag, NeverHad, NodeHolding, ReleaseAnswer, ReleaseSpec, ReleasedNode,
    RestoreAnswer, RestoreSpec,
};
pub use store::{StoreExport, StoreResealed, StoreSealing, StoreStatus};

/// A success: `{"data": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data<T> {
    /// The answer.
    pub data: T,
}

/// A failure: `{"error":{"message":…},"data":null}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong.
    pub error: Message,
    /// Always null.
    #[serde(default)]
    pub data: (),
}

/// The inside of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// For people.
    pub message: String,
    /// Of a 403: the least role that may ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<UserRole>,
    /// And the role that the request had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has: Option<UserRole>,
    /// Of a 503, where it is told: whether what was asked for was done. After `no` it may be asked
    /// for again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Done>,
}

/// What became of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Done {
    /// Nothing was done, and nothing is under way.
    No,
    /// It may be done, or be done yet.
    Unknown,
}

/// `POST /namespaces`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceSpec {
    /// Its name.
    #[serde(default)]
    pub namespace: String,
}

/// `POST …/clusters`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// In order: the first of every `replicas` nodes is a master.
    #[serde(default)]
    pub nodes: Vec<NodeSpec>,
    /// The nodes' `peer-auth` secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Nodes per shard, the master included, 1 and up; without: 1.
    #[serde(default, alias = "replica", skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i64>,
    /// Create the cluster although nothing could fence its masters.
    #[serde(default)]
    pub allow_unfenced: bool,
    /// Every balancer in front of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub balancers: Vec<BalancerSpec>,
    /// When writes count as done; without, in-sync where shards have replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_mode: Option<CommitMode>,
    /// Writes are refused below so many members of the in-sync set, the master included; 1 and up,
    /// without: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_in_sync: Option<u32>,
    /// The slots of each shard, in the order of the shards, as `0-99,200`; `-` for none. Together
    /// they are all slots. Without: equal shares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<String>,
}

/// `POST …/clusters/:c/import`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImportSpec {
    /// The first is asked for the topology; announced endpoints replace what the node knows.
    #[serde(default)]
    pub nodes: Vec<NodeSpec>,
    /// The nodes' `peer-auth` secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Import it although nothing could fence its masters.
    #[serde(default)]
    pub allow_unfenced: bool,
    /// Every balancer in front of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub balancers: Vec<BalancerSpec>,
    /// When writes count as done; without, in-sync where shards have replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_mode: Option<CommitMode>,
    /// Writes are refused below so many members of the in-sync set, the master included; 1 and up,
    /// without: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_in_sync: Option<u32>,
}

/// `POST …/shards`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ShardSpec {
    /// The first is the master.
    #[serde(default)]
    pub nodes: Vec<NodeSpec>,
    /// Accepted and ignored: the secret belongs to the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// `POST …/shards/:i/failover`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailoverSpec {
    /// Wanted new master; the most advanced replica without.
    #[serde(default, alias = "preferred", skip_serializing_if = "Option::is_none")]
    pub preferred_node_id: Option<String>,
    /// Bounds.
    #[serde(default)]
    pub options: FailoverOptions,
    /// Same as `options.force_on_timeout`.
    #[serde(default)]
    pub force: bool,
}

/// Bounds of a planned switchover; 0 means the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FailoverOptions {
    /// Go on when the replica does not catch up in time.
    pub force_on_timeout: bool,
    /// How long it may take, ms; default 1000.
    pub sync_timeout_ms: u64,
    /// Longest pause of writes, ms; default 3000.
    pub pause_timeout_ms: u64,
}

/// `POST …/balancers`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalancerSpec {
    /// Unique within the cluster.
    #[serde(default)]
    pub name: String,
    /// `builtin` or `haproxy`.
    #[serde(default)]
    pub kind: String,
    /// URL of the built-in balancer; `host:port` or path of HAProxy's Runtime API, a comma, and
    /// that of its master socket, without which it never counts as a fence.
    #[serde(default)]
    pub endpoint: String,
    /// Bearer token of the built-in balancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Address or network it dials nodes from; several are separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// `GET /namespaces`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Sorted.
    pub namespaces: Vec<String>,
}

/// `GET …/clusters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clusters {
    /// Sorted.
    pub clusters: Vec<String>,
}

/// An answer that holds one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterAnswer {
    /// The cluster.
    pub cluster: Cluster,
}

/// `GET …/shards`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shards {
    /// By index.
    pub shards: Vec<Shard>,
}

/// An answer that holds one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardAnswer {
    /// The shard.
    pub shard: Shard,
}

/// `GET …/nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nodes {
    /// Master first at creation; order is kept.
    pub nodes: Vec<Node>,
}

/// The answer of a failover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// 40 characters.
    pub new_master_id: String,
    /// How long writes waited, ms, as the controller saw it: from the pause until every balancer
    /// led to the new master; `None` where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_ms: Option<u64>,
    /// Sessions that balancers took back from their nodes to go on elsewhere; `None` unless all are
    /// built-in: others cut, and do not say how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<u64>,
    /// Sessions that they reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<u64>,
}

/// What the store holds of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Topology version.
    pub version: i64,
    /// By index.
    pub shards: Vec<Shard>,
    /// Failover without a sound fence is allowed.
    #[serde(default)]
    pub allow_unfenced: bool,
    /// When writes count as done.
    #[serde(default)]
    pub commit_mode: CommitMode,
    /// Writes are refused below so many members of the in-sync set.
    #[serde(default)]
    pub min_in_sync: u32,
    /// How many writes a replica may be known to lack that is promoted in an asynchronous shard;
    /// absent: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lag: Option<u64>,
}

/// What the store holds of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its lasting id, 16 hexadecimal digits; zeros while it has none, empty from older
    /// controllers.
    #[serde(default)]
    pub id: String,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// `n` or `a-b`.
    pub slot_ranges: Vec<String>,
    /// -1 unless slots are moving.
    pub target_shard_index: i64,
    /// Null unless slots are moving.
    pub migrating_slot: Option<String>,
}

/// `GET …/clusters/:c/status`: what is seen now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its grouping.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Topology version.
    pub version: i64,
    /// Hash of the topology.
    pub topology_hash: String,
    /// Term of the controller.
    pub term: u64,
    /// Every shard is steady, every node plays its role at this version, and in in-sync clusters
    /// every node is in its shard's set.
    pub healthy: bool,
    /// When writes count as done.
    #[serde(default)]
    pub commit_mode: CommitMode,
    /// Writes are refused below so many members of the in-sync set.
    #[serde(default)]
    pub min_in_sync: u32,
    /// By index.
    pub shards: Vec<ShardStatus>,
    /// Balancer instances.
    pub balancers: Vec<BalancerStatus>,
    /// What a person should know.
    pub alarms: Vec<String>,
    /// Slots that are queued to move, or move.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
}

/// What a shard is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Its index.
    pub index: usize,
    /// Its lasting id, as in [`Shard`].
    #[serde(default)]
    pub id: String,
    /// `steady`, `settling`, `suspect`, `fencing`, `stuck` or `switchover`.
    pub state: String,
    /// More, for people.
    pub detail: String,
    /// `n` or `a-b`.
    pub slot_ranges: Vec<String>,
    /// Number of its epoch, 0 before the first.
    #[serde(default)]
    pub epoch: u64,
    /// Nodes of its in-sync set, by id; empty in asynchronous clusters.
    #[serde(default)]
    pub in_sync: Vec<String>,
    /// In an in-sync cluster: a node is not in the set, so a write has fewer copies than there are
    /// nodes.
    #[serde(default)]
    pub degraded: bool,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
}

/// What is seen of a balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalancerStatus {
    /// Its name.
    pub name: String,
    /// `builtin` or `haproxy`.
    pub kind: String,
    /// Where it is driven.
    pub endpoint: String,
    /// What is wanted is in force.
    pub in_force: bool,
    /// Why not.
    pub error: Option<String>,
    /// By announced endpoint.
    pub frontends: Vec<FrontendStatus>,
}

/// What a frontend does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontendStatus {
    /// Where clients connect.
    pub listen: String,
    /// Id of the node behind it; none when closed.
    pub node: Option<String>,
    /// Why the balancer does not reach that node, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `GET …/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Oldest first.
    pub events: Vec<Event>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the log.
    pub number: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Term of the controller that wrote it.
    pub term: u64,
    /// `namespace/cluster`, empty for the controller itself.
    pub cluster: String,
    /// `failover`, `switchover`, `loss`, `operator`, `move`, `start`; `change`, `alarm`, `over`,
    /// `failed`.
    pub kind: String,
    /// What and why.
    pub text: String,
    /// The lasting name of the shard whose writes a `loss` tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// By whom, where somebody asked for it.
    #[serde(default, deserialize_with = "if_known", skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
}
