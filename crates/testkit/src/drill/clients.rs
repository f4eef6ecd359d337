//! The clients of one run, behind the load balancers of a site of the torture, and what they saw.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value as Json;

use super::outcome::{Acknowledged, Outcome};
use super::writer::{self, Reader, Writer};
use crate::torture::rest;
use crate::torture::site::Site;
use crate::wait;

const WRITERS: usize = 2;
const READERS: usize = 2;
/// Of one question to the controllers, and until one of them answers.
const ASK_PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);
/// A write that was on its way when a fault began is not one that was made after it.
const ON_ITS_WAY: Duration = Duration::from_millis(5);

/// Writers and readers of the first shard.
#[derive(Debug)]
pub struct Clients {
    space: String,
    address: SocketAddr,
    writers: Vec<Writer>,
    readers: Vec<Reader>,
}

impl Clients {
    /// Begins to write keys `<prefix>:<writer>:<number>`, and to read.
    ///
    /// # Errors
    /// The shard has no address.
    pub fn start(site: &Site, prefix: &str) -> Result<Self> {
        let (space, address) = (site.network.clients.name().to_owned(), site.announced(0, 0)?);
        let writer = |number| Writer::start(&space, address, format!("{prefix}:{number}"));
        let writers = (0..WRITERS).map(writer).collect();
        let reader = |_| Reader::start(&space, address, "probe".to_owned());
        let readers = (0..READERS).map(reader).collect();
        Ok(Self { space, address, writers, readers })
    }

    /// The last of the writes by which each writer has written again since a moment, through
    /// another node than `not_by`, if one is named. `None`: one of them has not.
    pub fn again(&self, since: Instant, not_by: Option<&str>) -> Option<Acknowledged> {
        let is_again = |write: &Acknowledged| {
            write.sent > since + ON_ITS_WAY && not_by.is_none_or(|old| write.by != old)
        };
        let of_each = self.writers.iter().map(|writer| writer.last().filter(is_again));
        let again: Option<Vec<Acknowledged>> = of_each.collect();
        again?.into_iter().max_by_key(|write| write.at)
    }

    /// Ends them, and looks for everything that was acknowledged. `old` was master before.
    ///
    /// # Errors
    /// A client panicked, or what was written cannot be looked for.
    pub fn finish(self, old: &str) -> Result<Outcome> {
        let logs = self.writers.into_iter().map(Writer::finish).collect::<Result<Vec<_>>>()?;
        let end = logs.iter().filter_map(|log| log.acknowledged.last()).map(|write| write.at).max();
        let mut reads = Vec::new();
        for reader in self.readers {
            reads.extend(reader.finish()?);
        }
        let mut outcome = Outcome::of(&logs, &reads, old, end.unwrap_or_else(Instant::now));
        let keys: Vec<&str> =
            logs.iter().flat_map(|log| &log.acknowledged).map(|write| write.key.as_str()).collect();
        outcome.missing = writer::missing(&self.space, self.address, &keys)?;
        Ok(outcome)
    }
}

/// Id of the master of the first shard, as the controller that leads knows it.
///
/// # Errors
/// Nobody tells it within 20 s.
pub fn master(site: &Site) -> Result<String> {
    wait::until("a controller names the master", PATIENCE, || ask_master(site))
}

fn ask_master(site: &Site) -> Result<String> {
    let status = site.control().once(ASK_PATIENCE, rest::Client::status)?;
    let nodes = status.pointer("/shards/0/nodes").and_then(Json::as_array);
    let is_master = |node: &&Json| node.get("role").and_then(Json::as_str) == Some("master");
    let master = nodes.and_then(|nodes| nodes.iter().find(is_master));
    let id = master.and_then(|node| node.get("id")).and_then(Json::as_str);
    id.map(str::to_owned).context("the controller names no master")
}
