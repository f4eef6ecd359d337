//! Changes of the record that no shard asks for: versions above what nodes show, the cluster's
//! name, what a restart must find written down.

use std::collections::BTreeMap;

use api::heartbeat::Reply;

use crate::context::{Context, Health};
use crate::{Record, ShardId, Stated};

/// A node may know a version this store never gave, or give another meaning to the same one:
/// its topology is never adopted, ours gets a higher version. So does one that knows ports of TLS
/// since it was restarted, and was sent the topology without them before.
///
/// Nothing would be above a version that is not believed: that is an alarm and no more.
pub(crate) fn raise_version(cx: &Context<'_>) -> Option<(Record, String)> {
    let (node, reply) = cx.record.nodes().find_map(|(_, node)| {
        let reply = cx.reply(&node.id)?;
        let other =
            reply.version == cx.record.version && reply.topology_hash != cx.observed.hash_at(reply);
        let is_higher = reply.version > cx.record.version && cx.is_believed(reply.version);
        (is_higher || other).then_some((node, reply))
    })?;
    let lacks_ports = cx.observed.plain_hash.as_ref() == Some(&reply.topology_hash);
    let what = if reply.version > cx.record.version {
        format!("has a higher version ({}), not this controller's", reply.version)
    } else if reply.knows_tls_ports && lacks_ports {
        "knows ports of TLS, and has a topology without them".to_owned()
    } else {
        format!("has another topology ({}), not this controller's", reply.version)
    };
    let mut record = cx.record.next();
    record.version = cx.next_version();
    Some((record, format!("{} {what}", node.local)))
}

/// What the store must know before a restart makes it necessary; no new topology version.
pub(crate) fn bookkeeping(cx: &Context<'_>) -> Option<(Record, String)> {
    let statements = statements(cx);
    let name = cluster_name(cx);
    let is_longer = cx.policy.lease_ms > cx.record.longest_lease_ms;
    let is_unnamed = cx.record.shards.iter().any(|shard| shard.id.is_none());
    if statements.is_empty() && name.is_none() && !is_longer && !is_unnamed {
        // As ever: no record is copied for that.
        return None;
    }
    let mut record = cx.record.next();
    let mut reasons = Vec::new();
    if cx.policy.lease_ms > record.longest_lease_ms {
        record.longest_lease_ms = cx.policy.lease_ms;
        reasons.push(format!("leases may now last {} ms", cx.policy.lease_ms));
    }
    if let Some(cluster_id) = name {
        reasons.push(format!("the cluster is named {cluster_id}"));
        record.cluster_id = cluster_id;
    }
    for index in 0..record.shards.len() {
        if record.shards[index].id.is_none() {
            let id = shard_name(&record, cx.observed.fresh_id);
            reasons.push(format!("shard {index} is named {id}"));
            record.shards[index].id = id;
        }
    }
    for node in record.shards.iter_mut().flat_map(|shard| &mut shard.nodes) {
        if let Some(reply) = statements.get(node.id.as_str()) {
            node.stated = Some(Stated::of(reply));
            reasons.push(format!("{} stated how it is fenced", node.local));
        }
    }
    Some((record, reasons.join(", ")))
}

/// Answers of nodes that say otherwise than the record how they are fenced.
fn statements<'a>(cx: &Context<'a>) -> BTreeMap<&'a str, &'a Reply> {
    let answers = cx.record.nodes().filter_map(|(_, node)| {
        let reply = cx.reply(&node.id)?;
        let is_known = node.stated.as_ref().is_some_and(|stated| stated.is_of(reply));
        (!is_known && cx.health(&node.id) == Health::Up).then_some((node.id.as_str(), reply))
    });
    answers.collect()
}

/// A name that no shard has: the first of those that follow from `fresh`.
fn shard_name(record: &Record, fresh: u64) -> ShardId {
    let mut id = ShardId(fresh);
    while id.is_none() || record.place_of(id).is_some() {
        // Steps of an odd number go through all there are, and two random names are far apart.
        id = ShardId(id.0.wrapping_add(0x9e37_79b9_7f4a_7c15));
    }
    id
}

/// The name of the cluster, once a node can keep one: that which most of its nodes have already,
/// else a new one.
fn cluster_name(cx: &Context<'_>) -> Option<String> {
    if !cx.record.cluster_id.is_empty() {
        return None;
    }
    let replies = cx.record.nodes().filter_map(|(_, node)| {
        cx.reply(&node.id).filter(|reply| reply.myid == node.id && !reply.cluster_id.is_empty())
    });
    let replies: Vec<&Reply> = replies.collect();
    let votes = |id: &str| replies.iter().filter(|reply| reply.cluster_id == id).count();
    let named = replies.iter().filter(|reply| reply.has_cluster());
    let most = named.map(|reply| &reply.cluster_id).max_by_key(|id| (votes(id), (*id).clone()));
    let fresh = || format!("{:016x}", cx.observed.fresh_id);
    (!replies.is_empty()).then(|| most.cloned().unwrap_or_else(fresh))
}
