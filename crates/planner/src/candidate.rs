//! Which replica may take over, and which one should.

use std::fmt;

use api::grant::Member;
use api::heartbeat::{LinkStatus, Reply, Resync, Role};

use crate::context::{Context, Health};
use crate::epoch::{self, Position};
use crate::{Node, Shard};

/// Why a replica cannot take over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ineligible {
    /// It does not answer now.
    Unreachable,
    /// Another node's data folder answers at its address.
    Stranger,
    /// It refuses this controller's term: what it said before may be long ago.
    Led,
    /// Its disk takes nothing.
    Hangs,
    /// Its process is about to end.
    Stopping,
    /// It is not a replica by its own account.
    NotReplica,
    /// Its data belong to another history.
    Resync,
    /// It is replacing its data.
    Loading,
    /// It follows somebody else, and does not hold the current topology.
    Elsewhere,
    /// It has nothing, the master had something.
    Empty,
    /// It lacks more than `max-lag` allows to be lost.
    Behind,
    /// It lacks slots that were moved to the shard.
    BelowFloor,
    /// It may lack what was acknowledged: the in-sync set does not name its data.
    NotMember,
}

impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "does not answer",
            Self::Stranger => "runs on another node's data folder",
            Self::Led => "obeys another controller",
            Self::Hangs => "hangs: its disk takes nothing",
            Self::Stopping => "is being stopped",
            Self::NotReplica => "is not a replica",
            Self::Resync => "has not compared its data with its master's yet, or needs a full sync",
            Self::Loading => "is loading",
            Self::Elsewhere => "follows another master",
            Self::Empty => "is empty",
            Self::Behind => "is further behind than max-lag allows (`ctl set cluster --max-lag`)",
            Self::BelowFloor => "lacks slots that were moved to the shard",
            Self::NotMember => "is not in the in-sync set",
        })
    }
}

/// A replica that may take over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) node: &'a Node,
    pub(crate) position: Position,
    /// What an in-sync set names it; `None` from a node that knows no grants.
    pub(crate) member: Option<Member>,
}

/// Replicas that may take over from a master that lives and waits for them: whether they answer,
/// and how far they are, is asked once it is paused.
pub(crate) fn for_switchover<'a>(
    cx: &Context<'a>,
    shard: &'a Shard,
    master: &Node,
) -> Vec<Candidate<'a>> {
    let stays = |reply: &&Reply| !reply.stopping;
    found(shard, |node| match check(cx, shard, node, master, Silence::Awaited) {
        Err(Ineligible::Empty | Ineligible::Behind) => cx.reply(&node.id).filter(stays),
        other => other.ok().filter(stays),
    })
}

/// Replicas that may take over from a dead master, the one to take first: most advanced, then
/// smallest id. Of the members of a set each has all that was acknowledged, so those whose
/// processes are about to end come last: without a stream from its master such a process ends at
/// once, and would be one more master to be replaced.
pub(crate) fn eligible<'a>(
    cx: &Context<'a>,
    shard: &'a Shard,
    master: &Node,
) -> Vec<Candidate<'a>> {
    let mut found = intact(cx, shard, master);
    if epoch::by_set(shard) {
        found.sort_by_key(|candidate| is_stopping(cx, candidate.node));
    }
    let is_lost = found.is_empty() && epoch::by_set(shard);
    if is_lost && epoch::all_rebooted(cx, shard) { rebooted(cx, shard) } else { found }
}

/// Those that hold everything that was acknowledged.
pub(crate) fn intact<'a>(cx: &Context<'a>, shard: &'a Shard, master: &Node) -> Vec<Candidate<'a>> {
    found(shard, |node| check(cx, shard, node, master, Silence::Excludes).ok())
}

/// Members whose machines restarted, when that is all there is.
pub(crate) fn rebooted<'a>(cx: &Context<'a>, shard: &'a Shard) -> Vec<Candidate<'a>> {
    found(shard, |node| {
        check_own(cx, node, Silence::Excludes)
            .ok()
            .filter(|reply| epoch::is_rebooted_member(shard, reply))
    })
}

/// By its own account its process is about to end.
fn is_stopping(cx: &Context<'_>, node: &Node) -> bool {
    cx.reply(&node.id).is_some_and(|reply| reply.stopping)
}

