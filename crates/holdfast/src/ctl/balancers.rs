//! `ctl balancer`: the load balancers of a cluster.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use api::rest::{BalancerChange, BalancerSpec, Balancers};
use clap::Subcommand;
use reqwest::Method;

use super::change::send;
use super::secret;
use super::table::{json, render, text};
use super::words::{in_path, with_master};
use super::{Context, Place};

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
        /// HAProxy's master socket (`-W -S`); without it old workers cannot be seen, the balancers
        /// are no fence, and a failover waits for the lease
        #[arg(long)]
        master: Option<String>,
        /// Bearer token of the built-in balancer; others on this host see command lines
        #[arg(long = "balancer-token")]
        balancer_token: Option<String>,
        /// File whose only line is that token
        #[arg(long, value_name = "FILE", conflicts_with = "balancer_token")]
        balancer_token_file: Option<PathBuf>,
        /// Address or network it dials nodes from
        #[arg(long)]
        source: Option<String>,
    },
    /// List instances
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Change how the controller speaks to an instance, which stays at its address: over TLS or in
    /// clear, by another token
    Change {
        /// Its name
        name: String,
        #[command(flatten)]
        place: Place,
        /// Its URL, https:// or http://, of the same host and port
        #[arg(long)]
        endpoint: Option<String>,
        /// File whose only line is its token from now on
        #[arg(long, value_name = "FILE")]
        balancer_token_file: Option<PathBuf>,
    },
    /// Close an instance and remove it; refused while it cannot be closed, or is the last way to
    /// nodes that take clients from balancers only
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

pub(crate) async fn balancer(cx: &Context, verb: BalancerVerb) -> Result<()> {
    match verb {
        BalancerVerb::Add {
            name,
            place,
            kind,
            endpoint,
            master,
            balancer_token,
            balancer_token_file,
            source,
        } => {
            let file = balancer_token_file.as_deref();
            let balancer_token = secret::of(balancer_token, file, "--balancer-token-file")?;
            let endpoint = with_master(endpoint, master);
            let path = format!("{}/balancers", cx.cluster(&place).await?);
            let done = format!("balancer {name} added");
            let body = BalancerSpec { name, kind, endpoint, token: balancer_token, source };
            send(cx, Method::POST, &path, Some(&body), &done).await
        }
        BalancerVerb::Change { name, place, endpoint, balancer_token_file } => {
            if endpoint.is_none() && balancer_token_file.is_none() {
                bail!("nothing to change: give --endpoint, --balancer-token-file, or both");
            }
            let token = secret::of(None, balancer_token_file.as_deref(), "--balancer-token-file")?;
            let part = in_path("balancer", &name, "balancer list")?;
            let path = format!("{}/balancers/{part}", cx.cluster(&place).await?);
            let body = BalancerChange { endpoint, token };
            send(cx, Method::PATCH, &path, Some(&body), &format!("balancer {name} changed")).await
        }
        BalancerVerb::Remove { name, place, force } => {
            let query = if force { "?force=yes" } else { "" };
            let part = in_path("balancer", &name, "balancer list")?;
            let path = format!("{}/balancers/{part}{query}", cx.cluster(&place).await?);
            let value = cx.http.call(Method::DELETE, &path, None::<&()>).await?;
            if cx.json {
                return json(&value);
            }
            match value["why"].as_str() {
                None => cx.say(&format!("balancer {name} closed and removed")),
                Some(why) => cx.say(&format!(
                    "balancer {name} removed WITHOUT being closed: {why}\n\
                     If its process lives, end it: its clients are led where it led them last."
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
            text(&render(cx.width, &["NAME", "KIND", "ENDPOINT", "SOURCE"], &rows))
        }
    }
}
