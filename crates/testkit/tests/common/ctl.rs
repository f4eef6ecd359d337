//! `holdfast ctl`, as an operator types it.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value as Json;
use testkit::cluster::Cluster;
use testkit::process::Server;
use testkit::{process, wait};

use super::PATIENCE;

/// What it says, on either of its outputs, and whether it did it.
fn run(cluster: &Cluster, words: &[&str]) -> Result<(bool, String)> {
    let url = cluster.state()?.controller.url;
    let mut command = Command::new(process::holdfast()?);
    let output = command.args(["ctl", "-H", &url]).args(words).output().context("run ctl")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// What it says of what it has done.
pub(crate) fn done(cluster: &Cluster, words: &[&str]) -> Result<String> {
    let (is_done, said) = run(cluster, words)?;
    if is_done { Ok(said) } else { bail!("{words:?}: {said}") }
}

/// It does not do it, and says why.
pub(crate) fn refused(cluster: &Cluster, words: &[&str], why: &str) -> Result<()> {
    let (is_done, said) = run(cluster, words)?;
    ensure!(!is_done && said.contains(why), "{words:?}: {said}");
    Ok(())
}

/// Makes the namespace `prod`, once the controller answers, and in it the cluster `main` of these
/// nodes, two of each shard; `ctl` runs the command with some words.
pub(crate) fn create(
    ctl: impl Fn(&[&str]) -> Result<String>,
    nodes: &[Server],
    password: &str,
) -> Result<()> {
    wait::until("the controller answers", PATIENCE, || {
        ctl(&["create", "namespace", "prod"]).map(drop)
    })?;
    let nodes: Vec<String> = nodes.iter().map(|node| node.address.to_string()).collect();
    let nodes = nodes.join(",");
    let words = ["create", "cluster", "main", "-n", "prod", "--nodes-per-shard", "2"];
    let more = ["--password", password, "--nodes", &nodes];
    ctl(&[&words[..], &more[..]].concat()).map(drop)
}

/// Waits until no move is queued or under way; what the newest one came to.
pub(crate) fn moves_over(cluster: &Cluster) -> Result<Json> {
    wait::until("the moves to be over", 4 * PATIENCE, || {
        let moves: Json = serde_json::from_str(&done(cluster, &["--json", "moves"])?)?;
        ensure!(moves["moves"].as_array().is_some_and(Vec::is_empty), "{moves:#}");
        let last = moves["done"].as_array().and_then(|done| done.last().cloned());
        last.context("no move was made")
    })
    .with_context(|| cluster.logs())
}
