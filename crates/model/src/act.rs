//! What can happen next, and what it does.
//!
//! A message that is neither lost nor late is one step with its answer: to be lost it need not be sent, since every
//! step may fail to happen for ever. Only what arrives late costs a fault.

use std::sync::Arc;

use grant::{EpochId, Grant, Heartbeat, Least};

use crate::control::{Controller, InForce};
use crate::node::{Entry, LEASE_MS, Node, Power, clock};
use crate::planning::plan;
use crate::rules::{Failover, Kinds};
use crate::world::{Instance, Late, World};

/// A step. Numbers name controllers (0, 1), nodes (0, 1, 2) and instances of the balancer (0, 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Half a lease passes.
    Tick,
    /// A controller asks its master, and does what follows.
    AskMaster(u8),
    /// A controller asks all its replicas, and does what follows.
    AskReplicas(u8),
    /// A heartbeat of a controller to a node is late.
    AskLate(u8, u8),
    /// The answer of a node to a controller is late.
    AnswerLate(u8, u8),
    /// A controller notices that a node does not answer, and does what follows.
    Miss(u8, u8),
    /// What a controller was about to write, push and order happened only so far: it is stopped or cut off from the
    /// store, and its compare-and-swap is late.
    SwapLate(u8),
    /// An order to an instance of the balancer is late.
    OrderLate(u8, u8),
    /// A late message arrives.
    Arrive(u8),
    /// A client writes at a node.
    Write(u8),
    /// A replica takes its master's stream and acknowledges it.
    Follow(u8),
    /// The same; the acknowledgement is late.
    FollowLate(u8),
    /// A replica acknowledges what it has to the master it is told to follow, before it took anything of its stream.
    Claim(u8),
    /// A replica answers its master's ping while no controller is heard.
    Echo(u8),
    /// kill -9.
    Crash(u8),
    /// The machine restarts.
    Reboot(u8),
    /// A replica replaces its data by a copy of its master's.
    Replace(u8),
    /// A supervisor starts the process.
    Start(u8),
    /// SIGSTOP.
    Stop(u8),
    /// SIGCONT.
    Continue(u8),
    /// The link between a controller and a node is cut.
    Cut(u8, u8),
    /// It is whole again.
    Mend(u8, u8),
    /// A replica no longer gets its master's stream.
    Part(u8),
    /// It does again.
    Join(u8),
    /// A controller no longer reaches the store: it is cut off, or stopped.
    Isolate(u8),
    /// It does again.
    Reconnect(u8),
    /// The other controller is elected, because the leader's time is over.
    Elect(u8),
    /// The leader is replaced by its next process.
    RestartController,
}

impl Action {
    /// What it takes of the budget.
    fn cost(self) -> u8 {
        match self {
            Self::AskLate(..)
            | Self::AnswerLate(..)
            | Self::SwapLate(..)
            | Self::OrderLate(..)
            | Self::FollowLate(..)
            | Self::Crash(..)
            | Self::Reboot(..)
            | Self::Replace(..)
            | Self::Stop(..)
            | Self::Cut(..)
            | Self::Part(..)
            | Self::Isolate(..)
            | Self::RestartController => 1,
            _ => 0,
        }
    }

