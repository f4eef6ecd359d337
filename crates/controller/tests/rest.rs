//! Sentences of `docs/protocol.md` §5: who may ask, what an empty body is, what is refused.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "the support module is shared by tests, not published"
)]

mod support;

use controller::Config;
use serde_json::{Value, json};
use support::{Stage, until};
use tokio::sync::oneshot;

/// Every path of the table, with a method that it has.
const PATHS: [(&str, &str); 34] = [
    ("GET", "/api/v1/namespaces"),
    ("POST", "/api/v1/namespaces"),
    ("GET", "/api/v1/namespaces/n"),
    ("DELETE", "/api/v1/namespaces/n"),
    ("POST", "/api/v1/namespaces/n/clusters"),
    ("GET", "/api/v1/namespaces/n/clusters/c"),
    ("DELETE", "/api/v1/namespaces/n/clusters/c"),
    ("PATCH", "/api/v1/namespaces/n/clusters/c"),
    ("POST", "/api/v1/namespaces/n/clusters/c/import"),
    ("POST", "/api/v1/namespaces/n/clusters/c/shards"),
    ("POST", "/api/v1/namespaces/n/clusters/c/shards/0/failover"),
    ("POST", "/api/v1/namespaces/n/clusters/c/shards/0/nodes"),
    ("PATCH", "/api/v1/namespaces/n/clusters/c/nodes/x"),
    ("GET", "/api/v1/namespaces/n/clusters/c/status"),
    ("POST", "/api/v1/namespaces/n/clusters/c/balancers"),
    ("DELETE", "/api/v1/namespaces/n/clusters/c/balancers/b"),
    ("POST", "/api/v1/namespaces/n/clusters/c/shards/0/accept-loss"),
    ("GET", "/api/v1/namespaces/n/clusters/c/discarded"),
    ("POST", "/api/v1/namespaces/n/clusters/c/moves"),
    ("PATCH", "/api/v1/namespaces/n/clusters/c/moves/1"),
    ("DELETE", "/api/v1/namespaces/n/clusters/c/moves/1"),
    ("POST", "/api/v1/namespaces/n/clusters/c/rebalance"),
    ("POST", "/api/v1/namespaces/n/clusters/c/shards/0/drain"),
    ("GET", "/api/v1/overview"),
    ("GET", "/api/v1/events"),
    ("GET", "/api/v1/users"),
    ("POST", "/api/v1/users"),
    ("DELETE", "/api/v1/users/x"),
    ("GET", "/api/v1/store"),
    ("GET", "/api/v1/store/export"),
    ("POST", "/api/v1/store/reseal"),
    ("GET", "/api/v1/namespaces/n/clusters/c/certificates"),
    ("GET", "/certificates"),
    ("GET", "/metrics"),
];

#[tokio::test]
async fn a_token_is_asked_for_everywhere_but_at_healthz() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        data: folder.path().join("store.redb"),
        token: Some("geheim".into()),
        ..Config::default()
    };
    let listener = controller::bind(&config).await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(controller::serve(
        std::sync::Arc::new(controller::Live::new(config).expect("a configuration")),
        listener,
        async {
            let _ = stopped.await;
        },
    ));
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("a client");
    until("a healthy answer without a token", || async {
        let answer = http.get(format!("{url}/healthz")).send().await;
        answer.ok().filter(|a| a.status() == 200).map(drop).ok_or("not yet".into())
    })
    .await;
    for (method, path) in PATHS {
        for token in [None, Some("gehei"), Some("geheim!"), Some("")] {
            let method = method.parse().expect("a method");
            let mut request = http.request(method, format!("{url}{path}")).json(&json!({}));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), 401, "{path} with {token:?}");
            let body: Value = answer.json().await.expect("JSON");
            assert!(body["error"]["message"].is_string() && body["data"].is_null(), "{body}");
        }
    }
    let asked = http.get(format!("{url}/api/v1/namespaces")).bearer_auth("geheim").send().await;
    assert_eq!(asked.expect("an answer").status(), 200);
    let _ = stop.send(());
    task.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn a_shard_of_no_nodes_is_refused_and_one_that_is_not_counted_has_one() {
    let stage = Stage::new(2).await;
    let create = async |replicas: Value| {
        let mut spec = stage.spec();
        spec["replicas"] = replicas;
        let (code, answer) = stage.controller.call("POST", "/namespaces/n/clusters", spec).await;
        (code, answer.to_string())
    };
    for wrong in [0, -1] {
        let (code, text) = create(json!(wrong)).await;
        assert_eq!(code, 400, "{text}");
        assert!(text.contains(&format!("replicas is {wrong}; accepted: 1 and up")), "{text}");
    }
    let (code, text) = create(Value::Null).await;
    assert_eq!((code, text.matches("\"master\"").count()), (201, 2), "{text}");
}

