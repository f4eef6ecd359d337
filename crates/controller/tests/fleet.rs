//! The controller at scale: very many nodes that only talk, what they cost it, and how long it
//! takes to replace many masters that are lost at one moment.
//!
//! `make test` runs it small. `make fleet` prints its figures: `CLUSTERS` clusters of `SHARDS`
//! shards of `NODES` nodes each, `LOST` masters lost at once (several numbers: one after the
//! other), `SECONDS` at rest, each `ROUNDS` times. `STORE=etcd`: `CONTROLLERS` of them on three
//! real members of etcd.

#![allow(
    unreachable_pub,
    dead_code,
    clippy::print_stdout,
    reason = "the support module is shared by tests, not published; figures are what it is for"
)]

#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/etcd.rs"]
mod etcd;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use api::heartbeat::Role;
use controller::store::{self, Place};
use controller::{Config, Kind};
use etcd::Etcd;
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
/// Files that a node or a balancer needs: it listens, and one to spare.
const FILES_EACH: u64 = 2;
/// And for each controller: both ends of a connection.
const FILES_PER_CONTROLLER: u64 = 2;
/// Members of the etcd of the figures.
const MEMBERS: usize = 3;
/// Limit of a controller's call to etcd in tests, which share the processor with others, ms.
const TEST_LIMIT_MS: u64 = 500;

/// How many there are of what.
#[derive(Debug, Clone)]
struct Shape {
    clusters: usize,
    shards: usize,
    nodes: usize,
    lost: Vec<usize>,
    seconds: u64,
    rounds: usize,
    led: Led,
}

/// By whom all of them are led.
#[derive(Debug, Clone, Copy)]
struct Led {
    controllers: usize,
    /// Of etcd; none: a file of the only controller.
    members: usize,
    /// Limit of a controller's call to etcd, ms.
    limit_ms: u64,
    /// Heartbeats that a node may miss.
    misses: u32,
}

impl Led {
    /// In tests.
    const BY_ONE: Self =
        Self { controllers: 1, members: 0, limit_ms: TEST_LIMIT_MS, misses: support::MISSES };

    /// From the environment.
    fn asked(controllers: Option<usize>) -> Self {
        let store = std::env::var("STORE").unwrap_or_else(|_| "embedded".to_owned());
        let members = match store.as_str() {
            "embedded" => 0,
            "etcd" => MEMBERS,
            other => panic!("STORE: `{other}` is neither embedded nor etcd"),
        };
        let controllers = controllers.unwrap_or(if members == 0 { 1 } else { 3 });
        assert!(controllers == 1 || members > 0, "several controllers need STORE=etcd");
        let Config { etcd_limit_ms: limit_ms, misses, .. } = Config::default();
        Self { controllers, members, limit_ms, misses }
    }
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
        let controllers = std::env::var_os("CONTROLLERS").map(|_| one("CONTROLLERS", "1"));
        Self {
            clusters: one("CLUSTERS", "100"),
            shards: one("SHARDS", "10"),
            nodes: one("NODES", "3"),
            lost: words("LOST", "1,100,500"),
            seconds: one("SECONDS", "20") as u64,
            rounds: one("ROUNDS", "1"),
            led: Led::asked(controllers),
        }
    }
}

/// One shard's nodes; the first was its first master.
struct Shard {
    nodes: Vec<FakeNode>,
}

impl Shard {
    /// Its master, whether or not it has a lease at this moment.
    fn master(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.inside.lock().role() == Role::Master)
    }

    /// The node that may serve now.
    fn serving(&self) -> Option<usize> {
        self.nodes.iter().position(FakeNode::serves)
    }
}

/// A controller on threads of its own: it is measured by them. Gone at once when dropped.
struct Controller {
    url: String,
    /// Those that it began with: what it starts later is a few of a pool's.
    threads: BTreeSet<u64>,
    runtime: Option<Runtime>,
}

