//! What the engine is opened with, by the configuration.

use storage::Options;

use super::Values;
use super::value::{CacheType, Compression, HashForm};

const MIB: u64 = 1 << 20;

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn mib(count: u32) -> u64 {
    u64::from(count) * MIB
}

fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// What a process that starts opens the engine with: what a deposed master has to discard must
/// still be in the log when it learns of it.
pub(crate) fn starting_options(values: &Values) -> Options {
    Options { hold_tail: true, ..storage_options(values) }
}

/// What the engine is opened with.
pub fn storage_options(values: &Values) -> Options {
    let parts = values.parts();
    Options {
        cluster: values.cluster_enabled,
        sync_writes: values.syncs_writes(),
        batch_bytes_max: size(parts.batch),
        times_hashes: values.hash_encoding_mode == HashForm::FieldExpiration,
        removes_ended: values.notify_keyspace_events.minds_ends(),
        block_cache_size: size(parts.block_cache),
        hot_bytes: size(parts.values),
        memtable_bytes: size(parts.memtables),
        feed_ring_bytes: size(parts.feed),
        hyper_clock_cache: values.rocksdb_block_cache_type == CacheType::Hcc,
        cache_index_and_filter_blocks: values.rocksdb_cache_index_and_filter_blocks,
        partition_filters: values.rocksdb_partition_filters,
        block_size: size(u64::from(values.rocksdb_block_size)),
        compression: match values.rocksdb_compression {
            Compression::No => storage::Compression::None,
            Compression::Snappy => storage::Compression::Snappy,
            Compression::Zlib => storage::Compression::Zlib,
            Compression::Lz4 => storage::Compression::Lz4,
            Compression::Zstd => storage::Compression::Zstd,
        },
        compression_level: values.rocksdb_compression_level,
        compression_start_level: size(u64::from(values.rocksdb_compression_start_level)),
        max_open_files: values.rocksdb_max_open_files,
        write_buffer_size: size(parts.write_buffer),
        max_write_buffer_number: int(values.rocksdb_max_write_buffer_number),
        min_write_buffer_number_to_merge: int(values.rocksdb_min_write_buffer_number_to_merge),
        wal_ttl_seconds: u64::from(values.rocksdb_wal_ttl_seconds),
        wal_size_limit_mb: u64::from(values.rocksdb_wal_size_limit_mb),
        max_total_wal_size: parts.log,
        stats_dump_period_sec: values.rocksdb_stats_dump_period_sec,
        dump_malloc_stats: values.rocksdb_dump_malloc_stats,
        avoid_unnecessary_blocking_io: values.rocksdb_avoid_unnecessary_blocking_io,
        ..background(values)
    }
}

/// Of these, what is done in the background, and the files that come of it.
fn background(values: &Values) -> Options {
    let blob_age = values.rocksdb_blob_garbage_collection_age_cutoff;
    Options {
        target_file_size_base: mib(values.rocksdb_target_file_size_base),
        max_bytes_for_level_base: values.rocksdb_max_bytes_for_level_base.0,
        max_bytes_for_level_multiplier: f64::from(values.rocksdb_max_bytes_for_level_multiplier),
        level_compaction_dynamic_level_bytes: values.rocksdb_level_compaction_dynamic_level_bytes,
        level0_file_num_compaction_trigger: int(values.rocksdb_level0_file_num_compaction_trigger),
        level0_slowdown_writes_trigger: int(values.rocksdb_level0_slowdown_writes_trigger),
        level0_stop_writes_trigger: int(values.rocksdb_level0_stop_writes_trigger),
        max_background_jobs: int(values.rocksdb_max_background_jobs),
        max_subcompactions: values.rocksdb_max_subcompactions,
        disable_auto_compactions: values.rocksdb_disable_auto_compactions,
        delayed_write_rate: values.rocksdb_delayed_write_rate.unsigned_abs(),
        compaction_readahead_size: size(values.parts().readahead),
        max_compaction_bytes: values.rocksdb_max_compaction_bytes.unsigned_abs(),
        periodic_compaction_seconds: values.rocksdb_periodic_compaction_seconds,
        ttl: values.rocksdb_ttl,
        rate_limit: mib(values.max_io_mb),
        rate_limiter_auto_tuned: values.rocksdb_rate_limiter_auto_tuned,
        enable_blob_files: values.rocksdb_enable_blob_files,
        min_blob_size: u64::from(values.rocksdb_min_blob_size),
        blob_file_size: u64::from(values.rocksdb_blob_file_size),
        enable_blob_garbage_collection: values.rocksdb_enable_blob_garbage_collection,
        blob_garbage_collection_age_cutoff: u8::try_from(blob_age).unwrap_or(100),
        ..Options::default()
    }
}

#[cfg(test)]
mod tests;
