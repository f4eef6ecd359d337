//! Turns [`Options`] into RocksDB's options.
//!
//! Decisions that are not Kvrocks' defaults, and why:
//! * `manual_wal_flush`: many commands share one `write()` system call, see
//!   [`crate::Store::publish`].
//! * `avoid_flush_during_recovery`, `avoid_flush_during_shutdown`: the tail of the history stays in
//!   the WAL across restarts, where a deposed master can still cut it off; in tables it could not.
//! * `allow_concurrent_memtable_write = false`: there is one writer at a time, see `Store::append`.
//! * Point-in-time WAL recovery and checksums are RocksDB's defaults and stay.

use std::path::Path;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType,
    DataBlockIndexType,
};

use crate::filters::{FilterKind, Filters};
use crate::{Compression, Error, Family, Options, memtable};

/// Data blocks of the tables are read by this many bits per key of Bloom filter.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// Index and filter partitions, bytes.
const METADATA_BLOCK_SIZE: usize = 4096;
/// Memtable Bloom filter as a share of the write buffer.
const MEMTABLE_BLOOM_RATIO: f64 = 0.1;
/// Share of deletions in a table that marks it for compaction.
const DELETION_RATIO: f64 = 0.3;
/// No archived log file gets so old.
const FOR_EVER_SECONDS: u64 = 1 << 40;
/// A record takes at most so many times its bytes in the log when it is replayed into a memtable.
const MEMTABLE_FACTOR: u64 = 6;
/// Levels of every family.
const LEVELS: usize = 7;

/// The block cache shared by all families.
pub(crate) fn cache(options: &Options) -> Cache {
    if options.hyper_clock_cache {
        // 0: RocksDB estimates the charge of an entry itself.
        Cache::new_hyper_clock_cache(options.block_cache_size, 0)
    } else {
        Cache::new_lru_cache(options.block_cache_size)
    }
}

/// Options of the database as a whole.
pub(crate) fn database(options: &Options) -> rocksdb::Options {
    let mut db = rocksdb::Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    db.set_manual_wal_flush(true);
    db.set_avoid_flush_during_recovery(true);
    db.set_avoid_flush_during_shutdown(true);
    db.set_allow_concurrent_memtable_write(false);
    db.set_max_open_files(options.max_open_files);
    db.set_max_background_jobs(options.max_background_jobs);
    db.set_max_subcompactions(options.max_subcompactions);
    db.set_max_total_wal_size(options.max_total_wal_size);
    // RocksDB purges nothing by itself: `Store::purge_logs` does, and knows what must stay.
    db.set_wal_ttl_seconds(FOR_EVER_SECONDS);
    db.set_wal_size_limit_mb(0);
    db.set_delayed_write_rate(options.delayed_write_rate);
    db.set_compaction_readahead_size(options.compaction_readahead_size);
    db.set_stats_dump_period_sec(options.stats_dump_period_sec);
    db.set_dump_malloc_stats(options.dump_malloc_stats);
    db.set_avoid_unnecessary_blocking_io(options.avoid_unnecessary_blocking_io);
    db.set_max_manifest_file_size(64 << 20);
    db.set_max_log_file_size(256 << 20);
    db.set_keep_log_file_num(12);
    db.set_bytes_per_sync(1 << 20);
    if options.compress_wal {
        db.set_wal_compression_type(DBCompressionType::Zstd);
    }
    if let Ok(rate @ 1..) = i64::try_from(options.rate_limit) {
        match options.rate_limiter_auto_tuned {
            true => db.set_auto_tuned_ratelimiter(rate, 100_000, 10),
            false => db.set_ratelimiter(rate, 100_000, 10),
        }
    }
    db
}

/// The filter of a memtable is allocated as a whole: no more for a large memtable than for a usual
/// one.
fn bloom_ratio(options: &Options) -> f64 {
    const USUAL_BYTES: f64 = (256 << 20) as f64;
    MEMTABLE_BLOOM_RATIO * (USUAL_BYTES / options.write_buffer_size.max(1) as f64).min(1.0)
}

