//! WATCH: which connections must not EXEC because a key changed under them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Set when a watched key changed.
pub type Dirty = Arc<AtomicBool>;

/// Watched keys and who watches them. Nothing is locked while nobody watches.
#[derive(Debug, Default)]
pub struct Watches {
    count: AtomicUsize,
    by_key: Mutex<HashMap<Vec<u8>, Vec<Dirty>>>,
}

impl Watches {
    /// `dirty` is set when `key` changes from now on.
    pub fn add(&self, key: &[u8], dirty: &Dirty) {
        let mut by_key = self.by_key.lock();
        let watchers = by_key.entry(key.to_vec()).or_default();
        if !watchers.iter().any(|watcher| Arc::ptr_eq(watcher, dirty)) {
            watchers.push(Arc::clone(dirty));
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// `dirty` watches none of these keys any more.
    pub fn remove<'k>(&self, keys: impl Iterator<Item = &'k [u8]>, dirty: &Dirty) {
        let mut by_key = self.by_key.lock();
        for key in keys {
            let Some(watchers) = by_key.get_mut(key) else { continue };
            let before = watchers.len();
            watchers.retain(|watcher| !Arc::ptr_eq(watcher, dirty));
            self.count.fetch_sub(before - watchers.len(), Ordering::SeqCst);
            if watchers.is_empty() {
                by_key.remove(key);
            }
        }
    }

    /// These keys are being changed; to be called while their locks are held.
    pub fn touch<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let by_key = self.by_key.lock();
        for key in keys {
            for watcher in by_key.get(key).into_iter().flatten() {
                watcher.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Everything may have changed: FLUSHALL, a full sync, a batch of a master.
    pub fn touch_all(&self) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for watcher in self.by_key.lock().values().flatten() {
            watcher.store(true, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_watchers_of_a_touched_key_become_dirty() {
        let watches = Watches::default();
        let (a, b) = (Dirty::default(), Dirty::default());
        watches.add(b"k", &a);
        watches.add(b"k", &a);
        watches.add(b"l", &b);
        watches.touch([b"k".as_slice()].into_iter());
        assert!(a.load(Ordering::SeqCst) && !b.load(Ordering::SeqCst));
        watches.remove([b"l".as_slice()].into_iter(), &b);
        watches.touch_all();
        assert!(!b.load(Ordering::SeqCst));
        watches.remove([b"k".as_slice()].into_iter(), &a);
        assert_eq!(watches.count.load(Ordering::SeqCst), 0);
    }
}
