//! Everything there is at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::grant::{EpochId, Least};
use api::moves::{Feed, MoveId, Ordered, Said, Slots};
use grant::{History, Opened};
use planner::ShardId;
use planner::moves::{Attempt, Floor, Moves, Phase};
use replication::slots::copy::{Head, Sender};
use replication::slots::{Access, Cursor, Machine, Mark, State, Table};

/// The slot that moves.
pub(super) const SLOT: u16 = 5;
/// What the shards are called.
pub(super) const SHARD_IDS: [ShardId; 2] = [ShardId(0xa), ShardId(0xb)];

pub(super) fn slots() -> Slots {
    Slots::new(&[(SLOT, SLOT)]).unwrap_or_else(|_| unreachable!("one slot"))
}

/// A key and its value; values rise with time.
pub(super) type Records = Vec<(u8, u8)>;

/// A batch in a log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Entry {
    /// The put that opens an epoch.
    Epoch(u8),
    /// A client's write.
    Write(u8, u8),
    /// Records of a copy, and the mark that says so.
    Staged(Vec<(u8, u8)>, Option<Mark>),
    /// A mark alone.
    Put(Mark),
    /// The slot is emptied, with a mark.
    Emptied(Mark),
}

/// An epoch as the record has it. Of each shard they are numbered from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// Its number.
    pub number: u8,
    /// The topology that its holder must have.
    pub version: u8,
}

/// What a shard's epoch is called.
pub(super) fn epoch_id(shard: u8, number: u8) -> EpochId {
    EpochId(u64::from(shard) * 100 + u64::from(number))
}

/// A shard: the process that serves, or is to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shard {
    /// 0 or 1.
    pub index: u8,
    /// What its process was chosen for.
    pub epoch: Epoch,
    /// It holds the grant.
    pub is_granted: bool,
    /// Its log.
    pub log: Vec<Entry>,
    /// Of it, what the set has.
    pub committed: usize,
    /// Of it, what is on the disk.
    pub synced: usize,
    /// Of the topology in force,
    pub version: u8,
    /// and who owns the slot by it.
    pub owner: u8,
    /// What is held back.
    pub machine: Machine,
    /// A mark that was kept beside the log, where a rule is off.
    pub aside: Option<Mark>,
    /// The taker: from which epoch of the giver it pulls, and for which move.
    pub pulls: Option<(MoveId, u8)>,
    /// The giver: the stream to that epoch of the taker. `None` in it: the taker has what the
    /// giver's history does not hold.
    pub feeds: Option<(MoveId, u8, Option<Sender>)>,
}

impl Shard {
    pub(super) fn table(&self) -> Table {
        let mut table = Table::default();
        for entry in &self.log {
            match entry {
                Entry::Staged(_, Some(mark)) | Entry::Put(mark) | Entry::Emptied(mark) => {
                    table.put(mark.clone());
                }
                Entry::Epoch(_) | Entry::Write(..) | Entry::Staged(_, None) => {}
            }
        }
        if let Some(mark) = &self.aside
            && table.of(mark.id).is_some_and(|old| matches!(old.state, State::Staged { .. }))
        {
            table.put(mark.clone());
        }
        table
    }

    /// The values of the keys at the end of the first `length` batches.
    pub(super) fn data(&self, length: usize) -> [Option<u8>; 2] {
        let mut data = [None; 2];
        for entry in &self.log[..length.min(self.log.len())] {
            match entry {
                Entry::Write(key, value) => data[usize::from(*key)] = Some(*value),
                Entry::Staged(records, _) => {
                    for (key, value) in records {
                        data[usize::from(*key)] = Some(*value);
                    }
                }
                Entry::Emptied(_) => data = [None; 2],
                Entry::Epoch(_) | Entry::Put(_) => {}
            }
        }
        data
    }

    pub(super) fn latest(&self) -> u64 {
        self.log.len() as u64
    }

    pub(super) fn epochs(&self) -> Vec<Opened> {
        let opened = |(at, entry): (usize, &Entry)| match entry {
            Entry::Epoch(number) => Some(Opened {
                epoch: u64::from(*number),
                id: epoch_id(self.index, *number),
                first: at as u64 + 1,
            }),
            _ => None,
        };
        self.log.iter().enumerate().filter_map(opened).collect()
    }

    /// What a sequence is called in this history.
    pub(super) fn name(&self, sequence: u64) -> Least {
        let epochs = self.epochs();
        let of = epochs.iter().rev().find(|epoch| epoch.first <= sequence);
        Least { id: of.map(|epoch| epoch.id), sequence }
    }

    pub(super) fn holds(&self, at: Least) -> bool {
        History { entries: &self.epochs(), latest: self.latest() }.holds(at)
    }

    /// Clients that reach it are answered for the slot.
    pub(super) fn answers(&self) -> bool {
        let gives = self.owner == self.index;
        self.is_granted
            && self.machine.access(SLOT) != Access::Nothing
            && self.table().serves(SLOT, gives, i64::from(self.version))
    }

    pub(super) fn takes_writes(&self) -> bool {
        self.answers() && self.machine.access(SLOT) == Access::Free
    }

    /// There is data of what a move has brought.
    pub(super) fn keeps(&self) -> bool {
        let table = self.table();
        let is_held = table.newest(SLOT).is_some_and(|mark| mark.state == State::Held);
        is_held && self.data(usize::MAX) != [None; 2]
    }

    /// What is staged by that number is not of the slot that moves.
    pub(super) fn has_of_another_slot(&self, id: MoveId) -> bool {
        self.table().of(id).is_some_and(|mark| !mark.slots.contains(SLOT))
    }

