use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::Read;
use crate::key::DEFAULT_NAMESPACE;
use crate::types::fields::{Form, Times};
use crate::types::head::{Metadata, Prefix};
use crate::types::kind::Type;
use crate::{FeedRead, Scope, rewind, starts_batch};

fn options() -> Options {
    Options { block_cache_size: 8 << 20, write_buffer_size: 1 << 20, ..Options::default() }
}

fn open(dir: &Path) -> Store {
    Store::open(dir, options()).unwrap()
}

fn put(store: &Store, key: &str, value: &str) -> u64 {
    let mut txn = store.txn();
    txn.log(b"1");
    txn.put(Family::Metadata, key.as_bytes(), value.as_bytes());
    txn.commit().unwrap().unwrap()
}

fn get(store: &impl Read, key: &str) -> Option<String> {
    store
        .get(Family::Metadata, key.as_bytes())
        .unwrap()
        .map(|value| String::from_utf8_lossy(&value).into_owned())
}

fn batches(read: FeedRead) -> Vec<crate::FeedBatch> {
    match read {
        FeedRead::Batches(batches) => batches,
        other => panic!("{other:?}"),
    }
}

#[test]
fn families_have_the_ids_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for family in Family::ALL {
        let mut txn = store.txn();
        txn.put(family, b"k", family.name().as_bytes());
        txn.commit().unwrap();
        assert_eq!(
            store.db().get_cf(&store.cf(family).unwrap(), b"k").unwrap().as_deref(),
            Some(family.name().as_bytes())
        );
    }
}

#[test]
fn a_database_is_looked_into_without_being_changed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a", "1");
    let id = replication::history::EpochId::from_random(7);
    store.open_epoch(3, id, 0).unwrap();
    put(&store, "b", "2");
    store.publish().unwrap();
    let position = store.position();
    store.close().unwrap();
    for _ in 0..2 {
        assert_eq!(crate::peek(dir.path()).unwrap(), position);
    }
    assert_eq!(open(dir.path()).position(), position);
    assert!(crate::peek(&dir.path().join("absent")).is_err());
    assert!(!dir.path().join("absent").exists());
}

#[test]
fn nothing_is_written_without_records() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut txn = store.txn();
    txn.log(b"1");
    assert_eq!(txn.commit().unwrap(), None);
    assert_eq!(store.latest_sequence(), 0);
    assert_eq!(put(&store, "a", "1"), 1);
    assert_eq!(store.latest_sequence(), 1);
}

#[test]
fn an_isolated_transaction_sees_its_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for key in ["a", "b", "c", "d", "e"] {
        put(&store, key, "old");
    }
    let mut txn = store.txn();
    txn.put(Family::Metadata, b"b", b"new");
    txn.delete(Family::Metadata, b"a");
    txn.put(Family::Metadata, b"bb", b"new");
    txn.delete_range(Family::Metadata, b"c", b"e");
    txn.put(Family::Metadata, b"d", b"again");
    let all = |direction| {
        let mut cursor = txn.scan(Family::Metadata, b"", b"", direction).unwrap();
        let mut seen = Vec::new();
        while let Some((key, value)) = cursor.next().unwrap() {
            seen.push(format!("{}={}", key.escape_ascii(), value.escape_ascii()));
        }
        seen
    };
    let mut expected = vec!["b=new", "bb=new", "d=again", "e=old"];
    assert_eq!(all(Direction::Forward), expected);
    expected.reverse();
    assert_eq!(all(Direction::Reverse), expected);
    assert_eq!(get(&txn, "c"), None);
    assert_eq!(get(&txn, "a"), None);
    assert_eq!(get(&txn, "d").as_deref(), Some("again"));
    let many = txn.multi_get(Family::Metadata, &["a", "bb", "e"]).unwrap();
    let values: Vec<_> = many.iter().map(|value| value.as_deref()).collect();
    assert_eq!(values, [None, Some(&b"new"[..]), Some(b"old")]);
    drop(many);
    assert_eq!(get(&store, "a").as_deref(), Some("old"));
    txn.commit().unwrap();
    assert_eq!(get(&store, "a"), None);
    assert_eq!(get(&store, "c"), None);
    assert_eq!(get(&store, "d").as_deref(), Some("again"));
}

