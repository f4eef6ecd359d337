//! Backups of a running cluster, and their restore into a new one, step by step as
//! `docs/operating.md` has them under "Backup and restore".

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value as Json;
use testkit::cluster::{Cluster, Node, Options};
use testkit::process::{self, Process, Server};
use testkit::wait;
use testkit::wire::{Connection, Reply};

use common::{PATIENCE, in_set, write_until_ok};

const SECRET: &str = "peer";
/// Keys before the backup.
const KEYS: usize = 300;

/// A number, or a word, of INFO.
fn info(connection: &mut Connection, name: &str) -> Result<String> {
    let text = connection.call(&["INFO"])?.text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    Ok(line.with_context(|| text.clone())?.trim().to_owned())
}

/// BGSAVE, and its end.
fn back_up(connection: &mut Connection) -> Result<()> {
    let said = connection.call(&["BGSAVE"])?;
    ensure!(said == Reply::Simple(b"OK".to_vec()), "BGSAVE: {said:?}");
    wait::until("the backup is made", PATIENCE, || {
        let running = info(connection, "bgsave_in_progress")?;
        ensure!(running == "0", "it is being made");
        Ok(())
    })?;
    let status = info(connection, "last_bgsave_status")?;
    ensure!(status == "ok", "{status}");
    Ok(())
}

/// A line of the backup's name.
fn named(folder: &Path, name: &str) -> Result<String> {
    let text = std::fs::read_to_string(folder.join("holdfast.backup")).context("read its name")?;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    Ok(line.with_context(|| text.clone())?.to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let said = Command::new("cp").arg("-r").arg(from).arg(to).status().context("run cp")?;
    ensure!(said.success(), "cp {}: {said}", from.display());
    Ok(())
}

fn data_folder(cluster: &Cluster, node: &Node) -> PathBuf {
    cluster.dir().join("nodes").join(node.port.to_string())
}

/// The new cluster: a controller and nodes without balancers.
struct Restored {
    url: String,
    nodes: Vec<Server>,
    _controller: Process,
    _folder: tempfile::TempDir,
}

impl Restored {
    /// Step by step: empty folders with a backup in the place of `db`, one for each master; nodes;
    /// a controller; the cluster.
    fn from(backups: &[PathBuf]) -> Result<Self> {
        let restored = Self::nodes_of(backups)?;
        restored.create(&[])?;
        Ok(restored)
    }

    /// The nodes and the controller, and no cluster yet.
    fn nodes_of(backups: &[PathBuf]) -> Result<Self> {
        let folder = tempfile::tempdir().context("create a folder")?;
        let mut nodes = Vec::new();
        for backup in backups {
            for is_master in [true, false] {
                let port = process::free_port()?;
                let dir = folder.path().join(port.to_string());
                std::fs::create_dir(&dir).context("create a data folder")?;
                if is_master {
                    copy(backup, &dir.join("db"))?;
                }
                let lines = format!(
                    "cluster-enabled yes\npeer-auth {SECRET}\nmasterauth {SECRET}\nworkers 2\n\
                     master-lease-mode block-all\nrocksdb.block_cache_size 16\nvalue-cache-size 16"
                );
                nodes.push(Server::node_at(&dir, port, &lines)?);
            }
        }
        let port = process::free_port()?;
        let config = folder.path().join("controller.toml");
        let data = folder.path().join("store");
        let text = format!("listen = \"127.0.0.1:{port}\"\ndata = {data:?}\n");
        std::fs::write(&config, text).context("write controller.toml")?;
        let arguments = [Path::new("controller"), Path::new("-c"), &config];
        let log = folder.path().join("controller.log");
        let controller = Process::start(&process::holdfast()?, &arguments, &log)?;
        let url = format!("http://127.0.0.1:{port}");
        Ok(Self { url, nodes, _controller: controller, _folder: folder })
    }

    fn create(&self, slots: &[String]) -> Result<()> {
        wait::until("the controller answers", PATIENCE, || {
            self.ctl(&["create", "namespace", "prod"]).map(drop)
        })?;
        self.create_cluster(slots)?;
        self.is_healthy()
    }

    fn is_healthy(&self) -> Result<()> {
        wait::until("the new cluster is healthy", 2 * PATIENCE, || {
            let said = self.ctl(&["--json", "status"])?;
            let status: Json = serde_json::from_str(&said).with_context(|| said)?;
            ensure!(status["healthy"] == true, "{status:#}");
            Ok(())
        })
        .with_context(|| self.logs())
    }

    fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address.to_string()).collect()
    }

    fn create_cluster(&self, slots: &[String]) -> Result<()> {
        self.create_of(&self.addresses(), slots)
    }

    fn create_of(&self, nodes: &[String], slots: &[String]) -> Result<()> {
        let nodes = nodes.join(",");
        let words = ["create", "cluster", "main", "-n", "prod", "--nodes-per-shard", "2"];
        let more = ["--password", SECRET, "--nodes", &nodes];
        let slots: Vec<&str> = slots.iter().flat_map(|slots| ["--slots", slots.as_str()]).collect();
        self.ctl(&[&words[..], &more[..], &slots].concat()).map(drop)
    }

    fn ctl(&self, words: &[&str]) -> Result<String> {
        let output = Command::new(process::holdfast()?)
            .args(["ctl", "-H", &self.url])
            .args(words)
            .output()
            .context("run ctl")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn logs(&self) -> String {
        self.nodes.iter().map(|node| node.process().log()).collect::<Vec<_>>().join("\n")
    }

    /// As a client of the cluster reads: from whichever master has the key.
    fn get(&self, key: &str) -> Result<Reply> {
        for node in &self.nodes {
            let reply = node.connect()?.call(&["GET", key])?;
            if !matches!(reply, Reply::Error(_)) {
                return Ok(reply);
            }
        }
        anyhow::bail!("nobody serves {key}")
    }

    fn peer(&self, index: usize) -> Result<Connection> {
        let mut connection = self.nodes[index].connect()?;
        ensure!(connection.call(&["AUTH", SECRET])?.text() == "OK");
        Ok(connection)
    }
}

