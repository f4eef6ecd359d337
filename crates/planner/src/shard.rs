//! What one shard needs: nothing, a failover, or the rest of one that has begun.

use api::heartbeat::{LinkStatus, Resync};

use crate::candidate;
use crate::context::{Case, Context, Health};
use crate::draft::Draft;
use crate::epoch::{self, Position};
use crate::takeover::failover;
use crate::verdict::Verdict;
use crate::{
    Action, Node, Plan, ShardState, Time, fence, handover, loss, reopen, stopping, switchover,
    tell, unreached,
};

/// What the shard of the record at `index`, from 0, needs now.
pub(crate) fn decide(cx: &Context<'_>, index: usize, plan: &mut Plan) -> Verdict {
    let shard = &cx.record.shards[index];
    let Some(master) = shard.master() else {
        return Verdict::serving(ShardState::Stuck("the record has no master".to_owned()));
    };
    let case = Case { index, shard, master };
    if let Some(verdict) = reopen::stale_store(cx, case, plan) {
        return verdict;
    }
    tell_of_disks(cx, case, plan);
    loss::tell_of_deposed(cx, case, plan);
    tell_of_fences(cx, case, plan);
    tell::of_links(cx, case, plan);
    tell::of_losses(cx, case, plan);
    if let Some(pending) = &shard.fence {
        return handover::await_fence(cx, case, pending, plan);
    }
    if let Some(intent) = shard.intent.as_ref().filter(|intent| intent.accept_loss) {
        return loss::decide(cx, case, intent, plan);
    }
    relay(cx, case, plan);
    match cx.health(&master.id) {
        Health::Down if let Some(until) = deaf_until(cx, master) => {
            plan.wake(until);
            Verdict::serving(ShardState::Suspect(format!(
                "master {} does not answer; until a moment ago no node did",
                master.local
            )))
        }
        Health::Down => {
            let why = match cx.observed.node(&master.id).error.as_deref() {
                _ if cx.hangs(&master.id) => " hangs: its disk takes nothing".to_owned(),
                Some(error) if cx.cannot_lead(&master.id) => {
                    format!(" has no lease any more: {error}")
                }
                _ => " is down".to_owned(),
            };
            let reason = format!("master {}{why}", master.local);
            failover(cx, case, &reason, plan)
        }
        Health::Unknown => Verdict::serving(ShardState::Suspect(format!(
            "master {} has not been heard of yet",
            master.local
        ))),
        Health::Suspect => {
            if let Some(until) = cx.leads_until(&master.id) {
                plan.wake(until);
            }
            let why = cx.observed.node(&master.id).suspicion();
            Verdict::serving(ShardState::Suspect(format!("master {}{why}", master.local)))
        }
        Health::Up => alive(cx, case, plan),
    }
}

/// Until when the master's silence says nothing of it: the controller's own network was away.
fn deaf_until(cx: &Context<'_>, master: &Node) -> Option<Time> {
    let observed = cx.observed.node(&master.id);
    let has_spoken = observed.refused > 0 || observed.misses < cx.policy.misses;
    let counts_from = observed.counts_from.filter(|_| !has_spoken)?;
    Some(counts_from.plus_millis(cx.policy.down_ms())).filter(|until| cx.now < *until)
}

fn tell_of_disks(cx: &Context<'_>, case: Case<'_>, plan: &mut Plan) {
    let Case { index, shard, .. } = case;
    for node in shard.nodes.iter().filter(|node| cx.hangs(&node.id)) {
        plan.alarms.insert(format!("shard {index}: the disk of {} takes nothing", node.local));
    }
}

/// Load balancers that cannot fence the master are a mistake in a configuration, and nobody would
/// notice before it costs a lease.
fn tell_of_fences(cx: &Context<'_>, case: Case<'_>, plan: &mut Plan) {
    let Case { index, master, .. } = case;
    let Some(stated) = fence::stated(cx.record, master, cx.observed) else { return };
    let sound = fence::soundness(Some(&stated), cx.record);
    if cx.record.balancers.is_empty() || sound.balancers {
        return;
    }
    let then = if sound.lease { "a failover waits for its lease" } else { "nothing else does" };
    plan.alarms.insert(format!(
        "shard {index}: no cut of the load balancers fences master {} ({}): {then}",
        master.local,
        sound.reasons.join("; ")
    ));
}

/// Intervals without an answer after which a master is asked by way of a replica.
const RELAY_MISSES: u32 = 2;

