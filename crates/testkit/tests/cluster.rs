//! A cluster behind the built-in balancer: who reaches it how, and what survives.

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow, ensure};
use common::{PATIENCE, in_set, key_at, refuses_clients, switch_over, write_until_ok};
use redis::Commands as _;
use testkit::cluster::{Cluster, Options, State};
use testkit::process;
use testkit::wait;
use testkit::wire::{Connection, Reply};

const KEYS: u32 = 500;
/// Increments that show that a client goes on.
const MORE: u64 = 200;

/// Every established connection that leads to a node's own port, by the process at its other end.
fn dialers(state: &State) -> Result<BTreeSet<u32>> {
    let output = Command::new("ss").args(["-Htnp"]).output().context("run ss")?;
    let ports: BTreeSet<u16> = state.nodes.iter().map(|node| node.port).collect();
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter(|line| line.starts_with("ESTAB")).filter(|line| {
        let peer = line.split_whitespace().nth(4).and_then(|peer| peer.rsplit_once(':'));
        peer.and_then(|(_, port)| port.parse().ok()).is_some_and(|port: u16| ports.contains(&port))
    });
    let pids = lines.flat_map(|line| line.split("pid=").skip(1));
    Ok(pids.filter_map(|text| text.split(',').next()?.parse().ok()).collect())
}

#[test]
fn clients_reach_every_shard_through_balancers_only() -> Result<()> {
    let cluster = Cluster::start(Options::default())?;
    let state = cluster.state()?;
    let starts: Vec<String> = state
        .nodes
        .iter()
        .map(|node| Ok(format!("redis://{}", node.announced()?)))
        .collect::<Result<_>>()?;
    let client = redis::cluster::ClusterClient::new(starts)?;
    let mut connection = client.get_connection()?;
    for number in 0..KEYS {
        let () = connection.set(format!("cluster:{number}"), number)?;
    }
    for number in 0..KEYS {
        let value: u32 = connection.get(format!("cluster:{number}"))?;
        ensure!(value == number);
    }
    // The client is still connected, and so is everybody else who is.
    let allowed: BTreeSet<u32> = state
        .nodes
        .iter()
        .filter_map(|node| node.pid)
        .chain(state.balancers.iter().filter_map(|balancer| balancer.pid))
        .chain(state.controller.pid)
        .collect();
    let strangers: Vec<u32> = dialers(&state)?.difference(&allowed).copied().collect();
    ensure!(strangers.is_empty(), "processes {strangers:?} are connected to nodes");
    for shard in 0..3 {
        let master = cluster.master(shard)?;
        let keys = cluster.peer(&master)?.call(&["INFO", "replication"])?.text();
        ensure!(keys.contains("role:master"), "{keys}");
    }
    Ok(())
}

#[test]
fn clients_are_shown_announced_addresses_and_turned_away_elsewhere() -> Result<()> {
    let cluster = Cluster::start(Options::default())?;
    let state = cluster.state()?;
    let master = cluster.master(0)?;
    let mut connection = Connection::open(master.announced()?)?;
    let seen = connection.call(&["CLUSTER", "NODES"])?.text();
    for node in &state.nodes {
        ensure!(seen.contains(&format!("{}@", node.announced()?)), "{seen}");
        ensure!(!seen.contains(&format!("{}@", node.local()?)), "{seen}");
    }
    let key = key_at(master.announced()?)?;
    let other = cluster.master(1)?;
    let moved = Connection::open(other.announced()?)?.call(&["GET", &key])?.text();
    ensure!(
        moved.starts_with("MOVED ") && moved.ends_with(&master.announced()?.to_string()),
        "{moved}"
    );
    for node in &state.nodes {
        refuses_clients(node, &key)?;
    }
    // Peers see local addresses.
    let peers = cluster.peer(&master)?.call(&["CLUSTERX", "NODES"])?.text();
    ensure!(peers.contains(&format!("{} {} master", master.host, master.port)), "{peers}");
    Ok(())
}

