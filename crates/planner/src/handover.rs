//! The second half of a planned switchover: the store names a new master whose predecessor may
//! still serve.
//!
//! The predecessor lets go only for a successor that answers, and gets the shard back from one that
//! falls silent before it was told anything: until then the predecessor has whatever was
//! acknowledged.

use api::heartbeat::{Resync, Role as Does};

use crate::candidate;
use crate::context::{Case, Context, Health};
use crate::draft::Draft;
use crate::epoch;
use crate::fence::{self, Confirmed, Fence, Former};
use crate::verdict::Verdict;
use crate::{Node, PendingFence, Plan, Shard, ShardState, frontends};

/// The record names a new master whose predecessor may still serve.
pub(crate) fn await_fence(
    cx: &Context<'_>,
    case: Case<'_>,
    pending: &PendingFence,
    plan: &mut Plan,
) -> Verdict {
    let Case { index, shard, master } = case;
    let Some(old) = shard.node(&pending.node) else {
        let state = ShardState::Switchover("the old master left the cluster".to_owned());
        let mut verdict = Verdict::fencing(master, state);
        verdict.swap = Some(fence_over(cx, index, "the old master left the cluster"));
        return verdict;
    };
    let text = format!("{} takes over once {} is fenced", master.local, old.local);
    let mut verdict = Verdict::fencing(old, ShardState::Switchover(text));
    // What it demotes it cuts: first its sessions leave it.
    if let Some(until) = frontends::given_back_by(cx, &old.id) {
        verdict.hold_deposed = true;
        plan.wake(until);
    }
    // Until its successor serves, the old master has whatever was acknowledged: it lets go only for
    // one that answers, and gets the shard back from one that falls silent.
    let is_there = cx.answers_now(&master.id);
    if !is_there {
        verdict.hold_deposed = true;
        cx.ask(&master.id, plan);
    }
    let mut is_down = cx.health(&master.id) == Health::Down;
    if let Some(until) = cx.unclear_until(&master.id) {
        is_down |= until <= cx.now;
        cx.wake(until, plan);
    }
    if is_down && intact(cx, shard, old, pending) {
        verdict.hold_deposed = true;
        verdict.swap = Some(goes_back(cx, case, old));
        return verdict;
    }
    let fenced = cx.fenced(Former { shard, node: old, demoted: Some(pending) });
    // With both of them gone, others may take over.
    if let Some(fenced) = fenced.filter(|_| is_there || is_down) {
        // Where answers wait for the set, the new master has whatever was acknowledged.
        let is_safe = in_pause(cx, old, fenced) || epoch::by_set(shard);
        let late = if is_safe { "" } else { LATE };
        let reason = format!("shard {index}: {} is fenced: {}{late}", old.local, fenced.fence);
        verdict.swap = Some(fence_over(cx, index, &reason));
        return verdict;
    }
    if cx.observed.node(&old.id).pushed.is_some_and(|pushed| pushed.version >= pending.version)
        && cx.health(&old.id) == Health::Up
    {
        cx.ask(&old.id, plan);
    }
    cx.wake(fence::lease_end(cx.record, cx.observed, cx.policy, &old.id), plan);
    verdict
}

/// The new master was never told: whatever was written is with the old one.
fn goes_back(cx: &Context<'_>, case: Case<'_>, old: &Node) -> (Draft, String) {
    let Case { index, shard, master } = case;
    let mut draft = Draft::of(cx.record, index);
    draft.version = cx.next_version();
    draft.shard.promote(&old.id);
    if let Some(reply) = cx.reply(&old.id) {
        // Nothing was acknowledged since but by the old master, with all of these.
        let others = candidate::intact(cx, shard, master);
        let members = others.into_iter().filter_map(|other| other.member);
        epoch::open(cx, &mut draft, index, reply, members);
    }
    draft.shard.fence = None;
    if let Some(result) = &mut draft.shard.last_intent {
        result.error = Some(format!("{} went down before it took over", master.local));
    }
    (draft, format!("shard {index}: {} is down before it took over", master.local))
}

const LATE: &str = "; not within its pause: writes it took meanwhile may be lost";

fn in_pause(cx: &Context<'_>, old: &Node, fenced: Confirmed) -> bool {
    let pause = cx.observed.node(&old.id).pause.as_ref();
    let is_paused =
        cx.health(&old.id) == Health::Up && cx.reply(&old.id).is_some_and(|reply| reply.paused);
    let is_sound = match fenced.fence {
        Fence::Acknowledged => true,
        // Nobody reached it any more before its pause was over.
        Fence::Balancers => is_paused,
        _ => false,
    };
    is_sound && pause.is_some_and(|pause| fenced.since < pause.sent_at.plus_millis(pause.for_ms))
}

fn intact(cx: &Context<'_>, shard: &Shard, old: &Node, pending: &PendingFence) -> bool {
    let by_set = epoch::by_set(shard);
    cx.health(&old.id) == Health::Up
        && cx.reply(&old.id).is_some_and(|reply| {
            (!by_set || (reply.member().is_some() && reply.member() == pending.member))
                && !reply.loading
                && reply.resync != Resync::Running
                && (reply.role == Does::Master || reply.myid == old.id)
        })
}

fn fence_over(cx: &Context<'_>, index: usize, reason: &str) -> (Draft, String) {
    let mut draft = Draft::of(cx.record, index);
    draft.shard.fence = None;
    (draft, reason.to_owned())
}
