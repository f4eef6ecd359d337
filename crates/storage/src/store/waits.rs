//! For how long the disk has taken nothing of the log that it was given (rule R14).
//!
//! A disk that hangs returns no error, and a thread in a write to it cannot be waited out or woken.
//! So each caller says when it begins and when it is through. Others see how long ago anything came
//! through while a caller waits.
//!
//! Times are milliseconds of one clock of this process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::Store;

/// What a disk that is only busy may make a sync take, or a write that RocksDB holds back until it
/// has flushed or compacted: so much of these does not count. While two others wrote 6 GB, a sync
/// took up to 1.0 s, a write of the log up to 0.03 s.
const BUSY_MS: u64 = 3_000;
/// A write that RocksDB held back is through so soon after that is over.
const STOP_OVER_MS: u64 = 1_000;

/// Bytes under way for which a call may take a millisecond longer: 50 MiB/s. One write of 512 MiB
/// took 1.2 s on a disk in good health, most of it in the processor; it may take 10 s.
const BYTES_PER_MS: u64 = (50 << 20) / 1_000;

/// Bits of a time; the rest counts those who wait. Enough for 8900 years.
const TIME_BITS: u32 = 48;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// Calls under way, and since when none of them came through.
#[derive(Debug, Default)]
struct Waits {
    /// How many, and since when.
    state: AtomicU64,
    /// Of the largest of them; 0 where that makes no millisecond.
    bytes: AtomicU64,
}

impl Waits {
    /// A call begins that moves so many bytes.
    fn begin(&self, bytes: u64, now_ms: impl Fn() -> u64) {
        if bytes >= BYTES_PER_MS {
            self.bytes.fetch_max(bytes, Ordering::Relaxed);
        }
        self.update(|count, since| (count + 1, if count == 0 { now_ms() } else { since }));
    }

    /// A call came through, well or not. Where nobody is left who waits, the time is not asked for.
    fn end(&self, now_ms: impl Fn() -> u64) {
        self.update(|count, _| (count.saturating_sub(1), if count > 1 { now_ms() } else { 0 }));
        // Only now: nobody may see the time of a large call without its size. Writes are one at a
        // time, and a sync takes along what others wait for.
        if self.bytes.load(Ordering::Relaxed) > 0 {
            self.bytes.store(0, Ordering::Release);
        }
    }

    /// For how long there have been calls under way of which none came through; 0 if there are
    /// none. The time that the largest of them needs for its bytes does not count.
    fn longest(&self, now_ms: u64) -> u64 {
        let allowed_ms = self.bytes.load(Ordering::Acquire) / BYTES_PER_MS;
        let (count, since) = split(self.state.load(Ordering::Acquire));
        if count == 0 { 0 } else { now_ms.saturating_sub(since).saturating_sub(allowed_ms) }
    }

    fn update(&self, change: impl Fn(u64, u64) -> (u64, u64)) {
        let change = |state| {
            let (count, since) = split(state);
            let (count, since) = change(count, since);
            Some((count << TIME_BITS) | (since & TIME_MASK))
        };
        // Always Some: it cannot fail.
        let _ = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
}

fn split(state: u64) -> (u64, u64) {
    (state >> TIME_BITS, state & TIME_MASK)
}

/// What a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A batch goes into the database, and into the buffer of the log.
    Append,
    /// The buffer goes to the operating system.
    Flush,
    /// The log goes to the disk.
    Sync,
}

/// All calls of a store under way.
#[derive(Debug)]
pub(super) struct LogWaits {
    appends: Waits,
    flushes: Waits,
    syncs: Waits,
    /// When RocksDB was last seen to hold writes back.
    stopped_ms: AtomicU64,
    opened_at: Instant,
}

impl LogWaits {
    pub(super) fn new() -> Self {
        Self {
            appends: Waits::default(),
            flushes: Waits::default(),
            syncs: Waits::default(),
            stopped_ms: AtomicU64::new(0),
            opened_at: Instant::now(),
        }
    }

    /// A call begins that moves so many bytes; it is over when what is returned is dropped.
    pub(super) fn begin(&self, step: Step, bytes: u64) -> Waiting<'_> {
        self.of(step).begin(bytes, || self.now_ms());
        Waiting { all: self, step }
    }

    fn of(&self, step: Step) -> &Waits {
        match step {
            Step::Append => &self.appends,
            Step::Flush => &self.flushes,
            Step::Sync => &self.syncs,
        }
    }

    /// `is_stopped`: whether RocksDB holds writes back now; asked only while somebody waits for an
    /// append.
    fn longest(&self, now_ms: u64, is_stopped: impl FnOnce() -> bool) -> u64 {
        let append_ms = self.appends.longest(now_ms);
        if append_ms > 0 && is_stopped() {
            self.stopped_ms.store(now_ms, Ordering::Relaxed);
        }
        let stopped_ms = self.stopped_ms.load(Ordering::Relaxed);
        let was_stopped = stopped_ms > 0 && now_ms.saturating_sub(stopped_ms) < STOP_OVER_MS;
        let allowed_ms = if was_stopped { BUSY_MS } else { 0 };
        append_ms
            .saturating_sub(allowed_ms)
            .max(self.flushes.longest(now_ms))
            .max(self.syncs.longest(now_ms).saturating_sub(BUSY_MS))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.opened_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    all: &'a LogWaits,
    step: Step,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.of(self.step).end(|| self.all.now_ms());
    }
}

