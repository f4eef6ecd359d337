//! What a node knows of its replication, and what others may ask of it. It starts nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use api::heartbeat::{LinkStatus, ReplicaLine};
use parking_lot::Mutex;
use replication::master::checkpoint::Shelf;
use replication::replica::{Fault, Progress};
use storage::Store;
use tokio::sync::{Notify, watch};
use topology::{Endpoint, NodeId};

use super::aside::Aside;
use super::feeders::{Bell, Feeders};
use super::lineage::Keeper;
use super::news::News;
use super::pace::Pacer;
use crate::clock::boottime_ms as now_ms;

/// Replication of one node: the link to its master and the feeds of its replicas.
#[derive(Debug, Default)]
pub struct Replication {
    pub(super) link: Mutex<Link>,
    /// Held by the link's thread for its whole life: an old one may still be replacing the
    /// database.
    pub(super) one_link: Mutex<()>,
    pub(super) last_io_ms: AtomicU64,
    /// Tells the link to try at once.
    pub(super) poke: Notify,
    /// Which of the master's records are told to subscribers.
    pub(crate) news: News,
    pub(super) feeders: Feeders,
    pub(super) bell: Arc<Bell>,
    /// Whether the present database rings the bell.
    pub(super) is_bell_hung: Mutex<bool>,
    pub(super) shelf: Mutex<Shelf>,
    /// One checkpoint at a time is being made.
    pub(super) making: Mutex<()>,
    /// Held by the task that syncs the log for clients that wait for that.
    pub(crate) syncing: tokio::sync::Mutex<()>,
    pub(super) is_sweeping: AtomicBool,
    pub(super) pacer: Pacer,
    /// Which node wrote which part of the data here.
    pub lineage: Keeper,
    /// What lies in `db.deposed`.
    pub aside: Aside,
}

