//! The block cache of an open database.

use rocksdb::{AsRawPtr, DB, ffi_raw};

#[expect(unsafe_code, reason = "a function of `native/cache.cc`")]
unsafe extern "C" {
    fn holdfast_release_cache(db: *mut ffi_raw::rocksdb_t);
}

/// Drops what nobody uses just now.
#[expect(unsafe_code, reason = "the binding cannot empty a cache of either kind")]
pub(crate) fn release(db: &DB) {
    // SAFETY: the database is open through the call; RocksDB's caches may be used by many threads.
    unsafe { holdfast_release_cache(db.as_raw_ptr()) }
}

#[cfg(test)]
mod tests {
    use crate::{Family, Options, Read as _, Store};

    /// What is in tables is read into the cache, goes with a release, and is read again.
    fn check(hyper_clock_cache: bool) {
        let dir = tempfile::tempdir().unwrap();
        let options =
            Options { hyper_clock_cache, block_cache_size: 8 << 20, ..Options::default() };
        let store = Store::open(dir.path(), Options { hot_bytes: 4 << 20, ..options }).unwrap();
        let keys: Vec<String> = (0..200).map(|number| format!("key{number}")).collect();
        let mut txn = store.txn();
        for key in &keys {
            txn.put(Family::Default, key.as_bytes(), &[7; 1_000]);
        }
        txn.put(Family::Metadata, b"m", b"value");
        txn.commit().unwrap();
        store.flush().unwrap();
        let read_all = || {
            for key in &keys {
                let value = store.get(Family::Default, key.as_bytes()).unwrap();
                assert_eq!(value.as_deref(), Some(&[7; 1_000][..]));
            }
            assert_eq!(store.get(Family::Metadata, b"m").unwrap().as_deref(), Some(&b"value"[..]));
            store.stats().unwrap().block_cache_bytes
        };
        let full = read_all();
        store.release_caches();
        let empty = store.stats().unwrap().block_cache_bytes;
        assert!(empty + 100_000 < full, "{full} bytes before, {empty} after");
        assert!(read_all() > empty);
    }

    #[test]
    fn a_released_cache_is_empty_and_fills_again() {
        check(false);
        check(true);
    }
}
