//! The open database: reading, the one way of writing, publishing, checkpoints, closing.
//!
//! Everything that is appended to the history passes [`Store::append`] (private to the crate):
//! transactions of this node and batches of its master alike.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use replication::history::History;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{Cache, DB, ReadOptions, WriteBatch, WriteBufferManager, WriteOptions};

use crate::feed::ring::Ring;
use crate::filters::{Filters, Keeping};
use crate::hot::{Hot, Writing};
use crate::overlay::Slice as OverlaySlice;
use crate::rewind::intent;
use crate::slots::guests::Guests;
use crate::slots::marks::{self, Kept};
use crate::stats::counters::Meters;
use crate::view::Views;
use crate::{Cursor, Direction, Error, Family, Options, batch, engine, format, view};
use close::ClosedFlag;
use failure::Failure;
use late::Late;
use waits::{LogWaits, Step};

pub use close::{CloseError, CloseWatch};
pub use epochs::peek;
pub use failure::{Cause, FailureHook};
pub use sizes::{Memory, Sizes};
pub use worn::Worn;

/// A handle of the open database; clones are cheap and share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

type PublishHook = Box<dyn Fn(u64) + Send + Sync>;

pub(crate) struct Inner {
    /// Before `db`, which it points into.
    late: Late,
    /// Dropped by `Drop` after background work has ended.
    db: Arc<DB>,
    pub(crate) cache: Cache,
    memtables: WriteBufferManager,
    /// Those in force; of memtables and log, while the log is held, those that will be. Held while
    /// they change.
    sizes: Mutex<Sizes>,
    pub(crate) filters: Filters,
    pub(crate) ring: Ring,
    pub(crate) hot: Hot,
    dir: PathBuf,
    pub(crate) options: Options,
    write_options: WriteOptions,
    pub(crate) meters: Meters,
    /// See [`Store::batch_bytes_max`].
    batch_bytes_max: bound::Bound,
    /// See [`Store::times_hashes`].
    times_hashes: AtomicBool,
    /// See [`Store::removes_ended`].
    removes_ended: AtomicBool,
    /// Everything up to here is with the operating system (or the disk).
    published: AtomicU64,
    /// Bytes of all batches written since the database was opened.
    appended_bytes: AtomicU64,
    /// Of these, with the disk; counted where every publish syncs.
    synced_bytes: AtomicU64,
    /// Everything up to here is with the disk.
    synced: AtomicU64,
    on_publish: RwLock<Vec<PublishHook>>,
    failure: Arc<Failure>,
    waits: LogWaits,
    /// Held while a batch is written, see `append`.
    pub(crate) writing: Mutex<()>,
    /// The epochs, as the records of the propagate family have them. Changed under `writing`.
    history: RwLock<Arc<History>>,
    /// The marks of slot moves, as the records of the propagate family have them. Changed under
    /// `writing`.
    pub(crate) marks: Kept,
    /// The end of the log that no client sees. Changed under `writing`.
    pub(crate) guests: Guests,
    /// Shared with the compaction filters, which hold it weakly.
    views: Arc<Views>,
    /// Opened with `hold_tail` and not settled yet.
    is_holding: AtomicBool,
    /// The last field: when it is dropped, the database is closed.
    closed: ClosedFlag,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A compaction filter may hold a strong reference for a moment. Closing the database from a
        // thread of the database would wait for itself, so background work ends first.
        self.db.cancel_all_background_work(true);
    }
}

