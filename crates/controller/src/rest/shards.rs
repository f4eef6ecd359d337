//! `/shards`.

use api::rest::{Actor, NodeSpec, ShardAnswer, ShardSpec, Shards};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::Response;
use planner::{Record, Role, Shard};

use super::error::{ApiError, created, gone, ok};
use super::{App, body, find, probe, shard_index, view};

pub(super) async fn list(
    registry: App,
    Path((ns, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let record = find(&registry, &ns, &name)?.record();
    Ok(ok(Shards { shards: record.shards.iter().map(|one| view::shard(&record, one)).collect() }))
}

pub(super) async fn show(
    registry: App,
    Path((ns, name, index)): Path<(String, String, String)>,
) -> Result<Response, ApiError> {
    let record = find(&registry, &ns, &name)?.record();
    let index = shard_index(&index, &record)?;
    Ok(ok(ShardAnswer { shard: view::shard(&record, &record.shards[index]) }))
}

pub(super) async fn create(
    registry: App,
    Extension(by): Extension<Actor>,
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
    // Before any node is asked.
    may_come(&cluster.record(), nodes.len()).map_err(ApiError::bad)?;
    let is_checked = !super::clusters::skips_checks(&headers);
    let password = cluster.record().password.clone();
    if is_checked {
        probe::fresh(&registry, &mut nodes, password.as_deref()).await?;
    }
    let shard = Shard {
        id: super::new_shard_id(),
        nodes,
        slot_ranges: Vec::new(),
        intent: None,
        last_intent: None,
        fence: None,
        epoch: planner::Epoch::default(),
        floor: None,
    };
    if is_checked {
        // It has no slots yet: what it has would be found by nobody, and lie where slots come.
        probe::keys_fit(&registry, &shard, password.as_deref()).await?;
    }
    let mut wanted = (*cluster.record()).clone();
    wanted.shards = vec![shard.clone()];
    probe::fenceable(&wanted)?;
    let reason = format!("shard of {} nodes added", shard.nodes.len());
    let added = shard.clone();
    cluster
        .update(&by, &reason, move |record| {
            may_come(record, added.nodes.len())?;
            record.shards.push(added.clone());
            Ok(())
        })
        .await?;
    Ok(created(ShardAnswer { shard: view::shard(&cluster.record(), &shard) }))
}

pub(super) async fn remove(
    registry: App,
    Extension(by): Extension<Actor>,
    Path((ns, name, index)): Path<(String, String, String)>,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let record = cluster.record();
    let index = shard_index(&index, &record)?;
    may_go(&record, index).map_err(ApiError::conflict)?;
    let known = record.shards[index].nodes.clone();
    let of = record.shards[index].id;
    cluster
        .update(&by, &format!("shard {index} removed"), move |record| {
            let same = |shard: &Shard| {
                shard.nodes.len() == known.len()
                    && shard.nodes.iter().zip(&known).all(|(a, b)| a.id == b.id)
            };
            let index =
                if of.is_none() { index } else { record.place_of(of).unwrap_or(usize::MAX) };
            if !record.shards.get(index).is_some_and(same) {
                return Err("the shard was changed by others".to_owned());
            }
            may_go(record, index)?;
            record.shards.remove(index);
            Ok(())
        })
        .await?;
    Ok(gone())
}

/// A shard of fewer nodes than writes want in sync would refuse each write, once it has slots.
fn may_come(record: &Record, nodes: usize) -> Result<(), String> {
    let wanted = record.min_in_sync;
    if nodes >= usize::try_from(wanted).unwrap_or(usize::MAX) {
        return Ok(());
    }
    Err(format!(
        "writes want {wanted} nodes in sync, and the shard would have {nodes}: add it with more, or lower min-in-sync first \
         (`ctl set cluster`)"
    ))
}

/// A shard with slots has their data, and one in a move has some or is about to.
fn may_go(record: &Record, index: usize) -> Result<(), String> {
    let shard = &record.shards[index];
    if let Some(one) = record.moves.concern(shard.id) {
        return Err(format!(
            "shard {index} is in move {} of slots {}: wait for its end, or `ctl moves cancel {}`",
            one.id, one.slots, one.id
        ));
    }
    if !shard.slot_ranges.is_empty() {
        return Err(format!(
            "shard {index} is servicing: it has slots, so it cannot be deleted; `ctl shard drain {index}` moves them away"
        ));
    }
    Ok(())
}
