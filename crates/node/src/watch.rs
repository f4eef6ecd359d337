//! WATCH: which connections must not EXEC because a key changed under them.
//!
//! On a master a key is touched while its lock is held, and EXEC holds the locks of its keys. A
//! replica applies its master's batches without key locks, because nothing that clients do may hold
//! up replication; there [`Watches::applying`] sees to it that nobody misses a change.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use storage::Name;
use storage::changes::{self, Change};

/// What happened to the keys that a connection watches.
#[derive(Debug, Default)]
pub struct Seen {
    /// One of them changed.
    pub changed: AtomicBool,
    /// All keys were deleted, as by FLUSHDB: a change of those that existed.
    pub flushed: AtomicBool,
}

/// Shared by a connection and [`Watches`].
pub type Dirty = Arc<Seen>;

/// Watched keys and who watches them. Nothing is locked while nobody watches.
#[derive(Debug, Default)]
pub struct Watches {
    count: AtomicUsize,
    /// By the id of their name.
    by_key: Mutex<HashMap<Vec<u8>, Vec<Dirty>>>,
    /// Batches of the master whose application has begun, and has ended.
    begun: AtomicU64,
    ended: AtomicU64,
}

/// Which batch of the master was being applied when a connection began to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Since(u64);

impl Watches {
    /// `dirty` is set when `key` changes from now on. What a batch changes that is just being
    /// applied it may miss: the answer is for [`Self::may_have_missed`].
    pub fn add(&self, key: &Name<'_>, dirty: &Dirty) -> Since {
        let mut by_key = self.by_key.lock();
        let watchers = by_key.entry(key.id().to_vec()).or_default();
        if !watchers.iter().any(|watcher| Arc::ptr_eq(watcher, dirty)) {
            watchers.push(Arc::clone(dirty));
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        Since(self.begun.load(Ordering::SeqCst))
    }

    /// Whether a batch is still being applied that had begun when a key was watched. Once it has
    /// ended, the key is touched if the batch changed it.
    pub fn may_have_missed(&self, since: Since) -> bool {
        self.ended.load(Ordering::SeqCst) < since.0
    }

    /// Applies a batch of the master. Its keys are touched before, so that no EXEC that begins
    /// after the change is visible finds them untouched, and after, for those who began to watch
    /// meanwhile.
    pub fn applying<T>(&self, batch: &[u8], cluster: bool, apply: impl FnOnce() -> T) -> T {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.touch_changed(batch, cluster);
        let applied = apply();
        self.touch_changed(batch, cluster);
        self.ended.fetch_add(1, Ordering::SeqCst);
        applied
    }

    /// Tells watchers what this batch changes; on a master, while the locks of its keys are held.
    pub fn touch_changed(&self, batch: &[u8], cluster: bool) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for change in changes::of(batch, cluster) {
            match change {
                Change::Key(key) | Change::Part(key) => self.touch(std::iter::once(key)),
                // As in Redis: what a group has got is no change of the stream.
                Change::Group(_) => {}
                // If there was one before, EXEC sees that it has gone.
                Change::Emptied(_) => {}
                Change::Range { namespace } => self.each_watcher(namespace, |seen| &seen.flushed),
                Change::Message { .. } | Change::Namespaces(_) => {}
            }
        }
    }

    /// Sets a flag of those who watch a key of this namespace, or of any.
    fn each_watcher(&self, namespace: Option<&[u8]>, flag: impl Fn(&Seen) -> &AtomicBool) {
        for (id, watchers) in &*self.by_key.lock() {
            let is_meant = |wanted: &[u8]| Name::of(id).is_some_and(|it| it.namespace == wanted);
            if namespace.is_none_or(is_meant) {
                watchers.iter().for_each(|seen| flag(seen).store(true, Ordering::SeqCst));
            }
        }
    }

