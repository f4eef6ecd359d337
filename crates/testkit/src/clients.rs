//! The programs under `tests/clients`: real client libraries, each told where to begin and how many
//! keys to write.
//!
//! Each writes keys over all slots, reads them back, and prints `ok <written> <masters>`; what it
//! was shown of the cluster is its own library's view. Told to go on, it prints `pass <errors>`
//! whenever it has written and read them all once more. With `types RESP` in place of the keys it
//! runs its library's examples of the types, and prints `ok types`. With a CA in the environment it
//! speaks TLS, and knows servers by it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::process::{self, Process};

/// Where a program finds the CA by which it knows servers.
const CA: &str = "CLIENT_CA";

/// A client program that is installed here.
#[derive(Debug)]
pub struct Client {
    /// Name of the library.
    pub name: &'static str,
    /// Versions of RESP in which it has examples of the types.
    pub examples: &'static [u32],
    program: PathBuf,
    arguments: Vec<PathBuf>,
    /// It can be told a CA.
    can_speak_tls: bool,
    /// It speaks TLS, and knows servers by this file.
    ca: Option<PathBuf>,
}

/// Where `scripts/client-libraries` puts things.
fn folder() -> PathBuf {
    if let Some(path) = std::env::var_os("HOLDFAST_CLIENTS") {
        return path.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    cache.join("holdfast/clients")
}

/// The client programs in the source tree.
fn sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients")
}

/// All clients, whether their libraries are here or not.
fn all() -> Result<Vec<Client>> {
    let (folder, sources) = (folder(), sources());
    Ok(vec![
        Client {
            name: "redis-cli",
            examples: &[],
            program: sources.join("cli/client.sh"),
            arguments: vec![],
            can_speak_tls: true,
            ca: None,
        },
        Client {
            name: "redis-crate",
            examples: &[],
            program: process::sibling("redis-crate-client")?,
            arguments: vec![],
            // It is built without.
            can_speak_tls: false,
            ca: None,
        },
        Client {
            name: "redis-py",
            examples: &[2, 3],
            program: folder.join("python/bin/python"),
            arguments: vec![sources.join("python/client.py")],
            can_speak_tls: true,
            ca: None,
        },
        Client {
            name: "ioredis",
            // It speaks no other version.
            examples: &[2],
            program: "node".into(),
            arguments: vec![folder.join("node/client.js")],
            can_speak_tls: true,
            ca: None,
        },
        Client {
            name: "go-redis",
            examples: &[2, 3],
            program: folder.join("go-client"),
            arguments: vec![],
            can_speak_tls: true,
            ca: None,
        },
        Client {
            name: "jedis",
            examples: &[2, 3],
            program: "java".into(),
            arguments: vec!["-jar".into(), folder.join("java/target/client.jar")],
            can_speak_tls: true,
            ca: None,
        },
    ])
}

/// The clients whose libraries are installed here. The others are named on standard error; in CI,
/// where every one of them has to run, they are an error.
pub fn installed() -> Result<Vec<Client>> {
    present(all()?)
}

/// Those of them that speak TLS, with servers that this CA vouches for.
pub fn over_tls(ca: &Path) -> Result<Vec<Client>> {
    let mut clients = installed()?;
    clients.retain(|client| client.can_speak_tls);
    for client in &mut clients {
        client.ca = Some(ca.to_owned());
    }
    Ok(clients)
}

/// Programs that need to know nothing but where to begin, and print a line that begins with `ok`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Application {
    /// Documents with node-redis.
    Documents,
    /// Jobs with BullMQ.
    Jobs,
    /// Tasks with Celery, for a single shard.
    Tasks,
    /// Channels with Lettuce.
    Channels,
    /// Locks with Redisson.
    Locks,
}

/// `None` where its library is not installed.
pub fn application(of: Application) -> Result<Option<Client>> {
    let (folder, sources) = (folder(), sources());
    let client = |name, program: PathBuf, arguments| Client {
        name,
        examples: &[],
        program,
        arguments,
        can_speak_tls: false,
        ca: None,
    };
    let node = |name, file| client(name, "node".into(), vec![folder.join("node").join(file)]);
    let java = |name, class: &str| {
        let jar = folder.join("java/target/client.jar");
        client(name, "java".into(), vec!["-cp".into(), jar, class.into()])
    };
    let client = match of {
        Application::Documents => node("node-redis", "json.js"),
        Application::Jobs => node("BullMQ", "bullmq.js"),
        Application::Tasks => client(
            "Celery",
            folder.join("python/bin/python"),
            vec![sources.join("python/celery_jobs.py")],
        ),
        Application::Channels => java("Lettuce", "Channels"),
        Application::Locks => java("Redisson", "Locks"),
    };
    Ok(present(vec![client])?.pop())
}