/// Options under which the whole live log is replayed without filling a memtable: RocksDB would
/// flush all of them at the end of the replay, and what is in tables cannot be rewound (rule R12).
///
/// The first log file of the process would reserve as much of the disk as such a memtable is large,
/// more than all the data of a small one. `max_total_wal_size` bounds what is reserved, so that it
/// is a usual memtable's until the database is open; [`hold_logs`] puts it right then.
pub(crate) fn holding(options: &Options, dir: &Path) -> Options {
    let needed = log_bytes(dir).saturating_mul(MEMTABLE_FACTOR).saturating_add(64 << 20);
    let needed = usize::try_from(needed).unwrap_or(usize::MAX);
    let usual = (options.write_buffer_size / 10).saturating_add(options.write_buffer_size).max(1);
    let usual = u64::try_from(usual).unwrap_or(u64::MAX);
    Options {
        disable_auto_compactions: true,
        write_buffer_size: options.write_buffer_size.max(needed),
        max_total_wal_size: match options.max_total_wal_size {
            0 => usual,
            size => size.min(usual),
        },
        ..options.clone()
    }
}

/// So much may be written to a database that was just opened with [`holding`] as the configuration
/// says, on top of what its log has already, before RocksDB flushes to be able to let a log file
/// go.
pub(crate) fn hold_logs(db: &DB, options: &Options, dir: &Path) -> Result<(), Error> {
    let size = match options.max_total_wal_size {
        0 => 0,
        size => size.saturating_add(log_bytes(dir)),
    };
    set_log_size(db, size)
}

/// Live WAL bytes that force a flush from now on.
pub(crate) fn set_log_size(db: &DB, bytes: u64) -> Result<(), Error> {
    db.set_db_options(&[("max_total_wal_size", &bytes.to_string())])
        .map_err(|error| Error::engine("set the size of the log", error))
}

