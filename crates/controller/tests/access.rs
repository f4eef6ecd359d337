//! Users, their roles, and what is written down of what they ask for.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "the support module is shared by tests, not published"
)]

#[path = "support/etcd.rs"]
mod etcd;
mod support;

use std::path::Path;

use controller::{Config, Kind};
use etcd::Etcd;
use serde_json::{Value, json};
use support::{Controller, until};

const TOKEN: &str = "geheim";
const ROLES: [&str; 3] = ["viewer", "operator", "admin"];

fn guarded(folder: &Path) -> Config {
    let data = folder.join("store.redb");
    Config { data, token: Some(TOKEN.into()), ..Config::default() }
}

fn message(answer: &Value) -> &str {
    answer["error"]["message"].as_str().unwrap_or_default()
}

/// Adds a user and returns its token.
async fn add(controller: &Controller, body: Value) -> String {
    let (code, answer) = controller.call_with(Some(TOKEN), "POST", "/users", body).await;
    assert_eq!(code, 201, "{answer}");
    answer["data"]["token"].as_str().expect("a token").to_owned()
}

/// A cluster of one node that nobody looks at.
async fn create(controller: &Controller, token: &str) {
    let body = json!({"namespace": "n"});
    let (code, answer) = controller.call_with(Some(token), "POST", "/namespaces", body).await;
    assert_eq!(code, 201, "{answer}");
    let node = json!({"addr": "127.0.0.1:1", "announced_host": "lb.test", "announced_port": 7000});
    let spec = json!({
        "name": "c", "nodes": [node], "password": "s3cret-peer", "allow_unfenced": true,
    });
    assert_eq!(unseen(controller, token, "/namespaces/n/clusters", &spec).await, 201);
}

/// Asks for something of which nobody is to look at nodes and balancers; the status.
async fn unseen(controller: &Controller, token: &str, path: &str, body: &Value) -> u16 {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let asked = http.post(format!("{}/api/v1{path}", controller.url)).bearer_auth(token);
    let asked = asked.header("X-Dont-Check-Cluster-Mode", "yes").json(body);
    asked.send().await.expect("an answer").status().as_u16()
}

/// What was asked for and by whom, the newest last, as an admin sees it.
async fn audit(controller: &Controller) -> Vec<Value> {
    let path = "/events?limit=100&audit=yes";
    let (code, answer) = controller.call_with(Some(TOKEN), "GET", path, json!({})).await;
    assert_eq!(code, 200, "{answer}");
    answer["data"]["events"].as_array().expect("events").clone()
}

#[tokio::test]
async fn each_role_does_its_part_and_a_refusal_names_both_roles() {
    let folder = tempfile::tempdir().expect("a folder");
    let controller = Controller::start_with(guarded(folder.path())).await;
    let mut tokens = Vec::new();
    for role in ROLES {
        tokens.push(add(&controller, json!({"name": format!("a-{role}"), "role": role})).await);
    }
    // The least role that gets through; what it gets to is another matter.
    let rows = [
        ("GET", "/namespaces", "viewer"),
        ("GET", "/events", "viewer"),
        ("GET", "/namespaces/n/clusters/c/status", "viewer"),
        ("POST", "/namespaces/n/clusters/c/shards/0/failover", "operator"),
        ("POST", "/namespaces/n/clusters/c/moves", "operator"),
        ("PATCH", "/namespaces/n/clusters/c", "operator"),
        ("PATCH", "/namespaces/n/clusters/c/balancers/b", "operator"),
        ("DELETE", "/namespaces/n/clusters/c/balancers/b", "operator"),
        ("GET", "/namespaces/n/clusters/c/discarded/x/y", "operator"),
        ("POST", "/namespaces/n/clusters/c/shards/0/accept-loss", "admin"),
        ("POST", "/namespaces/n/clusters/c/release", "admin"),
        ("POST", "/namespaces/n/clusters/c/import", "admin"),
        ("DELETE", "/namespaces/n/clusters/c", "admin"),
        ("GET", "/users", "admin"),
        ("DELETE", "/users/nobody", "admin"),
    ];
    for (method, path, least) in rows {
        let needs = ROLES.iter().position(|role| *role == least).expect("a role");
        for (has, token) in tokens.iter().enumerate() {
            let (code, answer) = controller.call_with(Some(token), method, path, json!({})).await;
            let what = format!("{method} {path} as {}: {code} {answer}", ROLES[has]);
            assert_ne!(code, 401, "{what}");
            assert_eq!(code == 403, has < needs, "{what}");
            if code == 403 {
                assert_eq!(answer["error"]["needs"], least, "{what}");
                assert_eq!(answer["error"]["has"], ROLES[has], "{what}");
                let told = format!("`{least}`, and a-{} has `{}`", ROLES[has], ROLES[has]);
                assert!(message(&answer).contains(&told), "{what}");
            }
        }
    }
    // No user becomes more by asking.
    let (code, _) = controller
        .call_with(Some(&tokens[1]), "POST", "/users", json!({"name": "x", "role": "admin"}))
        .await;
    assert_eq!(code, 403);
    controller.stop().await;
}

