//! The epoch history of the database: records of the propagate family, kept in memory too.
//!
//! Invariant: while nobody writes, the history in memory is that of the records. It changes under
//! the lock that orders writes, so [`Store::position`] never shows an epoch without its record or
//! the other way round.

use std::path::Path;
use std::sync::Arc;

use replication::history::{Entry, EpochId, History, KEY_PREFIX, Malformed, Misfit, Position};
use replication::slots::Mark;
use rocksdb::{DB, Direction as Way, IteratorMode, WriteBatch};

use crate::batch::{Record, Writer};
use crate::slots::marks;
use crate::{Error, Family, Store, batch};

/// What a batch of the master does to the history, and to the marks of slot moves.
#[derive(Default)]
pub(super) struct Effect {
    /// It opens these epochs.
    opens: Vec<Entry>,
    /// It puts these marks, at these sequences.
    pub(super) marks: Vec<(Mark, u64)>,
    /// It removes keys of the family: all is read again.
    is_unknown: bool,
    /// It has records of a family that is made late.
    pub(super) names_late: bool,
}

/// Reads the history from the records.
pub(super) fn load(db: &DB) -> Result<History, Error> {
    const ACTION: &str = "read the epoch history";
    let mut history = History::default();
    let Some(family) = db.cf_handle(Family::Propagate.name()) else { return Ok(history) };
    for record in db.iterator_cf(family, IteratorMode::From(KEY_PREFIX, Way::Forward)) {
        let (key, value) = record.map_err(|error| Error::engine(ACTION, error))?;
        let Some(entry) = Entry::read(&key, &value) else { break };
        let entry = entry.map_err(|error| Error::corrupt(ACTION, error.to_string()))?;
        history.push(entry).map_err(|error| Error::corrupt(ACTION, error.to_string()))?;
    }
    Ok(history)
}

/// Epochs and end of the database in `dir`, which nobody has open and which stays as it is.
///
/// # Errors
/// I/O errors, corruption, a folder without a database.
pub fn peek(dir: &Path) -> Result<Position, Error> {
    let failed = |error| Error::engine("look into a database", error);
    let options = rocksdb::Options::default();
    let families = DB::list_cf(&options, dir).map_err(failed)?;
    let db = DB::open_cf_for_read_only(&options, dir, families, false).map_err(failed)?;
    Ok(Position { history: load(&db)?, latest: db.latest_sequence_number() })
}

/// Looks for epochs in a batch that begins at `first`, and whether they may follow `history`.
pub(super) fn effect(bytes: &[u8], first: u64, history: &History) -> Result<Effect, Error> {
    let (mut sequence, mut effect) = (first, Effect::default());
    let mut grown: Option<History> = None;
    for record in batch::records(bytes) {
        match record? {
            Record::LogData(_) => continue,
            Record::Put { family: Family::Propagate, key, value } => {
                if let Some(entry) = Entry::read(key, value) {
                    let entry = entry.map_err(Error::from)?;
                    let grown = grown.get_or_insert_with(|| history.clone());
                    if entry.first != sequence {
                        let Entry { epoch, first, .. } = entry;
                        return Err(Misfit::OldSequence { epoch, first }.into());
                    }
                    grown.push(entry)?;
                    effect.opens.push(entry);
                } else if let Some(mark) = marks::read(key, value) {
                    effect.marks.push((mark?, sequence));
                }
            }
            Record::Delete { family: Family::Propagate, .. }
            | Record::DeleteRange { family: Family::Propagate, .. } => effect.is_unknown = true,
            Record::Put { family, .. }
            | Record::Delete { family, .. }
            | Record::DeleteRange { family, .. } => effect.names_late |= family.is_late(),
        }
        sequence += 1;
    }
    Ok(effect)
}

impl Store {
    /// The epochs of this database.
    pub fn history(&self) -> Arc<History> {
        self.inner.history.read().clone()
    }

    /// The epochs and the newest sequence, published or not, of one moment.
    pub fn position(&self) -> Position {
        let _writing = self.inner.writing.lock();
        let history = History::clone(&self.inner.history.read());
        Position { history, latest: self.latest_sequence() }
    }

    /// Opens an epoch: appends its entry, and returns its first sequence, which is that of the
    /// entry's record, once the record is on the disk and published. For an epoch that is the
    /// newest already, this only makes sure of the disk.
    ///
    /// # Errors
    /// [`Error::EpochRefused`] before anything is written. I/O errors: whether the epoch began is
    /// not known then, and nothing may be acknowledged under it.
    pub fn open_epoch(&self, epoch: u64, id: EpochId, wall_ms: u64) -> Result<u64, Error> {
        let first = self.append_epoch(epoch, id, wall_ms)?;
        self.flush_log(true)?;
        self.publish()?;
        Ok(first)
    }

    fn append_epoch(&self, epoch: u64, id: EpochId, wall_ms: u64) -> Result<u64, Error> {
        let _writing = self.inner.writing.lock();
        let mut history = History::clone(&self.inner.history.read());
        if let Some(newest) =
            history.newest().filter(|newest| (newest.epoch, newest.id) == (epoch, id))
        {
            return Ok(newest.first);
        }
        let first = self.latest_sequence() + 1;
        let entry = Entry { epoch, id, first, wall_ms };
        history.push(entry)?;
        let mut writer = Writer::new(Vec::new());
        writer.put(Family::Propagate, &[&Entry::key(epoch)], &[&entry.value()]);
        let bytes = writer.finish();
        let mut hot = self.inner.hot.writing(bytes);
        let last = self.append_locked(&WriteBatch::from_data(bytes), &mut hot)?;
        if last != first {
            // RocksDB left numbers out after an error: the record says another place than it has.
            let error = Error::OutOfSequence { expected: first, found: last };
            return Err(self.inner.failure.failed(error));
        }
        self.set_history(history);
        Ok(first)
    }

    fn set_history(&self, history: History) {
        self.inner.filters.set_epochs(!history.is_empty());
        *self.inner.history.write() = Arc::new(history);
    }

    /// Takes over what a batch did that is written now. Under the lock of `writing`.
    pub(super) fn note(&self, effect: Effect) -> Result<(), Error> {
        let Effect { opens, marks, is_unknown, names_late: _ } = effect;
        if is_unknown {
            self.set_history(load(&self.inner.db)?);
            self.inner.marks.set(marks::load(&self.inner.db)?);
            return Ok(());
        }
        if !opens.is_empty() {
            let mut history = History::clone(&self.inner.history.read());
            for entry in opens {
                history.push(entry)?;
            }
            self.set_history(history);
        }
        self.inner.marks.put(marks);
        Ok(())
    }
}

impl From<Misfit> for Error {
    fn from(misfit: Misfit) -> Self {
        Self::EpochRefused(misfit)
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::BadEpoch(malformed)
    }
}
