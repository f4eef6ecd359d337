//! What is held back for moves, and the streams that are under way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ::replication::slots::copy::FRAME_HEAD_BYTES;
use ::replication::slots::{Access, Machine, Mark, MoveId, Slots, State};
use api::moves::{Copying, Feed, Flow, Progress, Rate};
use parking_lot::{Mutex, MutexGuard};
use storage::Store;

use super::copied::Copied;
use super::guest::{Guests, Paced};
use super::loads::Loads;
use super::pace::Growth;
use super::tries::Tries;
use super::wishes::Desk;
use crate::clock;

/// How long clients are held that come for slots whose copy is not opened yet (rule M9).
const EARLY_NS: u64 = 1_000_000_000;

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Moves {
    held: Mutex<Held>,
    /// The machine holds something back.
    is_holding: AtomicBool,
    /// Streams to takers.
    pub(super) gives: Mutex<BTreeMap<MoveId, Arc<Give>>>,
    /// Streams from givers.
    pub(super) takes: Mutex<BTreeMap<MoveId, Arc<Take>>>,
    /// How fast they may go.
    pub guests: Guests,
    /// What users asked for.
    pub wishes: Desk,
    /// How many commands slots get.
    pub loads: Loads,
    /// A sync is under way.
    pub(super) is_syncing: AtomicBool,
    /// CLOCK_BOOTTIME of the last one that was begun, ms.
    pub(super) synced_at_ms: AtomicU64,
    /// To get behind all that reads, so that what is gone can be deleted.
    pub(super) cleans: Mutex<Tries>,
    /// The newest move for whose slots clients have come before they are opened, and
    /// CLOCK_BOOTTIME at which the first of them did, ns.
    early: Mutex<Option<(MoveId, u64)>>,
}

/// What the process that holds an epoch keeps of moves.
#[derive(Debug, Default)]
pub struct Held {
    /// Of the grant it belongs to; 0: of none.
    epoch: u64,
    /// What is held back.
    pub machine: Machine,
    /// Newest sequence that is known to be on the disk. Sequences from before the grant may be of
    /// other records: what was rewound, or replaced.
    pub synced: u64,
}

/// A stream to a taker.
#[derive(Debug)]
pub(super) struct Give {
    /// What moves by it.
    pub slots: Slots,
    /// What the taker said that it may bring.
    pub rate: Option<Rate>,
    /// Another one takes its place.
    pub is_over: AtomicBool,
    /// How far it is; `None` while nothing is heard of the taker.
    pub feed: Mutex<Option<Feed>>,
    /// How fast it may go.
    pub paced: Mutex<Paced>,
    /// How fast the log here grows, and what the taker has of it.
    pub growth: Mutex<Growth>,
}

impl Give {
    /// The copy cannot go on: the stream ends with a frame of a length that no taker takes, which
    /// says so to a person.
    pub(super) fn too_long(&self) -> Vec<u8> {
        self.is_over.store(true, Ordering::SeqCst);
        vec![0xff; FRAME_HEAD_BYTES]
    }
}

/// Where a stream is from, and how fast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Id of the node.
    pub node: String,
    /// Of its process.
    pub nonce: String,
    /// What that process is granted.
    pub epoch: u64,
    /// No faster; `None`: at the usual rate.
    pub rate: Option<Rate>,
}

/// A stream from a giver.
#[derive(Debug)]
pub(super) struct Take {
    /// What moves by it.
    pub slots: Slots,
    /// The process it is from.
    pub source: Source,
    /// Another one takes its place, or it has ended.
    pub is_over: AtomicBool,
    /// CLOCK_BOOTTIME at which it last got on, or had to wait for something here, ms.
    pub progress_ms: AtomicU64,
    /// How fast it may go.
    pub paced: Mutex<Paced>,
    /// What it has brought.
    pub copied: Mutex<Copied>,
    /// CLOCK_BOOTTIME from which on the wall clock here reads what the giver's did, ms.
    pub opens_at_ms: AtomicU64,
    /// What a person has to mend before the copy can go on.
    pub clash: Mutex<Option<String>>,
    /// The same, of a part of the copy that is longer than this node takes: until one has come.
    pub is_long: Mutex<Option<String>>,
}

/// Clocks that are further apart move no slots: more is a clock that was set, ms.
const APART_MS: u64 = 1_000;

