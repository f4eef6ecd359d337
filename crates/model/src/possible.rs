//! What can happen next.

use crate::action::Action;
use crate::node::{Node, Power};
use crate::planning::plan;
use crate::rules::{Failover, Kinds};
use crate::world::World;

impl Action {
    /// Which kind of fault it is; of what is none, any.
    fn kind(self) -> Kinds {
        match self {
            Self::Crash(..) => Kinds::CRASH,
            Self::Stop(..) => Kinds::STOP,
            Self::Reboot(..) => Kinds::REBOOT,
            Self::Replace(..) => Kinds::REPLACE,
            Self::Lose(..) => Kinds::LOSE,
            Self::Leave(..) => Kinds::LEAVE,
            Self::Cut(..) => Kinds::CUT,
            Self::Part(..) => Kinds::PART,
            Self::Isolate(..) => Kinds::ISOLATE,
            Self::RestartController => Kinds::RESTART,
            Self::AskLate(..) => Kinds::BEAT,
            Self::AnswerLate(..) => Kinds::ANSWER,
            Self::FollowLate(..) => Kinds::ACK,
            Self::SwapLate(..) | Self::SwapLost(..) => Kinds::SWAP,
            _ => Kinds::ORDER,
        }
    }

    /// The node that a fault is about.
    fn victim(self) -> Option<u8> {
        match self {
            Self::AskLate(_, node)
            | Self::AnswerLate(_, node)
            | Self::FollowLate(node)
            | Self::Crash(node)
            | Self::Reboot(node)
            | Self::Replace(node)
            | Self::Lose(node)
            | Self::Leave(node)
            | Self::Stop(node)
            | Self::Part(node)
            | Self::Cut(_, node) => Some(node),
            _ => None,
        }
    }
}

/// Longest log: the initial epochs, one for each fault, and the writes.
const LOG_MAX: usize = 12;

pub(crate) fn possible(model: &Failover, world: &World, actions: &mut Vec<Action>) {
    if world.violation.is_some() || world.nodes.iter().any(|node| node.log.len() >= LOG_MAX) {
        return;
    }
    let mut found = Vec::new();
    if is_quiet(model, world) {
        found.push(Action::Tick);
    }
    for index in 0..2 {
        controller_steps(model, world, index, &mut found);
    }
    for index in 0..3 {
        node_steps(model, world, index, &mut found);
    }
    let is_steady = world.store.intent.is_none() && world.store.fence.is_none();
    if world.wanted < model.bounds.switchovers && is_steady && world.term > 0 {
        found.push(Action::Want);
    }
    let late = u8::try_from(world.late.len()).unwrap_or(u8::MAX);
    found.extend((0..late).map(Action::Arrive));
    let left = model.bounds.faults.saturating_sub(world.faults);
    let is_alike = world.faults == 0
        && model.begin.is_empty()
        && world.wanted == 0
        && world.nodes[1].log.len() == world.nodes[2].log.len();
    found.retain(|action| {
        // Before the first fault the replicas differ in how far they are, at most: what happens to
        // one could as well happen to the other.
        let is_twin = match action {
            // Nor does it matter who is first once nothing can happen between.
            Action::Follow(2) => is_alike || (left == 0 && is_behind(model, world, 1)),
            action => is_alike && action.cost() > 0 && action.victim() == Some(2),
        };
        let is_fault = action.cost() > 0;
        let may_be = !is_fault || (left > 0 && model.bounds.kinds.contains(action.kind()));
        may_be && !is_twin
    });
    actions.append(&mut found);
}

/// The replica can take something from its master.
fn is_behind(model: &Failover, world: &World, at: u8) -> bool {
    let replica = &world.nodes[usize::from(at)];
    stream(model, world, at)
        .is_some_and(|master| world.nodes[usize::from(master)].log != replica.log)
}

/// Every controller that leads has asked whom it reaches, and knows whom it does not.
fn is_asked(world: &World) -> bool {
    (0_u8..).zip(&world.controllers).all(|(at, controller)| {
        let is_idle = controller.term == 0 || !controller.is_connected;
        is_idle
            || (0_u8..3).all(|node| {
                let seen = &controller.nodes[usize::from(node)];
                let is_up = world.nodes[usize::from(node)].power == Power::Up;
                let is_reached = is_up && !world.is_cut(at, node);
                let is_known = seen.reply.is_some() && seen.sent == world.now;
                let is_told = is_known || seen.is_led;
                if is_reached { is_told } else { seen.missed || is_told }
            })
    })
}

/// Whatever can arrive has arrived: half a lease is far longer than that takes, unless a fault
/// delays it.
fn is_quiet(model: &Failover, world: &World) -> bool {
    is_asked(world)
        && (0_u8..3).all(|at| {
            let node = &world.nodes[usize::from(at)];
            let Some(master) = stream(model, world, at) else { return true };
            let master = &world.nodes[usize::from(master)];
            master.log == node.log && master.links[usize::from(at)] == node.ack()
        })
}

