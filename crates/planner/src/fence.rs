//! Whether a former master can still serve anybody.
//!
//! Exactly three observations are sound, and each only under what the node itself stated: it
//! acknowledged that it is not master (or a newer, lease-less process of it answers), every
//! balancer has cut it off and it takes clients from nowhere else, or its lease is over.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use api::heartbeat::{ClientAccess, LeaseMode, Role};
use ipnet::IpNet;

use crate::{Node, Observed, PendingFence, Policy, Record, Seen, Stated, Time, is_stranger};

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

/// Looks for a confirmed fence of `node`; `demoted` when the store already names its successor.
pub(crate) fn confirmed(
    record: &Record,
    observed: &Observed,
    policy: &Policy,
    now: Time,
    node: &Node,
    demoted: Option<&PendingFence>,
) -> Option<Confirmed> {
    let stated = stated(record, node, observed);
    let sound = soundness(stated.as_ref(), record);
    let end = lease_end(record, observed, policy, &node.id);
    acknowledged(record, observed, node, demoted)
        .or_else(|| new_process(record, observed, node, demoted, &sound))
        .or_else(|| sound.balancers.then(|| cut_off(record, observed, &node.id)).flatten())
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
    node: &Node,
    demoted: Option<&PendingFence>,
    sound: &Soundness,
) -> Option<Confirmed> {
    let seen = own(record, observed, &node.id)?;
    let shard = record.shards.iter().find(|shard| shard.node(&node.id).is_some())?;
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

/// Every instance answered to the newest demand, and neither that demand nor any answer leads to
/// the node. An older answer proves nothing: a demand sent after it may be in force.
fn cut_off(record: &Record, observed: &Observed, id: &str) -> Option<Confirmed> {
    let desired = observed.desired.as_ref()?;
    let leads = |frontends: &[api::balancer::Frontend]| {
        frontends.iter().any(|f| f.backend.as_ref().is_some_and(|backend| backend.node == id))
    };
    if record.balancers.is_empty() || leads(&desired.frontends) {
        return None;
    }
    let mut since = Time::default();
    for balancer in &record.balancers {
        let answer = observed.balancers.get(&balancer.name)?.in_force.as_ref()?;
        let session = answer.sessions.iter().any(|s| s.node == id && s.count > 0);
        if answer.version != desired.version || leads(&answer.frontends) || session {
            return None;
        }
        since = since.max(answer.at);
    }
    Some(Confirmed { fence: Fence::Balancers, since })
}
