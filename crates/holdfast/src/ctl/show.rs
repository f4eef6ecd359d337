//! Verbs that only look.

use anyhow::Result;
use api::grant::CommitMode;
use api::rest::{
    BalancerStatus, Cluster, ClusterAnswer, Clusters, Events, Namespaces, NodeStatus, Shard,
    ShardAnswer, Status,
};
use clap::Subcommand;
use reqwest::Method;
use serde::de::DeserializeOwned;

use super::table::{json, render, text};
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
        /// Its name
        name: String,
        /// Namespace; the only one if left out
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// One shard
    Shard {
        /// Its index
        index: usize,
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
        Get::Cluster { name, namespace } => {
            let path = cx.namespace(namespace.as_deref()).await?;
            let path = format!("{path}/{name}");
            show(cx, &path, |answer: ClusterAnswer| cluster_table(&answer.cluster)).await
        }
        Get::Shard { index, place } => {
            let path = format!("{}/shards/{index}", cx.cluster(&place).await?);
            show(cx, &path, |answer: ShardAnswer| {
                render(&STORED, &shard_rows(index, &answer.shard))
            })
            .await
        }
    }
}

const STORED: [&str; 6] = ["SHARD", "ROLE", "ADDRESS", "ANNOUNCED", "SLOTS", "NODE ID"];

fn shard_rows(index: usize, shard: &Shard) -> Vec<Vec<String>> {
    let row = |node: &api::rest::Node| {
        let announced = &node.announced;
        let announced = match (&announced.announced_host, announced.announced_port) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            _ => "-".to_owned(),
        };
        let slots = if node.role == "master" { shard.slot_ranges.join(",") } else { String::new() };
        vec![
            index.to_string(),
            node.role.clone(),
            node.addr.clone(),
            announced,
            slots,
            node.id.clone(),
        ]
    };
    shard.nodes.iter().map(row).collect()
}

fn cluster_table(cluster: &Cluster) -> String {
    let rows: Vec<_> = (cluster.shards.iter().enumerate())
        .flat_map(|(index, shard)| shard_rows(index, shard))
        .collect();
    format!("cluster {}, version {}\n{}", cluster.name, cluster.version, render(&STORED, &rows))
}

pub(crate) async fn status(cx: &Context, place: &Place) -> Result<()> {
    let path = format!("{}/status", cx.cluster(place).await?);
    show(cx, &path, |status: Status| status_text(&status)).await
}

