//! A database in a process that has no descriptors left. Alone in its process, because the limit is
//! the whole process'.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use storage::{Error, Family, Options, Store};

fn open(dir: &Path) -> Store {
    let options = Options {
        block_cache_size: 8 << 20,
        write_buffer_size: 64 << 10,
        min_write_buffer_number_to_merge: 1,
        disable_auto_compactions: true,
        ..Options::default()
    };
    Store::open(dir, options).expect("open the database")
}

fn put(store: &Store, number: usize) -> Result<(), Error> {
    let mut txn = store.txn();
    // Of a family whose records no compaction filter takes for rubbish.
    txn.put(Family::Propagate, format!("k{number:06}").as_bytes(), &[7; 1000]);
    txn.commit()?;
    store.publish().map(drop)
}

/// From now on no file can be opened; returns the former limit.
#[expect(unsafe_code, reason = "std has no setrlimit")]
fn set_soft_limit(soft: u64) -> u64 {
    let before = limits::open_files().expect("read the limit");
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: before.hard };
    // SAFETY: the pointer is to a whole `rlimit`, which the call only reads.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    before.soft
}

/// One function: both parts change the limit of the process.
#[test]
fn a_want_of_descriptors_is_no_fault_of_the_disk() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let (disk, limit) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (on_disk, on_limit) = (Arc::clone(&disk), Arc::clone(&limit));
    store.on_failure(Arc::new(move |cause| {
        assert!(cause.text.contains("Too many open files"), "{cause:?}");
        (if cause.is_limit { &on_limit } else { &on_disk }).fetch_add(1, Ordering::SeqCst);
    }));
    // Two tables of the same keys: one alone would be moved and not rewritten.
    for _ in 0..2 {
        (0..100).for_each(|number| put(&store, number).unwrap());
        store.flush().unwrap();
    }

    // A compaction is tried again, and the database goes on.
    let before = set_soft_limit(3);
    store.compact(b"", b"").unwrap();
    set_soft_limit(before);
    assert!(store.limits_met() > 0, "no compaction met the limit");
    assert!(!store.has_failed());
    put(&store, 100).unwrap();
    store.compact(b"", b"").unwrap();

    // A log that cannot be followed by the next one is the end of this use of it, with the right
    // word.
    set_soft_limit(3);
    let failed = (101..10_000).find_map(|number| put(&store, number).err().map(|e| (number, e)));
    set_soft_limit(before);
    let (number, error) = failed.unwrap();
    assert!(error.is_limit(), "{error}");
    assert!(store.has_failed());
    assert_eq!((disk.load(Ordering::SeqCst), limit.load(Ordering::SeqCst)), (0, 1));
    drop(store);

    let store = open(temp.path());
    for kept in 0..number {
        let key = format!("k{kept:06}");
        let found = storage::Read::get(&store, Family::Propagate, key.as_bytes()).unwrap();
        assert!(found.is_some(), "{key} of {number}");
    }
    put(&store, number).unwrap();
}