#[tokio::test]
async fn a_token_is_told_once_and_refused_once_its_user_is_gone_or_its_time_is_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = guarded(folder.path());
    let controller = Controller::start_with(config.clone()).await;
    let deploy = add(&controller, json!({"name": "deploy", "role": "viewer"})).await;
    let guest =
        add(&controller, json!({"name": "guest", "role": "viewer", "expires_in_s": 1})).await;
    for (body, code) in [
        (json!({"name": "deploy", "role": "admin"}), 409),
        (json!({"name": "a b", "role": "admin"}), 400),
        (json!({"name": "..", "role": "admin"}), 400),
        (json!({"name": "x", "role": "root"}), 400),
        (json!({"name": "x", "role": "viewer", "expires_in_s": 0}), 400),
        (json!({"name": "x", "role": "viewer", "expires": 5}), 400),
    ] {
        let (found, answer) =
            controller.call_with(Some(TOKEN), "POST", "/users", body.clone()).await;
        assert_eq!(found, code, "{body}: {answer}");
    }
    let ask = async |controller: &Controller, token: &str| {
        let (code, answer) =
            controller.call_with(Some(token), "GET", "/namespaces", json!({})).await;
        (code, message(&answer).to_owned())
    };
    assert_eq!(ask(&controller, &deploy).await.0, 200);
    let expired = until("a token to end", || async {
        match ask(&controller, &guest).await {
            (401, why) => Ok(why),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(expired.contains("user guest has expired at"), "{expired}");
    assert!(expired.contains("ctl user add guest"), "{expired}");

    let (_, list) = controller.call_with(Some(TOKEN), "GET", "/users", json!({})).await;
    let users = list["data"]["users"].as_array().expect("users");
    let names: Vec<_> = users.iter().map(|user| (&user["name"], &user["expired"])).collect();
    assert_eq!(names, [(&json!("deploy"), &json!(false)), (&json!("guest"), &json!(true))]);
    assert!(!list.to_string().contains("hash"), "{list}");

    // They outlive the process; neither its store nor its log of events has a token.
    controller.stop().await;
    let stored = std::fs::read(&config.data).expect("the store");
    for token in [&deploy, &guest] {
        assert!(!stored.windows(token.len()).any(|part| part == token.as_bytes()));
    }
    let controller = Controller::start_with(config).await;
    assert_eq!(ask(&controller, &deploy).await.0, 200);
    let (code, _) = controller.call_with(Some(TOKEN), "DELETE", "/users/deploy", json!({})).await;
    assert_eq!(code, 204);
    let (code, why) = ask(&controller, &deploy).await;
    assert_eq!(code, 401);
    assert!(why.contains("nobody's"), "{why}");
    let (code, answer) =
        controller.call_with(Some(TOKEN), "DELETE", "/users/deploy", json!({})).await;
    assert_eq!(
        (code, message(&answer)),
        (404, "user deploy: not found; `ctl user list` shows all")
    );
    assert_eq!(ask(&controller, TOKEN).await.0, 200);
    controller.stop().await;
}

/// Within its namespaces it is what its role says; of others, and of all, it learns nothing.
#[tokio::test]
async fn a_user_that_is_limited_to_namespaces_does_nothing_elsewhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let controller = Controller::start_with(guarded(folder.path())).await;
    create(&controller, TOKEN).await;
    let body = json!({"namespace": "m"});
    assert_eq!(controller.call_with(Some(TOKEN), "POST", "/namespaces", body).await.0, 201);
    let spec = json!({"name": "duty", "role": "admin", "namespaces": ["n", "x"]});
    let token = add(&controller, spec).await;
    let call = async |method: &str, path: &str, body: Value| {
        controller.call_with(Some(&token), method, path, body).await
    };
    let (code, answer) = call("GET", "/namespaces", json!({})).await;
    assert_eq!((code, &answer["data"]["namespaces"]), (200, &json!(["n"])));
    for (method, path) in [
        ("GET", "/namespaces/m"),
        ("GET", "/namespaces/m/clusters"),
        ("DELETE", "/namespaces/m"),
        ("POST", "/namespaces"),
        ("GET", "/events"),
        ("GET", "/store"),
        ("GET", "/store/export"),
        ("GET", "/users"),
        ("POST", "/users"),
    ] {
        let (code, answer) = call(method, path, json!({"namespace": "x"})).await;
        assert_eq!(code, 403, "{method} {path}: {answer}");
        assert!(message(&answer).contains("user duty is limited to namespaces n, x"), "{answer}");
    }
    assert_eq!(call("GET", "/namespaces/n/clusters/c/status", json!({})).await.0, 200);
    let paused = json!({"paused": true, "reason": "a disk"});
    assert_eq!(call("PATCH", "/namespaces/n/clusters/c", paused).await.0, 200);
    // What does as it is told without a token, or says not who it is, may be another namespace's.
    let balancers = "/namespaces/n/clusters/c/balancers";
    let haproxy = json!({"name": "h", "kind": "haproxy", "endpoint": "127.0.0.1:1"});
    let builtin = json!({"name": "b", "endpoint": "http://127.0.0.1:1"});
    let (code, answer) = call("POST", balancers, haproxy.clone()).await;
    assert_eq!(code, 403, "{answer}");
    assert!(message(&answer).contains("who is not limited to namespaces"), "{answer}");
    for (token, codes) in [(token.as_str(), [403, 400]), (TOKEN, [201, 201])] {
        let asked = [&haproxy, &builtin].map(|body| unseen(&controller, token, balancers, body));
        let [of_haproxy, of_builtin] = asked;
        assert_eq!([of_haproxy.await, of_builtin.await], codes);
    }
    let nodes = json!([{"addr": "127.0.0.1:2"}]);
    let spec = json!({
        "name": "d", "nodes": nodes, "allow_unfenced": true, "balancers": [builtin],
    });
    assert_eq!(unseen(&controller, &token, "/namespaces/n/clusters", &spec).await, 403);
    let (_, list) = controller.call_with(Some(TOKEN), "GET", "/users", json!({})).await;
    let user = &list["data"]["users"][0];
    assert_eq!(user["namespaces"], json!(["n", "x"]));
    // It was seen a moment ago; that is told before it is written down.
    assert!(user["last_used_ms"].as_u64() >= user["created_at_ms"].as_u64(), "{user}");
    for wrong in [json!(["a/b"]), json!([""])] {
        let body = json!({"name": "x", "role": "viewer", "namespaces": wrong});
        assert_eq!(controller.call_with(Some(TOKEN), "POST", "/users", body).await.0, 400);
    }
    controller.stop().await;
}

/// What a certificate shows to one controller another one cannot see. One with the token of all
/// could do anything: by vouching it does less.
#[tokio::test]
async fn a_controller_vouches_for_a_certificate_by_the_token_and_by_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = guarded(folder.path());
    let user = json!({
        "name": "duty", "role": "viewer", "hash": "", "certificate": "duty.example",
        "created_at_ms": 1, "created_by": "x",
    });
    let export = json!({
        "format": 1, "identity": { "name": "aa", "generation": 1 }, "term": 1, "from": "a test",
        "made_at_ms": 1, "namespaces": ["n"], "clusters": [], "users": { "duty": user },
        "events": [],
    });
    let export: controller::store::Export = serde_json::from_value(export).expect("an export");
    let (text, how) = (export.text().expect("a text"), controller::transfer::How::default());
    controller::transfer::import(&text, &config, how, &|_| ()).await.expect("an import");
    let controller = Controller::start_with(config).await;
    let other = add(&controller, json!({"name": "other", "role": "operator"})).await;

    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ask = async |token: Option<&str>, vouched: &str, hop: bool, name: &str| {
        let url = format!("{}/api/v1/namespaces", controller.url);
        let mut request = http.post(url).json(&json!({"namespace": name}));
        let (user, certificate) = vouched.split_once(' ').unwrap_or((vouched, "duty.example"));
        request = request.header("x-holdfast-vouched", user);
        request = request.header("x-holdfast-vouched-certificate", certificate);
        if hop {
            request = request.header("x-holdfast-passed-on", "1");
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.expect("an answer");
        let code = answer.status().as_u16();
        (code, answer.text().await.expect("a text"))
    };
    let (code, said) = ask(Some(TOKEN), "duty", true, "a").await;
    assert_eq!(code, 403, "{said}");
    assert!(said.contains("and duty has `viewer`"), "{said}");
    // Nobody of that name, a user that has a token, and one that has another certificate, are known
    // by no such certificate.
    for name in ["nobody", "other", "", "duty duty.old", "duty "] {
        let (code, said) = ask(Some(TOKEN), name, true, "a").await;
        assert_eq!(code, 401, "{name}: {said}");
    }
    // Without the token of all it is a word like any other.
    let (code, said) = ask(Some(&other), "duty", true, "a").await;
    assert!(code == 403 && said.contains("and other has `operator`"), "{code} {said}");
    assert_eq!(ask(None, "duty", true, "a").await.0, 401);
    assert_eq!(ask(Some(TOKEN), "duty", false, "a").await.0, 201, "nobody has passed it on");
    controller.stop().await;
}

/// Where nobody is asked for a certificate none could be shown.
#[tokio::test]
async fn no_user_is_known_by_a_certificate_where_nobody_is_asked_for_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let controller = Controller::start_with(guarded(folder.path())).await;
    let body = json!({"name": "duty", "role": "viewer", "certificate": "duty.example"});
    let (code, answer) = controller.call_with(Some(TOKEN), "POST", "/users", body).await;
    assert_eq!(code, 409, "{answer}");
    assert!(message(&answer).contains("tls.client_ca_file"), "{answer}");
    controller.stop().await;
}

