//! The family that is made late: at once, by several, after a restart, and in checkpoints.

use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Barrier;

use super::*;
use crate::{Direction, FeedRead, Options, Read};

fn open(dir: &Path) -> Store {
    let options = Options { block_cache_size: 8 << 20, ..Options::default() };
    Store::open(dir, options).unwrap()
}

fn put(store: &Store, family: Family, key: &[u8]) -> u64 {
    let mut txn = store.txn();
    txn.put(family, key, b"v");
    txn.commit().unwrap().unwrap()
}

/// How many families the files have.
fn on_disk(dir: &Path) -> usize {
    DB::list_cf(&rocksdb::Options::default(), dir).unwrap().len()
}

/// The keys in the family, whichever way they are asked for.
fn found(read: &impl Read) -> Vec<Vec<u8>> {
    let walk = |direction| {
        let mut cursor = read.scan(Family::Index, b"", b"", direction).unwrap();
        let mut keys = Vec::new();
        while let Some((key, _)) = cursor.next().unwrap() {
            keys.push(key.to_vec());
        }
        keys
    };
    let (keys, mut back) = (walk(Direction::Forward), walk(Direction::Reverse));
    back.reverse();
    assert_eq!(keys, back);
    let asked = [b"a", b"z"];
    let is_there: Vec<bool> = asked.iter().map(|key| keys.contains(&key.to_vec())).collect();
    for (key, is_there) in asked.iter().zip(&is_there) {
        assert_eq!(read.get(Family::Index, *key).unwrap().is_some(), *is_there);
    }
    let are_there = |values: Vec<Option<crate::Value<'_>>>| -> Vec<bool> {
        values.iter().map(Option::is_some).collect()
    };
    assert_eq!(are_there(read.multi_get(Family::Index, &asked).unwrap()), is_there);
    assert_eq!(are_there(read.few(Family::Index, &asked).unwrap().unwrap()), is_there);
    keys
}

#[test]
fn it_is_made_when_something_is_first_put_into_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, Family::Metadata, b"k");
    let before = store.snapshot();
    assert!(found(&store).is_empty() && found(&before).is_empty());
    let mut txn = store.txn();
    txn.put(Family::Index, b"a", b"v");
    txn.delete(Family::Index, b"b");
    assert_eq!(found(&txn), [b"a"]);
    assert_eq!(found(&txn.snapshot()), [b"a"]);
    drop(txn);
    // A record that was taken back.
    let mut txn = store.txn();
    let mark = txn.mark();
    txn.put(Family::Index, b"a", b"v");
    txn.rollback(mark);
    txn.put(Family::Metadata, b"k", b"w");
    txn.commit().unwrap();
    store.flush().unwrap();
    store.compact(b"", b"").unwrap();
    assert_eq!((store.stats().unwrap().families.len(), on_disk(dir.path())), (7, 7));
    put(&store, Family::Index, b"a");
    assert_eq!((store.stats().unwrap().families.len(), on_disk(dir.path())), (8, 8));
    assert_eq!(found(&store), [b"a"]);
    assert!(found(&before).is_empty());
    drop(before);
    // One record of it in a table, one in the log.
    store.flush().unwrap();
    store.compact(b"", b"").unwrap();
    put(&store, Family::Index, b"b");
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    store.checkpoint(&copy).unwrap();
    store.close().unwrap();
    for store in [open(dir.path()), open(&copy)] {
        assert_eq!(found(&store), [b"a", b"b"]);
        let opened = store.cf(Family::Index).unwrap();
        assert_eq!((opened.id(), opened.name()), (7, Family::Index.name().into()));
    }
}

#[test]
fn a_batch_of_a_master_makes_it() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (master, replica) = (open(dir.path()), open(other.path()));
    put(&master, Family::Metadata, b"k");
    put(&master, Family::Index, b"a");
    master.publish().unwrap();
    let mut feed = master.feed();
    let FeedRead::Batches(batches) = feed.read(1, 1 << 20).unwrap() else { panic!("no batches") };
    for batch in batches {
        replica.write_raw(&batch.data).unwrap();
    }
    assert_eq!(found(&replica), [b"a"]);
    assert_eq!(replica.latest_sequence(), master.latest_sequence());
}

/// Without a second try a checkpoint that began before the family was made has its record, passes
/// over that when it is opened, and counts it all the same.
#[test]
fn a_checkpoint_has_no_record_of_it_without_it() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir.path().join("db"));
        for number in 0..50 {
            put(&store, Family::Metadata, &[number]);
        }
        let (copy, start) = (dir.path().join("copy"), Barrier::new(2));
        let written = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                start.wait();
                put(&store, Family::Index, b"a")
            });
            start.wait();
            store.checkpoint(&copy).unwrap();
            writer.join().unwrap()
        });
        let copy = open(&copy);
        let has_it = copy.latest_sequence() >= written;
        assert_eq!(!found(&copy).is_empty(), has_it);
    }
}

/// A database that a later version has made a family in.
fn with_families(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close().unwrap();
    let options = rocksdb::Options::default();
    let families = DB::list_cf(&options, dir.path()).unwrap();
    let mut db = DB::open_cf(&options, dir.path(), families).unwrap();
    for name in names {
        db.create_cf(name, &options).unwrap();
    }
    dir
}

