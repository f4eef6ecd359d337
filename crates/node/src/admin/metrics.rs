//! `/metrics` in Prometheus' text format.
//!
//! Names are `holdfast_node_<area>_<noun>_<unit>[_total]`. Labels are bounded: commands, column families, replicas; never a key or a client.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::grant::CommitMode;
use api::heartbeat::{LeaseMode, LinkStatus, Resync};
use storage::Stats;

use super::files::{Aside, Files};

use crate::clock;
use crate::command::Table;
use crate::gate::Engine;
use crate::info::process;
use crate::node::Node;
use crate::stats::CommandTotal;
use crate::stats::latency::BOUNDS_US;
use crate::strangers::Fault;
use crate::version;

/// Of the text format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text being written.
struct Exposition(String);

impl Exposition {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail, here and below.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "counter", help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    /// One sample of a metric with one label.
    fn sample(&mut self, name: &str, label: &str, of: &str, value: impl Display) {
        let of = of.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = writeln!(self.0, "{name}{{{label}=\"{of}\"}} {value}");
    }
}

/// All metrics. What lies behind the write gate is left out when the gate cannot be had within `wait`, and what the
/// database says of its files when its disk has not answered in that time: the last known is shown, with its age.
pub(super) fn render(node: &Node, files: &Files, wait: Duration) -> String {
    let mut out = Exposition(String::with_capacity(16 << 10));
    process_metrics(node, &mut out);
    web::process::render(&mut out.0);
    web::certs::render(node.tls.now().map(|tls| tls.validity().ends_s()), &mut out.0);
    client_metrics(node, &mut out);
    command_metrics(node, &mut out);
    latency_metrics(node, &mut out);
    lease_metrics(node, &mut out);
    replication_metrics(node, &mut out);
    let engine = node.gate.try_read_for(wait);
    out.gauge(
        "holdfast_node_gate_taken",
        "1 while the write gate could not be had.",
        u8::from(engine.is_none()),
    );
    let Some(engine) = engine else { return out.0 };
    grant_metrics(node, &engine, &mut out);
    out.gauge(
        "holdfast_node_role_master",
        "1 on a master, 0 on a replica.",
        u8::from(engine.role.is_master()),
    );
    out.gauge(
        "holdfast_node_loading",
        "1 while the data is being replaced.",
        u8::from(engine.store.is_none()),
    );
    out.counter(
        "holdfast_node_role_changes_total",
        "Changes of role or database since the start.",
        engine.generation,
    );
    let Some(store) = engine.store.clone() else { return out.0 };
    out.gauge(
        "holdfast_node_storage_log_wait_seconds",
        "For how long the disk has taken nothing of the log that it was given; 0 while nothing waits.",
        store.log_wait_ms() as f64 / 1000.0,
    );
    // A change of role must not wait for a disk because somebody looks at numbers.
    drop(engine);
    if let Some((stats, age)) = files.ask(store, &node.dir, wait) {
        out.gauge(
            "holdfast_node_storage_stats_age_seconds",
            "Age of the numbers of the database below: its disk answers late.",
            age.as_secs_f64(),
        );
        storage_metrics(&stats, &mut out);
        aside_metrics(files.aside(), &mut out);
    }
    out.0
}

fn aside_metrics(aside: Aside, out: &mut Exposition) {
    let Aside { discarded_files, discarded_bytes, deposed_bytes } = aside;
    out.gauge("holdfast_node_discarded_files", "Exports of discarded writes.", discarded_files);
    out.gauge("holdfast_node_discarded_bytes", "Bytes of these.", discarded_bytes);
    out.gauge(
        "holdfast_node_deposed_bytes",
        "Bytes of a database that was set aside.",
        deposed_bytes,
    );
}

fn process_metrics(node: &Node, out: &mut Exposition) {
    out.head("holdfast_node_build_info", "gauge", "Version of this build; always 1.");
    out.sample("holdfast_node_build_info", "version", version::VERSION, 1);
    let uptime_s = node.uptime_ms() as f64 / 1000.0;
    out.gauge("holdfast_node_process_uptime_seconds", "Age of the process.", uptime_s);
    let cpu = process::cpu_seconds();
    out.head("holdfast_node_process_cpu_seconds_total", "counter", "CPU used.");
    out.sample("holdfast_node_process_cpu_seconds_total", "mode", "system", cpu.system);
    out.sample("holdfast_node_process_cpu_seconds_total", "mode", "user", cpu.user);
    out.gauge(
        "holdfast_node_process_resident_bytes",
        "Physical memory of the process.",
        process::resident_bytes(),
    );
    if let Some(heap) = process::heap() {
        out.gauge(
            "holdfast_node_heap_allocated_bytes",
            "Memory handed out by the allocator.",
            heap.allocated,
        );
        out.gauge(
            "holdfast_node_heap_resident_bytes",
            "Physical memory of the allocator.",
            heap.resident,
        );
    }
    if let Some(disk) = process::disk(&node.dir) {
        out.gauge(
            "holdfast_node_disk_capacity_bytes",
            "Size of the file system of the data.",
            disk.capacity,
        );
        out.gauge("holdfast_node_disk_used_bytes", "Used part of it, by anybody.", disk.used);
    }
}

