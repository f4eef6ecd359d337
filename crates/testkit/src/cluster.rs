//! A cluster started by `holdfast up`, as `cluster.json` shows it, and what a test does to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::ports::Range;
use crate::process::{self, Process};
use crate::wait;
use crate::wire::{Connection, Reply};

/// From the base port on.
const FIRST_NODE: u16 = 100;
const UP_PATIENCE: Duration = Duration::from_secs(90);

/// `cluster.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct State {
    /// Its REST interface.
    pub controller: Controller,
    /// All nodes.
    pub nodes: Vec<Node>,
    /// All load balancer instances.
    pub balancers: Vec<Balancer>,
}

/// The controller.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Controller {
    /// Such as `http://127.0.0.1:7300`.
    pub url: String,
    /// None while dead.
    pub pid: Option<u32>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Node {
    /// 40 characters.
    pub id: String,
    /// None while dead.
    pub pid: Option<u32>,
    /// Local host.
    pub host: String,
    /// Local port.
    pub port: u16,
    /// Metrics and health.
    pub admin_port: u16,
    /// From 0.
    pub shard: usize,
    /// `master` or `replica`.
    pub role: String,
    /// What clients are told.
    pub announced_host: Option<String>,
    /// What clients are told.
    pub announced_port: Option<u16>,
}

/// A load balancer instance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Balancer {
    /// Unique.
    pub name: String,
    /// `builtin` or `haproxy`.
    pub kind: String,
    /// None while dead.
    pub pid: Option<u32>,
}

impl Node {
    /// Where peers reach it.
    pub fn local(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.host.parse().context("read the local host")?, self.port))
    }

    /// Where clients reach it.
    pub fn announced(&self) -> Result<SocketAddr> {
        let host = self.announced_host.as_deref().unwrap_or(&self.host);
        let port = self.announced_port.unwrap_or(self.port);
        Ok(SocketAddr::new(host.parse().context("read the announced host")?, port))
    }

    /// Its process, which must run.
    pub fn running(&self) -> Result<u32> {
        self.pid.with_context(|| format!("node {} is not running", self.port))
    }
}

/// What to start.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Masters.
    pub shards: u16,
    /// Replicas of each.
    pub replicas: u16,
    /// `builtin`, `haproxy` or `none`.
    pub balancer: &'static str,
    /// Whether dead children come back after 2 s.
    pub restart: bool,
    /// `in-sync` or `async`; without, what clusters begin with.
    pub commit_mode: Option<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self { shards: 3, replicas: 1, balancer: "builtin", restart: true, commit_mode: None }
    }
}

/// A running `holdfast up`; ends with its handle.
#[derive(Debug)]
pub struct Cluster {
    up: Option<Process>,
    options: Options,
    ports: Range,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts one and waits until every slot accepts writes.
    pub fn start(options: Options) -> Result<Self> {
        Self::prepared(options, |_, _| Ok(()))
    }

    /// The same, after something was done to its still empty folder; the port is that of its first
    /// node, a master's.
    pub fn prepared(
        options: Options,
        prepare: impl FnOnce(&Path, u16) -> Result<()>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("hf").tempdir().context("create a folder")?;
        let ports = Range::take()?;
        let mut cluster = Self { up: None, options, ports, folder };
        prepare(&cluster.dir(), cluster.ports.base + FIRST_NODE)?;
        cluster.up_again()?;
        Ok(cluster)
    }

    /// Starts `up` in the same folder once more.
    pub fn up_again(&mut self) -> Result<()> {
        // A killed `up` leaves its file, and the next one needs a moment to get to removing it.
        let _ = std::fs::remove_file(self.dir().join("cluster.json"));
        let mut command = Command::new(process::holdfast()?);
        command
            .arg("up")
            .args(["--shards", &self.options.shards.to_string()])
            .args(["--replicas", &self.options.replicas.to_string()])
            .args(["--balancer", self.options.balancer])
            .args(["--base-port", &self.ports.base.to_string()])
            .arg("--dir")
            .arg(self.dir());
        if let Some(mode) = self.options.commit_mode {
            command.args(["--commit-mode", mode]);
        }
        if !self.options.restart {
            command.arg("--no-restart");
        }
        let mut up = Process::start_command(command, &self.folder.path().join("up.log"))?;
        let ready = wait::until("cluster.json", UP_PATIENCE, || match up.ended()? {
            Some(status) => Ok(Some(status)),
            None => self.state().map(|_| None),
        });
        let ready = ready.and_then(|ended| match ended {
            Some(status) => bail!("up ended with {status}"),
            None => Ok(()),
        });
        ready.with_context(|| format!("holdfast up said:\n{}", up.log()))?;
        self.up = Some(up);
        Ok(())
    }

