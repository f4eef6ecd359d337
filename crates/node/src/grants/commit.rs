//! Which replies may leave, as atomics that every worker reads, and how workers hear of it.
//!
//! A worker whose replies wait is woken once per change, whatever the number of replies; it then
//! wakes those of its connections that may go on. If no member is waited for (asynchronous mode, no
//! grant, a set of one), a batch costs one more load.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use storage::Store;
use tokio::sync::{Notify, watch};

/// Nobody is waited for.
const NOBODY: u64 = u64::MAX;

/// Marks of the unacknowledged tail lie at least that many bytes apart.
const MARK_BYTES: u64 = 64 << 10;

/// How far the in-sync set is.
#[derive(Debug)]
pub struct Commit {
    /// Newest sequence that every member waited for has.
    reached: AtomicU64,
    lacks_members: AtomicBool,
    lacks_copies: AtomicBool,
    /// Rises when all waiters must look again, whatever is reached.
    alarm: AtomicU64,
    desks: Vec<Desk>,
    /// Where waiters that are no workers are woken.
    others: Desk,
    tail: Mutex<VecDeque<Mark>>,
    /// Bytes appended when the newest acknowledged mark was made.
    acked_bytes: AtomicU64,
}

/// Where a worker is woken.
#[derive(Debug, Default)]
struct Desk {
    waiting: AtomicUsize,
    bell: Notify,
}

/// How much was appended when a sequence was the newest one.
#[derive(Debug, Clone, Copy)]
struct Mark {
    sequence: u64,
    bytes: u64,
}

thread_local! {
    /// The connections of this worker that wait, by what they wait for.
    static WAITING: RefCell<BTreeMap<(u64, u64), Waker>> = const { RefCell::new(BTreeMap::new()) };
}

