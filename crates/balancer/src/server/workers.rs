//! The threads that move bytes: each runs its own single-threaded runtime, so that a session's two
//! sockets stay on one CPU and nothing is stolen between threads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// One thread.
struct Worker {
    handle: Handle,
    load: Arc<AtomicUsize>,
    /// Dropped to end the thread.
    _stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// All threads; they end when this is dropped.
pub(super) struct Workers(Vec<Worker>);

/// A seat on a thread, counted until it is dropped.
pub(super) struct Seat {
    pub(super) handle: Handle,
    load: Arc<AtomicUsize>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts `count` threads, at least one.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        (0..count.max(1)).map(Worker::start).collect::<io::Result<_>>().map(Self)
    }

    /// A seat on the thread with the fewest sessions. One that has ended has none, and would get
    /// them all.
    pub(super) fn seat(&self) -> Seat {
        let key = |worker: &&Worker| (worker.has_ended(), worker.load.load(Ordering::Relaxed));
        let worker = self.0.iter().min_by_key(key).expect("at least one worker is started");
        worker.load.fetch_add(1, Ordering::Relaxed);
        Seat { handle: worker.handle.clone(), load: Arc::clone(&worker.load) }
    }
}

impl Workers {
    /// What is wrong with the threads; `None` if nothing is.
    pub(super) fn trouble(&self) -> Option<String> {
        let ended = self.0.iter().filter(|worker| worker.has_ended()).count();
        let all = self.0.len();
        (ended > 0).then(|| format!("{ended} of {all} threads that move bytes have ended by a fault: restart this process"))
    }
}

impl Worker {
    /// Its runtime catches what panics in sessions; it is not meant to end before the process does.
    fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    fn start(index: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(format!("relay-{index}")).spawn(move || {
            runtime.block_on(async {
                let _ = stopped.await;
            });
            // Sessions that are left are dropped here, that is reset.
            drop(runtime);
        })?;
        Ok(Self { handle, load: Arc::default(), _stop: stop, thread })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_thread_that_has_ended_gets_no_sessions_and_is_told_of() {
        let mut workers = Workers::start(2).unwrap();
        assert_eq!(workers.trouble(), None);
        let taken = workers.seat();
        let emptier = workers.0.iter().position(|worker| worker.load.load(Ordering::Relaxed) == 0);
        let emptier = emptier.unwrap();
        workers.0[emptier]._stop = oneshot::channel().0;
        let deadline = Instant::now() + Duration::from_secs(20);
        while workers.trouble().is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            thread::yield_now();
        }
        let told = workers.trouble().unwrap();
        assert!(told.starts_with("1 of 2 threads"), "{told}");
        // The other one has more to do, and lives.
        let seat = workers.seat();
        assert!(Arc::ptr_eq(&seat.load, &taken.load) && taken.load.load(Ordering::Relaxed) == 2);
        assert_eq!(seat.handle.block_on(seat.handle.spawn(async { 7 })).unwrap(), 7);
    }
}
