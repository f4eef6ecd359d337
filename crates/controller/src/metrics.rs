//! Counters and the text of `/metrics`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::rest::{BalancerStatus, Move, NodeStatus, ShardStatus, Status};

/// A number that only rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the controller counts since its start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) heartbeat_misses: Counter,
    pub(crate) pushes: Counter,
    pub(crate) record_changes: Counter,
    pub(crate) topology_changes: Counter,
    pub(crate) failovers: Counter,
    pub(crate) switchovers: Counter,
    pub(crate) lost_writes: Counter,
    pub(crate) moves_done: Counter,
    pub(crate) moves_given_up: Counter,
    pub(crate) slots_moved: Counter,
    pub(crate) requests: Counter,
}

/// Prometheus' text format.
pub(crate) fn render(
    term: u64,
    counters: &Counters,
    store_age: Option<Duration>,
    clusters: &[Status],
) -> String {
    let mut text = format!(
        "# HELP holdfast_controller_build_info Version of this build; always 1.\n\
         # TYPE holdfast_controller_build_info gauge\n\
         holdfast_controller_build_info{{version=\"{}\"}} 1\n",
        env!("CARGO_PKG_VERSION")
    );
    counters_text(&mut text, term, counters);
    if let Some(age) = store_age {
        let help = "Since the store was last written durably.";
        line(&mut text, "store_write_age_seconds", "gauge", help, age.as_secs());
    }
    clusters_text(&mut text, clusters);
    web::process::render(&mut text);
    text
}

fn line(text: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "# HELP holdfast_controller_{name} {help}\n# TYPE holdfast_controller_{name} {kind}\n\
         holdfast_controller_{name} {value}\n"
    );
}

fn counters_text(text: &mut String, term: u64, counters: &Counters) {
    line(text, "term", "gauge", "Term of this controller.", term);
    let Counters {
        heartbeat_misses,
        pushes,
        record_changes,
        topology_changes,
        failovers,
        switchovers,
        lost_writes,
        moves_done: _,
        moves_given_up: _,
        slots_moved: _,
        requests,
    } = counters;
    line(
        text,
        "heartbeat_misses_total",
        "counter",
        "Heartbeats without an answer.",
        heartbeat_misses.get(),
    );
    line(text, "pushes_total", "counter", "Topologies sent to nodes.", pushes.get());
    line(
        text,
        "record_changes_total",
        "counter",
        "Records written by the planner.",
        record_changes.get(),
    );
    line(
        text,
        "topology_changes_total",
        "counter",
        "Topology versions made by the planner.",
        topology_changes.get(),
    );
    line(
        text,
        "failovers_total",
        "counter",
        "Masters replaced without being asked.",
        failovers.get(),
    );
    line(
        text,
        "switchovers_total",
        "counter",
        "Planned changes of a master, begun or taken back.",
        switchovers.get(),
    );
    line(
        text,
        "lost_writes_total",
        "counter",
        "Writes that failovers of asynchronous shards are known to have lost.",
        lost_writes.get(),
    );
    moves_text(text, counters);
    line(text, "requests_total", "counter", "REST requests.", requests.get());
}

fn moves_text(text: &mut String, counters: &Counters) {
    let mut line = |name: &str, help: &str, counter: &Counter| {
        line(text, name, "counter", help, counter.get());
    };
    line("moves_done_total", "Moves of slots that came to their end.", &counters.moves_done);
    let help = "Moves of slots that were cancelled, given up or begun anew.";
    line("moves_given_up_total", help, &counters.moves_given_up);
    line("slots_moved_total", "Slots that changed their shard.", &counters.slots_moved);
}

/// Words that a shard's state may be.
const STATES: [&str; 6] = ["steady", "settling", "suspect", "fencing", "stuck", "switchover"];

type Rows = Vec<(String, u64)>;

/// Rows of a cluster, each with its labels; the second argument is the cluster's own.
type Measure = fn(&Status, &str) -> Rows;

