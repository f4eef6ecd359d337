//! A master that is killed, stopped or restarted is replaced at the same address, behind either
//! kind of balancer.

mod common;

use anyhow::{Context as _, Result, ensure};
use common::{PATIENCE, in_set, key_at, master_is_replaced, write_until_ok};
use testkit::cluster::{Cluster, Options};
use testkit::process;
use testkit::wait;

fn builtin() -> Options {
    Options::default()
}

fn haproxy() -> Options {
    Options { balancer: "haproxy", ..Options::default() }
}

#[test]
fn killed() -> Result<()> {
    master_is_replaced(&Cluster::start(builtin())?, 0, libc::SIGKILL)
}

#[test]
fn stopped_and_continued() -> Result<()> {
    master_is_replaced(&Cluster::start(builtin())?, 1, libc::SIGSTOP)
}

#[test]
fn haproxy_killed() -> Result<()> {
    master_is_replaced(&Cluster::start(haproxy())?, 0, libc::SIGKILL)
}

#[test]
fn haproxy_stopped_and_continued() -> Result<()> {
    master_is_replaced(&Cluster::start(haproxy())?, 1, libc::SIGSTOP)
}

/// A stopped master whose replica took over knows nothing of it when it wakes up: sessions that
/// were open through the balancer must be gone.
#[test]
fn sessions_of_a_stopped_master_are_cut() -> Result<()> {
    let cluster = Cluster::start(builtin())?;
    let old = cluster.master(0)?;
    let address = old.announced()?;
    let key = key_at(address)?;
    let mut session = testkit::wire::Connection::open(address)?;
    session.call(&["SET", &key, "before"])?;
    in_set(&cluster, &old, &cluster.replica(0)?)?;
    process::signal(old.running()?, libc::SIGSTOP)?;
    let by = write_until_ok(address, &key, "after")?;
    ensure!(by != old.id, "the stopped master answered");
    process::signal(old.running()?, libc::SIGCONT)?;
    // Either the session is dead, or it was moved and speaks for the new master.
    if let Ok(reply) = session.call(&["GET", &key]) {
        ensure!(reply.text() == "after", "an open session answered {reply:?}");
    }
    cluster.await_return(&old, PATIENCE)?;
    Ok(())
}

/// Killed again and again, each time restarted after 2 s: the shard keeps serving, whoever is its
/// master.
#[test]
fn killed_three_times() -> Result<()> {
    let cluster = Cluster::start(builtin())?;
    for round in 0..3 {
        let master = cluster.master(2)?;
        let address = master.announced()?;
        let key = key_at(address)?;
        in_set(&cluster, &master, &cluster.replica(2)?)?;
        process::signal(master.running()?, libc::SIGKILL)?;
        write_until_ok(address, &key, &round.to_string())?;
        cluster.await_return(&master, 2 * PATIENCE)?;
    }
    Ok(())
}

/// The controller forgets nothing: killed together with a master, it carries the failover out when
/// it is back.
#[test]
fn controller_killed_with_a_master() -> Result<()> {
    let cluster = Cluster::start(builtin())?;
    let old = cluster.master(0)?;
    let address = old.announced()?;
    let key = key_at(address)?;
    in_set(&cluster, &old, &cluster.replica(0)?)?;
    let state = cluster.state()?;
    process::signal(state.controller.pid.context("a controller")?, libc::SIGKILL)?;
    process::signal(old.running()?, libc::SIGKILL)?;
    write_until_ok(address, &key, "after")?;
    cluster.await_that("all processes run", PATIENCE, |state| {
        state.controller.pid.is_some() && state.nodes.iter().all(|node| node.pid.is_some())
    })?;
    Ok(())
}

/// A balancer that is restarted starts closed and is told again what is behind it.
#[test]
fn balancers_restarted() -> Result<()> {
    for options in [builtin(), haproxy()] {
        let cluster = Cluster::start(options)?;
        let address = cluster.master(0)?.announced()?;
        let key = key_at(address)?;
        for balancer in cluster.state()?.balancers {
            process::signal(balancer.pid.context("a balancer")?, libc::SIGKILL)?;
        }
        write_until_ok(address, &key, "after")?;
        let before = cluster.state()?;
        wait::until("both balancers run again", PATIENCE, || {
            let state = cluster.state()?;
            ensure!(state.balancers.iter().all(|balancer| balancer.pid.is_some()), "{state:?}");
            Ok(())
        })?;
        ensure!(before.nodes.len() == 6);
    }
    Ok(())
}
