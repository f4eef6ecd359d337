//! `ctl status`: what is seen of a cluster now, for people, and as an exit code for scripts.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use api::grant::CommitMode;
use api::health::Health;
use api::rest::{BalancerStatus, NodeStatus, Status};
use reqwest::Method;

use super::table::{json, render, sentence as line, text};
use super::words::shown;
use super::{Context, Place, ids};

/// A cluster that is not healthy, or has an alarm.
const DEGRADED: u8 = 3;
/// A shard for which nobody can take over.
const STUCK: u8 = 4;

pub(super) async fn status(cx: &Context, place: &Place) -> Result<ExitCode> {
    let path = format!("{}/status", cx.cluster(place).await?);
    let value = cx.http.call(Method::GET, &path, None::<&()>).await?;
    let status: Status = serde_json::from_value(value.clone()).context("read the status")?;
    match cx.json {
        true => json(&value)?,
        false => text(&status_text(cx.width, &status))?,
    }
    Ok(ExitCode::from(code(&status)))
}

fn code(status: &Status) -> u8 {
    match status.healthy && status.alarms.is_empty() {
        _ if status.shards.iter().any(|shard| shard.state == "stuck") => STUCK,
        true => 0,
        false => DEGRADED,
    }
}

/// The controller's word for a role is Kvrocks'; people are told the one of all other pages.
pub(super) fn role(word: &str) -> &str {
    if word == "slave" { "replica" } else { word }
}

