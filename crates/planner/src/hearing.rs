//! Whether a controller that shares its store with others should lead: whether it hears nodes.
//!
//! The claim is in the store, so one that reaches the store and no node could lead for ever, while
//! others could do its work. It gives the lead up only to one that says that it hears nodes: where
//! nobody hears any, nothing is won by a change. One that hears none lets others go first.
//!
//! One that leads by what a few nodes said may have taken the lead from one that leads most of
//! them, and that does not take it back as long as it hears this one. So it gives the lead up to
//! one that says that it hears most.
//!
//! That nodes ended all at once must not look like one's own deafness: what a standby says it hears
//! is of a third of the time after which a leader is deaf, so the leader was deaf before.

use crate::{Policy, Time};

/// After so long without an answer of any node a controller hears none, ms, at the least.
const DEAF_MS: u64 = 3_000;
/// How long one that hears none, or cannot read all, leaves a vacant lead to others, ms.
const LEAVES_MS: u64 = 2_000;
/// For so long what a standby says of what it hears is taken to be so, ms.
const SAID_MS: u64 = 1_000;
/// The pause before the lead is given up once more doubles so often at most.
const DOUBLINGS: u32 = 7;

/// What a controller hears of the nodes of all clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hearing {
    /// How many there are.
    pub nodes: usize,
    /// How many of them have answered within the time after which a controller is deaf.
    pub heard: usize,
    /// How many of them have answered within a third of it: what others are told.
    pub answering: usize,
    /// How many of them have answered within two of the silences after which a leader counts as
    /// gone: what a leader says to one that doubts it ([`crate::Doubts`]). That one counts those
    /// that have answered it within one, so that a cut which both notice a moment apart makes
    /// neither reach more than the other.
    pub reached: usize,
    /// Clusters whose record it cannot read, so that it cannot lead them.
    pub unread: usize,
}

impl Hearing {
    /// Notes one node more, and when it answered last.
    pub fn add(&mut self, answered_at: Option<Time>, policy: &Policy, now: Time) {
        let within = |ms: u64| answered_at.is_some_and(|at| now < at.plus_millis(ms));
        self.nodes += 1;
        self.heard += usize::from(within(deaf_ms(policy)));
        self.answering += usize::from(within(deaf_ms(policy) / 3));
        self.reached += usize::from(within(policy.silence_ms().saturating_mul(2)));
    }

    /// Whether there are nodes, and none is heard.
    pub fn is_deaf(self) -> bool {
        self.nodes > 0 && self.heard == 0
    }

    /// Whether at least half of them are heard.
    pub fn hears_most(self) -> bool {
        self.heard >= self.nodes.saturating_sub(self.heard)
    }

    /// The same of what others are told.
    pub fn says_most(self) -> bool {
        self.answering >= self.nodes.saturating_sub(self.answering)
    }

    /// Whether a lead that was free to take at `since` may be taken: at once by one that hears
    /// nodes, or where there are none, and that can read all records.
    pub(crate) fn may_take(self, since: Time, now: Time) -> bool {
        let is_fit = !self.is_deaf() && self.unread == 0;
        is_fit || now >= since.plus_millis(LEAVES_MS)
    }
}

/// What a leader knows when it asks itself whether it should go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leading {
    /// What it hears.
    pub hearing: Hearing,
    /// Since when it leads.
    pub since: Time,
    /// When one that stands by said last that it hears nodes.
    pub other_hears_at: Option<Time>,
    /// When one that stands by said last that it hears at least half of them.
    pub other_hears_most_at: Option<Time>,
    /// It has claimed by [`crate::Proof::Few`].
    pub is_by_few: bool,
    /// How often it has given the lead up, and nobody else has taken it.
    pub in_vain: u32,
}

/// Whether a leader should give the lead up: it hears no node, and one that stands by hears some;
/// or it leads by what a few said, hears less than half, and one that stands by hears half or more.
///
/// Each time that nobody takes what it gives up it waits twice as long before the next. One that
/// leads by what a few said waits for nothing at first: once the leases are over that it knows
/// nothing of, it would replace the masters that it does not hear.
pub fn yields(of: &Leading, policy: &Policy, now: Time) -> bool {
    let pause = deaf_ms(policy) << of.in_vain.min(DOUBLINGS);
    let is_said = |at: Option<Time>| at.is_some_and(|at| now < at.plus_millis(SAID_MS));
    let is_deaf = of.hearing.is_deaf() && is_said(of.other_hears_at);
    let is_of_few = of.is_by_few && !of.hearing.hears_most() && is_said(of.other_hears_most_at);
    let is_over = now >= of.since.plus_millis(pause);
    (is_deaf && is_over) || (is_of_few && (is_over || of.in_vain == 0))
}