/// A master that its replicas see may be alive behind a broken path, or have no place for the
/// controller's own connection: its heartbeat goes through one of them. If that is not answered
/// either, failover takes its course (rule R9).
fn relay(cx: &Context<'_>, case: Case<'_>, plan: &mut Plan) {
    let Case { index, shard, master } = case;
    let observed = cx.observed.node(&master.id);
    let lately = |at: Option<Time>, ms| at.is_some_and(|at| cx.now < at.plus_millis(ms));
    let is_relayed = lately(observed.relayed_at, 2 * cx.policy.lease_ms);
    let two_beats = u64::from(RELAY_MISSES) * cx.policy.heartbeat_ms;
    let unclear = observed.unclear_since;
    let is_unclear = unclear.is_some_and(|since| since.plus_millis(two_beats) <= cx.now);
    let is_silent = observed.misses >= RELAY_MISSES
        || is_unclear
        || (is_relayed && (observed.misses > 0 || unclear.is_some()));
    let sees = |node: &&Node| {
        cx.health(&node.id) == Health::Up
            && cx.reply(&node.id).is_some_and(|reply| {
                reply.link_status == LinkStatus::Up && reply.standing.incarnation.is_some()
            })
    };
    let Some(via) = shard.replicas().find(sees) else { return };
    if is_relayed {
        plan.alarms.insert(format!(
            "shard {index}: master {} is reached only through its replica {}: the path to it is broken",
            master.local, via.local
        ));
    }
    if let Some(since) = unclear.filter(|_| !is_unclear) {
        plan.wake(since.plus_millis(two_beats));
    }
    if !is_silent || observed.refused > 0 {
        return;
    }
    if lately(observed.relaying, cx.policy.heartbeat_ms) {
        let sent = observed.relaying.unwrap_or(cx.now);
        plan.wake(sent.plus_millis(cx.policy.heartbeat_ms));
        return;
    }
    plan.actions.push(Action::Relay { node: master.id.clone(), via: via.id.clone() });
}

fn alive(cx: &Context<'_>, case: Case<'_>, plan: &mut Plan) -> Verdict {
    let Case { index, shard, master } = case;
    if !epoch::by_set(shard)
        && let Some(verdict) = lost_data(cx, case, plan)
    {
        return verdict;
    }
    if let Some(verdict) = reopen::decide(cx, case, plan) {
        return verdict;
    }
    if let Some(verdict) = adopt(cx, case) {
        return verdict;
    }
    follow_set(cx, case, plan);
    if shard.intent.is_none()
        && cx.settled(master)
        && let Some(verdict) = stopping::decide(cx, case, plan)
    {
        return verdict;
    }
    if shard.intent.is_none()
        && cx.record.paused.is_none()
        && cx.settled(master)
        && let Some(verdict) = unreached::decide(cx, case, plan)
    {
        return verdict;
    }
    if let Some(intent) = &shard.intent {
        return switchover::decide(cx, case, intent, plan);
    }
    if cx.observed.node(&master.id).pause.is_some() {
        let reason = "the switchover is over".to_owned();
        plan.actions.push(Action::Unpause { node: master.id.clone(), reason });
    }
    if let Some(reply) = cx.reply(&master.id)
        && reply.resync != Resync::None
    {
        plan.alarms.insert(format!(
            "shard {index}: master {} holds data of another history (resync {})",
            master.local, reply.resync
        ));
    }
    let knows = epoch::is_known(cx, shard, master);
    if cx.settled(master) {
        if !knows {
            cx.ask(&master.id, plan);
        }
        return Verdict::serving(ShardState::Steady);
    }
    if let Some(until) = epoch::promised(cx, master) {
        plan.wake(until);
        if cx.now < until {
            let text = format!("{} promised its old master to wait until {until}", master.local);
            return Verdict::serving(ShardState::Settling(text));
        }
        cx.ask(&master.id, plan);
    }
    let told = cx.observed.node(&master.id).pushed;
    if !knows {
        cx.ask(&master.id, plan);
    }
    if told.is_some_and(|pushed| pushed.version >= cx.record.version) {
        cx.ask(&master.id, plan);
    }
    let state = format!("master {} takes over version {}", master.local, cx.record.version);
    Verdict::serving(ShardState::Settling(state))
}

