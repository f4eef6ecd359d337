//! A master whose process is not the one its epoch was opened for, and a store that is older than
//! what nodes hold.

use api::heartbeat::{Reply, Role as Does};

use crate::candidate;
use crate::context::{Case, Context, Health};
use crate::draft::Draft;
use crate::epoch::{self, Position};
use crate::takeover;
use crate::verdict::Verdict;
use crate::{Node, Plan, Shard, ShardState};

/// Opens an epoch for the record's master if it needs one, or gives the shard to a member that
/// holds more (rule R1). `None`: its process is the granted one.
pub(crate) fn decide(cx: &Context<'_>, case: Case<'_>, plan: &mut Plan) -> Option<Verdict> {
    let Case { index, shard, master } = case;
    let reply = cx.reply(&master.id)?;
    if reply.member().is_none() || reply.nonce == "0" {
        return None;
    }
    if shard.epoch.is_none() {
        return Some(open(cx, case, "its first epoch"));
    }
    let is_other = reply.nonce != shard.epoch.nonce;
    if !is_other && !is_unfit(shard, reply) {
        let mode = cx.record.commit_mode;
        let changes = epoch::is_other_mode(cx.record, shard);
        return changes.then(|| open(cx, case, &format!("commit mode {mode} begins")));
    }
    if !epoch::is_fresh(cx, master) {
        cx.ask(&master.id, plan);
        let text = format!("asking which process of {} runs", master.local);
        return Some(Verdict::serving(ShardState::Settling(text)));
    }
    let what = if is_other { "a new process of it answers" } else { "it holds its epoch no more" };
    if !epoch::by_set(shard) {
        return Some(without_set(cx, case, reply, what, plan));
    }
    let (why, what) = (
        what,
        match is_other {
            true => format!("a new process of master {} answers", master.local),
            false => format!("master {} cannot take its epoch", master.local),
        },
    );
    let others = candidate::intact(cx, shard, master);
    let own = Position::of(reply);
    if epoch::is_member(shard, reply) {
        return Some(match others.first() {
            Some(best) if best.position > own => {
                let what = format!("{what} and holds less than {}", best.node.local);
                takeover::failover(cx, case, &what, plan)
            }
            _ => open(cx, case, why),
        });
    }
    if !others.is_empty() {
        let what = format!("{what} without what the set names it for");
        return Some(takeover::failover(cx, case, &what, plan));
    }
    if epoch::all_rebooted(cx, shard) {
        let best = candidate::rebooted(cx, shard).into_iter().next();
        let is_own = epoch::is_rebooted_member(shard, reply)
            && best.as_ref().is_none_or(|best| best.position <= own);
        plan.alarms.insert(lost(case));
        if is_own {
            return Some(open(cx, case, "every member's machine restarted, it holds most"));
        }
        if best.is_some() {
            let what = "every member's machine restarted".to_owned();
            return Some(takeover::failover(cx, case, &what, plan));
        }
    }
    let missing = missing(cx, shard);
    plan.alarms.insert(format!(
        "shard {index}: {what} without what it acknowledged; waiting for {missing}"
    ));
    Some(Verdict::waiting(ShardState::Stuck(format!("{what}; waiting for {missing}"))))
}

/// Without a set nobody knows who holds what was written: a master that lost its data must not lead
/// its replicas into giving up theirs, so whoever may hold more is waited for.
fn without_set(
    cx: &Context<'_>,
    case: Case<'_>,
    reply: &Reply,
    what: &str,
    plan: &mut Plan,
) -> Verdict {
    let Case { index, shard, master } = case;
    let own = Position::of(reply);
    let at = format!("{what}, at sequence {} of epoch {}", own.sequence, own.epoch);
    let best = candidate::eligible(cx, shard, master).into_iter().next();
    if let Some(best) = best.filter(|best| best.position > own) {
        let what = format!("{at}, and holds less than {}", best.node.local);
        return takeover::failover(cx, case, &what, plan);
    }
    let is_below = shard.floor.is_some_and(|floor| !floor.is_met(reply));
    if !has_lost(shard, reply) && !is_below {
        return open(cx, case, what);
    }
    let what = at;
    let may_hold_more = |node: &&Node| {
        let position = cx.reply(&node.id).map(Position::of);
        cx.health(&node.id) != Health::Up
            || !cx.answered_since_process_of(&master.id, &node.id)
            || position.is_none_or(|position| position > own)
    };
    let waits_for: Vec<&Node> = shard.replicas().filter(may_hold_more).collect();
    waits_for.iter().for_each(|node| cx.ask(&node.id, plan));
    let waits_for: Vec<String> = waits_for.iter().map(|node| node.local.to_string()).collect();
    if waits_for.is_empty() && !is_below {
        return open(cx, case, &what);
    }
    let text = match waits_for.is_empty() {
        true => format!(
            "{what}; it lacks slots that were moved here, and nobody has them: \
             `ctl shard accept-loss {index} --node {}` says which",
            master.id
        ),
        false => format!("{what}; waiting for {}, which may hold more", waits_for.join(", ")),
    };
    plan.alarms.insert(format!(
        "shard {index}: {}: {text}; a node that does not come back is to be removed from the shard",
        master.local
    ));
    Verdict::waiting(ShardState::Stuck(text))
}

