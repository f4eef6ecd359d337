//! Nodes are restarted as `systemctl restart` does it, one after the other and all at once, while
//! clients write through load balancers: no error behind the built-in one, behind HAProxy no more
//! than one cut of a connection for each master that goes, and every acknowledged write is there.

mod common;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use testkit::cluster::{Cluster, Node, Options};
use testkit::wire::{Connection, Reply};
use testkit::{process, wait};

use common::{PATIENCE, key_at};

const SHARDS: u16 = 2;
/// Of each shard; the last of them comes anew for each write.
const CLIENTS: usize = 5;
/// These tests ask whether, and not how fast: one that waits longer has been forgotten.
const CLIENT_PATIENCE: Duration = Duration::from_secs(60);
/// Between two connections of one client.
const AGAIN: Duration = Duration::from_millis(10);
/// So many writes of each client show that it goes on.
const MORE: u64 = 50;

/// One that counts up under a key of its own.
struct Client {
    shard: usize,
    address: SocketAddr,
    key: String,
    comes_anew: bool,
    writes: AtomicU64,
    /// Connections that ended after they had served.
    cuts: AtomicU64,
    /// Longest time from the first attempt of a write to its answer, µs, since it was last looked
    /// at.
    longest_us: AtomicU64,
}

impl Client {
    /// Counts until it is told to stop; where connections may be cut it makes new ones.
    fn run(&self, stop: &AtomicBool, may_be_cut: bool) -> Result<()> {
        let (mut sent, mut acknowledged) = (0_i64, 0_i64);
        // Since when the write that comes next is wanted.
        let mut wanted: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            wanted.get_or_insert_with(Instant::now);
            let mut connection = match Connection::open(self.address) {
                Ok(connection) => connection,
                // Nobody serves while the master changes.
                Err(_) if may_be_cut => {
                    wait::pause(AGAIN);
                    continue;
                }
                Err(error) => return Err(error),
            };
            connection.set_patience(CLIENT_PATIENCE)?;
            let mut has_served = false;
            while !stop.load(Ordering::Relaxed) {
                sent += 1;
                let since = *wanted.get_or_insert_with(Instant::now);
                match connection.call(&["INCR", &self.key]) {
                    Ok(Reply::Integer(value)) => {
                        // What was sent and not answered may have been done; what was answered is.
                        let may_be = acknowledged + 1..=sent;
                        ensure!(may_be.contains(&value), "{value} after {acknowledged}");
                        (sent, acknowledged) = (value, value);
                        has_served = true;
                        wanted = None;
                        let took = u64::try_from(since.elapsed().as_micros())?;
                        self.longest_us.fetch_max(took, Ordering::Relaxed);
                        self.writes.fetch_add(1, Ordering::Relaxed);
                        if self.comes_anew {
                            wait::pause(AGAIN);
                            break;
                        }
                    }
                    Ok(other) => bail!("{other:?} after {acknowledged}"),
                    Err(error) if !may_be_cut => {
                        return Err(error).with_context(|| format!("after {acknowledged}"));
                    }
                    Err(_) => {
                        self.cuts.fetch_add(u64::from(has_served), Ordering::Relaxed);
                        wait::pause(AGAIN);
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }
}

/// Waits until each client has written more: so it has waited for nothing in vain.
fn all_go_on(clients: &[Client]) -> Result<()> {
    let before: Vec<u64> = clients.iter().map(Client::writes).collect();
    wait::until("every client goes on", PATIENCE, || {
        let more = clients.iter().zip(&before).map(|(client, before)| client.writes() - before);
        let more: Vec<u64> = more.collect();
        if more.iter().all(|more| *more >= MORE) { Ok(()) } else { Err(more) }
    })
}

/// Waits until every shard has its replica in the set.
fn is_whole(cluster: &Cluster) -> Result<()> {
    wait::until("every shard is whole", 2 * PATIENCE, || {
        for shard in 0..usize::from(SHARDS) {
            let (master, replica) = (cluster.master(shard)?, cluster.replica(shard)?);
            let info = cluster.peer(&master)?.call(&["INFO", "holdfast"])?.text();
            let line = info.lines().find(|line| line.starts_with("in_sync_nodes:"));
            ensure!(line.is_some_and(|line| line.contains(&replica.id)), "shard {shard}: {info}");
        }
        Ok(())
    })
    .with_context(|| cluster.logs())
}

/// How many replicas have left the set of this master's process while they acknowledged, and how
/// many were dropped from it.
fn parted(cluster: &Cluster, master: &Node) -> Result<(u64, u64)> {
    let info = cluster.peer(master)?.call(&["INFO", "holdfast"])?.text();
    let count = |name: &str| -> Result<u64> {
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.with_context(|| format!("no {name} in {info}"))?.trim().parse().context("a number")
    };
    Ok((count("in_sync_left:")?, count("in_sync_lost:")?))
}

/// Restarts a replica: it leaves the set of its master first, so no write waits until the
/// controller's store has one without it.
fn leaves(cluster: &Cluster, replica: &Node, restart: impl FnOnce() -> Result<()>) -> Result<()> {
    let master = cluster.master(replica.shard)?;
    // On a busy machine a member may be late for as long as others rest.
    let mut peer = cluster.peer(&master)?;
    let reply = peer.call(&["CONFIG", "SET", "in-sync-timeout-ms", "60000"])?;
    ensure!(reply.text() == "OK", "{reply:?}");
    let (left, lost) = parted(cluster, &master)?;
    restart()?;
    let now = parted(cluster, &master)?;
    ensure!(now == (left + 1, lost), "{now:?} after {:?}\n{}", (left, lost), cluster.logs());
    Ok(())
}

/// SIGTERM for these nodes; returns when each of them runs anew, and all shards are whole.
fn restart(cluster: &Cluster, nodes: &[Node]) -> Result<()> {
    // Masters wait for one that takes over: on a busy machine longer than they would by default.
    for node in nodes {
        let mut peer = cluster.peer(node)?;
        let reply = peer.call(&["CONFIG", "SET", "handover-timeout-ms", "600000"])?;
        ensure!(reply.text() == "OK", "{reply:?}");
    }
    for node in nodes {
        process::signal(node.running()?, libc::SIGTERM)?;
    }
    cluster.await_that("they run anew", 4 * PATIENCE, |state| {
        nodes.iter().all(|old| {
            let now = state.nodes.iter().find(|now| now.id == old.id);
            now.is_some_and(|now| now.pid.is_some() && now.pid != old.pid)
        })
    })?;
    is_whole(cluster)
}

/// Restarts nodes and counts what it costs each client: not more cuts than `bound` says. Returns
/// how long a client waited at most, which is this machine's as much as ours: it is told, and no
/// more.
fn costs(
    cluster: &Cluster,
    clients: &[Client],
    nodes: &[Node],
    bound: impl Fn(&Client) -> u64,
) -> Result<Duration> {
    let cuts = || clients.iter().map(|client| client.cuts.load(Ordering::Relaxed));
    let before: Vec<u64> = cuts().collect();
    clients.iter().for_each(|client| client.longest_us.store(0, Ordering::Relaxed));
    match nodes {
        [node] if node.role != "master" => leaves(cluster, node, || restart(cluster, nodes))?,
        _ => restart(cluster, nodes)?,
    }
    all_go_on(clients)?;
    let longest = clients.iter().map(|client| client.longest_us.load(Ordering::Relaxed)).max();
    for ((client, now), before) in clients.iter().zip(cuts()).zip(before) {
        let (cuts, bound) = (now - before, bound(client));
        ensure!(cuts <= bound, "{}: {cuts} cuts, {bound} at most\n{}", client.key, cluster.logs());
    }
    Ok(Duration::from_micros(longest.context("a client")?))
}

/// A line for each restart.
fn story(cluster: &Cluster, clients: &[Client]) -> Result<String> {
    let mut told = String::new();
    all_go_on(clients)?;
    for node in cluster.state()?.nodes {
        // As it is now: a restart before may have changed roles and processes.
        let nodes = cluster.state()?.nodes;
        let now = nodes.into_iter().find(|now| now.id == node.id).context("it is gone")?;
        let (shard, is_master) = (now.shard, now.role == "master");
        told += &format!("{} of shard {shard}: ", now.role);
        let bound = |client: &Client| u64::from(is_master && client.shard == shard);
        let longest = costs(cluster, clients, &[now], bound)?;
        told += &format!("longest wait of a client {longest:.1?}\n");
    }
    let longest = costs(cluster, clients, &cluster.state()?.nodes, |_| 1)?;
    Ok(told + &format!("all at once: longest wait of a client {longest:.1?}\n"))
}

/// What it came to, for people.
fn under_load(balancer: &'static str, may_be_cut: bool) -> Result<String> {
    let cluster = Cluster::start(Options { shards: SHARDS, balancer, ..Options::default() })?;
    is_whole(&cluster)?;
    let mut clients = Vec::new();
    for shard in 0..usize::from(SHARDS) {
        let address = cluster.master(shard)?.announced()?;
        let tag = key_at(address)?;
        clients.extend((0..CLIENTS).map(|number| Client {
            shard,
            address,
            key: format!("{{{tag}}}:{number}"),
            comes_anew: number + 1 == CLIENTS,
            writes: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            longest_us: AtomicU64::new(0),
        }));
    }
    let stop = &AtomicBool::new(false);
    let (told, ends) = std::thread::scope(|scope| {
        let start = |client| scope.spawn(move || Client::run(client, stop, may_be_cut));
        let threads: Vec<_> = clients.iter().map(start).collect();
        let told = story(&cluster, &clients);
        stop.store(true, Ordering::Relaxed);
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("a client panicked")))
        };
        (told, threads.into_iter().map(join).collect::<Vec<_>>())
    });
    // What a client saw says more than that it did not go on.
    for (client, end) in clients.iter().zip(ends) {
        end.with_context(|| format!("{} of shard {}", client.key, client.shard))
            .with_context(|| cluster.logs())?;
    }
    let told = told.with_context(|| cluster.logs())?;
    let count = |of: fn(&Client) -> &AtomicU64| -> u64 {
        clients.iter().map(|client| of(client).load(Ordering::Relaxed)).sum()
    };
    Ok(format!("{told}{} writes, {} cuts", count(|of| &of.writes), count(|of| &of.cuts)))
}

#[test]
fn nodes_restarted_in_turn_and_together_cost_no_client_an_error() -> Result<()> {
    println!("{}", under_load("builtin", false)?);
    Ok(())
}

#[test]
fn behind_haproxy_they_cost_each_client_one_connection_and_no_write() -> Result<()> {
    println!("{}", under_load("haproxy", true)?);
    Ok(())
}