#[test]
fn data_and_balancer_view_survive_the_death_of_everything() -> Result<()> {
    let mut cluster = Cluster::start(Options::default())?;
    let before = cluster.state()?;
    let mut keys = Vec::new();
    for shard in 0..3 {
        let address = cluster.master(shard)?.announced()?;
        let key = key_at(address)?;
        write_until_ok(address, &key, "kept")?;
        keys.push((address, key));
    }
    cluster.kill_up()?;
    let pids: Vec<u32> = before
        .nodes
        .iter()
        .filter_map(|node| node.pid)
        .chain(before.balancers.iter().filter_map(|balancer| balancer.pid))
        .chain(before.controller.pid)
        .collect();
    wait::until("no orphans are left", PATIENCE, || {
        let alive: Vec<u32> = pids.iter().copied().filter(|pid| process::is_alive(*pid)).collect();
        if alive.is_empty() { Ok(()) } else { Err(alive) }
    })?;
    for node in &before.nodes {
        let path = cluster.dir().join("nodes").join(node.port.to_string()).join("nodes.conf");
        let conf = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let announced = node.announced_port.context("it has no announced port")?;
        ensure!(conf.contains(&format!(" 127.0.0.1 {announced}")), "{conf}");
    }
    cluster.up_again()?;
    for (address, key) in keys {
        ensure!(Connection::open(address)?.call(&["GET", &key])?.text() == "kept");
    }
    ensure!(cluster.state()?.nodes.len() == before.nodes.len());
    Ok(())
}

/// Increments, each by a connection of its own, until it is told to stop.
struct Increments {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Increments {
    /// Also where a test fails: it is not to run beside those that follow.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl Increments {
    fn start(address: SocketAddr, counter: String) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stops, count) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let thread = std::thread::spawn(move || {
            while !stops.load(Ordering::SeqCst) {
                let reply = Connection::open(address)
                    .and_then(|mut connection| connection.call(&["INCR", &counter]));
                if matches!(reply, Ok(Reply::Integer(_))) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { stop, acknowledged, thread: Some(thread) }
    }

    /// Waits until so many more were acknowledged.
    fn go_on(&self, more: u64) -> Result<()> {
        let before = self.acknowledged.load(Ordering::SeqCst);
        wait::until("increments are acknowledged", PATIENCE, || {
            let now = self.acknowledged.load(Ordering::SeqCst);
            if now >= before + more { Ok(()) } else { Err(now - before) }
        })
    }

    /// How many were acknowledged in all.
    fn end(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow!("the writer panicked"))?;
        }
        Ok(self.acknowledged.load(Ordering::SeqCst))
    }
}

#[test]
fn a_planned_switchover_moves_the_address_and_loses_nothing() -> Result<()> {
    let cluster = Cluster::start(Options::default())?;
    let (old, new) = (cluster.master(0)?, cluster.replica(0)?);
    let address = old.announced()?;
    let key = key_at(address)?;
    write_until_ok(address, &key, "0")?;
    in_set(&cluster, &old, &new)?;
    // Writes go on meanwhile, before and behind it, and each acknowledged one counts.
    let counter = format!("{{{key}}}:count");
    let writer = Increments::start(address, counter.clone());
    writer.go_on(MORE)?;
    let answer = switch_over(&cluster)?.to_string();
    ensure!(answer.contains(&new.id), "{answer}\n{}", cluster.logs());
    let state = cluster.await_that("roles are swapped", PATIENCE, |state| {
        state.nodes.iter().any(|node| node.id == new.id && node.role == "master")
    })?;
    writer.go_on(MORE).with_context(|| cluster.logs())?;
    let count = writer.end()?;
    let master = state.nodes.iter().find(|node| node.id == new.id).context("find it")?;
    ensure!(master.announced()? == address, "{master:?}");
    let stored: u64 = Connection::open(address)?.call(&["GET", &counter])?.text().parse()?;
    ensure!(stored >= count, "{count} increments were acknowledged, {stored} are there");
    cluster.await_return(&old, PATIENCE)?;
    Ok(())
}

#[test]
fn a_second_up_in_the_same_folder_is_refused() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, replicas: 0, ..Options::default() })?;
    let output =
        Command::new(process::holdfast()?).args(["up", "--dir"]).arg(cluster.dir()).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && errors.contains("another `holdfast up`"), "{errors}");
    Ok(())
}