impl Store {
    /// For how long appends, or writes of their buffer, or syncs, have been under way without one
    /// of them coming through, in milliseconds; 0 while nobody waits for the log. The first seconds
    /// of a sync do not count, nor those of a write that RocksDB holds back: a disk that is only
    /// busy makes these long, too. Nor does a second for every 50 MiB of the largest of them. Does
    /// not wait for the disk itself.
    pub fn log_wait_ms(&self) -> u64 {
        let waits = &self.inner().waits;
        // A number that cannot be read excuses nothing.
        waits.longest(waits.now_ms(), || self.is_write_stopped().unwrap_or(false))
    }

    /// What a sync has to bring to the disk. 0 where publishing does not sync: then syncs are rare,
    /// and what they find was brought there by the system long ago, but for an amount that nobody
    /// knows.
    pub(super) fn unsynced_bytes(&self) -> u64 {
        match self.inner.options.sync_writes {
            true => {
                let synced_bytes = self.inner.synced_bytes.load(Ordering::SeqCst);
                self.appended_bytes().saturating_sub(synced_bytes)
            }
            false => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_lasts_from_the_first_who_waits_or_the_last_who_came_through() {
        let waits = Waits::default();
        assert_eq!(waits.longest(5_000), 0);
        waits.begin(10, || 5_000);
        assert_eq!(waits.longest(5_300), 300);
        // A second waiter does not make it shorter.
        waits.begin(10, || 5_400);
        assert_eq!(waits.longest(5_500), 500);
        // Something came through: the disk works.
        waits.end(|| 5_600);
        assert_eq!(waits.longest(5_700), 100);
        waits.end(|| 5_800);
        assert_eq!(waits.longest(9_000), 0);
        waits.begin(10, || 9_000);
        assert_eq!(waits.longest(9_001), 1, "what was before does not count");
    }

    #[test]
    fn threads_that_come_and_go_leave_nobody_waiting() {
        let waits = Waits::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for now in 0..10_000 {
                        waits.begin(now * 100, || now);
                        waits.end(|| now);
                    }
                });
            }
        });
        assert_eq!(split(waits.state.load(Ordering::Relaxed)).0, 0);
    }

    #[test]
    fn what_a_busy_disk_makes_long_counts_later() {
        let of = |step, is_stopped| {
            let all = LogWaits::new();
            all.of(step).begin(10, || 1_000);
            [1_900, 4_000, 4_900].map(|now_ms| all.longest(now_ms, || is_stopped))
        };
        assert_eq!(of(Step::Append, false), [900, 3_000, 3_900]);
        assert_eq!(of(Step::Append, true), [0, 0, 900]);
        assert_eq!(of(Step::Flush, true), [900, 3_000, 3_900], "the log is not what RocksDB holds");
        assert_eq!(of(Step::Sync, false), [0, 0, 900]);
    }

    #[test]
    fn a_large_write_may_take_as_long_as_its_bytes_need() {
        let all = LogWaits::new();
        let longest = |now_ms| all.longest(now_ms, || false);
        let appends = all.of(Step::Append);
        appends.begin(512 << 20, || 1_000);
        assert_eq!([2_200, 11_200, 12_240].map(longest), [0, 0, 1_000], "10.24 s, then it hangs");
        appends.end(|| 12_300);
        // What comes next is not excused by what came before it.
        appends.begin(100, || 13_000);
        assert_eq!(longest(13_900), 900);
        appends.end(|| 14_000);
        let syncs = all.of(Step::Sync);
        syncs.begin(100 << 20, || 20_000);
        syncs.begin(100, || 20_000);
        assert_eq!([24_900, 25_100].map(longest), [0, 100], "2 s beside the 3 s of any sync");
    }

    #[test]
    fn a_store_says_how_much_a_write_is() {
        let folder = tempfile::tempdir().unwrap();
        let options = crate::Options { sync_writes: true, ..crate::Options::default() };
        let store = Store::open(folder.path(), options).unwrap();
        assert_eq!(store.unsynced_bytes(), 0);
        let mut txn = store.txn();
        txn.put(crate::Family::Metadata, b"k", &[1; 100_000]);
        txn.commit().unwrap();
        assert!(store.unsynced_bytes() >= 100_000, "{}", store.unsynced_bytes());
        store.publish().unwrap();
        assert_eq!(store.unsynced_bytes(), 0);
    }

    /// The stop is over, and the thread that waited has not run yet.
    #[test]
    fn the_end_of_a_stop_is_no_hang() {
        let all = LogWaits::new();
        all.of(Step::Append).begin(10, || 1_000);
        assert_eq!(all.longest(2_500, || true), 0);
        assert_eq!(all.longest(3_400, || false), 0);
        assert_eq!(all.longest(3_600, || false), 2_600, "it does hang");
    }

    /// A grant is held, and clients are answered under it, once the epoch is open.
    #[test]
    fn an_epoch_is_on_the_disk_once_it_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), crate::Options::default()).unwrap();
        assert!(!store.options().sync_writes);
        let is_synced =
            || store.inner().synced_bytes.load(Ordering::SeqCst) == store.appended_bytes();
        let id = replication::history::EpochId::from_random(1);
        // The second time it is open already; what was written since is on the disk all the same.
        for opens in 1..3 {
            let mut txn = store.txn();
            txn.put(crate::Family::Metadata, b"k", b"v");
            txn.commit().unwrap();
            store.publish().unwrap();
            assert!(!is_synced(), "a write is not, by default");
            store.open_epoch(1, id, 1).unwrap();
            assert!(is_synced() && store.published() == store.latest_sequence(), "{opens}");
        }
    }

    #[test]
    fn a_store_that_is_written_to_waits_for_nothing_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), crate::Options::default()).unwrap();
        store.open_epoch(1, replication::history::EpochId::from_random(1), 1).unwrap();
        let waits = &store.inner().waits;
        for step in [Step::Append, Step::Flush, Step::Sync] {
            assert_eq!(waits.of(step).longest(u64::MAX), 0, "{step:?}");
        }
    }
}
