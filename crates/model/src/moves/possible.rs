//! Which steps are possible.

use planner::moves::Phase;

use super::Moving;
use super::act::Step;
use super::world::World;

/// Late messages at a time.
const LATE_MAX: usize = 2;

pub(super) fn possible(model: &Moving, world: &World, steps: &mut Vec<Step>) {
    let mut all = Vec::new();
    for at in 0..2_u8 {
        let controller = &world.controllers[usize::from(at)];
        let is_awake = controller.term > 0 && !controller.is_stopped;
        for shard in 0..2 {
            if is_awake && !world.is_cut(at, shard) {
                all.extend([Step::Ask(at, shard), Step::Push(at, shard)]);
                all.extend([Step::OrderLate(at, shard), Step::AnswerLate(at, shard)]);
                all.push(Step::Cut(at, shard));
            }
            if world.is_cut(at, shard) {
                all.push(Step::Mend(at, shard));
            }
        }
        if is_awake && controller.clock < 2 && !controller.attempts.is_empty() {
            all.push(Step::Pass(at));
        }
        if is_awake
            && world.is_cut(at, 0)
            && !controller.is_silent
            && !model.rules.silence_is_no_seal
        {
            all.push(Step::Silent(at));
        }
        if is_awake && !controller.is_swap_late {
            all.push(Step::SwapLate(at));
        }
        all.push(Step::Elect(at));
    }
    all.extend([Step::Copy, Step::FrameLate, Step::Cancel]);
    // A store restored from before the slot changed its owner names the former one: that an
    // operator mends.
    if !matches!(world.phase(), Some(Phase::Owned { .. })) {
        all.push(Step::Forget);
    }
    for index in 0..2_u8 {
        let shard = &world.shards[usize::from(index)];
        if shard.committed < shard.log.len() {
            all.push(Step::Commit(index));
        }
        if shard.synced < shard.log.len() && matches!(world.phase(), Some(Phase::Owned { .. })) {
            all.push(Step::Sync(index));
        }
        if world.writes < model.writes && shard.takes_writes() {
            all.extend([Step::Write(index, 0), Step::Write(index, 1)]);
        }
        all.extend([Step::Restart(index), Step::Failover(index)]);
        // Afterwards it is an operator who says what becomes of the slots that came.
        if world.store.owner == 0 && world.store.version == 1 {
            all.push(Step::Lose(index));
        }
    }
    if !model.rules.no_timer {
        all.push(Step::Timer);
    }
    all.extend((0..u8::try_from(world.late.len()).unwrap_or(0)).map(Step::Arrive));
    let is_allowed = |step: &Step| match step.kind() {
        None => true,
        Some(kind) => {
            let is_message = matches!(
                step,
                Step::SwapLate(_) | Step::OrderLate(..) | Step::AnswerLate(..) | Step::FrameLate
            );
            model.kinds.contains(kind)
                && world.faults < model.faults
                && !(is_message && world.late.len() >= LATE_MAX)
        }
    };
    steps.extend(all.into_iter().filter(is_allowed));
}
