//! What a step does.
//!
//! A message that is neither lost nor late is one step with its answer: to be lost it need not be
//! sent, since every step may fail to happen for ever. Only what arrives late costs a fault.

use std::sync::Arc;

use api::store::Said;
use grant::{EpochId, Grant, Heartbeat, Least};

use crate::action::Action;
use crate::control::{Controller, InForce};
use crate::node::Power;
use crate::planning::{PAUSE, Planned, plan};
use crate::replicate::{claim, echo, follow, judge};
use crate::rules::Failover;
use crate::second::{Apart, led_from};
use crate::stored::Stored;
use crate::time::{LEASE_MS, clock};
use crate::world::{Instance, Late, World};

pub(crate) fn act(model: &Failover, world: &mut World, action: Action) {
    world.faults += action.cost();
    match action {
        Action::Tick => tick(model, world),
        Action::AskMaster(at) => {
            let master = world.controllers[usize::from(at)].record.master;
            ask(model, world, at, master);
            react(model, world, at);
        }
        Action::AskReplicas(at) => {
            let master = world.controllers[usize::from(at)].record.master;
            for node in (0..3).filter(|node| *node != master) {
                ask(model, world, at, node);
            }
            react(model, world, at);
        }
        Action::Arrive(which) => arrive(model, world, which),
        Action::Write(at) => {
            let write = world.writes;
            world.writes += 1;
            world.node(at).write(write);
        }
        Action::Follow(at) => follow(model, world, at, false),
        Action::FollowLate(at) => follow(model, world, at, true),
        Action::Claim(at) => claim(model, world, at),
        Action::Echo(at) => echo(model, world, at),
        Action::Copy(at) => copy(model, world, at),
        Action::Start(at) => start(model, world, at),
        Action::Continue(at) => world.node(at).power = Power::Up,
        Action::End(at) => world.node(at).power = Power::Down,
        Action::Want => {
            world.wanted += 1;
            let number = world.wanted;
            let store = Arc::make_mut(&mut world.store);
            store.revision += 1;
            store.intent = Some(number);
            spread(world);
        }
        Action::Second => {
            begin_apart(world);
            react(model, world, 1);
        }
        Action::Mend(at, node) => world.cut &= !(1 << (3 * at + node)),
        Action::Join(at) => world.parted &= !(1 << at),
        Action::Reconnect(at) => {
            reconnect(world, at);
            react(model, world, at);
        }
        Action::Settle(at) => {
            settle(world, at);
            react(model, world, at);
        }
        Action::Elect(at) => {
            elect(world, at);
            react(model, world, at);
        }
        fault => disturb(model, world, fault),
    }
}

/// A fault happens.
fn disturb(model: &Failover, world: &mut World, fault: Action) {
    let now = world.now;
    match fault {
        Action::AskLate(at, node) => {
            let (beat, _) = heartbeat(model, world, at, node);
            world.late.push(Late::Beat(node, beat));
        }
        Action::AnswerLate(at, node) => {
            let (beat, _) = heartbeat(model, world, at, node);
            if !hear(model, world, node, beat) {
                return;
            }
            let reply = world.nodes[usize::from(node)].reply(now);
            let controller = world.controllers[usize::from(at)].clone();
            let (term, epoch) = (controller.term, controller.record.epoch);
            world.late.push(Late::Reply { to: at, term, node, sent: now, epoch, reply });
        }
        Action::Miss(at, node) => {
            world.controller(at).nodes[usize::from(node)].missed = true;
            react(model, world, at);
        }
        Action::SwapLate(at) => world.controller(at).is_swap_late = true,
        Action::SwapLost(at) => world.controller(at).is_swap_lost = true,
        Action::OrderLate(at, instance) => {
            let (term, (version, backend)) = demand(model, world, at);
            world.late.push(Late::Order(instance, Instance { term, version, backend }));
        }
        Action::Crash(at) => world.node(at).power = Power::Down,
        Action::Reboot(at) => world.node(at).reboot(model.rules.identity),
        Action::Replace(at) => copy(model, world, at),
        Action::Lose(at) => {
            world.node(at).replace(Vec::new(), model.rules.identity);
            start(model, world, at);
        }
        Action::Stop(at) => world.node(at).power = Power::Stopped,
        Action::Leave(at) => world.node(at).is_leaving = true,
        Action::Cut(at, node) => world.cut |= 1 << (3 * at + node),
        Action::Part(at) => {
            world.parted |= 1 << at;
            let master = world.nodes[usize::from(at)].master;
            world.node(master).links[usize::from(at)] = None;
        }
        Action::Isolate(at) => world.controller(at).is_connected = false,
        Action::RestartController => {
            let leader = world.leader;
            elect(world, leader);
            react(model, world, leader);
        }
        // What is no fault is done by [`act`].
        _ => {}
    }
}

