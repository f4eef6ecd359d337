//! What a step does.
//!
//! A message that is neither lost nor late is one step with its answer, as in the other model.

use std::sync::Arc;

use api::moves::{Order, Ordered};
use planner::moves::ordered;
use replication::slots::copy::Sender;
use replication::slots::{Act, Here, Mark, State};

use super::copying::{ends, frame, stage};
use super::plan::{now, plan};
use super::world::{Entry, Epoch, Heard, Late, World};
use super::{Faults, Moving};

/// A step. Numbers name controllers and shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// A controller gives a master its orders, reads the answer, and does what follows.
    Ask(u8, u8),
    /// A controller pushes the topology.
    Push(u8, u8),
    /// Time passes for a controller's attempt.
    Pass(u8),
    /// The taker has the next frame of the copy.
    Copy,
    /// The set of a shard has all of its log.
    Commit(u8),
    /// And its disk.
    Sync(u8),
    /// A client writes a key at a shard.
    Write(u8, u8),
    /// A late message arrives.
    Arrive(u8),
    /// A path is whole again.
    Mend(u8, u8),
    /// The process of a shard restarts.
    Restart(u8),
    /// A replica takes over that has only what was acknowledged.
    Failover(u8),
    /// An operator lets a shard go on with an empty database.
    Lose(u8),
    /// A controller is elected.
    Elect(u8),
    /// The next compare-and-swap of a controller is late, and it is stopped.
    SwapLate(u8),
    /// The orders of a controller to a master are late.
    OrderLate(u8, u8),
    /// The answer is late.
    AnswerLate(u8, u8),
    /// The next frame is late.
    FrameLate,
    /// A path is cut.
    Cut(u8, u8),
    /// The giver's controller counts its lease as over.
    Silent(u8),
    /// An operator cancels the move.
    Cancel,
    /// The store is restored from before any move, its controller is elected anew, and an operator
    /// queues the move again.
    Forget,
    /// The giver thaws by itself, where it may.
    Timer,
}

impl Step {
    /// Of a fault; `None` for what is none.
    pub(super) fn kind(self) -> Option<Faults> {
        Some(match self {
            Self::Restart(_) => Faults::RESTART,
            Self::Failover(_) => Faults::FAILOVER,
            Self::Lose(_) => Faults::LOSS,
            Self::Elect(_) => Faults::ELECT,
            Self::SwapLate(_) => Faults::SWAP,
            Self::OrderLate(..) => Faults::ORDER,
            Self::AnswerLate(..) => Faults::ANSWER,
            Self::FrameLate => Faults::FRAME,
            Self::Cut(..) => Faults::CUT,
            Self::Cancel => Faults::CANCEL,
            Self::Forget => Faults::STORE,
            _ => return None,
        })
    }
}

pub(super) fn act(model: &Moving, world: &mut World, step: Step) {
    world.faults += u8::from(step.kind().is_some());
    match step {
        Step::Ask(at, shard) => {
            let orders = orders(model, world, at, shard);
            deliver(model, world, shard, &orders);
            let heard = heard(world, shard);
            hear(world, at, shard, heard);
            react(model, world, at);
        }
        Step::Push(at, shard) => push(model, world, at, shard),
        Step::Pass(at) => {
            world.controller(at).clock += 1;
            react(model, world, at);
        }
        Step::Copy => {
            if let Some((head, records)) = frame(model, world) {
                stage(model, world, &head, records);
            }
        }
        Step::Commit(shard) => {
            let shard = world.shard(shard);
            shard.committed = shard.log.len();
        }
        Step::Sync(shard) => {
            let shard = world.shard(shard);
            shard.synced = shard.log.len();
        }
        Step::Write(shard, key) => {
            let value = world.next;
            (world.writes, world.next) = (world.writes + 1, world.next + 1);
            world.shard(shard).log.push(Entry::Write(key, value));
        }
        Step::Arrive(which) => arrive(model, world, which),
        Step::Mend(at, shard) => world.cut &= !(1 << (2 * at + shard)),
        fault => disturb(model, world, fault),
    }
}

