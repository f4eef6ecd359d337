//! Copied stores, swapped folders, stale nodes: what is not what it seems to be, and how it is
//! told.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "the support module is shared by tests, not published"
)]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use api::health::Health;
use api::rest::Status;
use api::store::Heeds;
use controller::Config;
use serde_json::{Value, json};
use support::{Controller, Stage, until};

const CLUSTER: &str = "/namespaces/n/clusters/c";

/// A copy of the store, as a backup is made: of a file that is not being written.
async fn copied(stage: &mut Stage) -> PathBuf {
    let (from, to) =
        (stage.folder.path().join("store.redb"), stage.folder.path().join("copy.redb"));
    stage
        .restart_controller_with(|| {
            std::fs::copy(&from, &to).expect("a copy");
        })
        .await;
    stage.controller.until("a healthy cluster", |status| status.healthy).await;
    to
}

fn alarms(status: &Status) -> Vec<&str> {
    status.alarms.iter().map(String::as_str).collect()
}

async fn written(stage: &Stage) {
    until("a write", || async { stage.nodes[0].write().then_some(()).ok_or("refused".into()) })
        .await;
}

#[tokio::test]
async fn a_copied_store_does_not_take_over_from_a_controller_that_lives() {
    let mut stage = Stage::new(3).await;
    stage.create().await;
    let copy = copied(&mut stage).await;
    let terms = || stage.nodes.iter().map(|node| node.inside.lock().term).max();
    let term = terms();
    // Its term would be higher.
    let config = Config { data: copy, min_term: 100, ..Config::default() };
    let second = Controller::start_with(config.clone()).await;
    // What the shard says and the alarm are of plans one after the other.
    let told = second.until("the other one to be heard", |status| {
        status.shards[0].detail.starts_with("the controller of term") && status.alarms.len() == 1
    });
    let told = told.await;
    assert_eq!(told.alarms.len(), 1, "{:?}", told.alarms);
    assert!(
        told.alarms[0].contains("copied or moved from") && told.alarms[0].contains("--take-over")
    );
    assert_eq!(terms(), term, "nobody was led by asking");
    stage.controller.until("the first to go on", |status| status.healthy).await;
    written(&stage).await;
    second.stop().await;

    // With `take_over` the second takes over, and the first says who leads, once.
    let taking = Config { take_over: true, ..config.clone() };
    let second = Controller::start_with(taking).await;
    second.until("the second to lead", |status| status.healthy).await;
    let told = stage.controller.until("the first to stand back", |status| {
        let shard = &status.shards[0];
        // A node whose answer is late is not up for a moment.
        shard.detail.starts_with("the controller of term")
            && status.alarms.len() == 1
            && shard.nodes.iter().all(|node| node.health == Health::Up)
    });
    let told = told.await;
    let wanted = format!(
        "the controller of term {} leads, this controller has term",
        second.status().await.term
    );
    assert_eq!(told.alarms.len(), 1, "{:?}", told.alarms);
    assert!(told.alarms[0].starts_with(&wanted), "{:?}", told.alarms);
    assert!(told.shards[0].nodes.iter().all(|node| node.health == Health::Up), "{told:#?}");
    written(&stage).await;
    let health = reqwest::get(format!("{}/healthz", stage.controller.url)).await.expect("health");
    assert_eq!(health.status().as_u16(), 503, "it carries out no failover");
    second.stop().await;
    // A balancer that restarts takes any term: who stands back does not tell it anything.
    stage.balancer.restart();
    let told = stage.balancer.told();
    let some_rounds = Duration::from_millis(700);
    let again = tokio::time::timeout(some_rounds, async {
        while stage.balancer.told() == told {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(again.await.is_err(), "the first told the balancer what it granted last");
    // It is at home there now: the next one does not ask.
    let third = Controller::start_with(config).await;
    third.until("the third to lead", |status| status.healthy).await;
}

#[tokio::test]
async fn a_moved_store_leads_once_its_nodes_hear_nobody() {
    let mut stage = Stage::new(3).await;
    stage.create().await;
    let moved = stage.folder.path().join("moved.redb");
    let from = stage.folder.path().join("store.redb");
    stage.stop_controller().await;
    std::fs::copy(&from, &moved).expect("a copy");
    std::fs::remove_file(&from).expect("moved");
    let next = Controller::start(moved.clone()).await;
    let status = next.status().await;
    assert!(alarms(&status).iter().all(|alarm| alarm.contains("copied or moved from")));
    next.until("it to lead", |status| status.healthy).await;
    written(&stage).await;
    // Older nodes cannot say who leads them: somebody has to.
    next.stop().await;
    for node in &stage.nodes {
        node.inside.lock().cluster_id.clear();
    }
    let again = stage.folder.path().join("again.redb");
    std::fs::rename(&moved, &again).expect("moved");
    let config = Config { data: again, ..Config::default() };
    let next = Controller::start_with(config.clone()).await;
    next.until("it to ask", |status| {
        status.alarms.iter().any(|alarm| alarm.contains("--take-over"))
    })
    .await;
    next.stop().await;
    let config = Config { take_over: true, ..config };
    let next = Controller::start_with(config).await;
    next.until("it to lead", |status| status.healthy).await;
}

#[tokio::test]
async fn nodes_that_another_controller_leads_are_not_taken() {
    let stage = Stage::new(2).await;
    stage.create().await;
    let term = stage.nodes[0].inside.lock().term;
    let config =
        Config { data: stage.folder.path().join("other.redb"), min_term: 100, ..Config::default() };
    let other = Controller::start_with(config).await;
    other.call("POST", "/namespaces", json!({"namespace": "n"})).await;
    let mut spec = stage.spec();
    for path in ["/namespaces/n/clusters", "/namespaces/n/clusters/c/import"] {
        let (code, body) = other.call("POST", path, spec.clone()).await;
        assert_eq!(code, 409, "{body}");
        let wanted = format!("is led by the controller of term {term} now");
        assert!(message(&body).contains(&wanted), "{body}");
        spec["nodes"] = json!([stage.nodes[0].address()]);
    }
    assert_eq!(stage.nodes[0].inside.lock().term, term, "nobody was led by asking");
    stage.controller.until("the first to go on", |status| status.healthy).await;
}

fn heeds(stage: &Stage) -> Vec<Heeds> {
    stage.nodes.iter().map(|node| node.inside.lock().heeds).collect()
}

/// The store is lost, its successor imports what it finds, and then it is found, with terms that
/// are far above (rule O7).
#[tokio::test]
async fn nodes_obey_another_store_once_it_takes_the_place_of_theirs_and_theirs_no_more() {
    let mut stage = Stage::new(2).await;
    for node in &stage.nodes {
        node.inside.lock().heeds = Heeds::Nobody;
    }
    stage.create().await;
    let first = heeds(&stage)[0].store().expect("its name was said");
    assert_eq!(heeds(&stage), [Heeds::Store(first); 2]);
    stage.stop_controller().await;

    let data = stage.folder.path().join("other.redb");
    let other = Controller::start_with(Config { data, min_term: 100, ..Config::default() }).await;
    other.call("POST", "/namespaces", json!({"namespace": "n"})).await;
    let mut spec = stage.spec();
    spec["nodes"] = json!([stage.nodes[0].address()]);
    let (code, body) = other.call("POST", &format!("{CLUSTER}/import"), spec).await;
    assert_eq!(code, 200, "{body}");
    other.until("it to lead", |status| status.healthy).await;
    let second = heeds(&stage)[0].store().expect("its name was said");
    assert_ne!(second.name, first.name);
    assert_eq!(heeds(&stage), [Heeds::Store(second); 2]);
    let (_, events) = other.call("GET", "/events?limit=100", json!({})).await;
    let taken = format!("in the place of store {:016x}, generation 1", first.name);
    assert!(events.to_string().contains(&taken), "{events}");

    let data = stage.folder.path().join("store.redb");
    let found = Config { data, min_term: 1_000_000, take_over: true, ..Config::default() };
    let found = Controller::start_with(found).await;
    let told = found.until("the other store to be told", |status| {
        status.alarms.iter().any(|alarm| alarm.contains("are led from store"))
    });
    let told = told.await;
    let (leads, own) = (format!("{:016x}", second.name), format!("{:016x}", first.name));
    assert!(
        alarms(&told).iter().any(|alarm| {
            let names = alarm.contains(&leads) && alarm.contains(&own);
            names && alarm.contains("it does nothing") && alarm.contains("ctl store adopt")
        }),
        "{told:#?}"
    );
    let term = stage.nodes.iter().map(|node| node.inside.lock().term).max();
    assert!(term < Some(1_000_000), "{term:?}");
    other.until("the second to go on", |status| status.healthy).await;
    written(&stage).await;
    assert_eq!(heeds(&stage), [Heeds::Store(second); 2]);
}

#[tokio::test]
async fn a_node_that_is_somebody_already_is_not_made_another() {
    let stage = Stage::new(2).await;
    let known = "a".repeat(40);
    stage.nodes[1].inside.lock().id.clone_from(&known);
    let (code, body) = stage.controller.call("POST", "/namespaces/n/clusters", stage.spec()).await;
    assert_eq!(code, 400, "{body}");
    let wanted = format!("node {}: it already is node {known}", stage.nodes[1].address());
    assert!(message(&body).starts_with(&wanted), "{body}");
    assert!(
        stage.nodes.iter().all(|node| node.inside.lock().topology.is_none()),
        "nothing is half made"
    );
    // Forgotten, it can be taken.
    stage.nodes[1].inside.lock().id.clear();
    stage.create().await;
}

fn message(body: &Value) -> &str {
    body["error"]["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_cluster_is_imported_from_its_newest_node_only() {
    let stage = Stage::new(3).await;
    stage.create().await;
    let name = stage.nodes[0].inside.lock().cluster_id.clone();
    assert_eq!(name.len(), 16, "the nodes were told: {name}");
    // Deleted, and one of the nodes stays behind.
    let (code, _) = stage.controller.call("DELETE", CLUSTER, json!({})).await;
    assert_eq!(code, 204);
    let newer = {
        let mut topology = stage.nodes[0].inside.lock().topology.clone().expect("a topology");
        topology.version = 41;
        topology
    };
    for node in &stage.nodes[..2] {
        node.inside.lock().put(newer.clone());
    }
    let path = format!("{CLUSTER}/import");
    let mut spec = stage.spec();
    spec["nodes"] = json!([stage.nodes[2].address()]);
    let (code, body) = stage.controller.call("POST", &path, spec.clone()).await;
    assert_eq!(code, 400, "{body}");
    assert!(message(&body).contains("knows version 41: give that one first"), "{body}");
    spec["nodes"] = json!([stage.nodes[1].address()]);
    let (code, body) = stage.controller.call("POST", &path, spec).await;
    assert_eq!(code, 200, "{body}");
    let status = stage.controller.until("everything to settle", |status| status.healthy).await;
    assert_eq!(status.version, 41);
    assert_eq!(stage.nodes[0].inside.lock().cluster_id, name, "it is the same cluster");
}

/// The store was lost, and its successor begins with low terms: to the node that was given they may
/// be new, and others know higher ones.
#[tokio::test]
async fn nothing_is_imported_of_which_a_node_obeys_higher_terms_only() {
    let stage = Stage::new(3).await;
    stage.create().await;
    let (code, _) = stage.controller.call("DELETE", CLUSTER, json!({})).await;
    assert_eq!(code, 204);
    let own = stage.nodes[2].inside.lock().term;
    stage.nodes[2].inside.lock().term = own + 900;
    let path = format!("{CLUSTER}/import");
    let mut spec = stage.spec();
    spec["nodes"] = json!([stage.nodes[0].address()]);
    let (code, body) = stage.controller.call("POST", &path, spec.clone()).await;
    assert_eq!(code, 400, "{body}");
    let told = message(&body);
    let wanted =
        format!("node {} has obeyed a controller of term {}", stage.nodes[2].address(), own + 900);
    assert!(told.starts_with(&wanted) && told.contains("`min_term` above"), "{told}");
    let (code, body) = stage.controller.call("GET", CLUSTER, json!({})).await;
    assert_eq!(code, 404, "{body}");
    // As after a start with `min_term`.
    stage.nodes[2].inside.lock().term = own;
    let (code, body) = stage.controller.call("POST", &path, spec).await;
    assert_eq!(code, 200, "{body}");
    stage.controller.until("everything to settle", |status| status.healthy).await;
}

/// Two replicas on each other's data folders.
#[tokio::test]
async fn swapped_folders_are_an_alarm_and_nothing_else() {
    let stage = Stage::new(3).await;
    stage.create().await;
    let swap = || {
        let (mut one, mut other) = (stage.nodes[1].inside.lock(), stage.nodes[2].inside.lock());
        std::mem::swap(&mut one.id, &mut other.id);
        one.sequence += 1_000;
    };
    swap();
    let is_of_folders = |alarm: &&str| alarm.contains("give each its own folder");
    let are_told =
        |status: &Status| status.alarms.len() == 2 && alarms(status).iter().all(is_of_folders);
    let told = stage.controller.until("alarms", are_told).await;
    assert_eq!(told.shards[0].state, "steady");
    written(&stage).await;
    swap();
    stage.controller.until("everything to settle", |status| status.healthy).await;
}

#[tokio::test]
async fn a_paused_cluster_waits_for_its_master() {
    let mut stage = Stage::new(2).await;
    stage.create().await;
    let (code, body) =
        stage.controller.call("PATCH", CLUSTER, json!({"paused": true, "reason": "kernels"})).await;
    assert_eq!(code, 200, "{body}");
    stage.nodes[0].kill().await;
    let told = stage.controller.until("a shard without a master", |status| {
        status.shards[0].detail.ends_with("is down; automatic failover is paused")
    });
    let told = told.await;
    assert!(
        alarms(&told).iter().any(|alarm| alarm.contains("paused by an operator (kernels)")),
        "{told:#?}"
    );
    assert_eq!(told.version, 1);
    // Also after a restart of the controller.
    stage.restart_controller().await;
    stage.nodes[0].restart().await;
    written(&stage).await;
    // Not healthy: it has an alarm as long as it lasts.
    let settled = |status: &Status| {
        status.shards[0].state == "steady" && status.shards[0].nodes.iter().all(|n| n.settled)
    };
    let status = stage.controller.until("everything to settle", settled).await;
    assert_eq!((status.version, status.shards[0].nodes[0].role.as_str()), (1, "master"));
    stage.nodes[0].kill().await;
    let (code, _) = stage.controller.call("PATCH", CLUSTER, json!({"paused": false})).await;
    assert_eq!(code, 200);
    stage.controller.until("a failover", |status| status.shards[0].nodes[1].role == "master").await;
}

/// What came of the request to release the cluster. It is refused while a node is not settled, as
/// one is for a moment whose answer is late.
async fn released(stage: &Stage, confirm: bool) -> (u16, Value) {
    let (path, body) = (format!("{CLUSTER}/release"), json!({ "confirm": confirm }));
    until("a settled cluster", || async {
        let (code, answer) = stage.controller.call("POST", &path, body.clone()).await;
        if code == 409 { Err(answer.to_string()) } else { Ok((code, answer)) }
    })
    .await
}

#[tokio::test]
async fn a_released_cluster_serves_without_a_controller() {
    let stage = Stage::new(2).await;
    stage.create().await;
    let path = format!("{CLUSTER}/release");
    let (code, body) = released(&stage, false).await;
    assert_eq!((code, &body["data"]["done"]), (200, &json!(false)), "{body}");
    assert_eq!(body["data"]["nodes"][0]["lease_mode"], "block-all");
    stage.nodes[1].set_running(false);
    let is_silent = |status: &Status| !status.shards[0].nodes[1].settled;
    stage.controller.until("a silent replica", is_silent).await;
    let (code, body) = stage.controller.call("POST", &path, json!({"confirm": true})).await;
    assert_eq!(code, 409, "{body}");
    stage.nodes[1].set_running(true);
    stage.controller.until("everything to settle", |status| status.healthy).await;
    let (code, body) = released(&stage, true).await;
    assert_eq!((code, &body["data"]["done"]), (200, &json!(true)), "{body}");
    // These nodes have no configuration file.
    assert!(body["data"]["nodes"][0]["forgets"].as_str().is_some(), "{body}");
    let (code, _) = stage.controller.call("GET", CLUSTER, json!({})).await;
    assert_eq!(code, 404);
    let modes: Vec<_> = stage.nodes.iter().map(|node| node.inside.lock().lease_mode).collect();
    assert_eq!(modes, [api::heartbeat::LeaseMode::Disabled; 2]);
    assert!(stage.nodes[0].write());
}

/// Rule O5: one that was replaced while it releases must not free nodes that another leads.
#[tokio::test]
async fn a_node_is_released_in_the_term_of_its_controller_where_it_can_be() {
    let stage = Stage::new(2).await;
    for node in &stage.nodes {
        node.inside.lock().heeds = Heeds::Nobody;
    }
    stage.nodes[1].inside.lock().knows_lease_mode = false;
    stage.create().await;
    let term = stage.controller.until("a healthy cluster", |status| status.healthy).await.term;
    let (code, body) = released(&stage, true).await;
    assert_eq!((code, &body["data"]["done"]), (200, &json!(true)), "{body}");
    let modes: Vec<_> = stage.nodes.iter().map(|node| node.inside.lock().lease_mode).collect();
    assert_eq!(modes, [api::heartbeat::LeaseMode::Disabled; 2]);
    let terms: Vec<_> = stage.nodes.iter().map(|node| node.inside.lock().lease_mode_in).collect();
    assert_eq!(terms, [Some(term), None]);
}

#[tokio::test]
async fn a_node_whose_clock_is_ahead_is_named() {
    let stage = Stage::new(3).await;
    stage.create().await;
    for node in &stage.nodes {
        node.inside.lock().ahead = Some(Duration::ZERO);
    }
    stage.nodes[1].inside.lock().ahead = Some(Duration::from_secs(3_600));
    let is_of_clocks = |alarm: &&str| alarm.contains("clock");
    let status =
        stage.controller.until("an alarm", |status| alarms(status).iter().any(is_of_clocks));
    let status = status.await;
    let told: Vec<&str> = alarms(&status).into_iter().filter(is_of_clocks).collect();
    let node = stage.nodes[1].address();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with(&format!("the clock of {node} is ahead of")), "{told:?}");

    stage.nodes[1].inside.lock().ahead = Some(Duration::ZERO);
    let over = |status: &Status| !alarms(status).iter().any(is_of_clocks);
    stage.controller.until("its end", over).await;
}

/// The first node was told already that it needs no lease: left alone it would serve beside
/// whoever takes over from it.
#[tokio::test]
async fn a_release_that_a_node_refuses_is_taken_back() {
    let mut stage = Stage::new(2).await;
    stage.create().await;
    stage.nodes[1].inside.lock().keeps_lease_mode = true;
    let (code, body) = released(&stage, true).await;
    assert_eq!(code, 500, "{body}");
    let wanted = "ERR the mode stays what it is; the cluster was not released";
    assert!(message(&body).ends_with(wanted), "{body}");
    let modes: Vec<_> = stage.nodes.iter().map(|node| node.inside.lock().lease_mode).collect();
    assert_eq!(modes, [api::heartbeat::LeaseMode::BlockAll; 2]);
    // Healthy: a pause would be an alarm.
    stage.controller.until("a healthy cluster", |status| status.healthy).await;
    written(&stage).await;
    // It is led as before: its leases end, and others take over.
    stage.nodes[0].kill().await;
    stage.controller.until("a failover", |status| status.shards[0].nodes[1].role == "master").await;
}

/// What somebody set at one by hand, for a while, is not to be in its file for that.
#[tokio::test]
async fn a_release_that_is_taken_back_leaves_those_alone_that_it_has_not_reached() {
    let stage = Stage::new(3).await;
    stage.create().await;
    stage.nodes[1].inside.lock().keeps_lease_mode = true;
    let (code, body) = released(&stage, true).await;
    assert_eq!(code, 500, "{body}");
    let rewrites: Vec<_> = stage.nodes.iter().map(|node| node.inside.lock().rewrites).collect();
    // Freed and taken back, refused, not reached.
    assert_eq!(rewrites, [2, 0, 0]);
}
