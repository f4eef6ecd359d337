//! Drives the state machines of crate `replication` with sockets, threads and the database.
//!
//! One thread follows the master ([`link`]), one thread feeds each replica ([`feeder`]), one sends each set of files ([`files`]).
//! A change of role only tells them to end and starts others: it waits for none of them. What protects the data meanwhile is the
//! write gate: a link applies under it, and only while the generation it was started under is the present one.

mod conn;
pub mod deposed;
mod exchange;
mod feeder;
mod files;
pub(crate) mod folder;
mod lineage;
mod link;
mod pace;
pub mod rewind;
mod show;
mod swap;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use api::heartbeat::{LinkStatus, ReplicaLine};
use parking_lot::Mutex;
use replication::history::Position;
use replication::master::checkpoint::Shelf;
use storage::Store;
use tokio::sync::{Notify, watch};
use topology::{Endpoint, NodeId};

use crate::clock;
use crate::node::Node;

pub use feeder::serve as feed;
pub use files::{Request as FileRequest, no_grant, serve as send_files};
pub use rewind::{DISCARDED, finish as finish_rewind};
pub use show::{Role, info, role};
pub use swap::{DirLock, recover};

/// Replication of one node: the link to its master and the feeds of its replicas.
#[derive(Debug, Default)]
pub struct Replication {
    link: Mutex<Link>,
    /// Held by the link's thread for its whole life: an old one may still be replacing the database.
    one_link: Mutex<()>,
    last_io_ms: AtomicU64,
    /// Tells the link to try at once.
    poke: Notify,
    feeders: feeder::Feeders,
    bell: Arc<feeder::Bell>,
    /// Whether the present database rings the bell.
    is_bell_hung: Mutex<bool>,
    shelf: Mutex<Shelf>,
    /// One checkpoint at a time is being made.
    making: Mutex<()>,
    is_sweeping: AtomicBool,
    pacer: pace::Pacer,
    /// Who wrote the data here.
    pub lineage: lineage::Keeper,
    /// What lies in `db.deposed`.
    pub aside: deposed::Aside,
}

/// The present link, as others see it.
#[derive(Debug, Default)]
struct Link {
    /// Rises with every link, so that an old one cannot speak for a new one.
    serial: u64,
    /// Of the write gate, when the link was ordered.
    generation: u64,
    status: LinkStatus,
    /// Why there is no stream, since when an attempt last failed.
    why: Option<String>,
    cancel: Option<watch::Sender<bool>>,
}

/// Longest reason that is shown.
const WHY_CHARS_MAX: usize = 400;

impl Replication {
    /// State of the link to the master.
    pub fn link_status(&self) -> LinkStatus {
        self.link.lock().status
    }

    /// A link that waits for its next attempt makes it at once.
    pub fn retry(&self) {
        self.poke.notify_one();
    }

    /// Options have changed: whoever waits by the old ones looks at the new ones.
    pub fn look_again(&self) {
        self.retry();
        self.bell.ring_now();
    }

    /// Why there is no stream from the master: what the last attempt ended with. `None` while there is one.
    pub fn link_error(&self) -> Option<String> {
        self.link.lock().why.clone()
    }

    /// Replicas with a live stream, oldest first.
    pub fn replicas(&self) -> Vec<ReplicaLine> {
        self.feeders.list().iter().map(|replica| replica.line()).collect()
    }

    /// Sequences the replicas have acknowledged as applied; only of those that acknowledge.
    pub fn acked(&self) -> Vec<u64> {
        self.feeders.list().iter().filter_map(|replica| replica.acked()).collect()
    }

    /// The replicas that could be members of the in-sync set.
    pub fn links(&self) -> Vec<::grant::Link> {
        self.feeders.list().iter().filter_map(|replica| replica.link()).collect()
    }

    /// The replicas whose node is known, and when each last said something, by the clock of
    /// [`now_ms`].
    pub fn heard(&self) -> Vec<(NodeId, u64)> {
        self.feeders.list().iter().filter_map(|replica| replica.heard()).collect()
    }

    /// Asks replicas that acknowledge only now and then to do so now.
    pub fn ask_for_acks(&self) {
        self.feeders.list().iter().for_each(|replica| replica.ask_for_ack());
        self.bell.ring_now();
    }

    /// Changes with every acknowledgement that is news.
    pub fn acks(&self) -> watch::Receiver<u64> {
        self.feeders.news()
    }

    /// Whole seconds since the master was heard; `None` if it never was.
    pub fn last_io_seconds(&self) -> Option<u64> {
        let last = self.last_io_ms.load(Ordering::Relaxed);
        (last > 0).then(|| now_ms().saturating_sub(last) / 1000)
    }

