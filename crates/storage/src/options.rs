//! What an administrator can tune: Kvrocks' `rocksdb.*` options under their names, with its
//! defaults.
//!
//! Sizes are bytes, times seconds, unless the name says otherwise. How they become RocksDB's
//! options is in `engine`.

/// Compression of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Stored as they are.
    #[default]
    None,
    /// Snappy.
    Snappy,
    /// zlib.
    Zlib,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// Options of [`crate::Store::open`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Keys carry their slot (`cluster-enabled yes`). A property of the data: see
    /// `Error::WrongMode`.
    pub cluster: bool,
    /// Fsync the WAL in each [`crate::Store::publish`] (`rocksdb.write_options.sync`), once for all
    /// commands it covers.
    pub sync_writes: bool,
    /// Bytes of one write batch; a larger one is refused. 0, and what is above it:
    /// `replication::BATCH_BYTES_MAX`.
    pub batch_bytes_max: usize,
    /// See [`crate::Store::times_hashes`].
    pub times_hashes: bool,
    /// See [`crate::Store::removes_ended`].
    pub removes_ended: bool,
    /// Fail instead of waiting while RocksDB throttles writes.
    pub no_slowdown: bool,
    /// Bytes of one block cache shared by all families (`metadata_block_cache_size` +
    /// `subkey_block_cache_size`).
    pub block_cache_size: usize,
    /// Bytes of metadata entries (so of whole small strings) kept in memory in front of RocksDB; 0
    /// for none.
    pub hot_bytes: usize,
    /// HyperClock instead of LRU (`block_cache_type hcc`).
    pub hyper_clock_cache: bool,
    /// Keep index and filter blocks in the block cache.
    pub cache_index_and_filter_blocks: bool,
    /// Filters in parts, of which those that are needed are read.
    pub partition_filters: bool,
    /// Bytes of an uncompressed data block.
    pub block_size: usize,
    /// Compression from `compression_start_level` on.
    pub compression: Compression,
    /// Level of the algorithm; 32767 is its default.
    pub compression_level: i32,
    /// First compressed level, 0..=6.
    pub compression_start_level: usize,
    /// Zstandard for WAL records.
    pub compress_wal: bool,
    /// Open table files; -1 for all.
    pub max_open_files: i32,
    /// Bytes of one memtable.
    pub write_buffer_size: usize,
    /// Bytes of all memtables together, about: with more, the oldest is flushed; 0 for no such
    /// bound.
    pub memtable_bytes: usize,
    /// Memtables of one family before writes stall.
    pub max_write_buffer_number: i32,
    /// Memtables merged into one flush.
    pub min_write_buffer_number_to_merge: i32,
    /// Bytes of a level-1 table file.
    pub target_file_size_base: u64,
    /// Bytes of level 1.
    pub max_bytes_for_level_base: u64,
    /// Growth from level to level.
    pub max_bytes_for_level_multiplier: f64,
    /// Level sizes follow the last level.
    pub level_compaction_dynamic_level_bytes: bool,
    /// Files in level 0 that start a compaction.
    pub level0_file_num_compaction_trigger: i32,
    /// Files in level 0 that slow writes down.
    pub level0_slowdown_writes_trigger: i32,
    /// Files in level 0 that stop writes.
    pub level0_stop_writes_trigger: i32,
    /// Threads for flush and compaction.
    pub max_background_jobs: i32,
    /// Threads of one compaction.
    pub max_subcompactions: u32,
    /// No automatic compaction.
    pub disable_auto_compactions: bool,
    /// Bytes per second while writes are slowed down; 0 leaves it to RocksDB.
    pub delayed_write_rate: u64,
    /// Bytes read ahead by compactions.
    pub compaction_readahead_size: usize,
    /// Bytes of one compaction, at most; 0 leaves it to RocksDB.
    pub max_compaction_bytes: u64,
    /// Table files older than that many seconds are compacted; 0: not. The largest number but one
    /// leaves it to RocksDB, here and with `ttl`.
    pub periodic_compaction_seconds: u64,
    /// Table files whose data is older than that many seconds are compacted down; 0: not.
    pub ttl: u64,
    /// Bytes per second for flush and compaction; 0 is unlimited (`max-io-mb`).
    pub rate_limit: u64,
    /// That many at most, and fewer while less is needed.
    pub rate_limiter_auto_tuned: bool,
    /// Archived WAL files are kept this long.
    pub wal_ttl_seconds: u64,
    /// Archived WAL files are kept up to this many MiB.
    pub wal_size_limit_mb: u64,
    /// Live WAL bytes that force a flush.
    pub max_total_wal_size: u64,
    /// Seconds between statistics in the info log; 0 for none.
    pub stats_dump_period_sec: u32,
    /// With them, those of the allocator.
    pub dump_malloc_stats: bool,
    /// Files that are no longer needed are removed by threads in the background.
    pub avoid_unnecessary_blocking_io: bool,
    /// Values of at least `min_blob_size` bytes live in blob files.
    pub enable_blob_files: bool,
    /// See `enable_blob_files`.
    pub min_blob_size: u64,
    /// Bytes of a blob file.
    pub blob_file_size: u64,
    /// Rewrite old blob files during compaction.
    pub enable_blob_garbage_collection: bool,
    /// Oldest share of blob files that is rewritten, percent.
    pub blob_garbage_collection_age_cutoff: u8,
    /// Keep all of the log out of the tables, and do not compact, until [`crate::Store::settle`]:
    /// what is in tables cannot be rewound.
    pub hold_tail: bool,
    /// Bytes of published batches kept in memory for replicas while at least one is attached.
    pub feed_ring_bytes: usize,
}

