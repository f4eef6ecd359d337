//! The story: a shard is emptied, clients write, it gets its share, it is emptied again, look.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value as Json;

use super::client::{self, Client, Key, Map, Shared};
use super::found::{Found, Log, Phase};
use super::kinds::KINDS;
use crate::cluster::{Cluster, Options};
use crate::process;
use crate::wait;
use crate::wire::{Connection, Reply, encode};

/// The shard that comes and goes: the last one.
const GUEST: &str = "3";
const SHARDS: u16 = 4;
/// Keys of each kind.
const KEYS_EACH: usize = 200;
/// Writers, each with keys and connections of its own.
const WRITERS: usize = 8;
/// How long writes flow before anything moves, and after it.
const CALM: Duration = Duration::from_secs(5);
/// Keys that lie there besides, and are what takes time to move: their size, bytes, and how many are
/// sent before the answers are read.
const BALLAST_BYTES: usize = 1_000;
const BALLAST_DEPTH: usize = 200;
/// Between two looks at moves: each of them is a process that takes its share of the machine.
const LOOK: Duration = Duration::from_millis(200);
/// All moves of one direction.
const PATIENCE: Duration = Duration::from_secs(600);

/// How it is told.
#[derive(Debug, Clone, Copy)]
pub struct Story {
    /// How often slots go there and back.
    pub runs: u32,
    /// `builtin` or `haproxy`.
    pub balancer: &'static str,
    /// Writes per second, of all clients together.
    pub rate: u32,
    /// What lies in the cluster besides, MB.
    pub ballast_mb: u32,
}

/// What is told as it happens.
pub type Say<'a> = &'a mut dyn FnMut(&str);

impl Story {
    /// All runs; one cluster for all of them.
    ///
    /// # Errors
    /// When it could not be told to its end.
    pub fn tell(&self, stop: &Arc<AtomicBool>, say: Say<'_>) -> Result<Vec<Found>> {
        say("starting 4 shards with a replica each, of which one is emptied");
        let options = Options { shards: SHARDS, balancer: self.balancer, ..Options::default() };
        let cluster = Cluster::start(options)?;
        let site = Site { cluster: &cluster, at: cluster.master(0)?.announced()? };
        let told = self.runs(&site, stop, say);
        told.with_context(|| cluster.logs())
    }

    fn runs(&self, site: &Site<'_>, stop: &AtomicBool, say: Say<'_>) -> Result<Vec<Found>> {
        site.change(&["shard", "drain", GUEST])?;
        let ballast = site.fill(self.ballast_mb)?;
        say(&format!("{ballast} keys of {BALLAST_BYTES} bytes are there"));
        let mut runs = Vec::new();
        for run in 1..=self.runs {
            ensure!(!stop.load(Ordering::Relaxed), "interrupted");
            let found = self.run(site, run, say)?;
            say(&format!(
                "run {run}: longest stall {:.1} ms, {} of {} writes missing",
                found.stall_worst.as_secs_f64() * 1e3,
                found.missing,
                found.acknowledged
            ));
            runs.push(found);
        }
        ensure!(site.ballast()? == ballast, "keys that nobody wrote to meanwhile are gone");
        Ok(runs)
    }

    fn run(&self, site: &Site<'_>, run: u32, say: Say<'_>) -> Result<Found> {
        let keys = site.keys(run)?;
        let (map, known) = (Map::ask(site.at)?, site.newest_move()?);
        let shared = Shared::new();
        let rate = f64::from(self.rate) / WRITERS as f64;
        let began = Instant::now();
        let (logs, moved_for, took) = std::thread::scope(|threads| -> Result<_> {
            let _ends = EndsThem(&shared);
            let mut writers = Vec::new();
            for writer in 0..WRITERS {
                let its: Vec<usize> = (writer..keys.len()).step_by(WRITERS).collect();
                let (keys, map, shared) = (&keys, map.clone(), &shared);
                writers.push(threads.spawn(move || client::write(keys, &its, (map, rate), shared)));
            }
            wait::pause(CALM);
            let mut moved_for = Duration::ZERO;
            for (words, what) in [
                (&["rebalance"][..], "3 shards become 4"),
                (&["shard", "drain", GUEST], "4 shards become 3"),
            ] {
                say(&format!("run {run}: {what}"));
                let at = Instant::now();
                shared.set(Phase::Moving);
                site.change(words)?;
                shared.set(Phase::After);
                moved_for += at.elapsed();
                wait::pause(CALM);
            }
            shared.stop.store(true, Ordering::SeqCst);
            let took = began.elapsed();
            let joined = writers.into_iter().map(|writer| writer.join());
            let logs = joined.collect::<Result<Vec<_>, _>>();
            let logs = logs.map_err(|_| anyhow::anyhow!("a client panicked"))?;
            Ok((logs, moved_for, took))
        })?;
        let (logs, written): (Vec<Log>, Vec<client::Written>) = logs.into_iter().unzip();
        let slots: Vec<u16> = keys.iter().map(|key| key.slot).collect();
        let found = Found::of(&logs, &slots, &site.moved_since(known)?, took);
        let missing = missing(Client::new(map), &keys, &written.concat())?;
        Ok(Found { missing, moved_for, ..found })
    }
}

/// Clients end with what they are watched by, whatever becomes of that.
struct EndsThem<'a>(&'a Shared);

impl Drop for EndsThem<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

/// How many writes that were acknowledged are not shown.
fn missing(mut client: Client, keys: &[Key], written: &[(usize, u64)]) -> Result<u64> {
    let mut missing = 0;
    for (index, acknowledged) in written {
        let key = keys.get(*index).context("a key that is none")?;
        let answer = client.call(key.slot, &key.kind.count(&key.name))?;
        missing += acknowledged.saturating_sub(key.kind.counted(&answer)?);
    }
    Ok(missing)
}