fn status_text(width: usize, status: &Status) -> String {
    let mut out = format!(
        "cluster {}/{}: {}, version {}, term {}, commit mode {}{}\n\n",
        status.namespace,
        status.name,
        if status.healthy { "healthy" } else { "DEGRADED" },
        status.version,
        status.term,
        status.commit_mode,
        match status.commit_mode {
            CommitMode::InSync => format!(", min-in-sync {}", status.min_in_sync),
            CommitMode::Async => String::new(),
        }
    );
    let nodes =
        || status.shards.iter().flat_map(|shard| shard.nodes.iter().map(move |n| (shard, n)));
    let names: Vec<&str> = nodes().map(|(_, node)| node.id.as_str()).collect();
    let rows: Vec<_> = (nodes().zip(ids::short(&names)))
        .map(|((shard, node), id)| node_row(shard.index, &shard.state, id, node))
        .collect();
    let head = [
        "SHARD",
        "STATE",
        "ROLE",
        "NODE",
        "ADDRESS",
        "ANNOUNCED",
        "HEALTH",
        "SEQUENCE",
        "LAG",
        "LEASE",
    ];
    out.push_str(&render(width, &head, &rows));
    for (_, node) in nodes() {
        let mut notes = notes(status.version, node);
        notes.retain(|note| !is_alarm(status, &format!("{}: {note}", node.addr)));
        if !notes.is_empty() {
            line(&mut out, width, &format!("{}: {}", node.addr, notes.join(", ")));
        }
    }
    if !status.balancers.is_empty() {
        let rows: Vec<_> = status.balancers.iter().map(balancer_row).collect();
        out.push('\n');
        out.push_str(&render(width, &["BALANCER", "KIND", "ENDPOINT", "STATE", "OPEN"], &rows));
        for balancer in &status.balancers {
            let error = balancer.error.as_ref().map(|error| format!("{}: {error}", balancer.name));
            if let Some(error) = error.filter(|told| !is_alarm(status, &format!("balancer {told}")))
            {
                line(&mut out, width, &error);
            }
        }
    }
    out.push('\n');
    shard_lines(&mut out, width, status);
    for one in &status.moves {
        let shard = |index: Option<usize>, id: &str| index.map_or(id.to_owned(), |i| i.to_string());
        let (from, to) = (shard(one.from_index, &one.from), shard(one.to_index, &one.to));
        let (id, slots, state, waits) = (one.id, &one.slots, &one.state, &one.waits_for);
        let waits = if waits.is_empty() { String::new() } else { format!(", waits for {waits}") };
        let told = format!("move {id}: slots {slots} from shard {from} to {to}: {state}{waits}");
        line(&mut out, width, &told);
    }
    for alarm in &status.alarms {
        line(&mut out, width, &format!("alarm: {alarm}"));
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Whether an alarm says this, and maybe what to do: then it need not be said above.
fn is_alarm(status: &Status, words: &str) -> bool {
    status.alarms.iter().any(|alarm| alarm.starts_with(words))
}

fn shard_lines(out: &mut String, width: usize, status: &Status) {
    for shard in status.shards.iter().filter(|shard| shard.epoch > 0) {
        let mut told = format!("shard {}: epoch {}", shard.index, shard.epoch);
        if status.commit_mode == CommitMode::InSync || !shard.in_sync.is_empty() {
            let in_sync = shard.nodes.iter().filter(|node| shard.in_sync.contains(&node.id));
            let in_sync: Vec<&str> = in_sync.map(|node| node.addr.as_str()).collect();
            let note = if shard.degraded { ", DEGRADED" } else { "" };
            told.push_str(&format!(", in sync {}{note}", in_sync.join(" ")));
        }
        line(out, width, &told);
    }
    for balancer in &status.balancers {
        for frontend in &balancer.frontends {
            if let Some(error) = &frontend.error {
                let (name, listen) = (&balancer.name, &frontend.listen);
                line(out, width, &format!("balancer {name}: the node behind {listen}: {error}"));
            }
        }
    }
    for shard in status.shards.iter().filter(|shard| !shard.detail.is_empty()) {
        line(out, width, &format!("shard {}: {}", shard.index, shard.detail));
    }
    for node in status.shards.iter().flat_map(|shard| &shard.nodes) {
        let why = node.answer.as_ref().and_then(|answer| answer.link_error.as_ref());
        if let Some(why) = why.filter(|_| node.role == "slave") {
            line(out, width, &format!("{}: no stream from its master: {why}", node.addr));
        }
    }
}

fn node_row(shard: usize, state: &str, id: String, node: &NodeStatus) -> Vec<String> {
    let answer = node.answer.as_ref();
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let lease = answer.filter(|answer| answer.role == "master" && node.role == "master");
    vec![
        shard.to_string(),
        state.to_owned(),
        role(&node.role).to_owned(),
        id,
        shown(&node.addr, node.tls_port),
        or_dash(node.announced.as_deref().map(|at| shown(at, node.announced_tls_port))),
        node.health.to_string(),
        or_dash(answer.map(|answer| answer.sequence.to_string())),
        or_dash(node.lag.map(|lag| lag.to_string())),
        or_dash(lease.map(|answer| time_left(answer.lease_remaining_ms))),
    ]
}

/// A lease is of some hundred ms; that of a master alone in its set is of minutes.
fn time_left(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { format!("{} s", ms / 1_000) }
}

/// What is not as it should be at a node.
fn notes(version: i64, node: &NodeStatus) -> Vec<String> {
    let mut notes = Vec::new();
    let is_silent = node.health == Health::Down && node.misses > 0;
    // What it said before it fell silent is no news.
    if let Some(answer) = node.answer.as_ref().filter(|_| is_silent) {
        notes.push(format!("last heard {} ago", age(answer.age_ms)));
    } else if let Some(answer) = &node.answer {
        if answer.role != node.role {
            notes.push(format!("answers as {}", role(&answer.role)));
        }
        if answer.version != version {
            notes.push(format!("has topology version {}", answer.version));
        }
        if answer.resync != "none" {
            notes.push(format!("resync {}", answer.resync));
        }
        if node.role == "slave" && answer.link_status != "up" {
            notes.push(format!("link {}", answer.link_status));
        }
        notes.extend(answer.paused.then(|| "paused".to_owned()));
        notes.extend(answer.loading.then(|| "loading".to_owned()));
    }
    notes.extend(node.error.clone());
    notes
}

/// A time that has passed, in a unit that says enough of it.
fn age(ms: u64) -> String {
    match ms / 1_000 {
        0 => format!("{ms} ms"),
        s @ 1..=119 => format!("{s} s"),
        s @ 120..=7_199 => format!("{} min", s / 60),
        s => format!("{} h", s / 3_600),
    }
}

fn balancer_row(balancer: &BalancerStatus) -> Vec<String> {
    let state = match (&balancer.error, balancer.in_force) {
        (Some(_), _) => "error",
        (None, true) => "in force",
        (None, false) => "changing",
    };
    let open = balancer.frontends.iter().filter(|frontend| frontend.node.is_some()).count();
    vec![
        balancer.name.clone(),
        balancer.kind.clone(),
        balancer.endpoint.clone(),
        state.to_owned(),
        format!("{open}/{}", balancer.frontends.len()),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(state: &str, healthy: bool, alarms: &[&str]) -> Status {
        let node = |id: char, role: &str, error: Option<&str>| {
            json!({
                "id": id.to_string().repeat(40), "addr": "192.168.100.101:66666",
                "announced": "192.168.200.201:6379", "role": role, "health": "up",
                "settled": true, "lag": 0, "misses": 0, "error": error,
                "answer": {
                    "age_ms": 1, "role": role, "sequence": 123_456_789, "version": 7,
                    "lease_mode": "block-all", "lease_remaining_ms": 1000,
                    "client_access": "any", "link_status": "up", "resync": "none",
                    "paused": false, "loading": false,
                },
            })
        };
        let error =
            "the connection was refused or closed before an answer came, four times in a row";
        let shard = json!({
            "index": 0, "state": state, "detail": "x ".repeat(80), "slot_ranges": ["0-16383"],
            "epoch": 3, "in_sync": ["a".repeat(40)], "degraded": !healthy,
            "nodes": [node('a', "master", None), node('b', "slave", Some(error))],
        });
        let sockets =
            "/run/holdfast/lb1-of-this-cluster.sock,/run/holdfast/lb1-of-this-cluster-master.sock";
        serde_json::from_value(json!({
            "namespace": "prod", "name": "main", "version": 7, "topology_hash": "0", "term": 1,
            "healthy": healthy, "commit_mode": "in-sync", "min_in_sync": 1, "shards": [shard],
            "balancers": [{
                "name": "lb1", "kind": "haproxy", "endpoint": sockets, "in_force": false,
                "error": error, "frontends": [{"listen": "10.0.9.1:6379", "node": null}],
            }],
            "alarms": alarms,
        }))
        .unwrap()
    }

    #[test]
    fn scripts_are_told_by_the_exit_code() {
        assert_eq!(code(&status("steady", true, &[])), 0);
        assert_eq!(code(&status("steady", true, &["something"])), DEGRADED);
        assert_eq!(code(&status("steady", false, &[])), DEGRADED);
        assert_eq!(code(&status("stuck", false, &[])), STUCK);
    }

    #[test]
    fn a_silent_node_is_told_by_when_it_was_heard_and_nothing_is_told_twice() {
        let mut told = status("steady", false, &["192.168.100.101:66666: no way there"]);
        let node = &mut told.shards[0].nodes[1];
        (node.health, node.misses) = (Health::Down, 60);
        node.error = Some("no way there".to_owned());
        let answer = node.answer.as_mut().expect("an answer");
        (answer.age_ms, answer.role) = (12_345, "master".to_owned());
        let text = status_text(100, &told);
        assert!(text.contains("192.168.100.101:66666: last heard 12 s ago\n"), "{text}");
        assert!(!text.contains("answers as master"), "{text}");
        assert_eq!(text.matches("no way there").count(), 1, "{text}");
        told.balancers[0].error = Some("gone".to_owned());
        assert!(status_text(100, &told).contains("\nlb1: gone\n"));
        told.alarms.push("balancer lb1: gone".to_owned());
        assert!(!status_text(100, &told).contains("\nlb1: gone\n"));
        let ages = [(999, "999 ms"), (60_000, "60 s"), (7_199_000, "119 min"), (7_200_000, "2 h")];
        for (ms, words) in ages {
            assert_eq!(age(ms), words);
        }
        assert_eq!([time_left(800), time_left(600_000)], ["800 ms", "600 s"]);
    }

    #[test]
    fn nothing_is_wider_than_asked_for_and_nothing_is_left_out() {
        let long = "no cut of the load balancers fences master 192.168.100.101:66666".repeat(4);
        let status = status("switchover", false, &[&long]);
        let told = status_text(100, &status);
        assert!(told.lines().all(|line| line.chars().count() <= 100), "{told}");
        let letters = |text: &str| text.split_whitespace().collect::<String>();
        assert!(letters(&told).contains(&letters(&long)));
        for words in ["aaaaaaaa", "bbbbbbbb", "replica", "192.168.100.101:66666: the connection"] {
            assert!(told.contains(words), "{words}: {told}");
        }
        let wide = status_text(usize::MAX, &status);
        assert!(wide.contains(&format!("alarm: {long}\n")), "{wide}");
        assert!(wide.lines().any(|line| line.contains("192.168.200.201:6379")));
    }
}
