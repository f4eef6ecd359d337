//! What this process knows of who leads: written by [`super`], read by all that acts or asks.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use planner::{Authority, Time};

use crate::Live;
use crate::store::{Etcd, Leader};

/// What this process knows of who leads.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// It leads in this term, and has read what its predecessor left.
    pub(super) leads: Option<u64>,
    /// When the newest read was sent that showed its claim.
    pub(super) read: Option<Time>,
    /// Whom the store named last.
    pub(super) leader: Option<Leader>,
}

/// The part of this process in who leads.
#[derive(Debug)]
pub(crate) struct Lead {
    pub(super) etcd: Arc<Etcd>,
    /// What says by which URL the others reach this process, and where it listens.
    here: (Arc<Live>, SocketAddr),
    /// Least term of a claim.
    pub(super) min_term: u64,
    pub(super) known: Mutex<Known>,
}

impl Lead {
    pub(crate) fn new(etcd: Arc<Etcd>, here: (Arc<Live>, SocketAddr), min_term: u64) -> Self {
        Self { etcd, here, min_term, known: Mutex::new(Known::default()) }
    }

    /// URL of this process's REST interface, for the others. It may change while it runs.
    pub(crate) fn address(&self) -> String {
        let (live, listens) = &self.here;
        live.config().url(*listens)
    }

    /// Whether the claim of this process, as the store names it, shows the others where it was.
    pub(super) fn has_moved(&self) -> bool {
        let shown = self.known.lock().leader.as_ref().map(|leader| leader.address.clone());
        shown.is_some_and(|shown| shown != self.address())
    }

    /// By what it leads at `now`.
    pub(crate) fn authority(&self, now: Time) -> Authority {
        let known = self.known.lock();
        let leads = known.leads.is_some() && known.leads == self.etcd.holds();
        Authority::shared(known.read.filter(|_| leads), now)
    }

    /// Whether requests are for this process.
    pub(crate) fn leads(&self) -> bool {
        let leads = self.known.lock().leads;
        leads.is_some() && leads == self.etcd.holds()
    }

    /// Where the leader is, as far as is known.
    pub(crate) fn leader(&self) -> Option<String> {
        let known = self.known.lock();
        let other = known.leader.as_ref().filter(|leader| !leader.is_vacant())?;
        (other.address != self.address()).then(|| other.address.clone())
    }
}
