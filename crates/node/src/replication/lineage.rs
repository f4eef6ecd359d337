//! The lineage of this node's database: in memory, and in a file inside the database folder, so
//! that it moves with the data.
//!
//! Invariant: the disk has the lineage that is in memory, or the more careful one that is about to
//! be in force ([`Keeper::prepare`]) and counts fewer records as the master's.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use replication::history::{EpochId, History};
use replication::lineage::{Lineage, Source};

use crate::clock;
use crate::durable::{replace_durably, sync_folder};

/// File in the database folder.
const FILE: &str = "holdfast.lineage";

/// Keeps the lineage of the database that is in service.
#[derive(Debug, Default)]
pub struct Keeper {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    now: Arc<Lineage>,
    /// On the disk in place of `now`.
    ahead: Option<Ahead>,
}

/// The lineage of a node that writes by itself from `latest` on.
#[derive(Debug)]
struct Ahead {
    /// `None` if the disk may have not taken it.
    latest: Option<u64>,
    lineage: Arc<Lineage>,
}

impl Keeper {
    /// After another database was put in service. Where the file cannot be read, nothing is known
    /// of the data.
    pub fn reload(&self, db: &Path) {
        *self.state.lock() = State { now: Arc::new(read(db)), ahead: None };
    }

    /// The current lineage.
    pub fn now(&self) -> Arc<Lineage> {
        Arc::clone(&self.state.lock().now)
    }

    /// Writes what [`Keeper::begin`] will need at this end, so that it finds it done. In memory all
    /// stays as it is: a stream that goes on meanwhile is still the master's to everybody who asks.
    /// Only a process that dies before one or the other is in force leaves the records since for
    /// its own; they cost a copy then, and are kept aside.
    ///
    /// # Errors
    /// The disk did not take it.
    pub fn prepare(&self, db: &Path, latest: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut lineage = Lineage::clone(&state.now);
        lineage.begin(latest, random(), clock::unix_ms(), Source::Own);
        // Before the write: one that fails may have been made.
        let lineage = Arc::new(lineage);
        let ahead = state.ahead.insert(Ahead { latest: None, lineage: Arc::clone(&lineage) });
        write(db, &lineage)?;
        ahead.latest = Some(latest);
        Ok(())
    }

    /// What was prepared is not going to be.
    pub fn give_up(&self, db: &Path) {
        let mut state = self.state.lock();
        if state.ahead.take().is_none() {
            return;
        }
        if let Err(error) = write(db, &state.now) {
            tracing::warn!(%error, "cannot take back a note of who writes here: a restart may cost a full sync");
        }
    }

