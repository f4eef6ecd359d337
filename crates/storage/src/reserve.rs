//! Room that a process has reserved for its log and not used, given back once it has ended.
//!
//! RocksDB reserves some 70 MB behind the end of each file of the log, and gives back what is left
//! when it closes the file. A process that was killed, or ended because its disk was full, has not
//! come to that: its next one may find no room for what an opening needs, on a disk that has some.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;

/// Gives back what lies reserved behind the ends of log files in the folder `db`; their contents
/// stay. To be called while nobody has the database open.
///
/// # Errors
/// Those of the file system; none for a folder that is not there.
pub fn give_back_reserve(db: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(db) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if !is_log(&path) {
            continue;
        }
        let file = File::options().write(true).open(&path)?;
        // The same length: only what is behind it goes.
        file.set_len(file.metadata()?.len())?;
        // Some file systems give blocks away again only once that is on the disk.
        file.sync_all()?;
    }
    Ok(())
}

/// `000123.log`, and no other text with that end.
fn is_log(path: &Path) -> bool {
    let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    path.extension() == Some(OsStr::new("log"))
        && !stem.is_empty()
        && stem.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::process::Command;

    use super::*;

    const RESERVED: u64 = 8 << 20;

    fn reserve(path: &Path) {
        let length = RESERVED.to_string();
        let words = ["--keep-size", "--length", &length];
        let done = Command::new("fallocate").args(words).arg(path).status().unwrap();
        assert!(done.success(), "{}", path.display());
    }

    #[test]
    fn what_was_reserved_for_the_log_is_given_back_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("db");
        give_back_reserve(&db).unwrap();
        std::fs::create_dir(&db).unwrap();
        let (log, other) = (db.join("000012.log"), db.join("notes.log"));
        for path in [&log, &other] {
            std::fs::write(path, "records").unwrap();
            reserve(path);
            assert!(std::fs::metadata(path).unwrap().blocks() * 512 >= RESERVED);
        }
        give_back_reserve(&db).unwrap();
        assert!(std::fs::metadata(&log).unwrap().blocks() * 512 < RESERVED);
        assert_eq!(std::fs::read(&log).unwrap(), b"records");
        assert!(std::fs::metadata(&other).unwrap().blocks() * 512 >= RESERVED, "no log file");
    }

    /// As a killed process leaves it: opened again, all records are there.
    #[test]
    fn a_database_whose_reserve_was_given_back_has_all_its_records() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("db");
        let store = crate::Store::open(&db, crate::Options::default()).unwrap();
        for number in 0..100_u8 {
            let mut txn = store.txn();
            txn.put(crate::Family::Metadata, &[number], &[number; 1_000]);
            txn.commit().unwrap();
        }
        store.publish().unwrap();
        let (latest, left) = (store.latest_sequence(), dir.path().join("left"));
        let copied = Command::new("cp").arg("-r").arg(&db).arg(&left).status().unwrap();
        assert!(copied.success());
        give_back_reserve(&left).unwrap();
        drop(store);
        let store = crate::Store::open(&left, crate::Options::default()).unwrap();
        assert_eq!(store.latest_sequence(), latest);
    }
}
