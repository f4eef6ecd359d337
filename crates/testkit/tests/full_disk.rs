//! Real processes on a disk that is full: what was acknowledged stays, nothing else is said, and a
//! supervisor is told why (rule R14).
//!
//! Needs root, for a small file system in memory; it is mounted in a namespace of the test's own
//! and goes with it.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use testkit::process::{Process, free_port, holdfast};
use testkit::wire::{Connection, Reply};
use testkit::{disk, wait};

const PATIENCE: Duration = Duration::from_secs(30);
const DISK_MB: u32 = 64;
/// What a node ends with when its disk does not take the log.
const EXIT_CODE: i32 = 74;
/// Bytes of a value. What RocksDB has reserved for its log is used up after some hundred of them.
const VALUE_BYTES: usize = 4_096;
const WRITES_MAX: usize = 10_000;

/// A node whose data lies on a small disk; its log does not.
struct Node {
    process: Option<Process>,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Node {
    fn create() -> Result<Self> {
        let folder = tempfile::tempdir().context("create a folder")?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let node = Self { process: None, address, folder };
        std::fs::create_dir(node.dir()).context("create the folder of the disk")?;
        disk::mount(&node.dir(), DISK_MB, "holdfast-test")?;
        let text = format!(
            "bind 127.0.0.1\nport {}\ndir {}\nworkers 2\nrocksdb.block_cache_size 16\n\
             rocksdb.write_buffer_size 1\n",
            address.port(),
            node.dir().display()
        );
        std::fs::write(node.config(), text).context("write node.conf")?;
        Ok(node)
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("node.conf")
    }

    fn spawn(&mut self) -> Result<()> {
        let config = self.config();
        let arguments = [OsStr::new("node"), OsStr::new("-c"), config.as_os_str()];
        let log = self.folder.path().join("log");
        self.process = Some(Process::start(&holdfast()?, &arguments, &log)?);
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        self.spawn()?;
        wait::until("the node answers PING", PATIENCE, || {
            if let Some(status) = self.process()?.ended()? {
                bail!("it ended with {status}: {}", self.said());
            }
            self.call(&["PING"]).map(|_| ())
        })
    }

    fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("no process was started")
    }

