//! A controller under test, with nodes and a balancer that only talk.

pub mod fake_balancer;
pub mod fake_node;
pub mod mover;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use api::rest::{Data, Status};
use controller::Config;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use fake_balancer::FakeBalancer;
use fake_node::FakeNode;

/// Heartbeats that a node may miss: none is to be taken for dead because the machine is busy.
pub const MISSES: u32 = 8;
/// Longest time anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` returns something; panics with `what` and the last state otherwise.
pub async fn until<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let last = match condition().await {
            Ok(value) => return value,
            Err(state) => state,
        };
        assert!(tokio::time::Instant::now() < deadline, "waited for {what}; last: {last}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A running controller.
pub struct Controller {
    pub url: String,
    http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Controller {
    /// Starts one on `data`; waits for a predecessor's lock to go.
    pub async fn start(data: PathBuf) -> Self {
        Self::start_with(Config { data, ..Config::default() }).await
    }

    /// The same, with more than the place of the store.
    pub async fn start_with(config: Config) -> Self {
        until("a controller to start", || async {
            let started = Self::try_start_with(config.clone()).await;
            started.map_err(|error| format!("{error:#}"))
        })
        .await
    }

    pub async fn try_start(data: PathBuf) -> anyhow::Result<Self> {
        Self::try_start_with(Config { data, ..Config::default() }).await
    }

    pub async fn try_start_with(config: Config) -> anyhow::Result<Self> {
        let config = Config { listen: ([127, 0, 0, 1], 0).into(), misses: MISSES, ..config };
        let listener = controller::bind(&config).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (stop, stopped) = oneshot::channel::<()>();
        let live = std::sync::Arc::new(controller::Live::new(config)?);
        let mut task = tokio::spawn(controller::serve(live, listener, async {
            let _ = stopped.await;
        }));
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build()?;
        loop {
            tokio::select! {
                done = &mut task => {
                    done??;
                    anyhow::bail!("the controller ended");
                }
                answer = http.get(format!("{url}/healthz")).send() => {
                    let Ok(answer) = answer else { continue };
                    let is_well = answer.status().is_success();
                    // One that stands back for another has begun, too.
                    let text = answer.text().await.unwrap_or_default();
                    if is_well || text.starts_with("nothing is done for cluster") {
                        break;
                    }
                }
            }
        }
        Ok(Self { url, http, stop: Some(stop), task })
    }

    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        self.task.await.expect("no panic").expect("a clean end");
    }

    pub async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.call_with(None, method, path, body).await
    }

    /// The same with a token.
    pub async fn call_with(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: Value,
    ) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let url = format!("{}/api/v1{path}", self.url);
        let mut request = self.http.request(method, url).json(&body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.expect("the controller answers");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub async fn status(&self) -> Status {
        let (code, body) = self.call("GET", "/namespaces/n/clusters/c/status", json!({})).await;
        assert_eq!(code, 200, "{body}");
        serde_json::from_value::<Data<Status>>(body).expect("a status").data
    }

    /// Waits until `wanted` accepts the status.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        until(what, || async {
            let status = self.status().await;
            if wanted(&status) { Ok(status) } else { Err(format!("{status:#?}")) }
        })
        .await
    }
}

/// One shard of a master and replicas, a balancer, and a controller.
pub struct Stage {
    pub folder: tempfile::TempDir,
    pub nodes: Vec<FakeNode>,
    pub balancer: FakeBalancer,
    pub controller: Controller,
}

impl Stage {
    pub async fn new(nodes: usize) -> Self {
        Self::with_leases(nodes, Config::default().lease_ms).await
    }

    /// The same with leases of so many ms: longer than a node may be silent, they tell whether
    /// their end is waited for.
    pub async fn with_leases(nodes: usize, lease_ms: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("store.redb");
        let controller =
            Controller::start_with(Config { data, lease_ms, ..Config::default() }).await;
        let world = fake_node::World::default();
        let mut started = Vec::new();
        for _ in 0..nodes {
            started.push(FakeNode::start(&world).await);
        }
        let balancer = FakeBalancer::start().await;
        let stage = Self { folder, nodes: started, balancer, controller };
        let (code, _) =
            stage.controller.call("POST", "/namespaces", json!({"namespace": "n"})).await;
        assert_eq!(code, 201);
        stage
    }

    /// The request that creates the cluster.
    pub fn spec(&self) -> Value {
        let nodes: Vec<Value> = (self.nodes.iter().zip(7000..))
            .map(|(node, port)| {
                json!({"addr": node.address(), "announced_host": "lb.test", "announced_port": port})
            })
            .collect();
        json!({
            "name": "c",
            "nodes": nodes,
            // These nodes keep no epochs; grants and in-sync sets are tested with real ones.
            "commit_mode": "async",
            "replicas": self.nodes.len(),
            "balancers": [{
                "name": "b", "kind": "builtin", "endpoint": self.balancer.url(),
                "source": "127.0.0.2",
            }],
        })
    }

    /// Creates the cluster and waits until it serves.
    pub async fn create(&self) -> Status {
        let (code, body) =
            self.controller.call("POST", "/namespaces/n/clusters", self.spec()).await;
        assert_eq!(code, 201, "{body}");
        self.controller.until("a healthy cluster", |status| status.healthy).await
    }

    /// Waits until the controller has seen every replica of the first shard at `sequence`.
    pub async fn replicated(&self, sequence: u64) {
        self.controller
            .until("replicas to catch up", |status| {
                let mut nodes = status.shards[0].nodes.iter().filter_map(|n| n.answer.as_ref());
                nodes.all(|answer| answer.sequence >= sequence)
            })
            .await;
    }

    /// Ends the controller and starts another on the same store.
    pub async fn restart_controller(&mut self) {
        self.restart_controller_with(|| ()).await;
    }

    /// Does something with the store between.
    pub async fn restart_controller_with(&mut self, between: impl FnOnce()) {
        self.stop_controller().await;
        between();
        self.controller = Controller::start(self.folder.path().join("store.redb")).await;
    }

    /// Ends it; its place is kept.
    pub async fn stop_controller(&mut self) {
        let url = String::new();
        let (stop, _) = oneshot::channel();
        let parked = Controller {
            url,
            http: reqwest::Client::new(),
            stop: Some(stop),
            task: tokio::spawn(async { Ok(()) }),
        };
        std::mem::replace(&mut self.controller, parked).stop().await;
    }

    /// The node the balancer leads `lb.test:<port>` to.
    pub fn behind(&self, port: u16) -> Option<usize> {
        let backend = self.balancer.backend(port)?;
        self.nodes.iter().position(|node| node.port() == backend.port)
    }
}