fn write(cluster: &Cluster, numbers: std::ops::Range<usize>, value: &str) -> Result<()> {
    let masters = [cluster.master(0)?.announced()?, cluster.master(1)?.announced()?];
    let mut connections = [Connection::open(masters[0])?, Connection::open(masters[1])?];
    for number in numbers {
        let key = format!("key-{number}");
        let words = ["SET", &key, value];
        let first = connections[0].call(&words)?;
        let said = if first.text() == "OK" { first } else { connections[1].call(&words)? };
        ensure!(said.text() == "OK", "{key}: {said:?}");
    }
    Ok(())
}

#[test]
fn backups_of_a_cluster_are_restored_into_a_new_one() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 2, ..Options::default() })?;
    for shard in 0..2 {
        in_set(&cluster, &cluster.master(shard)?, &cluster.replica(shard)?)?;
    }
    write(&cluster, 0..KEYS, "kept")?;
    // One shard's from its master, the other's from its replica.
    let sources = [cluster.master(0)?, cluster.replica(1)?];
    let epochs: Vec<u64> = sources
        .iter()
        .map(|node| -> Result<u64> {
            let mut peer = cluster.peer(node)?;
            let before: u64 = peer.call(&["LASTSAVE"])?.text().parse()?;
            back_up(&mut peer)?;
            ensure!(peer.call(&["LASTSAVE"])?.text().parse::<u64>()? >= before);
            Ok(info(&mut peer, "epoch")?.parse()?)
        })
        .collect::<Result<_>>()
        .with_context(|| cluster.logs())?;
    write(&cluster, 0..KEYS / 2, "newer")?;
    write(&cluster, KEYS..KEYS + 10, "newer")?;

    let mut backups: Vec<PathBuf> =
        sources.iter().map(|node| data_folder(&cluster, node).join("backup")).collect();
    // In the order of their slots, which is that of the shards.
    let first_slot = |folder: &PathBuf| -> u32 {
        let slots = named(folder, "slots").unwrap_or_default();
        slots.split(['-', ' ']).next().and_then(|slot| slot.parse().ok()).unwrap_or(u32::MAX)
    };
    backups.sort_by_key(first_slot);
    ensure!((first_slot(&backups[0]), first_slot(&backups[1])) == (0, 8192), "{backups:?}");
    for (folder, node) in backups.iter().zip(&sources) {
        ensure!(named(folder, "node")? == node.id, "{}", folder.display());
    }

    let restored = Restored::from(&backups)?;
    for number in 0..KEYS {
        let found = restored.get(&format!("key-{number}"))?;
        ensure!(found == Reply::Bulk(b"kept".to_vec()), "key-{number}: {found:?}");
    }
    for number in KEYS..KEYS + 10 {
        let found = restored.get(&format!("key-{number}"))?;
        ensure!(found == Reply::NilBulk, "key-{number}: {found:?}");
    }
    for (shard, old) in epochs.iter().enumerate() {
        let epoch: u64 = info(&mut restored.peer(2 * shard)?, "epoch")?.parse()?;
        ensure!(epoch > *old, "shard {shard} is in epoch {epoch}, its backup in {old}");
    }
    // It is a cluster as any other: what is written has its copy, and survives its master.
    let (key, takes) = ("key-0", |node: &&Server| {
        let reply = node.connect().and_then(|mut client| client.call(&["SET", "key-0", "after"]));
        reply.is_ok_and(|reply| reply.text() == "OK")
    });
    let holder = restored.nodes.iter().find(takes).context("nobody takes a write")?;
    let holder = (holder.address, holder.process().pid());
    process::signal(holder.1, libc::SIGKILL)?;
    wait::until("its replica serves what was written", PATIENCE, || {
        for node in restored.nodes.iter().filter(|node| node.address != holder.0) {
            let found = node.connect()?.call(&["GET", key])?;
            if found == Reply::Bulk(b"after".to_vec()) {
                return Ok(());
            }
        }
        anyhow::bail!("nobody has it")
    })
    .with_context(|| restored.logs())
}