fn controller_steps(model: &Failover, world: &World, at: u8, found: &mut Vec<Action>) {
    let controller = &world.controllers[usize::from(at)];
    if at == 1 && model.second.is_some() && controller.term == 0 {
        found.push(Action::Second);
    }
    // Any proof will do, also a false one: the leader goes on with what it had, without the store.
    let is_gone = !world.controllers[usize::from(world.leader)].is_connected;
    if !world.leads(at) && is_gone && controller.is_connected {
        found.push(Action::Elect(at));
    }
    if controller.term == 0 {
        return;
    }
    if !controller.is_connected {
        found.push(Action::Reconnect(at));
    } else if world.leader == at {
        found.extend([Action::Isolate(at), Action::RestartController]);
    }
    found.extend([Action::AskMaster(at), Action::AskReplicas(at)]);
    let planned = plan(model, controller, world.now);
    let is_well = !controller.is_swap_late && !controller.is_swap_lost;
    if controller.is_connected && is_well && controller.in_doubt.is_none() {
        found.extend([Action::SwapLate(at), Action::SwapLost(at)]);
    }
    if controller.is_connected && controller.in_doubt.is_some() {
        found.push(Action::Settle(at));
    }
    for index in 0..3 {
        let is_cut = world.is_cut(at, index);
        found.push(if is_cut { Action::Mend(at, index) } else { Action::Cut(at, index) });
        let seen = &controller.nodes[usize::from(index)];
        let power = world.nodes[usize::from(index)].power;
        if power == Power::Up && !is_cut {
            found.push(Action::AnswerLate(at, index));
            if planned.granted[usize::from(index)].is_some() {
                found.push(Action::AskLate(at, index));
            }
        } else if !seen.missed && (power == Power::Down || world.now > seen.received) {
            found.push(Action::Miss(at, index));
        }
    }
    if model.balanced && controller.desired.is_some() {
        found.push(Action::OrderLate(at, 0));
    }
}

fn node_steps(model: &Failover, world: &World, at: u8, found: &mut Vec<Action>) {
    let node = &world.nodes[usize::from(at)];
    match node.power {
        Power::Down => return found.push(Action::Start(at)),
        Power::Stopped => return found.push(Action::Continue(at)),
        Power::Up => {
            found.extend([Action::Crash(at), Action::Reboot(at), Action::Stop(at)]);
            found.push(Action::Lose(at));
        }
    }
    if node.is_leaving {
        let master = &world.nodes[usize::from(node.master)];
        if is_linked(world, at) && master.lets_go(at, node.member()) {
            found.push(Action::End(at));
        }
    } else if node.version > 0 && !node.is_master() {
        found.push(Action::Leave(at));
    }
    let is_parted = world.parted & (1 << at) != 0;
    if is_parted {
        found.push(Action::Join(at));
    }
    if node.is_master() {
        if world.writes < model.bounds.writes && may_write(world, at) {
            found.push(Action::Write(at));
        }
    } else if copies(model, world, at) {
        found.push(Action::Copy(at));
    } else if let Some(master) = stream(model, world, at) {
        found.push(Action::Part(at));
        let master = &world.nodes[usize::from(master)];
        found.push(Action::Follow(at));
        if node.log != master.log {
            found.extend([Action::FollowLate(at), Action::Claim(at), Action::Replace(at)]);
        }
        if master.holder.held().is_some() && is_asked(world) {
            found.push(Action::Echo(at));
        }
    }
}

/// The master whose stream the replica takes, if there is one. A master of an older epoch is
/// refused; and nothing is given up for a master that has not opened an epoch after it, since it
/// may have been acknowledged.
pub(crate) fn stream(model: &Failover, world: &World, at: u8) -> Option<u8> {
    if !is_linked(world, at) {
        return None;
    }
    let replica = &world.nodes[usize::from(at)];
    let master = &world.nodes[usize::from(replica.master)];
    let is_older = newest(master) < newest(replica) && model.rules.epoch_check;
    let is_newer = newest(master) > newest(replica) || !model.rules.rewind_to_newer;
    let keeps = master.log.starts_with(&replica.log);
    (!is_older && (keeps || is_newer)).then_some(replica.master)
}

/// Newest epoch of a node's data.
fn newest(node: &Node) -> u64 {
    node.newest().map_or(0, |opened| opened.epoch)
}

/// The replica reaches the master it is told to follow.
fn is_linked(world: &World, at: u8) -> bool {
    let replica = &world.nodes[usize::from(at)];
    let master = &world.nodes[usize::from(replica.master)];
    replica.version > 0
        && world.parted & (1 << at) == 0
        && replica.master != at
        && replica.power == Power::Up
        && master.power == Power::Up
        && master.is_master()
}

/// Whether the replica gives its data up for a copy of its master's: they have no epoch in common,
/// and the master shows a grant of a later one.
fn copies(model: &Failover, world: &World, at: u8) -> bool {
    if !is_linked(world, at) {
        return false;
    }
    let replica = &world.nodes[usize::from(at)];
    let master = &world.nodes[usize::from(replica.master)];
    let theirs = master.entries();
    let is_parted = replica.entries().iter().all(|own| theirs.iter().all(|o| o.id != own.id));
    let granted = master.holder.held().map_or(0, |held| held.epoch);
    let is_shown = granted > newest(replica) || !model.rules.grant_shown;
    !replica.log.is_empty() && is_parted && is_shown
}

/// Whether a client that reaches the node may write there.
fn may_write(world: &World, at: u8) -> bool {
    let node = &world.nodes[usize::from(at)];
    let is_paused = node.paused_until > world.now;
    !is_paused
        && node.may_serve(world.now)
        && node.holder.held().is_some_and(|held| held.has_enough())
}
