//! Whether a replica may be taken out of its shard: not one that may be all that is left of what
//! was acknowledged, while its master does not serve.
//!
//! A node that was taken out is no member of anything any more, and comes back on an empty folder
//! only.

use crate::context::{Context, Health};
use crate::epoch;
use crate::{Observed, Policy, Record, ShardState, Time};

/// What stands against taking a node out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// Nothing.
    Fine,
    /// Whether the master serves is about to be known.
    Unclear,
    /// The node may be needed, and why.
    Refused(String),
}

/// Looks at node `id` of shard `index`, whose state is that of the newest plan.
pub fn removal(
    record: &Record,
    observed: &Observed,
    (policy, now): (&Policy, Time),
    (index, id): (usize, &str),
    state: Option<&ShardState>,
) -> Removal {
    let cx = Context { record, observed, policy, now };
    // What is not there, and that a master stays, is said elsewhere.
    let Some(shard) = record.shards.get(index) else { return Removal::Fine };
    let (Some(master), Some(node)) = (shard.master(), shard.node(id)) else {
        return Removal::Fine;
    };
    if master.id == id {
        return Removal::Fine;
    }
    let is_out = matches!(state, Some(ShardState::Stuck(_) | ShardState::Fencing(_)));
    match cx.health(&master.id) {
        Health::Up if !is_out => return Removal::Fine,
        Health::Suspect | Health::Unknown if !is_out => return Removal::Unclear,
        _ => {}
    }
    let members = &shard.epoch.in_sync;
    let is_of = |holder: &crate::Node| holder.id == id;
    let is_member = epoch::by_set(shard)
        && members.iter().any(|member| epoch::node_of(shard, member).is_some_and(is_of));
    let answers = !cx.is_mute(id) && cx.reply(id).is_some();
    if !is_member && !answers {
        return Removal::Fine;
    }
    Removal::Refused(format!(
        "master {} of shard {index} does not serve, and {} may hold what nobody else has: let it take over, or bring \
         the master back; if what was acknowledged is lost, accept that first (`ctl shard accept-loss`)",
        master.local, node.local
    ))
}
