//! What moves of slots need, as a part of the plan of a cluster.
//!
//! [`crate::moves`] decides; here it is told what nodes and balancers said, and what it wants is
//! put beside the rest: orders for the heartbeats, a change of the record if nothing else asks for
//! one, who is to be asked at once, and what a person should know.

use std::collections::BTreeMap;

use api::grant::EpochId;
use api::heartbeat::{Reply, Room};
use api::moves::{Asked, Copying, Flow, Mark, MoveId, Order};

use crate::context::{Context, Health};
use crate::moves::{self, Answer, Attempts, Move, Moved, Phase, Stranger};
use crate::sources::is_hidden;
use crate::{Node, Observed, Plan, Record, Shard, ShardId, Time};

mod flows;
mod reached;
mod waits;

pub use flows::slowed_by;
pub use waits::waits_for;

/// A move that stays where it is for so long is told of, ms.
pub const STALL_MS: u64 = 60_000;
/// How long nodes other than the taker are not told of a topology that gives slots away, while the
/// taker has not opened, ms (M9).
const OPENS_MS: u64 = 1_000;

/// Decides what moves need; a change of the record, if they want one, and why.
pub(crate) fn decide(cx: &Context<'_>, is_free: bool, plan: &mut Plan) -> Option<(Record, String)> {
    let observed = observed(cx);
    if cx.record.moves.is_empty() && observed.answers.is_empty() {
        return None;
    }
    let mut wanted = moves::plan(cx.record, &observed, cx.now);
    let swap = wanted.swap.take().filter(|_| is_free);
    for node in wanted.urgent.iter().filter(|node| cx.health(node) == Health::Up) {
        cx.ask(node, plan);
    }
    if let Some(at) = wanted.wake_at {
        cx.wake(at, plan);
    }
    for (node, ordered) in wanted.orders {
        plan.orders.entry(node).or_default().push(ordered);
    }
    plan.alarms.extend(wanted.strangers.iter().map(|held| held_back(cx, held)));
    for one in &cx.record.moves.list {
        let waits_for = wanted.waits.remove(&one.id).unwrap_or_default();
        let sign = sign(cx, one, waits_for);
        tell(cx, one, &sign, plan);
        plan.moves.insert(one.id, sign);
    }
    swap
}

/// The record is about to change, whatever for: the store may take its time, and clients would wait
/// for it.
pub(crate) fn freeze_nothing(plan: &mut Plan) {
    for orders in plan.orders.values_mut() {
        orders.retain(|ordered| !matches!(ordered.order, Order::Freeze { .. }));
    }
}

/// What both masters of each move say of it, and what else a move rests on.
fn observed(cx: &Context<'_>) -> moves::Observed {
    let mut answers = BTreeMap::new();
    let mut ids: Vec<ShardId> = Vec::new();
    ids.extend(cx.record.moves.list.iter().flat_map(|one| [one.from, one.to]));
    // Something may be held back for one that is over.
    ids.extend(cx.record.moves.done.iter().rev().take(PAST_MAX).map(|past| past.from));
    // Or for one that this record does not know. What is staged for one concerns who owns it, too.
    for shard in &cx.record.shards {
        let reply = shard.master().and_then(|master| cx.reply(&master.id));
        for said in reply.into_iter().flat_map(|reply| reply.moves.iter().flatten()) {
            let left = moves::left(cx.record, said);
            if said.frozen.is_some() || left.is_some() {
                ids.push(shard.id);
            }
            if let Some(slots) = left {
                let owners = cx.record.shards.iter().filter(|one| moves::owns_any(one, slots));
                ids.extend(owners.map(|one| one.id));
            }
        }
    }
    ids.sort_unstable();
    ids.dedup();
    let is_of_one = |shard: &&Shard| !shard.id.is_none() && ids.binary_search(&shard.id).is_ok();
    for shard in cx.record.shards.iter().filter(is_of_one) {
        let Some(master) = shard.master() else { continue };
        let Some(reply) = cx.reply(&master.id).filter(|reply| reply.myid == master.id) else {
            continue;
        };
        answers.insert(master.id.clone(), answer(cx, shard, master, reply));
    }
    let Observed { term, attempts, .. } = cx.observed;
    moves::Observed { term: *term, answers, attempts: attempts.clone() }
}

