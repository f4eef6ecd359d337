//! Slots that move: the marks of the database, and its data in the order of the copy.
//!
//! Invariant: while nobody writes, the marks in memory are those of the records. They change under
//! the lock that orders writes, as the history of epochs does, at a master and at its replicas.
//!
//! Only databases of a cluster have slots, and a cluster has one namespace: records of others do
//! not move.
//!
//! Kvrocks' own migration knows no marks: what it sends are [`Batches`] or [`commands`], and what it
//! brings lies in slots that were emptied before ([`Store::empty_slots`]).

mod cluster;
pub mod commands;
mod copy;
mod dirty;
mod guests;
mod import;
mod keys;
#[cfg(test)]
mod long_tests;
mod named;
mod newest;
mod raw;
#[cfg(test)]
mod tests;
mod weigh;

use std::collections::BTreeMap;
use std::sync::Arc;

use replication::slots::{Mark, MoveId, State, Table, marks};
use rocksdb::{DB, Direction as Way, IteratorMode, WriteBatch};

use self::newest::Newest;
use crate::batch::{self, Record, Writer};
use crate::{DEFAULT_NAMESPACE, Direction, Error, Family, Read as _, Scope, Store};

pub use copy::{Chunk, Most, chunk, forward, position};
pub use dirty::Dirty;
pub(crate) use guests::Guests;
pub use keys::{Stored, for_each_key};
pub use named::named;
pub use raw::{Batches, Refusal, Sink};

const ACTION: &str = "read the marks of slot moves";

/// Keys of a cluster. Nothing here is decided by the clock.
const SCOPE: Scope<'static> = Scope { namespace: DEFAULT_NAMESPACE, cluster: true, now_ms: 0 };

/// Families with records of keys, in the order in which the records of a slot are copied.
pub(crate) const STAGES: [Family; 4] =
    [Family::Metadata, Family::Default, Family::ZsetScore, Family::Stream];

/// What a database says of slots that move.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    table: Table,
    /// Where the record of each lies in the log; for one that was there at the opening, its end
    /// then.
    sequences: BTreeMap<MoveId, u64>,
    newest: Newest,
    foreign: Vec<(u16, u16)>,
}

impl Marks {
    /// The marks.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The newest mark of a slot.
    pub fn newest(&self, slot: u16) -> Option<&Mark> {
        self.table.of(self.newest.of(slot)?)
    }

    /// Whether this node serves a slot that the topology of `version` gives it, or does not: as
    /// [`Table::serves`].
    pub fn serves(&self, slot: u16, is_given: bool, version: i64) -> bool {
        marks::serves(self.newest(slot), is_given, version)
    }

    /// Sequence of a mark's record; 0 without one.
    pub fn sequence(&self, id: MoveId) -> u64 {
        self.sequences.get(&id).copied().unwrap_or_default()
    }

    /// Slots whose records here are not this shard's: a copy that is not whole, or what was given
    /// away. Ranges in order.
    pub fn foreign(&self) -> &[(u16, u16)] {
        &self.foreign
    }

    fn put(&mut self, mark: Mark, sequence: u64) {
        let kind = |mark: &Mark| std::mem::discriminant(&mark.state);
        let known = self.table.of(mark.id);
        let had_others = known.is_some_and(|known| known.slots != mark.slots);
        let is_as_before = !had_others && known.is_some_and(|known| kind(known) == kind(&mark));
        self.sequences.insert(mark.id, sequence);
        if is_as_before {
            return self.table.put(mark);
        }
        if !had_others {
            self.newest.add(mark.id, &mark.slots);
        }
        self.table.put(mark);
        if had_others {
            self.newest = Newest::new(&self.table);
        }
        self.foreign = self.newest.foreign(&self.table);
    }
}

/// Ranges of slots that come in order.
fn joined(slots: impl Iterator<Item = u16>) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for slot in slots {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == slot => *last = slot,
            _ => ranges.push((slot, slot)),
        }
    }
    ranges
}

/// Reads the marks from the records.
pub(crate) fn load(db: &DB) -> Result<Marks, Error> {
    let mut found = Marks::default();
    let Some(family) = db.cf_handle(Family::Propagate.name()) else { return Ok(found) };
    let latest = db.latest_sequence_number();
    for record in db.iterator_cf(family, IteratorMode::From(marks::KEY_PREFIX, Way::Forward)) {
        let (key, value) = record.map_err(|error| Error::engine(ACTION, error))?;
        let Some(mark) = read(&key, &value) else { break };
        found.put(mark?, latest);
    }
    Ok(found)
}

/// Reads a record of the propagate family; `None` if it is no mark.
pub(crate) fn read(key: &[u8], value: &[u8]) -> Option<Result<Mark, Error>> {
    let id = Mark::move_of(key)?;
    Some(Mark::parse(id, value).map_err(|error| Error::corrupt(ACTION, error.to_string())))
}

