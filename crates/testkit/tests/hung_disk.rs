//! A disk that takes nothing and says nothing, under a real cluster: a frozen ext4 (rule R14).
//! Needs root.
//!
//! How long it takes is printed, not asserted; the drill and the torture measure.

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use common::{PATIENCE, get, in_set, key_at, number, replicated, write_until_ok};
use testkit::cluster::{Cluster, Node, Options};
use testkit::process::{Server, free_port};
use testkit::wire::{Connection, Reply};
use testkit::{disk, wait};

const DISK_MB: u64 = 256;
/// From here on a disk is said to hang.
const HANG_MS: u64 = 800;

/// One shard of two nodes; the first, or the second, lies on a disk of its own.
struct Shard {
    cluster: Cluster,
    disk: Mounted,
    master: Node,
    replica: Node,
}

/// Unmounted after the cluster has ended.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new() -> Result<Self> {
        disk::unshare()?;
        let folder = tempfile::tempdir().context("create a folder")?;
        let mounted = Self(folder);
        std::fs::create_dir(mounted.dir()).context("create the folder of a disk")?;
        disk::mount_ext4(&mounted.dir(), DISK_MB)?;
        Ok(mounted)
    }

    fn dir(&self) -> std::path::PathBuf {
        self.0.path().join("disk")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        disk::unmount(&self.dir());
    }
}

impl Shard {
    fn start(number: u16) -> Result<Self> {
        let disk = Mounted::new()?;
        let options = Options { shards: 1, replicas: 1, ..Options::default() };
        let cluster = Cluster::prepared(options, |dir: &Path, first| {
            let nodes = dir.join("nodes");
            std::fs::create_dir_all(&nodes).context("create the folder of the nodes")?;
            let node = nodes.join((first + number).to_string());
            std::os::unix::fs::symlink(disk.dir(), node).context("put a node on its disk")
        })?;
        let (master, replica) = (cluster.master(0)?, cluster.replica(0)?);
        in_set(&cluster, &master, &replica)?;
        Ok(Self { cluster, disk, master, replica })
    }

    /// Whether the master, as it says, wants the replica in its set.
    fn wants(&self) -> Result<bool> {
        let hello = ["CLUSTERX", "HEARTBEAT", "nobody", "1000", "1", "CLOCK", "0", "0"];
        let said = self.cluster.peer(&self.master)?.call(&hello)?.text();
        let line = said.lines().find(|line| line.starts_with("request_members:"));
        Ok(line.with_context(|| said.clone())?.contains(&self.replica.id))
    }
}

/// A client that writes one number after the other over one connection, so that no more than one
/// worker waits for the disk, and the node still answers its controller. It reconnects where it is
/// cut off.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Written>,
}

/// What it came to.
struct Written {
    /// Newest number that was acknowledged.
    acknowledged: u64,
    /// Newest number that was sent.
    sent: u64,
    /// Writes that were not answered.
    failed: u64,
    /// Longest time without an acknowledgement.
    gap: Duration,
}

impl Writer {
    fn start(address: SocketAddr, key: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (is_over, key) = (Arc::clone(&stop), key.to_owned());
        let thread = std::thread::spawn(move || {
            let mut written = Written { acknowledged: 0, sent: 0, failed: 0, gap: Duration::ZERO };
            let (mut connection, mut last) = (None, Instant::now());
            while !is_over.load(Ordering::Relaxed) {
                written.sent += 1;
                if write(&mut connection, address, &key, written.sent).is_ok() {
                    written.gap = written.gap.max(last.elapsed());
                    (written.acknowledged, last) = (written.sent, Instant::now());
                } else {
                    written.failed += 1;
                    connection = None;
                    wait::pause(Duration::from_millis(5));
                }
            }
            written
        });
        Self { stop, thread }
    }

    fn finish(self) -> Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the writer panicked"))
    }
}

fn write(
    connection: &mut Option<Connection>,
    address: SocketAddr,
    key: &str,
    number: u64,
) -> Result<()> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(Connection::open_within(address, PATIENCE, PATIENCE)?),
    };
    let reply = open.call(&["SET", key, &number.to_string()])?;
    ensure!(reply == Reply::Simple(b"OK".to_vec()), "{reply:?}");
    Ok(())
}

/// Everything that was acknowledged is there, and nothing that was never sent.
fn check(written: &Written, address: SocketAddr, key: &str) -> Result<()> {
    let found: u64 = Connection::open(address)?.call(&["GET", key])?.text().parse()?;
    ensure!(
        (written.acknowledged..=written.sent).contains(&found),
        "{found}, acknowledged {}, sent {}",
        written.acknowledged,
        written.sent
    );
    Ok(())
}

fn log_wait_ms(connection: &mut Connection) -> Result<u64> {
    let said = connection.call(&["INFO", "holdfast"])?.text();
    let line = said.lines().find_map(|line| line.strip_prefix("log_wait_ms:"));
    line.with_context(|| said.clone())?.trim().parse().context("read a number")
}

