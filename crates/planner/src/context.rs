//! What decisions look things up in: the arguments of a plan, how each node answers by them, and
//! the shard in question.
//!
//! It tells what is so, and decides nothing; what may follow from that is for those who ask.

use std::cell::OnceCell;

pub(crate) use api::health::Health;
use api::heartbeat::{LeaseMode, Reply, Role as Does};

use crate::fence::{self, Confirmed, Cuts, Former};
use crate::record::Role;
use crate::{Node, Observed, Places, Plan, Policy, Record, Shard, Time, identity};

/// How often a node is asked while a change is awaited from it, ms.
const PACE_MS: u64 = 10;
/// An answer counts as current for so long, ms: many times the pace at which a node is asked that
/// something waits for.
const RECENT_MS: u64 = 100;

/// The highest version of a topology that a node is believed to have been given by somebody else.
/// Nodes take as many again above it, so they take what is given next: of a number without a next
/// one, mistyped once by hand, the whole cluster would never hear of a new master again.
pub const KNOWN_VERSION_MAX: i64 = topology::VERSION_MAX / 2;

/// Without a lease the node takes no writes.
fn is_blocking(mode: LeaseMode) -> bool {
    matches!(mode, LeaseMode::BlockAll | LeaseMode::BlockWrite)
}

/// The arguments of [`crate::plan()`], for those who look things up in them, and what many shards
/// ask of them and is the same for all.
pub(crate) struct Context<'a> {
    /// What the store holds.
    pub(crate) record: &'a Record,
    /// What was seen.
    pub(crate) observed: &'a Observed,
    /// The numbers to decide with.
    pub(crate) policy: &'a Policy,
    /// On the controller's clock.
    pub(crate) now: Time,
    /// See [`Self::next_version`].
    version: OnceCell<i64>,
    /// Where nodes stand, if very many may be looked for.
    places: OnceCell<Places>,
    /// See [`Self::fenced`].
    cuts: OnceCell<Cuts>,
}

/// The shard that is decided about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'a> {
    /// Its place among the record's shards, from 0.
    pub(crate) index: usize,
    /// It, as the record has it.
    pub(crate) shard: &'a Shard,
    /// Its master by the record.
    pub(crate) master: &'a Node,
}

impl<'a> Context<'a> {
    /// Nothing is known of them yet.
    pub(crate) fn new(
        record: &'a Record,
        observed: &'a Observed,
        policy: &'a Policy,
        now: Time,
    ) -> Self {
        let (version, places, cuts) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { record, observed, policy, now, version, places, cuts }
    }

    /// For a look at all nodes, of which very many may be unclear: none of them is searched for
    /// among all others.
    pub(crate) fn of_all(
        record: &'a Record,
        observed: &'a Observed,
        policy: &'a Policy,
        now: Time,
    ) -> Self {
        let mut cx = Self::new(record, observed, policy, now);
        if observed.nodes.values().any(|node| node.unclear_since.is_some()) {
            cx.places = OnceCell::from(Places::of(record));
        }
        cx
    }

