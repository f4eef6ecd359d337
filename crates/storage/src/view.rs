//! Snapshots that compaction filters look metadata up in, so that nothing which may still be
//! discarded leaves a trace in what stays (rule R13).
//!
//! A filter decides about records in tables by their owner's metadata. Were that looked up as it is
//! now, a DEL that is later cut off ([`crate::rewind`]) would have taken its key's fields with it.
//! So it is looked up at a sequence that no fork can lie before: an acknowledged one
//! ([`crate::Store::set_acknowledged`]), or, where nobody says what is acknowledged, that of a
//! snapshot [`LAPSE`] old. The folder remembers the sequence that was used as a floor, and is not
//! rewound below it: neither an acknowledged write that was lost all the same nor a long silence
//! does harm.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rocksdb::{DB, DBPinnableSlice, ReadOptions, SnapshotWithThreadMode};

use crate::{Error, Family};

/// Time between two snapshots.
const INTERVAL: Duration = Duration::from_secs(10);
/// Age at which a snapshot is used though nobody said that it is acknowledged.
const LAPSE: Duration = Duration::from_secs(600);
/// In the database folder: newest sequence of a snapshot that was used.
const FLOOR: &str = "holdfast.floor";

/// The database as it was at one sequence.
pub(crate) struct View {
    /// Before `db`, which it points into.
    snapshot: SnapshotWithThreadMode<'static, DB>,
    sequence: u64,
    taken_at: Instant,
    db: Arc<DB>,
}

impl View {
    #[expect(
        unsafe_code,
        reason = "a snapshot borrows its database, and both must live in one value"
    )]
    fn take(db: &Arc<DB>) -> Self {
        // SAFETY: the database lives on the heap of the `Arc`, which does not move and which this
        // value holds for longer than the snapshot: fields are dropped in their order.
        let place: &'static DB = unsafe { &*Arc::as_ptr(db) };
        let snapshot = place.snapshot();
        // A snapshot of a database always has a sequence; 0 would only make it useless.
        let sequence = snapshot.sequence_number().unwrap_or_default();
        Self { snapshot, sequence, taken_at: Instant::now(), db: Arc::clone(db) }
    }

    /// The newest sequence that it sees.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The value of a key as it was.
    pub(crate) fn get(
        &self,
        family: Family,
        key: &[u8],
    ) -> Result<Option<DBPinnableSlice<'_>>, Error> {
        let handle = self.db.cf_handle(family.name()).ok_or(Error::Engine {
            action: "find a column family",
            message: family.name().to_owned(),
        })?;
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        self.db
            .get_pinned_cf_opt(handle, key, &options)
            .map_err(|error| Error::engine("read a key as it was", error))
    }
}

/// The snapshots of one open database. Owned by its store, so that they are gone before it closes.
#[derive(Default)]
pub(crate) struct Views {
    acknowledged: AtomicU64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// May be looked up in.
    usable: Option<Arc<View>>,
    /// Not known to be acknowledged yet.
    pending: Option<View>,
}

impl Views {
    /// What filters look up in; `None` until something is known to stay.
    pub(crate) fn usable(&self) -> Option<Arc<View>> {
        self.held.lock().usable.clone()
    }

    /// Newest acknowledged sequence, if anybody said.
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        Some(self.acknowledged.load(Ordering::Acquire)).filter(|sequence| *sequence > 0)
    }

    /// Everything up to `sequence` stays for ever.
    pub(crate) fn acknowledge(&self, sequence: u64) {
        self.acknowledged.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Nobody says any more what is acknowledged.
    pub(crate) fn forget(&self) {
        self.acknowledged.store(0, Ordering::Release);
    }

    /// Uses what is acknowledged, or old enough. To be called now and then.
    ///
    /// # Errors
    /// The floor cannot be written; nothing is used then.
    pub(crate) fn renew(&self, db: &Arc<DB>, dir: &Path) -> Result<(), Error> {
        self.renew_after(db, dir, INTERVAL, LAPSE)
    }

    pub(crate) fn renew_after(
        &self,
        db: &Arc<DB>,
        dir: &Path,
        interval: Duration,
        lapse: Duration,
    ) -> Result<(), Error> {
        let acknowledged = self.acknowledged().unwrap_or_default();
        let mut held = self.held.lock();
        let may_be_used =
            |view: &View| view.sequence <= acknowledged || view.taken_at.elapsed() >= lapse;
        if let Some(sequence) =
            held.pending.as_ref().filter(|view| may_be_used(view)).map(|view| view.sequence)
        {
            raise_floor(dir, sequence)?;
            held.usable = held.pending.take().map(Arc::new);
        }
        let is_fresh = held.usable.as_ref().is_some_and(|view| view.taken_at.elapsed() < interval);
        if held.pending.is_none() && !is_fresh {
            held.pending = Some(View::take(db));
        }
        Ok(())
    }
}

/// The sequence below which the folder cannot be rewound, 0 if there is none.
pub(crate) fn floor(dir: &Path) -> Result<u64, Error> {
    const ACTION: &str = "read the floor of rewinds";
    match std::fs::read_to_string(dir.join(FLOOR)) {
        Ok(text) => text.trim().parse().map_err(|_| Error::corrupt(ACTION, text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Error::io(ACTION, &error)),
    }
}

pub(crate) fn raise_floor(dir: &Path, sequence: u64) -> Result<(), Error> {
    if floor(dir)? >= sequence {
        return Ok(());
    }
    let new = dir.join(format!("{FLOOR}.new"));
    let write = || {
        let mut file = std::fs::File::create(&new)?;
        writeln!(file, "{sequence}")?;
        file.sync_all()?;
        std::fs::rename(&new, dir.join(FLOOR))?;
        std::fs::File::open(dir)?.sync_all()
    };
    write().map_err(|error| Error::io("write the floor of rewinds", &error))
}