fn status_text(status: &Status) -> String {
    let mut out = format!(
        "cluster {}/{}: {}, version {}, term {}, commit mode {}{}\n\n",
        status.namespace,
        status.name,
        if status.healthy { "healthy" } else { "DEGRADED" },
        status.version,
        status.term,
        status.commit_mode,
        match status.commit_mode {
            CommitMode::InSync => format!(", min-in-sync {}", status.min_in_sync),
            CommitMode::Async => String::new(),
        }
    );
    let mut rows = Vec::new();
    for shard in &status.shards {
        rows.extend(shard.nodes.iter().map(|node| node_row(shard.index, &shard.state, node)));
    }
    let head = [
        "SHARD",
        "STATE",
        "ROLE",
        "ADDRESS",
        "ANNOUNCED",
        "HEALTH",
        "SEQUENCE",
        "LAG",
        "VERSION",
        "LEASE",
        "NOTE",
    ];
    out.push_str(&render(&head, &rows));
    if !status.balancers.is_empty() {
        let rows: Vec<_> = status.balancers.iter().map(balancer_row).collect();
        out.push('\n');
        out.push_str(&render(&["BALANCER", "KIND", "ENDPOINT", "STATE", "OPEN"], &rows));
    }
    for shard in status.shards.iter().filter(|shard| shard.epoch > 0) {
        out.push_str(&format!("\nshard {}: epoch {}", shard.index, shard.epoch));
        if status.commit_mode == CommitMode::InSync || !shard.in_sync.is_empty() {
            let in_sync = shard.nodes.iter().filter(|node| shard.in_sync.contains(&node.id));
            let in_sync: Vec<&str> = in_sync.map(|node| node.addr.as_str()).collect();
            let note = if shard.degraded { ", DEGRADED" } else { "" };
            out.push_str(&format!(", in sync {}{note}", in_sync.join(" ")));
        }
    }
    for balancer in &status.balancers {
        for frontend in &balancer.frontends {
            if let Some(error) = &frontend.error {
                let (name, listen) = (&balancer.name, &frontend.listen);
                out.push_str(&format!("\nbalancer {name}: the node behind {listen}: {error}"));
            }
        }
    }
    for shard in status.shards.iter().filter(|shard| !shard.detail.is_empty()) {
        out.push_str(&format!("\nshard {}: {}", shard.index, shard.detail));
    }
    for node in status.shards.iter().flat_map(|shard| &shard.nodes) {
        let why = node.answer.as_ref().and_then(|answer| answer.link_error.as_ref());
        if let Some(why) = why.filter(|_| node.role == "slave") {
            out.push_str(&format!("\n{}: no stream from its master: {why}", node.addr));
        }
    }
    for alarm in &status.alarms {
        out.push_str(&format!("\nalarm: {alarm}"));
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

fn node_row(shard: usize, state: &str, node: &NodeStatus) -> Vec<String> {
    let answer = node.answer.as_ref();
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let lease = answer.filter(|answer| answer.role == "master" && node.role == "master");
    let mut notes = Vec::new();
    if let Some(answer) = answer {
        if answer.role != node.role {
            notes.push(format!("answers as {}", answer.role));
        }
        if answer.resync != "none" {
            notes.push(format!("resync {}", answer.resync));
        }
        if node.role == "slave" && answer.link_status != "up" {
            notes.push(format!("link {}", answer.link_status));
        }
        notes.extend(answer.paused.then(|| "paused".to_owned()));
        notes.extend(answer.loading.then(|| "loading".to_owned()));
    }
    notes.extend(node.error.clone());
    vec![
        shard.to_string(),
        state.to_owned(),
        node.role.clone(),
        node.addr.clone(),
        or_dash(node.announced.clone()),
        node.health.clone(),
        or_dash(answer.map(|answer| answer.sequence.to_string())),
        or_dash(node.lag.map(|lag| lag.to_string())),
        or_dash(answer.map(|answer| answer.version.to_string())),
        or_dash(lease.map(|answer| format!("{} ms", answer.lease_remaining_ms))),
        notes.join(", "),
    ]
}

fn balancer_row(balancer: &BalancerStatus) -> Vec<String> {
    let state = match (&balancer.error, balancer.in_force) {
        (Some(error), _) => error.clone(),
        (None, true) => "in force".to_owned(),
        (None, false) => "changing".to_owned(),
    };
    let open = balancer.frontends.iter().filter(|frontend| frontend.node.is_some()).count();
    vec![
        balancer.name.clone(),
        balancer.kind.clone(),
        balancer.endpoint.clone(),
        state,
        format!("{open}/{}", balancer.frontends.len()),
    ]
}

pub(crate) async fn events(cx: &Context, place: &Place, limit: usize) -> Result<()> {
    let everything = place.namespace.is_none() && place.cluster.is_none();
    let path = if everything {
        format!("/events?limit={limit}")
    } else {
        format!("{}/events?limit={limit}", cx.cluster(place).await?)
    };
    show(cx, &path, |events: Events| {
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
        render(&["TIME (UTC)", "TERM", "KIND", "CLUSTER", "WHAT"], &rows)
    })
    .await
}

/// `2026-01-31 23:59:59.123`, by the proleptic Gregorian calendar.
pub(super) fn utc(at_ms: u64) -> String {
    let (seconds, ms) = (at_ms / 1_000, at_ms % 1_000);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Counted from 1 March of year 0, so that a leap day ends its year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{ms:03}")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_read_as_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00.000");
        assert_eq!(utc(1_798_761_599_999), "2026-12-31 23:59:59.999");
    }
}
