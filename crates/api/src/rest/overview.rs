//! All clusters in short, and who asks: one answer for what is looked at all day.

use serde::{Deserialize, Serialize};

use super::Actor;

/// `GET /overview`: every cluster that the user may see, in short, and the controller itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// The user that asks.
    pub by: Actor,
    /// Namespaces to which that user is limited; empty: all.
    pub within: Vec<String>,
    /// Term of the controller.
    pub term: u64,
    /// URL of the controller that leads; none with an embedded store, which has only the one that
    /// answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// What a person should know of the controller itself.
    pub alarms: Vec<String>,
    /// By namespace and name.
    pub clusters: Vec<ClusterOverview>,
}

/// A cluster in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterOverview {
    /// Its grouping.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Topology version.
    pub version: i64,
    /// As in `Status`, but for what is wrong with the controller itself.
    pub healthy: bool,
    /// Why no failover happens by itself, in an operator's words, which may be none; absent: it
    /// does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// What a person should know of it.
    pub alarms: Vec<String>,
    /// Its shards.
    pub shards: usize,
    /// Shards for which nobody can take over.
    pub stuck: usize,
    /// Its nodes.
    pub nodes: usize,
    /// Nodes that are down.
    pub down: usize,
    /// Moves of slots that are not over.
    pub moves: usize,
}
