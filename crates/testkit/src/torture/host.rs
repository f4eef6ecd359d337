//! A host: a namespace and the process in it, which is started, wounded and started again.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitStatus;

use anyhow::{Context as _, Result};

use super::network::Network;
use crate::process::{self, Process};

/// What runs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `holdfast controller`, by number.
    Controller(usize),
    /// A member of their etcd, by number.
    Member(usize),
    /// `holdfast node`, by number.
    Node(usize),
    /// HAProxy or `holdfast balancer`, by number.
    Balancer(usize),
}

/// A host.
#[derive(Debug)]
pub struct Host {
    /// As in reports.
    pub name: String,
    /// What runs there.
    pub role: Role,
    /// In the back network.
    pub address: Ipv4Addr,
    /// Its files.
    pub dir: PathBuf,
    /// What is run.
    pub program: PathBuf,
    /// With what.
    pub arguments: Vec<OsString>,
    /// Position of its place in the network.
    pub place: usize,
    /// True from the moment we kill it until we start it again: its end is no surprise then.
    pub is_down: bool,
    process: Option<Process>,
    is_stopped: bool,
}

impl Host {
    /// One that runs nothing yet.
    pub fn new(name: &str, role: Role, place: usize, address: Ipv4Addr, dir: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            role,
            address,
            dir,
            program: PathBuf::new(),
            arguments: Vec::new(),
            place,
            is_down: true,
            process: None,
            is_stopped: false,
        }
    }

    /// Starts its process, if none runs.
    pub fn start(&mut self, network: &Network) -> Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        use std::os::unix::process::CommandExt as _;
        let space = &network.places.get(self.place).context("find a host's place")?.space;
        let mut command = space.command(&self.program.to_string_lossy());
        // A group of its own: workers of HAProxy die with it, and Ctrl-C at the terminal is ours.
        command.args(&self.arguments).process_group(0);
        // A member of etcd would ask itself by way of a proxy that this machine may have.
        command.env("NO_PROXY", "*").env("no_proxy", "*");
        self.process = Some(Process::start_command(command, &self.log_path())?);
        (self.is_down, self.is_stopped) = (false, false);
        Ok(())
    }

    /// SIGKILL to all of it.
    pub fn kill(&mut self) -> Result<()> {
        self.is_down = true;
        let Some(process) = self.process.take() else { return Ok(()) };
        process::signal_group(process.pid(), libc::SIGKILL)?;
        process.kill()
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) -> Result<()> {
        self.is_down = true;
        self.process.take().map_or(Ok(()), |process| process.terminate().map(drop))
    }

    /// SIGSTOP.
    pub fn stop(&mut self) -> Result<()> {
        self.is_stopped = true;
        self.signal(libc::SIGSTOP)
    }

    /// SIGCONT.
    pub fn go_on(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_stopped) {
            return Ok(());
        }
        self.signal(libc::SIGCONT)
    }

    /// Any signal to its process; nothing where none runs.
    pub fn signal(&self, signal: i32) -> Result<()> {
        match &self.process {
            Some(process) => process::signal(process.pid(), signal),
            None => Ok(()),
        }
    }

    /// How it ended by itself, once.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let Some(status) = process.ended()? else { return Ok(None) };
        let leader = process.pid();
        self.process = None;
        self.is_down = true;
        // What is left of its group, such as workers of HAProxy; mostly nothing.
        let _ = process::signal_group(leader, libc::SIGKILL);
        Ok(Some(status))
    }

    /// The id of its process.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Whether its process runs and is not stopped.
    pub fn goes_on(&self) -> bool {
        self.process.is_some() && !self.is_stopped
    }

    /// Whether its process was stopped and has not gone on.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Whether a process runs.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Its threads, each with its name and where in the kernel it waits: for reports about what
    /// hangs.
    pub fn threads(&self) -> String {
        let Some(process) = &self.process else { return format!("{}: no process\n", self.name) };
        let tasks = format!("/proc/{}/task", process.pid());
        let mut text = format!("{}: pid {}\n", self.name, process.pid());
        for task in std::fs::read_dir(tasks).into_iter().flatten().flatten() {
            let read = |name: &str| {
                let text = std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
                text.trim().to_owned()
            };
            let (name, wait, call) = (read("comm"), read("wchan"), read("syscall"));
            text += &format!("  {name:<16} {wait:<28} {call}\n");
        }
        text
    }

    /// The output of all its processes; beside its folder, which may be a disk that is full and
    /// goes away.
    pub fn log_path(&self) -> PathBuf {
        self.dir.with_extension("log")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Fails only for what is gone.
        let _ = self.kill();
    }
}
