//! A node that is killed and comes back in its folder, at its port.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::process::{self, Server};
use crate::wire::Connection;

/// See the module.
#[derive(Debug)]
pub struct Restartable {
    /// Where it listens.
    pub port: u16,
    lines: String,
    server: Option<Server>,
    folder: tempfile::TempDir,
}

impl Restartable {
    /// Starts one with these lines of configuration, in a folder of its own.
    pub fn start(lines: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("create a folder")?;
        let port = process::free_port()?;
        let mut node = Self { port, lines: lines.to_owned(), server: None, folder };
        node.up()?;
        Ok(node)
    }

    /// Starts it again.
    pub fn up(&mut self) -> Result<()> {
        self.server = Some(Server::node_at(self.folder.path(), self.port, &self.lines)?);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.server.take().context("a running node")?.kill()
    }

    /// SIGKILL, and a start with another configuration.
    pub fn restart_with(&mut self, lines: &str) -> Result<()> {
        self.kill()?;
        std::fs::remove_file(self.dir().join("node.conf")).context("remove node.conf")?;
        self.lines = lines.to_owned();
        self.up()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) -> Result<()> {
        process::signal(self.server()?.process().pid(), signal)
    }

    /// The process and what it said; an error while it is down.
    pub fn server(&self) -> Result<&Server> {
        self.server.as_ref().context("a running node")
    }

    /// True between a start and a kill.
    pub fn is_up(&self) -> bool {
        self.server.is_some()
    }

    /// A new connection.
    pub fn connect(&self) -> Result<Connection> {
        self.server()?.connect()
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }
}
