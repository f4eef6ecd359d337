//! The real controller against nodes and a balancer that only talk.

#![allow(unreachable_pub, reason = "the support module is shared by tests, not published")]

mod support;

use serde_json::json;
use support::fake_node::FakeNode;
use support::{Controller, Stage, until};

/// Leases that last longer than a node may be silent, ms.
const LONG: u64 = 4_000;

async fn written(node: &FakeNode, count: usize) {
    for _ in 0..count {
        until("a write", || async { node.write().then_some(()).ok_or("refused".into()) }).await;
    }
}

/// A frontend follows a moment after the answer that makes a status healthy: what is seen comes
/// before what is done.
async fn leads(stage: &Stage, port: u16, node: Option<usize>) {
    until("a frontend to lead there", || async {
        let found = stage.behind(port);
        if found == node { Ok(()) } else { Err(format!("{port} leads to {found:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_new_cluster_serves_behind_its_balancer() {
    let stage = Stage::new(2).await;
    let status = stage.create().await;
    assert_eq!(status.version, 1);
    leads(&stage, 7000, Some(0)).await;
    leads(&stage, 7001, Some(1)).await;
    written(&stage.nodes[0], 3).await;
    assert!(!stage.nodes[1].write());
}

#[tokio::test]
async fn a_killed_master_is_cut_off_replaced_and_follows_when_it_returns() {
    let mut stage = Stage::new(3).await;
    stage.create().await;
    written(&stage.nodes[0], 5).await;
    let old = stage.nodes[0].id();
    stage.replicated(5).await;
    stage.nodes[0].kill().await;
    let status = stage
        .controller
        .until("a new master", |status| {
            status.shards[0].state == "steady" && status.shards[0].nodes[0].role == "slave"
        })
        .await;
    assert!(status.version >= 2);
    let new = until("the endpoint to move", || async {
        stage.behind(7000).filter(|node| *node != 0).ok_or("closed".into())
    })
    .await;
    written(&stage.nodes[new], 1).await;
    // Closed to begin with it is anyway, and may be told so, or of its first node at once.
    let history = stage.balancer.history(7000);
    let led: Vec<_> = history.into_iter().skip_while(Option::is_none).collect();
    let wanted = [Some(old.clone()), None, Some(stage.nodes[new].id())];
    assert_eq!(led, wanted, "closed before it leads elsewhere");
    stage.nodes[0].restart().await;
    stage.controller.until("the old master to follow", |status| status.healthy).await;
    assert!(!stage.nodes[0].write());
    leads(&stage, 7000 + u16::try_from(new).expect("small"), Some(0)).await;
}

#[tokio::test]
async fn without_its_balancer_a_stopped_master_is_fenced_by_its_lease() {
    let stage = Stage::with_leases(2, LONG).await;
    stage.create().await;
    written(&stage.nodes[0], 1).await;
    stage.replicated(1).await;
    stage.balancer.set_reachable(false);
    stage.nodes[0].set_running(false);
    until("the replica to serve", || async {
        stage.nodes[1].write().then_some(()).ok_or("refused".into())
    })
    .await;
    stage.nodes[0].set_running(true);
    assert!(!stage.nodes[0].write(), "its lease is over");
    stage.balancer.set_reachable(true);
    stage.controller.until("everything to settle", |status| status.healthy).await;
    leads(&stage, 7000, Some(1)).await;
}

#[tokio::test]
async fn a_restarted_controller_finishes_a_failover() {
    let mut stage = Stage::with_leases(2, LONG).await;
    stage.create().await;
    written(&stage.nodes[0], 1).await;
    stage.replicated(1).await;
    stage.balancer.set_reachable(false);
    stage.nodes[0].kill().await;
    stage.controller.until("the fence", |status| status.shards[0].state == "fencing").await;
    stage.restart_controller().await;
    stage.balancer.set_reachable(true);
    stage
        .controller
        .until("a new master", |status| {
            status.shards[0].nodes[1].role == "master" && status.shards[0].state == "steady"
        })
        .await;
    written(&stage.nodes[1], 1).await;
    stage.nodes[0].restart().await;
    stage.controller.until("the old master to follow", |status| status.healthy).await;
}

#[tokio::test]
async fn a_switchover_moves_the_endpoint_and_loses_nothing() {
    let stage = Stage::new(2).await;
    stage.create().await;
    written(&stage.nodes[0], 7).await;
    let path = "/namespaces/n/clusters/c/shards/0/failover";
    // Time for a busy machine.
    let options = json!({"sync_timeout_ms": 10_000, "pause_timeout_ms": 20_000});
    let (code, body) = stage.controller.call("POST", path, json!({ "options": options })).await;
    assert_eq!(code, 200, "{body}");
    assert_eq!(body["data"]["new_master_id"], stage.nodes[1].id());
    let status = stage.controller.until("everything to settle", |status| status.healthy).await;
    assert_eq!(status.shards[0].nodes[1].role, "master");
    leads(&stage, 7000, Some(1)).await;
    assert!(stage.nodes[1].inside.lock().sequence >= 7);
    assert!(!stage.nodes[0].write());
    written(&stage.nodes[1], 1).await;
}

#[tokio::test]
async fn a_master_restarted_at_once_keeps_its_role() {
    let mut stage = Stage::new(1).await;
    stage.create().await;
    stage.nodes[0].restart().await;
    written(&stage.nodes[0], 1).await;
    let status = stage.controller.until("everything to settle", |status| status.healthy).await;
    assert_eq!(status.version, 1);
}

#[tokio::test]
async fn a_restarted_balancer_is_told_again() {
    let stage = Stage::new(2).await;
    stage.create().await;
    stage.balancer.restart();
    leads(&stage, 7000, Some(0)).await;
}

#[tokio::test]
async fn a_node_with_a_higher_version_is_never_believed() {
    let stage = Stage::new(2).await;
    stage.create().await;
    {
        let mut inside = stage.nodes[1].inside.lock();
        let mut topology = inside.topology.clone().expect("a topology");
        topology.version = 41;
        topology.nodes[0].announced = None;
        inside.put(topology);
    }
    let status = stage
        .controller
        .until("a version above it", |status| status.version > 41 && status.healthy)
        .await;
    assert_eq!(status.shards[0].nodes[0].announced.as_deref(), Some("lb.test:7000"));
}

#[tokio::test]
async fn a_cluster_that_cannot_be_fenced_is_refused() {
    let stage = Stage::new(2).await;
    for node in &stage.nodes {
        node.inside.lock().lease_mode = api::heartbeat::LeaseMode::Disabled;
        node.inside.lock().client_access = api::heartbeat::ClientAccess::Any;
    }
    let path = "/namespaces/n/clusters";
    let (code, body) = stage.controller.call("POST", path, stage.spec()).await;
    assert_eq!(code, 400);
    let message = body["error"]["message"].as_str().expect("a message");
    assert!(message.contains("allow_unfenced"), "{message}");
    let mut spec = stage.spec();
    spec["allow_unfenced"] = json!(true);
    let (code, body) = stage.controller.call("POST", path, spec).await;
    assert_eq!(code, 201, "{body}");
}

#[tokio::test]
async fn two_controllers_do_not_share_a_store() {
    let stage = Stage::new(0).await;
    let second = Controller::try_start(stage.folder.path().join("store.redb")).await;
    let error = format!("{:#}", second.err().expect("a refusal"));
    assert!(error.contains("another controller uses"), "{error}");
}

#[tokio::test]
async fn endpoints_change_by_patch_and_secrets_stay_inside() {
    let stage = Stage::new(2).await;
    let mut spec = stage.spec();
    (spec["password"], spec["balancers"][0]["token"]) = (json!("s3cret-peer"), json!("s3cret-lb"));
    let (code, answer) = stage.controller.call("POST", "/namespaces/n/clusters", spec).await;
    assert_eq!(code, 201, "{answer}");
    assert!(!answer.to_string().contains("s3cret"), "{answer}");
    stage.controller.until("a healthy cluster", |status| status.healthy).await;
    let id = stage.nodes[1].id();
    let path = format!("/namespaces/n/clusters/c/shards/0/nodes/{id}");
    let body = json!({"lb_host": "lb.test", "lb_port": 7100});
    let (code, answer) = stage.controller.call("PATCH", &path, body).await;
    assert_eq!(code, 200, "{answer}");
    assert_eq!(answer["data"]["announced_port"], 7100);
    stage.controller.until("everything to settle", |status| status.healthy).await;
    leads(&stage, 7100, Some(1)).await;
    leads(&stage, 7001, None).await;
    let (code, answer) =
        stage.controller.call("PATCH", &path, json!({"announced_host": "7"})).await;
    assert_eq!(code, 400, "{answer}");
    let master = format!("/namespaces/n/clusters/c/shards/0/nodes/{}", stage.nodes[0].id());
    let (code, answer) = stage.controller.call("DELETE", &master, json!({})).await;
    assert_eq!(code, 400);
    let message = &answer["error"]["message"];
    assert_eq!(message, "cannot take master node offline, failover first");
    // It has them, and tells nobody: not a viewer, nor whoever reads what is shown of a change.
    let cluster = "/namespaces/n/clusters/c";
    let (code, _) =
        stage.controller.call("PATCH", cluster, json!({"password": "s3cret-next"})).await;
    assert_eq!(code, 200);
    let nodes = format!("{cluster}/shards/0/nodes");
    // Nor is it kept of a node by itself: all have one.
    let other = json!({"addr": "127.0.0.1:1", "password": "s3cret-other"});
    let (code, answer) = stage.controller.call("POST", &nodes, other).await;
    let why = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(code == 400 && why.contains("is not the cluster's"), "{answer}");
    for shown in [
        "/namespaces/n/clusters",
        cluster,
        &format!("{cluster}/status"),
        &format!("{cluster}/shards"),
        &format!("{cluster}/shards/0"),
        &nodes,
        &format!("{cluster}/balancers"),
        &format!("{cluster}/events"),
        "/events",
        "/store",
    ] {
        let (code, answer) = stage.controller.call("GET", shown, json!({})).await;
        assert_eq!(code, 200, "{shown}: {answer}");
        let text = answer.to_string();
        assert!(text.len() > 20 && !text.contains("s3cret"), "{shown}: {text}");
    }
}

/// The topology that a node holds.
fn held(node: &FakeNode) -> String {
    let inside = node.inside.lock();
    inside.topology.as_ref().map(topology::Topology::render).unwrap_or_default()
}

#[tokio::test]
async fn ports_of_tls_reach_the_nodes_that_know_them_and_go_with_the_role() {
    let mut stage = Stage::new(2).await;
    stage.nodes[0].inside.lock().knows_tls_ports = true;
    let version = stage.create().await.version;
    let path = format!("/namespaces/n/clusters/c/nodes/{}", stage.nodes[0].id());
    let local = stage.nodes[0].port();
    for (body, why) in [
        (json!({"announced_tls_port": 7500}), "needs an announced_host"),
        (
            json!({"announced_host": "lb.test", "announced_port": 7000, "announced_tls_port": 7000}),
            "takes both kinds",
        ),
        (
            json!({"announced_host": "lb.test", "announced_port": 7000, "announced_tls_port": 7001}),
            "for clients",
        ),
        (json!({"tls_port": local}), "takes both kinds"),
    ] {
        let (code, answer) = stage.controller.call("PATCH", &path, body).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(code == 400 && message.contains(why), "{answer}");
    }
    let body =
        json!({"announced_host": "lb.test", "announced_port": 7000, "announced_tls_port": 7500});
    let (code, answer) = stage.controller.call("PATCH", &path, body).await;
    assert_eq!((code, &answer["data"]["announced_tls_port"]), (200, &json!(7500)), "{answer}");
    // What is announced stays.
    let (code, answer) = stage.controller.call("PATCH", &path, json!({"tls_port": 1})).await;
    assert_eq!((code, &answer["data"]["announced_tls_port"]), (200, &json!(7500)), "{answer}");
    assert_eq!(answer["data"]["tls_port"], 1);
    let is_told = |status: &api::rest::Status| status.version >= version + 2 && status.healthy;
    let status = stage.controller.until("everything to settle", is_told).await;
    let shown = &status.shards[0].nodes[0];
    assert_eq!((shown.tls_port, shown.announced_tls_port), (Some(1), Some(7500)));
    let told = " lb.test 7000 tls=1,7500";
    assert!(held(&stage.nodes[0]).contains(told), "{}", held(&stage.nodes[0]));
    // The other one would refuse the word, and is well without.
    assert!(!held(&stage.nodes[1]).contains("tls="), "{}", held(&stage.nodes[1]));
    leads(&stage, 7000, Some(0)).await;
    leads(&stage, 7500, Some(0)).await;
    // Until a newer version runs there.
    stage.nodes[1].inside.lock().knows_tls_ports = true;
    let version = status.version;
    let is_told = |status: &api::rest::Status| status.version > version && status.healthy;
    stage.controller.until("the rest of the topology", is_told).await;
    assert!(held(&stage.nodes[1]).contains(told), "{}", held(&stage.nodes[1]));
    written(&stage.nodes[0], 1).await;
    stage.replicated(1).await;
    stage.nodes[0].kill().await;
    leads(&stage, 7500, Some(1)).await;
    leads(&stage, 7000, Some(1)).await;
    let nodes = stage.controller.status().await.shards[0].nodes.clone();
    let of = |place: usize| (nodes[place].tls_port, nodes[place].announced_tls_port);
    assert_eq!((of(0), of(1)), ((Some(1), None), (None, Some(7500))));
}

#[tokio::test]
async fn an_existing_cluster_is_imported_with_its_version() {
    let stage = Stage::new(2).await;
    stage.create().await;
    let (code, _) = stage.controller.call("DELETE", "/namespaces/n/clusters/c", json!({})).await;
    assert_eq!(code, 204);
    let mut spec = stage.spec();
    spec["nodes"] = json!([stage.nodes[0].address()]);
    let (code, answer) =
        stage.controller.call("POST", "/namespaces/n/clusters/c/import", spec).await;
    assert_eq!(code, 200, "{answer}");
    assert_eq!(answer["data"]["cluster"]["shards"][0]["slot_ranges"], json!(["0-16383"]));
    let status = stage.controller.until("everything to settle", |status| status.healthy).await;
    assert_eq!(status.version, 1);
}

#[tokio::test]
async fn an_imported_cluster_promises_what_a_created_one_does() {
    let stage = Stage::new(2).await;
    stage.create().await;
    let (code, _) = stage.controller.call("DELETE", "/namespaces/n/clusters/c", json!({})).await;
    assert_eq!(code, 204);
    let mut spec = stage.spec();
    spec["nodes"] = json!([stage.nodes[0].address()]);
    spec["commit_mode"] = json!(null);
    spec["min_in_sync"] = json!(3);
    let path = "/namespaces/n/clusters/c/import";
    let (code, answer) = stage.controller.call("POST", path, spec.clone()).await;
    assert_eq!(code, 400, "{answer}");
    spec["min_in_sync"] = json!(2);
    let (code, answer) = stage.controller.call("POST", path, spec).await;
    assert_eq!(code, 200, "{answer}");
    let cluster = &answer["data"]["cluster"];
    assert_eq!(cluster["commit_mode"], "in-sync", "the default of shards with replicas");
    assert_eq!(cluster["min_in_sync"], 2);
}

/// Status and answer of a request with these headers.
async fn asked(
    controller: &Controller,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, serde_json::Value) {
    let url = format!("{}{path}", controller.url);
    let mut request = reqwest::Client::new().request(method.parse().expect("a method"), url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.body(body.to_owned()).send().await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

#[tokio::test]
async fn a_web_page_gives_no_orders_and_every_refusal_is_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let controller = Controller::start(folder.path().join("store.redb")).await;
    let (port, spaces) = (controller.url.rsplit(':').next().expect("a port"), "/api/v1/namespaces");
    let json = ("content-type", "application/json");
    let (evil, forward) = (format!("evil.example:{port}"), "localhost:19379");
    let long = "x".repeat(3 << 20);
    let post = ("POST", spaces);
    for (request, headers, body, status) in [
        // What a page may send unasked: plain text, a form, nothing.
        (post, vec![("content-type", "text/plain"), ("origin", "http://evil.example")], "", 403),
        (post, vec![("content-type", "text/plain")], "", 415),
        (post, vec![], "", 415),
        (post, vec![json, ("origin", "http://evil.example")], "", 403),
        (post, vec![json, ("origin", "null")], "", 403),
        // What it may send to a name of its own that leads here.
        (post, vec![json, ("host", evil.as_str())], "", 403),
        (("GET", spaces), vec![("host", evil.as_str())], "", 403),
        (("GET", "/healthz"), vec![("host", evil.as_str())], "", 403),
        (("PUT", spaces), vec![json], "", 405),
        (("GET", "/nowhere"), vec![], "", 404),
        (post, vec![json], long.as_str(), 413),
        (post, vec![json], "nonsense", 400),
    ] {
        let body = if body.is_empty() { r#"{"namespace":"of-a-page"}"# } else { body };
        let (given, answer) = asked(&controller, request, &headers, body).await;
        assert_eq!(given, status, "{request:?} {headers:?}: {answer}");
        assert!(answer["error"]["message"].is_string(), "{request:?} {headers:?}: {answer}");
        assert!(answer.get("data").is_some_and(serde_json::Value::is_null), "{answer}");
    }
    let (_, known) = asked(&controller, ("GET", spaces), &[], "").await;
    assert_eq!(known["data"]["namespaces"], json!([]), "nothing was made");

    // What programs send, here or through a forward.
    let body = r#"{"namespace":"n"}"#;
    let headers = [json, ("host", forward)];
    assert_eq!(asked(&controller, post, &headers, body).await.0, 201);
    assert_eq!(asked(&controller, ("DELETE", "/api/v1/namespaces/n"), &[], "").await.0, 204);
    controller.stop().await;
}

/// The page of numbers.
async fn metrics(controller: &Controller) -> String {
    let answer = reqwest::get(format!("{}/metrics", controller.url)).await.expect("an answer");
    answer.text().await.expect("a page")
}

/// Waits until all of these rows are on the page of numbers.
async fn shows(stage: &Stage, rows: &[String]) {
    until("the numbers to be so", || async {
        let page = metrics(&stage.controller).await;
        let missing = rows.iter().find(|row| !page.lines().any(|line| line == row.as_str()));
        missing.map_or(Ok(()), |row| Err(format!("no {row} in\n{page}")))
    })
    .await;
}

#[tokio::test]
async fn the_numbers_of_a_healthy_cluster_say_so_and_those_of_a_dead_node_do_not() {
    let mut stage = Stage::new(2).await;
    stage.create().await;
    stage.controller.until("everything to settle", |status| status.healthy).await;
    let of = |name: &str, labels: &str, value: u8| {
        format!("holdfast_controller_{name}{{cluster=\"n/c\"{labels}}} {value}")
    };
    let node = |stage: &Stage, index: usize| {
        format!(",shard=\"0\",node=\"{}\"", stage.nodes[index].address())
    };
    let state = |word: &str| format!(",shard=\"0\",state=\"{word}\"");
    let mut rows = vec![
        of("healthy", "", 1),
        of("alarms", "", 0),
        of("shard_degraded", ",shard=\"0\"", 0),
        of("shard_state", &state("steady"), 1),
        of("shard_state", &state("stuck"), 0),
        of("balancer_in_force", ",balancer=\"b\"", 1),
        "holdfast_controller_failovers_total 0".to_owned(),
    ];
    for index in [0, 1] {
        rows.push(of("node_up", &node(&stage, index), 1));
        rows.push(of("node_misses", &node(&stage, index), 0));
    }
    shows(&stage, &rows).await;

    stage.nodes[1].kill().await;
    let rows = [
        of("node_up", &node(&stage, 0), 1),
        of("node_up", &node(&stage, 1), 0),
        of("healthy", "", 0),
    ];
    shows(&stage, &rows).await;
    stage.nodes[0].kill().await;
    shows(&stage, &[of("shard_state", &state("stuck"), 1), of("shard_state", &state("steady"), 0)])
        .await;
}

#[tokio::test]
async fn a_master_that_answers_with_errors_is_told_of_and_replaced_once_its_lease_is_over() {
    let stage = Stage::with_leases(2, LONG).await;
    stage.create().await;
    written(&stage.nodes[0], 1).await;
    stage.replicated(1).await;
    for (master, complaint) in
        [(0, "ERR max number of clients reached"), (1, "NOAUTH Authentication required.")]
    {
        let version = stage.controller.status().await.version;
        stage.nodes[master].inside.lock().complaint = Some(complaint);
        let told = format!("answers with an error: {complaint}");
        let is_told = |status: &api::rest::Status| {
            let is_replaced = status.shards[0].nodes[master].role == "slave";
            is_replaced && status.alarms.iter().any(|alarm| alarm.contains(&told))
        };
        let status = stage.controller.until("another master and an alarm", is_told).await;
        assert!(status.version > version);
        // Heartbeats before the end of the lease are not enough, as silence of that length would
        // be. It takes no order, and so it would serve for as long as it has one.
        assert!(!stage.nodes[master].serves(), "replaced within its lease");
        assert!(stage.nodes[master].inside.lock().complained > 0);
        stage.nodes[master].inside.lock().complaint = None;
        stage.controller.until("it to be well", |status| status.healthy).await;
    }
}