#[test]
fn scans_respect_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for key in ["a", "b", "c", "d"] {
        put(&store, key, "v");
    }
    for (direction, expected) in [(Direction::Forward, "bc"), (Direction::Reverse, "cb")] {
        let mut cursor = store.scan(Family::Metadata, b"b", b"d", direction).unwrap();
        let mut seen = Vec::new();
        while let Some((key, _)) = cursor.next().unwrap() {
            seen.extend_from_slice(key);
        }
        assert_eq!(seen, expected.as_bytes());
        assert!(cursor.next().unwrap().is_none());
    }
}

#[test]
fn publish_calls_back_once_per_advance() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let seen = Arc::new(AtomicU64::new(0));
    let hook = Arc::clone(&seen);
    store.on_publish(Box::new(move |sequence| {
        hook.fetch_add(sequence, Ordering::SeqCst);
    }));
    put(&store, "a", "1");
    put(&store, "b", "1");
    assert_eq!(store.published(), 0);
    assert_eq!(store.publish().unwrap(), 2);
    assert_eq!(store.publish().unwrap(), 2);
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[test]
fn the_feed_is_what_was_written_whatever_the_source() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "before", "1");
    let mut feed = store.feed();
    put(&store, "a", "1");
    assert_eq!(feed.read(1, 1 << 20).unwrap(), FeedRead::UpToDate);
    store.publish().unwrap();
    // The first is in the log only, the second in memory.
    let first = batches(feed.read(1, 1).unwrap());
    assert_eq!((first.len(), first[0].sequence, first[0].count), (1, 1, 1));
    let second = batches(feed.read(2, 1 << 20).unwrap());
    assert_eq!(second.len(), 1);
    drop(feed);
    let mut feed = store.feed();
    let both = batches(feed.read(1, 1 << 20).unwrap());
    assert_eq!(both, [first, second].concat());
    assert_eq!(feed.read(3, 1).unwrap(), FeedRead::UpToDate);
    assert_eq!(feed.read(4, 1).unwrap(), FeedRead::Gone);
    assert_eq!(feed.read(0, 1).unwrap(), FeedRead::Gone);
}

#[test]
fn a_straddled_start_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut txn = store.txn();
    for key in [b"a", b"b", b"c"] {
        txn.put(Family::Metadata, key, b"1");
    }
    txn.commit().unwrap();
    put(&store, "d", "1");
    store.publish().unwrap();
    let mut feed = store.feed();
    assert_eq!(feed.read(2, 1).unwrap(), FeedRead::Gone);
    assert_eq!(feed.read(3, 1).unwrap(), FeedRead::Gone);
    assert_eq!(batches(feed.read(4, 1).unwrap())[0].sequence, 4);
    let starts: Vec<bool> =
        (0..7).map(|sequence| starts_batch(&store, sequence).unwrap()).collect();
    assert_eq!(starts, [false, true, false, false, true, true, false]);
}

