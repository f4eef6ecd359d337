//! The controller at scale: very many nodes that only talk, what they cost it, and how long it takes
//! to replace many masters that are lost at one moment.
//!
//! `make test` runs it small. `make fleet` prints its figures: `CLUSTERS` clusters of `SHARDS` shards
//! of `NODES` nodes each, `LOST` masters lost at once (several numbers: one round each), `SECONDS` at rest.

#![allow(
    unreachable_pub,
    dead_code,
    clippy::print_stdout,
    reason = "the support module is shared by tests, not published; figures are what it is for"
)]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use controller::Config;
use serde_json::{Value, json};
use support::fake_balancer::FakeBalancer;
use support::fake_node::{FakeNode, World};
use tokio::runtime::{Builder, Runtime};

/// Threads of the nodes and of what looks at them; all others are the controller's.
const STUBS: &str = "stubs";
/// Longest time for all clusters to be healthy, or for all lost masters to be replaced.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// Files that a node needs: it listens, and has both ends of the controller's connection.
const FILES_PER_NODE: u64 = 4;

/// How many there are of what.
#[derive(Debug, Clone)]
struct Shape {
    clusters: usize,
    shards: usize,
    nodes: usize,
    lost: Vec<usize>,
    seconds: u64,
}

impl Shape {
    fn masters(&self) -> usize {
        self.clusters * self.shards
    }

    /// From the environment; what is not there is as Show 5 of the aims has it: 3,000 nodes.
    fn asked() -> Self {
        let words = |name: &str, default: &str| {
            let text = std::env::var(name).unwrap_or_else(|_| default.to_owned());
            let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("{name}: `{text}`"));
            text.split(',').map(number).collect::<Vec<usize>>()
        };
        let one = |name: &str, default: &str| words(name, default)[0];
        Self {
            clusters: one("CLUSTERS", "100"),
            shards: one("SHARDS", "10"),
            nodes: one("NODES", "3"),
            lost: words("LOST", "1,100,500"),
            seconds: one("SECONDS", "20") as u64,
        }
    }
}

/// One shard's nodes; the first was its first master.
struct Shard {
    nodes: Vec<FakeNode>,
}

impl Shard {
    /// Who may serve now.
    fn serving(&self) -> Option<usize> {
        self.nodes.iter().position(FakeNode::serves)
    }
}

struct Fleet {
    shape: Shape,
    shards: Vec<Shard>,
    _balancers: Vec<FakeBalancer>,
    url: String,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
    /// The controller's own threads: it is measured by them.
    controller: Option<Runtime>,
}

/// What was seen in one stretch of time.
struct Figures {
    cores: f64,
    beats_per_second: f64,
    longest_silence: Duration,
    /// Looks at which a healthy master had no lease.
    without_lease: usize,
}

impl Fleet {
    async fn start(shape: Shape) -> Self {
        let nodes = shape.masters() * shape.nodes;
        let wanted = FILES_PER_NODE * nodes as u64 + 1_000;
        let files = limits::raise_open_files(wanted).expect("the limit of open files");
        assert!(
            files.soft >= wanted,
            "{nodes} nodes need {wanted} files, {} are allowed",
            files.soft
        );
        let folder = tempfile::tempdir().expect("a folder");
        let (controller, url) = start_controller(&folder);
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut fleet = Self {
            shape,
            shards: Vec::new(),
            _balancers: Vec::new(),
            url,
            http,
            _folder: folder,
            controller: Some(controller),
        };
        let (code, body) = fleet.call("POST", "/namespaces", json!({"namespace": "n"})).await;
        assert_eq!(code, 201, "{body}");
        for number in 0..fleet.shape.clusters {
            fleet.add_cluster(number).await;
        }
        fleet.all_serve("every shard to serve").await;
        fleet
    }