#[tokio::test]
async fn a_node_that_has_a_topology_is_refused_with_what_makes_it_new() {
    let stage = Stage::new(1).await;
    stage.create().await;
    let (code, _) = stage.controller.call("DELETE", "/namespaces/n/clusters/c", json!({})).await;
    assert_eq!(code, 204);
    let post = async || {
        let (code, answer) =
            stage.controller.call("POST", "/namespaces/n/clusters", stage.spec()).await;
        (code, answer["error"]["message"].as_str().unwrap_or_default().to_owned())
    };
    let (code, told) = post().await;
    assert_eq!(code, 400, "{told}");
    let has = "node is already in cluster mode: it has a topology of version 1; ";
    let remedy = "start it on an empty `dir`, or, if it has no keys, let CLUSTER RESET HARD";
    assert!(told.contains(&format!("{has}{remedy}")), "{told}");
    // Without a topology, it still has a name.
    stage.nodes[0].inside.lock().topology = None;
    let (code, told) = post().await;
    assert_eq!(code, 400, "{told}");
    assert!(told.contains("it already is node") && told.contains(remedy), "{told}");
}

/// Nobody listens at these addresses, and that is not what is told.
#[tokio::test]
async fn what_is_wrong_with_a_request_itself_is_told_before_a_node_is_asked() {
    let stage = Stage::new(2).await;
    for (body, words) in [
        (json!({"nodes": ["127.0.0.1:1", "127.0.0.1:1"]}), "127.0.0.1:1 is listed twice"),
        (json!({"nodes": ["127.0.0.1:1"], "slots": ["0-5"]}), "slot 6 is given to no shard"),
        (json!({"nodes": ["127.0.0.1:1"], "slots": ["5-0"]}), "shard 0: slots `5-0`"),
    ] {
        let mut body = body;
        body["name"] = json!("c");
        let (code, told) = stage.controller.call("POST", "/namespaces/n/clusters", body).await;
        assert_eq!(code, 400, "{told}");
        let told = told["error"]["message"].as_str().unwrap_or_default();
        assert!(told.contains(words), "{told}");
    }
}

