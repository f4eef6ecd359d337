//! Whether a replica may be taken out of its shard: not one that may be all that is left of what
//! was acknowledged, while its master does not serve.
//!
//! A node that was taken out is no member of anything any more, and comes back on an empty folder
//! only.

use crate::context::{Context, Health};
use crate::epoch;
use crate::{Node, Observed, Policy, Record, ShardState, Time};

/// What stands against taking a node out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// Nothing.
    Fine,
    /// Whether the master serves, or the node answers, is about to be known.
    Unclear,
    /// The node may be needed, and why.
    Refused(String),
}

/// Looks at a node; `states` are those of the newest plan's shards.
pub fn removal(
    record: &Record,
    observed: &Observed,
    (policy, now): (&Policy, Time),
    id: &str,
    states: &[ShardState],
) -> Removal {
    let cx = Context::new(record, observed, policy, now);
    // What is not there, and that a master stays, is said elsewhere.
    let Some((index, node)) = record.nodes().find(|(_, node)| node.id == id) else {
        return Removal::Fine;
    };
    let shard = &record.shards[index];
    let Some(master) = shard.master().filter(|master| master.id != id) else {
        return Removal::Fine;
    };
    let is_of = |holder: &Node| holder.id == id;
    let mut members = shard.epoch.in_sync.iter();
    let is_member = members.any(|member| epoch::node_of(shard, member).is_some_and(is_of));
    let is_heard = cx.answer(id).is_some();
    // A silent one, or another node in its place, is asked for nothing any more.
    if !is_member && (cx.is_mute(id) || (is_heard && cx.reply(id).is_none())) {
        return Removal::Fine;
    }
    let is_out = matches!(states.get(index), Some(ShardState::Stuck(_) | ShardState::Fencing(_)));
    match cx.health(&master.id) {
        Health::Up if !is_out => return Removal::Fine,
        Health::Suspect | Health::Unknown if !is_out => return Removal::Unclear,
        _ if !is_heard && !is_member => return Removal::Unclear,
        _ => {}
    }
    Removal::Refused(format!(
        "master {} of shard {index} does not serve, and {} may hold what nobody else has: let it take over, or bring \
         the master back; if what was acknowledged is lost, accept that first (`ctl shard accept-loss`)",
        master.local, node.local
    ))
}
