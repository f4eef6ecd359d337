//! Applications as they are, through a load balancer: what people run beside their clients.

mod common;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use common::PATIENCE;
use testkit::clients::{self, Application};
use testkit::cluster::{Cluster, Options};
use testkit::process::Process;
use testkit::wait;
use testkit::wire::Connection;

/// redis-cli at an announced address.
fn cli(at: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new("redis-cli");
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    command.args(["-h", &host, "-p", &port]).args(arguments);
    command
}

fn said(output: &Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}{errors}", output.status);
    Ok(said)
}

/// A command in the protocol, as `--pipe` reads it.
fn command(words: &[&str]) -> String {
    let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    let words: Vec<String> = words.collect();
    format!("*{}\r\n{}", words.len(), words.concat())
}

/// `--pipe` sends everything at once and reads replies meanwhile.
fn pipe(at: SocketAddr, commands: &str) -> Result<String> {
    let mut child = cli(at, &["--pipe"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start redis-cli")?;
    let mut input = child.stdin.take().context("its input")?;
    input.write_all(commands.as_bytes()).context("write the commands")?;
    drop(input);
    said(&child.wait_with_output().context("wait for redis-cli")?)
}

/// Whether a line of `--stat` begins with this number of keys.
fn shows(line: &str, keys: usize) -> bool {
    line.split_whitespace().next() == Some(&keys.to_string())
}

#[test]
fn redis_cli_loads_lists_and_measures_a_shard() -> Result<()> {
    const STRINGS: usize = 5000;
    let cluster = Cluster::start(Options { balancer: "builtin", ..Options::default() })?;
    let at = cluster.master(0)?.announced()?;
    // All in the slot of one tag, of which the right shard is asked.
    let mut connection = Connection::open(at)?;
    let tag = (0..1000)
        .map(|number| format!("{{t{number}}}"))
        .find(|tag| connection.call(&["EXISTS", tag]).is_ok_and(|reply| reply.text() == "0"))
        .context("no slot is at that address")?;
    let mut commands: Vec<String> = (0..STRINGS)
        .map(|number| command(&["SET", &format!("{tag}:s:{number}"), &"x".repeat(number % 90)]))
        .collect();
    let (hash, list, set) = (format!("{tag}:h"), format!("{tag}:l"), format!("{tag}:set"));
    let (zset, stream, json) = (format!("{tag}:z"), format!("{tag}:x"), format!("{tag}:j"));
    for number in 0..50 {
        let number = &number.to_string();
        commands.push(command(&["HSET", &hash, number, "v"]));
        commands.push(command(&["RPUSH", &list, number]));
        commands.push(command(&["SADD", &set, number]));
        commands.push(command(&["ZADD", &zset, number, number]));
        commands.push(command(&["XADD", &stream, "*", "f", number]));
    }
    commands.push(command(&["JSON.SET", &json, "$", "{\"a\":1}"]));
    let loaded = pipe(at, &commands.concat()).with_context(|| cluster.logs())?;
    ensure!(loaded.contains(&format!("errors: 0, replies: {}", commands.len())), "{loaded}");

    let pattern = format!("{tag}:s:*");
    let listed = said(&cli(at, &["--scan", "--pattern", &pattern]).output()?)?;
    let mut keys: Vec<&str> = listed.lines().collect();
    ensure!(keys.len() == STRINGS, "--scan lists {} keys", keys.len());
    keys.sort_unstable();
    keys.dedup();
    ensure!(keys.len() == STRINGS, "--scan lists keys twice");

    let big = said(&cli(at, &["--bigkeys"]).output()?)?;
    for found in [
        format!("Sampled {} keys in the keyspace!", STRINGS + 6),
        format!("Biggest   hash found '\"{hash}\"' has 50 fields"),
        format!("Biggest   list found '\"{list}\"' has 50 items"),
        format!("Biggest    set found '\"{set}\"' has 50 members"),
        format!("Biggest   zset found '\"{zset}\"' has 50 members"),
        format!("Biggest stream found '\"{stream}\"' has 50 entries"),
        "has 89 bytes".to_owned(),
    ] {
        ensure!(big.contains(&found), "{found:?} is not in: {big}");
    }

    // It goes on until it is ended.
    let folder = tempfile::tempdir().context("create a folder")?;
    let stat = cli(at, &["-i", "0.1", "--stat"]);
    let stat = Process::start_command(stat, &folder.path().join("stat.log"))?;
    wait::until("--stat shows the keys", PATIENCE, || {
        let lines = stat.log();
        let count = lines.lines().filter(|line| shows(line, STRINGS + 6)).count();
        ensure!(count >= 2, "{lines}");
        Ok(())
    })?;

    // It needs MEMORY USAGE, and says so where there is none.
    let has_usage = connection.call(&["MEMORY", "USAGE", &hash])?.text().parse::<u64>().is_ok();
    let output = cli(at, &["--memkeys"]).output()?;
    let memory = String::from_utf8_lossy(&output.stdout);
    ensure!(!has_usage || memory.contains(&format!("Sampled {} keys", STRINGS + 6)), "{memory}");
    Ok(())
}

#[test]
fn node_redis_keeps_documents() -> Result<()> {
    runs(Application::Documents, 3, "ok 100 3")
}

/// Runs a program at one address of a cluster, and compares the line it ends with.
fn runs(application: Application, shards: u16, ends_with: &str) -> Result<()> {
    let Some(program) = clients::application(application)? else { return Ok(()) };
    let cluster = Cluster::start(Options { shards, balancer: "builtin", ..Options::default() })?;
    let said = program.run_at(cluster.master(0)?.announced()?).with_context(|| cluster.logs())?;
    ensure!(said == ends_with, "{said}");
    Ok(())
}

/// Its steps are scripts, its workers wait in BZPOPMIN, its events are a stream.
#[test]
fn bullmq_runs_jobs_once_and_in_order() -> Result<()> {
    runs(Application::Jobs, 3, "ok 200")
}

/// It speaks to one address, as to a single Redis, and waits for several lists in one BRPOP.
#[test]
fn celery_runs_tasks_through_a_balancer() -> Result<()> {
    runs(Application::Tasks, 1, "ok 100")
}

#[test]
fn lettuce_hears_channels_in_order() -> Result<()> {
    runs(Application::Channels, 3, "ok 500")
}

/// A lock is a script, and who waits for it listens to a channel.
#[test]
fn redisson_gives_a_lock_to_one_at_a_time() -> Result<()> {
    runs(Application::Locks, 3, "ok 200")
}
