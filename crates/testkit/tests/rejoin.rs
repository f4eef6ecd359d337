//! A deposed master comes back: it keeps aside what its successor never had, and goes on without a
//! copy.
//!
//! No controller: topologies and grants are sent by hand, so that the moments are ours.

#![expect(clippy::print_stdout, reason = "times are for the reader of the output")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use testkit::restartable::Restartable;
use testkit::wait;
use testkit::wire::Reply;

const PATIENCE: Duration = Duration::from_secs(120);
const WRITES: usize = 10_000;
const IDS: [&str; 2] =
    ["1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222"];
/// Megabytes of data both have, where the time with much data is of interest.
const DATA_VARIABLE: &str = "HOLDFAST_REJOIN_MB";
const LINES: &str = "cluster-enabled yes\nworkers 1\nrocksdb.block_cache_size 16";

struct Node {
    id: &'static str,
    process: Restartable,
}

impl std::ops::Deref for Node {
    type Target = Restartable;

    fn deref(&self) -> &Restartable {
        &self.process
    }
}

impl std::ops::DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Restartable {
        &mut self.process
    }
}

impl Node {
    fn start(id: &'static str) -> Result<Self> {
        let node = Self { id, process: Restartable::start(LINES)? };
        node.ok(&["CLUSTERX", "SETNODEID", id])?;
        Ok(node)
    }

    fn ok(&self, words: &[&str]) -> Result<()> {
        let said = self.connect()?.call(words)?.text();
        ensure!(said == "OK", "{words:?}: {said}");
        Ok(())
    }

    /// What a heartbeat's reply says.
    fn state(&self) -> Result<BTreeMap<String, String>> {
        let hello = ["CLUSTERX", "HEARTBEAT", self.id, "1000", "1", "CLOCK", "0", "0"];
        let said = self.connect()?.call(&hello)?;
        ensure!(said.error_code().is_none(), "{}", said.text());
        let pairs = said.text();
        let pairs = pairs.lines().filter_map(|line| line.split_once(':'));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn field(&self, name: &str) -> Result<String> {
        let state = self.state()?;
        state.get(name).cloned().with_context(|| format!("{name} in {state:?}"))
    }

    /// A grant of a new epoch, with a lease.
    fn grant(&self, epoch: &str, id: &str) -> Result<()> {
        let (clock, nonce) = (self.field("clock_ns")?, self.field("nonce")?);
        let mut words =
            vec!["CLUSTERX", "HEARTBEAT", self.id, "60000", "1", "CLOCK", &clock, &nonce];
        words.extend(["GRANT", epoch, id, "-", "0", "async", "1", "0", "-"]);
        let said = self.connect()?.call(&words)?;
        ensure!(said.error_code().is_none(), "{}", said.text());
        ensure!(self.field("granted_epoch")? == epoch, "{:?}", self.state()?);
        Ok(())
    }

    fn write(&self, name: &str, count: usize) -> Result<()> {
        let mut connection = self.connect()?;
        for chunk in (0..count).collect::<Vec<_>>().chunks(500) {
            for number in chunk {
                connection.send(&[b"SET".to_vec(), key(name, *number), value(name, *number)])?;
            }
            for _ in chunk {
                let said = connection.receive()?;
                ensure!(said == Reply::Simple(b"OK".to_vec()), "{}", said.text());
            }
        }
        Ok(())
    }

    /// Data that compresses badly, a kilobyte a key.
    fn fill(&self, megabytes: usize) -> Result<()> {
        let mut connection = self.connect()?;
        for index in 0..megabytes {
            for number in 0..1000 {
                let value: Vec<u8> = (0..1000).map(|_| rand::random()).collect();
                connection.send(&[
                    b"SET".to_vec(),
                    format!("{index} {number}").into_bytes(),
                    value,
                ])?;
            }
            for _ in 0..1000 {
                connection.receive()?;
            }
        }
        Ok(())
    }

    fn get(&self, name: &str, number: usize) -> Result<Reply> {
        let mut connection = self.connect()?;
        connection.call(&["READONLY"])?;
        connection.call(&[b"GET".to_vec(), key(name, number)])
    }
}

/// One slot, as a shard's keys are.
fn key(name: &str, number: usize) -> Vec<u8> {
    format!("{name} {number}\r\n\0\"\\").into_bytes()
}

fn value(name: &str, number: usize) -> Vec<u8> {
    let mut value = format!("{number} of {name} ").into_bytes();
    value.extend((0..=255).cycle().skip(number % 256).take(100));
    value
}

fn push(nodes: [&Node; 2], master: usize, version: &str) -> Result<()> {
    let line = |index: usize| {
        let role = if index == master {
            "master - 0-16383".to_owned()
        } else {
            format!("slave {}", IDS[master])
        };
        format!("{} 127.0.0.1 {} {role}", IDS[index], nodes[index].port)
    };
    let text = format!("{}\n{}", line(0), line(1));
    nodes.iter().try_for_each(|node| {
        if !node.is_up() { Ok(()) } else { node.ok(&["CLUSTERX", "SETNODES", &text, version]) }
    })
}

fn await_in_sync(replica: &Node, master: &Node) -> Result<()> {
    wait::until("the replica is in sync", PATIENCE, || {
        let (theirs, ours) = (master.state()?, replica.state()?);
        let is_done = ours["link_status"] == "up"
            && ours["resync"] == "none"
            && ours["sequence"] == theirs["sequence"]
            && ours["history_id"] == theirs["history_id"];
        ensure!(is_done, "{ours:?} of {theirs:?}");
        anyhow::Ok(())
    })
}

/// Bytes of a JSON string in an export.
fn bytes(value: &serde_json::Value) -> Result<Vec<u8>> {
    let text = value.as_str().context("a string")?;
    text.chars().map(|c| u8::try_from(c).context("a byte")).collect()
}

/// User keys and values of the strings that were discarded.
fn discarded(node: &Node) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let folder = node.dir().join("discarded");
    let files: Vec<_> = std::fs::read_dir(&folder).context("read the discarded")?.collect();
    ensure!(files.len() == 1, "{files:?}");
    for file in files {
        for line in std::fs::read_to_string(file?.path())?.lines() {
            let line: serde_json::Value = serde_json::from_str(line)?;
            if line["put"] == "metadata" {
                let (key, value) = (bytes(&line["key"])?, bytes(&line["value"])?);
                // Namespace of 11 letters and its length, slot; flags and expiry.
                found.insert(key[14..].to_vec(), value[9..].to_vec());
            }
        }
    }
    Ok(found)
}

