//! SIGHUP: the log is opened again, and what is live in the configuration file is taken from it.
//! SIGUSR1: the log is opened again, and nothing else, so that the rotation of logs takes no file
//! that somebody is about to change, and leaves alone what CONFIG SET said.
//!
//! The command line still wins over the file. What CONFIG SET changed since goes back to what the
//! file says: CONFIG REWRITE keeps it. A file with an error changes nothing.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use web::supervisor;

use crate::config::load::{self, Request};
use crate::config::value::LogDir;
use crate::config::{OPTIONS, Values};
use crate::families::server::{change_options, is_of_tls};
use crate::log::Log;
use crate::node::Node;

/// What tells a node to look at its files again. Neither ends the process from when it is listened
/// for.
pub(crate) struct Signals {
    hangup: Signal,
    reopen: Signal,
}

impl Signals {
    /// Must be called inside a runtime.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup()).context("handle SIGHUP")?,
            reopen: signal(SignalKind::user_defined1()).context("handle SIGUSR1")?,
        })
    }

    /// Does what each asks for, one after the other.
    pub(crate) async fn obey(mut self, node: Arc<Node>, again: Reload) {
        let again = Arc::new(again);
        loop {
            let is_reload = tokio::select! {
                Some(()) = self.hangup.recv() => true,
                Some(()) = self.reopen.recv() => false,
                else => return,
            };
            let (again, node) = (Arc::clone(&again), Arc::clone(&node));
            if is_reload {
                supervisor::reloading();
            }
            // On a thread of its own: the file's disk may hang.
            let done = tokio::task::spawn_blocking(move || match is_reload {
                true => again.run(&node),
                false => again.reopen(&node),
            });
            if let Err(error) = done.await {
                tracing::error!(%error, is_reload, "the files of this node were not read again");
            }
            if is_reload {
                supervisor::ready();
            }
        }
    }
}

/// What it takes to read the configuration again.
pub(crate) struct Reload {
    /// The command line of the start.
    pub(crate) arguments: Vec<String>,
    pub(crate) log: Arc<dyn Log>,
    /// `rocksdb.max_open_files` as the file had it, before it was fitted into the limit of the
    /// process.
    pub(crate) tables: i32,
}

/// Puts the log where `log-dir` says.
pub(crate) fn direct(log: &dyn Log, dir: &LogDir) -> anyhow::Result<()> {
    if let Some(folder) = &dir.folder {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("option `log-dir`: make {}", folder.display()))?;
    }
    log.direct(dir.file().as_deref(), dir.is_stdout).context("option `log-dir`")
}

impl Reload {
    fn reopen(&self, node: &Node) {
        match direct(&*self.log, &node.config.now().log_dir) {
            Ok(()) => tracing::info!("SIGUSR1: log opened again"),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "SIGUSR1: the log stays where it is");
            }
        }
    }

    fn run(&self, node: &Arc<Node>) {
        let now = node.config.now();
        if let Err(error) = direct(&*self.log, &now.log_dir) {
            tracing::error!(error = format!("{error:#}"), "SIGHUP: the log stays where it is");
        }
        if node.config.file.is_none() {
            renew(node);
            tracing::info!("SIGHUP: log opened again; there is no configuration file to read");
            return;
        }
        let loaded = match load::load(&self.arguments) {
            Ok(Request::Start(loaded)) => loaded,
            // These arguments started a node.
            Ok(_) => return,
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                tracing::error!(error, "SIGHUP: the configuration stays as it is");
                renew(node);
                return;
            }
        };
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let mut read = loaded.values;
        self.fit(node, &now, &mut read);
        let differences = Differences::between(&now, &read);
        if !differences.restart.is_empty() {
            tracing::warn!(options = ?differences.restart, "in force only after a restart");
        }
        // With them what they name is read.
        if !differences.pairs().iter().any(|(name, _)| is_of_tls(name)) {
            renew(node);
        }
        match change_options(node, node.config.change(), &differences.pairs(), "SIGHUP") {
            Ok(()) => tracing::info!(
                changed = ?differences.live.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
                "SIGHUP: configuration read again"
            ),
            Err(error) => {
                tracing::error!(%error, "SIGHUP: the configuration stays as it is");
            }
        }
    }
}

/// Reads the certificate that the options in force name: files of the same name may hold others.
fn renew(node: &Node) {
    if let Err(fault) = node.tls.renew(&node.config) {
        tracing::error!(%fault, "SIGHUP: the certificate stays the one that was read before");
    }
}

impl Reload {
    /// What the limit of the process allowed of the file at the start is no difference now.
    fn fit(&self, node: &Node, now: &Values, read: &mut Values) {
        let most = node.descriptors.most_clients(read.maxclients);
        read.maxclients = read.maxclients.min(u32::try_from(most).unwrap_or(u32::MAX));
        if read.rocksdb_max_open_files == self.tables {
            read.rocksdb_max_open_files = now.rocksdb_max_open_files;
        }
    }
}

/// In what a file that was read again differs from what is in force.
#[derive(Debug, PartialEq, Eq)]
struct Differences {
    /// Live options with their new values.
    live: Vec<(&'static str, String)>,
    restart: Vec<&'static str>,
}

impl Differences {
    fn between(now: &Values, read: &Values) -> Self {
        let mut found = Self { live: Vec::new(), restart: Vec::new() };
        let mut all_options = now.clone();
        for option in OPTIONS {
            let Some(text) = read.get(option.name) else { continue };
            if now.get(option.name).as_ref() == Some(&text) {
                continue;
            }
            // What was read once can be read again.
            let _ = all_options.set(option.name, &text);
            if option.is_live {
                found.live.push((option.name, text));
            } else {
                found.restart.push(option.name);
            }
        }
        // The one thing in a file that is no option.
        if all_options != *read {
            found.restart.push("rename-command");
        }
        found
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        self.live.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(lines: &[(&str, &str)]) -> Values {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.conf");
        let text: String = lines.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
        std::fs::write(&path, text).unwrap();
        let arguments = ["-c".to_owned(), path.display().to_string()];
        match load::load(&arguments).unwrap() {
            Request::Start(loaded) => loaded.values,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn live_options_are_told_from_those_that_need_a_restart() {
        let now = values(&[("port", "7000"), ("requirepass", "old"), ("timeout", "5")]);
        assert_eq!(Differences::between(&now, &now).pairs(), []);
        let read = values(&[
            ("port", "7001"),
            ("requirepass", "new"),
            ("log-level", "debug"),
            ("rename-command", "keys \"\""),
        ]);
        let found = Differences::between(&now, &read);
        assert_eq!(found.restart, ["port", "rename-command"]);
        let mut live = found.pairs();
        live.sort_unstable();
        assert_eq!(live, [("log-level", "debug"), ("requirepass", "new"), ("timeout", "0")]);
    }
}
