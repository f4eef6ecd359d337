//! Verbs that only look: `list`, `get`, `events`.

use anyhow::Result;
use api::rest::{
    Actor, Cluster, ClusterAnswer, Clusters, Event, Events, Namespaces, Shard, ShardAnswer,
};
use api::time::utc;
use clap::Subcommand;
use reqwest::Method;
use serde::de::DeserializeOwned;

use super::ids::ShardWord;
use super::table::{json, render, text};
use super::words::shown;
use super::{Context, Place};

#[derive(Debug, Subcommand)]
pub(crate) enum List {
    /// All namespaces
    #[command(alias = "namespace")]
    Namespaces,
    /// Clusters of a namespace
    #[command(alias = "cluster")]
    Clusters {
        /// Namespace; the only one if left out
        #[arg(short, long)]
        namespace: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Get {
    /// A whole cluster
    Cluster {
        /// Its name; the only one if left out
        #[arg(conflicts_with = "cluster")]
        name: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// One shard
    Shard {
        /// Its index or id
        index: ShardWord,
        #[command(flatten)]
        place: Place,
    },
}

/// Prints the answer as JSON, or as `human` renders it.
async fn show<T: DeserializeOwned>(
    cx: &Context,
    path: &str,
    human: impl FnOnce(T) -> String,
) -> Result<()> {
    let value = cx.http.call(Method::GET, path, None::<&()>).await?;
    if cx.json { json(&value) } else { text(&human(serde_json::from_value(value)?)) }
}

pub(crate) async fn list(cx: &Context, list: List) -> Result<()> {
    let lines = |names: Vec<String>| names.iter().map(|name| format!("{name}\n")).collect();
    match list {
        List::Namespaces => show(cx, "/namespaces", |n: Namespaces| lines(n.namespaces)).await,
        List::Clusters { namespace } => {
            let path = cx.namespace(namespace.as_deref()).await?;
            show(cx, &path, |c: Clusters| lines(c.clusters)).await
        }
    }
}

pub(crate) async fn get(cx: &Context, get: Get) -> Result<()> {
    match get {
        Get::Cluster { name, place } => {
            let path = cx.cluster(&place.or(name)).await?;
            show(cx, &path, |answer: ClusterAnswer| cluster_table(cx.width, &answer.cluster)).await
        }
        Get::Shard { index, place } => {
            let path = format!("{}/shards/{index}", cx.cluster(&place).await?);
            show(cx, &path, |answer: ShardAnswer| {
                render(cx.width, &STORED, &shard_rows(&index.to_string(), &answer.shard))
            })
            .await
        }
    }
}

const STORED: [&str; 7] = ["SHARD", "ROLE", "ADDRESS", "ANNOUNCED", "SLOTS", "NODE ID", "SHARD ID"];

fn shard_rows(index: &str, shard: &Shard) -> Vec<Vec<String>> {
    let row = |node: &api::rest::Node| {
        let announced = &node.announced;
        let announced = match (&announced.announced_host, announced.announced_port) {
            (Some(host), Some(port)) => {
                shown(&format!("{host}:{port}"), announced.announced_tls_port)
            }
            _ => "-".to_owned(),
        };
        let slots = if node.role == "master" { shard.slot_ranges.join(",") } else { String::new() };
        vec![
            index.to_owned(),
            super::status::role(&node.role).to_owned(),
            shown(&node.addr, node.tls_port),
            announced,
            slots,
            node.id.clone(),
            shard.id.clone(),
        ]
    };
    shard.nodes.iter().map(row).collect()
}

fn cluster_table(width: usize, cluster: &Cluster) -> String {
    let rows: Vec<_> = (cluster.shards.iter().enumerate())
        .flat_map(|(index, shard)| shard_rows(&index.to_string(), shard))
        .collect();
    format!(
        "cluster {}, version {}, commit mode {}, min-in-sync {}\n{}",
        cluster.name,
        cluster.version,
        cluster.commit_mode,
        cluster.min_in_sync,
        render(width, &STORED, &rows)
    )
}

#[derive(Debug, clap::Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    place: Place,
    /// How many, the newest; 1 to 10000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    limit: u64,
    /// Only what somebody asked for by REST or `ctl`: by whom, in which role, from which address
    #[arg(long)]
    audit: bool,
    /// Only what is kept apart and long: failovers, switchovers, losses, moves, starts, what
    /// somebody asked for
    #[arg(long)]
    history: bool,
}

pub(crate) async fn events(cx: &Context, args: &EventsArgs) -> Result<()> {
    let EventsArgs { place, limit, audit, history } = args;
    let everything = place.namespace.is_none() && place.cluster.is_none();
    let base = if everything { String::new() } else { cx.cluster(place).await? };
    let audited = if *audit { "&audit=yes" } else { "" };
    let kept = if *history { "&history=yes" } else { "" };
    let path = format!("{base}/events?limit={limit}{audited}{kept}");
    show(cx, &path, |events: Events| {
        if *audit {
            return render(cx.width, &AUDIT, &audit_rows(events.events));
        }
        let rows: Vec<_> = events
            .events
            .into_iter()
            .map(|event| {
                vec![
                    utc(event.at_ms),
                    event.term.to_string(),
                    event.kind,
                    event.cluster,
                    event.text,
                ]
            })
            .collect();
        render(cx.width, &["TIME (UTC)", "TERM", "KIND", "CLUSTER", "WHAT"], &rows)
    })
    .await
}

const AUDIT: [&str; 6] = ["TIME (UTC)", "WHO", "ROLE", "FROM", "CLUSTER", "WHAT"];

/// Entries without an actor are of a controller that knows no audit.
fn audit_rows(events: Vec<Event>) -> Vec<Vec<String>> {
    let row = |event: Event| {
        let Actor { who, role, from } = event.by?;
        Some(vec![utc(event.at_ms), who, role.to_string(), from, event.cluster, event.text])
    };
    events.into_iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use api::rest::UserRole;

    use super::*;

    #[test]
    fn the_audit_shows_what_somebody_asked_for_and_nothing_else() {
        let by = Actor { who: "deploy".into(), role: UserRole::Operator, from: "10.0.0.9".into() };
        let event = |by| Event {
            number: 1,
            at_ms: 0,
            term: 1,
            cluster: "n/c".into(),
            kind: "operator".into(),
            text: "shard 0: switchover asked for".into(),
            shard: None,
            by,
        };
        let rows = audit_rows(vec![event(None), event(Some(by))]);
        assert_eq!(
            rows,
            [[
                "1970-01-01 00:00:00.000",
                "deploy",
                "operator",
                "10.0.0.9",
                "n/c",
                "shard 0: switchover asked for"
            ]]
        );
    }
}
