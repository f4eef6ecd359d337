//! Which records of a master's log are news to the subscribers here, and which are history.
//!
//! A message is a record of the log. A node that follows a log from far back (a new process, data
//! that was replaced or cut off) passes by messages that were given out long ago, some of them to
//! the same subscribers at another node. Delivering these again would break `docs/safety.md`, which
//! promises at most once. After a link merely broke, all that comes is news: no subscriber here was
//! told of any of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use replication::wire::BatchHead;

/// Where the news begin.
#[derive(Debug)]
pub(crate) struct News {
    /// All that the next master has when it tells its end is history.
    is_unknown: AtomicBool,
    /// The newest record that is history.
    history: AtomicU64,
}

impl Default for News {
    fn default() -> Self {
        Self { is_unknown: AtomicBool::new(true), history: AtomicU64::new(0) }
    }
}

impl News {
    /// The data here is another than before. Until a master tells its end, all is news: Kvrocks'
    /// masters tell none.
    pub(crate) fn begin_anew(&self) {
        self.history.store(0, Ordering::Relaxed);
        self.is_unknown.store(true, Ordering::Release);
    }

    /// A stream begins; its master had written up to `latest` when it was asked.
    pub(crate) fn streams(&self, latest: u64) {
        if self.is_unknown.swap(false, Ordering::AcqRel) {
            self.history.store(latest, Ordering::Relaxed);
        }
    }

    /// Whether a batch of the log is news.
    pub(crate) fn has(&self, batch: &[u8]) -> bool {
        BatchHead::parse(batch)
            .is_ok_and(|head| head.sequence > self.history.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(sequence: u64) -> Vec<u8> {
        [&sequence.to_le_bytes()[..], &1u32.to_le_bytes()].concat()
    }

    #[test]
    fn what_a_master_had_when_it_was_first_asked_is_history() {
        let news = News::default();
        assert!(news.has(&batch(1)), "a master that tells nothing");
        news.streams(10);
        assert!(!news.has(&batch(10)));
        assert!(news.has(&batch(11)));
        // A link that broke, and another master with the same data.
        news.streams(20);
        assert!(news.has(&batch(15)));
        news.begin_anew();
        assert!(news.has(&batch(5)));
        news.streams(20);
        assert!(!news.has(&batch(20)));
        assert!(news.has(&batch(21)));
        assert!(!news.has(b"short"));
    }
}
