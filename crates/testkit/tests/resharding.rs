//! Slots that move between real shards, by `holdfast ctl`, while a client writes to them.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use testkit::cluster::{Cluster, Options};
use testkit::wire::{Connection, Reply};

use common::ctl::{done, moves_over, refused};

/// All keys are in the slot of this word.
const TAG: &str = "{hello}";
const SLOT: &str = "866";
const KEYS: usize = 2_000;

/// What a client saw that counts up and follows MOVED.
#[derive(Debug, Default)]
struct Counted {
    acknowledged: i64,
    moved: usize,
    errors: Vec<String>,
    longest: Duration,
}

/// A client of its own thread.
struct Counter {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Counted>>,
}

impl Counter {
    fn start(at: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Self { stop, thread: std::thread::spawn(move || count(at, &stopped)) }
    }

    fn end(self) -> Result<Counted> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| anyhow::anyhow!("the client panicked"))?
    }
}

fn count(at: SocketAddr, stop: &AtomicBool) -> Result<Counted> {
    let key = format!("{TAG}n");
    let (mut counted, mut connection) = (Counted::default(), Connection::open(at)?);
    let mut since = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        match connection.call(&["INCR", &key])? {
            Reply::Integer(value) => {
                ensure!(value == counted.acknowledged + 1, "{value} after {counted:?}");
                counted.acknowledged = value;
                counted.longest = counted.longest.max(since.elapsed());
                since = Instant::now();
            }
            reply if reply.error_code().as_deref() == Some("MOVED") => {
                counted.moved += 1;
                let text = reply.text();
                let to = text.rsplit(' ').next().unwrap_or_default();
                connection = Connection::open(to.parse().with_context(|| text.clone())?)?;
            }
            other => counted.errors.push(format!("{other:?}")),
        }
    }
    Ok(counted)
}

/// What was written before is at this shard, and at no other.
fn is_at(cluster: &Cluster, shard: usize, acknowledged: i64) -> Result<()> {
    let mut there = Connection::open(cluster.master(shard)?.announced()?)?;
    let said = there.call(&["GET", &format!("{TAG}n")])?;
    ensure!(said == Reply::Bulk(acknowledged.to_string().into()), "{said:?}, {acknowledged}");
    for number in (0..KEYS).step_by(7) {
        let said = there.call(&["GET", &format!("{TAG}k{number}")])?;
        ensure!(said == Reply::Bulk(number.to_string().into()), "{number}: {said:?}");
    }
    let said = there.call(&["HLEN", &format!("{TAG}h")])?;
    ensure!(said == Reply::Integer(100), "{said:?}");
    let mut other = Connection::open(cluster.master(1 - shard)?.announced()?)?;
    let said = other.call(&["GET", &format!("{TAG}n")])?;
    ensure!(said.error_code().as_deref() == Some("MOVED"), "{said:?}");
    Ok(())
}

#[test]
fn slots_go_to_another_shard_and_come_home_while_a_client_counts() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 2, ..Options::default() })?;
    let address = cluster.master(0)?.announced()?;
    let mut client = Connection::open(address)?;
    for number in 0..KEYS {
        let value = number.to_string();
        client.send(&["SET", &format!("{TAG}k{number}"), &value])?;
    }
    for _ in 0..KEYS {
        let said = client.receive()?;
        ensure!(said.text() == "OK", "{said:?}");
    }
    for field in 0..100 {
        client.call(&["HSET", &format!("{TAG}h"), &field.to_string(), "v"])?;
    }
    let moves = |to| ["move", "slots", SLOT, "--to", to];
    // Nobody sits at a terminal here: it is shown, and a script sees that nothing was done.
    refused(&cluster, &moves("1"), "1 slot in 1 move")?;
    refused(&cluster, &moves("1"), "--yes does it")?;
    let counter = Counter::start(address);
    for (to, round) in [("1", 1), ("0", 2)] {
        let queued = done(&cluster, &[&moves(to)[..], &["--yes"]].concat())?;
        ensure!(queued.contains(&format!("queued as {round}")), "{queued}");
        let last = moves_over(&cluster)?;
        ensure!(last["id"] == round && last["error"].is_null(), "{last:#}");
        refused(&cluster, &moves(to), "already")?;
        if to == "1" {
            refused(&cluster, &["shard", "remove", "1"], "ctl shard drain 1")?;
        }
    }
    let counted = counter.end()?;
    eprintln!("{counted:?}");
    ensure!(counted.errors.is_empty() && counted.moved >= 2, "{counted:?}");
    is_at(&cluster, 0, counted.acknowledged)?;
    let events = done(&cluster, &["events"])?;
    ensure!(events.contains("owns 866") && events.contains("move 2: done"), "{events}");
    Ok(())
}
