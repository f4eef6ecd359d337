//! The moments at which searches begin.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::moves::{Feed, MoveId, Order, Ordered, Slots};
use planner::moves::{Moves, Phase};
use replication::slots::copy::Sender;
use replication::slots::{Cursor, Machine, Mark, State};

use super::act::{self, Step};
use super::world::{Controller, Entry, Epoch, Late, SLOT, Shard, Stored, World, queue, slots};
use super::{Moving, check};

/// The value of what lies at the taker from before, and was never anybody's.
const LEFT_OVER: u8 = 99;

/// How far the move is when a search begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// It is queued.
    Queued,
    /// Everything was copied, nothing is frozen, and the taker's set lacks the end of the copy.
    Copied,
    /// The record has just given the slot to the taker.
    Given,
    /// It is done, and a second one has brought the slot back; the order to clean of the first one
    /// is late.
    CameBack,
    /// It is queued, and the taker has everything of another slot under its number: of a move that
    /// this store does not know, whose stream goes on.
    Reused,
}

/// Both shards serve, the first one owns the slot, and one move is queued.
fn fresh() -> World {
    let stored = Arc::new(Stored {
        revision: 1,
        term: 0,
        version: 1,
        owner: 0,
        epochs: [Epoch { number: 1, version: 1 }; 2],
        floors: [None; 2],
        moves: Moves::default(),
    });
    let controller = Controller {
        term: 0,
        is_stopped: false,
        is_swap_late: false,
        record: Arc::clone(&stored),
        heard: [None, None],
        is_silent: false,
        attempts: BTreeMap::new(),
        clock: 0,
    };
    let shard = |index: u8, entry: Entry| {
        Arc::new(Shard {
            index,
            epoch: stored.epochs[0],
            is_granted: true,
            log: vec![Entry::Epoch(1), entry],
            committed: 2,
            synced: 2,
            version: 1,
            owner: 0,
            machine: Machine::default(),
            aside: None,
            pulls: None,
            feeds: None,
        })
    };
    World {
        faults: 0,
        writes: 0,
        next: 2,
        leader: 0,
        controllers: [Arc::new(controller.clone()), Arc::new(controller)],
        // What the taker has of the slot is nobody's, and no reason to serve it.
        shards: [shard(0, Entry::Write(0, 1)), shard(1, Entry::Write(1, LEFT_OVER))],
        cut: 0,
        late: Vec::new(),
        shown: [1, 0],
        given: [0; 2],
        wrong: None,
        store: stored,
    }
}

/// The taker has a whole copy of another slot, by the number that the next move will have.
fn reuse(world: &mut World) {
    let (id, giver) = (MoveId(1), &world.shards[0]);
    let (at, epoch) = (Some(giver.name(giver.latest())), giver.epoch.number);
    let state = State::Staged { at, cursor: Cursor::End };
    let slots = Slots::new(&[(SLOT + 1, SLOT + 1)]).unwrap_or_else(|_| unreachable!("one slot"));
    let taker = world.shard(1);
    taker.log.push(Entry::Put(Mark { id, slots, version: 0, state }));
    (taker.committed, taker.pulls) = (taker.log.len(), Some((id, epoch)));
    let own = taker.epoch.number;
    world.shard(0).feeds = Some((id, own, Some(Sender::new(id, at, Cursor::End))));
}

/// Lets everything take its course until the move is so far.
fn run_until(model: &Moving, world: &mut World, is_there: impl Fn(&World) -> bool) {
    for _ in 0..32 {
        for step in check::round(world) {
            if is_there(world) {
                return;
            }
            act::act(model, world, step);
            check::observe(world);
        }
    }
}

/// The world at the beginning of a search.
pub(super) fn begun(model: &Moving) -> World {
    let mut world = fresh();
    if model.begin == Begin::Reused {
        reuse(&mut world);
    }
    queue(&mut world, 0, 1);
    act::act(model, &mut world, Step::Elect(0));
    world.faults = 0;
    let is_copied =
        |world: &World| world.shards[0].say().values().any(|said| said.feed == Some(Feed::Close));
    let is_given = |world: &World| matches!(world.phase(), Some(Phase::Owned { .. }));
    match model.begin {
        Begin::Queued | Begin::Reused => {}
        Begin::Copied => {
            for step in [Step::Write(0, 1), Step::Commit(0)] {
                act::act(model, &mut world, step);
                check::observe(&mut world);
            }
            run_until(model, &mut world, is_copied);
            for step in [Step::Ask(0, 1), Step::Ask(0, 0)] {
                act::act(model, &mut world, step);
            }
        }
        Begin::Given => run_until(model, &mut world, is_given),
        Begin::CameBack => {
            run_until(model, &mut world, |world| world.store.moves.list.is_empty());
            let clean = Ordered {
                id: MoveId(1),
                slots: slots(),
                term: u64::from(world.store.term),
                order: Order::Clean,
            };
            world.late.push(Late::Orders(0, vec![clean]));
            queue(&mut world, 1, 0);
            act::act(model, &mut world, Step::Elect(0));
            run_until(model, &mut world, |world| {
                world.store.owner == 0 && world.shards[0].answers()
            });
        }
    }
    // What the disk has is not yet looked at.
    world.shard(1).synced = 1;
    (world.faults, world.writes) = (0, 0);
    world
}
