//! `/release`: a cluster goes on without a controller, and so without leases: the way back from
//! giving one to it.
//!
//! The order keeps it safe at each step. First nothing fails over any more, so nobody takes a lease
//! for a fence that a node is about to ignore. Then no reply waits for a set that nobody would
//! change. Only then is each node told that it needs no lease. The record goes last: until then the
//! controller leads, and a step that fails is taken back.

use std::sync::Arc;
use std::time::Duration;

use api::grant::CommitMode;
use api::health::Health;
use api::rest::{Actor, ReleaseAnswer, ReleaseSpec, ReleasedNode, Status};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::Path;
use axum::response::Response;
use planner::{Node, Paused, Record};

use super::error::{ApiError, ok};
use super::{App, body, find, status};
use crate::client::{ClientError, Connection};
use crate::cluster::{Cluster, UpdateError, named_by};
use crate::registry::Registry;

/// How long the shards may take to an epoch without a set.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest time for one node.
const LIMIT: Duration = Duration::from_secs(5);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);

const MODE: &str = "master-lease-mode";

pub(super) async fn release(
    registry: App,
    Extension(by): Extension<Actor>,
    Path((ns, name)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let cluster = find(&registry, &ns, &name)?;
    let ReleaseSpec { confirm } = body(&bytes)?;
    may_be_released(&status::status(&cluster, Vec::new())).map_err(ApiError::conflict)?;
    let nodes = nodes_of(&cluster);
    if !confirm {
        return Ok(ok(ReleaseAnswer { nodes, done: false }));
    }
    // To its end, also if nobody waits for it any more: what is half done must be finished or taken
    // back.
    let registry = Arc::clone(&registry.0);
    let work = async move {
        let nodes = carry_out(&registry, &cluster, &by, nodes).await?;
        Ok(ok(ReleaseAnswer { nodes, done: true }))
    };
    tokio::spawn(work).await.map_err(|_| ApiError::from(UpdateError::Gone))?
}

/// Only a cluster in which everything is as it should be can be left alone.
fn may_be_released(status: &Status) -> Result<(), String> {
    let shard = status.shards.iter().find(|shard| shard.state != "steady");
    if let Some(shard) = shard {
        return Err(format!(
            "shard {} is not steady: {} {}",
            shard.index, shard.state, shard.detail
        ));
    }
    let nodes = || status.shards.iter().flat_map(|shard| &shard.nodes);
    if let Some(node) = nodes().find(|node| !node.settled || node.health != Health::Up) {
        return Err(format!("node {} is not settled (health {})", node.addr, node.health));
    }
    match status.balancers.iter().find(|balancer| !balancer.in_force) {
        Some(balancer) => Err(format!("balancer {} does not do what it was told", balancer.name)),
        None => Ok(()),
    }
}

fn nodes_of(cluster: &Cluster) -> Vec<ReleasedNode> {
    let state = cluster.state.lock();
    let nodes = state.record.nodes().map(|(_, node)| {
        let seen = state.observed.node(&node.id).seen.as_ref();
        let mode = seen.map(|seen| seen.reply.lease_mode.to_string());
        ReleasedNode {
            addr: node.local.to_string(),
            lease_mode: mode.unwrap_or_default(),
            forgets: None,
        }
    });
    nodes.collect()
}

async fn carry_out(
    registry: &Arc<Registry>,
    cluster: &Arc<Cluster>,
    by: &Actor,
    mut nodes: Vec<ReleasedNode>,
) -> Result<Vec<ReleasedNode>, ApiError> {
    let before = cluster.record();
    let since_ms = crate::events::now_ms();
    cluster
        .update(
            by,
            "an operator releases the cluster: no failover, no in-sync set from now on",
            |record| {
                if record.shards.iter().any(|shard| shard.intent.is_some() || shard.fence.is_some())
                {
                    return Err("a switchover is under way".to_owned());
                }
                if let Some(one) = record.moves.list.first() {
                    return Err(format!(
                        "move {} of slots {} is not over: `ctl moves` shows it, `ctl moves cancel {}` ends it",
                        one.id, one.slots, one.id
                    ));
                }
                record.paused = Some(Paused { since_ms, reason: "being released".to_owned() });
                (record.commit_mode, record.min_in_sync) = (CommitMode::Async, 1);
                Ok(())
            },
        )
        .await?;
    // Those that were told, or may have been.
    let mut told = 0;
    let result = async {
        until_free(cluster).await?;
        let record = cluster.record();
        for (node, (_, known)) in nodes.iter_mut().zip(record.nodes()) {
            until_certain(cluster).await?;
            told += 1;
            let freed = free(cluster, (known, before.password.as_deref()), &node.lease_mode).await;
            node.forgets = freed.map_err(|error| format!("node {}: {error}", known.local))?;
        }
        Ok(())
    };
    let done: Result<(), String> = result.await;
    if let Err(why) = done {
        let left = take_back(cluster, by, &before, &nodes[..told]).await;
        return Err(ApiError::failed(format!("{why}; the cluster was not released{left}")));
    }
    match registry.delete(&before.namespace, &before.name, by).await {
        Ok(()) => Ok(nodes),
        Err(error @ UpdateError::Unknown(_)) => Err(ApiError::failed(format!(
            "{error}; all nodes are released, and whether the record is gone is not known: release it once more"
        ))),
        Err(error) => {
            let left = take_back(cluster, by, &before, &nodes).await;
            if left.is_empty() {
                return Err(ApiError::from(error).midway());
            }
            Err(ApiError::failed(format!("{error}; the cluster was not released{left}")))
        }
    }
}

/// Waits until this controller leads for certain. Freed by one that was replaced meanwhile, a node
/// would serve without a lease that its controller counts on. It refuses that by the term (rule
/// O5); one of an earlier version cannot.
async fn until_certain(cluster: &Cluster) -> Result<(), String> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if cluster.is_over() {
            return Err("another controller leads by now, or the cluster was deleted".to_owned());
        }
        if cluster.shared.authority().acts() {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err("it is not certain that this controller leads".to_owned());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until no master waits for a set, and everything is in order.
async fn until_free(cluster: &Arc<Cluster>) -> Result<(), String> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if cluster.is_over() {
            // What is known of it here does not change any more.
            return until_certain(cluster).await;
        }
        let why = match may_be_released(&status::status(cluster, Vec::new())) {
            Ok(()) if is_free(cluster) => return Ok(()),
            Ok(()) => "a master has no epoch without an in-sync set yet".to_owned(),
            Err(why) => why,
        };
        if tokio::time::Instant::now() >= deadline {
            return Err(why);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Every master holds the epoch that the record has for it, and none of them has a set.
fn is_free(cluster: &Cluster) -> bool {
    let state = cluster.state.lock();
    state.record.shards.iter().all(|shard| {
        let reply = shard.master().and_then(|node| state.observed.node(&node.id).seen.as_ref());
        let granted = reply.map_or(0, |seen| seen.reply.standing.granted_epoch);
        shard.epoch.in_sync.is_empty() && (shard.epoch.is_none() || granted == shard.epoch.number)
    })
}

/// Tells a node that it needs no lease; why it will after a restart, if it will.
async fn free(
    cluster: &Cluster,
    (node, password): (&Node, Option<&str>),
    mode: &str,
) -> Result<Option<String>, ClientError> {
    if mode == "disabled" {
        return Ok(None);
    }
    let under = named_by(cluster, &node.id);
    let work = async {
        let mut connection = Connection::open(&node.local, password, &cluster.shared.tls).await?;
        set_free(&mut connection, &under).await?;
        match connection.expect_ok("CONFIG REWRITE", &["CONFIG", "REWRITE"]).await {
            Ok(()) => Ok(None),
            // It serves without a lease all the same, until it ends.
            Err(ClientError::Node(why)) => Ok(Some(why)),
            Err(error) => Err(error),
        }
    };
    tokio::time::timeout(LIMIT, work).await.map_err(|_| ClientError::Timeout(LIMIT))?
}

/// `under`: by which term and store that is said, if by any.
async fn set_free(connection: &mut Connection, under: &[String]) -> Result<(), ClientError> {
    let bare = ["CONFIG", "SET", MODE, "disabled"];
    if under.is_empty() {
        return connection.expect_ok("CONFIG SET", &bare).await;
    }
    let words = under.iter().map(String::as_str).chain(["LEASE-MODE", "disabled"]);
    let words: Vec<&str> = words.collect();
    match connection.expect_ok("CLUSTERX AS LEASE-MODE", &words).await {
        // A node of an earlier version does not know the word.
        Err(ClientError::Node(why)) if why.starts_with("ERR CLUSTERX command") => {
            connection.expect_ok("CONFIG SET", &bare).await
        }
        told => told,
    }
}

/// As it was, at these nodes: which of them could not be reached is told by the alarms of the next
/// status. Returns what is left of the record's change, for whoever asked.
async fn take_back(
    cluster: &Arc<Cluster>,
    by: &Actor,
    before: &Record,
    nodes: &[ReleasedNode],
) -> String {
    for (node, (_, known)) in
        nodes.iter().zip(before.nodes()).filter(|(n, _)| !n.lease_mode.is_empty())
    {
        let password = before.password.as_deref();
        let set = ("CONFIG SET", vec!["CONFIG", "SET", MODE, node.lease_mode.as_str()]);
        let to = (&known.local, &cluster.shared.tls);
        let told = crate::client::once(to, password, &[set], LIMIT).await;
        if let Err(error) = told {
            tracing::warn!(node = %known.local, %error, "set the lease mode back");
            continue;
        }
        // Its file may say already that it needs none.
        let keep = ("CONFIG REWRITE", vec!["CONFIG", "REWRITE"]);
        if let Err(error) = crate::client::once(to, password, &[keep], LIMIT).await {
            tracing::info!(node = %known.local, %error, "keep the lease mode that was set back");
        }
    }
    let (paused, mode, least) = (before.paused.clone(), before.commit_mode, before.min_in_sync);
    let undone = cluster.update(by, "the cluster is not released", move |record| {
        (record.commit_mode, record.min_in_sync) = (mode, least);
        record.paused.clone_from(&paused);
        Ok(())
    });
    let Err(error) = undone.await else { return String::new() };
    tracing::error!(%error, "take the release of a cluster back");
    format!(
        "; its record was not set back ({error}): it is paused, and its commit mode is async, until \
         somebody sets both as they were"
    )
}

#[cfg(test)]
mod tests {
    use planner::Policy;

    use super::*;
    use crate::cluster::{Shared, test_actor, test_pair};
    use crate::store::Embedded;

    /// One that is stopped for long and goes on must not take leases from nodes that another leads.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_controller_that_leads_no_more_frees_no_node_and_says_what_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Embedded::open(&folder.path().join("store"), 0).expect("a store");
        let shared = Shared::new(Arc::new(store), Policy::default()).expect("threads");
        let cluster = Cluster::start(Arc::new(shared), test_pair(), None).expect("a cluster");
        assert_eq!(until_certain(&cluster).await, Ok(()));
        cluster.stop();
        let why = until_certain(&cluster).await.expect_err("it leads no more");
        assert!(why.contains("another controller leads"), "{why}");
        assert_eq!(until_free(&cluster).await, Err(why), "at once");
        let left = take_back(&cluster, &test_actor(), &test_pair(), &[]).await;
        assert!(left.contains("its commit mode is async"), "{left}");
    }
}
