//! `/metrics`: what `metrics::node` lists.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::grant::CommitMode;
use api::heartbeat::{LeaseMode, LinkStatus, Resync};
pub(super) use metrics::CONTENT_TYPE;
use metrics::node as rows;
use metrics::{Metric, Page};
use storage::{Stats, Store};

use super::files::{Aside, Files};

use crate::clock;
use crate::command::Catalog;
use crate::gate::Engine;
use crate::info::process;
use crate::memory::shown;
use crate::node::Node;
use crate::proxy_refused::Fault;
use crate::stats::CommandTotal;
use crate::stats::latency::BOUNDS_US;
use crate::version;

/// All metrics; `is_ready` is what `/healthz` says. What lies behind the write gate is left out
/// when the gate cannot be had within `wait`, and what the database says of its files when its disk
/// has not answered in that time: the last known is shown, with its age.
pub(super) fn render(
    node: &Node,
    files: &Files,
    is_ready: impl FnOnce(Option<&Engine>) -> bool,
    wait: Duration,
) -> String {
    let mut out = Page::with_capacity(16 << 10);
    let engine = node.gate.try_read_for(wait);
    out.value(&rows::READY, u8::from(is_ready(engine.as_deref())));
    out.value(&rows::GATE_TAKEN, u8::from(engine.is_none()));
    // A change of role must not wait for a disk because somebody looks at numbers.
    let store = engine.and_then(|engine| engine_metrics(node, &engine, &mut out));
    process_metrics(node, &mut out);
    let ends_s = node.tls.now().map(|tls| tls.validity().ends_s());
    metrics::process::render(&mut out, &web::bounded::closed(), ends_s);
    client_metrics(node, &mut out);
    command_metrics(node, &mut out);
    latency_metrics(node, &mut out);
    lease_metrics(node, &mut out);
    replication_metrics(node, &mut out);
    let Some(store) = store else { return out.into_text() };
    out.value(&rows::STORAGE_LOG_WAIT_SECONDS, node.disk_wait_ms(&store) as f64 / 1000.0);
    if let Some((stats, age)) = files.ask(store, &node.dir, wait) {
        out.value(&rows::STORAGE_STATS_AGE_SECONDS, age.as_secs_f64());
        storage_metrics(&stats, &mut out);
        aside_metrics(files.aside(), &mut out);
    }
    out.into_text()
}

/// What lies behind the write gate; returns the database, if it is there.
fn engine_metrics(node: &Node, engine: &Engine, out: &mut Page) -> Option<Store> {
    grant_metrics(node, engine, out);
    out.value(&rows::ROLE_MASTER, u8::from(engine.role.is_master()));
    out.value(&rows::LOADING, u8::from(engine.store.is_none()));
    out.value(&rows::ROLE_CHANGES, engine.generation);
    engine.store.clone()
}

fn aside_metrics(aside: Aside, out: &mut Page) {
    let Aside { discarded_files, discarded_bytes, deposed_bytes } = aside;
    out.value(&rows::DISCARDED_FILES, discarded_files);
    out.value(&rows::DISCARDED_BYTES, discarded_bytes);
    out.value(&rows::DEPOSED_BYTES, deposed_bytes);
}

fn process_metrics(node: &Node, out: &mut Page) {
    out.head(&rows::BUILD_INFO);
    out.sample(&rows::BUILD_INFO, &[version::VERSION], 1);
    let uptime_s = node.uptime_ms() as f64 / 1000.0;
    out.value(&rows::PROCESS_UPTIME_SECONDS, uptime_s);
    let cpu = process::cpu_seconds();
    out.head(&rows::PROCESS_CPU_SECONDS);
    out.sample(&rows::PROCESS_CPU_SECONDS, &["system"], cpu.system);
    out.sample(&rows::PROCESS_CPU_SECONDS, &["user"], cpu.user);
    out.value(&rows::PROCESS_RESIDENT_BYTES, process::resident_bytes());
    if let Some(heap) = process::heap() {
        out.value(&rows::HEAP_ALLOCATED_BYTES, heap.allocated);
        out.value(&rows::HEAP_RESIDENT_BYTES, heap.resident);
    }
    memory_metrics(node, out);
    if let Some(disk) = process::disk(&node.dir) {
        out.value(&rows::DISK_CAPACITY_BYTES, disk.capacity);
        out.value(&rows::DISK_USED_BYTES, disk.used);
    }
}

/// The parts that lie behind the write gate are left out where it cannot be had.
fn memory_metrics(node: &Node, out: &mut Page) {
    let parts = shown::parts(node);
    out.value(&rows::MEMORY_MAX_BYTES, node.config.now().maxmemory.0);
    out.family(&rows::MEMORY_LIMIT_BYTES, parts.iter().map(|part| (part.name, part.limit)));
    out.family(&rows::MEMORY_USED_BYTES, parts.iter().map(|part| (part.name, part.used)));
    out.value(&rows::MEMORY_REFUSED, node.memory.refused.load(Ordering::Relaxed));
}

