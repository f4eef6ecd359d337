//! Cutting off the newest records of a database that another master never had, exactly at a fork,
//! and keeping them aside.
//!
//! Rule R12. The records must still be in the write-ahead log only. The order, each step durable
//! before the next, and each safe to repeat after a crash:
//!
//! 1. the *intent*, a file in the database folder: while it is there, [`crate::Store::open`]
//!    refuses;
//! 2. *export*: one pass over the log without changing anything writes the records behind the fork
//!    to a file ([`export`]), and finds out whether the cut is possible;
//! 3. *cut*: the database is opened once with a filter that ends the replay at the fork, and with
//!    everything replayed going into tables. All families change with one record of RocksDB's
//!    manifest, so no crash tears them apart;
//! 4. *clean*: log files with records behind the fork, archived ones included, are removed, lest
//!    the feed serve them;
//! 5. the intent is removed.
//!
//! The cut succeeded exactly if the database then ends at the fork. Numbers in tables' properties
//! say nothing: compactions set them to zero.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use replication::history::History;
use rocksdb::DB;
use rocksdb::wal::WalFileType;
use rocksdb::wal_filter::{WalFilter, WalRecordAction};

use crate::filters::Filters;
use crate::{Error, Options, batch, engine};

pub mod commands;
pub mod export;
pub(crate) mod intent;
mod lines;
pub mod records;
pub mod review;
mod scan;
pub mod since;
pub mod state;

use intent::INTENT;
pub use intent::{Intent, pending};

const ARCHIVE: &str = "archive";

impl Intent {
    /// For a database with this history, to be cut off behind `fork`.
    pub fn new(history: &History, fork: u64, at_ms: u64) -> Self {
        Self { fork, at_ms, epoch: export::epoch_at(history, fork) }
    }
}

/// A rewind that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Newest sequence of the database now.
    pub fork: u64,
    /// Where the records are that were cut off; `None` if there were none.
    pub discarded: Option<PathBuf>,
    /// How long the export took, milliseconds.
    pub export_ms: u64,
    /// How long the cut took, milliseconds.
    pub cut_ms: u64,
    /// How long the removal of log files took, milliseconds.
    pub clean_ms: u64,
}

/// Why there was no rewind.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Records behind the fork are in tables. Nothing was changed, and no intent is left.
    #[error("records up to {in_tables} are in tables, the fork is at {fork}")]
    TooLate {
        /// Where the histories part.
        fork: u64,
        /// Newest sequence in tables.
        in_tables: u64,
    },
    /// No batch ends at the fork, or the log ends before it. Nothing was changed, and no intent is
    /// left.
    #[error("no batch ends at {fork}; the nearest before it ends at {found}")]
    NoBoundary {
        /// Where the histories part.
        fork: u64,
        /// End of the last batch before it.
        found: u64,
    },
    /// The database does not end at the fork after the cut. It must not be used; the intent is left
    /// and says so.
    #[error("the database ends at {found} after a rewind to {fork}")]
    Spoiled {
        /// Where the histories part.
        fork: u64,
        /// Where the database ends.
        found: u64,
    },
    /// A step failed. Before the cut nothing was changed and the intent is taken back; later it is
    /// left, and [`resume`] goes on.
    #[error(transparent)]
    Storage(#[from] Error),
}

/// Cuts the closed database in folder `db` off behind the fork, and keeps what is cut off in a file
/// in the folder `discarded`, which is made if need be.
///
/// # Errors
/// See [`Failure`]: after [`Failure::Spoiled`] only a full sync of another database helps.
pub fn run(
    db: &Path,
    discarded: &Path,
    options: &Options,
    intent: Intent,
) -> Result<Report, Failure> {
    write_durably(db, INTENT, intent.text().as_bytes())?;
    carry_out(db, discarded, options, intent)
}

/// Finishes the rewind that was under way in the closed database when its process ended, if any. To
/// be called before the database is opened.
///
/// # Errors
/// As [`run`].
pub fn resume(db: &Path, discarded: &Path, options: &Options) -> Result<Option<Report>, Failure> {
    match pending(db)? {
        Some(intent) => carry_out(db, discarded, options, intent).map(Some),
        None => Ok(None),
    }
}