    fn said(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    fn call(&self, words: &[&str]) -> Result<Reply> {
        Connection::open(self.address)?.call(words)
    }

    /// A number in INFO.
    fn info(&self, name: &str) -> Result<u64> {
        let text = self.call(&["INFO", "replication"])?.text();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.with_context(|| text.clone())?.trim().parse().context("read a number")
    }

    /// How it ended by itself.
    fn end(&mut self) -> Result<ExitStatus> {
        let ended = wait::until("the end of the node", PATIENCE, || {
            let status = self.process()?.ended()?;
            status.with_context(|| format!("it runs: {}", self.said()))
        })?;
        self.process = None;
        Ok(ended)
    }

    fn end_with_a_full_disk(&mut self, word: &str) -> Result<()> {
        let said = self.folder.path().join("log");
        let status = self.end()?;
        let said = std::fs::read_to_string(said).context("read the log")?;
        ensure!(status.code() == Some(EXIT_CODE), "{status}: {said}");
        ensure!(said.contains(word), "it says nothing of `{word}`: {said}");
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It holds files on the disk.
        self.process = None;
        disk::unmount(&self.dir());
    }
}

/// Writes until the connection breaks; returns how many writes were acknowledged.
fn write_on(node: &Node, from: usize) -> Result<usize> {
    let mut connection = Connection::open(node.address)?;
    for number in from..WRITES_MAX {
        let value = value(number);
        match connection.call(&["SET", &format!("k{number}"), &value]) {
            Ok(reply) if reply.text() == "OK" => {}
            // Whether a write that failed is in the log shows later: to say that it is not would be
            // a guess.
            Ok(reply) => bail!("answered {reply:?}"),
            Err(_) => return Ok(number),
        }
    }
    bail!("{WRITES_MAX} writes fitted onto a full disk")
}

fn value(number: usize) -> String {
    format!("{number:08}").repeat(VALUE_BYTES / 8)
}

fn check_all(node: &Node, count: usize) -> Result<()> {
    let mut connection = Connection::open(node.address)?;
    for number in 0..count {
        let found = connection.call(&["GET", &format!("k{number}")])?.text();
        ensure!(found == value(number), "k{number} of {count}: {:?}", found.get(..16));
    }
    Ok(())
}

#[test]
fn a_node_whose_disk_is_full_ends_and_its_next_process_has_what_was_acknowledged() -> Result<()> {
    disk::unshare()?;
    let mut node = Node::create()?;
    node.start()?;
    ensure!(node.call(&["SET", "k0", &value(0)])?.text() == "OK");
    disk::fill(&node.dir())?;
    let count = write_on(&node, 1)?;
    node.end_with_a_full_disk("write-ahead log cannot be written")?;

    // A supervisor starts it again, on a disk that is still full: once more it says why, and
    // neither waits nor serves.
    for _ in 0..2 {
        node.spawn()?;
        node.end_with_a_full_disk("the disk is full")?;
    }

    disk::free(&node.dir())?;
    node.start()?;
    check_all(&node, count)?;
    ensure!(node.call(&["SET", "later", "1"])?.text() == "OK");
    let status = node.process.take().context("it runs")?.terminate()?;
    ensure!(status.success(), "{status}");
    node.start()?;
    check_all(&node, count)?;
    ensure!(node.call(&["GET", "later"])?.text() == "1");
    Ok(())
}

#[test]
fn a_replica_whose_disk_is_full_acknowledges_nothing_it_does_not_have() -> Result<()> {
    disk::unshare()?;
    let (mut master, mut replica) = (Node::create()?, Node::create()?);
    master.start()?;
    replica.start()?;
    ensure!(master.call(&["SET", "k0", &value(0)])?.text() == "OK");
    let port = master.address.port().to_string();
    ensure!(replica.call(&["SLAVEOF", "127.0.0.1", &port])?.text() == "OK");
    wait::until("the replica follows", PATIENCE, || {
        let (has, acked) = (master.info("master_repl_offset")?, acked(&master)?);
        ensure!(acked == has, "{acked} of {has}");
        Ok(())
    })?;

    disk::fill(&replica.dir())?;
    let (mut newest_ack, mut count) = (0, 1);
    let mut connection = Connection::open(master.address)?;
    while replica.process()?.ended()?.is_none() {
        ensure!(count < WRITES_MAX, "the replica goes on: {}", replica.said());
        let said = connection.call(&["SET", &format!("k{count}"), &value(count)])?;
        ensure!(said.text() == "OK", "{said:?}");
        count += 1;
        newest_ack = acked(&master).unwrap_or(0).max(newest_ack);
    }
    replica.end_with_a_full_disk("write-ahead log cannot be written")?;

    disk::free(&replica.dir())?;
    // SLAVEOF is not kept: it starts as a master, with what it has.
    replica.start()?;
    let has = replica.info("master_repl_offset")?;
    ensure!(has >= newest_ack, "it acknowledged {newest_ack} and has {has}");
    ensure!(replica.call(&["SLAVEOF", "127.0.0.1", &port])?.text() == "OK");
    wait::until("the replica has it all", PATIENCE, || {
        let (has, all) = (acked(&master)?, master.info("master_repl_offset")?);
        ensure!(has == all, "{has} of {all}");
        Ok(())
    })?;
    check_all(&replica, count)
}

/// A value that no compression makes much shorter.
fn noise(number: usize) -> String {
    let mut state = number as u64 + 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from(state >> 58).unwrap_or(0))
    };
    (0..VALUE_BYTES).map(|_| next()).collect()
}

/// All but so many megabytes of what is free.
fn fill_but(dir: &Path, megabytes: u64) -> Result<()> {
    disk::fill(dir)?;
    let file = std::fs::File::options().write(true).open(disk::filling(dir)).context("open")?;
    let length = file.metadata().context("look at the filling")?.len();
    file.set_len(length.saturating_sub(megabytes << 20)).context("shorten the filling")
}

