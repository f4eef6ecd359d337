//! Real processes: started with their output in a file, signalled by pid, killed when the handle
//! goes.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::ports::{self, Range};
use crate::wait;
use crate::wire::Connection;

/// Time to come up: a cold machine with two cores and a dozen processes.
pub const START_PATIENCE: Duration = Duration::from_secs(60);
/// Time to end: what is behind a busy disk, or shares two processors with many others, takes longer
/// than it would alone.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test: `HOLDFAST_BIN`, or the one beside the running test.
pub fn holdfast() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("HOLDFAST_BIN") {
        return Ok(path.into());
    }
    sibling("holdfast")
}

/// A program that was built beside the running test.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("find the running test")?;
    // target/release/deps/<test> → target/release/<name>
    let path = test.ancestors().nth(2).context("find the target folder")?.join(name);
    if !path.exists() {
        bail!("{} is not there: cargo build --release --workspace --bins", path.display());
    }
    Ok(path)
}

/// A child that is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program; its output goes to the file `log`.
    pub fn start<A: AsRef<OsStr>>(program: &Path, arguments: &[A], log: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::start_command(command, log)
    }

    /// The same for a command with more to it.
    pub fn start_command(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("open {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("share the log")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {:?}", command.get_program()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// None while it runs.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("look after a child")
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().context("kill a child")?;
        self.child.wait().context("wait for a killed child").map(|_| ())
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        signal(self.pid(), libc::SIGTERM)?;
        wait::until("the end of a process", STOP_PATIENCE, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(other),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a child that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal. A process that is told to stop has stopped when this returns: until the thread
/// that takes the signal gets a processor, the others go on, and a replica may acknowledge what was
/// written since.
pub fn signal(pid: u32, signal: i32) -> Result<()> {
    let to = libc::pid_t::try_from(pid).context("a pid")?;
    send(to, signal).with_context(|| format!("send signal {signal} to {pid}"))?;
    if signal != libc::SIGSTOP {
        return Ok(());
    }
    wait::until("a process to stop", STOP_PATIENCE, || {
        let threads = threads(pid);
        // One that waits for its disk stops before it runs again, once the process does at all.
        // Of several that all wait for it, another one than that which takes the signal may go on
        // first; one alone, as in a process that is just starting, cannot.
        let is_disk_all = threads.len() > 1 && threads.contains('D') && !threads.contains('T');
        let goes_on = threads.contains(|state| !"TtDZX".contains(state));
        ensure!(!goes_on && !is_disk_all, "its threads are {threads}");
        Ok(())
    })
}

/// The states of a process' threads, a letter each.
fn threads(pid: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let state = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        stat.rsplit(')').next()?.trim_start().chars().next()
    };
    tasks.filter_map(state).collect()
}

/// Sends a signal to a process group.
pub fn signal_group(leader: u32, signal: i32) -> Result<()> {
    let group = libc::pid_t::try_from(leader).context("a pid")?;
    send(-group, signal).with_context(|| format!("send signal {signal} to the group of {leader}"))
}

#[expect(unsafe_code, reason = "std sends no signal but SIGKILL to its own children")]
fn send(to: libc::pid_t, signal: i32) -> std::io::Result<()> {
    if to == 0 {
        // To the kernel that is this process and all others of its group: the whole run.
        return Err(std::io::Error::other("0 is no process"));
    }
    // SAFETY: kill takes two integers and touches no memory.
    match unsafe { libc::kill(to, signal) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// As many files and connections as the system lets this test have: crowds of clients need more
/// than is usual.
#[expect(unsafe_code, reason = "std has no getrlimit and no setrlimit")]
pub fn raise_open_files() -> Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a whole `rlimit` of ours, which the call fills.
    let told = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer is to a whole `rlimit` of ours, which the call only reads.
    if told != 0 || unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(std::io::Error::last_os_error()).context("raise the limit of open files");
    }
    Ok(limit.rlim_cur)
}

/// A command that runs under limits of open files, as `ulimit` sets them.
pub fn under_limit(program: &Path, soft: u64, hard: u64) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={soft}:{hard}")).arg("--").arg(program);
    command
}

/// Whether a process has set up what it does on a signal; one that has not ends by most of them.
pub fn catches(pid: u32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| signal > 0 && mask >> (signal - 1) & 1 == 1)
}

/// True while a process of this id exists and is no zombie. A first thread that is a zombie says
/// nothing yet: the others hold the sockets until they have ended too.
pub fn is_alive(pid: u32) -> bool {
    let is_zombie = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().unwrap_or_default().trim().starts_with('Z'));
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))
        .map_or(0, |threads| threads.flatten().count());
    threads > usize::from(is_zombie)
}

