//! The servers that are measured: started here, each alone in a folder or as a cluster with its
//! controller, all of them up for the whole run.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::usage;
use crate::cluster::{Cluster, Options};
use crate::process::{Process, START_PATIENCE, free_port, holdfast};
use crate::wait;
use crate::wire::Connection;

/// A kind of server, and how it is started.
#[derive(Debug, Clone)]
pub struct System {
    /// As the table names it.
    pub name: String,
    program: PathBuf,
    /// Beside address and folder.
    options: Vec<String>,
    kind: Kind,
    /// A second one follows it.
    has_replica: bool,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Holdfast,
    Redis,
    Kvrocks,
    /// One shard, with a controller.
    Cluster(Options),
}

/// One that runs.
#[derive(Debug)]
pub struct Running {
    /// What it is.
    pub system: System,
    /// As it says itself.
    pub version: String,
    /// Where clients reach it.
    pub address: SocketAddr,
    /// The process that serves commands.
    pid: u32,
    /// Load balancers in front of it.
    balancers: Vec<u32>,
    body: Body,
    _replica: Option<Box<Running>>,
}

/// What ends with it.
#[derive(Debug)]
enum Body {
    Alone { _process: Process, folder: tempfile::TempDir },
    Cluster { _cluster: Cluster },
}

impl System {
    /// A node, with options of its own.
    pub fn holdfast(name: &str, options: &[&str]) -> Result<Self> {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Ok(Self {
            name: name.to_owned(),
            program: holdfast()?,
            options,
            kind: Kind::Holdfast,
            has_replica: false,
        })
    }

    /// Debian's redis-server with an append-only file, written to the disk every second.
    pub fn redis() -> Self {
        let options = ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"];
        Self {
            name: "redis".into(),
            program: "redis-server".into(),
            options: options.map(str::to_owned).to_vec(),
            kind: Kind::Redis,
            has_replica: false,
        }
    }

    /// The Kvrocks that `KVROCKS_BIN` names.
    pub fn kvrocks() -> Option<Self> {
        let program = std::env::var_os("KVROCKS_BIN")?.into();
        let (name, kind) = ("kvrocks".into(), Kind::Kvrocks);
        Some(Self { name, program, options: Vec::new(), kind, has_replica: false })
    }

    /// One shard of a cluster, with a controller: so many replicas, these load balancers (`none`,
    /// `builtin`, `haproxy`), this commit mode (`in-sync`, `async`).
    pub fn cluster(
        name: &str,
        replicas: u16,
        balancer: &'static str,
        commit_mode: &'static str,
    ) -> Result<Self> {
        let commit_mode = Some(commit_mode);
        let options = Options { shards: 1, replicas, balancer, restart: false, commit_mode };
        Ok(Self {
            name: name.to_owned(),
            program: holdfast()?,
            options: Vec::new(),
            kind: Kind::Cluster(options),
            has_replica: false,
        })
    }

    /// The same with a second one of its kind that follows it.
    #[must_use]
    pub fn with_replica(self) -> Self {
        Self { has_replica: true, ..self }
    }

    /// What stands behind the program's name.
    pub fn described(&self) -> String {
        if let Kind::Cluster(Options { replicas, balancer, commit_mode, .. }) = self.kind {
            let mode = commit_mode.unwrap_or("default");
            return format!(
                "a cluster of one shard: {replicas} replicas, {mode}, load balancer {balancer}"
            );
        }
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let options = options.join(" ").replace("--save  ", "--save '' ");
        let options = if options.is_empty() { "defaults".into() } else { options };
        if self.has_replica { format!("{options}; a replica follows") } else { options }
    }

    /// Starts it, and its replica, and waits until they answer.
    pub fn start(self) -> Result<Running> {
        if let Kind::Cluster(options) = self.kind {
            return self.start_cluster(options);
        }
        let second = self.has_replica.then(|| Self { has_replica: false, ..self.clone() });
        let mut running = self.start_alone()?;
        if let Some(second) = second {
            let second = second.start_alone()?;
            second.follow(running.address)?;
            running._replica = Some(Box::new(second));
        }
        Ok(running)
    }

