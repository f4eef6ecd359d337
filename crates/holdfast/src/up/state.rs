//! `cluster.json`: where everything is, for scripts and tests.
//!
//! Readers find a whole file or none: it is written beside, made durable and renamed.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Name of the file in the cluster's folder.
pub(crate) const FILE: &str = "cluster.json";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The first controller.
    pub(crate) controller: Controller,
    /// All of them.
    #[serde(default)]
    pub(crate) controllers: Vec<Controller>,
    /// Members of their etcd, if they have one.
    #[serde(default)]
    pub(crate) etcd: Vec<Controller>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) balancers: Vec<Balancer>,
}

/// Where the REST interface of a controller is, or a member of etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Controller {
    pub(crate) url: String,
    pub(crate) pid: Option<u32>,
}

/// A node as the controller's topology has it, with the process that runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    /// None while it is dead.
    pub(crate) pid: Option<u32>,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) admin_port: u16,
    pub(crate) shard: usize,
    pub(crate) role: Role,
    pub(crate) announced_host: Option<String>,
    pub(crate) announced_port: Option<u16>,
}

/// What the topology says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Master,
    Replica,
}

/// A load balancer instance; host and port are those of its own interface, if it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Balancer {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) pid: Option<u32>,
}

impl State {
    /// Replaces the file.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).context("render cluster.json")?;
        text.push('\n');
        replace(&dir.join(FILE), text.as_bytes(), 0o644)
    }

    /// The master of a shard.
    pub(crate) fn master(&self, shard: usize) -> Option<&Node> {
        self.nodes.iter().find(|node| node.shard == shard && node.role == Role::Master)
    }

    /// A replica of a shard, the first.
    pub(crate) fn replica(&self, shard: usize) -> Option<&Node> {
        self.nodes.iter().find(|node| node.shard == shard && node.role == Role::Replica)
    }
}

/// Writes a file so that it is there whole or not at all, and still there after a power failure.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let draft = path.with_extension("tmp");
        // A draft left by a crash may have another mode.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    write().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_documented_fields_and_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let state = State {
            controller: Controller { url: "http://127.0.0.1:7300".into(), pid: Some(1) },
            controllers: Vec::new(),
            etcd: Vec::new(),
            nodes: vec![Node {
                id: "a".repeat(40),
                pid: None,
                host: "127.0.0.1".into(),
                port: 7100,
                admin_port: 7200,
                shard: 0,
                role: Role::Master,
                announced_host: Some("127.0.0.1".into()),
                announced_port: Some(7000),
            }],
            balancers: vec![],
        };
        state.write(dir.path()).unwrap();
        state.write(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(text.contains(r#""role": "master""#) && text.contains(r#""pid": null"#), "{text}");
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
