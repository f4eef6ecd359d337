//! The grant a process holds: what a heartbeat does to it, until when it lets the node serve, and
//! what it is told by replicas.
//!
//! A node serves as master only under a grant held in the memory of this process (rule R1).
//! `nodes.conf`, a topology and a restart give none. Every grant after a start, or after a
//! demotion, opens a new epoch: the put that opens it is on disk before the grant is held, and so
//! before anything is answered in it.

use std::collections::BTreeMap;

use api::grant::{CommitMode, EpochId, Grant, Member};
use api::store::{Said, StoreId};

use crate::history::{History, Opened};
use crate::in_sync::{InSync, Unconfirmed};
use crate::lease::{Heartbeat, HeartbeatError, Lease, MS};
use crate::promise::{Kept, Promise};
use crate::refusal::Refusal;

/// What a decision about a heartbeat looks at, all of one moment.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// CLOCK_BOOTTIME, ns.
    pub now_ns: u64,
    /// `master-lease-max-ms`.
    pub longest_ms: u64,
    /// The topology makes this node a master, and it is one.
    pub is_master: bool,
    /// What a set calls the data here; `None` without a node id.
    pub me: Option<Member>,
    /// Of the topology in force; below 0 without one.
    pub version: i64,
    /// What the database holds.
    pub history: History<'a>,
}

/// Why a grant is passed over for now. The heartbeat is answered as usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// It names another node, or this one is no master (yet).
    NotMaster,
    /// It was meant for another process of this node.
    OtherProcess,
    /// It is so late that its lease is over, or lies in the future.
    Late,
    /// A promise to the master lasts.
    Promised,
    /// This node has no id, and so cannot be a member.
    Nameless,
    /// The topology here is older than the epoch: slots that were given away since would be served.
    Topology,
}

/// What a heartbeat came to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Taken {
    /// Heard; the lease may have been extended, where no grants are in use.
    Heard,
    /// There was a grant, and it was passed over.
    Ignored(Ignored),
    /// The grant is held, the lease extended, the set confirmed.
    Renewed,
    /// A new epoch: put it in the database, make that durable, then call [`Holder::open`] under the
    /// same gate.
    Open,
}

/// Why a master may not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoServing {
    /// It holds no grant.
    NoGrant,
    /// Its lease is over.
    Lease,
}

/// A grant that is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Held {
    /// Number of the epoch.
    pub epoch: u64,
    /// Its id.
    pub id: EpochId,
    /// Sequence of the put that opened it.
    pub first: u64,
    /// Version of the topology at its opening.
    pub version: i64,
    /// When replies may leave.
    pub mode: CommitMode,
    /// Least number of copies of an acknowledged write.
    pub min_in_sync: u32,
    /// Length of the lease the controller gives, and so of the one replicas are asked for.
    pub lease_ms: u64,
    /// The members that answers wait for.
    pub in_sync: InSync,
    /// Until when each member keeps its promise to this master, ns.
    echoes: BTreeMap<Member, u64>,
}

impl Held {
    /// Until when those that could be promoted have promised not to be; for ever when there are
    /// none.
    fn promised_until_ns(&self) -> u64 {
        if self.mode != CommitMode::InSync {
            // Without a set anybody could be promoted.
            return 0;
        }
        let others = self.in_sync.others_in_store();
        let echoes = others.iter().map(|member| self.echoes.get(member).copied().unwrap_or(0));
        echoes.min().unwrap_or(u64::MAX)
    }

    /// Whether writes find enough members.
    pub fn has_enough(&self) -> bool {
        let wanted = self.in_sync.newest().1.len();
        self.mode != CommitMode::InSync || self.has(wanted)
    }

    /// Whether an acknowledgement that leaves now has enough copies.
    pub fn has_enough_copies(&self) -> bool {
        self.mode != CommitMode::InSync || self.has(self.in_sync.copies())
    }

    fn has(&self, count: usize) -> bool {
        u32::try_from(count).is_ok_and(|count| count >= self.min_in_sync)
    }
}