    fn start_cluster(self, options: Options) -> Result<Running> {
        let cluster = Cluster::start(options)?;
        let master = cluster.master(0)?;
        let (address, pid) = (master.announced()?, master.running()?);
        let balancers = cluster.state()?.balancers.iter().filter_map(|one| one.pid).collect();
        let info = answered(address, || Ok(()))?;
        let version = version(&info, self.kind);
        let body = Body::Cluster { _cluster: cluster };
        Ok(Running { system: self, version, address, pid, balancers, body, _replica: None })
    }

    fn start_alone(self) -> Result<Running> {
        let folder = tempfile::tempdir().context("create a folder")?;
        let port = free_port()?;
        let dir = folder.path().display().to_string();
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Holdfast => {
                command.arg("node").args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
                command.args(["--dir", &dir]).args(&self.options);
            }
            Kind::Redis => {
                command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
                command.args(["--dir", &dir]).args(&self.options);
            }
            Kind::Kvrocks => {
                let file = folder.path().join("kvrocks.conf");
                let text = format!("bind 127.0.0.1\nport {port}\nworkers 2\ndir {dir}\n");
                std::fs::write(&file, text).context("write kvrocks.conf")?;
                command.arg("-c").arg(file);
            }
            Kind::Cluster(_) => bail!("a cluster is not started alone"),
        }
        let mut process = Process::start_command(command, &folder.path().join("log"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let info = answered(address, || match process.ended()? {
            Some(status) => bail!("it ended with {status}: {}", process.log()),
            None => Ok(()),
        })?;
        let (version, pid) = (version(&info, self.kind), process.pid());
        let body = Body::Alone { _process: process, folder };
        let balancers = Vec::new();
        Ok(Running { system: self, version, address, pid, balancers, body, _replica: None })
    }
}

/// What a server that has just been started says of itself, once it does.
fn answered(address: SocketAddr, mut is_there: impl FnMut() -> Result<()>) -> Result<String> {
    wait::until("a server answers INFO", START_PATIENCE, || {
        is_there()?;
        Ok::<_, anyhow::Error>(Connection::open(address)?.call(&["INFO", "server"])?.text())
    })
}

impl Running {
    /// Becomes a replica of another one, and waits until it has what that has.
    fn follow(&self, master: SocketAddr) -> Result<()> {
        let mut connection = self.connect()?;
        let reply = connection.call(&["REPLICAOF", "127.0.0.1", &master.port().to_string()])?;
        if reply.error_code().is_some() {
            bail!("REPLICAOF was answered with {}", reply.text());
        }
        wait::until("a replica follows", START_PATIENCE, || {
            let info = connection.call(&["INFO", "replication"])?.text();
            if info.contains("master_link_status:up") { Ok(()) } else { bail!("it said {info}") }
        })
    }

    /// A connection.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(self.address)
    }

    /// Processor time of all threads of the server so far, in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        usage::cpu_seconds(self.pid)
    }

    /// The same of those threads alone that flush and compact; 0 where there are none.
    pub fn background_cpu_seconds(&self) -> Result<f64> {
        usage::thread_cpu_seconds(self.pid, "rocksdb:")
    }

    /// The same of the load balancers in front of it, their children included; 0 without.
    pub fn balancer_cpu_seconds(&self) -> Result<f64> {
        self.balancers.iter().map(|pid| usage::cpu_seconds_of_all(*pid)).sum()
    }

    /// Bytes of the server in physical memory.
    pub fn resident_bytes(&self) -> Result<u64> {
        usage::resident_bytes(self.pid)
    }

    /// Bytes that its data takes on the disk.
    ///
    /// # Errors
    /// A cluster's is not looked at.
    pub fn disk_bytes(&self) -> Result<u64> {
        match &self.body {
            Body::Alone { folder, .. } => usage::disk_bytes(folder.path()),
            Body::Cluster { .. } => bail!("the data of a cluster is not looked at"),
        }
    }

    /// Whether it is redis-server, which the others are compared with.
    pub fn is_redis(&self) -> bool {
        matches!(self.system.kind, Kind::Redis)
    }
}

/// The version as INFO says it.
fn version(info: &str, kind: Kind) -> String {
    let names: &[&str] = match kind {
        Kind::Holdfast | Kind::Cluster(_) => &["holdfast_version:", "redis_version:"],
        Kind::Redis => &["redis_version:"],
        Kind::Kvrocks => &["kvrocks_version:", "version:"],
    };
    let found = names.iter().find_map(|name| info.split_once(name));
    let text = found.map_or("unknown", |(_, rest)| rest);
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c)).collect()
}
