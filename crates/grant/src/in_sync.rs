//! The in-sync set of a master: the members its answers wait for, and the set it asks the store to
//! hold (rule R3).
//!
//! The master owns its set by *numbered requests*: request `n` of an epoch names the desired set,
//! and the store adopts requests in order. What the store holds is therefore one of the sets from
//! the confirmed request (named by the newest grant) to the newest one, and the master waits for
//! the union of all of them: a member is waited for before it is asked for, and given up only after
//! the store confirmed.
//!
//! Invariant: every member that the store may hold has every sequence that was ever
//! [`InSync::committed`]. A member that is being added is therefore waited for first, without being
//! asked for ("joining"), until it has all that was committed without it.

use std::collections::{BTreeMap, BTreeSet};

use api::grant::{EpochId, Member, Members};

/// Requests that may be under way. A store that is away for long gets no more until it confirms
/// some.
const REQUESTS_MAX: usize = 64;

/// A replica with a live stream, as its master sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Link {
    /// Which data it is.
    pub member: Member,
    /// Newest epoch it has applied, as its last acknowledgement said.
    pub epoch_id: Option<EpochId>,
    /// Newest sequence it acknowledged.
    pub acked: u64,
    /// Its process is about to end: it asks to be in no set first, and acknowledges until then.
    pub is_leaving: bool,
}

/// Since when a member owes an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Owes {
    sequence: u64,
    since_ms: u64,
}

/// Why a confirmation cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unconfirmed {
    /// No such request was made here.
    Unknown,
    /// The request named others.
    OtherMembers,
}

/// The set of one epoch. Times are milliseconds of any monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InSync {
    me: Member,
    id: EpochId,
    /// From the confirmed request to the newest; never empty.
    requests: BTreeMap<u64, Members>,
    /// Newest sequence of each member, under this epoch.
    acked: BTreeMap<Member, u64>,
    /// Waited for, not asked for yet: until they have acknowledged this; `None` until
    /// [`InSync::settle`] says what that is.
    joining: BTreeMap<Member, Option<u64>>,
    /// Streaming, not waited for: what was published when they were first seen.
    judged: BTreeMap<Member, u64>,
    owes: BTreeMap<Member, Owes>,
    /// Had a stream in this epoch.
    was_linked: BTreeSet<Member>,
    committed: u64,
    opened_ms: u64,
    /// So many members stay, this node included, even if they ask to leave.
    least: u32,
}

impl InSync {
    /// The set an epoch begins with, as its grant names it. `me` is a member.
    pub fn new(me: Member, id: EpochId, request: u64, members: Members, now_ms: u64) -> Self {
        Self {
            me,
            id,
            requests: BTreeMap::from([(request, members)]),
            acked: BTreeMap::new(),
            joining: BTreeMap::new(),
            judged: BTreeMap::new(),
            owes: BTreeMap::new(),
            was_linked: BTreeSet::new(),
            committed: 0,
            opened_ms: now_ms,
            least: 1,
        }
    }

    /// Nobody is let go where fewer members than that would stay: without them writes are refused.
    /// A member that ends all the same is lost, and dropped as such.
    pub fn keep(&mut self, least: u32) {
        self.least = least.max(1);
    }

    /// The newest request: its number and the set it names.
    pub fn newest(&self) -> (u64, &Members) {
        const NONE: &Members = &Members(BTreeSet::new());
        self.requests.last_key_value().map_or((0, NONE), |(number, set)| (*number, set))
    }

    /// The set the store is known to have adopted.
    pub fn confirmed_members(&self) -> impl Iterator<Item = &Member> {
        self.requests.first_key_value().into_iter().flat_map(|(_, set)| set.iter())
    }

    /// Number of the request the store is known to have adopted.
    pub fn confirmed(&self) -> u64 {
        self.requests.first_key_value().map_or(0, |(number, _)| *number)
    }

    /// Everybody the store may hold as a member, this node left out.
    pub fn others_in_store(&self) -> BTreeSet<Member> {
        let all = self.requests.values().flat_map(Members::iter);
        all.filter(|member| **member != self.me).copied().collect()
    }

    /// Everybody who is waited for, this node left out.
    pub fn waited_for(&self) -> BTreeSet<Member> {
        let mut all = self.others_in_store();
        all.extend(self.joining.keys());
        all
    }

    /// How many have what is committed, this node included: what an acknowledged write can count
    /// on.
    pub fn copies(&self) -> usize {
        self.waited_for().len() + 1
    }

    /// The store has adopted a request. Older ones are no news.
    ///
    /// # Errors
    /// When this is no request of ours.
    pub fn confirm(&mut self, request: u64, members: &Members) -> Result<(), Unconfirmed> {
        if request < self.confirmed() {
            return Ok(());
        }
        match self.requests.get(&request) {
            None => Err(Unconfirmed::Unknown),
            Some(asked) if asked != members => Err(Unconfirmed::OtherMembers),
            Some(_) => {
                self.requests.retain(|number, _| *number >= request);
                Ok(())
            }
        }
    }

    /// A member acknowledged everything up to `sequence`, having applied the epoch `id`. Of another
    /// epoch it counts for nothing.
    pub fn ack(&mut self, member: Member, id: Option<EpochId>, sequence: u64) {
        if id == Some(self.id) {
            let acked = self.acked.entry(member).or_default();
            *acked = sequence.max(*acked);
        }
    }

    /// Newest sequence that everybody who could be promoted has; never falls within an epoch.
    /// `published` is what this node has.
    pub fn commit(&mut self, published: u64) -> u64 {
        let least = self.waited_for().iter().map(|member| self.acked_by(member)).min();
        self.committed = self.committed.max(least.map_or(published, |least| least.min(published)));
        self.committed
    }