fn found<'a>(
    shard: &'a Shard,
    accept: impl Fn(&'a Node) -> Option<&'a Reply>,
) -> Vec<Candidate<'a>> {
    let candidate = |node: &'a Node| {
        let reply = accept(node)?;
        Some(Candidate { node, position: Position::of(reply), member: reply.member() })
    };
    let mut found: Vec<Candidate<'a>> = shard.replicas().filter_map(candidate).collect();
    found.sort_by(|a, b| b.position.cmp(&a.position).then_with(|| a.node.id.cmp(&b.node.id)));
    found
}

/// The set of a new master beside itself: of those that could have become it, those whose processes
/// are about to end only where writes need them. They follow nobody any more, so their new master
/// would wait for them until they count as lost.
pub(crate) fn followers(cx: &Context<'_>, chosen: &Node, all: &[Candidate<'_>]) -> Vec<Member> {
    let others: Vec<&Candidate<'_>> =
        all.iter().filter(|other| other.node.id != chosen.id).collect();
    let staying: Vec<Member> = others
        .iter()
        .filter(|other| !is_stopping(cx, other.node))
        .filter_map(|other| other.member)
        .collect();
    let least = usize::try_from(cx.record.min_in_sync).unwrap_or(usize::MAX);
    match staying.len() + 1 >= least {
        true => staying,
        false => others.iter().filter_map(|other| other.member).collect(),
    }
}

/// Why nobody may, for people.
pub(crate) fn reasons(cx: &Context<'_>, shard: &Shard, master: &Node) -> String {
    let reasons: Vec<String> = shard
        .replicas()
        .filter_map(|node| {
            let why = match check(cx, shard, node, master, Silence::Excludes) {
                Ok(reply) => reply.stopping.then_some(Ineligible::Stopping),
                Err(why) => Some(why),
            };
            why.map(|why| format!("{} {why}", node.local))
        })
        .collect();
    if reasons.is_empty() { "it has no replica".to_owned() } else { reasons.join(", ") }
}

/// What a node that missed a heartbeat or two is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// Nothing: what is decided now must not depend on it.
    Excludes,
    /// There is time to wait for its answer.
    Awaited,
}

fn check<'a>(
    cx: &Context<'a>,
    shard: &Shard,
    node: &Node,
    master: &Node,
    silence: Silence,
) -> Result<&'a Reply, Ineligible> {
    let reply = check_own(cx, node, silence)?;
    if shard.floor.is_some_and(|floor| !floor.is_met(reply)) {
        return Err(Ineligible::BelowFloor);
    }
    if epoch::by_set(shard) {
        // It holds what was acknowledged, whichever master it follows.
        return if epoch::is_member(shard, reply) { Ok(reply) } else { Err(Ineligible::NotMember) };
    }
    let follows = reply
        .master
        .as_ref()
        .is_some_and(|(host, port)| *host == master.local.host && *port == master.local.port);
    let had = cx.observed.node(&master.id).master_sequence;
    let had_data = had != Some(0);
    let lag = had.map_or(0, |had| had.saturating_sub(reply.sequence));
    if !follows && reply.version != cx.record.version {
        Err(Ineligible::Elsewhere)
    } else if reply.sequence == 0 && had_data {
        Err(Ineligible::Empty)
    } else if cx.record.max_lag.is_some_and(|most| lag > most) {
        Err(Ineligible::Behind)
    } else {
        Ok(reply)
    }
}

fn check_own<'a>(cx: &Context<'a>, node: &Node, silence: Silence) -> Result<&'a Reply, Ineligible> {
    if cx.observed.node(&node.id).led.is_some() {
        return Err(Ineligible::Led);
    }
    if cx.hangs(&node.id) {
        return Err(Ineligible::Hangs);
    }
    if cx.answer(&node.id).is_some() && cx.reply(&node.id).is_none() {
        return Err(Ineligible::Stranger);
    }
    match (cx.health(&node.id), silence) {
        (Health::Up, _) | (Health::Suspect, Silence::Awaited) => {}
        _ => return Err(Ineligible::Unreachable),
    }
    let Some(reply) = cx.reply(&node.id) else { return Err(Ineligible::Unreachable) };
    if reply.myid != node.id || reply.role != Role::Slave {
        Err(Ineligible::NotReplica)
    } else if reply.resync != Resync::None {
        Err(Ineligible::Resync)
    } else if reply.loading || reply.link_status == LinkStatus::Sync {
        Err(Ineligible::Loading)
    } else {
        Ok(reply)
    }
}
