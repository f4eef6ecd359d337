//! Seats for long reads: how many may run, and how much memory they have together. `session::long`
//! runs them.
//!
//! A seat is a thread and a share of the memory. The thread is free when the read is done; the
//! memory that its reply takes only when the reply is sent, so that clients which do not read what
//! they asked for hold no more than that together. Reads wait for a seat in order of arrival.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Values;

/// What memory is given out in.
const UNIT: usize = 1024;

/// See the module documentation.
#[derive(Debug)]
pub struct LongReads {
    /// How many may run at a time.
    at_once: u32,
    threads: Arc<Semaphore>,
    memory: RwLock<Memory>,
    count: AtomicU64,
}

/// Memory of a size that was given to it; reads keep what they have of an earlier one.
#[derive(Debug, Clone)]
struct Memory {
    free: Arc<Semaphore>,
    /// All of it, in units.
    units: u32,
    /// What one read may use, in units.
    share: u32,
}

impl Memory {
    fn new(bytes: u64, threads: u32) -> Self {
        let units = u32::try_from(bytes / UNIT as u64).unwrap_or(u32::MAX).max(threads);
        Self { free: Arc::new(Semaphore::new(units as usize)), units, share: units / threads }
    }
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
        Self {
            at_once: threads,
            threads: Arc::new(Semaphore::new(threads as usize)),
            memory: RwLock::new(Memory::new(values.parts().long_reads, threads)),
            count: AtomicU64::new(0),
        }
    }

    /// Gives them so many bytes from here on; replies that are made or unsent keep theirs beside.
    pub fn resize(&self, bytes: u64) {
        let memory = Memory::new(bytes, self.at_once);
        let mut now = self.memory.write();
        if now.units != memory.units {
            *now = memory;
        }
    }

    /// Bytes that one read may use.
    pub fn share_bytes(&self) -> usize {
        self.memory.read().share as usize * UNIT
    }

    /// Bytes that replies take, those that are being made as much as they may use.
    pub fn used_bytes(&self) -> usize {
        let memory = self.memory.read();
        (memory.units as usize).saturating_sub(memory.free.available_permits()) * UNIT
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether none runs, waits for its seat or is unsent.
    #[cfg(test)]
    pub fn are_done(&self) -> bool {
        let memory = self.memory.read();
        let all = memory.share as usize * self.threads.available_permits();
        all > 0 && memory.free.available_permits() >= all
    }

    /// A seat, once there is one; `None` never, but for a node that ends.
    pub async fn seat(&self) -> Option<Seat> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let Memory { free, share, .. } = self.memory.read().clone();
        let memory = free.acquire_many_owned(share).await.ok()?;
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

    #[test]
    fn memory_of_another_size_is_given_out_beside_what_is_still_held() {
        let mut values = crate::shell::small();
        values.long_read_threads = 2;
        values.long_read_memory = crate::config::value::Size(1 << 20);
        let all = LongReads::new(&values);
        let first = now(all.seat()).unwrap().unwrap().leave(400 << 10);
        assert_eq!(all.used_bytes(), 400 << 10);
        all.resize(1 << 20);
        assert_eq!(all.used_bytes(), 400 << 10, "the same size changes nothing");
        all.resize(256 << 10);
        assert_eq!((all.share_bytes(), all.used_bytes()), (128 << 10, 0));
        let seats = (now(all.seat()).unwrap(), now(all.seat()).unwrap());
        assert!(now(all.seat()).is_none() && seats.0.is_some() && seats.1.is_some());
        drop((first, seats));
        assert_eq!(all.used_bytes(), 0);
    }
}
