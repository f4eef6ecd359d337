//! What several test files need.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod certs;
pub(crate) mod ctl;
pub(crate) mod wiretap;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use testkit::cluster::{Cluster, Node};
use testkit::process;
use testkit::wait;
use testkit::wire::{Connection, Reply};

/// Far more than any failover takes: these tests ask whether, the drill asks how fast.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const CLIENT_PATIENCE: Duration = Duration::from_secs(1);

/// A key that the node behind this address serves.
pub(crate) fn key_at(address: SocketAddr) -> Result<String> {
    let mut connection = Connection::open(address)?;
    for number in 0..1000 {
        let key = format!("key-{number}");
        if !matches!(connection.call(&["GET", &key])?, Reply::Error(_)) {
            return Ok(key);
        }
    }
    anyhow::bail!("{address} serves none of 1000 keys")
}

/// Writes as a client that reconnects until it succeeds; returns the id of the node that
/// acknowledged.
pub(crate) fn write_until_ok(address: SocketAddr, key: &str, value: &str) -> Result<String> {
    wait::until("a write succeeds", PATIENCE, || {
        let mut connection = Connection::open(address)?;
        connection.set_patience(CLIENT_PATIENCE)?;
        let reply = connection.call(&["SET", key, value])?;
        ensure!(reply == Reply::Simple(b"OK".to_vec()), "SET: {reply:?}");
        Ok(connection.call(&["CLUSTER", "MYID"])?.text())
    })
}

/// Counts up over one connection without a rest, until it is told to stop; returns what the counter
/// is then. No answer may be an error, and none be missing.
pub(crate) fn counts_up(mut connection: Connection, stop: &AtomicBool) -> Result<i64> {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        count += 1;
        let said = connection.call(&["INCR", "counter"])?;
        ensure!(said == Reply::Integer(count), "{said:?} in place of {count}");
    }
    Ok(count)
}

/// A keyed command to the node's own port, as a client that learned the address would send it: it
/// must not be served.
pub(crate) fn refuses_clients(node: &Node, key: &str) -> Result<()> {
    // Not running, or not listening yet, is as good as a refusal.
    let Ok(mut connection) = Connection::open(node.local()?) else { return Ok(()) };
    for command in [vec!["GET", key], vec!["SET", key, "intruder"]] {
        if let Ok(reply) = connection.call(&command) {
            ensure!(matches!(reply, Reply::Error(_)), "{} answered {reply:?}", node.port);
        }
    }
    Ok(())
}

/// Hurts the master of a shard with `signal`, and checks what every such fault has in common:
/// clients write again at the same address, what was written before is there, the old master serves
/// no client, and it comes back as a replica with the data of the new master.
pub(crate) fn master_is_replaced(cluster: &Cluster, shard: usize, signal: i32) -> Result<()> {
    let old = cluster.master(shard)?;
    let replica = cluster.replica(shard)?;
    let address = old.announced()?;
    let key = key_at(address)?;
    write_until_ok(address, &key, "before")?;
    replicated(cluster, &replica, &key, "before")?;
    in_set(cluster, &old, &replica)?;

    process::signal(old.running()?, signal)?;
    let by = write_until_ok(address, &key, "after")?;
    ensure!(
        by == replica.id,
        "{by} acknowledged, not the replica {}\n{}",
        replica.id,
        cluster.logs()
    );
    if signal == libc::SIGSTOP {
        process::signal(old.running()?, libc::SIGCONT)?;
    }
    let returned = watched_return(cluster, &old, &key)?;
    let state = cluster.await_that("the replica is master", PATIENCE, |state| {
        state.nodes.iter().any(|node| node.id == replica.id && node.role == "master")
    })?;
    let master = state.nodes.iter().find(|node| node.id == replica.id).context("find it")?;
    ensure!(master.announced()? == address, "the announced endpoint did not move: {master:?}");
    replicated(cluster, &returned, &key, "after")
}

/// Waits until the old master follows, asking it as a client all the while.
fn watched_return(cluster: &Cluster, old: &Node, key: &str) -> Result<Node> {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        refuses_clients(old, key)?;
        match cluster.await_return(old, Duration::ZERO) {
            Ok(node) => return Ok(node),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => wait::pause(Duration::from_millis(20)),
        }
    }
}

/// Waits until a replica has a value; asked as a peer, because clients are not served there.
pub(crate) fn replicated(cluster: &Cluster, replica: &Node, key: &str, value: &str) -> Result<()> {
    let master = cluster.master(replica.shard)?;
    wait::until("the replica has caught up", PATIENCE, || {
        let sequence = |node: &Node| -> Result<String> {
            let info = cluster.peer(node)?.call(&["INFO", "replication"])?.text();
            let line = info.lines().find(|line| {
                line.starts_with("master_repl_offset:") || line.starts_with("slave_repl_offset:")
            });
            let line = line.with_context(|| format!("no offset in {info}"))?;
            Ok(line.split(':').nth(1).unwrap_or_default().trim().to_owned())
        };
        let (ahead, behind) = (sequence(&master)?, sequence(replica)?);
        ensure!(ahead == behind, "{value} of {key}: master at {ahead}, replica at {behind}");
        Ok(())
    })
}

/// Waits until the master knows that the store holds the replica as a member of its set: only then
/// can that be promoted.
pub(crate) fn in_set(cluster: &Cluster, master: &Node, replica: &Node) -> Result<()> {
    wait::until("the replica is in the in-sync set", PATIENCE, || {
        let info = cluster.peer(master)?.call(&["INFO", "holdfast"])?.text();
        let line = info.lines().find(|line| line.starts_with("in_sync_nodes:"));
        ensure!(line.is_some_and(|line| line.contains(&replica.id)), "{info}");
        Ok(())
    })
}

/// The answer to a GET of an HTTP port, head and all.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// What a page of numbers says of a metric without labels.
pub(crate) fn number(page: &str, metric: &str) -> Result<f64> {
    let row = page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    row.with_context(|| page.to_owned())?.trim().parse().context("read a number")
}

/// Asks for a switchover of the first shard until one takes place; returns what the controller says
/// of it. On a busy machine a replica may be late, and one that is given up changes nothing.
pub(crate) fn switch_over(cluster: &Cluster) -> Result<serde_json::Value> {
    let url = cluster.state()?.controller.url;
    let url = format!("{url}/api/v1/namespaces/local/clusters/main/shards/0/failover");
    wait::until("a switchover takes place", PATIENCE, || {
        let (status, answer) = post(&url, serde_json::json!({}))?;
        ensure!(status == 200, "{status}: {answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        Ok(answer["data"].clone())
    })
    .with_context(|| cluster.logs())
}

/// The status and the body that a POST to this URL is answered with.
pub(crate) fn post(url: &str, body: serde_json::Value) -> Result<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let answer = client.post(url).json(&body).send().await.context("reach the controller")?;
        Ok((answer.status().as_u16(), answer.text().await?))
    })
}