    /// This node writes by itself from here on. True if others knew the lineage as it was before.
    ///
    /// # Errors
    /// The disk did not take it: nothing may be written here.
    pub fn begin(&self, db: &Path, latest: u64) -> io::Result<bool> {
        {
            let mut state = self.state.lock();
            if let Some(ahead) = state.ahead.take_if(|ahead| ahead.latest == Some(latest)) {
                state.now = ahead.lineage;
                return Ok(true);
            }
        }
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

    /// The data here is that of a master with this lineage (`None`: it keeps none), and what
    /// follows too. True if that is news.
    ///
    /// # Errors
    /// The disk did not take it: nothing of that master's may be written here.
    pub fn adopt(&self, db: &Path, latest: u64, theirs: Option<&History>) -> io::Result<bool> {
        self.change(db, |lineage| become_of(theirs, lineage, latest))
    }

    /// The same where writes of this node's own may note themselves meanwhile: `None`, and nothing
    /// is done, if the lineage is not the `known` one any more.
    ///
    /// # Errors
    /// As [`Self::adopt`].
    pub fn adopt_from(
        &self,
        known: &Arc<Lineage>,
        db: &Path,
        latest: u64,
        theirs: Option<&History>,
    ) -> io::Result<Option<bool>> {
        let mut state = self.state.lock();
        if !Arc::ptr_eq(&state.now, known) {
            return Ok(None);
        }
        state.change(db, |lineage| become_of(theirs, lineage, latest)).map(Some)
    }

    fn change(&self, db: &Path, change: impl FnOnce(&mut Lineage)) -> io::Result<bool> {
        self.state.lock().change(db, change)
    }
}

impl State {
    fn change(&mut self, db: &Path, change: impl FnOnce(&mut Lineage)) -> io::Result<bool> {
        let mut next = Lineage::clone(&self.now);
        change(&mut next);
        if next == *self.now {
            return Ok(false);
        }
        write(db, &next)?;
        *self = Self { now: Arc::new(next), ahead: None };
        Ok(true)
    }
}

/// The lineage of data that ends at `latest` and is a master's with that history.
fn become_of(theirs: Option<&History>, lineage: &mut Lineage, latest: u64) {
    match theirs {
        Some(theirs) => *lineage = Lineage::adopted(theirs),
        None if lineage.source(latest + 1) != Some(Source::Foreign) => {
            lineage.begin(latest, random(), clock::unix_ms(), Source::Foreign);
        }
        None => {}
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

/// Puts the lineage of a copy into its folder before that is put in service: `None` for data of a
/// master that keeps none.
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
        // What was noted meanwhile is not lost.
        let known = next.now();
        let adopt = |known| next.adopt_from(known, dir.path(), 9, Some(&own.history())).unwrap();
        assert_eq!(adopt(&known), Some(true));
        let adopted = next.now();
        assert!(next.write(dir.path(), 9).unwrap());
        assert_eq!(adopt(&adopted), None);
        assert_eq!(next.now().source(10), Some(Source::Own));
        std::fs::write(dir.path().join(FILE), "x").unwrap();
        next.reload(dir.path());
        assert_eq!(*next.now(), Lineage::default());
        assert!(next.begin(&dir.path().join("absent"), 0).is_err());
        assert_eq!(*next.now(), Lineage::default());
    }

    #[test]
    fn what_was_prepared_is_in_force_at_the_same_end_without_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let obstacle = dir.path().join(format!("{FILE}.new"));
        let master = Lineage::adopted(&Lineage::foreign(random(), 0).history());
        let keeper = Keeper::default();
        let adopt = || keeper.adopt(dir.path(), 0, Some(&master.history())).unwrap();
        assert!(adopt());
        keeper.prepare(dir.path(), 5).unwrap();
        assert_eq!(*keeper.now(), master, "the stream goes on");
        assert!(!adopt(), "the same master");
        assert_eq!(read(dir.path()).source(6), Some(Source::Own), "the next process is careful");
        std::fs::create_dir(&obstacle).unwrap();
        assert!(keeper.begin(dir.path(), 5).unwrap());
        assert_eq!(*keeper.now(), read(dir.path()));

        // A record came in between: it is the master's.
        std::fs::remove_dir(&obstacle).unwrap();
        assert!(adopt());
        keeper.prepare(dir.path(), 5).unwrap();
        std::fs::create_dir(&obstacle).unwrap();
        assert!(keeper.begin(dir.path(), 6).is_err());
        std::fs::remove_dir(&obstacle).unwrap();
        assert!(keeper.begin(dir.path(), 6).unwrap());
        assert_eq!(keeper.now().stretch(6), Some((1, Source::Master)));
        assert_eq!(keeper.now().stretch(7), Some((7, Source::Own)));
        assert_eq!(*keeper.now(), read(dir.path()));

        // The change was not made.
        assert!(adopt());
        keeper.prepare(dir.path(), 5).unwrap();
        keeper.give_up(dir.path());
        assert_eq!((&*keeper.now(), &read(dir.path())), (&master, &master));
        std::fs::create_dir(&obstacle).unwrap();
        assert!(keeper.prepare(dir.path(), 5).is_err());
        assert!(keeper.begin(dir.path(), 5).is_err(), "nothing was prepared");
    }
}