/// The master asks for another in-sync set. It waits for the union of both until the store has it,
/// so nothing but the order matters (rule R3).
fn adopt(cx: &Context<'_>, case: Case<'_>) -> Option<Verdict> {
    let Case { index, shard, master } = case;
    let reply = cx.reply(&master.id)?;
    let members = epoch::request(shard, master, reply)?;
    if !epoch::by_set(shard) {
        return None;
    }
    let mut draft = Draft::of(cx.record, index);
    let epoch = &mut draft.shard.epoch;
    epoch.request = reply.standing.request;
    epoch.in_sync = members.clone();
    let names = members.iter().filter_map(|member| epoch::node_of(shard, member));
    let names: Vec<String> = names.map(|node| node.local.to_string()).collect();
    let text = format!("shard {index}: in sync are {}", names.join(", "));
    let mut verdict = Verdict::serving(ShardState::Settling(text.clone()));
    verdict.swap = Some((draft, text));
    Some(verdict)
}

/// For how long a member that went silent makes its master be asked more often, ms: the master
/// is about to ask for a set without it, and writes wait for that. So it is with one that stops.
const CHANGE_MS: u64 = 2_000;
/// How often, ms.
const CHANGE_PACE_MS: u64 = 50;

fn follow_set(cx: &Context<'_>, case: Case<'_>, plan: &mut Plan) {
    let Case { index, shard, master } = case;
    if !epoch::by_set(shard) {
        return;
    }
    let count = u32::try_from(shard.epoch.in_sync.len()).unwrap_or(u32::MAX);
    if count < cx.record.min_in_sync {
        plan.alarms.insert(format!(
            "shard {index}: {count} in sync of {} wanted: writes are refused",
            cx.record.min_in_sync
        ));
    }
    let silent = shard.epoch.in_sync.iter().any(|member| {
        let Some(node) = epoch::node_of(shard, member) else { return false };
        let reply = cx.reply(&node.id);
        let wait_ms = reply.map_or(0, |reply| reply.log_wait_ms);
        let since = cx.observed.node(&node.id).missing_since;
        since.is_some_and(|since| cx.now < since.plus_millis(CHANGE_MS))
            || (cx.policy.heartbeat_ms..CHANGE_MS).contains(&wait_ms)
            || reply.is_some_and(|reply| reply.stopping)
    });
    if silent {
        let asked = cx.observed.node(&master.id).seen.as_ref().map(|seen| seen.sent_at);
        let due = asked.map_or(cx.now, |at| at.plus_millis(CHANGE_PACE_MS));
        if due <= cx.now {
            plan.asks(&master.id);
            plan.wake(cx.now.plus_millis(CHANGE_PACE_MS));
        } else {
            plan.wake(due);
        }
    }
}

/// What a replica said before the master's process ended says nothing of what it got until then:
/// whoever can answer is asked again, for as long as silence takes to count as down.
fn asks_replicas(cx: &Context<'_>, case: Case<'_>, what: &str, plan: &mut Plan) -> Option<Verdict> {
    let Case { shard, master, .. } = case;
    let since = cx.observed.node(&master.id).process_at?;
    let until = since.plus_millis(cx.policy.down_ms());
    let is_old = |node: &&Node| {
        let is_told = cx.answered_since_process_of(&master.id, &node.id);
        !is_told && cx.health(&node.id) != Health::Down
    };
    let asked: Vec<&Node> = shard.replicas().filter(is_old).collect();
    if asked.is_empty() || until <= cx.now {
        return None;
    }
    asked.iter().for_each(|node| cx.ask(&node.id, plan));
    plan.wake(until);
    let text = format!("{what}; its replicas are asked what they have");
    Some(Verdict::waiting(ShardState::Suspect(text)))
}

/// A newer process of the master has less than the master had: its disk was lost. It must not
/// lead its replicas into forgetting what they hold.
fn lost_data(cx: &Context<'_>, case: Case<'_>, plan: &mut Plan) -> Option<Verdict> {
    let Case { index, shard, master } = case;
    let observed = cx.observed.node(&master.id);
    let reply = cx.reply(&master.id)?;
    let had = observed.master_sequence?;
    let newer = observed.lease_nonce.as_deref().is_some_and(|nonce| nonce != reply.nonce);
    if !newer || reply.sequence >= had {
        return None;
    }
    let what = format!("master {} came back at {} of {had}", master.local, reply.sequence);
    let better = candidate::eligible(cx, shard, master)
        .first()
        .is_some_and(|candidate| candidate.position > Position::of(reply));
    if better {
        return Some(failover(cx, case, &what, plan));
    }
    if let Some(verdict) = asks_replicas(cx, case, &what, plan) {
        return Some(verdict);
    }
    plan.alarms.insert(format!("shard {index}: {what}, and no replica has more"));
    None
}