/// A server that speaks RESP, alone, in a folder of its own.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its data.
    pub dir: PathBuf,
    process: Process,
    _folder: Option<tempfile::TempDir>,
}

impl Server {
    /// A `holdfast node` with a configuration file of these lines, on a free port, in a temporary
    /// folder.
    pub fn node(lines: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("create a folder")?;
        let mut server = Self::node_at(folder.path(), free_port()?, lines)?;
        server._folder = Some(folder);
        Ok(server)
    }

    /// The same in a given folder, on a given port.
    pub fn node_at(dir: &Path, port: u16, lines: &str) -> Result<Self> {
        let config = dir.join("node.conf");
        // CONFIG REWRITE may have changed the file: at a restart it stays as the node left it.
        if !config.exists() {
            let text = format!("bind 127.0.0.1\nport {port}\ndir {}\n{lines}\n", dir.display());
            std::fs::write(&config, text).context("write node.conf")?;
        }
        let arguments = [OsStr::new("node"), OsStr::new("-c"), config.as_os_str()];
        Self::start(&holdfast()?, &arguments, dir, port)
    }

    /// A `holdfast node` under a soft and a hard limit of open files.
    pub fn node_under_limit(soft: u64, hard: u64, lines: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("create a folder")?;
        let (dir, port) = (folder.path(), free_port()?);
        let config = dir.join("node.conf");
        let text = format!("bind 127.0.0.1\nport {port}\ndir {}\n{lines}\n", dir.display());
        std::fs::write(&config, text).context("write node.conf")?;
        let mut command = under_limit(&holdfast()?, soft, hard);
        command.args([OsStr::new("node"), OsStr::new("-c"), config.as_os_str()]);
        let mut server = Self::start_command(command, dir, port)?;
        server._folder = Some(folder);
        Ok(server)
    }

    /// Debian's redis-server, nothing stored.
    pub fn redis() -> Result<Self> {
        let folder = tempfile::tempdir().context("create a folder")?;
        let port = free_port()?;
        let text = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nsave \"\"\nenable-debug-command yes\n",
            folder.path().display()
        );
        let config = folder.path().join("redis.conf");
        std::fs::write(&config, text).context("write redis.conf")?;
        let mut server =
            Self::start(Path::new("redis-server"), &[config.as_os_str()], folder.path(), port)?;
        server._folder = Some(folder);
        Ok(server)
    }

    fn start(program: &Path, arguments: &[&OsStr], dir: &Path, port: u16) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::start_command(command, dir, port)
    }

    fn start_command(command: Command, dir: &Path, port: u16) -> Result<Self> {
        let mut process = Process::start_command(command, &dir.join("log"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let ended = wait::until("a server answers PING", START_PATIENCE, || {
            // One that has ended answers nobody any more: nothing is left to wait for.
            match process.ended()? {
                Some(status) => Ok(Some(status)),
                None => Connection::open(address)?.call(&["PING"]).map(|_| None),
            }
        })?;
        if let Some(status) = ended {
            bail!("a server that was to answer PING ended with {status}: {}", process.log());
        }
        Ok(Self { address, dir: dir.to_owned(), process, _folder: None })
    }

    /// A new connection.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(self.address)
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its process, to look after.
    pub fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGKILL.
    pub fn kill(self) -> Result<()> {
        self.process.kill()
    }

    /// SIGTERM; returns how it ended.
    pub fn terminate(self) -> Result<ExitStatus> {
        self.process.terminate()
    }
}

/// Becomes true on Ctrl-C or SIGTERM, for a program that ends when it has put back what it changed:
/// namespaces and processes go with it.
pub fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            told.store(true, Ordering::Relaxed);
        });
    });
    Ok(stop)
}

/// A port of a range that is this process's own: not one that an outgoing connection or another
/// test may be given before the server that is to have it listens.
pub fn free_port() -> Result<u16> {
    static MINE: Mutex<(Vec<Range>, u16)> = Mutex::new((Vec::new(), 0));
    let mut mine = MINE.lock().unwrap_or_else(PoisonError::into_inner);
    let (ranges, used) = &mut *mine;
    loop {
        let base = match ranges.last() {
            Some(range) if *used < ports::RANGE => range.base,
            _ => {
                // Those that are used up stay ours: their servers may still run.
                ranges.push(Range::take()?);
                *used = 0;
                continue;
            }
        };
        let port = base + *used;
        *used += 1;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
}
