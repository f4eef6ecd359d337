//! Numbers of the database that need its disk, for those who must not wait for one that hangs.

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

#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    answered: Condvar,
}

impl Files {
    /// A new answer, or the last one after `wait`, with its age; nothing if there was none yet.
    pub(super) fn ask(&self, store: Store, wait: Duration) -> Option<(Arc<Stats>, Duration)> {
        self.ask_by(move || store.stats().map_err(|error| error.to_string()), wait)
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
        assert!(files.ask(store.clone(), patience).is_some());
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
        assert!(files.ask(store, patience).is_some());
    }
}
