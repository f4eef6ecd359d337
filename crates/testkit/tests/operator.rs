//! What operators decide, through `holdfast ctl` against real clusters: discarded writes, commit
//! modes, losses.

mod common;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value as Json;
use testkit::cluster::{Cluster, Node, Options};
use testkit::process;
use testkit::wait;
use testkit::wire::{Connection, Reply, Shape};

use common::{PATIENCE, get, key_at, number, replicated, write_until_ok};

const WRITES: usize = 100;
/// Of these, written again by others before anybody thinks of putting them back.
const NEWER: usize = 10;
/// What is discarded besides, each of another key. `tags` is there before, `profile` is newer.
const OF_OTHER_TYPES: [&str; 9] = [
    "SADD tags new",
    "HSET profile f discarded",
    "RPUSH jobs x",
    "PFADD visitors p",
    "XADD log 1-1 f v",
    "ZADD board 1 m",
    "BF.ADD filter i",
    "JSON.SET document $ [1]",
    "SETBIT bits 9000 1",
];

fn ctl(cluster: &Cluster, words: &[&str]) -> Result<String> {
    let url = cluster.state()?.controller.url;
    let output = Command::new(process::holdfast()?)
        .args(["ctl", "-H", &url])
        .args(words)
        .output()
        .context("run ctl")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_json = words.contains(&"--json") || words.contains(&"show");
    if let Some(long) = said.lines().find(|line| line.chars().count() > 100 && !is_json) {
        bail!("{words:?} says more than fits a line: {long}");
    }
    // Of `status`: not healthy, and stuck.
    let is_told = words.contains(&"status") && matches!(output.status.code(), Some(3 | 4));
    if !output.status.success() && !is_told {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(said)
}

fn ctl_json(cluster: &Cluster, words: &[&str]) -> Result<Json> {
    let said = ctl(cluster, &[&["--json"], words].concat())?;
    serde_json::from_str(&said).with_context(|| said)
}

/// Waits until the first shard is as it should be; the status then.
fn until(cluster: &Cluster, what: &str, is_so: impl Fn(&Json) -> bool) -> Result<Json> {
    wait::until(what, PATIENCE, || {
        let status = ctl_json(cluster, &["status"])?;
        ensure!(is_so(&status), "{status:#}");
        Ok(status)
    })
    .with_context(|| cluster.logs())
}

fn is_healthy(status: &Json) -> bool {
    status["healthy"] == true
}

fn members(status: &Json) -> usize {
    status["shards"][0]["in_sync"].as_array().map_or(0, Vec::len)
}

/// `count` writes in one go; all must be acknowledged.
fn write_all(connection: &mut Connection, count: usize, value: &str) -> Result<()> {
    for number in 0..count {
        connection.send(&["SET", &name(number), value])?;
    }
    for number in 0..count {
        let said = connection.receive()?;
        ensure!(said.text() == "OK", "{number}: {said:?}");
    }
    Ok(())
}

/// Binary, and with what JSON and terminals find hard.
fn name(number: usize) -> String {
    format!("k {number}\"\\\u{1}ÿ")
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.into())
}

fn several(replies: Vec<Reply>) -> Reply {
    Reply::Many(Shape::Array, replies)
}

/// Stops a replica, which gets nothing more of what its master takes.
fn part(cluster: &Cluster, master: &Node, replica: &Node) -> Result<()> {
    process::signal(replica.running()?, libc::SIGSTOP)?;
    // What would still reach it without this waits in its sockets.
    let mut peer = cluster.peer(master)?;
    let killed = peer.call(&["CLIENT", "KILL", "TYPE", "REPLICA"])?;
    ensure!(killed == Reply::Integer(1), "{killed:?}");
    // What feeds it ends a moment later, and would send what is written until then.
    wait::until("the stream has ended", PATIENCE, || {
        let info = peer.call(&["INFO", "replication"])?.text();
        ensure!(info.contains("connected_slaves:0"), "{info}");
        Ok(())
    })
}

