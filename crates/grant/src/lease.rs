//! The lease of a master: until when it may serve without hearing from its controller again.
//!
//! A lease is granted until *this node's* CLOCK_BOOTTIME reads a time that is computed from an
//! earlier reply of this process, so a heartbeat that was read late grants the past (rule R7).

use api::grant::Grant;
use api::store::{Mismatch, Said, StoreId};

use crate::refusal::Refusal;

/// Longest lease a heartbeat may name, in milliseconds.
pub const LEASE_MS_MAX: u64 = 600_000;

/// Nanoseconds of a millisecond.
pub(crate) const MS: u64 = 1_000_000;

/// Why a heartbeat was refused. `Display` is the text behind `ERR `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeartbeatError {
    /// Out of 1..=600000.
    #[error("invalid lease_ms: it must lie between 1 and 600000")]
    LeaseMs,
    /// A controller of an older term.
    #[error("election version mismatch: {got} is older than {seen}")]
    Term {
        /// What came.
        got: u64,
        /// The highest seen.
        seen: u64,
    },
    /// A controller of a store that was left behind, or of another one, whatever its term (rule
    /// O7).
    #[error(transparent)]
    Store(#[from] Mismatch),
    /// A heartbeat of the older kind after one with CLOCK.
    #[error("heartbeat without CLOCK refused: one with CLOCK was seen")]
    WithoutClock,
    /// The grant in it contradicts what this node has.
    #[error("grant refused: {0}")]
    Grant(#[from] Refusal),
}

/// A heartbeat of a controller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Heartbeat {
    /// Whether this node is the master that is named, by its id.
    pub is_for_me: bool,
    /// 1..=600000.
    pub lease_ms: u64,
    /// Term of the controller.
    pub term: u64,
    /// `CLOCK <ns> <nonce>`.
    pub clock: Option<(u64, u64)>,
    /// `GRANT …`.
    pub grant: Option<Grant>,
    /// `STORE …`: from which store it leads; `None` from a controller that does not say.
    pub store: Option<Said>,
}

/// The lease that controllers gave this process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    nonce: u64,
    deadline_ns: u64,
    term: u64,
    has_clock: bool,
    /// The store whose controllers are obeyed, once one has said its name and that is on disk.
    store: Option<StoreId>,
}

impl Lease {
    /// No lease yet; `nonce` is this process's.
    pub fn new(nonce: u64) -> Self {
        Self { nonce, deadline_ns: 0, term: 0, has_clock: false, store: None }
    }

    /// This process's nonce.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// An earlier process of this node has seen `term`, and this one refuses lower ones as well
    /// (rule O7): a controller on a store that was left behind would else lead whatever restarted.
    pub fn remember(&mut self, term: u64) {
        self.term = self.term.max(term);
    }

    /// Highest term seen.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// What the next process of this node is to [`Self::remember`], where it is not `kept` already.
    /// Terms of controllers that say no CLOCK are kept by nobody: theirs may begin anew.
    pub fn to_keep(&self, kept: u64) -> Option<u64> {
        (self.has_clock && self.term > kept).then_some(self.term)
    }

    /// The store whose controllers are obeyed (rule O7); `None` before one has said its name.
    pub fn store(&self) -> Option<StoreId> {
        self.store
    }

    /// From here on only controllers of that store are obeyed, of that generation or a later one,
    /// and those that say none. The next process must find it on disk before anything is answered
    /// under it.
    pub fn led_from(&mut self, store: StoreId) {
        self.store = Some(store);
    }

    /// The node was made nobody's: what was obeyed is nothing to whose it will be.
    pub fn forget_leaders(&mut self) {
        (self.term, self.store) = (0, None);
    }

    /// The store that is to be on disk, and then told to [`Self::led_from`], before a command of
    /// that term and store is obeyed; `None` where it is the one that is obeyed already. Changes
    /// nothing.
    ///
    /// # Errors
    /// It is not to be obeyed at all.
    pub fn to_begin(&self, term: u64, said: Said) -> Result<Option<StoreId>, HeartbeatError> {
        let is_news = said.against(self.store)?;
        self.check_term(term)?;
        Ok(is_news.then_some(said.by))
    }

