//! What all clusters of a controller share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use planner::{Authority, Policy, Time};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use web::tls::Tls;

use super::STORE_LIMIT;
use super::beats::Beats;
use super::pushes::Pushes;
use crate::access::Known;
use crate::events::Journal;
use crate::lead::known::Lead;
use crate::metrics::Counters;
use crate::store::{Records, Store, StoreError};

/// How many requests may wait for it.
const CALLS_MAX: usize = 32;

/// What all clusters share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) policy: Policy,
    pub(crate) counters: Counters,
    pub(crate) journal: Journal,
    /// Users with tokens of their own, beside the configured token.
    pub(crate) users: Known,
    /// Requests that wait for the store: one that does not answer must not take every thread there
    /// is.
    calls: Arc<Semaphore>,
    /// Another than the store.
    records: Option<Arc<dyn Records>>,
    /// Where several controllers share the store.
    pub(crate) lead: Option<Lead>,
    /// By what balancers and other controllers are known, and what is shown to them.
    pub(crate) tls: Arc<Tls>,
    /// What carries heartbeats.
    pub(super) beats: Beats,
    /// Turns to plan: half of the processors, at least one.
    pub(super) turns: Semaphore,
    /// Turns to send a topology.
    pub(super) pushes: Pushes,
    epoch: Instant,
    pub(super) starts: AtomicU64,
}

impl Shared {
    /// Starts the threads that carry heartbeats.
    ///
    /// # Errors
    /// The system gives none.
    pub(crate) fn new(store: Arc<dyn Store>, policy: Policy) -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            store,
            policy,
            counters: Counters::default(),
            journal: Journal::default(),
            users: Known::default(),
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            records: None,
            lead: None,
            tls: Arc::default(),
            beats: Beats::start()?,
            turns: Semaphore::new((cores / 2).max(1)),
            pushes: Pushes::default(),
            epoch: Instant::now(),
            starts: AtomicU64::new(0),
        })
    }

    /// As one of several on the store.
    pub(crate) fn led_by(self, lead: Lead) -> Self {
        Self { lead: Some(lead), ..self }
    }

    /// Over TLS by this, where others are `https://`.
    pub(crate) fn speaking(self, tls: Arc<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// With other records than the store's.
    #[cfg(test)]
    pub(crate) fn recorded_by(self, records: Arc<dyn Records>) -> Self {
        Self { records: Some(records), ..self }
    }

    /// Where the records of clusters are kept.
    pub(crate) fn records(&self) -> &dyn Records {
        self.records.as_deref().unwrap_or(&*self.store)
    }

    /// A place among those that wait for the store.
    pub(crate) async fn call(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        let silent = StoreError::Silent(STORE_LIMIT);
        match tokio::time::timeout(STORE_LIMIT, Arc::clone(&self.calls).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(silent),
        }
    }

    /// The controller's monotonic clock. It may stand still while this machine sleeps, which
    /// makes leases seem longer than they are: the safe side.
    pub(crate) fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The moment `time` on the runtime's clock.
    pub(crate) fn instant(&self, time: Time) -> tokio::time::Instant {
        let offset = std::time::Duration::from_nanos(time.nanos());
        tokio::time::Instant::from_std(self.epoch) + offset
    }

    /// By what this process leads now.
    pub(crate) fn authority(&self) -> Authority {
        self.lead.as_ref().map_or(Authority::Alone, |lead| lead.authority(self.now()))
    }

    /// Whether this process answers requests itself.
    pub(crate) fn leads(&self) -> bool {
        self.lead.as_ref().is_none_or(|lead| lead.leads())
    }
}
