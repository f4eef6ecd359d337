//! Whose answer it is: what another node says at a node's address, or one whose data belongs to
//! another cluster, counts for nothing but the alarm.
//!
//! Folders of data are swapped by hand, copied, mounted at the wrong host. What such a node holds
//! (epochs, versions, positions) is no evidence of what this node, or this store, has lost.

use api::heartbeat::Reply;

use crate::plan::Context;
use crate::{Node, Plan, Record};

/// The answer is another node's, or another cluster's. A node that has no id yet, or does not know
/// its cluster, is none.
pub fn is_stranger(record: &Record, id: &str, reply: &Reply) -> bool {
    let is_other_node = !reply.myid.is_empty() && reply.myid != id;
    is_other_node || is_other_cluster(record, reply)
}

fn is_other_cluster(record: &Record, reply: &Reply) -> bool {
    let is_known = !record.cluster_id.is_empty() && reply.has_cluster();
    is_known && reply.cluster_id != record.cluster_id
}

/// Tells of every node at whose address somebody else answers, and what to do.
pub(crate) fn alarms(cx: &Context<'_>, plan: &mut Plan) {
    for (_, node) in cx.record.nodes() {
        let stranger = cx.answer(&node.id).filter(|reply| is_stranger(cx.record, &node.id, reply));
        if let Some(reply) = stranger {
            plan.alarms.insert(told(cx.record, node, reply));
        }
    }
}

fn told(record: &Record, node: &Node, reply: &Reply) -> String {
    let Node { local, id, .. } = node;
    let said = &reply.myid;
    let remedy = match record.node(said) {
        _ if is_other_cluster(record, reply) => format!(
            "{local} runs on a data folder of cluster {} (node {said}), this is cluster {}; give it \
             the folder of node {id}, or delete that node from this cluster",
            reply.cluster_id, record.cluster_id
        ),
        Some(other) => format!(
            "{local} answers as node {said}, not {id}: it runs on the data folder of {}; stop \
             both, give each its own folder, and start them again",
            other.local
        ),
        None => format!(
            "{local} answers as node {said}, not {id}: it runs on the data folder of a node that is \
             not of this cluster; give it the folder of {id}, or delete that node from this cluster"
        ),
    };
    format!("{remedy}: until then, what it says counts for nothing")
}

/// The name of the cluster, once a node can keep one: that which most of its nodes have already,
/// else a new one.
pub(crate) fn name(cx: &Context<'_>) -> Option<String> {
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
