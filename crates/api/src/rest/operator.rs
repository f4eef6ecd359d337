//! What operators decide: what a cluster promises, what is given up, what is put back. Beyond what
//! kvrocks-controller has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::grant::CommitMode;

/// `PATCH …/clusters/:c`: what is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterChange {
    /// When writes count as done, from each shard's next epoch on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_mode: Option<CommitMode>,
    /// Writes are refused below so many members of the in-sync set, the master included; 1..=nodes
    /// of the smallest shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_in_sync: Option<u32>,
    /// What the controller says to the nodes from now on, their `peer-auth`; empty: nothing. Every
    /// node that answers must accept it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// How many writes a replica may be known to lack that is promoted in an asynchronous shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lag: Option<MaxLag>,
    /// No failover happens by itself from now on, or it does again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Why it is paused, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `POST …/clusters/:c/release`: its nodes go on without leases, and then without this controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseSpec {
    /// Without it nothing is changed: the answer says what would be.
    #[serde(default)]
    pub confirm: bool,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseAnswer {
    /// In the order of the shards.
    pub nodes: Vec<ReleasedNode>,
    /// It was done; else it was only shown.
    pub done: bool,
}

/// A node that goes on by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasedNode {
    /// `host:port`.
    pub addr: String,
    /// `master-lease-mode` before.
    pub lease_mode: String,
    /// Why the node asks for leases again after a restart: its configuration file could not be
    /// written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgets: Option<String>,
}

/// `POST …/shards/:i/accept-loss`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossSpec {
    /// The node that is to go on as master, with what it has.
    pub node_id: String,
    /// Without it nothing is changed: the answer says what would be given up.
    #[serde(default)]
    pub confirm: bool,
    /// Do it although a node of the shard has more than this one, in service or in its
    /// `db.deposed`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub despite_deposed: bool,
    /// Slots that are given up because they were moved to the shard above what the node has,
    /// `0-99,200`: all that the answer names as such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub give_up: Option<String>,
}

/// `POST …/shards/:i/restore-deposed`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreSpec {
    /// The node that is to put what lies in its `db.deposed` back in service.
    pub node_id: String,
    /// Without it nothing is changed: the answer says what would be.
    #[serde(default)]
    pub confirm: bool,
}

/// The answer to it: which data comes back, or would, and which goes aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreAnswer {
    /// `host:port` of the node.
    pub addr: String,
    /// Newest epoch of what lies in `db.deposed`, 0 for none.
    pub deposed_epoch: u64,
    /// Newest sequence of it.
    pub deposed_sequence: u64,
    /// Newest epoch of what is in service and goes aside.
    pub node_epoch: u64,
    /// Newest sequence of it.
    pub node_sequence: u64,
    /// It was done; else it was only shown.
    pub done: bool,
}

/// What a node holds, as it said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHolding {
    /// Its id.
    pub id: String,
    /// `host:port`.
    pub node: String,
    /// Whether it answers.
    pub answers: bool,
    /// Newest epoch and sequence of its data, if it was heard.
    pub at: Option<(u64, u64)>,
    /// Newest epoch and sequence of what lies in its `db.deposed`.
    pub deposed: Option<(u64, u64)>,
}

/// The answer to it: what is, or would be, given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossAnswer {
    /// `host:port` of the node that goes on.
    pub addr: String,
    /// Newest epoch of its data.
    pub node_epoch: u64,
    /// Newest sequence of its data.
    pub node_sequence: u64,
    /// Epoch of the in-sync set that is lost.
    pub epoch: u64,
    /// The members of that set; what only they held is gone.
    pub members: Vec<LostMember>,
    /// What lies where in the shard.
    #[serde(default)]
    pub holds: Vec<NodeHolding>,
    /// Slots that were moved to the shard above what the node has: it would serve them as empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never_had: Vec<NeverHad>,
    /// All of them, as `give_up` has to say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub give_up: Option<String>,
    /// It was done; else it was only shown.
    pub done: bool,
}

/// Slots that a node never had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeverHad {
    /// The move by which they came to the shard.
    pub move_id: u64,
    /// `0-99,200`.
    pub slots: String,
    /// Index of the shard that gave them, as long as it may not have deleted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub giver: Option<usize>,
}

/// A member of a lost in-sync set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostMember {
    /// `host:port`, or the id of a node that left the shard.
    pub node: String,
    /// Why it does not count.
    pub why: String,
    /// Newest epoch this controller saw it at, if it did.
    pub seen_epoch: Option<u64>,
    /// Newest sequence this controller saw it at, if it did.
    pub seen_sequence: Option<u64>,
}

