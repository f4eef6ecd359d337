//! What RocksDB has done since the database was opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rocksdb::event_listener::{CompactionJobInfo, EventListener, FlushJobInfo};
use rocksdb::statistics::{StatsLevel, Ticker};

/// Names of INFO, and the counters of RocksDB behind them.
const BLOCK_CACHE: [(&str, Ticker); 8] = [
    ("block_cache_hit", Ticker::BlockCacheHit),
    ("block_cache_index_hit", Ticker::BlockCacheIndexHit),
    ("block_cache_filter_hit", Ticker::BlockCacheFilterHit),
    ("block_cache_data_hit", Ticker::BlockCacheDataHit),
    ("block_cache_miss", Ticker::BlockCacheMiss),
    ("block_cache_index_miss", Ticker::BlockCacheIndexMiss),
    ("block_cache_filter_miss", Ticker::BlockCacheFilterMiss),
    ("block_cache_data_miss", Ticker::BlockCacheDataMiss),
];

/// Counts since the database was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records written.
    pub puts: u64,
    /// Keys looked up in RocksDB; what the memory in front of it answers is not among them.
    pub gets: u64,
    /// Iterators placed.
    pub seeks: u64,
    /// Steps of iterators.
    pub nexts: u64,
    /// Steps back.
    pub prevs: u64,
    /// Memtables written to tables.
    pub flushes: u64,
    /// Compactions that ended.
    pub compactions: u64,
    /// Look-ups in the block cache, in the order of [`Counters::block_cache`].
    pub cache: [u64; 8],
}

impl Counters {
    /// Look-ups in the block cache, by Kvrocks' names.
    pub fn block_cache(&self) -> impl Iterator<Item = (&'static str, u64)> {
        BLOCK_CACHE.iter().zip(self.cache).map(|((name, _), count)| (*name, count))
    }
}

/// Where the counters of one database are.
pub(crate) struct Meters {
    /// RocksDB's statistics hang on the options that the database was opened with.
    options: Mutex<rocksdb::Options>,
    jobs: Arc<Jobs>,
}

/// Counted by RocksDB's own threads.
#[derive(Debug, Default)]
struct Jobs {
    flushes: AtomicU64,
    compactions: AtomicU64,
}

struct Listener(Arc<Jobs>);

impl EventListener for Listener {
    fn on_flush_completed(&self, _: &FlushJobInfo) {
        self.0.flushes.fetch_add(1, Ordering::Relaxed);
    }

    fn on_compaction_completed(&self, _: &CompactionJobInfo) {
        self.0.compactions.fetch_add(1, Ordering::Relaxed);
    }
}

impl Meters {
    /// Has a database that is opened with these options counted. No times are measured: clocks cost
    /// more than counters.
    pub(crate) fn attach(options: &mut rocksdb::Options) -> Self {
        options.enable_statistics();
        options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
        let jobs = Arc::<Jobs>::default();
        options.add_event_listener(Listener(Arc::clone(&jobs)));
        Self { options: Mutex::new(options.clone()), jobs }
    }

    pub(super) fn read(&self) -> Counters {
        let options = self.options.lock();
        let count = |ticker| options.get_ticker_count(ticker);
        Counters {
            puts: count(Ticker::NumberKeysWritten),
            gets: count(Ticker::NumberKeysRead) + count(Ticker::NumberMultigetKeysRead),
            seeks: count(Ticker::NumberDbSeek),
            nexts: count(Ticker::NumberDbNext),
            prevs: count(Ticker::NumberDbPrev),
            flushes: self.jobs.flushes.load(Ordering::Relaxed),
            compactions: self.jobs.compactions.load(Ordering::Relaxed),
            cache: BLOCK_CACHE.map(|(_, ticker)| count(ticker)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Direction, Family, Options, Read as _, Store};

    #[test]
    fn what_was_done_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let store =
            Store::open(&dir.path().join("db"), Options { hot_bytes: 0, ..Options::default() })
                .unwrap();
        let before = store.counters();
        let mut txn = store.txn();
        for key in [b"a", b"b", b"c"] {
            txn.put(Family::Default, key, b"v");
        }
        txn.commit().unwrap();
        store.flush().unwrap();
        for key in [b"a", b"b"] {
            assert!(store.get(Family::Default, key).unwrap().is_some());
        }
        let mut cursor = store.scan(Family::Default, b"a", b"", Direction::Forward).unwrap();
        while cursor.next().unwrap().is_some() {}
        // An iterator counts its steps, and RocksDB learns of them when it ends.
        drop(cursor);
        let after = store.counters();
        assert_eq!((after.puts - before.puts, after.gets - before.gets), (3, 2));
        assert!(after.seeks > before.seeks && after.nexts > before.nexts, "{after:?}");
        assert!(after.flushes > before.flushes, "{after:?}");
        let looked_up: u64 = after.block_cache().map(|(_, count)| count).sum();
        assert!(looked_up > 0, "{after:?}");
        let stats = store.stats().unwrap();
        assert_eq!(stats.families[0].stalls.l0_stops, 0);
        assert!(stats.live_versions > 0 && stats.super_versions > 0, "{stats:?}");
    }
}
