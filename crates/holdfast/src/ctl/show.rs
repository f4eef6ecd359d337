//! Verbs that only look.

use anyhow::Result;
use api::rest::{Cluster, ClusterAnswer, Clusters, Events, Namespaces, Shard, ShardAnswer};
use clap::Subcommand;
use reqwest::Method;
use serde::de::DeserializeOwned;

use super::ids::ShardWord;
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
        Get::Cluster { name, namespace } => {
            let path = cx.namespace(namespace.as_deref()).await?;
            let path = format!("{path}/{name}");
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
            (Some(host), Some(port)) => format!("{host}:{port}"),
            _ => "-".to_owned(),
        };
        let slots = if node.role == "master" { shard.slot_ranges.join(",") } else { String::new() };
        vec![
            index.to_owned(),
            super::status::role(&node.role).to_owned(),
            node.addr.clone(),
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

pub(crate) async fn events(cx: &Context, place: &Place, limit: u64) -> Result<()> {
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
        render(cx.width, &["TIME (UTC)", "TERM", "KIND", "CLUSTER", "WHAT"], &rows)
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
