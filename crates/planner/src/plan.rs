//! The plan of one cluster: what to do next, who is granted a lease, what each shard is doing.

use std::collections::{BTreeMap, BTreeSet};

use api::grant::Grant;
use api::heartbeat::{LeaseMode, Reply, Role as Does};

use crate::record::Role;
use crate::shard::{self, Verdict};
use crate::{
    Desired, Node, Observed, Policy, Record, Time, balancers, epoch, fence, identity, paused,
    rival, sources, tell, upkeep,
};

/// How often a node is asked while a change is awaited from it, ms.
const PACE_MS: u64 = 10;
/// An answer counts as current for so long, ms: many times the pace at which a node is asked that something waits for.
const RECENT_MS: u64 = 100;

/// Something to be done now. Executing one twice, or not at all, does no harm: the next plan is
/// made from what is then seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask the node at once instead of at the next interval.
    HeartbeatNow {
        /// Node id.
        node: String,
    },
    /// Send its heartbeat through a replica that sees it.
    Relay {
        /// The master.
        node: String,
        /// The replica.
        via: String,
    },
    /// SETNODEID and SETNODES of the record's topology.
    Push {
        /// Node id.
        node: String,
        /// Why.
        reason: String,
    },
    /// Tell every balancer.
    ApplyBalancers(Desired),
    /// Replace the record, if its revision is still that of the plan.
    CompareAndSwap {
        /// The new record; its revision is one more.
        record: Box<Record>,
        /// Why.
        reason: String,
    },
    /// CLIENT PAUSE … WRITE.
    Pause {
        /// Node id.
        node: String,
        /// Bound of the pause, ms.
        for_ms: u64,
        /// For which intent.
        intent: String,
    },
    /// CLIENT UNPAUSE.
    Unpause {
        /// Node id.
        node: String,
        /// Why.
        reason: String,
    },
}

/// What a shard is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardState {
    /// The master serves.
    Steady,
    /// A new master or topology is being spread.
    Settling(String),
    /// The master missed heartbeats.
    Suspect(String),
    /// The master is down and not yet fenced.
    Fencing(String),
    /// The master is down and nobody can take over.
    Stuck(String),
    /// A planned switchover is under way.
    Switchover(String),
}

impl ShardState {
    /// One word, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Settling(_) => "settling",
            Self::Suspect(_) => "suspect",
            Self::Fencing(_) => "fencing",
            Self::Stuck(_) => "stuck",
            Self::Switchover(_) => "switchover",
        }
    }

    /// The rest, for people.
    pub fn detail(&self) -> &str {
        match self {
            Self::Steady => "",
            Self::Settling(text)
            | Self::Suspect(text)
            | Self::Fencing(text)
            | Self::Stuck(text)
            | Self::Switchover(text) => text,
        }
    }
}

/// The outcome of [`plan`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What to do now, independent of each other; at most one compare-and-swap.
    pub actions: Vec<Action>,
    /// Nodes whose heartbeats carry a lease from now on; no others do.
    pub leases: BTreeSet<String>,
    /// Length of those leases, ms, where the controller's authority does not bound it.
    pub lease_ms: u64,
    /// What heartbeats to those nodes grant besides, by node id.
    pub grants: BTreeMap<String, Grant>,
    /// Plan again no later than this, even if nothing happens.
    pub wake_at: Option<Time>,
    /// What a person should know, as long as it lasts.
    pub alarms: BTreeSet<String>,
    /// By shard.
    pub shards: Vec<ShardState>,
}

impl Plan {
    pub(crate) fn wake(&mut self, at: Time) {
        self.wake_at = Some(self.wake_at.map_or(at, |old| old.min(at)));
    }
}

/// How a node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// Never heard of, and not yet missed long enough.
    Unknown,
    /// Answered last time.
    Up,
    /// Missed some heartbeats, or answers with errors, or cannot be asked, or obeys another controller.
    Suspect,
    /// Missed too many, refused twice, or somebody else answers; or a master that errors kept from a lease.
    Down,
}

/// Without a lease the node takes no writes.
fn is_blocking(mode: LeaseMode) -> bool {
    matches!(mode, LeaseMode::BlockAll | LeaseMode::BlockWrite)
}

/// The arguments of [`plan`], for those who look things up in them.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) record: &'a Record,
    pub(crate) observed: &'a Observed,
    pub(crate) policy: &'a Policy,
    pub(crate) now: Time,
}

