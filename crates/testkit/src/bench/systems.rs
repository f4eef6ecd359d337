//! The servers that are measured: started here, each alone in a folder, all of them up for the
//! whole run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Holdfast,
    Redis,
    Kvrocks,
}

/// One that runs.
#[derive(Debug)]
pub struct Running {
    /// What it is.
    pub system: System,
    /// As it says itself.
    pub version: String,
    /// Where it listens.
    pub port: u16,
    process: Process,
    _folder: tempfile::TempDir,
    _replica: Option<Box<Running>>,
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

    /// The same with a second one of its kind that follows it.
    #[must_use]
    pub fn with_replica(self) -> Self {
        Self { has_replica: true, ..self }
    }

    /// What stands behind the program's name.
    pub fn described(&self) -> String {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let options = options.join(" ").replace("--save  ", "--save '' ");
        let options = if options.is_empty() { "defaults".into() } else { options };
        if self.has_replica { format!("{options}; a replica follows") } else { options }
    }

    /// Starts it, and its replica, and waits until they answer.
    pub fn start(self) -> Result<Running> {
        let replica = self.has_replica.then(|| Self { has_replica: false, ..self.clone() });
        let mut running = self.start_alone()?;
        if let Some(replica) = replica {
            let replica = replica.start_alone()?;
            replica.follow(running.port)?;
            running._replica = Some(Box::new(replica));
        }
        Ok(running)
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
        }
        let mut process = Process::start_command(command, &folder.path().join("log"))?;
        let info = wait::until("a server answers INFO", START_PATIENCE, || {
            if let Some(status) = process.ended()? {
                bail!("it ended with {status}: {}", process.log());
            }
            let reply =
                Connection::open(([127, 0, 0, 1], port).into())?.call(&["INFO", "server"])?;
            Ok(reply.text())
        })?;
        let version = version(&info, self.kind);
        Ok(Running { system: self, version, port, process, _folder: folder, _replica: None })
    }
}

impl Running {
    /// Becomes a replica of another one, and waits until it has what that has.
    fn follow(&self, master: u16) -> Result<()> {
        let mut connection = Connection::open(([127, 0, 0, 1], self.port).into())?;
        let reply = connection.call(&["REPLICAOF", "127.0.0.1", &master.to_string()])?;
        if reply.error_code().is_some() {
            bail!("REPLICAOF was answered with {}", reply.text());
        }
        wait::until("a replica follows", START_PATIENCE, || {
            let info = connection.call(&["INFO", "replication"])?.text();
            if info.contains("master_link_status:up") { Ok(()) } else { bail!("it said {info}") }
        })
    }

    /// Processor time of all its threads so far, in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let path = format!("/proc/{}/stat", self.process.pid());
        let stat = std::fs::read_to_string(Path::new(&path)).context("read what a server used")?;
        // The name before the numbers may hold blanks.
        let numbers = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 =
            numbers.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
        // What the kernel counts for programs in is 1/100 s on every Linux there is.
        Ok(ticks as f64 / 100.0)
    }
}

/// The version as INFO says it.
fn version(info: &str, kind: Kind) -> String {
    let names: &[&str] = match kind {
        Kind::Holdfast => &["holdfast_version:", "redis_version:"],
        Kind::Redis => &["redis_version:"],
        Kind::Kvrocks => &["kvrocks_version:", "version:"],
    };
    let found = names.iter().find_map(|name| info.split_once(name));
    let text = found.map_or("unknown", |(_, rest)| rest);
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c)).collect()
}
