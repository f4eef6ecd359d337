//! The plan of one cluster: what to do next, who is granted a lease, what each shard is doing.
//!
//! The top floor: it asks every other module, and none of them knows it.

use std::collections::BTreeSet;

use crate::context::{Context, Health};
use crate::record::Role;
use crate::shard;
use crate::verdict::Verdict;
use crate::{
    Action, Authority, Node, Observed, Plan, Policy, Record, ShardState, Time, balancers, epoch,
    joined, moving, paused, rival, sources, tell, upkeep, wishes,
};

/// Decides what the cluster needs now.
pub fn plan(record: &Record, observed: &Observed, policy: &Policy, now: Time) -> Plan {
    let cx = Context::of_all(record, observed, policy, now);
    let mut plan =
        Plan { lease_ms: policy.lease_ms.min(record.longest_lease_ms), ..Plan::default() };
    if let Some(why) = leads_no_more(&cx).or_else(|| rival::stands_back(&cx, &mut plan)) {
        plan.shards = vec![ShardState::Suspect(why.clone()); record.shards.len()];
        plan.stands_back = Some(why);
        return plan;
    }
    if let Some(change) = &observed.in_doubt {
        return in_doubt(change, record, plan);
    }
    if observed.authority == Authority::Alone && record.term < observed.term {
        return take_over(&cx, plan);
    }
    let mut verdicts: Vec<Verdict> =
        (0..record.shards.len()).map(|index| shard::decide(&cx, index, &mut plan)).collect();
    let swap = joined::of(record, &mut verdicts);
    let (mut closed, mut moving) = (BTreeSet::new(), BTreeSet::new());
    for (shard, verdict) in record.shards.iter().zip(&verdicts) {
        let granted = |master: &&Node| verdict.grant && epoch::may_lease(&cx, shard, master);
        if let Some(master) = shard.master().filter(granted) {
            plan.leases.insert(master.id.clone());
            if let Some(grant) = epoch::grant(&cx, shard, master, &mut plan) {
                plan.grants.insert(master.id.clone(), grant);
            }
        }
        closed.extend(verdict.closed.as_deref());
        moving.extend(verdict.moving.iter().map(String::as_str));
    }
    recheck_refused(&cx, &mut plan);
    paused::alarm(&cx, &mut plan);
    tell::of_strangers(&cx, &mut plan);
    tell::of_versions(&cx, &mut plan);
    errors(&cx, &mut plan);
    tell::of_clocks(&cx, &mut plan);
    tell::of_disks(&cx, &mut plan);
    pushes(&cx, &verdicts, &mut plan);
    balancers::tell(&cx, &closed, &moving, &mut plan);
    sources::tell(&cx, &mut plan);
    plan.shards = verdicts.into_iter().map(|verdict| verdict.state).collect();
    let swap = swap.or_else(|| upkeep::raise_version(&cx));
    let of_moves = moving::decide(&cx, swap.is_none(), &mut plan);
    let swap = swap.or(of_moves);
    let of_wishes = wishes::decide(&cx, swap.is_none(), &mut plan);
    let swap = swap.or(of_wishes);
    let swap = swap.or_else(|| balancers::removal(&cx)).or_else(|| upkeep::bookkeeping(&cx));
    if let Some((record, reason)) = swap {
        moving::freeze_nothing(&mut plan);
        plan.actions.push(Action::CompareAndSwap { record: Box::new(record), reason });
    }
    plan
}

/// Nothing this controller concludes may count once another one may lead (rules R8, O3). Where
/// others may, the claim in the store shuts them out of it; elsewhere the term in the record does.
fn leads_no_more(cx: &Context<'_>) -> Option<String> {
    if !cx.observed.authority.acts() {
        return Some("this controller does not lead for certain".to_owned());
    }
    let is_alone = cx.observed.authority == Authority::Alone;
    let is_newer = is_alone && cx.record.term > cx.observed.term && cx.observed.term > 0;
    is_newer.then(|| format!("the controller of term {} leads", cx.record.term))
}

/// The store may name another master, whom nobody would then wait for. Ways that are open stay so:
/// they lead to who was granted before.
fn in_doubt(change: &str, record: &Record, mut plan: Plan) -> Plan {
    let why = "the store has not told whether a change of the record was made";
    plan.alarms.insert(format!("{why}, nothing is granted until it does: {change}"));
    plan.shards = vec![ShardState::Suspect(why.to_owned()); record.shards.len()];
    plan
}

