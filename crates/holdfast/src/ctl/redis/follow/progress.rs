//! How far the two ends of a stream are, told from the one to the other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes behind at which the source may be cut off: less than a moment's work.
const NEAR: u64 = 1 << 20;

/// Places are offsets of the Redis' stream of commands.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Up to here the stream is here.
    received: AtomicU64,
    /// Up to here it is at the target.
    applied: AtomicU64,
    /// The data of the beginning is at the target.
    is_copied: AtomicBool,
    keys: AtomicU64,
    commands: AtomicU64,
    /// Keys that were read from the Redis once more, in place of commands on them.
    again: AtomicU64,
}

impl Progress {
    /// The stream begins.
    pub(super) fn begin(&self, offset: u64) {
        self.received.store(offset, Ordering::Relaxed);
        self.applied.store(offset, Ordering::Release);
    }

    pub(super) fn receive(&self, offset: u64) {
        self.received.store(offset, Ordering::Relaxed);
    }

    pub(super) fn apply(&self, offset: u64, commands: u64) {
        self.commands.fetch_add(commands, Ordering::Relaxed);
        self.applied.store(offset, Ordering::Release);
    }

    pub(super) fn copy(&self, keys: u64) {
        self.keys.fetch_add(keys, Ordering::Relaxed);
    }

    pub(super) fn copy_again(&self, keys: u64) {
        self.again.fetch_add(keys, Ordering::Relaxed);
    }

    pub(super) fn copied(&self) {
        self.is_copied.store(true, Ordering::Release);
    }

    pub(super) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    fn behind(&self) -> u64 {
        self.received.load(Ordering::Relaxed).saturating_sub(self.applied())
    }

    /// Little is left to do.
    pub(super) fn is_near(&self) -> bool {
        self.is_copied.load(Ordering::Acquire) && self.behind() < NEAR
    }

    /// A line for whoever waits.
    pub(super) fn line(&self) -> String {
        let [keys, commands, again] =
            [&self.keys, &self.commands, &self.again].map(|count| count.load(Ordering::Relaxed));
        if !self.is_copied.load(Ordering::Acquire) {
            return format!("{keys} keys copied");
        }
        format!(
            "{keys} keys copied, {commands} commands followed, {again} keys copied again; {} bytes behind, at offset {}",
            self.behind(),
            self.applied()
        )
    }
}
