//! A master whose process was told to end: it waits for somebody who takes over, for a while.
//!
//! A planned switchover does all that is needed, also while automatic failovers are paused: to stop
//! a node is to ask for it. Replicas that are told to end at the same time are passed over: they go
//! first. The master is the last of its shard, and serves until its patience is over.

use api::heartbeat::LinkStatus;

use crate::candidate;
use crate::context::{Case, Context, Health};
use crate::verdict::Verdict;
use crate::{Intent, Plan, ShardState};

/// Begins the names of these switchovers.
const PREFIX: &str = "stopping-";
/// After one that failed, ms: the node waits a few seconds in all.
const AGAIN_MS: u64 = 250;
/// How long the replica may take to catch up, ms.
const SYNC_TIMEOUT_MS: u64 = 1_000;
/// How long the old master pauses writes at most, ms.
const PAUSE_MS: u64 = 3_000;

/// The switchover that is needed, if one is; an alarm where nobody could take over.
pub(crate) fn decide(cx: &Context<'_>, case: Case<'_>, plan: &mut Plan) -> Option<Verdict> {
    let Case { index, shard, master } = case;
    cx.reply(&master.id).filter(|reply| reply.stopping)?;
    let follows = |id: &str| {
        cx.health(id) == Health::Up
            && cx.reply(id).is_some_and(|reply| reply.link_status == LinkStatus::Up)
    };
    let what = format!("shard {index}: master {} is being stopped", master.local);
    let candidates = candidate::for_switchover(cx, shard, master);
    if !candidates.iter().any(|candidate| follows(&candidate.node.id)) {
        let why = match candidates.is_empty() {
            true => candidate::reasons(cx, shard, master),
            false => "no replica follows it".to_owned(),
        };
        plan.alarms.insert(format!("{what}, and nobody can take over: {why}"));
        return None;
    }
    let last = shard.last_intent.as_ref().filter(|last| last.id.starts_with(PREFIX));
    if last.is_some_and(|last| last.error.is_some())
        && let Some(ended) = cx.observed.concluded.get(&index)
    {
        let at = ended.plus_millis(AGAIN_MS);
        if cx.now < at {
            plan.wake(at);
            return None;
        }
    }
    let mut record = cx.record.next();
    record.shards[index].intent = Some(Intent {
        id: format!("{PREFIX}{:016x}", cx.observed.fresh_id),
        preferred: None,
        force: false,
        sync_timeout_ms: SYNC_TIMEOUT_MS,
        pause_ms: PAUSE_MS,
        accept_loss: false,
    });
    let mut verdict = Verdict::serving(ShardState::Switchover(what.clone()));
    verdict.swap = Some((record, what));
    Some(verdict)
}
