//! After the last move: every record lies in the shard that owns its slot, and nowhere else.
//!
//! Keys are looked for by SCAN, at masters and replicas, as clients see them; what clients do not
//! see, a copy in part or what was left behind, by what each node says of its marks and of the
//! records under them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::keys::{Ranges, range, slot};
use super::movers::owner;
use super::site::Site;
use super::verdict::Finding;
use crate::wire::{Connection, Reply};
use crate::{netns, wait};

const CONNECT: Duration = Duration::from_secs(1);
const EACH: Duration = Duration::from_secs(3);
/// Replicas may be behind.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that lies where it should not.
pub fn judge(site: &Site, owners: &[Ranges]) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let mut tell = |kind, text| found.push(Finding { kind, text, operations: Vec::new() });
    for member in &site.members {
        let name = site.name_of(&member.id);
        let looked = wait::until(&name, PATIENCE, || {
            let said = site.ask(member.host, &["CLUSTERX", "MOVE", "SHOW"]);
            let said = said.map_err(|error| format!("{error:#}"))?;
            left_over(&said, owners, member.shard)
        });
        if let Err(error) = looked {
            tell("left over", format!("shard {}: {error:#}", member.shard));
        }
    }
    for shard in 0..owners.len() {
        for number in 0..site.nodes_per_shard() {
            let address = site.announced(shard, number)?;
            let looked = netns::inside(site.network.clients.name(), || {
                wait::until(&format!("{address} of shard {shard}"), PATIENCE, || {
                    strange(address, owners, shard).map_err(|error| format!("{error:#}"))
                })
            });
            if let Err(error) = looked {
                tell("misplaced", format!("{error:#}"));
            }
        }
    }
    Ok(found)
}

/// A mark as a node shows it.
struct Mark<'a> {
    line: &'a str,
    slots: Ranges,
    state: &'a str,
    records: u64,
}

fn parse(line: &str) -> Option<Mark<'_>> {
    let words: Vec<&str> = line.split(' ').collect();
    let [_, slots, _, state, records] = words.as_slice() else { return None };
    let slots: Option<Ranges> = slots.split(',').map(range).collect();
    Some(Mark { line, slots: slots?, state, records: records.parse().ok()? })
}

/// What is wrong with the marks that a node of this shard shows, the oldest first.
///
/// # Errors
/// The first of it.
pub fn left_over(said: &str, owners: &[Ranges], shard: usize) -> Result<(), String> {
    let lines = said.lines().filter(|line| !line.is_empty());
    let marks: Option<Vec<Mark<'_>>> = lines.map(parse).collect();
    let marks = marks.ok_or_else(|| format!("no marks: {said}"))?;
    for mark in &marks {
        if mark.records > 0 || !matches!(mark.state, "held" | "empty") {
            return Err(mark.line.to_owned());
        }
    }
    for number in 0..16_384 {
        let contains =
            |mark: &&Mark<'_>| mark.slots.iter().any(|(a, b)| (*a..=*b).contains(&number));
        let Some(newest) = marks.iter().rev().find(contains) else { continue };
        let owns = owner(owners, number) == Some(shard);
        if owns != (newest.state == "held") {
            return Err(format!("slot {number} is of this shard: {owns}; {}", newest.line));
        }
    }
    Ok(())
}

/// Fails for a key whose slot is another shard's.
fn strange(address: SocketAddr, owners: &[Ranges], shard: usize) -> Result<()> {
    let mut connection = Connection::open_within(address, CONNECT, EACH)?;
    connection.call(&["READONLY"])?;
    let mut cursor = "0".to_owned();
    loop {
        let reply = connection.call(&["SCAN", &cursor, "COUNT", "1000"])?;
        let Reply::Many(_, parts) = &reply else { anyhow::bail!("SCAN: {}", reply.text()) };
        let keys = parts.get(1).context("read a page of SCAN")?.elements();
        for name in keys.iter().map(Reply::text) {
            let slot = slot(name.as_bytes());
            let place = owner(owners, slot);
            ensure!(place == Some(shard), "{name} of slot {slot} is here; its shard is {place:?}");
        }
        cursor = parts.first().context("read a page of SCAN")?.text();
        if cursor == "0" {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_agree_with_the_record_and_nothing_is_left() {
        let owners = [vec![(0, 5)], vec![(6, 16_383)]];
        let judge = |text: &str| left_over(text, &owners, 0);
        assert_eq!(judge(""), Ok(()));
        assert_eq!(judge("1 0-9 7 empty 0\n2 0-5 9 held 0\n"), Ok(()));
        assert!(judge("1 0-5 7 empty 0\n").is_err(), "it gave away what it owns");
        assert!(judge("1 0-6 7 held 0\n").is_err(), "it holds what is another's");
        assert!(judge("1 7-9 7 empty 3\n").is_err(), "records");
        assert!(judge("1 7-9 0 part 0\n").is_err() && judge("1 7-9 7 gone 0\n").is_err());
        assert!(judge("ERR unknown\n").is_err());
    }
}
