//! Putting a downloaded database in the place of the present one, so that a crash at any moment
//! leaves one whole database.
//!
//! The intent file `fullsync.swap` is durable before anything moves. It names where the old
//! database goes: `db.deposed` (kept: it may hold writes that no other node has) or `db.old`
//! (removed once the new one is open). While the file exists, the moves are finished before a
//! database is opened. It is written once the database is out of service, and none is left where a
//! download begins: neither what is written meanwhile nor what is not whole yet is at its mercy.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::folder;
use crate::durable::{remove_folder_if_there, remove_if_there, sync_folder, write_durably};

const INTENT: &str = "fullsync.swap";
const DB: &str = "db";

/// What becomes of the old database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Old {
    /// Moved to `db.deposed`, in place of an earlier one.
    Keep,
    /// Moved to `db.deposed.lesser`, in place of an earlier one: what lies in `db.deposed` goes
    /// further.
    KeepLesser,
    /// Removed in the end.
    Remove,
}

impl Old {
    fn folder(self) -> &'static str {
        match self {
            Self::Keep => "db.deposed",
            Self::KeepLesser => "db.deposed.lesser",
            Self::Remove => "db.old",
        }
    }
}

/// Where the old database goes.
pub(super) fn old_path(dir: &Path, old: Old) -> PathBuf {
    dir.join(old.folder())
}

/// Says durably that the downloaded database, complete on disk, is to take the place of the present
/// one.
pub(super) fn intend(dir: &Path, old: Old) -> io::Result<()> {
    write_durably(&dir.join(INTENT), old.folder().as_bytes())?;
    sync_folder(dir)
}

/// The intent is carried out, or given up before anything moved.
pub(super) fn forget(dir: &Path) -> io::Result<()> {
    remove_if_there(&dir.join(INTENT))?;
    sync_folder(dir)
}

/// Moves what has not moved yet. The database must be closed.
pub(super) fn move_on(dir: &Path, old: Old) -> io::Result<()> {
    let (db, new, aside) = (dir.join(DB), dir.join(folder::NAME), old_path(dir, old));
    if !new.exists() {
        return Ok(());
    }
    if db.exists() {
        remove_folder_if_there(&aside)?;
        fs::rename(&db, &aside)?;
        sync_folder(dir)?;
    }
    fs::rename(&new, &db)?;
    sync_folder(dir)
}

/// What lies in `db.deposed` moves to `db.deposed.lesser`, in place of an earlier one, because
/// something is to take its place and both may be wanted. To be called before the intent is there;
/// a process that dies in between leaves it there.
pub(super) fn make_way(dir: &Path) -> io::Result<()> {
    let (aside, lesser) = (old_path(dir, Old::Keep), old_path(dir, Old::KeepLesser));
    remove_folder_if_there(&lesser)?;
    fs::rename(aside, lesser)?;
    sync_folder(dir)
}

/// Takes that back where nothing took the place.
pub(super) fn take_way_back(dir: &Path) -> io::Result<()> {
    let (aside, lesser) = (old_path(dir, Old::Keep), old_path(dir, Old::KeepLesser));
    if aside.exists() || !lesser.exists() {
        return Ok(());
    }
    fs::rename(lesser, aside)?;
    sync_folder(dir)
}

/// Takes the moves back because the new database cannot be opened. The new one is removed.
pub(super) fn move_back(dir: &Path, old: Old) -> io::Result<()> {
    let (db, aside) = (dir.join(DB), old_path(dir, old));
    // With both there nothing has moved yet, and what lies aside is an earlier one.
    let has_moved = !db.exists() || !dir.join(folder::NAME).exists();
    if has_moved && aside.exists() {
        remove_folder_if_there(&db)?;
        fs::rename(&aside, &db)?;
        sync_folder(dir)?;
    }
    remove_folder_if_there(&dir.join(folder::NAME))?;
    forget(dir)
}

/// Exchanges `db` and `db.deposed`: the latter becomes a download that is put in service in the
/// usual way. Ends with the intent still there, to be forgotten once the database is open. The
/// database must be closed.
pub(super) fn bring_back(dir: &Path) -> io::Result<()> {
    let (new, aside) = (dir.join(folder::NAME), old_path(dir, Old::Keep));
    // What was downloaded before is of no use to anybody now.
    folder::discard_all(dir)?;
    // First: a process that dies behind the next step goes on with the exchange.
    intend(dir, Old::Keep)?;
    fs::rename(aside, new)?;
    sync_folder(dir)?;
    move_on(dir, Old::Keep)
}

