//! Unmodified clients, given one announced address each.

mod common;

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use testkit::clients;
use testkit::cluster::{Cluster, Options};

const KEYS: u32 = 300;

fn all_clients(balancer: &'static str) -> Result<()> {
    let cluster = Cluster::start(Options { balancer, ..Options::default() })?;
    let start = cluster.master(0)?.announced()?;
    for client in clients::installed() {
        let masters = client.run(start, KEYS).with_context(|| cluster.logs())?;
        ensure!(masters == 3, "{} knows {masters} masters", client.name);
    }
    for number in 0..KEYS {
        let (host, port) = (start.ip().to_string(), start.port().to_string());
        let key = format!("redis-cli:{number}");
        let output = Command::new("redis-cli")
            .args(["-c", "-h", &host, "-p", &port, "set", &key, "value"])
            .output()
            .context("run redis-cli")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said.trim() == "OK", "redis-cli: {said}");
    }
    Ok(())
}

#[test]
fn behind_the_builtin_balancer() -> Result<()> {
    all_clients("builtin")
}

#[test]
fn behind_haproxy() -> Result<()> {
    all_clients("haproxy")
}

#[test]
fn without_balancers() -> Result<()> {
    all_clients("none")
}
