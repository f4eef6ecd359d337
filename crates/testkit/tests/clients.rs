//! Unmodified clients, given one announced address each.

mod common;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use common::PATIENCE;
use testkit::cluster::{Cluster, Options};
use testkit::{clients, process, wait};

const KEYS: u32 = 300;
/// Enough to be in every shard, few enough for a pass to be over soon.
const KEYS_PER_PASS: u32 = 30;
/// A client that was left behind ends by itself.
const LONGEST: Duration = Duration::from_secs(180);

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

/// A master is killed while every client writes and reads. Errors are allowed until its replica has taken over and for
/// as long as a library takes to notice; after that all keys of all shards are written and read again, by the same
/// process, without one.
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

/// Waits for a pass without errors among those after the first `skip`.
fn passes_cleanly(client: &mut clients::Running, skip: usize) -> Result<()> {
    wait::until("a pass without errors", PATIENCE, || {
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
fn a_master_is_killed_behind_the_builtin_balancer() -> Result<()> {
    all_clients_recover("builtin")
}

#[test]
fn a_master_is_killed_behind_haproxy() -> Result<()> {
    all_clients_recover("haproxy")
}
