//! Unmodified clients, given one announced address each.

mod common;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use common::{PATIENCE, ctl};
use testkit::cluster::{Cluster, Options};
use testkit::{clients, process, wait};

const KEYS: u32 = 300;
/// Enough to be in every shard, few enough for a pass to be over soon.
const KEYS_PER_PASS: u32 = 30;
/// A client that was left behind ends by itself.
const LONGEST: Duration = Duration::from_secs(900);

fn all_clients(balancer: &'static str) -> Result<()> {
    let clients = clients::installed()?;
    let cluster = Cluster::start(Options { balancer, ..Options::default() })?;
    let start = cluster.master(0)?.announced()?;
    for client in clients {
        let masters = client.run(start, KEYS).with_context(|| cluster.logs())?;
        ensure!(masters == 3, "{} knows {masters} masters", client.name);
    }
    Ok(())
}

/// What libraries show of hashes, lists, sets, sorted sets, lifetimes of fields, SORT and waiting
/// for an element.
fn examples_of_types(balancer: &'static str) -> Result<()> {
    let clients = clients::installed()?;
    let cluster = Cluster::start(Options { balancer, ..Options::default() })?;
    let start = cluster.master(0)?.announced()?;
    for client in clients {
        for resp in client.examples {
            client.run_examples(start, *resp).with_context(|| cluster.logs())?;
        }
    }
    Ok(())
}

/// A master is killed while every client writes and reads. Errors are allowed until its replica has
/// taken over and for as long as a library takes to notice; after that all keys of all shards are
/// written and read again, by the same process, without one.
fn all_clients_recover(balancer: &'static str) -> Result<()> {
    let clients = clients::installed()?;
    let cluster = Cluster::start(Options { balancer, ..Options::default() })?;
    let old = cluster.master(0)?;
    let replica = cluster.replica(0)?;
    let start = old.announced()?;
    let folder = tempfile::tempdir().context("create a folder")?;
    let mut running = clients
        .iter()
        .map(|client| client.start(start, KEYS_PER_PASS, LONGEST, folder.path()))
        .collect::<Result<Vec<_>>>()?;
    for client in &mut running {
        passes_cleanly(client, 0)?;
    }
    process::signal(old.running()?, libc::SIGKILL)?;
    cluster.await_that("the replica is master", PATIENCE, |state| {
        state.nodes.iter().any(|node| node.id == replica.id && node.role == "master")
    })?;
    let marks = running
        .iter_mut()
        .map(|client| Ok(client.passes()?.len()))
        .collect::<Result<Vec<usize>>>()?;
    for (client, mark) in running.iter_mut().zip(marks) {
        // The pass that is under way began before.
        passes_cleanly(client, mark + 1).with_context(|| cluster.logs())?;
    }
    Ok(())
}

/// Slots go from shard to shard, and home, while every client writes and reads: no library passes
/// an error on. What each is shown covers all slots meanwhile.
fn slots_move(balancer: &'static str) -> Result<()> {
    let clients = clients::installed()?;
    let cluster = Cluster::start(Options { balancer, ..Options::default() })?;
    let start = cluster.master(0)?.announced()?;
    let folder = tempfile::tempdir().context("create a folder")?;
    let mut running = clients
        .iter()
        .map(|client| client.start(start, KEYS_PER_PASS, LONGEST, folder.path()))
        .collect::<Result<Vec<_>>>()?;
    for client in &mut running {
        passes_cleanly(client, 0)?;
    }
    for (slots, to) in [("0-1999", "1"), ("6000-7999", "2"), ("0-1999", "0"), ("6000-7999", "1")] {
        ctl::done(&cluster, &["move", "slots", slots, "--to", to, "--yes"])?;
        let last = ctl::moves_over(&cluster)?;
        ensure!(last["error"].is_null(), "{last:#}");
        covers_all_slots(start)?;
    }
    for client in &mut running {
        // One that began after the last move, so that every library has met what moved.
        let begun = client.passes()?.len();
        passes_cleanly(client, begun + 1).with_context(|| cluster.logs())?;
        let passes = client.passes()?;
        let has_errors = passes.iter().any(|errors| *errors > 0);
        ensure!(!has_errors, "{}: {passes:?}\n{}", client.name, client.said());
    }
    Ok(())
}

