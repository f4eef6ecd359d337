//! What is decided about one shard, and which of a decision's two outputs takes what.
//!
//! The returned [`Verdict`] takes what a shard can have only one of: what it is doing, whether its
//! master is granted a lease, which nodes are kept from serving, emptied of sessions or not yet
//! told of the topology, and the change of the record. Decisions about a shard write none of that
//! into the plan: [`crate::plan()`] makes leases, grants, pushes, the demand on the balancers and
//! at most one compare-and-swap from all verdicts.
//!
//! The `&mut Plan` takes what adds up, and stays true whatever else is decided: questions to nodes,
//! pauses and their ends (`actions`), what a person should know (`alarms`), and when to look again
//! (`wake_at`). E.g. for a master that misses heartbeats an action asks it through a replica, and
//! the verdict of the same plan calls it suspect.
//!
//! `None` in place of a verdict leaves the shard to the next decision; what was added to the plan
//! stays.

use crate::draft::Draft;
use crate::{Node, ShardState};

/// The decision about one shard.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    /// Heartbeats to the record's master carry a lease.
    pub(crate) grant: bool,
    /// A node no balancer may lead to.
    pub(crate) closed: Option<String>,
    /// The record's master is not to be told of the topology yet.
    pub(crate) hold_master: bool,
    /// A predecessor that is not fenced is not to be told of the topology any more.
    pub(crate) hold_deposed: bool,
    /// Nodes whose sessions are taken back by the balancers that can, to go on elsewhere.
    pub(crate) moving: Vec<String>,
    /// What the shard is to be in the record and why.
    pub(crate) swap: Option<(Draft, String)>,
    /// What the shard is doing.
    pub(crate) state: ShardState,
}

impl Verdict {
    /// The record's master is granted a lease, and nobody is kept from anything.
    pub(crate) fn serving(state: ShardState) -> Self {
        Self {
            grant: true,
            closed: None,
            hold_master: false,
            hold_deposed: false,
            moving: Vec::new(),
            swap: None,
            state,
        }
    }

    /// Nobody is granted anything.
    pub(crate) fn waiting(state: ShardState) -> Self {
        Self { grant: false, ..Self::serving(state) }
    }

    /// `node` is kept from serving.
    pub(crate) fn fencing(node: &Node, state: ShardState) -> Self {
        Self {
            grant: false,
            closed: Some(node.id.clone()),
            hold_master: true,
            ..Self::serving(state)
        }
    }
}
