//! Pushes on their way to a connection: messages of channels, lines of MONITOR.
//!
//! Anybody may put something in; the connection takes it out where it waits, and sends it in order.
//! A client that does not read is cut off at a limit, as by Redis: what waits for it is memory that
//! nobody else gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// A larger buffer is given back when it is empty.
const KEEP_BYTES: usize = 64 << 10;

/// How much may wait for a client of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// More bytes than that cut it off at once; 0: no limit.
    pub hard: u64,
    /// More bytes than that do so when they last; 0: no limit.
    pub soft: u64,
    /// How long.
    pub lasting: Duration,
}

/// What waits for one connection.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Mutex<Vec<u8>>,
    /// Length of them, so that an empty one is seen without a lock.
    length: AtomicUsize,
    /// Since when it is above the soft limit, ms of the caller's clock; 0: it is not.
    above_since_ms: AtomicU64,
    /// Bytes in it and its like.
    all: Arc<AtomicUsize>,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes.get_mut().len(), Ordering::Relaxed);
    }
}

impl Inbox {
    /// An empty one, whose bytes count in `all` as long as they are in it.
    pub fn counted(all: Arc<AtomicUsize>) -> Self {
        let (bytes, length) = (Mutex::default(), AtomicUsize::new(0));
        Self { bytes, length, above_since_ms: AtomicU64::new(0), all }
    }

    /// Puts a push in, as RESP. False if the client is to be cut off: `unsent` bytes and those here
    /// are too many. Nothing is put in then.
    #[must_use]
    pub fn put(&self, push: &[u8], unsent: usize, limit: Limit, now_ms: u64) -> bool {
        let mut bytes = self.bytes.lock();
        if !self.fits(bytes.len() + push.len() + unsent, limit, now_ms) {
            return false;
        }
        bytes.extend_from_slice(push);
        self.all.fetch_add(push.len(), Ordering::Relaxed);
        self.length.store(bytes.len(), Ordering::Release);
        true
    }

    fn fits(&self, length: usize, limit: Limit, now_ms: u64) -> bool {
        let length = length as u64;
        if limit.hard > 0 && length > limit.hard {
            return false;
        }
        if limit.soft == 0 || length <= limit.soft {
            self.above_since_ms.store(0, Ordering::Relaxed);
            return true;
        }
        let since = match self.above_since_ms.load(Ordering::Relaxed) {
            0 => {
                self.above_since_ms.store(now_ms.max(1), Ordering::Relaxed);
                now_ms
            }
            since => since,
        };
        u128::from(now_ms.saturating_sub(since)) <= limit.lasting.as_millis()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.length.load(Ordering::Acquire)
    }

    /// Moves what is in it behind `out`.
    pub fn take(&self, out: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        let mut bytes = self.bytes.lock();
        self.all.fetch_sub(bytes.len(), Ordering::Relaxed);
        out.append(&mut bytes);
        if bytes.capacity() > KEEP_BYTES {
            *bytes = Vec::new();
        }
        self.length.store(0, Ordering::Release);
        self.above_since_ms.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { hard: 10, soft: 4, lasting: Duration::from_secs(1) };

    #[test]
    fn what_is_put_in_comes_out_in_order() {
        let inbox = Inbox::default();
        assert!(inbox.put(b"a", 0, LIMIT, 1) && inbox.put(b"b", 0, LIMIT, 1));
        let mut out = b"reply".to_vec();
        inbox.take(&mut out);
        assert_eq!((out.as_slice(), inbox.is_empty()), (&b"replyab"[..], true));
    }

    #[test]
    fn its_bytes_count_with_those_of_others_until_they_are_taken_or_gone() {
        let all = Arc::new(AtomicUsize::new(7));
        let (one, other) = (Inbox::counted(Arc::clone(&all)), Inbox::counted(Arc::clone(&all)));
        assert!(one.put(b"abc", 0, LIMIT, 1) && other.put(b"de", 0, LIMIT, 1));
        assert!(!one.put(&[0; 99], 0, LIMIT, 1));
        assert_eq!(all.load(Ordering::Relaxed), 12);
        one.take(&mut Vec::new());
        assert_eq!(all.load(Ordering::Relaxed), 9);
        drop((one, other));
        assert_eq!(all.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn a_client_that_does_not_read_is_cut_off() {
        let inbox = Inbox::default();
        assert!(!inbox.put(b"x", 10, LIMIT, 1), "what was not sent counts too");
        assert!(inbox.put(b"12345", 0, LIMIT, 1) && inbox.put(b"6", 0, LIMIT, 1_001));
        assert!(!inbox.put(b"7", 0, LIMIT, 1_002), "above the soft limit for too long");
        inbox.take(&mut Vec::new());
        assert!(inbox.put(b"12345", 0, LIMIT, 5_000), "it has read, and time begins anew");
        assert!(inbox.put(&[0; 100], 0, Limit::default(), 5_000), "without a limit");
    }
}
