//! Slot moves: record + what masters said of them + now → orders, and at most one change of the
//! record.
//!
//! Level-triggered as all of the planner: orders may be lost, late or doubled, a controller may end
//! after any of them, and the next one goes on from the record and from what nodes say.
//!
//! Invariants: the owner of slots is the record's, and changes in one compare-and-swap that rests
//! on what both masters said under the epochs which the record holds (M1, M3); a freeze counts only
//! if it was confirmed to this term and attempt, and is given up only while no swap is on its way
//! (M4); the taker opens only once the giver is sealed or its epoch is over (M9). A number is one
//! move's: what a node says of it counts for the slots that go by it there, and none is begun under
//! a number that a node knows already.

mod give;
mod steps;
mod strangers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use api::grant::EpochId;
use api::moves::{MoveId, Order, Ordered, Rate, Said, Slots};

pub(crate) use self::strangers::{left, owns_any};
pub use crate::queue::{Came, Floor, Move, Moves, Past, Phase, QUEUE_MAX};
use crate::{Record, Shard, ShardId, Time};

/// How long writes of the slots may wait for the taker, ms; then the freeze is given up.
pub const FREEZE_MS: u64 = 50;
/// After the first attempt that failed, ms; each next one waits twice as long.
const AGAIN_MS: u64 = 1_000;
/// At most.
const AGAIN_MAX_MS: u64 = 30_000;
/// How often a move is begun anew.
const TRIES_MAX: u32 = 5;
/// Clocks that are so far apart would end what expires too early, or bring it back, ms (M15).
const CLOCKS_MS: u64 = 1_000;
/// Nothing is handed over while they are further apart: the taker opens once its clock reads what
/// the giver's did, so clients would wait that much longer, ms (M10, M15).
const CLOCKS_AT_STOP_MS: u64 = 50;

/// What a move waits for, in words that stay the same meanwhile: by them it is known for how long.
/// Which nodes that is about, and how much is missing, is said behind them (`moving::about`).
pub(crate) const ANSWERS: &str = "both masters to answer under their epochs";
pub(crate) const SWITCHOVER: &str = "a switchover";
pub(crate) const KNOWING_NODES: &str = "nodes that know slot moves";
pub(crate) const ROOM: &str = "room on the taker's disks";
pub(crate) const LED_TO: &str = "every balancer to lead to the taker's master";
/// These begin so.
pub(crate) const CLOCKS: &str = "the clocks of both masters";
pub(crate) const NUMBERS: &str = "both masters to know of moves only that there were";
pub(crate) const THE_COPY: &str = "the copy";
pub(crate) const GIVERS_REPLICAS: &str = "the giver's replicas";
pub(crate) const TAKERS_REPLICAS: &str = "the taker's replicas";

/// What a move waits for that has nothing to be mended.
const ITS_TURN: &str = "its turn";
/// What one waits for that is copied and whose taker does not keep up.
pub(crate) const A_SHORT_STOP: &str = "a short stop to be possible";
/// What a paused one waits for that has not begun.
const PAUSED: &str = "an operator: it is paused";
/// And one whose copy has stopped, is about to, or does not.
const RESTS: &str = "an operator: it is paused, and nothing is copied";
const IS_TO_REST: &str = "an operator: it is paused, and the copy is about to stop";
const COPIES_ON: &str =
    "an operator: it is paused, and the copy goes on, since the taker's node knows no pause of it";
/// What nobody has to mend.
pub(crate) const AS_ASKED: [&str; 5] = [ITS_TURN, PAUSED, RESTS, IS_TO_REST, COPIES_ON];

/// The newest answer of a node, as far as moves go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Answer {
    /// Its process.
    pub nonce: String,
    /// The epoch that process holds a grant of.
    pub granted_epoch: u64,
    /// Its id.
    pub granted_id: EpochId,
    /// Of its topology.
    pub version: i64,
    /// It knows what is asked of it here.
    pub knows_moves: bool,
    /// The highest number of a move that it knows, by its data or by what it holds back; 0 from
    /// nodes that do not say.
    pub newest: MoveId,
    /// And a rate in an order to pull.
    pub knows_rates: bool,
    /// There is room for more on its shard's disks.
    pub has_room: bool,
    /// Every balancer leads to it, where there are any.
    pub is_reached: bool,
    /// How far its wall clock is ahead of the controller's, ms, if that is known.
    pub clock_ahead_ms: Option<i64>,
    /// By how much that may be wrong.
    pub clock_error_ms: u64,
    /// The streams that it takes, and of which rate; `None` from nodes that do not say, which know
    /// no order to rest.
    pub takes: Option<BTreeMap<MoveId, Option<Rate>>>,
    /// What a person has to mend before it can go on to copy, by move.
    pub clashes: BTreeMap<MoveId, String>,
    /// By move.
    pub said: BTreeMap<MoveId, Said>,
}

/// An attempt of this controller to hold writes for the handover of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt {
    /// Rises with each of this term.
    pub number: u64,
    /// When the freeze was ordered.
    pub at: Time,
    /// The thaw was ordered: whatever is confirmed of it counts no more.
    pub is_given_up: bool,
}

/// What a controller knows beside the record. A new one knows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Observed {
    /// Of this controller: its orders are of it, and a freeze counts only if it is.
    pub term: u64,
    /// By node id.
    pub answers: BTreeMap<String, Answer>,
    /// By move.
    pub attempts: Attempts,
}

/// The attempts of this term, by move.
pub type Attempts = BTreeMap<MoveId, Attempt>;

