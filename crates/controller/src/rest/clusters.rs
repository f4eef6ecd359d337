//! `/clusters`: create, import, show, forget.

use std::collections::BTreeSet;

use api::grant::CommitMode;
use api::moves::MoveId;
use api::rest::{
    Actor, BalancerSpec, ClusterAnswer, ClusterChange, ClusterSpec, Clusters, NodeSpec, UserRole,
};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::Response;
use planner::{Balancer, Node, Paused, Record, Role, Shard};
use topology::SLOT_COUNT;

use super::error::{ApiError, created, gone, ok};
use super::table::{Within, must_be};
use super::{App, body, find, namespaces, probe, slots, view};
use crate::cluster::{UpdateError, topology_of};

/// Longest reason for a pause, bytes: each status has it, and the record.
const REASON_MAX: usize = 1_000;

/// Upstream's header that skips the look at the nodes.
pub(super) const DONT_CHECK: &str = "x-dont-check-cluster-mode";

pub(super) async fn list(registry: App, Path(ns): Path<String>) -> Result<Response, ApiError> {
    known_namespace(&registry, &ns).await?;
    let clusters = registry
        .all()
        .iter()
        .map(|cluster| cluster.record())
        .filter(|record| record.namespace == ns)
        .map(|record| record.name.clone())
        .collect();
    Ok(ok(Clusters { clusters }))
}

pub(super) async fn known_namespace(registry: &App, ns: &str) -> Result<(), ApiError> {
    if namespaces::exists(registry, ns).await? {
        Ok(())
    } else {
        Err(ApiError::bad("namespace not found"))
    }
}

pub(super) fn skips_checks(headers: &HeaderMap) -> bool {
    headers.get(DONT_CHECK).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"yes"))
}

pub(super) async fn create(
    registry: App,
    Extension(by): Extension<Actor>,
    Extension(within): Extension<Within>,
    Path(ns): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    known_namespace(&registry, &ns).await?;
    let spec: ClusterSpec = body(&bytes)?;
    namespaces::check_name("cluster", &spec.name)?;
    let per_shard = nodes_per_shard(&spec)?;
    let mut password = spec.password;
    let mut nodes = Vec::new();
    for (place, node) in spec.nodes.into_iter().map(NodeSpec::into_fields).enumerate() {
        let role = if place % per_shard == 0 { Role::Master } else { Role::Slave };
        nodes.push(probe::new_node(&node, role)?);
        password = password.or(node.password);
    }
    apart(&nodes)?;
    // Before any node is asked: what is wrong with the request itself does not depend on them.
    slots::give(&mut shards(&nodes, per_shard), &spec.slots).map_err(ApiError::bad)?;
    let (is_checked, mut newest) = (!skips_checks(&headers), MoveId(0));
    if is_checked {
        newest = probe::fresh(&registry, &mut nodes, password.as_deref()).await?;
    }
    let mut shards = shards(&nodes, per_shard);
    slots::give(&mut shards, &spec.slots).map_err(ApiError::bad)?;
    for shard in shards.iter().filter(|_| is_checked) {
        probe::keys_fit(&registry, shard, password.as_deref()).await?;
    }
    let record = Record {
        namespace: ns,
        name: spec.name,
        revision: 1,
        tag: 0,
        version: 1,
        shards,
        balancers: balancers(spec.balancers, &within)?,
        longest_lease_ms: registry.shared.policy.lease_ms,
        allow_unfenced: spec.allow_unfenced,
        password: password.filter(|password| !password.is_empty()),
        commit_mode: spec.commit_mode.unwrap_or(default_mode(per_shard)),
        min_in_sync: least(spec.min_in_sync.unwrap_or(1), per_shard)?,
        max_lag: None,
        term: 0,
        cluster_id: new_name(),
        paused: None,
        instead_of: Vec::new(),
        // What nodes know of moves is of another record: their numbers are given no more.
        moves: planner::moves::Moves { newest, ..planner::moves::Moves::default() },
    };
    probe::fenceable(&record)?;
    if let Some(shared) = topology_of(&record).map_err(UpdateError::from)?.shared.first() {
        return Err(ApiError::bad(format!("{}: announce each at an address of its own", shared)));
    }
    let count = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let (of, each) = (count(record.shards.len(), "shard"), count(per_shard, "node"));
    let reason = format!("created with {of} of {each}");
    let cluster = registry.create(record, &by, reason).await?;
    Ok(created(ClusterAnswer { cluster: view::cluster(&cluster.record()) }))
}