/// The bytes handed to replicas carry the sequence RocksDB assigned, and are record by record those
/// of the log, with concurrent writers too.
#[test]
fn many_keys_are_read_at_one_moment_from_memory_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // Too large to be kept in memory.
    let large = "x".repeat(5_000);
    let write = |number: u64| {
        let mut txn = store.txn();
        for key in ["a", "b", "c"] {
            txn.put(Family::Metadata, key.as_bytes(), number.to_string().as_bytes());
        }
        txn.put(Family::Metadata, b"large", format!("{number} {large}").as_bytes());
        txn.commit().unwrap();
    };
    write(0);
    let read = || {
        let found =
            Read::multi_get(&store, Family::Metadata, &["a", "none", "large", "b", "c", "a"])
                .unwrap();
        let texts: Vec<String> =
            found.iter().flatten().map(|value| String::from_utf8_lossy(value).into()).collect();
        assert!(found.len() == 6 && found[1].is_none() && texts.len() == 5);
        let numbers: Vec<u64> =
            texts.iter().map(|text| text.split(' ').next().unwrap().parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|two| two[0] == two[1]), "{numbers:?}");
        numbers[0]
    };
    assert_eq!(read(), 0);
    let has_ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let mut last = 0;
                while !has_ended.load(Ordering::Acquire) {
                    let found = read();
                    assert!(found >= last);
                    last = found;
                }
            });
        }
        (1..5_000).for_each(write);
        has_ended.store(true, Ordering::Release);
    });
    assert_eq!(read(), 4_999);
    // A range that goes takes along what is kept.
    let mut txn = store.txn();
    txn.delete_range(Family::Metadata, b"a", b"c");
    txn.commit().unwrap();
    let found = Read::multi_get(&store, Family::Metadata, &["a", "b", "c"]).unwrap();
    assert!(found[0].is_none() && found[1].is_none() && found[2].is_some());
}

#[test]
fn concurrent_writers_leave_one_batch_per_command() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut feed = store.feed();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let store = store.clone();
            std::thread::spawn(move || {
                for round in 0..500 {
                    let mut txn = store.txn();
                    txn.log(b"1");
                    txn.put(Family::Metadata, format!("{thread}:{round}").as_bytes(), b"v");
                    txn.put(Family::Default, format!("{thread}:{round}").as_bytes(), b"v");
                    txn.commit().unwrap();
                    if round % 10 == 0 {
                        store.publish().unwrap();
                    }
                }
            })
        })
        .collect();
    let mut live = Vec::new();
    let mut next = 1;
    while live.len() < 2000 {
        store.publish().unwrap();
        match feed.read(next, 10_000).unwrap() {
            FeedRead::Batches(batches) => {
                next = batches.last().unwrap().end();
                live.extend(batches);
            }
            FeedRead::UpToDate => std::thread::yield_now(),
            FeedRead::Gone => panic!("gone at {next}"),
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    drop(feed);
    let mut feed = store.feed();
    let mut logged = Vec::new();
    next = 1;
    while let FeedRead::Batches(batches) = feed.read(next, 5000).unwrap() {
        next = batches.last().unwrap().end();
        logged.extend(batches);
    }
    assert_eq!(logged.len(), 2000);
    assert_eq!(live, logged);
}

#[test]
fn a_replica_has_the_same_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (master, replica) = (open(one.path()), open(two.path()));
    let mut txn = master.txn();
    txn.put(Family::Metadata, b"a", b"1");
    txn.delete_range(Family::Stream, b"a", b"b");
    txn.log(b"only told");
    txn.commit().unwrap();
    put(&master, "b", "2");
    master.publish().unwrap();
    let sent = batches(master.feed().read(1, 1 << 20).unwrap());
    assert!(matches!(
        replica.write_raw(&sent[1].data),
        Err(Error::OutOfSequence { expected: 1, found: 3 })
    ));
    for batch in &sent {
        assert_eq!(replica.write_raw(&batch.data).unwrap(), batch.end() - 1);
    }
    assert!(matches!(
        replica.write_raw(&sent[1].data),
        Err(Error::OutOfSequence { expected: 4, found: 3 })
    ));
    let mut broken = sent[1].data.to_vec();
    broken[8] = 9;
    assert!(matches!(replica.write_raw(&broken), Err(Error::BadBatch(_))));
    assert!(matches!(replica.write_raw(b"garbage"), Err(Error::BadBatch(_))));
    replica.publish().unwrap();
    assert_eq!(batches(replica.feed().read(1, 1 << 20).unwrap()), sent);
    put(&replica, "still", "writable");
}

#[test]
fn the_tail_survives_as_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a", "1");
    store.close().unwrap();
    let store = open(dir.path());
    assert_eq!(get(&store, "a").as_deref(), Some("1"));
    assert_eq!(store.latest_sequence(), 1);
    assert_eq!(store.published(), 1);
    let tables: u64 = store.stats().unwrap().families.iter().map(|f| f.table_bytes).sum();
    assert_eq!(tables, 0, "neither close nor open wrote a table");
    assert_eq!(batches(store.feed().read(1, 1).unwrap()).len(), 1);
}

