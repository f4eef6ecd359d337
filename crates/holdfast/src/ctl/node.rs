//! `ctl node`: where a node is reached, by clients and by those that speak TLS.
//!
//! The controller is asked, and never a node.

use anyhow::{Context as _, Result};
use api::rest::NodeChange;
use clap::Subcommand;
use reqwest::Method;

use super::change::send;
use super::ids;
use super::words::announced;
use super::{Context, Place};

#[derive(Debug, Subcommand)]
pub(crate) enum NodeVerb {
    /// Set where clients reach a node's role, or `none`
    Announce {
        /// Its id, the beginning of it, or its address
        node: String,
        /// host:port, or `none`; host:port/port where clients that speak TLS have a port of their
        /// own
        endpoint: String,
        #[command(flatten)]
        place: Place,
    },
    /// Set at which port beside its own a node speaks TLS (its `tls-port`), or `none`
    ///
    /// Peers with `tls-replication` dial it, and clients that reach nodes over TLS are sent there.
    /// Without it they use the node's own port, which takes both kinds, or TLS alone with `port 0`.
    TlsPort {
        /// Its id, the beginning of it, or its address
        node: String,
        /// A port, or `none`
        port: String,
        #[command(flatten)]
        place: Place,
    },
}

pub(crate) async fn run(cx: &Context, verb: NodeVerb) -> Result<()> {
    let (node, place, body, done) = match verb {
        NodeVerb::Announce { node, endpoint, place } => {
            let body = NodeChange::from(announced(&endpoint)?);
            let done = match body.announced_host {
                Some(_) => format!("is announced as {endpoint}"),
                None => "is announced by its own address".to_owned(),
            };
            (node, place, body, done)
        }
        NodeVerb::TlsPort { node, port, place } => {
            let tls_port = match port.as_str() {
                "none" | "-" => 0,
                port => port.parse().with_context(|| format!("`{port}` is no port, nor `none`"))?,
            };
            let body = NodeChange { tls_port: Some(tls_port), ..NodeChange::default() };
            let done = match tls_port {
                0 => "has no port of TLS alone".to_owned(),
                port => format!("speaks TLS at port {port}"),
            };
            (node, place, body, done)
        }
    };
    let node = ids::find(cx, &place, &node).await?;
    let path = format!("{}/nodes/{}", cx.cluster(&place).await?, node.id);
    let done = format!("node {} {done}", node.name());
    send(cx, Method::PATCH, &path, Some(&body), &done).await
}
