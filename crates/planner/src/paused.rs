//! A cluster whose operator has asked for no automatic failover: for the time of a maintenance, in
//! which masters are away on purpose.
//!
//! What an operator asks for (a switchover, an accepted loss) is done all the same, and so is what
//! had begun: a successor that the record names already is fenced and told. A master that comes
//! back gets its lease, if it still holds what it acknowledged.

use crate::context::{Case, Context, Health};
use crate::draft::Draft;
use crate::verdict::Verdict;
use crate::{Plan, ShardState};

/// In every status, as long as it lasts.
pub(crate) fn alarm(cx: &Context<'_>, plan: &mut Plan) {
    let Some(paused) = &cx.record.paused else { return };
    let why = match paused.reason.as_str() {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    plan.alarms.insert(format!(
        "automatic failover is paused by an operator{why}: a master that fails is not replaced before `ctl resume cluster`"
    ));
}

/// What a shard does in place of a failover; `None`: nothing is paused.
pub(crate) fn instead(
    cx: &Context<'_>,
    case: Case<'_>,
    reason: &str,
    plan: &mut Plan,
) -> Option<Verdict> {
    let Case { index, shard, master } = case;
    cx.record.paused.as_ref()?;
    let text = format!("{reason}; automatic failover is paused");
    plan.alarms.insert(format!("shard {index}: {text}"));
    let state = ShardState::Stuck(text.clone());
    // A process that answers would have been replaced for what it lacks: it must not serve. One
    // that is down may, once it is back.
    let is_down = cx.health(&master.id) == Health::Down;
    let mut verdict = if is_down { Verdict::serving(state) } else { Verdict::waiting(state) };
    if let Some(intent) = &shard.intent {
        let mut draft = Draft::of(cx.record, index);
        draft.shard.conclude(intent, Some(&text));
        verdict.swap = Some((draft, format!("shard {index}: the switchover is given up: {text}")));
    }
    Some(verdict)
}
