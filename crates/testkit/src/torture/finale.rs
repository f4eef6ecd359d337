//! After everything was healed: each key is read once more at its master, and at every replica.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::client;
use super::commands;
use super::history::{Answer, Call, Outcome, Record};
use super::keys::{Key, Kind};
use super::timeline::Clock;
use crate::wait;
use crate::wire::Connection;

const CONNECT: Duration = Duration::from_secs(1);
const EACH: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);
/// Not one of the clients.
const READER: u32 = 999;

/// Waits until every shard accepts writes; for a thread in the clients' namespace.
pub fn await_writes(keys: &[Key], masters: &[SocketAddr]) -> Result<()> {
    for key in keys.iter().filter(|key| key.kind == Kind::Ballast) {
        let address = *masters.get(key.shard).context("find a shard's address")?;
        wait::until(&format!("shard {} accepts a write", key.shard), PATIENCE, || {
            brief(Connection::open_within(address, CONNECT, EACH).and_then(|mut connection| {
                let said = connection.call(&["SET", &key.name, "x"])?.text();
                ensure!(said == "OK", "{said}");
                Ok(())
            }))
        })?;
    }
    Ok(())
}

/// Reads every key at its master; for a thread in the clients' namespace.
pub fn read_all(keys: &[Key], masters: &[SocketAddr], clock: Clock) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        for call in key.kind.reads() {
            let address = *masters.get(key.shard).context("find a shard's address")?;
            let record = wait::until(&format!("a last read of {}", key.name), PATIENCE, || {
                brief(last_read((index, key), *call, address, clock))
            })?;
            records.push(record);
        }
    }
    Ok(records)
}

fn last_read(
    (index, key): (usize, &Key),
    call: Call,
    address: SocketAddr,
    clock: Clock,
) -> Result<Record> {
    let mut connection = Connection::open_within(address, CONNECT, EACH)?;
    let by = client::who(&mut connection)?;
    let invoked = clock.now();
    let outcome = commands::read(&mut connection, key, call)?;
    ensure!(matches!(outcome, Outcome::Answered(_)), "{outcome}");
    let (client, ended) = (READER, clock.now());
    Ok(Record { client, key: index, call, invoked, ended, outcome, by: Some(by.into()) })
}

/// An obstacle in one line: without the stack that `Debug` would show.
fn brief<T>(result: Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("{error:#}"))
}

/// Keys whose value at a replica differs from that of the last reads and stays so.
///
/// Locks are left out: they run out meanwhile.
pub fn divergence(
    keys: &[Key],
    last: &[Record],
    shard: usize,
    replica: SocketAddr,
) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let here = |key: &Key| key.shard == shard && key.kind != Kind::Lock;
    for record in last.iter().filter(|record| keys.get(record.key).is_some_and(here)) {
        let key = &keys[record.key];
        let same = wait::until(&key.name, PATIENCE, || {
            let mut connection = brief(Connection::open_within(replica, CONNECT, EACH))?;
            brief(connection.call(&["READONLY"]))?;
            let seen = brief(commands::read(&mut connection, key, record.call))?;
            if seen == record.outcome { Ok(()) } else { Err(describe(&seen, &record.outcome)) }
        });
        if let Err(error) = same {
            found.push(format!("{error:#}"));
            // One is enough to say so; each more would wait as long.
            break;
        }
    }
    Ok(found)
}

fn describe(replica: &Outcome, master: &Outcome) -> String {
    let missing = |one: &Outcome, other: &Outcome| -> String {
        let (Outcome::Answered(Answer::Content(one)), Outcome::Answered(Answer::Content(other))) =
            (one, other)
        else {
            return String::new();
        };
        let only: Vec<&u64> = one.iter().filter(|element| !other.contains(element)).collect();
        if only.is_empty() { String::new() } else { format!(", only there: {only:?}") }
    };
    format!(
        "the replica has {replica}{}, the master {master}{}",
        missing(replica, master),
        missing(master, replica)
    )
}
