//! Network namespaces: addresses and routes of a test's own. Needs root (CAP_SYS_ADMIN,
//! CAP_NET_ADMIN).

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::Process;

/// A namespace; removed with its handle.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates one with its loopback up.
    pub fn create(purpose: &str) -> Result<Self> {
        Self::named(format!("hf-{purpose}-{}", std::process::id()))
    }

    /// The same with a name of the caller's.
    pub fn named(name: String) -> Result<Self> {
        let namespace = Self { name };
        ip(&["netns", "add", &namespace.name])
            .context("create a network namespace (this test needs root)")?;
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Gives its loopback another address.
    pub fn own(&self, address: &str) -> Result<()> {
        self.ip(&["address", "add", &format!("{address}/32"), "dev", "lo"])
    }

    /// A cable to another namespace, with an address at each end.
    pub fn connect(&self, here: &str, other: &Self, there: &str) -> Result<()> {
        let (near, far) = ("hf-near", "hf-far");
        self.ip(&["link", "add", near, "type", "veth", "peer", "name", far, "netns", &other.name])?;
        self.ip(&["address", "add", here, "dev", near])?;
        other.ip(&["address", "add", there, "dev", far])?;
        self.ip(&["link", "set", near, "up"])?;
        other.ip(&["link", "set", far, "up"])
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Several `ip` commands inside, one per line, by one process.
    pub fn ip_batch(&self, lines: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-batch", "-"]);
        feed(command, lines)
    }

    /// A program inside, to its end, with this text as its input.
    pub fn feed(&self, program: &str, arguments: &[&str], input: &str) -> Result<()> {
        let mut command = self.command(program);
        command.args(arguments);
        feed(command, input)
    }

    /// `ip …` inside.
    pub fn ip(&self, arguments: &[&str]) -> Result<()> {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend(arguments);
        ip(&all)
    }

    /// A program inside, to its end; returns what it printed.
    pub fn run<A: AsRef<OsStr>>(&self, program: &str, arguments: &[A]) -> Result<String> {
        let output = self
            .command(program)
            .args(arguments)
            .output()
            .with_context(|| format!("run {program} in {}", self.name))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program}: {}: {text}{errors}", output.status);
        Ok(text)
    }

    /// A program inside, in the background.
    pub fn start<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: &[A],
        log: &Path,
    ) -> Result<Process> {
        let mut command = self.command(&program.to_string_lossy());
        command.args(arguments);
        Process::start_command(command, log)
    }

    /// The command that runs a program inside; it becomes the program, so the pid is the program's.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

/// Moves the calling thread, with every socket it opens from now on, into a namespace.
#[expect(unsafe_code, reason = "std cannot change the namespace of a thread")]
pub fn enter(name: &str) -> Result<()> {
    let path = Path::new("/run/netns").join(name);
    let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    // SAFETY: setns takes a descriptor, which is that of a live file, and a flag; it touches no
    // memory.
    if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("enter {name}"));
    }
    Ok(())
}

/// Runs something in a namespace, on a thread of its own, and waits for it.
pub fn inside<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| enter(name).and_then(|()| work()));
        thread.join().unwrap_or_else(|_| bail!("a thread in {name} panicked"))
    })
}

fn feed(mut command: Command, input: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {command:?}"))?;
    let mut stdin = child.stdin.take().context("feed a child")?;
    stdin.write_all(input.as_bytes()).with_context(|| format!("feed {command:?}"))?;
    drop(stdin);
    let output = child.wait_with_output().with_context(|| format!("await {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {errors}");
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("run ip")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {errors}", arguments.join(" "));
    Ok(())
}