/// kill -9.
impl Drop for Controller {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Fleet {
    shape: Shape,
    shards: Vec<Shard>,
    _balancers: Vec<FakeBalancer>,
    http: reqwest::Client,
    /// Before the etcd, which they need while they end.
    controllers: Vec<Controller>,
    store: Option<store::Etcd>,
    etcd: Option<Etcd>,
    _folder: tempfile::TempDir,
}

/// What had happened until a moment.
struct Mark {
    at: Instant,
    /// Processor time of each thread, seconds.
    threads: BTreeMap<u64, f64>,
    /// The same of all members of etcd.
    etcd: f64,
    beats: u64,
    /// Of etcd: a number for each write.
    revision: i64,
    term: u64,
    /// URL of the controller that leads.
    leader: String,
}

/// What was seen in one stretch of time.
struct Figures {
    /// Of the controller that leads.
    cores: f64,
    /// Of all controllers.
    cores_of_all: f64,
    beats_per_second: f64,
    longest_silence: Duration,
    /// Looks at which a healthy master had no lease.
    without_lease: usize,
    of_etcd: Option<OfEtcd>,
}

/// What an etcd saw meanwhile.
struct OfEtcd {
    cores: f64,
    writes: i64,
    writes_per_second: f64,
    /// How often another controller took the lead.
    claims: u64,
}

impl Fleet {
    async fn start(shape: Shape) -> Self {
        let nodes = shape.masters() * shape.nodes;
        let each = FILES_EACH + FILES_PER_CONTROLLER * shape.led.controllers as u64;
        let wanted = each * (nodes + shape.clusters) as u64 + 1_000;
        let files = limits::raise_open_files(wanted).expect("the limit of open files");
        assert!(
            files.soft >= wanted,
            "{nodes} nodes need {wanted} files, {} are allowed",
            files.soft
        );
        let folder = tempfile::tempdir().expect("a folder");
        let etcd = match shape.led.members {
            0 => None,
            members => Some(Etcd::start(members).await),
        };
        let store = match &etcd {
            None => None,
            Some(etcd) => {
                let limit = Duration::from_secs(10);
                let place = Place { endpoints: etcd.endpoints(), limit, ..Place::default() };
                Some(store::Etcd::open(place).await.expect("an etcd"))
            }
        };
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut controllers = Vec::new();
        for _ in 0..shape.led.controllers {
            controllers.push(start_controller(&folder, etcd.as_ref(), shape.led));
        }
        let mut fleet = Self {
            shape,
            shards: Vec::new(),
            _balancers: Vec::new(),
            http,
            controllers,
            store,
            etcd,
            _folder: folder,
        };
        fleet.make("/namespaces", json!({"namespace": "n"})).await;
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
        self.make("/namespaces/n/clusters", spec).await;
        self._balancers.push(balancer);
    }

