//! Several controllers on one real etcd, against nodes that only talk.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "the support module is shared by tests, not published"
)]

#[path = "support/etcd.rs"]
mod etcd;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::rest::{Data, Status};
use controller::store::{self, Place};
use controller::{Config, Kind};
use etcd::Etcd;
use serde_json::{Value, json};
use support::fake_balancer::FakeBalancer;
use support::fake_node::{FakeNode, World};
use support::until;
use tokio::runtime::{Builder, Runtime};

/// A controller on threads of its own: dropped, it is gone at once, with its connections, and has
/// said nothing.
struct Process {
    url: String,
    live: Arc<controller::Live>,
    runtime: Option<Runtime>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Process {
    fn start(etcd: &Etcd) -> Self {
        Self::start_with(etcd, Config::default())
    }

    /// The same with more than the place of the store.
    fn start_with(etcd: &Etcd, config: Config) -> Self {
        let config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            store: Kind::Etcd,
            etcd_endpoints: etcd.endpoints(),
            etcd_limit_ms: 500,
            misses: support::MISSES,
            ..config
        };
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (sent, received) = std::sync::mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        runtime.spawn(async move {
            let listener = controller::bind(&config).await.expect("a port");
            let live = Arc::new(controller::Live::new(config).expect("a configuration"));
            let address = listener.local_addr().expect("an address");
            sent.send((address, Arc::clone(&live))).expect("somebody who waits");
            let ended = controller::serve(live, listener, async {
                let _ = stopped.await;
            });
            ended.await.expect("a clean end");
        });
        let (address, live) = received.recv().expect("an address");
        let url = format!("http://{address}");
        Self { url, live, runtime: Some(runtime), stop: Some(stop) }
    }

    /// SIGTERM.
    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> Result<(u16, Value), String> {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let method = method.parse().expect("a method");
        let request = http.request(method, format!("{}/api/v1{path}", self.url)).json(&body);
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    async fn healthy(&self) -> Result<Status, String> {
        let (code, body) = self.call("GET", "/namespaces/n/clusters/c/status", json!({})).await?;
        let told = body.to_string();
        let status = serde_json::from_value::<Data<Status>>(body);
        let status = status.map_err(|_| format!("{code} {told}"))?.data;
        if is_well(&status) { Ok(status) } else { Err(told) }
    }
}

/// Healthy, or nothing is wrong but that etcd was slow: that alarm stays for up to a minute.
fn is_well(status: &Status) -> bool {
    let is_steady = status.shards.iter().all(|shard| {
        shard.state == "steady" && !shard.degraded && shard.nodes.iter().all(|node| node.settled)
    });
    let is_past = status.alarms.iter().all(|alarm| alarm.starts_with("etcd is slow:"));
    let is_in_force = status.balancers.iter().all(|balancer| balancer.in_force);
    status.healthy || (is_past && is_steady && is_in_force)
}

/// kill -9.
impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Site {
    etcd: Etcd,
    controllers: Vec<Process>,
    nodes: Vec<FakeNode>,
    _balancer: FakeBalancer,
    store: store::Etcd,
}

impl Site {
    /// A cluster of three nodes, which serves.
    async fn start(members: usize, controllers: usize) -> Self {
        Self::start_with(members, controllers, 3).await
    }

    /// The same of shards of so many nodes; alone they know slot moves.
    async fn start_with(members: usize, controllers: usize, per_shard: usize) -> Self {
        let etcd = Etcd::start(members).await;
        let place = Place {
            endpoints: etcd.endpoints(),
            limit: Duration::from_secs(10),
            ..Place::default()
        };
        let store = store::Etcd::open(place).await.expect("an etcd");
        let world = World::default();
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let node = FakeNode::start(&world).await;
            if per_shard == 1 {
                node.knows_moves();
            }
            nodes.push(node);
        }
        let balancer = FakeBalancer::start().await;
        let controllers: Vec<_> = (0..controllers).map(|_| Process::start(&etcd)).collect();
        let spec = json!({
            "name": "c",
            "nodes": nodes.iter().zip(7000..).map(|(node, port)| json!({
                "addr": node.address(), "announced_host": "lb.test", "announced_port": port,
            })).collect::<Vec<_>>(),
            "commit_mode": "async",
            "replicas": per_shard,
            "balancers": [{
                "name": "b", "kind": "builtin", "endpoint": balancer.url(), "source": "127.0.0.2",
            }],
        });
        let site = Self { etcd, controllers, nodes, _balancer: balancer, store };
        site.made("/namespaces", json!({ "namespace": "n" })).await;
        site.made("/namespaces/n/clusters", spec).await;
        site.is_healthy(0).await;
        site
    }