    async fn add_cluster(&mut self, number: usize) {
        let balancer = FakeBalancer::start().await;
        let first = self.shards.len();
        for _ in 0..self.shape.shards {
            // Replicas look for their master in their own world only.
            let world = World::default();
            let mut nodes = Vec::new();
            for _ in 0..self.shape.nodes {
                nodes.push(FakeNode::start(&world).await);
            }
            self.shards.push(Shard { nodes });
        }
        let nodes = self.shards[first..].iter().flat_map(|shard| &shard.nodes);
        let nodes: Vec<Value> = nodes
            .zip(1_000..)
            .map(|(node, port)| {
                json!({"addr": node.address(), "announced_host": "lb.test", "announced_port": port})
            })
            .collect();
        let spec = json!({
            "name": format!("c{number}"),
            "nodes": nodes,
            // These nodes keep no epochs.
            "commit_mode": "async",
            "replicas": self.shape.nodes,
            "balancers": [{
                "name": "b", "kind": "builtin", "endpoint": balancer.url(), "source": "127.0.0.2",
            }],
        });
        let (code, body) = self.call("POST", "/namespaces/n/clusters", spec).await;
        assert_eq!(code, 201, "{body}");
        self._balancers.push(balancer);
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let url = format!("{}/api/v1{path}", self.url);
        let answer = self.http.request(method, url).json(&body).send().await;
        let answer = answer.expect("the controller answers");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Waits until each shard has a node that may serve.
    async fn all_serve(&self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let silent = self.shards.iter().filter(|shard| shard.serving().is_none()).count();
            if silent == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "waited for {what}; {silent} do not");
            tokio::time::sleep(LOOK).await;
        }
    }

    fn beats(&self) -> u64 {
        self.nodes().map(|node| node.inside.lock().beats).sum()
    }

    fn nodes(&self) -> impl Iterator<Item = &FakeNode> {
        self.shards.iter().flat_map(|shard| &shard.nodes)
    }

    /// Looks at all shards but `lost` until `is_over`.
    async fn watch(&self, lost: &BTreeSet<usize>, mut is_over: impl FnMut() -> bool) -> Figures {
        let (began, cpu, beats) = (Instant::now(), controller_seconds(), self.beats());
        let mut longest_silence = Duration::ZERO;
        let mut without_lease = 0;
        while !is_over() {
            for (index, shard) in self.shards.iter().enumerate() {
                if lost.contains(&index) {
                    continue;
                }
                without_lease += usize::from(shard.serving().is_none());
                for node in &shard.nodes {
                    let heard = node.inside.lock().heard;
                    let silence = heard.map_or(Duration::ZERO, |(_, at)| at.elapsed());
                    longest_silence = longest_silence.max(silence);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        let seconds = began.elapsed().as_secs_f64();
        Figures {
            cores: (controller_seconds() - cpu) / seconds,
            beats_per_second: (self.beats() - beats) as f64 / seconds,
            longest_silence,
            without_lease,
        }
    }

    /// All do nothing but live.
    async fn rest(&self, time: Duration) -> Figures {
        let began = Instant::now();
        self.watch(&BTreeSet::new(), || began.elapsed() >= time).await
    }

    /// Loses so many masters at one moment; until when each shard served again, the longest last,
    /// and what the others saw meanwhile.
    async fn lose(&mut self, count: usize) -> (Vec<Duration>, Figures) {
        // Spread over all clusters.
        let step = self.shards.len() / count;
        let lost: BTreeSet<usize> = (0..count).map(|number| number * step).collect();
        let mut places = Vec::new();
        let began = Instant::now();
        for index in &lost {
            let shard = &mut self.shards[*index];
            let place = shard.serving().expect("a shard that serves");
            shard.nodes[place].kill().await;
            places.push((*index, place));
        }
        let mut outages: Vec<Duration> = Vec::new();
        let mut open = lost.clone();
        let figures = self
            .watch(&lost, || {
                open.retain(|index| {
                    let is_back = self.shards[*index].serving().is_some();
                    if is_back {
                        outages.push(began.elapsed());
                    }
                    !is_back
                });
                assert!(began.elapsed() < PATIENCE, "{} shards have no master", open.len());
                open.is_empty()
            })
            .await;
        for (index, place) in places {
            self.shards[index].nodes[place].restart().await;
        }
        self.settled().await;
        (outages, figures)
    }

    /// Waits until the controller calls every cluster healthy.
    async fn settled(&self) {
        for number in 0..self.shape.clusters {
            let path = format!("/namespaces/n/clusters/c{number}/status");
            support::until("a healthy cluster", || async {
                let (_, body) = self.call("GET", &path, json!({})).await;
                let is_healthy = body["data"]["healthy"] == json!(true);
                if is_healthy { Ok(()) } else { Err(body["data"]["alarms"].to_string()) }
            })
            .await;
        }
    }

    /// Ends the controller at once.
    fn end(mut self) {
        if let Some(runtime) = self.controller.take() {
            runtime.shutdown_background();
        }
    }
}

/// A controller on threads of its own, and where it listens.
fn start_controller(folder: &tempfile::TempDir) -> (Runtime, String) {
    let data = folder.path().join("store.redb");
    let listen = ([127, 0, 0, 1], 0).into();
    let config = Config { data, listen, ..Config::default() };
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (sent, received) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        let listener = controller::bind(&config).await.expect("a port");
        sent.send(listener.local_addr().expect("an address")).expect("somebody who waits");
        let live = std::sync::Arc::new(controller::Live::new(config).expect("a configuration"));
        controller::serve(live, listener, std::future::pending()).await.expect("a clean end");
    });
    let url = format!("http://{}", received.recv().expect("an address"));
    (runtime, url)
}

