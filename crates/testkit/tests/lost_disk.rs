//! The master's data is gone and its process is back at once, or late: absence of history is not
//! another history.
//!
//! `HOLDFAST_LOST_DISKS=40` loses as many disks in each mode, one after the other in one cluster.

#![expect(clippy::print_stdout, reason = "counts are what it is run for")]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value as Json;
use testkit::cluster::{Cluster, Node, Options};
use testkit::process::{self, Process};
use testkit::wait;
use testkit::wire::{Connection, Reply};

use common::PATIENCE;

const KEYS: usize = 100;
const ROUNDS_VARIABLE: &str = "HOLDFAST_LOST_DISKS";

fn rounds() -> Result<usize> {
    std::env::var(ROUNDS_VARIABLE).map_or(Ok(2), |text| text.parse().context(ROUNDS_VARIABLE))
}

/// One shard of two whose processes nobody starts again but the test.
struct Site {
    cluster: Cluster,
    nodes: BTreeMap<u16, Process>,
    controller: Option<Process>,
    address: SocketAddr,
    written: usize,
}

impl Site {
    fn start(commit_mode: &'static str) -> Result<Self> {
        let options = Options {
            shards: 1,
            restart: false,
            commit_mode: Some(commit_mode),
            ..Options::default()
        };
        let cluster = Cluster::start(options)?;
        let address = cluster.master(0)?.announced()?;
        Ok(Self { cluster, nodes: BTreeMap::new(), controller: None, address, written: 0 })
    }