fn client_metrics(node: &Node, out: &mut Exposition) {
    let stats = &node.stats;
    let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    out.gauge("holdfast_node_clients_connections", "Open connections.", node.clients.len());
    let paused = u8::from(node.clients.paused(clock::boottime_ns).is_some());
    out.gauge("holdfast_node_clients_paused", "1 while CLIENT PAUSE is in force.", paused);
    let accepted = stats.sum(|worker| &worker.connections);
    out.counter("holdfast_node_clients_accepted_total", "Connections accepted.", accepted);
    out.counter(
        "holdfast_node_clients_rejected_total",
        "Connections refused because of maxclients.",
        now(&stats.rejected_connections),
    );
    out.counter(
        "holdfast_node_long_reads_total",
        "Reads that took too many steps for their worker.",
        node.long_reads.count(),
    );
    out.counter(
        "holdfast_node_clients_moved_in_total",
        "Sessions that a balancer moved here from another node.",
        now(&stats.moved_in),
    );
    out.head(
        "holdfast_node_clients_proxy_refused_total",
        "counter",
        "Connections ended because of a PROXY header: from an unlisted balancer, none from a listed one, a second one.",
    );
    for (fault, word) in Fault::ALL {
        let total = node.strangers.total(fault);
        out.sample("holdfast_node_clients_proxy_refused_total", "reason", word, total);
    }
    let received = stats.sum(|worker| &worker.bytes_in);
    out.counter("holdfast_node_clients_received_bytes_total", "Bytes read from clients.", received);
    let sent = stats.sum(|worker| &worker.bytes_out);
    out.counter("holdfast_node_clients_sent_bytes_total", "Bytes written to clients.", sent);
    let hits = stats.sum(|worker| &worker.hits);
    out.counter("holdfast_node_keyspace_hits_total", "Reads that found their key.", hits);
    let misses = stats.sum(|worker| &worker.misses);
    out.counter(
        "holdfast_node_keyspace_misses_total",
        "Reads that did not find their key.",
        misses,
    );
    out.gauge("holdfast_node_slowlog_entries", "Entries in SLOWLOG.", node.slowlog.len());
}

fn command_metrics(node: &Node, out: &mut Exposition) {
    let used: Vec<(&str, CommandTotal)> = Table::get()
        .rows()
        .iter()
        .enumerate()
        .map(|(index, command)| (command.name, node.stats.command(index)))
        .filter(|(_, total)| total.calls > 0 || total.rejected > 0)
        .collect();
    let mut family = |name: &str, help: &str, value: fn(&CommandTotal) -> f64| {
        out.head(name, "counter", help);
        for (command, total) in &used {
            out.sample(name, "command", command, value(total));
        }
    };
    family("holdfast_node_command_calls_total", "Commands run.", |total| total.calls as f64);
    family("holdfast_node_command_failed_total", "Commands that answered an error.", |total| {
        total.failed as f64
    });
    family("holdfast_node_command_rejected_total", "Commands refused before they ran.", |total| {
        total.rejected as f64
    });
    family("holdfast_node_command_seconds_total", "Time commands took.", |total| {
        total.micros as f64 / 1e6
    });
}

/// A histogram over all commands: one for each of them would be thousands of series.
fn latency_metrics(node: &Node, out: &mut Exposition) {
    const NAME: &str = "holdfast_node_reply_seconds";
    let total = node.stats.latency();
    out.head(
        NAME,
        "histogram",
        "From the start of a client's command until its reply was sent, the wait for the in-sync set included.",
    );
    let bucket = format!("{NAME}_bucket");
    for (bound, within) in BOUNDS_US.iter().zip(total.within) {
        out.sample(&bucket, "le", &(*bound as f64 / 1e6).to_string(), within);
    }
    out.sample(&bucket, "le", "+Inf", total.commands);
    let _ = writeln!(out.0, "{NAME}_sum {}", total.micros as f64 / 1e6);
    let _ = writeln!(out.0, "{NAME}_count {}", total.commands);
}

