//! Subscribers of channels while masters come and go, and what they may have heard.
//!
//! A message is promised at most once, in the order of the batches, to a subscriber that is
//! connected when its batch is committed. A subscriber that connects anew, or whose session moves,
//! misses what came meanwhile: so what must have been heard is judged within one version of the
//! topology only, of what its master answered, between two messages that one connection did hear.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::history::{Call, Outcome, Record};
use super::keys::{Key, Kind};
use super::observer::Reign;
use super::timeline::Clock;
use super::verdict::Finding;
use crate::wire::{Connection, Reply};
use crate::{netns, wait};

const CONNECT: Duration = Duration::from_millis(300);
/// Nothing heard for so long: it connects anew.
const PATIENCE: Duration = Duration::from_millis(1_500);
const BACK_OFF: Duration = Duration::from_millis(20);
/// Messages that a text names.
const NAMED: usize = 10;

/// A message that a subscriber was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Position in the list of keys.
    pub key: usize,
    /// Rises with each connection of the subscriber.
    pub connection: u32,
    /// What was published.
    pub element: u64,
    /// When it had been read, ns.
    pub at: u64,
}

/// One subscriber of each shard, until `finish`.
#[derive(Debug)]
pub struct Subscribers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Vec<Heard>>>>,
}

impl Subscribers {
    /// In the clients' namespace; none where no channel is among the keys.
    pub fn start(space: &str, keys: &Arc<Vec<Key>>, masters: &[SocketAddr], clock: Clock) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |(shard, address): (usize, &SocketAddr)| {
            let of_shard =
                |(_, key): &(usize, &Key)| key.shard == shard && key.kind == Kind::Channel;
            let all = keys.iter().enumerate().filter(of_shard);
            let channels: HashMap<String, usize> =
                all.map(|(index, key)| (key.name.clone(), index)).collect();
            if channels.is_empty() {
                return None;
            }
            let (space, address, stop) = (space.to_owned(), *address, Arc::clone(&stop));
            Some(std::thread::spawn(move || {
                netns::enter(&space)?;
                Ok(listen(address, &channels, clock, &stop))
            }))
        };
        let threads = masters.iter().enumerate().filter_map(start).collect();
        Self { stop, threads }
    }

    /// Ends them; returns what they heard.
    pub fn finish(self) -> Result<Vec<Heard>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut heard = Vec::new();
        for thread in self.threads {
            heard.extend(thread.join().map_err(|_| anyhow!("a subscriber panicked"))??);
        }
        Ok(heard)
    }
}

fn listen(
    address: SocketAddr,
    channels: &HashMap<String, usize>,
    clock: Clock,
    stop: &AtomicBool,
) -> Vec<Heard> {
    let mut heard = Vec::new();
    for connection in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let names = channels.keys().map(String::as_str);
        let words: Vec<&str> = ["SUBSCRIBE"].into_iter().chain(names).collect();
        let link = Connection::open_within(address, CONNECT, PATIENCE);
        if let Ok(mut link) = link
            && link.send(&words).is_ok()
        {
            while !stop.load(Ordering::Relaxed)
                && let Ok(reply) = link.receive()
                && reply.error_code().is_none()
            {
                let Some((key, element)) = message(&reply, channels) else { continue };
                heard.push(Heard { key, connection, element, at: clock.now() });
            }
        }
        wait::pause(BACK_OFF);
    }
    heard
}

/// `None`: the answer to SUBSCRIBE.
fn message(reply: &Reply, channels: &HashMap<String, usize>) -> Option<(usize, u64)> {
    let [kind, channel, element] = reply.elements() else { return None };
    let key = channels.get(&channel.text()).filter(|_| kind.text() == "message")?;
    // What is no number was published by nobody.
    Some((*key, element.text().parse().unwrap_or(u64::MAX)))
}

/// What cannot have been heard, and what was not although it must have been.
pub fn judge(records: &[Record], heard: &[Heard], keys: &[Key], reigns: &[Reign]) -> Vec<Finding> {
    let is_channel = |key: &usize| keys.get(*key).is_some_and(|key| key.kind == Kind::Channel);
    let mut findings = Vec::new();
    for key in (0..keys.len()).filter(is_channel) {
        let published: BTreeMap<u64, (usize, &Record)> = records
            .iter()
            .enumerate()
            .filter(|(_, record)| record.key == key && record.may_have_effect())
            .filter_map(|(index, record)| match record.call {
                Call::Publish(element) => Some((element, (index, record))),
                _ => None,
            })
            .collect();
        let heard: Vec<&Heard> = heard.iter().filter(|heard| heard.key == key).collect();
        let mut tell = |kind, text: &str, elements: &[u64]| {
            if elements.is_empty() {
                return;
            }
            let shown = elements.get(..NAMED).unwrap_or(elements);
            let text = format!("{}: {} {text}: {shown:?}", keys[key].name, elements.len());
            let operations = shown.iter().filter_map(|of| Some(published.get(of)?.0)).collect();
            findings.push(Finding { kind, text, operations });
        };
        let (twice, strange) = twice_or_strange(&published, &heard);
        tell("heard twice", "messages were heard twice", &twice);
        tell("garbage", "messages were heard that nobody had published", &strange);
        let (disordered, missed) = order(&published, &heard, keys, reigns);
        tell("out of order", "messages were heard after such as were published later", &disordered);
        tell("message lost", "messages were missed between two that were heard", &missed);
    }
    findings
}

type Published<'a> = BTreeMap<u64, (usize, &'a Record)>;

