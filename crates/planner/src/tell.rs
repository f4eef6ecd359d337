//! What a person should know while a cluster serves: replicas that do not follow, nodes that answer
//! as others, clocks that differ, writes that a failover has lost.
//!
//! The words of an alarm name no number that changes by itself: else each change would be another
//! alarm.

use api::heartbeat::{Copied, LinkStatus, Reply, Role as Does, Room};

use crate::context::{Case, Context, Health};
use crate::identity::{is_other_cluster, is_stranger};
use crate::{Node, Observed, Plan, Policy, Record};

/// How long a replica may be without a stream, ms: a new master, or a restart, takes that.
const UNLINKED_MS: u64 = 2_000;
/// How long an alarm tells of lost writes, ms; the event stays.
pub const LOSS_MS: u64 = 3_600_000;
/// By how much a clock may be off, ms, and how that is said.
const OFF: [(u64, &str); 6] = [
    (86_400_000, "a day"),
    (3_600_000, "an hour"),
    (600_000, "ten minutes"),
    (60_000, "a minute"),
    (10_000, "ten seconds"),
    (1_000, "a second"),
];

/// Of how many parts of a disk less than one is free where it is nearly full, and how that is said.
/// One that wavers about a limit makes an event each time, so there are few.
const NEARLY_FULL: [(u64, &str); 2] = [(100, "a hundredth"), (20, "a twentieth")];

/// Replicas that answer and have had no stream from their master for a while.
pub(crate) fn of_links(cx: &Context<'_>, case: Case<'_>, plan: &mut Plan) {
    let Case { index, shard, .. } = case;
    for node in shard.replicas() {
        let Some(since) = cx.observed.node(&node.id).unlinked_since else { continue };
        let Some(reply) = cx.reply(&node.id).filter(|reply| reply.role == Does::Slave) else {
            continue;
        };
        if cx.health(&node.id) != Health::Up {
            continue;
        }
        let due = since.plus_millis(UNLINKED_MS);
        if cx.now < due {
            plan.wake(due);
            continue;
        }
        let why = why_not(reply);
        plan.alarms.insert(format!(
            "shard {index}: replica {} does not follow its master: {why}",
            node.local
        ));
    }
}

/// Why a replica has no stream, as far as it says so.
fn why_not(reply: &Reply) -> String {
    let share = reply.sync.and_then(Copied::tenths_percent);
    match (reply.link_status, share, &reply.link_error) {
        (LinkStatus::Sync, Some(share), _) => format!("full sync at {share} %"),
        (LinkStatus::Sync, None, _) => "full sync".to_owned(),
        (_, _, Some(error)) => error.clone(),
        (status, ..) => format!("link {status}"),
    }
}

/// Writes that a failover is known to have lost.
pub(crate) fn of_losses(cx: &Context<'_>, case: Case<'_>, plan: &mut Plan) {
    let Case { index, shard, .. } = case;
    let Some((until, what)) = cx.observed.losses.get(&shard.id) else { return };
    if cx.now < *until {
        plan.wake(*until);
        plan.alarms.insert(format!("shard {index}: {what}"));
    }
}

/// Alarms of nodes that are down and gave no error, e.g. because their host is gone or their
/// process hangs. No decision rests on them, so they are no part of the plan.
pub fn silent(record: &Record, observed: &Observed, policy: &Policy) -> Vec<String> {
    if observed.guard.is_some() || !observed.authority.acts() {
        return Vec::new();
    }
    let is_silent = |node: &Node| {
        let seen = observed.node(&node.id);
        seen.misses >= policy.misses && seen.error.is_none() && seen.led.is_none()
    };
    (record.nodes())
        .filter(|(_, node)| is_silent(node))
        .map(|(_, node)| {
            format!(
                "{}: does not answer: its host is away, its process hangs, or nothing gets through",
                node.local
            )
        })
        .collect()
}