/// By how much the terms of the second store are higher: an operator has raised them, or it was
/// claimed often enough.
const OVERBID: u8 = 8;

/// Controller 1 begins on the second store.
fn begin_apart(world: &mut World) {
    let (now, term, store) = (world.now, world.term + OVERBID, Arc::clone(&world.store));
    let controller = world.controller(1);
    controller.elected(term, now, &store);
    controller.is_apart = true;
    world.second = Some(Apart { store, term });
}

/// What a controller says of its store; nothing where the rule is off.
fn said(model: &Failover, world: &World, at: u8) -> Option<Said> {
    let is_apart = world.controllers[usize::from(at)].is_apart;
    let by = led_from(model.second, is_apart);
    model.rules.store.then_some(Said { by, instead_of: None })
}

/// Whether a node obeys commands of a controller that names its store.
fn is_obeyed(model: &Failover, world: &World, at: u8, node: u8) -> bool {
    let known = world.nodes[usize::from(node)].holder.store();
    said(model, world, at).is_none_or(|said| said.against(known).is_ok())
}

fn copy(model: &Failover, world: &mut World, at: u8) {
    let master = world.nodes[usize::from(at)].master;
    let log = world.nodes[usize::from(master)].log.clone();
    world.node(at).replace(log, model.rules.identity);
}

fn tick(model: &Failover, world: &mut World) {
    world.pass();
    for at in 0..3 {
        let node = &world.nodes[usize::from(at)];
        if node.power == Power::Up && node.is_master() && node.holder.held().is_some() {
            judge(model, world, at);
        }
    }
    for at in 0..2 {
        react(model, world, at);
    }
}

/// A controller does what its plan says until that is nothing more; what does not reach its target
/// fails.
fn react(model: &Failover, world: &mut World, at: u8) {
    if world.controllers[usize::from(at)].term == 0 {
        return;
    }
    for _ in 0..4 {
        let planned = plan(model, &world.controllers[usize::from(at)], world.now);
        for node in 0..3 {
            let is_reached = world.nodes[usize::from(node)].power == Power::Up
                && !world.is_cut(at, node)
                && is_obeyed(model, world, at, node);
            if planned.pushes & (1 << node) != 0 && is_reached {
                push(world, at, node);
            }
            if is_reached {
                pause(world, at, node, &planned);
            }
        }
        if model.balanced
            && planned.desired.or(world.controllers[usize::from(at)].desired).is_some()
        {
            let (term, wanted) = demand(model, world, at);
            for instance in 0..2 {
                apply(world, at, instance, (term, wanted));
            }
        }
        let controller = &world.controllers[usize::from(at)];
        let Some(new) = planned.swap.clone().filter(|_| controller.is_connected) else { return };
        let (old, term) = (Arc::clone(&controller.record), controller.term);
        if controller.is_swap_late || controller.is_swap_lost {
            world.late.push(Late::Swap { term, old: Arc::clone(&old), new });
            let controller = world.controller(at);
            if controller.is_swap_lost {
                controller.in_doubt = Some(old);
            }
            controller.is_connected &= !controller.is_swap_late;
            (controller.is_swap_late, controller.is_swap_lost) = (false, false);
            return;
        }
        swap(model, world, term, &old, new);
        spread(world);
    }
}

fn apply(world: &mut World, at: u8, instance: u8, (term, wanted): (u8, (u8, Option<u8>))) {
    let now = world.now;
    let (version, backend) = wanted;
    order(world, instance, Instance { term, version, backend });
    let taken = world.balancer[usize::from(instance)];
    let known = world.controllers[usize::from(at)].instances[usize::from(instance)];
    if taken == (Instance { term, version, backend })
        && known.is_none_or(|known| known.version != version)
    {
        let in_force = InForce { version, backend, at: now };
        world.controller(at).instances[usize::from(instance)] = Some(in_force);
    }
}

