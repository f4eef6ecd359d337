//! Asks every node all the time whom it obeys and what it holds, as a controller that stands by
//! does: nothing on the node changes by that.
//!
//! What is judged is of the nodes alone, whatever the store says: an epoch is one process's, and
//! the terms that a node has obeyed do not fall.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use super::actions::Action;
use super::schedule::Plan;
use super::site::{SECRET, Site};
use super::timeline::{Clock, seconds};
use super::verdict::Finding;
use crate::wire::Connection;
use crate::{netns, wait};

const POLL: Duration = Duration::from_millis(80);
const PATIENCE: Duration = Duration::from_millis(500);
const BACK_OFF: Duration = Duration::from_millis(40);
/// The term of a heartbeat that a process took so long ago is on its disk, ns. It gets there within
/// 50 ms; a busy disk may take longer.
const KEPT_NS: u64 = 3_000_000_000;

/// What a node said for some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// When it was read first, ns.
    pub from: u64,
    /// And last.
    pub to: u64,
    /// Which process said it.
    pub process: String,
    /// Highest term of a controller that it knows.
    pub term: u64,
    /// Term of the newest heartbeat for its shard that it took; 0: none yet.
    pub heard: u64,
    /// The epoch of which that process holds a grant; 0: none.
    pub epoch: u64,
}

/// A node, and all that it said, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// As in reports.
    pub name: String,
    /// From 0.
    pub shard: usize,
    /// In order.
    pub said: Vec<Said>,
}

/// A thread for each node.
#[derive(Debug)]
pub struct Witnesses {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Told>>>,
}

impl Witnesses {
    /// Each is asked from its own namespace until told to stop.
    pub fn start(site: &Site, clock: Clock) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ask = |(host, shard): (usize, usize)| {
            let (space, address) = site.door(host)?;
            let (name, stop) = (site.hosts.get(host)?.name.clone(), Arc::clone(&stop));
            Some(std::thread::spawn(move || {
                netns::enter(&space)?;
                Ok(Told { name, shard, said: listen(address, clock, &stop) })
            }))
        };
        let members = site.members.iter().map(|member| (member.host, member.shard));
        let threads = members.filter_map(ask).collect();
        Self { stop, threads }
    }

    /// Ends them; returns what they were told.
    pub fn finish(self) -> Result<Vec<Told>> {
        self.stop.store(true, Ordering::Relaxed);
        let end = |thread: JoinHandle<Result<Told>>| {
            thread.join().map_err(|_| anyhow!("a thread that asks a node has panicked"))?
        };
        self.threads.into_iter().map(end).collect()
    }
}

fn listen(address: SocketAddr, clock: Clock, stop: &AtomicBool) -> Vec<Said> {
    let mut said: Vec<Said> = Vec::new();
    let mut link: Option<Connection> = None;
    while !stop.load(Ordering::Relaxed) {
        let asked = match link.take() {
            Some(link) => Ok(link),
            None => connect(address),
        };
        // One that is away is no news here; that it was sent away is in the timeline.
        let answer = asked.and_then(|mut link| {
            let text = link.call(&["CLUSTERX", "OBSERVE"])?.text();
            Ok((link, text))
        });
        let Ok((held, text)) = answer else {
            wait::pause(BACK_OFF);
            continue;
        };
        link = Some(held);
        if let Some(now) = read(&text, clock.now()) {
            add(&mut said, now);
        }
        wait::pause(POLL);
    }
    said
}

/// A connection to a node's own address, as a controller has one.
pub(crate) fn connect(address: SocketAddr) -> Result<Connection> {
    let mut link = Connection::open_within(address, PATIENCE, PATIENCE)?;
    let said = link.call(&["AUTH", SECRET])?.text();
    ensure!(said == "OK", "AUTH: {said}");
    Ok(link)
}

/// `None` where a word is missing: an error, or a node that does not know the question.
fn read(text: &str, at: u64) -> Option<Said> {
    let word = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    let number = |name: &str| word(name)?.parse::<u64>().ok();
    let process = word("nonce")?.to_owned();
    let (term, epoch) = (number("term")?, number("granted_epoch")?);
    let heard = number("heard_term").unwrap_or(0);
    Some(Said { from: at, to: at, process, term, heard, epoch })
}

fn add(said: &mut Vec<Said>, now: Said) {
    match said.last_mut() {
        Some(last) if is_same(last, &now) => last.to = now.to,
        _ => said.push(now),
    }
}

fn is_same(one: &Said, other: &Said) -> bool {
    let of = |said: &Said| (said.term, said.heard, said.epoch);
    one.process == other.process && of(one) == of(other)
}

/// Whether terms must outlive their process: not where disks of nodes take nothing for a while, or
/// their processes open no file.
pub fn keeps_terms(plan: &Plan) -> bool {
    !plan.faults.iter().any(|fault| match fault.action {
        Action::Fill(target) | Action::Hang(target) | Action::Lose(target) => target.is_node(),
        Action::Descriptors(_) => true,
        _ => false,
    })
}

