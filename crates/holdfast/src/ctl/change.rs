//! Verbs that make and delete, fail over, and take over what runs: `create`, `delete`, `failover`,
//! `import`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use api::grant::CommitMode;
use api::rest::{
    ClusterSpec, FailoverOptions, FailoverSpec, ImportSpec, NamespaceSpec, NodeFields, ShardSpec,
};
use clap::Subcommand;
use reqwest::Method;
use serde::Serialize;

use super::away;
use super::http::PATIENCE;
use super::ids::{self, ShardWord};
use super::made::made;
use super::redis::{self, FromRedis};
use super::secret::Password;
use super::table::json;
use super::words::{self, Members, balancers, in_path, specs};
use super::{Context, Place};

#[derive(Debug, Subcommand)]
pub(crate) enum Create {
    /// A group of clusters
    Namespace {
        /// Its name
        name: String,
    },
    /// A cluster of nodes that hold no topology yet
    Cluster(ClusterArgs),
    /// A shard without slots and announced endpoints, as kvctl makes it; see `shard add`
    ///
    /// For scripts that were written for kvctl, the command of kvrocks-controller: nothing is
    /// waited for. `ctl shard add` announces the nodes' endpoints too, and says what the shard
    /// still lacks before it can take slots.
    Shard {
        #[command(flatten)]
        place: Place,
        /// Addresses; the first is the master
        #[arg(long, value_delimiter = ',', required = true)]
        nodes: Vec<String>,
    },
    /// A replica
    Node {
        /// host:port[/port of TLS alone]
        address: String,
        #[command(flatten)]
        place: Place,
        /// Index or id of its shard
        #[arg(short, long)]
        shard: ShardWord,
        /// Where clients reach it, host:port[/port of TLS alone]
        #[arg(long, value_name = "ENDPOINT")]
        announce: Option<String>,
        #[command(flatten)]
        password: Password,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct ClusterArgs {
    /// Its name
    name: String,
    /// Namespace; the only one if left out
    #[arg(short, long)]
    namespace: Option<String>,
    #[command(flatten)]
    members: Members,
    /// Nodes per shard, the master included: 2 is a master and one replica
    // kvctl's `-r` and `--replica` count the same; `up --replicas` does not count the master.
    #[arg(short = 'r', long, visible_alias = "replica", alias = "replicas", default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..=1_000))]
    nodes_per_shard: i64,
    /// Slots of a shard, as 0-99,200, or `-` for none: once for each shard, in their order; equal
    /// shares if left out
    #[arg(long, value_name = "SLOTS")]
    slots: Vec<String>,
    #[command(flatten)]
    promise: Promise,
}

/// What an acknowledgement promises.
#[derive(Debug, clap::Args)]
pub(crate) struct Promise {
    /// When a write counts as done: `in-sync`, once every member of the in-sync set has it (default
    /// with replicas), or `async`, once the master has it
    #[arg(long)]
    commit_mode: Option<CommitMode>,
    /// Refuse writes below so many members of the in-sync set, the master included
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    min_in_sync: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Delete {
    /// An empty namespace
    Namespace {
        /// Its name
        name: String,
    },
    /// Forget a cluster; says what that does to it, and does it with --yes
    Cluster {
        /// Its name
        name: String,
        /// Namespace; the only one if left out
        #[arg(short, long)]
        namespace: Option<String>,
        /// Do it; the name once more
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
    },
    /// A shard without slots: `shard remove`, as kvctl calls it
    Shard {
        /// Its index or id
        index: ShardWord,
        #[command(flatten)]
        place: Place,
    },
    /// A replica
    Node {
        /// Its id, the beginning of it, or its address
        node: String,
        #[command(flatten)]
        place: Place,
        /// Index of its shard, to be sure
        #[arg(short, long)]
        shard: Option<usize>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Failover {
    /// Of one shard
    Shard {
        /// Its index or id
        index: ShardWord,
        #[command(flatten)]
        place: Place,
        /// The replica to promote, by its id, the beginning of it, or its address; the most
        /// advanced one if left out
        #[arg(long)]
        preferred: Option<String>,
        /// Promote even if the replica does not catch up in time: writes may be lost
        #[arg(long)]
        force: bool,
        /// How long the replica may take to catch up, ms, at most 60000; 0: 1000
        #[arg(long, default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(u64).range(..=60_000))]
        sync_timeout_ms: u64,
        /// Longest pause of writes, ms, at most 60000; 0: 3000
        #[arg(long, default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(u64).range(..=60_000))]
        pause_timeout_ms: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// By asking one of its nodes
    Cluster {
        /// Its name from now on
        name: String,
        /// Namespace; the only one if left out
        #[arg(short, long)]
        namespace: Option<String>,
        #[command(flatten)]
        members: Members,
        #[command(flatten)]
        promise: Promise,
    },
    /// Copy the keys of a running Redis into a node or a cluster
    ///
    /// SCAN, DUMP and RESTORE: what is written at the Redis meanwhile may be missed. With --follow
    /// it copies as a replica, and nothing is.
    Redis(FromRedis),
}

pub(super) async fn send(
    cx: &Context,
    method: Method,
    path: &str,
    body: Option<&(impl Serialize + Sync)>,
    done: &str,
) -> Result<()> {
    let value = cx.http.call(method, path, body).await?;
    if cx.json { json(&value) } else { cx.say(done) }
}

pub(crate) async fn create(cx: &Context, create: Create) -> Result<()> {
    match create {
        Create::Namespace { name } => {
            let body = NamespaceSpec { namespace: name.clone() };
            let done = format!("namespace {name} created");
            let sent = send(cx, Method::POST, "/namespaces", Some(&body), &done).await;
            sent.with_context(|| format!("create namespace {name}"))
        }
        Create::Cluster(args) => {
            let path = cx.namespace(args.namespace.as_deref()).await?;
            args.members.fill_shards_of(args.nodes_per_shard)?;
            let body = ClusterSpec {
                name: args.name.clone(),
                nodes: specs(&args.members)?,
                replicas: Some(args.nodes_per_shard),
                allow_unfenced: args.members.allow_unfenced,
                balancers: balancers(&args.members)?,
                password: args.members.password.get()?,
                commit_mode: args.promise.commit_mode,
                min_in_sync: Some(args.promise.min_in_sync),
                slots: args.slots,
            };
            let value = cx.http.call(Method::POST, &path, Some(&body)).await;
            made(cx, "created", value.with_context(|| format!("create cluster {}", args.name))?)
        }
        Create::Shard { place, nodes } => {
            let path = format!("{}/shards", cx.cluster(&place).await?);
            let body = ShardSpec { nodes: words::nodes(&nodes, &[])?, password: None };
            send(cx, Method::POST, &path, Some(&body), "shard created").await
        }
        Create::Node { address, place, shard, announce, password } => {
            let path = format!("{}/shards/{shard}/nodes", cx.cluster(&place).await?);
            let fields = words::fields(&address, announce.as_deref().unwrap_or("-"))?;
            let done = format!("node {address} added");
            let body = NodeFields { password: password.get()?, ..fields };
            send(cx, Method::POST, &path, Some(&body), &done).await
        }
    }
}

pub(crate) async fn delete(cx: &Context, delete: Delete) -> Result<()> {
    let (path, done) = match delete {
        Delete::Namespace { name } => {
            let path = in_path("namespace", &name, "list namespaces")?;
            (format!("/namespaces/{path}"), format!("namespace {name} deleted"))
        }
        Delete::Cluster { name, namespace, yes } => {
            let path = cx.named(namespace.as_deref(), &name).await?;
            away::may_forget(cx, &path, &name, yes.as_deref()).await?;
            (path, format!("cluster {name} forgotten"))
        }
        Delete::Shard { index, place } => {
            let base = cx.cluster(&place).await?;
            (format!("{base}/shards/{index}"), format!("shard {index} deleted"))
        }
        Delete::Node { node, place, shard } => {
            let base = cx.cluster(&place).await?;
            let node = ids::find(cx, &place, &node).await?;
            if shard.is_some_and(|shard| shard != node.shard) {
                bail!(
                    "node {} is of shard {}, not {}",
                    node.name(),
                    node.shard,
                    shard.unwrap_or(0)
                );
            }
            let path = format!("{base}/shards/{}/nodes/{}", node.shard, node.id);
            (path, format!("node {} deleted", node.name()))
        }
    };
    send(cx, Method::DELETE, &path, None::<&()>, &done).await
}

pub(crate) async fn failover(cx: &Context, failover: Failover) -> Result<()> {
    let Failover::Shard { index, place, preferred, force, sync_timeout_ms, pause_timeout_ms } =
        failover;
    let path = format!("{}/shards/{index}/failover", cx.cluster(&place).await?);
    let mut preferred_node_id = None;
    if let Some(meant) = preferred {
        let node = ids::find(cx, &place, &meant).await?;
        index.is_of(&node)?;
        preferred_node_id = Some(node.id);
    }
    let body = FailoverSpec {
        preferred_node_id,
        options: FailoverOptions { force_on_timeout: force, sync_timeout_ms, pause_timeout_ms },
        force,
    };
    // As the controller does: both bounds, and what it adds for the store and a slow fence.
    let or = |ms: u64, default: u64| if ms == 0 { default } else { ms.min(60_000) };
    let bounds = or(sync_timeout_ms, 1_000) + or(pause_timeout_ms, 3_000);
    let patience = Duration::from_millis(bounds) + PATIENCE;
    let value = cx.http.call_long(Method::POST, &path, Some(&body), patience).await?;
    if cx.json {
        return json(&value);
    }
    let id = value["new_master_id"].as_str().unwrap_or("?");
    // It is done: that the node's address cannot be asked for is no failure.
    let node = ids::find(cx, &place, id).await.map_or_else(|_| id.to_owned(), |node| node.name());
    cx.say(&failover_text(&index, &node, &value))
}

fn failover_text(index: &impl std::fmt::Display, node: &str, value: &serde_json::Value) -> String {
    let mut told = format!("node {node} is master of shard {index}");
    if let Some(ms) = value["stall_ms"].as_u64() {
        told.push_str(&format!(": writes waited {ms} ms"));
    }
    if let (Some(moved), Some(cut)) = (value["moved"].as_u64(), value["cut"].as_u64()) {
        told.push_str(&format!("; {moved} sessions moved, {cut} cut"));
    }
    told
}

pub(crate) async fn import(cx: &Context, import: Import) -> Result<()> {
    let (name, namespace, members, promise) = match import {
        Import::Redis(args) => return redis::run(args).await,
        Import::Cluster { name, namespace, members, promise } => {
            (name, namespace, members, promise)
        }
    };
    let path = format!("{}/import", cx.named(namespace.as_deref(), &name).await?);
    let body = ImportSpec {
        nodes: specs(&members)?,
        allow_unfenced: members.allow_unfenced,
        balancers: balancers(&members)?,
        password: members.password.get()?,
        commit_mode: promise.commit_mode,
        min_in_sync: Some(promise.min_in_sync),
    };
    let value = cx.http.call(Method::POST, &path, Some(&body)).await?;
    made(cx, "imported", value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failover_is_told_in_lines_that_fit() {
        let value = serde_json::json!({ "stall_ms": 21, "moved": 1_200, "cut": 0 });
        let told = failover_text(&0, &"a".repeat(40), &value);
        assert!(told.ends_with(": writes waited 21 ms; 1200 sessions moved, 0 cut"), "{told}");
        let said = crate::ctl::table::prose(crate::ctl::table::WIDTH, &told);
        assert!(told.len() > 100 && said.lines().all(|line| line.len() <= 100), "{said}");
    }

    #[test]
    fn nodes_per_shard_has_the_names_people_know() {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            cluster: ClusterArgs,
        }
        for name in ["--nodes-per-shard", "--replica", "--replicas", "-r"] {
            let line = ["create", "c", "--nodes", "a:1,b:1", name, "2"];
            let line = <Line as clap::Parser>::try_parse_from(line).expect(name);
            assert_eq!(line.cluster.nodes_per_shard, 2);
        }
    }
}
