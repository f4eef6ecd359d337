//! The controller's REST interface as `up` uses it: create the cluster once, ask where its nodes
//! are.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use api::grant::CommitMode;
use api::health::Health;
use api::heartbeat::{LinkStatus, Resync};
use api::rest::{
    ClusterChange, ClusterSpec, Data, Failover, FailoverSpec, NamespaceSpec, NodeStatus, Status,
};
use reqwest::{Method, StatusCode};
use serde_json::Value as Json;

use super::state::Role;

/// Names under which the local cluster is known to its controller.
pub(crate) const NAMESPACE: &str = "local";
pub(crate) const CLUSTER: &str = "main";

const PATIENCE: Duration = Duration::from_secs(5);

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
    /// A replica: its stream flows, on data that is its master's.
    pub(crate) follows: bool,
    /// It is in the in-sync set of its shard, or there is none.
    pub(crate) in_sync: bool,
}

/// A client for the controllers: each passes on what is for another.
#[derive(Debug, Clone)]
pub(crate) struct Controller {
    urls: Vec<String>,
    http: reqwest::Client,
}

impl Controller {
    pub(crate) fn new(urls: Vec<String>) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            // Loopback only: a proxy from the environment must not see it.
            .no_proxy()
            .build()
            .context("build the HTTP client")?;
        Ok(Self { urls, http })
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

    /// Creates namespace and cluster.
    pub(crate) async fn create(&self, cluster: &ClusterSpec) -> Result<()> {
        let body = NamespaceSpec { namespace: NAMESPACE.to_owned() };
        let body = serde_json::to_value(body).context("render the namespace")?;
        let (status, answer) = self.request(Method::POST, "/namespaces", Some(body)).await?;
        if !status.is_success() && status != StatusCode::CONFLICT {
            bail!("create the namespace: {}", message(status, &answer));
        }
        let body = serde_json::to_value(cluster).context("render the cluster")?;
        let path = format!("/namespaces/{NAMESPACE}/clusters");
        let (status, answer) = self.request(Method::POST, &path, Some(body)).await?;
        if !status.is_success() {
            bail!("create the cluster: {}", message(status, &answer));
        }
        Ok(())
    }

    async fn status(&self) -> Result<Status> {
        let path = format!("/namespaces/{NAMESPACE}/clusters/{CLUSTER}/status");
        let (status, body) = self.request(Method::GET, &path, None).await?;
        if !status.is_success() {
            bail!("ask the controller for the status: {}", message(status, &body));
        }
        let Data { data } = serde_json::from_value(body).context("read the controller's status")?;
        Ok(data)
    }

    /// What the controller finds wrong with the cluster; nothing where it does not say.
    pub(crate) async fn alarms(&self) -> Vec<String> {
        self.status().await.map(|status| status.alarms).unwrap_or_default()
    }

    /// All nodes, shard by shard.
    pub(crate) async fn nodes(&self) -> Result<Vec<NodeView>> {
        let Status { shards, .. } = self.status().await?;
        let nodes = shards.into_iter().flat_map(|shard| {
            let (index, set) = (shard.index, shard.in_sync);
            let in_sync = move |node: &NodeStatus| set.is_empty() || set.contains(&node.id);
            shard.nodes.into_iter().map(move |node| {
                let in_sync = in_sync(&node);
                view(node, index).map(|view| NodeView { in_sync, ..view })
            })
        });
        nodes.collect()
    }

    /// From each shard's next epoch on.
    pub(crate) async fn set_commit_mode(&self, mode: CommitMode) -> Result<()> {
        let path = format!("/namespaces/{NAMESPACE}/clusters/{CLUSTER}");
        let body = ClusterChange { commit_mode: Some(mode), ..ClusterChange::default() };
        let body = serde_json::to_value(body).context("render the change")?;
        let (status, answer) = self.request(Method::PATCH, &path, Some(body)).await?;
        if !status.is_success() {
            bail!("change the commit mode: {}", message(status, &answer));
        }
        Ok(())
    }

    /// A planned switchover of one shard; the id of its new master.
    pub(crate) async fn switch_over(&self, shard: usize) -> Result<String> {
        let path = format!("/namespaces/{NAMESPACE}/clusters/{CLUSTER}/shards/{shard}/failover");
        let body = serde_json::to_value(FailoverSpec::default()).context("render the request")?;
        let (status, answer) = self.request(Method::POST, &path, Some(body)).await?;
        if !status.is_success() {
            bail!("switch shard {shard} over: {}", message(status, &answer));
        }
        let Data { data: Failover { new_master_id, .. } } =
            serde_json::from_value(answer).context("read the answer to a switchover")?;
        Ok(new_master_id)
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Json>,
    ) -> Result<(StatusCode, Json)> {
        let mut sent = None;
        for url in &self.urls {
            let mut request = self.http.request(method.clone(), format!("{url}/api/v1{path}"));
            if let Some(body) = &body {
                request = request.json(body);
            }
            let answer = request.send().await;
            let is_away = answer.as_ref().is_err_and(reqwest::Error::is_connect);
            sent = Some(answer);
            if !is_away {
                break;
            }
        }
        let answer = sent.context("there is no controller")?.context("reach the controller")?;
        let status = answer.status();
        let bytes = answer.bytes().await.context("read the controller's answer")?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Json::Null)))
    }
}

/// A replica follows when its stream flows and its data is of its master's history.
fn view(node: NodeStatus, shard: usize) -> Result<NodeView> {
    let follows = node.answer.as_ref().is_some_and(|answer| {
        answer.link_status == LinkStatus::Up.as_str() && answer.resync == Resync::None.as_str()
    });
    let announced = node.announced.as_deref().map(endpoint).transpose()?;
    let role = match node.role.as_str() {
        "master" => Role::Master,
        _ => Role::Replica,
    };
    Ok(NodeView {
        id: node.id,
        address: node.addr,
        shard,
        role,
        announced,
        in_step: node.settled && node.health == Health::Up,
        follows,
        in_sync: true,
    })
}

/// `host:port`, IPv6 with or without brackets.
pub(crate) fn endpoint(text: &str) -> Result<(String, u16)> {
    let (host, port) = text.rsplit_once(':').with_context(|| format!("read endpoint `{text}`"))?;
    let port = port.parse().with_context(|| format!("read the port of `{text}`"))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

fn message(status: StatusCode, body: &Json) -> String {
    let text = body.pointer("/error/message").and_then(Json::as_str).unwrap_or("no message");
    format!("{text} (HTTP {})", status.as_u16())
}