fn deaf_ms(policy: &Policy) -> u64 {
    DEAF_MS.max(policy.heartbeat_ms.saturating_mul(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn yields_at(of: &Leading, ms: u64) -> bool {
        yields(of, &Policy::default(), at(ms))
    }

    #[test]
    fn a_node_is_heard_for_a_while_after_its_answer() {
        let policy = Policy::default();
        let hears = |answered: Option<u64>, ms: u64| {
            let mut hearing = Hearing::default();
            hearing.add(answered.map(at), &policy, at(ms));
            assert_eq!(hearing.nodes, 1);
            (hearing.heard, hearing.answering)
        };
        assert_eq!(hears(Some(1_000), 1_999), (1, 1));
        assert_eq!(hears(Some(1_000), 2_000), (1, 0));
        assert_eq!(hears(Some(1_000), 3_999), (1, 0));
        assert_eq!(hears(Some(1_000), 4_000), (0, 0));
        assert_eq!(hears(None, 0), (0, 0));
        assert!(!Hearing::default().is_deaf(), "there is nothing to hear");
        let slow = Policy { heartbeat_ms: 5_000, ..policy };
        let mut hearing = Hearing::default();
        hearing.add(Some(at(0)), &slow, at(19_999));
        assert!(!hearing.is_deaf());
    }

    /// It counts a node for twice as long as one that doubts it does, and no longer.
    #[test]
    fn what_a_leader_says_it_reaches_has_answered_within_two_silences() {
        for (heartbeat_ms, silence) in [(50, 400), (200, 400), (1_000, 2_000)] {
            let policy = Policy { heartbeat_ms, ..Policy::default() };
            assert_eq!(policy.silence_ms(), silence);
            let reached = |ms: u64| {
                let mut hearing = Hearing::default();
                hearing.add(Some(at(1_000)), &policy, at(1_000 + ms));
                hearing.reached
            };
            assert_eq!((reached(2 * silence - 1), reached(2 * silence)), (1, 0), "{heartbeat_ms}");
        }
    }

    #[test]
    fn a_leader_that_hears_no_node_gives_way_to_one_that_does() {
        let deaf = Hearing { nodes: 3, ..Hearing::default() };
        let of = Leading {
            hearing: deaf,
            since: at(10_000),
            other_hears_at: Some(at(13_000)),
            ..Leading::default()
        };
        assert!(!yields_at(&of, 12_999), "it has hardly begun");
        assert!(yields_at(&of, 13_000));
        assert!(!yields_at(&of, 14_000), "nobody has said so lately");
        assert!(!yields_at(&Leading { other_hears_at: None, ..of }, 13_000), "nobody hears any");
        let one = Leading { hearing: Hearing { heard: 1, ..deaf }, ..of };
        assert!(!yields_at(&one, 13_000), "it hears one");
        assert!(!yields_at(&Leading { hearing: Hearing::default(), ..of }, 13_000));
    }

    /// It was cut off from the leader of most nodes, which hears it all the same.
    #[test]
    fn one_that_leads_by_a_few_nodes_gives_way_to_one_that_hears_most() {
        let of = Leading {
            hearing: Hearing { nodes: 5, heard: 2, ..Hearing::default() },
            since: at(10_000),
            other_hears_at: Some(at(13_000)),
            other_hears_most_at: Some(at(13_000)),
            is_by_few: true,
            in_vain: 0,
        };
        assert!(yields_at(&of, 10_000) && yields_at(&of, 13_999), "at once");
        assert!(!yields_at(&of, 14_000), "nobody has said so lately");
        assert!(!yields_at(&Leading { other_hears_most_at: None, ..of }, 13_000), "nor most");
        assert!(!yields_at(&Leading { is_by_few: false, ..of }, 13_000));
        for (ms, is_over) in [(15_999, false), (16_000, true)] {
            let again = Leading { in_vain: 1, other_hears_most_at: Some(at(ms)), ..of };
            assert_eq!(yields_at(&again, ms), is_over, "once in vain");
        }
        for (heard, nodes, most) in [(3, 5, true), (2, 4, true), (1, 4, false), (0, 0, true)] {
            let hearing = Hearing { nodes, heard, answering: heard, ..Hearing::default() };
            assert_eq!((hearing.hears_most(), hearing.says_most()), (most, most));
            let of = Leading { hearing, ..of };
            assert_eq!(yields_at(&of, 13_000), !most, "{heard} of {nodes}");
        }
    }

    /// A standby hears them one heartbeat longer than the leader, at the most, and says so.
    #[test]
    fn nodes_that_end_all_at_once_cost_no_lead() {
        for heartbeat_ms in [100, 200, 1_000, 5_000] {
            let policy = Policy { heartbeat_ms, ..Policy::default() };
            let (last_here, last_there) = (100_000, 100_000 + heartbeat_ms);
            let mut other_hears_at = None;
            for ms in (100_000..100_000 + 20 * deaf_ms(&policy)).step_by(100) {
                let hearing = |last: u64| {
                    let mut hearing = Hearing::default();
                    hearing.add(Some(at(last)), &policy, at(ms));
                    hearing
                };
                if hearing(last_there).answering > 0 {
                    other_hears_at = Some(at(ms));
                }
                let hearing = hearing(last_here);
                let of = Leading { hearing, since: at(0), other_hears_at, ..Leading::default() };
                assert!(!yields(&of, &policy, at(ms)), "{heartbeat_ms}: at {ms}");
            }
        }
    }

    #[test]
    fn what_nobody_takes_is_given_up_ever_more_seldom() {
        let mut of =
            Leading { hearing: Hearing { nodes: 1, ..Hearing::default() }, ..Leading::default() };
        for (in_vain, pause) in [(0, 3), (1, 6), (3, 24), (7, 384), (u32::MAX, 384)] {
            of.in_vain = in_vain;
            for (ms, is_over) in [(pause * 1_000 - 1, false), (pause * 1_000, true)] {
                of.other_hears_at = Some(at(ms));
                assert_eq!(yields_at(&of, ms), is_over, "{in_vain} in vain, after {ms} ms");
            }
        }
    }
}