    /// Of several controllers none may lead yet, and an etcd may be slow to say that it is made.
    async fn make(&self, path: &str, body: Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (code, answer) = self.call("POST", path, body.clone()).await;
            if code == 201 || (self.store.is_some() && code == 409) {
                return;
            }
            let may_wait = self.store.is_some() && Instant::now() < deadline;
            assert!(may_wait, "{path}: {code} {answer}");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let method = method.parse().expect("a method");
        // Whichever leads: the others pass it on.
        let url = format!("{}/api/v1{path}", self.controllers[0].url);
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

    async fn mark(&self) -> Mark {
        let (mut revision, mut term, mut leader) = (0, 0, self.controllers[0].url.clone());
        if let Some(store) = &self.store {
            let look = store.look(0).await.expect("a look");
            let now = look.leader.expect("a leader");
            (revision, term, leader) = (look.revision, now.term, now.address);
        }
        let pids = self.etcd.as_ref().map(Etcd::pids).unwrap_or_default();
        let etcd = pids.iter().filter_map(|pid| cpu::of_process(*pid)).sum();
        let (at, threads, beats) = (Instant::now(), cpu::threads(STUBS), self.beats());
        Mark { at, threads, etcd, beats, revision, term, leader }
    }

    /// What has happened since a mark.
    async fn since(&self, began: &Mark) -> Figures {
        // First of all: what is read of etcd takes its time.
        let (time, after) = (began.at.elapsed().as_secs_f64(), cpu::threads(STUBS));
        let beats = self.beats();
        let now = self.mark().await;
        let leads = self.controllers.iter().find(|of| of.url == began.leader);
        let is_leading = |id: &u64| leads.is_some_and(|of| of.threads.contains(id));
        let (mut leading, mut all) = (0.0, 0.0);
        for (id, seconds) in &after {
            let spent = seconds - began.threads.get(id).copied().unwrap_or(0.0);
            all += spent;
            leading += if self.controllers.len() == 1 || is_leading(id) { spent } else { 0.0 };
        }
        let writes = now.revision - began.revision;
        let of_etcd = self.etcd.as_ref().map(|_| OfEtcd {
            cores: (now.etcd - began.etcd) / time,
            writes,
            writes_per_second: writes as f64 / time,
            claims: now.term - began.term,
        });
        Figures {
            cores: leading / time,
            cores_of_all: all / time,
            beats_per_second: (beats - began.beats) as f64 / time,
            longest_silence: Duration::ZERO,
            without_lease: 0,
            of_etcd,
        }
    }

    /// Looks at all shards but `lost` until `is_over`.
    async fn watch(
        &self,
        began: &Mark,
        lost: &BTreeSet<usize>,
        mut is_over: impl FnMut() -> bool,
    ) -> Figures {
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
        Figures { longest_silence, without_lease, ..self.since(began).await }
    }

    /// All do nothing but live.
    async fn rest(&self, time: Duration) -> Figures {
        let began = self.mark().await;
        self.watch(&began, &BTreeSet::new(), || began.at.elapsed() >= time).await
    }

    /// Loses so many masters at one moment; until when each shard served again, the longest last,
    /// and what the others saw meanwhile.
    async fn lose(&mut self, count: usize) -> (Vec<Duration>, Figures) {
        // Spread over all clusters.
        let step = self.shards.len() / count;
        let lost: BTreeSet<usize> = (0..count).map(|number| number * step).collect();
        let mark = self.mark().await;
        // One whose lease is over for a moment is not lost by that.
        self.all_serve("every shard to serve").await;
        let master = |index: &usize| (*index, self.shards[*index].master().expect("a master"));
        let places: Vec<(usize, usize)> = lost.iter().map(master).collect();
        let began = Instant::now();
        for (index, place) in &places {
            self.shards[*index].nodes[*place].kill().await;
        }
        let mut outages: Vec<Duration> = Vec::new();
        let mut open = lost.clone();
        let figures = self
            .watch(&mark, &lost, || {
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

    /// Waits until the controller that leads calls every cluster healthy.
    async fn settled(&self) {
        let deadline = Instant::now() + PATIENCE;
        for number in 0..self.shape.clusters {
            let path = format!("/namespaces/n/clusters/c{number}/status");
            loop {
                let (_, body) = self.call("GET", &path, json!({})).await;
                if is_well(&body["data"]) {
                    break;
                }
                assert!(Instant::now() < deadline, "waited for a healthy cluster; last: {body}");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Healthy, or nothing is wrong but that etcd was slow: that alarm stays for up to a minute.
fn is_well(status: &Value) -> bool {
    let all = |list: &Value, is_so: &dyn Fn(&Value) -> bool| {
        list.as_array().is_some_and(|list| list.iter().all(is_so))
    };
    let is_past =
        |alarm: &Value| alarm.as_str().is_some_and(|text| text.starts_with("etcd is slow:"));
    let is_settled = |node: &Value| node["settled"] == true;
    let is_steady = |shard: &Value| {
        shard["state"] == "steady"
            && shard["degraded"] == false
            && all(&shard["nodes"], &is_settled)
    };
    let is_in_force = |balancer: &Value| balancer["in_force"] == true;
    status["healthy"] == true
        || (all(&status["alarms"], &is_past)
            && all(&status["shards"], &is_steady)
            && all(&status["balancers"], &is_in_force))
}

/// A controller that listens.
fn start_controller(folder: &tempfile::TempDir, etcd: Option<&Etcd>, led: Led) -> Controller {
    let data = folder.path().join("store.redb");
    let (listen, misses) = (([127, 0, 0, 1], 0).into(), led.misses);
    let config = match etcd {
        None => Config { data, listen, misses, ..Config::default() },
        Some(etcd) => Config {
            listen,
            store: Kind::Etcd,
            etcd_endpoints: etcd.endpoints(),
            etcd_limit_ms: led.limit_ms,
            misses,
            ..Config::default()
        },
    };
    let before = cpu::threads(STUBS);
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (sent, received) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        let listener = controller::bind(&config).await.expect("a port");
        sent.send(listener.local_addr().expect("an address")).expect("somebody who waits");
        let live = std::sync::Arc::new(controller::Live::new(config).expect("a configuration"));
        controller::serve(live, listener, std::future::pending()).await.expect("a clean end");
    });
    let address = received.recv().expect("an address");
    // Its heartbeats have threads that begin when it has opened its store.
    let answers = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new())
    };
    let deadline = Instant::now() + PATIENCE;
    while !answers().is_ok_and(|length| length > 0) {
        assert!(Instant::now() < deadline, "a controller does not answer");
    }
    let after = cpu::threads(STUBS).into_keys();
    let threads = after.filter(|id| !before.contains_key(id)).collect();
    Controller { url: format!("http://{address}"), threads, runtime: Some(runtime) }
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

/// Loses so many masters, and looks that these and no others were replaced.
async fn lose_and_look(fleet: &mut Fleet, count: usize) -> Figures {
    fleet.settled().await;
    fleet.all_serve("every shard to serve").await;
    let before: Vec<_> = fleet.shards.iter().map(Shard::master).collect();
    let (outages, figures) = fleet.lose(count).await;
    assert_eq!(outages.len(), count);
    fleet.all_serve("every shard to serve again").await;
    let after: Vec<_> = fleet.shards.iter().map(Shard::master).collect();
    let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert_eq!(changed, count, "{before:?} {after:?}");
    figures
}

#[test]
fn masters_lost_at_once_are_all_replaced_and_no_other_is() {
    let (lost, led) = (vec![10], Led::BY_ONE);
    let shape = Shape { clusters: 4, shards: 5, nodes: 3, lost, seconds: 1, rounds: 1, led };
    on_stubs(async {
        let mut fleet = Fleet::start(shape).await;
        // A busy machine may be late with a lease once; whatever so many losses delay is so each
        // time.
        let mut without_lease = Vec::new();
        for _ in 0..5 {
            let figures = lose_and_look(&mut fleet, 10).await;
            assert!(figures.of_etcd.is_none());
            without_lease.push(figures.without_lease);
            if figures.without_lease == 0 {
                return;
            }
        }
        panic!("healthy masters were without their lease: {without_lease:?} looks");
    });
}

#[test]
fn a_fleet_on_etcd_is_led_by_one_of_several_and_costs_no_write_while_it_rests() {
    let led = Led { controllers: 2, members: 1, ..Led::BY_ONE };
    let lost = vec![2];
    let shape = Shape { clusters: 2, shards: 2, nodes: 3, lost, seconds: 1, rounds: 1, led };
    on_stubs(async {
        let mut fleet = Fleet::start(shape).await;
        let figures = lose_and_look(&mut fleet, 2).await;
        let writes = figures.of_etcd.map(|of| of.writes);
        assert!(writes.is_some_and(|writes| writes >= 2), "a swap for each cluster: {writes:?}");
        let rests = support::until("a second without a write", || async {
            let figures = fleet.rest(Duration::from_secs(1)).await;
            match figures.of_etcd.as_ref().map(|of| of.writes) {
                Some(0) => Ok(figures),
                writes => Err(format!("{writes:?} writes")),
            }
        });
        assert!(rests.await.beats_per_second > 0.0, "it is led");
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
            "{} clusters of {} shards of {} nodes, {} nodes in all, {} controllers, {} members of etcd, created and \
             healthy after {:.1} s; {} MiB more than before, both ends of all connections",
            shape.clusters,
            shape.shards,
            shape.nodes,
            shape.masters() * shape.nodes,
            shape.led.controllers,
            shape.led.members,
            began.elapsed().as_secs_f64(),
            resident_mib() - empty,
        );
        println!(
            "| | leader's cores | all controllers' | etcd's | writes/s | claims | heartbeats/s | µs each | longest silence, \
             ms | without lease | out, ms: median | 99 % | longest |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
        let mut rests = Vec::new();
        for _ in 0..shape.rounds {
            let figures = fleet.rest(Duration::from_secs(shape.seconds)).await;
            show("at rest", &figures, &[]);
            rests.push(figures);
        }
        let mut longest = Vec::new();
        for count in &shape.lost {
            let mut of_count = Vec::new();
            for _ in 0..shape.rounds {
                let (outages, figures) = fleet.lose(*count).await;
                show(&format!("{count} masters lost"), &figures, &outages);
                of_count.extend(outages.last().map(Duration::as_secs_f64));
            }
            longest.push((*count, of_count));
        }
        sum_up(&rests, &longest);
    });
}

/// Median and worst of several rounds.
fn sum_up(rests: &[Figures], longest: &[(usize, Vec<f64>)]) {
    if rests.len() < 2 {
        return;
    }
    println!("\n| {} rounds each | median | worst |\n|---|---|---|", rests.len());
    let line = |what: &str, of: Vec<f64>| {
        let mut sorted = of;
        sorted.sort_by(f64::total_cmp);
        if let (Some(median), Some(worst)) = (sorted.get(sorted.len() / 2), sorted.last()) {
            println!("| {what} | {median:.2} | {worst:.2} |");
        }
    };
    let of_all = |of: fn(&Figures) -> f64| -> Vec<f64> { rests.iter().map(of).collect() };
    line("at rest: leader's cores", of_all(|figures| figures.cores));
    line("at rest: all controllers' cores", of_all(|figures| figures.cores_of_all));
    let of_etcd = |of: fn(&OfEtcd) -> f64| -> Vec<f64> {
        rests.iter().filter_map(|figures| figures.of_etcd.as_ref()).map(of).collect()
    };
    line("at rest: etcd's cores", of_etcd(|of| of.cores));
    line("at rest: writes/s at etcd", of_etcd(|of| of.writes_per_second));
    for (count, seconds) in longest {
        line(&format!("{count} masters lost: the last writable after, s"), seconds.clone());
    }
}

fn show(name: &str, figures: &Figures, outages: &[Duration]) {
    let part = |part: f64| {
        let last = outages.len().saturating_sub(1) as f64;
        let at = outages.get((last * part).ceil() as usize);
        at.map_or("–".to_owned(), |time| time.as_millis().to_string())
    };
    let of_etcd = figures
        .of_etcd
        .as_ref()
        .map(|of| format!("{:.2} | {:.1} | {}", of.cores, of.writes_per_second, of.claims));
    println!(
        "| {name} | {:.2} | {:.2} | {} | {:.0} | {:.0} | {} | {} | {} | {} | {} |",
        figures.cores,
        figures.cores_of_all,
        of_etcd.unwrap_or_else(|| "– | – | –".to_owned()),
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
