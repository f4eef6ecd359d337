//! `/balancers` of a cluster: every instance must be listed, or its cut proves nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::heartbeat::ClientAccess;
use api::rest::{Actor, BalancerChange, BalancerRemoved, BalancerSpec, Balancers};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, Query};
use axum::http::HeaderMap;
use axum::response::Response;
use planner::{Balancer, BalancerKind, Record};
use web::tls::Tls;

use super::clusters::{DONT_CHECK, skips_checks};
use super::error::{ApiError, created, gone, ok};
use super::table::Within;
use super::{App, body, find, probe, view, yes_or_no};
use crate::cluster::{Cluster, UpdateError, driver};

pub(super) async fn list(
    registry: App,
    Path((ns, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let record = find(&registry, &ns, &name)?.record();
    Ok(ok(Balancers { balancers: record.balancers.iter().map(view::balancer).collect() }))
}

pub(super) async fn add(
    registry: App,
    Extension(by): Extension<Actor>,
    Extension(within): Extension<Within>,
    Path((ns, name)): Path<(String, String)>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let mut balancer = view::new_balancer(body::<BalancerSpec>(&bytes)?)?;
    may_be_driven(&balancer, &within)?;
    // What is not asked who it is may be another namespace's.
    if !skips_checks(&headers) || !within.is_everywhere() {
        let start_id = introduce(&mut balancer, &cluster.record(), &registry.shared.tls).await?;
        unlisted(&registry, &balancer, &start_id)?;
    }
    let answer = view::balancer(&balancer);
    cluster
        .update(&by, &format!("balancer {} added", balancer.name), move |record| {
            if record.balancers.iter().any(|known| known.name == balancer.name) {
                return Err(format!("balancer {} already exists", balancer.name));
            }
            record.balancers.push(balancer.clone());
            Ok(())
        })
        .await
        .map_err(|error| match error.to_string() {
            text if text.ends_with("already exists") => ApiError::conflict(text),
            _ => error.into(),
        })?;
    Ok(created(answer))
}

/// Changes how an instance is spoken to. What it has in force stays, and counts for nothing before
/// it has said so in the new way.
pub(super) async fn change(
    registry: App,
    Extension(by): Extension<Actor>,
    Path((ns, name, balancer)): Path<(String, String, String)>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let change: BalancerChange = body(&bytes)?;
    let record = cluster.record();
    let known = record.balancers.iter().find(|known| known.name == balancer).cloned();
    let before =
        known.ok_or_else(|| ApiError::not_found(format!("balancer {balancer}: not found")))?;
    if before.closing {
        return Err(ApiError::conflict(format!("balancer {balancer} is being removed")));
    }
    let mut after = view::changed_balancer(&before, change)?;
    if after == before {
        return Ok(ok(view::balancer(&before)));
    }
    if !skips_checks(&headers) {
        introduce(&mut after, &record, &registry.shared.tls).await?;
    }
    let (answer, endpoint) = (view::balancer(&after), after.endpoint.clone());
    cluster
        .update(&by, &format!("balancer {balancer} is driven at {endpoint}"), move |record| {
            let mut known = record.balancers.iter_mut().filter(|known| **known == before);
            *known.next().ok_or("the balancer was changed by others")? = after.clone();
            Ok(())
        })
        .await?;
    Ok(ok(answer))
}

/// HAProxy's Runtime API asks nobody for a token: each instance that this controller reaches would
/// do as it is told, also another namespace's.
fn may_be_driven(balancer: &Balancer, within: &Within) -> Result<(), ApiError> {
    if within.is_everywhere() || balancer.kind == BalancerKind::Builtin {
        return Ok(());
    }
    Err(ApiError::beyond(format!(
        "balancer `{}` is an HAProxy, whose Runtime API asks for no token, so it may be that of another namespace: somebody \
         who is not limited to namespaces has to add it",
        balancer.name
    )))
}

/// An address may be spelled in many ways, and has many names: by its process an instance is known
/// whatever it is called. Two clusters that tell one instance would close each other's frontends.
fn unlisted(registry: &App, balancer: &Balancer, start_id: &str) -> Result<(), ApiError> {
    // Others have none of their own.
    if balancer.kind != BalancerKind::Builtin {
        return Ok(());
    }
    let mut listed = registry.all().into_iter().filter_map(|cluster| {
        let name = cluster.balancer_of(start_id)?;
        Some((cluster.label(), name))
    });
    match listed.next() {
        None => Ok(()),
        Some((cluster, name)) => Err(ApiError::conflict(format!(
            "balancer `{}` at {} is already used by cluster {cluster}, as `{name}`: an instance serves one cluster, under one name",
            balancer.name, balancer.endpoint
        ))),
    }
}

/// Asks the instance who it is: a name that leads nowhere, or to somebody else, is a mistake now
/// and an outage later. The id of its process, if it has one.
async fn introduce(
    balancer: &mut Balancer,
    record: &Record,
    tls: &Arc<Tls>,
) -> Result<String, ApiError> {
    let name = &balancer.name;
    let said = driver::hello(balancer, tls).await.map_err(|told| {
        let remedy = match told.contains("token") {
            true => "give the token of its configuration (`--balancer-token-file`, `token`)",
            false => "start it first",
        };
        ApiError::bad(format!(
            "balancer `{name}` at {}: {told}; {remedy} (`{DONT_CHECK}: yes` in a request of yours has it not asked)",
            balancer.endpoint
        ))
    })?;
    if let Some(source) = said.source {
        if balancer.sources.is_empty() {
            balancer.sources.push(source);
        } else if !planner::covers(&balancer.sources, &source) {
            return Err(ApiError::bad(format!(
                "balancer `{name}` says that it dials from {source}, not from {}: correct `source`, or its `bind_source`",
                balancer.sources.join(",")
            )));
        }
    }
    let listing = |node: &planner::Node| {
        node.stated.as_ref().is_some_and(|stated| !stated.balancer_sources.is_empty())
    };
    if balancer.sources.is_empty() && record.nodes().any(|(_, node)| listing(node)) {
        return Err(ApiError::bad(format!(
            "balancer `{name}` needs `source`, the address it dials nodes from: they list the balancers they take connections from"
        )));
    }
    Ok(said.start_id)
}

/// How long an instance that is removed may take to close.
const CLOSING: Duration = Duration::from_secs(4);

/// Closes the instance, then forgets it: one that is only forgotten goes on to lead clients to
/// where it led them last, for ever. `force=yes` forgets it also when it could not be closed, or is
/// the last one.
pub(super) async fn remove(
    registry: App,
    Extension(by): Extension<Actor>,
    Path((ns, name, balancer)): Path<(String, String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, ApiError> {
    let is_forced = yes_or_no(&query, "force")?;
    let cluster = find(&registry, &ns, &name)?;
    let record = cluster.record();
    if !record.balancers.iter().any(|known| known.name == balancer) {
        return Err(ApiError::not_found(format!("balancer {balancer}: not found")));
    }
    let mut without = (*record).clone();
    without.balancers.retain(|known| known.name != balancer);
    probe::fenceable(&without)?;
    if !is_forced {
        leaves_a_door(&balancer, &without)?;
    }
    // It goes on to its end when whoever asked hangs up: a mark that stays would have the instance
    // closed and forgotten once it answers, be it weeks later.
    let removing = tokio::spawn(close(cluster, by, balancer, is_forced));
    removing.await.map_err(|_| ApiError::failed("the removal ended by a fault of ours"))?
}

/// Has the instance closed, and forgets it then, or else takes back that it is to be.
async fn close(
    cluster: Arc<Cluster>,
    by: Actor,
    balancer: String,
    is_forced: bool,
) -> Result<Response, ApiError> {
    let mut changes = cluster.changes();
    mark(&cluster, &by, &balancer, true).await?;
    let is_gone = || !cluster.record().balancers.iter().any(|known| known.name == balancer);
    let closed = tokio::time::timeout(CLOSING, async {
        while !is_gone() {
            if changes.changed().await.is_err() {
                break;
            }
        }
    });
    if closed.await.is_ok() && is_gone() {
        return Ok(gone());
    }
    let why = why_open(&cluster, &balancer);
    if !is_forced {
        mark(&cluster, &by, &balancer, false).await.map_err(ApiError::midway)?;
        if is_gone() {
            return Ok(gone());
        }
        return Err(ApiError::conflict(format!(
            "balancer {balancer} could not be closed, and stays: {why}. Whoever reaches it would be sent to where it leads now, for ever. \
             Make it answer, or end its process and repeat with `force=yes` (`ctl balancer remove {balancer} --force`)"
        )));
    }
    let text = format!("balancer {balancer} removed WITHOUT being closed: {why}");
    let wanted = balancer.clone();
    cluster
        .update(&by, &text, move |record| {
            record.balancers.retain(|known| known.name != wanted);
            Ok(())
        })
        .await
        .map_err(|error| ApiError::from(error).midway())?;
    Ok(ok(BalancerRemoved { closed: false, why }))
}

/// The last way in is not taken away in passing.
fn leaves_a_door(balancer: &str, without: &Record) -> Result<(), ApiError> {
    let needs = |node: &planner::Node| {
        let stated = node.stated.as_ref();
        stated.is_some_and(|stated| stated.client_access() == ClientAccess::BalancerOnly)
    };
    let closed = without.nodes().find(|(_, node)| needs(node));
    match closed {
        Some((_, node)) if without.balancers.is_empty() => Err(ApiError::conflict(format!(
            "balancer {balancer} is the last one, and {} takes clients only through one (`client-access balancer-only`): no client could come. \
             Add another one first, or repeat with `force=yes` (`ctl balancer remove {balancer} --force`)",
            node.local
        ))),
        _ => Ok(()),
    }
}

async fn mark(
    cluster: &Arc<Cluster>,
    by: &Actor,
    balancer: &str,
    closing: bool,
) -> Result<(), ApiError> {
    let text = match closing {
        true => format!("balancer {balancer} is to close and to be removed"),
        false => format!("balancer {balancer} is not removed: it could not be closed"),
    };
    let wanted = balancer.to_owned();
    let result = cluster
        .update(by, &text, move |record| {
            let mut known = record.balancers.iter_mut().filter(|known| known.name == wanted);
            let known = known.next().ok_or_else(|| format!("balancer {wanted}: not found"))?;
            known.closing = closing;
            Ok(())
        })
        .await;
    match result {
        // It was removed meanwhile.
        Err(UpdateError::Refused(_)) => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

/// What stands in the way of closing it, for people.
fn why_open(cluster: &Cluster, balancer: &str) -> String {
    let state = cluster.state.lock();
    let seen = state.observed.balancers.get(balancer);
    if let Some(error) = seen.and_then(|seen| seen.error.clone()) {
        return error;
    }
    match seen.and_then(|seen| seen.in_force.as_ref()) {
        None => format!("it did not answer within {CLOSING:?}"),
        Some(answer) => {
            let count: u64 = answer.sessions.iter().map(|sessions| sessions.count).sum();
            format!("after {CLOSING:?} it still has {count} sessions, or leads to a node")
        }
    }
}
