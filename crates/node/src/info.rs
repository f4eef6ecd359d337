//! INFO: what the node is, does and has done, as text.
//!
//! Sections, names and order are Kvrocks'; fields Redis clients look for are added behind them.
//! Every number is measured: a field without a meaning here is left out rather than invented. Which
//! sections exist is one table; INFO and its tests read it.

pub mod process;
pub mod profiler;

use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use api::heartbeat::Stranger;
use storage::{Counters, Stats};

use crate::acl::log::Reason;
use crate::clients::{Client, PauseKind};
use crate::clock;
use crate::command::Catalog;
use crate::memory::shown::{self, Part};
use crate::node::Node;
use crate::proxy_refused::Fault;
use crate::version::{REDIS_VERSION, VERSION};

/// The release of Kvrocks whose topology commands this node understands: controllers look at it
/// before they send them.
pub const KVROCKS_VERSION: &str = "2.11.0";

/// One section.
struct Section {
    /// Lower-case name, as INFO's argument.
    name: &'static str,
    /// Shown when none is named; others only by name, `all` or `everything`.
    is_default: bool,
    render: fn(&Node, &mut Lines),
}

const SECTIONS: &[Section] = &[
    Section { name: "server", is_default: true, render: server },
    Section { name: "clients", is_default: true, render: clients },
    Section { name: "memory", is_default: true, render: memory },
    Section { name: "persistence", is_default: true, render: persistence },
    Section { name: "stats", is_default: true, render: stats },
    Section { name: "replication", is_default: true, render: replication },
    Section { name: "cpu", is_default: true, render: cpu },
    Section { name: "commandstats", is_default: false, render: command_stats },
    Section { name: "errorstats", is_default: true, render: error_stats },
    Section { name: "cluster", is_default: true, render: cluster },
    Section { name: "keyspace", is_default: true, render: keyspace },
    Section { name: "rocksdb", is_default: true, render: rocksdb },
    Section { name: "holdfast", is_default: true, render: holdfast },
];

/// The text of the wanted sections (lower case), of the default ones when none is named. Unknown
/// names yield nothing, as in Redis.
pub fn render(node: &Node, wanted: &[String]) -> String {
    let is_wanted = |section: &Section| {
        if wanted.is_empty() {
            return section.is_default;
        }
        wanted.iter().any(|name| match name.as_str() {
            "default" => section.is_default,
            "all" | "everything" => true,
            name => name == section.name,
        })
    };
    let mut lines = Lines(String::with_capacity(4096));
    for section in SECTIONS.iter().filter(|section| is_wanted(section)) {
        if !lines.0.is_empty() {
            lines.0.push_str("\r\n");
        }
        (section.render)(node, &mut lines);
    }
    lines.0
}

/// `name:value` lines.
struct Lines(String);

impl Lines {
    fn title(&mut self, title: &str) {
        // Writing to a string cannot fail, here and below.
        let _ = write!(self.0, "# {title}\r\n");
    }

    fn add(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    /// A number of bytes, for programs and for people.
    fn bytes(&mut self, name: &str, bytes: u64) {
        self.add(name, bytes);
        let _ = write!(self.0, "{name}_human:{}\r\n", human(bytes));
    }
}

/// Bytes as Redis shows them to people: `512B`, `1.50K`.
fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "K", "M", "G", "T"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes}B") } else { format!("{value:.2}{unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.2}P")
}

/// A share in per cent; 0 of nothing is 0.
fn percent(part: u64, whole: u64) -> u64 {
    u128::from(part)
        .saturating_mul(100)
        .checked_div(u128::from(whole))
        .map_or(0, |share| u64::try_from(share).unwrap_or(u64::MAX))
}

