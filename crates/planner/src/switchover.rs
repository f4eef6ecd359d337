//! A planned switchover, before the store names the new master.
//!
//! pause → no write in flight → replica answers, and is at the paused sequence → compare-and-swap,
//! and with it the sessions leave their nodes. Anything that takes too long before ends it without
//! a trace: the pause has a bound, and is lifted; no session was touched.

use api::heartbeat::Reply;

use crate::candidate::{self, Candidate};
use crate::context::{Case, Context};
use crate::draft::Draft;
use crate::epoch;
use crate::verdict::Verdict;
use crate::{Action, Intent, Pause, PendingFence, Plan, ShardState};

/// The next step of the switchover that `intent` asks for, or its end.
pub(crate) fn decide(
    cx: &Context<'_>,
    case: Case<'_>,
    intent: &Intent,
    plan: &mut Plan,
) -> Verdict {
    let Case { shard, master, .. } = case;
    let mut candidates = candidate::for_switchover(cx, shard, master);
    candidates.retain(|candidate| {
        intent.preferred.as_ref().is_none_or(|preferred| *preferred == candidate.node.id)
    });
    let Some(first) = candidates.first() else {
        let why = candidate::reasons(cx, shard, master);
        return give_up(cx, case, intent, &format!("no replica can take over: {why}"));
    };
    if !cx.settled(master) {
        let text = format!("{} must settle first", master.local);
        return Verdict::serving(ShardState::Switchover(text));
    }
    let state = ShardState::Switchover(format!("{} to {}", master.local, first.node.local));
    let pause = cx.observed.node(&master.id).pause.as_ref();
    match pause {
        Some(pause) if pause.intent == intent.id => {
            paused(cx, case, intent, pause, &candidates, plan)
        }
        _ => {
            plan.actions.push(Action::Pause {
                node: master.id.clone(),
                for_ms: intent.pause_ms,
                intent: intent.id.clone(),
            });
            Verdict::serving(state)
        }
    }
}

fn paused(
    cx: &Context<'_>,
    case: Case<'_>,
    intent: &Intent,
    pause: &Pause,
    candidates: &[Candidate<'_>],
    plan: &mut Plan,
) -> Verdict {
    let master = case.master;
    if let Some(error) = &pause.error {
        return give_up(cx, case, intent, &format!("pausing {}: {error}", master.local));
    }
    // The second half of the pause is kept for the store and the demotion.
    let deadline = pause.sent_at.plus_millis(intent.sync_timeout_ms.min(pause.for_ms / 2));
    plan.wake(deadline);
    let last = pause.acked_at.and_then(|acked| {
        let seen = cx.observed.node(&master.id).seen.as_ref()?;
        (seen.sent_at >= acked && seen.reply.paused).then_some(&seen.reply)
    });
    let final_sequence = last.map(|reply| reply.sequence);
    // What a replica said before the pause is what was. On an idle shard it even shows the paused
    // sequence, and the replica may have fallen silent since.
    let answers = |candidate: &&Candidate<'_>| {
        pause.acked_at.is_some_and(|acked| cx.is_heard_since(&candidate.node.id, acked))
    };
    // The same number in another history is another place: a deposed master that has not cut off
    // yet what it wrote alone may show it.
    let is_there = |candidate: &&Candidate<'_>| {
        let history = cx.reply(&candidate.node.id).map(|reply| reply.standing.history_id);
        let is_same = last.map(|last| last.standing.history_id) == history;
        answers(candidate) && is_same && final_sequence == Some(candidate.position.sequence)
    };
    if let Some(chosen) = candidates.iter().find(is_there) {
        return swap(cx, case, intent, chosen);
    }
    if cx.now < deadline {
        if final_sequence.is_some() {
            candidates.iter().for_each(|candidate| cx.ask(&candidate.node.id, plan));
        } else if pause.acked_at.is_some() {
            cx.ask(&master.id, plan);
        }
        let names: Vec<String> =
            candidates.iter().map(|candidate| candidate.node.local.to_string()).collect();
        let text = format!("{} waits for {}", master.local, names.join(", "));
        return Verdict::serving(ShardState::Switchover(text));
    }
    // Forced: behind, but neither silent nor empty-handed.
    let has_some = |candidate: &&Candidate<'_>| candidate.position.sequence > 0;
    let forced = candidates.iter().filter(answers).find(has_some);
    if let Some(chosen) = forced.filter(|_| intent.force && final_sequence.is_some()) {
        return swap(cx, case, intent, chosen);
    }
    let why = |candidate: &Candidate<'_>| {
        let name = &candidate.node.local;
        match final_sequence {
            None => {
                format!("{name} did not catch up: the pause of {} is not confirmed", master.local)
            }
            Some(_) if !answers(&candidate) => {
                format!("{name} has not answered since writes were paused")
            }
            Some(wanted) if candidate.position.sequence == wanted => {
                format!("{name} has not given up what it wrote alone")
            }
            Some(wanted) => {
                format!(
                    "{name} did not catch up: it is at {} of {wanted}",
                    candidate.position.sequence
                )
            }
        }
    };
    let reasons: Vec<String> = candidates.iter().map(why).collect();
    give_up(cx, case, intent, &reasons.join(", "))
}

fn swap(cx: &Context<'_>, case: Case<'_>, intent: &Intent, chosen: &Candidate<'_>) -> Verdict {
    let Case { index, master, .. } = case;
    let mut draft = Draft::of(cx.record, index);
    draft.version = cx.next_version();
    draft.shard.promote(&chosen.node.id);
    if let Some(reply) = cx.reply(&chosen.node.id) {
        // All of them were in the old master's set, and stay in it until it has let go.
        let others = candidate::intact(cx, case.shard, master);
        let members = candidate::followers(cx, chosen.node, &others);
        epoch::open(cx, &mut draft, index, reply, members.into_iter());
    }
    let member = cx.reply(&master.id).and_then(Reply::member);
    let Draft { version, shard } = &mut draft;
    shard.conclude(intent, None);
    shard.fence = Some(PendingFence { node: master.id.clone(), version: *version, member });
    let reason = format!(
        "shard {index}: switchover from {} to {} at {}",
        master.local, chosen.node.local, chosen.position.sequence
    );
    let mut verdict = Verdict::serving(ShardState::Switchover(reason.clone()));
    verdict.grant = false;
    verdict.moving = vec![master.id.clone(), chosen.node.id.clone()];
    verdict.swap = Some((draft, reason));
    verdict
}

fn give_up(cx: &Context<'_>, case: Case<'_>, intent: &Intent, why: &str) -> Verdict {
    let index = case.index;
    let mut draft = Draft::of(cx.record, index);
    draft.shard.conclude(intent, Some(why));
    let mut verdict = Verdict::serving(ShardState::Switchover(why.to_owned()));
    verdict.swap = Some((draft, format!("shard {index}: switchover given up: {why}")));
    verdict
}