/// How the old master is away while it is deposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    Stopped,
    Killed,
}

fn comes_back(away: Away) -> Result<()> {
    let (mut old, mut new) = (Node::start(IDS[0])?, Node::start(IDS[1])?);
    push([&old, &new], 0, "1")?;
    old.grant("1", "00000000000000a1")?;
    old.write("common", 500)?;
    let megabytes = std::env::var(DATA_VARIABLE).map_or(Ok(0), |text| text.parse())?;
    old.fill(megabytes)?;
    await_in_sync(&new, &old)?;
    new.kill()?;
    old.write("discarded", WRITES)?;
    match away {
        Away::Stopped => old.signal(libc::SIGSTOP)?,
        Away::Killed => old.kill()?,
    }
    new.up()?;
    push_to_one(&new, &old)?;
    new.grant("2", "00000000000000b2")?;
    new.write("kept", 300)?;

    let began = Instant::now();
    match away {
        Away::Stopped => old.signal(libc::SIGCONT)?,
        Away::Killed => old.up()?,
    }
    let started = began.elapsed();
    push([&old, &new], 1, "3")?;
    await_in_sync(&old, &new)?;
    println!(
        "rejoin: {away:?}, {WRITES} discarded writes: {:?}, of it start {started:?}",
        began.elapsed()
    );
    for line in old.server().map(|server| server.process().log()).unwrap_or_default().lines() {
        if line.contains("rewound to where") {
            println!("rejoin: {line}");
        }
    }

    let info = new.connect()?.call(&["INFO", "stats"])?.text();
    ensure!(info.contains("sync_full:0"), "{info}");
    for (name, number, is_there) in [
        ("common", 499, true),
        ("kept", 299, true),
        ("discarded", 0, false),
        ("discarded", WRITES - 1, false),
    ] {
        let (ours, theirs) = (old.get(name, number)?, new.get(name, number)?);
        ensure!(ours == theirs, "{name} {number}: {ours:?} and {theirs:?}");
        ensure!(
            (ours == Reply::Bulk(value(name, number))) == is_there,
            "{name} {number}: {ours:?}"
        );
    }
    let found = discarded(&old)?;
    ensure!(found.len() == WRITES, "{} writes are kept aside", found.len());
    for number in 0..WRITES {
        let kept = found.get(&key("discarded", number)).map(Vec::as_slice);
        if kept != Some(&value("discarded", number)[..]) {
            bail!("discarded {number} is {kept:?}");
        }
    }
    // It is a replica like any other again, also in the next failover.
    push([&old, &new], 0, "4")?;
    old.grant("3", "00000000000000c3")?;
    old.write("later", 10)?;
    await_in_sync(&new, &old)?;
    ensure!(new.get("later", 9)? == Reply::Bulk(value("later", 9)));
    Ok(())
}

/// The old master hears nothing.
fn push_to_one(new: &Node, old: &Node) -> Result<()> {
    let text = format!(
        "{} 127.0.0.1 {} slave {}\n{} 127.0.0.1 {} master - 0-16383",
        old.id, old.port, new.id, new.id, new.port
    );
    new.ok(&["CLUSTERX", "SETNODES", &text, "2"])
}

#[test]
fn after_being_stopped() -> Result<()> {
    comes_back(Away::Stopped)
}

#[test]
fn after_being_killed() -> Result<()> {
    comes_back(Away::Killed)
}
