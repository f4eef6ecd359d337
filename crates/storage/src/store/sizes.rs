//! How much memory the parts of an open database take, and sizes that may change while it is open.
//!
//! While the log is held (rule R12) nothing may be flushed: memtables and log change once it is let
//! go.

use rocksdb::{DB, WriteBufferManager};

use crate::{Error, Options, Store, engine};

/// No bound of the memtables: more than any machine has, and RocksDB can take seven eighths of it.
const UNBOUNDED: usize = 1 << 50;

/// Sizes that [`Store::resize`] changes, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Block cache of all families.
    pub block_cache: usize,
    /// Metadata entries in front of RocksDB: no more than the database was opened with.
    pub hot: usize,
    /// All memtables together, about; 0 for no bound.
    pub memtables: usize,
    /// One memtable.
    pub write_buffer: usize,
    /// Published batches for replicas.
    pub feed: usize,
    /// Live log that forces a flush; 0 leaves it to RocksDB.
    pub log: u64,
}

/// What the parts of a database hold, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Block cache.
    pub block_cache: usize,
    /// Memtables, those that are being flushed or still read included.
    pub memtables: usize,
    /// Metadata entries in front of RocksDB, about.
    pub hot: usize,
    /// Published batches for replicas.
    pub feed: usize,
}

impl Options {
    /// Of these, what may change later.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            block_cache: self.block_cache_size,
            hot: self.hot_bytes,
            memtables: self.memtable_bytes,
            write_buffer: self.write_buffer_size,
            feed: self.feed_ring_bytes,
            log: self.max_total_wal_size,
        }
    }
}

/// Counts memtables, and bounds none yet: while a log is replayed and held, a flush would put out
/// of a rewind's reach what may have to be cut off (rule R12).
pub(super) fn count_memtables(database: &mut rocksdb::Options) -> WriteBufferManager {
    // It never stalls: memtables that a long read keeps would hold up all writes until its end.
    let manager = WriteBufferManager::new_write_buffer_manager(UNBOUNDED, false);
    database.set_write_buffer_manager(&manager);
    manager
}

/// Has memtables flushed above so many bytes; 0: none.
pub(super) fn bound_memtables(manager: &WriteBufferManager, bytes: usize) {
    manager.set_buffer_size(if bytes == 0 { UNBOUNDED } else { bytes.min(UNBOUNDED) });
}

impl Store {
    /// Changes sizes while the database is open. What is larger than its new size shrinks: caches
    /// at once, memtables by being flushed. A database that holds its log out of the tables
    /// ([`Options::hold_tail`]) takes up sizes of memtables and log once it is settled. May write
    /// small files.
    ///
    /// # Errors
    /// I/O errors. Then memtables and log keep the sizes they had.
    pub fn resize(&self, sizes: Sizes) -> Result<(), Error> {
        let inner = self.inner();
        let mut now = inner.sizes.lock();
        self.set_block_cache(sizes.block_cache);
        inner.hot.resize(sizes.hot);
        inner.ring.resize(sizes.feed);
        let before = std::mem::replace(&mut *now, sizes);
        if self.is_holding() {
            return Ok(());
        }
        bound_memtables(&inner.memtables, sizes.memtables);
        let mut changed = Ok(());
        if sizes.write_buffer != before.write_buffer {
            changed = self.set_memtables(sizes.write_buffer);
        }
        if sizes.log != before.log {
            changed = changed.and_then(|()| engine::set_log_size(self.db(), sizes.log));
        }
        if changed.is_err() {
            // To be tried again with the next change.
            (now.write_buffer, now.log) = (before.write_buffer, before.log);
        }
        changed
    }

    /// The sizes that it was given last; `None` while they change.
    pub fn sizes(&self) -> Option<Sizes> {
        self.inner().sizes.try_lock().map(|sizes| *sizes)
    }

    /// Sets the size of the block cache alone, which then shrinks at once.
    pub fn set_block_cache(&self, bytes: usize) {
        // A handle of the cache; all of them are the same one.
        let mut cache = self.inner().cache.clone();
        cache.set_capacity(bytes);
    }

    /// Bytes that the block cache may hold.
    pub fn block_cache_capacity(&self) -> usize {
        self.inner().cache.get_capacity()
    }

    /// What the parts hold. Cheap: no file is looked at.
    pub fn memory(&self) -> Memory {
        let inner = self.inner();
        Memory {
            block_cache: inner.cache.get_usage(),
            memtables: inner.memtables.get_usage(),
            hot: inner.hot.bytes(),
            feed: inner.ring.bytes(),
        }
    }

