//! Watches the controllers' record while a run goes on: who is master of what under which version.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use serde_json::Value as Json;

use super::keys::{Key, Kind, Ranges, range, slot};
use super::movers::{owner, owners};
use super::rest::{self, Control};
use super::timeline::Timeline;
use crate::wait;

const POLL: Duration = Duration::from_millis(30);
const PATIENCE: Duration = Duration::from_millis(500);

/// A version of the record, for the time in which it certainly was the one in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reign {
    /// Rises with every change.
    pub version: i64,
    /// By shard: the master's id.
    pub masters: Vec<String>,
    /// By shard: the other nodes' ids.
    pub replicas: Vec<Vec<String>>,
    /// By shard: its slots.
    pub slots: Vec<Ranges>,
    /// Slots that have changed hands, and whose giver may still answer reads.
    pub in_doubt: Ranges,
    /// When the first answer with it had been read, ns.
    pub from: u64,
    /// When the last question that was answered with it had not been sent yet, ns.
    pub to: u64,
}

impl Reign {
    /// The master that answers for a key for certain.
    pub fn master_of(&self, key: &Key) -> Option<&str> {
        let slot = slot(key.name.as_bytes());
        let shard = match key.kind {
            // A channel has no slot.
            Kind::Channel => key.shard,
            _ if self.in_doubt.iter().any(|(a, b)| (*a..=*b).contains(&slot)) => return None,
            _ => owner(&self.slots, slot)?,
        };
        self.masters.get(shard).map(String::as_str)
    }
}

/// What is known; shared.
pub type Reigns = Arc<Mutex<Vec<Reign>>>;

/// A thread that asks.
#[derive(Debug)]
pub struct Observer {
    /// What it learned.
    pub reigns: Reigns,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Observer {
    /// Asks the controllers until told to stop.
    pub fn start(control: &Control, timeline: &Timeline) -> Self {
        let (reigns, stop) = (Reigns::default(), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (reigns, stop) = (Arc::clone(&reigns), Arc::clone(&stop));
            let (control, timeline) = (control.clone(), timeline.clone());
            std::thread::spawn(move || {
                let client = rest::Client::new(&control, PATIENCE)?;
                let mut sets = String::new();
                while !stop.load(Ordering::Relaxed) {
                    look(&client, &reigns, &mut sets, &timeline);
                    wait::pause(POLL);
                }
                Ok(())
            })
        };
        Self { reigns, stop, thread }
    }

    /// Ends it; returns what it learned.
    pub fn finish(self) -> Result<Vec<Reign>> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(done) => done.context("watch the controller")?,
            Err(_) => bail!("the observer panicked"),
        }
        let reigns = self.reigns.lock().clone();
        Ok(reigns)
    }
}

fn look(client: &rest::Client, reigns: &Reigns, sets: &mut String, timeline: &Timeline) {
    let sent = timeline.clock().now();
    // A controller that is away is no news here; that it was sent away is in the timeline. One that
    // does not lead any more tells what was so: it does not count.
    let Ok(status) = client.status() else { return };
    let received = timeline.clock().now();
    let now = in_sync(&status);
    if *sets != now {
        timeline.note(format!("epochs and in-sync sets: {now}"));
        *sets = now;
    }
    let Some(seen) = read(&status, sent, received) else { return };
    let mut reigns = reigns.lock();
    match reigns.last_mut() {
        Some(last) if last.version == seen.version && last.in_doubt == seen.in_doubt => {
            last.to = sent;
        }
        _ => {
            let masters: Vec<&str> = seen.masters.iter().map(|id| short(id)).collect();
            timeline.note(format!("topology {}: masters {}", seen.version, masters.join(" ")));
            reigns.push(seen);
        }
    }
}

fn short(id: &str) -> &str {
    id.get(..6).unwrap_or(id)
}

/// By shard: `epoch:member,member`; empty where the binary knows neither.
fn in_sync(status: &Json) -> String {
    let shards = status.get("shards").and_then(Json::as_array).into_iter().flatten();
    let sets = shards.filter_map(|shard| {
        let epoch = shard.get("epoch")?.as_u64()?;
        let members = shard.get("in_sync")?.as_array()?;
        let names: Vec<&str> = members.iter().filter_map(Json::as_str).map(short).collect();
        Some(format!("{epoch}:{}", names.join(",")))
    });
    sets.collect::<Vec<_>>().join(" ")
}

/// `None` where it is not certain who may answer. The record names a new master before it serves:
/// in a planned switchover the old one is not fenced yet, and after a time without a controller its
/// replicas' promises may last; until the new one has settled the old one may still answer reads.
fn read(status: &Json, sent: u64, received: u64) -> Option<Reign> {
    let (mut masters, mut replicas) = (Vec::new(), Vec::new());
    for shard in status.get("shards")?.as_array()? {
        if matches!(shard.get("state")?.as_str()?, "switchover" | "settling") {
            return None;
        }
        let (mut master, mut others) = (String::new(), Vec::new());
        for node in shard.get("nodes")?.as_array()? {
            let id = node.get("id")?.as_str()?.to_owned();
            if node.get("role")?.as_str()? == "master" { master = id } else { others.push(id) }
        }
        masters.push(master);
        replicas.push(others);
    }
    let version = status.get("version")?.as_i64()?;
    let slots = owners(status).ok()?;
    let moves = status.get("moves").and_then(Json::as_array).into_iter().flatten();
    let owned = moves.filter(|one| one["state"] == "owned");
    let texts = owned.filter_map(|one| one.get("slots")?.as_str());
    let in_doubt = texts.flat_map(|text| text.split(',').filter_map(range)).collect();
    // Until a second answer there is no moment at which it certainly was in force.
    Some(Reign { version, masters, replicas, slots, in_doubt, from: received, to: sent })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nobody_reigns_for_certain_until_the_new_master_serves() {
        let status = |state: &str| {
            let nodes = json!([{ "id": "a", "role": "slave" }, { "id": "b", "role": "master" }]);
            let shard = json!({ "state": state, "nodes": nodes, "slot_ranges": ["0-16383"] });
            let moves = json!([{ "state": "owned", "slots": "7,12182" }]);
            json!({ "version": 4, "shards": [shard], "moves": moves })
        };
        assert_eq!(read(&status("switchover"), 1, 2), None);
        assert_eq!(read(&status("settling"), 1, 2), None);
        let reign = read(&status("steady"), 1, 2).unwrap();
        assert_eq!((reign.version, reign.from, reign.to), (4, 2, 1));
        let key = |name: &str| Key {
            name: name.to_owned(),
            kind: Kind::Set,
            shard: 0,
            ttl_ms: 0,
            successor: None,
        };
        assert_eq!((reign.master_of(&key("bar")), reign.master_of(&key("foo"))), (Some("b"), None));
        assert_eq!((reign.masters, reign.replicas), (vec!["b".into()], vec![vec!["a".into()]]));
    }
}
