//! Changes of records that are asked for while another is being written wait for it, and are then
//! made in one transaction: a hundred clusters that lose a master at one moment wait for two writes
//! of the disk, not for a hundred. One that comes alone waits for nobody.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Change, Outcome, failed};

/// What is to be written next.
#[derive(Debug, Default)]
pub(super) struct Together(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    changes: Vec<(Change, oneshot::Sender<Outcome>)>,
    /// A thread writes, and will look for more when it has.
    is_written: bool,
}

/// Ends the turn of the thread that writes, also if it panics or never begins: what waits for it
/// then learns that nobody knows, and the next change has a thread of its own.
struct Turn(Option<Arc<Together>>);

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(together) = self.0.take() else { return };
        let mut waiting = together.0.lock();
        waiting.is_written = false;
        waiting.changes.clear();
    }
}

impl Together {
    /// Has `change` made by `write`, which blocks, and is given all changes that wait: it tells the
    /// outcome of each, in their order. Dropped, it goes on.
    pub(super) async fn swap(
        self: &Arc<Self>,
        change: Change,
        write: impl Fn(&[Change]) -> Vec<Outcome> + Send + 'static,
    ) -> Outcome {
        let (told, outcome) = oneshot::channel();
        let is_written = {
            let mut waiting = self.0.lock();
            waiting.changes.push((change, told));
            std::mem::replace(&mut waiting.is_written, true)
        };
        if !is_written {
            let turn = Turn(Some(Arc::clone(self)));
            // It tells whoever waits.
            drop(tokio::task::spawn_blocking(move || turn.take(&write)));
        }
        let gone = "the thread that was to do it has ended";
        outcome.await.unwrap_or_else(|_| Outcome::Unknown(failed("change a cluster")(gone)))
    }
}

impl Turn {
    fn take(mut self, write: &impl Fn(&[Change]) -> Vec<Outcome>) {
        while let Some(together) = &self.0 {
            let batch = {
                let mut waiting = together.0.lock();
                if waiting.changes.is_empty() {
                    waiting.is_written = false;
                }
                std::mem::take(&mut waiting.changes)
            };
            if batch.is_empty() {
                self.0 = None;
                return;
            }
            let (changes, told): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            for (outcome, told) in write(&changes).into_iter().zip(told) {
                // Nobody needs to wait for it any more.
                let _ = told.send(outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::cluster::test_record;
    use crate::events::Event;
    use crate::store::StoreError;

    fn change(name: &str) -> Change {
        let was = planner::Record { name: name.to_owned(), ..test_record() };
        let next = was.next();
        let event = Event::now(1, format!("n/{name}"), "change", String::new());
        Change::new(Arc::new(was), next, event)
    }

    /// A disk that takes as long as the test wants: it shows what it is given, and waits to go on.
    struct Disk {
        shown: mpsc::Receiver<Vec<String>>,
        goes_on: mpsc::Sender<()>,
        write: Arc<Write>,
    }

    type Write = dyn Fn(&[Change]) -> Vec<Outcome> + Send + Sync;

    fn disk() -> Disk {
        let (show, shown) = mpsc::channel();
        let (goes_on, wait) = mpsc::channel::<()>();
        let ends = Mutex::new((show, wait));
        let write = move |changes: &[Change]| {
            let ends = ends.lock();
            let names = changes.iter().map(|change| change.record.name.clone()).collect();
            ends.0.send(names).expect("somebody who looks");
            ends.1.recv_timeout(Duration::from_secs(20)).expect("a word to go on");
            let outcome = |change: &Change| match &*change.record.name {
                "late" => Outcome::NotDone(StoreError::Conflict),
                "panic" => panic!("a fault of the store, which the test makes"),
                _ => Outcome::Done(()),
            };
            changes.iter().map(outcome).collect()
        };
        Disk { shown, goes_on, write: Arc::new(write) }
    }

    impl Disk {
        fn is_given(&self) -> Vec<String> {
            self.shown.recv_timeout(Duration::from_secs(20)).expect("something to write")
        }
    }

    /// How many wait, as soon as it is so many.
    async fn waits(together: &Together, count: usize) {
        let all_there = async {
            while together.0.lock().changes.len() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all_there).await.expect("all that wait");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_waits_for_a_write_is_written_at_once_and_each_has_its_own_outcome() {
        let (disk, together) = (disk(), Arc::new(Together::default()));
        let swap = |name: &str| {
            let (together, change) = (Arc::clone(&together), change(name));
            let write = Arc::clone(&disk.write);
            tokio::spawn(async move { together.swap(change, move |all| write(all)).await })
        };
        let first = swap("first");
        assert_eq!(disk.is_given(), ["first"], "one that comes alone waits for nobody");
        let second = swap("second");
        waits(&together, 1).await;
        let late = swap("late");
        waits(&together, 2).await;
        disk.goes_on.send(()).expect("a thread");
        assert!(matches!(first.await, Ok(Outcome::Done(()))));
        assert_eq!(disk.is_given(), ["second", "late"]);
        disk.goes_on.send(()).expect("a thread");
        assert!(matches!(second.await, Ok(Outcome::Done(()))));
        assert!(matches!(late.await, Ok(Outcome::NotDone(StoreError::Conflict))));
    }

    /// Rule O4: what was to be written with what failed is not known to be done, nor not to be.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thread_that_ends_leaves_nobody_waiting_and_the_next_change_is_made() {
        let (disk, together) = (disk(), Arc::new(Together::default()));
        let swap = |name: &str| {
            let (together, change) = (Arc::clone(&together), change(name));
            let write = Arc::clone(&disk.write);
            tokio::spawn(async move { together.swap(change, move |all| write(all)).await })
        };
        let fails = swap("panic");
        assert_eq!(disk.is_given(), ["panic"]);
        let behind = swap("behind");
        waits(&together, 1).await;
        disk.goes_on.send(()).expect("a thread");
        assert!(matches!(fails.await, Ok(Outcome::Unknown(_))));
        assert!(matches!(behind.await, Ok(Outcome::Unknown(_))));
        let next = swap("next");
        assert_eq!(disk.is_given(), ["next"]);
        disk.goes_on.send(()).expect("a thread");
        assert!(matches!(next.await, Ok(Outcome::Done(()))));
    }
}
