//! Leading where several controllers share a store: standby, claim, reads, and the end of it (rules
//! O1 to O3).
//!
//! Invariant: what says that this process leads is a read of the store that was sent after whatever
//! it is to cover, so nothing here measures how long anything lasts. A standby asks all nodes
//! without leading them and is warm; a claim needs a proof ([`planner::proof`]); what a leader does
//! begins with a read of all records that was sent after its claim. One that hears no node any more
//! gives the lead up to one that does, and one that leads by a few to one that hears most
//! ([`planner::yields`]). One that hears the leader no more asks it in the store before it claims
//! ([`planner::Doubts`]). One that cannot open what is sealed in the store never claims: it would
//! lead without passwords.

pub(crate) mod known;
#[cfg(test)]
mod tests;
mod witness;

use std::sync::Arc;
use std::time::Duration;

use planner::{Doubts, Hearing, Leading, Proof, Standby, Step, Time};

use self::known::{Known, Lead};
use self::witness::Witness;
use crate::registry::Registry;
use crate::store::{Doubt, Leader, Look, Outcome, StoreError};

/// Between two reads of a leader, and two looks of a standby.
const PACE: Duration = Duration::from_millis(60);
/// How often a leader asks itself whether it hears nodes: there may be thousands.
const LISTENS: Duration = Duration::from_millis(500);
/// Between two attempts of a leader to read records that it could not read, ms.
const UNREAD_MS: u64 = 5_000;
/// Of two claims within so long with which others were faster, the second one counts, ms.
const RACES_MS: u64 = 2_000;
/// How long a process that ends waits for the store to take that.
const RESIGN_LIMIT: Duration = Duration::from_millis(500);

/// Why this process leads no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Another has claimed the lead, or what is to be led was never read.
    Lost,
    /// It is reached elsewhere than its claim says.
    Moved,
    /// It hears no node, or the few by which it leads, and another hears more.
    Deaf,
}

/// What this process remembers of its own claims.
#[derive(Debug, Default, PartialEq, Eq)]
struct Claimed {
    at: Option<Time>,
    by: Option<Proof>,
    /// When it claimed last and another one was faster.
    lost_at: Option<Time>,
    /// How often in a row it has led by what a few nodes said, and another one took the lead back,
    /// or was given it.
    in_vain: u32,
}

impl Claimed {
    /// It claims by this proof; [`Claimed::lost_race`] if that came to nothing.
    fn begins(&mut self, by: Proof, now: Time) {
        (self.at, self.by) = (Some(now), Some(by));
    }

    /// Another one was faster: that is no claim, and the lead it has taken may be free again soon.
    /// The second time within a while it is one, so that etcd is not asked without a pause whatever
    /// refuses them.
    fn lost_race(&mut self) {
        let races = self.lost_at.zip(self.at);
        let is_second = races.is_some_and(|(before, at)| at < before.plus_millis(RACES_MS));
        (self.lost_at, self.by) = (self.at, None);
        if !is_second {
            self.at = None;
        }
    }

    /// What it has claimed has ended so. What it gives up it leaves to others for a while.
    fn ended(&mut self, end: End, now: Time) {
        let is_in_vain = self.by.take() == Some(Proof::Few) && end != End::Moved;
        self.in_vain = if is_in_vain { self.in_vain.saturating_add(1) } else { 0 };
        if end == End::Deaf {
            self.at = Some(now);
        }
    }

    /// What it hears as one that stands by. With the leader and most nodes, whatever cut it off is
    /// over: the next time that it hears a few is not one more of the same.
    fn hears(&mut self, hears_leader: bool, hearing: Hearing) {
        if hears_leader && hearing.hears_most() {
            self.in_vain = 0;
        }
    }
}

/// What one that stands by keeps from look to look.
#[derive(Debug)]
struct Stands {
    witness: Witness,
    doubts: Doubts,
    claimed: Claimed,
    /// Since when nobody leads.
    vacant_at: Option<Time>,
    /// How often the lead was given up, and nobody else has taken it.
    in_vain: u32,
}