/// A shard parts: its master takes writes alone, which it discards when it comes back. A client of
/// the new master, which has some newer ones, and the node that was master.
fn discard(cluster: &Cluster) -> Result<(Connection, Node)> {
    let (old, replica) = (cluster.master(0)?, cluster.replica(0)?);
    let address = old.announced()?;
    write_until_ok(address, "before", "1")?;
    let mut client = Connection::open(address)?;
    ensure!(client.call(&["SADD", "tags", "old"])? == Reply::Integer(1));
    write_until_ok(address, "before", "2")?;
    replicated(cluster, &replica, "before", "2")?;
    ensure!(ctl(cluster, &["discarded", "list"])?.contains("no node that answers holds"));

    // Asynchronously acknowledged, while the replica is away.
    part(cluster, &old, &replica)?;
    write_all(&mut client, WRITES, "discarded")?;
    for command in OF_OTHER_TYPES {
        let words: Vec<&str> = command.split(' ').collect();
        let said = client.call(&words)?;
        ensure!(said.error_code().is_none(), "{command}: {said:?}");
    }
    process::signal(old.running()?, libc::SIGSTOP)?;
    process::signal(replica.running()?, libc::SIGCONT)?;
    wait::until("the replica takes over", PATIENCE, || {
        let by = write_until_ok(address, "after", "1")?;
        ensure!(by == replica.id, "{by}");
        Ok(())
    })
    .with_context(|| cluster.logs())?;
    let mut client = Connection::open(address)?;
    ensure!(client.call(&["EXISTS", &name(0)])? == Reply::Integer(0), "they were replicated");
    write_all(&mut client, NEWER, "newer")?;
    ensure!(client.call(&["HSET", "profile", "f", "newer"])? == Reply::Integer(1));
    process::signal(old.running()?, libc::SIGCONT)?;
    cluster.await_return(&old, PATIENCE)?;
    Ok((client, old))
}

/// Keys of other types, of which one is newer, and one was taken.
fn are_as_discarded(client: &mut Connection) -> Result<()> {
    for (question, wanted) in [
        ("SMISMEMBER tags old new", several(vec![Reply::Integer(1), Reply::Integer(1)])),
        ("SCARD tags", Reply::Integer(2)),
        ("HGET profile f", bulk("newer")),
        ("PFCOUNT visitors", Reply::Integer(1)),
        ("XLEN log", Reply::Integer(1)),
        ("ZSCORE board m", bulk("1")),
        ("BF.EXISTS filter i", Reply::Integer(1)),
        ("JSON.GET document", bulk("[1]")),
        ("GETBIT bits 9000", Reply::Integer(1)),
    ] {
        let said = client.call(&question.split(' ').collect::<Vec<_>>())?;
        ensure!(said == wanted, "{question}: {said:?}");
    }
    Ok(())
}