/// Moves that are over and for which a master may still hold something back: orders are late by
/// seconds, not by more moves than that.
const PAST_MAX: usize = 64;

fn answer(cx: &Context<'_>, shard: &Shard, master: &Node, reply: &Reply) -> Answer {
    let standing = &reply.standing;
    let is_newest = standing.history_epoch == standing.granted_epoch;
    let said = reply.moves.iter().flatten();
    let clash = |copying: &Copying| Some((copying.id, copying.clash.clone()?));
    let clashes = reply.copying.iter().filter_map(clash);
    let taken = |flows: &Vec<Flow>| {
        let taken = flows.iter().filter(|flow| flow.is_taken);
        taken.map(|flow| (flow.id, flow.rate)).collect()
    };
    Answer {
        nonce: reply.nonce.clone(),
        granted_epoch: standing.granted_epoch,
        granted_id: standing.history_id.filter(|_| is_newest).unwrap_or(EpochId(0)),
        version: reply.version,
        knows_moves: reply.moves.is_some(),
        knows_rates: reply.knows_rates,
        newest: reply.newest_move.unwrap_or_default(),
        has_room: shard.nodes.iter().all(|node| has_room(cx, node)),
        is_reached: reached::is_reached(cx.record, cx.observed, master),
        clock_ahead_ms: cx.observed.node(&master.id).clock_ahead_ms,
        clock_error_ms: cx.observed.node(&master.id).clock_error_ms,
        takes: reply.flows.as_ref().map(taken),
        clashes: clashes.collect(),
        said: said.map(|said| (said.id, said.clone())).collect(),
    }
}

/// As far as the node says.
fn has_room(cx: &Context<'_>, node: &Node) -> bool {
    let room = cx.reply(&node.id).and_then(|reply| reply.room);
    room.is_none_or(Room::has_place_for_guests)
}

/// Where a move is: as long as that stays the same, it does not advance.
fn sign(cx: &Context<'_>, one: &Move, waits_for: String) -> Moved {
    let to = cx.record.place_of(one.to).and_then(|place| cx.record.shards[place].master());
    let reply = to.and_then(|master| cx.reply(&master.id));
    let said = reply.and_then(|reply| reply.moves.iter().flatten().find(|s| s.id == one.id));
    let copying = reply.and_then(|reply| reply.copying.iter().find(|copying| copying.id == one.id));
    let staged = said.and_then(|said| said.mark).and_then(|mark| match (mark, copying) {
        // What clients write arrives with every second, and the copy is no nearer its end for that.
        (Mark::Staged { is_whole: false, .. }, Some(copying)) => Some(copying.parts),
        (Mark::Staged { at, is_whole: false }, None) => at.map(|at| at.sequence),
        _ => None,
    });
    Moved { phase: one.phase.word(), waits_for, staged: staged.unwrap_or(0) }
}

/// A person should know of a move that stays where it is, unless that is what was asked for.
fn tell(cx: &Context<'_>, one: &Move, sign: &Moved, plan: &mut Plan) {
    if moves::AS_ASKED.contains(&sign.waits_for.as_str()) {
        return;
    }
    let known = cx.observed.moved.get(&one.id).filter(|(known, _)| known == sign);
    let due = known.map_or(cx.now, |(_, since)| *since).plus_millis(STALL_MS);
    if cx.now < due {
        return plan.wake(due);
    }
    let shard = |id| match cx.record.place_of(id) {
        Some(place) => format!("shard {place}"),
        None => format!("shard {id}, which is not there"),
    };
    plan.alarms.insert(format!(
        "move {} of slots {} from {} to {} does not advance: it waits for {}{}{}",
        one.id,
        one.slots,
        shard(one.from),
        shard(one.to),
        sign.waits_for,
        flows::why(cx, one, sign).unwrap_or_default(),
        waits::behind(cx.record, cx.observed, one, sign)
    ));
}