    /// Asks the first controller until somebody has made it.
    async fn made(&self, path: &str, body: Value) {
        until("something to be made", || async {
            let (code, answer) = self.controllers[0].call("POST", path, body.clone()).await?;
            if matches!(code, 201 | 409) { Ok(()) } else { Err(format!("{code} {answer}")) }
        })
        .await;
    }

    async fn is_healthy(&self, by: usize) -> Status {
        until("a healthy cluster", || self.controllers[by].healthy()).await
    }

    async fn leader(&self) -> usize {
        self.leads().await.0
    }

    /// The leader, and its term.
    async fn leads(&self) -> (usize, u64) {
        until("a leader", || async {
            let leader = self.store.leader().await.map_err(|error| error.to_string())?;
            let leader = leader.ok_or("none yet")?;
            let of = self.controllers.iter().position(|of| of.url == leader.address);
            of.map(|of| (of, leader.term)).ok_or_else(|| format!("{leader:?}"))
        })
        .await
    }

    /// Waits until the moves are as wanted, as one of the controllers tells.
    async fn moves(&self, by: usize, what: &str, is_so: fn(&Value) -> bool) {
        until(what, || async {
            let path = "/namespaces/n/clusters/c/moves";
            let (_, body) = self.controllers[by].call("GET", path, json!({})).await?;
            if is_so(&body["data"]) { Ok(()) } else { Err(body.to_string()) }
        })
        .await;
    }