    /// `dirty` watches none of these keys, given by their ids, any more.
    pub fn remove<'k>(&self, ids: impl Iterator<Item = &'k [u8]>, dirty: &Dirty) {
        let mut by_key = self.by_key.lock();
        for id in ids {
            let Some(watchers) = by_key.get_mut(id) else { continue };
            let before = watchers.len();
            watchers.retain(|watcher| !Arc::ptr_eq(watcher, dirty));
            self.count.fetch_sub(before - watchers.len(), Ordering::SeqCst);
            if watchers.is_empty() {
                by_key.remove(id);
            }
        }
    }

    /// Those are watched for no more whose connection has gone without a word, as one does whose
    /// command panicked.
    pub fn forget_gone(&self) {
        let mut by_key = self.by_key.lock();
        let mut known: HashMap<*const Seen, usize> = HashMap::new();
        for watcher in by_key.values().flatten() {
            *known.entry(Arc::as_ptr(watcher)).or_default() += 1;
        }
        by_key.retain(|_, watchers| {
            let before = watchers.len();
            // All that is left of it are those here.
            watchers.retain(|watcher| {
                known
                    .get(&Arc::as_ptr(watcher))
                    .is_none_or(|here| Arc::strong_count(watcher) > *here)
            });
            self.count.fetch_sub(before - watchers.len(), Ordering::SeqCst);
            !watchers.is_empty()
        });
    }

    /// Watchers of all keys together.
    #[cfg(test)]
    pub fn watchers(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// These keys are being changed; to be called while their locks are held.
    pub fn touch<'k>(&self, keys: impl Iterator<Item = Name<'k>>) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let by_key = self.by_key.lock();
        for key in keys {
            for watcher in by_key.get(&*key.id()).into_iter().flatten() {
                watcher.changed.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Everything may have changed: a full sync, another role, moved slots.
    pub fn touch_all(&self) {
        if self.count.load(Ordering::SeqCst) > 0 {
            self.each_watcher(None, |seen| &seen.changed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::Scope;

    fn name(key: &[u8]) -> Name<'_> {
        Name { namespace: b"__namespace", key }
    }

    #[test]
    fn who_begins_to_watch_while_a_batch_is_applied_waits_for_its_end() {
        let watches = Watches::default();
        let scope = Scope { namespace: b"__namespace", cluster: false, now_ms: 0 };
        let mut writer = storage::batch::Writer::new(Vec::new());
        writer.put(storage::Family::Metadata, &[&scope.ns_key(b"k")], &[b"v"]);
        let batch = writer.finish();
        let (before, during, other) = (Dirty::default(), Dirty::default(), Dirty::default());
        let early = watches.add(&name(b"k"), &before);
        assert!(!watches.may_have_missed(early));
        let since = watches.applying(batch, false, || {
            assert!(before.changed.load(Ordering::SeqCst), "touched before the change can be seen");
            let since = watches.add(&name(b"k"), &during);
            watches.add(&name(b"l"), &other);
            assert!(watches.may_have_missed(since) && !during.changed.load(Ordering::SeqCst));
            since
        });
        assert!(!watches.may_have_missed(since) && during.changed.load(Ordering::SeqCst));
        assert!(!other.changed.load(Ordering::SeqCst));
    }

    #[test]
    fn only_watchers_of_a_touched_key_become_dirty() {
        let watches = Watches::default();
        let (a, b) = (Dirty::default(), Dirty::default());
        watches.add(&name(b"k"), &a);
        watches.add(&name(b"k"), &a);
        watches.add(&name(b"l"), &b);
        watches.touch([name(b"k")].into_iter());
        assert!(a.changed.load(Ordering::SeqCst) && !b.changed.load(Ordering::SeqCst));
        watches.remove([&*name(b"l").id()].into_iter(), &b);
        watches.touch_all();
        assert!(!b.changed.load(Ordering::SeqCst));
        watches.remove([&*name(b"k").id()].into_iter(), &a);
        watches.add(&name(b"l"), &b);
        let other = Dirty::default();
        watches.add(&Name { namespace: b"other", key: b"l" }, &other);
        let prefix = Scope { namespace: b"other", cluster: false, now_ms: 0 }.namespace_prefix();
        let mut writer = storage::batch::Writer::new(Vec::new());
        writer.delete_range(storage::Family::Metadata, &prefix, b"\x05othes");
        watches.touch_changed(writer.finish(), false);
        assert!(other.flushed.load(Ordering::SeqCst) && !b.flushed.load(Ordering::SeqCst));
        watches.remove([&*Name { namespace: b"other", key: b"l" }.id()].into_iter(), &other);
        let mut writer = storage::batch::Writer::new(Vec::new());
        writer.delete_range(storage::Family::Metadata, b"a", b"z");
        watches.touch_changed(writer.finish(), false);
        assert!(b.flushed.load(Ordering::SeqCst) && !b.changed.load(Ordering::SeqCst));
        watches.remove([&*name(b"l").id()].into_iter(), &b);
        assert_eq!(watches.count.load(Ordering::SeqCst), 0);
    }
}
