//! Leading where several controllers share a store: standby, claim, reads, and the end of it (rules O1 to O3).
//!
//! Invariant: what says that this process leads is a read of the store that was sent after whatever it is to cover, so
//! nothing here measures how long anything lasts. A standby asks all nodes without leading them and is warm; a claim needs
//! a proof ([`planner::proof`]); what a leader does begins with a read of all records that was sent after its claim.

mod witness;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use planner::{Authority, Proof, Time};

use self::witness::Witness;
use crate::cluster::Shared;
use crate::registry::Registry;
use crate::store::{Etcd, Leader, Outcome};

/// Between two reads of a leader, and two looks of a standby.
const PACE: Duration = Duration::from_millis(60);
/// How long a process that ends waits for the store to take that.
const RESIGN_LIMIT: Duration = Duration::from_millis(500);

/// What this process knows of who leads.
#[derive(Debug, Default)]
struct Known {
    /// It leads in this term, and has read what its predecessor left.
    leads: Option<u64>,
    /// When the newest read was sent that showed its claim.
    read: Option<Time>,
    /// Whom the store named last.
    leader: Option<Leader>,
}

/// The part of this process in who leads.
#[derive(Debug)]
pub(crate) struct Lead {
    etcd: Arc<Etcd>,
    /// URL of this process's REST interface, for the others.
    address: String,
    /// Least term of a claim.
    min_term: u64,
    known: Mutex<Known>,
}

impl Lead {
    pub(crate) fn new(etcd: Arc<Etcd>, address: String, min_term: u64) -> Self {
        Self { etcd, address, min_term, known: Mutex::new(Known::default()) }
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
        (other.address != self.address).then(|| other.address.clone())
    }

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
        match self.etcd.claim(seen, &self.address, self.min_term).await {
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
        let mut trouble = false;
        while self.etcd.holds() == Some(term) {
            let sent = shared.now();
            match self.etcd.leader().await {
                Ok(leader) => {
                    let mut known = self.known.lock();
                    known.leader = leader;
                    if self.etcd.holds() == Some(term) {
                        known.read = known.read.max(Some(sent));
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
        }
        {
            let mut known = self.known.lock();
            (known.leads, known.read) = (None, None);
        }
        tracing::warn!(term, "another controller leads now: this one observes");
        registry.stop();
    }

    /// Stops leading so that a successor need not find out. The caller grants nothing any more.
    pub(crate) async fn resign(&self) {
        let was = std::mem::take(&mut *self.known.lock()).leads;
        if was.is_none() {
            return;
        }
        match tokio::time::timeout(RESIGN_LIMIT, self.etcd.resign()).await {
            Ok(Outcome::Done(())) => tracing::info!("the lead is vacant"),
            _ => tracing::warn!(
                "the store did not say that the lead is vacant: others will find out"
            ),
        }
    }
}

impl Shared {
    /// By what this process leads now.
    pub(crate) fn authority(&self) -> Authority {
        self.lead.as_ref().map_or(Authority::Alone, |lead| lead.authority(self.now()))
    }

    /// Whether this process answers requests itself.
    pub(crate) fn leads(&self) -> bool {
        self.lead.as_ref().is_none_or(|lead| lead.leads())
    }
}