/// Everything this process knows of leases, grants and promises.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder {
    lease: Lease,
    promise: Promise,
    held: Option<Held>,
    /// Some heartbeat carried a grant.
    has_seen: bool,
    /// Highest epoch ever held here: a rewind may take it out of the database again.
    highest: u64,
}

impl Holder {
    /// A process that has just begun holds nothing.
    pub fn new(nonce: u64, promise: Promise) -> Self {
        Self { lease: Lease::new(nonce), promise, held: None, has_seen: false, highest: 0 }
    }

    /// This process's nonce.
    pub fn nonce(&self) -> u64 {
        self.lease.nonce()
    }

    /// Highest term seen.
    pub fn term(&self) -> u64 {
        self.lease.term()
    }

    /// An earlier process of this node has seen `term` (rule O7).
    pub fn remember(&mut self, term: u64) {
        self.lease.remember(term);
    }

    /// The term that the next process is to remember; `None` if it is the one that is `kept`.
    pub fn to_keep(&self, kept: u64) -> Option<u64> {
        self.lease.to_keep(kept)
    }

    /// Whether a command of a controller that names its term is to be obeyed; notes the term (rule
    /// O5).
    ///
    /// # Errors
    /// A higher one was seen, or another store leads.
    pub fn obey(&mut self, term: u64, said: Option<Said>) -> Result<(), HeartbeatError> {
        self.lease.obey(term, said)
    }

    /// The store whose controllers are obeyed (rule O7).
    pub fn store(&self) -> Option<StoreId> {
        self.lease.store()
    }

    /// As [`Lease::led_from`].
    pub fn led_from(&mut self, store: StoreId) {
        self.lease.led_from(store);
    }

    /// As [`Lease::to_begin`].
    ///
    /// # Errors
    /// As there.
    pub fn to_begin(&self, term: u64, said: Said) -> Result<Option<StoreId>, HeartbeatError> {
        self.lease.to_begin(term, said)
    }

    /// As [`Lease::forget_leaders`].
    pub fn forget_leaders(&mut self) {
        self.lease.forget_leaders();
    }

    /// The grant that is held.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Length of the lease to ask replicas for; `None` where their promises would be worth nothing.
    pub fn granted_lease_ms(&self) -> Option<u64> {
        let held = self.held.as_ref().filter(|held| held.mode == CommitMode::InSync)?;
        Some(held.lease_ms)
    }

    /// For how many ns any grant is passed over.
    pub fn promised_ns(&self, now_ns: u64) -> u64 {
        self.promise.left_ns(now_ns)
    }

    /// Whether this node serves only under a grant: some heartbeat carried one, or the database
    /// holds an epoch.
    pub fn needs_grant(&self, history: &History<'_>) -> bool {
        self.has_seen || !history.entries.is_empty()
    }

    /// Takes a heartbeat.
    ///
    /// # Errors
    /// When it is not from a controller to be listened to, or its grant contradicts what is here;
    /// then nothing is extended.
    pub fn heartbeat(
        &mut self,
        beat: &Heartbeat,
        facts: &Facts<'_>,
    ) -> Result<Taken, HeartbeatError> {
        self.lease.admit(beat)?;
        self.promise.heard(facts.now_ns);
        let Some(grant) = &beat.grant else {
            if beat.is_for_me && facts.is_master && !self.needs_grant(&facts.history) {
                self.lease.extend(beat, facts.now_ns, facts.longest_ms);
            }
            return Ok(Taken::Heard);
        };
        self.has_seen = true;
        let taken = self.judge(beat, grant, facts)?;
        if taken == Taken::Renewed {
            self.renew(grant, beat.lease_ms)?;
            self.lease.extend(beat, facts.now_ns, facts.longest_ms);
        }
        Ok(taken)
    }