/// The node has not what the record's epoch was opened upon, nor that epoch: its disk is not the
/// one it was, or lost something. An epoch that was opened upon nothing is told by nothing.
fn has_lost(shard: &Shard, reply: &Reply) -> bool {
    let epoch = &shard.epoch;
    let (standing, least) = (&reply.standing, epoch.least);
    let is_unheard =
        least.sequence > 0 && standing.history_id == least.id && reply.sequence >= least.sequence;
    standing.history_epoch < epoch.number && !is_unheard
}

/// The granted process cannot hold the epoch that is open: it gave it up, and takes only a later
/// one; or its data was replaced after it was chosen, and is not what the set names it for.
fn is_unfit(shard: &Shard, reply: &Reply) -> bool {
    let epoch = &shard.epoch;
    let standing = &reply.standing;
    let gave_up = standing.history_id == Some(epoch.id);
    let is_other = epoch::by_set(shard) && !epoch::is_member(shard, reply);
    standing.granted_epoch != epoch.number && (gave_up || is_other)
}

fn lost(case: Case<'_>) -> String {
    let index = case.index;
    format!(
        "shard {index}: every member of its in-sync set restarted with its machine: what was not \
         on disk is lost; `durable-ack yes` prevents that"
    )
}

/// Members whose data nobody holds at the moment, as people know them.
pub(crate) fn missing(cx: &Context<'_>, shard: &Shard) -> String {
    let names: Vec<String> = shard
        .epoch
        .in_sync
        .iter()
        .filter_map(|member| {
            let node = epoch::node_of(shard, member)?;
            let is_up = cx.health(&node.id) == Health::Up;
            let holds = cx.reply(&node.id).and_then(|r| r.member()).is_some_and(|m| m == *member);
            let is_stranger = cx.answer(&node.id).is_some() && cx.reply(&node.id).is_none();
            let why = match (is_up, holds) {
                (false, _) if is_stranger => "runs on another node's data folder",
                (false, _) => "does not answer",
                (true, false) => "no longer holds what it acknowledged",
                (true, true) => return None,
            };
            Some(format!("{} ({why})", node.local))
        })
        .collect();
    if names.is_empty() { "its members to be ready".to_owned() } else { names.join(", ") }
}

fn open(cx: &Context<'_>, case: Case<'_>, why: &str) -> Verdict {
    let Case { index, shard, master } = case;
    let mut draft = Draft::of(cx.record, index);
    if let Some(reply) = cx.reply(&master.id) {
        let others = candidate::intact(cx, shard, master);
        let members = others.iter().filter_map(|other| other.member);
        let by_set = epoch::by_set(shard);
        epoch::open(cx, &mut draft, index, reply, members.filter(|_| by_set));
    }
    let number = draft.shard.epoch.number;
    let text = format!("shard {index}: epoch {number} for {}: {why}", master.local);
    let mut verdict = Verdict::serving(ShardState::Settling(text.clone()));
    verdict.swap = Some((draft, text));
    verdict
}

/// Nodes hold an epoch that this store never opened: it was restored from a backup, or lost. What
/// it says of sets and masters is old, so nobody is promoted by it. The process that holds the
/// newest grant is the master; without one, the furthest node once all of the shard answer
/// (rule R8).
pub(crate) fn stale_store(cx: &Context<'_>, case: Case<'_>, plan: &mut Plan) -> Option<Verdict> {
    let Case { index, shard, master } = case;
    let shown = epoch::highest(cx, index);
    // Of one number there is one id, unless this store gave the number again.
    let is_twice = shard.nodes.iter().filter_map(|node| epoch::named(cx, node)).any(|reply| {
        let standing = &reply.standing;
        standing.history_epoch == shard.epoch.number
            && standing.history_id.is_some_and(|id| id != shard.epoch.id)
    });
    if shown < shard.epoch.number || (shown == shard.epoch.number && !is_twice) {
        return None;
    }
    let up = |node: &&Node| cx.health(&node.id) == Health::Up;
    let granted = shard.nodes.iter().filter(up).find(|node| {
        cx.reply(&node.id).is_some_and(|reply| {
            reply.standing.granted_epoch == shown && reply.role == Does::Master
        })
    });
    let furthest = || {
        if !shard.nodes.iter().all(|node| up(&node)) {
            return None;
        }
        let position = |node: &&Node| cx.reply(&node.id).map(Position::of);
        shard.nodes.iter().rev().max_by_key(position)
    };
    let known = shard.epoch.number;
    let what = match is_twice {
        true => format!("nodes hold another epoch {shown} than the store"),
        false => format!("nodes hold epoch {shown}, the store knows {known}"),
    };
    plan.alarms.insert(format!(
        "shard {index}: {what}: it was restored from a backup, and promotes nobody before a node confirms the newest epoch"
    ));
    let Some(node) = granted.or_else(furthest) else {
        return Some(Verdict::waiting(ShardState::Stuck(what)));
    };
    let reply = cx.reply(&node.id)?;
    let mut draft = Draft::of(cx.record, index);
    if node.id != master.id {
        draft.version = cx.next_version();
        draft.shard.promote(&node.id);
    }
    draft.shard.fence = None;
    let is_granted = reply.standing.granted_epoch == shown;
    let named = reply.standing.request_members.iter().copied().filter(|_| is_granted);
    let members = named.filter(|member| epoch::node_of(shard, member).is_some());
    epoch::open(cx, &mut draft, index, reply, members);
    let text = format!("shard {index}: {what}; {} goes on as master", node.local);
    let mut verdict = Verdict::waiting(ShardState::Settling(text.clone()));
    verdict.swap = Some((draft, text));
    Some(verdict)
}
