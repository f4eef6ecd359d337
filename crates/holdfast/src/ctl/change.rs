//! Verbs that change something.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use api::grant::CommitMode;
use api::rest::{
    Announced, BalancerSpec, Balancers, ClusterSpec, FailoverOptions, FailoverSpec, ImportSpec,
    NamespaceSpec, NodeFields, NodeSpec, ShardSpec,
};
use clap::Subcommand;
use reqwest::Method;
use serde::Serialize;

use super::http::PATIENCE;
use super::made::made;
use super::table::{json, render, text};
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
    /// A shard without slots
    Shard {
        #[command(flatten)]
        place: Place,
        /// Addresses; the first is the master
        #[arg(long, value_delimiter = ',', required = true)]
        nodes: Vec<String>,
    },
    /// A replica
    Node {
        /// host:port
        address: String,
        #[command(flatten)]
        place: Place,
        /// Index of its shard
        #[arg(short, long)]
        shard: usize,
        /// Where clients reach it, host:port
        #[arg(long, value_name = "ENDPOINT")]
        announce: Option<String>,
        /// peer-auth of the cluster
        #[arg(long)]
        password: Option<String>,
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
    #[arg(short = 'r', long, visible_alias = "replica", alias = "replicas", default_value_t = 1)]
    nodes_per_shard: i64,
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
    #[arg(long, default_value_t = 1)]
    min_in_sync: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Members {
    /// Addresses, host:port,…
    #[arg(long, value_delimiter = ',', required = true)]
    nodes: Vec<String>,
    /// Announced endpoints in the order of --nodes, `-` for none
    #[arg(long, value_delimiter = ',', value_name = "ENDPOINTS")]
    announce: Vec<String>,
    /// peer-auth of the nodes
    #[arg(long)]
    password: Option<String>,
    /// A load balancer: name=…,endpoint=…[,kind=builtin|haproxy][,master=…][,source=…][,token=…]
    #[arg(long = "balancer", value_name = "FIELDS")]
    balancers: Vec<String>,
    /// Go on although nothing could fence a master: a failover then risks two of them
    #[arg(long)]
    allow_unfenced: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Delete {
    /// An empty namespace
    Namespace {
        /// Its name
        name: String,
    },
    /// Forget a cluster; its nodes go on as they are
    Cluster {
        /// Its name
        name: String,
        /// Namespace; the only one if left out
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// A shard without slots
    Shard {
        /// Its index
        index: usize,
        #[command(flatten)]
        place: Place,
    },
    /// A replica
    Node {
        /// 40 characters
        id: String,
        #[command(flatten)]
        place: Place,
        /// Index of its shard
        #[arg(short, long)]
        shard: usize,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Failover {
    /// Of one shard
    Shard {
        /// Its index
        index: usize,
        #[command(flatten)]
        place: Place,
        /// Id of the replica to promote; the most advanced one if left out
        #[arg(long)]
        preferred: Option<String>,
        /// Promote even if the replica does not catch up in time: writes may be lost
        #[arg(long)]
        force: bool,
        /// How long the replica may take to catch up, ms, at most 60000; 0: 1000
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        sync_timeout_ms: u64,
        /// Longest pause of writes, ms, at most 60000; 0: 3000
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        pause_timeout_ms: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeVerb {
    /// Set where clients reach a node's role, or `none`
    Announce {
        /// 40 characters
        id: String,
        /// host:port, or `none`
        endpoint: String,
        #[command(flatten)]
        place: Place,
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
}

#[derive(Debug, Subcommand)]
pub(crate) enum BalancerVerb {
    /// Add an instance
    Add {
        /// Unique within the cluster
        name: String,
        #[command(flatten)]
        place: Place,
        /// builtin or haproxy
        #[arg(long, default_value = "builtin")]
        kind: String,
        /// URL of the built-in balancer; address or path of HAProxy's Runtime API
        #[arg(long)]
        endpoint: String,
        /// HAProxy's master socket (`-W -S`); without it old workers cannot be seen, the balancers are no fence, and
        /// a failover waits for the lease
        #[arg(long)]
        master: Option<String>,
        /// Bearer token of the built-in balancer
        #[arg(long = "balancer-token")]
        balancer_token: Option<String>,
        /// Address or network it dials nodes from
        #[arg(long)]
        source: Option<String>,
    },
    /// List instances
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Close an instance and remove it; refused while it cannot be closed, or is the last way to nodes that take
    /// clients from balancers only
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        place: Place,
        /// Remove it all the same: its process has ended, or what it carries is given up
        #[arg(long)]
        force: bool,
    },
}

async fn send(
    cx: &Context,
    method: Method,
    path: &str,
    body: Option<&(impl Serialize + Sync)>,
    done: &str,
) -> Result<()> {
    let value = cx.http.call(method, path, body).await?;
    if cx.json { json(&value) } else { text(&format!("{done}\n")) }
}

pub(crate) async fn create(cx: &Context, create: Create) -> Result<()> {
    match create {
        Create::Namespace { name } => {
            let body = NamespaceSpec { namespace: name.clone() };
            let done = format!("namespace {name} created");
            send(cx, Method::POST, "/namespaces", Some(&body), &done).await
        }
        Create::Cluster(args) => {
            let path = cx.namespace(args.namespace.as_deref()).await?;
            let body = ClusterSpec {
                name: args.name.clone(),
                nodes: specs(&args.members)?,
                replicas: args.nodes_per_shard,
                allow_unfenced: args.members.allow_unfenced,
                balancers: balancers(&args.members)?,
                password: args.members.password,
                commit_mode: args.promise.commit_mode,
                min_in_sync: args.promise.min_in_sync,
            };
            let value = cx.http.call(Method::POST, &path, Some(&body)).await?;
            made(cx, "created", value)
        }
        Create::Shard { place, nodes } => {
            let path = format!("{}/shards", cx.cluster(&place).await?);
            let nodes = nodes.into_iter().map(NodeSpec::Address).collect();
            let body = ShardSpec { nodes, password: None };
            send(cx, Method::POST, &path, Some(&body), "shard created").await
        }
        Create::Node { address, place, shard, announce, password } => {
            let path = format!("{}/shards/{shard}/nodes", cx.cluster(&place).await?);
            let announced = announced(announce.as_deref().unwrap_or("-"))?;
            let done = format!("node {address} added");
            let body = NodeFields { addr: address, role: None, password, announced };
            send(cx, Method::POST, &path, Some(&body), &done).await
        }
    }
}

pub(crate) async fn delete(cx: &Context, delete: Delete) -> Result<()> {
    let (path, done) = match delete {
        Delete::Namespace { name } => {
            (format!("/namespaces/{name}"), format!("namespace {name} deleted"))
        }
        Delete::Cluster { name, namespace } => {
            let base = cx.namespace(namespace.as_deref()).await?;
            (format!("{base}/{name}"), format!("cluster {name} forgotten"))
        }
        Delete::Shard { index, place } => {
            let base = cx.cluster(&place).await?;
            (format!("{base}/shards/{index}"), format!("shard {index} deleted"))
        }
        Delete::Node { id, place, shard } => {
            let base = cx.cluster(&place).await?;
            (format!("{base}/shards/{shard}/nodes/{id}"), format!("node {id} deleted"))
        }
    };
    send(cx, Method::DELETE, &path, None::<&()>, &done).await
}

pub(crate) async fn failover(cx: &Context, failover: Failover) -> Result<()> {
    let Failover::Shard { index, place, preferred, force, sync_timeout_ms, pause_timeout_ms } =
        failover;
    let path = format!("{}/shards/{index}/failover", cx.cluster(&place).await?);
    let body = FailoverSpec {
        preferred_node_id: preferred,
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
    let mut told = format!("node {id} is master of shard {index}");
    if let Some(ms) = value["stall_ms"].as_u64() {
        told.push_str(&format!(": writes waited {ms} ms"));
    }
    if let (Some(moved), Some(cut)) = (value["moved"].as_u64(), value["cut"].as_u64()) {
        told.push_str(&format!("; {moved} sessions moved, {cut} cut"));
    }
    text(&format!("{told}\n"))
}

pub(crate) async fn node(cx: &Context, verb: NodeVerb) -> Result<()> {
    let NodeVerb::Announce { id, endpoint, place } = verb;
    let path = format!("{}/nodes/{id}", cx.cluster(&place).await?);
    let body = announced(&endpoint)?;
    let done = match body.announced_host {
        Some(_) => format!("node {id} is announced as {endpoint}"),
        None => format!("node {id} is announced by its own address"),
    };
    send(cx, Method::PATCH, &path, Some(&body), &done).await
}

pub(crate) async fn import(cx: &Context, import: Import) -> Result<()> {
    let Import::Cluster { name, namespace, members, promise } = import;
    let path = format!("{}/{name}/import", cx.namespace(namespace.as_deref()).await?);
    let body = ImportSpec {
        nodes: specs(&members)?,
        allow_unfenced: members.allow_unfenced,
        balancers: balancers(&members)?,
        password: members.password,
        commit_mode: promise.commit_mode,
        min_in_sync: promise.min_in_sync,
    };
    let value = cx.http.call(Method::POST, &path, Some(&body)).await?;
    made(cx, "imported", value)
}

pub(crate) async fn balancer(cx: &Context, verb: BalancerVerb) -> Result<()> {
    match verb {
        BalancerVerb::Add { name, place, kind, endpoint, master, balancer_token, source } => {
            let endpoint = with_master(endpoint, master);
            let path = format!("{}/balancers", cx.cluster(&place).await?);
            let done = format!("balancer {name} added");
            let body = BalancerSpec { name, kind, endpoint, token: balancer_token, source };
            send(cx, Method::POST, &path, Some(&body), &done).await
        }
        BalancerVerb::Remove { name, place, force } => {
            let query = if force { "?force=yes" } else { "" };
            let path = format!("{}/balancers/{name}{query}", cx.cluster(&place).await?);
            let value = cx.http.call(Method::DELETE, &path, None::<&()>).await?;
            if cx.json {
                return json(&value);
            }
            match value["why"].as_str() {
                None => text(&format!("balancer {name} closed and removed\n")),
                Some(why) => text(&format!(
                    "balancer {name} removed WITHOUT being closed: {why}\n\
                     If its process lives, end it: its clients are led where it led them last.\n"
                )),
            }
        }
        BalancerVerb::List { place } => {
            let path = format!("{}/balancers", cx.cluster(&place).await?);
            let value = cx.http.call(Method::GET, &path, None::<&()>).await?;
            if cx.json {
                return json(&value);
            }
            let list: Balancers = serde_json::from_value(value).context("read the balancers")?;
            let rows: Vec<_> = (list.balancers.into_iter())
                .map(|b| vec![b.name, b.kind, b.endpoint, b.source])
                .collect();
            text(&render(&["NAME", "KIND", "ENDPOINT", "SOURCE"], &rows))
        }
    }
}

fn specs(members: &Members) -> Result<Vec<NodeSpec>> {
    if !members.announce.is_empty() && members.announce.len() != members.nodes.len() {
        bail!(
            "--announce has {} endpoints for {} nodes; give one for each, `-` for none",
            members.announce.len(),
            members.nodes.len()
        );
    }
    let endpoints = members.announce.iter().map(String::as_str).chain(std::iter::repeat("-"));
    let spec = |(addr, endpoint): (&String, &str)| {
        let announced = announced(endpoint)?;
        let fields = NodeFields { addr: addr.clone(), announced, ..NodeFields::default() };
        Ok(NodeSpec::Full(fields))
    };
    members.nodes.iter().zip(endpoints).map(spec).collect()
}

/// `host:port`, IPv6 in brackets; `-` or `none` for none.
fn announced(text: &str) -> Result<Announced> {
    if text == "-" || text == "none" {
        return Ok(Announced::default());
    }
    let parts = text.rsplit_once(':').and_then(|(host, port)| {
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        Some((host.to_owned(), port.parse().ok()?))
    });
    let (host, port) =
        parts.with_context(|| format!("endpoint `{text}` must be host:port, or `none`"))?;
    Ok(Announced { announced_host: Some(host), announced_port: Some(port) })
}

fn balancers(members: &Members) -> Result<Vec<BalancerSpec>> {
    members.balancers.iter().map(|text| balancer_spec(text)).collect()
}

fn balancer_spec(text: &str) -> Result<BalancerSpec> {
    let mut spec = BalancerSpec { kind: "builtin".to_owned(), ..BalancerSpec::default() };
    let mut master = None;
    for field in text.split(',') {
        let (name, value) = field
            .split_once('=')
            .with_context(|| format!("--balancer `{text}`: `{field}` is not name=value"))?;
        let value = value.to_owned();
        match name {
            "name" => spec.name = value,
            "kind" => spec.kind = value,
            "endpoint" => spec.endpoint = value,
            "master" => master = Some(value),
            "token" => spec.token = Some(value),
            // Several sources are several fields.
            "source" => {
                spec.source =
                    Some(spec.source.map_or(value.clone(), |old| format!("{old},{value}")));
            }
            _ => bail!(
                "--balancer `{text}`: `{name}` is none of name, kind, endpoint, master, source, token"
            ),
        }
    }
    spec.endpoint = with_master(spec.endpoint, master);
    Ok(spec)
}

/// An HAProxy is reached at its Runtime API and its master socket.
fn with_master(endpoint: String, master: Option<String>) -> String {
    match master {
        Some(master) => format!("{endpoint},{master}"),
        None => endpoint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn endpoints_and_balancers_are_read_from_the_command_line() {
        let v6 = announced("[::1]:7000").expect("an endpoint");
        assert_eq!(v6.announced_host.as_deref(), Some("::1"));
        assert_eq!(announced("none").expect("none"), Announced::default());
        assert!(announced("host").is_err());
        let spec = balancer_spec("name=b,endpoint=http://h:1,source=10.0.0.1,source=10.0.0.2")
            .expect("a balancer");
        assert_eq!(spec.source.as_deref(), Some("10.0.0.1,10.0.0.2"));
        let spec = balancer_spec("name=b,kind=haproxy,endpoint=/run/r,master=/run/m").expect("one");
        assert_eq!(spec.endpoint, "/run/r,/run/m");
        assert!(balancer_spec("colour=red").is_err());
    }
}
