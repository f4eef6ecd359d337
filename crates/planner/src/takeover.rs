//! A master is replaced by force: fence it, compare the positions of those that are left, promote.
//!
//! Invariant: the record names a successor only once a sound fence of the master is confirmed, and
//! the successor has answered since (rules R2, R10).

use crate::candidate::{self, Candidate};
use crate::context::{Case, Context};
use crate::draft::Draft;
use crate::epoch;
use crate::fence::{self, Confirmed, Former};
use crate::verdict::Verdict;
use crate::{Plan, ShardState, paused};

/// Replaces the master by the replica that holds most, unless failovers are paused; `reason` begins
/// what people are told.
pub(crate) fn failover(cx: &Context<'_>, case: Case<'_>, reason: &str, plan: &mut Plan) -> Verdict {
    let Case { index, shard, master } = case;
    if let Some(verdict) = paused::instead(cx, case, reason, plan) {
        return verdict;
    }
    let candidates = candidate::eligible(cx, shard, master);
    let Some(best) = candidates.first() else {
        let why = candidate::reasons(cx, shard, master);
        plan.alarms.insert(format!("shard {index}: {reason}, nobody can take over: {why}"));
        return Verdict::serving(ShardState::Stuck(format!("{reason}; {why}")));
    };
    take_over(cx, case, best, &candidates[1..], reason, plan)
}

/// Fences the master and makes `best` the next one; the members among `others` are its set.
pub(crate) fn take_over(
    cx: &Context<'_>,
    case: Case<'_>,
    best: &Candidate<'_>,
    others: &[Candidate<'_>],
    reason: &str,
    plan: &mut Plan,
) -> Verdict {
    let Case { index, shard, master } = case;
    let stated = fence::stated(cx.record, master, cx.observed);
    let sound = fence::soundness(stated.as_ref(), cx.record);
    if !sound.any() && !cx.record.allow_unfenced {
        let why = sound.reasons.join("; ");
        plan.alarms.insert(format!(
            "shard {index}: {reason} and cannot be fenced: {why}; set `master-lease-mode block-all`, \
             or `client-access balancer-only` with every balancer listed"
        ));
        return Verdict::serving(ShardState::Stuck(format!("{reason}; no sound fence: {why}")));
    }
    let fenced = cx.fenced(Former { shard, node: master, demoted: None });
    let Some(fenced) = fenced else {
        if sound.lease || !sound.any() {
            plan.wake(fence::lease_end(cx.record, cx.observed, cx.policy, &master.id));
        }
        let text = format!("{reason}; closing its frontends, waiting for a fence");
        return Verdict::fencing(master, ShardState::Fencing(text));
    };
    if !compared(cx, best, others, fenced, plan) {
        let text = format!("{reason}; {}; comparing positions", fenced.fence);
        return Verdict::fencing(master, ShardState::Fencing(text));
    }
    promote(cx, case, best, others, &format!("{reason}; {}", fenced.fence))
}

/// Positions count only if they were read after the old master stopped serving.
///
/// That a successor lives counts only if it was heard since, too, even if it has no rival: a node
/// that has fallen silent meanwhile must not become master.
fn compared(
    cx: &Context<'_>,
    best: &Candidate<'_>,
    others: &[Candidate<'_>],
    fenced: Confirmed,
    plan: &mut Plan,
) -> bool {
    let mut all = true;
    for candidate in std::iter::once(best).chain(others) {
        let id = &candidate.node.id;
        if !cx.is_heard_since(id, fenced.since) {
            plan.asks(id);
            all = false;
        }
    }
    all
}

/// The shard in which `best` is the master, in a new epoch.
fn promote(
    cx: &Context<'_>,
    case: Case<'_>,
    best: &Candidate<'_>,
    others: &[Candidate<'_>],
    reason: &str,
) -> Verdict {
    let Case { index, master, .. } = case;
    let at = best.position.sequence;
    let text = format!("shard {index}: {reason}; {} takes over at sequence {at}", best.node.local);
    let mut verdict = Verdict::fencing(master, ShardState::Fencing(text.clone()));
    let mut draft = Draft::of(cx.record, index);
    draft.version = cx.next_version();
    draft.shard.promote(&best.node.id);
    if let Some(reply) = cx.reply(&best.node.id) {
        let members = candidate::followers(cx, best.node, others);
        epoch::open(cx, &mut draft, index, reply, members.into_iter());
    }
    let shard = &mut draft.shard;
    if let Some(intent) = shard.intent.take() {
        let wanted = intent.preferred.as_ref().is_none_or(|preferred| *preferred == best.node.id);
        let error = (!wanted).then(|| format!("{} took over instead", best.node.local));
        shard.conclude(&intent, error.as_deref());
    }
    verdict.swap = Some((draft, text));
    verdict
}
