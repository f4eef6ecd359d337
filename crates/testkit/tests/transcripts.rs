//! `tests/compat/*.resp` against a node, with redis-server as the judge of differences.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use testkit::process::Server;
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
fn key() -> Result<()> {
    check("key.resp")
}

#[test]
fn server() -> Result<()> {
    check("server.resp")
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
fn core_resp3() -> Result<()> {
    check("core.resp3")
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