const MIB: usize = 1 << 20;
/// RocksDB chooses by the kind of table.
pub const LEFT_TO_ROCKSDB: u64 = u64::MAX - 1;

impl Default for Options {
    /// Kvrocks' defaults.
    fn default() -> Self {
        Self {
            cluster: false,
            sync_writes: false,
            batch_bytes_max: 0,
            times_hashes: false,
            removes_ended: false,
            no_slowdown: false,
            block_cache_size: 4096 * MIB,
            hot_bytes: 256 * MIB,
            hyper_clock_cache: false,
            cache_index_and_filter_blocks: true,
            partition_filters: true,
            block_size: 16_384,
            compression: Compression::None,
            compression_level: 32_767,
            compression_start_level: 2,
            compress_wal: false,
            max_open_files: 8096,
            write_buffer_size: 64 * MIB,
            memtable_bytes: 0,
            max_write_buffer_number: 4,
            min_write_buffer_number_to_merge: 2,
            target_file_size_base: 128 << 20,
            max_bytes_for_level_base: 256 << 20,
            max_bytes_for_level_multiplier: 10.0,
            level_compaction_dynamic_level_bytes: false,
            level0_file_num_compaction_trigger: 4,
            level0_slowdown_writes_trigger: 20,
            level0_stop_writes_trigger: 40,
            max_background_jobs: 4,
            max_subcompactions: 2,
            disable_auto_compactions: false,
            delayed_write_rate: 0,
            compaction_readahead_size: 2 * MIB,
            max_compaction_bytes: 0,
            periodic_compaction_seconds: LEFT_TO_ROCKSDB,
            ttl: LEFT_TO_ROCKSDB,
            rate_limit: 0,
            rate_limiter_auto_tuned: true,
            wal_ttl_seconds: 10_800,
            wal_size_limit_mb: 16_384,
            max_total_wal_size: 512 << 20,
            stats_dump_period_sec: 0,
            dump_malloc_stats: true,
            avoid_unnecessary_blocking_io: true,
            enable_blob_files: false,
            min_blob_size: 4096,
            blob_file_size: 256 << 20,
            enable_blob_garbage_collection: true,
            blob_garbage_collection_age_cutoff: 25,
            hold_tail: false,
            feed_ring_bytes: 64 * MIB,
        }
    }
}
