//! Load balancers of a cluster: taken in, compared with what nodes list, and let go of.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "the support module is shared by tests, not published"
)]

mod support;

use api::certificate::{Certificate, Trust};
use api::heartbeat::Stranger;
use serde_json::{Value, json};
use support::fake_balancer::FakeBalancer;
use support::{Stage, until};

const BALANCERS: &str = "/namespaces/n/clusters/c/balancers";

fn message(body: &Value) -> &str {
    body["error"]["message"].as_str().unwrap_or_default()
}

impl Stage {
    async fn remove(&self, name: &str, query: &str) -> (u16, Value) {
        self.controller.call("DELETE", &format!("{BALANCERS}/{name}{query}"), json!({})).await
    }

    async fn add(&self, spec: Value) -> (u16, Value) {
        self.controller.call("POST", BALANCERS, spec).await
    }

    async fn listed(&self) -> Vec<String> {
        let (code, body) = self.controller.call("GET", BALANCERS, json!({})).await;
        assert_eq!(code, 200, "{body}");
        let list = body["data"]["balancers"].as_array().expect("a list").iter();
        list.map(|b| b["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// Waits for an alarm with all of these words, above which nobody reads "healthy".
    async fn alarm(&self, words: &[&str]) -> String {
        let has = |alarm: &&String| words.iter().all(|word| alarm.contains(word));
        let status = self
            .controller
            .until(&format!("an alarm with {words:?}"), |s| s.alarms.iter().any(|a| has(&a)))
            .await;
        assert!(!status.healthy, "{status:#?}");
        status.alarms.iter().find(has).expect("just seen").clone()
    }

    /// Waits until the balancer leads to the first master: it is told after it was seen.
    async fn is_open(&self) {
        until("the balancer to be open", || async {
            self.balancer.backend(7000).map(drop).ok_or("closed".into())
        })
        .await;
    }

    /// A second balancer, so that the first one is not the last.
    async fn with_another(&self) -> FakeBalancer {
        let other = FakeBalancer::start().await;
        let spec = json!({"name": "b2", "endpoint": other.url(), "source": "127.0.0.2"});
        let (code, body) = self.add(spec).await;
        assert_eq!(code, 201, "{body}");
        until("the second balancer to be open", || async {
            other.backend(7000).map(drop).ok_or("closed".into())
        })
        .await;
        other
    }
}

#[tokio::test]
async fn a_live_balancer_is_closed_before_it_is_forgotten() {
    let stage = Stage::new(2).await;
    stage.create().await;
    let other = stage.with_another().await;
    let (code, body) = stage.remove("b", "").await;
    assert_eq!(code, 204, "{body}");
    assert_eq!(stage.balancer.backend(7000), None, "it leads nowhere any more");
    assert_eq!(stage.listed().await, ["b2"]);
    assert!(other.backend(7000).is_some(), "the other one was not touched");
    stage.controller.until("a healthy cluster", |status| status.healthy).await;
    // It may come back: what it is told then is newer than what closed it.
    let spec = json!({"name": "b", "endpoint": stage.balancer.url(), "source": "127.0.0.2"});
    let (code, body) = stage.add(spec).await;
    assert_eq!(code, 201, "{body}");
    stage.controller.until("a healthy cluster", |status| status.healthy).await;
    stage.is_open().await;
}

#[tokio::test]
async fn a_balancer_that_cannot_be_closed_stays_unless_it_is_forced_out() {
    let stage = Stage::new(2).await;
    stage.create().await;
    let _other = stage.with_another().await;
    stage.balancer.set_reachable(false);
    let (code, body) = stage.remove("b", "").await;
    assert_eq!(code, 409, "{body}");
    assert!(message(&body).contains("could not be closed, and stays"), "{body}");
    assert!(message(&body).contains("--force"), "{body}");
    assert_eq!(stage.listed().await, ["b", "b2"]);
    stage.balancer.set_reachable(true);
    stage.controller.until("a healthy cluster", |status| status.healthy).await;
    stage.is_open().await;

    stage.balancer.set_reachable(false);
    let (code, body) = stage.remove("b", "?force=maybe").await;
    assert_eq!(code, 400, "{body}");
    let (code, body) = stage.remove("b", "?force=yes").await;
    assert_eq!(code, 200, "{body}");
    assert_eq!(body["data"]["closed"], false);
    assert_eq!(stage.listed().await, ["b2"]);
    let events = "/namespaces/n/clusters/c/events";
    let (_, events) = stage.controller.call("GET", events, json!({})).await;
    assert!(events.to_string().contains("removed WITHOUT being closed"), "{events}");
}

#[tokio::test]
async fn the_last_way_in_is_not_taken_away_in_passing() {
    let stage = Stage::new(2).await;
    stage.create().await;
    let (code, body) = stage.remove("b", "").await;
    assert_eq!(code, 409, "{body}");
    assert!(message(&body).contains("is the last one"), "{body}");
    stage.is_open().await;
    let (code, body) = stage.remove("b", "?force=yes").await;
    assert_eq!(code, 204, "{body}");
    assert_eq!(stage.balancer.backend(7000), None);
    stage.alarm(&["no load balancer is listed", "ctl balancer add"]).await;
}

#[tokio::test]
async fn who_is_added_is_asked_who_he_is() {
    let stage = Stage::new(2).await;
    stage.create().await;
    for (spec, words) in [
        (
            json!({"name": "x", "endpoint": "http://127.0.0.1:1", "source": "127.0.0.2"}),
            "start it first",
        ),
        (json!({"name": "x", "kind": "haproxy", "endpoint": "http://127.0.0.1:1"}), "Runtime API"),
        (json!({"name": "x", "endpoint": "http://127.0.0.1:1"}), "start it first"),
    ] {
        let (code, body) = stage.add(spec).await;
        assert_eq!(code, 400, "{body}");
        assert!(message(&body).contains(words), "{body}");
    }
    let other = FakeBalancer::start().await;
    let spec = |source: &str| json!({"name": "b2", "endpoint": other.url(), "source": source});
    let (code, body) = stage.add(spec("")).await;
    assert_eq!(code, 400, "{body}");
    assert!(message(&body).contains("needs `source`"), "{body}");
    other.set_source("127.0.0.2");
    let (code, body) = stage.add(spec("127.0.0.9")).await;
    assert_eq!(code, 400, "{body}");
    assert!(message(&body).contains("says that it dials from 127.0.0.2"), "{body}");
    assert_eq!(stage.listed().await, ["b"]);
    let (code, body) = stage.add(spec("")).await;
    assert_eq!((code, body["data"]["source"].as_str()), (201, Some("127.0.0.2")), "{body}");
    stage.controller.until("a healthy cluster", |status| status.healthy).await;
}

/// By another name of the same machine.
#[tokio::test]
async fn one_instance_is_not_taken_twice_and_one_node_not_for_two() {
    let stage = Stage::new(2).await;
    let one = stage.nodes[0].address();
    let alias = one.replace("127.0.0.1", "127.1");
    let mut spec = stage.spec();
    spec["nodes"] = json!([one, alias]);
    let (code, body) = stage.controller.call("POST", "/namespaces/n/clusters", spec).await;
    assert_eq!(code, 400, "{body}");
    assert!(message(&body).contains("are one process at two addresses"), "{body}");
    stage.create().await;
    let alias = stage.balancer.url().replace("127.0.0.1", "127.1");
    let (code, body) =
        stage.add(json!({"name": "b2", "endpoint": alias, "source": "127.0.0.2"})).await;
    assert_eq!(code, 409, "{body}");
    assert!(message(&body).contains("is already used by cluster n/c, as `b`"), "{body}");
    assert_eq!(stage.listed().await, ["b"]);
}

/// Its place is what it is known by: of another one nobody would close what it leads to here.
#[tokio::test]
async fn an_instance_that_stays_where_it_is_may_be_spoken_to_otherwise() {
    let stage = Stage::new(2).await;
    stage.create().await;
    let path = format!("{BALANCERS}/b");
    let secure = stage.balancer.url().replace("http://", "https://");
    for (body, code, words) in [
        (json!({"endpoint": "http://127.0.0.1:1"}), 400, "is another place"),
        (json!({"endpoint": "https://127.0.0.1"}), 400, "no URL with host and port"),
        // It speaks no TLS, which is found before the record says that it does.
        (json!({"endpoint": secure}), 400, "start it first"),
    ] {
        let (found, body) = stage.controller.call("PATCH", &path, body).await;
        assert_eq!(found, code, "{body}");
        assert!(message(&body).contains(words), "{body}");
    }
    let nobody = format!("{BALANCERS}/x");
    let (code, body) = stage.controller.call("PATCH", &nobody, json!({})).await;
    assert_eq!(code, 404, "{body}");
    let (code, body) = stage.controller.call("PATCH", &path, json!({})).await;
    assert_eq!((code, &body["data"]["endpoint"]), (200, &json!(stage.balancer.url())), "{body}");
    let (code, body) = stage.controller.call("PATCH", &path, json!({"token": "s3cret-lb"})).await;
    assert_eq!(code, 200, "{body}");
    assert!(!body.to_string().contains("s3cret"), "{body}");
    // It is told as before, and is open all the time.
    let told = stage.balancer.told();
    until("it to be told again", || async {
        if stage.balancer.told() > told { Ok(()) } else { Err("nothing".to_owned()) }
    })
    .await;
    stage.controller.until("a healthy cluster", |status| status.healthy).await;
    let led: Vec<_> = stage.balancer.history(7000);
    let led: Vec<_> = led.into_iter().skip_while(Option::is_none).collect();
    assert_eq!(led, [Some(stage.nodes[0].id())]);
}

#[tokio::test]
async fn lists_that_differ_are_told_from_either_side() {
    let stage = Stage::new(2).await;
    stage.create().await;
    // A node that lists somebody else.
    stage.nodes[1].inside.lock().balancer_sources = vec!["127.0.0.3/32".to_owned()];
    let address = stage.nodes[1].address();
    stage.alarm(&["balancer b dials from 127.0.0.2", &address, "node.conf"]).await;
    stage.nodes[1].inside.lock().balancer_sources = vec!["127.0.0.0/8".to_owned()];
    stage.controller.until("a healthy cluster", |status| status.healthy).await;
    // A balancer that says something else than is registered.
    stage.balancer.set_source("127.0.0.9");
    let of_master = stage.nodes[0].address();
    stage.alarm(&["balancer b dials from 127.0.0.9", &of_master]).await;
    stage.alarm(&["says that it dials from 127.0.0.9", "registered with source 127.0.0.2"]).await;
    stage.balancer.set_source("127.0.0.2");
    stage.controller.until("a healthy cluster", |status| status.healthy).await;
    // What a node saw itself.
    let address = "10.0.8.3".parse().expect("an address");
    stage.nodes[0].inside.lock().strangers = vec![Stranger { address, connections: 3, age_ms: 5 }];
    stage.alarm(&["a load balancer at 10.0.8.3 is refused by", &of_master]).await;
}

/// The time that a certificate has left is told by its owner, and watched by the controller.
#[tokio::test]
async fn certificates_that_run_out_are_told_of_until_they_are_replaced() {
    let stage = Stage::new(2).await;
    stage.create().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_s = i64::try_from(now.expect("after 1970").as_secs()).expect("seconds");
    let with = |option: &str, left_s: i64| {
        vec![Certificate { option: option.to_owned(), ends_s: now_s + left_s }]
    };
    let (day_s, address) = (86_400, stage.nodes[1].address());
    stage.nodes[0].inside.lock().certificates = with("tls-cert-file", 400 * day_s);
    stage.nodes[1].inside.lock().certificates = with("tls-cert-file", 3 * day_s + 3_600);
    let of_node = format!("node {address}: its certificate (tls-cert-file) runs out in 3 days: ");
    let told = stage.alarm(&[&of_node, "SIGHUP"]).await;
    assert!(told.starts_with("node "), "{told}");
    stage.balancer.set_certificates(with("tls.cert_file", -5));
    stage.alarm(&["balancer b: its certificate (tls.cert_file) has run out: replace"]).await;
    stage.nodes[1].inside.lock().certificates = with("tls-cert-file", 400 * day_s);
    stage.balancer.set_certificates(with("tls.cert_file", 400 * day_s));
    stage.controller.until("a healthy cluster", |status| status.healthy).await;
}

/// What is asked for by whoever replaces a CA: each tells for itself.
#[tokio::test]
async fn the_cas_that_nodes_and_balancers_know_are_told_and_those_of_the_controller() {
    let stage = Stage::new(2).await;
    stage.create().await;
    let knows = |option: &str, ca: &str| {
        let accepts = vec![ca.to_owned()];
        vec![Trust { option: option.to_owned(), accepts, issued_by: None }]
    };
    stage.nodes[0].inside.lock().trust = knows("tls-ca-cert-file", "ab.cd");
    stage.balancer.set_trust(knows("tls.client_ca_file", "ef.-"));
    let told = until("both to tell", || async {
        let path = "/namespaces/n/clusters/c/certificates";
        let (code, body) = stage.controller.call("GET", path, json!({})).await;
        let holders = &body["data"]["holders"];
        let names = |at: usize| holders[at]["trust"][0]["accepts"][0].as_str();
        match (code, names(0), names(2)) {
            // One that is silent for a moment does not tell.
            (200, Some("ab.cd"), Some("ef.-")) if holders[1]["told"] == true => Ok(holders.clone()),
            _ => Err(body.to_string()),
        }
    })
    .await;
    assert_eq!(told[0]["name"], stage.nodes[0].address());
    assert_eq!((&told[1]["trust"], &told[1]["told"]), (&json!([]), &json!(true)));
    assert_eq!((&told[2]["kind"], &told[2]["name"]), (&json!("balancer"), &json!("b")));
    let url = format!("{}/certificates", stage.controller.url);
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let own: Value = http.get(url).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&own["data"]["kind"], &own["data"]["trust"]), (&json!("controller"), &json!([])));
}

/// `ctl node announce MASTER none`, by mistake.
#[tokio::test]
async fn a_master_with_slots_keeps_the_endpoint_that_clients_need() {
    let stage = Stage::new(2).await;
    stage.create().await;
    let node = |index: usize| format!("/namespaces/n/clusters/c/nodes/{}", stage.nodes[index].id());
    let (code, body) = stage.controller.call("PATCH", &node(0), json!({})).await;
    assert_eq!(code, 409, "{body}");
    assert!(message(&body).contains("ctl failover shard"), "{body}");
    let elsewhere = json!({"announced_host": "lb.test", "announced_port": 7005});
    let (code, body) = stage.controller.call("PATCH", &node(0), elsewhere).await;
    assert_eq!(code, 200, "{body}");
    let (code, body) = stage.controller.call("PATCH", &node(1), json!({})).await;
    assert_eq!(code, 200, "a replica: {body}");
}

/// Created, added, moved to: an address belongs to one node.
#[tokio::test]
async fn two_nodes_are_not_announced_at_one_address() {
    let stage = Stage::new(3).await;
    let clusters = "/namespaces/n/clusters";
    let mut spec = stage.spec();
    spec["nodes"].as_array_mut().expect("nodes").truncate(2);
    spec["replicas"] = json!(2);
    let mut twice = spec.clone();
    twice["nodes"][1]["announced_port"] = json!(7000);
    twice["nodes"][1]["announced_host"] = json!("LB.test");
    let (code, body) = stage.controller.call("POST", clusters, twice).await;
    assert_eq!(code, 400, "{body}");
    assert!(message(&body).contains("are both at LB.test:7000 for clients"), "{body}");

    let (code, body) = stage.controller.call("POST", clusters, spec).await;
    assert_eq!(code, 201, "{body}");
    let third = stage.nodes[2].address();
    let nodes = "/namespaces/n/clusters/c/shards/0/nodes";
    let local = stage.nodes[0].port();
    for (host, port) in [("lb.test", 7001), ("127.0.0.1", local)] {
        let spec = json!({"addr": third, "announced_host": host, "announced_port": port});
        let (code, body) = stage.controller.call("POST", nodes, spec).await;
        assert_eq!(code, 400, "{body}");
        assert!(message(&body).contains("for clients"), "{body}");
    }
    let spec = json!({"addr": third, "announced_host": "lb.test", "announced_port": 7002});
    let (code, body) = stage.controller.call("POST", nodes, spec).await;
    assert_eq!(code, 201, "{body}");
    let node = format!("{nodes}/{}", body["data"].as_str().expect("an id"));
    let to = |port: u16| json!({"announced_host": "lb.test", "announced_port": port});
    for port in [7000, 7001] {
        let (code, body) = stage.controller.call("PATCH", &node, to(port)).await;
        assert_eq!(code, 400, "{body}");
        assert!(message(&body).contains("announce each at an address of its own"), "{body}");
    }
    // Its own one, another one, none: all of these are free.
    for body in [to(7002), to(7003), json!({})] {
        let (code, body) = stage.controller.call("PATCH", &node, body).await;
        assert_eq!(code, 200, "{body}");
    }
}
