//! The threads that move bytes: each runs its own single-threaded runtime, so that a session's two sockets stay on one CPU and nothing is stolen between threads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// One thread.
struct Worker {
    handle: Handle,
    load: Arc<AtomicUsize>,
    /// Dropped to end the thread.
    _stop: oneshot::Sender<()>,
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

    /// A seat on the thread with the fewest sessions.
    pub(super) fn seat(&self) -> Seat {
        let worker = self
            .0
            .iter()
            .min_by_key(|worker| worker.load.load(Ordering::Relaxed))
            .expect("at least one worker is started");
        worker.load.fetch_add(1, Ordering::Relaxed);
        Seat { handle: worker.handle.clone(), load: Arc::clone(&worker.load) }
    }
}

impl Worker {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new().name(format!("relay-{index}")).spawn(move || {
            runtime.block_on(async {
                let _ = stopped.await;
            });
            // Sessions that are left are dropped here, that is reset.
            drop(runtime);
        })?;
        Ok(Self { handle, load: Arc::default(), _stop: stop })
    }
}
