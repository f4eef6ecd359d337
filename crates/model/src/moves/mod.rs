//! A model of slot moves, searched as the one of failovers is.
//!
//! Two shards, one slot with two keys, two controllers on one store. What decides is the code that
//! is to ship: `planner::moves` and `replication::slots`. Of a shard there is only the process that
//! serves: a failover is one step that leaves any beginning of the log which has all that was
//! acknowledged, for that is what the other model shows.
//!
//! Invariants, after every step: at most one shard can answer for the slot; whoever can holds every
//! write that a client was ever shown; what is staged is the giver's data at its position, below
//! its cursor; the giver has emptied nothing that is not on the taker's disk. And once faults end
//! the owner serves, and the other side is empty.
//!
//! Deliberately left out: asynchronous shards, clocks and expiry, load balancers, several slots. Of
//! another slot there is a copy that a move of an earlier store has left ([`Begin::Reused`]); a
//! restored earlier store names the same owner.

mod act;
mod begin;
mod check;
mod copying;
mod plan;
mod possible;
mod world;

use stateright::{Model, Property};

pub use act::Step;
pub use begin::Begin;
pub use world::{World, Wrong};

/// Kinds of faults, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults(u16);

impl Faults {
    /// A process restarts, with all of its log.
    pub const RESTART: Self = Self(1);
    /// A replica takes over, with what was acknowledged.
    pub const FAILOVER: Self = Self(1 << 1);
    /// An operator lets a shard go on with nothing.
    pub const LOSS: Self = Self(1 << 2);
    /// The other controller leads.
    pub const ELECT: Self = Self(1 << 3);
    /// A compare-and-swap is late, and its controller stopped.
    pub const SWAP: Self = Self(1 << 4);
    /// Orders are late.
    pub const ORDER: Self = Self(1 << 5);
    /// An answer is late.
    pub const ANSWER: Self = Self(1 << 6);
    /// A frame of the copy is late.
    pub const FRAME: Self = Self(1 << 7);
    /// A controller does not reach a master.
    pub const CUT: Self = Self(1 << 8);
    /// An operator cancels the move.
    pub const CANCEL: Self = Self(1 << 9);
    /// An earlier store is restored, which knows of no move, and an operator asks for one again.
    pub const STORE: Self = Self(1 << 10);
    /// All of them.
    pub const ALL: Self = Self(u16::MAX);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Rules of the protocol. All are on in what is to ship; a test switches one off to see that it is
/// needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveRules {
    /// Only an order thaws (M4).
    pub no_timer: bool,
    /// A freeze counts for the term and attempt it was confirmed to (M4).
    pub freeze_of_term: bool,
    /// What the giver said counts under the epoch that the record holds (M3).
    pub giver_epoch: bool,
    /// What the taker said, too (M3).
    pub taker_epoch: bool,
    /// The taker is ready once its set has the mark (M5).
    pub committed: bool,
    /// It opens once the giver is sealed or its epoch over (M9).
    pub sealed: bool,
    /// That the giver is silent for longer than a lease is no end of its epoch (M9).
    pub silence_is_no_seal: bool,
    /// A grant names the topology without which nothing is served (M2).
    pub epoch_version: bool,
    /// Positions are compared by epoch and sequence (M7).
    pub position_by_id: bool,
    /// Only what the giver's set has is sent (M7).
    pub acknowledged_only: bool,
    /// The mark is part of the batch it tells of (M8).
    pub mark_in_batch: bool,
    /// Staging begins empty (M13).
    pub begins_empty: bool,
    /// The giver deletes once the taker has its mark on the disk.
    pub held_on_disk: bool,
    /// It deletes only under the newest mark of the slot, of that move (M12).
    pub clean_under_mark: bool,
    /// A number is one move's: none begins under one that a node knows, and what a node has under
    /// it counts for its own slots.
    pub one_number: bool,
}

impl MoveRules {
    /// As it is to ship.
    pub const ALL: Self = Self {
        no_timer: true,
        freeze_of_term: true,
        giver_epoch: true,
        taker_epoch: true,
        committed: true,
        sealed: true,
        silence_is_no_seal: true,
        epoch_version: true,
        position_by_id: true,
        acknowledged_only: true,
        mark_in_batch: true,
        begins_empty: true,
        held_on_disk: true,
        clean_under_mark: true,
        one_number: true,
    };
}

/// The model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moving {
    /// By which rules.
    pub rules: MoveRules,
    /// Faults at most.
    pub faults: u8,
    /// Which.
    pub kinds: Faults,
    /// Writes of clients at most.
    pub writes: u8,
    /// How far the move is when the search begins.
    pub begin: Begin,
    /// What has happened since; its faults are not counted.
    pub script: &'static [Step],
    /// One state of so many is made to recover.
    pub recover_one_of: u64,
}

impl Moving {
    /// Where a world ends once faults have, and whether the slot is served there and nowhere else.
    pub fn recovered(&self, world: &World) -> (World, bool) {
        check::recovered(self, world.clone())
    }
}

impl Model for Moving {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let mut world = begin::begun(self);
        for step in self.script {
            act::act(self, &mut world, *step);
            check::observe(&mut world);
        }
        (world.faults, world.writes) = (0, 0);
        vec![world]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        possible::possible(self, world, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        act::act(self, &mut next, step);
        check::observe(&mut next);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing is wrong", |_: &Self, world: &World| world.wrong.is_none()),
            Property::always("the move ends", |model: &Self, world: &World| {
                world.wrong.is_some()
                    || check::is_skipped(model, world)
                    || check::recovered(model, world.clone()).1
            }),
        ]
    }
}