/// To be called before an order leaves: it may arrive whatever becomes of its answer.
pub fn ordered(attempts: &mut Attempts, ordered: &Ordered, now: Time) {
    match ordered.order {
        Order::Freeze { number } => {
            let fresh = Attempt { number, at: now, is_given_up: false };
            let attempt = attempts.entry(ordered.id).or_insert(fresh);
            if attempt.number < number {
                *attempt = fresh;
            }
        }
        Order::Thaw { .. } => {
            let fresh = Attempt { number: 0, at: now, is_given_up: true };
            attempts.entry(ordered.id).or_insert(fresh).is_given_up = true;
        }
        _ => {}
    }
}

/// Where a move is: while that stays the same, it does not advance.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Moved {
    /// Of [`Phase::word`].
    pub phase: &'static str,
    /// What it waits for.
    pub waits_for: String,
    /// Parts that were copied, where the taker counts them; else the sequence of the giver that is
    /// staged. 0 once the copy is whole.
    pub staged: u64,
}

/// What moves need now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// To masters, by node id.
    pub orders: Vec<(String, Ordered)>,
    /// Nodes that clients wait for: they are asked at once, and again.
    pub urgent: BTreeSet<String>,
    /// One change of the record, and why.
    pub swap: Option<(Record, String)>,
    /// What each move waits for.
    pub waits: BTreeMap<MoveId, String>,
    /// When to look again at the latest.
    pub wake_at: Option<Time>,
    /// What masters hold back for moves that the record does not know.
    pub strangers: Vec<Stranger>,
}

/// What a master holds back, and no move of the record asks for: a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Id of the master.
    pub node: String,
    /// The number of the move there.
    pub id: MoveId,
    /// Its slots; `None` from nodes that do not say.
    pub slots: Option<Slots>,
    /// Reads wait as well, and no order lets go.
    pub is_sealed: bool,
}

/// Decides what the moves of a cluster need. Not to be called while the outcome of a change of the
/// record is not known.
pub fn plan(record: &Record, observed: &Observed, now: Time) -> Plan {
    let mut plan = Plan::default();
    let cx = Context { record, observed, now };
    for one in &record.moves.list {
        steps::decide(&cx, one, &mut plan);
    }
    strangers::look(&cx, &mut plan);
    plan
}

/// What decisions look things up in.
struct Context<'a> {
    record: &'a Record,
    observed: &'a Observed,
    now: Time,
}

/// A shard of a move, and what its master said under the epoch that the record holds.
#[derive(Clone, Copy)]
struct Side<'a> {
    shard: &'a Shard,
    /// Id of the master.
    node: &'a str,
    answer: &'a Answer,
}

impl<'a> Context<'a> {
    fn shard(&self, id: ShardId) -> Option<&'a Shard> {
        self.record.place_of(id).map(|place| &self.record.shards[place])
    }

    /// The master, if it is known that it is one: another process, another epoch, or one that is to
    /// be fenced first, says nothing that a swap of this record could rest on.
    fn side(&self, id: ShardId) -> Option<Side<'a>> {
        let shard = self.shard(id)?;
        let node = shard.master()?.id.as_str();
        let answer = self.observed.answers.get(node)?;
        let epoch = &shard.epoch;
        let is_granted = !epoch.is_none()
            && answer.nonce == epoch.nonce
            && answer.granted_epoch == epoch.number
            && answer.granted_id == epoch.id;
        (is_granted && shard.fence.is_none()).then_some(Side { shard, node, answer })
    }
}

impl Side<'_> {
    /// What it said of a move.
    fn said(&self, id: MoveId) -> Said {
        self.answer.said.get(&id).cloned().unwrap_or_else(|| Said::nothing(id))
    }

    /// The number is this move's there, as far as it says.
    fn knows(&self, one: &Move) -> bool {
        self.said(one.id).slots.is_none_or(|slots| slots == one.slots)
    }

    /// What it said of a move, unless the number is another one's there.
    fn said_of(&self, one: &Move) -> Said {
        if self.knows(one) { self.said(one.id) } else { Said::nothing(one.id) }
    }

    /// Its wall clock is so far ahead of that of the other side, or behind, for certain; 0 where
    /// one of them is not known.
    fn apart_ms(&self, other: &Side<'_>) -> u64 {
        let (mine, others) = (self.answer, other.answer);
        let clocks = mine.clock_ahead_ms.zip(others.clock_ahead_ms);
        let apart = clocks.map_or(0, |(mine, others)| mine.abs_diff(others));
        apart.saturating_sub(mine.clock_error_ms + others.clock_error_ms)
    }

    /// Nobody else is about to change its master.
    fn is_steady(&self) -> bool {
        self.shard.intent.is_none()
    }
}

impl Plan {
    fn order(&mut self, cx: &Context<'_>, to: Side<'_>, one: &Move, order: Order) {
        let term = cx.observed.term;
        let ordered = Ordered { id: one.id, slots: one.slots.clone(), term, order };
        self.orders.push((to.node.to_owned(), ordered));
    }

    /// Clients wait for what these do.
    fn hurry(&mut self, sides: &[Option<Side<'_>>]) {
        self.urgent.extend(sides.iter().flatten().map(|side| side.node.to_owned()));
    }

    /// The first change of the record counts: the next one rests on what follows from it.
    fn swap(&mut self, record: Record, why: String) {
        self.swap.get_or_insert((record, why));
    }

    fn waits(&mut self, one: &Move, why: &str) {
        self.waits.insert(one.id, why.to_owned());
    }

    fn wake(&mut self, at: Time) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }
}
