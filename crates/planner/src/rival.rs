//! Another controller: one that leads the nodes with a higher term, or one whose store this one's
//! is a copy of.
//!
//! Terms keep two controllers of one store apart, and nodes refuse the lower one. A copied store
//! has terms of its own, and the copy's are higher as often as not. So a controller whose store was
//! moved asks the nodes first, without leading them by it: whom they hear of since it began is
//! alive. What it hears of a rival once it does not forget: its store is the old one then.
//!
//! Nodes that know stores by name refuse one that was left behind, and any other, whatever the term
//! (rule O7): its controller does nothing and says which two stores there are.

use api::store::{Heeds, Mismatch, Said};

use crate::context::Context;
use crate::{Guard, Led, Node, Observed, Plan, Record};

/// How long ago the other controller's last heartbeat may be for it to count as alive, ms.
const ALIVE_MS: u64 = 3_000;

/// What guards the cluster after what its nodes said; `None`: it may be led.
#[must_use]
pub fn guarded(record: &Record, observed: &Observed) -> Option<Guard> {
    let mut guard = observed.guard.clone()?;
    let said = || record.nodes().filter_map(|(_, node)| observed.node(&node.id).led);
    let is_alive = |led: &Led| led.heard_at.is_some_and(|at| at > guard.since);
    if let Some(led) = said().find(is_alive) {
        guard.rival.get_or_insert(led.term);
    }
    let quiet_at = guard.since.plus_millis(guard.quiet_ms);
    let quiet = said().filter(|led| led.at >= quiet_at).count();
    let is_over = guard.rival.is_none() && 2 * quiet > record.nodes().count();
    (!is_over).then_some(guard)
}

/// What is said of this controller's store to a node of the cluster that heeds that one; `None`:
/// nothing.
#[must_use]
pub fn said(record: &Record, observed: &Observed, heeds: Heeds) -> Option<Said> {
    let takes = record.instead_of.iter().chain(&observed.takes).copied();
    Said::to(observed.store?, takes, heeds)
}

/// Why a node that is led so refuses this controller for its store (rule O7).
fn mismatch(cx: &Context<'_>, led: &Led) -> Option<Mismatch> {
    let said = said(cx.record, cx.observed, Heeds::of(led.store))?;
    said.against(led.store).err()
}

/// Whether a node of the cluster takes heartbeats of this controller.
fn is_obeyed(cx: &Context<'_>) -> bool {
    let listens = |id: &str| cx.observed.node(id).led.is_none() && cx.is_heard(id);
    cx.record.nodes().any(|(_, node)| listens(&node.id))
}

fn names(others: &[(&Node, Led)]) -> String {
    let names: Vec<String> = others.iter().map(|(node, _)| node.local.to_string()).collect();
    names.join(", ")
}

/// Nodes are led from another store: what is told of it, and whether anything is done for the
/// others.
fn of_another_store(
    cx: &Context<'_>,
    plan: &mut Plan,
    others: &[(&Node, Led)],
    mismatch: Mismatch,
) -> Option<String> {
    let (known, own, names) = (mismatch.known.told(), mismatch.said.told(), names(others));
    let remedy = mismatch.remedy();
    if is_obeyed(cx) {
        plan.alarms.insert(format!(
            "{names} are led from {known}, the others from {own}, by this controller: {remedy}"
        ));
        return None;
    }
    plan.alarms.insert(format!(
        "{names} are led from {known}, this controller leads from {own}: it does nothing: {remedy}"
    ));
    Some(format!("the nodes are led from {known}"))
}

/// Why this controller does nothing; says it once for all nodes.
pub(crate) fn stands_back(cx: &Context<'_>, plan: &mut Plan) -> Option<String> {
    if let Some(guard) = &cx.observed.guard {
        let (what, then) = told(guard);
        plan.alarms.insert(then);
        return Some(what);
    }
    let own = cx.observed.term;
    let refuses = |led: &Led| led.term > own || mismatch(cx, led).is_some();
    let led = |id: &str| cx.observed.node(id).led.filter(|led| refuses(led));
    let nodes = cx.record.nodes().map(|(_, node)| node);
    let others: Vec<_> = nodes.filter_map(|node| Some((node, led(&node.id)?))).collect();
    let term = others.iter().map(|(_, led)| led.term).max()?;
    if let Some(mismatch) = others.iter().find_map(|(_, led)| mismatch(cx, led)) {
        return of_another_store(cx, plan, &others, mismatch);
    }
    let alive =
        |(_, led): &(_, Led)| led.heard_at.is_some_and(|at| led.at.millis_since(at) < ALIVE_MS);
    let is_alive = others.iter().any(alive);
    if is_obeyed(cx) {
        plan.alarms.insert(format!(
            "{} obey a controller of term {term}, the others this one of term {own}: stop the one that should not lead",
            names(&others)
        ));
        return None;
    }
    let (what, remedy) = match is_alive {
        true => (
            format!("the controller of term {term} leads"),
            "it does nothing: stop it, or, if it is the one that should lead, stop the other"
                .to_owned(),
        ),
        false => (
            format!("the nodes were led with term {term}"),
            format!(
                "they refuse it, and hear no other: set `min_term = {}` and start it again",
                term.saturating_add(1)
            ),
        ),
    };
    plan.alarms.insert(format!("{what}, this controller has term {own}: {remedy}"));
    Some(what)
}

fn told(guard: &Guard) -> (String, String) {
    let from = &guard.from;
    match guard.rival {
        Some(term) => (
            format!("the controller of term {term} leads"),
            format!(
                "the controller of term {term} leads, and the store of this one was copied or moved from {from}: it does nothing. \
                 Stop it, or, if it is the one that should lead, stop the other and start it with --take-over"
            ),
        ),
        None => (
            "asking the nodes whether another controller leads".to_owned(),
            format!(
                "the store of this controller was copied or moved from {from}: it leads once most nodes say that they hear no other; \
                 if they cannot, stop the other and start this one with --take-over"
            ),
        ),
    }
}