/// The present link, as others see it.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Rises with every link, so that an old one cannot speak for a new one.
    pub(super) serial: u64,
    /// Generation of the write gate when the link was ordered.
    pub(super) generation: u64,
    pub(super) status: LinkStatus,
    /// Why there is no stream, since when an attempt last failed.
    pub(super) why: Option<String>,
    /// No attempt will do better before somebody changes a configuration.
    pub(super) needs_somebody: bool,
    /// How far a full sync is, while one runs.
    pub(super) progress: Option<Progress>,
    pub(super) cancel: Option<watch::Sender<bool>>,
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

    /// Options have changed: what waits by the old ones looks at the new ones.
    pub fn look_again(&self) {
        self.retry();
        self.bell.ring_now();
    }

    /// Why there is no stream from the master: what the last attempt ended with. `None` while there
    /// is one.
    pub fn link_error(&self) -> Option<String> {
        self.link.lock().why.clone()
    }

    /// Whether attempts will fail until somebody changes a configuration, here or at the master.
    pub fn needs_somebody(&self) -> bool {
        self.link.lock().needs_somebody
    }

    /// How far a full sync is; `None` before its files come, and where none runs.
    pub fn sync_progress(&self) -> Option<Progress> {
        self.link.lock().progress
    }

    /// Where the checkpoint ends that replicas may be copying; `None` where there is none.
    pub fn checkpoint_at(&self) -> Option<u64> {
        self.shelf.lock().sequence()
    }

    /// Replicas with a live stream, oldest first.
    pub fn replicas(&self) -> Vec<ReplicaLine> {
        self.feeders.list().iter().map(|replica| replica.line()).collect()
    }

    /// Sequences the replicas have acknowledged as applied; only of those that acknowledge.
    pub fn acked(&self) -> Vec<u64> {
        self.feeders.list().iter().filter_map(|replica| replica.acked()).collect()
    }

    /// The same, of those alone whose acknowledgements mean that it is on their disks.
    pub fn acked_as_durable(&self) -> Vec<u64> {
        let replicas = self.feeders.list();
        let durable = replicas.iter().filter(|replica| replica.acknowledges_disk());
        durable.filter_map(|replica| replica.acked()).collect()
    }

    /// The replicas that could be members of the in-sync set.
    pub fn links(&self) -> Vec<::grant::Link> {
        self.feeders.list().iter().filter_map(|replica| replica.link()).collect()
    }

    /// Wakes the feeds of replicas that leave: whether they are counted on may have changed.
    pub fn answer_leavers(&self) {
        if self.feeders.list().iter().any(|replica| replica.is_leaving()) {
            self.bell.ring_now();
        }
    }

    /// The replicas whose node is known, and when each last said something, by the clock of
    /// [`now_ms`].
    pub fn heard(&self) -> Vec<(NodeId, u64)> {
        self.feeders.list().iter().filter_map(|replica| replica.heard()).collect()
    }

    /// How far a replica of this node is, as INFO shows it: the sequence it has acknowledged, or,
    /// if it acknowledges none, the one it was sent. `None` if it has no stream here.
    pub fn offset_of(&self, id: NodeId, local: &Endpoint) -> Option<u64> {
        let replicas = self.feeders.list();
        let found = replicas.iter().rev().find(|replica| replica.is_of(id, local))?;
        Some(found.offset.load(Ordering::Relaxed))
    }

    /// Whether that replica had a stream here that ended of itself, and has not come back since. Of
    /// none while somebody copies the data here: nobody says which of them that is.
    pub fn is_lost(&self, id: NodeId, local: &Endpoint) -> bool {
        self.checkpoint_at().is_none() && self.feeders.is_lost(id, local, now_ms())
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

    pub(super) fn set_status(&self, serial: u64, status: LinkStatus) {
        let mut link = self.link.lock();
        if link.serial == serial {
            link.status = status;
            if status == LinkStatus::Up {
                link.why = None;
                link.needs_somebody = false;
            }
            if status != LinkStatus::Sync {
                link.progress = None;
            }
        }
    }

    /// Once all files are here, the last progress stays until the sync is over.
    pub(super) fn set_progress(&self, serial: u64, progress: Option<Progress>) {
        let Some(progress) = progress else { return };
        let mut link = self.link.lock();
        if link.serial == serial {
            link.progress = Some(progress);
        }
    }

    /// The reason goes into lines of text: peers' words in it must not end them.
    pub(super) fn set_link_error(&self, serial: u64, fault: &Fault) {
        let mut link = self.link.lock();
        if link.serial == serial {
            link.needs_somebody = fault.needs_somebody();
            let why = fault.to_string();
            let plain = why.chars().map(|c| if c.is_control() { ' ' } else { c });
            link.why = Some(plain.take(WHY_CHARS_MAX).collect());
        }
    }

    /// Replicas that were told the lineage ask anew: it is another one.
    pub fn lineage_changed(&self) {
        self.feeders.end_where(|replica| replica.is_holdfast);
    }

    /// A replica that may be written to (`slave-read-only no`) is about to be: what it writes
    /// behind `latest` is not its master's.
    pub fn note_own_write(&self, db: &Path, latest: u64) -> io::Result<()> {
        if self.lineage.write(db, latest)? {
            self.lineage_changed();
        }
        Ok(())
    }

    /// Lets the database ring the bell that wakes feeders. Only done once there are feeders:
    /// publishing is on the path of every write.
    pub(super) fn hang_bell(&self, store: &Store) {
        let mut is_hung = self.is_bell_hung.lock();
        if !*is_hung {
            let bell = Arc::clone(&self.bell);
            store.on_publish(Box::new(move |_| bell.ring()));
            *is_hung = true;
        }
    }

    /// No replica may go on with what the present database said: the history changes.
    pub(super) fn cut_replicas(&self) {
        self.feeders.end_all();
        self.shelf.lock().invalidate();
    }
}

impl Link {
    /// It is over: it may not speak for the node any more, and is told to end.
    pub(super) fn end(&mut self) {
        self.serial += 1;
        self.status = LinkStatus::Connecting;
        (self.why, self.needs_somebody, self.progress) = (None, false, None);
        if let Some(cancel) = self.cancel.take() {
            cancel.send_replace(true);
        }
    }
}
