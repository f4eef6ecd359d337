//! Which of several controllers on one store leads, and what a leader may grant (rules O1 to O3).
//!
//! Leadership is a claim in the store, and every write compares it. Authority is an order, not a
//! time: a lease is granted only from a node's stamp that was read *before a quorum read was sent*
//! which showed the own claim. Stamp, read, any later claim: so whatever the leader or its clock
//! suffers, its leases end one longest lease after the claim of another, who counts from there.

use crate::hearing::Hearing;
use crate::{Policy, Time};

/// By what this controller leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Authority {
    /// Nobody else can: the store is this process's.
    #[default]
    Alone,
    /// Others may claim at any time.
    Shared {
        /// When the newest quorum read was sent that showed the own claim; `None`: none has.
        read: Option<Time>,
        /// That was lately. Otherwise this controller only observes: nobody may take it for one
        /// that leads.
        is_fresh: bool,
    },
}

/// A read that was sent longer ago, ms, is not fresh.
pub const FRESH_MS: u64 = 250;

impl Authority {
    /// As it is at `now` after a read that was sent at `read`.
    pub fn shared(read: Option<Time>, now: Time) -> Self {
        let is_fresh = read.is_some_and(|read| now <= read.plus_millis(FRESH_MS));
        Self::Shared { read, is_fresh }
    }

    /// Whether a lease may be granted from an answer that was received at `stamp`.
    pub fn covers(self, stamp: Time) -> bool {
        match self {
            Self::Alone => true,
            Self::Shared { read, .. } => read.is_some_and(|read| stamp < read),
        }
    }

    /// Whether it acts, and says to nodes that it leads.
    pub fn acts(self) -> bool {
        matches!(self, Self::Alone | Self::Shared { is_fresh: true, .. })
    }
}

/// Between a closed connection and the next attempt, ms.
const AGAIN_MS: u64 = 50;
/// Between two claims of one process, ms; and how long one may have claimed without knowing it: an
/// answer of the store that did not come is followed by a read.
const CLAIM_MS: u64 = 2_000;
/// How long no node that answers must have heard a controller where less than half of them answer,
/// ms.
const FEW_MS: u64 = 10_000;
/// How often that time doubles at most.
const DOUBLINGS: u32 = 7;

/// What a standby knows of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Witness {
    /// When it answered last.
    pub answered_at: Option<Time>,
    /// When, by that answer, it had last heard a controller; `None`: never, as a process.
    pub heard_at: Option<Time>,
}

/// What the leader has said in the store to one that doubted it ([`crate::Doubts`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// It lived after that, by the clock of the one that stands by.
    pub at: Time,
    /// How many nodes it reaches.
    pub reaches: usize,
}

/// What a standby knows of the leader.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standby {
    /// Since when the store says that nobody leads.
    pub vacant_at: Option<Time>,
    /// When this controller began to look, or last heard the leader.
    pub heard_at: Time,
    /// When its connection was closed, and since then nothing came.
    pub closed_at: Option<Time>,
    /// When an attempt to connect was refused last.
    pub refused_at: Option<Time>,
    /// Since when a process at its address has said that it holds no such claim.
    pub replaced_at: Option<Time>,
    /// Every node of every cluster.
    pub nodes: Vec<Witness>,
    /// What this controller hears of them.
    pub hearing: Hearing,
    /// When this process claimed last.
    pub claimed_at: Option<Time>,
    /// How often in a row it has claimed by [`Proof::Few`], and another one took the lead back, or
    /// was given it.
    pub in_vain: u32,
    /// What the leader has said in the store last; `None`: nothing.
    pub word: Option<Word>,
}

/// Why the leader is taken to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It said so itself.
    Vacant,
    /// Its process is: connection closed, and refused again.
    Refused,
    /// Its process is: another one at its address says that it does not lead, and no node that
    /// answers has heard one that does.
    Replaced,
    /// Neither this controller nor any of most nodes has heard it.
    Silent,
    /// The same of a few nodes, for long: the others are gone, or cut off from here.
    Few,
}