    /// Which kind of fault it is; of what is none, any.
    fn kind(self) -> Kinds {
        match self {
            Self::Crash(..) => Kinds::CRASH,
            Self::Stop(..) => Kinds::STOP,
            Self::Reboot(..) => Kinds::REBOOT,
            Self::Replace(..) => Kinds::REPLACE,
            Self::Cut(..) => Kinds::CUT,
            Self::Part(..) => Kinds::PART,
            Self::Isolate(..) => Kinds::ISOLATE,
            Self::RestartController => Kinds::RESTART,
            Self::AskLate(..) => Kinds::BEAT,
            Self::AnswerLate(..) => Kinds::ANSWER,
            Self::FollowLate(..) => Kinds::ACK,
            Self::SwapLate(..) => Kinds::SWAP,
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
    let late = u8::try_from(world.late.len()).unwrap_or(u8::MAX);
    found.extend((0..late).map(Action::Arrive));
    let left = model.bounds.faults.saturating_sub(world.faults);
    let is_alike = world.faults == 0
        && model.begin.is_empty()
        && world.nodes[1].log.len() == world.nodes[2].log.len();
    found.retain(|action| {
        // Before the first fault the replicas differ in how far they are, at most: what happens to one could as well
        // happen to the other.
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
        let is_idle = controller.term == 0 || world.now >= controller.leads_until;
        is_idle
            || (0_u8..3).all(|node| {
                let seen = &controller.nodes[usize::from(node)];
                let is_up = world.nodes[usize::from(node)].power == Power::Up;
                let is_reached = is_up && !world.is_cut(at, node);
                let is_known = seen.reply.is_some() && seen.sent == world.now;
                if is_reached { is_known } else { seen.missed || is_known }
            })
    })
}

/// Whatever can arrive has arrived: half a lease is far longer than that takes, unless a fault delays it.
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
    if world.leader != at && world.now >= world.leads_until && controller.is_connected {
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
    if planned.swap.is_some() {
        found.push(Action::SwapLate(at));
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
        }
    }
    let is_parted = world.parted & (1 << at) != 0;
    if is_parted {
        found.push(Action::Join(at));
    }
    if node.is_master() {
        if world.writes < model.bounds.writes && may_write(world, at) {
            found.push(Action::Write(at));
        }
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

/// The master whose stream the replica takes, if there is one. A master of an older epoch is refused; and nothing is
/// given up for a master that has not opened an epoch after it, since it may have been acknowledged.
pub(crate) fn stream(model: &Failover, world: &World, at: u8) -> Option<u8> {
    let replica = &world.nodes[usize::from(at)];
    let master = &world.nodes[usize::from(replica.master)];
    let flows = replica.version > 0
        && world.parted & (1 << at) == 0
        && replica.master != at
        && replica.power == Power::Up
        && master.power == Power::Up
        && master.is_master();
    if !flows {
        return None;
    }
    let newest = |node: &Node| node.newest().map_or(0, |opened| opened.epoch);
    let is_older = newest(master) < newest(replica) && model.rules.epoch_check;
    let is_newer = newest(master) > newest(replica) || !model.rules.rewind_to_newer;
    let keeps = master.log.starts_with(&replica.log);
    (!is_older && (keeps || is_newer)).then_some(replica.master)
}

/// Whether a client that reaches the node may write there.
fn may_write(world: &World, at: u8) -> bool {
    let node = &world.nodes[usize::from(at)];
    node.may_serve(world.now) && node.holder.held().is_some_and(|held| held.has_enough())
}

pub(crate) fn act(model: &Failover, world: &mut World, action: Action) {
    world.faults += action.cost();
    let now = world.now;
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
        Action::AskLate(at, node) => {
            let (beat, _) = heartbeat(model, world, at, node);
            world.late.push(Late::Beat(node, beat));
        }
        Action::AnswerLate(at, node) => {
            let (beat, _) = heartbeat(model, world, at, node);
            hear(model, world, node, beat);
            let reply = world.nodes[usize::from(node)].reply(now);
            let controller = world.controllers[usize::from(at)].clone();
            let (term, epoch) = (controller.term, controller.record.epoch);
            world.late.push(Late::Reply { to: at, term, node, sent: now, epoch, reply });
        }
        Action::Miss(at, node) => {
            world.controller(at).nodes[usize::from(node)].missed = true;
            react(model, world, at);
        }
        Action::SwapLate(at) => {
            let controller = world.controllers[usize::from(at)].clone();
            if let Some(new) = &plan(model, &controller, now).swap {
                let (old, new) = ((*controller.record).clone(), (**new).clone());
                world.late.push(Late::Swap { old, new });
            }
            world.controller(at).is_connected = false;
        }
        Action::OrderLate(at, instance) => {
            let (term, (version, backend)) = demand(model, world, at);
            world.late.push(Late::Order(instance, Instance { term, version, backend }));
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
        Action::Crash(at) => world.node(at).power = Power::Down,
        Action::Reboot(at) => world.node(at).reboot(model.rules.identity),
        Action::Replace(at) => {
            let master = world.nodes[usize::from(at)].master;
            let log = world.nodes[usize::from(master)].log.clone();
            world.node(at).replace(log, model.rules.identity);
        }
        Action::Start(at) => start(model, world, at),
        Action::Stop(at) => world.node(at).power = Power::Stopped,
        Action::Continue(at) => world.node(at).power = Power::Up,
        Action::Cut(at, node) => world.cut |= 1 << (3 * at + node),
        Action::Mend(at, node) => world.cut &= !(1 << (3 * at + node)),
        Action::Part(at) => {
            world.parted |= 1 << at;
            let master = world.nodes[usize::from(at)].master;
            world.node(master).links[usize::from(at)] = None;
        }
        Action::Join(at) => world.parted &= !(1 << at),
        Action::Isolate(at) => world.controller(at).is_connected = false,
        Action::Reconnect(at) => {
            world.controller(at).is_connected = true;
            renew(world);
            spread(world);
            react(model, world, at);
        }
        Action::Elect(at) => {
            elect(world, at);
            react(model, world, at);
        }
        Action::RestartController => {
            let leader = world.leader;
            elect(world, leader);
            react(model, world, leader);
        }
    }
}

fn tick(model: &Failover, world: &mut World) {
    world.pass();
    renew(world);
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

/// A controller does what its plan says until that is nothing more; what does not reach its target fails.
fn react(model: &Failover, world: &mut World, at: u8) {
    if world.controllers[usize::from(at)].term == 0 {
        return;
    }
    for _ in 0..4 {
        let planned = plan(model, &world.controllers[usize::from(at)], world.now);
        for node in 0..3 {
            let is_reached =
                world.nodes[usize::from(node)].power == Power::Up && !world.is_cut(at, node);
            if planned.pushes & (1 << node) != 0 && is_reached {
                push(world, at, node);
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
        if world.store.revision == controller.record.revision {
            world.store = new;
        }
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

/// For how long a leader leads when it was heard last, in ticks.
const AUTHORITY: u8 = 3;

/// The leader's session with the store goes on as long as it reaches it.
fn renew(world: &mut World) {
    let leader = world.leader;
    if world.controllers[usize::from(leader)].is_connected && world.term > 0 {
        world.leads_until = world.now + AUTHORITY;
        world.controller(leader).leads_until = world.leads_until;
    }
}

fn elect(world: &mut World, at: u8) {
    world.term += 1;
    world.leader = at;
    world.leads_until = world.now + AUTHORITY;
    let (term, now, until, store) =
        (world.term, world.now, world.leads_until, Arc::clone(&world.store));
    world.controller(at).elected(term, now, until, &store);
}

/// The record becomes known to those who reach the store.
fn spread(world: &mut World) {
    let store = Arc::clone(&world.store);
    for at in 0..2 {
        let controller = &world.controllers[usize::from(at)];
        if controller.is_connected && controller.term > 0 && controller.record != store {
            world.controller(at).adopt(&store);
        }
    }
}

/// The heartbeat that leaves now; the bound of its lease is written down first. With it, what its grant confirms.
fn heartbeat(
    model: &Failover,
    world: &mut World,
    at: u8,
    node: u8,
) -> (Heartbeat, Option<(u64, u64)>) {
    let controller = &world.controllers[usize::from(at)];
    let planned = plan(model, controller, world.now);
    let term = u64::from(controller.term);
    let granted = planned.granted[usize::from(node)].clone();
    let is_for_me = controller.record.master == node;
    let Some(granted) = granted else {
        let clock = Some((0, 0));
        return (Heartbeat { is_for_me, lease_ms: LEASE_MS, term, clock, grant: None }, None);
    };
    let seen = &mut world.controller(at).nodes[usize::from(node)];
    seen.lease_until = seen.lease_until.max(Some(granted.end));
    let confirms = granted.grant.as_ref().map(|grant| (grant.epoch, grant.request));
    let clock = Some((granted.clock_ns, granted.nonce));
    let (lease_ms, grant) = (granted.lease_ms, granted.grant);
    (Heartbeat { is_for_me, lease_ms, term, clock, grant }, confirms)
}

fn hear(model: &Failover, world: &mut World, node: u8, mut beat: Heartbeat) {
    let now = world.now;
    if !model.rules.clock_and_nonce {
        // As if read just now, by whoever reads it.
        let nonce = world.nodes[usize::from(node)].holder.nonce();
        beat.clock = beat.clock.filter(|clock| clock.1 != 0).map(|_| (clock(now), nonce));
    }
    world.node(node).hear(&beat, now);
}

fn ask(model: &Failover, world: &mut World, at: u8, node: u8) {
    let now = world.now;
    if world.nodes[usize::from(node)].power != Power::Up || world.is_cut(at, node) {
        return;
    }
    let (beat, confirms) = heartbeat(model, world, at, node);
    let epoch = world.controllers[usize::from(at)].record.epoch;
    hear(model, world, node, beat);
    let reply = world.nodes[usize::from(node)].reply(now);
    let controller = world.controller(at);
    let is_held = confirms.is_some_and(|(epoch, _)| epoch == reply.granted_epoch);
    if is_held {
        controller.nodes[usize::from(node)].confirmed = confirms;
    }
    controller.answered(node, reply, (now, now), epoch);
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
            }
        }
        Late::Ack { from, to, link } => {
            if world.nodes[usize::from(to)].power == Power::Up {
                world.node(to).acked(from, link);
            }
        }
        Late::Swap { old, new } => {
            if *world.store == old {
                world.store = Arc::new(new);
                spread(world);
            }
        }
        Late::Order(instance, wanted) => order(world, instance, wanted),
    }
}

/// The replica's log becomes its master's: what differs is rewound first. Then it acknowledges.
fn follow(model: &Failover, world: &mut World, at: u8, is_late: bool) {
    let master = world.nodes[usize::from(at)].master;
    let log = world.nodes[usize::from(master)].log.clone();
    let replica = world.node(at);
    let fork = replica.log.iter().zip(&log).take_while(|(a, b)| a == b).count();
    replica.synced = replica.synced.min(fork);
    // Epochs are on disk before they are acknowledged, and all before them.
    let epochs = log.iter().rposition(|entry| matches!(entry, Entry::Epoch { .. }));
    replica.synced = replica.synced.max(epochs.map_or(0, |at| at + 1));
    replica.log = log;
    if is_late {
        if let Some(link) = world.nodes[usize::from(at)].ack() {
            world.late.push(Late::Ack { from: at, to: master, link });
        }
    } else {
        claim(model, world, at);
        // Whoever has caught up is let into the set without delay.
        judge(model, world, master);
    }
}

fn claim(model: &Failover, world: &mut World, at: u8) {
    let replica = &world.nodes[usize::from(at)];
    let master = replica.master;
    let Some(mut link) = replica.ack() else { return };
    if !model.rules.epoch_check {
        // Taken for what it says, whatever history it is of.
        link.epoch_id = world.nodes[usize::from(master)].holder.held().map(|held| held.id);
    }
    world.node(master).acked(at, link);
}

fn echo(model: &Failover, world: &mut World, at: u8) {
    let now = world.now;
    let master = world.nodes[usize::from(at)].master;
    let Some(link) = world.nodes[usize::from(at)].ack() else { return };
    // Without the rule the stamp goes back, and nothing is promised.
    let is_returned = match model.rules.promises {
        true => world.node(at).pinged(now),
        false => (*world.nodes[usize::from(at)]).clone().pinged(now),
    };
    if is_returned {
        world.node(master).echoed(link, now);
    }
}

/// A stream that ended is no stream: the process or its machine is gone, or it follows another.
fn judge(model: &Failover, world: &mut World, at: u8) {
    let now = world.now;
    let flows = |world: &World, from: u8| {
        let replica = &world.nodes[usize::from(from)];
        let link = world.nodes[usize::from(at)].links[usize::from(from)];
        replica.master == at
            && replica.power != Power::Down
            && link.is_some_and(|link| Some(link.member) == replica.member())
    };
    for from in 0..3 {
        if world.nodes[usize::from(at)].links[usize::from(from)].is_some() && !flows(world, from) {
            world.node(at).links[usize::from(from)] = None;
        }
    }
    world.node(at).judge(now);
    if !model.rules.union_of_sets
        && let Some(set) = world.node(at).holder.in_sync()
    {
        // Only the newest set is waited for.
        let (request, members) = set.newest();
        let members = members.clone();
        let confirmed = set.confirm(request, &members);
        debug_assert!(confirmed.is_ok());
    }
}

fn start(model: &Failover, world: &mut World, at: u8) {
    let now = world.now;
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
    };
    let clock = Some((clock(now), node.holder.nonce()));
    let beat =
        Heartbeat { is_for_me: true, lease_ms: LEASE_MS, term: 0, clock, grant: Some(grant) };
    world.node(at).hear(&beat, now);
}