/// A cluster, and an address of it for clients.
struct Site<'a> {
    cluster: &'a Cluster,
    at: SocketAddr,
}

impl Site<'_> {
    fn ctl(&self, words: &[&str]) -> Result<Json> {
        let url = self.cluster.state()?.controller.url;
        let mut command = Command::new(process::holdfast()?);
        command.args(["ctl", "-H", &url, "--json"]).args(words);
        let output = command.output().context("run ctl")?;
        if !output.status.success() {
            bail!("ctl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("read ctl {words:?}"))
    }

    /// Queues moves, and waits until all of them are done.
    fn change(&self, words: &[&str]) -> Result<()> {
        let before = self.newest_move()?;
        self.ctl(&[words, &["--yes"]].concat())?;
        wait::until("all moves to be over", PATIENCE, || {
            let moves = self.ctl(&["moves"])?;
            let queued = moves.get("moves").and_then(Json::as_array);
            if queued.is_some_and(Vec::is_empty) {
                return Ok(());
            }
            wait::pause(LOOK);
            Err(anyhow::anyhow!("{moves:#}"))
        })?;
        for done in self.done_since(before)? {
            let error = done.get("error").and_then(Json::as_str);
            ensure!(error.is_none(), "a move was given up: {done:#}");
        }
        Ok(())
    }

    fn done(&self) -> Result<Vec<Json>> {
        let moves = self.ctl(&["moves"])?;
        Ok(moves.get("done").and_then(Json::as_array).cloned().unwrap_or_default())
    }

    fn done_since(&self, before: u64) -> Result<Vec<Json>> {
        let mut done = self.done()?;
        done.retain(|one| number(one).is_some_and(|id| id > before));
        Ok(done)
    }

    fn newest_move(&self) -> Result<u64> {
        Ok(self.done()?.iter().filter_map(number).max().unwrap_or_default())
    }

    /// Slots of all moves that were done after that one.
    fn moved_since(&self, before: u64) -> Result<BTreeSet<u16>> {
        let mut moved = BTreeSet::new();
        for one in self.done_since(before)? {
            let text = one.get("slots").and_then(Json::as_str).context("a move without slots")?;
            for range in text.split(',') {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                moved.extend(first.parse::<u16>()?..=last.parse()?);
            }
        }
        Ok(moved)
    }

    /// Keys of a run, as many of each kind.
    fn keys(&self, run: u32) -> Result<Vec<Key>> {
        let names = (0..KEYS_EACH).flat_map(|number| {
            KINDS.iter().map(move |kind| (format!("{}:{run}:{number}", kind.name), *kind))
        });
        let names: Vec<_> = names.collect();
        let slots = self.slots(names.iter().map(|(name, _)| name.as_str()))?;
        let keys = names.into_iter().zip(slots);
        Ok(keys.map(|((name, kind), slot)| Key { name, slot, kind }).collect())
    }

    /// The slot of each name.
    fn slots<'n>(&self, names: impl Iterator<Item = &'n str> + Clone) -> Result<Vec<u16>> {
        let mut connection = Connection::open(self.at)?;
        let asked = names.clone().flat_map(|name| encode(&["CLUSTER", "KEYSLOT", name]));
        connection.send_raw(&asked.collect::<Vec<u8>>())?;
        let slot = |_| match connection.receive()? {
            Reply::Integer(slot) => u16::try_from(slot).context("a slot"),
            other => bail!("CLUSTER KEYSLOT answers {other:?}"),
        };
        names.map(slot).collect()
    }

    /// Writes what is to lie there besides, evenly over the slots; how many keys.
    fn fill(&self, mb: u32) -> Result<u64> {
        let count = mb as usize * 1_000_000 / BALLAST_BYTES;
        // A tag has one slot: those of so many are asked for, and not of each key.
        let tags: Vec<String> = (0..4_096).map(|tag| format!("{{tag-{tag}}}")).collect();
        let slots = self.slots(tags.iter().map(String::as_str))?;
        let map = Map::ask(self.at)?;
        let value = "x".repeat(BALLAST_BYTES);
        let mut open: HashMap<SocketAddr, Connection> = HashMap::new();
        for (tag, slot) in tags.iter().zip(slots) {
            let connection = match open.entry(map.of(slot)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let connection = Connection::open(*new.key())?;
                    new.insert(connection)
                }
            };
            let its: Vec<usize> = (0..count).step_by(tags.len()).collect();
            for batch in its.chunks(BALLAST_DEPTH) {
                let sets =
                    batch.iter().flat_map(|n| encode(&["SET", &format!("{tag}:{n}"), &value]));
                connection.send_raw(&sets.collect::<Vec<u8>>())?;
                for _ in batch {
                    let answer = connection.receive()?;
                    ensure!(answer.text() == "OK", "SET answers {answer:?}");
                }
            }
        }
        self.ballast()
    }

    /// Keys of the ballast that masters have, each of them read.
    fn ballast(&self) -> Result<u64> {
        let mut keys = 0;
        for shard in 0..usize::from(SHARDS) {
            let mut connection = Connection::open(self.cluster.master(shard)?.announced()?)?;
            let mut cursor = "0".to_owned();
            loop {
                let words = ["SCAN", &cursor, "MATCH", "{tag-*", "COUNT", "1000"];
                let page = connection.call(&words)?;
                let [next, found] = page.elements() else { bail!("SCAN answers {page:?}") };
                keys += found.elements().len() as u64;
                cursor = next.text();
                if cursor == "0" {
                    break;
                }
            }
        }
        Ok(keys)
    }
}

fn number(one: &Json) -> Option<u64> {
    one.get("id").and_then(Json::as_u64)
}