impl Commit {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            reached: AtomicU64::new(NOBODY),
            lacks_members: AtomicBool::new(false),
            lacks_copies: AtomicBool::new(false),
            alarm: AtomicU64::new(0),
            desks: (0..workers).map(|_| Desk::default()).collect(),
            others: Desk::default(),
            tail: Mutex::default(),
            acked_bytes: AtomicU64::new(0),
        }
    }

    /// Whether replies wait for anybody.
    pub fn is_waiting(&self) -> bool {
        self.reached.load(Ordering::SeqCst) != NOBODY
    }

    /// Whether every member waited for has `sequence`.
    pub fn has(&self, sequence: u64) -> bool {
        self.reached.load(Ordering::SeqCst) >= sequence
    }

    /// Newest sequence that every member waited for has.
    pub fn newest(&self) -> u64 {
        self.reached.load(Ordering::SeqCst)
    }

    /// Writes are refused: the set is too small.
    pub fn lacks_members(&self) -> bool {
        self.lacks_members.load(Ordering::SeqCst)
    }

    /// Answers to writes may not leave: too few have them.
    pub fn lacks_copies(&self) -> bool {
        self.lacks_copies.load(Ordering::SeqCst)
    }

    /// Bytes that the set has not acknowledged, give or take a mark; 0 when nobody is waited for.
    pub fn tail_bytes(&self, store: &Store) -> u64 {
        if !self.is_waiting() {
            return 0;
        }
        store.appended_bytes().saturating_sub(self.acked_bytes.load(Ordering::SeqCst))
    }

    /// Puts the state of a set in force; `reached` is `None` where nobody is waited for.
    pub(super) fn set(&self, reached: Option<u64>, lacks: Lacks, store: Option<&Store>) {
        let reached = reached.unwrap_or(NOBODY);
        self.lacks_members.store(lacks.members, Ordering::SeqCst);
        self.lacks_copies.store(lacks.copies, Ordering::SeqCst);
        let before = self.reached.swap(reached, Ordering::SeqCst);
        if let Some(store) = store {
            self.mark(before == NOBODY, reached, store);
            if reached != NOBODY {
                store.set_acknowledged(reached);
            }
        }
        if reached > before {
            self.ring();
        }
    }

    fn mark(&self, is_new: bool, reached: u64, store: &Store) {
        if reached == NOBODY {
            return;
        }
        let (sequence, bytes) = (store.latest_sequence(), store.appended_bytes());
        let mut tail = self.tail.lock();
        if is_new {
            tail.clear();
            self.acked_bytes.store(bytes, Ordering::SeqCst);
        }
        while let Some(mark) = tail.front().copied().filter(|mark| mark.sequence <= reached) {
            self.acked_bytes.store(mark.bytes, Ordering::SeqCst);
            tail.pop_front();
        }
        if sequence <= reached {
            self.acked_bytes.store(bytes, Ordering::SeqCst);
        } else if tail.back().is_none_or(|last| bytes >= last.bytes + MARK_BYTES) {
            tail.push_back(Mark { sequence, bytes });
        }
    }

    /// Nothing is waited for any more: all waiters find out why.
    pub(super) fn end(&self) {
        self.alarm.fetch_add(1, Ordering::SeqCst);
        self.set(None, Lacks::default(), None);
        self.ring();
    }

    fn ring(&self) {
        for desk in &self.desks {
            if desk.waiting.load(Ordering::SeqCst) > 0 {
                desk.bell.notify_one();
            }
        }
        if self.others.waiting.load(Ordering::SeqCst) > 0 {
            self.others.bell.notify_waiters();
        }
    }

    /// Returns once every member waited for has `sequence`, or after `longest`, on any thread.
    pub async fn reached_within(&self, sequence: u64, longest: Duration) {
        let _waiting = Waiting::begin(&self.others.waiting);
        let mut rung = std::pin::pin!(self.others.bell.notified());
        // News from here on ring.
        rung.as_mut().enable();
        if !self.has(sequence) {
            // Either way the caller looks again.
            let _ = tokio::time::timeout(longest, rung).await;
        }
    }

    /// As if the set had become too small for writes.
    #[cfg(test)]
    pub fn lose_members(&self) {
        self.lacks_members.store(true, Ordering::SeqCst);
    }

    /// Connections that wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.desks.iter().map(|desk| desk.waiting.load(Ordering::SeqCst)).sum()
    }

    /// Returns with the next acknowledgement of the whole set; at once if nobody is waited for.
    pub fn acked(&self, worker: usize) -> Reached<'_> {
        let reached = self.reached.load(Ordering::SeqCst);
        self.reached(worker, reached.saturating_add(1))
    }

    /// Returns once every member waited for has `sequence`, or something else changed that waiters
    /// must look at. To be awaited on the worker's own thread.
    pub fn reached(&self, worker: usize, sequence: u64) -> Reached<'_> {
        let alarm = self.alarm.load(Ordering::SeqCst);
        Reached { commit: self, worker, sequence, alarm, id: None }
    }

    /// Wakes the connections of one worker; runs on its thread until `shutdown` says so.
    pub async fn serve(&self, worker: usize, mut shutdown: watch::Receiver<bool>) {
        let Some(desk) = self.desks.get(worker) else { return };
        let mut alarm = self.alarm.load(Ordering::SeqCst);
        loop {
            tokio::select! {
                () = desk.bell.notified() => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
            let rings_for_all = self.alarm.load(Ordering::SeqCst) != alarm;
            alarm = self.alarm.load(Ordering::SeqCst);
            let reached = self.reached.load(Ordering::SeqCst);
            WAITING.with_borrow(|waiting| {
                for ((sequence, _), waker) in waiting {
                    if *sequence > reached && !rings_for_all {
                        break;
                    }
                    waker.wake_by_ref();
                }
            });
        }
    }
}

/// Counts the waiters, however their waits end.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a set is too small for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lacks {
    pub(super) members: bool,
    pub(super) copies: bool,
}

/// See [`Commit::reached`].
#[derive(Debug)]
pub struct Reached<'a> {
    commit: &'a Commit,
    worker: usize,
    sequence: u64,
    alarm: u64,
    id: Option<u64>,
}

