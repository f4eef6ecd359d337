//! The key `leader`: who leads, and what this process has claimed (rule O1).
//!
//! A claim whose answer did not come may be in force later: it is held as soon as a read shows it.

use std::collections::BTreeSet;
use std::time::Duration;

use planner::Record;
use serde::{Deserialize, Serialize};

use super::doubt::{self, Doubt};
use super::name::Name;
use super::sealing;
use super::wire::{Compare, Pair, Range, Write};
use super::{Changed, Etcd, encode};
use crate::store::{Outcome, StoreError, failed, fresh_tag, sealed};

/// The key `leader`: who leads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Leader {
    /// Rises with every claim.
    pub term: u64,
    /// Random, of this claim; empty: vacant.
    #[serde(default)]
    pub claim: String,
    /// URL of its REST interface.
    #[serde(default)]
    pub address: String,
    /// As the key has it: another version may say more.
    #[serde(skip)]
    text: String,
}

impl Leader {
    /// Nobody leads; whoever does next has a higher term.
    pub(super) fn vacant(term: u64) -> Self {
        Self { term, ..Self::default() }
    }

    /// Nobody leads.
    pub fn is_vacant(&self) -> bool {
        self.claim.is_empty()
    }
}

/// What a standby reads.
#[derive(Debug, Default)]
pub struct Look {
    /// The leader; `None` before anybody led.
    pub leader: Option<Leader>,
    /// Records that changed since.
    pub changed: Vec<Record>,
    /// Those of them that this process cannot read: namespace and name of the cluster, and why.
    pub unread: Vec<((String, String), String)>,
    /// Those of these whose secrets do not open here.
    pub locked: BTreeSet<(String, String)>,
    /// Namespace and name of all clusters.
    pub names: BTreeSet<(String, String)>,
    /// What the next look is to go on from.
    pub revision: i64,
    /// What the leader was asked last, and its answer.
    pub doubt: Doubt,
}

/// What this process has claimed.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) term: u64,
    id: String,
    /// As the key has it.
    pub(super) value: String,
}

#[derive(Debug, Default)]
pub(super) struct Claims {
    /// In force, as far as is known.
    pub(super) held: Option<Claim>,
    /// Made, and not answered: each may be in force yet.
    pub(super) unknown: Vec<Claim>,
    /// Of the newest claim that was ever held.
    pub(super) term: u64,
    /// The claim that was read last, be it another's; empty before anybody led.
    pub(super) seen: String,
    /// How often it was another than before.
    pub(super) changes: u64,
    /// What the leader is asked, by the last read of who leads.
    pub(super) doubt: Doubt,
    /// The question that this process has answered last.
    pub(super) answered: String,
}

/// So often a look that failed is made again within the limit of every call: etcd may elect.
const AS_EVER: u32 = 3;
/// How often the limit of a look doubles at most.
const DOUBLINGS: u32 = 5;
/// Claims that are remembered without an answer.
const UNKNOWN_MAX: usize = 16;