#[test]
fn a_feed_crosses_log_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for round in 0..30 {
        put(&store, &format!("{round}"), "v");
        if round % 7 == 3 {
            store.flush().unwrap();
        }
    }
    store.publish().unwrap();
    let mut feed = store.feed();
    for max_bytes in [1, 100, 1 << 20] {
        let (mut next, mut count) = (1, 0);
        while let FeedRead::Batches(read) = feed.read(next, max_bytes).unwrap() {
            next = read.last().unwrap().end();
            count += read.len();
        }
        assert_eq!((next, count), (31, 30));
    }
}

#[test]
fn one_directory_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert!(matches!(Store::open(dir.path(), options()), Err(Error::InUse { .. })));
    let clone = store.clone();
    assert!(matches!(store.close(), Err(CloseError::InUse(1))));
    put(&clone, "a", "1");
    clone.close().unwrap();
    let moved = dir.path().with_extension("moved");
    std::fs::rename(dir.path(), &moved).unwrap();
    assert_eq!(get(&open(&moved), "a").as_deref(), Some("1"));
    std::fs::remove_dir_all(moved).unwrap();
}

#[test]
fn the_wrong_cluster_mode_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = || Options { cluster: true, ..options() };
    let scope = Scope { namespace: DEFAULT_NAMESPACE, cluster: true, now_ms: 0 };
    // Without keys the mode is free.
    open(dir.path()).close().unwrap();
    let store = Store::open(dir.path(), cluster()).unwrap();
    let mut txn = store.txn();
    txn.put(Family::Metadata, &scope.ns_key(b"k"), b"\x81\0\0\0\0\0\0\0\0v");
    txn.commit().unwrap();
    store.close().unwrap();
    for _ in 0..2 {
        let error = Store::open(dir.path(), options()).err().unwrap();
        assert!(matches!(error, Error::WrongMode { found: true, .. }), "{error}");
        assert!(error.to_string().contains("set cluster-enabled yes"), "{error}");
        // The second round judges by the keys.
        let _ = std::fs::remove_file(dir.path().join("holdfast.format"));
    }
    Store::open(dir.path(), cluster()).unwrap().close().unwrap();
    assert!(dir.path().join("holdfast.format").exists());
}

/// A later version may have changed what this one would misread.
#[test]
fn a_directory_of_a_later_format_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = || Options { cluster: true, ..options() };
    drop(Store::open(dir.path(), cluster()).unwrap());
    let record = dir.path().join("holdfast.format");
    let written = std::fs::read_to_string(&record).unwrap();
    for later in ["format 2\ncluster yes\n", "format 1b\ncluster yes\n", "format \n"] {
        std::fs::write(&record, later).unwrap();
        let before = std::fs::read_dir(dir.path()).unwrap().count();
        let error = Store::open(dir.path(), cluster()).err().unwrap();
        assert!(matches!(error, Error::NewerFormat { known: 1, .. }), "{later}: {error}");
        assert!(error.to_string().contains("start the version that wrote it"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), before, "{later}");
        assert_eq!(std::fs::read_to_string(&record).unwrap(), later);
    }
    // Earlier and damaged ones are read as ever.
    for other in ["format 0\ncluster yes\n", "cluster yes\n", "\0", &written] {
        std::fs::write(&record, other).unwrap();
        drop(Store::open(dir.path(), cluster()).unwrap());
    }
}

#[test]
fn a_checkpoint_holds_the_unflushed_tail() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("db"));
    put(&store, "a", "1");
    let copy = dir.path().join("copy");
    assert_eq!(store.checkpoint(&copy).unwrap(), 1);
    let tables: u64 = store.stats().unwrap().families.iter().map(|f| f.table_bytes).sum();
    assert_eq!(tables, 0, "no memtable was flushed");
    let copy = open(&copy);
    assert_eq!(get(&copy, "a").as_deref(), Some("1"));
    assert_eq!(copy.latest_sequence(), 1);
}