    fn judge(&self, beat: &Heartbeat, grant: &Grant, facts: &Facts<'_>) -> Result<Taken, Refusal> {
        if !beat.is_for_me || !facts.is_master {
            return Ok(Taken::Ignored(Ignored::NotMaster));
        }
        if beat.clock.is_none_or(|(_, nonce)| nonce != self.lease.nonce()) {
            return Ok(Taken::Ignored(Ignored::OtherProcess));
        }
        if let Some(held) = self.held.as_ref().filter(|held| held.epoch == grant.epoch) {
            same_id(grant, held.id)?;
            // Only by force does a topology become older.
            let is_older = facts.version.max(0) < held.version;
            return Ok(if is_older { Taken::Ignored(Ignored::Topology) } else { Taken::Renewed });
        }
        self.check_epoch(grant, facts.history.newest())?;
        let Some(me) = facts.me else { return Ok(Taken::Ignored(Ignored::Nameless)) };
        if !facts.history.holds(grant.least) {
            return Err(Refusal::Lacks {
                sequence: grant.least.sequence,
                id: api::grant::show_id(grant.least.id),
                position: facts.history.position(),
            });
        }
        if grant.mode == CommitMode::InSync && !grant.members.contains(&me) {
            return Err(Refusal::NoMember(me));
        }
        if self.promise.left_ns(facts.now_ns) > 0 {
            return Ok(Taken::Ignored(Ignored::Promised));
        }
        // 0 is what a controller says that names none; a node without a topology has -1.
        if facts.version.max(0) < grant.version {
            return Ok(Taken::Ignored(Ignored::Topology));
        }
        let offered = self.lease.offered(beat, facts.now_ns, facts.longest_ms);
        if offered.is_none_or(|until| until <= facts.now_ns) {
            return Ok(Taken::Ignored(Ignored::Late));
        }
        Ok(Taken::Open)
    }

    /// Only an epoch above all that were ever seen here may be opened.
    fn check_epoch(&self, grant: &Grant, newest: Option<Opened>) -> Result<(), Refusal> {
        let known = self.highest.max(newest.map_or(0, |newest| newest.epoch));
        if grant.epoch < known {
            return Err(Refusal::OlderEpoch { got: grant.epoch, known });
        }
        if grant.epoch > known {
            return Ok(());
        }
        if let Some(newest) = newest.filter(|newest| newest.epoch == known) {
            same_id(grant, newest.id)?;
        }
        Err(Refusal::GivenUp(grant.epoch))
    }

    fn renew(&mut self, grant: &Grant, lease_ms: u64) -> Result<(), Refusal> {
        let Some(held) = &mut self.held else { return Ok(()) };
        if grant.request < held.in_sync.confirmed() {
            // Late: its set and mode are no news.
            return Ok(());
        }
        held.in_sync.confirm(grant.request, &grant.members).map_err(|why| match why {
            Unconfirmed::Unknown => Refusal::UnknownRequest(grant.request),
            Unconfirmed::OtherMembers => Refusal::OtherMembers(grant.request),
        })?;
        held.mode = grant.mode;
        held.min_in_sync = grant.min_in_sync;
        held.in_sync.keep(grant.min_in_sync);
        held.lease_ms = lease_ms;
        Ok(())
    }

    /// The epoch of `beat`'s grant is in the database, durably, from sequence `first` on: the grant
    /// is held from now on, and the lease with it. To be called with the facts that
    /// [`Self::heartbeat`] said [`Taken::Open`] to, the gate held since.
    pub fn open(&mut self, beat: &Heartbeat, first: u64, facts: &Facts<'_>) {
        let (Some(grant), Some(me)) = (&beat.grant, facts.me) else { return };
        let now_ms = facts.now_ns / MS;
        let members = grant.members.clone();
        let mut in_sync = InSync::new(me, grant.id, grant.request, members, now_ms);
        in_sync.keep(grant.min_in_sync);
        self.highest = self.highest.max(grant.epoch);
        self.held = Some(Held {
            epoch: grant.epoch,
            id: grant.id,
            first,
            version: grant.version,
            mode: grant.mode,
            min_in_sync: grant.min_in_sync,
            lease_ms: beat.lease_ms,
            in_sync,
            echoes: BTreeMap::new(),
        });
        self.lease.extend(beat, facts.now_ns, facts.longest_ms);
    }

