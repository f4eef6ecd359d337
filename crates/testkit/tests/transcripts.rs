//! `tests/compat/*.resp` against a node, with redis-server as the judge of differences.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use testkit::process::Server;
use testkit::transcript::probe;
use testkit::transcript::{Exceptions, File, play};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/compat")
}

fn check(name: &str) -> Result<()> {
    let file = File::read(&folder().join(name))?;
    let exceptions = Exceptions::read(&folder())?;
    let cluster = if file.is_cluster { "cluster-enabled yes" } else { "" };
    let node = Server::node(&format!("workers 2\nresp3-enabled yes\n{cluster}"))?;
    // Kvrocks' cluster commands are its own.
    let redis = if file.is_cluster { None } else { Some(Server::redis()?) };
    let report = play(&file, &node, redis.as_ref(), &exceptions)?;
    let text = report.render(name);
    ensure!(report.wrong.is_empty(), "some replies are like neither:\n{text}");
    let unused = exceptions.unused(name);
    ensure!(unused.is_empty(), "exceptions that nothing needs: {unused:#?}");
    Ok(())
}

/// The player itself: where two redis-servers are compared, nothing can be like neither.
#[test]
fn redis_is_like_redis() -> Result<()> {
    let file = File::read(&folder().join("string.resp"))?;
    let (one, other) = (Server::redis()?, Server::redis()?);
    let report = play(&file, &one, Some(&other), &Exceptions::default())?;
    ensure!(report.wrong.is_empty(), "{}", report.render("string.resp"));
    ensure!(report.compared > 200 && !report.like_redis.is_empty());
    Ok(())
}

#[test]
fn string() -> Result<()> {
    check("string.resp")
}

#[test]
fn hash() -> Result<()> {
    check("hash.resp")
}

#[test]
fn hexpire() -> Result<()> {
    check("hexpire.resp")
}

#[test]
fn later() -> Result<()> {
    check("later.resp")
}

#[test]
fn list() -> Result<()> {
    check("list.resp")
}

#[test]
fn set() -> Result<()> {
    check("set.resp")
}

#[test]
fn geo() -> Result<()> {
    check("geo.resp")
}

#[test]
fn sortedint() -> Result<()> {
    check("sortedint.resp")
}

#[test]
fn bloomfilter() -> Result<()> {
    check("bloomfilter.resp")
}

#[test]
fn cuckoo() -> Result<()> {
    check("cuckoo.resp")
}

#[test]
fn tdigest() -> Result<()> {
    check("tdigest.resp")
}

#[test]
fn timeseries() -> Result<()> {
    check("timeseries.resp")
}

#[test]
fn hll() -> Result<()> {
    check("hll.resp")
}

#[test]
fn bit() -> Result<()> {
    check("bit.resp")
}

#[test]
fn zset() -> Result<()> {
    check("zset.resp")
}

#[test]
fn stream() -> Result<()> {
    check("stream.resp")
}

#[test]
fn script() -> Result<()> {
    check("script.resp")
}

#[test]
fn function() -> Result<()> {
    check("function.resp")
}

#[test]
fn key() -> Result<()> {
    check("key.resp")
}

#[test]
fn server() -> Result<()> {
    check("server.resp")
}

#[test]
fn json() -> Result<()> {
    check("json.resp")
}

#[test]
fn txn() -> Result<()> {
    check("txn.resp")
}

#[test]
fn cluster() -> Result<()> {
    check("cluster.resp")
}

#[test]
fn pubsub() -> Result<()> {
    check("pubsub.resp")
}

#[test]
fn core_resp3() -> Result<()> {
    check("core.resp3")
}

/// Both versions of RESP, each with its own servers: what one asked changes no other.
fn probe(name: &str) -> Result<()> {
    let text = std::fs::read_to_string(folder().join(name))?;
    for is_resp3 in [false, true] {
        let (ours, theirs) = (Server::node("workers 2\nresp3-enabled yes")?, Server::redis()?);
        let outcome = probe::ask(&text, is_resp3, &ours, &theirs)?;
        ensure!(outcome.wrong.is_empty(), "{name}, RESP3 {is_resp3}:\n{}", outcome.wrong);
        ensure!(outcome.compared > 100, "{name}: only {} answers compared", outcome.compared);
    }
    Ok(())
}

