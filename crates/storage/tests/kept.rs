//! What may still be discarded leaves no trace, and what may be needed is not thrown away (rules
//! R12 and R13).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::{Duration, Instant};

use replication::history::EpochId;
use storage::key::{DEFAULT_NAMESPACE, prefix_end};
use storage::rewind::{self, Failure, Intent};
use storage::types::head::Metadata;
use storage::types::kind::Type;
use storage::{Direction, Family, Options, Read, Scope, Store};

const FIELDS: u8 = 50;

fn options() -> Options {
    Options { block_cache_size: 8 << 20, ..Options::default() }
}

fn open(dir: &Path) -> Store {
    Store::open(dir, options()).unwrap()
}

fn scope() -> Scope<'static> {
    Scope { namespace: DEFAULT_NAMESPACE, cluster: false, now_ms: 0 }
}

fn add_hash(store: &Store, key: &str) -> u64 {
    let mut txn = store.txn();
    let mut metadata = Metadata::new(Type::Hash, 7);
    metadata.size = u64::from(FIELDS);
    txn.put(Family::Metadata, &scope().ns_key(key.as_bytes()), &metadata.encode());
    for field in 0..FIELDS {
        txn.put(Family::Default, &scope().sub_key(key.as_bytes(), 7, &[field]), b"v");
    }
    txn.commit().unwrap().unwrap()
}

fn delete(store: &Store, key: &str) -> u64 {
    let mut txn = store.txn();
    txn.delete(Family::Metadata, &scope().ns_key(key.as_bytes()));
    let sequence = txn.commit().unwrap().unwrap();
    store.publish().unwrap();
    sequence
}

fn fields(store: &Store, key: &str) -> usize {
    let prefix = scope().sub_key_prefix(key.as_bytes(), 7);
    let end = prefix_end(&prefix);
    let mut cursor = store.scan(Family::Default, &prefix, &end, Direction::Forward).unwrap();
    let mut count = 0;
    while cursor.next().unwrap().is_some() {
        count += 1;
    }
    count
}

/// Compacts the fields of a key, which lie in no memtable, so that nothing is flushed.
fn compact_fields(store: &Store, key: &str) {
    let prefix = scope().sub_key_prefix(key.as_bytes(), 7);
    store.compact(&prefix, &prefix_end(&prefix)).unwrap();
}

fn all_fields() -> usize {
    usize::from(FIELDS)
}

#[test]
fn a_discarded_delete_has_not_taken_its_fields_along() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.open_epoch(1, EpochId::from_random(1), 0).unwrap();
    add_hash(&store, "kept");
    store.flush().unwrap();
    delete(&store, "kept");
    compact_fields(&store, "kept");
    assert_eq!(fields(&store, "kept"), all_fields(), "nothing is known to stay yet");

    let dir = tempfile::tempdir().unwrap();
    let (db, discarded) = (dir.path().join("db"), dir.path().join("discarded"));
    let store = open(&db);
    store.open_epoch(1, EpochId::from_random(1), 0).unwrap();
    for key in ["kept", "gone"] {
        add_hash(&store, key);
    }
    let acknowledged = delete(&store, "gone");
    store.set_acknowledged(acknowledged);
    // The first call makes a snapshot, the second finds it acknowledged.
    store.tend().unwrap();
    store.tend().unwrap();
    assert_eq!(store.acknowledged(), Some(acknowledged));
    let fork = add_hash(&store, "newer");
    store.flush().unwrap();
    for key in ["kept", "newer"] {
        delete(&store, key);
    }
    for key in ["kept", "gone", "newer"] {
        compact_fields(&store, key);
    }
    assert_eq!(fields(&store, "gone"), 0, "dead in what stays");
    assert_eq!(fields(&store, "kept"), all_fields(), "alive in what stays");
    assert_eq!(fields(&store, "newer"), all_fields(), "not there yet in what stays");
    store.close().unwrap();
    let lost = rewind::run(&db, &discarded, &options(), intent(acknowledged - 1)).unwrap_err();
    assert!(
        matches!(lost, Failure::TooLate { .. }),
        "compactions looked at what was acknowledged: {lost}"
    );
    rewind::run(&db, &discarded, &options(), intent(fork)).unwrap();
    let store = open(&db);
    for key in ["kept", "newer"] {
        assert_eq!(fields(&store, key), all_fields(), "{key}");
        assert!(store.get(Family::Metadata, &scope().ns_key(key.as_bytes())).unwrap().is_some());
    }
}

fn intent(fork: u64) -> Intent {
    Intent { fork, at_ms: 0, epoch: None }
}

#[test]
fn without_epochs_compactions_see_what_is_there_now() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    add_hash(&store, "h");
    store.flush().unwrap();
    delete(&store, "h");
    compact_fields(&store, "h");
    assert_eq!(fields(&store, "h"), 0);
}

/// A snapshot alone does not keep it from filters: a read that waits for a thread would find less
/// than there was.
#[test]
fn what_is_read_at_an_earlier_moment_is_not_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    add_hash(&store, "h");
    store.flush().unwrap();
    let moments = [store.txn().moment(), store.txn().moment()];
    delete(&store, "h");
    compact_fields(&store, "h");
    for moment in moments {
        compact_fields(&store, "h");
        let txn = moment.txn();
        let prefix = scope().sub_key_prefix(b"h", 7);
        let end = prefix_end(&prefix);
        let mut cursor = txn.scan(Family::Default, &prefix, &end, Direction::Forward).unwrap();
        let mut count = 0;
        while cursor.next().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, all_fields());
    }
    compact_fields(&store, "h");
    assert_eq!(fields(&store, "h"), 0, "nobody reads it any more");
}