/// Whether to claim the lead (rule O1). A false proof costs a change of the leader, never an
/// acknowledged write.
///
/// A controller that hears no node, or cannot read every record, leaves a lead that anybody may
/// take to the others for a while.
///
/// Most nodes are asked because a controller that the network has cut off from them and from the
/// leader would else take the lead from one that does its work. Where they are gone for good that
/// must not mean that nobody ever leads the others: another process in the leader's place is proof
/// enough, and so is a long silence. Behind such a cut the leader takes its lead back, or is given
/// it ([`crate::yields`]), and then the silence has to be twice as long each time.
///
/// An address may lead to several processes, as that of a load balancer does, or to each one's own
/// host: what answers there is another one then, and the leader is well. Nodes hear it.
///
/// What the leader says in the store counts as if it had been heard here, from one that reaches no
/// fewer nodes than have answered this controller: else a cut would give the lead from hand to
/// hand.
pub fn proof(of: &Standby, policy: &Policy, now: Time) -> Option<Proof> {
    proven(of, policy, now, now)
}

/// What [`proof`] says at `then`, if nothing is heard of the leader until then, and the nodes
/// answer as they do at `now`.
pub(crate) fn proven(of: &Standby, policy: &Policy, now: Time, then: Time) -> Option<Proof> {
    if of.claimed_at.is_some_and(|at| then < at.plus_millis(CLAIM_MS)) {
        return None;
    }
    if let Some(since) = of.vacant_at {
        return of.hearing.may_take(since, then).then_some(Proof::Vacant);
    }
    let silence = policy.silence_ms();
    let has_answered =
        |node: &&Witness| node.answered_at.is_some_and(|at| now < at.plus_millis(silence));
    let answered: Vec<&Witness> = of.nodes.iter().filter(has_answered).collect();
    let is_over = |at: Time| then >= at.plus_millis(silence);
    let said_at = of.word.filter(|word| word.reaches >= answered.len()).map(|word| word.at);
    let is_said_since = |since: Time| said_at.is_some_and(|at| at >= since && !is_over(at));
    let gone = of.closed_at.zip(of.refused_at);
    let gone = gone.filter(|(closed, refused)| *refused >= closed.plus_millis(AGAIN_MS));
    let gone = gone.filter(|(closed, _)| !is_said_since(*closed));
    if gone.is_some_and(|(closed, _)| of.hearing.may_take(closed, then)) {
        return Some(Proof::Refused);
    }
    let is_unheard = answered.iter().all(|node| node.heard_at.is_none_or(is_over));
    let replaced = of.replaced_at.filter(|at| is_unheard && !is_said_since(*at));
    let replaced = replaced.map(|at| at.plus_millis(CLAIM_MS));
    if replaced.is_some_and(|at| then >= at && of.hearing.may_take(at, then)) {
        return Some(Proof::Replaced);
    }
    let heard_at = said_at.map_or(of.heard_at, |at| at.max(of.heard_at));
    let is_silent = is_over(heard_at) && 2 * answered.len() >= of.nodes.len() && is_unheard;
    if is_silent && of.hearing.may_take(heard_at.plus_millis(silence), then) {
        return Some(Proof::Silent);
    }
    let long = silence.max(FEW_MS << of.in_vain.min(DOUBLINGS));
    let is_long_over = |at: Time| then >= at.plus_millis(long);
    let is_unheard = answered.iter().all(|node| node.heard_at.is_none_or(is_long_over));
    let is_proven = is_long_over(heard_at) && !answered.is_empty() && is_unheard;
    let may_take = of.hearing.may_take(heard_at.plus_millis(long), then);
    (is_proven && may_take).then_some(Proof::Few)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn node(answered: u64, heard: u64) -> Witness {
        Witness { answered_at: Some(at(answered)), heard_at: Some(at(heard)) }
    }

    fn view() -> Standby {
        Standby { heard_at: at(10_000), nodes: vec![node(10_000, 9_900); 4], ..Standby::default() }
    }

    fn proven(of: &Standby, ms: u64) -> Option<Proof> {
        proof(of, &Policy::default(), at(ms))
    }

    #[test]
    fn nobody_claims_while_the_leader_is_heard_by_anybody() {
        assert_eq!(proven(&view(), 10_399), None);
        let deaf = Standby { nodes: vec![node(10_400, 10_100); 4], ..view() };
        assert_eq!(proven(&deaf, 10_400), None, "nodes hear it");
        let one = Standby { nodes: vec![node(10_450, 9_000), node(10_450, 10_100)], ..view() };
        assert_eq!(proven(&one, 10_450), None, "one does");
        assert_eq!(proven(&one, 10_500), Some(Proof::Silent));
    }

    #[test]
    fn whoever_reaches_nothing_but_the_store_claims_nothing() {
        let mut cut = view();
        assert_eq!(proven(&cut, 60_000), None, "no node answers");
        cut.nodes[0] = node(19_900, 9_900);
        assert_eq!(proven(&cut, 19_999), None, "one of four does");
        cut.nodes[1] = Witness { answered_at: Some(at(19_900)), heard_at: None };
        assert_eq!(proven(&cut, 19_999), Some(Proof::Silent));
    }

    /// Most nodes may be gone for good, or switched off by those who need them no more.
    #[test]
    fn a_few_nodes_that_hear_nobody_for_long_are_enough() {
        let few = |answered: u64, heard: u64| {
            let mut few = view();
            few.nodes[3] = node(answered, heard);
            few
        };
        assert_eq!(proven(&few(19_900, 9_900), 19_999), None);
        assert_eq!(proven(&few(19_900, 9_900), 20_000), Some(Proof::Few));
        assert_eq!(proven(&few(19_900, 10_001), 20_000), None, "it has heard one");
        assert_eq!(proven(&few(19_600, 9_900), 20_000), None, "it is gone as well");
        let mut two = few(19_900, 9_900);
        two.nodes.push(node(19_900, 10_001));
        assert_eq!(proven(&two, 20_000), None, "the other one has");
        let heard = Standby { heard_at: at(10_001), ..few(19_900, 9_900) };
        assert_eq!(proven(&heard, 20_000), None, "this one has");
        // Behind a cut the leader took it back, once and again.
        for (in_vain, ms) in [(1, 20_000), (3, 80_000), (7, 1_280_000), (u32::MAX, 1_280_000)] {
            let last = 10_000 + ms;
            let again = Standby { in_vain, ..few(last - 100, 9_900) };
            assert_eq!(proven(&again, last - 1), None, "{in_vain}");
            assert_eq!(proven(&again, last), Some(Proof::Few), "{in_vain}");
        }
    }

    /// As after a restart of all controllers while most nodes are gone. It may have claimed, and
    /// not know it yet.
    #[test]
    fn a_process_in_the_leaders_place_is_proof_whatever_became_of_the_nodes() {
        let replaced = Standby { replaced_at: Some(at(10_000)), ..view() };
        assert_eq!(proven(&replaced, 11_999), None);
        assert_eq!(proven(&replaced, 12_000), Some(Proof::Replaced));
        let hearing = Hearing { nodes: 4, ..Hearing::default() };
        let deaf = Standby { hearing, ..replaced };
        assert_eq!(proven(&deaf, 13_999), None, "others go first");
        assert_eq!(proven(&deaf, 14_000), Some(Proof::Replaced));
    }

    /// All controllers are named by one address, as by that of a load balancer before them.
    #[test]
    fn another_process_at_the_leaders_address_is_no_proof_while_a_node_hears_a_leader() {
        let shared = |heard: u64| {
            let mut nodes = vec![Witness::default(); 4];
            nodes[0] = node(19_990, heard);
            Standby { replaced_at: Some(at(10_000)), heard_at: at(19_990), nodes, ..view() }
        };
        assert_eq!(proven(&shared(19_601), 20_000), None);
        assert_eq!(proven(&shared(19_600), 20_000), Some(Proof::Replaced));
        let gone = Standby { nodes: vec![node(19_600, 19_590)], ..shared(0) };
        assert_eq!(proven(&gone, 20_000), Some(Proof::Replaced), "it says nothing any more");
    }

    #[test]
    fn a_process_that_is_gone_is_replaced_at_once_and_one_that_restarts_is_not() {
        let mut gone = Standby { closed_at: Some(at(10_010)), ..view() };
        assert_eq!(proven(&gone, 10_011), None);
        gone.refused_at = Some(at(10_012));
        assert_eq!(proven(&gone, 10_100), None, "refused too early to count");
        gone.refused_at = Some(at(10_060));
        assert_eq!(proven(&gone, 10_060), Some(Proof::Refused));
        gone.claimed_at = Some(at(9_000));
        assert_eq!(proven(&gone, 10_060), None, "one claim in two seconds");
        let vacant = Standby { vacant_at: Some(at(10_000)), ..view() };
        assert_eq!(proven(&vacant, 10_000), Some(Proof::Vacant));
    }

    /// At least 400 ms, and twice the pause of heartbeats where that is longer.
    #[test]
    fn a_leader_is_silent_once_neither_this_one_nor_a_node_has_heard_it_for_so_long() {
        for (heartbeat_ms, silence) in [(50, 400), (200, 400), (201, 402), (1_000, 2_000)] {
            let policy = Policy { heartbeat_ms, ..Policy::default() };
            let (last, over) = (10_000, 10_000 + silence);
            let silent = |heard: u64, of_nodes: (u64, u64), ms: u64| {
                let nodes = vec![node(of_nodes.0, of_nodes.1); 3];
                let of = Standby { heard_at: at(heard), nodes, ..Standby::default() };
                proof(&of, &policy, at(ms)) == Some(Proof::Silent)
            };
            for (ms, is_over) in [(over - 1, false), (over, true)] {
                assert_eq!(silent(last, (ms, 1), ms), is_over, "{heartbeat_ms}: by this one");
                assert_eq!(silent(1, (ms, last), ms), is_over, "{heartbeat_ms}: by a node");
                // A node that has not answered for so long itself says nothing.
                assert_eq!(silent(1, (last, 1), ms), !is_over, "{heartbeat_ms}: who says so");
            }
        }
    }

    #[test]
    fn at_least_half_of_the_nodes_say_so() {
        for (nodes, least) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)] {
            for answering in 0..=nodes {
                let mut of = Standby { nodes: vec![node(1, 1); nodes], ..view() };
                of.nodes.iter_mut().take(answering).for_each(|one| *one = node(19_900, 1));
                let is_proven = proven(&of, 20_000) == Some(Proof::Silent);
                assert_eq!(is_proven, answering >= least, "{answering} of {nodes}");
            }
        }
    }

    #[test]
    fn a_refusal_counts_50_ms_after_the_end_and_a_process_claims_once_in_two_seconds() {
        let gone = Standby { closed_at: Some(at(10_010)), ..view() };
        for (refused, expected) in [(10_059, None), (10_060, Some(Proof::Refused))] {
            let gone = Standby { refused_at: Some(at(refused)), ..gone.clone() };
            assert_eq!(proven(&gone, 10_100), expected, "refused at {refused}");
        }
        let (refused_at, claimed_at) = (Some(at(10_060)), Some(at(10_100)));
        let gone = Standby { refused_at, claimed_at, ..gone };
        assert_eq!(proven(&gone, 12_099), None);
        assert_eq!(proven(&gone, 12_100), Some(Proof::Refused));
    }

    #[test]
    fn one_that_hears_no_node_lets_others_go_first() {
        let hearing = Hearing { nodes: 4, ..Hearing::default() };
        let vacant = Standby { vacant_at: Some(at(10_000)), hearing, ..view() };
        assert_eq!(proven(&vacant, 11_999), None);
        assert_eq!(proven(&vacant, 12_000), Some(Proof::Vacant), "nobody has");
        let (closed_at, refused_at) = (Some(at(10_010)), Some(at(10_060)));
        let gone = Standby { closed_at, refused_at, hearing, ..view() };
        assert_eq!(proven(&gone, 12_009), None);
        assert_eq!(proven(&gone, 12_010), Some(Proof::Refused));
        let hearing = Hearing { heard: 1, ..hearing };
        assert_eq!(proven(&Standby { hearing, ..vacant }, 10_000), Some(Proof::Vacant));
        assert_eq!(proven(&Standby { hearing, ..gone }, 10_060), Some(Proof::Refused));
    }

    #[test]
    fn one_that_cannot_lead_every_cluster_lets_others_go_first() {
        let hearing = Hearing { nodes: 4, heard: 4, answering: 4, unread: 1, ..Hearing::default() };
        let vacant = Standby { vacant_at: Some(at(10_000)), hearing, ..view() };
        assert_eq!(proven(&vacant, 11_999), None);
        assert_eq!(proven(&vacant, 12_000), Some(Proof::Vacant), "nobody has");
        let nodes = vec![node(20_300, 9_900); 4];
        let silent = Standby { heard_at: at(18_000), nodes, hearing, ..view() };
        assert_eq!(proven(&silent, 20_399), None);
        assert_eq!(proven(&silent, 20_400), Some(Proof::Silent));
    }

    /// Rule O2.
    #[test]
    fn a_lease_is_granted_only_from_a_stamp_older_than_the_read() {
        let read = Authority::shared(Some(at(1_000)), at(1_100));
        assert!(read.covers(at(999)) && !read.covers(at(1_000)) && !read.covers(at(1_050)));
        assert!(read.acts());
        assert!(Authority::shared(Some(at(1_000)), at(1_250)).acts());
        assert!(!Authority::shared(Some(at(1_000)), at(1_251)).acts());
        assert!(
            !Authority::shared(None, at(0)).acts() && !Authority::shared(None, at(0)).covers(at(0))
        );
        assert!(Authority::Alone.covers(at(5)) && Authority::Alone.acts());
    }
}