    /// Has memtables of so many bytes, and compactions as configured: a database that held its log
    /// has had none.
    pub(super) fn set_memtables(&self, bytes: usize) -> Result<(), Error> {
        let bytes = bytes.to_string();
        let is_off = self.inner().options.disable_auto_compactions;
        let is_off = if is_off { "true" } else { "false" };
        let options = [("write_buffer_size", bytes.as_str()), ("disable_auto_compactions", is_off)];
        self.set_families(&options)
    }

    /// Sets options of all families.
    fn set_families(&self, options: &[(&str, &str)]) -> Result<(), Error> {
        let db: &DB = self.db();
        self.families().try_for_each(|family| {
            db.set_options_cf(&self.cf(family)?, options)
                .map_err(|error| Error::engine("set options of a family", error))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{Family, Read as _};

    const MIB: usize = 1 << 20;

    fn small() -> Options {
        Options { block_cache_size: 8 * MIB, hot_bytes: MIB, ..Options::default() }
    }

    /// Writes `count` values of 64 KiB each.
    fn fill(store: &Store, count: usize) {
        for number in 0..count {
            let mut txn = store.txn();
            txn.put(Family::Default, format!("key{number:06}").as_bytes(), &[7; 64 << 10]);
            txn.commit().unwrap();
        }
        store.publish().unwrap();
    }

    fn tables(store: &Store) -> u64 {
        let stats = store.stats().unwrap();
        stats.families.iter().map(|of| of.table_bytes).sum()
    }

    /// A flush is another thread's work.
    #[track_caller]
    fn wait_for_tables(store: &Store) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while tables(store) == 0 {
            assert!(Instant::now() < deadline, "nothing was flushed: {:?}", store.memory());
            std::thread::yield_now();
        }
    }

    #[test]
    fn memtables_are_flushed_above_their_size_and_so_they_are_when_it_is_made_smaller() {
        let dir = tempfile::tempdir().unwrap();
        // One memtable would hold all of it.
        let options = Options { memtable_bytes: 4 * MIB, write_buffer_size: 64 * MIB, ..small() };
        let store = Store::open(dir.path(), options).unwrap();
        fill(&store, 200);
        wait_for_tables(&store);

        let other = tempfile::tempdir().unwrap();
        let options = Options { memtable_bytes: 0, write_buffer_size: 64 * MIB, ..small() };
        let store = Store::open(other.path(), options.clone()).unwrap();
        fill(&store, 200);
        assert_eq!(tables(&store), 0);
        assert!(store.memory().memtables > 12 * MIB, "{:?}", store.memory());
        let sizes = Sizes { memtables: 4 * MIB, write_buffer: MIB, ..options.sizes() };
        store.resize(sizes).unwrap();
        fill(&store, 100);
        wait_for_tables(&store);
    }

    /// What is held out of the tables stays so, whatever the size of memtables is.
    #[test]
    fn a_log_that_is_held_is_not_flushed_before_it_is_settled() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { memtable_bytes: 4 * MIB, hold_tail: true, ..small() };
        let store = Store::open(dir.path(), options.clone()).unwrap();
        fill(&store, 200);
        store.resize(Sizes { memtables: MIB, ..options.sizes() }).unwrap();
        fill(&store, 50);
        assert_eq!(tables(&store), 0);
        store.settle().unwrap();
        fill(&store, 50);
        wait_for_tables(&store);
    }

    #[test]
    fn caches_take_their_new_sizes_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), small()).unwrap();
        for number in 0..2_000 {
            let mut txn = store.txn();
            txn.put(Family::Metadata, format!("key{number}").as_bytes(), &[7; 200]);
            txn.commit().unwrap();
        }
        let full = store.memory().hot;
        assert!(full > 300 << 10, "{full}");
        let sizes = Sizes { hot: 128 << 10, block_cache: MIB, ..small().sizes() };
        store.resize(sizes).unwrap();
        assert_eq!((store.block_cache_capacity(), store.memory().hot), (MIB, 0));
        // It is in use again, within its new size, and what it says is true.
        for number in 0..2_000 {
            let found = store.get(Family::Metadata, format!("key{number}").as_bytes()).unwrap();
            assert_eq!(found.as_deref(), Some(&[7; 200][..]));
        }
        let some = store.memory().hot;
        assert!(some > 0 && some <= 128 << 10, "{some}");
    }

    #[test]
    fn batches_for_replicas_shrink_with_their_size() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), small()).unwrap();
        let _reader = store.feed();
        fill(&store, 32);
        assert!(store.memory().feed >= 2 * MIB);
        store.resize(Sizes { feed: MIB, ..small().sizes() }).unwrap();
        assert!(store.memory().feed <= MIB);
        fill(&store, 32);
        assert!(store.memory().feed <= MIB);
    }
}