/// What cannot have happened. Pure.
pub fn judge(told: &[Told], keeps_terms: bool) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        told.iter().filter_map(|told| fallen(told, keeps_terms)).collect();
    let mut holders: BTreeMap<(usize, u64), (&str, &Said)> = BTreeMap::new();
    for node in told {
        for said in node.said.iter().filter(|said| said.epoch > 0) {
            let here = (node.name.as_str(), said);
            let (name, first) = *holders.entry((node.shard, said.epoch)).or_insert(here);
            if first.process != said.process {
                findings.push(finding(
                    "two masters",
                    format!(
                        "shard {}: epoch {} was held by {name} ({}, {} s) and by {} ({}, {} s)",
                        node.shard,
                        said.epoch,
                        first.process,
                        seconds(first.from),
                        node.name,
                        said.process,
                        seconds(said.from)
                    ),
                ));
            }
        }
    }
    findings
}

/// The first term that fell.
fn fallen(told: &Told, keeps_terms: bool) -> Option<Finding> {
    // What must not be forgotten by a restart.
    let mut kept = 0;
    // What the process has heard, and since when, ns.
    let mut heard = (0, 0);
    let mut before: Option<&Said> = None;
    for said in &told.said {
        let of_same = before.filter(|before| before.process == said.process);
        let least = match of_same {
            Some(before) => before.term,
            None if keeps_terms => kept,
            None => 0,
        };
        if said.term < least {
            let (name, term) = (&told.name, said.term);
            let text = format!("{name}: term {term} at {} s, after {least}", seconds(said.from));
            return Some(finding("term fell", text));
        }
        if of_same.is_none() || said.heard > heard.0 {
            heard = (said.heard, said.from);
        }
        if said.to.saturating_sub(heard.1) >= KEPT_NS {
            kept = kept.max(heard.0);
        }
        before = Some(said);
    }
    None
}

fn finding(kind: &'static str, text: String) -> Finding {
    Finding { kind, text, operations: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn said(process: &str, from: u64, to: u64, term: u64, epoch: u64) -> Said {
        let process = process.to_owned();
        Said { from: from * S, to: to * S, process, term, heard: term, epoch }
    }

    fn node(name: &str, said: &[Said]) -> Told {
        Told { name: name.to_owned(), shard: 0, said: said.to_vec() }
    }

    fn kinds(told: &[Told], keeps: bool) -> Vec<&'static str> {
        judge(told, keeps).iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn an_answer_is_read_and_one_that_lasts_is_one() {
        let text = "role:master\r\nnonce:ab\r\ngranted_epoch:3\r\nhistory_epoch:4\r\nterm:7\r\n\
                    heard_ms:20\r\nheard_term:6\r\n";
        let mut all = Vec::new();
        for at in [5, 6] {
            add(&mut all, read(text, at).unwrap());
        }
        let process = "ab".to_owned();
        let expected = Said { from: 5, to: 6, process, term: 7, heard: 6, epoch: 3 };
        assert_eq!(all, [expected]);
        add(&mut all, read(&text.replace("heard_term:6", "heard_term:7"), 7).unwrap());
        assert_eq!(all.len(), 2);
        let unheard = text.replace("heard_ms:20\r\nheard_term:6\r\n", "");
        assert_eq!(read(&unheard, 8).unwrap().heard, 0);
        assert_eq!(read("ERR unknown", 1), None);
    }

    #[test]
    fn terms_do_not_fall_in_a_process_and_not_after_it_once_they_are_kept() {
        let rises = [said("a", 0, 1, 1, 0), said("a", 1, 2, 1, 1), said("a", 2, 3, 4, 1)];
        assert!(kinds(&[node("n0", &rises)], true).is_empty());
        let falls = [said("a", 0, 1, 2, 0), said("a", 1, 2, 1, 0)];
        assert_eq!(kinds(&[node("n0", &falls)], false), ["term fell"]);
        let soon = [said("a", 0, 1, 2, 0), said("b", 4, 5, 1, 0)];
        assert!(kinds(&[node("n0", &soon)], true).is_empty(), "it need not be on disk yet");
        let late = [said("a", 0, 1, 2, 0), said("a", 2, 4, 2, 1), said("b", 5, 6, 1, 0)];
        assert_eq!(kinds(&[node("n0", &late)], true), ["term fell"]);
        assert!(kinds(&[node("n0", &late)], false).is_empty(), "its disk took nothing");
        let kept = [said("a", 0, 4, 2, 0), said("a", 5, 6, 3, 0), said("b", 7, 8, 2, 0)];
        assert!(kinds(&[node("n0", &kept)], true).is_empty());
        // One that says hello, or a command, has a term that is kept by nobody.
        let hello = [Said { heard: 1, ..said("a", 0, 9, 4, 0) }, said("b", 10, 11, 1, 0)];
        assert!(kinds(&[node("n0", &hello)], true).is_empty());
    }

    #[test]
    fn an_epoch_is_one_processs() {
        let one = node("n0", &[said("a", 0, 1, 1, 5), said("a", 2, 3, 1, 0)]);
        let other = |process, epoch| node("n1", &[said(process, 4, 5, 1, epoch)]);
        assert!(kinds(&[one.clone(), other("b", 6)], true).is_empty());
        assert_eq!(kinds(&[one.clone(), other("b", 5)], true), ["two masters"]);
        let again = node("n0", &[said("a", 0, 1, 1, 5), said("c", 2, 3, 1, 5)]);
        assert_eq!(kinds(&[again], true), ["two masters"]);
        let elsewhere = Told { shard: 1, ..other("b", 5) };
        assert!(kinds(&[one, elsewhere], true).is_empty());
    }
}