/// Refuses a node that is listed twice.
fn apart(nodes: &[Node]) -> Result<(), ApiError> {
    let mut seen = BTreeSet::new();
    match nodes.iter().find(|node| !seen.insert(&node.local)) {
        Some(twice) => Err(ApiError::bad(format!("node {} is listed twice", twice.local))),
        None => Ok(()),
    }
}

/// What nodes and their data call a cluster.
pub(super) fn new_name() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// A write should survive its master, where there is somebody to survive with it.
pub(super) fn default_mode(per_shard: usize) -> CommitMode {
    if per_shard > 1 { CommitMode::InSync } else { CommitMode::Async }
}

pub(super) fn least(min_in_sync: u32, per_shard: usize) -> Result<u32, ApiError> {
    if usize::try_from(min_in_sync).is_ok_and(|least| (1..=per_shard).contains(&least)) {
        return Ok(min_in_sync);
    }
    Err(ApiError::bad(format!(
        "min_in_sync is {min_in_sync}; accepted: 1 to {per_shard}, the nodes of a shard"
    )))
}

fn nodes_per_shard(spec: &ClusterSpec) -> Result<usize, ApiError> {
    if spec.nodes.is_empty() {
        return Err(ApiError::bad("cluster nodes should NOT be empty"));
    }
    let given = spec.replicas.unwrap_or(1);
    let per_shard = usize::try_from(given).ok().filter(|nodes| *nodes > 0).ok_or_else(|| {
        ApiError::bad(format!(
            "replicas is {given}; accepted: 1 and up, the nodes of a shard, its master included"
        ))
    })?;
    if !spec.nodes.len().is_multiple_of(per_shard) {
        return Err(ApiError::bad("cluster nodes should be divisible by replicas"));
    }
    if spec.nodes.len() / per_shard > usize::from(SLOT_COUNT) {
        return Err(ApiError::bad("a cluster has at most 16384 shards"));
    }
    Ok(per_shard)
}

/// Equal shares; the last shard takes the remainder.
fn shards(nodes: &[Node], per_shard: usize) -> Vec<Shard> {
    let count = nodes.len() / per_shard;
    let share = SLOT_COUNT / u16::try_from(count).unwrap_or(SLOT_COUNT);
    nodes
        .chunks(per_shard)
        .zip(0_u16..)
        .map(|(nodes, index)| {
            let first = index * share;
            let is_last = usize::from(index) + 1 == count;
            let last = if is_last { SLOT_COUNT - 1 } else { first + share - 1 };
            Shard {
                id: super::new_shard_id(),
                nodes: nodes.to_vec(),
                slot_ranges: vec![(first, last)],
                intent: None,
                last_intent: None,
                fence: None,
                epoch: planner::Epoch::default(),
                floor: None,
            }
        })
        .collect()
}

/// Those of a cluster that comes. Nobody asks them who they are.
pub(super) fn balancers(
    specs: Vec<BalancerSpec>,
    within: &Within,
) -> Result<Vec<Balancer>, ApiError> {
    if !specs.is_empty() && !within.is_everywhere() {
        return Err(ApiError::beyond(
            "balancers that come with a cluster are not asked who they are, and may be those of another namespace: a user \
             who is limited to namespaces adds them afterwards (`ctl balancer add`)",
        ));
    }
    specs.into_iter().map(view::new_balancer).collect()
}

