//! `ctl import redis --follow`: a Redis that takes writes of all types is copied into a cluster, as
//! a replica, and given up for it. Afterwards the payload of DUMP of each key is the same.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use testkit::cluster::{Cluster, Options};
use testkit::process::{self, Process, Server};
use testkit::wait;
use testkit::wire::{Connection, Reply};

const PATIENCE: Duration = Duration::from_secs(120);
/// Keys of each type.
const KEYS: u32 = 40;
/// Commands that must have been written while it follows.
const WRITES: u64 = 3_000;
/// Megabytes of all types that lie in the Redis before it is followed: 1 without, 1024 for the
/// figures in `docs/performance.md`.
const DATA_VARIABLE: &str = "HOLDFAST_IMPORT_MB";

/// One write, or a few; most keys are changed again and again.
fn write(random: &mut StdRng) -> String {
    let value: u32 = random.random_range(0..1000);
    let (a, b) = (random.random_range(0..KEYS), random.random_range(0..KEYS));
    match random.random_range(0..30) {
        0 => format!("SET s:{a} {value}"),
        1 => format!("SET s:{a} {value} PX 10000000"),
        2 => format!("INCRBY n:{a} {value}"),
        3 => format!("APPEND s:{a} {value}"),
        4 => format!("SETRANGE s:{a} {} x", value % 50),
        // Keys of several slots.
        5 => format!("MSET s:{a} 1 s:{b} 2"),
        6 => format!("DEL s:{a} l:{b}"),
        7 => format!("RENAME l:{a} l:{b}"),
        8 => format!("SUNIONSTORE u:{a} u:{b} u:{}", value % KEYS),
        9 => format!("ZUNIONSTORE z:{a} 2 z:{b} u:{a}"),
        10 => format!("COPY h:{a} h:{} REPLACE", (a + 1) % KEYS),
        11 => format!("LMOVE l:{a} l:{b} LEFT RIGHT"),
        12 | 13 => format!("RPUSH l:{a} {value} b c"),
        14 => format!("LPOP l:{a}"),
        15 => format!("LTRIM l:{a} 0 50"),
        16 | 17 => format!("HSET h:{a} f{} {value} g 1", value % 20),
        18 => format!("HINCRBYFLOAT h:{a} n 0.5"),
        19 => format!("HDEL h:{a} f{}", value % 20),
        20 => format!("SADD u:{a} {value} x"),
        21 => format!("SPOP u:{a}"),
        22 => format!("ZADD z:{a} {value} m{}", value % 30),
        23 => format!("ZINCRBY z:{a} 1.5 m{}", value % 30),
        24 => format!("ZPOPMIN z:{a}"),
        25 => format!("XADD x:{a} MAXLEN ~ 50 * f {value}"),
        26 => format!("PFADD p:{a} {value}"),
        27 => format!("SETBIT b:{a} {value} 1"),
        28 => format!("PEXPIRE h:{a} 20000000"),
        _ => format!(
            "EVAL redis.call('incr',KEYS[1]);return(redis.call('rpush',KEYS[2],'e')) 2 n:{a} l:{a}"
        ),
    }
}