impl Take {
    /// A stream in place of an earlier one of its move: what was found out by that one stays so.
    pub(super) fn new(slots: Slots, source: Source, before: Option<&Self>, now_ms: u64) -> Self {
        let opens_at_ms = before.map_or(0, |before| before.opens_at_ms.load(Ordering::SeqCst));
        let parts = before.map_or(0, |before| before.copied.lock().parts());
        Self {
            slots,
            source,
            is_over: AtomicBool::new(false),
            progress_ms: AtomicU64::new(now_ms),
            paced: Mutex::default(),
            copied: Mutex::new(Copied::after(parts)),
            opens_at_ms: AtomicU64::new(opens_at_ms),
            clash: Mutex::new(before.and_then(|before| before.clash.lock().clone())),
            is_long: Mutex::new(before.and_then(|before| before.is_long.lock().clone())),
        }
    }

    /// The giver's wall clock read `giver_ms` a moment ago, that here reads `here_ms`.
    pub(super) fn clock_is(&self, giver_ms: u64, here_ms: u64) {
        let ahead_ms = giver_ms.saturating_sub(here_ms).min(APART_MS);
        self.opens_at_ms.fetch_max(clock::boottime_ms() + ahead_ms, Ordering::SeqCst);
    }
}

/// Why a command for a slot does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barred {
    /// It waits, and is tried again.
    Wait,
    /// What is here is not the data of the slot.
    NotHere(MoveId),
}

impl Moves {
    /// The machine, as of the grant of `epoch`: that of an earlier one has ended.
    pub(super) fn lock(&self, epoch: u64) -> MutexGuard<'_, Held> {
        let mut held = self.held.lock();
        if held.epoch != epoch {
            *held = Held { epoch, ..Held::default() };
            self.mirror(&held);
        }
        held
    }

    /// A sync that was begun under the grant of `epoch` has put so much on the disk.
    pub(super) fn note_synced(&self, epoch: u64, sequence: u64) {
        let mut held = self.held.lock();
        if held.epoch == epoch {
            held.synced = held.synced.max(sequence);
        }
    }

    /// To be called after every change of the machine.
    pub(super) fn mirror(&self, held: &Held) {
        let is_holding = held.machine.held().next().is_some();
        self.is_holding.store(is_holding, Ordering::SeqCst);
    }

    /// The grant is given up: nothing is held back under it any more, and nothing is staged.
    pub fn give_up(&self) {
        let mut held = self.held.lock();
        *held = Held::default();
        self.mirror(&held);
        drop(held);
        for give in self.gives.lock().values() {
            give.is_over.store(true, Ordering::SeqCst);
        }
        for take in self.takes.lock().values() {
            take.is_over.store(true, Ordering::SeqCst);
        }
    }

    /// How far the copies are that this node takes.
    pub fn copies(&self) -> Vec<Progress> {
        let takes = self.takes.lock();
        let running = takes.iter().filter(|(_, take)| !take.is_over.load(Ordering::SeqCst));
        running.map(|(id, take)| take.copied.lock().progress(*id)).collect()
    }

    /// A copy comes here.
    pub(super) fn takes_any(&self) -> bool {
        self.takes.lock().values().any(|take| !take.is_over.load(Ordering::SeqCst))
    }

    /// Where the copies are that this node takes, also those whose stream is broken.
    pub fn copying(&self) -> Vec<Copying> {
        let takes = self.takes.lock();
        let copying = takes.iter().map(|(id, take)| {
            let (parts, clash) = (take.copied.lock().parts(), take.clash.lock().clone());
            Copying { id: *id, parts, clash: clash.or_else(|| take.is_long.lock().clone()) }
        });
        copying.collect()
    }

    /// The streams that run here.
    pub fn flows(&self) -> Vec<Flow> {
        let flow = |id: &MoveId, is_taken, rate, paced: &Mutex<Paced>| {
            let (Paced { bytes_per_s, brake }, id) = (*paced.lock(), *id);
            let (written_per_s, taken_per_s) = (0, 0);
            Flow { id, is_taken, rate, bytes_per_s, brake, written_per_s, taken_per_s }
        };
        let is_on = |is_over: &AtomicBool| !is_over.load(Ordering::SeqCst);
        let mut flows = Vec::new();
        {
            let gives = self.gives.lock();
            // What ended because it did not fit is told of, and no stream.
            let on = gives.iter().filter(|(_, give)| {
                is_on(&give.is_over) && *give.feed.lock() != Some(Feed::Misfit)
            });
            flows.extend(on.map(|(id, give)| {
                let (written_per_s, taken_per_s) = give.growth.lock().per_s();
                let flow = flow(id, false, give.rate, &give.paced);
                Flow { written_per_s, taken_per_s, ..flow }
            }));
        }
        let takes = self.takes.lock();
        let on = takes.iter().filter(|(_, take)| is_on(&take.is_over));
        flows.extend(on.map(|(id, take)| flow(id, true, take.source.rate, &take.paced)));
        flows
    }

    /// Whether what had expired at the giver when writes stopped has expired here: until then
    /// nobody reads it here (rule M15).
    pub(super) fn may_open(&self, id: MoveId) -> bool {
        let takes = self.takes.lock();
        let opens_at_ms = takes.get(&id).map(|take| take.opens_at_ms.load(Ordering::SeqCst));
        opens_at_ms.is_none_or(|at_ms| at_ms <= clock::boottime_ms())
    }

    /// Whether anything is held back.
    pub fn is_holding(&self) -> bool {
        self.is_holding.load(Ordering::SeqCst)
    }

    /// Where the data of a move's slots ends, while they are frozen.
    pub(super) fn frozen_at(&self, id: MoveId, slots: &Slots) -> Option<u64> {
        let held = self.held.lock();
        held.machine.frozen(id, slots)?.at.map(|at| at.sequence)
    }

    /// The highest number of a move that is known here; 0 for none.
    pub fn newest(&self, store: &Store) -> MoveId {
        let marks = store.marks().unwrap_or_default();
        self.held.lock().machine.newest(marks.table())
    }

    /// Whether a slot that is not this node's by its topology is held back all the same: its
    /// clients are told where it went once the taker has opened it (rule M9).
    pub fn is_held(&self, slot: u16) -> bool {
        self.is_holding() && self.held.lock().machine.access(slot) != Access::Free
    }

    /// What is in the way of a command for a slot that the topology gives this node.
    ///
    /// # Errors
    /// What is to be done with the command.
    pub fn may_run(&self, store: &Store, slot: u16, is_write: bool) -> Result<(), Barred> {
        if self.is_holding() {
            let access = self.held.lock().machine.access(slot);
            if access == Access::Nothing || (access == Access::ReadsOnly && is_write) {
                return Err(Barred::Wait);
            }
        }
        let Some(marks) = store.marks() else { return Ok(()) };
        match marks.newest(slot) {
            None | Some(Mark { state: State::Held, .. }) => Ok(()),
            Some(mark @ Mark { state: State::Staged { .. }, .. }) if self.is_early(mark.id) => {
                tracing::trace!(id = %mark.id, slot, "a client is early");
                Err(Barred::Wait)
            }
            Some(mark) => Err(Barred::NotHere(mark.id)),
        }
    }

    /// Clients may come before the slots are opened, but not for ever. Each move has a time of its
    /// own: a replica, where nobody orders anything, sees many of them.
    fn is_early(&self, id: MoveId) -> bool {
        let now = clock::boottime_ns();
        let mut early = self.early.lock();
        let (newest, since) = early.filter(|(known, _)| *known >= id).unwrap_or((id, now));
        *early = Some((newest, since));
        newest == id && now.saturating_sub(since) < EARLY_NS
    }

    /// A mark was put: a command that comes from now on comes early anew.
    pub(super) fn marked(&self) {
        *self.early.lock() = None;
    }
}

