//! Leading where several controllers share a store: standby, claim, reads, and the end of it (rules O1 to O3).
//!
//! Invariant: what says that this process leads is a read of the store that was sent after whatever it is to cover, so
//! nothing here measures how long anything lasts. A standby asks all nodes without leading them and is warm; a claim needs
//! a proof ([`planner::proof`]); what a leader does begins with a read of all records that was sent after its claim.

pub(crate) mod known;
mod witness;

use std::sync::Arc;
use std::time::Duration;

use planner::Proof;

use self::known::{Known, Lead};
use self::witness::Witness;
use crate::registry::Registry;
use crate::store::{Leader, Outcome};

/// Between two reads of a leader, and two looks of a standby.
const PACE: Duration = Duration::from_millis(60);
/// How long a process that ends waits for the store to take that.
const RESIGN_LIMIT: Duration = Duration::from_millis(500);

impl Lead {
    /// Takes its part until the process ends.
    pub(crate) async fn run(&self, registry: &Arc<Registry>) {
        let shared = Arc::clone(&registry.shared);
        let mut witness = Witness::new(Arc::clone(&shared));
        let (mut since, mut claimed_at) = (0, None);
        loop {
            if let Some(term) = self.etcd.holds() {
                witness.watch(None);
                self.leading(registry, term).await;
                since = 0;
                continue;
            }
            match self.etcd.look(since).await {
                Ok(look) => {
                    since = look.revision;
                    registry.follow(look.changed, &look.names);
                    witness.watch(look.leader.as_ref());
                    self.known.lock().leader.clone_from(&look.leader);
                    let is_vacant = look.leader.as_ref().is_none_or(Leader::is_vacant);
                    let standby = witness.standby(is_vacant, registry.witnesses(), claimed_at);
                    if let Some(proof) = planner::proof(&standby, &shared.policy, shared.now()) {
                        claimed_at = Some(shared.now());
                        self.claim(look.leader.as_ref(), proof).await;
                        continue;
                    }
                }
                Err(error) => tracing::debug!(error = error.chain(), "look who leads"),
            }
            tokio::time::sleep(PACE).await;
        }
    }

    async fn claim(&self, seen: Option<&Leader>, proof: Proof) {
        let last = seen.map_or(0, |leader| leader.term);
        tracing::info!(?proof, last, "nobody leads any more: this controller claims the lead");
        match self.etcd.claim(seen, &self.address(), self.min_term).await {
            Outcome::Done(term) => tracing::info!(term, "this controller leads"),
            Outcome::NotDone(error) => tracing::info!(%error, "another one was faster"),
            Outcome::Unknown(error) => {
                tracing::warn!(error = error.chain(), "whether it leads is not known yet");
            }
        }
    }

    /// Leads until a read shows another's claim.
    async fn leading(&self, registry: &Arc<Registry>, term: u64) {
        let shared = &registry.shared;
        // What the predecessor wrote last may be newer than what was seen of it: nobody writes any more.
        let look = loop {
            match self.etcd.look(0).await {
                Ok(look) if self.etcd.holds() == Some(term) => break look,
                Ok(_) => return,
                Err(error) => tracing::warn!(error = error.chain(), "read what is to be led"),
            }
            tokio::time::sleep(PACE).await;
        };
        registry.follow(look.changed, &look.names);
        registry.leads(term);
        *self.known.lock() = Known { leads: Some(term), read: None, leader: look.leader };
        let (mut trouble, mut has_moved) = (false, false);
        while self.etcd.holds() == Some(term) && !has_moved {
            let sent = shared.now();
            match self.etcd.leader().await {
                Ok(leader) => {
                    let mut known = self.known.lock();
                    known.leader = leader;
                    if self.etcd.holds() == Some(term) {
                        known.shown(term, sent);
                    }
                    trouble = false;
                }
                Err(error) if !trouble => {
                    tracing::warn!(
                        error = error.chain(),
                        "no read says that this controller leads: it only observes"
                    );
                    trouble = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep_until(shared.instant(sent) + PACE).await;
            has_moved = self.etcd.holds() == Some(term) && self.has_moved();
        }
        {
            let mut known = self.known.lock();
            (known.leads, known.read) = (None, None);
        }
        if !has_moved {
            tracing::warn!(term, "another controller leads now: this one observes");
        }
        registry.stop();
        if has_moved {
            // Its claim sends the others to where it was, perhaps in clear.
            tracing::info!(
                term,
                address = self.address(),
                "this controller is reached elsewhere now: the lead is claimed anew"
            );
            self.leave().await;
        }
    }

    /// Stops leading so that a successor need not find out. The caller grants nothing any more.
    pub(crate) async fn resign(&self) {
        let was = std::mem::take(&mut *self.known.lock()).leads;
        if was.is_some() {
            self.leave().await;
        }
    }

    async fn leave(&self) {
        match tokio::time::timeout(RESIGN_LIMIT, self.etcd.resign()).await {
            Ok(Outcome::Done(())) => tracing::info!("the lead is vacant"),
            _ => tracing::warn!(
                "the store did not say that the lead is vacant: others will find out"
            ),
        }
    }
}
