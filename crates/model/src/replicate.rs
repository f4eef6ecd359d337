//! What passes between a master and its replicas.

use crate::node::{Entry, Power};
use crate::rules::Failover;
use crate::world::{Late, World};

/// The replica's log becomes its master's: what differs is rewound first. Then it acknowledges.
pub(crate) fn follow(model: &Failover, world: &mut World, at: u8, is_late: bool) {
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
        // A replica that has caught up is let into the set without delay.
        judge(model, world, master);
    }
}

pub(crate) fn claim(model: &Failover, world: &mut World, at: u8) {
    let replica = &world.nodes[usize::from(at)];
    let master = replica.master;
    let Some(mut link) = replica.ack() else { return };
    if !model.rules.epoch_check {
        // Taken for what it says, whatever history it is of.
        link.epoch_id = world.nodes[usize::from(master)].holder.held().map(|held| held.id);
    }
    world.node(master).acked(at, link);
}

pub(crate) fn echo(model: &Failover, world: &mut World, at: u8) {
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
pub(crate) fn judge(model: &Failover, world: &mut World, at: u8) {
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
