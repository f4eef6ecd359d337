//! Who may run a long read, and how much memory such reads have: `session::long` runs them.
//!
//! A seat is a thread and a share of the memory. The thread is free when the read is done; the
//! memory that its reply takes only when the reply is sent, so that clients which do not read what
//! they asked for hold no more than that together. Reads wait for a seat in order of arrival.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Values;

/// What memory is given out in.
const UNIT: usize = 1024;

/// See the module documentation.
#[derive(Debug)]
pub struct LongReads {
    threads: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    /// Of the memory, in units: what one read may use.
    share: u32,
    count: AtomicU64,
}

/// The right to run one.
#[derive(Debug)]
pub struct Seat {
    thread: OwnedSemaphorePermit,
    memory: OwnedSemaphorePermit,
}

/// The memory of a reply; free when this is dropped.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "held for what it stands for")] OwnedSemaphorePermit);

impl LongReads {
    /// As the options say.
    pub fn new(values: &Values) -> Self {
        let threads = values.long_read_threads.max(1);
        let bytes = usize::try_from(values.long_read_memory.0).unwrap_or(usize::MAX);
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(threads);
        Self {
            threads: Arc::new(Semaphore::new(threads as usize)),
            memory: Arc::new(Semaphore::new(units as usize)),
            share: units / threads,
            count: AtomicU64::new(0),
        }
    }

    /// Bytes that one read may use.
    pub fn share_bytes(&self) -> usize {
        self.share as usize * UNIT
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether none runs, waits for its seat or is unsent.
    #[cfg(test)]
    pub fn are_done(&self) -> bool {
        let all = self.share as usize * self.threads.available_permits();
        all > 0 && self.memory.available_permits() >= all
    }

    /// A seat, once there is one; `None` never, but for a node that ends.
    pub async fn seat(&self) -> Option<Seat> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let memory = Arc::clone(&self.memory).acquire_many_owned(self.share).await.ok()?;
        let thread = Arc::clone(&self.threads).acquire_owned().await.ok()?;
        Some(Seat { thread, memory })
    }
}

impl Seat {
    /// Gives the thread back, and the memory but for so many bytes.
    pub fn leave(self, bytes: usize) -> Hold {
        let Self { thread, mut memory } = self;
        drop(thread);
        let kept = bytes.div_ceil(UNIT).min(memory.num_permits());
        let surplus = memory.split(memory.num_permits() - kept);
        drop(surplus);
        Hold(memory)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    #[test]
    fn replies_that_are_not_sent_keep_their_memory_and_no_thread() {
        let mut values = crate::shell::small();
        values.long_read_threads = 2;
        values.long_read_memory = crate::config::value::Size(1 << 20);
        let all = LongReads::new(&values);
        assert_eq!(all.share_bytes(), 512 << 10);
        let (first, second) = (now(all.seat()).unwrap(), now(all.seat()).unwrap());
        assert!(now(all.seat()).is_none(), "both threads are at work");
        let first = first.unwrap().leave(400 << 10);
        let small = second.unwrap().leave(10);
        let one = now(all.seat()).unwrap();
        assert!(now(all.seat()).is_none(), "the memory is in use");
        drop(one);
        drop((first, small));
        let (one, other) = (now(all.seat()).unwrap(), now(all.seat()).unwrap());
        assert!(one.is_some() && other.is_some());
        assert_eq!(all.count(), 7);
    }
}
