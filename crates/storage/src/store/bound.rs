//! Options that change while the database is open: how large a write batch may be (what one end of
//! a replication link writes, the other one must take), how hashes are made, what becomes of keys
//! that end.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Store;

/// Bytes of the largest batch that is written.
pub(super) struct Bound(AtomicUsize);

impl Bound {
    pub(super) fn new(bytes: usize) -> Self {
        Self(AtomicUsize::new(bytes_of(bytes)))
    }
}

impl Store {
    /// Bytes of the largest batch that is written here. Those of a master are taken up to
    /// `replication::BATCH_BYTES_MAX`.
    pub fn batch_bytes_max(&self) -> usize {
        self.inner.batch_bytes_max.0.load(Ordering::Relaxed)
    }

    /// Sets [`Store::batch_bytes_max`]; 0, and what is above it, means
    /// `replication::BATCH_BYTES_MAX`.
    pub fn set_batch_bytes_max(&self, bytes: usize) {
        self.inner.batch_bytes_max.0.store(bytes_of(bytes), Ordering::Relaxed);
    }
}

impl Store {
    /// Whether a hash that is made anew is kept with an end for each field, be it never.
    pub fn times_hashes(&self) -> bool {
        self.inner.times_hashes.load(Ordering::Relaxed)
    }

    /// Whether a key whose end is set into the past is removed, and not kept for compactions: those
    /// that are found to have ended are told of.
    pub fn removes_ended(&self) -> bool {
        self.inner.removes_ended.load(Ordering::Relaxed)
    }

    /// Sets [`Store::removes_ended`].
    pub fn set_removes_ended(&self, removes: bool) {
        self.inner.removes_ended.store(removes, Ordering::Relaxed);
    }

    /// Sets [`Store::times_hashes`].
    pub fn set_times_hashes(&self, times: bool) {
        self.inner.times_hashes.store(times, Ordering::Relaxed);
    }
}

/// The size of a batch that an option stands for.
fn bytes_of(bytes: usize) -> usize {
    match bytes {
        0 => replication::BATCH_BYTES_MAX,
        bytes => bytes.min(replication::BATCH_BYTES_MAX),
    }
}