/// The store is read all the time by whoever reaches it: it shows at once that this controller
/// leads.
fn read(world: &mut World, at: u8) {
    if world.leads(at) && world.controllers[usize::from(at)].is_connected {
        world.controller(at).read();
    }
}

/// A transaction: the claim of whoever sent it, and the record it was made from.
fn swap(model: &Failover, world: &mut World, term: u8, old: &Arc<Stored>, new: Arc<Stored>) {
    if let Some(second) = world.second.as_mut().filter(|second| second.term == term) {
        if second.store == *old {
            second.store = new;
        }
        return;
    }
    let leads = term == world.term || !model.rules.claim;
    if leads && world.store == *old {
        world.store = new;
    }
}

/// A read shows what is in force. If that is still the former record, a write that repeats it shuts
/// out what may still arrive.
fn settle(world: &mut World, at: u8) {
    let controller = &world.controllers[usize::from(at)];
    let Some(old) = controller.in_doubt.clone().filter(|_| controller.is_connected) else { return };
    if *world.stored(at) == old {
        Arc::make_mut(world.stored_mut(at)).revision += 1;
    }
    world.controller(at).in_doubt = None;
    spread(world);
}

/// It reads the store: whose claim that has not stops.
fn reconnect(world: &mut World, at: u8) {
    if world.leads(at) {
        world.controller(at).is_connected = true;
        read(world, at);
        spread(world);
    } else {
        *world.controller(at) = Controller::new();
    }
}

fn elect(world: &mut World, at: u8) {
    world.term += 1;
    world.leader = at;
    let (term, now, store) = (world.term, world.now, Arc::clone(&world.store));
    world.controller(at).elected(term, now, &store);
}

/// The record becomes known to those who reach the store.
fn spread(world: &mut World) {
    for at in 0..2 {
        let store = Arc::clone(world.stored(at));
        let controller = &world.controllers[usize::from(at)];
        if controller.is_connected && controller.term > 0 && controller.record != store {
            world.controller(at).adopt(&store);
        }
    }
}

/// The heartbeat that leaves now; the bound of its lease is written down first. With it, what its
/// grant confirms.
fn heartbeat(
    model: &Failover,
    world: &mut World,
    at: u8,
    node: u8,
) -> (Heartbeat, Option<(u64, u64)>) {
    let controller = &world.controllers[usize::from(at)];
    let planned = plan(model, controller, world.now);
    let (term, store) = (u64::from(controller.term), said(model, world, at));
    let granted = planned.granted[usize::from(node)].clone();
    let is_for_me = controller.record.master == node;
    let Some(granted) = granted else {
        let clock = Some((0, 0));
        return (
            Heartbeat { is_for_me, lease_ms: LEASE_MS, term, clock, grant: None, store },
            None,
        );
    };
    let seen = &mut world.controller(at).nodes[usize::from(node)];
    seen.lease_until = seen.lease_until.max(Some(granted.end));
    let confirms = granted.grant.as_ref().map(|grant| (grant.epoch, grant.request));
    let clock = Some((granted.clock_ns, granted.nonce));
    let (lease_ms, grant) = (granted.lease_ms, granted.grant);
    (Heartbeat { is_for_me, lease_ms, term, clock, grant, store }, confirms)
}

/// False: it is led from another store, and says no more than that.
fn hear(model: &Failover, world: &mut World, node: u8, mut beat: Heartbeat) -> bool {
    let now = world.now;
    if !model.rules.clock_and_nonce {
        // As if read just now, by whoever reads it.
        let nonce = world.nodes[usize::from(node)].holder.nonce();
        beat.clock = beat.clock.filter(|clock| clock.1 != 0).map(|_| (clock(now), nonce));
    }
    world.node(node).hear(&beat, now)
}

