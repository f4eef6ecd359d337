//! A cluster whose slots move, as its operator sees it, and what lies in it besides what clients
//! write.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value as Json;

use super::client::{Key, Map};
use super::kinds::KINDS;
use crate::cluster::Cluster;
use crate::process;
use crate::wait;
use crate::wire::{Connection, Reply, encode};

/// Keys of each kind.
const KEYS_EACH: usize = 200;
/// Keys that lie there besides, and are what takes time to move: bytes of name and value, and how
/// many are sent before the answers are read.
pub(super) const BALLAST_BYTES: usize = 1_000;
const BALLAST_DEPTH: usize = 200;
/// One answer, where a database takes more than its disk takes.
const FILL_PATIENCE: Duration = Duration::from_secs(60);
/// What their values are cut from: parts of it do not look alike, so nobody compresses them.
const NOISE_BYTES: usize = 1 << 20;
/// Tags of their names, each of which has one slot: those are asked for, and not of each key.
const TAGS: u32 = 16_384;
const ASKED_AT_ONCE: usize = 1_000;
/// Between two looks at moves.
const LOOK: Duration = Duration::from_millis(50);
/// All moves of one direction.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// One answer of the controller.
const ANSWER: Duration = Duration::from_secs(5);

/// A cluster, and an address of it for clients.
pub(super) struct Site<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) at: SocketAddr,
    /// How its controller is asked: a `ctl` for each look would take its share of the machine.
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
}

impl<'a> Site<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER).build()?;
        Ok(Self { cluster, at: cluster.master(0)?.announced()?, runtime, http })
    }

    /// All moves, as the controller shows them.
    fn moves(&self) -> Result<Json> {
        let url = self.cluster.state()?.controller.url;
        let url = format!("{url}/api/v1/namespaces/local/clusters/main/moves");
        self.runtime.block_on(async {
            let answer = self.http.get(url).send().await.context("ask for moves")?;
            let (status, text) = (answer.status(), answer.text().await?);
            ensure!(status.is_success(), "moves: {status}: {text}");
            let mut body: Json = serde_json::from_str(&text)?;
            Ok(body.get_mut("data").map(Json::take).unwrap_or_default())
        })
    }

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

    /// Queues moves, and waits until all of them are done; how many they were.
    pub(super) fn change(&self, words: &[&str]) -> Result<usize> {
        let before = self.newest_move()?;
        self.ctl(&[words, &["--yes"]].concat())?;
        wait::until("all moves to be over", PATIENCE, || {
            let moves = self.moves()?;
            let queued = moves.get("moves").and_then(Json::as_array);
            if queued.is_some_and(Vec::is_empty) {
                return Ok(());
            }
            wait::pause(LOOK);
            Err(anyhow::anyhow!("{moves:#}"))
        })?;
        let all = self.done_since(before)?;
        for done in &all {
            let error = done.get("error").and_then(Json::as_str);
            ensure!(error.is_none(), "a move was given up: {done:#}");
        }
        Ok(all.len())
    }

    fn done(&self) -> Result<Vec<Json>> {
        let moves = self.moves()?;
        Ok(moves.get("done").and_then(Json::as_array).cloned().unwrap_or_default())
    }

    fn done_since(&self, before: u64) -> Result<Vec<Json>> {
        let mut done = self.done()?;
        done.retain(|one| number(one).is_some_and(|id| id > before));
        Ok(done)
    }

    pub(super) fn newest_move(&self) -> Result<u64> {
        Ok(self.done()?.iter().filter_map(number).max().unwrap_or_default())
    }

    /// Slots of all moves that were done after that one.
    pub(super) fn moved_since(&self, before: u64) -> Result<BTreeSet<u16>> {
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
    pub(super) fn keys(&self, run: u32) -> Result<Vec<Key>> {
        let names = (0..KEYS_EACH).flat_map(|number| {
            KINDS.iter().map(move |kind| (format!("{}:{run}:{number}", kind.name), *kind))
        });
        let names: Vec<_> = names.collect();
        let slots = self.slots(names.iter().map(|(name, _)| name.as_str()))?;
        let keys = names.into_iter().zip(slots);
        Ok(keys.map(|((name, kind), slot)| Key { name, slot, kind }).collect())
    }

    /// The slot of each name.
    fn slots<'n>(&self, names: impl Iterator<Item = &'n str>) -> Result<Vec<u16>> {
        let mut connection = Connection::open(self.at)?;
        let names: Vec<&str> = names.collect();
        let mut slots = Vec::with_capacity(names.len());
        for names in names.chunks(ASKED_AT_ONCE) {
            let asked = names.iter().flat_map(|name| encode(&["CLUSTER", "KEYSLOT", *name]));
            connection.send_raw(&asked.collect::<Vec<u8>>())?;
            for _ in names {
                match connection.receive()? {
                    Reply::Integer(slot) => slots.push(u16::try_from(slot).context("a slot")?),
                    other => bail!("CLUSTER KEYSLOT answers {other:?}"),
                }
            }
        }
        Ok(slots)
    }

    /// Writes what is to lie there besides, evenly over the slots that are wanted; how many keys.
    pub(super) fn fill(&self, mb: u32, is_wanted: impl Fn(u16) -> bool) -> Result<u64> {
        let tags: Vec<String> = (0..TAGS).map(|tag| format!("{{tag-{tag}}}")).collect();
        let slots = self.slots(tags.iter().map(String::as_str))?;
        let tags: Vec<(String, u16)> =
            tags.into_iter().zip(slots).filter(|(_, slot)| is_wanted(*slot)).collect();
        ensure!(!tags.is_empty(), "no key would lie in these slots");
        let of_each = (mb as usize * 1_000_000 / BALLAST_BYTES).div_ceil(tags.len());
        let map = Map::ask(self.at)?;
        let mut random = StdRng::seed_from_u64(u64::from(mb));
        let noise: Vec<u8> = (0..NOISE_BYTES).map(|_| random.random()).collect();
        let mut open: HashMap<SocketAddr, Connection> = HashMap::new();
        for (tag, slot) in &tags {
            let connection = match open.entry(map.of(*slot)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let at = *new.key();
                    let connection = Connection::open_within(at, FILL_PATIENCE, FILL_PATIENCE)?;
                    new.insert(connection)
                }
            };
            let mut left = of_each;
            while left > 0 {
                let depth = left.min(BALLAST_DEPTH);
                let mut sets = Vec::new();
                for number in left - depth..left {
                    let key = format!("{tag}:{number}");
                    let bytes = BALLAST_BYTES.saturating_sub(key.len());
                    let from = random.random_range(0..NOISE_BYTES - bytes);
                    sets.extend(encode::<&[u8]>(&[
                        b"SET",
                        key.as_bytes(),
                        &noise[from..from + bytes],
                    ]));
                }
                connection.send_raw(&sets)?;
                for _ in 0..depth {
                    let answer = connection.receive()?;
                    ensure!(answer.text() == "OK", "SET answers {answer:?}");
                }
                left -= depth;
            }
        }
        self.ballast()
    }

    /// Keys of the ballast that masters have, each of them read.
    pub(super) fn ballast(&self) -> Result<u64> {
        let mut keys = 0;
        let nodes = self.cluster.state()?.nodes;
        for master in nodes.iter().filter(|node| node.role == "master") {
            let mut connection = Connection::open(master.announced()?)?;
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