#[test]
fn ctl_keeps_copies_of_what_replicas_save_and_they_are_restored() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, ..Options::default() })?;
    let (master, replica) = (cluster.master(0)?, cluster.replica(0)?);
    in_set(&cluster, &master, &replica)?;
    write_until_ok(master.announced()?, "key", "kept")?;
    let to = tempfile::tempdir()?;
    let secret = cluster.dir().join("secret");
    let back_up = |nodes: &str| {
        Command::new(process::holdfast()?)
            .args(["ctl", "--wide", "backup", "--nodes", nodes, "--keep", "1", "--replicas-only"])
            .arg("--to")
            .arg(to.path())
            .arg("--password-file")
            .arg(&secret)
            .output()
            .context("run ctl")
    };
    let copies = || -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(to.path())?;
        Ok(entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
    };
    let nodes = format!("{},{}", master.local()?, replica.local()?);
    let mut made = Vec::new();
    for _ in 0..2 {
        let output = back_up(&nodes)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        ensure!(said.contains("a master with replicas, which is left to them"), "{said}");
        let there = copies()?;
        ensure!(there.len() == 1, "{there:?}");
        made.extend(there);
    }
    ensure!(made[0] != made[1], "the older one was kept: {made:?}");
    ensure!(named(&made[1], "node")? == replica.id && named(&made[1], "role")? == "slave");
    // One that is not there keeps none from being saved, and is told.
    let nobody = process::free_port()?;
    let output = back_up(&format!("127.0.0.1:{nobody},{}", replica.local()?))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && said.contains(&nobody.to_string()), "{said}");
    let there = copies()?;
    ensure!(there.len() == 1 && there[0] != made[1], "{there:?}");
    let restored = Restored::from(&there)?;
    let found = restored.get("key")?;
    ensure!(found == Reply::Bulk(b"kept".to_vec()), "{found:?}");
    Ok(())
}

#[test]
fn a_backup_waits_for_what_the_set_does_not_have_and_is_none_without_it() -> Result<()> {
    let options = Options { shards: 1, restart: false, ..Options::default() };
    let cluster = Cluster::start(options)?;
    let (master, replica) = (cluster.master(0)?, cluster.replica(0)?);
    in_set(&cluster, &master, &replica)?;
    write_until_ok(master.announced()?, "before", "1")?;
    let mut peer = cluster.peer(&master)?;
    // The member is waited for, and cannot be dropped: the controller that would confirm that is
    // away.
    let controller = cluster.state()?.controller.pid.context("a controller")?;
    process::signal(controller, libc::SIGSTOP)?;
    process::signal(replica.running()?, libc::SIGSTOP)?;
    let offset = info(&mut peer, "master_repl_offset")?;
    let mut writer = Connection::open(master.announced()?)?;
    writer.send(&["SET", "unacknowledged", "1"])?;
    wait::until("the write is in the log", PATIENCE, || {
        let now = info(&mut peer, "master_repl_offset")?;
        ensure!(now != offset, "{now}");
        Ok(())
    })?;
    ensure!(peer.call(&["BGSAVE"])?.text() == "OK");
    let again = peer.call(&["BGSAVE"])?;
    ensure!(again.text() == "ERR bgsave in-progress", "{again:?}");
    wait::until("the attempt ends", PATIENCE, || {
        let running = info(&mut peer, "bgsave_in_progress")?;
        ensure!(running == "0", "it waits");
        Ok(())
    })?;
    ensure!(info(&mut peer, "last_bgsave_status")? == "err");
    let folder = data_folder(&cluster, &master);
    for name in ["backup", "backup.new", "backup.old"] {
        ensure!(!folder.join(name).exists(), "{name} is there");
    }
    process::signal(replica.running()?, libc::SIGCONT)?;
    process::signal(controller, libc::SIGCONT)?;
    // The master of that time has all that was acknowledged, and its backup is one.
    wait::until("a backup is made again", 2 * PATIENCE, || {
        let now = cluster.master(0)?;
        let mut peer = cluster.peer(&now)?;
        peer.set_patience(Duration::from_secs(10))?;
        back_up(&mut peer)?;
        ensure!(data_folder(&cluster, &now).join("backup").exists());
        Ok(())
    })
    .with_context(|| cluster.logs())
}