/// Processor time of all threads but the nodes', seconds.
fn controller_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("threads");
    let ticks = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(')')?;
        let name = head.split_once('(')?.1;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // utime and stime are the 14th and 15th of all fields.
        let (user, system): (u64, u64) =
            (fields.get(11)?.parse().ok()?, fields.get(12)?.parse().ok()?);
        (name != STUBS).then_some(user + system)
    };
    let ticks: u64 = tasks.flatten().filter_map(ticks).sum();
    // USER_HZ is 100 wherever Linux runs.
    ticks as f64 / 100.0
}

/// Runs `work` on threads that count as the nodes'.
fn on_stubs<T>(work: impl Future<Output = T>) -> T {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(STUBS)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(work)
}

#[test]
fn masters_lost_at_once_are_all_replaced_and_no_other_is() {
    let shape = Shape { clusters: 4, shards: 5, nodes: 3, lost: vec![10], seconds: 1 };
    on_stubs(async {
        let mut fleet = Fleet::start(shape).await;
        fleet.settled().await;
        let before: Vec<_> = fleet.shards.iter().map(Shard::serving).collect();
        let (outages, figures) = fleet.lose(10).await;
        assert_eq!(outages.len(), 10);
        assert_eq!(figures.without_lease, 0, "a healthy master was without its lease");
        let after: Vec<_> = fleet.shards.iter().map(Shard::serving).collect();
        let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        assert_eq!(changed, 10, "{before:?} {after:?}");
        fleet.end();
    });
}

#[test]
#[ignore = "figures: `make fleet`"]
fn figures() {
    let shape = Shape::asked();
    on_stubs(async {
        let began = Instant::now();
        let empty = resident_mib();
        let mut fleet = Fleet::start(shape.clone()).await;
        fleet.settled().await;
        println!(
            "{} clusters of {} shards of {} nodes, {} nodes in all, created and healthy after {:.1} s; \
             {} MiB more than before, both ends of all connections",
            shape.clusters,
            shape.shards,
            shape.nodes,
            shape.masters() * shape.nodes,
            began.elapsed().as_secs_f64(),
            resident_mib() - empty,
        );
        println!(
            "| | cores | heartbeats/s | µs each | longest silence, ms | without lease | out, ms: median | 99 % | longest |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        let figures = fleet.rest(Duration::from_secs(shape.seconds)).await;
        show("at rest", &figures, &[]);
        for count in &shape.lost {
            let (outages, figures) = fleet.lose(*count).await;
            show(&format!("{count} masters lost"), &figures, &outages);
        }
        fleet.end();
    });
}

fn show(name: &str, figures: &Figures, outages: &[Duration]) {
    let part = |part: f64| {
        let last = outages.len().saturating_sub(1) as f64;
        let at = outages.get((last * part).ceil() as usize);
        at.map_or("–".to_owned(), |time| time.as_millis().to_string())
    };
    println!(
        "| {name} | {:.2} | {:.0} | {:.0} | {} | {} | {} | {} | {} |",
        figures.cores,
        figures.beats_per_second,
        figures.cores * 1e6 / figures.beats_per_second,
        figures.longest_silence.as_millis(),
        figures.without_lease,
        part(0.5),
        part(0.99),
        part(1.0),
    );
}

/// Memory of this process, MiB.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kib: u64 = line.split_whitespace().next().expect("a number").parse().expect("a number");
    kib / 1_024
}
