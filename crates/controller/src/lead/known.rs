//! What this process knows of who leads: written by [`super`], read by all that acts or asks.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use planner::{Authority, Hearing, Time};

use crate::Live;
use crate::store::{Etcd, Leader};

/// Header of a standby's questions: `3/5`, of five nodes it hears three.
pub(crate) const HEARS: &str = "x-holdfast-hears";

/// Header of the answer: the term of the claim that the process holds, 0 without one.
pub(crate) const HOLDS: &str = "x-holdfast-holds";

/// What this process knows of who leads.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// It leads in this term, and has read what its predecessor left.
    pub(super) leads: Option<u64>,
    /// When the newest read was sent that showed its claim.
    pub(super) read: Option<Time>,
    /// The leader that the store named last.
    pub(super) leader: Option<Leader>,
}

impl Known {
    /// What showed the claim of `term` was sent at `sent`. Of an earlier claim it says nothing of
    /// this one.
    pub(super) fn shown(&mut self, term: u64, sent: Time) {
        if self.leads == Some(term) {
            self.read = self.read.max(Some(sent));
        }
    }
}

/// When those that stand by said last what they hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Others {
    /// One of them, that it hears nodes.
    pub(super) hear_at: Option<Time>,
    /// One of them, that it hears at least half of all.
    pub(super) hear_most_at: Option<Time>,
}

impl Others {
    fn say(&mut self, hears: &str, now: Time) {
        let Some(hearing) = heard(hears).filter(|hearing| hearing.answering > 0) else { return };
        self.hear_at = Some(now);
        if hearing.says_most() {
            self.hear_most_at = Some(now);
        }
    }
}

/// The part of this process in who leads.
#[derive(Debug)]
pub(crate) struct Lead {
    pub(super) etcd: Arc<Etcd>,
    /// What says by which URL the others reach this process, and where it listens.
    here: (Arc<Live>, SocketAddr),
    /// Least term of a claim.
    pub(super) min_term: u64,
    pub(super) known: Mutex<Known>,
    others: Mutex<Others>,
    /// Since when the store has not told who leads, and why it did not the first time.
    fault: Mutex<Option<(Time, String)>>,
    /// Why it must not lead, whoever else does.
    kept_out: Mutex<Option<String>>,
}

/// It is trouble if the store does not tell who leads for so long, ms.
const FAULT_MS: u64 = 5_000;

impl Lead {
    pub(crate) fn new(etcd: Arc<Etcd>, here: (Arc<Live>, SocketAddr), min_term: u64) -> Self {
        let known = Mutex::new(Known::default());
        let (others, fault) = (Mutex::default(), Mutex::default());
        let kept_out = Mutex::default();
        Self { etcd, here, min_term, known, others, fault, kept_out }
    }

    /// Notes why this process must not lead, as a look has just shown it; whether there is
    /// something.
    pub(super) fn is_kept_out(&self, why: Option<String>) -> bool {
        let mut known = self.kept_out.lock();
        if *known != why {
            match &why {
                Some(why) => tracing::error!(why, "this controller must not lead"),
                None => tracing::info!("this controller may lead again"),
            }
            known.clone_from(&why);
        }
        why.is_some()
    }

    /// The store has told who leads, or has not at `now`; whether that is the first time in a row.
    pub(super) fn looked(&self, failed: Option<String>, now: Time) -> bool {
        let mut fault = self.fault.lock();
        let is_first = failed.is_some() && fault.is_none();
        match failed {
            None => *fault = None,
            Some(why) => {
                fault.get_or_insert((now, why));
            }
        }
        is_first
    }

    /// Why this process must not lead, or does not know who does, if it has not known for a while.
    pub(crate) fn trouble(&self, now: Time) -> Option<String> {
        if let Some(why) = &*self.kept_out.lock() {
            return Some(format!("this controller never leads: {why}"));
        }
        let fault = self.fault.lock();
        let (since, why) = fault.as_ref()?;
        let silent_ms = now.millis_since(*since);
        (silent_ms >= FAULT_MS)
            .then(|| format!("the store has not told who leads for {} s: {why}", silent_ms / 1_000))
    }

    /// One that stands by asks whether this process lives, and says what it hears itself.
    pub(crate) fn told(&self, hears: &str, now: Time) {
        self.others.lock().say(hears, now);
    }

