//! The marks of slot moves, as commands look at them.
//!
//! Invariant: while nobody writes, the marks in memory are those of the records. They change under
//! the lock that orders writes, as the history of epochs does, at a master and at its replicas.

use std::collections::BTreeMap;
use std::sync::Arc;

use replication::slots::{Mark, MoveId, Table, marks};
use rocksdb::{DB, Direction as Way, IteratorMode};

use super::newest::Newest;
use crate::{Error, Family};

const ACTION: &str = "read the marks of slot moves";

/// What a database says of slots that move.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    table: Table,
    /// Where the record of each lies in the log; for one that was there at the opening, its end
    /// then.
    sequences: BTreeMap<MoveId, u64>,
    pub(super) newest: Newest,
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

    pub(super) fn put(&mut self, mark: Mark, sequence: u64) {
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

    pub(super) fn get(&self) -> Option<Arc<Marks>> {
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
