//! The record as REST shows it, and what REST is given as the record takes it.

use std::num::NonZeroU16;

use api::moves::Rate;
use api::rest;
use planner::balance::Given;
use planner::moves::{Move, Past, Phase};
use planner::{Balancer, BalancerKind, Node, Record, Role, Shard, ShardId, Time};
use topology::Endpoint;

use super::error::ApiError;
use crate::cluster::State;

pub(super) fn cluster(record: &Record) -> rest::Cluster {
    rest::Cluster {
        name: record.name.clone(),
        version: record.version,
        shards: record.shards.iter().map(|one| shard(record, one)).collect(),
        allow_unfenced: record.allow_unfenced,
        commit_mode: record.commit_mode,
        min_in_sync: record.min_in_sync,
        max_lag: record.max_lag,
    }
}

pub(super) fn shard(record: &Record, shard: &Shard) -> rest::Shard {
    let (target, migrating_slot) = given(record, shard).unzip();
    rest::Shard {
        id: shard.id.to_string(),
        nodes: shard.nodes.iter().map(node).collect(),
        slot_ranges: slot_ranges(shard),
        target_shard_index: target.unwrap_or(-1),
        migrating_slot,
    }
}

/// As kvrocks-controller shows it: where slots of the shard are going, and the first range of them;
/// of several moves, of which one at a time is under way, the next one.
fn given(record: &Record, shard: &Shard) -> Option<(i64, String)> {
    let is_on_its_way = |one: &&Move| matches!(one.phase, Phase::Queued | Phase::Copy);
    let mut moves = record.moves.list.iter().filter(|one| one.from == shard.id);
    let one = moves.find(is_on_its_way)?;
    let place = i64::try_from(record.place_of(one.to)?).ok()?;
    let (first, last) = *one.slots.ranges().first()?;
    Some((place, range_text(first, last)))
}

/// What is queued or under way, in the order of the queue.
pub(super) fn moves(state: &State, now: Time) -> Vec<rest::Move> {
    state.record.moves.list.iter().map(|one| of_move(state, one, now)).collect()
}

fn of_move(state: &State, one: &Move, now: Time) -> rest::Move {
    let where_it_is = state.observed.moved.get(&one.id);
    rest::Move {
        id: one.id.0,
        slots: one.slots.to_string(),
        from: one.from.to_string(),
        from_index: state.record.place_of(one.from),
        to: one.to.to_string(),
        to_index: state.record.place_of(one.to),
        state: one.phase.word().to_owned(),
        paused: one.is_paused,
        tries: one.tries,
        waits_for: where_it_is
            .map(|(is, _)| planner::moving::waits_for(&state.record, &state.observed, one, is))
            .unwrap_or_default(),
        since_ms: where_it_is.map_or(0, |(_, since)| now.millis_since(*since)),
        rate_mb: one.rate.unwrap_or_else(|| usual_rate(state, (one.from, one.to))).mb(),
        slowed_by: planner::moving::slowed_by(&state.record, &state.observed, one),
        progress: state.copies.get(&one.id).map(|copy| copy.progress()),
    }
}

/// What the copy of a move between these shards brings where it names no rate: no more than its
/// giver gives, nor than its taker takes.
pub(super) fn usual_rate(state: &State, (from, to): (ShardId, ShardId)) -> Rate {
    let usual = |of| {
        let place = state.record.place_of(of)?;
        let master = state.record.shards.get(place).and_then(Shard::master)?;
        state.observed.nodes.get(&master.id)?.seen.as_ref()?.reply.usual_rate
    };
    [usual(from), usual(to)]
        .into_iter()
        .flatten()
        .min_by_key(|rate| rate.mb())
        .unwrap_or(Rate::USUAL)
}

pub(super) fn past_move(past: &Past) -> rest::PastMove {
    rest::PastMove {
        id: past.id.0,
        slots: past.slots.to_string(),
        from: past.from.to_string(),
        to: past.to.to_string(),
        error: past.error.clone(),
    }
}

pub(super) fn wish(
    state: &State,
    id: Option<u64>,
    given: &Given,
    bytes: Option<u64>,
) -> rest::MoveWish {
    rest::MoveWish {
        usual_mb: Some(usual_rate(state, (given.from, given.to)).mb()),
        id,
        slots: given.slots.to_string(),
        from: given.from.to_string(),
        to: given.to.to_string(),
        bytes,
    }
}

pub(super) fn slot_ranges(shard: &Shard) -> Vec<String> {
    shard.slot_ranges.iter().map(|&(first, last)| range_text(first, last)).collect()
}

fn range_text(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Master => "master",
        Role::Slave => "slave",
    }
}

