//! What keeps a cluster from being healthy, by what its controller says. Pure.

use serde_json::Value as Json;

/// What keeps a status from being healthy.
pub fn obstacle(status: &Json) -> Option<String> {
    let is_healthy = status.get("healthy").and_then(Json::as_bool).unwrap_or(false);
    let Some(shards) = status.get("shards").and_then(Json::as_array) else {
        return Some("the status has no shards".to_owned());
    };
    let nodes = shards
        .iter()
        .flat_map(|shard| shard.get("nodes").and_then(Json::as_array).into_iter().flatten());
    for node in nodes {
        let text = |path: &str| node.pointer(path).and_then(Json::as_str).unwrap_or("?");
        let is_replica = text("/role") == "slave";
        let follows = text("/answer/link_status") == "up" && text("/answer/resync") == "none";
        if text("/health") != "up" || (is_replica && !follows) {
            let address = text("/addr");
            let (health, link) = (text("/health"), text("/answer/link_status"));
            let (resync, error) = (text("/answer/resync"), text("/error"));
            return Some(format!(
                "{address}: {health}, link {link}, resync {resync}, error {error}"
            ));
        }
    }
    if is_healthy || is_healthy_but_for_the_past(status) {
        return None;
    }
    let states: Vec<String> = shards
        .iter()
        .map(|shard| {
            let text = |name: &str| shard.get(name).and_then(Json::as_str).unwrap_or("?");
            let set = shard.get("in_sync").map(|set| format!(" in-sync set {set}"));
            format!("{} ({}){}", text("state"), text("detail"), set.unwrap_or_default())
        })
        .collect();
    let text = |name: &str| status.get(name).map(ToString::to_string).unwrap_or_default();
    let (balancers, alarms) = (text("balancers"), text("alarms"));
    Some(format!("shards: {}; balancers: {balancers}; alarms: {alarms}", states.join(", ")))
}

/// Nothing is wrong but that etcd was slow: that alarm stays for up to a minute.
fn is_healthy_but_for_the_past(status: &Json) -> bool {
    let all = |of: &Json, name: &str, is_so: &dyn Fn(&Json) -> bool| {
        of.get(name).and_then(Json::as_array).is_some_and(|list| list.iter().all(is_so))
    };
    let of_past =
        |alarm: &Json| alarm.as_str().is_some_and(|text| text.starts_with("etcd is slow:"));
    let settled = |node: &Json| node["settled"] == true;
    let steady = |shard: &Json| {
        shard["state"] == "steady" && shard["degraded"] == false && all(shard, "nodes", &settled)
    };
    all(status, "alarms", &of_past)
        && all(status, "shards", &steady)
        && all(status, "balancers", &|balancer: &Json| balancer["in_force"] == true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_alarm_about_what_was_is_no_obstacle_and_any_other_is() {
        let status = |alarm: &str, settled: bool| {
            let answer = json!({ "link_status": "up", "resync": "none" });
            let node = json!({
                "role": "slave", "health": "up", "answer": answer, "settled": settled,
            });
            let shard = json!({ "state": "steady", "degraded": false, "nodes": [node] });
            json!({
                "healthy": false, "shards": [shard], "alarms": [alarm],
                "balancers": [{ "in_force": true }],
            })
        };
        assert_eq!(obstacle(&status("etcd is slow: of 9 reads", true)), None);
        assert!(obstacle(&status("etcd is slow: of 9 reads", false)).is_some());
        let other = obstacle(&status("the store does not work", true));
        assert!(other.is_some_and(|text| text.contains("does not work")));
    }
}