#[test]
fn discarded_writes_are_listed_shown_and_put_back_where_nothing_is_newer() -> Result<()> {
    let options = Options { shards: 1, commit_mode: Some("async"), ..Options::default() };
    let cluster = Cluster::start(options)?;
    until(&cluster, "a healthy cluster", is_healthy)?;
    let (mut client, old) = discard(&cluster)?;
    let address = old.announced()?;
    let list = ctl_json(&cluster, &["discarded", "list"])?;
    let exports = list["exports"].as_array().context("exports")?;
    ensure!(exports.len() == 1 && list["silent"] == serde_json::json!([]), "{list:#}");
    let export = &exports[0];
    ensure!(export["node"] == old.id.as_str(), "{export}");
    ensure!(export["records"].as_u64() > Some(WRITES as u64), "{export}");
    ensure!(export["epoch"].as_u64() > Some(0), "{export}");
    let file = export["file"].as_str().context("a file")?;
    let shown = ctl(&cluster, &["--json", "discarded", "show", file])?;
    let first: Json = serde_json::from_str(shown.lines().next().unwrap_or_default())?;
    let bytes: Vec<u8> = (first["key"].as_str().context("a key")?.chars())
        .filter_map(|char| u8::try_from(char).ok())
        .collect();
    ensure!(bytes == name(0).as_bytes() && first["words"][2] == "discarded", "{first}");
    let shown = ctl(&cluster, &["discarded", "show", file])?;
    for line in ["SADD \"tags\" \"new\"", "RPUSH \"jobs\" \"x\"", "# \"visitors\": a hyperloglog"] {
        ensure!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }

    // Nothing happens before it is said twice.
    let dry = ctl_json(&cluster, &["discarded", "apply", file])?;
    let others = OF_OTHER_TYPES.len();
    let expected =
        serde_json::json!({"applied": WRITES - NEWER + others - 1, "changed": NEWER + 1});
    ensure!(dry["counts"] == expected && dry["done"] == false, "{dry:#}");
    ensure!(client.call(&["EXISTS", &name(NEWER)])? == Reply::Integer(0));
    let mut worker = Connection::open(address)?;
    worker.send(&["BLPOP", "jobs", "0"])?;
    let done = ctl_json(&cluster, &["discarded", "apply", file, "--yes"])?;
    ensure!(done["counts"] == expected && done["done"] == true, "{done:#}");
    for number in 0..WRITES {
        let wanted = if number < NEWER { "newer" } else { "discarded" };
        let said = client.call(&["GET", &name(number)])?;
        ensure!(said == Reply::Bulk(wanted.into()), "{number}: {said:?}");
    }
    let job = worker.receive()?;
    ensure!(job == several(vec![bulk("jobs"), bulk("x")]), "{job:?}");
    are_as_discarded(&mut client)?;
    // Once more does no harm, also where a client has removed one since.
    client.call(&["DEL", &name(NEWER)])?;
    let again = ctl_json(&cluster, &["discarded", "apply", file, "--yes"])?;
    // That of the worker and the one that was newer are not as they were either.
    let expected =
        serde_json::json!({"same": WRITES - NEWER - 1 + others - 2, "changed": NEWER + 3});
    ensure!(again["counts"] == expected, "{again:#}");
    ensure!(client.call(&["EXISTS", &name(NEWER)])? == Reply::Integer(0));
    let absent = ctl_json(&cluster, &["discarded", "apply", file, "--if-absent"])?;
    let counts = &absent["counts"];
    ensure!(counts["applied"] == 2 && counts["exists"] == NEWER + 1, "{absent:#}");
    // A connection without the secret of peers may not ask this.
    let said = Connection::open(address)?.call(&["CLUSTERX", "DISCARDED", "LIST"])?;
    ensure!(said.error_code().as_deref() == Some("NOPERM"), "{said:?}");
    let mut peer = cluster.peer(&old)?;
    let twice = ["CLUSTERX", "DISCARDED", "APPLY", "1", "-", "DRY", "ABSENT"].into_iter();
    let twice: Vec<&str> =
        twice.chain(["DEL", "k", "", "0"]).chain(["DEL", "k", "", "0"]).collect();
    ensure!(peer.call(&twice)?.text().contains("named once"));
    for file in ["../../secret", "/etc/passwd", "1-2.jsonl"] {
        let said = peer.call(&["CLUSTERX", "DISCARDED", "READ", file, "0", "100"])?;
        ensure!(said.error_code().as_deref() == Some("ERR"), "{file}: {said:?}");
    }
    Ok(())
}

/// The first shard's replica stops following, the master goes on alone for a while, and stops too.
fn lose_writes(cluster: &Cluster, old: &Node, replica: &Node) -> Result<()> {
    let address = old.announced()?;
    part(cluster, old, replica)?;
    write_all(&mut Connection::open(address)?, WRITES, "lost")?;
    until(cluster, "the controller to see them", |status| {
        let nodes = status["shards"][0]["nodes"].as_array();
        let lags = nodes.into_iter().flatten().filter_map(|node| node["lag"].as_u64());
        lags.max().unwrap_or(0) >= WRITES as u64
    })?;
    process::signal(old.running()?, libc::SIGSTOP)?;
    process::signal(replica.running()?, libc::SIGCONT)?;
    wait::until("the replica takes over", PATIENCE, || {
        let by = write_until_ok(address, "after", "1")?;
        ensure!(by == replica.id, "{by}");
        Ok(())
    })
    .with_context(|| cluster.logs())
}