#[test]
fn a_full_copy_that_does_not_fit_is_not_begun_and_one_that_filled_the_disk_makes_way() -> Result<()>
{
    disk::unshare()?;
    let (mut master, mut replica) = (Node::create()?, Node::create()?);
    master.start()?;
    replica.start()?;
    let mut connection = Connection::open(master.address)?;
    for number in 0..5_000 {
        let said = connection.call(&["SET", &format!("k{number}"), &noise(number)])?;
        ensure!(said.text() == "OK", "{said:?}");
    }
    ensure!(replica.call(&["SET", "mine", "1"])?.text() == "OK");
    fill_but(&replica.dir(), 9)?;
    let port = master.address.port().to_string();
    ensure!(replica.call(&["SLAVEOF", "127.0.0.1", &port])?.text() == "OK");
    wait::until("it says why it does not follow", PATIENCE, || {
        let text = replica.call(&["INFO", "replication"])?.text();
        ensure!(text.contains("beside the data in service"), "{text}");
        Ok(())
    })?;
    ensure!(!replica.dir().join("sync_checkpoint").exists(), "something was kept");
    // It is no copy of the master's, so it is not read from; it is there all the same.
    ensure!(replica.dir().join("db/CURRENT").exists(), "its own data is gone");
    let status = replica.process.take().context("it runs")?.terminate()?;
    ensure!(status.success(), "{status}: {}", replica.said());

    // One of a version that looked for no room.
    let copied = replica.dir().join("sync_checkpoint");
    std::fs::create_dir(&copied).context("create the folder of a copy")?;
    disk::free(&replica.dir())?;
    disk::fill(&replica.dir())?;
    std::fs::rename(disk::filling(&replica.dir()), copied.join("000012.sst.tmp"))
        .context("move")?;
    replica.start()?;
    ensure!(!copied.exists(), "what was copied is still there");
    ensure!(replica.dir().join("db/CURRENT").exists(), "its own data is gone");
    ensure!(replica.call(&["PING"])?.text() == "PONG");
    Ok(())
}

/// What the one replica of a master has acknowledged.
fn acked(master: &Node) -> Result<u64> {
    let text = master.call(&["INFO", "replication"])?.text();
    let line = text.lines().find(|line| line.starts_with("slave0:"));
    let offset = line.and_then(|line| {
        line.split(',').find_map(|part| part.strip_prefix("offset=")).map(str::to_owned)
    });
    offset.with_context(|| text.clone())?.trim().parse().context("read an offset")
}

/// Starts a controller whose store lies on a small disk.
fn controller(folder: &Path) -> Result<Process> {
    let file = folder.join("controller.toml");
    let arguments = [OsStr::new("controller"), OsStr::new("-c"), file.as_os_str()];
    Process::start(&holdfast()?, &arguments, &folder.join("log"))
}

#[test]
fn a_controller_that_starts_on_a_full_disk_says_so_and_serves_once_there_is_room() -> Result<()> {
    disk::unshare()?;
    let folder = tempfile::tempdir()?;
    let (dir, port) = (folder.path().join("disk"), free_port()?);
    std::fs::create_dir(&dir)?;
    disk::mount(&dir, DISK_MB, "holdfast-test")?;
    let text = format!("listen = \"127.0.0.1:{port}\"\ndata = {:?}\n", dir.join("store"));
    std::fs::write(folder.path().join("controller.toml"), text)?;
    disk::fill(&dir)?;
    let mut process = controller(folder.path())?;
    let status = wait::until("the end of the controller", PATIENCE, || {
        process.ended()?.with_context(|| format!("it runs: {}", process.log()))
    })?;
    let said = process.log();
    ensure!(status.code() == Some(EXIT_CODE), "{status}: {said}");
    ensure!(said.contains("the disk is full"), "{said}");
    // Nothing half made is left that a later start would stumble over.
    ensure!(!dir.join("store").exists(), "a store was left");

    disk::free(&dir)?;
    let running = controller(folder.path())?;
    wait::until("the port of the controller", PATIENCE, || {
        TcpStream::connect(("127.0.0.1", port)).map(drop).with_context(|| running.log())
    })?;
    ensure!(running.terminate()?.success());
    disk::unmount(&dir);
    Ok(())
}