fn lease_metrics(node: &Node, out: &mut Exposition) {
    let mode = node.config.now().master_lease_mode;
    let now_ns = clock::boottime_ns();
    out.head("holdfast_node_lease_mode", "gauge", "1 for the lease mode in force.");
    for word in LeaseMode::WORDS {
        out.sample("holdfast_node_lease_mode", "mode", word, u8::from(*word == mode.as_str()));
    }
    let left_s = node.grants.remaining_ms(now_ns) as f64 / 1000.0;
    out.gauge("holdfast_node_lease_remaining_seconds", "What is left of the lease.", left_s);
    out.gauge(
        "holdfast_node_lease_valid",
        "1 while there is a lease.",
        u8::from(node.grants.is_valid(now_ns)),
    );
    out.gauge("holdfast_node_lease_term", "Highest term of a controller seen.", node.grants.term());
    let version = node.cluster.load().version();
    out.gauge(
        "holdfast_node_topology_version",
        "Version of the topology; -1 without one.",
        version,
    );
}

fn grant_metrics(node: &Node, engine: &Engine, out: &mut Exposition) {
    let standing = node.grants.standing(engine, node.config.now().durable_ack);
    let is_in_sync = node.grants.mode().is_some_and(|(mode, _)| mode == CommitMode::InSync);
    let commit = &node.grants.commit;
    let tail = engine.store.as_ref().map_or(0, |store| commit.tail_bytes(store));
    let members = standing.request_members.len();
    let lacks = u8::from(commit.lacks_members());
    let gauges: [(&str, &str, &dyn Display); 8] = [
        ("epoch", "Newest epoch in the database.", &standing.history_epoch),
        ("granted_epoch", "Epoch this process holds a grant of; 0: none.", &standing.granted_epoch),
        ("in_sync_mode", "1 while replies wait for the in-sync set.", &u8::from(is_in_sync)),
        ("in_sync_members", "Members of the newest set asked for.", &members),
        ("in_sync_too_small", "1 while writes are refused for want of members.", &lacks),
        ("committed_sequence", "Newest sequence the whole set has.", &standing.committed),
        ("unacknowledged_bytes", "Bytes of writes the set has not acknowledged.", &tail),
        ("promised_ms", "For how long every grant is passed over.", &standing.promised_ms),
    ];
    for (name, help, value) in gauges {
        out.gauge(&format!("holdfast_node_{name}"), help, value);
    }
}

fn replication_metrics(node: &Node, out: &mut Exposition) {
    let replication = &node.replication;
    let is_up = replication.link_status() == LinkStatus::Up;
    out.gauge(
        "holdfast_node_replication_link_up",
        "1 on a replica that follows its master.",
        u8::from(is_up),
    );
    let is_due = node.resync.now() != Resync::None;
    out.gauge(
        "holdfast_node_replication_resync_due",
        "1 while a full sync must come first.",
        u8::from(is_due),
    );
    if let Some(seconds) = replication.last_io_seconds() {
        out.gauge(
            "holdfast_node_replication_silence_seconds",
            "Since the master was heard last.",
            seconds,
        );
    }
    let replicas = replication.replicas();
    out.gauge("holdfast_node_replication_replicas", "Replicas with a live stream.", replicas.len());
    out.head(
        "holdfast_node_replication_acked_sequence",
        "gauge",
        "Newest sequence a replica has acknowledged.",
    );
    for replica in &replicas {
        let at = format!("{}:{}", replica.ip, replica.port);
        out.sample("holdfast_node_replication_acked_sequence", "replica", &at, replica.offset);
    }
    let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let stats = &node.stats;
    out.head(
        "holdfast_node_replication_syncs_total",
        "counter",
        "Requests of replicas, by outcome.",
    );
    for (outcome, counter) in [
        ("full", &stats.sync_full),
        ("partial", &stats.sync_partial_ok),
        ("partial_refused", &stats.sync_partial_err),
    ] {
        out.sample("holdfast_node_replication_syncs_total", "outcome", outcome, now(counter));
    }
}