impl Reached<'_> {
    fn is_over(&self) -> bool {
        self.commit.has(self.sequence) || self.commit.alarm.load(Ordering::SeqCst) != self.alarm
    }
}

impl Future for Reached<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        let commit = self.commit;
        let Some(desk) = commit.desks.get(self.worker) else { return Poll::Ready(()) };
        let id = self.id.unwrap_or_else(|| {
            desk.waiting.fetch_add(1, Ordering::SeqCst);
            rand::random()
        });
        self.id = Some(id);
        let key = (self.sequence, id);
        WAITING.with_borrow_mut(|waiting| waiting.insert(key, cx.waker().clone()));
        // News that came before this was on the list rang for nobody.
        if self.is_over() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Reached<'_> {
    fn drop(&mut self) {
        let (Some(id), Some(desk)) = (self.id, self.commit.desks.get(self.worker)) else { return };
        WAITING.with_borrow_mut(|waiting| waiting.remove(&(self.sequence, id)));
        desk.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn who_waits_goes_on_when_it_is_reached_or_all_is_over() {
        let commit = Commit::new(1);
        assert!(!commit.is_waiting() && commit.has(u64::MAX));
        commit.set(Some(5), Lacks::default(), None);
        commit.reached(0, 5).await;
        let waits = tokio::time::timeout(Duration::from_millis(1), commit.reached(0, 6)).await;
        assert!(waits.is_err());
        assert_eq!(commit.desks[0].waiting.load(Ordering::SeqCst), 0, "given up");
        let mut six = commit.reached(0, 6);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut six).poll(&mut cx).is_pending());
        commit.set(Some(6), Lacks::default(), None);
        assert!(Pin::new(&mut six).poll(&mut cx).is_ready());
        let mut seven = commit.reached(0, 7);
        assert!(Pin::new(&mut seven).poll(&mut cx).is_pending());
        commit.end();
        commit.set(Some(0), Lacks::default(), None);
        assert!(Pin::new(&mut seven).poll(&mut cx).is_ready());
    }

    #[tokio::test]
    async fn who_is_no_worker_is_woken_as_well() {
        const LONG: Duration = Duration::from_secs(60);
        let commit = Arc::new(Commit::new(1));
        commit.reached_within(9, LONG).await;
        commit.set(Some(5), Lacks::default(), None);
        commit.reached_within(5, LONG).await;
        let began = Instant::now();
        commit.reached_within(6, Duration::from_millis(5)).await;
        assert!(began.elapsed() >= Duration::from_millis(5), "it is not reached");
        assert_eq!(commit.others.waiting.load(Ordering::SeqCst), 0);
        let reaching = Arc::clone(&commit);
        let thread = std::thread::spawn(move || {
            while reaching.others.waiting.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            reaching.set(Some(6), Lacks::default(), None);
        });
        commit.reached_within(6, LONG).await;
        assert!(commit.has(6) && began.elapsed() < LONG / 2);
        thread.join().unwrap();
    }

    #[test]
    fn the_tail_is_what_was_appended_since_the_newest_acknowledged_mark() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db"), storage::Options::default()).unwrap();
        let write = |bytes: usize| {
            let mut txn = store.txn();
            txn.put(storage::Family::Default, b"k", &vec![7; bytes]);
            txn.commit().unwrap().unwrap()
        };
        let commit = Commit::new(1);
        write(1000);
        assert_eq!(commit.tail_bytes(&store), 0);
        commit.set(Some(0), Lacks::default(), Some(&store));
        let first = write(100_000);
        commit.set(Some(0), Lacks::default(), Some(&store));
        assert!((100_000..101_000).contains(&commit.tail_bytes(&store)));
        let second = write(200_000);
        commit.set(Some(first), Lacks::default(), Some(&store));
        assert!((200_000..201_000).contains(&commit.tail_bytes(&store)));
        commit.set(Some(second), Lacks::default(), Some(&store));
        assert_eq!(commit.tail_bytes(&store), 0);
    }
}
