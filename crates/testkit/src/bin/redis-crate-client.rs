//! The `redis` crate in cluster mode: `redis-crate-client HOST PORT KEYS [SECONDS]`, as
//! `tests/clients/README.md` says.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use redis::Commands as _;
use redis::cluster::{ClusterClient, ClusterConnection};
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use testkit::wait;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, keys, more @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: redis-crate-client HOST PORT KEYS [SECONDS]");
    };
    let keys: u32 = keys.parse().context("read KEYS")?;
    let client =
        ClusterClient::new([format!("redis://{host}:{port}")]).context("read the address")?;
    let mut connection = client.get_connection().context("connect")?;
    once(&mut connection, keys)?;
    if let [seconds] = more {
        on_and_on(&mut connection, keys, seconds.parse().context("read SECONDS")?);
    }
    Ok(())
}

fn once(connection: &mut ClusterConnection, keys: u32) -> Result<()> {
    for number in 0..keys {
        let () = connection.set(format!("redis-crate:{number}"), number).context("set")?;
    }
    let mut masters = BTreeSet::new();
    for number in 0..keys {
        let key = format!("redis-crate:{number}");
        let value: u32 = connection.get(&key).context("get")?;
        ensure!(value == number, "{key} is {value}");
        masters.insert(owner(connection, &key)?);
    }
    println!("ok {keys} {}", masters.len());
    Ok(())
}

/// The id of the node that the library asks about a key.
fn owner(connection: &mut ClusterConnection, key: &str) -> Result<String> {
    let route = Route::with_key(key, SlotAddr::Master);
    let route = RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(route));
    let mut command = redis::cmd("CLUSTER");
    command.arg("MYID");
    let reply = connection.route_command(&command, route).context("ask for the id")?;
    redis::from_redis_value(reply).context("read the id")
}

fn on_and_on(connection: &mut ClusterConnection, keys: u32, seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let value = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let value = value.as_nanos().to_string();
        let mut errors = 0;
        for number in 0..keys {
            let key = format!("redis-crate:loop:{number}");
            if let Err(error) = write_and_read(connection, &key, &value) {
                errors += 1;
                eprintln!("{key}: {error:#}");
            }
        }
        println!("pass {errors}");
        wait::pause(Duration::from_millis(50));
    }
}

fn write_and_read(connection: &mut ClusterConnection, key: &str, value: &str) -> Result<()> {
    let () = connection.set(key, value)?;
    let got: String = connection.get(key)?;
    ensure!(got == value, "was not kept: {got}");
    Ok(())
}
