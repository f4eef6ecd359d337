//! What is seen now, what happened, and numbers for Prometheus.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use api::grant::CommitMode;
use api::health::Health;
use api::rest;
use axum::Extension;
use axum::extract::{Path, Query};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use planner::{NodeObserved, Policy, Role, Shard, ShardState, Time};

use super::error::{ApiError, ok};
use super::table::Within;
use super::{App, certificates, find, view};
use crate::cluster::{Cluster, State};
use crate::events::{Event, now_ms};
use crate::store::{Store, Weight};

/// Events told when the request does not say how many, and at most.
const EVENTS: usize = 100;
const EVENTS_MAX: usize = 10_000;

pub(super) async fn show(
    registry: App,
    Extension(within): Extension<Within>,
    Path((ns, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    Ok(ok(status(&cluster, told(troubles(&registry), &within))))
}

/// What of that is told: it may be about other namespaces, and says where the store lies.
pub(super) fn told(troubles: Vec<String>, within: &Within) -> Vec<String> {
    if within.is_everywhere() || troubles.is_empty() {
        return troubles;
    }
    vec!["the controller has trouble: its log, and users of all namespaces, know which".to_owned()]
}

/// What is wrong with this process itself.
pub(super) fn troubles(registry: &App) -> Vec<String> {
    let certificate = registry.shared.tls.runs_out();
    let certificate = certificate.map(|text| format!("this controller: {text}"));
    let soon = registry.shared.store.warnings();
    registry.trouble().into_iter().chain(soon).chain(certificate).collect()
}

pub(super) fn status(cluster: &Cluster, troubles: Vec<String>) -> rest::Status {
    let (now, policy) = (cluster.shared.now(), &cluster.shared.policy);
    let state = cluster.state.lock();
    let record = &state.record;
    let health = planner::healths(record, &state.observed, policy, now);
    let shards: Vec<rest::ShardStatus> = record
        .shards
        .iter()
        .enumerate()
        .map(|(index, shard)| shard_status(&state, (index, shard), (policy, now), &health))
        .collect();
    let healthy = shards.iter().all(|shard| {
        shard.state == "steady" && !shard.degraded && shard.nodes.iter().all(|node| node.settled)
    });
    let balancers: Vec<rest::BalancerStatus> =
        record.balancers.iter().map(|balancer| balancer_status(&state, balancer)).collect();
    let now_s = i64::try_from(now_ms() / 1_000).unwrap_or(i64::MAX);
    let certificates = certificates::alarms(record, &state.observed, now_s);
    let weight = cluster.shared.store.weight(&record.namespace, &record.name);
    let heavy = weight.and_then(Weight::alarm);
    let alarms = troubles.into_iter().chain(state.plan.alarms.clone());
    let alarms: Vec<String> = alarms.chain(certificates).chain(heavy).collect();
    rest::Status {
        namespace: record.namespace.clone(),
        name: record.name.clone(),
        version: record.version,
        topology_hash: state.topology.hash.to_string(),
        term: cluster.shared.store.term(),
        // What a person should know is not known by a word that says there is nothing.
        healthy: healthy && alarms.is_empty() && balancers.iter().all(|balancer| balancer.in_force),
        commit_mode: record.commit_mode,
        min_in_sync: record.min_in_sync,
        shards,
        balancers,
        alarms,
        record_bytes: weight.and_then(|weight| u64::try_from(weight.bytes).ok()),
        moves: view::moves(&state, now),
    }
}

fn shard_status(
    state: &State,
    (index, shard): (usize, &Shard),
    (policy, now): (&Policy, Time),
    health: &impl Fn(&str) -> Health,
) -> rest::ShardStatus {
    let unplanned = ShardState::Settling("not planned yet".to_owned());
    let doing = state.plan.shards.get(index).unwrap_or(&unplanned);
    let sequence = |id: &str| state.observed.node(id).seen.as_ref().map(|seen| seen.reply.sequence);
    let of_master = shard.master().and_then(|master| sequence(&master.id));
    let nodes = shard.nodes.iter().map(|node| {
        let (seen, health) = (state.observed.node(&node.id), health(&node.id));
        let is_settled = || planner::settled(&state.record, &state.observed, policy, node);
        let lag = match node.role {
            Role::Master => None,
            Role::Slave => of_master.zip(sequence(&node.id)).map(|(m, r)| m.saturating_sub(r)),
        };
        rest::NodeStatus {
            id: node.id.clone(),
            addr: node.local.to_string(),
            announced: node.announced.as_ref().map(ToString::to_string),
            tls_port: node.tls.local.map(NonZeroU16::get),
            announced_tls_port: node.tls.announced.map(NonZeroU16::get),
            role: view::role(node.role).to_owned(),
            health,
            settled: health == Health::Up && is_settled(),
            answer: answer(seen, now),
            lag,
            misses: seen.misses,
            error: seen.error.clone(),
        }
    });
    let in_sync = shard.epoch.in_sync.iter().map(|member| member.node().to_string());
    rest::ShardStatus {
        index,
        id: shard.id.to_string(),
        state: doing.word().to_owned(),
        detail: doing.detail().to_owned(),
        slot_ranges: view::slot_ranges(shard),
        epoch: shard.epoch.number,
        in_sync: in_sync.collect(),
        degraded: match state.record.commit_mode {
            CommitMode::InSync => shard.epoch.in_sync.len() < shard.nodes.len(),
            // Its last epoch was in-sync, and still is in force.
            CommitMode::Async => !shard.epoch.in_sync.is_empty(),
        },
        nodes: nodes.collect(),
    }
}

fn answer(seen: &NodeObserved, now: Time) -> Option<rest::NodeAnswer> {
    let seen = seen.seen.as_ref()?;
    let reply = &seen.reply;
    Some(rest::NodeAnswer {
        age_ms: now.millis_since(seen.received_at),
        role: reply.role.to_string(),
        sequence: reply.sequence,
        version: reply.version,
        lease_mode: reply.lease_mode.to_string(),
        lease_remaining_ms: reply.lease_remaining_ms,
        log_wait_ms: reply.log_wait_ms,
        client_access: reply.client_access.to_string(),
        link_status: reply.link_status.to_string(),
        link_error: reply.link_error.clone(),
        deposed: reply.deposed.map(|end| (end.epoch, end.sequence)),
        resync: reply.resync.to_string(),
        paused: reply.paused,
        loading: reply.loading,
    })
}

fn balancer_status(state: &State, balancer: &planner::Balancer) -> rest::BalancerStatus {
    let seen = state.observed.balancers.get(&balancer.name);
    let in_force = seen.and_then(|seen| seen.in_force.as_ref());
    let error = seen.and_then(|seen| seen.error.clone());
    let error = error.or_else(|| balancer.closing.then(|| "closing, to be removed".to_owned()));
    let wanted = state.observed.desired.as_ref();
    let there = in_force.iter().flat_map(|in_force| &in_force.frontends);
    let there: BTreeMap<_, _> = there.map(|there| (&there.listen, there)).collect();
    let current = error.is_none()
        && in_force.zip(wanted).is_some_and(|(in_force, wanted)| {
            in_force.version == wanted.version
                && wanted.frontends.iter().all(|f| there.get(&f.listen) == Some(&f))
        });
    let frontends = in_force.iter().flat_map(|in_force| &in_force.frontends);
    rest::BalancerStatus {
        name: balancer.name.clone(),
        kind: view::kind(balancer.kind).to_owned(),
        endpoint: balancer.endpoint.clone(),
        in_force: current,
        error,
        frontends: frontends
            .map(|frontend| rest::FrontendStatus {
                listen: frontend.listen.to_string(),
                node: frontend.backend.as_ref().map(|backend| backend.node.clone()),
                error: (frontend.backend.as_ref())
                    .and_then(|backend| seen?.faults.get(&backend.node).cloned()),
            })
            .collect(),
    }
}

pub(super) async fn events(
    registry: App,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, ApiError> {
    log(registry, &query, None).await
}

pub(super) async fn events_of(
    registry: App,
    Path((ns, name)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, ApiError> {
    find(&registry, &ns, &name)?;
    log(registry, &query, Some(format!("{ns}/{name}"))).await
}

async fn log(
    registry: App,
    query: &BTreeMap<String, String>,
    cluster: Option<String>,
) -> Result<Response, ApiError> {
    let limit = match query.get("limit") {
        None => EVENTS,
        Some(text) => {
            let limit = text.parse().ok().filter(|limit| (1..=EVENTS_MAX).contains(limit));
            limit.ok_or_else(|| {
                ApiError::bad(format!("limit is `{text}`; accepted: 1 to {EVENTS_MAX}"))
            })?
        }
    };
    let is_audit = super::yes_or_no(query, "audit")?;
    let is_history = super::yes_or_no(query, "history")?;
    let wanted = move |event: &Event| {
        cluster.as_ref().is_none_or(|name| event.cluster == *name)
            && (!is_audit || event.by.is_some())
            && (!is_history || event.is_history())
    };
    let read = |store: Arc<dyn Store>| async move { store.events(limit, Box::new(wanted)).await };
    let events = registry.store(read).await?;
    let events = events.into_iter().map(|event| rest::Event {
        number: event.number,
        at_ms: event.at_ms,
        term: event.term,
        cluster: event.cluster,
        kind: event.kind,
        text: event.text,
        shard: event.shard.map(|id| id.to_string()),
        by: event.by,
    });
    Ok(ok(rest::Events { events: events.collect() }))
}

pub(super) async fn metrics(registry: App) -> Response {
    let shared = &registry.shared;
    // What one that stands by sees is nothing to be woken for: it has told nobody anything.
    let seen = if shared.leads() { registry.all() } else { Vec::new() };
    // Looked for in all clusters, once.
    let troubles = troubles(&registry);
    let clusters: Vec<rest::Status> =
        seen.iter().map(|cluster| status(cluster, troubles.clone())).collect();
    let (term, age) = (shared.store.term(), shared.store.written_ago());
    let page = crate::metrics::Process {
        term,
        is_ready: registry.unready().is_none(),
        store_age: age,
        etcd: shared.store.measures(),
        unread: registry.unread_count(),
        certificate_ends_s: shared.tls.ends_s(),
    };
    let text = crate::metrics::render(&page, &shared.counters, &clusters);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_is_limited_is_told_of_no_other_namespace() {
        let troubles = || vec!["cluster other/c: no".to_owned(), "the store /x".to_owned()];
        let limited = Within(vec!["a".to_owned()].into());
        assert_eq!(told(troubles(), &Within(Vec::new().into())), troubles());
        let less = told(troubles(), &limited);
        assert!(less.len() == 1 && !less[0].contains("other/c") && !less[0].contains("/x"));
        assert!(told(Vec::new(), &limited).is_empty());
    }
}
