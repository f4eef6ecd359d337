//! For how long the disk has taken nothing of the log that it was given (rule R14).
//!
//! A disk that hangs returns no error, and a thread in a write to it cannot be waited out or woken. So whoever calls says
//! when it begins and when it is through, and others see how long ago anything came through while somebody waits.
//!
//! Times are milliseconds of one clock of this process, given by the caller.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Store;

/// Bits of a time; the rest counts those who wait. Enough for 8900 years.
const TIME_BITS: u32 = 48;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// Calls under way, and since when none of them came through.
#[derive(Debug, Default)]
pub(super) struct Waits(AtomicU64);

impl Waits {
    /// A call begins.
    fn begin(&self, now_ms: u64) {
        self.update(|count, since| (count + 1, if count == 0 { now_ms } else { since }));
    }

    /// A call came through, well or not.
    fn end(&self, now_ms: u64) {
        self.update(|count, _| (count.saturating_sub(1), now_ms));
    }

    /// For how long there have been calls under way of which none came through; 0 if there are none.
    fn longest(&self, now_ms: u64) -> u64 {
        let (count, since) = split(self.0.load(Ordering::Relaxed));
        if count == 0 { 0 } else { now_ms.saturating_sub(since) }
    }

    fn update(&self, change: impl Fn(u64, u64) -> (u64, u64)) {
        let change = |state| {
            let (count, since) = split(state);
            let (count, since) = change(count, since);
            Some((count << TIME_BITS) | (since & TIME_MASK))
        };
        // Always Some: it cannot fail.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
}

fn split(state: u64) -> (u64, u64) {
    (state >> TIME_BITS, state & TIME_MASK)
}

/// A call under way; it is over when this is dropped.
pub(super) struct Waiting<'a> {
    store: &'a Store,
    waits: &'a Waits,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waits.end(self.store.now_ms());
    }
}

impl Store {
    /// For how long appends, or writes of their buffer, or syncs, have been under way without one of them coming through,
    /// in milliseconds; 0 while nobody waits for the log. Never waits itself.
    pub fn log_wait_ms(&self) -> u64 {
        let (inner, now_ms) = (self.inner(), self.now_ms());
        inner.appends.longest(now_ms).max(inner.flushes.longest(now_ms))
    }

    pub(super) fn waiting<'a>(&'a self, waits: &'a Waits) -> Waiting<'a> {
        waits.begin(self.now_ms());
        Waiting { store: self, waits }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.inner().opened_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_lasts_from_the_first_who_waits_or_the_last_who_came_through() {
        let waits = Waits::default();
        assert_eq!(waits.longest(5_000), 0);
        waits.begin(5_000);
        assert_eq!(waits.longest(5_300), 300);
        // Who joins does not make it shorter.
        waits.begin(5_400);
        assert_eq!(waits.longest(5_500), 500);
        // Something came through: the disk works.
        waits.end(5_600);
        assert_eq!(waits.longest(5_700), 100);
        waits.end(5_800);
        assert_eq!(waits.longest(9_000), 0);
        waits.begin(9_000);
        assert_eq!(waits.longest(9_001), 1, "what was before does not count");
    }

    #[test]
    fn threads_that_come_and_go_leave_nobody_waiting() {
        let waits = Waits::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for now in 0..10_000 {
                        waits.begin(now);
                        waits.end(now);
                    }
                });
            }
        });
        assert_eq!(split(waits.0.load(Ordering::Relaxed)).0, 0);
    }
}