    /// The folder given to `up`.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("c")
    }

    /// What `up` said so far.
    pub fn said(&self) -> String {
        self.up.as_ref().map(Process::log).unwrap_or_default()
    }

    /// The pid of `up` itself.
    pub fn up_pid(&self) -> Result<u32> {
        Ok(self.up.as_ref().context("up is not running")?.pid())
    }

    /// SIGTERM for `up`; returns when it ended.
    pub fn down(&mut self) -> Result<()> {
        let up = self.up.take().context("up is not running")?;
        let status = up.terminate()?;
        ensure!(status.success(), "up ended with {status}");
        Ok(())
    }

    /// SIGKILL for `up`.
    pub fn kill_up(&mut self) -> Result<()> {
        self.up.take().context("up is not running")?.kill()
    }

    /// `cluster.json` as it is now.
    pub fn state(&self) -> Result<State> {
        let path = self.dir().join("cluster.json");
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&bytes).context("read cluster.json")
    }

    /// The peer-auth secret.
    pub fn secret(&self) -> Result<String> {
        let text = std::fs::read_to_string(self.dir().join("secret")).context("read the secret")?;
        Ok(text.trim().to_owned())
    }

    /// The master of a shard.
    pub fn master(&self, shard: usize) -> Result<Node> {
        self.member(shard, "master")
    }

    /// The (first) replica of a shard.
    pub fn replica(&self, shard: usize) -> Result<Node> {
        self.member(shard, "replica")
    }

    fn member(&self, shard: usize, role: &str) -> Result<Node> {
        let nodes = self.state()?.nodes;
        let found = nodes.into_iter().find(|node| node.shard == shard && node.role == role);
        found.with_context(|| format!("shard {shard} has no {role}"))
    }

    /// A connection as a peer: to the node's own port, with the secret.
    pub fn peer(&self, node: &Node) -> Result<Connection> {
        let mut connection = Connection::open(node.local()?)?;
        let reply = connection.call(&["AUTH", &self.secret()?])?;
        ensure!(matches!(reply, Reply::Simple(_)), "AUTH: {}", reply.text());
        Ok(connection)
    }

    /// Waits for a state.
    pub fn await_that(
        &self,
        what: &str,
        patience: Duration,
        is_so: impl Fn(&State) -> bool,
    ) -> Result<State> {
        let look = || {
            let state = self.state().map_err(|error| format!("{error:#}"))?;
            if is_so(&state) { Ok(state) } else { Err(format!("{state:?}")) }
        };
        wait::until(what, patience, look).with_context(|| self.logs())
    }

    /// Waits until the shard has another master than `old`, and `old` is a running replica again
    /// whose stream flows.
    pub fn await_return(&self, old: &Node, patience: Duration) -> Result<Node> {
        let look = || -> Result<Node> {
            let state = self.state()?;
            let now = state.nodes.iter().find(|node| node.id == old.id).context("it is gone")?;
            ensure!(now.role == "replica" && now.pid.is_some(), "it is {now:?}");
            let info = self.peer(now)?.call(&["INFO", "replication"])?.text();
            ensure!(info.contains("master_link_status:up"), "{info}");
            Ok(now.clone())
        };
        wait::until("the old master follows the new one", patience, look)
            .with_context(|| self.logs())
    }

    /// The end of every log, for messages.
    pub fn logs(&self) -> String {
        let mut text = format!("up said:\n{}", self.said());
        let Ok(entries) = std::fs::read_dir(self.dir().join("logs")) else { return text };
        for entry in entries.flatten() {
            text.push_str(&format!("\n== {}\n{}", entry.path().display(), tail(&entry.path())));
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Cleanly if possible: SIGKILL would leave the killing of the children to the kernel, which
        // takes a moment.
        if let Some(up) = self.up.take() {
            let _ = up.terminate();
        }
    }
}

fn tail(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
