//! Whether nodes and load balancers know each other, looked at from both sides: where a balancer
//! dials from and what nodes list, what nodes refuse and who is listed here.
//!
//! Nothing is decided by this. A node ends what comes from an address that it does not list, so a
//! mistake here is an outage for the clients of one balancer, and nobody else notices: it is told.
//! An alarm's text names no number that changes while it lasts.

use std::collections::BTreeMap;

use api::heartbeat::ClientAccess;
use topology::Endpoint;

use crate::context::Context;
use crate::fence::{covers, network, stated};
use crate::{Balancer, BalancerObserved, Node, Observed, Plan, Record, Shard, Stated};

/// For so long after the last refused connection an alarm tells of it, ms.
const LATELY_MS: u64 = 60_000;

/// Adds the alarms.
pub(crate) fn tell(cx: &Context<'_>, plan: &mut Plan) {
    let nodes: Vec<(&Node, Stated)> = (cx.record.nodes())
        .filter_map(|(_, node)| Some((node, stated(cx.record, node, cx.observed)?)))
        .collect();
    no_door(cx, &nodes, plan);
    for balancer in cx.record.balancers.iter().filter(|balancer| !balancer.closing) {
        let nothing = BalancerObserved::default();
        let seen = cx.observed.balancers.get(&balancer.name).unwrap_or(&nothing);
        unlisted(balancer, seen, &nodes, plan);
        misregistered(balancer, seen, plan);
        headers(balancer, seen, &nodes, plan);
    }
    refused(cx, plan);
    hidden(cx, plan);
    shared(cx, plan);
}

/// Clients are let in by balancers only, and there is none.
fn no_door(cx: &Context<'_>, nodes: &[(&Node, Stated)], plan: &mut Plan) {
    if !cx.record.balancers.is_empty() {
        return;
    }
    let closed: Vec<&Node> = (nodes.iter())
        .filter(|(_, stated)| stated.client_access() == ClientAccess::BalancerOnly)
        .map(|(node, _)| *node)
        .collect();
    if !closed.is_empty() {
        plan.alarms.insert(format!(
            "no load balancer is listed, and {} take clients only through one (`client-access balancer-only`): \
             no client can come. Add one: `holdfast ctl balancer add`",
            addresses(&closed)
        ));
    }
}

/// Whether no client reaches a master: it takes them from balancers only, and has no announced
/// endpoint at which these could lead to it.
pub(crate) fn is_hidden(record: &Record, observed: &Observed, master: &Node) -> bool {
    master.announced.is_none()
        && !record.balancers.is_empty()
        && stated(record, master, observed)
            .is_some_and(|stated| stated.client_access() == ClientAccess::BalancerOnly)
}

/// Whether clients would reach slots no more if the node had no announced endpoint.
pub fn needs_endpoint(record: &Record, observed: &Observed, id: &str) -> bool {
    let masters = record.shards.iter().filter(|shard| !shard.slot_ranges.is_empty());
    let master = masters.filter_map(Shard::master).find(|master| master.id == id);
    master.is_some_and(|master| {
        let without = Node { announced: None, ..master.clone() };
        is_hidden(record, observed, &without)
    })
}

/// Slots whose master is shown to nobody, and moves that wait because it is.
fn hidden(cx: &Context<'_>, plan: &mut Plan) {
    for (index, shard) in cx.record.shards.iter().enumerate() {
        let Some(master) = shard.master() else { continue };
        if !is_hidden(cx.record, cx.observed, master) {
            continue;
        }
        let is_taker = cx.record.moves.list.iter().any(|one| one.to == shard.id);
        let what = match (shard.slot_ranges.is_empty(), is_taker) {
            (false, _) => "its slots are served to nobody",
            (true, true) => "it gets no slots before it has one",
            (true, false) => continue,
        };
        plan.alarms.insert(format!(
            "shard {index}: master {0} has no announced endpoint, and clients reach nothing else: {what}. \
             Announce it: `holdfast ctl node announce {0} HOST:PORT`",
            master.local
        ));
    }
}

/// Two nodes announced at one address: nothing makes that any more, but a record or an imported
/// topology may have it.
fn shared(cx: &Context<'_>, plan: &mut Plan) {
    let mut at: BTreeMap<(String, u16), Vec<&Node>> = BTreeMap::new();
    for (_, node) in cx.record.nodes() {
        for endpoint in node.announced_addresses() {
            at.entry(topology::announced::address_key(&endpoint)).or_default().push(node);
        }
    }
    for ((host, port), nodes) in at.into_iter().filter(|(_, nodes)| nodes.len() > 1) {
        let endpoint = Endpoint { host, port };
        plan.alarms.insert(format!(
            "{} are all announced at {endpoint}, and clients take them for one node: announce each elsewhere, or not at all: \
             `holdfast ctl node announce ID HOST:PORT`",
            addresses(&nodes)
        ));
    }
}

/// Whether an address or network of `balancer` has nothing to do with what the node lists. A
/// network that is wider than the node's is no contradiction: it may dial from the part that is
/// listed.
fn is_foreign(source: &str, stated: &Stated) -> bool {
    let Some(source) = network(source) else { return false };
    let listed = stated.balancer_sources.iter().filter_map(|text| network(text));
    !listed.into_iter().any(|listed| listed.contains(&source) || source.contains(&listed))
}