fn storage_metrics(stats: &Stats, out: &mut Exposition) {
    out.gauge("holdfast_node_storage_sequence", "Newest sequence number.", stats.latest_sequence);
    out.gauge(
        "holdfast_node_storage_published_sequence",
        "Sequence up to which the WAL was handed to the system.",
        stats.published,
    );
    out.gauge(
        "holdfast_node_storage_disk_bytes",
        "Bytes the database takes on disk.",
        stats.disk_bytes(),
    );
    out.gauge("holdfast_node_storage_wal_bytes", "Bytes of the live WAL.", stats.wal_bytes);
    out.gauge(
        "holdfast_node_storage_archived_wal_bytes",
        "Bytes of WAL kept for replicas.",
        stats.archived_wal_bytes,
    );
    out.gauge(
        "holdfast_node_storage_oldest_wal_sequence",
        "Oldest sequence a replica can continue from.",
        stats.oldest_wal_sequence.unwrap_or(0),
    );
    out.gauge(
        "holdfast_node_storage_block_cache_bytes",
        "Bytes in the block cache.",
        stats.block_cache_bytes,
    );
    out.gauge(
        "holdfast_node_storage_block_cache_capacity_bytes",
        "Size of the block cache.",
        stats.block_cache_capacity,
    );
    out.gauge(
        "holdfast_node_storage_running_compactions",
        "Compactions at work.",
        stats.running_compactions,
    );
    out.gauge("holdfast_node_storage_running_flushes", "Flushes at work.", stats.running_flushes);
    out.counter(
        "holdfast_node_storage_background_errors_total",
        "Failed flushes and compactions.",
        stats.background_errors,
    );
    out.gauge(
        "holdfast_node_storage_write_stopped",
        "1 while the database takes no writes.",
        u8::from(stats.is_write_stopped),
    );
    out.gauge(
        "holdfast_node_storage_delayed_write_bytes_per_second",
        "Rate writes are slowed to; 0: they are not.",
        stats.delayed_write_rate,
    );
    family_metrics(stats, out);
}

fn family_metrics(stats: &Stats, out: &mut Exposition) {
    let mut family = |name: &str, help: &str, value: fn(&storage::stats::FamilyStats) -> u64| {
        out.head(name, "gauge", help);
        for of in &stats.families {
            out.sample(name, "family", of.family.name(), value(of));
        }
    };
    family("holdfast_node_storage_keys_estimate", "RocksDB's estimate of its keys.", |f| {
        f.estimate_keys
    });
    family("holdfast_node_storage_memtable_bytes", "Bytes of memtables.", |f| f.memtable_bytes);
    family("holdfast_node_storage_table_bytes", "Bytes of table files.", |f| f.table_bytes);
    family("holdfast_node_storage_blob_bytes", "Bytes of blob files.", |f| f.blob_bytes);
    family("holdfast_node_storage_level0_files", "Table files in level 0.", |f| {
        f.files_per_level[0]
    });
    family(
        "holdfast_node_storage_pending_compaction_bytes",
        "Estimate of what compaction has to rewrite.",
        |f| f.pending_compaction_bytes,
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use topology::Cluster;

    use super::*;
    use crate::gate::Role;

    fn node(folder: &std::path::Path) -> std::sync::Arc<Node> {
        crate::shell::node(folder, crate::shell::small(), Cluster::default(), Role::Master)
    }

    #[test]
    fn every_metric_is_announced_once_and_named_by_the_rule() {
        let folder = tempfile::tempdir().unwrap();
        let node = node(folder.path());
        node.stats.workers[0].command(0, 1500, crate::stats::Outcome::Done);
        let text = render(&node, &Files::default(), Duration::from_secs(1));
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(seen.insert(name.to_owned()), "{name} twice");
                let is_ours = name.starts_with("holdfast_node_") || name.starts_with("process_");
                assert!(is_ours, "{name}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                let of_histogram = |end| name.strip_suffix(end).filter(|name| seen.contains(*name));
                let name = ["_bucket", "_sum", "_count"]
                    .into_iter()
                    .find_map(of_histogram)
                    .unwrap_or(name);
                assert!(seen.contains(name), "{line}");
                assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
            }
        }
        let first = Table::get().rows()[0].name;
        assert!(text.contains(&format!(
            "holdfast_node_command_seconds_total{{command=\"{first}\"}} 0.0015\n"
        )));
    }

    #[test]
    fn what_was_set_aside_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let node = node(folder.path());
        let discarded = folder.path().join("discarded");
        std::fs::create_dir_all(&discarded).unwrap();
        std::fs::write(discarded.join("1-2.jsonl"), "12345").unwrap();
        std::fs::create_dir_all(folder.path().join("db.deposed")).unwrap();
        std::fs::write(folder.path().join("db.deposed/000001.sst"), "123").unwrap();
        let text = render(&node, &Files::default(), Duration::from_secs(60));
        for row in ["discarded_files 1", "discarded_bytes 5", "deposed_bytes 3"] {
            assert!(text.contains(&format!("\nholdfast_node_{row}\n")), "{row}");
        }
        assert!(text.contains("\nprocess_open_fds ") && text.contains("\nprocess_max_fds "));
    }

    #[test]
    fn a_taken_gate_leaves_the_rest_readable() {
        let folder = tempfile::tempdir().unwrap();
        let node = node(folder.path());
        let _taken = node.gate.write();
        let text = render(&node, &Files::default(), Duration::from_millis(1));
        assert!(text.contains("\nholdfast_node_gate_taken 1\n"));
        assert!(!text.contains("holdfast_node_storage_sequence"));
    }
}
