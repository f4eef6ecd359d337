//! Whether a former master can still serve anybody.
//!
//! Exactly three observations are sound, and each only under what the node itself stated: it
//! acknowledged that it is not master (or a newer, lease-less process of it answers), every
//! balancer has cut it off and it takes clients from nowhere else, or its lease is over.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use api::heartbeat::{ClientAccess, LeaseMode, Role};
use ipnet::IpNet;

use crate::{Node, Observed, PendingFence, Policy, Record, Seen, Shard, Stated, Time, is_stranger};

/// Which observation fences the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// It answered as slave at the version that demotes it.
    Acknowledged,
    /// A newer process of it answers, and holds no lease.
    NewProcess,
    /// Every balancer confirmed: no frontend leads to it, no session is left.
    Balancers,
    /// Its lease is over.
    Lease,
    /// None is possible, the operator allowed that, and the longest lease has passed.
    Unfenced,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acknowledged => "it acknowledged its demotion",
            Self::NewProcess => "a newer process of it answers without a lease",
            Self::Balancers => "every balancer cut it off",
            Self::Lease => "its lease is over",
            Self::Unfenced => "unfenced, as the cluster allows",
        })
    }
}

/// A fence and since when it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// Which.
    pub fence: Fence,
    /// The moment it was confirmed at the controller.
    pub since: Time,
}

/// Which fences are possible for a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Soundness {
    /// It refuses reads and writes without a lease.
    pub lease: bool,
    /// It takes clients only from balancers that are listed.
    pub balancers: bool,
    /// Why not, for people.
    pub reasons: Vec<String>,
}

impl Soundness {
    /// Whether any is.
    pub fn any(&self) -> bool {
        self.lease || self.balancers
    }
}

/// What fences `stated` makes possible with the balancers of `record`.
pub fn soundness(stated: Option<&Stated>, record: &Record) -> Soundness {
    let Some(stated) = stated else {
        return Soundness {
            reasons: vec!["it has not said how it is fenced".to_owned()],
            ..Soundness::default()
        };
    };
    let mut sound =
        Soundness { lease: stated.lease_mode() == LeaseMode::BlockAll, ..Soundness::default() };
    if !sound.lease {
        sound
            .reasons
            .push(format!("master-lease-mode is `{}`, not `block-all`", stated.lease_mode));
    }
    let uncovered: Vec<&str> = stated
        .balancer_sources
        .iter()
        .map(String::as_str)
        .filter(|source| !covered(source, record))
        .collect();
    if stated.client_access() != ClientAccess::BalancerOnly {
        sound.reasons.push("client-access is not `balancer-only`".to_owned());
    } else if record.balancers.is_empty() {
        sound.reasons.push("no balancer is listed".to_owned());
    } else if !uncovered.is_empty() {
        sound.reasons.push(format!(
            "its balancer-sources {} belong to no listed balancer",
            uncovered.join(",")
        ));
    } else {
        sound.balancers = true;
    }
    sound
}

fn covered(source: &str, record: &Record) -> bool {
    record.balancers.iter().any(|balancer| covers(&balancer.sources, source))
}

/// Whether one of `sources` contains all of `source`; addresses and networks, as balancer sources
/// are written.
pub fn covers(sources: &[String], source: &str) -> bool {
    let Some(wanted) = network(source) else { return false };
    sources.iter().filter_map(|text| network(text)).any(|listed| listed.contains(&wanted))
}

/// Whether `text` is an address or a network, as balancer sources are written.
pub fn is_network(text: &str) -> bool {
    network(text).is_some()
}

pub(crate) fn network(text: &str) -> Option<IpNet> {
    IpNet::from_str(text)
        .or_else(|_| IpAddr::from_str(text).map(|ip| ip.to_canonical().into()))
        .ok()
}

/// What the node stated, its own last words first.
pub(crate) fn stated(record: &Record, node: &Node, observed: &Observed) -> Option<Stated> {
    let seen = own(record, observed, &node.id);
    seen.map(|seen| Stated::of(&seen.reply)).or_else(|| node.stated.clone())
}

/// What was heard last at its address, if it is the node's own.
fn own<'a>(record: &Record, observed: &'a Observed, id: &str) -> Option<&'a Seen> {
    let seen = observed.node(id).seen.as_ref();
    seen.filter(|seen| !is_stranger(record, id, &seen.reply))
}

/// The end of every lease `id` may hold, whoever granted it.
pub(crate) fn lease_end(record: &Record, observed: &Observed, policy: &Policy, id: &str) -> Time {
    let inherited = policy.lease_end(observed.started_at, record.longest_lease_ms);
    observed.node(id).lease_until.map_or(inherited, |own| own.max(inherited))
}

