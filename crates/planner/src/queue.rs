//! What the store holds of slot moves.

use api::grant::{EpochId, Least};
use api::heartbeat::Reply;
use api::moves::wish::PartId;
use api::moves::{MoveId, Rate, Slots};
use serde::{Deserialize, Serialize};

use crate::shard_id::ShardId;

/// Moves that may wait or be under way.
pub const QUEUE_MAX: usize = 1_000;
/// Moves that are over and still shown.
const DONE_MAX: usize = 1_000;

/// Moves of which it is kept where their slots came to their shards.
const CAME_MAX: usize = 500;

/// What a cancelled one ends with.
const CANCELLED: &str = "cancelled";

/// How far a move is. The owner of the slots is not said here but by the shards' ranges: both
/// change in one compare-and-swap.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It waits for its turn.
    Queued,
    /// The taker copies. The giver owns the slots.
    Copy,
    /// The taker owns the slots; what follows is repeated until it is done.
    Owned {
        /// What the taker had staged: the giver's data there.
        at: Least,
        /// Of the record that gave them.
        version: i64,
        /// The giver's epoch then.
        epoch: u64,
        /// And its process; empty in records of earlier versions.
        #[serde(default)]
        process: String,
    },
    /// It is given up. The giver owns the slots.
    Drop {
        /// Why, for people.
        why: String,
        /// It is to be tried again, under another number.
        again: bool,
    },
}

impl Phase {
    /// Every word of [`Phase::word`].
    pub const WORDS: [&str; 4] = ["queued", "copy", "owned", "drop"];

    /// One word, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Queued => Self::WORDS[0],
            Self::Copy => Self::WORDS[1],
            Self::Owned { .. } => Self::WORDS[2],
            Self::Drop { .. } => Self::WORDS[3],
        }
    }
}

/// A move of slots from one shard to another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Move {
    /// Its number.
    pub id: MoveId,
    /// What moves.
    pub slots: Slots,
    /// The shard that gives.
    pub from: ShardId,
    /// The shard that takes.
    pub to: ShardId,
    /// How far it is.
    pub phase: Phase,
    /// How often it was begun anew.
    #[serde(default)]
    pub tries: u32,
    /// An operator has asked for no copying now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_paused: bool,
    /// What it may bring at most; `None`: as usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The part of a wish at a node that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<PartId>,
    /// What its slots weighed when it was queued, for people; `None` where that was not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// A move that is over.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Past {
    /// Its number.
    pub id: MoveId,
    /// What moved.
    pub slots: Slots,
    /// The shard that gave.
    pub from: ShardId,
    /// The shard that took.
    pub to: ShardId,
    /// Why it was given up; `None` if it was done.
    pub error: Option<String>,
    /// The part of a wish at a node that it was of; of one that was begun anew its next one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<PartId>,
}

/// Where slots came to a shard: whoever has less there never had them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Came {
    /// The move by which they did.
    pub id: MoveId,
    /// Which.
    pub slots: Slots,
    /// To whom.
    pub to: ShardId,
    /// There.
    pub floor: Floor,
}