impl<'a> Context<'a> {
    /// What the node said last, as far as it is the node's own.
    pub(crate) fn reply(&self, id: &str) -> Option<&'a Reply> {
        self.answer(id).filter(|reply| !identity::is_stranger(self.record, id, reply))
    }

    /// What was said last at its address, whoever it is from.
    pub(crate) fn answer(&self, id: &str) -> Option<&'a Reply> {
        self.observed.node(id).seen.as_ref().map(|seen| &seen.reply)
    }

    pub(crate) fn health(&self, id: &str) -> Health {
        let node = self.observed.node(id);
        let stranger =
            self.answer(id).is_some_and(|reply| identity::is_stranger(self.record, id, reply));
        if self.is_mute(id) || stranger || self.hangs(id) || self.cannot_lead(id) {
            Health::Down
        } else if node.unclear_since.is_some() || node.led.is_some() {
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

    /// By its own account, its disk has taken nothing for as long as a node may be silent: it answers nobody who needs the log (rule R14).
    pub(crate) fn hangs(&self, id: &str) -> bool {
        let says_so = |reply: &Reply| reply.log_wait_ms >= self.policy.down_ms();
        !self.is_mute(id) && self.reply(id).is_some_and(says_so)
    }

    /// A master that answers with errors, or cannot be asked, past the end of its lease: no heartbeat has renewed it, not by
    /// way of a replica either, so the master serves nobody (rule R9).
    ///
    /// E.g. its `peer-auth` was mistyped and it restarted. A master that serves without a lease stays: a full table of
    /// connections is no reason to replace it.
    pub(crate) fn cannot_lead(&self, id: &str) -> bool {
        self.leads_until(id).is_some_and(|until| until <= self.now)
    }

    /// When a master that answers with errors, or cannot be asked, stops serving for want of a lease; `None`: it does not.
    pub(crate) fn leads_until(&self, id: &str) -> Option<Time> {
        let since = self.observed.node(id).unclear_since?;
        let (_, node) = self.record.nodes().find(|(_, node)| node.id == id)?;
        let mode = fence::stated(self.record, node, self.observed)?.lease_mode();
        if node.role != Role::Master || !is_blocking(mode) {
            return None;
        }
        let lease = fence::lease_end(self.record, self.observed, self.policy, id);
        Some(lease.max(since.plus_millis(self.policy.down_ms())))
    }

    /// The node has answered with errors, or could not be asked, for as long as a node may be silent.
    pub(crate) fn is_unclear_long(&self, id: &str) -> bool {
        let until = self.unclear_until(id);
        until.is_some_and(|until| until <= self.now)
    }

    /// From when on that is so.
    pub(crate) fn unclear_until(&self, id: &str) -> Option<Time> {
        let since = self.observed.node(id).unclear_since?;
        Some(since.plus_millis(self.policy.down_ms()))
    }

    /// The node plays its role at the record's version, by its own account, and may serve.
    pub(crate) fn settled(&self, node: &Node) -> bool {
        let Some(reply) = self.reply(&node.id) else { return false };
        let current = reply.myid == node.id
            && reply.version == self.record.version
            && reply.topology_hash == self.observed.topology_hash;
        let blocking = is_blocking(reply.lease_mode);
        let role = match node.role {
            Role::Master => {
                reply.role == Does::Master && (!blocking || reply.lease_remaining_ms > 0)
            }
            Role::Slave => reply.role == Does::Slave,
        };
        current && role && self.health(&node.id) == Health::Up
    }

    /// The highest version anybody showed.
    pub(crate) fn highest_version(&self) -> i64 {
        let seen = self.record.nodes().filter_map(|(_, node)| self.reply(&node.id));
        seen.map(|reply| reply.version).fold(self.record.version, i64::max)
    }

    /// What the node says was asked for after `since`: it does not tell of before.
    pub(crate) fn is_heard_since(&self, id: &str, since: Time) -> bool {
        self.observed.node(id).seen.as_ref().is_some_and(|seen| seen.sent_at >= since)
    }

    /// The node answers, as far as anybody can know: a moment ago it did.
    pub(crate) fn answers_now(&self, id: &str) -> bool {
        let seen = self.observed.node(id).seen.as_ref();
        let is_recent = |at: Time| self.now < at.plus_millis(RECENT_MS);
        self.health(id) == Health::Up && seen.is_some_and(|seen| is_recent(seen.received_at))
    }

    /// A node may be asked again, if the last question is older than the pace.
    pub(crate) fn ask(&self, id: &str, plan: &mut Plan) {
        let node = self.observed.node(id);
        let due = node.seen.as_ref().map_or(self.now, |seen| seen.sent_at.plus_millis(PACE_MS));
        if due <= self.now {
            let ask = Action::HeartbeatNow { node: id.to_owned() };
            if !plan.actions.contains(&ask) {
                plan.actions.push(ask);
            }
            plan.wake(self.now.plus_millis(PACE_MS));
        } else {
            plan.wake(due);
        }
    }
}

/// `up`, `suspect`, `down` or `unknown`: how the node of that id answers at `now`.
pub fn health(
    record: &Record,
    observed: &Observed,
    policy: &Policy,
    now: Time,
    id: &str,
) -> &'static str {
    match (Context { record, observed, policy, now }).health(id) {
        Health::Up => "up",
        Health::Suspect => "suspect",
        Health::Down => "down",
        Health::Unknown => "unknown",
    }
}

