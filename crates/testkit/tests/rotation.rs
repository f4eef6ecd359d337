//! Passwords of a running cluster are changed under load: no client meets an error, and no node
//! loses its peers.

mod common;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, bail, ensure};
use parking_lot::Mutex;
use testkit::cluster::{Cluster, Node, Options};
use testkit::process;
use testkit::wait;
use testkit::wire::{Connection, Reply};

use common::{PATIENCE, in_set, key_at};

/// Writes between two new connections of the load.
const WRITES: usize = 20;

/// A client that writes, and connects and authenticates anew again and again.
struct Load {
    password: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    thread: JoinHandle<Result<()>>,
}

impl Load {
    fn start(cluster: &Cluster, password: &str) -> Result<Self> {
        let address = cluster.master(0)?.announced()?;
        let password = Arc::new(Mutex::new(password.to_owned()));
        let (stop, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (secret, stopped, done) =
            (Arc::clone(&password), Arc::clone(&stop), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let mut client = Connection::open(address)?;
                let word = secret.lock().clone();
                let said = client.call(&["AUTH", &word])?;
                ensure!(said.text() == "OK", "AUTH: {said:?}");
                for number in 0..WRITES {
                    let said = client.call(&["SET", "load", &number.to_string()])?;
                    ensure!(said.text() == "OK", "SET: {said:?}");
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        });
        Ok(Self { password, stop, rounds, thread })
    }

    /// Some more rounds, all good.
    fn goes_on(&self) -> Result<()> {
        let before = self.rounds.load(Ordering::SeqCst);
        wait::until("the load goes on", PATIENCE, || {
            let rounds = self.rounds.load(Ordering::SeqCst);
            if rounds > before + 2 || self.thread.is_finished() { Ok(()) } else { Err(rounds) }
        })?;
        ensure!(!self.thread.is_finished(), "a client met an error");
        Ok(())
    }

    fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        match self.thread.join() {
            Ok(result) => result.context("a client met an error"),
            Err(_) => bail!("the load panicked"),
        }
    }
}

/// A peer's connection with this secret.
fn peer(node: &Node, secret: &str) -> Result<Connection> {
    let mut connection = Connection::open(node.local()?)?;
    let said = connection.call(&["AUTH", secret])?;
    ensure!(said.text() == "OK", "AUTH: {said:?}");
    Ok(connection)
}

fn set(node: &Node, secret: &str, pairs: &[&str]) -> Result<()> {
    let said = peer(node, secret)?.call(&[&["CONFIG", "SET"], pairs].concat())?;
    ensure!(said == Reply::Simple(b"OK".to_vec()), "CONFIG SET {pairs:?}: {said:?}");
    Ok(())
}

/// `holdfast ctl set cluster --password-file`.
fn tell_controller(cluster: &Cluster, secret: &str) -> Result<String> {
    let file = cluster.dir().join("new-secret");
    std::fs::write(&file, format!("{secret}\n"))?;
    let output = Command::new(process::holdfast()?)
        .args(["ctl", "-H", &cluster.state()?.controller.url, "set", "cluster", "--password-file"])
        .arg(&file)
        .output()
        .context("run ctl")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    bail!("{}", String::from_utf8_lossy(&output.stderr).trim())
}

/// Breaks the stream to the replica and waits until it flows again: it authenticates anew.
fn link_is_made_anew(cluster: &Cluster, secret: &str) -> Result<()> {
    let (master, replica) = (cluster.master(0)?, cluster.replica(0)?);
    // After a switchover the stream to the new replica comes a little later.
    wait::until("a stream is broken", PATIENCE, || {
        let killed = peer(&master, secret)?.call(&["CLIENT", "KILL", "TYPE", "REPLICA"])?;
        ensure!(killed == Reply::Integer(1), "{killed:?}");
        Ok(())
    })
    .with_context(|| cluster.logs())?;
    wait::until("the stream flows again", PATIENCE, || {
        let info = peer(&replica, secret)?.call(&["INFO", "replication"])?.text();
        ensure!(info.contains("master_link_status:up"), "{info}");
        Ok(())
    })
    .with_context(|| cluster.logs())
}

fn switch_over(cluster: &Cluster) -> Result<()> {
    let old = cluster.master(0)?;
    common::switch_over(cluster)?;
    cluster.await_that("another master", PATIENCE, |state| {
        state.nodes.iter().any(|node| node.role == "master" && node.id != old.id)
    })?;
    Ok(())
}

