//! A change of the record whose outcome the store did not tell (rule O4).
//!
//! Until a read shows which record is in force, the planner grants nothing and opens nothing in
//! this cluster: the store may name another master. If writes may arrive late at this store, and
//! the read shows the former record, a write of ours on the same tag repeats that record's content:
//! either it shuts the unknown write out, or it loses against it. A store that has answered, and is
//! full, would not take that, and need not: a read tells what it has made.

use std::sync::Arc;
use std::time::Duration;

use planner::Record;

use super::losses::{self, Loss};
use super::{Cluster, UpdateError};
use crate::events::Event;
use crate::store::{Change, Outcome, StoreError};

/// Between two attempts to find out.
const RETRY: Duration = Duration::from_millis(200);

/// What an attempt to find out came to.
enum Settled {
    /// This record is in force; `None`: the cluster is not in the store any more.
    Known(Option<Box<Record>>),
    /// Not yet.
    Open(StoreError),
}

impl Cluster {
    /// Holds everything until it is known whether `change` was made. Tries to find out at once, and
    /// else goes on doing so on its own.
    pub(super) async fn in_doubt(
        self: &Arc<Self>,
        change: Change,
        losses: Vec<Loss>,
        error: StoreError,
    ) -> Result<Arc<Record>, UpdateError> {
        let (why, reason) = (error.chain(), change.event.text.as_str());
        tracing::error!(cluster = %self.label(), error = why, "whether the record was changed is not known: {reason}");
        self.doubts(&change.record, 1, reason);
        let is_late = self.shared.records().writes_may_arrive_late()
            && !matches!(error, StoreError::Full { .. });
        if let Settled::Known(record) = self.settle(&change, is_late).await {
            return self.settled(&change, losses, record, error);
        }
        let (cluster, error) = (Arc::clone(self), UpdateError::Unknown(why));
        tokio::spawn(async move { cluster.find_out(change, is_late, losses).await });
        Err(error)
    }

    async fn find_out(self: Arc<Self>, change: Change, is_late: bool, losses: Vec<Loss>) {
        loop {
            tokio::time::sleep(RETRY).await;
            if self.state.lock().deleted {
                // Somebody else finds out: this controller leads no more, or the cluster is gone.
                return;
            }
            match self.settle(&change, is_late).await {
                Settled::Known(record) => {
                    let outcome = self.settled(&change, losses, record, StoreError::Conflict);
                    let is_done = outcome.is_ok();
                    tracing::info!(cluster = %self.label(), is_done, "it is known which record is in force");
                    return;
                }
                Settled::Open(error) => {
                    tracing::debug!(cluster = %self.label(), error = error.chain(), "which record is in force");
                }
            }
        }
    }

    /// Reads, and shuts out what may still arrive; `is_late`: it may.
    async fn settle(&self, change: &Change, is_late: bool) -> Settled {
        let records = self.shared.records();
        let Record { namespace, name, revision, .. } = &*change.record;
        loop {
            let found = match records.cluster(namespace, name).await {
                Ok(Some(found)) => found,
                Ok(None) => return Settled::Known(None),
                Err(error) => return Settled::Open(error),
            };
            let is_before = (found.tag, found.revision) == (change.was.tag, change.was.revision);
            if !is_before || !is_late {
                return Settled::Known(Some(Box::new(found)));
            }
            let label = format!("{namespace}/{name}");
            let text = format!("revision {revision} is shut out: its outcome was not known");
            let event = Event::now(self.shared.store.term(), label, "change", text);
            let next = found.next();
            let same = Change::new(Arc::new(found), next, event);
            match records.swap(same.clone()).await {
                Outcome::Done(()) => {
                    return Settled::Known(Some(Box::new(Record::clone(&same.record))));
                }
                // What was unknown has arrived, or somebody else was faster: both can be read.
                Outcome::NotDone(StoreError::Conflict) => {}
                Outcome::NotDone(error) | Outcome::Unknown(error) => return Settled::Open(error),
            }
        }
    }

    fn settled(
        self: &Arc<Self>,
        change: &Change,
        losses: Vec<Loss>,
        found: Option<Box<Record>>,
        error: StoreError,
    ) -> Result<Arc<Record>, UpdateError> {
        let found = found.map(|found| Arc::new(*found));
        let adopted = match &found {
            Some(record) => {
                let adopted = self.adopt(Arc::clone(record));
                losses::tell(self, losses, record);
                adopted
            }
            None => Ok(()),
        };
        self.doubts(&change.record, -1, "");
        adopted?;
        found.filter(|record| record.tag == change.record.tag).ok_or(UpdateError::Store(error))
    }

