//! What the balancers should have in force.
//!
//! One frontend per announced endpoint. It leads to the node that holds the endpoint once that
//! node is known to play its role at the record's version; until then it keeps what it has, unless
//! that is another node.

use std::collections::{BTreeMap, BTreeSet};

use api::balancer::{Backend, Frontend};
use topology::Endpoint;

use crate::Node;
use crate::plan::{Context, Health};

/// The frontends wanted now, or `None` while too little is known to say.
///
/// `closed` are nodes nobody may reach.
pub(crate) fn wanted(cx: &Context<'_>, closed: &BTreeSet<&str>) -> Option<Vec<Frontend>> {
    let mut holders: BTreeMap<&Endpoint, Vec<&Node>> = BTreeMap::new();
    for (_, node) in cx.record.nodes() {
        if let Some(endpoint) = &node.announced {
            holders.entry(endpoint).or_default().push(node);
        }
    }
    // A restarted controller must not close what works before it has asked.
    let unknown = |node: &&Node| cx.health(&node.id) == Health::Unknown;
    if cx.observed.desired.is_none() && holders.values().flatten().any(unknown) {
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
