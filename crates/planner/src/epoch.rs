//! A shard's epoch in the store, and what of it heartbeats grant.
//!
//! Invariants: the number rises with every epoch that is opened, and every process that becomes or
//! stays master under a new nonce opens one; an epoch is granted to the one process it was opened
//! for, and to that one only. In-sync commit adds: every write a client saw acknowledged is held by
//! every member of the in-sync set, so any member may take over and nobody else may.

use api::grant::{CommitMode, EpochId, Grant, Least, Member, Members};
use api::heartbeat::Reply;

use crate::context::{Context, Health};
use crate::draft::Draft;
use crate::{Epoch, Node, Plan, Record, Shard, Time};

/// How much a node holds: positions of one history compare by epoch, then by sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
}

impl Position {
    pub(crate) fn of(reply: &Reply) -> Self {
        Self { epoch: reply.standing.history_epoch, sequence: reply.sequence }
    }
}

/// The node of the record that holds the member's data.
pub(crate) fn node_of<'a>(shard: &'a Shard, member: &Member) -> Option<&'a Node> {
    let id = member.node();
    shard.nodes.iter().find(|node| node.id.as_bytes() == id.as_bytes())
}

/// The same data, whatever happened to what was not yet on disk.
fn is_same_copy(a: &Member, b: &Member) -> bool {
    (a.node(), a.incarnation) == (b.node(), b.incarnation)
}

/// Whether only members of the set may take over: as long as the store has one, whatever mode is
/// wanted by now. Before a cluster's first set there is none to hold on to.
pub(crate) fn by_set(shard: &Shard) -> bool {
    !shard.epoch.in_sync.is_empty()
}

/// The set is not what the wanted commit mode asks for. Only a new epoch changes that: its master
/// begins alone in its set, or without one.
pub(crate) fn is_other_mode(record: &Record, shard: &Shard) -> bool {
    (record.commit_mode == CommitMode::InSync) != by_set(shard)
}

/// The node holds the data the set names it for.
pub(crate) fn is_member(shard: &Shard, reply: &Reply) -> bool {
    reply.member().is_some_and(|member| shard.epoch.in_sync.contains(&member))
}

/// Every member's node answers, none holds what it acknowledged with certainty, because all
/// machines restarted: then the one with most is the best there can be. Data that was replaced
/// (another incarnation) is never that.
pub(crate) fn all_rebooted(cx: &Context<'_>, shard: &Shard) -> bool {
    let mut any = false;
    let all = shard.epoch.in_sync.iter().all(|member| {
        let node = node_of(shard, member).filter(|node| cx.health(&node.id) == Health::Up);
        let now = node.and_then(|node| cx.reply(&node.id)?.member());
        any |= now.is_some_and(|now| is_same_copy(&now, member));
        now.is_some_and(|now| now != *member)
    });
    all && any
}

/// The node holds a copy that the set names, from before its machine restarted.
pub(crate) fn is_rebooted_member(shard: &Shard, reply: &Reply) -> bool {
    let Some(now) = reply.member() else { return false };
    shard.epoch.in_sync.iter().any(|member| is_same_copy(member, &now))
}

/// Opens a new epoch of shard `index` for the process that `reply` is from, followed by the members
/// of `others`. The version has been raised before, if it is to be.
pub(crate) fn open(
    cx: &Context<'_>,
    draft: &mut Draft,
    index: usize,
    reply: &Reply,
    others: impl Iterator<Item = Member>,
) {
    let shown = highest(cx, index);
    let in_sync = cx.record.commit_mode == CommitMode::InSync;
    let Draft { version, shard } = draft;
    let own = reply.member();
    if shard.epoch.is_none() && own.is_none() {
        return;
    }
    let set: Members = own.into_iter().chain(others).collect();
    shard.epoch = Epoch {
        number: shard.epoch.number.max(shown) + 1,
        id: EpochId(cx.fresh_id(index)),
        nonce: reply.nonce.clone(),
        least: Least { id: reply.standing.history_id, sequence: reply.sequence },
        request: 0,
        in_sync: if in_sync { set } else { Members::default() },
        version: *version,
    };
}

/// What the node said under its name: one that does not know who it is may hold anybody's data.
pub(crate) fn named<'a>(cx: &Context<'a>, node: &Node) -> Option<&'a Reply> {
    cx.reply(&node.id).filter(|reply| reply.myid == node.id)
}