#[tokio::test]
async fn where_no_token_is_configured_there_are_no_users() {
    let folder = tempfile::tempdir().expect("a folder");
    let controller = Controller::start(folder.path().join("store.redb")).await;
    let body = json!({"name": "deploy", "role": "viewer"});
    let (code, answer) = controller.call("POST", "/users", body).await;
    assert_eq!(code, 409, "{answer}");
    assert!(message(&answer).contains("set `token_file` or `token`"), "{answer}");
    // As ever: a token that nobody wants shuts nobody out.
    let (code, _) = controller.call_with(Some("x"), "GET", "/users", json!({})).await;
    assert_eq!(code, 200);
    controller.stop().await;
}

#[tokio::test]
async fn each_change_says_by_whom_it_was_asked_for_and_no_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let controller = Controller::start_with(guarded(folder.path())).await;
    let token = add(&controller, json!({"name": "deploy", "role": "admin"})).await;
    let call = async |method: &str, path: &str, body: Value| {
        controller.call_with(Some(&token), method, path, body).await.0
    };
    create(&controller, &token).await;
    // What is refused changes nothing and leaves nothing.
    assert_eq!(call("POST", "/namespaces", json!({"namespace": "n"})).await, 409);
    let cluster = "/namespaces/n/clusters/c";
    assert_eq!(call("PATCH", cluster, json!({"paused": true, "reason": "a disk"})).await, 200);
    assert_eq!(call("PATCH", cluster, json!({"password": "s3cret-next"})).await, 200);
    assert_eq!(call("GET", cluster, json!({})).await, 200);
    assert_eq!(call("DELETE", cluster, json!({})).await, 204);
    assert_eq!(call("DELETE", "/namespaces/n", json!({})).await, 204);

    let audit = audit(&controller).await;
    let texts: Vec<&str> =
        audit.iter().map(|event| event["text"].as_str().expect("a text")).collect();
    assert_eq!(
        texts,
        [
            "user deploy added: admin",
            "namespace n created",
            "created with 1 shard of 1 node",
            "an operator asked for no automatic failover (a disk)",
            "an operator asked for another password for the nodes",
            "deleted",
            "namespace n deleted",
        ]
    );
    let by = |who: &str| json!({"who": who, "role": "admin", "from": "127.0.0.1"});
    assert_eq!(audit[0]["by"], by("(configured token)"));
    for event in &audit[1..] {
        assert_eq!(event["by"], by("deploy"), "{event}");
        assert!(event["at_ms"].as_u64() > Some(0) && event["kind"] == "operator", "{event}");
    }
    let told = serde_json::to_string(&audit).expect("JSON");
    assert!(!told.contains("s3cret") && !told.contains(&token), "{told}");
    controller.stop().await;
}

