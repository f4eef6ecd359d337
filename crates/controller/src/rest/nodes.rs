//! `/nodes` of a shard: list, add, remove, change where clients reach one.

use std::time::{Duration, Instant};

use api::rest::{Actor, NodeChange, NodeFields, Nodes};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::Response;
use planner::{Record, Removal, Role};

use super::error::{ApiError, created, gone, ok};
use super::{App, body, find, probe, shard_again, shard_index, view};
use crate::cluster::Cluster;

pub(super) async fn list(
    registry: App,
    Path((ns, name, index)): Path<(String, String, String)>,
) -> Result<Response, ApiError> {
    let record = find(&registry, &ns, &name)?.record();
    let index = shard_index(&index, &record)?;
    Ok(ok(Nodes { nodes: record.shards[index].nodes.iter().map(view::node).collect() }))
}

pub(super) async fn add(
    registry: App,
    Extension(by): Extension<Actor>,
    Path((ns, name, index)): Path<(String, String, String)>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let fields: NodeFields = body(&bytes)?;
    let record = cluster.record();
    let index = shard_index(&index, &record)?;
    match fields.role.as_deref() {
        None | Some("" | "slave" | "replica") => {}
        Some("master") => return Err(ApiError::bad("the shard has a master; add a slave")),
        Some(other) => {
            return Err(ApiError::bad(format!("role `{other}` is none of slave, master")));
        }
    }
    let mut nodes = vec![probe::new_node(&fields, Role::Slave)?];
    let given = fields.password.as_deref().filter(|given| !given.is_empty());
    if given.is_some() && given != record.password.as_deref() {
        // Nodes are asked with the cluster's; one that has another would answer nothing but errors.
        return Err(ApiError::bad(
            "that password is not the cluster's, which is the same for all of its nodes: give the node that one (`peer-auth`), or change the cluster's first",
        ));
    }
    if !super::clusters::skips_checks(&headers) {
        probe::fresh(&registry, &mut nodes, record.password.as_deref()).await?;
    }
    let Some(node) = nodes.pop() else { return Err(ApiError::failed("no node")) };
    let (id, added) = (node.id.clone(), node);
    let of = record.shards[index].id;
    cluster
        .update(&by, &format!("shard {index}: node {} added", added.local), move |record| {
            shard_again(record, index, of)?.nodes.push(added.clone());
            Ok(())
        })
        .await?;
    Ok(created(id))
}

pub(super) async fn remove(
    registry: App,
    Extension(by): Extension<Actor>,
    Path((ns, name, index, id)): Path<(String, String, String, String)>,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let record = cluster.record();
    let index = shard_index(&index, &record)?;
    let of = record.shards[index].id;
    if record.shards[index].node(&id).is_none() {
        return Err(ApiError::not_found(format!("node {id} is not in shard {index}")));
    }
    may_leave(&cluster, &id).await?;
    let reason = format!("shard {index}: node {} removed", record.called(&id));
    cluster
        .update(&by, &reason, move |record| {
            let wanted = record.min_in_sync;
            let shard = shard_again(record, index, of)?;
            let node = shard.node(&id).ok_or("the node was removed by others")?;
            if node.role == Role::Master {
                return Err("cannot take master node offline, failover first".to_owned());
            }
            if shard.fence.as_ref().is_some_and(|fence| fence.node == id) {
                return Err("the node is not fenced yet; try again".to_owned());
            }
            let left = shard.nodes.len() - 1;
            if left < usize::try_from(wanted).unwrap_or(usize::MAX) {
                return Err(format!(
                    "writes want {wanted} nodes in sync, and the shard would have {left}: lower min-in-sync first (`ctl set cluster`)"
                ));
            }
            shard.nodes.retain(|node| node.id != id);
            Ok(())
        })
        .await?;
    Ok(gone())
}