/// The highest epoch any node of the shard shows.
pub(crate) fn highest(cx: &Context<'_>, index: usize) -> u64 {
    let shard = &cx.record.shards[index];
    let shown = shard.nodes.iter().filter_map(|node| named(cx, node));
    shown
        .map(|reply| reply.standing.history_epoch.max(reply.standing.granted_epoch))
        .max()
        .unwrap_or(0)
}

/// The answer was given by a process that lives after the record's epoch was opened: if that is not
/// the one it was opened for, that one is dead, since the data directory admits one at a time. An
/// answer from before may be of the process that the granted one replaced.
pub(crate) fn is_fresh(cx: &Context<'_>, node: &Node) -> bool {
    let seen = cx.observed.node(&node.id).seen.as_ref();
    seen.is_some_and(|seen| seen.reply.myid == node.id && seen.sent_at >= cx.observed.epoch_at)
}

/// A set the master asks for, if it can be one.
pub(crate) fn request<'a>(shard: &Shard, master: &Node, reply: &'a Reply) -> Option<&'a Members> {
    let epoch = &shard.epoch;
    let is_newer = !epoch.is_none()
        && reply.standing.granted_epoch == epoch.number
        && reply.nonce == epoch.nonce
        && reply.myid == master.id
        && reply.standing.request > epoch.request;
    let wanted = &reply.standing.request_members;
    let is_set = reply.member().is_some_and(|own| wanted.contains(&own))
        && wanted.iter().all(|member| node_of(shard, member).is_some());
    (is_newer && is_set).then_some(wanted)
}

/// A process the epoch was not opened for gets no lease either: it could be fenced only by waiting.
pub(crate) fn may_lease(cx: &Context<'_>, shard: &Shard, master: &Node) -> bool {
    let reply = cx.reply(&master.id).filter(|reply| reply.standing.incarnation.is_some());
    shard.epoch.is_none() || reply.is_none_or(|reply| reply.nonce == shard.epoch.nonce)
}

/// What heartbeats to the shard's master grant, besides a lease. `None`: nothing, now.
pub(crate) fn grant(
    cx: &Context<'_>,
    shard: &Shard,
    master: &Node,
    plan: &mut Plan,
) -> Option<Grant> {
    let epoch = &shard.epoch;
    let observed = cx.observed.node(&master.id);
    let reply = cx.reply(&master.id)?;
    if epoch.is_none() || reply.nonce != epoch.nonce || reply.standing.incarnation.is_none() {
        return None;
    }
    if promised(cx, master).is_some_and(|until| cx.now < until) {
        return None;
    }
    let refusal = observed.refusal.as_ref().filter(|refusal| refusal.epoch == epoch.number);
    if let Some(refusal) = refusal {
        plan.alarms.insert(format!("{}: {}", master.local, refusal.why));
        let again = refusal.at.plus_millis(cx.policy.push_retry_ms);
        if cx.now < again {
            plan.wake(again);
            return None;
        }
    }
    Some(Grant {
        epoch: epoch.number,
        id: epoch.id,
        least: epoch.least,
        // That of the epoch: another one that is wanted comes with the next.
        mode: if by_set(shard) { CommitMode::InSync } else { CommitMode::Async },
        min_in_sync: cx.record.min_in_sync.max(1),
        request: epoch.request,
        members: epoch.in_sync.clone(),
        // An older node would refuse the word.
        version: if reply.standing.granted_version.is_some() { epoch.version } else { 0 },
    })
}

/// The master was granted the epoch and told the set that the store holds.
pub(crate) fn is_known(cx: &Context<'_>, shard: &Shard, master: &Node) -> bool {
    let epoch = &shard.epoch;
    let reply = cx.reply(&master.id);
    let knows = reply.is_none_or(|reply| reply.standing.incarnation.is_none());
    epoch.is_none()
        || knows
        || cx.observed.node(&master.id).confirmed == Some((epoch.number, epoch.request))
}

/// Until when a promise of the master-to-be to its old master lasts, if one does.
pub(crate) fn promised(cx: &Context<'_>, master: &Node) -> Option<Time> {
    let seen = cx.observed.node(&master.id).seen.as_ref()?;
    let ms = cx.reply(&master.id)?.standing.promised_ms;
    (ms > 0).then(|| seen.received_at.plus_millis(ms))
}