    /// Another store is told before an older term: a store that was given up has the lower terms as
    /// well, and the remedy against those is not its.
    fn check(&self, term: u64, said: Option<Said>) -> Result<(), HeartbeatError> {
        if let Some(said) = said {
            said.against(self.store)?;
        }
        self.check_term(term)
    }

    fn check_term(&self, term: u64) -> Result<(), HeartbeatError> {
        match term < self.term {
            true => Err(HeartbeatError::Term { got: term, seen: self.term }),
            false => Ok(()),
        }
    }

    /// Whether a heartbeat is from a controller to be listened to; notes its term. A controller
    /// that says no store is of an earlier version: its term alone is looked at.
    pub fn admit(&mut self, beat: &Heartbeat) -> Result<(), HeartbeatError> {
        if !(1..=LEASE_MS_MAX).contains(&beat.lease_ms) {
            return Err(HeartbeatError::LeaseMs);
        }
        self.check(beat.term, beat.store)?;
        if beat.clock.is_none() && self.has_clock {
            return Err(HeartbeatError::WithoutClock);
        }
        self.term = beat.term;
        self.has_clock |= beat.clock.is_some();
        Ok(())
    }

    /// Whether a command of a controller that names its term, and perhaps its store, is to be
    /// obeyed; notes the term (rule O5).
    pub fn obey(&mut self, term: u64, said: Option<Said>) -> Result<(), HeartbeatError> {
        self.check(term, said)?;
        self.term = term;
        Ok(())
    }

    /// Until when a heartbeat grants at `now_ns`; `None` if it is for another process or from the
    /// future. `longest_ms` is `master-lease-max-ms`.
    pub fn offered(&self, beat: &Heartbeat, now_ns: u64, longest_ms: u64) -> Option<u64> {
        let from = match beat.clock {
            None => now_ns,
            Some((ns, nonce)) if nonce == self.nonce => ns,
            Some(_) => return None,
        };
        let until = from.saturating_add(beat.lease_ms.saturating_mul(MS));
        (until <= now_ns.saturating_add(longest_ms.saturating_mul(MS))).then_some(until)
    }

    /// Takes what a heartbeat grants. A lease never shrinks.
    pub fn extend(&mut self, beat: &Heartbeat, now_ns: u64, longest_ms: u64) {
        let until = self.offered(beat, now_ns, longest_ms).unwrap_or(0);
        self.deadline_ns = self.deadline_ns.max(until);
    }

    /// CLOCK_BOOTTIME at which it ends, ns; 0 if there never was one.
    pub fn until_ns(&self) -> u64 {
        self.deadline_ns
    }

    /// The same on a clock that began `by_ns` later: a model's states must not grow with time.
    pub fn rebase(&mut self, by_ns: u64) {
        self.deadline_ns = self.deadline_ns.saturating_sub(by_ns);
    }

