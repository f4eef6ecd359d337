//! What RocksDB does for one thread, in its own words: counters and times of its work
//! (`PerfContext`) and of files (`IOStatsContext`).
//!
//! RocksDB keeps one of each for every thread, so a thread takes one sample at a time. It holds
//! what the thread does itself: nothing of flushes and compactions, which have their own.

use std::cell::Cell;
use std::ffi::c_char;
use std::marker::PhantomData;

use rocksdb::perf::PerfContext;

/// Bytes of the text about files, at most: it has some twenty numbers with names.
const FILES_MAX: usize = 4096;

#[expect(unsafe_code, reason = "functions of `native/perf.cc`")]
unsafe extern "C" {
    fn holdfast_begin_counting() -> u8;
    fn holdfast_end_counting(level: u8);
    fn holdfast_tell_files(text: *mut c_char, room: usize) -> usize;
}

thread_local! {
    static IS_SAMPLED: Cell<bool> = const { Cell::new(false) };
}

/// What was counted: `name = number, name = number`, without those that are 0; times are
/// nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Of RocksDB's own work; empty if nothing was asked of it.
    pub work: String,
    /// Of files.
    pub files: String,
}

/// RocksDB counts and takes times for this thread until it is dropped, be it by a panic: then it
/// counts as it did before.
#[derive(Debug)]
#[must_use = "it ends with this value"]
pub struct Sample {
    /// What the thread counted before, as one of RocksDB's levels.
    before: u8,
    /// It does not leave its thread.
    _thread: PhantomData<*const ()>,
}

impl Sample {
    /// Begins with nothing; `None` where this thread takes one already.
    #[expect(unsafe_code, reason = "the binding cannot tell at which level a thread counts")]
    pub fn begin() -> Option<Self> {
        if IS_SAMPLED.replace(true) {
            return None;
        }
        // SAFETY: it changes numbers that are this thread's alone.
        let before = unsafe { holdfast_begin_counting() };
        Some(Self { before, _thread: PhantomData })
    }

    /// Ends it, and returns what was counted.
    #[expect(unsafe_code, reason = "the binding knows nothing of what is counted of files")]
    pub fn end(self) -> Report {
        let mut text = [0_u8; FILES_MAX];
        // SAFETY: there is so much room, and no more is written.
        let length = unsafe { holdfast_tell_files(text.as_mut_ptr().cast(), text.len()) };
        let files = String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned();
        Report { work: PerfContext::default().report(true), files }
    }
}

impl Drop for Sample {
    #[expect(unsafe_code, reason = "the binding sets levels that it has names for")]
    fn drop(&mut self) {
        // SAFETY: it changes a number that is this thread's alone, to one that it was before: a
        // sample does not leave its thread.
        unsafe { holdfast_end_counting(self.before) };
        IS_SAMPLED.set(false);
    }
}

#[cfg(test)]
mod tests {
    use rocksdb::perf::{PerfStatsLevel, set_perf_stats};

    use super::*;
    use crate::{Family, Options, Read as _, Store};

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        (dir, store)
    }

    fn write(store: &Store, key: &[u8]) {
        let mut txn = store.txn();
        txn.put(Family::Default, key, b"value");
        txn.commit().unwrap();
        store.publish().unwrap();
    }

    fn read(store: &Store, key: &[u8]) {
        assert!(store.get(Family::Default, key).unwrap().is_some());
    }

    #[test]
    fn a_sample_holds_what_its_thread_does_between_its_beginning_and_its_end() {
        let (_dir, store) = store();
        write(&store, b"before");
        let sample = Sample::begin().unwrap();
        write(&store, b"key");
        let written = sample.end();
        for name in ["write_wal_time = ", "write_memtable_time = "] {
            assert!(written.work.contains(name), "{written:?}");
        }
        assert!(written.files.contains("bytes_written = "), "{written:?}");
        read(&store, b"key");
        let sample = Sample::begin().unwrap();
        read(&store, b"key");
        let found = sample.end();
        assert!(found.work.contains("get_from_memtable_count = 1"), "{found:?}");
        assert!(!found.work.contains("write_wal_time"), "{found:?}");
        assert!(!found.files.contains("bytes_written"), "{found:?}");
    }

    #[test]
    fn what_other_threads_do_meanwhile_is_none_of_it() {
        let (_dir, store) = store();
        let sample = Sample::begin().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| write(&store, b"key"));
        });
        assert_eq!(sample.end().work, "");
    }

    #[test]
    fn a_thread_takes_one_at_a_time_and_another_one_once_that_is_dropped() {
        let (_dir, store) = store();
        let sample = Sample::begin().unwrap();
        assert!(Sample::begin().is_none());
        write(&store, b"key");
        drop(sample);
        let sample = Sample::begin().unwrap();
        assert_eq!(sample.end().work, "");
        assert!(Sample::begin().is_some());
    }

    #[test]
    fn a_thread_counts_afterwards_as_it_did_before_however_the_sample_ends() {
        let level = || Sample::begin().unwrap().before;
        for before in [PerfStatsLevel::EnableCount, PerfStatsLevel::Disable] {
            set_perf_stats(before);
            assert_eq!(level(), before as u8);
            assert_eq!(level(), before as u8, "it was dropped");
            assert_eq!(Sample::begin().unwrap().end().work, "");
            assert_eq!(level(), before as u8, "it was ended");
            let ended = std::panic::catch_unwind(|| {
                let _sample = Sample::begin().unwrap();
                // As a panic, without its words in the log.
                std::panic::resume_unwind(Box::new("a defect"));
            });
            assert!(ended.is_err());
            assert_eq!(level(), before as u8, "a panic ended it");
        }
    }
}
