//! What the options of the file become.

use std::collections::BTreeMap;
use std::path::Path;

use storage::Store;

use super::*;

/// What RocksDB runs with, as its own file and log in the database folder say.
struct Running {
    database: BTreeMap<String, String>,
    /// Of the family `metadata`.
    family: BTreeMap<String, String>,
    table: BTreeMap<String, String>,
    log: String,
}

fn pairs<'t>(lines: impl Iterator<Item = &'t str>) -> BTreeMap<String, String> {
    let pair = |line: &'t str| line.trim().split_once('=');
    lines.filter_map(pair).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn running(db: &Path) -> Running {
    let names = std::fs::read_dir(db).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    let newest = names.iter().rfind(|name| name.starts_with("OPTIONS-")).unwrap();
    let text = std::fs::read_to_string(db.join(newest)).unwrap();
    let section = |title: &str| {
        let lines = text.lines().skip_while(|line| !line.starts_with(title)).skip(1);
        pairs(lines.take_while(|line| !line.starts_with('[')))
    };
    Running {
        database: section("[DBOptions]"),
        family: section("[CFOptions \"metadata\"]"),
        table: section("[TableOptions/BlockBasedTable \"metadata\"]"),
        log: std::fs::read_to_string(db.join("LOG")).unwrap(),
    }
}

fn started(options: &[(&str, &str)]) -> (Running, tempfile::TempDir) {
    let mut values = crate::shell::small();
    for (name, value) in options {
        values.set(name, value).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    let store = Store::open(&db, storage_options(&values)).unwrap();
    let seen = running(&db);
    drop(store);
    (seen, folder)
}

/// Where an option arrives in RocksDB: its name there, and the value for the option's value.
#[derive(Clone, Copy)]
enum Where {
    Database(&'static str, &'static str),
    Family(&'static str, &'static str),
    Table(&'static str, &'static str),
}

#[test]
fn what_the_file_says_of_rocksdb_is_what_rocksdb_runs_with() {
    use Where::{Database, Family, Table};
    const LEVELS: &str = "kNoCompression:kLZ4Compression:kLZ4Compression:kLZ4Compression:\
        kLZ4Compression:kLZ4Compression:kLZ4Compression";
    let all: &[(&str, &str, Where)] = &[
        ("rocksdb.compression", "lz4", Family("compression_per_level", LEVELS)),
        ("rocksdb.compression_start_level", "1", Family("compression_per_level", LEVELS)),
        ("rocksdb.max_subcompactions", "7", Database("max_subcompactions", "7")),
        ("rocksdb.delayed_write_rate", "7654321", Database("delayed_write_rate", "7654321")),
        (
            "rocksdb.compaction_readahead_size",
            "1234567",
            Database("compaction_readahead_size", "1234567"),
        ),
        ("rocksdb.stats_dump_period_sec", "77", Database("stats_dump_period_sec", "77")),
        ("rocksdb.dump_malloc_stats", "no", Database("dump_malloc_stats", "false")),
        (
            "rocksdb.avoid_unnecessary_blocking_io",
            "no",
            Database("avoid_unnecessary_blocking_io", "false"),
        ),
        ("rocksdb.max_compaction_bytes", "123456789", Family("max_compaction_bytes", "123456789")),
        (
            "rocksdb.periodic_compaction_seconds",
            "86401",
            Family("periodic_compaction_seconds", "86401"),
        ),
        ("rocksdb.ttl", "86402", Family("ttl", "86402")),
        (
            "rocksdb.max_bytes_for_level_multiplier",
            "7",
            Family("max_bytes_for_level_multiplier", "7.000000"),
        ),
        ("rocksdb.enable_blob_files", "yes", Family("enable_blob_files", "true")),
        ("rocksdb.min_blob_size", "777", Family("min_blob_size", "777")),
        ("rocksdb.blob_file_size", "7777777", Family("blob_file_size", "7777777")),
        (
            "rocksdb.enable_blob_garbage_collection",
            "no",
            Family("enable_blob_garbage_collection", "false"),
        ),
        (
            "rocksdb.blob_garbage_collection_age_cutoff",
            "75",
            Family("blob_garbage_collection_age_cutoff", "0.750000"),
        ),
        (
            "rocksdb.cache_index_and_filter_blocks",
            "no",
            Table("cache_index_and_filter_blocks", "false"),
        ),
        ("rocksdb.partition_filters", "no", Table("partition_filters", "false")),
    ];
    let given: Vec<(&str, &str)> = all.iter().map(|(name, value, _)| (*name, *value)).collect();
    let (nothing, _) = started(&[]);
    // The other options of blob files say nothing without this one.
    const BLOBS: &str = "rocksdb.enable_blob_files";
    let (blobs, _) = started(&[(BLOBS, "yes")]);
    let (seen, _) = started(&given);
    for (option, _, place) in all {
        let plain = if *option == BLOBS { &nothing } else { &blobs };
        let (name, wanted, [before, after]) = match place {
            Database(name, wanted) => (name, wanted, [&plain.database, &seen.database]),
            Family(name, wanted) => (name, wanted, [&plain.family, &seen.family]),
            Table(name, wanted) => (name, wanted, [&plain.table, &seen.table]),
        };
        assert_eq!(after.get(*name).map(String::as_str), Some(*wanted), "{option}");
        assert_ne!(before.get(*name), after.get(*name), "{option} is so by default");
    }
}

#[test]
fn the_level_of_a_compression_and_the_kind_of_cache_reach_rocksdb() {
    let (seen, _) =
        started(&[("rocksdb.compression_level", "5"), ("rocksdb.block_cache_type", "hcc")]);
    let options = seen.family.get("compression_opts").unwrap();
    assert!(options.contains("level=5;"), "{options}");
    assert!(seen.log.contains("HyperClockCache"), "{}", seen.log);
    let (seen, _) = started(&[]);
    assert!(seen.log.contains("LRUCache") && !seen.log.contains("HyperClockCache"), "{}", seen.log);
}

/// The engine's defaults are RocksDB's where the file says nothing.
#[test]
fn defaults_of_the_file_are_the_engines() {
    let (of_file, engine) = (storage_options(&Values::default()), Options::default());
    let shown = |options: &Options| {
        // These are chosen by the machine, or are another default on purpose.
        let options = Options {
            block_cache_size: 0,
            hot_bytes: 0,
            write_buffer_size: 0,
            level_compaction_dynamic_level_bytes: true,
            ..options.clone()
        };
        format!("{options:#?}")
    };
    assert_eq!(shown(&of_file), shown(&engine));
}

/// With `durable-ack yes` an acknowledgement of a replica, or of a master alone, means the disk.
#[test]
fn durable_ack_makes_every_acknowledged_write_a_synced_one() {
    let syncs = |change: fn(&mut Values)| {
        let mut values = Values::default();
        change(&mut values);
        storage_options(&values).sync_writes
    };
    assert!(!syncs(|_| {}));
    assert!(syncs(|values| values.durable_ack = true));
    assert!(syncs(|values| values.rocksdb_write_options_sync = true));
}