/// Removes the intent. Only for a database that nobody will use as it is: after
/// [`Failure::Spoiled`], once it is durably noted elsewhere that its data must be replaced.
///
/// # Errors
/// I/O errors.
pub fn forget(db: &Path) -> Result<(), Error> {
    let removed = match std::fs::remove_file(db.join(INTENT)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    removed.and_then(|()| sync(db)).map_err(|error| Error::io("end a rewind", &error))
}

fn carry_out(
    db: &Path,
    discarded: &Path,
    options: &Options,
    intent: Intent,
) -> Result<Report, Failure> {
    let fork = intent.fork;
    let start = Instant::now();
    let exported = match scan::export(db, discarded, options, intent) {
        Ok(exported) => exported,
        Err(failure) => {
            // Nothing was changed yet. If even this fails, the next start tries the whole again.
            let _ = forget(db);
            return Err(failure);
        }
    };
    let export_ms = milliseconds(start.elapsed());
    let start = Instant::now();
    let stale = cut(db, options, fork)?;
    let cut_ms = milliseconds(start.elapsed());
    let start = Instant::now();
    clean(db, &stale).map_err(|error| Error::io("remove log files after a rewind", &error))?;
    forget(db)?;
    let clean_ms = milliseconds(start.elapsed());
    Ok(Report { fork, discarded: exported, export_ms, cut_ms, clean_ms })
}

/// Options for the opens of a rewind: nothing in the background, and nothing is removed from the
/// data.
fn quiet(options: &Options) -> Options {
    Options {
        disable_auto_compactions: true,
        block_cache_size: options.block_cache_size.min(32 << 20),
        ..options.clone()
    }
}

/// Opens the database up to the fork, with everything in tables; the numbers of the log files that
/// must go.
fn cut(db: &Path, options: &Options, fork: u64) -> Result<Vec<u64>, Failure> {
    let options = quiet(options);
    let mut database = engine::database(&options);
    database.set_avoid_flush_during_recovery(false);
    database.create_if_missing(false);
    database.set_wal_filter(Cut { fork });
    let cache = engine::cache(&options);
    let families =
        engine::descriptors(&database, db, &options, &cache, &Filters::new(options.cluster))?;
    let database = DB::open_cf_descriptors(&database, db, families)
        .map_err(|error| Error::engine("open the database up to the fork", error))?;
    let found = database.latest_sequence_number();
    if found != fork {
        return Err(Failure::Spoiled { fork, found });
    }
    Ok(stale(&database, fork))
}

/// Ends the replay at the fork.
struct Cut {
    fork: u64,
}

impl WalFilter for Cut {
    fn name(&self) -> &CStr {
        c"holdfast.rewind"
    }

    fn log_record_found(
        &self,
        _: u64,
        _: &[u8],
        found: &rocksdb::WriteBatch,
        _: &mut rocksdb::WriteBatch,
    ) -> WalRecordAction {
        match batch::header(found.data()) {
            // Batches without records, which begin a log file after a recovery, count too: they
            // would set the sequence.
            Ok((sequence, _)) if sequence > self.fork => WalRecordAction::StopReplay,
            Ok(_) => WalRecordAction::Continue,
            Err(_) => WalRecordAction::Corrupted,
        }
    }
}

/// Log files that hold records behind the fork. The one being written is not among them: it was
/// begun by the cut.
fn stale(db: &DB, fork: u64) -> Vec<u64> {
    let Ok(files) = db.get_sorted_wal_files() else {
        // Not readable: none of them can be trusted. Only replicas that are far behind miss them.
        return vec![u64::MAX];
    };
    let mut files: Vec<(u64, u64, bool)> = files
        .iter()
        .map(|file| {
            let is_live = file.file_type() == WalFileType::AliveLogFile;
            (file.log_number(), file.start_sequence(), is_live)
        })
        .collect();
    files.sort_unstable();
    let present = files.iter().filter(|file| file.2).map(|file| file.0).max();
    let next = files.iter().skip(1).map(|next| Some(next.1)).chain([None]);
    files
        .iter()
        .zip(next)
        .filter(|((number, first, _), next)| {
            // A file ends where the next one begins; how the last one ends is not known.
            let ends_before = next.is_some_and(|next| next > 0 && next <= fork + 1);
            Some(*number) != present && (*first > fork || !ends_before)
        })
        .map(|((number, ..), _)| *number)
        .collect()
}

/// Removes log files, by number, in the folder and in its archive.
fn clean(db: &Path, stale: &[u64]) -> std::io::Result<()> {
    let everything = stale.contains(&u64::MAX);
    for folder in [db.to_owned(), db.join(ARCHIVE)] {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut logs = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if let Some(number) = log_number(&path) {
                logs.push((number, path));
            }
        }
        let newest = logs.iter().map(|(number, _)| *number).max();
        for (number, path) in &logs {
            let is_present = folder == *db && Some(*number) == newest;
            if stale.contains(number) || (everything && !is_present) {
                std::fs::remove_file(path)?;
            }
        }
        sync(&folder)?;
    }
    Ok(())
}

fn log_number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".log")?.parse().ok()
}

/// Writes a small file so that it is there as a whole or not at all.
fn write_durably(folder: &Path, name: &str, content: &[u8]) -> Result<(), Error> {
    let new = folder.join(format!("{name}.new"));
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&new, folder.join(name))?;
        sync(folder)
    };
    write().map_err(|error| Error::io("note the intent of a rewind", &error))
}

fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A file that the filter of a scan, which RocksDB owns, and its maker share.
type Shared<T> = Arc<parking_lot::Mutex<T>>;
