//! The replicas that are fed: what is known of each, and how those who feed them are woken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use ::grant::{EpochId, Link, Member};
use api::heartbeat::ReplicaLine;
use parking_lot::Mutex;
use tokio::sync::watch;
use topology::NodeId;

/// Wakes feeders when something was published. Silent, and nearly free, without listeners.
#[derive(Debug)]
pub(super) struct Bell {
    pub(super) listeners: AtomicUsize,
    pub(super) rung: watch::Sender<()>,
}

impl Default for Bell {
    fn default() -> Self {
        Self { listeners: AtomicUsize::new(0), rung: watch::channel(()).0 }
    }
}

impl Bell {
    pub(super) fn ring(&self) {
        if self.listeners.load(Ordering::SeqCst) > 0 {
            self.ring_now();
        }
    }

    pub(super) fn ring_now(&self) {
        self.rung.send_replace(());
    }
}

/// The replicas being fed.
#[derive(Debug)]
pub(super) struct Feeders {
    pub(super) all: Mutex<BTreeMap<u64, Arc<Replica>>>,
    pub(super) acks: watch::Sender<u64>,
}

impl Default for Feeders {
    fn default() -> Self {
        Self { all: Mutex::default(), acks: watch::channel(0).0 }
    }
}

/// A replica as INFO, ROLE, WAIT and the controller see it.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) ip: String,
    pub(super) port: u16,
    pub(super) is_holdfast: bool,
    /// What its data is called in in-sync sets.
    pub(super) member: Option<Member>,
    /// Newest epoch it has applied, as it said last.
    pub(super) epoch: Mutex<Option<EpochId>>,
    pub(super) offset: AtomicU64,
    /// When it last said something, in ms of CLOCK_BOOTTIME.
    pub(super) heard_ms: AtomicU64,
    /// Acknowledged sequence + 1; 0 before the first acknowledgement.
    pub(super) acked_next: AtomicU64,
    pub(super) is_ack_wanted: AtomicBool,
    pub(super) end: watch::Sender<bool>,
}

impl Replica {
    pub(super) fn line(&self) -> ReplicaLine {
        let offset = self.offset.load(Ordering::Relaxed);
        ReplicaLine { ip: self.ip.clone(), port: self.port, offset, member: self.member }
    }

    /// As the in-sync set sees it; only of replicas that said who they are, and acknowledge.
    pub(super) fn link(&self) -> Option<Link> {
        Some(Link { member: self.member?, epoch_id: *self.epoch.lock(), acked: self.acked()? })
    }

    pub(super) fn acked(&self) -> Option<u64> {
        self.acked_next.load(Ordering::SeqCst).checked_sub(1)
    }

    /// Whose it is, and when it last said something.
    pub(super) fn heard(&self) -> Option<(NodeId, u64)> {
        Some((self.member?.node(), self.heard_ms.load(Ordering::Relaxed)))
    }

    pub(super) fn ask_for_ack(&self) {
        self.is_ack_wanted.store(true, Ordering::SeqCst);
    }
}

impl Feeders {
    pub(super) fn list(&self) -> Vec<Arc<Replica>> {
        self.all.lock().values().cloned().collect()
    }

    pub(super) fn end_all(&self) {
        self.end_where(|_| true);
    }

    pub(super) fn end_where(&self, is_meant: impl Fn(&Replica) -> bool) {
        for replica in self.all.lock().values().filter(|replica| is_meant(replica)) {
            replica.end.send_replace(true);
        }
    }

    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.acks.subscribe()
    }
}
