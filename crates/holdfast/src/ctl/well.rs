//! Whether a cluster is in a state in which the next step of something may be made, and waiting for
//! it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use api::health::Health;
use api::rest::{NodeStatus, Status};

use super::Context;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// What is asked of a cluster: nothing, or why it is not so.
pub(super) type Asked = fn(&Status) -> Option<String>;

/// All nodes answer, each plays its role, replicas follow and are in their sets.
pub(super) fn follows(status: &Status) -> Option<String> {
    status.shards.iter().find_map(|shard| {
        let of = |text: String| Some(format!("shard {}: {text}", shard.index));
        if let Some(node) = shard.nodes.iter().find(|node| node.health != Health::Up) {
            let why = node.error.as_deref().unwrap_or("it does not answer");
            return of(format!("node {} is {}: {why}", node.addr, node.health.as_str()));
        }
        if shard.state != "steady" {
            return of(format!("it is {}", shard.state));
        }
        let is_apart = |node: &&NodeStatus| {
            let link = node.answer.as_ref().map(|answer| answer.link_status.as_str());
            node.role == "slave" && link != Some("up")
        };
        if let Some(node) = shard.nodes.iter().find(is_apart) {
            return of(format!("replica {} does not follow its master", node.addr));
        }
        if shard.degraded {
            return of("a node is not in the in-sync set".to_owned());
        }
        None
    })
}

/// That, and balancers do what they were told.
pub(super) fn obeys(status: &Status) -> Option<String> {
    follows(status).or_else(|| idle(status))
}

/// That, and there is no alarm.
pub(super) fn is_healthy(status: &Status) -> Option<String> {
    if let Some(why) = follows(status) {
        return Some(why);
    }
    if let Some(alarm) = status.alarms.first() {
        return Some(format!("there is an alarm: {alarm}"));
    }
    match idle(status) {
        None if !status.healthy => Some("the cluster is not healthy".to_owned()),
        idle => idle,
    }
}

/// A balancer that does not do what it was told.
fn idle(status: &Status) -> Option<String> {
    let idle = status.balancers.iter().find(|balancer| !balancer.in_force)?;
    Some(format!("balancer {} does not do what it was told", idle.name))
}

/// Waits until what is asked has been so for `steady`, for `limit` at most.
///
/// # Errors
/// It is not so in that time; the text says what is not. The controller does not answer.
pub(super) async fn wait(
    cx: &Context,
    path: &str,
    asked: Asked,
    (steady, limit): (Duration, Duration),
) -> Result<Status> {
    let end = Instant::now() + limit;
    let mut since = None;
    loop {
        let status: Status = cx.http.get(&format!("{path}/status")).await?;
        let now = Instant::now();
        match asked(&status) {
            None if now.duration_since(*since.get_or_insert(now)) >= steady => return Ok(status),
            None => {}
            Some(why) if now >= end => bail!("{why}"),
            Some(_) => since = None,
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A master and a replica, all well, but for what `change` makes of it.
    fn status(change: impl Fn(&mut Value)) -> Status {
        let node = |role: &str, link: &str| {
            json!({
                "id": role, "addr": format!("{role}:1"), "announced": null, "role": role,
                "health": "up", "settled": true, "lag": null, "misses": 0, "error": null,
                "answer": {
                    "age_ms": 1, "role": role, "sequence": 1, "version": 1,
                    "lease_mode": "block-all", "lease_remaining_ms": 1, "client_access": "any",
                    "link_status": link, "resync": "none", "paused": false, "loading": false
                }
            })
        };
        let mut value = json!({
            "namespace": "n", "name": "c", "version": 1, "topology_hash": "", "term": 1,
            "healthy": true, "alarms": [],
            "balancers": [{
                "name": "lb1", "kind": "builtin", "endpoint": "", "in_force": true,
                "error": null, "frontends": []
            }],
            "shards": [{
                "index": 0, "state": "steady", "detail": "", "slot_ranges": [], "degraded": false,
                "nodes": [node("master", "connecting"), node("slave", "up")]
            }]
        });
        change(&mut value);
        serde_json::from_value(value).expect("a status")
    }

    #[test]
    fn a_cluster_is_well_while_all_nodes_answer_and_follow() {
        assert_eq!(follows(&status(|_| ())), None);
        assert_eq!(follows(&status(|it| it["alarms"] = json!(["something else"]))), None);
        let told = |change: fn(&mut Value)| follows(&status(change)).expect("a reason");
        let down = told(|it| it["shards"][0]["nodes"][0]["health"] = json!("down"));
        assert_eq!(down, "shard 0: node master:1 is down: it does not answer");
        let apart = told(|it| {
            it["shards"][0]["nodes"][1]["answer"]["link_status"] = json!("connecting");
        });
        assert_eq!(apart, "shard 0: replica slave:1 does not follow its master");
        assert!(told(|it| it["shards"][0]["state"] = json!("stuck")).contains("stuck"));
        assert!(told(|it| it["shards"][0]["degraded"] = json!(true)).contains("in-sync set"));
    }

    #[test]
    fn it_is_healthy_without_alarms_and_with_balancers_that_obey() {
        assert_eq!(is_healthy(&status(|_| ())), None);
        let told = |change: fn(&mut Value)| is_healthy(&status(change)).expect("a reason");
        assert_eq!(told(|it| it["alarms"] = json!(["x"])), "there is an alarm: x");
        let idle = told(|it| it["balancers"][0]["in_force"] = json!(false));
        assert_eq!(idle, "balancer lb1 does not do what it was told");
        let idles = status(|it| it["balancers"][0]["in_force"] = json!(false));
        assert_eq!((follows(&idles), obeys(&idles)), (None, Some(idle)));
        assert_eq!(obeys(&status(|it| it["alarms"] = json!(["x"]))), None);
        assert_eq!(told(|it| it["healthy"] = json!(false)), "the cluster is not healthy");
        assert!(told(|it| it["shards"][0]["degraded"] = json!(true)).contains("in-sync set"));
    }
}