/// Whether the node plays its role at the record's version, and may serve.
pub fn settled(record: &Record, observed: &Observed, policy: &Policy, node: &Node) -> bool {
    Context { record, observed, policy, now: Time::default() }.settled(node)
}

/// Whether the master of shard `index` answers as what the record makes it: at the record's version, with a lease where
/// one is needed, and with its epoch.
pub fn serves(record: &Record, observed: &Observed, policy: &Policy, index: usize) -> bool {
    let cx = Context { record, observed, policy, now: Time::default() };
    let Some(shard) = record.shards.get(index) else { return false };
    let is_granted = |master: &&Node| {
        let knows_epochs = cx.reply(&master.id).is_some_and(|r| r.standing.incarnation.is_some());
        let granted = observed.node(&master.id).confirmed.map(|(epoch, _)| epoch);
        shard.epoch.is_none() || !knows_epochs || granted == Some(shard.epoch.number)
    };
    shard.fence.is_none()
        && shard.master().filter(|master| cx.settled(master)).filter(is_granted).is_some()
}

/// Decides what the cluster needs now.
pub fn plan(record: &Record, observed: &Observed, policy: &Policy, now: Time) -> Plan {
    let cx = Context { record, observed, policy, now };
    let mut plan =
        Plan { lease_ms: policy.lease_ms.min(record.longest_lease_ms), ..Plan::default() };
    if let Some(why) = rival::stands_back(&cx, &mut plan).or_else(|| leads_no_more(&cx)) {
        plan.shards = vec![ShardState::Suspect(why); record.shards.len()];
        return plan;
    }
    if let Some(change) = &observed.in_doubt {
        return in_doubt(change, record, plan);
    }
    if record.term < observed.term {
        return take_over(&cx, plan);
    }
    let verdicts: Vec<Verdict> =
        (0..record.shards.len()).map(|index| shard::decide(&cx, index, &mut plan)).collect();
    let mut swap = None;
    let (mut closed, mut moving) = (BTreeSet::new(), BTreeSet::new());
    for (shard, verdict) in record.shards.iter().zip(&verdicts) {
        let granted = |master: &&Node| verdict.grant && epoch::may_lease(&cx, shard, master);
        if let Some(master) = shard.master().filter(granted) {
            plan.leases.insert(master.id.clone());
            if let Some(grant) = epoch::grant(&cx, shard, master, &mut plan) {
                plan.grants.insert(master.id.clone(), grant);
            }
        }
        closed.extend(verdict.closed.as_deref());
        moving.extend(verdict.moving.iter().map(String::as_str));
        swap = swap.or_else(|| verdict.swap.clone());
    }
    recheck_refused(&cx, &mut plan);
    paused::alarm(&cx, &mut plan);
    identity::alarms(&cx, &mut plan);
    errors(&cx, &mut plan);
    tell::of_clocks(&cx, &mut plan);
    pushes(&cx, &verdicts, &mut plan);
    balancers::tell(&cx, &closed, &moving, &mut plan);
    sources::tell(&cx, &mut plan);
    plan.shards = verdicts.into_iter().map(|verdict| verdict.state).collect();
    let swap = swap.or_else(|| upkeep::raise_version(&cx));
    let swap = swap.or_else(|| balancers::removal(&cx)).or_else(|| upkeep::bookkeeping(&cx));
    if let Some((record, reason)) = swap {
        plan.actions.push(Action::CompareAndSwap { record: Box::new(record), reason });
    }
    plan
}

