//! What balancers are told, and when one that is removed leaves the record.

use std::collections::BTreeSet;

use crate::context::Context;
use crate::{Action, Desired, Plan, Record, frontends};

/// Tells the balancers what they should have in force, where it is not what they were told.
pub(crate) fn tell(
    cx: &Context<'_>,
    closed: &BTreeSet<&str>,
    moving: &BTreeSet<&str>,
    plan: &mut Plan,
) {
    if cx.record.balancers.is_empty() {
        return;
    }
    for balancer in &cx.record.balancers {
        let seen = cx.observed.balancers.get(&balancer.name);
        if let Some(error) = seen.and_then(|seen| seen.error.as_ref()) {
            let what = if balancer.closing { " is to be removed and does not close" } else { "" };
            plan.alarms.insert(format!("balancer {}{what}: {error}", balancer.name));
        }
    }
    let Some(frontends) = frontends::wanted(cx, closed, moving, plan) else { return };
    let closing: BTreeSet<String> = (cx.record.balancers.iter())
        .filter(|balancer| balancer.closing)
        .map(|balancer| balancer.name.clone())
        .collect();
    let old = cx.observed.desired.as_ref();
    if old.is_some_and(|old| old.frontends == frontends && old.closing == closing) {
        return;
    }
    let version = old.map_or(cx.observed.desired_floor, |old| old.version) + 1;
    let since = |endpoint| old.and_then(|old| old.holding.get(endpoint).copied());
    let holding = frontends
        .iter()
        .filter(|frontend| frontend.hold)
        .map(|f| (f.listen.clone(), since(&f.listen).unwrap_or(cx.now)))
        .collect();
    plan.actions.push(Action::ApplyBalancers(Desired { version, frontends, holding, closing }));
}

/// A balancer that was told to close for good, and says that it has: no frontend of it leads
/// anywhere, no session is left.
pub(crate) fn removal(cx: &Context<'_>) -> Option<(Record, String)> {
    let desired = cx.observed.desired.as_ref()?;
    let is_closed = |name: &String| {
        let seen = cx.observed.balancers.get(name).filter(|seen| seen.error.is_none());
        seen.and_then(|seen| seen.in_force.as_ref()).is_some_and(|answer| {
            answer.version == desired.version
                && answer.frontends.iter().all(|frontend| frontend.backend.is_none())
                && answer.sessions.iter().all(|sessions| sessions.count == 0)
        })
    };
    let closing = cx.record.balancers.iter().filter(|balancer| balancer.closing);
    let told = closing.filter(|balancer| desired.closing.contains(&balancer.name));
    let name = told.map(|balancer| &balancer.name).find(|name| is_closed(name))?;
    let mut record = cx.record.next();
    record.balancers.retain(|balancer| balancer.name != *name);
    Some((record, format!("balancer {name} is closed, and removed")))
}