/// About a megabyte of values of all types, which do not compress.
fn fill(redis: &mut Connection, number: u32) -> Result<()> {
    let mut random = StdRng::seed_from_u64(number.into());
    let mut value = |length: usize| -> String {
        (0..length).map(|_| char::from(random.random_range(b'!'..=b'~'))).collect()
    };
    let mut commands = Vec::new();
    for part in 0..10 {
        let place = format!("{number}:{part}");
        let key = |kind: &str| format!("lies:{kind}:{place}");
        for string in 0..40 {
            commands.push(vec!["SET".into(), format!("{}:{string}", key("s")), value(500)]);
        }
        let mut large: Vec<Vec<String>> = vec![
            vec!["HSET".into(), key("h")],
            vec!["RPUSH".into(), key("l")],
            vec!["SADD".into(), key("u")],
            vec!["ZADD".into(), key("z")],
            vec!["PFADD".into(), key("p")],
        ];
        for element in 0..100 {
            let element = element.to_string();
            large[0].extend([element.clone(), value(150)]);
            large[1].push(value(150));
            large[2].push(value(150));
            large[3].extend([element.clone(), value(150)]);
            large[4].push(element.clone());
            commands.push(vec!["XADD".into(), key("x"), "*".into(), element, value(150)]);
        }
        commands.extend(large);
        commands.push(vec!["SETBIT".into(), key("b"), "80000".into(), "1".into()]);
        commands.push(vec!["PEXPIRE".into(), key("h"), "100000000".into()]);
    }
    for command in &commands {
        redis.send(&command.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    for command in &commands {
        if let Reply::Error(text) = redis.receive()? {
            bail!("{}: {}", command[0], text.escape_ascii());
        }
    }
    Ok(())
}

/// Writes until it is told to stop, or the Redis refuses.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: JoinHandle<Result<bool>>,
}

impl Writer {
    fn start(redis: &Server, seed: u64) -> Result<Self> {
        let (stop, written) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stops, writes) = (Arc::clone(&stop), Arc::clone(&written));
        let mut connection = redis.connect()?;
        let thread = std::thread::spawn(move || {
            let mut random = StdRng::seed_from_u64(seed);
            while !stops.load(Ordering::Relaxed) {
                let is_bundle = random.random_ratio(1, 10);
                let commands: Vec<String> = match is_bundle {
                    true => {
                        vec!["MULTI".into(), write(&mut random), write(&mut random), "EXEC".into()]
                    }
                    false => vec![write(&mut random)],
                };
                for command in commands {
                    let words: Vec<&str> = command.split(' ').collect();
                    match connection.call(&words)? {
                        // All writes are refused from now on.
                        Reply::Error(text) if text.starts_with(b"NOREPLICAS") => return Ok(true),
                        Reply::Error(text) if text.starts_with(b"EXECABORT") => return Ok(true),
                        Reply::Error(text) if text.starts_with(b"ERR no such key") => {}
                        Reply::Error(text) => bail!("{command}: {}", text.escape_ascii()),
                        _ => {}
                    }
                    writes.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(false)
        });
        Ok(Self { stop, written, thread })
    }

    /// Whether the Redis refused at the end.
    fn end(self) -> Result<bool> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?
    }
}

struct Stage {
    redis: Server,
    cluster: Cluster,
}

impl Stage {
    fn new(options: &[(&str, &str)]) -> Result<Self> {
        let redis = Server::redis()?;
        let mut connection = redis.connect()?;
        let quick = ("repl-diskless-sync-delay", "0");
        for (name, value) in [quick].iter().chain(options) {
            connection.call(&["CONFIG", "SET", name, value])?;
        }
        for number in 0..5_000 {
            let key = format!("many:{number}");
            connection.send(&["SET", &key, &number.to_string()])?;
        }
        for _ in 0..5_000 {
            connection.receive()?;
        }
        let cluster = Cluster::start(Options { shards: 2, replicas: 0, ..Options::default() })?;
        Ok(Self { redis, cluster })
    }

    fn import(&self, log: &Path, more: &[&str]) -> Result<Process> {
        let url = format!("redis://{}", self.redis.address);
        let to = self.cluster.master(0)?.announced()?.to_string();
        let mut command = Command::new(process::holdfast()?);
        command.args(["ctl", "import", "redis", &url, "--to", &to, "--follow"]).args(more);
        Process::start_command(command, log)
    }

    fn keys(&self) -> Result<(i64, i64)> {
        let size = |connection: &mut Connection| match connection.call(&["DBSIZE"])? {
            Reply::Integer(keys) => Ok(keys),
            other => bail!("DBSIZE: {other:?}"),
        };
        let mut here = 0;
        for shard in 0..2 {
            here += size(&mut Connection::open(self.cluster.master(shard)?.announced()?)?)?;
        }
        Ok((here, size(&mut self.redis.connect()?)?))
    }
}

fn ended(import: &mut Process) -> Result<bool> {
    ended_within(import, PATIENCE)
}

fn ended_within(import: &mut Process, patience: Duration) -> Result<bool> {
    wait::until("the end of the import", patience, || match import.ended()? {
        Some(status) => Ok(status.success()),
        None => bail!("{}", import.log()),
    })
}

/// The last number before these words.
fn last(said: &str, words: &str) -> Option<u64> {
    let (before, _) = said.rsplit_once(words)?;
    before.trim_end().rsplit([' ', '\n']).next()?.parse().ok()
}

#[test]
fn a_redis_is_given_up_for_a_cluster_while_it_takes_writes() -> Result<()> {
    let stage = Stage::new(&[])?;
    let megabytes = std::env::var(DATA_VARIABLE).map_or(Ok(1), |text| text.parse::<u32>());
    let megabytes = megabytes.context(DATA_VARIABLE)?;
    let mut redis = stage.redis.connect()?;
    (0..megabytes).try_for_each(|number| fill(&mut redis, number))?;
    let writers = [Writer::start(&stage.redis, 1)?, Writer::start(&stage.redis, 2)?];
    let began = Instant::now();
    let folder = tempfile::tempdir().context("a folder")?;
    let spool = folder.path().to_str().context("a path")?;
    let mut import =
        stage.import(&folder.path().join("log"), &["--cut-over", "--verify", "--spool", spool])?;
    // Each megabyte is read, put and compared.
    let patience = PATIENCE + Duration::from_secs(megabytes.into());
    let is_done = ended_within(&mut import, patience)?;
    let said = import.log();
    ensure!(is_done && said.contains("cut over at offset"), "{said}");
    let memory = redis.call(&["INFO", "memory"])?.text();
    let used = memory.lines().find(|line| line.starts_with("used_memory:")).unwrap_or_default();
    println!("{megabytes} MB, {used}: {:.1} s in all\n{said}", began.elapsed().as_secs_f64());
    for writer in writers {
        ensure!(writer.end()?, "the Redis took writes after it was cut off");
    }
    ensure!(last(&said, "keys compared, all equal") >= Some(5_000), "{said}");
    let (here, there) = stage.keys()?;
    ensure!(here == there, "{here} keys, not {there}: {said}");
    // It can be taken back.
    let undo = said.rsplit_once("To take it back: ").context("no way back")?.1;
    let undo = undo.lines().next().context("no way back")?;
    ensure!(matches!(redis.call(&["SET", "k", "v"])?, Reply::Error(_)), "it takes writes");
    redis.call(&undo.split(' ').collect::<Vec<_>>())?;
    ensure!(redis.call(&["SET", "k", "v"])?.text() == "OK", "it takes none");
    Ok(())
}

#[test]
fn a_stream_that_breaks_goes_on_and_a_signal_ends_it() -> Result<()> {
    // The writers are faster than what follows: what it is behind by must be there when it is back.
    let stage = Stage::new(&[("repl-diskless-sync", "no"), ("repl-backlog-size", "256mb")])?;
    let folder = tempfile::tempdir().context("a folder")?;
    let mut import = stage.import(&folder.path().join("log"), &[])?;
    let mut redis = stage.redis.connect()?;
    for round in 0..3 {
        let writer = Writer::start(&stage.redis, 10 + round)?;
        let base = last(&import.log(), "commands followed").unwrap_or(0);
        wait::until("commands to be followed", PATIENCE, || {
            let said = import.log();
            ensure!(import.ended()?.is_none(), "it ended: {said}");
            let (followed, written) =
                (last(&said, "commands followed"), writer.written.load(Ordering::Relaxed));
            ensure!(followed >= Some(base + WRITES) && written >= WRITES, "{said}");
            Ok(())
        })?;
        ensure!(redis.call(&["CLIENT", "KILL", "TYPE", "replica"])?.text() == "1", "no replica");
        if round == 1 {
            redis.call(&["FLUSHALL"])?;
        }
        ensure!(!writer.end()?, "the Redis refused writes");
    }
    // What was written while the stream was broken comes too.
    redis.call(&["SET", "{last}a", "1"])?;
    redis.call(&["MSET", "last:a", "1", "last:b", "2"])?;
    let mut here = Connection::open(stage.cluster.master(0)?.announced()?)?;
    let mut there = Connection::open(stage.cluster.master(1)?.announced()?)?;
    wait::until("the last key", PATIENCE, || {
        let found = [&mut here, &mut there].map(|node| node.call(&["GET", "last:b"]));
        let found: Vec<String> =
            found.into_iter().filter_map(|reply| Some(reply.ok()?.text())).collect();
        ensure!(found.iter().any(|text| text == "2"), "{found:?}: {}", import.log());
        Ok(())
    })?;
    wait::until("all to be there", PATIENCE, || {
        ensure!(import.log().ends_with(&offset(&mut redis)?), "{}", import.log());
        Ok(())
    })?;
    process::signal(import.pid(), libc::SIGINT)?;
    ensure!(ended(&mut import)?, "{}", import.log());
    let said = import.log();
    ensure!(said.contains("all that the Redis had is at the target"), "{said}");
    let (here, there) = stage.keys()?;
    ensure!(here == there, "{here} keys, not {there}: {said}");
    Ok(())
}

/// The import is behind: it reads keys anew that are ahead of the stream, and then comes to an
/// earlier FLUSHALL.
#[test]
fn a_flush_takes_nothing_that_was_written_after_it() -> Result<()> {
    let stage = Stage::new(&[])?;
    let folder = tempfile::tempdir().context("a folder")?;
    let mut import = stage.import(&folder.path().join("log"), &[])?;
    let mut redis = stage.redis.connect()?;
    let keeps_up = |import: &mut Process, redis: &mut Connection| {
        wait::until("all to be there", PATIENCE, || {
            ensure!(import.ended()?.is_none(), "it ended: {}", import.log());
            ensure!(import.log().ends_with(&offset(redis)?), "{}", import.log());
            Ok(())
        })
    };
    keeps_up(&mut import, &mut redis)?;
    process::signal(import.pid(), libc::SIGSTOP)?;
    // Of several slots: such keys are read anew.
    redis.call(&["MSET", "behind:a", "1", "behind:b", "1"])?;
    redis.call(&["FLUSHALL"])?;
    for key in ["behind:a", "behind:b"] {
        ensure!(redis.call(&["SET", key, "2"])?.text() == "OK");
    }
    process::signal(import.pid(), libc::SIGCONT)?;
    keeps_up(&mut import, &mut redis)?;
    process::signal(import.pid(), libc::SIGINT)?;
    ensure!(ended(&mut import)?, "{}", import.log());
    let (here, there) = stage.keys()?;
    ensure!((here, there) == (2, 2), "{here} keys, not {there}: {}", import.log());
    Ok(())
}

/// The end of the line that says that nothing is left to do.
fn offset(redis: &mut Connection) -> Result<String> {
    let info = redis.call(&["INFO", "replication"])?.text();
    let line = info.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
    Ok(format!("0 bytes behind, at offset {}\n", line.context("no offset")?.trim()))
}