fn server(node: &Node, lines: &mut Lines) {
    let config = node.config.now();
    let mode = if config.cluster_enabled { "cluster" } else { "standalone" };
    let uptime_s = node.uptime_ms() / 1000;
    lines.title("Server");
    lines.add("version", KVROCKS_VERSION);
    lines.add("kvrocks_version", KVROCKS_VERSION);
    lines.add("redis_version", REDIS_VERSION);
    lines.add("holdfast_version", VERSION);
    lines.add("redis_mode", mode);
    lines.add("kvrocks_mode", mode);
    lines.add("os", process::os());
    lines.add("arch_bits", usize::BITS);
    lines.add("process_id", std::process::id());
    lines.add("run_id", &node.run_id);
    lines.add("tcp_port", config.told_port());
    lines.add("server_time_usec", clock::unix_us());
    lines.add("uptime_in_seconds", uptime_s);
    lines.add("uptime_in_days", uptime_s / 86_400);
    let file = node.config.file.as_ref().map(|file| file.display().to_string());
    lines.add("config_file", file.unwrap_or_default());
}

fn clients(node: &Node, lines: &mut Lines) {
    let replicas = node.replication.replicas().len();
    lines.title("Clients");
    lines.add("maxclients", node.config.now().parts().connections);
    lines.add("connected_clients", node.clients.len().saturating_sub(replicas));
    lines.add("monitor_clients", node.monitors.watching());
    let is_blocked = |client: &Arc<Client>| client.shown.is_blocked.load(Ordering::Relaxed);
    lines.add("blocked_clients", node.clients.list().iter().filter(|c| is_blocked(c)).count());
    let (keys, minding) = node.waiters.keys();
    lines.add("total_blocking_keys", keys);
    lines.add("total_blocking_keys_on_nokey", minding);
    let pause = node.clients.paused(clock::boottime_ns);
    let word = pause.map_or("none", |pause| match pause.kind {
        PauseKind::Write => "write",
        PauseKind::All => "all",
    });
    lines.add("paused_actions", word);
    let (trackers, keys) = node.tracking.counts();
    lines.add("tracking_clients", trackers);
    lines.add("tracking_total_keys", keys);
}

fn memory(node: &Node, lines: &mut Lines) {
    let rss = process::resident_bytes();
    let heap = process::heap();
    lines.title("Memory");
    if let Some(heap) = &heap {
        lines.bytes("used_memory", heap.allocated);
    }
    lines.bytes("used_memory_rss", rss);
    lines.bytes("used_memory_lua", node.scripts.lua_bytes());
    let (texts, bytes) = node.scripts.texts();
    lines.bytes("used_memory_scripts", u64::try_from(bytes).unwrap_or(u64::MAX));
    lines.add("number_of_cached_scripts", texts);
    lines.add("used_memory_startup", process::startup_bytes());
    if let Some(heap) = heap {
        lines.add("allocator_allocated", heap.allocated);
        lines.add("allocator_active", heap.active);
        lines.add("allocator_resident", heap.resident);
        lines.add("mem_allocator", "jemalloc");
    }
    lines.bytes("total_system_memory", crate::machine::memory_mib() << 20);
    lines.add("huge_pages", crate::machine::huge_pages().as_deref().unwrap_or("none"));
    memory_parts(node, lines);
}

/// What `maxmemory` leaves each part, and what the part takes; a limit of 0 is none.
fn memory_parts(node: &Node, lines: &mut Lines) {
    let parts = node.config.now().parts();
    for (name, bytes) in [
        ("write_buffer_size", parts.write_buffer),
        ("block_cache_size", parts.block_cache),
        ("value_cache_size", parts.values),
    ] {
        lines.add(name, bytes);
    }
    lines.bytes("maxmemory", parts.total);
    lines.add("maxmemory_policy", "noeviction");
    lines.add("maxmemory_refused_writes", node.memory.refused.load(Ordering::Relaxed));
    lines.add("mem_clients_normal", node.memory.bytes());
    for Part { name, limit, used } in shown::parts(node) {
        lines.add(&format!("mem_{name}_limit"), limit);
        lines.add(&format!("mem_{name}_used"), used);
    }
}