impl Store {
    /// Opens the database folder `dir`, and creates it and missing families.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::WrongMode`], [`Error::RewindPending`], I/O errors, corruption.
    pub fn open(dir: &Path, options: Options) -> Result<Self, Error> {
        Self::prepare(dir)?;
        // Compactions elsewhere may have looked as far as a copy goes.
        let is_copy = dir.join("CURRENT").exists() && !format::is_recorded(dir);
        let cache = engine::cache(&options);
        let filters = Filters::new(options.cluster);
        let held = if options.hold_tail { engine::holding(&options, dir) } else { options.clone() };
        let mut db_options = engine::database(&held);
        let failure = Arc::<Failure>::default();
        failure::listen(&mut db_options, &failure);
        let meters = Meters::attach(&mut db_options);
        let memtables = sizes::count_memtables(&mut db_options);
        let descriptors = engine::descriptors(&db_options, dir, &held, &cache, &filters)?;
        let is_strange = |name: &&str| Family::ALL.iter().all(|family| family.name() != *name);
        let late = Late::new(descriptors.iter().map(|found| found.name()).find(is_strange));
        let mut db = DB::open_cf_descriptors(&db_options, dir, descriptors)
            .map_err(|error| open_error(dir, error))?;
        late::check(&mut db, &late)?;
        if options.hold_tail {
            engine::hold_logs(&db, &options, dir)?;
        } else {
            sizes::bound_memtables(&memtables, options.memtable_bytes);
        }
        if is_copy {
            view::raise_floor(dir, db.latest_sequence_number())?;
        }
        format::check(&db, dir, options.cluster)?;
        let (db, views) = (Arc::new(db), Arc::<Views>::default());
        let published = AtomicU64::new(db.latest_sequence_number());
        let synced = AtomicU64::new(db.latest_sequence_number());
        let history = epochs::load(&db)?;
        let marks = Kept::new(marks::load(&db)?);
        filters.attach(&db, &views);
        filters.set_epochs(!history.is_empty());
        let history = RwLock::new(Arc::new(history));
        let is_holding = AtomicBool::new(options.hold_tail);
        let mut write_options = WriteOptions::default();
        write_options.set_no_slowdown(options.no_slowdown);
        let inner = Inner {
            late,
            db,
            cache,
            memtables,
            sizes: Mutex::new(options.sizes()),
            ring: Ring::new(options.feed_ring_bytes),
            hot: Hot::new(options.hot_bytes),
            dir: dir.to_owned(),
            batch_bytes_max: bound::Bound::new(options.batch_bytes_max),
            times_hashes: AtomicBool::new(options.times_hashes),
            removes_ended: AtomicBool::new(options.removes_ended),
            options,
            write_options,
            meters,
            published,
            appended_bytes: AtomicU64::new(0),
            synced_bytes: AtomicU64::new(0),
            synced,
            on_publish: RwLock::default(),
            failure,
            waits: LogWaits::new(),
            writing: Mutex::default(),
            history,
            marks,
            guests: Guests::default(),
            views,
            filters,
            is_holding,
            closed: ClosedFlag(CloseWatch::default()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes the folder, and refuses one that must not be opened as it is.
    fn prepare(dir: &Path) -> Result<(), Error> {
        std::fs::create_dir_all(dir).map_err(|error| Error::io("create data directory", &error))?;
        format::check_number(dir)?;
        match intent::pending(dir)? {
            Some(_) => Err(Error::RewindPending { dir: dir.to_owned() }),
            None => found::sync(dir),
        }
    }

    /// The database folder.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The options it was opened with.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Sequence number of the newest record, published or not; 0 in an empty database.
    pub fn latest_sequence(&self) -> u64 {
        self.inner.db.latest_sequence_number()
    }

    /// What can be seen now stays for as long as the answer is kept, whatever filters make of it.
    pub(crate) fn keep(&self) -> Keeping {
        self.inner.filters.keep(self.latest_sequence())
    }

    /// Sequence number up to which everything is published.
    pub fn published(&self) -> u64 {
        self.inner.published.load(Ordering::Acquire)
    }

    /// Bytes of all batches written since the database was opened: how fast the history grows.
    pub fn appended_bytes(&self) -> u64 {
        self.inner.appended_bytes.load(Ordering::SeqCst)
    }

    /// Hands everything written so far to the operating system (with `sync_writes` to the disk),
    /// makes it visible to feed readers, and returns the published sequence. Cheap if there is
    /// nothing new. Must be called before a reply leaves that tells of a write, the reader's own or
    /// another's.
    ///
    /// # Errors
    /// When the WAL cannot be written, or could not before: acknowledge nothing any more then, and
    /// tell nobody what was read ([`Store::has_failed`]).
    pub fn publish(&self) -> Result<u64, Error> {
        let inner = &*self.inner;
        inner.failure.check()?;
        let latest = inner.db.latest_sequence_number();
        let published = inner.published.load(Ordering::Acquire);
        if latest <= published {
            return Ok(published);
        }
        self.flush_log(inner.options.sync_writes)?;
        let before = inner.published.fetch_max(latest, Ordering::AcqRel);
        if before >= latest {
            return Ok(before);
        }
        for hook in inner.on_publish.read().iter() {
            hook(latest);
        }
        Ok(latest)
    }

    /// Makes sure that everything written so far is on the disk; the newest sequence of it.
    ///
    /// # Errors
    /// As [`Store::publish`].
    pub fn sync(&self) -> Result<u64, Error> {
        self.inner.failure.check()?;
        let latest = self.latest_sequence();
        self.flush_log(true)?;
        Ok(latest)
    }

    /// Sequence number up to which everything is known to be on the disk: at least what was found
    /// when the database was opened.
    pub fn synced(&self) -> u64 {
        self.inner.synced.load(Ordering::Acquire)
    }

    /// Hands the buffer of the log to the operating system, or to the disk.
    fn flush_log(&self, to_disk: bool) -> Result<(), Error> {
        let inner = &*self.inner;
        let latest = self.latest_sequence();
        let (step, bytes) =
            if to_disk { (Step::Sync, self.unsynced_bytes()) } else { (Step::Flush, 0) };
        let appended_bytes = self.appended_bytes();
        let _waiting = inner.waits.begin(step, bytes);
        inner.db.flush_wal(to_disk).map_err(|error| {
            let action = if to_disk { "sync the log" } else { "write the log" };
            inner.failure.failed(Error::engine(action, error))
        })?;
        // What another thread failed to write may have been in the buffer too.
        inner.failure.check()?;
        if to_disk {
            inner.synced_bytes.fetch_max(appended_bytes, Ordering::SeqCst);
            inner.synced.fetch_max(latest, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Calls `f` with the published sequence after every publish that advanced it, on the
    /// publishing thread. Must be quick, and must not call `on_publish`.
    pub fn on_publish(&self, f: Box<dyn Fn(u64) + Send + Sync>) {
        self.inner.on_publish.write().push(f);
    }

    /// Applies a batch of the master and returns the new latest sequence. Not published yet.
    ///
    /// # Errors
    /// [`Error::BadBatch`], [`Error::OutOfSequence`], and [`Error::EpochRefused`] for an epoch that
    /// cannot follow ours, before anything is written.
    pub fn write_raw(&self, bytes: &[u8]) -> Result<u64, Error> {
        let (found, count) = batch::parse(bytes)?;
        let batch = WriteBatch::from_data(bytes);
        let mut hot = self.inner.hot.writing(bytes);
        let _writing = self.inner.writing.lock();
        let expected = self.latest_sequence() + 1;
        if count == 0 {
            // Holds no record and takes no sequence number.
            return Ok(expected - 1);
        }
        if found != expected {
            return Err(Error::OutOfSequence { expected, found });
        }
        let effect = epochs::effect(bytes, found, &self.inner.history.read())?;
        if effect.names_late {
            self.make_late()?;
        }
        self.inner.filters.barriers().note(effect.marks.iter().map(|(mark, _)| mark), found);
        let last = self.append_locked(&batch, &mut hot)?;
        self.note(effect)?;
        Ok(last)
    }

    /// Makes a checkpoint in `dir`, which must not exist while its parent must. Memtables are not
    /// flushed: the tail of the history is in the checkpoint's WAL. Returns a sequence it contains
    /// at least.
    ///
    /// # Errors
    /// I/O errors.
    pub fn checkpoint(&self, dir: &Path) -> Result<u64, Error> {
        loop {
            let had_late = self.has_late();
            let published = self.publish()?;
            Checkpoint::new(&*self.inner.db)
                .and_then(|checkpoint| checkpoint.create_checkpoint_with_log_size(dir, u64::MAX))
                .map_err(|error| Error::engine("make a checkpoint", error))?;
            if self.has_late() == had_late {
                return Ok(published);
            }
            // Its log may name a family that was made when its list of families was copied already.
            std::fs::remove_dir_all(dir)
                .map_err(|error| Error::io("remove a checkpoint", &error))?;
        }
    }

    /// Compacts `[lower, upper)` of every family; empty bounds are open. Blocks until done.
    ///
    /// # Errors
    /// If a family is missing. RocksDB reports failures of the work itself as background errors.
    pub fn compact(&self, lower: &[u8], upper: &[u8]) -> Result<(), Error> {
        let bound = |key| Some(key).filter(|key: &&[u8]| !key.is_empty());
        for family in self.families() {
            self.inner.db.compact_range_cf(&self.cf(family)?, bound(lower), bound(upper));
        }
        Ok(())
    }

    pub(crate) fn db(&self) -> &DB {
        &self.inner.db
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// The one place where the history grows, together with [`Store::write_raw`]. Returns the
    /// sequence number of the batch's last record.
    ///
    /// One writer at a time: RocksDB would merge concurrent ones into one WAL record, and then a
    /// replica fed from memory could stop at a place that is no batch boundary in its next master's
    /// log. A mutex of our own is also faster than RocksDB's queue restricted to groups of one,
    /// which hands the turn from thread to thread. What is larger than [`Store::batch_bytes_max`]
    /// is refused: no replica would take it.
    pub(crate) fn append(&self, bytes: &[u8]) -> Result<u64, Error> {
        let max = self.batch_bytes_max();
        if bytes.len() > max {
            return Err(Error::TooLarge { bytes: bytes.len(), max });
        }
        let batch = WriteBatch::from_data(bytes);
        let mut hot = self.inner.hot.writing(bytes);
        let _writing = self.inner.writing.lock();
        self.append_locked(&batch, &mut hot)
    }

    pub(crate) fn append_locked(
        &self,
        batch: &WriteBatch,
        hot: &mut Writing<'_, '_>,
    ) -> Result<u64, Error> {
        let inner = &*self.inner;
        inner.failure.check()?;
        let feeding = inner.ring.begin();
        let waiting = inner.waits.begin(Step::Append, batch.data().len() as u64);
        inner.db.write_opt(batch, &inner.write_options).map_err(|error| {
            // "Not now", with `no_slowdown`: nothing was tried.
            let is_refused = error.kind() == rocksdb::ErrorKind::Incomplete;
            let error = Error::engine("write a batch", error);
            if is_refused { error } else { inner.failure.failed(error) }
        })?;
        drop(waiting);
        // RocksDB has stamped the sequence number it assigned into the batch.
        let (first, count) = batch::header(batch.data())?;
        let last = (first + u64::from(count)).saturating_sub(1);
        hot.written(last);
        // Written under the lock of `writing` only.
        let bytes = inner.appended_bytes.load(Ordering::Relaxed) + batch.data().len() as u64;
        inner.appended_bytes.store(bytes, Ordering::SeqCst);
        if let Some(feeding) = feeding {
            feeding.push(first, count, batch.data());
        }
        Ok(last)
    }

    /// Reads `[lower, upper)` with these options; an empty `upper` means no bound.
    pub(crate) fn cursor(
        &self,
        family: Family,
        bounds: (&[u8], &[u8]),
        direction: Direction,
        overlay: Option<OverlaySlice>,
        mut options: ReadOptions,
    ) -> Result<Cursor<'_>, Error> {
        const NOTHING: (&[u8], &[u8]) = (b"\0", b"\0");
        // Where a family is not there yet, as much is found as between two equal bounds.
        let (cf, (lower, upper)) = match self.cf_to_read(family)? {
            Some(cf) => (cf, bounds),
            None => (self.cf(Family::Search)?, NOTHING),
        };
        options.set_iterate_lower_bound(lower);
        if !upper.is_empty() {
            options.set_iterate_upper_bound(upper);
        }
        let iterator = self.inner.db.raw_iterator_cf_opt(&cf, options);
        Ok(Cursor::new(iterator, direction, overlay))
    }
}

fn open_error(dir: &Path, error: rocksdb::Error) -> Error {
    let is_lock = error.kind() == rocksdb::ErrorKind::IOError && error.as_ref().contains("/LOCK");
    if is_lock {
        return Error::InUse { dir: dir.to_owned() };
    }
    Error::engine("open the database", error)
}

mod bound;
mod close;
mod epochs;
mod failure;
mod found;
mod late;
mod sizes;
#[cfg(test)]
mod tests;
mod upkeep;
mod waits;
mod worn;
