//! Watches who leads, of controllers that share an etcd, and which member leads that.
//!
//! It only asks: nothing changes by that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;

use super::etcd::{Claim, Etcd};
use super::http::{Caller, Door};
use super::rest::Control;
use super::timeline::{Timeline, seconds};
use super::verdict::Finding;
use crate::wait;

const POLL: Duration = Duration::from_millis(40);
const PATIENCE: Duration = Duration::from_millis(400);

/// A claim, and when it was seen first, ns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: u64,
    /// What the store says.
    pub claim: Claim,
}

/// What is known; shared.
#[derive(Debug, Default)]
pub struct Known {
    /// All claims, in the order in which they were seen.
    pub claims: Vec<Seen>,
    /// Which member leads the others.
    pub raft: Option<usize>,
}

/// Shared by whoever asks and whoever wants to know.
pub type Leads = Arc<Mutex<Known>>;

/// A thread that asks the store; none where controllers share none.
#[derive(Debug)]
pub struct Leaders {
    /// What it learned.
    pub leads: Leads,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Leaders {
    /// Asks until told to stop.
    pub fn start(control: &Control, timeline: &Timeline) -> Self {
        let (leads, stop) = (Leads::default(), Arc::new(AtomicBool::new(false)));
        let thread = control.etcd().cloned().map(|etcd| {
            let (leads, stop) = (Arc::clone(&leads), Arc::clone(&stop));
            let (names, timeline) = (names(control), timeline.clone());
            std::thread::spawn(move || {
                let caller = Caller::new(PATIENCE)?;
                let mut watch = Watch { etcd, names, leads, timeline, ids: Vec::new() };
                while !stop.load(Ordering::Relaxed) {
                    watch.look(&caller);
                    wait::pause(POLL);
                }
                Ok(())
            })
        });
        Self { leads, stop, thread }
    }

    /// Ends it; returns all claims.
    pub fn finish(self) -> Result<Vec<Seen>> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.map(JoinHandle::join) {
            None => {}
            Some(Ok(done)) => done.context("watch who leads")?,
            Some(Err(_)) => bail!("the thread that watches who leads has panicked"),
        }
        let claims = self.leads.lock().claims.clone();
        Ok(claims)
    }
}

/// URL and name of each controller.
fn names(control: &Control) -> Vec<(String, String)> {
    let name = |door: &Door| (format!("http://{}", door.address), door.name.clone());
    control.doors().iter().map(name).collect()
}

struct Watch {
    etcd: Etcd,
    names: Vec<(String, String)>,
    leads: Leads,
    timeline: Timeline,
    /// Of the members, as they know each other; empty until all have said it.
    ids: Vec<String>,
}

impl Watch {
    /// An etcd that is away is no news here; that it was sent away is in the timeline.
    fn look(&mut self, caller: &Caller) {
        if let Ok(Some(claim)) = self.etcd.claim(caller) {
            self.note(claim);
        }
        if self.ids.is_empty() {
            self.ids = self.etcd.ids(caller).unwrap_or_default();
        }
        let Ok(id) = self.etcd.raft(caller) else { return };
        let Some(member) = self.ids.iter().position(|of| *of == id) else { return };
        let was = self.leads.lock().raft.replace(member);
        if was != Some(member) {
            self.timeline.note(format!("etcd{member} leads etcd"));
        }
    }

    fn note(&self, claim: Claim) {
        let mut known = self.leads.lock();
        if known.claims.last().is_some_and(|last| last.claim == claim) {
            return;
        }
        let name = self.names.iter().find(|(url, _)| *url == claim.address);
        let name = name.map_or(claim.address.as_str(), |(_, name)| name.as_str());
        self.timeline.note(match claim.claim.is_empty() {
            true => format!("nobody leads after term {}", claim.term),
            false => format!("{name} leads, term {}", claim.term),
        });
        known.claims.push(Seen { at: self.timeline.clock().now(), claim });
    }
}

/// How many claims were seen.
pub fn count(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| !seen.claim.claim.is_empty()).count()
}

/// What cannot have happened: each claim has a term above all terms before. Pure.
pub fn judge(seen: &[Seen]) -> Vec<Finding> {
    let is_wrong = |pair: &&[Seen]| {
        let (before, after) = (&pair[0].claim, &pair[1].claim);
        // A lead that is given up keeps its term.
        let is_given_up = after.claim.is_empty() && after.term == before.term;
        after.term <= before.term && !is_given_up
    };
    let finding = |pair: &[Seen]| Finding {
        kind: "claims",
        text: format!(
            "{} s: a claim of term {} came after one of term {}",
            seconds(pair[1].at),
            pair[1].claim.term,
            pair[0].claim.term
        ),
        operations: Vec::new(),
    };
    seen.windows(2).filter(is_wrong).map(finding).collect()
}

/// The same lines as in the timeline, for a report.
pub fn lines(seen: &[Seen]) -> String {
    let line = |seen: &Seen| {
        let Claim { term, claim, address } = &seen.claim;
        let who = if claim.is_empty() { "nobody" } else { address.as_str() };
        format!("  {:>9} s  term {term}: {who}\n", seconds(seen.at))
    };
    seen.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(term: u64, claim: &str) -> Seen {
        let (claim, address) = (claim.to_owned(), "http://a".to_owned());
        Seen { at: term * 1_000_000_000, claim: Claim { term, claim, address } }
    }

    #[test]
    fn each_claim_is_above_the_last_one_and_a_lead_may_be_given_up() {
        let good = [seen(1, "a"), seen(1, ""), seen(2, "b"), seen(5, "c")];
        assert_eq!((judge(&good), count(&good)), (vec![], 3));
        assert!(judge(&[]).is_empty());
        for bad in [
            [seen(2, "a"), seen(1, "b")],
            [seen(2, "a"), seen(2, "b")],
            [seen(2, ""), seen(2, "b")],
            [seen(2, "a"), seen(1, "")],
        ] {
            assert_eq!(judge(&bad).len(), 1, "{bad:?}");
        }
        assert!(lines(&good).contains("term 1: nobody\n") && lines(&good).lines().count() == 4);
    }
}
