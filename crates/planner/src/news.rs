//! Which answers are worth a plan of their own.
//!
//! A cluster at rest hears the same of each node all the time. Were each answer a reason to plan,
//! one of a thousand shards would plan for all of them, 15,000 times a second, to find that nothing
//! is to be done. What changes all the time (clocks, sequences, room on a disk) decides nothing
//! while a cluster rests, and is looked at with the plan that is made once per heartbeat in any
//! case.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::balancer::Sessions;
use api::grant::Member;
use api::heartbeat::{ReplicaLine, Reply, Standing, Stranger};

use crate::{Action, BalancerObserved, InForce, NodeObserved, Plan, Record, ShardState, Time};

/// Nothing is to be done, moved, or waited for before `beat`, when a plan is made in any case:
/// until something new is seen the next plan is this one.
pub fn rests(record: &Record, plan: &Plan, beat: Time) -> bool {
    plan.actions.is_empty()
        && plan.wake_at.is_none_or(|at| at > beat)
        && plan.shards.iter().all(|shard| *shard == ShardState::Steady)
        && record.moves.list.is_empty()
}

/// Nodes whose next answer the plan waits for: it is looked at as soon as it is there, although it
/// may tell nothing new, as the position of a replica whose master is fenced.
pub fn awaited(plan: &Plan) -> BTreeSet<String> {
    let asked = |action: &Action| match action {
        Action::HeartbeatNow { node } | Action::Relay { node, .. } => Some(node.clone()),
        _ => None,
    };
    plan.actions.iter().filter_map(asked).collect()
}

/// Whether `reply` tells more of a node than was known of it, for a cluster at rest: of a node that
/// was well, and answers as it did, it does not.
pub fn is_news(before: &NodeObserved, reply: &Reply) -> bool {
    let was_well = before.misses == 0
        && before.refused == 0
        && before.error.is_none()
        && before.unclear_since.is_none()
        && before.refusal.is_none()
        && before.relayed_at.is_none()
        && before.led.is_none();
    let known = before.seen.as_ref().filter(|_| was_well);
    known.is_none_or(|seen| !is_alike(&seen.reply, reply))
}

/// Whether a balancer's answer, or its want, tells more than was known of the balancer: what it has
/// in force, whom it reaches, whether sessions are left at a node.
pub fn is_news_of_balancer(before: &BalancerObserved, after: &BalancerObserved) -> bool {
    let BalancerObserved {
        in_force,
        error,
        reach,
        faults,
        source,
        dials,
        sends_header,
        // As of a node.
        certificates: _,
        trust: _,
    } = before;
    let is_in_force = match (in_force, &after.in_force) {
        (Some(before), Some(after)) => is_still_in_force(before, after),
        (before, after) => before.is_none() && after.is_none(),
    };
    !(is_in_force
        && *error == after.error
        && *reach == after.reach
        && *faults == after.faults
        && *source == after.source
        && *dials == after.dials
        && *sends_header == after.sends_header)
}

fn is_still_in_force(before: &InForce, after: &InForce) -> bool {
    let InForce { start_id, version, frontends, sessions, moved, cut, at: _ } = before;
    // How many there are changes all the time, and what counts is whether there is one.
    let left = |of: &Sessions| (of.node.clone(), of.count > 0);
    *start_id == after.start_id
        && *version == after.version
        && *frontends == after.frontends
        && sessions.iter().map(left).eq(after.sessions.iter().map(left))
        && *moved == after.moved
        && *cut == after.cut
}

/// All fields are named, so that a new one is decided about.
fn is_alike(before: &Reply, after: &Reply) -> bool {
    let Reply {
        role,
        sequence: _,
        myid,
        cluster_id,
        version,
        topology_hash,
        clock_ns: _,
        nonce,
        lease_mode,
        lease_remaining_ms,
        client_access,
        balancer_sources,
        strangers,
        link_status,
        link_error,
        master,
        resync,
        paused,
        loading,
        replicas,
        log_wait_ms,
        room,
        down,
        deposed,
        uptime_ms: _,
        copies,
        sync,
        wall_ms: _,
        stopping,
        standing,
        moves,
        knows_rates,
        knows_tls_ports,
        copying,
        usual_rate,
        // Where there are any a move is under way, and its cluster does not rest.
        flows: _,
        wishes,
        // For people, and by the day: a status looks at it, and no plan.
        certificates: _,
        trust: _,
        newest_move,
    } = before;
    *role == after.role
        && *myid == after.myid
        && *cluster_id == after.cluster_id
        && *version == after.version
        && *topology_hash == after.topology_hash
        && *nonce == after.nonce
        && *lease_mode == after.lease_mode
        && (*lease_remaining_ms > 0) == (after.lease_remaining_ms > 0)
        && *client_access == after.client_access
        && *balancer_sources == after.balancer_sources
        && strangers.iter().map(stranger).eq(after.strangers.iter().map(stranger))
        && *link_status == after.link_status
        && *link_error == after.link_error
        && *master == after.master
        && *resync == after.resync
        && (*paused, *loading) == (after.paused, after.loading)
        && replicas.iter().map(replica).eq(after.replicas.iter().map(replica))
        && *log_wait_ms == after.log_wait_ms
        && room.is_some() == after.room.is_some()
        && *down == after.down
        && *deposed == after.deposed
        && *copies == after.copies
        && *sync == after.sync
        && *stopping == after.stopping
        && is_same_standing(standing, &after.standing)
        && (moves, copying, wishes) == (&after.moves, &after.copying, &after.wishes)
        && (*knows_rates, *usual_rate) == (after.knows_rates, after.usual_rate)
        && (*knows_tls_ports, *newest_move) == (after.knows_tls_ports, after.newest_move)
}

/// What makes it this replica, whatever data it has.
fn replica(of: &ReplicaLine) -> (&str, u16, Option<Member>) {
    (&of.ip, of.port, of.member)
}

/// The address that was refused and how often, whenever the last time was.
fn stranger(of: &Stranger) -> (IpAddr, u64) {
    (of.address, of.connections)
}

fn is_same_standing(before: &Standing, after: &Standing) -> bool {
    let Standing {
        incarnation,
        boot,
        history_epoch,
        history_id,
        granted_epoch,
        granted_version,
        committed: _,
        request,
        request_members,
        promised_ms,
        store,
    } = before;
    *incarnation == after.incarnation
        && *boot == after.boot
        && *history_epoch == after.history_epoch
        && *history_id == after.history_id
        && *granted_epoch == after.granted_epoch
        && *granted_version == after.granted_version
        && *request == after.request
        && *request_members == after.request_members
        && (*promised_ms > 0) == (after.promised_ms > 0)
        && *store == after.store
}