fn present(clients: Vec<Client>) -> Result<Vec<Client>> {
    let is_there = |client: &Client| {
        let files = client.arguments.iter().filter(|argument| argument.is_absolute());
        let program = Some(&client.program).filter(|program| program.is_absolute());
        files.chain(program).all(|path| path.exists())
    };
    let (present, missing): (Vec<Client>, Vec<Client>) = clients.into_iter().partition(is_there);
    let missing: Vec<&str> = missing.iter().map(|client| client.name).collect();
    if !missing.is_empty() {
        let is_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        ensure!(!is_ci, "not installed: {missing:?}; scripts/client-libraries says why");
        // Not through eprintln!, which the test harness swallows when the test succeeds.
        writeln!(std::io::stderr(), "\nNOT TESTED, not installed: {missing:?}\n")
            .context("write to standard error")?;
    }
    Ok(present)
}

impl Client {
    fn command(&self, start: SocketAddr, keys: u32) -> Command {
        let mut command = self.begun(start);
        command.arg(keys.to_string());
        command
    }

    fn begun(&self, start: SocketAddr) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args([start.ip().to_string(), start.port().to_string()]);
        command.envs(self.ca.as_ref().map(|ca| (CA, ca)));
        command
    }

    /// Writes and reads `keys` keys; returns how many masters the library wrote to.
    pub fn run(&self, start: SocketAddr, keys: u32) -> Result<u32> {
        let output = self
            .command(start, keys)
            .output()
            .with_context(|| format!("run the {} client", self.name))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let words: Vec<&str> = said.lines().last().unwrap_or_default().split(' ').collect();
        ensure!(
            output.status.success() && words.len() == 3 && words.first() == Some(&"ok"),
            "{} ended with {}: {said}{}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let written: u32 = words.get(1).unwrap_or(&"").parse().context("read the count")?;
        ensure!(written == keys, "{} wrote {written} of {keys} keys", self.name);
        words.get(2).unwrap_or(&"").parse().context("read the number of masters")
    }

    /// Runs a program that needs to know nothing but where to begin; returns the last line it
    /// prints.
    pub fn run_at(&self, start: SocketAddr) -> Result<String> {
        let output = self.command(start, 0).output();
        let output = output.with_context(|| format!("run the {} program", self.name))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{} ended with {}: {said}{errors}",
            self.name,
            output.status
        );
        Ok(said.lines().last().unwrap_or_default().to_owned())
    }

    /// Runs its library's ordinary examples of the types in a version of RESP.
    pub fn run_examples(&self, start: SocketAddr, resp: u32) -> Result<()> {
        let mut command = self.begun(start);
        command.args(["types", &resp.to_string()]);
        let output = command.output().with_context(|| format!("run the {} client", self.name))?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && said.lines().last() == Some("ok types"),
            "{} with RESP{resp} ended with {}: {said}{}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Writes and reads `keys` keys over and over, at most for `longest`; ends with the handle.
    pub fn start(
        &self,
        start: SocketAddr,
        keys: u32,
        longest: Duration,
        folder: &Path,
    ) -> Result<Running> {
        let mut command = self.command(start, keys);
        command.arg(longest.as_secs().to_string());
        let log = folder.join(format!("{}.log", self.name));
        let process = Process::start_command(command, &log)
            .with_context(|| format!("start the {} client", self.name))?;
        Ok(Running { name: self.name, process })
    }
}

/// A client that goes on and on.
#[derive(Debug)]
pub struct Running {
    /// Name of the library.
    pub name: &'static str,
    process: Process,
}

impl Running {
    /// The number of errors in each pass that was completed.
    pub fn passes(&mut self) -> Result<Vec<u32>> {
        if let Some(status) = self.process.ended()? {
            anyhow::bail!("{} ended with {status}: {}", self.name, self.process.log());
        }
        let said = self.process.log();
        let passes = said.lines().filter_map(|line| line.strip_prefix("pass "));
        passes.map(|errors| errors.parse().with_context(|| format!("read {errors:?}"))).collect()
    }

    /// The end of what it said.
    pub fn said(&self) -> String {
        let said = self.process.log();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}
