//! Planned switchovers that no operator asked for, but a node that stops ([`crate::stopping`]) or
//! is not reached ([`crate::unreached`]): what both have in common.
//!
//! Never decides whether there is a reason; only whom it could help, how often, and how it begins.

use api::heartbeat::LinkStatus;

use crate::context::{Context, Health};
use crate::draft::Draft;
use crate::verdict::Verdict;
use crate::{Intent, Node, Plan, Shard, ShardState, Time};

/// How long the replica may take to catch up, ms.
const SYNC_TIMEOUT_MS: u64 = 1_000;
/// How long the old master pauses writes at most, ms.
const PAUSE_MS: u64 = 3_000;

/// Whether a node lives and follows its master, so that it could take over soon.
pub(crate) fn follows(cx: &Context<'_>, node: &Node) -> bool {
    cx.health(&node.id) == Health::Up
        && cx.reply(&node.id).is_some_and(|reply| reply.link_status == LinkStatus::Up)
}

/// The last intent of the shard, if it was one of this prefix: whether it failed.
pub(crate) fn last_failed(shard: &Shard, prefix: &str) -> Option<bool> {
    let last = shard.last_intent.as_ref().filter(|last| last.id.starts_with(prefix));
    last.map(|last| last.error.is_some())
}

/// Whether it is too early for another one; if so, the plan wakes in time.
pub(crate) fn is_early(cx: &Context<'_>, ended: Time, rest_ms: u64, plan: &mut Plan) -> bool {
    let at = ended.plus_millis(rest_ms);
    let is_early = cx.now < at;
    if is_early {
        plan.wake(at);
    }
    is_early
}

/// Writes the intent to the record; `text` says why, `preferred` who is to take over.
pub(crate) fn begin(
    cx: &Context<'_>,
    index: usize,
    (prefix, preferred): (&str, Option<&Node>),
    text: String,
) -> Verdict {
    let mut draft = Draft::of(cx.record, index);
    draft.shard.intent = Some(Intent {
        id: format!("{prefix}{:016x}", cx.fresh_id(index)),
        preferred: preferred.map(|node| node.id.clone()),
        force: false,
        sync_timeout_ms: SYNC_TIMEOUT_MS,
        pause_ms: PAUSE_MS,
        accept_loss: false,
    });
    let mut verdict = Verdict::serving(ShardState::Switchover(text.clone()));
    verdict.swap = Some((draft, text));
    verdict
}