/// Nothing this controller concludes may count once another one may lead (rule R8).
fn leads_no_more(cx: &Context<'_>) -> Option<String> {
    if cx.record.term > cx.observed.term && cx.observed.term > 0 {
        return Some(format!("the controller of term {} leads", cx.record.term));
    }
    let until = cx.observed.authority_until?;
    (cx.now >= until).then(|| "this controller no longer leads for certain".to_owned())
}

/// The store may name another master, whom nobody would then wait for. Ways that are open stay so: they lead to who was
/// granted before.
fn in_doubt(change: &str, record: &Record, mut plan: Plan) -> Plan {
    let why = "the store has not told whether a change of the record was made";
    plan.alarms.insert(format!("{why}, nothing is granted until it does: {change}"));
    plan.shards = vec![ShardState::Suspect(why.to_owned()); record.shards.len()];
    plan
}

/// The first act of a controller: from here on the compare-and-swap of an older one fails. Only
/// then does it grant, or conclude from what it granted.
fn take_over(cx: &Context<'_>, mut plan: Plan) -> Plan {
    let mut record = cx.record.next();
    record.term = cx.observed.term;
    let why = format!("the controller of term {} takes over", record.term);
    plan.shards = vec![ShardState::Suspect(why.clone()); record.shards.len()];
    plan.actions.push(Action::CompareAndSwap { record: Box::new(record), reason: why });
    plan
}

/// A refused connection is asked again soon: the second refusal settles it.
fn recheck_refused(cx: &Context<'_>, plan: &mut Plan) {
    for (_, node) in cx.record.nodes() {
        let seen = cx.observed.node(&node.id);
        let Some(at) = seen.refused_at.filter(|_| seen.refused == 1) else { continue };
        let due = at.plus_millis(cx.policy.recheck_ms);
        if due <= cx.now {
            plan.actions.push(Action::HeartbeatNow { node: node.id.clone() });
            plan.wake(cx.now.plus_millis(cx.policy.recheck_ms));
        } else {
            plan.wake(due);
        }
    }
}

fn errors(cx: &Context<'_>, plan: &mut Plan) {
    for (_, node) in cx.record.nodes() {
        if let Some(error) = &cx.observed.node(&node.id).error {
            plan.alarms.insert(format!("{}: {error}", node.local));
        }
    }
}

/// New masters hear first; the others when theirs serves, is down, or takes too long.
fn pushes(cx: &Context<'_>, verdicts: &[Verdict], plan: &mut Plan) {
    let patience = cx.observed.record_at.plus_millis(cx.policy.settle_ms);
    for (shard, verdict) in cx.record.shards.iter().zip(verdicts) {
        let Some(master) = shard.master() else { continue };
        let down = matches!(cx.health(&master.id), Health::Down | Health::Unknown);
        let followers = cx.settled(master) || down || cx.now >= patience;
        for node in &shard.nodes {
            let deposed = shard.fence.as_ref().is_some_and(|fence| fence.node == node.id);
            let allowed = match node.role {
                Role::Master => !verdict.hold_master,
                Role::Slave if deposed => !verdict.hold_deposed,
                Role::Slave => followers && shard.fence.is_none(),
            };
            if allowed {
                push(cx, node, plan);
            } else if node.role == Role::Slave && cx.now < patience {
                plan.wake(patience);
            }
        }
    }
}

fn push(cx: &Context<'_>, node: &Node, plan: &mut Plan) {
    let seen = cx.observed.node(&node.id);
    let Some(answer) = &seen.seen else { return };
    let is_nameless = answer.reply.is_nameless() && !cx.record.cluster_id.is_empty();
    if cx.health(&node.id) != Health::Up
        || seen.pushing.is_some()
        || (answer.reply.version >= cx.record.version && !is_nameless)
    {
        return;
    }
    let acknowledged = seen
        .pushed
        .is_some_and(|pushed| pushed.version >= cx.record.version && answer.sent_at < pushed.at);
    if acknowledged {
        return cx.ask(&node.id, plan);
    }
    let retry = seen.push_failed_at.map(|at| at.plus_millis(cx.policy.push_retry_ms));
    if let Some(retry) = retry.filter(|retry| *retry > cx.now) {
        return plan.wake(retry);
    }
    let reason = match answer.reply.version {
        -1 => format!("it has no topology, the record has {}", cx.record.version),
        version if version >= cx.record.version => "it does not know its cluster".to_owned(),
        version => format!("it has version {version}, the record has {}", cx.record.version),
    };
    plan.actions.push(Action::Push { node: node.id.clone(), reason });
}
