//! What the balancers should have in force.
//!
//! One frontend per announced endpoint. It leads to the node that holds the endpoint once that
//! node is known to play its role at the record's version; until then it keeps what it has, unless
//! that is another node.

use std::collections::{BTreeMap, BTreeSet};

use api::balancer::{Backend, Frontend};
use api::heartbeat::Role as Does;
use topology::Endpoint;

use crate::plan::{Context, Health};
use crate::{Node, Plan, Role};

/// The frontends wanted now, or `None` while too little is known to say.
///
/// `closed` are nodes nobody may reach.
pub(crate) fn wanted(
    cx: &Context<'_>,
    closed: &BTreeSet<&str>,
    plan: &mut Plan,
) -> Option<Vec<Frontend>> {
    let mut holders: BTreeMap<&Endpoint, Vec<&Node>> = BTreeMap::new();
    for (_, node) in cx.record.nodes() {
        if let Some(endpoint) = &node.announced {
            holders.entry(endpoint).or_default().push(node);
        }
    }
    // A restarted controller must not close what works before it has asked, nor before masters
    // whose leases ran out meanwhile have new ones: that would cut every session for nothing.
    let unknown = |node: &&Node| cx.health(&node.id) == Health::Unknown;
    let renewed = |node: &&Node| lacks_only_a_lease(cx, node);
    let patience = cx.observed.started_at.plus_millis(cx.policy.settle_ms);
    // Somebody to be fenced does not wait.
    let waits = closed.is_empty() && cx.now < patience;
    if cx.observed.desired.is_none()
        && holders.values().flatten().any(|node| unknown(node) || (waits && renewed(node)))
    {
        plan.wake(patience);
        return None;
    }
    let frontends = holders
        .into_iter()
        .map(|(endpoint, nodes)| Frontend {
            listen: endpoint.clone(),
            backend: backend(cx, closed, endpoint, &nodes),
        })
        .collect();
    Some(frontends)
}

fn lacks_only_a_lease(cx: &Context<'_>, node: &Node) -> bool {
    let current = cx
        .reply(&node.id)
        .is_some_and(|reply| reply.version == cx.record.version && reply.role == Does::Master);
    let is_up = cx.health(&node.id) == Health::Up;
    node.role == Role::Master && is_up && current && !cx.settled(node)
}

fn backend(
    cx: &Context<'_>,
    closed: &BTreeSet<&str>,
    endpoint: &Endpoint,
    holders: &[&Node],
) -> Option<Backend> {
    let mut open = holders.iter().filter(|node| !closed.contains(node.id.as_str()));
    let kept = cx
        .observed
        .desired
        .iter()
        .flat_map(|desired| &desired.frontends)
        .find(|frontend| frontend.listen == *endpoint)
        .and_then(|frontend| frontend.backend.as_ref());
    if let Some(kept) = kept
        && open.clone().any(|node| node.id == kept.node && target(node) == *kept)
        // Several replicas may share an endpoint: a dead one gives way to a confirmed one.
        && (holders.len() == 1 || cx.health(&kept.node) != Health::Down)
    {
        return Some(kept.clone());
    }
    open.find(|node| cx.settled(node)).map(|node| target(node))
}

fn target(node: &Node) -> Backend {
    Backend { node: node.id.clone(), host: node.local.host.clone(), port: node.local.port }
}