/// Tells of every node at whose address somebody else answers, and what to do.
pub(crate) fn of_strangers(cx: &Context<'_>, plan: &mut Plan) {
    for (_, node) in cx.record.nodes() {
        let stranger = cx.answer(&node.id).filter(|reply| is_stranger(cx.record, &node.id, reply));
        if let Some(reply) = stranger {
            plan.alarms.insert(stranger_text(cx.record, node, reply));
        }
    }
}

fn stranger_text(record: &Record, node: &Node, reply: &Reply) -> String {
    let Node { local, id, .. } = node;
    let said = &reply.myid;
    let remedy = match record.node(said) {
        _ if is_other_cluster(record, reply) => format!(
            "{local} runs on a data folder of cluster {} (node {said}), this is cluster {}; give it \
             the folder of node {id}, or delete that node from this cluster",
            reply.cluster_id, record.cluster_id
        ),
        Some(other) => format!(
            "{local} answers as node {said}, not {id}: it runs on the data folder of {}; stop \
             both, give each its own folder, and start them again",
            other.local
        ),
        None => format!(
            "{local} answers as node {said}, not {id}: it runs on the data folder of a node that is \
             not of this cluster; give it the folder of {id}, or delete that node from this cluster"
        ),
    };
    format!("{remedy}: until then, what it says counts for nothing")
}

/// Nodes with a version of the topology that is above all that follow: they take none any more.
pub(crate) fn of_versions(cx: &Context<'_>, plan: &mut Plan) {
    for (_, node) in cx.record.nodes() {
        let reply = cx.reply(&node.id).filter(|reply| !cx.is_believed(reply.version));
        let Some(reply) = reply else { continue };
        plan.alarms.insert(format!(
            "{} has version {} of the topology, which no controller has given, and takes none of this one: \
             stop it, remove its nodes.conf, and start it again",
            node.local, reply.version
        ));
    }
}

/// Clocks that are off: keys with an expiry live longer or shorter at the next master. Where all
/// nodes say the same, it is the controller's own.
pub(crate) fn of_clocks(cx: &Context<'_>, plan: &mut Plan) {
    let off: Vec<(String, i64)> = (cx.record.nodes())
        .filter(|(_, node)| cx.health(&node.id) == Health::Up)
        .filter_map(|(_, node)| {
            Some((node.local.to_string(), cx.observed.node(&node.id).clock_ahead_ms?))
        })
        .collect();
    let (Some(least), Some(most)) =
        (off.iter().map(|(_, ms)| *ms).min(), off.iter().map(|(_, ms)| *ms).max())
    else {
        return;
    };
    if off.len() > 1 && said(most - least).is_none() {
        if let Some((much, direction)) = said(most) {
            let direction = if direction == "ahead of" { "behind" } else { "ahead of" };
            plan.alarms.insert(format!(
                "this controller's clock is {direction} those of all nodes by more than {much}: \
                 events have the wrong time"
            ));
        }
        return;
    }
    for (node, ms) in off {
        let Some((much, direction)) = said(ms) else { continue };
        plan.alarms.insert(format!(
            "the clock of {node} is {direction} this controller's by more than {much}: \
             keys with an expiry live shorter or longer where it is master; is NTP running?"
        ));
    }
}

/// Disks that will soon be full: a node whose disk takes nothing ends (rule R14), and does not come
/// back before there is room.
pub(crate) fn of_disks(cx: &Context<'_>, plan: &mut Plan) {
    for (_, node) in cx.record.nodes() {
        let Some(room) = cx.reply(&node.id).and_then(|reply| reply.room) else { continue };
        let Some(part) = nearly_full(room) else { continue };
        plan.alarms.insert(format!(
            "the disk of {} is nearly full: less than {part} of it is free; make room, or the node ends when it is",
            node.local
        ));
    }
}

fn nearly_full(room: Room) -> Option<&'static str> {
    NEARLY_FULL.iter().find(|(parts, _)| room.is_nearly_full(*parts)).map(|(_, part)| *part)
}

fn said(ahead_ms: i64) -> Option<(&'static str, &'static str)> {
    let direction = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let much = OFF.iter().find(|(ms, _)| ahead_ms.unsigned_abs() > *ms)?.1;
    Some((much, direction))
}