pub(super) fn node(node: &Node) -> rest::Node {
    rest::Node {
        id: node.id.clone(),
        addr: node.local.to_string(),
        role: role(node.role).to_owned(),
        password: String::new(),
        created_at: node.created_at,
        tls_port: node.tls.local.map(NonZeroU16::get),
        announced: rest::Announced {
            announced_host: node.announced.as_ref().map(|endpoint| endpoint.host.clone()),
            announced_port: node.announced.as_ref().map(|endpoint| endpoint.port),
            announced_tls_port: node.tls.announced.map(NonZeroU16::get),
        },
    }
}

pub(super) fn kind(kind: BalancerKind) -> &'static str {
    match kind {
        BalancerKind::Builtin => "builtin",
        BalancerKind::Haproxy => "haproxy",
    }
}

pub(super) fn balancer(balancer: &Balancer) -> rest::Balancer {
    rest::Balancer {
        name: balancer.name.clone(),
        kind: kind(balancer.kind).to_owned(),
        endpoint: balancer.endpoint.clone(),
        source: balancer.sources.join(","),
    }
}

/// `host:port`; IPv6 with or without brackets, the last colon separates.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, ApiError> {
    let bad = || ApiError::bad(format!("address `{text}` must be host:port, IPv6 as [host]:port"));
    let (host, port) = text.trim().rsplit_once(':').ok_or_else(bad)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port: u16 = port.parse().map_err(|_| bad())?;
    let strange = |c: char| c.is_whitespace() || c.is_control() || "[]@,".contains(c);
    if host.is_empty() || port == 0 || host.contains(strange) {
        return Err(bad());
    }
    Ok(Endpoint { host: host.to_owned(), port })
}

/// What is announced of a node: an endpoint, and where TLS alone is spoken beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) endpoint: Option<Endpoint>,
    pub(super) tls: Option<NonZeroU16>,
}

impl Announced {
    pub(super) fn put(self, node: &mut Node) {
        (node.announced, node.tls.announced) = (self.endpoint, self.tls);
    }

    pub(super) fn is_of(&self, node: &Node) -> bool {
        (&self.endpoint, self.tls) == (&node.announced, node.tls.announced)
    }
}

/// Host and port or neither; a port of TLS beside them, or not.
pub(super) fn announced(spec: &rest::Announced) -> Result<Announced, ApiError> {
    let endpoint = match (spec.announced_host.as_deref(), spec.announced_port) {
        (None | Some(""), None | Some(0)) => None,
        (Some(host), Some(port)) if !host.is_empty() => {
            let endpoint = topology::announced::check(host, port).map_err(|error| {
                ApiError::bad(format!("announced endpoint {host}:{port}: {error}"))
            })?;
            Some(endpoint)
        }
        _ => return Err(ApiError::bad("announced_host and announced_port belong together")),
    };
    let beside = endpoint.as_ref().map(|endpoint| endpoint.port);
    let tls = match (spec.announced_tls_port, beside) {
        // Also of 0: that would take the endpoint along, which nobody said.
        (Some(_), None) => {
            return Err(ApiError::bad("announced_tls_port needs an announced_host and its port"));
        }
        (Some(tls), Some(port)) => NonZeroU16::new(tls)
            .map(|tls| other_port("announced_tls_port", tls, port))
            .transpose()?,
        (None, _) => None,
    };
    Ok(Announced { endpoint, tls })
}

/// Where a node speaks TLS alone, beside its own port; 0 is nowhere.
pub(super) fn tls_port(given: u16, local: &Endpoint) -> Result<Option<NonZeroU16>, ApiError> {
    let tls = NonZeroU16::new(given);
    tls.map(|tls| other_port("tls_port", tls, local.port)).transpose()
}

fn other_port(name: &str, tls: NonZeroU16, beside: u16) -> Result<NonZeroU16, ApiError> {
    if tls.get() == beside {
        return Err(ApiError::bad(format!(
            "{name} {tls} is the port beside it, where TLS is spoken anyway (it takes both kinds, or TLS alone with `port 0`): \
             leave it out"
        )));
    }
    Ok(tls)
}

/// The instance as it is to be spoken to from now on. It stays where it is: of another address
/// nobody would close what the instance leads to at the old one.
pub(super) fn changed_balancer(
    before: &Balancer,
    change: rest::BalancerChange,
) -> Result<Balancer, ApiError> {
    let Balancer { name, endpoint: known, .. } = before;
    if before.kind != BalancerKind::Builtin {
        return Err(ApiError::bad(format!(
            "balancer `{name}` is an HAProxy, whose Runtime API has neither TLS nor a token"
        )));
    }
    let mut after = before.clone();
    if let Some(endpoint) = change.endpoint {
        names_nobody(name, &endpoint)?;
        let place = place_of(&endpoint);
        if place.is_none() || place != place_of(known) {
            return Err(ApiError::bad(format!(
                "balancer `{name}` is at {known}, and `{endpoint}` is another place, or no URL with host and port: remove the \
                 instance, which closes it, and add the other one"
            )));
        }
        after.endpoint = endpoint;
    }
    if let Some(token) = change.token {
        after.token = Some(token).filter(|token| !token.is_empty());
    }
    crate::cluster::driver::check(&after)
        .map_err(|error| ApiError::bad(format!("balancer `{name}`: {error}")))?;
    Ok(after)
}