fn persistence(node: &Node, lines: &mut Lines) {
    let is_loading = node.engine().store.is_none();
    lines.title("Persistence");
    lines.add("loading", u8::from(is_loading));
    let backup = node.backups.state();
    lines.add("bgsave_in_progress", u8::from(backup.is_running));
    lines.add("last_bgsave_time", last_save_ms(node) / 1000);
    lines.add("last_bgsave_status", if backup.has_failed { "err" } else { "ok" });
    let seconds = backup.last_seconds.map(|seconds| seconds.to_string());
    lines.add("last_bgsave_time_sec", seconds.as_deref().unwrap_or("-1"));
    let load = node.loads.now();
    lines.add("rdb_load_in_progress", u8::from(load.is_running));
    lines.add("rdb_load_status", if load.has_failed { "err" } else { "ok" });
    lines.add("rdb_load_keys", load.keys);
    lines.add("rdb_load_skipped_keys", load.skipped);
    lines.add("rdb_load_bytes", load.bytes);
    lines.add("rdb_load_total_bytes", load.total_bytes);
}

/// When the newest backup was made, Unix ms; before the first one, when this process started.
pub fn last_save_ms(node: &Node) -> u64 {
    let started = || clock::unix_ms().saturating_sub(node.uptime_ms());
    node.backups.state().last_ms.unwrap_or_else(started)
}

fn stats(node: &Node, lines: &mut Lines) {
    let stats = &node.stats;
    let now = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let kbps = |counter| format!("{:.2}", now(counter) as f64 / 1024.0);
    lines.title("Stats");
    lines.add("total_connections_received", stats.sum(|worker| &worker.connections));
    lines.add("total_commands_processed", stats.commands());
    lines.add("instantaneous_ops_per_sec", now(&stats.ops_per_second));
    lines.add("total_net_input_bytes", stats.sum(|worker| &worker.bytes_in));
    lines.add("total_net_output_bytes", stats.sum(|worker| &worker.bytes_out));
    lines.add("instantaneous_input_kbps", kbps(&stats.bytes_in_per_second));
    lines.add("instantaneous_output_kbps", kbps(&stats.bytes_out_per_second));
    lines.add("rejected_connections", now(&stats.rejected_connections));
    lines.add("evicted_clients", now(&node.memory.evicted));
    lines.add("sync_full", now(&stats.sync_full));
    lines.add("sync_partial_ok", now(&stats.sync_partial_ok));
    lines.add("sync_partial_err", now(&stats.sync_partial_err));
    lines.add("keyspace_hits", stats.sum(|worker| &worker.hits));
    lines.add("keyspace_misses", stats.sum(|worker| &worker.misses));
    lines.add("pubsub_channels", node.pubsub.channels());
    lines.add("pubsub_patterns", node.pubsub.patterns());
    lines.add("pubsubshard_channels", node.pubsub.shard_channels());
    lines.add("total_error_replies", stats.errors.total());
    for ((_, word), count) in Reason::ALL.into_iter().zip(node.acl.log.counts()) {
        lines.add(&format!("acl_access_denied_{word}"), count);
    }
    lines.add("long_reads", node.long_reads.count());
}

fn replication(node: &Node, lines: &mut Lines) {
    lines.0.push_str(&crate::replication::info(node));
}

fn cpu(_node: &Node, lines: &mut Lines) {
    let used = process::cpu_seconds();
    lines.title("CPU");
    lines.add("used_cpu_sys", format_args!("{:.6}", used.system));
    lines.add("used_cpu_user", format_args!("{:.6}", used.user));
}

fn command_stats(node: &Node, lines: &mut Lines) {
    lines.title("Commandstats");
    for (place, command) in Catalog::get().entries().iter().enumerate() {
        let total = node.stats.command(place);
        if total.calls == 0 && total.rejected == 0 {
            continue;
        }
        let per_call = total.micros as f64 / total.calls.max(1) as f64;
        lines.add(
            &format!("cmdstat_{}", command.row.name),
            format_args!(
                "calls={},usec={},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
                total.calls, total.micros, total.rejected, total.failed
            ),
        );
    }
}