#[test]
fn beside_a_family_that_is_not_known_it_is_not_made() {
    let dir = with_families(&["later"]);
    let store = open(dir.path());
    for _ in 0..2 {
        let mut txn = store.txn();
        txn.put(Family::Index, b"a", b"v");
        let error = txn.commit().unwrap_err().to_string();
        assert!(error.contains("the family later"), "{error}");
    }
    assert!(!store.has_failed() && found(&store).is_empty());
    put(&store, Family::Metadata, b"k");
    assert_eq!(on_disk(dir.path()), 8);
}

#[test]
fn one_with_another_number_is_not_opened() {
    let dir = with_families(&["later", "index"]);
    let error = Store::open(dir.path(), Options::default()).err().unwrap().to_string();
    assert!(error.contains("the family index has the number 8"), "{error}");
}

/// A database in which the number is used up.
fn used_up() -> (tempfile::TempDir, DB) {
    let dir = with_families(&[]);
    let options = rocksdb::Options::default();
    let families = DB::list_cf(&options, dir.path()).unwrap();
    let mut db = DB::open_cf(&options, dir.path(), families).unwrap();
    db.create_cf("later", &options).unwrap();
    db.drop_cf("later").unwrap();
    (dir, db)
}

/// RocksDB tells the number only once the family is made: then it is dropped again.
#[test]
fn one_that_would_get_another_number_is_given_up() {
    let (dir, db) = used_up();
    drop(db);
    assert_it_is_given_up(dir.path());
}

/// Its process was killed between the two.
#[test]
fn an_empty_one_with_another_number_is_dropped() {
    let (dir, mut db) = used_up();
    db.create_cf("index", &rocksdb::Options::default()).unwrap();
    drop(db);
    assert_eq!(on_disk(dir.path()), 8);
    assert_it_is_given_up(dir.path());
}

#[test]
fn one_with_another_number_that_is_not_empty_is_not_opened() {
    let (dir, mut db) = used_up();
    db.create_cf("index", &rocksdb::Options::default()).unwrap();
    db.put_cf(db.cf_handle("index").unwrap(), b"a", b"v").unwrap();
    drop(db);
    let error = Store::open(dir.path(), Options::default()).err().unwrap().to_string();
    assert!(error.contains("the family index has the number 8"), "{error}");
}

#[track_caller]
fn assert_it_is_given_up(dir: &Path) {
    let store = open(dir);
    for _ in 0..2 {
        let mut txn = store.txn();
        txn.put(Family::Index, b"a", b"v");
        let error = txn.commit().unwrap_err().to_string();
        assert!(error.contains("another number"), "{error}");
    }
    assert!(found(&store).is_empty() && !store.has_failed());
    put(&store, Family::Metadata, b"k");
    store.close().unwrap();
    assert_eq!(on_disk(dir), 7);
    drop(open(dir));
}

/// From now on what is written to the list of families meets a full disk.
#[expect(unsafe_code, reason = "std cannot put another file behind an open descriptor")]
fn fill(dir: &Path) {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut found = 0;
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let name = target.file_name().map(|name| name.to_string_lossy().into_owned());
        if target.starts_with(dir) && name.is_some_and(|name| name.starts_with("MANIFEST-")) {
            let number: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
            // SAFETY: dup2 takes two descriptors, both open, and touches no memory; RocksDB goes on
            // with what it calls its MANIFEST.
            assert_eq!(unsafe { libc::dup2(full.as_raw_fd(), number) }, number);
            found += 1;
        }
    }
    assert!(found > 0, "no MANIFEST of {} is open", dir.display());
}

/// The number is used up in memory: with a second try the family would be refused for good.
#[test]
fn a_disk_that_does_not_take_it_ends_the_use_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(dir.path());
    let commit = || {
        let mut txn = store.txn();
        txn.put(Family::Index, b"a", b"v");
        txn.commit()
    };
    assert!(matches!(commit(), Err(Error::NoSpace { .. })));
    assert!(store.has_failed());
    assert!(matches!(commit(), Err(Error::Failed)));
    drop(store);
    let store = open(dir.path());
    put(&store, Family::Index, b"a");
    assert_eq!(found(&store), [b"a"]);
}

/// What RocksDB says in its newest file of options.
#[test]
fn its_memtable_has_the_size_that_was_set_since() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let sizes = store.options().sizes();
    store.resize(crate::Sizes { write_buffer: 3 << 20, ..sizes }).unwrap();
    put(&store, Family::Index, b"a");
    let names = std::fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.path());
    let is_options = |path: &std::path::PathBuf| path.to_string_lossy().contains("/OPTIONS-");
    let newest = names.filter(is_options).max().unwrap();
    let text = std::fs::read_to_string(newest).unwrap();
    let (_, of_it) = text.split_once("[CFOptions \"index\"]").unwrap();
    let size = of_it.lines().find_map(|line| line.trim().strip_prefix("write_buffer_size="));
    assert_eq!(size, Some("3145728"));
}

#[test]
fn what_is_made_while_the_tail_is_held_is_let_go_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let held = Options { hold_tail: true, write_buffer_size: 1 << 20, ..Options::default() };
    let store = Store::open(dir.path(), held).unwrap();
    put(&store, Family::Index, b"a");
    assert!(matches!(store.flush(), Err(Error::Unsettled)));
    store.settle().unwrap();
    store.flush().unwrap();
    store.compact(b"", b"").unwrap();
    assert_eq!(found(&store), [b"a"]);
}
