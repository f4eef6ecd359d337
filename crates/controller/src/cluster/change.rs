//! A change of the record: written by compare-and-swap, then in force.

use std::sync::Arc;

use api::rest::Actor;
use planner::{Record, RecordError};

use super::losses::{self, Loss};
use super::text::{TopologyError, TopologyText, apart, topology_after};
use super::{Cluster, STORE_LIMIT};
use crate::events::Event;
use crate::lead::known::Lead;
use crate::store::{Change, Outcome, StoreError};

/// Why a record was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpdateError {
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The result would break an invariant.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The topology cannot be expressed.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The caller changed its mind when it saw the current record.
    #[error("{0}")]
    Refused(String),
    /// The store failed, and has not told yet what became of the change.
    #[error(
        "whether it was done is not known yet: {0}; `status` shows what is in force once the store tells"
    )]
    Unknown(String),
    /// The store's thread is gone.
    #[error("the store does not answer")]
    Gone,
    /// The cluster was deleted, or another controller led meanwhile: what is known of it here is
    /// outdated.
    #[error("the cluster is not looked after as it was when this was asked for: ask again")]
    Over,
}

impl Cluster {
    /// Changes the record by compare-and-swap, trying again when somebody else was faster.
    /// `change` gets a copy of the current record and may refuse; a new topology gets a new
    /// version here. By whom it was asked for is in the transaction of the change.
    pub(crate) async fn update(
        self: &Arc<Self>,
        by: &Actor,
        reason: &str,
        change: impl Fn(&mut Record) -> Result<(), String>,
    ) -> Result<Arc<Record>, UpdateError> {
        loop {
            let (current, before) = self.in_force();
            let mut record = current.next();
            change(&mut record).map_err(UpdateError::Refused)?;
            let mut after = topology_after(&current, &before, &record)?;
            apart(&before, &after).map_err(UpdateError::Refused)?;
            if after.text != before.text {
                let (state, policy) = (self.state.lock(), &self.shared.policy);
                record.version = planner::next_version(&current, &state.observed, policy);
                after = after.under(record.version);
            }
            let _call = self.shared.call().await?;
            let term = self.shared.store.term();
            let event = Event::asked(by, term, self.label(), reason.to_owned());
            let swap = self.swap_as(record, after, event, Vec::new());
            // The change itself goes on to its end.
            let Ok(swapped) = tokio::time::timeout(STORE_LIMIT, swap).await else {
                return Err(UpdateError::Unknown(StoreError::Silent(STORE_LIMIT).to_string()));
            };
            match swapped {
                Err(UpdateError::Store(StoreError::Conflict)) => tokio::task::yield_now().await,
                other => return other,
            }
        }
    }

    /// Writes `record` if the store still has the revision before it, and lets everybody know, also
    /// of what is lost by it. It goes on to its end even if nobody waits for it any more (a client
    /// that hangs up ends its request): what the store has must be in force.
    pub(super) async fn swap(
        self: &Arc<Self>,
        record: Record,
        event: Event,
        losses: Vec<Loss>,
    ) -> Result<Arc<Record>, UpdateError> {
        let (was, known) = self.in_force();
        let topology = topology_after(&was, &known, &record)?;
        self.swap_as(record, topology, event, losses).await
    }

    /// [`Cluster::swap`], where the topology is rendered already.
    async fn swap_as(
        self: &Arc<Self>,
        record: Record,
        topology: Arc<TopologyText>,
        event: Event,
        losses: Vec<Loss>,
    ) -> Result<Arc<Record>, UpdateError> {
        record.check()?;
        let cluster = Arc::clone(self);
        let written =
            tokio::spawn(async move { cluster.write(record, topology, event, losses).await });
        written.await.map_err(|_| UpdateError::Gone)?
    }

    /// One that was stopped changes nothing any more: what leads its nodes by now would not know.
    async fn write(
        self: &Arc<Self>,
        record: Record,
        topology: Arc<TopologyText>,
        event: Event,
        losses: Vec<Loss>,
    ) -> Result<Arc<Record>, UpdateError> {
        let (was, is_over) = {
            let state = self.state.lock();
            (Arc::clone(&state.record), state.deleted)
        };
        if is_over {
            return Err(UpdateError::Over);
        }
        if (was.tag, was.revision + 1) != (record.tag, record.revision) {
            // It was made from an older one.
            return Err(StoreError::Conflict.into());
        }
        let records = self.shared.records();
        let also = losses::events(&losses);
        let change = Change { also, ..Change::new(was, record, event) };
        let lead = self.shared.lead.as_ref();
        let (claimed, sent) = (lead.and_then(Lead::term), self.shared.now());
        match records.swap(change.clone()).await {
            Outcome::Done(()) => {
                if let (Some(lead), Some(term)) = (lead, claimed) {
                    lead.changed(term, sent);
                }
                self.comes_into_force(Arc::clone(&change.record), topology);
                losses::tell(self, losses, &change.record);
                Ok(change.record)
            }
            Outcome::NotDone(error) => {
                // Somebody else was faster.
                let Record { namespace, name, .. } = &*change.record;
                if matches!(error, StoreError::Conflict)
                    && let Some(other) = records.cluster(namespace, name).await?
                {
                    self.adopt(Arc::new(other))?;
                }
                Err(error.into())
            }
            Outcome::Unknown(error) => self.in_doubt(change, losses, error).await,
        }
    }
}
