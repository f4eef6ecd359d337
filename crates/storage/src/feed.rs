//! The replication feed: published batches in order of their sequence numbers, with the bytes the WAL holds.
//!
//! While at least one [`FeedReader`] exists, [`crate::Store`] copies every batch it writes into a bounded ring in memory;
//! a reader that asks for something the ring does not hold reads the WAL files. Without a reader nothing is copied.
//!
//! Invariants: no batch above the published sequence is handed out, and every batch starts exactly where the previous one
//! ended. What cannot be continued like that is [`FeedRead::Gone`], never a gap.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rocksdb::{DBWALIterator, ErrorKind};

use crate::{Error, Store, batch};

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

/// Answer of [`FeedReader::read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedRead {
    /// At least one batch; the first starts at the requested sequence, each other where its predecessor ends.
    Batches(Vec<FeedBatch>),
    /// Everything published was handed out.
    UpToDate,
    /// The WAL does not hold the requested sequence any more, or no batch starts there: full synchronisation.
    Gone,
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

/// How often a reader yields to a writer that published another's batch before that one reached the ring.
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

    fn read(&self, next: u64, published: u64, max_bytes: usize) -> Option<Vec<FeedBatch>> {
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

    fn holds_start(&self, sequence: u64) -> bool {
        self.held.lock().batches.binary_search_by_key(&sequence, |held| held.sequence).is_ok()
    }

    fn leave(&self) {
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

/// A consumer of the feed. One reader follows one replica.
pub struct FeedReader {
    /// Before `store`: the iterator must be gone before the database can close.
    wal: Option<WalCursor>,
    store: Store,
}

/// An open WAL iterator and the sequence it delivers next.
struct WalCursor {
    iterator: SendIterator,
    next: u64,
}

struct SendIterator(DBWALIterator);

// SAFETY: RocksDB's WAL iterator keeps no thread-local state and is owned by exactly one `FeedReader`, which moves as a
// whole; nothing shares it between threads (it is not `Sync`). The reader's `Store` keeps the database open longer.
#[expect(unsafe_code, reason = "the wrapper leaves Send out for its raw pointer only")]
unsafe impl Send for SendIterator {}

impl FeedReader {
    pub(crate) fn new(store: Store) -> Self {
        store.inner().ring.readers.fetch_add(1, Ordering::AcqRel);
        Self { wal: None, store }
    }

    /// Published batches from sequence `next` on, about `max_bytes` of them but at least one. May read files: not for an
    /// event loop.
    ///
    /// # Errors
    /// I/O errors.
    pub fn read(&mut self, next: u64, max_bytes: usize) -> Result<FeedRead, Error> {
        let published = self.store.published();
        if next == 0 || next > self.store.latest_sequence() + 1 {
            return Ok(FeedRead::Gone);
        }
        if next > published {
            return Ok(FeedRead::UpToDate);
        }
        if let Some(batches) = self.store.inner().ring.read(next, published, max_bytes) {
            self.wal = None;
            return Ok(FeedRead::Batches(batches));
        }
        let batches = self.read_wal(next, published, max_bytes)?;
        Ok(if batches.is_empty() { FeedRead::Gone } else { FeedRead::Batches(batches) })
    }

    fn read_wal(
        &mut self,
        mut next: u64,
        published: u64,
        max_bytes: usize,
    ) -> Result<Vec<FeedBatch>, Error> {
        let (mut batches, mut bytes) = (Vec::new(), 0);
        let mut is_reopened = false;
        while next <= published && (batches.is_empty() || bytes < max_bytes) {
            let mut cursor = match self.wal.take() {
                Some(cursor) if cursor.next == next => cursor,
                _ if is_reopened => break,
                _ => {
                    is_reopened = true;
                    match WalCursor::open(&self.store, next)? {
                        Some(cursor) => cursor,
                        None => break,
                    }
                }
            };
            // The end of an iterator is not the end of the WAL: a new one sees newer files.
            let Some(batch) = cursor.next()? else { continue };
            if batch.sequence != next || batch.end() > published + 1 {
                break;
            }
            next = batch.end();
            bytes += batch.data.len();
            batches.push(batch);
            cursor.next = next;
            self.wal = Some(cursor);
        }
        Ok(batches)
    }
}

impl Drop for FeedReader {
    fn drop(&mut self) {
        self.store.inner().ring.leave();
    }
}

impl WalCursor {
    /// `None` if the WAL has nothing there.
    fn open(store: &Store, next: u64) -> Result<Option<Self>, Error> {
        // The wrapper skips batches that start at or below the given sequence.
        match store.db().get_updates_since(next.saturating_sub(1)) {
            Ok(iterator) => Ok(Some(Self { iterator: SendIterator(iterator), next })),
            Err(error) => Self::end(error),
        }
    }

    fn next(&mut self) -> Result<Option<FeedBatch>, Error> {
        loop {
            let (sequence, written) = match self.iterator.0.next() {
                Some(Ok(next)) => next,
                Some(Err(error)) => return Self::end(error),
                None => {
                    return self.iterator.0.status().map_or_else(Self::end, |()| Ok(None));
                }
            };
            let (_, count) = batch::header(written.data())?;
            // RocksDB starts a log file after recovery with a batch without records.
            if count > 0 {
                return Ok(Some(FeedBatch { sequence, count, data: written.data().into() }));
            }
        }
    }

    /// Errors that only say "not here (any more)" end the iterator; failures of the disk are failures.
    fn end<T>(error: rocksdb::Error) -> Result<Option<T>, Error> {
        match error.kind() {
            ErrorKind::TryAgain | ErrorKind::NotFound | ErrorKind::Corruption => Ok(None),
            // Gaps are reported as corruption; a WAL file that was purged meanwhile is missing.
            ErrorKind::IOError if error.as_ref().contains("No such file") => Ok(None),
            _ => Err(Error::engine("read the log", error)),
        }
    }
}

/// Whether a replica may continue at `sequence` as Kvrocks decides it: it is the next one to be written, or
/// a batch starts exactly there.
///
/// # Errors
/// I/O errors.
pub fn starts_batch(store: &Store, sequence: u64) -> Result<bool, Error> {
    let latest = store.latest_sequence();
    if sequence == 0 || sequence > latest + 1 {
        return Ok(false);
    }
    if sequence == latest + 1 || store.inner().ring.holds_start(sequence) {
        return Ok(true);
    }
    // What is not published may not be in the files yet.
    store.publish()?;
    match WalCursor::open(store, sequence)? {
        Some(mut cursor) => Ok(cursor.next()?.is_some_and(|batch| batch.sequence == sequence)),
        None => Ok(false),
    }
}
