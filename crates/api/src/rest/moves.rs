//! Moves of slots from shard to shard, as REST has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET …/moves`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Moves {
    /// Queued or under way, in the order of the queue.
    pub moves: Vec<Move>,
    /// The newest of those that are over, oldest first.
    pub done: Vec<PastMove>,
    /// Most that are under way at a time, if there is a bound.
    pub max_concurrent: Option<u32>,
}

/// A move that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Move {
    /// Its number.
    pub id: u64,
    /// `0-99,200`.
    pub slots: String,
    /// Id of the shard that gives.
    pub from: String,
    /// Its index now.
    pub from_index: Option<usize>,
    /// Id of the shard that takes.
    pub to: String,
    /// Its index now.
    pub to_index: Option<usize>,
    /// `queued`, `copy`, `owned` (the slots have moved, the giver deletes them) or `drop` (given
    /// up, the taker deletes what it has copied).
    pub state: String,
    /// An operator has paused it.
    pub paused: bool,
    /// How often it was begun anew.
    pub tries: u32,
    /// What has to happen next, and behind it in brackets at which nodes; empty where nothing is
    /// waited for.
    pub waits_for: String,
    /// For how long it is where it is, ms.
    pub since_ms: u64,
    /// What its copy brings at most, MB a second; 0 from a controller that does not say.
    pub rate_mb: u32,
    /// What keeps its copy below that just now, as both masters say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowed_by: Option<String>,
    /// How far the copy is, as far as the taker says.
    pub progress: Option<MoveProgress>,
}

/// How far a copy is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MoveProgress {
    /// Records that were copied.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many bytes there are, as estimated.
    pub of_bytes: Option<u64>,
    /// Bytes a second, since the controller has watched.
    pub bytes_per_s: Option<u64>,
    /// Time that is left at this rate, ms.
    pub left_ms: Option<u64>,
}

/// A move that is over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PastMove {
    /// Its number.
    pub id: u64,
    /// What moved.
    pub slots: String,
    /// Id of the shard that gave.
    pub from: String,
    /// Id of the shard that took.
    pub to: String,
    /// Why it was given up; null if it was done.
    pub error: Option<String>,
}

/// `POST …/moves`: slots and where they are to go, or a list that was shown before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MovesSpec {
    /// `0-99,200`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub slots: String,
    /// Id or index of the shard that is to have them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub to: String,
    /// Exactly these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<MoveWish>,
    /// Most moves of the cluster that are under way at a time from now on; 0: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u32>,
    /// Most that the copy of each of them brings, MB a second, 1 to 10000; if nothing is said, what
    /// the nodes' `move-rate-mb` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_mb: Option<u32>,
    /// Change nothing, and show what would be queued.
    #[serde(default)]
    pub dry: bool,
}

/// `POST …/migrate`, as kvrocks-controller has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MigrateSpec {
    /// Index of the shard that is to have them.
    pub target: usize,
    /// `n` or `a-b`.
    pub slot: String,
    /// Give them away without their data: refused.
    #[serde(default)]
    pub slot_only: bool,
}

/// Slots that are to go from one shard to another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MoveWish {
    /// Of the move, once it is queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// `0-99,200`.
    pub slots: String,
    /// Id of the shard that gives.
    pub from: String,
    /// Id of the shard that takes.
    pub to: String,
    /// What the slots weigh, bytes, as their nodes estimate; where that was asked and answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What its copy brings at most where nothing is said, MB a second, as both masters' options
    /// are; told, and not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_mb: Option<u32>,
}

/// What is shared out evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Slots, whatever lies in them.
    #[default]
    Slots,
    /// Bytes on disk, as nodes estimate them.
    Bytes,
    /// Commands of the last minutes, as masters count a part of them.
    Load,
}

impl By {
    /// As it is where nothing is said.
    fn is_slots(&self) -> bool {
        *self == Self::Slots
    }
}

/// `POST …/rebalance`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RebalanceSpec {
    /// What is to be even.
    #[serde(default, skip_serializing_if = "By::is_slots")]
    pub by: By,
    /// By bytes, or by load: how far from the mean a shard may stay, percent, 1 to 50; 5 if nothing
    /// is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<u32>,
    /// As in [`MovesSpec`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u32>,
    /// As in [`MovesSpec`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_mb: Option<u32>,
    /// Change nothing, and show what would be queued.
    #[serde(default)]
    pub dry: bool,
}

/// `POST …/shards/:i/drain`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainSpec {
    /// By what the others are to be as even as what they get allows.
    #[serde(default, skip_serializing_if = "By::is_slots")]
    pub by: By,
    /// As in [`MovesSpec`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u32>,
    /// As in [`MovesSpec`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_mb: Option<u32>,
    /// Change nothing, and show what would be queued.
    #[serde(default)]
    pub dry: bool,
}

/// The answer to these.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MovesAnswer {
    /// In the order of the queue.
    pub moves: Vec<MoveWish>,
    /// How many slots move by them.
    pub slots: usize,
    /// What each shard weighs once what was queued before is done, bytes by id; empty where nodes
    /// were not asked, or did not say.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bytes: BTreeMap<String, u64>,
    /// What a person should know of them: disks of shards that take have less place than comes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// They are queued; else they were only shown.
    pub done: bool,
}

/// `PATCH …/moves/:id`: one of both, or both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveChange {
    /// It does not begin, copies no more, and hands nothing over, or does again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Most that its copy brings from now on, MB a second, 1 to 10000; 0: as if nothing had been
    /// said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_mb: Option<u32>,
}

/// `GET …/moves/:id`, and the answer to a change of one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MoveAnswer {
    /// It, unless it is over.
    #[serde(rename = "move")]
    pub of: Option<Move>,
    /// It, if it is over.
    pub done: Option<PastMove>,
}
