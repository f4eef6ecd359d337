//! Batches in memory, for readers of the feed that are close behind: the newest ones, as many bytes
//! as are allowed. Nothing is copied while nobody reads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// A batch as it lies in the WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedBatch {
    /// Sequence number of its first record.
    pub sequence: u64,
    /// Number of records, at least 1.
    pub count: u32,
    /// All bytes, header included.
    pub data: Arc<[u8]>,
}

impl FeedBatch {
    /// Sequence number behind its last record.
    pub fn end(&self) -> u64 {
        self.sequence + u64::from(self.count)
    }
}

/// Batches in memory.
pub(crate) struct Ring {
    readers: AtomicUsize,
    /// Batches being written, which are about to be pushed.
    writing: AtomicUsize,
    limit_bytes: AtomicUsize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// In order of their sequence numbers; there may be gaps, which readers fill from the WAL.
    batches: VecDeque<FeedBatch>,
    bytes: usize,
}

/// A batch on its way into the ring.
pub(crate) struct Feeding<'a> {
    ring: &'a Ring,
}

/// How often a reader yields to a writer that published another's batch before that one reached the
/// ring.
const YIELDS: usize = 2000;

impl Ring {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            readers: AtomicUsize::new(0),
            writing: AtomicUsize::new(0),
            limit_bytes: AtomicUsize::new(limit_bytes),
            held: Mutex::default(),
        }
    }

    /// Holds no more than so many bytes from here on.
    pub(crate) fn resize(&self, bytes: usize) {
        self.limit_bytes.store(bytes, Ordering::Relaxed);
        self.held.lock().shrink(bytes);
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.held.lock().bytes
    }

    /// Called before a batch is written; `None` without readers.
    pub(crate) fn begin(&self) -> Option<Feeding<'_>> {
        (self.readers.load(Ordering::Acquire) > 0).then(|| {
            self.writing.fetch_add(1, Ordering::AcqRel);
            Feeding { ring: self }
        })
    }

    pub(super) fn read(
        &self,
        next: u64,
        published: u64,
        max_bytes: usize,
    ) -> Option<Vec<FeedBatch>> {
        for _ in 0..YIELDS {
            let writing = self.writing.load(Ordering::Acquire) > 0;
            {
                let held = self.held.lock();
                let found = held.from(next, published, max_bytes);
                if !found.is_empty() {
                    return Some(found);
                }
                if !writing || held.batches.front().is_none_or(|oldest| oldest.sequence > next) {
                    return None;
                }
            }
            std::thread::yield_now();
        }
        None
    }

    pub(super) fn holds_start(&self, sequence: u64) -> bool {
        self.held.lock().batches.binary_search_by_key(&sequence, |held| held.sequence).is_ok()
    }

    /// One reader more.
    pub(super) fn enter(&self) {
        self.readers.fetch_add(1, Ordering::AcqRel);
    }

    /// One reader less.
    pub(super) fn leave(&self) {
        if self.readers.fetch_sub(1, Ordering::AcqRel) == 1 {
            *self.held.lock() = Held::default();
        }
    }
}

impl Held {
    /// Lets go of the oldest batches until the others are no more bytes than that.
    fn shrink(&mut self, bytes: usize) {
        while self.bytes > bytes {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.bytes -= oldest.data.len();
        }
    }

    fn from(&self, next: u64, published: u64, max_bytes: usize) -> Vec<FeedBatch> {
        let Ok(start) = self.batches.binary_search_by_key(&next, |held| held.sequence) else {
            return Vec::new();
        };
        let (mut expected, mut bytes) = (next, 0);
        self.batches
            .range(start..)
            .take_while(|held| {
                let fits = held.sequence == expected && held.end() <= published + 1;
                let wanted = bytes == 0 || bytes + held.data.len() <= max_bytes;
                expected = held.end();
                bytes += held.data.len();
                fits && wanted
            })
            .cloned()
            .collect()
    }
}

impl Feeding<'_> {
    pub(crate) fn push(self, sequence: u64, count: u32, data: &[u8]) {
        let batch = FeedBatch { sequence, count, data: data.into() };
        let mut held = self.ring.held.lock();
        held.bytes += data.len();
        // Nearly always the newest: concurrent writers differ by a few places.
        let newer = held.batches.iter().rev().take_while(|held| held.sequence > sequence).count();
        let place = held.batches.len() - newer;
        held.batches.insert(place, batch);
        held.shrink(self.ring.limit_bytes.load(Ordering::Relaxed));
    }
}

impl Drop for Feeding<'_> {
    fn drop(&mut self) {
        self.ring.writing.fetch_sub(1, Ordering::AcqRel);
    }
}
