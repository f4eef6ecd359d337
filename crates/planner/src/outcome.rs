//! What a plan consists of: actions, leases and grants, alarms, and what each shard is doing.
//!
//! Values only. [`crate::plan()`] makes them; [`crate::verdict`] says which decision adds what.

use std::collections::{BTreeMap, BTreeSet};

use api::grant::Grant;
use api::moves::wish::Told;
use api::moves::{MoveId, Ordered};

use crate::moves::Moved;
use crate::{Desired, Record, Time};

/// Something to be done now. Executing one twice, or not at all, does no harm: the next plan is
/// made from what is then seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask the node at once instead of at the next interval.
    HeartbeatNow {
        /// Node id.
        node: String,
    },
    /// Send its heartbeat through a replica that sees it.
    Relay {
        /// The master.
        node: String,
        /// The replica.
        via: String,
    },
    /// SETNODEID and SETNODES of the record's topology.
    Push {
        /// Node id.
        node: String,
        /// Why.
        reason: String,
    },
    /// Tell every balancer.
    ApplyBalancers(Desired),
    /// Replace the record, if its revision is still that of the plan.
    CompareAndSwap {
        /// The new record; its revision is one more.
        record: Box<Record>,
        /// Why.
        reason: String,
    },
    /// CLIENT PAUSE … WRITE.
    Pause {
        /// Node id.
        node: String,
        /// Bound of the pause, ms.
        for_ms: u64,
        /// For which intent.
        intent: String,
    },
    /// CLIENT UNPAUSE.
    Unpause {
        /// Node id.
        node: String,
        /// Why.
        reason: String,
    },
}

/// What a shard is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardState {
    /// The master serves.
    Steady,
    /// A new master or topology is being spread.
    Settling(String),
    /// The master missed heartbeats.
    Suspect(String),
    /// The master is down and not yet fenced.
    Fencing(String),
    /// The master is down and nobody can take over.
    Stuck(String),
    /// A planned switchover is under way.
    Switchover(String),
}

impl ShardState {
    /// Every word of [`ShardState::word`].
    pub const WORDS: [&str; 6] =
        ["steady", "settling", "suspect", "fencing", "stuck", "switchover"];

    /// One word, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Steady => Self::WORDS[0],
            Self::Settling(_) => Self::WORDS[1],
            Self::Suspect(_) => Self::WORDS[2],
            Self::Fencing(_) => Self::WORDS[3],
            Self::Stuck(_) => Self::WORDS[4],
            Self::Switchover(_) => Self::WORDS[5],
        }
    }

    /// The rest, for people.
    pub fn detail(&self) -> &str {
        match self {
            Self::Steady => "",
            Self::Settling(text)
            | Self::Suspect(text)
            | Self::Fencing(text)
            | Self::Stuck(text)
            | Self::Switchover(text) => text,
        }
    }
}

/// The outcome of [`crate::plan()`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What to do now, independent of each other; at most one compare-and-swap.
    pub actions: Vec<Action>,
    /// Nodes that are asked by one of them.
    pub(crate) asked: BTreeSet<String>,
    /// Nodes whose heartbeats carry a lease from now on; no others do.
    pub leases: BTreeSet<String>,
    /// Length of those leases, ms.
    pub lease_ms: u64,
    /// What heartbeats to those nodes grant besides, by node id.
    pub grants: BTreeMap<String, Grant>,
    /// What heartbeats to those nodes order for slots that move, by node id.
    pub orders: BTreeMap<String, Vec<Ordered>>,
    /// What heartbeats to those nodes say of what was wished there, by node id.
    pub told: BTreeMap<String, Vec<Told>>,
    /// Where the moves are that are queued or under way.
    pub moves: BTreeMap<MoveId, Moved>,
    /// Plan again no later than this, even if nothing happens.
    pub wake_at: Option<Time>,
    /// What a person should know, as long as it lasts.
    pub alarms: BTreeSet<String>,
    /// By shard.
    pub shards: Vec<ShardState>,
    /// Why this controller does nothing, because another one may lead; nor are balancers told again
    /// what they were told before.
    pub stands_back: Option<String>,
}

impl Plan {
    /// The node is asked at once, be it twice.
    pub(crate) fn asks(&mut self, node: &str) {
        self.asked.insert(node.to_owned());
        self.actions.push(Action::HeartbeatNow { node: node.to_owned() });
    }

    /// Plan again no later than `at`, on the controller's clock.
    pub(crate) fn wake(&mut self, at: Time) {
        self.wake_at = Some(self.wake_at.map_or(at, |old| old.min(at)));
    }
}