    /// Whether the end of a replica's process would make nobody wait: no set that the store may
    /// hold has it, and none that is asked for next will. `needs_grant` is whether a master here
    /// needs a grant at all ([`Self::needs_grant`]): without the one that it needs nobody knows.
    pub fn lets_go(&self, member: &Member, needs_grant: bool) -> bool {
        match &self.held {
            Some(held) if held.mode == CommitMode::InSync => {
                !held.in_sync.waited_for().contains(member)
            }
            Some(_) => true,
            None => !needs_grant,
        }
    }

    /// The set, to tell it what replicas do.
    pub fn in_sync(&mut self) -> Option<&mut InSync> {
        self.held.as_mut().map(|held| &mut held.in_sync)
    }

    /// A replica that applied the held epoch returned a stamp of this process' clock: it refuses
    /// grants until `stamp_ns` plus the lease is over.
    pub fn echo(
        &mut self,
        member: Member,
        id: Option<EpochId>,
        stamp_ns: u64,
        lease_ms: u64,
        facts: (u64, u64),
    ) {
        let (now_ns, longest_ms) = facts;
        let until = stamp_ns.saturating_add(lease_ms.saturating_mul(MS));
        let is_sane = stamp_ns <= now_ns && lease_ms <= longest_ms;
        if let Some(held) = self.held.as_mut().filter(|held| is_sane && id == Some(held.id)) {
            let echo = held.echoes.entry(member).or_default();
            *echo = until.max(*echo);
        }
    }

    /// A ping of this node's master: true if its stamp may be returned ([`Promise::ping`]). A
    /// master promises nobody anything.
    pub fn ping(&mut self, lease_ms: u64, now_ns: u64, longest_ms: u64) -> bool {
        self.held.is_none() && self.promise.ping(lease_ms, now_ns, longest_ms)
    }

    /// What must be on disk for the next pings of a master with such leases ([`Promise::ahead`]).
    pub fn promise_ahead(&self, lease_ms: u64, now_ns: u64, longest_ms: u64) -> Option<Kept> {
        if self.held.is_some() {
            return None;
        }
        self.promise.ahead(lease_ms, now_ns, longest_ms)
    }

    /// That is on disk now.
    pub fn kept(&mut self, kept: Kept) {
        self.promise.kept(kept);
    }

    /// CLOCK_BOOTTIME until which this node may serve, ns; `u64::MAX` for a master that is alone in
    /// its set. 0 for none.
    pub fn until_ns(&self, history: &History<'_>) -> u64 {
        match &self.held {
            Some(held) => self.lease.until_ns().max(held.promised_until_ns()),
            None if self.needs_grant(history) => 0,
            None => self.lease.until_ns(),
        }
    }

    /// Whether a master may serve at `now_ns`.
    ///
    /// # Errors
    /// Says what it lacks.
    pub fn may_serve(&self, now_ns: u64, history: &History<'_>) -> Result<(), NoServing> {
        if self.held.is_none() && self.needs_grant(history) {
            return Err(NoServing::NoGrant);
        }
        if now_ns < self.until_ns(history) { Ok(()) } else { Err(NoServing::Lease) }
    }

    /// The same on a clock that began `by_ns` later: a model's states must not grow with time.
    pub fn rebase(&mut self, by_ns: u64) {
        self.lease.rebase(by_ns);
        self.promise.rebase(by_ns);
        if let Some(held) = &mut self.held {
            held.in_sync.rebase(by_ns / MS);
            for echo in held.echoes.values_mut() {
                *echo = echo.saturating_sub(by_ns);
            }
        }
    }

    /// The node is no master any more, or its database was replaced: grant and lease are over, and
    /// only a newer epoch brings them back (R6).
    pub fn give_up(&mut self) {
        self.held = None;
        self.lease.clear();
    }
}

fn same_id(grant: &Grant, known: EpochId) -> Result<(), Refusal> {
    if grant.id == known {
        return Ok(());
    }
    Err(Refusal::OtherId { epoch: grant.epoch, got: grant.id, known })
}

#[cfg(test)]
#[path = "holder_tests.rs"]
mod tests;