fn error_stats(node: &Node, lines: &mut Lines) {
    lines.title("Errorstats");
    for (code, count) in node.stats.errors.counts() {
        lines.add(&format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

fn cluster(node: &Node, lines: &mut Lines) {
    lines.title("Cluster");
    lines.add("cluster_enabled", u8::from(node.config.now().cluster_enabled));
}

fn keyspace(node: &Node, lines: &mut Lines) {
    const GIB: u64 = 1 << 30;
    let counted = *node.keyspace.lock();
    let sequence = node.engine().store.as_ref().map_or(0, storage::Store::latest_sequence);
    let used = node.used_bytes.load(Ordering::Relaxed);
    let limit = u64::from(node.config.now().max_db_size) * GIB;
    lines.title("Keyspace");
    if counted.at_ms == 0 {
        lines.0.push_str("# WARN: DBSIZE SCAN never performed yet\r\n");
    } else {
        let _ = write!(lines.0, "# Last DBSIZE SCAN time: {} UTC\r\n", date(counted.at_ms / 1000));
    }
    lines.add(
        "db0",
        format_args!(
            "keys={},expires={},avg_ttl={},expired={}",
            counted.keys, counted.expires, counted.average_ttl_ms, counted.expired
        ),
    );
    lines.add("sequence", sequence);
    lines.add("used_db_size", used);
    lines.add("max_db_size", limit);
    lines.add("used_percent", format_args!("{}%", percent(used, limit)));
    if let Some(disk) = process::disk(&node.dir) {
        lines.add("disk_capacity", disk.capacity);
        lines.add("used_disk_size", disk.used);
        lines.add("used_disk_percent", format_args!("{}%", percent(disk.used, disk.capacity)));
    }
}

/// Unix seconds as `2026-11-22 13:00:00`, UTC.
pub(crate) fn date(seconds: u64) -> String {
    let with_ms = api::time::utc(seconds.saturating_mul(1_000));
    with_ms.split('.').next().unwrap_or_default().to_owned()
}

fn rocksdb(node: &Node, lines: &mut Lines) {
    lines.title("RocksDB");
    let yes = |is: bool| if is { "yes" } else { "no" };
    lines.add("is_bgsaving", yes(node.backups.state().is_running));
    lines.add("is_compacting", yes(node.is_compacting.load(Ordering::Relaxed)));
    // Not under the gate: listing the files may wait for the disk, and a heartbeat would wait too.
    let Some(store) = node.engine().store.clone() else { return };
    let counters = store.counters();
    match store.stats() {
        Ok(stats) => engine(&stats, lines),
        Err(error) => lines.add("error", error),
    }
    work(node, &counters, lines);
}

/// What the engine has done since it was opened, and does per second.
fn work(node: &Node, counters: &Counters, lines: &mut Lines) {
    for (name, count) in counters.block_cache() {
        lines.add(name, count);
    }
    lines.add("flush_count", counters.flushes);
    lines.add("compaction_count", counters.compactions);
    let rates = *node.stats.engine_per_second.lock();
    lines.add("put_per_sec", rates.puts);
    lines.add("get_per_sec", rates.gets);
    lines.add("seek_per_sec", rates.seeks);
    lines.add("next_per_sec", rates.nexts);
    lines.add("prev_per_sec", rates.prevs);
}

fn engine(stats: &Stats, lines: &mut Lines) {
    for family in &stats.families {
        let name = family.family.name();
        let mut add = |what: &str, value: u64| lines.add(&format!("{what}[{name}]"), value);
        add("estimate_keys", family.estimate_keys);
        add("all_mem_tables", family.memtable_bytes);
        add("num_immutable_tables", family.immutable_memtables);
        add("sst_bytes", family.table_bytes);
        add("live_sst_bytes", family.live_table_bytes);
        add("blob_bytes", family.blob_bytes);
        add("num_files", family.files_per_level.iter().sum());
        add("num_files_level0", family.files_per_level.first().copied().unwrap_or(0));
        add("estimate_pending_compaction_bytes", family.pending_compaction_bytes);
        add("index_and_filter_cache_usage", family.table_reader_bytes);
        let stalls = &family.stalls;
        add("level0_file_limit_slowdown", stalls.l0_delays);
        add("level0_file_limit_stop", stalls.l0_stops);
        add("pending_compaction_bytes_slowdown", stalls.compaction_delays);
        add("pending_compaction_bytes_stop", stalls.compaction_stops);
        add("level0_file_limit_stop_with_ongoing_compaction", stalls.l0_stops_compacting);
        add("level0_file_limit_slowdown_with_ongoing_compaction", stalls.l0_delays_compacting);
        add("memtable_count_limit_slowdown", stalls.memtable_delays);
        add("memtable_count_limit_stop", stalls.memtable_stops);
    }
    lines.add("all_mem_tables", stats.memtable_bytes());
    lines.add("cur_mem_tables", stats.active_memtable_bytes);
    let immutable = stats.families.iter().map(|family| family.immutable_memtables);
    lines.add("num_immutable_tables", immutable.sum::<u64>());
    lines.add("memtable_flush_pending", stats.pending_flushes);
    lines.add("compaction_pending", stats.pending_compactions);
    lines.add("num_live_versions", stats.live_versions);
    lines.add("num_super_version", stats.super_versions);
    lines.add("block_cache_usage", stats.block_cache_bytes);
    lines.add("block_cache_pinned_usage", stats.block_cache_pinned_bytes);
    lines.add("block_cache_capacity", stats.block_cache_capacity);
    lines.add("wal_bytes", stats.wal_bytes);
    lines.add("archived_wal_bytes", stats.archived_wal_bytes);
    lines.add("oldest_wal_sequence", stats.oldest_wal_sequence.unwrap_or(0));
    lines.add("published_sequence", stats.published);
    lines.add("snapshots", stats.snapshots);
    lines.add("num_running_flushes", stats.running_flushes);
    lines.add("num_running_compactions", stats.running_compactions);
    lines.add("num_background_errors", stats.background_errors);
    lines.add("is_write_stopped", u8::from(stats.is_write_stopped));
    lines.add("actual_delayed_write_rate", stats.delayed_write_rate);
}

fn holdfast(node: &Node, lines: &mut Lines) {
    let reply = crate::role::heartbeat_reply(node);
    let is_safe = Node::is_lease_blocking(reply.lease_mode);
    lines.title("Holdfast");
    lines.add("failover_safety", if is_safe { "on" } else { "off" });
    lines.add("master_lease_mode", reply.lease_mode);
    lines.add("lease_remaining_ms", reply.lease_remaining_ms);
    lines.add("term", node.grants.term());
    lines.add("log_wait_ms", reply.log_wait_ms);
    let standing = &reply.standing;
    lines.add("epoch", standing.history_epoch);
    lines.add("epoch_id", api::grant::show_id(standing.history_id));
    lines.add("granted_epoch", standing.granted_epoch);
    let mode = node.grants.mode();
    lines.add("commit_mode", mode.map_or("none", |(mode, _)| mode.as_str()));
    lines.add("min_in_sync", mode.map_or(0, |(_, least)| least));
    lines.add("in_sync_nodes", node.grants.in_sync_nodes());
    lines.add("in_sync_members", standing.request_members.len());
    lines.add("in_sync_request", standing.request);
    lines.add("in_sync_left", node.stats.in_sync_left.load(Ordering::Relaxed));
    lines.add("in_sync_lost", node.stats.in_sync_lost.load(Ordering::Relaxed));
    lines.add("committed", standing.committed);
    lines.add("unacknowledged_bytes", tail_bytes(node));
    lines.add("promised_ms", standing.promised_ms);
    lines.add("node_id", &reply.myid);
    lines.add("topology_version", reply.version);
    lines.add("topology_hash", &reply.topology_hash);
    lines.add("client_access", reply.client_access);
    lines.add("balancer_sources", reply.balancer_sources.join(","));
    for (fault, word) in Fault::ALL {
        lines.add(&format!("proxy_refused_{word}"), node.proxy_refused.total(fault));
    }
    for (index, stranger) in reply.strangers.iter().enumerate() {
        let Stranger { address, connections, age_ms } = stranger;
        lines.add(
            &format!("unlisted_balancer{index}"),
            format_args!("address={address},connections={connections},age_ms={age_ms}"),
        );
    }
    lines.add("resync", reply.resync);
    lines.add("deposed_data", u8::from(node.path("db.deposed").exists()));
    lines.add("paused", u8::from(reply.paused));
    lines.add("peers_connected", peers(node));
}

/// Bytes of writes the in-sync set has not acknowledged.
pub fn tail_bytes(node: &Node) -> u64 {
    node.engine().store.as_ref().map_or(0, |store| node.grants.commit.tail_bytes(store))
}

fn peers(node: &Node) -> usize {
    node.clients.list().iter().filter(|client| client.is_peer.load(Ordering::Relaxed)).count()
}

#[cfg(test)]
mod tests {
    use topology::Cluster;

    use super::*;
    use crate::gate::Role;

    fn node(folder: &std::path::Path) -> std::sync::Arc<Node> {
        crate::shell::node(folder, crate::shell::small(), Cluster::default(), Role::Master)
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    /// Names of the fields, to compare with the order of the reference.
    fn names(text: &str) -> Vec<&str> {
        text.lines().map(|line| line.split(':').next().unwrap_or_default()).collect()
    }

    #[test]
    fn sections_are_chosen_by_name_and_separated() {
        let folder = tempfile::tempdir().unwrap();
        let node = node(folder.path());
        assert_eq!(render(&node, &words(&["cluster"])), "# Cluster\r\ncluster_enabled:0\r\n");
        assert_eq!(render(&node, &words(&["nosuch"])), "");
        let two = render(&node, &words(&["cluster", "replication"]));
        assert_eq!(
            two,
            "# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_repl_offset:0\r\n\r\n# Cluster\r\ncluster_enabled:0\r\n"
        );
        let titles = |wanted: &[&str]| render(&node, &words(wanted)).matches("# ").count();
        assert!(titles(&[]) < titles(&["all"]));
    }

    #[test]
    fn fields_come_in_the_order_of_the_reference() {
        let folder = tempfile::tempdir().unwrap();
        let node = node(folder.path());
        let text = render(&node, &words(&["stats"]));
        let expected = "total_connections_received total_commands_processed instantaneous_ops_per_sec total_net_input_bytes \
            total_net_output_bytes instantaneous_input_kbps instantaneous_output_kbps sync_full sync_partial_ok sync_partial_err \
            keyspace_hits keyspace_misses pubsub_channels pubsub_patterns";
        let found: Vec<&str> =
            names(&text).into_iter().filter(|name| expected.contains(name)).collect();
        assert_eq!(found.join(" "), expected);
        let text = render(&node, &words(&["keyspace"]));
        assert!(text.contains("\r\n# WARN: DBSIZE SCAN never performed yet\r\ndb0:keys=0,expires=0,avg_ttl=0,expired=0\r\nsequence:"), "{text}");
    }

    #[test]
    fn who_watches_and_what_is_subscribed_to_is_counted() {
        let mut shell = crate::shell::Shell::new();
        let shown = |shell: &mut crate::shell::Shell| {
            let text = format!("{} {}", shell.run("INFO clients"), shell.run("INFO stats"));
            let all =
                ["monitor_clients", "pubsub_channels", "pubsub_patterns", "pubsubshard_channels"];
            all.map(|name| {
                let field = text.split(' ').find_map(|field| field.strip_prefix(name));
                field.unwrap_or_else(|| panic!("{name}: {text}")).to_owned()
            })
        };
        assert_eq!(shown(&mut shell), [":0"; 4]);
        let (one, two, watcher) = (shell.client(), shell.client(), shell.client());
        shell.run_as(one, "SUBSCRIBE a b");
        for command in ["SUBSCRIBE b", "PSUBSCRIBE x*", "SSUBSCRIBE s"] {
            shell.run_as(two, command);
        }
        shell.run_as(watcher, "MONITOR");
        assert_eq!(shown(&mut shell), [":1", ":2", ":1", ":1"]);
        for left in [one, two, watcher] {
            shell.run_as(left, "RESET");
        }
        assert_eq!(shown(&mut shell), [":0"; 4]);
    }

    #[test]
    fn keys_that_are_waited_for_are_counted() {
        let mut shell = crate::shell::Shell::new();
        let counts = |shell: &mut crate::shell::Shell, keys: usize, minding: usize| {
            let info = shell.run("INFO clients");
            let both = format!(
                " total_blocking_keys:{keys} total_blocking_keys_on_nokey:{minding} paused_actions"
            );
            assert!(info.contains(&both), "{info}");
        };
        shell.run("XGROUP CREATE s g $ MKSTREAM");
        counts(&mut shell, 0, 0);
        let (one, other) = (shell.client(), shell.client());
        let lists = shell.wait_as(one, "BLPOP a b 0");
        let stream = shell.wait_as(other, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
        counts(&mut shell, 3, 1);
        drop(lists);
        counts(&mut shell, 1, 1);
        drop(stream);
        counts(&mut shell, 0, 0);
    }

    #[test]
    fn the_engine_is_told_by_the_names_of_the_reference() {
        let folder = tempfile::tempdir().unwrap();
        let node = node(folder.path());
        let text = render(&node, &words(&["rocksdb"]));
        let of_families = [
            "estimate_keys",
            "index_and_filter_cache_usage",
            "level0_file_limit_slowdown",
            "level0_file_limit_stop",
            "pending_compaction_bytes_slowdown",
            "pending_compaction_bytes_stop",
            "level0_file_limit_stop_with_ongoing_compaction",
            "level0_file_limit_slowdown_with_ongoing_compaction",
            "memtable_count_limit_slowdown",
            "memtable_count_limit_stop",
        ];
        for name in of_families {
            assert!(text.contains(&format!("\r\n{name}[metadata]:")), "{name}: {text}");
        }
        let of_all = "all_mem_tables cur_mem_tables snapshots num_immutable_tables num_running_flushes \
            memtable_flush_pending compaction_pending num_running_compactions num_live_versions \
            num_super_version num_background_errors flush_count compaction_count put_per_sec get_per_sec \
            seek_per_sec next_per_sec prev_per_sec block_cache_usage block_cache_hit block_cache_data_miss";
        for name in of_all.split_whitespace() {
            assert!(text.contains(&format!("\r\n{name}:")), "{name}: {text}");
        }
    }

    #[test]
    fn a_lease_mode_that_blocks_is_failover_safety() {
        let folder = tempfile::tempdir().unwrap();
        let node = node(folder.path());
        assert!(render(&node, &words(&["holdfast"])).contains("failover_safety:off\r\n"));
        node.config.set(&[("master-lease-mode", "block-write")]).unwrap();
        assert!(render(&node, &words(&["holdfast"])).contains("failover_safety:on\r\n"));
    }

    #[test]
    fn bytes_shares_and_dates_are_readable() {
        assert_eq!(
            (human(512), human(1536), human(3 << 30)),
            ("512B".into(), "1.50K".into(), "3.00G".into())
        );
        assert_eq!((percent(1, 4), percent(1, 0)), (25, 0));
        assert_eq!(date(0), "1970-01-01 00:00:00");
        assert_eq!(date(951_827_696), "2000-02-29 12:34:56");
        assert_eq!(date(1_795_353_978), "2026-11-22 13:26:18");
    }
}