fn ask(model: &Failover, world: &mut World, at: u8, node: u8) {
    let now = world.now;
    if world.nodes[usize::from(node)].power != Power::Up || world.is_cut(at, node) {
        return;
    }
    let (beat, confirms) = heartbeat(model, world, at, node);
    let epoch = world.controllers[usize::from(at)].record.epoch;
    if !hear(model, world, node, beat) {
        world.controller(at).refused(node);
        return;
    }
    let reply = world.nodes[usize::from(node)].reply(now);
    let controller = world.controller(at);
    let is_held = confirms.is_some_and(|(epoch, _)| epoch == reply.granted_epoch);
    if is_held {
        controller.nodes[usize::from(node)].confirmed = confirms;
    }
    controller.answered(node, reply, (now, now), epoch);
    read(world, at);
}

/// Writes are paused, or not any more; the order is acknowledged at once.
fn pause(world: &mut World, at: u8, node: u8, planned: &Planned) {
    let now = world.now;
    if let Some((_, intent)) = planned.pause.filter(|(paused, _)| *paused == node) {
        world.node(node).paused_until = now + PAUSE;
        world.controller(at).nodes[usize::from(node)].paused = Some((intent, now));
    }
    if planned.unpause == Some(node) {
        world.node(node).paused_until = 0;
        world.controller(at).nodes[usize::from(node)].paused = None;
    }
}

fn push(world: &mut World, at: u8, node: u8) {
    let record = Arc::clone(&world.controllers[usize::from(at)].record);
    world.node(node).told(record.version, record.master);
    let controller = world.controller(at);
    controller.nodes[usize::from(node)].pushed = record.version;
}

/// What the controller wants of the balancer: in force with the plan that asks for it.
fn demand(model: &Failover, world: &mut World, at: u8) -> (u8, (u8, Option<u8>)) {
    let controller = &world.controllers[usize::from(at)];
    let planned = plan(model, controller, world.now);
    let wanted = planned.desired.or(controller.desired).unwrap_or((0, None));
    let term = controller.term;
    world.controller(at).desired = Some(wanted);
    (term, wanted)
}

fn order(world: &mut World, instance: u8, order: Instance) {
    let instance = &mut world.balancer[usize::from(instance)];
    if (order.term, order.version) >= (instance.term, instance.version) {
        *instance = order;
    }
}

fn arrive(model: &Failover, world: &mut World, which: u8) {
    let Some(late) = world.late.get(usize::from(which)).cloned() else { return };
    let now = world.now;
    match late {
        Late::Beat(node, beat) => {
            if world.nodes[usize::from(node)].power == Power::Up {
                hear(model, world, node, beat);
            }
        }
        Late::Reply { to, term, node, sent, epoch, reply } => {
            let controller: &Controller = &world.controllers[usize::from(to)];
            let seen = &controller.nodes[usize::from(node)];
            // A connection that was given up is not read any more, and one is read in order.
            let is_read = seen.reply.is_none() || (sent >= seen.sent && !seen.missed);
            if controller.term == term && is_read {
                world.controller(to).answered(node, reply, (sent, now), epoch);
                read(world, to);
            }
        }
        Late::Ack { from, to, link } => {
            if world.nodes[usize::from(to)].power == Power::Up {
                world.node(to).acked(from, link);
            }
        }
        Late::Swap { term, old, new } => {
            swap(model, world, term, &old, new);
            spread(world);
        }
        Late::Order(instance, wanted) => order(world, instance, wanted),
    }
}

fn start(model: &Failover, world: &mut World, at: u8) {
    let now = world.now;
    if !model.rules.store_kept {
        world.node(at).store = None;
    }
    world.node(at).start(now);
    let node = &world.nodes[usize::from(at)];
    if model.rules.grant_after_restart || !node.is_master() {
        return;
    }
    // What nodes.conf says is believed: master as before, alone until a controller says more.
    let newest = node.entries().last().copied();
    let (Some(newest), Some(me)) = (newest, node.member()) else { return };
    let grant = Grant {
        epoch: newest.epoch + 1,
        id: EpochId(newest.id.0 + 1_000),
        least: Least::default(),
        mode: grant::CommitMode::InSync,
        min_in_sync: 1,
        request: 0,
        members: [me].into_iter().collect(),
        version: 0,
    };
    let clock = Some((clock(now), node.holder.nonce()));
    let (is_for_me, lease_ms, grant) = (true, LEASE_MS, Some(grant));
    let beat = Heartbeat { is_for_me, lease_ms, term: 0, clock, grant, store: None };
    world.node(at).hear(&beat, now);
}
