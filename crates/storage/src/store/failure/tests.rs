use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;

use replication::history::EpochId;

use super::*;
use crate::{Family, Options, Read as _};

/// More than fits into the buffer of the log, so that the append itself has to write.
const LARGE: usize = 4 << 20;

fn open(dir: &Path) -> Store {
    Store::open(dir, Options { block_cache_size: 8 << 20, ..Options::default() }).unwrap()
}

fn put(store: &Store, key: &str, bytes: usize) -> Result<u64, Error> {
    let mut txn = store.txn();
    txn.put(Family::Metadata, key.as_bytes(), &vec![7; bytes]);
    txn.commit().map(Option::unwrap_or_default)
}

fn has(store: &Store, key: &str) -> bool {
    store.get(Family::Metadata, key.as_bytes()).unwrap().is_some()
}

fn is_log(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "log")
}

fn is_manifest(name: &str) -> bool {
    name.starts_with("MANIFEST-")
}

/// From now on whatever is written to such a file of the database, by its name, meets a full disk.
#[expect(unsafe_code, reason = "std cannot put another file behind an open descriptor")]
fn fill(db: &Path, is_meant: fn(&str) -> bool) {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut found = 0;
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let name = target.file_name().and_then(|name| name.to_str());
        if target.starts_with(db) && name.is_some_and(is_meant) {
            let number: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
            // SAFETY: dup2 takes two descriptors, both open, and touches no memory; RocksDB goes on
            // with what it calls its file.
            assert_eq!(unsafe { libc::dup2(full.as_raw_fd(), number) }, number);
            found += 1;
        }
    }
    assert!(found > 0, "no such file of {} is open", db.display());
}

/// A database whose log has `before`; how often its hook was called, which wants to be told this.
fn watched(dir: &Path, wanted: &'static str) -> (Store, Arc<AtomicUsize>) {
    let store = open(dir);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    store.on_failure(Arc::new(move |why| {
        assert!(why.text.contains(wanted) && !why.is_limit, "{why:?}");
        counted.fetch_add(1, Ordering::SeqCst);
    }));
    put(&store, "before", 10).unwrap();
    store.publish().unwrap();
    (store, calls)
}

/// The same, whose log takes nothing more.
fn full(dir: &Path) -> (Store, Arc<AtomicUsize>) {
    let (store, calls) = watched(dir, "no space");
    fill(dir, is_log);
    (store, calls)
}

/// Everything is refused, and the next process has what was published and nothing else.
fn check_the_end(store: Store, calls: &AtomicUsize, dir: &Path, published: u64) {
    assert!(store.has_failed());
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert!(matches!(store.publish(), Err(Error::Failed)));
    assert!(matches!(put(&store, "later", 10), Err(Error::Failed)));
    assert_eq!(store.published(), published);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    drop(store);
    let store = open(dir);
    assert!(!store.has_failed());
    assert_eq!(store.latest_sequence(), published);
    assert!(has(&store, "before") && !has(&store, "after") && !has(&store, "later"));
    put(&store, "after", 10).unwrap();
    store.publish().unwrap();
}

#[test]
fn after_a_failed_publish_nothing_is_taken_or_told() {
    let temp = tempfile::tempdir().unwrap();
    let (store, calls) = full(temp.path());
    let published = store.published();
    put(&store, "after", 10).unwrap();
    assert!(has(&store, "after"), "in memory");
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    assert!(matches!(store.publish(), Err(Error::NoSpace { .. })));
    check_the_end(store, &calls, temp.path(), published);
}

#[test]
fn a_failed_append_is_the_end_too() {
    let temp = tempfile::tempdir().unwrap();
    let (store, calls) = full(temp.path());
    let published = store.published();
    assert!(matches!(put(&store, "after", LARGE), Err(Error::NoSpace { .. })));
    check_the_end(store, &calls, temp.path(), published);
}

#[test]
fn an_epoch_that_does_not_reach_the_disk_is_the_end_too() {
    let temp = tempfile::tempdir().unwrap();
    let (store, calls) = full(temp.path());
    let published = store.published();
    assert!(matches!(store.open_epoch(1, EpochId::from_random(5), 0), Err(Error::NoSpace { .. })));
    check_the_end(store, &calls, temp.path(), published);
}

/// RocksDB takes no more writes once memory cannot be emptied. What the flush itself comes to is
/// not looked at: where there is room RocksDB tries once more by itself, and may be done by then.
#[test]
fn a_flush_that_cannot_write_its_manifest_is_the_end_too() {
    let temp = tempfile::tempdir().unwrap();
    let (store, calls) = watched(temp.path(), "no space");
    fill(temp.path(), is_manifest);
    let published = store.published();
    drop(store.flush());
    check_the_end(store, &calls, temp.path(), published);
}

#[test]
fn a_flush_that_cannot_make_its_table_is_the_end_too() {
    let temp = tempfile::tempdir().unwrap();
    let (store, calls) = watched(temp.path(), "Is a directory");
    // One of them is in the place of the next table.
    let table = |number: u32| temp.path().join(format!("{number:06}.sst"));
    let places: Vec<PathBuf> = (1..200).map(table).collect();
    places.iter().for_each(|place| std::fs::create_dir(place).unwrap());
    let published = store.published();
    drop(store.flush());
    places.iter().for_each(|place| std::fs::remove_dir(place).unwrap());
    check_the_end(store, &calls, temp.path(), published);
}

#[test]
fn a_batch_that_is_refused_before_it_is_tried_ends_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    assert!(store.write_raw(b"garbage").is_err());
    assert!(!store.has_failed());
    put(&store, "after", 10).unwrap();
    store.publish().unwrap();
}

#[test]
fn a_hook_that_comes_late_is_called_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    fill(temp.path(), is_log);
    put(&store, "after", 10).unwrap();
    assert!(store.publish().is_err());
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    store.on_failure(Arc::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    }));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}