/// Takes that back, from wherever it got to; `is_done`: the exchange was made, and what was brought
/// back does not open.
pub(super) fn take_back_again(dir: &Path, is_done: bool) -> io::Result<()> {
    let (db, new, aside) = (dir.join(DB), dir.join(folder::NAME), old_path(dir, Old::Keep));
    if is_done {
        fs::rename(&db, &new)?;
        sync_folder(dir)?;
    }
    if aside.exists() && !db.exists() {
        fs::rename(&aside, &db)?;
        sync_folder(dir)?;
    }
    if new.exists() {
        fs::rename(&new, &aside)?;
    }
    forget(dir)
}

/// Keeps other processes from `dir` for as long as it lives: the lock of the database itself moves
/// with its folder.
#[derive(Debug)]
#[must_use = "the lock ends with this value"]
pub struct DirLock(#[expect(dead_code, reason = "held for its lock")] File);

const LOCK: &str = "lock";

/// Locks `dir`, finishes what a full sync had begun when the last process ended, and removes what
/// nobody needs. To be called before the database is opened; the lock is to be held until it is
/// closed.
///
/// # Errors
/// Another process uses `dir`; I/O errors. The database must not be opened then.
pub fn recover(dir: &Path) -> io::Result<DirLock> {
    let lock = File::create(dir.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(error),
        Err(TryLockError::WouldBlock) => {
            let text = format!(
                "data directory {} is in use by another process; stop it or choose another directory",
                dir.display()
            );
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
    }
    finish(dir)?;
    Ok(DirLock(lock))
}

fn finish(dir: &Path) -> io::Result<()> {
    let old = match fs::read(dir.join(INTENT)) {
        // Anything else was cut short while it was being written: nothing had moved yet.
        Ok(text) => [Old::Keep, Old::KeepLesser, Old::Remove]
            .into_iter()
            .find(|old| text == old.folder().as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The database opened since the last exchange: the old one is not needed.
            remove_folder_if_there(&old_path(dir, Old::Remove))?;
            // If the process ended while RocksDB made a checkpoint, its temporary folder still
            // links every table of that moment.
            let unfinished = format!("{}.tmp", folder::CHECKPOINT);
            for name in [folder::CHECKPOINT, &unfinished, folder::STALE] {
                remove_folder_if_there(&dir.join(name))?;
            }
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if let Some(old) = old {
        tracing::info!(old = old.folder(), "finishing the exchange of databases after a full sync");
        move_on(dir, old)?;
    }
    forget(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(dir: &Path, name: &str, content: &str) {
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("what"), content).unwrap();
    }

    fn content(dir: &Path, name: &str) -> Option<String> {
        fs::read_to_string(dir.join(name).join("what")).ok()
    }

    /// What is on disk after the first `steps` steps of an exchange.
    fn crashed_after(steps: usize, old: Old) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        folder_with(dir, DB, "old");
        folder_with(dir, folder::NAME, "new");
        folder_with(dir, old.folder(), "older");
        let aside = old_path(dir, old);
        let all: [&dyn Fn(); 4] = [
            &|| intend(dir, old).unwrap(),
            &|| fs::remove_dir_all(&aside).unwrap(),
            &|| fs::rename(dir.join(DB), &aside).unwrap(),
            &|| fs::rename(dir.join(folder::NAME), dir.join(DB)).unwrap(),
        ];
        all.iter().take(steps).for_each(|step| step());
        temp
    }

    #[test]
    fn a_crash_at_any_step_leaves_one_whole_database() {
        for old in [Old::Keep, Old::KeepLesser, Old::Remove] {
            for steps in 0..=4 {
                let temp = crashed_after(steps, old);
                let dir = temp.path();
                drop(recover(dir).unwrap());
                let expected = if steps == 0 { "old" } else { "new" };
                assert_eq!(content(dir, DB).as_deref(), Some(expected), "{old:?} {steps}");
                if steps > 0 {
                    assert_eq!(
                        content(dir, old.folder()).as_deref(),
                        Some("old"),
                        "{old:?} {steps}"
                    );
                }
                drop(recover(dir).unwrap());
                assert_eq!(content(dir, DB).as_deref(), Some(expected), "{old:?} {steps} again");
                let is_kept = content(dir, old.folder()).is_some();
                assert_eq!(is_kept, old != Old::Remove, "{old:?} {steps}");
            }
        }
    }

    /// What is on disk after the first `steps` steps of an exchange of `db` and `db.deposed`.
    fn brought_back(steps: usize) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        folder_with(dir, DB, "old");
        folder_with(dir, Old::Keep.folder(), "aside");
        folder_with(dir, folder::NAME, "a download");
        let (new, aside) = (dir.join(folder::NAME), old_path(dir, Old::Keep));
        let all: [&dyn Fn(); 5] = [
            &|| folder::discard_all(dir).unwrap(),
            &|| intend(dir, Old::Keep).unwrap(),
            &|| fs::rename(&aside, &new).unwrap(),
            &|| fs::rename(dir.join(DB), &aside).unwrap(),
            &|| fs::rename(&new, dir.join(DB)).unwrap(),
        ];
        all.iter().take(steps).for_each(|step| step());
        temp
    }

    #[test]
    fn what_was_set_aside_comes_back_whole_or_stays_where_it_is() {
        let temp = brought_back(0);
        bring_back(temp.path()).unwrap();
        assert_eq!(content(temp.path(), DB).as_deref(), Some("aside"));
        for steps in 0..=5 {
            let temp = brought_back(steps);
            let dir = temp.path();
            drop(recover(dir).unwrap());
            let (here, there) = if steps < 3 { ("old", "aside") } else { ("aside", "old") };
            assert_eq!(content(dir, DB).as_deref(), Some(here), "{steps}");
            assert_eq!(content(dir, Old::Keep.folder()).as_deref(), Some(there), "{steps}");
            assert!(!dir.join(INTENT).exists());
        }
    }

    #[test]
    fn data_that_was_brought_back_and_does_not_open_goes_aside_again() {
        for steps in 2..=5 {
            let temp = brought_back(steps);
            let dir = temp.path();
            take_back_again(dir, steps == 5).unwrap();
            assert_eq!(content(dir, DB).as_deref(), Some("old"), "{steps}");
            assert_eq!(content(dir, Old::Keep.folder()).as_deref(), Some("aside"), "{steps}");
            assert!(!dir.join(INTENT).exists() && !dir.join(folder::NAME).exists());
        }
    }

    #[test]
    fn what_a_checkpoint_has_left_is_gone_after_a_start() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        folder_with(dir, DB, "data");
        folder_with(dir, folder::CHECKPOINT, "tables");
        folder_with(dir, &format!("{}.tmp", folder::CHECKPOINT), "tables");
        drop(recover(dir).unwrap());
        let left: Vec<_> = fs::read_dir(dir).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(left.iter().all(|name| name == DB || name == LOCK), "{left:?}");
        assert_eq!(content(dir, DB).as_deref(), Some("data"));
    }

    #[test]
    fn an_intent_cut_short_moves_nothing() {
        let temp = crashed_after(1, Old::Keep);
        let dir = temp.path();
        fs::write(dir.join(INTENT), b"db.de").unwrap();
        let lock = recover(dir).unwrap();
        assert_eq!(content(dir, DB).as_deref(), Some("old"));
        assert!(!dir.join(INTENT).exists());
        assert!(recover(dir).unwrap_err().to_string().contains("in use by another process"));
        drop(lock);
    }

    #[test]
    fn a_new_database_that_does_not_open_is_taken_back() {
        // Also from where the first move failed.
        for old in [Old::Keep, Old::KeepLesser, Old::Remove] {
            for steps in 1..=4 {
                let temp = crashed_after(steps, old);
                let dir = temp.path();
                move_back(dir, old).unwrap();
                assert_eq!(content(dir, DB).as_deref(), Some("old"), "{old:?} {steps}");
                assert!(!dir.join(INTENT).exists() && !dir.join(folder::NAME).exists());
                let older = content(dir, old.folder());
                assert_eq!(older.is_some(), steps == 1, "{old:?} {steps}");
            }
        }
    }

    #[test]
    fn what_makes_way_comes_back_if_nothing_takes_its_place() {
        let temp = crashed_after(0, Old::Keep);
        let dir = temp.path();
        folder_with(dir, Old::KeepLesser.folder(), "oldest");
        let lies = || [Old::Keep, Old::KeepLesser].map(|old| content(dir, old.folder()));
        take_way_back(dir).unwrap();
        assert_eq!(lies(), [Some("older".into()), Some("oldest".into())], "nothing had moved");
        make_way(dir).unwrap();
        assert_eq!(lies(), [None, Some("older".into())]);
        take_way_back(dir).unwrap();
        assert_eq!(lies(), [Some("older".into()), None]);
        make_way(dir).unwrap();
        intend(dir, Old::Keep).unwrap();
        drop(recover(dir).unwrap());
        take_way_back(dir).unwrap();
        assert_eq!(lies(), [Some("old".into()), Some("older".into())]);
        assert_eq!(content(dir, DB).as_deref(), Some("new"));
    }
}