    fn set_status(&self, serial: u64, status: LinkStatus) {
        let mut link = self.link.lock();
        if link.serial == serial {
            link.status = status;
            if status == LinkStatus::Up {
                link.why = None;
            }
        }
    }

    /// The reason goes into lines of text: peers' words in it must not end them.
    fn set_link_error(&self, serial: u64, why: &str) {
        let mut link = self.link.lock();
        if link.serial == serial {
            let plain = why.chars().map(|c| if c.is_control() { ' ' } else { c });
            link.why = Some(plain.take(WHY_CHARS_MAX).collect());
        }
    }

    /// Replicas that were told the lineage ask anew: it is another one.
    pub fn lineage_changed(&self) {
        self.feeders.end_where(|replica| replica.is_holdfast);
    }

    /// Lets the database ring the bell that wakes feeders. Only done once there are feeders: publishing is on the path of every write.
    fn hang_bell(&self, store: &Store) {
        let mut is_hung = self.is_bell_hung.lock();
        if !*is_hung {
            let bell = Arc::clone(&self.bell);
            store.on_publish(Box::new(move |_| bell.ring()));
            *is_hung = true;
        }
    }

    /// No replica may go on with what the present database said: the history changes.
    fn cut_replicas(&self) {
        self.feeders.end_all();
        self.shelf.lock().invalidate();
    }
}

/// Replicates from `master` from now on, under write-gate generation `generation`; ends what was before. Never waits.
pub fn follow(node: &Arc<Node>, master: Endpoint, generation: u64) {
    node.replication.cut_replicas();
    let (cancel, cancelled) = watch::channel(false);
    let serial = {
        let mut link = node.replication.link.lock();
        // Orders are given after the gate is passed on, so one can be late.
        if generation < link.generation {
            return;
        }
        end_link(&mut link);
        link.generation = generation;
        link.cancel = Some(cancel);
        link.serial
    };
    let job = link::Job { node: Arc::clone(node), master, serial, generation, cancelled };
    spawn("repl-link", move || link::run(job));
}

/// The node ends: it follows nobody and feeds nobody any more. Never waits.
pub fn end(node: &Arc<Node>) {
    stop(node);
    node.replication.feeders.end_all();
}

/// Looks for what was set aside before this process, on a thread of its own: a database of an older version has to be opened.
pub fn look_aside(node: &Arc<Node>) {
    let node = Arc::clone(node);
    spawn("repl-aside", move || node.replication.aside.look(&node.dir));
}

/// Puts the data in `db.deposed` in service.
///
/// # Errors
/// See [`deposed::RestoreError`].
pub async fn restore(node: Arc<Node>, expected: Position) -> Result<(), deposed::RestoreError> {
    let (done, result) = tokio::sync::oneshot::channel();
    spawn("repl-restore", move || {
        block_on(async {
            // Nobody may be waiting any more.
            let _ = done.send(deposed::restore(node, expected).await);
        });
    });
    result.await.unwrap_or(Err(deposed::RestoreError::Stopping))
}

/// Replicates from nobody. Never waits.
pub fn stop(node: &Arc<Node>) {
    end_link(&mut node.replication.link.lock());
}

fn end_link(link: &mut Link) {
    link.serial += 1;
    link.status = LinkStatus::Connecting;
    link.why = None;
    if let Some(cancel) = link.cancel.take() {
        cancel.send_replace(true);
    }
}

/// Lets flushes and compactions run as configured, from a thread of its own: it writes files.
pub fn settle(store: Store) {
    if !store.is_holding() {
        return;
    }
    spawn("repl-settle", move || {
        if let Err(error) = store.settle() {
            tracing::warn!(%error, "cannot set the configured memtable size; the present one stays until the next start");
        }
    });
}

/// Milliseconds of the clock that all replication times are counted in.
pub(crate) fn now_ms() -> u64 {
    clock::boottime_ns() / 1_000_000
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(run) {
        tracing::error!(%error, name, "cannot start a replication thread");
    }
}

/// Runs a future on a runtime of the calling thread's own.
fn block_on(future: impl Future<Output = ()>) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => tracing::error!(%error, "cannot start a replication runtime"),
    }
}

/// What the link looks at in every step: for the test that walks all live options.
#[cfg(test)]
pub(crate) fn link_options(node: &Node) -> ::replication::replica::Options {
    link::options(&node.config.now())
}

/// What every file is sent by: for the same test.
#[cfg(test)]
pub(crate) fn mb_per_second(node: &Node) -> u32 {
    files::mb_per_second(node)
}