/// Host and port of a URL, whichever way is spoken there; both have to be in it.
fn place_of(url: &str) -> Option<(String, u16)> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let is_known = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').filter(|_| is_known)?;
    let host = Some(host.to_ascii_lowercase()).filter(|host| !host.is_empty())?;
    Some((host, port.parse().ok()?))
}

/// The endpoint of a balancer is shown to all who may look, and events have it.
fn names_nobody(balancer: &str, endpoint: &str) -> Result<(), ApiError> {
    match endpoint.contains('@') {
        true => Err(ApiError::bad(format!(
            "balancer `{balancer}`: a name and a password in its endpoint would be shown to everybody: give its `token`"
        ))),
        false => Ok(()),
    }
}

pub(super) fn new_balancer(spec: rest::BalancerSpec) -> Result<Balancer, ApiError> {
    super::namespaces::check_name("balancer", &spec.name)?;
    let kind = match spec.kind.as_str() {
        "" | "builtin" => BalancerKind::Builtin,
        "haproxy" => BalancerKind::Haproxy,
        other => {
            return Err(ApiError::bad(format!(
                "balancer kind `{other}` is none of builtin, haproxy"
            )));
        }
    };
    if spec.endpoint.is_empty() {
        return Err(ApiError::bad(format!("balancer `{}` needs an endpoint", spec.name)));
    }
    if kind == BalancerKind::Builtin {
        names_nobody(&spec.name, &spec.endpoint)?;
    }
    let sources: Vec<String> = (spec.source.as_deref().unwrap_or_default().split(','))
        .map(|source| source.trim().to_owned())
        .filter(|source| !source.is_empty())
        .collect();
    if let Some(bad) = sources.iter().find(|source| !planner::is_network(source)) {
        return Err(ApiError::bad(format!("balancer source `{bad}` is no address or network")));
    }
    let balancer = Balancer {
        name: spec.name,
        kind,
        endpoint: spec.endpoint,
        token: spec.token.filter(|token| !token.is_empty()),
        sources,
        closing: false,
    };
    crate::cluster::driver::check(&balancer)
        .map_err(|error| ApiError::bad(format!("balancer `{}`: {error}", balancer.name)))?;
    Ok(balancer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_tls_is_announced_beside_an_endpoint_only() {
        let of = |host: Option<&str>, port, tls| {
            let announced_host = host.map(str::to_owned);
            announced(&rest::Announced {
                announced_host,
                announced_port: port,
                announced_tls_port: tls,
            })
        };
        let port = |tls| of(Some("lb.test"), Some(7000), tls).expect("an endpoint").tls;
        assert_eq!(
            (port(Some(7500)), port(Some(0)), port(None)),
            (NonZeroU16::new(7500), None, None)
        );
        for tls in [0, 7500] {
            assert!(of(None, None, Some(tls)).is_err(), "{tls}");
        }
        assert_eq!(of(None, None, None).expect("nothing").endpoint, None);
    }

    #[test]
    fn an_endpoint_that_everybody_is_shown_has_no_password() {
        let new = |endpoint: &str| {
            let (name, endpoint) = ("lb1".to_owned(), endpoint.to_owned());
            new_balancer(rest::BalancerSpec { name, endpoint, ..Default::default() })
        };
        let before = new("http://lb1.test:9380").expect("a balancer");
        for with in ["http://me:s3cret@lb1.test:9380", "me:s3cret@lb1.test:9380"] {
            let refused = new(with).expect_err(with).to_string();
            assert!(refused.contains("`token`") && !refused.contains("s3cret"), "{refused}");
            let change =
                rest::BalancerChange { endpoint: Some(with.to_owned()), ..Default::default() };
            let refused = changed_balancer(&before, change).expect_err(with).to_string();
            assert!(!refused.contains("s3cret"), "{refused}");
        }
    }

    #[test]
    fn a_place_is_host_and_port_of_whichever_scheme() {
        let known = place_of("http://LB1.test:9380");
        assert_eq!(known, Some(("lb1.test".to_owned(), 9380)));
        for same in ["https://lb1.test:9380", "HTTPS://lb1.test:9380/", "lb1.test:9380"] {
            assert_eq!(place_of(same), known, "{same}");
        }
        for other in ["https://lb1.test:9381", "https://lb2.test:9380", "https://lb1.test:9380/x"] {
            assert_ne!(place_of(other), known, "{other}");
        }
        for none in ["", "https://lb1.test", "ftp://lb1.test:9380", "https://:9380"] {
            assert_eq!(place_of(none), None, "{none}");
        }
        assert_eq!(place_of("https://[::1]:9380"), place_of("http://[::1]:9380"));
    }
}