/// Whether this node owns a slot though its topology does not say so yet: it was opened under a
/// later one.
pub fn is_opened(store: &Store, slot: u16, version: i64) -> bool {
    store.marks().is_some_and(|marks| marks.serves(slot, false, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At a replica no order is obeyed that would begin the time anew.
    #[test]
    fn clients_are_held_for_a_while_for_each_move() {
        let moves = Moves::default();
        assert!(moves.is_early(MoveId(1)));
        let ended = clock::boottime_ns().saturating_sub(EARLY_NS);
        *moves.early.lock() = Some((MoveId(1), ended));
        assert!(!moves.is_early(MoveId(1)), "not for ever");
        assert!(moves.is_early(MoveId(2)) && moves.is_early(MoveId(2)), "another one");
        assert!(!moves.is_early(MoveId(1)), "nor once more");
        moves.marked();
        assert!(moves.is_early(MoveId(1)));
    }

    #[test]
    fn what_was_synced_under_another_grant_counts_for_nothing() {
        let moves = Moves::default();
        assert_eq!(moves.lock(1).synced, 0);
        moves.note_synced(1, 50);
        moves.note_synced(1, 40);
        assert_eq!(moves.lock(1).synced, 50);
        moves.give_up();
        moves.note_synced(1, 60);
        assert_eq!(moves.lock(2).synced, 0);
        moves.note_synced(1, 70);
        assert_eq!(moves.lock(2).synced, 0, "a thread that is late");
    }
}
