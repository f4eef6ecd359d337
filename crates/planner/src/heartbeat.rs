//! What one heartbeat grants, decided at the moment it leaves.
//!
//! Invariant: no lease outlasts what is written down as its end, and none is granted without
//! authority (rule O2).

use api::grant::Grant;
use api::heartbeat::Role as Does;

use crate::{NodeObserved, Observed, Plan, Policy, Record, Seen, Shard, Time, is_stranger};

/// The granting part of a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Length of the lease, ms, counted from `clock_ns` on the node's clock.
    pub lease_ms: u64,
    /// The node's own stamp.
    pub clock_ns: u64,
    /// The process that stamp is from.
    pub nonce: String,
    /// When the lease is over for certain, on the controller's clock: to be written down before
    /// the heartbeat leaves.
    pub end: Time,
    /// The epoch, if this process is the one it was opened for.
    pub grant: Option<Grant>,
}

/// What a heartbeat to `id` of `shard` of `record` grants under `plan`; `None`: it only asks.
///
/// It costs the same however many nodes the record has.
pub fn granted(
    plan: &Plan,
    record: &Record,
    shard: &Shard,
    observed: &Observed,
    policy: &Policy,
    id: &str,
) -> Option<Granted> {
    let node = observed.node(id);
    let seen = node.seen.as_ref().filter(|_| plan.leases.contains(id))?;
    let is_own = seen.reply.myid == id && !is_stranger(record, id, &seen.reply);
    if seen.reply.nonce == "0" || !is_own || !is_granted_process(shard, seen) {
        return None;
    }
    if !observed.authority.acts() || !observed.authority.covers(seen.received_at) {
        return None;
    }
    let lease_ms = plan.lease_ms.max(1);
    let grant = plan.grants.get(id).filter(|_| takes_grants(record, node)).cloned();
    Some(Granted {
        lease_ms,
        clock_ns: seen.reply.clock_ns,
        nonce: seen.reply.nonce.clone(),
        end: policy.lease_end(seen.received_at, lease_ms),
        grant,
    })
}

/// The plan may be older than the answer: while it waits for the store, another process of the node
/// may have come up, and that one was granted nothing (rule R1).
fn is_granted_process(shard: &Shard, seen: &Seen) -> bool {
    if shard.node(&seen.reply.myid).is_none() {
        return false;
    }
    let knows_epochs = seen.reply.standing.incarnation.is_some();
    shard.epoch.is_none() || !knows_epochs || seen.reply.nonce == shard.epoch.nonce
}

/// A node takes a grant only while its topology makes it master, and refuses it otherwise.
fn takes_grants(record: &Record, node: &NodeObserved) -> bool {
    let is_told = node.pushed.is_some_and(|pushed| pushed.version >= record.version);
    is_told || node.seen.as_ref().is_some_and(|seen| seen.reply.role == Does::Master)
}