impl Store {
    /// The marks of slot moves; `None` where there are none, which is told by one load.
    pub fn marks(&self) -> Option<Arc<Marks>> {
        self.inner().marks.get()
    }

    /// All marks, the oldest first, each with how many records lie in the slots that it says are not
    /// this shard's; no more than `most` are counted.
    ///
    /// # Errors
    /// I/O errors.
    pub fn lying(&self, most: u64) -> Result<Vec<(Mark, u64)>, Error> {
        let Some(marks) = self.marks() else { return Ok(Vec::new()) };
        let table = marks.table();
        let count = |mark: &Mark| -> Result<u64, Error> {
            let is_newest = |slot: &u16| marks.newest.of(*slot) == Some(mark.id);
            let mut count = 0;
            for (first, last) in joined(mark.slots.iter().filter(is_newest)) {
                let ((lower, _), (_, upper)) = (bounds(first), bounds(last));
                for family in STAGES {
                    let mut cursor = self.scan(family, &lower, &upper, Direction::Forward)?;
                    while count < most && cursor.next()?.is_some() {
                        count += 1;
                    }
                }
            }
            Ok(count)
        };
        let count = |mark: &Mark| if mark.state == State::Held { Ok(0) } else { count(mark) };
        table.iter().map(|mark| Ok((mark.clone(), count(mark)?))).collect()
    }