/// The moves of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Moves {
    /// The highest number that was given.
    pub newest: MoveId,
    /// What is queued or under way, in the order of the queue.
    pub list: Vec<Move>,
    /// What is over, the oldest first.
    pub done: Vec<Past>,
    /// Where slots came, of the newest moves, the oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub came: Vec<Came>,
    /// Most that are under way at a time; `None`: as many as shards allow, each of which gives and
    /// takes for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl Moves {
    /// The highest number that nodes are believed to know of: no store gave so many, and above it
    /// there is place for as many again.
    pub(crate) const KNOWN_MAX: MoveId = MoveId(u64::MAX / 2);

    /// There never was one.
    pub fn is_empty(&self) -> bool {
        self.newest == MoveId(0) && self.list.is_empty() && self.done.is_empty()
    }

    /// Those that have begun and are not over.
    pub fn under_way(&self) -> impl Iterator<Item = &Move> {
        self.list.iter().filter(|one| one.phase != Phase::Queued)
    }

    /// The shard gives or takes for one that is queued or under way.
    pub fn concern(&self, shard: ShardId) -> Option<&Move> {
        self.list.iter().find(|one| one.from == shard || one.to == shard)
    }

    /// Queues one.
    pub fn queue(&mut self, slots: Slots, from: ShardId, to: ShardId) -> MoveId {
        let id = self.next();
        let phase = Phase::Queued;
        let (tries, is_paused, rate, wish, bytes) = (0, false, None, None, None);
        self.list.push(Move { id, slots, from, to, phase, tries, is_paused, rate, wish, bytes });
        id
    }

    /// Gives one up.
    ///
    /// # Errors
    /// When there is none to give up any more.
    pub fn cancel(&mut self, id: MoveId) -> Result<(), &'static str> {
        let one = self.get_mut(id).ok_or("there is no such move under way")?;
        match one.phase {
            Phase::Queued => self.conclude(id, Some(CANCELLED.to_owned())),
            Phase::Copy => one.phase = Phase::Drop { why: CANCELLED.to_owned(), again: false },
            Phase::Drop { ref mut again, .. } => *again = false,
            Phase::Owned { .. } => return Err("its slots have moved already"),
        }
        Ok(())
    }

    /// Queues it anew under another number, which is returned.
    pub(crate) fn again(&mut self, id: MoveId, why: &str) -> MoveId {
        let next = self.next();
        if let Some(one) = self.get_mut(id) {
            let fresh =
                Move { id: next, phase: Phase::Queued, tries: one.tries + 1, ..one.clone() };
            one.wish = None;
            self.conclude(id, Some(format!("begun anew as {next}: {why}")));
            self.list.push(fresh);
        }
        next
    }

    /// Gives a queued move another number, above one that nodes know of: what they have under its
    /// own number is another move's, of which a restored earlier store knows nothing.
    pub(crate) fn renumber(&mut self, id: MoveId, above: MoveId) -> MoveId {
        self.newest = self.newest.max(above);
        let next = self.next();
        if let Some(one) = self.get_mut(id) {
            one.id = next;
            let Move { slots, from, to, .. } = one.clone();
            let error = Some(format!("queued anew as {next}: nodes know of moves up to {above}"));
            self.is_over(Past { id, slots, from, to, error, wish: None });
        }
        next
    }

    /// A number that no move of this record ever had. What nodes know of moves is looked at before
    /// one begins.
    fn next(&mut self) -> MoveId {
        self.newest = MoveId(self.newest.0.saturating_add(1));
        self.newest
    }

    /// The move of that number.
    pub fn get_mut(&mut self, id: MoveId) -> Option<&mut Move> {
        self.list.iter_mut().find(|one| one.id == id)
    }

    /// It is over.
    pub(crate) fn conclude(&mut self, id: MoveId, error: Option<String>) {
        let Some(place) = self.list.iter().position(|one| one.id == id) else { return };
        let Move { slots, from, to, wish, .. } = self.list.remove(place);
        self.is_over(Past { id, slots, from, to, error, wish });
    }

    /// Slots have changed their owner: where they were before does not matter any more.
    pub(crate) fn has_come(&mut self, came: Came) {
        self.came.retain(|known| !known.slots.iter().all(|slot| came.slots.contains(slot)));
        self.came.push(came);
        let above = self.came.len().saturating_sub(CAME_MAX);
        self.came.drain(..above);
    }

    fn is_over(&mut self, past: Past) {
        self.done.push(past);
        let above = self.done.len().saturating_sub(DONE_MAX);
        self.done.drain(..above);
    }
}

/// The least that a master of a shard must hold, in every commit mode: slots came to the shard
/// there (rule M6 of slot moves).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Floor {
    /// Number of the epoch.
    pub epoch: u64,
    /// Its id.
    pub id: EpochId,
    /// Sequence, as a part of it.
    pub sequence: u64,
}

impl Floor {
    /// Whether the data that answered goes so far. A later epoch was opened upon data that does.
    pub(crate) fn is_met(&self, reply: &Reply) -> bool {
        let standing = &reply.standing;
        standing.history_epoch > self.epoch
            || (standing.history_id == Some(self.id) && reply.sequence >= self.sequence)
    }
}