    fn ctl(&self, words: &[&str]) -> Result<String> {
        let url = self.cluster.state()?.controller.url;
        let output = Command::new(process::holdfast()?)
            .args(["ctl", "-H", &url])
            .args(words)
            .output()
            .context("run ctl")?;
        // Of `status`: not healthy, and stuck.
        let is_told = words.contains(&"status") && matches!(output.status.code(), Some(3 | 4));
        let is_good = output.status.success() || is_told;
        ensure!(is_good, "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn status(&self) -> Result<Json> {
        let said = self.ctl(&["--json", "status"])?;
        serde_json::from_str(&said).with_context(|| said)
    }

    fn until(&self, what: &str, is_so: impl Fn(&Json) -> bool) -> Result<Json> {
        wait::until(what, PATIENCE, || {
            let status = self.status()?;
            ensure!(is_so(&status), "{status:#}");
            Ok(status)
        })
        .with_context(|| self.cluster.logs())
    }

    /// Master and replica, as the controller has them now.
    fn pair(&self) -> Result<(Node, Node)> {
        let status = self.status()?;
        let shown = status["shards"][0]["nodes"].as_array().context("nodes")?;
        let known = self.cluster.state()?.nodes;
        let of = |role: &str| {
            let id =
                shown.iter().find(|node| node["role"] == role).context("a role")?["id"].clone();
            let found = known.iter().find(|node| id == node.id.as_str()).cloned();
            found.context("a node of that id")
        };
        Ok((of("master")?, of("slave")?))
    }

    fn dir(&self, node: &Node) -> PathBuf {
        self.cluster.dir().join("nodes").join(node.port.to_string())
    }

    fn kill(&mut self, node: &Node) -> Result<()> {
        if let Some(ours) = self.nodes.remove(&node.port) {
            return ours.kill();
        }
        end(node.running()?)
    }

    fn run(&mut self, node: &Node) -> Result<()> {
        let process = start("node", &self.dir(node).join("node.conf"), &self.log(node))?;
        self.nodes.insert(node.port, process);
        Ok(())
    }

    fn log(&self, node: &Node) -> PathBuf {
        self.cluster.dir().join("logs").join(format!("again-{}.log", node.port))
    }

    fn kill_controller(&mut self) -> Result<()> {
        match self.controller.take() {
            Some(ours) => ours.kill(),
            None => end(self.cluster.state()?.controller.pid.context("a controller")?),
        }
    }

    fn run_controller(&mut self) -> Result<()> {
        let config = self.cluster.dir().join("controller/controller.toml");
        let log = self.cluster.dir().join("logs/again-controller.log");
        self.controller = Some(start("controller", &config, &log)?);
        Ok(())
    }

    /// `name:value` of a section of INFO.
    fn info(&self, node: &Node, name: &str) -> Result<Option<String>> {
        let text = self.cluster.peer(node)?.call(&["INFO", "replication"])?.text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(value.map(|value| value.trim().to_owned()))
    }

    fn sequence(&self, node: &Node) -> Result<u64> {
        let text = self.info(node, "master_repl_offset")?.context("an offset")?;
        text.parse().context("an offset")
    }

    fn caught_up(&self, master: &Node, replica: &Node) -> Result<()> {
        wait::until("the replica has caught up", PATIENCE, || {
            let (ahead, behind) = (self.sequence(master)?, self.sequence(replica)?);
            ensure!(ahead == behind && ahead > 0, "{behind} of {ahead}");
            Ok(())
        })
        .with_context(|| self.cluster.logs())
    }

    fn write(&mut self) -> Result<()> {
        for number in self.written..self.written + KEYS {
            common::write_until_ok(self.address, &format!("k{number}"), &number.to_string())?;
        }
        self.written += KEYS;
        Ok(())
    }

    /// Everything that was ever written is there, as a client that reconnects reads it.
    fn check(&self) -> Result<()> {
        let missing = wait::until("a master that serves", PATIENCE, || self.first_missing())
            .with_context(|| self.cluster.logs())?;
        ensure!(missing.is_none(), "{}\n{}", missing.unwrap_or_default(), self.cluster.logs());
        Ok(())
    }

    /// What is not as it was written, if anything; an error while nobody answers.
    fn first_missing(&self) -> Result<Option<String>> {
        let mut client = Connection::open(self.address)?;
        for number in 0..self.written {
            let said = client.call(&["GET", &format!("k{number}")])?;
            ensure!(!matches!(said, Reply::Error(_)), "{said:?}");
            if said != Reply::Bulk(number.to_string().into_bytes()) {
                return Ok(Some(format!("k{number} is {said:?}")));
            }
        }
        Ok(None)
    }

    /// The replica has met the empty master and waits; its data is what it was.
    fn refuses(&self, replica: &Node, sequence: u64) -> Result<()> {
        wait::until("the replica says why it waits", PATIENCE, || {
            let why = self.info(replica, "master_link_error")?.unwrap_or_default();
            ensure!(why.contains("no grant of epoch"), "{why}");
            ensure!(self.info(replica, "master_link_status")?.as_deref() == Some("down"));
            Ok(())
        })
        .with_context(|| self.cluster.logs())?;
        let now = self.sequence(replica)?;
        ensure!(now == sequence, "the replica was at {sequence} and is at {now}");
        ensure!(!self.dir(replica).join("db.deposed").exists(), "its data was set aside");
        Ok(())
    }
}

fn end(pid: u32) -> Result<()> {
    process::signal(pid, libc::SIGKILL)?;
    wait::until("the end of a process", PATIENCE, || match process::is_alive(pid) {
        true => bail!("{pid} is alive"),
        false => Ok(()),
    })
}

fn start(what: &str, config: &Path, log: &Path) -> Result<Process> {
    let arguments = [what.as_ref(), "-c".as_ref(), config.as_os_str()];
    Process::start(&process::holdfast()?, &arguments, log)
}

fn is_whole(status: &Json) -> bool {
    let in_sync = status["shards"][0]["in_sync"].as_array().map_or(0, Vec::len);
    let is_set = status["commit_mode"] == "async" || in_sync == 2;
    let nodes = status["shards"][0]["nodes"].as_array();
    let link = |node: &Json| node["role"] == "master" || node["answer"]["link_status"] == "up";
    status["healthy"] == true && is_set && nodes.is_some_and(|nodes| nodes.iter().all(link))
}

/// A disk that was not mounted, or another one: with `is_bare` not even the topology is there.
fn lose(dir: &Path, is_bare: bool) -> Result<()> {
    std::fs::remove_dir_all(dir.join("db")).context("remove the data")?;
    if is_bare {
        std::fs::remove_file(dir.join("nodes.conf")).context("remove the topology")?;
    }
    Ok(())
}

/// The process is back before anybody has acted, with the controller there.
fn back_at_once(mode: &'static str) -> Result<()> {
    let mut site = Site::start(mode)?;
    for round in 0..rounds()? {
        site.until("a whole shard", is_whole)?;
        let (master, replica) = site.pair()?;
        site.write()?;
        site.caught_up(&master, &replica)?;
        site.kill(&master)?;
        lose(&site.dir(&master), false)?;
        let began = Instant::now();
        site.run(&master)?;
        site.check()?;
        println!("{mode}, back at once, round {round}: served after {:?}", began.elapsed());
        let status = site.until("a whole shard", is_whole)?;
        let now = status["shards"][0]["nodes"].as_array().context("nodes")?;
        let is_replaced = now.iter().any(|n| n["id"] == *replica.id && n["role"] == "master");
        ensure!(is_replaced, "{status:#}");
    }
    Ok(())
}

#[test]
fn an_in_sync_master_that_comes_back_empty_at_once_takes_nothing_along() -> Result<()> {
    back_at_once("in-sync")
}

#[test]
fn an_asynchronous_master_that_comes_back_empty_at_once_takes_nothing_along() -> Result<()> {
    back_at_once("async")
}

/// Nobody but the replica is there to judge: its master's next process has not even a topology.
fn while_the_controller_is_away(mode: &'static str) -> Result<()> {
    let mut site = Site::start(mode)?;
    for round in 0..rounds()? {
        site.until("a whole shard", is_whole)?;
        let (master, replica) = site.pair()?;
        site.write()?;
        site.caught_up(&master, &replica)?;
        let sequence = site.sequence(&replica)?;
        site.kill_controller()?;
        site.kill(&master)?;
        lose(&site.dir(&master), round % 2 == 0)?;
        site.run(&master)?;
        site.refuses(&replica, sequence)?;
        site.run_controller()?;
        site.check()?;
        println!("{mode}, controller away, round {round}: nothing lost");
        // What was set aside by the copy of the one that has nothing is nothing.
        site.until("a whole shard", is_whole)?;
    }
    Ok(())
}

#[test]
fn an_empty_process_is_not_followed_while_the_controller_is_away() -> Result<()> {
    while_the_controller_is_away("in-sync")
}

#[test]
fn an_empty_process_of_an_asynchronous_shard_is_not_followed_while_the_controller_is_away()
-> Result<()> {
    while_the_controller_is_away("async")
}

/// The set is the master alone, and its replica has everything without being counted.
#[test]
fn a_degraded_shard_comes_back_from_its_replica_by_an_operators_word() -> Result<()> {
    let mut site = Site::start("in-sync")?;
    for round in 0..rounds()? {
        site.until("a whole shard", is_whole)?;
        let (master, replica) = site.pair()?;
        site.kill(&replica)?;
        site.until("a degraded shard", |status| status["shards"][0]["degraded"] == true)?;
        site.write()?;
        site.kill_controller()?;
        site.run(&replica)?;
        wait::until("the replica answers", PATIENCE, || site.sequence(&replica))?;
        site.caught_up(&master, &replica)?;
        let sequence = site.sequence(&replica)?;
        site.kill(&master)?;
        lose(&site.dir(&master), false)?;
        site.run(&master)?;
        site.refuses(&replica, sequence)?;
        site.run_controller()?;
        site.until("a stuck shard", |status| {
            let state = &status["shards"][0];
            let detail = state["detail"].as_str().unwrap_or_default();
            state["state"] == "stuck" && detail.contains("no longer holds what it acknowledged")
        })?;
        ensure!(site.sequence(&replica)? == sequence, "nothing is given up by itself");
        site.ctl(&["shard", "accept-loss", "0", "--node", &replica.id, "--yes"])?;
        site.check()?;
        println!("degraded, round {round}: nothing lost that the replica had");
        site.until("a whole shard", is_whole)?;
    }
    Ok(())
}

/// Two disks are lost, and what one of them held lies in `db.deposed`.
#[test]
fn a_shard_comes_back_from_what_was_set_aside() -> Result<()> {
    let mut site = Site::start("in-sync")?;
    site.until("a whole shard", is_whole)?;
    let (master, replica) = site.pair()?;
    site.write()?;
    site.caught_up(&master, &replica)?;
    let sequence = site.sequence(&replica)?;
    site.kill_controller()?;
    site.kill(&replica)?;
    site.kill(&master)?;
    lose(&site.dir(&master), false)?;
    let dir = site.dir(&replica);
    std::fs::rename(dir.join("db"), dir.join("db.deposed")).context("set data aside")?;
    site.run(&master)?;
    site.run(&replica)?;
    site.run_controller()?;
    let named = format!("`ctl shard restore-deposed 0 --node {}`", replica.id);
    site.until("a stuck shard, and the way out of it", |status| {
        let alarms = status["alarms"].as_array().cloned().unwrap_or_default();
        let is_named = |alarm: &Json| alarm.as_str().is_some_and(|text| text.contains(&named));
        status["shards"][0]["state"] == "stuck" && alarms.iter().any(is_named)
    })?;
    // Nobody goes on with less by the way.
    for node in [&master, &replica] {
        let words = ["shard", "accept-loss", "0", "--node", &node.id];
        let told = site.ctl(&words)?;
        ensure!(told.contains("IN DB.DEPOSED") && told.contains(&sequence.to_string()), "{told}");
        let refused = site.ctl(&[&words[..], &["--yes"]].concat()).map_err(|e| e.to_string());
        ensure!(
            refused.as_ref().is_err_and(|text| text.contains("restore-deposed")),
            "{refused:?}"
        );
    }
    let words = ["shard", "restore-deposed", "0", "--node", &replica.id];
    let told = site.ctl(&words)?;
    ensure!(told.contains("Nothing was changed"), "{told}");
    ensure!(site.sequence(&replica)? < sequence, "nothing was changed");
    site.ctl(&[&words[..], &["--yes"]].concat())?;
    site.check()?;
    let status = site.until("a whole shard", is_whole)?;
    ensure!(status["alarms"].as_array().is_some_and(Vec::is_empty), "{status:#}");
    let refused = site.ctl(&[&words[..], &["--yes"]].concat()).map_err(|error| error.to_string());
    ensure!(refused.as_ref().is_err_and(|text| text.contains("under a grant")), "{refused:?}");
    Ok(())
}

/// The peers' secret is asked for, as with all that changes a node.
#[test]
fn only_peers_bring_data_back() -> Result<()> {
    let site = Site::start("in-sync")?;
    let (master, _) = site.pair()?;
    for words in [&["CLUSTERX", "DEPOSED", "SHOW"][..], &["CLUSTERX", "DEPOSED", "RESTORE", "7;-"]]
    {
        let mut client = Connection::open(site.address)?;
        let said = client.call(words)?;
        ensure!(matches!(said, Reply::Error(_)), "{words:?}: {said:?}");
    }
    let said = site.cluster.peer(&master)?.call(&["CLUSTERX", "DEPOSED", "SHOW"])?;
    ensure!(said.text() == "-", "{said:?}");
    let said = site.cluster.peer(&master)?.call(&["CLUSTERX", "DEPOSED", "RESTORE", "7;-"])?;
    ensure!(said.text().contains("under a grant"), "{said:?}");
    Ok(())
}
