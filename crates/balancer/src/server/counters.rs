//! What a frontend counts.

use std::sync::atomic::AtomicU64;

/// Totals since the frontend was opened first.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) cut: AtomicU64,
    /// Sessions that their node gave back, to go on at another one.
    pub(super) moved: AtomicU64,
    /// Bytes from clients.
    pub(super) inbound: AtomicU64,
    /// Bytes from backends.
    pub(super) outbound: AtomicU64,
}