/// Slots have moved: the marks of it are in the backups, and equal shares are not what they have.
#[test]
fn backups_of_a_cluster_whose_slots_moved_are_restored_with_their_slots() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 2, replicas: 0, ..Options::default() })?;
    write(&cluster, 0..KEYS, "kept")?;
    let url = cluster.state()?.controller.url;
    let ctl = |words: &[&str]| -> Result<String> {
        let mut command = Command::new(process::holdfast()?);
        let output = command.args(["ctl", "-H", &url]).args(words).output().context("run ctl")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    ctl(&["move", "slots", "0-4095", "--to", "1", "--yes"])?;
    wait::until("the slots have moved", 2 * PATIENCE, || {
        let moves: Json = serde_json::from_str(&ctl(&["--json", "moves"])?)?;
        ensure!(moves["moves"].as_array().is_some_and(Vec::is_empty), "{moves:#}");
        Ok(())
    })
    .with_context(|| cluster.logs())?;
    let sources = [cluster.master(0)?, cluster.master(1)?];
    for node in &sources {
        back_up(&mut cluster.peer(node)?)?;
    }
    let backups: Vec<PathBuf> =
        sources.iter().map(|node| data_folder(&cluster, node).join("backup")).collect();
    let slots =
        |folder: &PathBuf| -> Result<String> { Ok(named(folder, "slots")?.replace(' ', ",")) };
    let slots = backups.iter().map(slots).collect::<Result<Vec<String>>>()?;
    ensure!(slots == ["4096-8191", "0-4095,8192-16383"], "{slots:?}");

    let restored = Restored::nodes_of(&backups)?;
    wait::until("the controller answers", PATIENCE, || {
        restored.ctl(&["create", "namespace", "prod"]).map(drop)
    })?;
    let refused = restored.create_cluster(&[]).err().context("equal shares are taken")?;
    let said = format!("{refused:#}");
    ensure!(said.contains("it has keys in slots") || said.contains("by its data"), "{said}");
    let swapped: Vec<String> = slots.iter().rev().cloned().collect();
    ensure!(restored.create_cluster(&swapped).is_err(), "the wrong order is taken");
    // The empty node of a shard first: the data would give way to it.
    let mut reversed = restored.addresses();
    reversed.swap(0, 1);
    let refused = restored.create_of(&reversed, &slots).err().context("an empty master")?;
    let said = format!("{refused:#}");
    ensure!(said.contains("has keys, and") && said.contains("first in its shard"), "{said}");
    restored.create_cluster(&slots)?;
    restored.is_healthy()?;
    for number in 0..KEYS {
        let key = format!("key-{number}");
        let mut answers = Vec::new();
        for node in &restored.nodes {
            let reply = node.connect()?.call(&["GET", &key])?;
            answers.extend(Some(reply).filter(|reply| !matches!(reply, Reply::Error(_))));
        }
        ensure!(answers == [Reply::Bulk(b"kept".to_vec())], "{key}: {answers:?}");
    }
    // Nothing of the moves of the old cluster is in the way of new ones.
    restored.ctl(&["move", "slots", "0-4095", "--to", "0", "--yes"])?;
    wait::until("slots move in the new cluster", 2 * PATIENCE, || {
        let moves: Json = serde_json::from_str(&restored.ctl(&["--json", "moves"])?)?;
        let last = moves["done"].as_array().and_then(|done| done.last()).context("none is over")?;
        ensure!(moves["moves"].as_array().is_some_and(Vec::is_empty), "{moves:#}");
        ensure!(last["error"].is_null(), "{moves:#}");
        Ok(())
    })
    .with_context(|| restored.logs())?;
    let found = restored.get("key-0")?;
    ensure!(found == Reply::Bulk(b"kept".to_vec()), "{found:?}");
    Ok(())
}