    /// What [`Self::commit`] last found.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    fn acked_by(&self, member: &Member) -> u64 {
        self.acked.get(member).copied().unwrap_or(0)
    }

    /// Judges everybody by what is seen now, and asks for another set where one is wanted: true if
    /// a new request was made. To be called every few ten milliseconds. `published` is the newest
    /// sequence replicas may have been sent; `timeout_ms` is `in-sync-timeout-ms`.
    ///
    /// Afterwards those that began to join are waited for ([`Self::waited_for`]); once that is in
    /// force everywhere, [`Self::settle`] is to be called.
    pub fn tick(&mut self, now_ms: u64, published: u64, timeout_ms: u64, links: &[Link]) -> bool {
        let published = published.max(self.committed);
        for link in links {
            self.ack(link.member, link.epoch_id, link.acked);
        }
        let streaming: BTreeSet<Member> = links.iter().map(|link| link.member).collect();
        self.was_linked.extend(&streaming);
        self.note_debts(now_ms, published);
        let is_over = |since: u64| now_ms.saturating_sub(since) >= timeout_ms;
        let owes = &self.owes;
        let is_late = |member: &Member| owes.get(member).is_some_and(|owes| is_over(owes.since_ms));
        let (was_linked, opened_ms) = (&self.was_linked, self.opened_ms);
        // After a failover replicas need a moment to come.
        let is_lost = |member: &Member| {
            !streaming.contains(member) && (was_linked.contains(member) || is_over(opened_ms))
        };
        let is_out = |member: &Member| is_lost(member) || is_late(member);
        let leavers = leavers(links);
        self.joining.retain(|member, _| !is_out(member) && !leavers.contains(member));
        let (number, members) = self.newest();
        let mut desired: Members = members
            .iter()
            .filter(|member| **member == self.me || !is_out(member))
            .copied()
            .collect();
        let arrived: Vec<Member> = self
            .joining
            .iter()
            .filter(|(member, has)| has.is_some_and(|has| self.acked_by(member) >= has))
            .map(|(member, _)| *member)
            .collect();
        desired.0.extend(&arrived);
        let least = usize::try_from(self.least).unwrap_or(usize::MAX);
        for member in leavers.iter().filter(|member| **member != self.me) {
            // It is counted on, and waited for, until the store has confirmed the set without it.
            if desired.len() > least {
                desired.0.remove(member);
            }
        }
        let is_new = desired != *members && self.requests.len() < REQUESTS_MAX;
        self.judge(published, links, &desired);
        if is_new {
            // Waited for as members from here on.
            self.joining.retain(|member, _| !arrived.contains(member));
            self.requests.insert(number + 1, desired);
        }
        is_new
    }

    /// The replicas that began to join in the last [`Self::tick`] are waited for from now on, and
    /// nothing above `latest` was answered before that. A joining replica becomes a member once it
    /// has `latest`. Before this call no set that contains it is requested.
    pub fn settle(&mut self, latest: u64) {
        let has = latest.max(self.committed);
        for target in self.joining.values_mut() {
            target.get_or_insert(has);
        }
    }

    /// Newest sequence whose answers may leave as far as others go; `None` where nobody is waited
    /// for.
    pub fn reached(&self) -> Option<u64> {
        let least = self.waited_for().iter().map(|member| self.acked_by(member)).min();
        least.map(|least| least.max(self.committed))
    }

    /// The same on a clock that began `by_ms` later.
    pub fn rebase(&mut self, by_ms: u64) {
        self.opened_ms = self.opened_ms.saturating_sub(by_ms);
        for owes in self.owes.values_mut() {
            owes.since_ms = owes.since_ms.saturating_sub(by_ms);
        }
    }

    /// Notes since when who owes what. The oldest write a member lacks is at least as old as its
    /// note.
    fn note_debts(&mut self, now_ms: u64, published: u64) {
        let waited_for = self.waited_for();
        self.owes.retain(|member, _| waited_for.contains(member));
        for member in waited_for {
            let acked = self.acked_by(&member);
            if acked >= published {
                self.owes.remove(&member);
                continue;
            }
            let owes =
                self.owes.entry(member).or_insert(Owes { sequence: published, since_ms: now_ms });
            if acked >= owes.sequence {
                *owes = Owes { sequence: published, since_ms: now_ms };
            }
        }
    }

    /// Lets those join that are close: they have what was published when they were first seen.
    fn judge(&mut self, published: u64, links: &[Link], desired: &Members) {
        let may_join = |link: &&Link| {
            link.epoch_id == Some(self.id)
                && link.member != self.me
                && !link.is_leaving
                && !desired.contains(&link.member)
                && !self.joining.contains_key(&link.member)
        };
        let candidates: BTreeMap<Member, u64> =
            links.iter().filter(may_join).map(|link| (link.member, link.acked)).collect();
        self.judged.retain(|member, _| candidates.contains_key(member));
        for (member, acked) in candidates {
            let mark = *self.judged.entry(member).or_insert(published);
            if acked >= mark {
                self.judged.remove(&member);
                self.joining.insert(member, None);
                self.owes.remove(&member);
            }
        }
    }
}

/// The members all of whose streams say that they leave. A stream that does not is of a process
/// which came after the one that ended, whose own stream may end later.
fn leavers(links: &[Link]) -> BTreeSet<Member> {
    let staying: BTreeSet<Member> =
        links.iter().filter(|link| !link.is_leaving).map(|link| link.member).collect();
    let leave = |link: &&Link| link.is_leaving && !staying.contains(&link.member);
    links.iter().filter(leave).map(|link| link.member).collect()
}

#[cfg(test)]
#[path = "in_sync_tests.rs"]
mod tests;