fn client_metrics(node: &Node, out: &mut Page) {
    let stats = &node.stats;
    let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    out.value(&rows::CLIENTS_CONNECTIONS, node.clients.len());
    let paused = u8::from(node.clients.paused(clock::boottime_ns).is_some());
    out.value(&rows::CLIENTS_PAUSED, paused);
    let accepted = stats.sum(|worker| &worker.connections);
    out.value(&rows::CLIENTS_ACCEPTED, accepted);
    out.value(&rows::CLIENTS_REJECTED, now(&stats.rejected_connections));
    out.value(&rows::CLIENTS_EVICTED, now(&node.memory.evicted));
    out.value(&rows::LONG_READS, node.long_reads.count());
    out.value(&rows::CLIENTS_MOVED_IN, now(&stats.moved_in));
    out.head(&rows::CLIENTS_PROXY_REFUSED);
    for (fault, word) in Fault::ALL {
        let total = node.proxy_refused.total(fault);
        out.sample(&rows::CLIENTS_PROXY_REFUSED, &[word], total);
    }
    let received = stats.sum(|worker| &worker.bytes_in);
    out.value(&rows::CLIENTS_RECEIVED_BYTES, received);
    let sent = stats.sum(|worker| &worker.bytes_out);
    out.value(&rows::CLIENTS_SENT_BYTES, sent);
    let hits = stats.sum(|worker| &worker.hits);
    out.value(&rows::KEYSPACE_HITS, hits);
    let misses = stats.sum(|worker| &worker.misses);
    out.value(&rows::KEYSPACE_MISSES, misses);
    out.value(&rows::SLOWLOG_ENTRIES, node.slowlog.len());
}

fn command_metrics(node: &Node, out: &mut Page) {
    let used: Vec<(&str, CommandTotal)> = Catalog::get()
        .entries()
        .iter()
        .enumerate()
        .map(|(place, command)| (command.row.name, node.stats.command(place)))
        .filter(|(_, total)| total.calls > 0 || total.rejected > 0)
        .collect();
    let mut family = |metric: &Metric, value: fn(&CommandTotal) -> f64| {
        out.family(metric, used.iter().map(|(command, total)| (*command, value(total))));
    };
    family(&rows::COMMAND_CALLS, |total| total.calls as f64);
    family(&rows::COMMAND_FAILED, |total| total.failed as f64);
    family(&rows::COMMAND_REJECTED, |total| total.rejected as f64);
    family(&rows::COMMAND_SECONDS, |total| total.micros as f64 / 1e6);
}

/// A histogram over all commands: one for each of them would be thousands of series.
fn latency_metrics(node: &Node, out: &mut Page) {
    let total = node.stats.latency();
    let bounds = BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6);
    let within = bounds.zip(total.within());
    out.histogram(&rows::REPLY_SECONDS, within, total.micros as f64 / 1e6, total.commands);
}

fn lease_metrics(node: &Node, out: &mut Page) {
    let mode = node.config.now().master_lease_mode;
    let now_ns = clock::boottime_ns();
    out.head(&rows::LEASE_MODE);
    for word in LeaseMode::WORDS {
        out.sample(&rows::LEASE_MODE, &[word], u8::from(*word == mode.as_str()));
    }
    let left_s = node.grants.remaining_ms(now_ns) as f64 / 1000.0;
    out.value(&rows::LEASE_REMAINING_SECONDS, left_s);
    out.value(&rows::LEASE_VALID, u8::from(node.grants.is_valid(now_ns)));
    out.value(&rows::LEASE_TERM, node.grants.term());
    let version = node.cluster.load().version();
    out.value(&rows::TOPOLOGY_VERSION, version);
}

fn grant_metrics(node: &Node, engine: &Engine, out: &mut Page) {
    let standing = node.grants.standing(engine, node.config.now().durable_ack);
    let is_in_sync = node.grants.mode().is_some_and(|(mode, _)| mode == CommitMode::InSync);
    let commit = &node.grants.commit;
    let tail = engine.store.as_ref().map_or(0, |store| commit.tail_bytes(store));
    let members = standing.request_members.len();
    let lacks = u8::from(commit.lacks_members());
    let gauges: [(&Metric, &dyn Display); 8] = [
        (&rows::EPOCH, &standing.history_epoch),
        (&rows::GRANTED_EPOCH, &standing.granted_epoch),
        (&rows::IN_SYNC_MODE, &u8::from(is_in_sync)),
        (&rows::IN_SYNC_MEMBERS, &members),
        (&rows::IN_SYNC_TOO_SMALL, &lacks),
        (&rows::COMMITTED_SEQUENCE, &standing.committed),
        (&rows::UNACKNOWLEDGED_BYTES, &tail),
        (&rows::PROMISED_MS, &standing.promised_ms),
    ];
    for (metric, value) in gauges {
        out.value(metric, value);
    }
}