/// A balancer, without its token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balancer {
    /// Unique within the cluster.
    pub name: String,
    /// `builtin` or `haproxy`.
    pub kind: String,
    /// Where it is driven.
    pub endpoint: String,
    /// Networks it dials nodes from, separated by commas.
    pub source: String,
}

/// `GET …/balancers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balancers {
    /// In the order they were added.
    pub balancers: Vec<Balancer>,
}

/// `PATCH …/balancers/:name`: what is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalancerChange {
    /// URL of the built-in balancer, of the same host and port as before: over TLS or in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Bearer token of the built-in balancer; empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// `DELETE …/balancers/:name` of an instance that was removed by force and could not be closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalancerRemoved {
    /// False.
    pub closed: bool,
    /// What stood in the way.
    pub why: String,
}

/// `GET …/discarded`: writes that deposed masters had to discard and keep.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Discarded {
    /// By node, oldest first.
    pub exports: Vec<DiscardedExport>,
    /// Nodes that could not be asked.
    pub silent: Vec<DiscardedSilent>,
}

/// One export in the folder of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardedExport {
    /// Id of the node that holds it.
    pub node: String,
    /// `host:port` of it.
    pub addr: String,
    /// Index of its shard.
    pub shard: usize,
    /// Name of the file.
    pub file: String,
    /// Size of the file.
    pub bytes: u64,
    /// When the node parted from its own writes, ms since 1970.
    pub at_ms: u64,
    /// Newest sequence that was kept.
    pub fork: u64,
    /// Number of the epoch in which the histories parted, 0 without epochs.
    pub epoch: u64,
    /// Its id, `-` without epochs.
    pub epoch_id: String,
    /// How many records were cut off.
    pub records: u64,
}

/// A node that did not say what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardedSilent {
    /// `host:port`.
    pub addr: String,
    /// Why not.
    pub error: String,
}

/// `GET …/discarded/:node/:file?offset=n`: a part of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardedPage {
    /// In the order in which they happened.
    pub changes: Vec<DiscardedChange>,
    /// `offset` of the next part; null after the last.
    pub next: Option<u64>,
}

/// One discarded change. Bytes are the characters U+0000 to U+00FF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardedChange {
    /// `command`, or `other`: something that no command says.
    pub what: String,
    /// The key; of a command its first argument.
    pub key: String,
    /// Of `other` what it is.
    pub value: String,
    /// Of `command` its words.
    pub words: Vec<String>,
}

/// `POST …/discarded/:node/:file/apply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscardedApply {
    /// Without it nothing is changed: the answer says what would be.
    #[serde(default)]
    pub confirm: bool,
    /// Put back keys that do not exist, and only those, without asking the master's log what
    /// changed since the fork.
    #[serde(default)]
    pub only_absent: bool,
}

/// What became, or would become, of each key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DiscardedOutcome {
    /// `host:port` of the master.
    pub master: String,
    /// It was done; else it was only looked at.
    pub done: bool,
    /// How many: `applied`, `same` (it is so already), `changed` (written since the fork: kept as
    /// it is), `exists`, `expired` (meanwhile), `lapsed` (its end at the master came since the
    /// fork, and only a part of it is in the export), `partial` (only a part is in the export, and
    /// the log is not asked), `large`, `moved` (to another shard), `unreadable`, `unsupported`.
    pub counts: BTreeMap<String, u64>,
    /// Keys of each: of `applied` and `same` 100 at most, of each other one 10000, and of them all
    /// 1 MiB.
    pub keys: BTreeMap<String, Vec<String>>,
}

/// A bound of the writes that a failover may lose: a number, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "serde_json::Value", into = "serde_json::Value")]
pub enum MaxLag {
    /// No bound.
    None,
    /// So many.
    Writes(u64),
}

impl MaxLag {
    /// The number, where there is one.
    pub fn bound(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Writes(most) => Some(most),
        }
    }
}

impl std::fmt::Display for MaxLag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Writes(most) => most.fmt(f),
        }
    }
}

impl std::str::FromStr for MaxLag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            _ => text
                .parse()
                .map(Self::Writes)
                .map_err(|_| format!("`{text}` is neither a number nor `none`")),
        }
    }
}

impl TryFrom<serde_json::Value> for MaxLag {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        match &value {
            serde_json::Value::String(text) => text.parse(),
            other => other.to_string().parse(),
        }
    }
}

impl From<MaxLag> for serde_json::Value {
    fn from(lag: MaxLag) -> Self {
        match lag {
            MaxLag::None => Self::from("none"),
            MaxLag::Writes(most) => Self::from(most),
        }
    }
}