impl Etcd {
    /// The current leader, by a quorum. A claim of this process that the read shows is held from
    /// here on; one that it does not show is lost.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn leader(&self) -> Result<Option<Leader>, StoreError> {
        self.leader_within(self.client.limit()).await
    }

    /// The same for one that leads, which needs an answer soon or none.
    ///
    /// # Errors
    /// As there.
    pub async fn fresh_leader(&self) -> Result<Option<Leader>, StoreError> {
        self.leader_within(self.client.fresh_limit()).await
    }

    async fn leader_within(&self, limit: Duration) -> Result<Option<Leader>, StoreError> {
        let keys = ["leader", "store", sealing::KEY, doubt::KEY];
        let ranges = keys.map(|key| Range::Key(self.key(key)));
        let read = self.client.read_within(limit, "read who leads", &ranges).await?;
        self.is_own(read.found(1).value())?;
        self.saw_sealing(read.found(2).value());
        let leader = self.noted(read.found(0).value())?;
        self.claims.lock().doubt = Doubt::read(read.found(3).value());
        Ok(leader)
    }

    /// The leader, and what of the clusters has changed since a revision of etcd; 0: all.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn look(&self, since: i64) -> Result<Look, StoreError> {
        self.look_again(since, 0).await
    }

    /// The same where it has failed so often: after a few times etcd has twice as long with each.
    /// All that there is may be much, and one that leads and never reads it keeps others from it.
    /// That is so of an etcd that answers: of one that is away, a longer wait would be the time
    /// until it is noticed that it is back.
    ///
    /// # Errors
    /// As there.
    pub async fn look_again(&self, since: i64, failed: u32) -> Result<Look, StoreError> {
        let doublings = failed.saturating_sub(AS_EVER).min(DOUBLINGS);
        if doublings > 0 {
            self.leader().await?;
        }
        let limit = self.client.limit() * (1_u32 << doublings);
        let clusters = self.key("clusters/");
        let ranges = [
            Range::Key(self.key("leader")),
            Range::Since(clusters.clone(), since),
            Range::Names(clusters.clone()),
            Range::Key(self.key("store")),
            Range::Key(self.key(sealing::KEY)),
            Range::Key(self.key(doubt::KEY)),
        ];
        let read = self.client.read_within(limit, "read what changed", &ranges).await?;
        self.is_own(read.found(3).value())?;
        self.saw_sealing(read.found(4).value());
        let leader = self.noted(read.found(0).value())?;
        let named = |pair: &Pair| {
            let (namespace, name) = pair.key.strip_prefix(&clusters)?.split_once('/')?;
            Some((namespace.to_owned(), name.to_owned()))
        };
        let names = read.found(2).pairs.iter().filter_map(named).collect();
        let changed = read.found(1).pairs;
        self.sizes.read(&changed, named, &names);
        let (revision, doubt) = (read.header.revision, Doubt::read(read.found(5).value()));
        let mut look = Look { leader, names, revision, doubt, ..Look::default() };
        // One that cannot be read hides no other.
        for pair in &changed {
            match sealed::record(pair.value.as_bytes(), &self.keys) {
                Ok(record) => look.changed.push(record),
                Err(error) => {
                    let is_locked = matches!(error, StoreError::Locked { .. });
                    look.locked.extend(named(pair).filter(|_| is_locked));
                    look.unread.extend(named(pair).map(|name| (name, error.chain())));
                }
            }
        }
        Ok(look)
    }

    /// Whether the key `store` is still what this process began with. Otherwise the store was given
    /// up, replaced or taken up anew: nothing is claimed here any more, and this process ends.
    fn is_own(&self, value: Option<&str>) -> Result<(), StoreError> {
        if value == Some(&self.name_text) {
            return Ok(());
        }
        let why = match value.map(Name::parse) {
            None => format!("{} is empty", self.place),
            Some(Err(error)) => error.chain(),
            Some(Ok(name)) => match name.check(&self.place) {
                Err(error) => error.to_string(),
                Ok(()) => format!(
                    "{} is the store {} of generation {} now, and was {} of {}",
                    self.place,
                    name.name,
                    name.number,
                    self.identity.name,
                    self.identity.generation
                ),
            },
        };
        let why = format!("{why}; this process ends");
        {
            let mut claims = self.claims.lock();
            claims.held = None;
            claims.unknown.clear();
        }
        self.client.loses(why.clone());
        Err(StoreError::Lost(why))
    }

    /// What the key `leader` says of the claims of this process.
    pub(super) fn noted(&self, value: Option<&str>) -> Result<Option<Leader>, StoreError> {
        let Some(value) = value else { return Ok(None) };
        let mut leader: Leader = serde_json::from_str(value).map_err(failed("read who leads"))?;
        value.clone_into(&mut leader.text);
        let mut claims = self.claims.lock();
        let claims = &mut *claims;
        if !leader.is_vacant() && claims.seen != leader.claim {
            claims.changes += u64::from(!claims.seen.is_empty());
            claims.seen.clone_from(&leader.claim);
        }
        if let Some(at) = claims.unknown.iter().position(|claim| claim.id == leader.claim) {
            let claim = claims.unknown.swap_remove(at);
            claims.term = claim.term;
            claims.held = Some(claim);
        }
        claims.held.take_if(|held| held.id != leader.claim);
        Ok(Some(leader))
    }

    /// Takes the lead from whoever `seen` shows: one transaction that raises the term. Whether it
    /// should is decided elsewhere; this only sees to it that no two succeed.
    pub async fn claim(&self, seen: Option<&Leader>, address: &str, min_term: u64) -> Outcome<u64> {
        let key = self.key("leader");
        let term = seen.map_or(1, |leader| leader.term.saturating_add(1)).max(min_term);
        let id = format!("{:016x}", fresh_tag());
        let leader =
            Leader { term, claim: id.clone(), address: address.to_owned(), text: String::new() };
        let value = match encode(&leader) {
            Ok(value) => value,
            Err(error) => return Outcome::NotDone(error),
        };
        let compare = match seen {
            Some(old) => Compare::Is(key.clone(), old.text.clone()),
            None => Compare::Absent(key.clone()),
        };
        // What was given up meanwhile is nobody's to lead.
        let own = Compare::Is(self.key("store"), self.name_text.clone());
        let (opens, seals) = match self.claims_to_seal() {
            Ok(sealing) => sealing,
            Err(error) => return Outcome::NotDone(error),
        };
        let claim = Claim { term, id: id.clone(), value: value.clone() };
        // Written down first: a read may show it before its answer comes, or without.
        {
            let unknown = &mut self.claims.lock().unknown;
            unknown.push(claim);
            let first_kept = unknown.len().saturating_sub(UNKNOWN_MAX);
            unknown.drain(..first_kept);
        }
        let puts: Vec<Write> = std::iter::once(Write::Put(key, value)).chain(seals).collect();
        let outcome = self.client.write("claim the lead", &[compare, own, opens], &puts).await;
        let mut claims = self.claims.lock();
        let at = claims.unknown.iter().position(|claim| claim.id == id);
        match (outcome, at) {
            (Outcome::Unknown(error), _) => Outcome::Unknown(error),
            (Outcome::Done(answer), at) if answer.succeeded => {
                if let Some(at) = at {
                    claims.held = Some(claims.unknown.swap_remove(at));
                    claims.term = term;
                }
                Outcome::Done(term)
            }
            (failed, at) => {
                if let Some(at) = at {
                    claims.unknown.swap_remove(at);
                }
                match failed {
                    Outcome::NotDone(error) => Outcome::NotDone(error),
                    _ => Outcome::NotDone(StoreError::Conflict),
                }
            }
        }
    }

    /// Asks the leader that `seen` shows whether it lives, if neither it nor what was asked last
    /// is another by now.
    pub async fn ask(&self, seen: &Leader, last: &Doubt) -> Outcome {
        let key = self.key(doubt::KEY);
        let compares =
            [Compare::Is(self.key("leader"), seen.text.clone()), last.as_read(key.clone())];
        let put = match encode(&Doubt::to(&seen.claim)) {
            Ok(text) => [Write::Put(key, text)],
            Err(error) => return Outcome::NotDone(error),
        };
        match self.client.write("ask the leader whether it lives", &compares, &put).await {
            Outcome::Done(answer) if answer.succeeded => Outcome::Done(()),
            Outcome::Done(_) => Outcome::NotDone(StoreError::Conflict),
            Outcome::NotDone(error) => Outcome::NotDone(error),
            Outcome::Unknown(error) => Outcome::Unknown(error),
        }
    }

    /// What this process is asked as the leader, by the last read of who leads; each question once.
    pub fn asked(&self) -> Option<Doubt> {
        let mut claims = self.claims.lock();
        let claims = &mut *claims;
        let held = claims.held.as_ref()?;
        let is_new = claims.doubt.is_to(&held.id) && claims.doubt.question() != claims.answered;
        if !is_new {
            return None;
        }
        claims.doubt.question().clone_into(&mut claims.answered);
        Some(claims.doubt.clone())
    }

    /// Answers that, as long as this process leads and nothing else was asked.
    pub async fn answer(&self, doubt: &Doubt, reaches: usize) -> Outcome {
        let claim = match self.claimed() {
            Ok(claim) if doubt.is_to(&claim.id) => claim,
            Ok(_) => return Outcome::NotDone(StoreError::Conflict),
            Err(error) => return Outcome::NotDone(error),
        };
        let key = self.key(doubt::KEY);
        let text = match encode(&doubt.answered(reaches)) {
            Ok(text) => text,
            Err(error) => return Outcome::NotDone(error),
        };
        let (compares, puts) = (vec![doubt.as_read(key.clone())], vec![Write::Put(key, text)]);
        match self.change(("answer one that doubts", &claim), compares, puts).await {
            Outcome::Done(Changed::Made) => Outcome::Done(()),
            Outcome::Done(Changed::Found(_)) => Outcome::NotDone(StoreError::Conflict),
            Outcome::NotDone(error) => Outcome::NotDone(error),
            Outcome::Unknown(error) => Outcome::Unknown(error),
        }
    }

    /// Whether this process leads, as far as it knows.
    pub fn holds(&self) -> Option<u64> {
        self.claims.lock().held.as_ref().map(|claim| claim.term)
    }

    /// Makes the lead vacant; the term stays, so that the next one's is higher. Unless that is
    /// certain the claim counts as held: nobody else would find a lead whose holder answers.
    pub async fn resign(&self) -> Outcome {
        let Some(claim) = self.claims.lock().held.clone() else { return Outcome::Done(()) };
        let vacant = Leader::vacant(claim.term);
        let key = self.key("leader");
        let writes = match encode(&vacant) {
            Ok(text) => [Write::Put(key.clone(), text)],
            Err(error) => return Outcome::NotDone(error),
        };
        let compare = [Compare::Is(key, claim.value)];
        match self.client.write("resign", &compare, &writes).await {
            Outcome::Done(_) => {
                let held = &mut self.claims.lock().held;
                if held.as_ref().is_some_and(|held| held.term == claim.term) {
                    *held = None;
                }
                Outcome::Done(())
            }
            Outcome::NotDone(error) => Outcome::NotDone(error),
            Outcome::Unknown(error) => Outcome::Unknown(error),
        }
    }
}