impl Lead {
    /// Takes its part until the process ends.
    pub(crate) async fn run(&self, registry: &Arc<Registry>) {
        let shared = Arc::clone(&registry.shared);
        let mut stands = Stands {
            witness: Witness::new(Arc::clone(&shared)),
            doubts: Doubts::default(),
            claimed: Claimed::default(),
            vacant_at: None,
            in_vain: 0,
        };
        let (mut since, mut failed) = (0, 0);
        loop {
            if let Some(term) = self.etcd.holds() {
                stands.witness.watch(None);
                let is_by_few = stands.claimed.by == Some(Proof::Few);
                let of = Leading { is_by_few, in_vain: stands.in_vain, ..Leading::default() };
                let end = self.leading(registry, term, of).await;
                stands.claimed.ended(end, shared.now());
                stands.in_vain = match end {
                    End::Deaf => stands.in_vain.saturating_add(1),
                    End::Lost | End::Moved => stands.in_vain,
                };
                (since, stands.vacant_at) = (0, None);
                continue;
            }
            let sent = shared.now();
            match self.etcd.look_again(since, failed).await {
                Ok(look) => {
                    (since, failed) = (look.revision, 0);
                    self.looked(None, shared.now());
                    if self.stands_by(registry, &mut stands, (sent, look)).await {
                        continue;
                    }
                }
                // Told once: it is looked again many times a second.
                Err(error) => {
                    // What changed is little, and who waits longer is the last to claim.
                    failed = if since == 0 { failed.saturating_add(1) } else { 0 };
                    if self.looked(Some(error.chain()), shared.now()) {
                        tracing::warn!(
                            error = error.chain(),
                            "look who leads: this controller does not know, and tries on"
                        );
                    }
                }
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// What follows from a look that was sent at that time; true if it has claimed the lead.
    async fn stands_by(
        &self,
        registry: &Registry,
        stands: &mut Stands,
        (sent, look): (Time, Look),
    ) -> bool {
        let shared = &registry.shared;
        let (leader, doubt) = (look.leader.clone(), look.doubt.clone());
        registry.follow(look);
        stands.witness.watch(leader.as_ref());
        self.known.lock().leader.clone_from(&leader);
        if leader.as_ref().is_none_or(Leader::is_vacant) {
            stands.vacant_at.get_or_insert(shared.now());
        } else if self.etcd.holds().is_none() {
            (stands.vacant_at, stands.in_vain) = (None, 0);
        }
        let claim = leader.as_ref().map_or("", |leader| leader.claim.as_str());
        if stands.doubts.looked(sent, claim, doubt.asked()) {
            tracing::warn!(
                nodes = doubt.asked().reaches.unwrap_or_default(),
                "a leader that is not heard here says in the store that it lives: is a network cut?"
            );
        }
        let locked = self.etcd.locked().map(|error| error.to_string());
        if self.is_kept_out(locked.or_else(|| registry.locked())) {
            return false;
        }
        let nodes = (registry.witnesses(), registry.hearing());
        stands.claimed.hears(stands.witness.has_heard(), nodes.1);
        let standby = stands.witness.standby(stands.vacant_at, nodes, stands.claimed.at);
        let standby = Standby { in_vain: stands.claimed.in_vain, ..standby };
        match stands.doubts.step(standby, &shared.policy, shared.now()) {
            Step::Claim(proof) => {
                stands.claimed.begins(proof, shared.now());
                if self.claim(leader.as_ref(), proof).await {
                    return true;
                }
                stands.claimed.lost_race();
            }
            Step::Ask => self.asks(leader, doubt),
            Step::Wait => {}
        }
        false
    }

    /// Asks the leader in the store whether it lives; on the side, since a look may show that
    /// whatever becomes of this call, and no claim waits for it.
    fn asks(&self, leader: Option<Leader>, last: Doubt) {
        let Some(leader) = leader else { return };
        let etcd = Arc::clone(&self.etcd);
        tokio::spawn(async move {
            if let Err(error) = etcd.ask(&leader, &last).await.done() {
                tracing::debug!(error = error.chain(), "ask the leader whether it lives");
            }
        });
    }

    /// Claims the lead from whoever is seen to have it; false if another one was faster.
    async fn claim(&self, seen: Option<&Leader>, proof: Proof) -> bool {
        let last = seen.map_or(0, |leader| leader.term);
        tracing::info!(?proof, last, "nobody leads any more: this controller claims the lead");
        match self.etcd.claim(seen, &self.address(), self.min_term).await {
            Outcome::Done(term) => tracing::info!(term, "this controller leads"),
            Outcome::NotDone(error @ StoreError::Conflict) => {
                tracing::info!(%error, "another one was faster");
                return false;
            }
            Outcome::NotDone(error) => {
                tracing::warn!(error = error.chain(), "the store does not take the claim");
            }
            Outcome::Unknown(error) => {
                tracing::warn!(error = error.chain(), "whether it leads is not known yet");
            }
        }
        true
    }

    /// Leads until a read shows another's claim, or it is better that another leads.
    async fn leading(&self, registry: &Arc<Registry>, term: u64, of: Leading) -> End {
        let shared = &registry.shared;
        // What the predecessor wrote last may be newer than what was seen of it: nobody writes any
        // more.
        let mut failed = 0;
        let look = loop {
            match self.etcd.look_again(0, failed).await {
                Ok(look) if self.etcd.holds() == Some(term) => break look,
                Ok(_) => return End::Lost,
                Err(error) => {
                    if self.looked(Some(error.chain()), shared.now()) {
                        tracing::warn!(error = error.chain(), "read what is to be led");
                    }
                    failed = failed.saturating_add(1);
                }
            }
            tokio::time::sleep(PACE).await;
        };
        self.looked(None, shared.now());
        let leader = look.leader.clone();
        registry.follow(look);
        registry.leads(term);
        *self.known.lock() = Known { leads: Some(term), read: None, leader };
        let (since, mut trouble) = (shared.now(), false);
        let (mut listened, mut read_at) = (since, since);
        let end = loop {
            let sent = shared.now();
            match self.etcd.fresh_leader().await {
                Ok(leader) => {
                    self.read(leader, term, sent);
                    self.answers(registry);
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
            if self.etcd.holds() != Some(term) {
                break End::Lost;
            }
            if self.has_moved() {
                break End::Moved;
            }
            if shared.instant(listened) + LISTENS <= tokio::time::Instant::now() {
                listened = shared.now();
                if self.gives_way(registry, Leading { since, ..of }) {
                    break End::Deaf;
                }
                if registry.has_unread() && listened.millis_since(read_at) >= UNREAD_MS {
                    read_at = listened;
                    self.read_again(registry, term).await;
                }
            }
        };
        self.ended(registry, term, end).await;
        end
    }

    /// A read that was sent then has shown who leads.
    fn read(&self, leader: Option<Leader>, term: u64, sent: Time) {
        let mut known = self.known.lock();
        known.leader = leader;
        if self.etcd.holds() == Some(term) {
            known.shown(term, sent);
        }
    }

    /// Says in the store that it lives, where one that stands by doubts it; on the side, since no
    /// read by which it leads waits for that.
    fn answers(&self, registry: &Registry) {
        let Some(doubt) = self.etcd.asked() else { return };
        let (etcd, reaches) = (Arc::clone(&self.etcd), registry.hearing().reached);
        tokio::spawn(async move {
            if let Err(error) = etcd.answer(&doubt, reaches).await.done() {
                tracing::debug!(error = error.chain(), "answer one that doubts");
            }
        });
    }

    /// Looks whether records that could not be read can be read now.
    async fn read_again(&self, registry: &Registry, term: u64) {
        match self.etcd.look(0).await {
            Ok(look) if self.etcd.holds() == Some(term) => registry.read_again(look),
            Ok(_) => {}
            Err(error) => tracing::debug!(error = error.chain(), "read records again"),
        }
    }

    /// Whether this controller hears no node, or the few by which it leads, and another hears more.
    fn gives_way(&self, registry: &Registry, of: Leading) -> bool {
        let others = self.others();
        let (other_hears_at, other_hears_most_at) = (others.hear_at, others.hear_most_at);
        let hearing = registry.hearing();
        let of = Leading { hearing, other_hears_at, other_hears_most_at, ..of };
        planner::yields(&of, &registry.shared.policy, registry.shared.now())
    }

    /// Leads no more, and says why.
    async fn ended(&self, registry: &Registry, term: u64, end: End) {
        {
            let mut known = self.known.lock();
            (known.leads, known.read) = (None, None);
        }
        registry.stop();
        match end {
            End::Lost => tracing::warn!(term, "another controller leads now: this one observes"),
            // Its claim sends the others to where it was, perhaps in clear.
            End::Moved => tracing::info!(
                term,
                address = self.address(),
                "this controller is reached elsewhere now: the lead is claimed anew"
            ),
            End::Deaf => tracing::warn!(
                term,
                "this controller hears no node, or a few, and one that stands by hears more: it gives the lead up"
            ),
        }
        if end != End::Lost {
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