/// What is measured of each cluster, with its labels.
fn clusters_text(text: &mut String, clusters: &[Status]) {
    let families: [(&str, &str, Measure); 12] = [
        ("topology_version", "Version of the cluster's topology.", |status, of| {
            vec![(of.to_owned(), u64::try_from(status.version).unwrap_or(0))]
        }),
        ("alarms", "Alarms that last.", |status, of| {
            vec![(of.to_owned(), status.alarms.len() as u64)]
        }),
        ("healthy", "1 for a cluster that is as it should be.", |status, of| {
            vec![(of.to_owned(), u64::from(status.healthy))]
        }),
        ("shard_state", "1 for what a shard is doing.", |status, of| {
            let rows = |shard: &ShardStatus| {
                let label = format!("{of},shard=\"{}\"", shard.index);
                let row = |state: &&str| {
                    (format!("{label},state=\"{state}\""), u64::from(shard.state == **state))
                };
                STATES.iter().map(row).collect::<Rows>()
            };
            status.shards.iter().flat_map(rows).collect()
        }),
        ("shard_degraded", "1 while a node is missing in the in-sync set.", |status, of| {
            let row = |shard: &ShardStatus| {
                (format!("{of},shard=\"{}\"", shard.index), u64::from(shard.degraded))
            };
            status.shards.iter().map(row).collect()
        }),
        ("node_up", "1 for a node that answers heartbeats and takes writes.", |status, of| {
            of_nodes(status, of, |node| Some(u64::from(node.health == "healthy")))
        }),
        ("node_lag", "Sequence numbers a replica is behind its master.", |status, of| {
            of_nodes(status, of, |node| node.lag)
        }),
        ("node_misses", "Heartbeats in a row without an answer.", |status, of| {
            of_nodes(status, of, |node| Some(u64::from(node.misses)))
        }),
        ("balancer_in_force", "1 for a balancer that does what it was told.", |status, of| {
            let row = |balancer: &BalancerStatus| {
                let name = escape(&balancer.name);
                (format!("{of},balancer=\"{name}\""), u64::from(balancer.in_force))
            };
            status.balancers.iter().map(row).collect()
        }),
        ("moves", "Moves of slots, by how far they are.", |status, of| {
            let count = |state: &str| status.moves.iter().filter(|one| one.state == state).count();
            let row = |state: &str| (format!("{of},state=\"{state}\""), count(state) as u64);
            ["queued", "copy", "owned", "drop"].map(row).to_vec()
        }),
        ("move_waits_seconds", "For how long a move has not advanced.", |status, of| {
            of_moves(status, of, |one| Some(one.since_ms / 1_000))
        }),
        ("move_copied_bytes", "Bytes that a move has copied.", |status, of| {
            of_moves(status, of, |one| one.progress.as_ref().map(|progress| progress.bytes))
        }),
    ];
    for (name, help, rows) in families {
        let _ = write!(
            text,
            "# HELP holdfast_controller_{name} {help}\n# TYPE holdfast_controller_{name} gauge\n"
        );
        for status in clusters {
            let of = format!("cluster=\"{}/{}\"", escape(&status.namespace), escape(&status.name));
            for (labels, value) in rows(status, &of) {
                let _ = writeln!(text, "holdfast_controller_{name}{{{labels}}} {value}");
            }
        }
    }
}

fn of_moves(status: &Status, of: &str, value: fn(&Move) -> Option<u64>) -> Rows {
    let row = |one: &Move| Some((format!("{of},move=\"{}\"", one.id), value(one)?));
    status.moves.iter().filter_map(row).collect()
}

fn of_nodes(status: &Status, of: &str, value: fn(&NodeStatus) -> Option<u64>) -> Rows {
    let nodes = status.shards.iter().flat_map(|shard| {
        shard.nodes.iter().map(move |node| (format!("{of},shard=\"{}\"", shard.index), node))
    });
    let row = |(of, node): (String, &NodeStatus)| {
        Some((format!("{of},node=\"{}\"", escape(&node.addr)), value(node)?))
    };
    nodes.filter_map(row).collect()
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    fn status() -> Status {
        let node = |addr: &str, role: &str, lag: Option<u64>| {
            json!({
                "id": "a", "addr": addr, "announced": null, "role": role, "health": "healthy",
                "settled": true, "answer": null, "lag": lag, "misses": 2, "error": null,
            })
        };
        let shard = json!({
            "index": 0, "state": "stuck", "detail": "", "slot_ranges": [], "degraded": true,
            "nodes": [node("10.0.0.1:1", "master", None), node("10.0.0.2:1", "slave", Some(7))],
        });
        serde_json::from_value(json!({
            "namespace": "n", "name": "a\"b", "version": 3, "topology_hash": "", "term": 1,
            "healthy": false, "shards": [shard], "alarms": ["x"],
            "balancers": [{
                "name": "lb1", "kind": "builtin", "endpoint": "", "in_force": true,
                "error": null, "frontends": [],
            }],
            "moves": [{
                "id": 7, "slots": "0-9", "from": "a", "to": "b", "state": "copy", "paused": false,
                "tries": 0, "waits_for": "the copy", "since_ms": 61_000,
            }],
        }))
        .unwrap()
    }

    #[test]
    fn every_metric_is_announced_once_and_the_page_tells_what_status_does() {
        let age = Some(Duration::from_secs(9));
        let text = render(4, &Counters::default(), age, &[status()]);
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(seen.insert(name.to_owned()), "{name} twice");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
            } else if !line.starts_with('#') {
                assert!(seen.contains(line.split(['{', ' ']).next().unwrap()), "{line}");
            }
        }
        let of = r#"cluster="n/a\"b""#;
        for row in [
            format!("holdfast_controller_healthy{{{of}}} 0"),
            format!("holdfast_controller_alarms{{{of}}} 1"),
            format!("holdfast_controller_shard_state{{{of},shard=\"0\",state=\"stuck\"}} 1"),
            format!("holdfast_controller_shard_state{{{of},shard=\"0\",state=\"steady\"}} 0"),
            format!("holdfast_controller_shard_degraded{{{of},shard=\"0\"}} 1"),
            format!("holdfast_controller_node_up{{{of},shard=\"0\",node=\"10.0.0.1:1\"}} 1"),
            format!("holdfast_controller_node_lag{{{of},shard=\"0\",node=\"10.0.0.2:1\"}} 7"),
            format!("holdfast_controller_balancer_in_force{{{of},balancer=\"lb1\"}} 1"),
            format!("holdfast_controller_moves{{{of},state=\"copy\"}} 1"),
            format!("holdfast_controller_moves{{{of},state=\"owned\"}} 0"),
            format!("holdfast_controller_move_waits_seconds{{{of},move=\"7\"}} 61"),
            "holdfast_controller_slots_moved_total 0".to_owned(),
            "holdfast_controller_store_write_age_seconds 9".to_owned(),
            "holdfast_controller_failovers_total 0".to_owned(),
        ] {
            assert!(text.contains(&format!("{row}\n")), "{row}\n{text}");
        }
        assert!(text.contains("holdfast_controller_build_info{version=\""));
    }
}