/// A node that is to be fenced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Former<'a> {
    /// The shard that it is of.
    pub(crate) shard: &'a Shard,
    /// It.
    pub(crate) node: &'a Node,
    /// Where the store already names its successor.
    pub(crate) demoted: Option<&'a PendingFence>,
}

/// Looks for a confirmed fence; `cut_off` says since when every balancer has cut the node off.
pub(crate) fn confirmed(
    record: &Record,
    observed: &Observed,
    policy: &Policy,
    now: Time,
    former: Former<'_>,
    cut_off: impl FnOnce() -> Option<Time>,
) -> Option<Confirmed> {
    let Former { node, demoted, .. } = former;
    let balancers = || {
        let since = cut_off()?;
        Some(Confirmed { fence: Fence::Balancers, since })
    };
    let stated = stated(record, node, observed);
    let sound = soundness(stated.as_ref(), record);
    let end = lease_end(record, observed, policy, &node.id);
    acknowledged(record, observed, node, demoted)
        .or_else(|| new_process(record, observed, former, &sound))
        .or_else(|| sound.balancers.then(balancers).flatten())
        .or_else(|| {
            (sound.lease && now >= end).then_some(Confirmed { fence: Fence::Lease, since: end })
        })
        .or_else(|| {
            (record.allow_unfenced && !sound.any() && now >= end)
                .then_some(Confirmed { fence: Fence::Unfenced, since: end })
        })
}

fn acknowledged(
    record: &Record,
    observed: &Observed,
    node: &Node,
    demoted: Option<&PendingFence>,
) -> Option<Confirmed> {
    let seen = own(record, observed, &node.id)?;
    let demoted = demoted?;
    let is = seen.reply.myid == node.id
        && seen.reply.role == Role::Slave
        && seen.reply.version >= demoted.version;
    is.then_some(Confirmed { fence: Fence::Acknowledged, since: seen.received_at })
}

/// Only where a missing lease refuses everything, and if nobody granted that process one: with
/// epochs the store knows whom it granted, without them this controller does.
fn new_process(
    record: &Record,
    observed: &Observed,
    former: Former<'_>,
    sound: &Soundness,
) -> Option<Confirmed> {
    let Former { shard, node, demoted } = former;
    let seen = own(record, observed, &node.id)?;
    let is_newer = if shard.epoch.is_none() || demoted.is_some() {
        let granted = observed.node(&node.id).lease_nonce.as_deref()?;
        seen.reply.nonce != granted
    } else {
        seen.reply.nonce != shard.epoch.nonce && seen.sent_at >= observed.epoch_at
    };
    let is = sound.lease
        && seen.reply.myid == node.id
        && is_newer
        && seen.reply.lease_mode == LeaseMode::BlockAll
        && seen.reply.lease_remaining_ms == 0;
    is.then_some(Confirmed { fence: Fence::NewProcess, since: seen.received_at })
}

/// To which nodes load balancers lead, as far as they have answered. Made once for all nodes that
/// are to be fenced: each balancer has a frontend for each node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Cuts {
    /// By the newest demand, by an answer, or for a session that is left.
    led_to: BTreeSet<String>,
    /// Since when every instance has answered to the newest demand. An older answer proves nothing:
    /// a demand sent after it may be in force.
    since: Option<Time>,
}

impl Cuts {
    pub(crate) fn of(record: &Record, observed: &Observed) -> Self {
        let mut cuts = Self::default();
        let desired = observed.desired.as_ref().filter(|_| !record.balancers.is_empty());
        let Some(desired) = desired else { return cuts };
        cuts.leads(&desired.frontends);
        let mut since = Time::default();
        for balancer in &record.balancers {
            let seen = observed.balancers.get(&balancer.name);
            let answer = seen.and_then(|seen| seen.in_force.as_ref());
            let Some(answer) = answer.filter(|answer| answer.version == desired.version) else {
                return cuts;
            };
            cuts.leads(&answer.frontends);
            let left = answer.sessions.iter().filter(|sessions| sessions.count > 0);
            cuts.led_to.extend(left.map(|sessions| sessions.node.clone()));
            since = since.max(answer.at);
        }
        cuts.since = Some(since);
        cuts
    }

    fn leads(&mut self, frontends: &[api::balancer::Frontend]) {
        let backends = frontends.iter().filter_map(|frontend| frontend.backend.as_ref());
        self.led_to.extend(backends.map(|backend| backend.node.clone()));
    }

    /// Since when no balancer leads to the node; `None`: one does, or may.
    pub(crate) fn since(&self, id: &str) -> Option<Time> {
        self.since.filter(|_| !self.led_to.contains(id))
    }
}
