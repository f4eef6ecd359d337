//! What must be true, and whether the shard comes back once faults end.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use crate::act;
use crate::action::Action;
use crate::node::{Entry, Power};
use crate::possible;
use crate::rules::Failover;
use crate::world::{Violation, World};

/// Whether some client reaches the node.
fn is_reached(model: &Failover, world: &World, at: u8) -> bool {
    !model.balanced || world.balancer.iter().any(|instance| instance.backend == Some(at))
}

/// How far answers of the node show its log; `None` if none can leave.
fn answers(model: &Failover, world: &World, at: u8) -> Option<usize> {
    let node = &world.nodes[usize::from(at)];
    if !node.may_serve(world.now) || !is_reached(model, world, at) {
        return None;
    }
    let held = node.holder.held()?;
    if !model.rules.reply_gate {
        return Some(node.log.len());
    }
    // Whatever a command sees is at least the put that opened the epoch.
    let committed = held.in_sync.committed();
    (committed >= held.first).then(|| usize::try_from(committed).unwrap_or(usize::MAX))
}

/// Every node that can answer does: what it shows is noted, and what must not be is found.
pub(crate) fn observe(model: &Failover, world: &mut World) {
    let mut first = None;
    for at in 0..3 {
        let Some(shown) = answers(model, world, at) else { continue };
        let bit = |entry: &Entry| match entry {
            Entry::Write(write) => 1_u8 << write,
            Entry::Epoch { .. } => 0,
        };
        let log = &world.nodes[usize::from(at)].log;
        let held = log.iter().map(bit).fold(0, |all, bit| all | bit);
        let missing = world.shown & !held;
        if missing != 0 {
            let write = u8::try_from(missing.trailing_zeros()).unwrap_or(0);
            world.violation = Some(Violation::Lost { node: at, write });
        }
        world.shown |= log.iter().take(shown).map(bit).fold(0, |all, bit| all | bit);
        match first {
            None => first = Some(at),
            Some(other) => world.violation = Some(Violation::TwoAnswer(other, at)),
        }
    }
}

/// All but one state of so many, the same ones in every run.
pub(crate) fn is_skipped(model: &Failover, world: &World) -> bool {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    !hasher.hash_one(world).is_multiple_of(model.bounds.recover_one_of.max(1))
}

/// Rounds after which a shard without faults must serve.
const ROUNDS: usize = 24;

/// Ends all faults and lets everything take its course; then a write must be acknowledged by the
/// whole set.
pub(crate) fn recovers(model: &Failover, world: &World) -> bool {
    recovered(model, world.clone(), true).1
}

/// The world once faults have ended, and whether the shard serves again; with `writes`, whether a
/// write is answered.
pub(crate) fn recovered(model: &Failover, mut world: World, writes: bool) -> (World, bool) {
    (world.cut, world.parted) = (0, 0);
    world.late.clear();
    let mut written = None;
    for _ in 0..ROUNDS {
        round(model, &mut world);
        if world.violation.is_some() {
            return (world, false);
        }
        let serving = (0..3_u8).find(|at| answers(model, &world, *at).is_some());
        let Some(at) = serving.filter(|at| *at == world.store.master) else { continue };
        let is_whole = world.store.members.len() == 3;
        match written {
            None if writes => {
                let write = 7;
                world.node(at).write(write);
                written = Some(write);
            }
            None if is_whole => return (world, true),
            Some(write) if world.shown & (1 << write) != 0 && is_whole => return (world, true),
            _ => {}
        }
    }
    (world, false)
}

/// Everybody does what they can, in a fixed order.
fn round(model: &Failover, world: &mut World) {
    let step = |world: &mut World, action| {
        act::act(model, world, action);
        observe(model, world);
    };
    for at in 0..3 {
        match world.nodes[usize::from(at)].power {
            Power::Down => step(world, Action::Start(at)),
            Power::Stopped => step(world, Action::Continue(at)),
            // A stop has its time, and then ends whatever it is counted on for.
            Power::Up if world.nodes[usize::from(at)].is_leaving => {
                step(world, Action::End(at));
                step(world, Action::Start(at));
            }
            Power::Up => {}
        }
    }
    for at in 0..2 {
        world.controller(at).is_swap_late = false;
        world.controller(at).is_swap_lost = false;
        if !world.controllers[usize::from(at)].is_connected {
            step(world, Action::Reconnect(at));
        }
    }
    for at in 0..2 {
        if world.controllers[usize::from(at)].in_doubt.is_some() {
            step(world, Action::Settle(at));
        }
    }
    if world.term == 0 {
        step(world, Action::Elect(world.leader));
    }
    let leader = world.leader;
    for _ in 0..3 {
        step(world, Action::AskMaster(leader));
        step(world, Action::AskReplicas(leader));
        for at in 0..3 {
            if possible::stream(model, world, at).is_some() {
                step(world, Action::Follow(at));
            }
        }
    }
    step(world, Action::Tick);
}
