//! The replication feed: published batches in order of their sequence numbers, with the bytes the
//! WAL holds.
//!
//! While at least one [`FeedReader`] exists, [`crate::Store`] copies every batch it writes into a
//! bounded ring in memory; a reader that asks for something the ring does not hold reads the WAL
//! files. Without a reader nothing is copied.
//!
//! Invariants: no batch above the published sequence is handed out, and every batch starts exactly
//! where the previous one ended. What cannot be continued like that is [`FeedRead::Gone`], never a
//! gap.

use rocksdb::{DBWALIterator, ErrorKind};

use crate::{Error, Store, batch};

pub(crate) mod ring;

pub use ring::FeedBatch;

/// Answer of [`FeedReader::read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedRead {
    /// At least one batch; the first starts at the requested sequence, each other where its
    /// predecessor ends.
    Batches(Vec<FeedBatch>),
    /// Everything published was handed out.
    UpToDate,
    /// The WAL does not hold the requested sequence any more, or no batch starts there: full
    /// synchronisation.
    Gone,
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

// SAFETY: RocksDB's WAL iterator keeps no thread-local state and is owned by exactly one
// `FeedReader`, which moves as a whole; nothing shares it between threads (it is not `Sync`). The
// reader's `Store` keeps the database open longer.
#[expect(unsafe_code, reason = "the wrapper leaves Send out for its raw pointer only")]
unsafe impl Send for SendIterator {}

impl Store {
    /// Registers a consumer of the feed. While there is one, published batches are kept in memory
    /// too.
    pub fn feed(&self) -> FeedReader {
        FeedReader::new(self.clone())
    }
}

impl FeedReader {
    fn new(store: Store) -> Self {
        store.inner().ring.enter();
        Self { wal: None, store }
    }

    /// Published batches from sequence `next` on, about `max_bytes` of them but at least one. May
    /// read files: not for an event loop.
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

    /// Errors that only say "not here (any more)" end the iterator; failures of the disk are
    /// failures.
    fn end<T>(error: rocksdb::Error) -> Result<Option<T>, Error> {
        match error.kind() {
            ErrorKind::TryAgain | ErrorKind::NotFound | ErrorKind::Corruption => Ok(None),
            // Gaps are reported as corruption; a WAL file that was purged meanwhile is missing.
            ErrorKind::IOError if error.as_ref().contains("No such file") => Ok(None),
            _ => Err(Error::engine("read the log", error)),
        }
    }
}

/// Whether a replica may continue at `sequence` as Kvrocks decides it: it is the next one to be
/// written, or a batch starts exactly there.
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
