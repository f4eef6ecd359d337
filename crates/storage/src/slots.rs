//! Slots that move: the marks of the database, and its data in the order of the copy.
//!
//! Only databases of a cluster have slots, and a cluster has one namespace: records of others do
//! not move.
//!
//! Kvrocks' own migration knows no marks: what it sends are [`Batches`] or [`commands`], and what
//! it brings lies in slots that were emptied before ([`Store::empty_slots`]).

pub(crate) mod barriers;
mod cluster;
pub mod commands;
mod copy;
mod dirty;
pub(crate) mod guests;
mod import;
mod keys;
mod layout;
#[cfg(test)]
mod long_tests;
pub(crate) mod marks;
mod named;
mod newest;
mod raw;
#[cfg(test)]
mod tests;
mod weigh;

use std::sync::Arc;

use replication::slots::{Mark, State};
use rocksdb::WriteBatch;

use self::layout::{STAGES, bounds, joined};
use crate::batch::{self, Record, Writer};
use crate::{Direction, Error, Family, Read as _, Store};

pub use copy::{Chunk, Most, chunk, forward, position};
pub use dirty::Dirty;
pub use keys::{Stored, for_each_key};
pub(crate) use layout::visible;
pub use marks::Marks;
pub use named::named;
pub use raw::{Batches, Refusal, Sink};

impl Store {
    /// The marks of slot moves; `None` where there are none, which is told by one load.
    pub fn marks(&self) -> Option<Arc<Marks>> {
        self.inner().marks.get()
    }

    /// Sequence number of the newest record that clients can see: staged parts of copies behind it
    /// are aside, since nobody is shown them. No less than what was written by clients.
    pub fn seen_sequence(&self) -> u64 {
        self.inner().guests.seen(self.latest_sequence())
    }

    /// All marks, the oldest first, each with how many records lie in the slots that it says are
    /// not this shard's; no more than `most` are counted.
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

    /// Appends a batch that deletes ranges of keys, which was made around what is others' then: a
    /// script or a transaction may take long until it ends, and meanwhile a copy may have begun.
    ///
    /// # Errors
    /// [`Error::SlotsMove`], before anything is written: what is staged, or was given away, is
    /// deleted by its move alone (rule M12). I/O errors.
    pub(crate) fn append_cut(&self, bytes: &[u8]) -> Result<u64, Error> {
        let max = self.batch_bytes_max();
        if bytes.len() > max {
            return Err(Error::TooLarge { bytes: bytes.len(), max });
        }
        let inner = self.inner();
        let batch = WriteBatch::from_data(bytes);
        let mut hot = inner.hot.writing(bytes);
        // The batch may be long, and others wait for the lock.
        let cut = cut(bytes);
        // Marks change under this lock.
        let _writing = inner.writing.lock();
        let marks = self.marks();
        if marks.is_some_and(|marks| meet(&cut, marks.foreign())) {
            return Err(Error::SlotsMove);
        }
        self.append_locked(&batch, &mut hot)
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

/// The ranges of keys that a batch deletes.
fn cut(bytes: &[u8]) -> Vec<(&[u8], &[u8])> {
    let range = |record| match record {
        Record::DeleteRange { family: Family::Metadata, begin, end } => Some((begin, end)),
        _ => None,
    };
    batch::records(bytes).map_while(Result::ok).filter_map(range).collect()
}

/// Whether some of these slots, which are in order, lie in one of the ranges. There may be
/// thousands of both, so the slots of a range are not searched for one by one.
fn meet(ranges: &[(&[u8], &[u8])], slots: &[(u16, u16)]) -> bool {
    ranges.iter().any(|&(begin, end)| {
        let at = slots.partition_point(|&(_, last)| &bounds(last).1[..] <= begin);
        slots.get(at).is_some_and(|&(first, _)| &bounds(first).0[..] < end)
    })
}

/// Deletes all that lies in the slots from the first to the last, in every family of data.
fn empty(writer: &mut Writer, (first, last): (u16, u16)) {
    let ((lower, _), (_, upper)) = (bounds(first), bounds(last));
    for family in STAGES {
        writer.delete_range(family, &lower, &upper);
    }
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
