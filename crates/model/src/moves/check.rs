//! What must be true, and whether the move ends once faults do.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use planner::moves::Phase;
use replication::slots::{Mark, State};

use super::Moving;
use super::act::{self, Step};
use super::world::{Entry, Late, SHARD_IDS, SLOT, World, Wrong};

/// Every shard that can answer does: what it shows is noted, and what must not be is found.
pub(super) fn observe(world: &mut World) {
    let answers = [0, 1].map(|index| world.shards[index].answers());
    if answers == [true, true] {
        world.wrong = Some(Wrong::TwoAnswer);
    }
    for index in [0, 1].into_iter().filter(|index| answers[*index]) {
        let shard = &world.shards[index];
        let (all, shown) = (shard.data(usize::MAX), shard.data(shard.committed));
        for key in 0..2_u8 {
            let place = usize::from(key);
            if all[place].unwrap_or(0) < world.shown[place] {
                world.wrong = Some(Wrong::Lost { shard: u8::from(index == 1), key });
            }
            world.shown[place] = world.shown[place].max(shown[place].unwrap_or(0));
        }
    }
    staged(world);
    emptied(world);
}

fn staged(world: &mut World) {
    let Some(one) = world.store.moves.list.first().filter(|one| one.phase == Phase::Copy) else {
        return;
    };
    let to = usize::from(one.to == SHARD_IDS[1]);
    let (giver, taker) = (&world.shards[1 - to], &world.shards[to]);
    let table = taker.table();
    let Some(mark) = table.of(one.id).filter(|mark| mark.slots == one.slots) else { return };
    let Mark { state: State::Staged { at, cursor }, .. } = mark else { return };
    let there = match at {
        None => [None; 2],
        // It will be dropped.
        Some(at) if !giver.holds(*at) => return,
        Some(at) => {
            let length = usize::try_from(at.sequence).unwrap_or(usize::MAX);
            if length > giver.committed {
                world.wrong = Some(Wrong::Unacknowledged);
                return;
            }
            giver.data(length)
        }
    };
    let here = taker.data(usize::MAX);
    let expected =
        [0, 1].map(|key: u8| there[usize::from(key)].filter(|_| cursor.is_above(&[key])));
    if here != expected {
        world.wrong = Some(Wrong::Torn(u8::from(to == 1)));
    }
}

fn emptied(world: &mut World) {
    for from in 0..2 {
        let table = world.shards[from].table();
        let gone = |mark: &Mark| mark.state == State::Gone { is_empty: true };
        let taker = &world.shards[1 - from];
        if world.store.owner != u8::from(from == 0) || !table.newest(SLOT).is_some_and(gone) {
            continue;
        }
        let kept = taker.data(taker.synced);
        if (0..2).any(|key| kept[key].unwrap_or(0) < world.given[key]) {
            world.wrong = Some(Wrong::Orphaned);
        }
    }
}

/// All but one state of so many, the same ones in every run.
pub(super) fn is_skipped(model: &Moving, world: &World) -> bool {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    !hasher.hash_one(world).is_multiple_of(model.recover_one_of.max(1))
}

/// Rounds after which a world without faults must be quiet.
const ROUNDS: usize = 24;

/// The world once faults have ended, and whether the owner serves and the other side is empty.
pub(super) fn recovered(model: &Moving, mut world: World) -> (World, bool) {
    world.cut = 0;
    if world.late.iter().any(|late| matches!(late, Late::Frame(..))) {
        // A stream that has lost something ends.
        (world.shard(0).feeds, world.shard(1).feeds) = (None, None);
    }
    world.late.clear();
    for at in 0..2 {
        world.controller(at).is_swap_late = false;
    }
    if world.controllers[usize::from(world.leader)].is_stopped {
        let leader = world.leader;
        act::act(model, &mut world, Step::Elect(leader));
    }
    for _ in 0..ROUNDS {
        for step in round(&world) {
            act::act(model, &mut world, step);
            observe(&mut world);
        }
        if world.wrong.is_some() {
            return (world, false);
        }
        let owner = usize::from(world.store.owner);
        let other = &world.shards[1 - owner];
        let is_empty = other.data(usize::MAX) == [None; 2];
        // What was there before the first move is nobody's, until one begins to stage.
        let is_left_over = !other.log.iter().any(|entry| matches!(entry, Entry::Emptied(_)));
        let is_over = world.store.moves.list.is_empty();
        if is_over && world.shards[owner].takes_writes() && (is_empty || is_left_over) {
            return (world, true);
        }
    }
    (world, false)
}

/// Everybody does what they can, in a fixed order.
pub(super) fn round(world: &World) -> Vec<Step> {
    let leader = world.leader;
    let mut steps = Vec::new();
    for shard in [1, 0] {
        steps.extend([Step::Push(leader, shard), Step::Ask(leader, shard), Step::Commit(shard)]);
    }
    steps.extend([Step::Copy, Step::Copy, Step::Commit(1), Step::Commit(0)]);
    steps.extend([Step::Ask(leader, 1), Step::Ask(leader, 0), Step::Sync(1), Step::Sync(0)]);
    if world.controllers[usize::from(leader)].clock < 2 {
        steps.push(Step::Pass(leader));
    }
    steps
}