/// A node that is configured as those of the cluster are, in a place of its own.
fn alike(cluster: &Cluster) -> Result<process::Server> {
    let port = cluster.master(0)?.port.to_string();
    let file = cluster.dir().join("nodes").join(port).join("node.conf");
    let text = std::fs::read_to_string(&file);
    let text = text.with_context(|| format!("read {}", file.display()))?;
    ensure!(text.contains("client-access balancer-only"), "{text}");
    let of_place = ["bind ", "port ", "admin-port ", "dir "];
    let is_of_place = |line: &&str| of_place.iter().any(|name| line.starts_with(name));
    let lines: Vec<&str> = text.lines().filter(|line| !is_of_place(line)).collect();
    process::Server::node(&lines.join("\n"))
}

/// `redis-cli --cluster check`, where no replica is shown whose master is not.
fn covers_all_slots(at: SocketAddr) -> Result<()> {
    let mut command = Command::new("redis-cli");
    let output = command.args(["--cluster", "check", &at.to_string()]).output();
    let output = output.context("run redis-cli --cluster check")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.contains("[OK] All 16384 slots covered."), "{said}");
    Ok(())
}

/// Waits for a pass without errors among those after the first `skip`.
fn passes_cleanly(client: &mut clients::Running, skip: usize) -> Result<()> {
    // Five libraries that write, a virtual machine among them, share the processors with a cluster.
    wait::until("a pass without errors", 4 * PATIENCE, || {
        let passes = client.passes()?;
        let is_clean = passes.iter().skip(skip).any(|errors| *errors == 0);
        ensure!(is_clean, "{}: {passes:?} after {skip} passes\n{}", client.name, client.said());
        Ok(())
    })
}

#[test]
fn behind_the_builtin_balancer() -> Result<()> {
    all_clients("builtin")
}

#[test]
fn behind_haproxy() -> Result<()> {
    all_clients("haproxy")
}

#[test]
fn examples_of_types_behind_the_builtin_balancer() -> Result<()> {
    examples_of_types("builtin")
}

#[test]
fn examples_of_types_behind_haproxy() -> Result<()> {
    examples_of_types("haproxy")
}

#[test]
fn without_balancers() -> Result<()> {
    all_clients("none")
}

#[test]
fn slots_move_behind_the_builtin_balancer() -> Result<()> {
    slots_move("builtin")
}

#[test]
fn slots_move_behind_haproxy() -> Result<()> {
    slots_move("haproxy")
}

#[test]
fn a_master_is_killed_behind_the_builtin_balancer() -> Result<()> {
    all_clients_recover("builtin")
}

#[test]
fn a_master_is_killed_behind_haproxy() -> Result<()> {
    all_clients_recover("haproxy")
}

/// A shard is added to a cluster whose nodes take clients through balancers only, and gets its
/// share of the slots, while every client writes and reads. A library that does not know its node
/// yet is sent to the frontend: the node itself would refuse it for ever.
#[test]
fn a_shard_is_added_behind_the_builtin_balancer() -> Result<()> {
    let clients = clients::installed()?;
    let cluster = Cluster::start(Options { shards: 2, replicas: 0, ..Options::default() })?;
    let start = cluster.master(0)?.announced()?;
    let folder = tempfile::tempdir().context("create a folder")?;
    let mut running = clients
        .iter()
        .map(|client| client.start(start, KEYS_PER_PASS, LONGEST, folder.path()))
        .collect::<Result<Vec<_>>>()?;
    for client in &mut running {
        passes_cleanly(client, 0)?;
    }
    let added = alike(&cluster)?;
    let announced = SocketAddr::from(([127, 0, 0, 1], process::free_port()?));
    let (node, frontend) = (added.address.to_string(), announced.to_string());
    ctl::done(&cluster, &["shard", "add", "--nodes", &node, "--announce", &frontend])?;
    ctl::done(&cluster, &["rebalance", "--yes"])?;
    let last = ctl::moves_over(&cluster)?;
    ensure!(last["error"].is_null(), "{last:#}");
    covers_all_slots(start)?;
    for client in &mut running {
        // One that began after the last move.
        let begun = client.passes()?.len();
        passes_cleanly(client, begun + 1).with_context(|| cluster.logs())?;
    }
    for client in clients {
        let masters = client.run(announced, KEYS).with_context(|| cluster.logs())?;
        ensure!(masters == 3, "{} knows {masters} masters", client.name);
    }
    Ok(())
}
