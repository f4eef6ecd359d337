//! Labels of time series with real processes: what leads to them is made by the first label that is
//! written, by what a replica is sent of it and by a full sync, and is there after a SIGKILL.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::restartable::Restartable;
use testkit::wait;
use testkit::wire::Reply;

const PATIENCE: Duration = Duration::from_secs(30);
const LINES: &str = "workers 2\nrocksdb.block_cache_size 16\nrocksdb.write_buffer_size 4";

/// The reply to a command that may not fail; the elements of an array in one line.
fn says(node: &Restartable, command: &str) -> Result<String> {
    let words: Vec<&str> = command.split(' ').collect();
    let said = node.connect()?.call(&words)?;
    ensure!(said.error_code().is_none(), "{command}: {}", said.text());
    let elements: Vec<String> = said.elements().iter().map(Reply::text).collect();
    Ok(if elements.is_empty() { said.text() } else { elements.join(" ") })
}

/// Whether the database of a node has the family that leads from labels to series.
fn has_ways(node: &Restartable) -> Result<bool> {
    Ok(says(node, "INFO rocksdb")?.contains("[index]"))
}

fn finds(node: &Restartable, expected: &str) -> Result<()> {
    wait::until("the series are found", PATIENCE, || {
        let found = says(node, "TS.QUERYINDEX room=1")?;
        ensure!(found == expected, "{found}");
        Ok(())
    })
}

#[test]
fn replicas_and_restarted_nodes_find_series_by_their_labels() -> Result<()> {
    let (mut master, mut early) = (Restartable::start(LINES)?, Restartable::start(LINES)?);
    let follow = format!("SLAVEOF 127.0.0.1 {}", master.port);
    says(&master, "SET k v")?;
    says(&early, &follow)?;
    wait::until("the replica follows", PATIENCE, || {
        let value = says(&early, "GET k")?;
        ensure!(value == "v", "{value}");
        Ok(())
    })?;
    says(&master, "TS.CREATE plain")?;
    ensure!(!has_ways(&master)? && !has_ways(&early)?, "made before there is a label");
    says(&master, "TS.CREATE a LABELS room 1")?;
    says(&master, "TS.ADD b 1 5 LABELS room 1")?;
    finds(&master, "a b")?;
    finds(&early, "a b")?;
    ensure!(has_ways(&master)? && has_ways(&early)?, "labels are kept without it");
    for node in [&mut master, &mut early] {
        node.kill()?;
        node.up()?;
        finds(node, "a b")?;
    }
    let late = Restartable::start(LINES)?;
    says(&late, &follow)?;
    finds(&late, "a b")?;
    says(&master, "RENAME b c")?;
    finds(&late, "a c")
}