    /// Ends the lease: the node is no master any more.
    pub fn clear(&mut self) {
        self.deadline_ns = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: u64 = 60_000;

    fn beat(clock: Option<(u64, u64)>) -> Heartbeat {
        Heartbeat { is_for_me: true, lease_ms: 1000, term: 3, clock, grant: None, store: None }
    }

    fn take(lease: &mut Lease, beat: &Heartbeat, now: u64) -> Result<(), HeartbeatError> {
        lease.admit(beat)?;
        lease.extend(beat, now, LONGEST);
        Ok(())
    }

    #[test]
    fn a_late_heartbeat_grants_the_past() {
        let mut lease = Lease::new(7);
        let stopped_for = 60_000 * MS;
        take(&mut lease, &beat(Some((5 * MS, 7))), stopped_for).unwrap();
        assert!(lease.until_ns() <= stopped_for);
        take(&mut lease, &beat(Some((stopped_for, 7))), stopped_for + MS).unwrap();
        assert_eq!(lease.until_ns(), stopped_for + 1000 * MS);
    }

    #[test]
    fn a_stamp_of_another_process_or_from_the_future_grants_nothing() {
        let mut lease = Lease::new(7);
        take(&mut lease, &beat(Some((10 * MS, 8))), 10 * MS).unwrap();
        let before_reboot = 1_000_000_000 * MS;
        take(&mut lease, &beat(Some((before_reboot, 7))), 20_000 * MS).unwrap();
        assert_eq!(lease.until_ns(), 0);
    }

    #[test]
    fn older_terms_are_refused() {
        let mut lease = Lease::new(7);
        take(&mut lease, &beat(Some((MS, 7))), MS).unwrap();
        let older = Heartbeat { term: 2, ..beat(Some((MS, 7))) };
        let refused = Err(HeartbeatError::Term { got: 2, seen: 3 });
        assert_eq!(take(&mut lease, &older, MS), refused);
    }

    #[test]
    fn a_command_of_an_older_term_is_refused_and_a_newer_one_shuts_older_heartbeats_out() {
        let mut lease = Lease::new(7);
        take(&mut lease, &beat(Some((MS, 7))), MS).unwrap();
        assert_eq!(lease.obey(2, None), Err(HeartbeatError::Term { got: 2, seen: 3 }));
        lease.obey(4, None).unwrap();
        let refused = Err(HeartbeatError::Term { got: 3, seen: 4 });
        assert_eq!(take(&mut lease, &beat(Some((MS, 7))), MS), refused);
    }

    #[test]
    fn the_next_process_refuses_what_this_one_would_have_refused() {
        let mut lease = Lease::new(7);
        assert_eq!(lease.to_keep(0), None, "nobody was heard");
        lease.obey(2, None).unwrap();
        assert_eq!(lease.to_keep(0), None, "it has not led yet");
        take(&mut lease, &beat(Some((MS, 7))), MS).unwrap();
        assert_eq!(lease.to_keep(0), Some(3));
        assert_eq!(lease.to_keep(3), None, "it is there");
        let mut next = Lease::new(8);
        next.remember(3);
        let older = Heartbeat { term: 2, ..beat(Some((MS, 8))) };
        let refused = Err(HeartbeatError::Term { got: 2, seen: 3 });
        assert_eq!(take(&mut next, &older, MS), refused);
        take(&mut next, &beat(Some((MS, 8))), MS).unwrap();
        assert_eq!(next.until_ns(), 1001 * MS, "and obeys what this one would have");
        next.remember(1);
        assert_eq!(next.term(), 3);
    }

    #[test]
    fn a_term_without_clock_is_forgotten_with_the_process() {
        let mut lease = Lease::new(7);
        take(&mut lease, &beat(None), MS).unwrap();
        assert_eq!((lease.term(), lease.to_keep(0)), (3, None));
    }

    #[test]
    fn without_clock_it_is_upstreams_until_one_with_clock_was_seen() {
        let mut lease = Lease::new(7);
        take(&mut lease, &beat(None), 5 * MS).unwrap();
        assert_eq!(lease.until_ns(), 1005 * MS);
        take(&mut lease, &beat(Some((0, 0))), 6 * MS).unwrap();
        let refused = Err(HeartbeatError::WithoutClock);
        assert_eq!(take(&mut lease, &beat(None), 7 * MS), refused);
    }

    fn of(name: u64, generation: u64) -> Said {
        Said { by: StoreId { name, generation }, instead_of: None }
    }

    /// As a node does: what is new is on disk first.
    fn hear(lease: &mut Lease, term: u64, said: Option<Said>) -> Result<(), HeartbeatError> {
        if let Some(store) = said.map_or(Ok(None), |said| lease.to_begin(term, said))? {
            lease.led_from(store);
        }
        lease.admit(&Heartbeat { term, store: said, ..beat(Some((MS, 7))) })
    }

    fn is_of_the_store(heard: Result<(), HeartbeatError>) -> bool {
        matches!(heard, Err(HeartbeatError::Store(_)))
    }

    #[test]
    fn a_lower_generation_and_another_store_are_refused_whatever_their_term() {
        let mut lease = Lease::new(7);
        hear(&mut lease, 3, Some(of(0xa, 2))).unwrap();
        for other in [of(0xa, 1), of(0xb, 9)] {
            assert!(is_of_the_store(hear(&mut lease, 1_000, Some(other))), "{other:?}");
            assert!(is_of_the_store(lease.obey(1_000, Some(other))), "{other:?}");
            // Also where its term is too low as well: to raise it would not help.
            assert!(is_of_the_store(hear(&mut lease, 1, Some(other))), "{other:?}");
        }
        assert_eq!(lease.term(), 3, "what is refused leaves no term");
        hear(&mut lease, 4, Some(of(0xa, 2))).unwrap();
        hear(&mut lease, 5, Some(of(0xa, 3))).unwrap();
        assert!(is_of_the_store(hear(&mut lease, 1_000, Some(of(0xa, 2)))));
        // The next process has it from the disk.
        let mut next = Lease::new(8);
        next.remember(lease.term());
        next.led_from(lease.store().unwrap());
        assert!(is_of_the_store(hear(&mut next, 1_000, Some(of(0xa, 2)))));
        assert_eq!(
            hear(&mut next, 4, Some(of(0xa, 3))),
            Err(HeartbeatError::Term { got: 4, seen: 5 })
        );
    }

    #[test]
    fn another_store_leads_once_it_names_the_one_whose_place_it_takes() {
        let mut lease = Lease::new(7);
        hear(&mut lease, 3, Some(of(0xa, 2))).unwrap();
        let heir = |generation| {
            let instead_of = Some(StoreId { name: 0xa, generation });
            Some(Said { instead_of, ..of(0xb, 1) })
        };
        assert!(is_of_the_store(hear(&mut lease, 9, heir(1))));
        let older = hear(&mut lease, 2, heir(2));
        assert_eq!(older, Err(HeartbeatError::Term { got: 2, seen: 3 }), "terms count as ever");
        assert_eq!(lease.store(), Some(of(0xa, 2).by), "and leave the name");
        hear(&mut lease, 9, heir(2)).unwrap();
        assert!(
            is_of_the_store(hear(&mut lease, 1_000, Some(of(0xa, 2)))),
            "it is over for that one"
        );
        hear(&mut lease, 9, Some(of(0xb, 1))).unwrap();
        hear(&mut lease, 9, heir(2)).unwrap();
    }

    /// A rolling upgrade, in both orders, and back.
    #[test]
    fn controllers_that_say_no_store_are_kept_apart_by_terms_alone() {
        let mut lease = Lease::new(7);
        hear(&mut lease, 3, None).unwrap();
        assert_eq!(lease.store(), None);
        // The first of the site's controllers is of this version, and leads.
        hear(&mut lease, 4, Some(of(0xa, 1))).unwrap();
        // It ends; a controller of an earlier version takes over.
        hear(&mut lease, 5, None).unwrap();
        lease.obey(5, None).unwrap();
        assert_eq!(lease.store(), Some(of(0xa, 1).by), "what was said is known still");
        assert_eq!(hear(&mut lease, 4, None), Err(HeartbeatError::Term { got: 4, seen: 5 }));
        hear(&mut lease, 6, Some(of(0xa, 1))).unwrap();
    }

    #[test]
    fn a_node_that_is_nobodys_has_obeyed_nobody() {
        let mut lease = Lease::new(7);
        hear(&mut lease, 9, Some(of(0xa, 2))).unwrap();
        lease.forget_leaders();
        assert_eq!((lease.term(), lease.store()), (0, None));
        hear(&mut lease, 1, Some(of(0xb, 1))).unwrap();
        assert_eq!(lease.store(), Some(of(0xb, 1).by));
    }

    #[test]
    fn a_lease_never_shrinks_and_zero_is_refused() {
        let mut lease = Lease::new(7);
        take(&mut lease, &Heartbeat { lease_ms: 5000, ..beat(Some((MS, 7))) }, MS).unwrap();
        take(&mut lease, &Heartbeat { lease_ms: 1, ..beat(Some((MS, 7))) }, MS).unwrap();
        assert_eq!(lease.until_ns(), 5001 * MS);
        let zero = Heartbeat { lease_ms: 0, ..beat(None) };
        assert_eq!(take(&mut Lease::new(1), &zero, MS), Err(HeartbeatError::LeaseMs));
    }
}
