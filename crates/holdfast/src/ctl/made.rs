//! What a new or imported cluster is, in words.

use anyhow::{Context as _, Result};
use api::grant::CommitMode;
use api::rest::{Cluster, ClusterAnswer};
use serde_json::Value;

use super::Context;
use super::table::json;
use super::words::counted;

/// Tells what there is now: that a cluster has no replicas, or loses writes with its master, should
/// surprise nobody.
pub(super) fn made(cx: &Context, verb: &str, value: Value) -> Result<()> {
    if cx.json {
        return json(&value);
    }
    let answer: ClusterAnswer = serde_json::from_value(value).context("read the cluster")?;
    cx.say(&made_text(verb, &answer.cluster))
}

fn made_text(verb: &str, cluster: &Cluster) -> String {
    let sizes = cluster.shards.iter().map(|shard| shard.nodes.len());
    let (smallest, largest) = (sizes.clone().min().unwrap_or(0), sizes.max().unwrap_or(0));
    let of = match smallest == largest {
        true => counted(largest, "node"),
        false => format!("{smallest} to {}", counted(largest, "node")),
    };
    let mut told = format!(
        "cluster {} {verb}: {} of {of}, commit mode {}",
        cluster.name,
        counted(cluster.shards.len(), "shard"),
        cluster.commit_mode
    );
    if cluster.commit_mode == CommitMode::InSync {
        told.push_str(&format!(", min-in-sync {}", cluster.min_in_sync));
    }
    told.push('\n');
    if smallest < 2 {
        told.push_str("a shard of 1 node has no replica: nothing takes over when it dies\n");
    }
    told
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{CommitMode, made_text};

    #[test]
    fn what_was_made_is_told_and_a_shard_without_a_replica_stands_out() {
        let node = json!({"id": "", "addr": "a:1", "role": "master", "created_at": 0});
        let shard = |nodes: usize| {
            let nodes = vec![node.clone(); nodes];
            json!({"nodes": nodes, "slot_ranges": [], "target_shard_index": -1, "migrating_slot": null})
        };
        let told = |mode: CommitMode, sizes: &[usize]| {
            let shards: Vec<_> = sizes.iter().map(|nodes| shard(*nodes)).collect();
            let cluster = json!({
                "name": "c", "version": 1, "shards": shards, "commit_mode": mode, "min_in_sync": 1,
            });
            made_text("created", &serde_json::from_value(cluster).expect("a cluster"))
        };
        let alone = told(CommitMode::Async, &[1, 1]);
        let (first, second) = alone.split_once('\n').expect("two lines");
        assert_eq!(first, "cluster c created: 2 shards of 1 node, commit mode async");
        assert!(second.contains("no replica"), "{second}");
        assert_eq!(
            told(CommitMode::InSync, &[2, 3]),
            "cluster c created: 2 shards of 2 to 3 nodes, commit mode in-sync, min-in-sync 1\n"
        );
    }
}
