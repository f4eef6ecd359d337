//! Log files that an earlier process has left. Their newest records may be with the operating
//! system only: after a kill they are there, after a power cut they are not. RocksDB begins another
//! log at each open, and syncs that one alone. A power cut that then took the end of the earlier
//! one would leave a hole: records that follow, under numbers as if nothing were missing.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::Error;

/// Brings them to the disk. To be called before the database is opened.
///
/// # Errors
/// I/O errors: nothing may follow in another log then.
pub(super) fn sync(dir: &Path) -> Result<(), Error> {
    sync_logs(dir).map_err(|error| Error::io("sync the log that was found", &error))
}

fn sync_logs(dir: &Path) -> io::Result<()> {
    let mut has_found = false;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != "log") {
            continue;
        }
        match File::open(&path) {
            Ok(file) => file.sync_all()?,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        }
        has_found = true;
    }
    // Nobody may have brought their names there either.
    if has_found { File::open(dir)?.sync_all() } else { Ok(()) }
}