/// A word that nobody knows may be one that was meant otherwise: another replica would be promoted,
/// or an endpoint taken away.
#[tokio::test]
async fn a_field_that_is_not_known_is_refused_where_the_request_would_mean_something_else() {
    let stage = Stage::new(2).await;
    let before = stage.create().await;
    let of = "/namespaces/n/clusters/c";
    let failover = format!("{of}/shards/0/failover");
    let node = format!("{of}/nodes/{}", stage.nodes[1].id());
    let (balancers, balancer) = (format!("{of}/balancers"), format!("{of}/balancers/b"));
    for (method, path, body) in [
        ("POST", &failover, json!({"prefered_node_id": stage.nodes[1].id()})),
        ("POST", &failover, json!({"options": {"pause_ms": 1}})),
        ("PATCH", &node, json!({"anounced_host": "lb.test", "announced_port": 7000})),
        ("POST", &balancers, json!({"name": "x", "endpoint": "http://127.0.0.1:1", "sources": ""})),
        ("PATCH", &balancer, json!({"tokens": "x"})),
    ] {
        let (code, told) = stage.controller.call(method, path, body).await;
        assert_eq!(code, 400, "{path}: {told}");
        let told = told["error"]["message"].as_str().unwrap_or_default();
        assert!(told.contains("unknown field"), "{path}: {told}");
    }
    for reason in ["two\nlines", &"x".repeat(1_001)] {
        let pause = json!({"paused": true, "reason": reason});
        let (code, told) = stage.controller.call("PATCH", of, pause).await;
        assert_eq!(code, 400, "{told}");
    }
    let after = stage.controller.until("a healthy cluster", |status| status.healthy).await;
    assert_eq!(after.version, before.version);
    assert_eq!(after.shards[0].nodes[1].announced, before.shards[0].nodes[1].announced);
}

/// It would refuse each write once it has slots.
#[tokio::test]
async fn a_shard_with_fewer_nodes_than_writes_want_is_not_added() {
    let stage = Stage::new(3).await;
    let mut spec = stage.spec();
    let third = spec["nodes"].as_array_mut().expect("nodes").pop().expect("a third one");
    (spec["replicas"], spec["min_in_sync"]) = (json!(2), json!(2));
    let (code, told) = stage.controller.call("POST", "/namespaces/n/clusters", spec).await;
    assert_eq!(code, 201, "{told}");
    let shards = "/namespaces/n/clusters/c/shards";
    let add = async || stage.controller.call("POST", shards, json!({"nodes": [third]})).await;
    let (code, told) = add().await;
    let words = told["error"]["message"].as_str().unwrap_or_default();
    assert_eq!(code, 400, "{told}");
    assert!(words.contains("writes want 2 nodes in sync"), "{words}");
    let least = json!({"min_in_sync": 1});
    let (code, told) = stage.controller.call("PATCH", "/namespaces/n/clusters/c", least).await;
    assert_eq!(code, 200, "{told}");
    let (code, told) = add().await;
    assert_eq!(code, 201, "{told}");
}

#[tokio::test]
async fn only_an_empty_namespace_is_deleted_and_only_a_shard_without_slots() {
    let stage = Stage::new(2).await;
    stage.create().await;
    let call = async |method: &str, path: &str, body: Value| {
        let (code, answer) = stage.controller.call(method, path, body).await;
        (code, answer["error"]["message"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(call("DELETE", "/namespaces/n", json!({})).await.0, 403);
    assert_ne!(call("DELETE", "/namespaces/n/clusters/c/shards/0", json!({})).await.0, 204);
    let master = stage.nodes[0].id();
    let node = format!("/namespaces/n/clusters/c/shards/0/nodes/{master}");
    let (code, text) = call("DELETE", &node, json!({})).await;
    assert_eq!((code, text.as_str()), (400, "cannot take master node offline, failover first"));
    // A body of nothing is the body `{}`.
    let (code, text) = call("PATCH", "/namespaces/n/clusters/c", json!({})).await;
    assert_eq!(code, 400, "{text}");
    assert_eq!(call("POST", "/namespaces/n/clusters/c/shards/7/failover", json!({})).await.0, 400);
    assert_eq!(call("GET", "/namespaces/n/clusters/c/events?limit=x", json!({})).await.0, 400);
    assert_eq!(call("GET", "/namespaces/n/clusters/x/status", json!({})).await.0, 404);
    assert_eq!(call("DELETE", "/namespaces/n/clusters/c", json!({})).await.0, 204);
    assert_eq!(call("DELETE", "/namespaces/n", json!({})).await.0, 204);
    // Its nodes stay as they are: nobody told them anything.
    assert_eq!(stage.nodes[0].id(), master);
}
