//! One pass over the live log that changes nothing: exports what is behind the fork and tells
//! whether a cut is possible.
//!
//! The pass is a read-only open whose log filter keeps every record out of the memtables, so it
//! costs one reading of the log. The database then ends where its tables do: if that is behind the
//! fork, records that must go are in tables.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use rocksdb::DB;
use rocksdb::wal_filter::{WalFilter, WalRecordAction};

use super::export::{Head, Writer};
use super::{Failure, Intent, Shared, quiet};
use crate::filters::Filters;
use crate::{Error, Options, batch, engine, view};

/// What the filter saw.
struct Seen {
    fork: u64,
    /// End of the newest batch at or below the fork.
    end: u64,
    /// A batch that begins at or below the fork and ends behind it.
    is_straddled: bool,
    writer: Writer,
    failure: Option<Error>,
}

struct Scan(Shared<Seen>);

/// Exports the records behind the fork, unless an earlier attempt did; the path of the export, if
/// there is one.
pub(super) fn export(
    db: &Path,
    discarded: &Path,
    options: &Options,
    intent: Intent,
) -> Result<Option<PathBuf>, Failure> {
    let fork = intent.fork;
    let path = super::export::path(discarded, intent.at_ms, fork);
    if path.exists() {
        // Written as a whole by an earlier attempt, which may have cut already.
        return Ok(Some(path));
    }
    let Intent { at_ms, epoch, .. } = intent;
    let head = Head { fork, at_ms, cluster: options.cluster, epoch };
    let seen = Shared::new(parking_lot::Mutex::new(Seen {
        fork,
        end: 0,
        is_straddled: false,
        writer: Writer::new(path, head),
        failure: None,
    }));
    // Compactions have looked at what was there up to the floor.
    let in_tables = pass(db, options, Scan(Shared::clone(&seen)))?.max(view::floor(db)?);
    let mut seen = seen.lock();
    if let Some(error) = seen.failure.take() {
        return Err(error.into());
    }
    if in_tables > fork {
        return Err(Failure::TooLate { fork, in_tables });
    }
    let found = in_tables.max(seen.end);
    if found != fork || seen.is_straddled {
        return Err(Failure::NoBoundary { fork, found });
    }
    Ok(seen.writer.finish()?)
}

/// Newest sequence in tables.
fn pass(db: &Path, options: &Options, scan: Scan) -> Result<u64, Error> {
    let options = quiet(options);
    let mut database = engine::database(&options);
    database.create_if_missing(false);
    database.create_missing_column_families(false);
    database.set_wal_filter(scan);
    let cache = engine::cache(&options);
    let families =
        engine::descriptors(&database, db, &options, &cache, &Filters::new(options.cluster))?;
    let database = DB::open_cf_descriptors_read_only(&database, db, families, false)
        .map_err(|error| Error::engine("read the log before a rewind", error))?;
    Ok(database.latest_sequence_number())
}

impl Seen {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let (sequence, count) = batch::header(bytes)?;
        let end = (sequence + u64::from(count)).saturating_sub(1);
        if count == 0 || end <= self.fork {
            if count > 0 {
                self.end = self.end.max(end);
            }
            return Ok(());
        }
        self.is_straddled |= sequence <= self.fork;
        self.writer.batch(bytes)
    }
}

impl WalFilter for Scan {
    fn name(&self) -> &CStr {
        c"holdfast.scan"
    }

    fn log_record_found(
        &self,
        _: u64,
        _: &[u8],
        found: &rocksdb::WriteBatch,
        _: &mut rocksdb::WriteBatch,
    ) -> WalRecordAction {
        let mut seen = self.0.lock();
        match seen.take(found.data()) {
            Ok(()) => WalRecordAction::Ignore,
            Err(error) => {
                seen.failure = Some(error);
                WalRecordAction::StopReplay
            }
        }
    }
}