    /// The epoch is opened as soon as the topology allows it.
    pub(super) fn open(&mut self, needs_topology: bool) {
        if self.is_granted || (needs_topology && self.version < self.epoch.version) {
            return;
        }
        self.log.push(Entry::Epoch(self.epoch.number));
        self.is_granted = true;
    }

    /// What the process says of the moves it knows.
    pub(super) fn say(&self) -> BTreeMap<MoveId, Said> {
        let table = self.table();
        let marked = table.iter().map(|mark| mark.id);
        let feeds = self.feeds.as_ref().map(|(id, ..)| *id);
        let ids = marked.chain(self.machine.held()).chain(feeds);
        let tell = |id: MoveId| {
            let mut said = self.machine.say(id, &table);
            let place = self.log.iter().rposition(|entry| match entry {
                Entry::Staged(_, Some(mark)) | Entry::Put(mark) | Entry::Emptied(mark) => {
                    mark.id == id
                }
                _ => false,
            });
            let length = place.map_or(0, |place| place + 1);
            said.sequence = length as u64;
            said.is_committed = length > 0 && self.committed >= length;
            said.is_synced = length > 0 && self.synced >= length;
            if let Some((of, _, sender)) = &self.feeds
                && *of == id
            {
                said.feed = Some(match sender {
                    None => Feed::Misfit,
                    Some(sender) if *sender.cursor() == Cursor::End => Feed::Close,
                    Some(_) => Feed::Far,
                });
            }
            (id, said)
        };
        ids.map(tell).collect()
    }
}

/// What a controller knows of a master.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Heard {
    /// Number of the epoch its process was chosen for.
    pub epoch: u8,
    /// It holds it.
    pub is_granted: bool,
    /// Of its topology.
    pub version: u8,
    /// By move.
    pub said: BTreeMap<MoveId, Said>,
}

/// A controller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Controller {
    /// 0 before it ever led.
    pub term: u8,
    /// It waits for the outcome of a swap, for ever.
    pub is_stopped: bool,
    /// The next swap will be late.
    pub is_swap_late: bool,
    /// Its copy of the record.
    pub record: Arc<Stored>,
    /// Newest answers.
    pub heard: [Option<Heard>; 2],
    /// The giver was silent for longer than a lease.
    pub is_silent: bool,
    /// Its attempts.
    pub attempts: BTreeMap<MoveId, Attempt>,
    /// Since the newest attempt: 0 just now, 1 longer than a freeze may last, 2 longer than is
    /// waited for the next one.
    pub clock: u8,
}

/// The record, without what never changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stored {
    /// Rises with every write.
    pub revision: u8,
    /// Of the newest controller.
    pub term: u8,
    /// Of the topology.
    pub version: u8,
    /// The shard that owns the slot.
    pub owner: u8,
    /// By shard.
    pub epochs: [Epoch; 2],
    /// By shard.
    pub floors: [Option<Floor>; 2],
    /// The moves.
    pub moves: Moves,
}

/// A message that is late: it may arrive at any time, and more than once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Late {
    /// Orders on their way to the master of a shard, whichever process that is then.
    Orders(u8, Vec<Ordered>),
    /// An answer on its way to a controller of a term.
    Answer(u8, u8, u8, Heard),
    /// A compare-and-swap on its way to the store.
    Swap(Arc<Stored>, Arc<Stored>),
    /// A frame on its way to that epoch of the taker.
    Frame(u8, Head, Records),
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// Both shards can answer for the slot.
    TwoAnswer,
    /// A shard can answer that lacks what a client was shown of a key.
    Lost {
        /// The shard.
        shard: u8,
        /// The key.
        key: u8,
    },
    /// What is staged at a shard is not the giver's data at the position.
    Torn(u8),
    /// What is staged was never acknowledged at the giver.
    Unacknowledged,
    /// The giver has emptied what is not on the taker's disk.
    Orphaned,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// Faults so far.
    pub faults: u8,
    /// Writes so far.
    pub writes: u8,
    /// The value of the next one.
    pub next: u8,
    /// The record.
    pub store: Arc<Stored>,
    /// The controller that leads by the store.
    pub leader: u8,
    /// The controllers.
    pub controllers: [Arc<Controller>; 2],
    /// The shards; the first one gives.
    pub shards: [Arc<Shard>; 2],
    /// Paths that are cut: bit `2 * controller + shard`.
    pub cut: u8,
    /// What is late.
    pub late: Vec<Late>,
    /// By key: the newest value that a client was shown.
    pub shown: [u8; 2],
    /// The same when the slot changed its owner last.
    pub given: [u8; 2],
    /// What went wrong.
    pub wrong: Option<Wrong>,
}

impl World {
    pub(super) fn shard(&mut self, index: u8) -> &mut Shard {
        Arc::make_mut(&mut self.shards[usize::from(index)])
    }

    pub(super) fn controller(&mut self, index: u8) -> &mut Controller {
        Arc::make_mut(&mut self.controllers[usize::from(index)])
    }

    pub(super) fn is_cut(&self, controller: u8, shard: u8) -> bool {
        self.cut & (1 << (2 * controller + shard)) != 0
    }

    /// The one move that is under way.
    pub(super) fn phase(&self) -> Option<&Phase> {
        self.store.moves.list.first().map(|one| &one.phase)
    }
}

pub(super) fn queue(world: &mut World, from: usize, to: usize) {
    let store = Arc::make_mut(&mut world.store);
    store.moves.queue(slots(), SHARD_IDS[from], SHARD_IDS[to]);
    store.revision += 1;
}