fn replication_metrics(node: &Node, out: &mut Page) {
    let replication = &node.replication;
    let is_up = replication.link_status() == LinkStatus::Up;
    out.value(&rows::REPLICATION_LINK_UP, u8::from(is_up));
    let is_due = node.resync.now() != Resync::None;
    out.value(&rows::REPLICATION_RESYNC_DUE, u8::from(is_due));
    if let Some(seconds) = replication.last_io_seconds() {
        out.value(&rows::REPLICATION_SILENCE_SECONDS, seconds);
    }
    let replicas = replication.replicas();
    out.value(&rows::REPLICATION_REPLICAS, replicas.len());
    out.head(&rows::REPLICATION_ACKED_SEQUENCE);
    for replica in &replicas {
        let at = format!("{}:{}", replica.ip, replica.port);
        out.sample(&rows::REPLICATION_ACKED_SEQUENCE, &[&at], replica.offset);
    }
    let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let stats = &node.stats;
    out.head(&rows::REPLICATION_SYNCS);
    for (outcome, counter) in [
        ("full", &stats.sync_full),
        ("partial", &stats.sync_partial_ok),
        ("partial_refused", &stats.sync_partial_err),
    ] {
        out.sample(&rows::REPLICATION_SYNCS, &[outcome], now(counter));
    }
}

fn storage_metrics(stats: &Stats, out: &mut Page) {
    out.value(&rows::STORAGE_SEQUENCE, stats.latest_sequence);
    out.value(&rows::STORAGE_PUBLISHED_SEQUENCE, stats.published);
    out.value(&rows::STORAGE_DISK_BYTES, stats.disk_bytes());
    out.value(&rows::STORAGE_WAL_BYTES, stats.wal_bytes);
    out.value(&rows::STORAGE_ARCHIVED_WAL_BYTES, stats.archived_wal_bytes);
    out.value(&rows::STORAGE_OLDEST_WAL_SEQUENCE, stats.oldest_wal_sequence.unwrap_or(0));
    out.value(&rows::STORAGE_BLOCK_CACHE_BYTES, stats.block_cache_bytes);
    out.value(&rows::STORAGE_BLOCK_CACHE_CAPACITY_BYTES, stats.block_cache_capacity);
    out.value(&rows::STORAGE_RUNNING_COMPACTIONS, stats.running_compactions);
    out.value(&rows::STORAGE_RUNNING_FLUSHES, stats.running_flushes);
    out.value(&rows::STORAGE_BACKGROUND_ERRORS, stats.background_errors);
    out.value(&rows::STORAGE_WRITE_STOPPED, u8::from(stats.is_write_stopped));
    out.value(&rows::STORAGE_DELAYED_WRITE_BYTES_PER_SECOND, stats.delayed_write_rate);
    family_metrics(stats, out);
}

fn family_metrics(stats: &Stats, out: &mut Page) {
    let mut family = |metric: &Metric, value: fn(&storage::stats::FamilyStats) -> u64| {
        out.family(metric, stats.families.iter().map(|of| (of.family.name(), value(of))));
    };
    family(&rows::STORAGE_KEYS_ESTIMATE, |f| f.estimate_keys);
    family(&rows::STORAGE_MEMTABLE_BYTES, |f| f.memtable_bytes);
    family(&rows::STORAGE_TABLE_BYTES, |f| f.table_bytes);
    family(&rows::STORAGE_BLOB_BYTES, |f| f.blob_bytes);
    family(&rows::STORAGE_LEVEL0_FILES, |f| f.files_per_level[0]);
    family(&rows::STORAGE_PENDING_COMPACTION_BYTES, |f| f.pending_compaction_bytes);
}

#[cfg(test)]
mod tests {
    use topology::Cluster;

    use super::*;
    use crate::gate::Role;

    fn node(folder: &std::path::Path) -> std::sync::Arc<Node> {
        crate::shell::node(folder, crate::shell::small(), Cluster::default(), Role::Master)
    }

    #[test]
    fn the_page_announces_every_metric_of_the_table_once() {
        let folder = tempfile::tempdir().unwrap();
        let node = node(folder.path());
        node.stats.workers[0].command(0, 1500, crate::stats::Outcome::Done);
        let text = render(&node, &Files::default(), |_| true, Duration::from_secs(60));
        let mut announced: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        announced.sort_unstable();
        // A master has no master that it could hear, and this one has no certificate.
        let absent =
            [&rows::REPLICATION_SILENCE_SECONDS, &metrics::process::CERTIFICATE_END_TIME_SECONDS];
        let rows = rows::ALL.iter().chain(metrics::process::ALL);
        let mut expected: Vec<&str> =
            rows.filter(|row| !absent.contains(*row)).map(|row| row.name).collect();
        expected.sort_unstable();
        assert_eq!(announced, expected);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(metrics::find(line.split(['{', ' ']).next().unwrap()).is_some(), "{line}");
            assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
        }
        let first = Catalog::get().entries()[0].row.name;
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
        let text = render(&node, &Files::default(), |_| true, Duration::from_secs(60));
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
        let text = render(&node, &Files::default(), |_| true, Duration::from_millis(1));
        assert!(text.contains("\nholdfast_node_gate_taken 1\n"));
        assert!(!text.contains("holdfast_node_storage_sequence"));
    }
}