    /// Whether there are records in those of the slots whose newest mark says that they came here.
    ///
    /// # Errors
    /// I/O errors.
    pub fn keeps(&self, slots: &replication::slots::Slots) -> Result<bool, Error> {
        let Some(marks) = self.marks() else { return Ok(false) };
        let is_held =
            |slot: &u16| marks.newest(*slot).is_some_and(|mark| mark.state == State::Held);
        for (first, last) in joined(slots.iter().filter(is_held)) {
            let ((lower, _), (_, upper)) = (bounds(first), bounds(last));
            for family in STAGES {
                if self.scan(family, &lower, &upper, Direction::Forward)?.next()?.is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Appends a mark, and returns its sequence. With `empties` its slots are deleted in every
    /// family of data, in the same batch.
    ///
    /// # Errors
    /// I/O errors.
    pub fn put_mark(&self, mark: &Mark, empties: bool) -> Result<u64, Error> {
        let mut writer = Writer::new(Vec::new());
        writer.log(format!("M{}", mark.id).as_bytes());
        if empties {
            mark.slots.ranges().iter().for_each(|range| empty(&mut writer, *range));
        }
        self.append_marked(writer, mark, false)
    }

    /// Appends records of a giver, and the mark that says how far the copy is with them.
    ///
    /// # Errors
    /// Records of other slots or families, or bytes that are no batch, before anything is written;
    /// I/O errors.
    pub fn stage(&self, mark: &Mark, records: &[u8]) -> Result<u64, Error> {
        let mut writer = Writer::new(Vec::with_capacity(records.len() + 256));
        writer.log(format!("M{}", mark.id).as_bytes());
        copy::take(records, &mark.slots, &mut writer)?;
        self.append_marked(writer, mark, true)
    }

    fn append_marked(&self, mut writer: Writer, mark: &Mark, is_part: bool) -> Result<u64, Error> {
        writer.put(Family::Propagate, &[&Mark::key(mark.id)], &[&mark.value()]);
        self.append_with_mark(writer.finish(), mark, is_part)
    }
}

/// Whether a batch is one of a slot move: a part of a copy, or a mark.
pub(crate) fn is_of_move(bytes: &[u8]) -> bool {
    matches!(batch::records(bytes).next(), Some(Ok(Record::LogData(data))) if names_move(data))
}

/// Whether log data says that a batch is of a slot move.
pub(crate) fn names_move(log_data: &[u8]) -> bool {
    let [b'M', number @ ..] = log_data else { return false };
    !number.is_empty() && number.iter().all(u8::is_ascii_digit)
}

/// Bounds of a slot in every family of data.
pub(crate) fn bounds(slot: u16) -> (crate::KeyBuf, crate::KeyBuf) {
    (SCOPE.slot_prefix(slot), SCOPE.slot_prefix(slot.saturating_add(1)))
}

/// Deletes all that lies in the slots from the first to the last, in every family of data.
fn empty(writer: &mut Writer, (first, last): (u16, u16)) {
    let ((lower, _), (_, upper)) = (bounds(first), bounds(last));
    for family in STAGES {
        writer.delete_range(family, &lower, &upper);
    }
}

/// The marks of an open database.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    has_any: std::sync::atomic::AtomicBool,
    marks: parking_lot::RwLock<Arc<Marks>>,
}

impl Kept {
    pub(crate) fn new(marks: Marks) -> Self {
        let kept = Self::default();
        kept.set(marks);
        kept
    }

    fn get(&self) -> Option<Arc<Marks>> {
        let has_any = self.has_any.load(std::sync::atomic::Ordering::Acquire);
        has_any.then(|| Arc::clone(&self.marks.read()))
    }

    /// Under the lock of `writing`.
    pub(crate) fn set(&self, marks: Marks) {
        let has_any = marks.table.iter().next().is_some();
        *self.marks.write() = Arc::new(marks);
        self.has_any.store(has_any, std::sync::atomic::Ordering::Release);
    }

    /// Under the lock of `writing`.
    pub(crate) fn put(&self, new: Vec<(Mark, u64)>) {
        if new.is_empty() {
            return;
        }
        let put = |marks: &mut Marks| {
            for (mark, sequence) in new {
                marks.put(mark, sequence);
            }
        };
        {
            let mut marks = self.marks.write();
            // Readers keep it for a moment only: mostly nothing is copied.
            if let Some(marks) = Arc::get_mut(&mut marks) {
                put(marks);
            } else {
                // Commands ask meanwhile, and do not wait for that.
                let before = Arc::clone(&marks);
                drop(marks);
                let mut changed = Marks::clone(&before);
                put(&mut changed);
                *self.marks.write() = Arc::new(changed);
            }
        }
        self.has_any.store(true, std::sync::atomic::Ordering::Release);
    }
}

/// For each slot the first sequence of the newest copy of it, from when on compaction filters may
/// judge what they see of it (rule M13): a copy brings back versions that a view of before knows as
/// dead.
#[derive(Debug, Default)]
pub(crate) struct Barriers(parking_lot::RwLock<BTreeMap<u16, u64>>);

impl Barriers {
    /// To be called before a batch is written that begins at `first`.
    pub(crate) fn note<'m>(&self, marks: impl Iterator<Item = &'m Mark>, first: u64) {
        for mark in marks.filter(|mark| matches!(mark.state, State::Staged { at: None, .. })) {
            let mut barriers = self.0.write();
            for slot in mark.slots.iter() {
                barriers.insert(slot, first);
            }
        }
    }

    /// Whether a view at `sequence` knows nothing of the slot of this key that could mislead.
    pub(crate) fn allow(&self, key: &[u8], sequence: u64) -> bool {
        let barriers = self.0.read();
        if barriers.is_empty() {
            return true;
        }
        let slot = slot_of(key);
        slot.and_then(|slot| barriers.get(&slot)).is_none_or(|first| *first <= sequence)
    }

    /// Whether records of the slot of this key are coming just now, in whatever order.
    pub(crate) fn are_held(&self, key: &[u8]) -> bool {
        !self.allow(key, u64::MAX - 1)
    }

    fn set(&self, slots: topology::SlotRange, first: u64) {
        let mut barriers = self.0.write();
        for slot in slots.slots() {
            barriers.insert(slot.number(), first);
        }
    }
}

/// The slot of a key on disk.
pub(crate) fn slot_of(key: &[u8]) -> Option<u16> {
    let (namespace, rest) = crate::key::split_namespace(key)?;
    let slot = u16::from_be_bytes(*rest.first_chunk::<2>()?);
    (namespace == DEFAULT_NAMESPACE && slot < topology::SLOT_COUNT).then_some(slot)
}

/// Parts of `[lower, upper)` of a family of data that hold no records of others.
pub(crate) fn visible(
    foreign: &[(u16, u16)],
    lower: &[u8],
    upper: &[u8],
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut parts = Vec::with_capacity(1);
    let mut from = lower.to_vec();
    let is_before = |key: &[u8], end: &[u8]| end.is_empty() || key < end;
    for &(first, last) in foreign {
        let (hidden, _) = bounds(first);
        let (_, end) = bounds(last);
        if *end <= *from || !is_before(&hidden, upper) {
            continue;
        }
        if *from < *hidden {
            parts.push((from, hidden.to_vec()));
        }
        from = end.to_vec();
    }
    if is_before(&from, upper) {
        parts.push((from, upper.to_vec()));
    }
    parts
}

/// A batch of this node with a mark, its last record; see [`Store::append`].
impl Store {
    fn append_with_mark(&self, bytes: &[u8], mark: &Mark, is_part: bool) -> Result<u64, Error> {
        let max = self.batch_bytes_max();
        if bytes.len() > max {
            return Err(Error::TooLarge { bytes: bytes.len(), max });
        }
        let inner = self.inner();
        let batch = WriteBatch::from_data(bytes);
        let mut hot = inner.hot.writing(bytes);
        let _writing = inner.writing.lock();
        let first = self.latest_sequence() + 1;
        inner.filters.barriers().note(std::iter::once(mark), first);
        let last = self.append_locked(&batch, &mut hot)?;
        if is_part {
            inner.guests.staged(first, last);
        }
        inner.marks.put(vec![(mark.clone(), last)]);
        Ok(last)
    }
}