#[test]
fn compaction_removes_what_is_dead_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let now_ms = crate::types::now_ms();
    let scope = Scope { namespace: DEFAULT_NAMESPACE, cluster: false, now_ms };
    let hour = 3_600_000;
    let mut txn = store.txn();
    let string = |expire_ms| [Prefix::new(Type::String, expire_ms).as_bytes(), b"v"].concat();
    txn.put(Family::Metadata, &scope.ns_key(b"expired long ago"), &string(now_ms - hour));
    txn.put(Family::Metadata, &scope.ns_key(b"just expired"), &string(now_ms - 1000));
    txn.put(Family::Metadata, &scope.ns_key(b"alive"), &string(now_ms + hour));
    txn.put(Family::Metadata, b"\xff", b"not decodable");
    let mut hash = Metadata::new(Type::Hash, 7);
    hash.size = 1;
    txn.put(Family::Metadata, &scope.ns_key(b"h"), &hash.encode());
    hash.expire_ms = now_ms - hour;
    txn.put(Family::Metadata, &scope.ns_key(b"expired hash"), &hash.encode());
    for (family, key, version) in [
        (Family::Default, &b"h"[..], 7),
        (Family::Default, b"h", 6),
        (Family::ZsetScore, b"gone", 7),
        (Family::Stream, b"alive", 7),
        (Family::Default, b"expired hash", 7),
    ] {
        txn.put(family, &scope.sub_key(key, version, b"f"), b"v");
    }
    txn.put(Family::Default, b"\xff", b"not decodable");
    txn.put(Family::Pubsub, b"channel", b"message");
    txn.put(Family::Propagate, b"script", b"x");
    txn.put(Family::Propagate, b"lua_f_", b"x");
    txn.commit().unwrap();
    store.flush().unwrap();
    store.compact(b"", b"").unwrap();
    let mut left = Vec::new();
    for family in Family::ALL {
        let mut cursor = store.scan(family, b"", b"", Direction::Forward).unwrap();
        while let Some((key, _)) = cursor.next().unwrap() {
            left.push((family, key.to_vec()));
        }
    }
    let mut expected = vec![
        (Family::Default, scope.sub_key(b"h", 7, b"f").to_vec()),
        (Family::Default, b"\xff".to_vec()),
        (Family::Metadata, scope.ns_key(b"alive").to_vec()),
        (Family::Metadata, scope.ns_key(b"h").to_vec()),
        (Family::Metadata, scope.ns_key(b"just expired").to_vec()),
        (Family::Metadata, b"\xff".to_vec()),
        (Family::Propagate, b"lua_f_".to_vec()),
    ];
    expected.sort();
    assert_eq!(left, expected);
}