#[test]
fn a_failover_that_lost_writes_is_told_of_also_by_the_next_controller() -> Result<()> {
    let options = Options { shards: 1, commit_mode: Some("async"), ..Options::default() };
    let cluster = Cluster::start(options)?;
    until(&cluster, "a healthy cluster", is_healthy)?;
    let (old, replica) = (cluster.master(0)?, cluster.replica(0)?);
    write_until_ok(old.announced()?, "before", "1")?;
    replicated(&cluster, &replica, "before", "1")?;
    let lost_writes = || -> Result<f64> {
        let url = cluster.state()?.controller.url;
        let address = url.strip_prefix("http://").context("an URL")?.parse()?;
        number(&get(address, "/metrics")?, "holdfast_controller_lost_writes_total")
    };
    ensure!(lost_writes()? == 0.0, "nothing is lost yet");
    lose_writes(&cluster, &old, &replica)?;

    let is_told = |status: &Json| {
        let alarms = status["alarms"].as_array().into_iter().flatten();
        let mut texts = alarms.filter_map(Json::as_str);
        texts.any(|text| text.starts_with("shard 0: ") && text.contains("without its last "))
    };
    until(&cluster, "an alarm", is_told)?;
    ensure!(lost_writes()? >= WRITES as f64, "{}", lost_writes()?);
    let events = wait::until("the event", PATIENCE, || {
        let events = ctl_json(&cluster, &["events", "--limit", "1000"])?;
        let of_kind = |event: &&Json| event["kind"] == "loss";
        let all = events["events"].as_array().or(events.as_array()).context("events")?;
        let losses: Vec<&str> =
            all.iter().filter(of_kind).filter_map(|event| event["text"].as_str()).collect();
        ensure!(losses.len() == 1, "{events:#}");
        Ok(losses[0].to_owned())
    })?;
    ensure!(events.contains("`ctl discarded list` shows them"), "{events}");

    let before = cluster.state()?.controller.pid.context("the controller runs")?;
    process::signal(before, libc::SIGKILL)?;
    cluster.await_that("another controller", PATIENCE, |state| {
        state.controller.pid.is_some_and(|pid| pid != before)
    })?;
    wait::until("the same alarm", PATIENCE, || {
        let status = ctl_json(&cluster, &["status"])?;
        ensure!(is_told(&status) && status["alarms"].to_string().contains(&events), "{status:#}");
        Ok(())
    })
    .with_context(|| cluster.logs())?;

    process::signal(old.running()?, libc::SIGCONT)?;
    cluster.await_return(&old, PATIENCE)?;
    let list = ctl_json(&cluster, &["discarded", "list"])?;
    ensure!(list["exports"][0]["records"] == WRITES, "{list:#}");
    Ok(())
}

#[test]
fn a_commit_mode_changes_both_ways_while_clients_write() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, ..Options::default() })?;
    let in_sync = |status: &Json| is_healthy(status) && members(status) == 2;
    let status = until(&cluster, "a whole set", in_sync)?;
    ensure!(status["commit_mode"] == "in-sync", "{status:#}");
    let mut epoch = status["shards"][0]["epoch"].as_u64().context("an epoch")?;
    let address = cluster.master(0)?.announced()?;
    let mut written = 0;
    let mut write = |count: usize| -> Result<()> {
        for _ in 0..count {
            write_until_ok(address, &format!("w{written}"), "1")?;
            written += 1;
        }
        Ok(())
    };
    for (mode, members_then) in [("async", 0), ("in-sync", 2), ("async", 0), ("in-sync", 2)] {
        ctl(&cluster, &["set", "cluster", "--commit-mode", mode])?;
        write(5)?;
        let status = until(&cluster, mode, |status| {
            is_healthy(status) && status["commit_mode"] == mode && members(status) == members_then
        })?;
        let now = status["shards"][0]["epoch"].as_u64().context("an epoch")?;
        ensure!(now > epoch, "epoch {epoch}, then {now}");
        epoch = now;
        write(5)?;
    }
    ctl(&cluster, &["set", "cluster", "--min-in-sync", "2"])?;
    let refused = ctl(&cluster, &["set", "cluster", "--min-in-sync", "3"]);
    ensure!(
        refused
            .is_err_and(|error| error.to_string().contains("min_in_sync is 3; accepted: 1 to 2"))
    );
    // In-sync again means: a replica that does not acknowledge is waited for, or writes are
    // refused.
    until(&cluster, "min-in-sync 2", |status| status["min_in_sync"] == 2)?;
    process::signal(cluster.replica(0)?.running()?, libc::SIGSTOP)?;
    wait::until("writes are refused", PATIENCE, || {
        let mut client = Connection::open(address)?;
        client.set_patience(Duration::from_secs(2))?;
        let said = client.call(&["SET", "w", "1"])?;
        ensure!(said.error_code().as_deref() == Some("NOREPLICAS"), "{said:?}");
        Ok(())
    })
    .with_context(|| cluster.logs())?;
    process::signal(cluster.replica(0)?.running()?, libc::SIGCONT)?;
    until(&cluster, "a whole set", in_sync)?;
    write(1)?;
    let mut client = Connection::open(address)?;
    for number in 0..written {
        let said = client.call(&["EXISTS", &format!("w{number}")])?;
        ensure!(said == Reply::Integer(1), "w{number} is lost");
    }
    Ok(())
}

