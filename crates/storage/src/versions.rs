//! When scripts and libraries of functions change (`types::scripts`): for those who keep what they
//! have read of them.
//!
//! Invariant: all readers that are told the same version read the same. E.g. the text of a script
//! that was read between two looks at one version is its text for each later transaction of that
//! version, whichever thread it is on.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::Family;
use crate::batch::Record;

/// The versions of one database are below those of the one that is opened next.
const OF_ONE: u64 = 1 << 40;
/// What all their keys begin with, and the first key behind these.
const KEYS: (&[u8], &[u8]) = (b"lua_", b"lua`");

/// Whether a record changes some of them. Not all of the propagate family is theirs: e.g. each part
/// of a slot that is copied comes with a mark there.
pub(crate) fn is_of_scripts(record: &Record<'_>) -> bool {
    let (first, behind) = KEYS;
    match *record {
        Record::Put { family: Family::Propagate, key, .. }
        | Record::Delete { family: Family::Propagate, key } => key.starts_with(first),
        Record::DeleteRange { family: Family::Propagate, begin, end } => {
            begin < behind && first < end
        }
        _ => false,
    }
}

/// See the module.
pub(crate) struct Versions {
    /// Batches being written that change some of them.
    writing: AtomicUsize,
    /// Rises with each of them.
    version: AtomicU64,
    /// The last record of the newest one.
    sequence: AtomicU64,
}

impl Default for Versions {
    fn default() -> Self {
        static DATABASES: AtomicU64 = AtomicU64::new(1);
        let first = DATABASES.fetch_add(1, Ordering::Relaxed).wrapping_mul(OF_ONE);
        Self {
            writing: AtomicUsize::new(0),
            version: AtomicU64::new(first),
            sequence: AtomicU64::new(0),
        }
    }
}

impl Versions {
    /// The version of what is read from here on; `None` while a batch is being written.
    pub(crate) fn now(&self) -> Option<u64> {
        // In this order: a batch that somebody may have seen is still being written at the first
        // look, or has changed what is found at the second.
        if self.writing.load(Ordering::SeqCst) > 0 {
            return None;
        }
        Some(self.version.load(Ordering::SeqCst))
    }

    /// The version of what was read when this was the newest record, if that is the same still.
    pub(crate) fn at(&self, sequence: u64) -> Option<u64> {
        let version = self.now()?;
        (self.sequence.load(Ordering::SeqCst) <= sequence).then_some(version)
    }

    /// A batch is about to be written.
    pub(crate) fn begin(&self) {
        self.writing.fetch_add(1, Ordering::SeqCst);
    }

    /// It is in RocksDB, its last record under this number.
    pub(crate) fn written(&self, sequence: u64) {
        self.sequence.fetch_max(sequence, Ordering::SeqCst);
    }

    /// It has been written, or not.
    pub(crate) fn end(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.writing.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::scripts;
    use crate::{FeedRead, Options, Store, Txn};

    #[test]
    fn while_a_batch_is_written_there_is_none_and_then_another_one() {
        let (versions, other) = (Versions::default(), Versions::default());
        let before = versions.now();
        assert!(before.is_some() && before != other.now());
        assert_eq!(versions.at(0), before);
        versions.begin();
        assert_eq!(versions.now(), None);
        versions.written(5);
        assert_eq!(versions.at(9), None);
        versions.end();
        let after = versions.now();
        assert!(after.is_some() && after != before && after != other.now());
        assert_eq!((versions.at(4), versions.at(5)), (None, after));
    }

    #[test]
    fn a_version_is_of_one_state_of_one_database() {
        let dir = tempfile::tempdir().unwrap();
        // With and without entries that are kept before RocksDB.
        for hot_bytes in [0, 1 << 20] {
            let open = |name: &str| {
                let options = Options { hot_bytes, ..Options::default() };
                Store::open(&dir.path().join(format!("{name}-{hot_bytes}")), options).unwrap()
            };
            let (store, replica) = (open("store"), open("replica"));
            let version = |store: &Store| store.txn().scripts_version();
            let before = version(&store);
            assert!(before.is_some() && before != version(&replica));
            let mut txn = store.txn();
            txn.put(Family::Metadata, b"k", b"v");
            let mark = txn.mark();
            assert_eq!(txn.scripts_version(), before);
            scripts::put(&mut txn, "hash", b"text");
            assert_eq!(txn.scripts_version(), None, "it has changed them itself");
            txn.rollback(mark);
            assert_eq!(txn.scripts_version(), before);
            txn.commit().unwrap();
            assert_eq!(version(&store), before);
            let earlier = store.txn().moment();
            assert_eq!(earlier.txn().scripts_version(), before);
            let mut txn = store.txn();
            scripts::put(&mut txn, "hash", b"text");
            let within = txn.moment();
            txn.commit().unwrap();
            let after = version(&store);
            assert!(after.is_some() && after != before);
            assert_eq!(earlier.txn().scripts_version(), None);
            assert_eq!(within.txn().scripts_version(), None);
            assert_eq!(store.txn().moment().txn().scripts_version(), after);
            let mut txn = store.txn();
            scripts::flush(&mut txn);
            txn.commit().unwrap();
            assert!(version(&store).is_some() && version(&store) != after);
            // Batches of a master: one that is about keys, and two that are not.
            store.publish().unwrap();
            let mut feed = store.feed();
            let FeedRead::Batches(batches) = feed.read(1, usize::MAX).unwrap() else {
                panic!("there are batches");
            };
            let changes = batches.iter().map(|batch| {
                let before = version(&replica);
                replica.write_raw(&batch.data).unwrap();
                version(&replica) != before
            });
            assert_eq!(changes.collect::<Vec<_>>(), [false, true, true]);
        }
    }
    #[test]
    fn a_version_changes_with_scripts_and_libraries_and_with_nothing_else() {
        let of_scripts: [fn(&mut Txn<'_>); 6] = [
            |txn| scripts::put(txn, "hash", b"text"),
            |txn| scripts::put_library(txn, "library", b"text", ["function"].into_iter()),
            |txn| assert!(scripts::delete_library(txn, b"library").unwrap()),
            scripts::flush,
            scripts::flush_libraries,
            |txn| txn.delete_range(Family::Propagate, b"a", b"z"),
        ];
        let of_others: [fn(&mut Txn<'_>); 4] = [
            |txn| txn.put(Family::Propagate, b"mark", b"text"),
            |txn| txn.delete(Family::Propagate, b"lua"),
            |txn| txn.delete_range(Family::Propagate, b"a", b"lua_"),
            |txn| txn.put(Family::Metadata, b"lua_f_hash", b"text"),
        ];
        let dir = tempfile::tempdir().unwrap();
        for hot_bytes in [0, 1 << 20] {
            let options = Options { hot_bytes, ..Options::default() };
            let store = Store::open(&dir.path().join(hot_bytes.to_string()), options).unwrap();
            let changes = |write: &fn(&mut Txn<'_>)| {
                let before = store.txn().scripts_version();
                let mut txn = store.txn();
                write(&mut txn);
                txn.commit().unwrap();
                store.txn().scripts_version() != before
            };
            assert_eq!(of_scripts.iter().map(changes).collect::<Vec<_>>(), [true; 6]);
            assert_eq!(of_others.iter().map(changes).collect::<Vec<_>>(), [false; 4]);
        }
    }
}