/// A person should know of what is held back for no move of this record, at once.
fn held_back(cx: &Context<'_>, held: &Stranger) -> String {
    let local = cx.record.node(&held.node).map_or(held.node.clone(), |at| at.local.to_string());
    let slots = held.slots.as_ref().map_or("slots".to_owned(), |slots| format!("slots {slots}"));
    let (what, remedy) = match (held.is_sealed, &held.slots) {
        (true, _) => (
            "reads and writes",
            "they were given away by a swap that is not in this record: see which node has their \
             data (CLUSTERX MOVE SHOW) before this one is restarted",
        ),
        (false, None) => (
            "writes",
            "the node does not say which slots they are, so no order lets them go: restart it, or \
             make another node the master",
        ),
        (false, Some(_)) => {
            ("writes", "they are let go once the record is as new as the node's topology")
        }
    };
    format!(
        "{what} of {slots} are held back at {local} for move {}, which this record does not know: \
         {remedy}",
        held.id
    )
}

/// Takes note of where the plan saw the moves.
pub fn note(observed: &mut Observed, plan: &Plan, now: Time) {
    observed.moved.retain(|id, _| plan.moves.contains_key(id));
    for (id, sign) in &plan.moves {
        if observed.moved.get(id).is_none_or(|(known, _)| known != sign) {
            observed.moved.insert(*id, (sign.clone(), now));
        }
    }
}

/// A topology that has just given slots away: it is told first to who takes them, and to nobody
/// before that one serves them, since clients would be sent in a circle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening<'a> {
    /// The node that takes them.
    taker: &'a Node,
    /// It serves them.
    is_open: bool,
    /// It knows the topology.
    is_told: bool,
    /// Nobody waits for that any longer.
    until: Time,
}

/// What every node is asked about, found once; `None`: the topology may be told to all.
pub(crate) fn opening<'a>(cx: &Context<'a>) -> Option<Opening<'a>> {
    let until = cx.observed.record_at.plus_millis(OPENS_MS);
    let fresh = |one: &&Move| matches!(one.phase, Phase::Owned { version, .. } if version == cx.record.version);
    let one = cx.record.moves.list.iter().find(fresh).filter(|_| cx.now < until)?;
    let place = cx.record.place_of(one.to)?;
    let taker = cx.record.shards[place].master()?;
    let reply = cx.reply(&taker.id);
    let is_open = reply.is_some_and(|reply| {
        let mut said = reply.moves.iter().flatten();
        said.any(|said| said.id == one.id && said.mark == Some(Mark::Held))
    });
    let is_told = reply.is_some_and(|reply| reply.version >= cx.record.version);
    Some(Opening { taker, is_open, is_told, until })
}

impl Opening<'_> {
    /// Whether the node may be told of the topology.
    pub(crate) fn may_be_told(self, node: &Node, plan: &mut Plan) -> bool {
        let may = self.is_open && (node.id == self.taker.id || self.is_told);
        if !may {
            plan.wake(self.until);
        }
        may
    }
}

/// What a heartbeat to the node says of moves: orders first, then questions.
pub fn asked(plan: &Plan, record: &Record, observed: &Observed, id: &str) -> Vec<Asked> {
    let knows = observed.node(id).seen.as_ref().is_some_and(|seen| seen.reply.moves.is_some());
    if !knows || observed.in_doubt.is_some() || !observed.authority.acts() {
        return Vec::new();
    }
    let orders = plan.orders.get(id).into_iter().flatten();
    let mut asked: Vec<Asked> = orders.cloned().map(Asked::Do).collect();
    let is_of = |of: ShardId| {
        let shard = record.place_of(of).map(|place| &record.shards[place]);
        shard.and_then(Shard::master).is_some_and(|master| master.id == id)
    };
    let under_way = record.moves.under_way().filter(|one| is_of(one.from) || is_of(one.to));
    let ids: Vec<MoveId> = under_way.map(|one| one.id).collect();
    for id in ids {
        if !asked.iter().any(|known| known.id() == Some(id)) {
            asked.push(Asked::Of(id));
        }
    }
    asked.extend(plan.told.get(id).into_iter().flatten().cloned().map(Asked::Told));
    asked.truncate(api::moves::ASKED_MAX);
    asked
}