    /// The node of that id.
    fn node(&self, id: &str) -> Option<&'a Node> {
        match self.places.get() {
            Some(places) => places.find(self.record, id).map(|(_, node)| node),
            None => self.record.node(id),
        }
    }

    /// A confirmed fence of a former master, if there is one.
    pub(crate) fn fenced(&self, former: Former<'_>) -> Option<Confirmed> {
        let cut_off = || {
            let cuts = self.cuts.get_or_init(|| Cuts::of(self.record, self.observed));
            cuts.since(&former.node.id)
        };
        fence::confirmed(self.record, self.observed, self.policy, self.now, former, cut_off)
    }

    /// What the node said last, as far as it is the node's own.
    pub(crate) fn reply(&self, id: &str) -> Option<&'a Reply> {
        self.answer(id).filter(|reply| !identity::is_stranger(self.record, id, reply))
    }

    /// What was said last at its address, whoever it is from.
    pub(crate) fn answer(&self, id: &str) -> Option<&'a Reply> {
        self.observed.node(id).seen.as_ref().map(|seen| &seen.reply)
    }

    /// A random number that no other shard gets in this plan.
    pub(crate) fn fresh_id(&self, index: usize) -> u64 {
        // Odd, so that no two indexes give the same.
        self.observed.fresh_id ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// How the node answers, as far as that is known now.
    pub(crate) fn health(&self, id: &str) -> Health {
        let node = self.observed.node(id);
        let stranger =
            self.answer(id).is_some_and(|reply| identity::is_stranger(self.record, id, reply));
        if self.is_mute(id) || stranger || self.hangs(id) || self.cannot_lead(id) {
            Health::Down
        } else if node.unclear_since.is_some() {
            // What it said before is no news of it.
            Health::Suspect
        } else if node.seen.is_none() {
            Health::Unknown
        } else if node.misses > 0 || node.refused > 0 {
            Health::Suspect
        } else {
            Health::Up
        }
    }

    /// It answers, whatever it says.
    pub(crate) fn is_heard(&self, id: &str) -> bool {
        let node = self.observed.node(id);
        node.seen.is_some() && node.misses == 0 && self.reply(id).is_some()
    }

    /// Nothing is heard of its process.
    pub(crate) fn is_mute(&self, id: &str) -> bool {
        let node = self.observed.node(id);
        node.misses >= self.policy.misses || node.refused >= 2
    }

    /// By its own account, its disk has taken nothing for as long as a node may be silent: it
    /// answers nobody who needs the log (rule R14).
    pub(crate) fn hangs(&self, id: &str) -> bool {
        let says_so = |reply: &Reply| reply.log_wait_ms >= self.policy.down_ms();
        !self.is_mute(id) && self.reply(id).is_some_and(says_so)
    }

    /// A master that answers with errors, or cannot be asked, past the end of its lease: no
    /// heartbeat has renewed the lease, not by way of a replica either, so the master serves nobody
    /// (rule R9).
    ///
    /// E.g. its `peer-auth` was mistyped and it restarted. A master that serves without a lease
    /// stays: a full table of connections is no reason to replace it.
    pub(crate) fn cannot_lead(&self, id: &str) -> bool {
        self.leads_until(id).is_some_and(|until| until <= self.now)
    }

    /// When a master that answers with errors, or cannot be asked, stops serving for want of a
    /// lease; `None`: it does not.
    pub(crate) fn leads_until(&self, id: &str) -> Option<Time> {
        let patience = self.unclear_until(id)?;
        let node = self.node(id)?;
        let mode = fence::stated(self.record, node, self.observed)?.lease_mode();
        if node.role != Role::Master || !is_blocking(mode) {
            return None;
        }
        let lease = fence::lease_end(self.record, self.observed, self.policy, id);
        Some(lease.max(patience))
    }

    /// Until when a node that answers with errors, or cannot be asked, is waited for: as long as a
    /// node may be silent. `None`: it is neither.
    pub(crate) fn unclear_until(&self, id: &str) -> Option<Time> {
        let since = self.observed.node(id).unclear_since?;
        Some(since.plus_millis(self.policy.down_ms()))
    }

    /// The node plays its role at the record's version, by its own account, and may serve.
    pub(crate) fn settled(&self, node: &Node) -> bool {
        let Some(reply) = self.reply(&node.id) else { return false };
        let current = reply.myid == node.id
            && reply.version == self.record.version
            && reply.topology_hash == self.observed.hash_at(reply);
        let blocking = is_blocking(reply.lease_mode);
        let role = match node.role {
            Role::Master => {
                reply.role == Does::Master && (!blocking || reply.lease_remaining_ms > 0)
            }
            Role::Slave => reply.role == Does::Slave,
        };
        current && role && self.health(&node.id) == Health::Up
    }

    /// The version of a topology that is news to everybody: one more than the highest that anybody
    /// showed, as far as that is believed.
    pub(crate) fn next_version(&self) -> i64 {
        *self.version.get_or_init(|| {
            let seen = self.record.nodes().filter_map(|(_, node)| self.reply(&node.id));
            let seen = seen.map(|reply| reply.version).filter(|version| self.is_believed(*version));
            seen.fold(self.record.version, i64::max).saturating_add(1)
        })
    }

    /// A node may have been given that version of a topology, and be given a later one.
    pub(crate) fn is_believed(&self, version: i64) -> bool {
        version <= KNOWN_VERSION_MAX.max(self.record.version)
    }

    /// What the node says was asked for after `since`: it does not tell of an earlier state.
    pub(crate) fn is_heard_since(&self, id: &str, since: Time) -> bool {
        self.observed.node(id).seen.as_ref().is_some_and(|seen| seen.sent_at >= since)
    }

    /// The node answers, as far as anybody can know: a moment ago it did.
    pub(crate) fn answers_now(&self, id: &str) -> bool {
        let seen = self.observed.node(id).seen.as_ref();
        let is_recent = |at: Time| self.now < at.plus_millis(RECENT_MS);
        self.health(id) == Health::Up && seen.is_some_and(|seen| is_recent(seen.received_at))
    }

    /// Plans again at `at`, if that is still to come: what was due by now is in this plan, and one
    /// that waited for it would be made again at once, for ever.
    pub(crate) fn wake(&self, at: Time, plan: &mut Plan) {
        if at > self.now {
            plan.wake(at);
        }
    }

    /// What the node said last it was asked for since the present process of that master was first
    /// heard: before, it may have got more from the one that ended. True where no earlier process
    /// was heard.
    pub(crate) fn answered_since_process_of(&self, master: &str, id: &str) -> bool {
        let since = self.observed.node(master).process_at;
        let seen = self.observed.node(id).seen.as_ref();
        since.is_none_or(|since| seen.is_some_and(|seen| seen.sent_at >= since))
    }

    /// A node may be asked again, if the last question is older than the pace.
    pub(crate) fn ask(&self, id: &str, plan: &mut Plan) {
        let node = self.observed.node(id);
        let due = node.seen.as_ref().map_or(self.now, |seen| seen.sent_at.plus_millis(PACE_MS));
        if due <= self.now {
            if !plan.asked.contains(id) {
                plan.asks(id);
            }
            plan.wake(self.now.plus_millis(PACE_MS));
        } else {
            plan.wake(due);
        }
    }
}

