//! A master that answers the controller and not its balancers: clients cannot reach it, however well it is.
//!
//! It is alive, so nothing needs a fence in a hurry: a planned switchover to a replica that every
//! balancer reaches does all that is needed. Where none is, nothing is gained by moving.

use api::heartbeat::LinkStatus;

use crate::candidate;
use crate::context::{Case, Context, Health};
use crate::verdict::Verdict;
use crate::{Intent, Node, Plan, ShardState, Time};

/// Begins the names of switchovers that nobody asked for.
const PREFIX: &str = "unreached-";
/// After one that failed, ms: what did not help is not done again at once.
const AGAIN_MS: u64 = 10_000;
/// After one that succeeded, ms: nodes that are all reached now and then do not take turns faster.
const TURN_MS: u64 = 2_000;
/// How long the replica may take to catch up, ms.
const SYNC_TIMEOUT_MS: u64 = 1_000;
/// How long the old master pauses writes at most, ms.
const PAUSE_MS: u64 = 3_000;

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
    let follows = |node: &Node| {
        cx.health(&node.id) == Health::Up
            && cx.reply(&node.id).is_some_and(|reply| reply.link_status == LinkStatus::Up)
    };
    let reaches = |node: &Node| {
        cx.record.balancers.iter().filter(|balancer| !balancer.closing).all(|balancer| {
            let seen = cx.observed.balancers.get(&balancer.name);
            seen.and_then(|seen| seen.reach.get(&node.id)).is_some_and(|reach| reach.is_up)
        })
    };
    let what =
        format!("shard {index}: master {} is not reached by {}", master.local, missing.join(", "));
    let candidates = candidate::for_switchover(cx, shard, master);
    let Some(chosen) = candidates.iter().find(|c| follows(c.node) && reaches(c.node)) else {
        plan.alarms.insert(format!(
            "{what}, and no replica that could take over is known to be reached by all of them"
        ));
        return None;
    };
    plan.alarms.insert(what.clone());
    let last = shard.last_intent.as_ref().filter(|last| last.id.starts_with(PREFIX));
    let rest_ms = last.map_or(0, |last| if last.error.is_some() { AGAIN_MS } else { TURN_MS });
    // What ended before this controller began ended then at the latest.
    let ended = cx.observed.concluded.get(&index).copied().unwrap_or(cx.observed.started_at);
    let at = ended.plus_millis(rest_ms);
    if cx.now < at {
        plan.wake(at);
        return None;
    }
    let mut record = cx.record.next();
    record.shards[index].intent = Some(Intent {
        id: format!("{PREFIX}{:016x}", cx.observed.fresh_id),
        preferred: Some(chosen.node.id.clone()),
        force: false,
        sync_timeout_ms: SYNC_TIMEOUT_MS,
        pause_ms: PAUSE_MS,
        accept_loss: false,
    });
    let text = format!("{what}: {} is to take over", chosen.node.local);
    let mut verdict = Verdict::serving(ShardState::Switchover(text.clone()));
    verdict.swap = Some((record, text));
    Some(verdict)
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