fn disturb(model: &Moving, world: &mut World, fault: Step) {
    match fault {
        Step::Restart(shard) => {
            let length = world.shards[usize::from(shard)].log.len();
            succeed(model, world, shard, length);
        }
        Step::Failover(shard) => {
            let length = world.shards[usize::from(shard)].committed;
            succeed(model, world, shard, length);
        }
        Step::Lose(shard) => {
            // What is not the last of it stays: the first batch of the shard's first epoch.
            let length = if shard == 0 { 2 } else { 1 };
            succeed(model, world, shard, length);
            if shard == world.store.owner {
                // The operator has said that what was acknowledged is given up.
                let left = world.shards[usize::from(shard)].data(usize::MAX);
                world.shown = left.map(|value| value.unwrap_or(0));
            }
        }
        Step::Elect(at) => elect(model, world, at),
        Step::SwapLate(at) => world.controller(at).is_swap_late = true,
        Step::OrderLate(at, shard) => {
            let orders = orders(model, world, at, shard);
            if !orders.is_empty() {
                world.late.push(Late::Orders(shard, orders));
            }
        }
        Step::AnswerLate(at, shard) => {
            let orders = orders(model, world, at, shard);
            deliver(model, world, shard, &orders);
            let term = world.controllers[usize::from(at)].term;
            let heard = heard(world, shard);
            world.late.push(Late::Answer(at, term, shard, heard));
        }
        Step::FrameLate => {
            if let Some((head, records)) = frame(model, world) {
                let (_, to) = ends(world);
                let epoch = world.shards[usize::from(to)].epoch.number;
                world.late.push(Late::Frame(epoch, head, records));
            }
        }
        Step::Cut(at, shard) => world.cut |= 1 << (2 * at + shard),
        Step::Silent(at) => {
            world.controller(at).is_silent = true;
            react(model, world, at);
        }
        Step::Cancel => {
            let id = world.store.moves.list.first().map(|one| one.id);
            let store = Arc::make_mut(&mut world.store);
            if id.is_some_and(|id| store.moves.cancel(id).is_ok()) {
                store.revision += 1;
                spread(world);
            }
        }
        Step::Forget => {
            let owner = usize::from(world.store.owner);
            Arc::make_mut(&mut world.store).moves = planner::moves::Moves::default();
            super::world::queue(world, owner, 1 - owner);
            elect(model, world, world.leader);
        }
        Step::Timer => thaw(world.shard(0)),
        _ => {}
    }
}

/// As an order would; what is sealed stays sealed.
fn thaw(giver: &mut super::world::Shard) {
    let held: Vec<_> = giver.machine.held().collect();
    for id in held {
        let table = giver.table();
        let Some(frozen) = giver.machine.say(id, &table).frozen else { continue };
        let order = Order::Thaw { number: frozen.number };
        let thaw = Ordered { id, slots: super::world::slots(), term: frozen.term, order };
        let here = Here { table: &table, version: 0, owns: None, keeps: false };
        let _ = giver.machine.obey(&thaw, here);
    }
}

/// Another process of a shard, by the leader's word: one step, as the other model shows that it may
/// be.
fn succeed(model: &Moving, world: &mut World, index: u8, length: usize) {
    let leader = &world.controllers[usize::from(world.leader)];
    if leader.term == 0 || leader.is_stopped || leader.term != world.store.term {
        return;
    }
    let store = Arc::make_mut(&mut world.store);
    let number = store.epochs[usize::from(index)].number + 1;
    let epoch = Epoch { number, version: store.version };
    store.epochs[usize::from(index)] = epoch;
    store.revision += 1;
    let shard = world.shard(index);
    shard.log.truncate(length);
    (shard.committed, shard.synced) = (length, shard.synced.min(length));
    (shard.epoch, shard.is_granted) = (epoch, false);
    shard.machine = replication::slots::Machine::default();
    (shard.pulls, shard.feeds) = (None, None);
    shard.open(model.rules.epoch_version);
    // A stream ends with either of its processes.
    world.shard(1 - index).feeds = None;
    spread(world);
}

fn elect(model: &Moving, world: &mut World, at: u8) {
    let term = world.controllers.iter().map(|one| one.term).max().unwrap_or(0) + 1;
    world.leader = at;
    let store = Arc::clone(&world.store);
    let controller = world.controller(at);
    (controller.term, controller.is_stopped, controller.is_swap_late) = (term, false, false);
    (controller.record, controller.heard, controller.clock) = (store, [None, None], 0);
    controller.is_silent = false;
    controller.attempts.clear();
    react(model, world, at);
}

/// The leader has the record; one that was deposed does not hear of it.
fn spread(world: &mut World) {
    let store = Arc::clone(&world.store);
    let leader = world.leader;
    if !world.controllers[usize::from(leader)].is_stopped {
        world.controller(leader).record = store;
    }
}

/// The orders that leave now; what is remembered of them is remembered first.
fn orders(model: &Moving, world: &mut World, at: u8, shard: u8) -> Vec<Ordered> {
    let controller = world.controller(at);
    let orders = plan(model, controller).orders[usize::from(shard)].clone();
    let now = now(controller);
    let attempts = &mut controller.attempts;
    let before: Vec<u64> = attempts.values().map(|attempt| attempt.number).collect();
    for order in &orders {
        ordered(attempts, order, now);
    }
    let is_fresh = attempts.values().map(|attempt| attempt.number).ne(before);
    for attempt in attempts.values_mut() {
        // Counted from the newest one.
        attempt.at = planner::Time::default();
    }
    if is_fresh {
        controller.clock = 0;
    }
    orders
}

