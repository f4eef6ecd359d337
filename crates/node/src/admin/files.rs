//! Numbers of the database that need its disk, for those who must not wait for one that hangs.

use std::fs::Metadata;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use storage::{Stats, Store};

/// What is known, and whether somebody is asking.
#[derive(Default)]
struct Known {
    latest: Option<(Arc<Stats>, Instant)>,
    is_asking: bool,
}

/// The last answer of the database. One thread at a time waits for a newer one.
#[derive(Clone, Default)]
pub(super) struct Files(Arc<Shared>);

/// What lies in the data folder and serves nobody: somebody has to look at it, or to make room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Aside {
    /// Exports of discarded writes.
    pub(super) discarded_files: u64,
    pub(super) discarded_bytes: u64,
    /// Of a database that was set aside.
    pub(super) deposed_bytes: u64,
}

impl Aside {
    fn of(dir: &Path) -> Self {
        let (discarded_files, discarded_bytes) = count(&dir.join("discarded"));
        let (_, deposed_bytes) = count(&dir.join("db.deposed"));
        Self { discarded_files, discarded_bytes, deposed_bytes }
    }
}

/// Files right in a folder, and their bytes; none where there is no folder.
fn count(folder: &Path) -> (u64, u64) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| entry.metadata().ok()).filter(Metadata::is_file);
    sizes.fold((0, 0), |(files, bytes), file| (files + 1, bytes + file.len()))
}

#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    aside: Mutex<Aside>,
    answered: Condvar,
}

impl Files {
    /// A new answer, or the last one after `wait`, with its age; nothing if there was none yet.
    pub(super) fn ask(
        &self,
        store: Store,
        dir: &Path,
        wait: Duration,
    ) -> Option<(Arc<Stats>, Duration)> {
        let (shared, dir) = (Arc::clone(&self.0), dir.to_owned());
        let ask = move || {
            *shared.aside.lock() = Aside::of(&dir);
            store.stats().map_err(|error| error.to_string())
        };
        self.ask_by(ask, wait)
    }

    /// What lay aside when that was answered.
    pub(super) fn aside(&self) -> Aside {
        *self.0.aside.lock()
    }

    fn ask_by(
        &self,
        ask: impl FnOnce() -> Result<Stats, String> + Send + 'static,
        wait: Duration,
    ) -> Option<(Arc<Stats>, Duration)> {
        let asked = Instant::now();
        let mut known = self.0.known.lock();
        if !known.is_asking {
            let shared = Arc::clone(&self.0);
            let work = move || {
                let answer = ask();
                let mut known = shared.known.lock();
                known.is_asking = false;
                match answer {
                    Ok(stats) => known.latest = Some((Arc::new(stats), Instant::now())),
                    Err(error) => {
                        tracing::warn!(error, "cannot collect the metrics of the database");
                    }
                }
                shared.answered.notify_all();
            };
            // A thread of its own: on a disk that hangs it stays for as long.
            match std::thread::Builder::new().name("metrics".into()).spawn(work) {
                Ok(_) => known.is_asking = true,
                Err(error) => tracing::warn!(%error, "cannot collect the metrics of the database"),
            }
        }
        let deadline = asked + wait;
        while known.is_asking && !self.0.answered.wait_until(&mut known, deadline).timed_out() {}
        known
            .latest
            .as_ref()
            .map(|(stats, at)| (Arc::clone(stats), asked.saturating_duration_since(*at)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use storage::Options;

    use super::*;

    #[test]
    fn a_disk_that_does_not_answer_is_waited_for_by_one_thread_and_the_last_answer_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db"), Options::default()).unwrap();
        let files = Files::default();
        let patience = Duration::from_secs(60);
        assert!(files.ask(store.clone(), folder.path(), patience).is_some());
        let (thaw, frozen) = mpsc::channel::<()>();
        let hanging = store.clone();
        let hangs = move || {
            let _ = frozen.recv();
            hanging.stats().map_err(|error| error.to_string())
        };
        let (_, age) = files.ask_by(hangs, Duration::ZERO).expect("the last answer");
        assert!(age < patience);
        // Nobody else asks while one waits.
        let never = || panic!("a second thread");
        assert!(files.ask_by(never, Duration::ZERO).is_some());
        thaw.send(()).unwrap();
        assert!(files.ask_by(|| Err("asked".into()), patience).is_some());
        assert!(files.ask(store, folder.path(), patience).is_some());
    }
}
