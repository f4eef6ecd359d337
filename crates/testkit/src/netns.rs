//! Network namespaces: addresses and routes of a test's own. Needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN).

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::process::Process;

/// A namespace; removed with its handle.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates one with its loopback up.
    pub fn create(purpose: &str) -> Result<Self> {
        let namespace = Self { name: format!("hf-{purpose}-{}", std::process::id()) };
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
        // `ip netns exec` becomes the program, so the pid is the program's.
        let mut command = self.command(&program.to_string_lossy());
        command.args(arguments);
        Process::start_command(command, log)
    }

    fn command(&self, program: &str) -> Command {
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

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("run ip")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {errors}", arguments.join(" "));
    Ok(())
}