#[test]
fn both_passwords_are_changed_without_an_error_for_anybody() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, ..Options::default() })?;
    let nodes = cluster.state()?.nodes;
    let old = cluster.secret()?;
    for node in &nodes {
        set(node, &old, &["requirepass", "client-1"])?;
    }
    let load = Load::start(&cluster, "client-1")?;

    // Clients first.
    for node in &nodes {
        set(node, &old, &["requirepass-also", "client-2"])?;
    }
    load.goes_on()?;
    "client-2".clone_into(&mut load.password.lock());
    load.goes_on()?;
    for node in &nodes {
        set(node, &old, &["requirepass", "client-2", "requirepass-also", ""])?;
    }
    load.goes_on()?;

    // Peers. Too early for the controller: it would lose the nodes.
    let refused = tell_controller(&cluster, "peer-2").map(|_| ()).unwrap_err().to_string();
    ensure!(refused.contains("peer-auth-also"), "{refused}");
    for node in &nodes {
        set(node, &old, &["peer-auth-also", "peer-2"])?;
    }
    tell_controller(&cluster, "peer-2")?;
    let change = ["masterauth", "peer-2", "peer-auth", "peer-2", "peer-auth-also", &old];
    for (index, node) in nodes.iter().enumerate() {
        set(node, &old, &change)?;
        if index == 0 {
            // One node has the new secret as its own, the other one the old one: sessions move,
            // links come and go.
            in_set(&cluster, &cluster.master(0)?, &cluster.replica(0)?)?;
            switch_over(&cluster)?;
            load.goes_on()?;
            link_is_made_anew(&cluster, "peer-2")?;
        }
    }
    for node in &nodes {
        set(node, "peer-2", &["peer-auth-also", ""])?;
        ensure!(peer(node, &old).is_err(), "the former secret is still taken");
    }
    link_is_made_anew(&cluster, "peer-2")?;
    load.goes_on()?;
    let url = cluster.state()?.controller.url;
    wait::until("the controller sees all nodes", PATIENCE, || {
        let output = Command::new(process::holdfast()?)
            .args(["ctl", "-H", &url, "--json", "status"])
            .output()
            .context("run ctl")?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        ensure!(status["healthy"] == true, "{status:#}");
        Ok(())
    })
    .with_context(|| cluster.logs())?;
    load.end().with_context(|| cluster.logs())
}

/// `ctl rotate` with these words; what it says.
fn rotate(cluster: &Cluster, words: &[&str]) -> Result<String> {
    let url = cluster.state()?.controller.url;
    let mut command = Command::new(process::holdfast()?);
    command.args(["ctl", "-H", &url, "rotate"]).args(words);
    let output = command.output().context("run ctl")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    bail!("{}", String::from_utf8_lossy(&output.stderr).trim())
}

