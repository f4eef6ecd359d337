//! Counters and the text of `/metrics`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cluster::Cluster;

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
    pub(crate) requests: Counter,
}

/// Prometheus' text format.
pub(crate) fn render<'a>(
    term: u64,
    counters: &Counters,
    clusters: impl Iterator<Item = &'a Cluster>,
) -> String {
    let mut text = String::new();
    let mut line = |name: &str, kind: &str, help: &str, value: u64| {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "# HELP holdfast_controller_{name} {help}\n# TYPE holdfast_controller_{name} {kind}\n\
             holdfast_controller_{name} {value}\n"
        );
    };
    line("term", "gauge", "Term of this controller.", term);
    let Counters {
        heartbeat_misses,
        pushes,
        record_changes,
        topology_changes,
        failovers,
        switchovers,
        lost_writes,
        requests,
    } = counters;
    line(
        "heartbeat_misses_total",
        "counter",
        "Heartbeats without an answer.",
        heartbeat_misses.get(),
    );
    line("pushes_total", "counter", "Topologies sent to nodes.", pushes.get());
    line(
        "record_changes_total",
        "counter",
        "Records written by the planner.",
        record_changes.get(),
    );
    line(
        "topology_changes_total",
        "counter",
        "Topology versions made by the planner.",
        topology_changes.get(),
    );
    line("failovers_total", "counter", "Masters replaced without being asked.", failovers.get());
    line(
        "switchovers_total",
        "counter",
        "Planned changes of a master, begun or taken back.",
        switchovers.get(),
    );
    line(
        "lost_writes_total",
        "counter",
        "Writes that failovers of asynchronous shards are known to have lost.",
        lost_writes.get(),
    );
    line("requests_total", "counter", "REST requests.", requests.get());
    let mut body = String::new();
    for cluster in clusters {
        let state = cluster.state.lock();
        let label = format!("{}/{}", state.record.namespace, state.record.name);
        let label = label.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = writeln!(
            body,
            "holdfast_controller_topology_version{{cluster=\"{label}\"}} {}",
            state.record.version
        );
        let _ = writeln!(
            body,
            "holdfast_controller_alarms{{cluster=\"{label}\"}} {}",
            state.plan.alarms.len()
        );
        for (index, shard) in state.plan.shards.iter().enumerate() {
            let _ = writeln!(
                body,
                "holdfast_controller_shard_state{{cluster=\"{label}\",shard=\"{index}\",state=\"{}\"}} 1",
                shard.word()
            );
        }
    }
    for (name, help) in [
        ("topology_version", "Version of the cluster's topology."),
        ("alarms", "Alarms that last."),
        ("shard_state", "What a shard is doing."),
    ] {
        let _ = write!(
            text,
            "# HELP holdfast_controller_{name} {help}\n# TYPE holdfast_controller_{name} gauge\n"
        );
        for row in
            body.lines().filter(|row| row.starts_with(&format!("holdfast_controller_{name}{{")))
        {
            let _ = writeln!(text, "{row}");
        }
    }
    text
}