    /// Counts a change that is in doubt, or is so no longer.
    fn doubts(&self, wanted: &Record, more: i64, reason: &str) {
        {
            let mut state = self.state.lock();
            state.doubts += more;
            state.observed.in_doubt = match (state.doubts, state.observed.in_doubt.take()) {
                (..=0, _) => None,
                (_, Some(known)) => Some(known),
                (_, None) => Some(format!("revision {}, {reason}", wanted.revision)),
            };
            if state.doubts > 0 {
                // What is in force until the next plan must not grant either.
                state.plan.leases.clear();
                state.plan.grants.clear();
                state.plan.orders.clear();
            }
        }
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use parking_lot::Mutex;
    use planner::Policy;

    use super::*;
    use crate::cluster::{Shared, test_actor, test_failover, test_pair, test_sequences};
    use crate::store::{Embedded, Records, Store as _, Work};

    /// A store far away: the answer to a swap may be lost, and what was asked arrive later.
    #[derive(Debug)]
    struct Late {
        store: Embedded,
        /// The next swap is not answered.
        is_lost: AtomicBool,
        /// It takes nothing, and what became of a swap was not read.
        is_full: AtomicBool,
        /// Nothing can be read.
        is_away: AtomicBool,
        /// What was not answered, and has not arrived.
        under_way: Mutex<Option<Change>>,
    }

    impl Late {
        /// What was under way arrives; true if it was taken.
        async fn arrives(&self) -> bool {
            let change = self.under_way.lock().take().expect("something under way");
            matches!(self.store.swap(change).await, Outcome::Done(()))
        }
    }

    impl Records for Late {
        fn swap(&self, change: Change) -> Work<'_, Outcome> {
            if self.is_full.load(Ordering::SeqCst) {
                let why = "database space exceeded".to_owned();
                let full = StoreError::Full { what: "change a cluster", why };
                return Box::pin(async { Outcome::Unknown(full) });
            }
            if self.is_away.load(Ordering::SeqCst) || self.is_lost.swap(false, Ordering::SeqCst) {
                *self.under_way.lock() = Some(change);
                let silent = StoreError::Silent(Duration::from_millis(250));
                return Box::pin(async { Outcome::Unknown(silent) });
            }
            self.store.swap(change)
        }

        fn cluster<'a>(
            &'a self,
            namespace: &'a str,
            name: &'a str,
        ) -> Work<'a, Result<Option<Record>, StoreError>> {
            let silent = StoreError::Silent(Duration::from_millis(250));
            match self.is_away.load(Ordering::SeqCst) {
                true => Box::pin(async { Err(silent) }),
                false => self.store.cluster(namespace, name),
            }
        }

        fn writes_may_arrive_late(&self) -> bool {
            true
        }
    }

    struct Stage {
        _folder: tempfile::TempDir,
        late: Arc<Late>,
        cluster: Arc<Cluster>,
    }

    impl Stage {
        async fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let open = |name| Embedded::open(&folder.path().join(name), 0).expect("a store");
            let store = open("far");
            let event = Event::now(1, "n/c".to_owned(), "operator", "created".to_owned());
            let made = store.create_namespace("n".to_owned(), event.clone()).await;
            made.done().expect("a namespace");
            store.create(test_pair(), event).await.done().expect("a cluster");
            let late = Arc::new(Late {
                store,
                is_lost: AtomicBool::new(false),
                is_full: AtomicBool::new(false),
                is_away: AtomicBool::new(false),
                under_way: Mutex::new(None),
            });
            let shared = Shared::new(Arc::new(open("near")), Policy::default()).expect("threads");
            let records: Arc<dyn Records> = Arc::<Late>::clone(&late);
            let shared = Arc::new(shared.recorded_by(records));
            let cluster = Cluster::start(shared, test_pair(), None).expect("a cluster");
            Self { _folder: folder, late, cluster }
        }

        async fn longer_leases(&self) -> Result<Arc<Record>, UpdateError> {
            let longer = |record: &mut Record| {
                record.longest_lease_ms += 1_000;
                Ok(())
            };
            self.cluster.update(&test_actor(), "longer leases", longer).await
        }

        fn in_doubt(&self) -> bool {
            self.cluster.state.lock().observed.in_doubt.is_some()
        }

        async fn known(&self) {
            let known = async {
                while self.in_doubt() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), known)
                .await
                .expect("an end of the doubt");
        }
    }

    /// The planner of such a cluster writes its own term first: these wait for it.
    async fn settled() -> Stage {
        let stage = Stage::new().await;
        let taken_over = async {
            while stage.cluster.record().term == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), taken_over).await.expect("a term");
        stage
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_not_answered_is_shut_out_before_anything_goes_on() {
        let stage = settled().await;
        let before = stage.cluster.record();
        stage.late.is_lost.store(true, Ordering::SeqCst);
        // Whichever is asked next, it was not done, and never will be.
        assert!(stage.longer_leases().await.is_err());
        stage.known().await;
        assert_eq!(stage.cluster.record().longest_lease_ms, before.longest_lease_ms);
        assert!(stage.cluster.record().revision > before.revision);
        assert!(!stage.late.arrives().await, "it arrived after another was in force");
        let done = stage.longer_leases().await.expect("a change");
        assert_eq!(done.longest_lease_ms, before.longest_lease_ms + 1_000);
        stage.cluster.stop();
    }

    /// What would shut it out is refused as well: a cluster that waits for that is granted nothing
    /// for as long as its store is full.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_full_store_has_answered_is_known_by_a_read_alone() {
        let stage = settled().await;
        let before = stage.cluster.record();
        stage.late.is_full.store(true, Ordering::SeqCst);
        let error = stage.longer_leases().await.expect_err("it is full");
        assert!(matches!(error, UpdateError::Store(StoreError::Full { .. })), "{error}");
        stage.known().await;
        assert_eq!(stage.cluster.record().longest_lease_ms, before.longest_lease_ms);
        stage.late.is_full.store(false, Ordering::SeqCst);
        let done = stage.longer_leases().await.expect("a change");
        assert_eq!(done.longest_lease_ms, before.longest_lease_ms + 1_000);
        stage.cluster.stop();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_granted_until_the_store_is_back_and_what_arrived_meanwhile_is_in_force() {
        let stage = settled().await;
        let before = stage.cluster.record();
        stage.late.is_away.store(true, Ordering::SeqCst);
        let error = stage.longer_leases().await.expect_err("nobody knows");
        assert!(matches!(error, UpdateError::Unknown(_)), "{error}");
        assert!(stage.in_doubt());
        let told = async {
            while !stage.cluster.state.lock().plan.alarms.iter().any(|a| a.contains("not told")) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), told).await.expect("an alarm");
        assert!(stage.cluster.state.lock().plan.leases.is_empty());
        assert!(stage.late.arrives().await, "it arrives");
        stage.late.is_away.store(false, Ordering::SeqCst);
        stage.known().await;
        assert_eq!(stage.cluster.record().longest_lease_ms, before.longest_lease_ms + 1_000);
        stage.cluster.stop();
    }

    impl Stage {
        /// The master of the shard is replaced, without its last 22 writes.
        async fn fails_over(&self) -> Result<Arc<Record>, UpdateError> {
            test_sequences(&mut self.cluster.state.lock().observed, 122, 100);
            let after = test_failover(&self.cluster.record());
            let lost = losses::of(&self.cluster, &after);
            assert_eq!(lost.len(), 1);
            let event = Event::now(1, "n/c".to_owned(), "failover", "a is down".to_owned());
            self.cluster.swap(after, event, lost).await
        }

        /// Alarms of losses, and how many writes were counted.
        fn told(&self) -> (usize, u64) {
            let alarms = self.cluster.state.lock().observed.losses.len();
            (alarms, self.cluster.shared.counters.lost_writes.get())
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_failover_lost_is_told_once_it_is_known_to_be_done_and_not_before() {
        let stage = settled().await;
        // Not done, and shut out: nothing is lost.
        stage.late.is_lost.store(true, Ordering::SeqCst);
        assert!(stage.fails_over().await.is_err());
        stage.known().await;
        assert_eq!(stage.told(), (0, 0));
        assert!(!stage.late.arrives().await, "it arrived after another was in force");
        // Done, and only later known to be.
        stage.late.is_away.store(true, Ordering::SeqCst);
        let error = stage.fails_over().await.expect_err("nobody knows");
        assert!(matches!(error, UpdateError::Unknown(_)), "{error}");
        assert_eq!(stage.told(), (0, 0));
        assert!(stage.late.arrives().await, "it arrives");
        stage.late.is_away.store(false, Ordering::SeqCst);
        stage.known().await;
        assert_eq!(stage.told(), (1, 22));
        stage.cluster.stop();
        let written = stage.late.store.events(10, Box::new(|event| event.kind == "loss")).await;
        assert_eq!(written.expect("events").len(), 1);
    }
}