/// How long it may take until it is known whether the master serves.
const CLEAR_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Refuses to take out a node that may be all that is left of what was acknowledged.
async fn may_leave(cluster: &Cluster, id: &str) -> Result<(), ApiError> {
    let shared = &cluster.shared;
    let begun = Instant::now();
    loop {
        let removal = {
            let state = cluster.state.lock();
            let at = (&shared.policy, shared.now());
            planner::removal(&state.record, &state.observed, at, id, &state.plan.shards)
        };
        match removal {
            Removal::Fine => return Ok(()),
            Removal::Refused(why) => return Err(ApiError::conflict(why)),
            Removal::Unclear if begun.elapsed() < CLEAR_WITHIN => tokio::time::sleep(LOOK).await,
            Removal::Unclear => {
                return Err(ApiError::conflict(
                    "it is not known whether the master of its shard serves, or whether the node answers, which may hold what \
                     nobody else has: `status` shows why; try again once it is known",
                ));
            }
        }
    }
}

pub(super) async fn change(
    registry: App,
    Extension(by): Extension<Actor>,
    Path((ns, name, index, id)): Path<(String, String, String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let record = find(&registry, &ns, &name)?.record();
    let index = shard_index(&index, &record)?;
    if record.shards[index].node(&id).is_none() {
        return Err(ApiError::not_found(format!("node {id} is not in shard {index}")));
    }
    announce(registry, &by, (&ns, &name), id, &bytes).await
}

pub(super) async fn change_anywhere(
    registry: App,
    Extension(by): Extension<Actor>,
    Path((ns, name, id)): Path<(String, String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    announce(registry, &by, (&ns, &name), id, &bytes).await
}

/// Sets the announced endpoint, or takes it away when the body has none; and where the node speaks
/// TLS, if the body says so.
async fn announce(
    registry: App,
    by: &Actor,
    (ns, name): (&str, &str),
    id: String,
    bytes: &Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, ns, name)?;
    let change: NodeChange = body(bytes)?;
    let announced = change.announced().map(|spec| view::announced(&spec)).transpose()?;
    let record = cluster.record();
    let known = record.node(&id);
    let known =
        known.ok_or_else(|| ApiError::not_found(format!("node {id} is not in the cluster")))?;
    let is_taken = announced.as_ref().is_some_and(|announced| announced.endpoint.is_none());
    if is_taken && planner::needs_endpoint(&record, &cluster.state.lock().observed, &id) {
        return Err(ApiError::conflict(format!(
            "{} has slots and takes clients through load balancers only: without an announced \
             endpoint nobody reaches them. `ctl failover shard` first, or announce it elsewhere",
            known.local
        )));
    }
    let tls_port = change.tls_port.map(|port| view::tls_port(port, &known.local)).transpose()?;
    let mut parts = Vec::new();
    parts.extend(announced.as_ref().map(told));
    parts.extend(tls_port.map(|port| match port {
        Some(port) => format!("speaks TLS at port {port}"),
        None => "has no port of TLS alone".to_owned(),
    }));
    let reason = format!("node {} {}", record.called(&id), parts.join(", "));
    let wanted = id.clone();
    let record = cluster
        .update(by, &reason, move |record: &mut Record| {
            let mut nodes = record.shards.iter_mut().flat_map(|shard| &mut shard.nodes);
            let node = nodes.find(|node| node.id == wanted);
            let node = node.ok_or("the node was removed by others")?;
            if let Some(announced) = &announced {
                announced.clone().put(node);
            }
            if let Some(port) = tls_port {
                node.tls.local = port;
            }
            Ok(())
        })
        .await?;
    let node = record.node(&id).ok_or_else(|| ApiError::not_found("not found"))?;
    Ok(ok(view::node(node)))
}

fn told(announced: &view::Announced) -> String {
    match announced {
        view::Announced { endpoint: Some(endpoint), tls: Some(tls) } => {
            format!("is announced as {endpoint}, over TLS at port {tls}")
        }
        view::Announced { endpoint: Some(endpoint), tls: None } => {
            format!("is announced as {endpoint}")
        }
        view::Announced { endpoint: None, .. } => "is announced by its own address".to_owned(),
    }
}
