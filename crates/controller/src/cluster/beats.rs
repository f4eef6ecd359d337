//! Threads that carry heartbeats, and nothing else.
//!
//! A lease is lost by a master that is asked too late. Plans, records, topologies, pushes and
//! requests of people take the processor for milliseconds at a time, and a hundred clusters that
//! fail over at one moment queue hundreds of them: on threads that had both, heartbeats would stand
//! in that queue. On threads of their own they are due to the processor as much as all of that.
//!
//! Invariant: they end with the runtime of the task that began them. What may grant must not
//! outlive what plans, and reads which controller leads.

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// Most threads: a heartbeat takes some 50 µs of one.
const THREADS_MAX: usize = 8;

/// The threads; they end with it.
#[derive(Debug)]
pub(crate) struct Beats {
    threads: Handle,
    /// `None` once it is dropped.
    runtime: Option<Runtime>,
}

impl Beats {
    /// Starts as many as there are processors.
    ///
    /// # Errors
    /// The system gives no thread, or no descriptor for what they wait with.
    pub(super) fn start() -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores.min(THREADS_MAX))
            .thread_name("heartbeats")
            .enable_all()
            .build()?;
        Ok(Self { threads: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Runs the heartbeats of one node, for as long as the task that it returns lives, which is one
    /// of the caller's runtime.
    pub(super) fn spawn(&self, beats: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        tokio::spawn(held(Leash(self.threads.spawn(beats))))
    }
}

/// A task that ends when this is dropped.
struct Leash(JoinHandle<()>);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn held(mut leash: Leash) {
    // However it ends, also by a panic, it is over.
    let _ = (&mut leash.0).await;
}

impl Drop for Beats {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The last one to hold it may be a task, which must not wait for threads.
            runtime.shutdown_background();
        }
    }
}
