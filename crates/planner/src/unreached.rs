//! A master that answers the controller and not its balancers: clients cannot reach it, however
//! well it is.
//!
//! It is alive, so nothing needs a fence in a hurry: a planned switchover to a replica that every
//! balancer reaches does all that is needed. Where none is, nothing is gained by moving.

use crate::context::{Case, Context};
use crate::verdict::Verdict;
use crate::{Node, Plan, Time, candidate, unasked};

/// Begins the names of switchovers that nobody asked for.
const PREFIX: &str = "unreached-";
/// After one that failed, ms: what did not help is not done again at once.
const AGAIN_MS: u64 = 10_000;
/// After one that succeeded, ms: nodes that are all reached now and then do not take turns faster.
const TURN_MS: u64 = 2_000;

/// The switchover that is needed, if one is; an alarm as long as a balancer misses the master.
pub(crate) fn decide(cx: &Context<'_>, case: Case<'_>, plan: &mut Plan) -> Option<Verdict> {
    let Case { index, shard, master } = case;
    let (since, missing) = missing(cx, master)?;
    // Half of what makes a node down: the balancer has waited as long before it said so.
    let due = since.plus_millis(cx.policy.down_ms() / 2);
    if cx.now < due {
        plan.wake(due);
        return None;
    }
    let reaches = |node: &Node| {
        cx.record.balancers.iter().filter(|balancer| !balancer.closing).all(|balancer| {
            let seen = cx.observed.balancers.get(&balancer.name);
            seen.and_then(|seen| seen.reach.get(&node.id)).is_some_and(|reach| reach.is_up)
        })
    };
    let what =
        format!("shard {index}: master {} is not reached by {}", master.local, missing.join(", "));
    let candidates = candidate::for_switchover(cx, shard, master);
    let Some(chosen) = candidates.iter().find(|c| unasked::follows(cx, c.node) && reaches(c.node))
    else {
        plan.alarms.insert(format!(
            "{what}, and no replica that could take over is known to be reached by all of them"
        ));
        return None;
    };
    plan.alarms.insert(what.clone());
    let rest_ms = match unasked::last_failed(shard, PREFIX) {
        Some(true) => AGAIN_MS,
        Some(false) => TURN_MS,
        None => 0,
    };
    // What ended before this controller began ended then at the latest.
    let ended = cx.observed.concluded.get(&index).copied().unwrap_or(cx.observed.started_at);
    if unasked::is_early(cx, ended, rest_ms, plan) {
        return None;
    }
    let text = format!("{what}: {} is to take over", chosen.node.local);
    Some(unasked::begin(cx, index, (PREFIX, Some(chosen.node)), text))
}

/// The balancers that miss the node, and since when the first of them does.
fn missing<'a>(cx: &Context<'a>, node: &Node) -> Option<(Time, Vec<&'a str>)> {
    let there = cx.record.balancers.iter().filter(|balancer| !balancer.closing);
    let missing = there.filter_map(|balancer| {
        let seen = cx.observed.balancers.get(&balancer.name)?;
        let reach = seen.reach.get(&node.id).filter(|reach| !reach.is_up)?;
        Some((reach.since, balancer.name.as_str()))
    });
    let (since, names): (Vec<Time>, Vec<&str>) = missing.unzip();
    since.into_iter().min().map(|since| (since, names))
}