#[test]
fn a_shard_whose_data_is_all_gone_goes_on_only_when_an_operator_accepts_that() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, ..Options::default() })?;
    until(&cluster, "a whole set", |status| is_healthy(status) && members(status) == 2)?;
    let (master, replica) = (cluster.master(0)?, cluster.replica(0)?);
    let address = master.announced()?;
    let key = key_at(address)?;
    write_until_ok(address, &key, "1")?;
    let accept = |node: &str, more: &[&str]| {
        let words = ["--json", "shard", "accept-loss", "0", "--node", node];
        ctl(&cluster, &[&words, more].concat())
    };
    let refused = accept(&replica.id, &["--yes"]).map_err(|error| error.to_string());
    ensure!(refused.as_ref().is_err_and(|text| text.contains("nothing is lost")), "{refused:?}");

    // Both disks, while nobody is there to start their nodes again.
    process::signal(cluster.up_pid()?, libc::SIGSTOP)?;
    for node in [&master, &replica] {
        process::signal(node.running()?, libc::SIGKILL)?;
    }
    for node in [&master, &replica] {
        wait::until("it is dead", PATIENCE, || match process::is_alive(node.running()?) {
            true => bail!("alive"),
            false => Ok(()),
        })?;
        let db = cluster.dir().join("nodes").join(node.port.to_string()).join("db");
        std::fs::remove_dir_all(&db).with_context(|| db.display().to_string())?;
    }
    process::signal(cluster.up_pid()?, libc::SIGCONT)?;
    let is_stuck = |status: &Json| {
        let nodes = status["shards"][0]["nodes"].as_array();
        let all_up = nodes.is_some_and(|nodes| nodes.iter().all(|node| node["health"] == "up"));
        status["shards"][0]["state"] == "stuck" && all_up
    };
    until(&cluster, "a stuck shard", is_stuck)?;
    let told = accept(&replica.id, &[])?;
    let told: Json = serde_json::from_str(&told)?;
    ensure!(told["done"] == false && told["members"].as_array().map(Vec::len) == Some(2));
    let mut client = Connection::open(address);
    let said = client.as_mut().ok().and_then(|client| client.call(&["SET", &key, "2"]).ok());
    ensure!(!matches!(said, Some(Reply::Simple(_))), "{said:?}");
    until(&cluster, "a stuck shard", is_stuck)?;

    let done: Json = serde_json::from_str(&accept(&replica.id, &["--yes"])?)?;
    ensure!(done["done"] == true, "{done}");
    let by = write_until_ok(address, &key, "3")?;
    ensure!(by == replica.id, "{by}");
    let status =
        until(&cluster, "a whole set", |status| is_healthy(status) && members(status) == 2)?;
    ensure!(status["shards"][0]["epoch"].as_u64() > told["epoch"].as_u64(), "{status:#}");
    let events = ctl(&cluster, &["events", "--limit", "1000"])?;
    ensure!(events.contains("AN OPERATOR ACCEPTED ITS LOSS"), "{events}");
    let refused = accept(&replica.id, &["--yes"]).map_err(|error| error.to_string());
    ensure!(refused.is_err_and(|text| text.contains("nothing is lost")));
    Ok(())
}