/// The first act of a controller that is alone on its store: from here on the compare-and-swap of
/// an older one fails. Only then does it grant, or conclude from what it granted.
fn take_over(cx: &Context<'_>, mut plan: Plan) -> Plan {
    let mut record = cx.record.next();
    record.term = cx.observed.term;
    let why = format!("the controller of term {} takes over", record.term);
    plan.shards = vec![ShardState::Suspect(why.clone()); record.shards.len()];
    plan.actions.push(Action::CompareAndSwap { record: Box::new(record), reason: why });
    plan
}

/// A refused connection is asked again soon: the second refusal settles it.
fn recheck_refused(cx: &Context<'_>, plan: &mut Plan) {
    for (_, node) in cx.record.nodes() {
        let seen = cx.observed.node(&node.id);
        let Some(at) = seen.refused_at.filter(|_| seen.refused == 1) else { continue };
        let due = at.plus_millis(cx.policy.recheck_ms);
        if due <= cx.now {
            plan.asks(&node.id);
            plan.wake(cx.now.plus_millis(cx.policy.recheck_ms));
        } else {
            plan.wake(due);
        }
    }
}

fn errors(cx: &Context<'_>, plan: &mut Plan) {
    for (_, node) in cx.record.nodes() {
        if let Some(error) = &cx.observed.node(&node.id).error {
            plan.alarms.insert(format!("{}: {error}{}", node.local, remedy(error)));
        }
    }
}

fn remedy(error: &str) -> &'static str {
    let words = ["NOAUTH", "WRONGPASS", "invalid password"];
    match words.iter().any(|word| error.contains(word)) {
        true => {
            " (the controller's password is not its `peer-auth`: change that, or the controller's by `ctl set cluster --password-file`)"
        }
        false => "",
    }
}

/// New masters hear first; the others when theirs serves, is down, or takes too long.
fn pushes(cx: &Context<'_>, verdicts: &[Verdict], plan: &mut Plan) {
    let patience = cx.observed.record_at.plus_millis(cx.policy.settle_ms);
    let opening = moving::opening(cx);
    for (shard, verdict) in cx.record.shards.iter().zip(verdicts) {
        let Some(master) = shard.master() else { continue };
        let down = matches!(cx.health(&master.id), Health::Down | Health::Unknown);
        let followers = cx.settled(master) || down || cx.now >= patience;
        for node in &shard.nodes {
            let deposed = shard.fence.as_ref().is_some_and(|fence| fence.node == node.id);
            let allowed = match node.role {
                Role::Master => !verdict.hold_master,
                Role::Slave if deposed => !verdict.hold_deposed,
                Role::Slave => followers && shard.fence.is_none(),
            };
            if allowed && opening.is_none_or(|opening| opening.may_be_told(node, plan)) {
                push(cx, node, plan);
            } else if node.role == Role::Slave && cx.now < patience {
                plan.wake(patience);
            }
        }
    }
}

fn push(cx: &Context<'_>, node: &Node, plan: &mut Plan) {
    let seen = cx.observed.node(&node.id);
    let Some(answer) = &seen.seen else { return };
    let is_nameless = answer.reply.is_nameless() && !cx.record.cluster_id.is_empty();
    if cx.health(&node.id) != Health::Up
        || seen.pushing.is_some()
        || (answer.reply.version >= cx.record.version && !is_nameless)
    {
        return;
    }
    let acknowledged = seen
        .pushed
        .is_some_and(|pushed| pushed.version >= cx.record.version && answer.sent_at < pushed.at);
    if acknowledged {
        return cx.ask(&node.id, plan);
    }
    let retry = seen.push_failed_at.map(|at| at.plus_millis(cx.policy.push_retry_ms));
    if let Some(retry) = retry.filter(|retry| *retry > cx.now) {
        return plan.wake(retry);
    }
    let reason = match answer.reply.version {
        -1 => format!("it has no topology, the record has {}", cx.record.version),
        version if version >= cx.record.version => "it does not know its cluster".to_owned(),
        version => format!("it has version {version}, the record has {}", cx.record.version),
    };
    plan.actions.push(Action::Push { node: node.id.clone(), reason });
}