/// A log that fills several memtables, written under larger ones: what an ordinary replay would put
/// into tables.
#[test]
fn a_held_tail_survives_a_restart_in_the_log() {
    let small = Options { write_buffer_size: 64 << 10, ..options() };
    for hold_tail in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (db, discarded) = (dir.path().join("db"), dir.path().join("discarded"));
        let store = open(&db);
        store.open_epoch(1, EpochId::from_random(1), 0).unwrap();
        let mut fork = 0;
        for index in 0..200 {
            let last = add_hash(&store, &format!("key {index}"));
            fork = if index == 100 { last } else { fork };
        }
        store.close().unwrap();
        let restarted = Store::open(&db, Options { hold_tail, ..small.clone() }).unwrap();
        restarted.close().unwrap();
        let rewound = rewind::run(&db, &discarded, &small, intent(fork));
        assert_eq!(rewound.is_ok(), hold_tail, "{rewound:?}");
        if !hold_tail {
            assert!(matches!(rewound, Err(Failure::TooLate { .. })), "{rewound:?}");
            continue;
        }
        let store = Store::open(&db, Options { hold_tail, ..small.clone() }).unwrap();
        let tables = |store: &Store| -> u64 {
            store.stats().unwrap().families.iter().map(|family| family.table_bytes).sum()
        };
        let before = tables(&store);
        for index in 0..100 {
            add_hash(&store, &format!("more {index}"));
        }
        assert_eq!(tables(&store), before, "it is held");
        store.settle().unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        let mut index = 0;
        while tables(&store) == before {
            assert!(Instant::now() < end, "nothing is flushed");
            add_hash(&store, &format!("yet more {index}"));
            index += 1;
        }
    }
}

/// Bytes of the disk that the newest log file has, whatever its length.
fn reserved(db: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let files = std::fs::read_dir(db).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.max().unwrap().metadata().unwrap().blocks() * 512
}

/// It would reserve several times all of the log: a small disk is full by that alone, and stays
/// full when the process dies of it.
#[test]
fn the_log_of_a_held_database_reserves_no_more_than_another() {
    const RESERVED: std::ops::Range<u64> = (1 << 20)..(3 << 20);
    let small = Options { write_buffer_size: 1 << 20, ..options() };
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), small.clone()).unwrap();
    store.open_epoch(1, EpochId::from_random(1), 0).unwrap();
    store.publish().unwrap();
    assert!(RESERVED.contains(&reserved(dir.path())), "{}", reserved(dir.path()));
    store.close().unwrap();

    let store = Store::open(dir.path(), Options { hold_tail: true, ..small }).unwrap();
    add_hash(&store, "h");
    store.publish().unwrap();
    assert!(RESERVED.contains(&reserved(dir.path())), "{}", reserved(dir.path()));
    // What a held log may grow to is the configured size, so that it is still in no table here.
    for index in 0..1_000 {
        add_hash(&store, &format!("key {index}"));
    }
    let stats = store.stats().unwrap();
    assert_eq!(stats.families.iter().map(|family| family.table_bytes).sum::<u64>(), 0);
}

#[test]
fn log_files_stay_until_they_are_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let at_once = Options { wal_ttl_seconds: 0, wal_size_limit_mb: 0, ..options() };
    let store = Store::open(dir.path(), at_once).unwrap();
    let archived = || {
        let archive = std::fs::read_dir(dir.path().join("archive"));
        archive.map_or(0, |files| files.count())
    };
    store.open_epoch(1, EpochId::from_random(1), 0).unwrap();
    let mut ends = Vec::new();
    for index in 0..3 {
        ends.push(add_hash(&store, &format!("key {index}")));
        store.flush().unwrap();
    }
    let end = Instant::now() + Duration::from_secs(30);
    while archived() < 3 {
        assert!(Instant::now() < end, "{} files in the archive", archived());
        add_hash(&store, "another");
        store.flush().unwrap();
    }
    let count = archived();
    store.set_acknowledged(ends[0] - 1);
    assert_eq!(store.purge_logs().unwrap(), 0);
    store.set_acknowledged(ends[0]);
    assert_eq!(store.purge_logs().unwrap(), 1);
    assert_eq!(archived(), count - 1);
    // Somebody copies what was there then, and goes on behind it.
    store.set_acknowledged(store.latest_sequence());
    assert_eq!(store.purge_logs_before(ends[0] + 1).unwrap(), 0);
    // A replica is told nothing, and keeps what its age and size say.
    store.forget_acknowledged();
    assert!(store.purge_logs().unwrap() > 0);
    assert_eq!(store.acknowledged(), None);
    // Where no epoch was ever opened, age and size alone decide.
    let plain = tempfile::tempdir().unwrap();
    let hour = Options { wal_ttl_seconds: 3600, ..options() };
    let store = Store::open(plain.path(), hour).unwrap();
    add_hash(&store, "key");
    store.flush().unwrap();
    assert_eq!(store.purge_logs().unwrap(), 0);
}