#[test]
fn ctl_rotates_both_passwords_under_load_and_goes_on_where_a_run_ended() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, ..Options::default() })?;
    let nodes = cluster.state()?.nodes;
    let old = cluster.secret()?;
    for node in &nodes {
        set(node, &old, &["requirepass", "client-1"])?;
    }
    let load = Load::start(&cluster, "client-1")?;
    in_set(&cluster, &cluster.master(0)?, &cluster.replica(0)?)?;
    let path = |name: &str| cluster.dir().join(name).display().to_string();
    let (old_file, new_file, clients) = (path("secret"), path("peer-2"), path("client-2"));
    std::fs::write(&clients, "client-2\n")?;

    let peers = ["peers", "--password-file", &old_file, "--new-file", &new_file, "--generate"];
    let said = rotate(&cluster, &peers)?;
    ensure!(said.contains("Nothing was changed"), "{said}");
    let new = std::fs::read_to_string(&new_file)?.trim().to_owned();
    for node in &nodes {
        ensure!(peer(node, &new).is_err(), "{} was changed", node.id);
    }
    // As a run leaves it that ended after its first step.
    set(&nodes[1], &old, &["peer-auth-also", &new])?;
    let said = rotate(&cluster, &[&peers[..], &["--yes"]].concat())?;
    ensure!(said.contains("the controller says the new password"), "{said}");
    ensure!(!said.contains(&new) && !said.contains(&old), "a password is shown: {said}");
    for node in &nodes {
        peer(node, &new)?;
        ensure!(peer(node, &old).is_err(), "the former secret is still taken");
        let file = cluster.dir().join(format!("nodes/{}/node.conf", node.port));
        let kept = std::fs::read_to_string(&file)?;
        ensure!(kept.contains(&new), "{} does not have it", file.display());
    }
    load.goes_on()?;
    link_is_made_anew(&cluster, &new)?;
    let said = rotate(&cluster, &[&peers[..], &["--yes"]].concat())?;
    ensure!(said.contains("nothing to do"), "{said}");

    let words = ["clients", "--password-file", &new_file, "--new-file", &clients, "--yes"];
    let said = rotate(&cluster, &words)?;
    ensure!(said.contains("--finish"), "{said}");
    load.goes_on()?;
    "client-2".clone_into(&mut load.password.lock());
    load.goes_on()?;
    rotate(&cluster, &[&words[..], &["--finish"]].concat())?;
    load.goes_on()?;
    let said = Connection::open(cluster.master(0)?.announced()?)?.call(&["AUTH", "client-1"])?;
    ensure!(matches!(said, Reply::Error(_)), "the former password is still taken: {said:?}");
    // With a password that no node has nothing is begun.
    let wrong = ["peers", "--password-file", &old_file, "--new-file", &clients, "--yes"];
    let refused = rotate(&cluster, &wrong).map(|_| ()).unwrap_err().to_string();
    ensure!(refused.contains("nothing was changed"), "{refused}");
    load.end().with_context(|| cluster.logs())
}

/// A new controller cannot authenticate at a master whose `peer-auth` is mistyped, nor can its
/// replica for it. The master answers with errors, has no lease any more, and is replaced.
#[test]
fn a_master_with_a_mistyped_secret_is_replaced_once_its_lease_is_over() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, ..Options::default() })?;
    let (master, replica) = (cluster.master(0)?, cluster.replica(0)?);
    in_set(&cluster, &master, &replica)?;
    let address = master.announced()?;
    set(&master, &cluster.secret()?, &["peer-auth", "typo"])?;
    let controller = cluster.state()?.controller.pid.context("a controller")?;
    process::signal(controller, libc::SIGKILL)?;
    cluster.await_that("another master", PATIENCE, |state| {
        state.nodes.iter().any(|node| node.role == "master" && node.id == replica.id)
    })?;
    wait::until("writes are taken", PATIENCE, || {
        let said = Connection::open(address)?.call(&["SET", "key", "value"])?;
        ensure!(said.text() == "OK", "SET: {said:?}");
        Ok(())
    })
    .with_context(|| cluster.logs())
}

/// All texts of a reply, each between blanks.
fn flat(reply: &Reply) -> String {
    match reply.elements() {
        [] => format!(" {} ", reply.text()),
        elements => elements.iter().map(flat).collect(),
    }
}

/// What the controller knows of nodes, the nodes learn: clients do not read from a replica that is
/// gone.
#[test]
fn a_replica_that_is_gone_is_shown_as_failed_until_it_is_back() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, ..Options::default() })?;
    let (master, replica) = (cluster.master(0)?, cluster.replica(0)?);
    let address = master.announced()?;
    key_at(address)?;
    let shown = |wanted: bool| {
        wait::until("nodes show what is so", PATIENCE, || {
            let mut client = Connection::open(address)?;
            let nodes = client.call(&["CLUSTER", "NODES"])?.text();
            let line =
                nodes.lines().find(|line| line.starts_with(&replica.id)).context("a line")?;
            ensure!(line.contains(" slave,fail ") == wanted, "{nodes}");
            let shards = flat(&client.call(&["CLUSTER", "SHARDS"])?);
            ensure!(shards.contains(" failed ") == wanted, "{shards}");
            let slots = flat(&client.call(&["CLUSTER", "SLOTS"])?);
            ensure!(slots.contains(&replica.id) != wanted, "{slots}");
            Ok(())
        })
        .with_context(|| cluster.logs())
    };
    shown(false)?;
    process::signal(replica.running()?, libc::SIGSTOP)?;
    shown(true)?;
    process::signal(replica.running()?, libc::SIGCONT)?;
    shown(false)
}
