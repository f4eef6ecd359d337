//! A master whose process was told to end: it waits for somebody who takes over, for a while.
//!
//! A planned switchover does all that is needed, also while automatic failovers are paused: to stop
//! a node is to ask for it. Replicas that are told to end at the same time are passed over: they go
//! first. The master is the last of its shard, and serves until its patience is over.

use crate::context::{Case, Context};
use crate::verdict::Verdict;
use crate::{Plan, candidate, unasked};

/// Begins the names of these switchovers.
const PREFIX: &str = "stopping-";
/// After one that failed, ms: the node waits a few seconds in all.
const AGAIN_MS: u64 = 250;

/// The switchover that is needed, if one is; an alarm where nobody could take over.
pub(crate) fn decide(cx: &Context<'_>, case: Case<'_>, plan: &mut Plan) -> Option<Verdict> {
    let Case { index, shard, master } = case;
    cx.reply(&master.id).filter(|reply| reply.stopping)?;
    let what = format!("shard {index}: master {} is being stopped", master.local);
    let candidates = candidate::for_switchover(cx, shard, master);
    if !candidates.iter().any(|candidate| unasked::follows(cx, candidate.node)) {
        let why = match candidates.is_empty() {
            true => candidate::reasons(cx, shard, master),
            false => "no replica follows it".to_owned(),
        };
        plan.alarms.insert(format!("{what}, and nobody can take over: {why}"));
        return None;
    }
    if unasked::last_failed(shard, PREFIX) == Some(true)
        && let Some(ended) = cx.observed.concluded.get(&index)
        && unasked::is_early(cx, *ended, AGAIN_MS, plan)
    {
        return None;
    }
    Some(unasked::begin(cx, index, (PREFIX, None), what))
}