fn deliver(model: &Moving, world: &mut World, index: u8, orders: &[Ordered]) {
    for ordered in orders {
        let other = world.shards[usize::from(1 - index)].epoch.number;
        let shard = world.shard(index);
        if !shard.is_granted {
            return;
        }
        let table = shard.table();
        let owns = Some(shard.owner == index);
        let (version, keeps) = (i64::from(shard.version), shard.keeps());
        let here = Here { table: &table, version, owns, keeps };
        let known = table.of(ordered.id).map(|mark| mark.slots.clone());
        let known = known.filter(|_| !model.rules.one_number);
        let slots = known.unwrap_or_else(|| ordered.slots.clone());
        let obeyed = shard.machine.obey(&Ordered { slots, ..ordered.clone() }, here);
        if !model.rules.clean_under_mark && ordered.order == Order::Clean {
            let state = State::Gone { is_empty: true };
            let (id, slots) = (ordered.id, ordered.slots.clone());
            shard.log.push(Entry::Emptied(Mark { id, slots, version: 1, state }));
            continue;
        }
        match obeyed {
            Err(_) | Ok(Act::Nothing | Act::Rest) => {}
            Ok(Act::Drain) => {
                let at = shard.name(shard.latest());
                shard.machine.drained(ordered.id, at);
            }
            Ok(Act::Empty(mark)) if !model.rules.begins_empty && mark.version == 0 => {
                shard.log.push(Entry::Put(mark));
            }
            Ok(Act::Put(mark)) => shard.log.push(Entry::Put(mark)),
            Ok(Act::Empty(mark)) => shard.log.push(Entry::Emptied(mark)),
            Ok(Act::Pull { epoch, .. }) => {
                let epoch = u8::try_from(epoch).unwrap_or(u8::MAX);
                shard.pulls = Some((ordered.id, epoch));
                let asks = table.of(ordered.id).map(|mark| mark.state.clone());
                let own = shard.epoch.number;
                if epoch == other {
                    connect(model, world, 1 - index, ordered, (own, asks));
                }
            }
        }
    }
}

/// The giver looks whether it can go on from what the taker has.
fn connect(
    model: &Moving,
    world: &mut World,
    giver: u8,
    ordered: &Ordered,
    (taker, asks): (u8, Option<State>),
) {
    let giver = world.shard(giver);
    let Some(State::Staged { at, cursor }) = asks else { return };
    let fits = at.is_none_or(|at| match model.rules.position_by_id {
        true => giver.holds(at),
        false => at.sequence <= giver.latest(),
    });
    let is_there = giver.feeds.as_ref().is_some_and(|(id, epoch, sender)| {
        *id == ordered.id && *epoch == taker && sender.is_some() == fits
    });
    if giver.is_granted && !is_there {
        let sender = fits.then(|| Sender::new(ordered.id, at, cursor));
        giver.feeds = Some((ordered.id, taker, sender));
    }
}

fn heard(world: &World, index: u8) -> Heard {
    let shard = &world.shards[usize::from(index)];
    Heard {
        epoch: shard.epoch.number,
        is_granted: shard.is_granted,
        version: shard.version,
        said: shard.say(),
    }
}

fn hear(world: &mut World, at: u8, shard: u8, heard: Heard) {
    let controller = world.controller(at);
    controller.heard[usize::from(shard)] = Some(heard);
    controller.is_silent &= shard != 0;
}

/// A controller changes the record for as long as its plan says so.
fn react(model: &Moving, world: &mut World, at: u8) {
    for _ in 0..3 {
        let controller = &world.controllers[usize::from(at)];
        if controller.term == 0 || controller.is_stopped {
            return;
        }
        let Some(new) = plan(model, controller).swap.clone() else { return };
        if controller.is_swap_late {
            let old = Arc::clone(&controller.record);
            world.late.push(Late::Swap(old, new));
            let controller = world.controller(at);
            (controller.is_swap_late, controller.is_stopped) = (false, true);
            return;
        }
        if world.store.revision != controller.record.revision {
            // Somebody else has changed it: only the leader is told how.
            spread(world);
            return;
        }
        install(world, Arc::clone(&new));
        world.controller(at).record = new;
        spread(world);
    }
}

fn install(world: &mut World, new: Arc<super::world::Stored>) {
    if new.owner != world.store.owner {
        world.given = world.shown;
    }
    world.store = new;
}

fn push(model: &Moving, world: &mut World, at: u8, index: u8) {
    let record = Arc::clone(&world.controllers[usize::from(at)].record);
    let shard = world.shard(index);
    if record.version > shard.version {
        (shard.version, shard.owner) = (record.version, record.owner);
    }
    shard.open(model.rules.epoch_version);
}

fn arrive(model: &Moving, world: &mut World, which: u8) {
    let Some(late) = world.late.get(usize::from(which)).cloned() else { return };
    match late {
        Late::Orders(shard, orders) => {
            world.late.remove(usize::from(which));
            deliver(model, world, shard, &orders);
        }
        Late::Answer(at, term, shard, heard) => {
            world.late.remove(usize::from(which));
            let controller = &world.controllers[usize::from(at)];
            if controller.term == term && !controller.is_stopped {
                hear(world, at, shard, heard);
                react(model, world, at);
            }
        }
        Late::Swap(old, new) => {
            world.late.remove(usize::from(which));
            if world.store == old {
                install(world, new);
                spread(world);
            }
        }
        Late::Frame(epoch, head, records) => {
            world.late.remove(usize::from(which));
            let (_, to) = ends(world);
            if world.shards[usize::from(to)].epoch.number == epoch {
                stage(model, world, &head, records);
            }
        }
    }
}
