//! Before the first fault: what some kinds of keys need, and every shard acknowledges.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::commands::GROUP;
use super::keys::{Key, Kind};
use super::scripts;
use crate::wait;
use crate::wire::Connection;

const CONNECT: Duration = Duration::from_secs(1);
const EACH: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);

/// Loads scripts and makes groups; for a thread in the clients' namespace.
pub fn prepare(keys: &[Key], masters: &[SocketAddr]) -> Result<()> {
    for key in keys {
        let address = *masters.get(key.shard).context("find a shard's address")?;
        wait::until(&format!("{} is made ready", key.name), PATIENCE, || {
            one(key, address).map_err(|error| format!("{error:#}"))
        })?;
    }
    Ok(())
}

fn one(key: &Key, address: SocketAddr) -> Result<()> {
    if !matches!(key.kind, Kind::Script | Kind::Stream) {
        return Ok(());
    }
    let mut connection = Connection::open_within(address, CONNECT, EACH)?;
    if key.kind == Kind::Script {
        return scripts::load(&mut connection);
    }
    let group = ["XGROUP", "CREATE", &key.name, GROUP, "0", "MKSTREAM"];
    let made = connection.call(&group).context("make the group")?;
    // An attempt without an answer may have made it.
    let is_there = made.text() == "OK" || made.error_code().as_deref() == Some("BUSYGROUP");
    ensure!(is_there, "XGROUP CREATE: {}", made.text());
    Ok(())
}
