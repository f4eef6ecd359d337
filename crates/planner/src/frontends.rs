//! What the balancers should have in force.
//!
//! One frontend per announced endpoint, and one per port of TLS beside it. It leads to the node
//! that holds the endpoint once that node is known to play its role at the record's version; until
//! then it keeps what it has, unless that is another node. All lead to the port that takes both
//! kinds: whether TLS ends at a frontend, only its balancer knows.
//!
//! In a planned switchover the frontends of both nodes hold: sessions leave their nodes and wait
//! with new connections until the new backend is settled, or [`HOLD_MS`] are over. The same for a
//! replica whose process is about to end: another one at its endpoint takes its sessions, or they
//! wait for its return, and longer once it is seen to open its database.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use api::balancer::{Backend, Frontend, GIVE_BACK_MS, HOLD_MAX_MS, HOLD_MS};
use api::heartbeat::{Resync, Role as Does};
use topology::Endpoint;

use crate::context::{Context, Health};
use crate::{BalancerKind, Node, Plan, Role, Time};

/// The frontends wanted now, or `None` while too little is known to say.
///
/// `closed` are nodes nobody may reach, `moving` those whose sessions leave them now.
pub(crate) fn wanted(
    cx: &Context<'_>,
    closed: &BTreeSet<&str>,
    moving: &BTreeSet<&str>,
    plan: &mut Plan,
) -> Option<Vec<Frontend>> {
    let mut holders: BTreeMap<Cow<'_, Endpoint>, Vec<&Node>> = BTreeMap::new();
    for (_, node) in cx.record.nodes() {
        for endpoint in node.announced_addresses() {
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
    let can_hold = can_hold(cx);
    let demanded = demanded(cx);
    let frontends = holders
        .into_iter()
        .map(|(endpoint, nodes)| {
            let until = hold_until(cx, &endpoint, &nodes);
            if let Some(until) = until {
                plan.wake(until);
            }
            let may_hold = can_hold && until.is_none_or(|until| cx.now < until);
            let kept = demanded.get(&*endpoint).copied();
            let is_held = kept.is_some_and(|kept| kept.hold);
            let leads = kept.and_then(|kept| kept.backend.as_ref()).map(|at| at.node.as_str());
            let mut leaves = leads.is_some_and(|node| moving.contains(node))
                || (is_held && nodes.iter().any(|node| moving.contains(node.id.as_str())));
            for node in nodes.iter().filter(|node| is_leaving(cx, node)) {
                let until = is_held.then(|| given_back_by(cx, &node.id)).flatten();
                until.into_iter().for_each(|until| plan.wake(until));
                leaves |= until.is_some() || leads == Some(node.id.as_str());
            }
            let backend = match may_hold && leaves {
                true => None,
                false => backend(cx, closed, kept, &nodes),
            };
            let is_awaited = may_hold && is_held;
            let backend = backend.filter(|at| !is_awaited || has_data(cx, &at.node));
            let hold = may_hold && backend.is_none() && (leaves || is_held);
            if is_awaited && hold {
                for node in nodes.iter().filter(|node| cx.health(&node.id) == Health::Up) {
                    cx.ask(&node.id, plan);
                }
            }
            Frontend { listen: endpoint.into_owned(), backend, hold }
        })
        .collect();
    Some(frontends)
}

/// Its process is about to end. A master's endpoint goes where its role goes, not before.
fn is_leaving(cx: &Context<'_>, node: &Node) -> bool {
    node.role == Role::Slave && cx.reply(&node.id).is_some_and(|reply| reply.stopping)
}

/// A former master refuses even reads until its data was compared with its successor's. A client
/// that is held can wait for that.
fn has_data(cx: &Context<'_>, id: &str) -> bool {
    cx.reply(id).is_none_or(|reply| reply.resync == Resync::None)
}

/// What balancers were told last of each endpoint.
fn demanded<'a>(cx: &Context<'a>) -> BTreeMap<&'a Endpoint, &'a Frontend> {
    let frontends = cx.observed.desired.iter().flat_map(|desired| &desired.frontends);
    frontends.map(|frontend| (&frontend.listen, frontend)).collect()
}

/// Others would only be closed earlier than necessary.
fn can_hold(cx: &Context<'_>) -> bool {
    cx.record.balancers.iter().any(|balancer| balancer.kind == BalancerKind::Builtin)
}

/// When balancers hold no longer; `None` while none was told to.
fn hold_until(cx: &Context<'_>, endpoint: &Endpoint, holders: &[&Node]) -> Option<Time> {
    let since = cx.observed.desired.as_ref()?.holding.get(endpoint)?;
    let is_opening = holders.iter().any(|node| is_opening(cx, node));
    Some(since.plus_millis(if is_opening { HOLD_MAX_MS } else { HOLD_MS }))
}

/// The process that was told to end has a successor: connections are taken, and not answered. A
/// node does so from before it opens its database until it serves; one that is gone refuses them.
fn is_opening(cx: &Context<'_>, node: &Node) -> bool {
    let observed = cx.observed.node(&node.id);
    let is_refusing =
        observed.refused_at.is_some_and(|at| cx.now < at.plus_millis(cx.policy.down_ms()));
    is_leaving(cx, node) && observed.misses > 0 && !is_refusing
}

/// Until when a node that is deposed waits for its sessions to be taken back from it: `None` once
/// every balancer that holds says that they are, or has had its time.
pub(crate) fn given_back_by(cx: &Context<'_>, id: &str) -> Option<Time> {
    let desired = cx.observed.desired.as_ref()?;
    let until = desired.holding.values().max()?.plus_millis(GIVE_BACK_MS);
    let waits = cx.record.balancers.iter().filter(|b| b.kind == BalancerKind::Builtin).any(|b| {
        let seen = cx.observed.balancers.get(&b.name);
        if seen.and_then(|seen| seen.reach.get(id)).is_some_and(|reach| !reach.is_up) {
            // What it does not reach gives it nothing back.
            return false;
        }
        let answer = seen.and_then(|seen| seen.in_force.as_ref());
        answer.is_none_or(|answer| {
            answer.version != desired.version
                || answer.sessions.iter().any(|sessions| sessions.node == id)
        })
    });
    (waits && cx.now < until).then_some(until)
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
    kept: Option<&Frontend>,
    holders: &[&Node],
) -> Option<Backend> {
    let is_open = |node: &Node| !closed.contains(node.id.as_str()) && !is_leaving(cx, node);
    let mut open = holders.iter().filter(|node| is_open(node));
    let kept = kept.and_then(|frontend| frontend.backend.as_ref());
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
