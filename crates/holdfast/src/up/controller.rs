//! The controller's REST interface as `up` uses it: create the cluster once, ask where its nodes are.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use super::state::Role;

/// Names under which the local cluster is known to its controller.
pub(crate) const NAMESPACE: &str = "local";
pub(crate) const CLUSTER: &str = "main";

const PATIENCE: Duration = Duration::from_secs(5);

/// A node that the cluster is created from.
#[derive(Debug)]
pub(crate) struct NewNode {
    pub(crate) address: String,
    pub(crate) announced: Option<(String, u16)>,
}

/// A node as the controller knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeView {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) shard: usize,
    pub(crate) role: Role,
    pub(crate) announced: Option<(String, u16)>,
    /// It answered the last heartbeat, with the wanted topology.
    pub(crate) in_step: bool,
    /// A replica: its stream flows.
    pub(crate) link_up: bool,
}

/// A client for one controller.
#[derive(Debug, Clone)]
pub(crate) struct Controller {
    url: String,
    http: reqwest::Client,
}

impl Controller {
    pub(crate) fn new(url: String) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            // Loopback only: a proxy from the environment must not see it.
            .no_proxy()
            .build()
            .context("build the HTTP client")?;
        Ok(Self { url, http })
    }

    /// True once the controller knows this cluster; false: it answers and does not.
    pub(crate) async fn has_cluster(&self) -> Result<bool> {
        let path = format!("/namespaces/{NAMESPACE}/clusters/{CLUSTER}");
        let (status, body) = self.request(Method::GET, &path, None).await?;
        match status {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => Ok(false),
            _ => bail!("{}", message(status, &body)),
        }
    }

    /// Creates namespace and cluster. `per_shard` counts the master too, as the controller does.
    pub(crate) async fn create(
        &self,
        nodes: &[NewNode],
        per_shard: u16,
        balancers: Json,
    ) -> Result<()> {
        let body = json!({ "namespace": NAMESPACE });
        let (status, answer) = self.request(Method::POST, "/namespaces", Some(body)).await?;
        if !status.is_success() && status != StatusCode::CONFLICT {
            bail!("create the namespace: {}", message(status, &answer));
        }
        let nodes: Vec<Json> = nodes.iter().map(new_node).collect();
        let body = json!({ "name": CLUSTER, "replicas": per_shard, "nodes": nodes, "balancers": balancers });
        let path = format!("/namespaces/{NAMESPACE}/clusters");
        let (status, answer) = self.request(Method::POST, &path, Some(body)).await?;
        if !status.is_success() {
            bail!("create the cluster: {}", message(status, &answer));
        }
        Ok(())
    }

    /// All nodes, shard by shard.
    pub(crate) async fn nodes(&self) -> Result<Vec<NodeView>> {
        let path = format!("/namespaces/{NAMESPACE}/clusters/{CLUSTER}/status");
        let (status, body) = self.request(Method::GET, &path, None).await?;
        if !status.is_success() {
            bail!("ask the controller for the status: {}", message(status, &body));
        }
        node_views(&body)
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Json>,
    ) -> Result<(StatusCode, Json)> {
        let mut request = self.http.request(method, format!("{}/api/v1{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.context("reach the controller")?;
        let status = answer.status();
        let bytes = answer.bytes().await.context("read the controller's answer")?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Json::Null)))
    }
}

/// Reads the status, of which only what is used here must be there.
fn node_views(body: &Json) -> Result<Vec<NodeView>> {
    let nodes = body.pointer("/data/nodes").and_then(Json::as_array).context("find the nodes")?;
    nodes.iter().map(|node| node_view(node).with_context(|| format!("read node {node}"))).collect()
}

fn node_view(node: &Json) -> Result<NodeView> {
    let text = |name: &str| node.get(name).and_then(Json::as_str);
    let announced =
        match (text("announced_host"), node.get("announced_port").and_then(Json::as_u64)) {
            (Some(host), Some(port)) => Some((host.to_owned(), u16::try_from(port)?)),
            _ => None,
        };
    Ok(NodeView {
        id: text("id").context("find `id`")?.to_owned(),
        address: text("addr").context("find `addr`")?.to_owned(),
        shard: usize::try_from(node.get("shard").and_then(Json::as_u64).context("find `shard`")?)?,
        role: serde_json::from_value(node.get("role").cloned().unwrap_or_default())?,
        announced,
        in_step: node.get("in_step").and_then(Json::as_bool).unwrap_or_default(),
        link_up: text("link_status") == Some("up"),
    })
}

fn new_node(node: &NewNode) -> Json {
    let mut json = json!({ "addr": node.address });
    if let Some((host, port)) = &node.announced {
        json["announced_host"] = json!(host);
        json["announced_port"] = json!(port);
    }
    json
}

fn message(status: StatusCode, body: &Json) -> String {
    let text = body.pointer("/error/message").and_then(Json::as_str).unwrap_or("no message");
    format!("{text} (HTTP {})", status.as_u16())
}