/// Nodes that do not list where the balancer dials from, by what is registered and by what it says
/// itself.
fn unlisted(
    balancer: &Balancer,
    seen: &BalancerObserved,
    nodes: &[(&Node, Stated)],
    plan: &mut Plan,
) {
    // Without a header it is a client like any other, and must not be listed.
    if seen.sends_header == Some(false) {
        return;
    }
    let mut missing: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    for (node, stated) in nodes {
        // Behind a translation of addresses its own view is not the node's; an answer to its PING
        // proves that the node knows it.
        let is_up = seen.reach.get(&node.id).is_some_and(|reach| reach.is_up);
        let dials = seen.dials.get(&node.id).filter(|_| !is_up);
        let sources = balancer.sources.iter().chain(&seen.source).chain(dials);
        for source in sources.filter(|source| is_foreign(source, stated)) {
            let nodes = missing.entry(source).or_default();
            // It may have come by another of its sources, just before.
            if nodes.last().is_none_or(|known| known.id != node.id) {
                nodes.push(node);
            }
        }
    }
    for (source, nodes) in missing {
        plan.alarms.insert(format!(
            "balancer {} dials from {source}, which is not in the `balancer-sources` of {}: what comes through it is refused there. \
             Add it to their node.conf and restart them one after the other, or correct the balancer (its `bind_source` or `source`, \
             and `source` here)",
            balancer.name,
            addresses(&nodes)
        ));
    }
}

/// It says that it dials from elsewhere than is registered: nodes that list it are then fenced by a
/// cut of somebody else.
fn misregistered(balancer: &Balancer, seen: &BalancerObserved, plan: &mut Plan) {
    let unreached = |node: &str| !seen.reach.get(node).is_some_and(|reach| reach.is_up);
    let dials = seen.dials.iter().filter(|(node, _)| unreached(node)).map(|(_, from)| from);
    let said = seen.source.as_ref().or_else(|| dials.into_iter().next());
    let Some(said) = said.filter(|said| !covers(&balancer.sources, said)) else { return };
    let registered = match balancer.sources.as_slice() {
        [] => "without a source".to_owned(),
        sources => format!("with source {}", sources.join(",")),
    };
    plan.alarms.insert(format!(
        "balancer {} says that it dials from {said}, and is registered {registered}: remove it and add it again with `--source {said}`, \
         or correct its `bind_source`",
        balancer.name
    ));
}

/// A node wants a header from whoever it lists.
fn headers(
    balancer: &Balancer,
    seen: &BalancerObserved,
    nodes: &[(&Node, Stated)],
    plan: &mut Plan,
) {
    if seen.sends_header != Some(false) {
        return;
    }
    let sources = || balancer.sources.iter().chain(&seen.source).chain(seen.dials.values());
    let lists = |stated: &Stated| sources().any(|source| !is_foreign(source, stated));
    let wanting: Vec<&Node> = (nodes.iter())
        .filter(|(_, stated)| stated.client_access() == ClientAccess::BalancerOnly || lists(stated))
        .map(|(node, _)| *node)
        .collect();
    if !wanting.is_empty() {
        plan.alarms.insert(format!(
            "balancer {} sends no PROXY header (`send_proxy = false`), without which {} take nothing from it: set `send_proxy = true`",
            balancer.name,
            addresses(&wanting)
        ));
    }
}

/// What nodes refuse: the only sight of balancers that are not listed here, and of kinds that do
/// not tell where they dial from.
fn refused(cx: &Context<'_>, plan: &mut Plan) {
    let mut strangers: BTreeMap<std::net::IpAddr, Vec<&Node>> = BTreeMap::new();
    for (_, node) in cx.record.nodes() {
        let Some(reply) = cx.reply(&node.id) else { continue };
        for stranger in reply.strangers.iter().filter(|stranger| stranger.age_ms < LATELY_MS) {
            strangers.entry(stranger.address).or_default().push(node);
        }
    }
    for (address, nodes) in strangers {
        let dials_from = |balancer: &&Balancer| {
            let seen = cx.observed.balancers.get(&balancer.name);
            let own = seen.map(|seen| seen.source.iter().chain(seen.dials.values()));
            (balancer.sources.iter().chain(own.into_iter().flatten()))
                .any(|source| covers(std::slice::from_ref(source), &address.to_string()))
        };
        let whose = match cx.record.balancers.iter().find(dials_from) {
            Some(balancer) => format!("it is balancer {}'s: add it there", balancer.name),
            None => "no listed balancer is known to dial from it: one that dials from another address than its `source`, \
                     or one that is not listed"
                .to_owned(),
        };
        plan.alarms.insert(format!(
            "a load balancer at {address} is refused by {}, where `balancer-sources` do not list it ({whose}): its clients are not served",
            addresses(&nodes)
        ));
    }
}

fn addresses(nodes: &[&Node]) -> String {
    nodes.iter().map(|node| node.local.to_string()).collect::<Vec<_>>().join(", ")
}