    async fn serves(&self, nodes: &[usize]) -> usize {
        until("a node to take a write", || async {
            nodes.iter().copied().find(|at| self.nodes[*at].write()).ok_or_else(|| "none".into())
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_controller_answers_for_the_one_that_leads() {
    let site = Site::start(1, 3).await;
    let leader = site.leader().await;
    for controller in 0..3 {
        site.is_healthy(controller).await;
    }
    let follower = &site.controllers[(leader + 1) % 3];
    let path = "/namespaces/n/clusters/c";
    // An etcd that is late is an error that says so.
    until("a change by way of a follower", || async {
        let (code, body) = follower.call("PATCH", path, json!({ "max_lag": 7 })).await?;
        if code == 200 { Ok(()) } else { Err(format!("{code} {body}")) }
    })
    .await;
    until("the leader to know it", || async {
        let (code, body) = site.controllers[leader].call("GET", path, json!({})).await?;
        let is_known = code == 200 && body["data"]["cluster"]["max_lag"] == 7;
        if is_known { Ok(()) } else { Err(format!("{code} {body}")) }
    })
    .await;
    // One hop; and those who stand by see no shard that anybody should be woken for. On a busy
    // machine another one may come to lead meanwhile.
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let get = async |url: String| {
        let asked = http.get(url).header("X-Holdfast-Passed-On", "1").send().await;
        let answer = asked.map_err(|error| error.to_string())?;
        let code = answer.status().as_u16();
        answer.text().await.map(|text| (code, text)).map_err(|error| error.to_string())
    };
    until("each to know its place", || async {
        let leader = site.leader().await;
        let follower = &site.controllers[(leader + 1) % 3];
        let (code, _) = get(format!("{}/api/v1{path}", follower.url)).await?;
        let mut tell = Vec::new();
        for controller in &site.controllers {
            let (_, page) = get(format!("{}/metrics", controller.url)).await?;
            tell.push(page.contains("holdfast_controller_shard_state{"));
        }
        let is_leader: Vec<bool> = (0..3).map(|place| place == leader).collect();
        let is_so = code == 503 && tell == is_leader;
        if is_so { Ok(()) } else { Err(format!("{code}; {leader} leads; {tell:?}")) }
    })
    .await;
    until("an overview that is not sent twice", || async {
        let overview = async |has: &str| {
            let asked = http.get(format!("{}/api/v1/overview", follower.url));
            let answer = asked.header("If-None-Match", has).send().await;
            let answer = answer.map_err(|error| error.to_string())?;
            let tag = answer.headers().get("ETag").and_then(|tag| tag.to_str().ok());
            Ok::<_, String>((answer.status().as_u16(), tag.unwrap_or_default().to_owned()))
        };
        let (first, tag) = overview("").await?;
        let (again, same) = overview(&tag).await?;
        let is_so = (first, again) == (200, 304) && tag == same;
        if is_so { Ok(()) } else { Err(format!("{first} {tag}, {again} {same}")) }
    })
    .await;
    // Nothing is written while nothing happens.
    until("a second without a write", || async {
        let before = site.store.look(0).await.expect("a look").revision;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let idle = site.store.look(0).await.expect("a look").revision;
        if idle == before { Ok(()) } else { Err(format!("{} writes", idle - before)) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn master_and_leading_controller_killed_together_are_both_replaced() {
    let mut site = Site::start(1, 3).await;
    let (leader, term) = site.leads().await;
    let master = site.serves(&[0, 1, 2]).await;
    let rest: Vec<usize> = (0..3).filter(|at| *at != master).collect();
    // Where the leader has heard of the write, no node without it takes over.
    until("the replicas to have the write", || async {
        let sequence = |at: &usize| site.nodes[*at].inside.lock().sequence;
        let had = sequence(&master);
        if rest.iter().all(|at| sequence(at) == had) { Ok(()) } else { Err(had.to_string()) }
    })
    .await;
    let began = Instant::now();
    drop(site.controllers.remove(leader));
    site.nodes[master].kill().await;
    site.serves(&rest).await;
    eprintln!("master and leading controller killed together: {:?}", began.elapsed());
    let next = site.store.leader().await.expect("a read").expect("a leader");
    assert!(next.term > term, "{next:?} after {term}");
    site.nodes[master].restart().await;
    site.is_healthy(0).await;
    site.is_healthy(1).await;
    assert!(!site.nodes[master].write(), "it follows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_ends_leaves_the_lead_vacant() {
    let mut site = Site::start(1, 2).await;
    let (leader, term) = site.leads().await;
    let began = Instant::now();
    site.controllers[leader].end();
    let ended = site.controllers.remove(leader);
    let (next, later) = site.leads().await;
    eprintln!("a leader that ends is replaced after {:?}", began.elapsed());
    assert!(later > term, "{later} after {term}");
    site.is_healthy(next).await;
    drop(ended);
}

/// It reaches the store, and its REST port answers: nothing but what it hears says against it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_no_node_gives_way_to_one_that_does() {
    let site = Site::start(1, 2).await;
    let (leader, term) = site.leads().await;
    for node in &site.nodes {
        node.inside.lock().cut_from = Some(term);
    }
    until("the other to lead", || async {
        let now = site.store.leader().await.map_err(|error| error.to_string())?;
        let is_other =
            now.as_ref().is_some_and(|now| now.address == site.controllers[1 - leader].url);
        if is_other { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    site.is_healthy(1 - leader).await;
    site.serves(&[0, 1, 2]).await;
}

/// Behind a cut each takes the other to be gone. Here that is all that either sees: ports take
/// connections and say nothing, and nodes do not say whom they hear.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_heard_by_way_of_the_store_alone_keeps_the_lead_while_it_reaches_nodes() {
    let site = Site::start(1, 2).await;
    site.nodes.iter().for_each(|node| node.inside.lock().hides_leader = true);
    let folder = tempfile::tempdir().expect("a folder");
    let mut silent = Vec::new();
    for (controller, name) in site.controllers.iter().zip(["a", "b"]) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", port.local_addr().expect("an address"));
        let path = folder.path().join(name);
        let text = format!(
            "store = 'etcd'\netcd_endpoints = {:?}\nadvertise = {url:?}\n",
            site.etcd.endpoints()
        );
        std::fs::write(&path, text).expect("a file");
        controller.live.reload(&path).expect("a configuration");
        silent.push((url, port));
    }
    // Each claims once in two seconds at most: without an answer no leader would last so long.
    let first = until("five seconds under one leader that says that it lives", || async {
        let first = site.store.leader().await.map_err(|error| error.to_string())?;
        let first = first.ok_or("nobody leads")?;
        if silent.iter().all(|(url, _)| *url != first.address) {
            return Err(format!("{first:?}"));
        }
        let mut answers = 0;
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let look = site.store.look(0).await.map_err(|error| error.to_string())?;
            if look.leader.as_ref() != Some(&first) {
                return Err(format!("{:?} after {first:?}", look.leader));
            }
            answers += usize::from(look.doubt.asked().reaches == Some(3));
        }
        if answers > 0 { Ok(first) } else { Err("nobody was answered".to_owned()) }
    })
    .await;
    for node in &site.nodes {
        node.inside.lock().cut_from = Some(first.term);
    }
    until("the other to lead", || async {
        let now = site.store.leader().await.map_err(|error| error.to_string())?;
        let is_other = now.as_ref().is_some_and(|now| {
            now.address != first.address && silent.iter().any(|(url, _)| *url == now.address)
        });
        if is_other { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
}

/// As a later version writes it. It hides no other cluster, from a standby or from a leader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_read_is_told_of_and_holds_up_no_other() {
    let mut site = Site::start(1, 2).await;
    let leader = site.leader().await;
    let (record, tag) = ("/holdfast/clusters/n/later", "/holdfast/tags/n/later");
    site.etcd.put(tag, "1").await;
    site.etcd.put(record, "{\"shards\": 7}").await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let told = async |of: &Process| {
        let answer = http.get(format!("{}/healthz", of.url)).send().await;
        let answer = answer.map_err(|error| error.to_string())?;
        let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
        let is_told = status == 503 && text.contains("n/later");
        if is_told { Ok(()) } else { Err(format!("{status} {text}")) }
    };
    until("the standby to tell of it", || told(&site.controllers[1 - leader])).await;
    drop(site.controllers.remove(leader));
    let next = &site.controllers[0];
    until("the standby to lead", || async {
        let leader = site.store.leader().await.map_err(|error| error.to_string())?;
        let is_next = leader.as_ref().is_some_and(|leader| leader.address == next.url);
        if is_next { Ok(()) } else { Err(format!("{leader:?}")) }
    })
    .await;
    // One cluster is served, and says what keeps its controller from the other.
    let of = |name: &str| format!("/namespaces/n/clusters/{name}");
    until("an alarm", || async {
        let (code, body) = next.call("GET", &format!("{}/status", of("c")), json!({})).await?;
        let alarms = body["data"]["alarms"].to_string();
        if code == 200 && alarms.contains("n/later") { Ok(()) } else { Err(body.to_string()) }
    })
    .await;
    site.serves(&[0, 1, 2]).await;
    let (code, body) = next.call("GET", &of("later"), json!({})).await.expect("an answer");
    assert_eq!(code, 503, "{body}");
    let page = http.get(format!("{}/metrics", next.url)).send().await.expect("a page");
    let page = page.text().await.expect("a page");
    assert!(page.contains("\nholdfast_controller_unread_records 1\n"), "{page}");
    assert!(page.contains("\nholdfast_controller_etcd_raft_term "), "{page}");

    site.etcd.remove(record).await;
    site.etcd.remove(tag).await;
    site.is_healthy(0).await;
}

/// Long before nothing of it can be changed any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_takes_half_of_a_request_to_etcd_is_told_of() {
    let mut site = Site::start(1, 1).await;
    let status = site.is_healthy(0).await;
    assert!(status.record_bytes.is_some_and(|bytes| bytes > 512), "{:?}", status.record_bytes);
    let small = Config { etcd_max_request_bytes: 1_024, ..Config::default() };
    site.controllers.push(Process::start_with(&site.etcd, small));
    drop(site.controllers.remove(0));
    let next = &site.controllers[0];
    until("an alarm", || async {
        let path = "/namespaces/n/clusters/c/status";
        let (_, body) = next.call("GET", path, json!({})).await?;
        let is_told = body["data"]["alarms"].to_string().contains("1 KiB, as `etcd_max_request");
        if is_told { Ok(()) } else { Err(body.to_string()) }
    })
    .await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let page = http.get(format!("{}/metrics", next.url)).send().await.expect("a page");
    let page = page.text().await.expect("a page");
    for row in [
        "\nholdfast_controller_etcd_request_max_bytes 1024\n",
        "\nholdfast_controller_record_bytes{cluster=\"n/c\"} ",
    ] {
        assert!(page.contains(row), "{page}");
    }
}

/// What standbys pass on goes to the URL of the claim: one that is not right any more is not kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_reached_elsewhere_after_sighup_says_so() {
    let site = Site::start(1, 1).await;
    site.leader().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("controller.toml");
    let elsewhere = site.controllers[0].url.replace("127.0.0.1", "localhost");
    let text = format!(
        "store = 'etcd'\netcd_endpoints = {:?}\nadvertise = {elsewhere:?}\n",
        site.etcd.endpoints()
    );
    std::fs::write(&path, text).expect("a file");
    let reloaded = site.controllers[0].live.reload(&path).expect("a configuration");
    assert_eq!(reloaded.changed, ["advertise"]);
    until("the lead to be claimed anew", || async {
        let leader = site.store.leader().await.map_err(|error| error.to_string())?;
        let is_there = leader.as_ref().is_some_and(|leader| leader.address == elsewhere);
        if is_there { Ok(()) } else { Err(format!("{leader:?}")) }
    })
    .await;
    site.is_healthy(0).await;
    site.serves(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_etcd_that_dies_changes_nothing_and_an_etcd_that_was_away_is_taken_up_again() {
    let mut site = Site::start(3, 2).await;
    let master = site.serves(&[0, 1, 2]).await;
    let leader = site.leader().await;
    for member in 0..3 {
        site.etcd.kill(member);
        site.is_healthy(leader).await;
        site.etcd.start_again().await;
    }
    let version = site.is_healthy(leader).await.version;
    for member in 0..3 {
        site.etcd.kill(member);
    }
    until("the controllers to notice", || async {
        match site.controllers[leader].healthy().await {
            Ok(_) => Err("healthy".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
    site.etcd.start_again().await;
    let status = site.is_healthy(leader).await;
    assert_eq!(status.version, version, "nobody was replaced");
    assert_eq!(site.serves(&[0, 1, 2]).await, master);
}

/// The record has no term of its own on such a store: orders are of the leader's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_leader_carries_a_move_to_its_end() {
    let mut site = Site::start_with(1, 2, 1).await;
    let stuck = |site: &Site, is_stuck| {
        let mut inside = site.nodes[1].inside.lock();
        inside.mover.as_mut().expect("a mover").is_stuck = is_stuck;
    };
    stuck(&site, true);
    let (leader, term) = site.leads().await;
    until("epochs", || async {
        let status = site.controllers[leader].healthy().await?;
        let epochs: Vec<u64> = status.shards.iter().map(|shard| shard.epoch).collect();
        if epochs.iter().all(|epoch| *epoch > 0) { Ok(()) } else { Err(format!("{epochs:?}")) }
    })
    .await;
    let path = "/namespaces/n/clusters/c/moves";
    let wish = json!({"slots": "0-9", "to": "1"});
    site.made(path, wish).await;
    site.moves(leader, "the copy", |moves| moves["moves"][0]["state"] == "copy").await;
    drop(site.controllers.remove(leader));
    stuck(&site, false);
    let is_done =
        |moves: &Value| moves["done"][0]["id"] == 1 && moves["done"][0]["error"].is_null();
    site.moves(0, "the end", is_done).await;
    let freezes: Vec<String> = {
        let inside = site.nodes[0].inside.lock();
        let obeyed = &inside.mover.as_ref().expect("a mover").obeyed;
        obeyed.iter().filter(|word| word.ends_with("freeze")).cloned().collect()
    };
    let is_later = |order: &String| {
        let of = order.split(' ').nth(1).and_then(|of| of.parse::<u64>().ok());
        of > Some(term)
    };
    let all_later = freezes.iter().all(is_later);
    assert!(!freezes.is_empty() && all_later, "{freezes:?}: of a term after {term}");
    until("the taker to take a write", || async {
        assert!(!site.nodes[0].write_to(9), "both do, or the giver");
        site.nodes[1].write_to(9).then_some(()).ok_or("refused".into())
    })
    .await;
}
