//! `/shards`, and the switchover of one.

use std::time::Duration;

use api::rest::{Failover, FailoverSpec, NodeSpec, ShardAnswer, ShardSpec, Shards};
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::Response;
use planner::{Intent, Role, Shard};

use super::error::{ApiError, created, gone, ok};
use super::{App, body, find, probe, shard_index, view};
use crate::cluster::Cluster;

/// Bounds of a switchover when the request has none, ms.
const SYNC_TIMEOUT_MS: u64 = 1_000;
const PAUSE_MS: u64 = 3_000;
/// Longest pause that may be asked for, ms.
const PAUSE_MAX_MS: u64 = 60_000;
/// How much longer than the switchover the request waits, for the store and a slow fence.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn list(
    registry: App,
    Path((ns, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let record = find(&registry, &ns, &name)?.record();
    Ok(ok(Shards { shards: record.shards.iter().map(view::shard).collect() }))
}

pub(super) async fn show(
    registry: App,
    Path((ns, name, index)): Path<(String, String, String)>,
) -> Result<Response, ApiError> {
    let record = find(&registry, &ns, &name)?.record();
    let index = shard_index(&index, record.shards.len())?;
    Ok(ok(ShardAnswer { shard: view::shard(&record.shards[index]) }))
}

pub(super) async fn create(
    registry: App,
    Path((ns, name)): Path<(String, String)>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let spec: ShardSpec = body(&bytes)?;
    let mut nodes = Vec::new();
    for (place, node) in spec.nodes.into_iter().map(NodeSpec::into_fields).enumerate() {
        let role = if place == 0 { Role::Master } else { Role::Slave };
        nodes.push(probe::new_node(&node, role)?);
    }
    if nodes.is_empty() {
        return Err(ApiError::bad("shard nodes should NOT be empty"));
    }
    if !super::clusters::skips_checks(&headers) {
        let password = cluster.record().password.clone();
        probe::fresh(&registry, &mut nodes, password.as_deref()).await?;
    }
    let shard = Shard {
        nodes,
        slot_ranges: Vec::new(),
        intent: None,
        last_intent: None,
        fence: None,
        epoch: planner::Epoch::default(),
    };
    let mut wanted = (*cluster.record()).clone();
    wanted.shards = vec![shard.clone()];
    probe::fenceable(&wanted)?;
    let reason = format!("shard of {} nodes added", shard.nodes.len());
    let added = shard.clone();
    cluster
        .update(&reason, move |record| {
            record.shards.push(added.clone());
            Ok(())
        })
        .await?;
    Ok(created(ShardAnswer { shard: view::shard(&shard) }))
}

pub(super) async fn remove(
    registry: App,
    Path((ns, name, index)): Path<(String, String, String)>,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let record = cluster.record();
    let index = shard_index(&index, record.shards.len())?;
    let known = record.shards[index].nodes.clone();
    cluster
        .update(&format!("shard {index} removed"), move |record| {
            let same = |shard: &Shard| {
                shard.nodes.len() == known.len()
                    && shard.nodes.iter().zip(&known).all(|(a, b)| a.id == b.id)
            };
            if !record.shards.get(index).is_some_and(same) {
                return Err("the shard was changed by others".to_owned());
            }
            if !record.shards[index].slot_ranges.is_empty() {
                return Err("shard is servicing".to_owned());
            }
            record.shards.remove(index);
            Ok(())
        })
        .await?;
    Ok(gone())
}

pub(super) async fn failover(
    registry: App,
    Path((ns, name, index)): Path<(String, String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let spec: FailoverSpec = body(&bytes)?;
    let record = cluster.record();
    let index = shard_index(&index, record.shards.len())?;
    let or = |value: u64, default: u64| if value == 0 { default } else { value.min(PAUSE_MAX_MS) };
    let intent = Intent {
        id: format!("{:016x}", rand::random::<u64>()),
        preferred: spec.preferred_node_id.filter(|id| !id.is_empty()),
        force: spec.force || spec.options.force_on_timeout,
        sync_timeout_ms: or(spec.options.sync_timeout_ms, SYNC_TIMEOUT_MS),
        pause_ms: or(spec.options.pause_timeout_ms, PAUSE_MS),
        accept_loss: false,
    };
    let mut changes = cluster.changes();
    let wanted = intent.clone();
    cluster
        .update(&format!("shard {index}: switchover asked for"), move |record| {
            let shard = record.shards.get_mut(index).ok_or("index out of range")?;
            check(shard, &wanted)?;
            shard.intent = Some(wanted.clone());
            Ok(())
        })
        .await?;
    let limit = Duration::from_millis(intent.sync_timeout_ms + intent.pause_ms) + PATIENCE;
    let done = tokio::time::timeout(limit, async {
        loop {
            if let Some(result) = result_of(&cluster, index, &intent.id) {
                return result;
            }
            if changes.changed().await.is_err() {
                return Err("the cluster was deleted".to_owned());
            }
        }
    });
    match done.await {
        Ok(Ok(new_master_id)) => Ok(ok(Failover { new_master_id })),
        Ok(Err(why)) => Err(ApiError::failed(why)),
        Err(_) => {
            withdraw(&cluster, index, &intent.id).await;
            Err(ApiError::failed(format!(
                "no switchover within {limit:?}; `status` shows what shard {index} waits for"
            )))
        }
    }
}

fn check(shard: &Shard, intent: &Intent) -> Result<(), String> {
    if shard.nodes.len() < 2 {
        return Err("no replica in shard".to_owned());
    }
    if shard.intent.is_some() || shard.fence.is_some() {
        return Err("a switchover of this shard is under way".to_owned());
    }
    match &intent.preferred {
        Some(id) if !shard.replicas().any(|node| node.id == *id) => {
            Err(format!("node {id} is not a replica of this shard"))
        }
        _ => Ok(()),
    }
}

/// The new master, or why there is none; `None` while it is under way.
pub(super) fn result_of(
    cluster: &Cluster,
    index: usize,
    id: &str,
) -> Option<Result<String, String>> {
    let record = cluster.record();
    let Some(shard) = record.shards.get(index) else {
        return Some(Err("the shard was removed".to_owned()));
    };
    let result = shard.last_intent.as_ref().filter(|result| result.id == id)?;
    if let Some(error) = &result.error {
        return Some(Err(error.clone()));
    }
    // Named in the store, but its predecessor may still have to be fenced.
    if shard.fence.is_some() {
        return None;
    }
    Some(shard.master().map(|node| node.id.clone()).ok_or_else(|| "no master".to_owned()))
}

pub(super) async fn withdraw(cluster: &std::sync::Arc<Cluster>, index: usize, id: &str) {
    let reason = format!("shard {index}: withdrawn, it took too long");
    let result = cluster
        .update(&reason, |record| {
            let shard = record.shards.get_mut(index).ok_or("index out of range")?;
            match &shard.intent {
                Some(intent) if intent.id == id => {
                    shard.intent = None;
                    Ok(())
                }
                _ => Err("it is over".to_owned()),
            }
        })
        .await;
    if let Err(error) = result {
        tracing::debug!(%error, "withdraw a switchover");
    }
}
