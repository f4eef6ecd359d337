//! DUMP and RESTORE between a node and Debian's redis-server: random values of every type, in every
//! encoding that redis-server has for them, both ways. A dump file of redis-server is loaded, and a
//! running one is copied into a node and into a cluster.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use testkit::cluster::{Cluster, Options};
use testkit::process::{self, Server};
use testkit::wire::{Connection, Reply};

/// Values of each kind and size.
const ROUNDS: u64 = 12;

const KINDS: [&str; 7] = ["string", "list", "set", "zset", "hash", "stream", "hyperloglog"];

/// Lets small values be packed, or none.
const PACKED: &[(&str, &str)] = &[
    ("list-max-listpack-size", "-2"),
    ("hash-max-listpack-entries", "128"),
    ("zset-max-listpack-entries", "128"),
    ("set-max-intset-entries", "512"),
    ("stream-node-max-entries", "100"),
];
const PLAIN: &[(&str, &str)] = &[
    ("list-max-listpack-size", "1"),
    ("hash-max-listpack-entries", "0"),
    ("zset-max-listpack-entries", "0"),
    ("set-max-intset-entries", "0"),
    ("stream-node-max-entries", "3"),
];

type Words = Vec<Vec<u8>>;

fn words(text: &str) -> Words {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn call(connection: &mut Connection, words: &Words) -> Result<Reply> {
    let reply = connection.call(words)?;
    if let Reply::Error(text) = &reply {
        let command: Vec<_> = words.iter().map(|word| word.escape_ascii().to_string()).collect();
        bail!("{}: {}", command.join(" "), text.escape_ascii());
    }
    Ok(reply)
}

fn ask(connection: &mut Connection, text: &str) -> Result<Reply> {
    call(connection, &words(text))
}

/// Numbers in all widths, binary texts, ones that can be compressed, long ones.
fn text(random: &mut StdRng) -> Vec<u8> {
    match random.random_range(0..8) {
        0 => random.random_range(-20..20_i64).to_string().into_bytes(),
        1 => (random.random::<i64>() >> random.random_range(0..64)).to_string().into_bytes(),
        2 => vec![b'x'; random.random_range(0..90)],
        3 => vec![b'y'; random.random_range(4000..20_000)],
        4 => b"007".to_vec(),
        _ => (0..random.random_range(0..40)).map(|_| random.random()).collect(),
    }
}

fn score(random: &mut StdRng) -> String {
    match random.random_range(0..5) {
        0 => "inf".to_owned(),
        1 => "-inf".to_owned(),
        2 => random.random_range(-5..5).to_string(),
        _ => (random.random::<f64>() * 1e6).to_string(),
    }
}

/// Commands that make a value of a kind.
fn making(random: &mut StdRng, kind: &str, key: &str) -> Vec<Words> {
    let count = [1, 5, 300][random.random_range(0..3)];
    let command = |name: &str, rest: Vec<Vec<u8>>| [words(&format!("{name} {key}")), rest].concat();
    let each = |name: &str, random: &mut StdRng, one: &dyn Fn(&mut StdRng) -> Words| {
        let rest = (0..count).map(|_| command(name, one(random)));
        rest.collect::<Vec<_>>()
    };
    let number = |random: &mut StdRng| random.random::<i64>() >> random.random_range(0..64);
    match kind {
        "string" => vec![command("SET", vec![text(random)])],
        "list" => each("RPUSH", random, &|random| vec![text(random)]),
        "set" if random.random() => {
            each("SADD", random, &|random| vec![number(random).to_string().into_bytes()])
        }
        "set" => each("SADD", random, &|random| vec![text(random)]),
        "zset" => each("ZADD", random, &|random| vec![score(random).into_bytes(), text(random)]),
        "hash" => each("HSET", random, &|random| vec![text(random), text(random)]),
        "hyperloglog" => each("PFADD", random, &|random| vec![text(random)]),
        _ => stream(random, key, count),
    }
}

fn stream(random: &mut StdRng, key: &str, count: usize) -> Vec<Words> {
    let mut all = Vec::new();
    for number in 0..count {
        let name = if random.random_ratio(1, 4) { text(random) } else { b"f".to_vec() };
        let id = format!("XADD {key} {}-{}", 5 + number / 3, 1 + number % 3);
        all.push([words(&id), vec![name, text(random)]].concat());
    }
    if random.random() {
        all.push(words(&format!("XDEL {key} 5-2 6-1")));
    }
    for group in ["g", "h"] {
        all.push(words(&format!(
            "XGROUP CREATE {key} {group} {}",
            ["0", "5-1", "$"][random.random_range(0..3)]
        )));
        for consumer in ["one", "two"] {
            let most = random.random_range(1..5);
            let read = format!("XREADGROUP GROUP {group} {consumer} COUNT {most} STREAMS {key} >");
            all.push(words(&read));
        }
    }
    all.push(words(&format!("XACK {key} g 5-1")));
    all
}

fn sorted(reply: &Reply, by: usize) -> Vec<Reply> {
    let mut parts: Vec<Vec<Reply>> = reply.elements().chunks(by).map(<[Reply]>::to_vec).collect();
    parts.sort_by_key(|part| format!("{part:?}"));
    parts.concat()
}

/// The value behind a name in a reply of XINFO.
fn named(reply: &Reply, name: &str) -> String {
    let mut pairs = reply.elements().chunks(2);
    let found = pairs.find(|pair| pair.first().is_some_and(|word| word.text() == name));
    found.and_then(|pair| pair.get(1)).map_or_else(String::new, |value| format!("{value:?}"))
}

/// All that can be seen of a value, in an order of its own.
fn seen(connection: &mut Connection, kind: &str, key: &str) -> Result<Vec<String>> {
    let mut ask = |text: &str| ask(connection, text);
    let replies = match kind {
        "string" => vec![ask(&format!("GET {key}"))?],
        "list" => vec![ask(&format!("LRANGE {key} 0 -1"))?],
        "set" => sorted(&ask(&format!("SMEMBERS {key}"))?, 1),
        "zset" => vec![ask(&format!("ZRANGE {key} 0 -1 WITHSCORES"))?],
        "hash" => sorted(&ask(&format!("HGETALL {key}"))?, 2),
        "hyperloglog" => vec![ask(&format!("PFCOUNT {key}"))?],
        _ => vec![ask(&format!("XRANGE {key} - +"))?],
    };
    let mut all: Vec<String> = replies.iter().map(|reply| format!("{reply:?}")).collect();
    if kind == "stream" {
        let info = ask(&format!("XINFO STREAM {key}"))?;
        for name in
            ["length", "last-generated-id", "max-deleted-entry-id", "entries-added", "groups"]
        {
            all.push(format!("{name} {}", named(&info, name)));
        }
        for group in ask(&format!("XINFO GROUPS {key}"))?.elements() {
            for name in ["name", "consumers", "pending", "last-delivered-id", "entries-read"] {
                all.push(format!("{name} {}", named(group, name)));
            }
        }
        for group in ["g", "h"] {
            for pending in ask(&format!("XPENDING {key} {group} - + 1000"))?.elements() {
                let [id, consumer, _, count] = pending.elements() else { bail!("{pending:?}") };
                all.push(format!("{id:?} {consumer:?} {count:?}"));
            }
        }
    }
    Ok(all)
}

fn dumped(connection: &mut Connection, key: &str) -> Result<Vec<u8>> {
    match ask(connection, &format!("DUMP {key}"))? {
        Reply::Bulk(payload) => Ok(payload),
        reply => bail!("DUMP {key}: {reply:?}"),
    }
}

fn restored(connection: &mut Connection, key: &str, payload: &[u8]) -> Result<()> {
    let command = [words(&format!("RESTORE {key} 0")), vec![payload.to_vec(), b"REPLACE".to_vec()]];
    let reply = call(connection, &command.concat())?;
    ensure!(reply.text() == "OK", "RESTORE {key}: {reply:?}");
    Ok(())
}

#[test]
fn values_of_every_type_travel_to_redis_and_back() -> Result<()> {
    let (ours, theirs) = (Server::node("workers 2")?, Server::redis()?);
    let (mut ours, mut theirs) = (ours.connect()?, theirs.connect()?);
    let seed = std::env::var("HOLDFAST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or(1);
    for round in seed..seed + ROUNDS {
        let mut random = StdRng::seed_from_u64(round);
        for (name, value) in if round.is_multiple_of(2) { PACKED } else { PLAIN } {
            ask(&mut theirs, &format!("CONFIG SET {name} {value}"))?;
        }
        for kind in KINDS {
            let what = || format!("{kind}, HOLDFAST_SEED={round}");
            ask(&mut theirs, "FLUSHALL")?;
            for command in making(&mut random, kind, "k") {
                call(&mut theirs, &command)?;
            }
            let expected = seen(&mut theirs, kind, "k")?;
            let payload = dumped(&mut theirs, "k")?;
            restored(&mut ours, "k", &payload).with_context(what)?;
            let here = seen(&mut ours, kind, "k").with_context(what)?;
            ensure!(here == expected, "{}: {here:#?}, not {expected:#?}", what());
            let payload = dumped(&mut ours, "k").with_context(what)?;
            restored(&mut theirs, "back", &payload).with_context(what)?;
            let back = seen(&mut theirs, kind, "back")?;
            ensure!(back == expected, "{}, back: {back:#?}, not {expected:#?}", what());
            restored(&mut ours, "again", &payload).with_context(what)?;
            ensure!(dumped(&mut ours, "again")? == payload, "{}, again", what());
        }
    }
    Ok(())
}

/// Some values of every kind, under keys of their own.
fn fill(redis: &mut Connection) -> Result<Vec<(&'static str, String)>> {
    let mut keys = Vec::new();
    for round in 0..4 {
        let mut random = StdRng::seed_from_u64(1000 + round);
        for kind in KINDS {
            let key = format!("{kind}:{round}");
            for command in making(&mut random, kind, &key) {
                call(redis, &command)?;
            }
            keys.push((kind, key));
        }
    }
    Ok(keys)
}

fn info(connection: &mut Connection, name: &str) -> Result<String> {
    let text = ask(connection, "INFO persistence")?.text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    Ok(line.with_context(|| text.clone())?.trim().to_owned())
}

#[test]
fn a_dump_file_of_redis_is_loaded() -> Result<()> {
    let (ours, theirs) = (Server::node("workers 2")?, Server::redis()?);
    let (mut here, mut there) = (ours.connect()?, theirs.connect()?);
    let keys = fill(&mut there)?;
    ask(&mut there, "SET ends 1 PXAT 4102444800123")?;
    ask(&mut there, "SELECT 1")?;
    ask(&mut there, "SET other 1")?;
    ask(&mut there, "SELECT 0")?;
    ask(&mut there, "SAVE")?;
    std::fs::copy(theirs.dir.join("dump.rdb"), ours.dir.join("dump.rdb"))?;
    ask(&mut here, "SET string:0 stays")?;
    ask(&mut here, "RDB LOAD dump.rdb NX")?;
    ensure!(ask(&mut here, "GET string:0")?.text() == "stays");
    ask(&mut here, "RDB LOAD dump.rdb")?;
    for (kind, key) in &keys {
        let (expected, found) = (seen(&mut there, kind, key)?, seen(&mut here, kind, key)?);
        ensure!(found == expected, "{key}: {found:#?}, not {expected:#?}");
    }
    ensure!(ask(&mut here, "PEXPIRETIME ends")?.text() == "4102444800123");
    ensure!(ask(&mut here, "EXISTS other")?.text() == "0");
    let loaded = info(&mut here, "rdb_load_keys")?;
    ensure!(loaded == (keys.len() + 1).to_string(), "{loaded} keys");
    ask(&mut here, "RDB LOAD dump.rdb DB 1")?;
    ensure!(ask(&mut here, "GET other")?.text() == "1");
    Ok(())
}

/// Runs `ctl import redis`, and returns what it says.
fn import(from: &Server, to: &str, more: &[&str]) -> Result<String> {
    let url = format!("redis://{}", from.address);
    let mut command = Command::new(process::holdfast()?);
    command.args(["ctl", "import", "redis", &url, "--to", to]).args(more);
    let output = command.output().context("run ctl")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}{errors}");
    Ok(said)
}

/// The number before these words.
fn number(said: &str, words: &str) -> usize {
    let before = said.split(words).next().filter(|before| before.len() < said.len());
    let digits = before.and_then(|before| before.trim_end().rsplit([' ', '\n']).next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[test]
fn a_running_redis_is_copied() -> Result<()> {
    let (ours, theirs) = (Server::node("workers 2")?, Server::redis()?);
    let (mut here, mut there) = (ours.connect()?, theirs.connect()?);
    let keys = fill(&mut there)?;
    for number in 0..500 {
        ask(&mut there, &format!("SET many:{number} {number} PX 100000000"))?;
    }
    let state = theirs.dir.join("state");
    let state = state.to_str().context("a path")?;
    let said = import(&theirs, &ours.address.to_string(), &["--verify", "--state", state])?;
    let total = keys.len() + 500;
    // SCAN may show a key twice while a table of redis-server grows.
    ensure!(number(&said, "keys copied") >= total, "{said}");
    ensure!(number(&said, "keys compared, all equal") >= total, "{said}");
    ensure!(!std::path::Path::new(state).exists(), "the state is left");
    for (kind, key) in &keys {
        let (expected, found) = (seen(&mut there, kind, key)?, seen(&mut here, kind, key)?);
        ensure!(found == expected, "{key}: {found:#?}, not {expected:#?}");
    }
    let ttl: i64 = ask(&mut here, "PTTL many:7")?.text().parse()?;
    ensure!((1..=100_000_000).contains(&ttl), "{ttl}");
    // What is there stays, if so told; a value that differs is found.
    ask(&mut here, "SET many:7 other")?;
    let said = import(&theirs, &ours.address.to_string(), &["--keep"])?;
    ensure!(said.contains("0 keys copied"), "{said}");
    ensure!(number(&said, "kept") >= total, "{said}");
    let refused = import(&theirs, &ours.address.to_string(), &["--keep", "--verify"]);
    let refused = format!("{:#}", refused.err().context("a difference was not found")?);
    ensure!(refused.contains("many:7 has another value there"), "{refused}");
    Ok(())
}

#[test]
fn a_running_redis_is_copied_into_a_cluster() -> Result<()> {
    let theirs = Server::redis()?;
    let mut there = theirs.connect()?;
    let keys = fill(&mut there)?;
    let cluster = Cluster::start(Options { shards: 2, replicas: 0, ..Options::default() })?;
    let address = cluster.master(0)?.announced()?;
    let said = import(&theirs, &address.to_string(), &["--verify"])?;
    ensure!(number(&said, "keys compared, all equal") >= keys.len(), "{said}");
    Ok(())
}