    pub(super) fn others(&self) -> Others {
        *self.others.lock()
    }

    /// URL of this process's REST interface, for the others. It may change while it runs.
    pub(crate) fn address(&self) -> String {
        let (live, listens) = &self.here;
        live.config().url(*listens)
    }

    /// Whether the claim of this process, as the store names it, shows the others where it was.
    pub(super) fn has_moved(&self) -> bool {
        let shown = self.known.lock().leader.as_ref().map(|leader| leader.address.clone());
        shown.is_some_and(|shown| shown != self.address())
    }

    /// By what it leads at `now`.
    pub(crate) fn authority(&self, now: Time) -> Authority {
        let known = self.known.lock();
        let leads = known.leads.is_some() && known.leads == self.etcd.holds();
        Authority::shared(known.read.filter(|_| leads), now)
    }

    /// The term in which it leads, as far as it knows.
    pub(crate) fn term(&self) -> Option<u64> {
        self.known.lock().leads
    }

    /// A change was made that compared the claim of `term`, and sent at `sent`: it shows that claim
    /// as a read that was sent then would (rule O2).
    pub(crate) fn changed(&self, term: u64, sent: Time) {
        if self.etcd.holds() == Some(term) {
            self.known.lock().shown(term, sent);
        }
    }

    /// The term of the claim that it holds, also while it has not read yet what it is to lead.
    pub(crate) fn holds(&self) -> Option<u64> {
        self.etcd.holds()
    }

    /// Whether requests are for this process.
    pub(crate) fn leads(&self) -> bool {
        let leads = self.known.lock().leads;
        leads.is_some() && leads == self.etcd.holds()
    }

    /// Where the leader is, as far as is known.
    pub(crate) fn leader(&self) -> Option<String> {
        let known = self.known.lock();
        let other = known.leader.as_ref().filter(|leader| !leader.is_vacant())?;
        (other.address != self.address()).then(|| other.address.clone())
    }
}

/// What a standby says of itself, if that is what it says.
fn heard(text: &str) -> Option<Hearing> {
    let (answering, nodes) = text.split_once('/')?;
    let (nodes, answering) = (nodes.parse().ok()?, answering.parse().ok()?);
    let hearing = Hearing { nodes, answering, ..Hearing::default() };
    (hearing.answering <= hearing.nodes).then_some(hearing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_was_made_is_a_read_of_the_claim_that_it_compared_and_of_no_later_one() {
        let at = Time::from_millis;
        let mut known = Known { leads: Some(7), read: None, leader: None };
        known.shown(7, at(50));
        assert_eq!(known.read, Some(at(50)));
        known.shown(7, at(40));
        assert_eq!(known.read, Some(at(50)), "answers come in any order");
        known.shown(6, at(60));
        assert_eq!(known.read, Some(at(50)));
        // It was claimed anew since.
        (known.leads, known.read) = (Some(9), None);
        known.shown(7, at(70));
        assert_eq!(known.read, None);
        known.leads = None;
        known.shown(9, at(80));
        assert_eq!(known.read, None);
    }

    #[test]
    fn what_a_standby_hears_is_two_numbers() {
        assert_eq!(heard("3/5"), Some(Hearing { nodes: 5, answering: 3, ..Hearing::default() }));
        assert_eq!(heard("0/0"), Some(Hearing::default()));
        for other in ["", "3", "6/5", "-1/5", "a/b", "3/5/1"] {
            assert_eq!(heard(other), None, "{other}");
        }
    }

    #[test]
    fn of_those_that_stand_by_one_that_hears_most_nodes_is_told_from_one_that_hears_some() {
        let at = Time::from_millis;
        let mut others = Others::default();
        others.say("0/5", at(10));
        others.say("0/0", at(20));
        assert_eq!(others, Others::default());
        others.say("2/5", at(30));
        assert_eq!(others, Others { hear_at: Some(at(30)), hear_most_at: None });
        others.say("3/5", at(40));
        others.say("1/5", at(50));
        others.say("no sense", at(60));
        assert_eq!(others, Others { hear_at: Some(at(50)), hear_most_at: Some(at(40)) });
        let most = usize::MAX;
        others.say(&format!("{most}/{most}"), at(70));
        assert_eq!(others.hear_most_at, Some(at(70)));
    }
}
