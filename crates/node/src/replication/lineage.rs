//! The lineage of this node's database: in memory, and in a file inside the database folder, so that it moves with the data.
//!
//! Invariant: what is in memory is on the disk.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use replication::history::{EpochId, History};
use replication::lineage::{Lineage, Source};

use super::folder::{replace_durably, sync_folder};
use crate::clock;

/// File in the database folder.
const FILE: &str = "holdfast.lineage";

/// Keeps the lineage of the database that is in service.
#[derive(Debug, Default)]
pub struct Keeper {
    now: Mutex<Arc<Lineage>>,
}

impl Keeper {
    /// After another database was put in service. Where the file cannot be read, nothing is known of the data.
    pub fn reload(&self, db: &Path) {
        *self.now.lock() = Arc::new(read(db));
    }

    /// The current lineage.
    pub fn now(&self) -> Arc<Lineage> {
        Arc::clone(&self.now.lock())
    }

    /// This node writes by itself from here on. True if others knew the lineage as it was before.
    ///
    /// # Errors
    /// The disk did not take it: nothing may be written here.
    pub fn begin(&self, db: &Path, latest: u64) -> io::Result<bool> {
        self.change(db, |lineage| lineage.begin(latest, random(), clock::unix_ms(), Source::Own))
    }

    /// A write of this node's own follows; nothing changes where that is so already.
    ///
    /// # Errors
    /// The disk did not take it: nothing may be written here.
    pub fn write(&self, db: &Path, latest: u64) -> io::Result<bool> {
        self.change(db, |lineage| {
            if lineage.source(latest + 1) != Some(Source::Own) {
                lineage.begin(latest, random(), clock::unix_ms(), Source::Own);
            }
        })
    }

    /// The data here is that of a master with this lineage (`None`: it keeps none), and what follows too. True if that is news.
    ///
    /// # Errors
    /// The disk did not take it: nothing of that master's may be written here.
    pub fn adopt(&self, db: &Path, latest: u64, theirs: Option<&History>) -> io::Result<bool> {
        self.change(db, |lineage| match theirs {
            Some(theirs) => *lineage = Lineage::adopted(theirs),
            None if lineage.source(latest + 1) != Some(Source::Foreign) => {
                lineage.begin(latest, random(), clock::unix_ms(), Source::Foreign);
            }
            _ => {}
        })
    }

    fn change(&self, db: &Path, change: impl FnOnce(&mut Lineage)) -> io::Result<bool> {
        let mut now = self.now.lock();
        let mut next = Lineage::clone(&now);
        change(&mut next);
        if next == **now {
            return Ok(false);
        }
        write(db, &next)?;
        *now = Arc::new(next);
        Ok(true)
    }
}

fn random() -> EpochId {
    EpochId::from_random(rand::random())
}

fn read(db: &Path) -> Lineage {
    let path = db.join(FILE);
    match std::fs::read(&path) {
        Ok(text) => Lineage::parse(&text).unwrap_or_else(|_| {
            tracing::warn!(path = %path.display(), "unreadable: it is not known who wrote this data");
            Lineage::default()
        }),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, path = %path.display(), "it is not known who wrote this data");
            }
            Lineage::default()
        }
    }
}

fn write(db: &Path, lineage: &Lineage) -> io::Result<()> {
    replace_durably(&db.join(FILE), lineage.to_string().as_bytes())?;
    sync_folder(db)
}

/// Puts the lineage of a copy into its folder before that is put in service: `None` for data of a master that keeps none.
pub(super) fn write_copied(folder: &Path, theirs: Option<&History>) -> io::Result<()> {
    let lineage = match theirs {
        Some(theirs) => Lineage::adopted(theirs),
        None => Lineage::foreign(random(), clock::unix_ms()),
    };
    write(folder, &lineage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_or_adopted_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::default();
        assert!(keeper.begin(dir.path(), 0).unwrap());
        let own = keeper.now();
        assert_eq!(own.source(1), Some(Source::Own));
        let next = Keeper::default();
        next.reload(dir.path());
        assert_eq!(next.now(), own);
        // The same master again is no news, and an unknown one once.
        assert!(next.adopt(dir.path(), 5, Some(&own.history())).unwrap());
        assert!(!next.adopt(dir.path(), 7, Some(&own.history())).unwrap());
        assert!(next.adopt(dir.path(), 7, None).unwrap());
        assert!(!next.adopt(dir.path(), 9, None).unwrap());
        assert_eq!(next.now().source(8), Some(Source::Foreign));
        // Written to as a replica.
        assert!(next.write(dir.path(), 9).unwrap());
        assert!(!next.write(dir.path(), 10).unwrap());
        assert_eq!(
            (next.now().source(9), next.now().source(10)),
            (Some(Source::Foreign), Some(Source::Own))
        );
        std::fs::write(dir.path().join(FILE), "x").unwrap();
        next.reload(dir.path());
        assert_eq!(*next.now(), Lineage::default());
        assert!(next.begin(&dir.path().join("absent"), 0).is_err());
        assert_eq!(*next.now(), Lineage::default());
    }
}
