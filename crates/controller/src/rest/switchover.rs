//! The planned switchover of a shard, and what it did.

use std::sync::Arc;
use std::time::Duration;

use api::rest::{Actor, Failover, FailoverSpec};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::Path;
use axum::response::Response;
use planner::{BalancerKind, Intent, Role, Shard, Time};

use super::error::{ApiError, ok};
use super::intent::{self, Asked};
use super::{App, body, find, shard_index};
use crate::cluster::Cluster;

/// Bounds of a switchover when the request has none, ms.
const SYNC_TIMEOUT_MS: u64 = 1_000;
const PAUSE_MS: u64 = 3_000;
/// Longest pause that may be asked for, ms.
const PAUSE_MAX_MS: u64 = 60_000;
/// How much longer than the switchover the request waits, for the store and a slow fence.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take until clients reach the new master, for what is told of it.
const ATTACHED: Duration = Duration::from_secs(2);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(2);

pub(super) async fn failover(
    registry: App,
    Extension(by): Extension<Actor>,
    Path((ns, name, index)): Path<(String, String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let spec: FailoverSpec = body(&bytes)?;
    let record = cluster.record();
    let index = shard_index(&index, &record)?;
    let or = |name: &str, value: u64, default: u64| match value {
        0 => Ok(default),
        1..=PAUSE_MAX_MS => Ok(value),
        _ => Err(ApiError::bad(format!("{name} is {value}; accepted: 0 to {PAUSE_MAX_MS}"))),
    };
    let intent = Intent {
        id: intent::new_id(),
        preferred: spec.preferred_node_id.filter(|id| !id.is_empty()),
        force: spec.force || spec.options.force_on_timeout,
        sync_timeout_ms: or("sync_timeout_ms", spec.options.sync_timeout_ms, SYNC_TIMEOUT_MS)?,
        pause_ms: or("pause_timeout_ms", spec.options.pause_timeout_ms, PAUSE_MS)?,
        accept_loss: false,
    };
    let before = Before::now(&cluster, index);
    let limit = Duration::from_millis(intent.sync_timeout_ms + intent.pause_ms) + PATIENCE;
    let reason = format!("shard {index}: switchover asked for");
    let asked = Asked { index, intent, reason, by };
    let new_master_id = intent::carry_out(&cluster, asked, limit, check).await?;
    Ok(ok(done_by(&cluster, &before, new_master_id).await))
}

fn check(shard: &Shard, intent: &Intent) -> Result<(), String> {
    if shard.nodes.len() < 2 {
        return Err("no replica in shard".to_owned());
    }
    match &intent.preferred {
        Some(id) if !shard.replicas().any(|node| node.id == *id) => Err(match shard.node(id) {
            Some(master) => format!("{} is the master of this shard already", master.local),
            None => format!("node {id} is not a replica of this shard"),
        }),
        _ => Ok(()),
    }
}

/// What is compared with afterwards.
struct Before {
    master: Option<String>,
    moved: u64,
    cut: u64,
}

impl Before {
    fn now(cluster: &Cluster, index: usize) -> Self {
        let (moved, cut) = totals(cluster);
        let record = cluster.record();
        let shard = record.shards.get(index);
        let master = shard.and_then(Shard::master).map(|node| node.id.clone());
        Self { master, moved, cut }
    }
}

/// Sessions that the balancers have moved and cut since their start.
fn totals(cluster: &Cluster) -> (u64, u64) {
    let state = cluster.state.lock();
    let answers = state.observed.balancers.values().filter_map(|seen| seen.in_force.as_ref());
    answers.fold((0, 0), |sum, answer| (sum.0 + answer.moved, sum.1 + answer.cut))
}

/// Waits, not for long, until clients reach the new master, and tells what they saw of it.
async fn done_by(cluster: &Arc<Cluster>, before: &Before, new_master_id: String) -> Failover {
    let limit = tokio::time::Instant::now() + ATTACHED;
    let attached = loop {
        let attached = attached_at(cluster, &new_master_id);
        let is_awaited = !cluster.record().balancers.is_empty();
        if attached.is_some() || !is_awaited || tokio::time::Instant::now() >= limit {
            break attached;
        }
        tokio::time::sleep(LOOK).await;
    };
    let paused = before.master.as_ref().and_then(|old| paused_at(cluster, old));
    let stall = attached.zip(paused).map(|(at, from)| at.nanos().saturating_sub(from.nanos()));
    let (moved, cut) = totals(cluster);
    let record = cluster.record();
    let counts = !record.balancers.is_empty()
        && record.balancers.iter().all(|balancer| balancer.kind == BalancerKind::Builtin);
    // A balancer that was restarted meanwhile counts from 0.
    let since = |now: u64, then: u64| counts.then(|| now.saturating_sub(then));
    let done = Failover {
        new_master_id,
        stall_ms: stall.map(|ns| ns / 1_000_000),
        moved: since(moved, before.moved),
        cut: since(cut, before.cut),
    };
    let shard = record.nodes().find(|(_, node)| node.id == done.new_master_id);
    let shard = shard.map(|(index, _)| format!("shard {index}: ")).unwrap_or_default();
    let mut text = format!("{shard}switchover to {}", record.called(&done.new_master_id));
    if let Some(ms) = done.stall_ms {
        text.push_str(&format!(": writes waited {ms} ms"));
    }
    if let (Some(moved), Some(cut)) = (done.moved, done.cut) {
        text.push_str(&format!("; {moved} sessions moved, {cut} cut"));
    }
    tracing::info!(cluster = %cluster.label(), "{text}");
    cluster.note("switchover", text);
    done
}

/// When the last balancer was seen to lead to `id`; `None` while one does not, or without any.
fn attached_at(cluster: &Cluster, id: &str) -> Option<Time> {
    let state = cluster.state.lock();
    let (_, node) = state.record.nodes().find(|(_, node)| node.id == id)?;
    let listens: Vec<_> = node.announced_addresses().collect();
    if node.role != Role::Master || listens.is_empty() {
        return None;
    }
    let mut last = None;
    for balancer in &state.record.balancers {
        let answer = state.observed.balancers.get(&balancer.name)?.in_force.as_ref()?;
        let leads = |listen: &topology::Endpoint| {
            answer.frontends.iter().any(|frontend| {
                frontend.listen == *listen
                    && frontend.backend.as_ref().is_some_and(|backend| backend.node == id)
            })
        };
        let is_there = listens.iter().all(|listen| leads(listen));
        last = is_there.then(|| last.map_or(answer.at, |at: Time| at.max(answer.at)));
        last?;
    }
    last
}

fn paused_at(cluster: &Cluster, id: &str) -> Option<Time> {
    let state = cluster.state.lock();
    Some(state.observed.nodes.get(id)?.pause.as_ref()?.sent_at)
}