/// A cluster is never taken out of service unasked, and there is a way back from having given it to
/// a controller.
#[test]
fn a_cluster_is_forgotten_only_by_name_and_released_to_go_on_alone() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, ..Options::default() })?;
    let status = until(&cluster, "health", is_healthy)?;
    let name = status["name"].as_str().context("a name")?.to_owned();
    for words in [&["delete", "cluster", &name][..], &["delete", "cluster", &name, "--yes", "x"]] {
        let refused = ctl(&cluster, words).map_err(|error| error.to_string());
        ensure!(refused.is_err_and(|text| text.contains("othing was changed")));
    }
    ctl(&cluster, &["pause", "cluster", "--reason", "kernels"])?;
    until(&cluster, "an alarm", |status| {
        status["alarms"].to_string().contains("paused by an operator (kernels)")
    })?;
    ctl(&cluster, &["resume", "cluster"])?;
    until(&cluster, "no alarm", |status| status["alarms"].as_array().is_some_and(Vec::is_empty))?;

    // On a busy machine a replica may be late, and what is given up changes nothing.
    let told =
        wait::until("a switchover", PATIENCE, || ctl(&cluster, &["failover", "shard", "0"]))?;
    ensure!(told.starts_with("node ") && told.contains(" is master of shard 0"), "{told}");
    until(&cluster, "health", is_healthy)?;
    let told = ctl(&cluster, &["release", "cluster", &name])?;
    ensure!(told.contains("would go on without leases") && told.contains("block-all"), "{told}");
    until(&cluster, "health", is_healthy)?;
    let told = ctl(&cluster, &["release", "cluster", &name, "--yes", &name])?;
    ensure!(told.contains("has forgotten it") && !told.contains("asks for leases again"), "{told}");
    ensure!(ctl(&cluster, &["get", "cluster", &name]).is_err());

    // A new process of the master has neither lease nor grant, and serves.
    let master = cluster.master(0)?;
    let address = master.announced()?;
    let key = key_at(address)?;
    let before = master.running()?;
    process::signal(before, libc::SIGKILL)?;
    wait::until("another process of it", PATIENCE, || {
        let now = cluster.master(0)?.running()?;
        ensure!(now != before && process::is_alive(now), "{now}");
        Ok(())
    })?;
    let by = write_until_ok(address, &key, "alone")?;
    ensure!(by == master.id, "{by}");
    let mut peer = cluster.peer(&master)?;
    ensure!(peer.call(&["CONFIG", "GET", "master-lease-mode"])? != Reply::NilArray);
    let told = peer.call(&["CLUSTERX", "CONTROLLER"])?.text();
    ensure!(told.contains("cluster_id:") && !told.contains("heard_ms"), "{told}");
    Ok(())
}

/// Also a password that was mistyped at one node is told where people look.
#[test]
fn an_alarm_says_why_a_replica_does_not_follow() -> Result<()> {
    let cluster = Cluster::start(Options { shards: 1, ..Options::default() })?;
    until(&cluster, "a whole set", |status| is_healthy(status) && members(status) == 2)?;
    let (master, replica) = (cluster.master(0)?, cluster.replica(0)?);
    let set = |value: &str| -> Result<()> {
        let said = cluster.peer(&replica)?.call(&["CONFIG", "SET", "masterauth", value])?;
        ensure!(said.text() == "OK", "{said:?}");
        Ok(())
    };
    set("mistyped")?;
    let killed = cluster.peer(&master)?.call(&["CLIENT", "KILL", "TYPE", "REPLICA"])?;
    ensure!(killed == Reply::Integer(1), "{killed:?}");
    until(&cluster, "an alarm with the reason", |status| {
        let alarms = status["alarms"].to_string();
        alarms.contains("does not follow its master: master refused")
            && alarms.contains("WRONGPASS")
    })?;
    let info = cluster.peer(&replica)?.call(&["INFO", "replication"])?.text();
    ensure!(info.contains("master_sync_unrecoverable_error:yes"), "{info}");
    set("")?;
    until(&cluster, "a whole set", |status| is_healthy(status) && members(status) == 2)?;
    Ok(())
}