fn twice_or_strange(published: &Published<'_>, heard: &[&Heard]) -> (Vec<u64>, Vec<u64>) {
    let mut seen = HashSet::new();
    let (mut twice, mut strange) = (Vec::new(), Vec::new());
    for one in heard {
        if !seen.insert(one.element) {
            twice.push(one.element);
        }
        let by = published.get(&one.element);
        if by.is_none_or(|(_, record)| record.invoked > one.at) {
            strange.push(one.element);
        }
    }
    (twice, strange)
}

/// Messages that came too late, and messages that did not come: within each connection.
fn order(
    published: &Published<'_>,
    heard: &[&Heard],
    keys: &[Key],
    reigns: &[Reign],
) -> (Vec<u64>, Vec<u64>) {
    let (mut disordered, mut missed) = (Vec::new(), Vec::new());
    let mut by_connection: BTreeMap<u32, Vec<&Record>> = BTreeMap::new();
    for one in heard {
        if let Some((_, record)) = published.get(&one.element) {
            by_connection.entry(one.connection).or_default().push(*record);
        }
    }
    let is_acknowledged = |record: &Record| matches!(record.outcome, Outcome::Answered(_));
    for records in by_connection.values() {
        // Two nodes may both pass messages on, as long as one of them does not know better.
        let mut newest: HashMap<&str, u64> = HashMap::new();
        for record in records {
            let newest = newest.entry(record.by.as_deref().unwrap_or_default()).or_default();
            if is_acknowledged(record) && record.ended < *newest {
                disordered.extend(element(record));
            }
            *newest = record.invoked.max(*newest);
        }
        let known: HashSet<u64> = records.iter().filter_map(|record| element(record)).collect();
        for reign in reigns {
            let is_within = |record: &&Record| is_by_master(record, reign, keys);
            let calm = || {
                records.iter().copied().filter(|record| is_acknowledged(record)).filter(is_within)
            };
            let first = calm().map(|record| record.ended).min();
            let last = calm().map(|record| record.invoked).max();
            let (Some(first), Some(last)) = (first, last) else { continue };
            let between = published.values().map(|(_, record)| *record).filter(|record| {
                let is_between = first < record.invoked && record.ended < last;
                is_acknowledged(record) && is_between && is_by_master(record, reign, keys)
            });
            missed.extend(between.filter_map(element).filter(|element| !known.contains(element)));
        }
    }
    (disordered, missed)
}

/// Answered while this version certainly was in force, by its master.
fn is_by_master(record: &Record, reign: &Reign, keys: &[Key]) -> bool {
    let master = keys.get(record.key).and_then(|key| reign.master_of(key));
    let is_within = reign.from < record.invoked && record.ended < reign.to;
    is_within && record.by.as_deref().is_some_and(|by| master.is_some_and(|master| master == by))
}

fn element(record: &Record) -> Option<u64> {
    match record.call {
        Call::Publish(element) => Some(element),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Answer;
    use super::*;

    /// Published one after the other, 10 ns each, as 1, 2, 3 …; true: acknowledged.
    fn judged(published: &[bool], heard: &[(u32, u64)], calm: bool) -> Vec<&'static str> {
        let record = |(element, is_known): (u64, &bool)| Record {
            client: 0,
            key: 0,
            call: Call::Publish(element),
            invoked: element * 10,
            ended: element * 10 + 5,
            outcome: match is_known {
                true => Outcome::Answered(Answer::Number(1)),
                false => Outcome::Unknown("cut".to_owned()),
            },
            by: Some("m".into()),
        };
        let records: Vec<Record> = (1..).zip(published).map(record).collect();
        let heard: Vec<Heard> = heard
            .iter()
            .map(|(connection, element)| Heard {
                key: 0,
                connection: *connection,
                element: *element,
                at: 1_000,
            })
            .collect();
        let key =
            Key { name: "c".to_owned(), kind: Kind::Channel, shard: 0, ttl_ms: 0, successor: None };
        let reign = Reign {
            version: 1,
            masters: vec!["m".to_owned()],
            replicas: vec![],
            slots: vec![],
            in_doubt: vec![],
            from: 0,
            to: if calm { 2_000 } else { 22 },
        };
        let found = judge(&records, &heard, &[key], &[reign]);
        found.into_iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn messages_may_be_missed_only_where_the_connection_or_the_topology_changes() {
        let four = [true; 4];
        assert!(judged(&four, &[(0, 1), (0, 2), (0, 3), (0, 4)], true).is_empty());
        assert!(judged(&four, &[(0, 2), (0, 3)], true).is_empty());
        assert!(judged(&four, &[(0, 1), (1, 4)], true).is_empty());
        assert!(judged(&four, &[(0, 1), (0, 4)], false).is_empty());
        assert!(judged(&[true, false, true], &[(0, 1), (0, 3)], true).is_empty());
        assert_eq!(judged(&four, &[(0, 1), (0, 2), (0, 4)], true), ["message lost"]);
    }

    #[test]
    fn a_message_is_heard_once_in_order_and_after_it_was_published() {
        let three = [true; 3];
        assert_eq!(judged(&three, &[(0, 1), (1, 1)], true), ["heard twice"]);
        assert_eq!(judged(&three, &[(0, 2), (0, 1)], true), ["out of order"]);
        assert!(judged(&[true, false], &[(0, 2), (0, 1)], true) == ["out of order"]);
        assert!(judged(&[false, true], &[(0, 2), (0, 1)], true).is_empty());
        assert_eq!(judged(&three, &[(0, 7)], true), ["garbage"]);
        assert_eq!(judged(&three, &[(0, 200)], true), ["garbage"]);
    }
}