/// Bytes of the live log files.
fn log_bytes(dir: &Path) -> u64 {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .map_while(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"))
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// All families of the database folder `dir`, or of a new one there, with their options.
pub(crate) fn descriptors(
    database: &rocksdb::Options,
    dir: &Path,
    options: &Options,
    cache: &Cache,
    filters: &Filters,
) -> Result<Vec<ColumnFamilyDescriptor>, Error> {
    let mut names: Vec<String> = Family::FIRST.iter().map(|f| f.name().to_owned()).collect();
    if dir.join("CURRENT").exists() {
        // One that was made late must be opened too, and those of later versions, though nothing
        // here touches these.
        let on_disk = DB::list_cf(database, dir)
            .map_err(|error| Error::engine("list column families", error))?;
        names.extend(on_disk.into_iter().filter(|n| Family::FIRST.iter().all(|f| f.name() != n)));
    }
    let with_options = |name: String| {
        let known = Family::ALL.into_iter().find(|f| f.name() == name);
        let cf = family(known.unwrap_or(Family::Search), options, cache, filters);
        ColumnFamilyDescriptor::new(name, cf)
    };
    Ok(names.into_iter().map(with_options).collect())
}

/// Options of one family.
pub(crate) fn family(
    family: Family,
    options: &Options,
    cache: &Cache,
    filters: &Filters,
) -> rocksdb::Options {
    let mut cf = rocksdb::Options::default();
    levels(&mut cf, options);
    memtable::use_tree(&mut cf);
    cf.set_block_based_table_factory(&table(options, cache));
    if matches!(family, Family::Metadata | Family::Default) {
        // Most of what is asked for is in another memtable, in a table, or nowhere.
        cf.set_memtable_whole_key_filtering(true);
        cf.set_memtable_prefix_bloom_ratio(bloom_ratio(options));
    }
    match family {
        Family::Metadata => {
            cf.add_compact_on_deletion_collector_factory(0, 0, DELETION_RATIO);
            cf.set_compaction_filter_factory(filters.factory(FilterKind::Metadata));
        }
        Family::Default | Family::ZsetScore | Family::Stream => {
            cf.add_compact_on_deletion_collector_factory(0, 0, DELETION_RATIO);
            cf.set_compaction_filter_factory(filters.factory(FilterKind::SubKey(family)));
        }
        Family::Pubsub => cf.set_compaction_filter_factory(filters.factory(FilterKind::All)),
        Family::Propagate => {
            cf.set_compaction_filter_factory(filters.factory(FilterKind::Propagate));
        }
        Family::Search => {}
        Family::Index => cf.set_compaction_filter_factory(filters.factory(FilterKind::Index)),
    }
    cf
}

fn levels(cf: &mut rocksdb::Options, options: &Options) {
    cf.set_num_levels(LEVELS as i32);
    cf.set_write_buffer_size(options.write_buffer_size);
    cf.set_max_write_buffer_number(options.max_write_buffer_number);
    cf.set_min_write_buffer_number_to_merge(options.min_write_buffer_number_to_merge);
    cf.set_target_file_size_base(options.target_file_size_base);
    cf.set_max_bytes_for_level_base(options.max_bytes_for_level_base);
    cf.set_max_bytes_for_level_multiplier(options.max_bytes_for_level_multiplier);
    cf.set_level_compaction_dynamic_level_bytes(options.level_compaction_dynamic_level_bytes);
    cf.set_level_zero_file_num_compaction_trigger(options.level0_file_num_compaction_trigger);
    cf.set_level_zero_slowdown_writes_trigger(options.level0_slowdown_writes_trigger);
    cf.set_level_zero_stop_writes_trigger(options.level0_stop_writes_trigger);
    cf.set_disable_auto_compactions(options.disable_auto_compactions);
    cf.set_max_compaction_bytes(options.max_compaction_bytes);
    cf.set_periodic_compaction_seconds(options.periodic_compaction_seconds);
    cf.set_ttl(options.ttl);
    let algorithm = match options.compression {
        Compression::None => DBCompressionType::None,
        Compression::Snappy => DBCompressionType::Snappy,
        Compression::Zlib => DBCompressionType::Zlib,
        Compression::Lz4 => DBCompressionType::Lz4,
        Compression::Zstd => DBCompressionType::Zstd,
    };
    let mut per_level = [DBCompressionType::None; LEVELS];
    for level in per_level.iter_mut().skip(options.compression_start_level) {
        *level = algorithm;
    }
    cf.set_compression_per_level(&per_level);
    // -14 and 0 are RocksDB's defaults for the window and the strategy; no dictionary.
    cf.set_compression_options(-14, options.compression_level, 0, 0);
    if options.enable_blob_files {
        cf.set_enable_blob_files(true);
        cf.set_min_blob_size(options.min_blob_size);
        cf.set_blob_file_size(options.blob_file_size);
        cf.set_blob_compression_type(algorithm);
        cf.set_enable_blob_gc(options.enable_blob_garbage_collection);
        cf.set_blob_gc_age_cutoff(f64::from(options.blob_garbage_collection_age_cutoff) / 100.0);
    }
}

fn table(options: &Options, cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    // Kvrocks of the same age must be able to open the directory.
    table.set_format_version(5);
    table.set_block_size(options.block_size);
    table.set_block_cache(cache);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(options.partition_filters);
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    table.set_whole_key_filtering(true);
    table.set_optimize_filters_for_memory(true);
    table.set_metadata_block_size(METADATA_BLOCK_SIZE);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_data_block_hash_ratio(0.75);
    table.set_cache_index_and_filter_blocks(options.cache_index_and_filter_blocks);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_pin_top_level_index_and_filter(true);
    table
}