#[tokio::test]
async fn the_history_is_shown_without_what_happens_every_day() {
    let folder = tempfile::tempdir().expect("a folder");
    let controller = Controller::start_with(guarded(folder.path())).await;
    create(&controller, TOKEN).await;
    let kinds = async |query: &str| {
        let path = format!("/events?limit=100{query}");
        let (code, answer) = controller.call_with(Some(TOKEN), "GET", &path, json!({})).await;
        assert_eq!(code, 200, "{answer}");
        let events = answer["data"]["events"].as_array().expect("events").clone();
        events.iter().map(|event| event["kind"].as_str().expect("a kind").to_owned()).collect()
    };
    // Nobody answers at the node's address.
    until("an alarm in the log", async || {
        let all: Vec<String> = kinds("").await;
        if all.iter().any(|kind| kind == "alarm") { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
    let history: Vec<String> = kinds("&history=yes").await;
    assert_eq!(history, ["start", "operator", "operator"]);
    let (code, answer) =
        controller.call_with(Some(TOKEN), "GET", "/events?history=maybe", json!({})).await;
    assert_eq!(code, 400, "{answer}");
    controller.stop().await;
}

#[tokio::test]
async fn an_operator_pauses_and_changes_no_promise() {
    let folder = tempfile::tempdir().expect("a folder");
    let controller = Controller::start_with(guarded(folder.path())).await;
    create(&controller, TOKEN).await;
    let token = add(&controller, json!({"name": "duty", "role": "operator"})).await;
    let change = async |body: Value| {
        let path = "/namespaces/n/clusters/c";
        controller.call_with(Some(&token), "PATCH", path, body).await
    };
    for body in [
        json!({"commit_mode": "async"}),
        json!({"min_in_sync": 1}),
        json!({"max_lag": "none"}),
        json!({"password": "x", "paused": true}),
    ] {
        let (code, answer) = change(body.clone()).await;
        assert_eq!((code, &answer["error"]["needs"]), (403, &json!("admin")), "{body}: {answer}");
    }
    let (code, answer) = change(json!({"paused": true})).await;
    assert_eq!(code, 200, "{answer}");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_without_a_token_keep_nobody_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let controller = Controller::start_with(guarded(folder.path())).await;
    let address = controller.url.trim_start_matches("http://");
    let mut idle = Vec::new();
    for _ in 0..600 {
        idle.push(tokio::net::TcpStream::connect(address).await.expect("a connection"));
    }
    for _ in 0..5 {
        let asked = controller.call_with(Some(TOKEN), "GET", "/namespaces", json!({}));
        assert_eq!(asked.await.0, 200);
    }
    drop(idle);
    controller.stop().await;
}

/// Asks one controller for one namespace and the other for the other: they say the same user of
/// both, and that one of the two was asked by way of the other.
async fn passed_on(
    controllers: [&Controller; 2],
    token: &str,
    names: [String; 2],
) -> Result<(), String> {
    for (controller, name) in controllers.into_iter().zip(&names) {
        let body = json!({ "namespace": name });
        let (code, answer) = controller.call_with(Some(token), "POST", "/namespaces", body).await;
        if code != 201 {
            return Err(format!("{name}: {code} {answer}"));
        }
    }
    let path = "/events?limit=100&audit=yes";
    let (code, answer) = controllers[1].call_with(Some(TOKEN), "GET", path, json!({})).await;
    let audit = answer["data"]["events"].as_array();
    let audit = audit.filter(|_| code == 200).ok_or_else(|| format!("{code} {answer}"))?;
    let mut from: Vec<String> = names
        .map(|name| {
            let text = format!("namespace {name} created");
            let event = audit.iter().find(|event| event["text"] == text.as_str());
            let by = &event.expect("an entry")["by"];
            assert_eq!(by["who"], "deploy");
            by["from"].as_str().expect("an address").to_owned()
        })
        .to_vec();
    from.sort();
    let is_one = from == ["127.0.0.1", "127.0.0.1 by way of 127.0.0.1"];
    if is_one { Ok(()) } else { Err(format!("{from:?}")) }
}

/// The standby knows users by reading, and tells the leader where a request came from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_the_same_at_every_controller() {
    let etcd = Etcd::start(1).await;
    let config = Config {
        store: Kind::Etcd,
        etcd_endpoints: etcd.endpoints(),
        etcd_limit_ms: 5_000,
        token: Some(TOKEN.into()),
        ..Config::default()
    };
    let one = Controller::start_with(config.clone()).await;
    let other = Controller::start_with(config).await;
    let token = until("a leader that adds a user", || async {
        let body = json!({"name": "deploy", "role": "admin"});
        let (code, answer) = one.call_with(Some(TOKEN), "POST", "/users", body).await;
        let token = answer["data"]["token"].as_str().map(str::to_owned);
        token.ok_or_else(|| format!("{code} {answer}"))
    })
    .await;
    // On a busy machine another one may come to lead between the two.
    let mut round = 0;
    until("one of two to be asked by the other", || {
        round += 1;
        passed_on([&one, &other], &token, [format!("n{round}-0"), format!("n{round}-1")])
    })
    .await;

    until("a user to be removed", || async {
        match other.call_with(Some(&token), "DELETE", "/users/deploy", json!({})).await {
            // Its own token is nobody's by then, where an answer came too late.
            (204 | 401, _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    for controller in [&one, &other] {
        until("a user to be gone", || async {
            let path = "/namespaces";
            match controller.call_with(Some(&token), "GET", path, json!({})).await {
                (401, _) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    one.stop().await;
    other.stop().await;
}