pub(super) async fn show(
    registry: App,
    Path((ns, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    Ok(ok(ClusterAnswer { cluster: view::cluster(&cluster.record()) }))
}

/// Changes what the controller says to the nodes, when writes count as done, who may be promoted,
/// and whether that happens by itself. The store is changed at once, each shard with its next
/// epoch, which its master gets
/// as soon as it answers: until then the old set, or none, is what counts.
pub(super) async fn change(
    registry: App,
    Extension(by): Extension<Actor>,
    Path((ns, name)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let change: ClusterChange = body(&bytes)?;
    let ClusterChange { commit_mode, min_in_sync, max_lag, password, paused: _, reason: _ } =
        &change;
    if commit_mode.is_some() || min_in_sync.is_some() || max_lag.is_some() || password.is_some() {
        must_be(&by, UserRole::Admin)?;
    }
    let mut said = Vec::new();
    said.extend(change.commit_mode.map(|mode| format!("commit mode {mode}")));
    said.extend(change.min_in_sync.map(|least| format!("min-in-sync {least}")));
    let reason = change.reason.unwrap_or_default();
    if reason.len() > REASON_MAX || reason.chars().any(char::is_control) {
        return Err(ApiError::bad(format!("reason: one line of {REASON_MAX} bytes at most")));
    }
    said.extend(change.paused.map(|paused| match (paused, reason.as_str()) {
        (true, "") => "no automatic failover".to_owned(),
        (true, reason) => format!("no automatic failover ({reason})"),
        (false, _) => "automatic failover".to_owned(),
    }));
    said.extend(change.max_lag.map(|most| format!("max-lag {most}")));
    said.extend(change.password.as_ref().map(|_| "another password for the nodes".to_owned()));
    if said.is_empty() {
        return Err(ApiError::bad(
            "nothing to change: commit_mode, min_in_sync, max_lag, password and paused can be",
        ));
    }
    if let Some(password) = &change.password {
        probe::accepted(&cluster.record(), password, &registry.shared.tls).await?;
    }
    let since_ms = crate::events::now_ms();
    let now = cluster.record();
    let is_so = change.commit_mode.is_none_or(|mode| mode == now.commit_mode)
        && change.min_in_sync.is_none_or(|least| least == now.min_in_sync)
        && change.max_lag.is_none()
        && change.password.is_none()
        && change.paused.is_none();
    if is_so {
        return Ok(ok(ClusterAnswer { cluster: view::cluster(&now) }));
    }
    let record = cluster
        .update(&by, &format!("an operator asked for {}", said.join(", ")), move |record| {
            record.commit_mode = change.commit_mode.unwrap_or(record.commit_mode);
            match change.paused {
                Some(true) => record.paused = Some(Paused { since_ms, reason: reason.clone() }),
                Some(false) => record.paused = None,
                None => {}
            }
            if let Some(password) = change.password.clone() {
                record.password = Some(password).filter(|password| !password.is_empty());
            }
            if let Some(max_lag) = change.max_lag {
                record.max_lag = max_lag.bound();
            }
            if let Some(min_in_sync) = change.min_in_sync {
                let smallest = record.shards.iter().map(|shard| shard.nodes.len()).min();
                record.min_in_sync =
                    least(min_in_sync, smallest.unwrap_or(1)).map_err(|error| error.to_string())?;
            }
            Ok(())
        })
        .await?;
    Ok(ok(ClusterAnswer { cluster: view::cluster(&record) }))
}

pub(super) async fn remove(
    registry: App,
    Extension(by): Extension<Actor>,
    Path((ns, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    find(&registry, &ns, &name)?;
    registry.delete(&ns, &name, &by).await?;
    Ok(gone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_shared_out_and_the_last_shard_takes_the_rest() {
        let fields = |addr: &str| api::rest::NodeFields { addr: addr.into(), ..Default::default() };
        let nodes: Vec<Node> = ["a:1", "b:1", "c:1"]
            .iter()
            .filter_map(|addr| probe::new_node(&fields(addr), Role::Master).ok())
            .collect();
        let ranges: Vec<_> = shards(&nodes, 1).into_iter().map(|s| s.slot_ranges).collect();
        assert_eq!(ranges, [vec![(0, 5460)], vec![(5461, 10921)], vec![(10922, 16383)]]);
    }
}