/// How the node of that id answers at `now`.
pub fn health(
    record: &Record,
    observed: &Observed,
    policy: &Policy,
    now: Time,
    id: &str,
) -> Health {
    Context::new(record, observed, policy, now).health(id)
}

/// The same of each node, for a look at all of them.
pub fn healths<'a>(
    record: &'a Record,
    observed: &'a Observed,
    policy: &'a Policy,
    now: Time,
) -> impl Fn(&str) -> Health + 'a {
    let cx = Context::of_all(record, observed, policy, now);
    move |id: &str| cx.health(id)
}

/// Whether the node plays its role at the record's version, and may serve.
pub fn settled(record: &Record, observed: &Observed, policy: &Policy, node: &Node) -> bool {
    Context::new(record, observed, policy, Time::default()).settled(node)
}

/// The version for a new topology of the record: above all that its nodes showed.
pub fn next_version(record: &Record, observed: &Observed, policy: &Policy) -> i64 {
    Context::new(record, observed, policy, Time::default()).next_version()
}

/// Whether the master of shard `index` answers as what the record makes it: at the record's
/// version, with a lease where one is needed, and with its epoch.
pub fn serves(record: &Record, observed: &Observed, policy: &Policy, index: usize) -> bool {
    let cx = Context::new(record, observed, policy, Time::default());
    let Some(shard) = record.shards.get(index) else { return false };
    let is_granted = |master: &&Node| {
        let knows_epochs = cx.reply(&master.id).is_some_and(|r| r.standing.incarnation.is_some());
        let granted = observed.node(&master.id).confirmed.map(|(epoch, _)| epoch);
        shard.epoch.is_none() || !knows_epochs || granted == Some(shard.epoch.number)
    };
    shard.fence.is_none()
        && shard.master().filter(|master| cx.settled(master)).filter(is_granted).is_some()
}