#[test]
fn compaction_removes_fields_that_ended_and_hashes_with_the_last_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let now_ms = crate::types::now_ms();
    let scope = Scope { namespace: DEFAULT_NAMESPACE, cluster: false, now_ms };
    let hour = 3_600_000;
    let (long_ago, just_now, later) = (now_ms - hour, now_ms - 1000, now_ms + hour);
    let mut txn = store.txn();
    let mut hash = Metadata::new(Type::Hash, 7);
    for (key, endless, upper_ms) in
        [(b"mixed", 1, later), (b"ended", 0, long_ago), (b"grace", 0, just_now), (b"plain", 0, 0)]
    {
        hash.size = 4;
        let times = Times { endless, lower_ms: long_ago, upper_ms };
        hash.tail.clear();
        let form = if key == b"plain" { Form::Plain } else { Form::Timed(times) };
        form.write(&mut hash.tail);
        txn.put(Family::Metadata, &scope.ns_key(key), &hash.encode());
        for (field, end_ms) in [("a", 0), ("b", later), ("c", just_now), ("d", long_ago)] {
            if endless > 0 || (end_ms != 0 && end_ms <= upper_ms) || key == b"plain" {
                let sub_key = scope.sub_key(key, 7, field.as_bytes());
                txn.put_parts(Family::Default, &[&sub_key], &[&end_ms.to_be_bytes(), b"v"]);
            }
        }
    }
    txn.put(Family::Default, &scope.sub_key(b"mixed", 7, b"e"), b"short");
    txn.commit().unwrap();
    store.flush().unwrap();
    store.compact(b"", b"").unwrap();
    let mut left = Vec::new();
    for family in [Family::Metadata, Family::Default] {
        let mut cursor = store.scan(family, b"", b"", Direction::Forward).unwrap();
        while let Some((key, _)) = cursor.next().unwrap() {
            left.push(key.to_vec());
        }
    }
    let heads = [b"grace", b"mixed", b"plain"].map(|key| scope.ns_key(key).to_vec());
    let fields = [(b"grace", "c"), (b"mixed", "abce"), (b"plain", "abcd")];
    let fields = fields.into_iter().flat_map(|(key, names)| {
        names.bytes().map(|name| scope.sub_key(key, 7, &[name]).to_vec()).collect::<Vec<_>>()
    });
    assert_eq!(left, heads.into_iter().chain(fields).collect::<Vec<_>>());
}

#[test]
fn a_compaction_that_nobody_acknowledged_is_a_floor_for_rewinds() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("db");
    let store = open(&db);
    let id = replication::history::EpochId::from_random(1);
    store.open_epoch(1, id, 0).unwrap();
    let fork = put(&store, "a", "1");
    let looked_at = put(&store, "b", "1");
    let inner = store.inner();
    let zero = std::time::Duration::ZERO;
    let lapse = || inner.views.renew_after(&inner.db, &db, zero, zero).unwrap();
    lapse();
    assert!(inner.views.usable().is_none(), "only now there is a snapshot");
    lapse();
    assert!(inner.views.usable().is_some());
    store.close().unwrap();
    let intent = |fork| rewind::Intent { fork, at_ms: 0, epoch: None };
    let run = |fork| rewind::run(&db, &dir.path().join("discarded"), &options(), intent(fork));
    let late = run(fork).unwrap_err();
    assert!(
        matches!(late, rewind::Failure::TooLate { in_tables, .. } if in_tables == looked_at),
        "{late}"
    );
    assert_eq!(run(looked_at).unwrap().fork, looked_at);
    // A copy may carry traces of the other's compactions.
    let store = open(&db);
    let fork = put(&store, "c", "1");
    let copied = put(&store, "d", "1");
    let copy = dir.path().join("copy");
    store.checkpoint(&copy).unwrap();
    store.close().unwrap();
    open(&copy).close().unwrap();
    let late =
        rewind::run(&copy, &dir.path().join("discarded"), &options(), intent(fork)).unwrap_err();
    assert!(
        matches!(late, rewind::Failure::TooLate { in_tables, .. } if in_tables == copied),
        "{late}"
    );
}

#[test]
fn what_is_on_the_disk_is_told_once_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let write = |store: &Store| {
        let mut txn = store.txn();
        txn.put(Family::Metadata, b"k", b"v");
        txn.commit().unwrap();
        store.publish().unwrap()
    };
    let written = write(&store);
    assert!(written > 0 && store.synced() == 0, "a publish hands it to the operating system");
    assert_eq!(store.sync().unwrap(), written);
    assert_eq!(store.synced(), written);
    assert_eq!((write(&store), store.synced()), (written + 1, written));
    store.close().unwrap();
    let store =
        Store::open(dir.path(), Options { sync_writes: true, ..Options::default() }).unwrap();
    assert_eq!(store.synced(), written + 1, "what is found is brought there first");
    let written = write(&store);
    assert_eq!(store.synced(), written);
}

#[test]
fn a_held_history_stays_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options { hold_tail: true, ..Options::default() }).unwrap();
    assert!(matches!(store.flush(), Err(Error::Unsettled)));
    store.settle().unwrap();
    store.flush().unwrap();
}