/// Whether the shard could give or take slots.
///
/// # Errors
/// Why not, and what to do.
pub fn is_able(record: &Record, observed: &Observed, id: ShardId) -> Result<(), String> {
    let Some(place) = record.place_of(id) else { return Err(format!("shard {id}: not found")) };
    let shard = &record.shards[place];
    let master = shard.master().ok_or_else(|| format!("shard {place} has no master"))?;
    let local = &master.local;
    let Some(seen) = &observed.node(&master.id).seen else {
        return Err(format!("shard {place}: its master {local} has not answered yet"));
    };
    if seen.reply.moves.is_none() {
        return Err(format!(
            "shard {place}: its master {local} does not know slot moves (no `moves:1` in its \
             heartbeats): run a build that does on every node of the shard"
        ));
    }
    if shard.epoch.is_none() {
        return Err(format!("shard {place}: its master {local} holds no epoch yet"));
    }
    Ok(())
}

/// Whether clients would reach slots that the shard is given.
///
/// # Errors
/// That they would not, and what to do.
pub fn may_take(record: &Record, observed: &Observed, id: ShardId) -> Result<(), String> {
    let Some(place) = record.place_of(id) else { return Err(format!("shard {id}: not found")) };
    match record.shards[place].master() {
        Some(master) if is_hidden(record, observed, master) => Err(format!(
            "shard {place}: its master {0} has no announced endpoint, and takes clients through \
             load balancers only: nobody would reach slots there. Announce it first: \
             `ctl node announce {0} HOST:PORT`",
            master.local
        )),
        _ => Ok(()),
    }
}

/// Whether the shard's master takes a rate for a move.
///
/// # Errors
/// That it does not, and what to do.
pub fn takes_rates(record: &Record, observed: &Observed, id: ShardId) -> Result<(), String> {
    let Some(place) = record.place_of(id) else { return Err(format!("shard {id}: not found")) };
    let Some(master) = record.shards[place].master() else { return Ok(()) };
    match &observed.node(&master.id).seen {
        Some(seen) if !seen.reply.knows_rates => Err(format!(
            "shard {place}: its master {} takes no rate for a move (no `move_rate:1` in its \
             heartbeats): run a build that does on every node of the shard, or name no rate",
            master.local
        )),
        _ => Ok(()),
    }
}

/// Whether so many bytes that come to the shard have place on the disks of all its nodes, as far as
/// they say.
///
/// # Errors
/// Where they have not: moves wait for room there.
pub fn have_place(
    record: &Record,
    observed: &Observed,
    id: ShardId,
    bytes: u64,
) -> Result<(), String> {
    let Some(place) = record.place_of(id) else { return Err(format!("shard {id}: not found")) };
    let room = |node: &Node| {
        let seen = observed.node(&node.id).seen.as_ref()?;
        Some((seen.reply.room?.place_for_guests(), node.local.clone()))
    };
    let least = record.shards[place].nodes.iter().filter_map(room).min_by_key(|(room, _)| *room);
    match least {
        Some((room, local)) if room < bytes => Err(format!(
            "shard {place}: about {} MB come, and {local} has place for {} MB: moves wait for room \
             there",
            bytes / 1_000_000,
            room / 1_000_000
        )),
        _ => Ok(()),
    }
}

/// Forgets attempts of moves that are over.
pub fn forget(attempts: &mut Attempts, record: &Record) {
    attempts.retain(|id, _| record.moves.list.iter().any(|one| one.id == *id));
}