fn health(port: u16) -> Result<String> {
    get((Ipv4Addr::LOCALHOST, port).into(), "/healthz")
}

#[test]
fn a_node_says_for_how_long_its_disk_has_taken_nothing_while_somebody_waits() -> Result<()> {
    let disk = Mounted::new()?;
    // What it says is not for the disk that hangs.
    std::os::unix::fs::symlink(disk.0.path().join("log"), disk.dir().join("log"))?;
    let admin = free_port()?;
    let lines = format!("workers 8\nadmin-port {admin}");
    let node = Server::node_at(&disk.dir(), free_port()?, &lines)?;
    // Connections are dealt out in turn: these have a worker each.
    let (mut writer, mut other) = (node.connect()?, node.connect()?);
    writer.set_patience(PATIENCE)?;
    ensure!(writer.call(&["SET", "a", "1"])?.text() == "OK", "it takes no write");
    ensure!(log_wait_ms(&mut other)? == 0, "nobody waits");

    let frozen = disk::Frozen::new(&disk.dir())?;
    ensure!(log_wait_ms(&mut other)? == 0, "nobody waits yet");
    ensure!(health(admin)?.contains(" 200 "), "an idle node is unhealthy: {}", health(admin)?);
    let waiting = std::thread::spawn(move || writer.call(&["SET", "a", "2"]));
    let said = wait::until("it says so", PATIENCE, || {
        let wait_ms = log_wait_ms(&mut other)?;
        ensure!(wait_ms >= HANG_MS, "{wait_ms} ms");
        health(admin)
    });
    // The numbers are there, too, and tell of it; those of the disk itself may be older.
    let page = get((Ipv4Addr::LOCALHOST, admin).into(), "/metrics");
    ensure!(!waiting.is_finished(), "a write was answered");
    frozen.thaw()?;
    let (said, page) = (said?, page?);
    let waited_s = number(&page, "holdfast_node_storage_log_wait_seconds")?;
    ensure!(page.contains(" 200 ") && waited_s * 1_000.0 >= HANG_MS as f64, "{page}");
    ensure!(number(&page, "holdfast_node_clients_connections")? >= 2.0, "{page}");
    ensure!(said.contains(" 503 ") && said.contains("the disk hangs"), "{said}");
    let answer = waiting.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
    ensure!(answer.text() == "OK", "{answer:?}");
    ensure!(log_wait_ms(&mut other)? == 0, "nobody waits any more");
    ensure!(health(admin)?.contains(" 200 "), "{}", health(admin)?);
    Ok(())
}

#[test]
fn a_master_whose_disk_hangs_is_replaced_and_comes_back_once_it_goes_on() -> Result<()> {
    let shard = Shard::start(0)?;
    let (cluster, old) = (&shard.cluster, &shard.master);
    let address = old.announced()?;
    let key = key_at(address)?;
    let writer = Writer::start(address, &key);
    let frozen = disk::Frozen::new(&shard.disk.dir())?;
    let replaced = cluster.await_that("the replica is master", PATIENCE, |state| {
        state.nodes.iter().any(|node| node.id == shard.replica.id && node.role == "master")
    });
    let by = replaced.and_then(|_| write_until_ok(address, "other", "1"));
    let written = writer.finish()?;
    frozen.thaw()?;
    ensure!(by? == shard.replica.id, "{}", cluster.logs());
    eprintln!("longest time without a write: {:?}", written.gap);
    ensure!(written.failed > 0, "what waited for the disk was answered");
    check(&written, address, &key)?;
    // The same process, without a restart, with the data of its successor.
    let returned = cluster.await_return(old, PATIENCE)?;
    ensure!(returned.pid == old.pid, "it was restarted: {old:?}, {returned:?}");
    in_set(cluster, &cluster.master(0)?, &returned)?;
    replicated(cluster, &returned, &key, "what was written")
}

#[test]
fn a_replica_whose_disk_hangs_leaves_the_set_and_returns() -> Result<()> {
    let shard = Shard::start(1)?;
    let address = shard.master.announced()?;
    let key = key_at(address)?;
    let writer = Writer::start(address, &key);
    let frozen = disk::Frozen::new(&shard.disk.dir())?;
    let dropped = wait::until("the master does without it", PATIENCE, || {
        ensure!(!shard.wants()?, "it is in the set");
        Ok(())
    });
    let by = dropped.and_then(|()| write_until_ok(address, "other", "1"));
    let written = writer.finish()?;
    frozen.thaw()?;
    ensure!(by? == shard.master.id, "{}", shard.cluster.logs());
    eprintln!("longest time without a write: {:?}", written.gap);
    in_set(&shard.cluster, &shard.master, &shard.replica)?;
    check(&written, address, &key)?;
    replicated(&shard.cluster, &shard.replica, &key, "what was written")
}