#[test]
fn odd_strings() -> Result<()> {
    probe("string.probe")
}

#[test]
fn odd_hashes() -> Result<()> {
    probe("hash.probe")
}

#[test]
fn odd_lists() -> Result<()> {
    probe("list.probe")
}

#[test]
fn odd_sorts() -> Result<()> {
    probe("sort.probe")
}

#[test]
fn odd_sets() -> Result<()> {
    probe("set.probe")
}

#[test]
fn odd_sorted_sets() -> Result<()> {
    probe("zset.probe")
}

#[test]
fn odd_places() -> Result<()> {
    probe("geo.probe")
}

#[test]
fn odd_hyperloglogs() -> Result<()> {
    probe("hll.probe")
}

#[test]
fn odd_bits() -> Result<()> {
    probe("bit.probe")
}

#[test]
fn odd_streams() -> Result<()> {
    probe("stream.probe")
}

#[test]
fn odd_keys() -> Result<()> {
    probe("key.probe")
}

#[test]
fn odd_transactions() -> Result<()> {
    probe("txn.probe")
}

#[test]
fn odd_scripts() -> Result<()> {
    probe("scripts.probe")
}

#[test]
fn odd_connections() -> Result<()> {
    probe("connection.probe")
}

#[test]
fn odd_servers() -> Result<()> {
    probe("server.probe")
}

#[test]
fn odd_users() -> Result<()> {
    probe("acl.probe")
}

/// Every row of the table refuses too few and too many words as Redis does, and says of its arity
/// and keys what Redis says.
#[test]
fn arity_of_every_row() -> Result<()> {
    // DBSIZE SCAN and FLUSHSLOTS are Kvrocks'; PSYNC and REPLCONF have Kvrocks' arity, whose peers
    // send them so; ZRANK has the WITHSCORE of Redis 7.2.
    const OTHERWISE: [&str; 5] = ["dbsize", "psync", "replconf", "zrank", "zrevrank"];
    let (ours, theirs) = (Server::node("workers 2")?, Server::redis()?);
    let (mut ours, mut theirs) = (ours.connect()?, theirs.connect()?);
    let table = ours.call(&["COMMAND"])?;
    ensure!(table.elements().len() > 50, "the table is too short: {table:?}");
    for row in table.elements() {
        let [name, arity, _, first, last, step, ..] = row.elements() else {
            anyhow::bail!("a row without facts: {row:?}");
        };
        let name = name.text();
        let arity_number: i64 = arity.text().parse()?;
        let words = |count: u64| {
            (0..count).map(|at| if at == 0 { name.clone() } else { "x".into() }).collect::<Vec<_>>()
        };
        let least = arity_number.unsigned_abs();
        let wrong = [(least - 1, least > 1), (least + 1, arity_number > 0)];
        for (count, _) in wrong.iter().filter(|(_, is_wrong)| *is_wrong) {
            let reply = ours.call(&words(*count))?;
            ensure!(
                reply.text().contains("wrong number of arguments"),
                "{name} with {count} words: {reply:?}"
            );
        }
        let reference = theirs.call(&["COMMAND", "INFO", name.as_str()])?;
        let reference = reference.elements().first().map(|row| row.elements()).unwrap_or_default();
        if let [_, arity_there, _, first_there, last_there, step_there, ..] = reference
            && !OTHERWISE.contains(&name.as_str())
        {
            ensure!(
                [arity, first, last, step] == [arity_there, first_there, last_there, step_there],
                "{name}: {row:?}, but Redis {reference:?}"
            );
        }
    }
    Ok(())
}

/// A command that is there must not be left out of the comparison.
#[test]
fn not_yet_is_not_there() -> Result<()> {
    let exceptions = Exceptions::read(&folder())?;
    let node = Server::node("workers 2")?;
    let mut connection = node.connect()?;
    let names: Vec<&String> =
        exceptions.not_yet.iter().filter(|name| !name.contains('+')).collect();
    let mut command = vec!["COMMAND", "INFO"];
    command.extend(names.iter().map(|name| name.as_str()));
    let reply = connection.call(&command)?;
    let known: Vec<_> = names
        .iter()
        .zip(reply.elements())
        .filter(|(_, info)| !info.elements().is_empty())
        .collect();
    ensure!(known.is_empty(), "remove from not-yet.txt: {known:?}");
    Ok(())
}
