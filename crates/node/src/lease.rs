//! The lease of a master: until when it may serve without hearing from its controller again.
//!
//! A lease is granted until *this node's* CLOCK_BOOTTIME reads a time that is computed from an earlier reply of this process, so a heartbeat that was
//! read late grants the past (hazards F10, rule R7). The rules are pure: the clock is an argument.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Longest lease a heartbeat may name, in milliseconds.
pub const LEASE_MS_MAX: u64 = 600_000;

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
    /// A heartbeat of the older kind after one with CLOCK.
    #[error("heartbeat without CLOCK refused: one with CLOCK was seen")]
    WithoutClock,
}

/// The part of a heartbeat that concerns the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Whether this node is the master that is named.
    pub is_for_me: bool,
    /// 1..=600000.
    pub lease_ms: u64,
    /// Term of the controller.
    pub term: u64,
    /// `CLOCK <ns> <nonce>`.
    pub clock: Option<(u64, u64)>,
}

#[derive(Debug, Default)]
struct Seen {
    term: u64,
    has_clock: bool,
}

/// The lease. The deadline is read on every command, without a lock.
#[derive(Debug)]
pub struct Lease {
    nonce: u64,
    deadline_ns: AtomicU64,
    seen: Mutex<Seen>,
}

impl Lease {
    /// No lease yet; `nonce` is this process's.
    pub fn new(nonce: u64) -> Self {
        Self { nonce, deadline_ns: AtomicU64::new(0), seen: Mutex::new(Seen::default()) }
    }

    /// This process's nonce.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Takes a heartbeat at `now_ns`; `longest_ms` is `master-lease-max-ms`.
    pub fn heartbeat(
        &self,
        beat: Heartbeat,
        now_ns: u64,
        longest_ms: u64,
    ) -> Result<(), HeartbeatError> {
        if !(1..=LEASE_MS_MAX).contains(&beat.lease_ms) {
            return Err(HeartbeatError::LeaseMs);
        }
        let mut seen = self.seen.lock();
        if beat.term < seen.term {
            return Err(HeartbeatError::Term { got: beat.term, seen: seen.term });
        }
        if beat.clock.is_none() && seen.has_clock {
            return Err(HeartbeatError::WithoutClock);
        }
        seen.term = beat.term;
        seen.has_clock |= beat.clock.is_some();
        let from = match beat.clock {
            None => now_ns,
            Some((ns, nonce)) if nonce == self.nonce => ns,
            Some(_) => return Ok(()),
        };
        let until = from.saturating_add(beat.lease_ms * 1_000_000);
        let is_sane = until <= now_ns.saturating_add(longest_ms * 1_000_000);
        if beat.is_for_me && is_sane {
            self.deadline_ns.fetch_max(until, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Whether a lease is valid at `now_ns`.
    pub fn is_valid(&self, now_ns: u64) -> bool {
        now_ns < self.deadline_ns.load(Ordering::SeqCst)
    }

    /// What is left at `now_ns`, in milliseconds.
    pub fn remaining_ms(&self, now_ns: u64) -> u64 {
        self.deadline_ns.load(Ordering::SeqCst).saturating_sub(now_ns) / 1_000_000
    }

    /// Ends the lease: the node is no master any more.
    pub fn clear(&self) {
        self.deadline_ns.store(0, Ordering::SeqCst);
    }

    /// Highest term seen.
    pub fn term(&self) -> u64 {
        self.seen.lock().term
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const LONGEST: u64 = 60_000;

    fn beat(clock: Option<(u64, u64)>) -> Heartbeat {
        Heartbeat { is_for_me: true, lease_ms: 1000, term: 3, clock }
    }

    #[test]
    fn a_late_heartbeat_grants_the_past() {
        let lease = Lease::new(7);
        let stopped_for = 60_000 * MS;
        lease.heartbeat(beat(Some((5 * MS, 7))), stopped_for, LONGEST).unwrap();
        assert!(!lease.is_valid(stopped_for));
        lease.heartbeat(beat(Some((stopped_for, 7))), stopped_for + MS, LONGEST).unwrap();
        assert!(lease.is_valid(stopped_for + 999 * MS));
        assert!(!lease.is_valid(stopped_for + 1000 * MS));
    }

    #[test]
    fn a_stamp_of_another_process_or_from_the_future_grants_nothing() {
        let lease = Lease::new(7);
        lease.heartbeat(beat(Some((10 * MS, 8))), 10 * MS, LONGEST).unwrap();
        assert!(!lease.is_valid(10 * MS));
        let before_reboot = 1_000_000_000 * MS;
        lease.heartbeat(beat(Some((before_reboot, 7))), 20_000 * MS, LONGEST).unwrap();
        assert!(!lease.is_valid(20_000 * MS));
    }

    #[test]
    fn nothing_is_granted_to_others_and_older_terms_are_refused() {
        let lease = Lease::new(7);
        let other = Heartbeat { is_for_me: false, ..beat(Some((MS, 7))) };
        lease.heartbeat(other, MS, LONGEST).unwrap();
        assert!(!lease.is_valid(MS));
        let older = Heartbeat { term: 2, ..beat(Some((MS, 7))) };
        assert_eq!(
            lease.heartbeat(older, MS, LONGEST),
            Err(HeartbeatError::Term { got: 2, seen: 3 })
        );
    }

    #[test]
    fn without_clock_it_is_upstreams_until_one_with_clock_was_seen() {
        let lease = Lease::new(7);
        lease.heartbeat(beat(None), 5 * MS, LONGEST).unwrap();
        assert!(lease.is_valid(1004 * MS));
        lease.heartbeat(beat(Some((0, 0))), 6 * MS, LONGEST).unwrap();
        assert_eq!(lease.heartbeat(beat(None), 7 * MS, LONGEST), Err(HeartbeatError::WithoutClock));
    }

    #[test]
    fn a_lease_never_shrinks_and_zero_is_refused() {
        let lease = Lease::new(7);
        lease.heartbeat(Heartbeat { lease_ms: 5000, ..beat(Some((MS, 7))) }, MS, LONGEST).unwrap();
        lease.heartbeat(Heartbeat { lease_ms: 1, ..beat(Some((MS, 7))) }, MS, LONGEST).unwrap();
        assert!(lease.is_valid(4000 * MS));
        let zero = Heartbeat { lease_ms: 0, ..beat(None) };
        assert_eq!(Lease::new(1).heartbeat(zero, MS, LONGEST), Err(HeartbeatError::LeaseMs));
    }
}
