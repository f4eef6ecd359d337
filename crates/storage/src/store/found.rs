//! Log files that an earlier process has left. Their newest records may be with the operating
//! system only, and RocksDB syncs the files alone that it has begun itself since: what counts as on
//! the disk must bring these there too, once.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{Error, Options};

/// The log as it was found when the database was opened.
#[derive(Default)]
pub(super) struct Found {
    is_synced: AtomicBool,
}

impl Found {
    /// Of a database that was just opened, and ends at `latest`; and up to where it is known to be
    /// on the disk. All of it counts as published from here on: where that means the disk, it is
    /// brought there.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub(super) fn at_start(
        options: &Options,
        dir: &Path,
        latest: u64,
    ) -> Result<(Self, AtomicU64), Error> {
        let found = Self::default();
        if !options.sync_writes {
            return Ok((found, AtomicU64::new(0)));
        }
        found.sync(dir)?;
        Ok((found, AtomicU64::new(latest)))
    }

    /// Brings it to the disk, unless that was done before.
    ///
    /// # Errors
    /// I/O errors: nothing is known to be there then.
    pub(super) fn sync(&self, dir: &Path) -> Result<(), Error> {
        if self.is_synced.load(Ordering::Acquire) {
            return Ok(());
        }
        sync_logs(dir).map_err(|error| Error::io("sync the log that was found", &error))?;
        self.is_synced.store(true, Ordering::Release);
        Ok(())
    }
}

fn sync_logs(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != "log") {
            continue;
        }
        match File::open(&path) {
            Ok(file) => file.sync_all()?,
            // It is in tables by now, which are synced when they are made.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
