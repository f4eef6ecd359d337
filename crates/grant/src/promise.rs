//! The word of a replica to its master, while no controller is heard: "I shall not become master before …" (rule R9).
//!
//! A master's pings carry its clock and the length of its lease. A replica that has heard no controller for half a lease returns the stamp, and from then on
//! refuses any grant until the lease counted from then is over, by its own clock and one percent more. The master's lease is the least such answer of all
//! its other in-sync members, so none of those that could be promoted will be.
//!
//! A promise outlives the process that gave it: it is on disk, rounded up, before it is given. A promise that died with a killed replica would let its next
//! process take a grant while the old master still serves.

use crate::lease::{LEASE_MS_MAX, MS};

/// What is kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kept {
    /// CLOCK_BOOTTIME until which the promise may last, ns.
    pub until_ns: u64,
    /// Lease it was given for; after a reboot the clock says nothing, and one full lease is waited.
    pub lease_ms: u64,
}

/// What a ping is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// No echo: a controller is heard, or the lease is longer than allowed.
    Silent,
    /// The promise was made: the stamp goes back with the acknowledgement.
    Echo,
    /// This must be on disk first ([`Promise::kept`]); then ask again.
    Keep(Kept),
}

/// Promises of this node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Promise {
    /// When a controller was last heard, or the process began.
    heard_ns: u64,
    until_ns: u64,
    kept_ns: u64,
}

/// One percent longer: clocks may drift.
fn with_drift(lease_ms: u64) -> u64 {
    lease_ms.saturating_mul(MS).saturating_add(lease_ms.saturating_mul(MS / 100))
}

impl Promise {
    /// A process that begins at `now_ns`. `kept` is what an earlier one left on disk, `is_same_boot` whether its clock is still the same.
    pub fn new(now_ns: u64, kept: Option<Kept>, is_same_boot: bool) -> Self {
        let until_ns = kept.map_or(0, |kept| {
            if is_same_boot {
                // Nothing that was ever promised goes further than two leases.
                let furthest = 2 * with_drift(kept.lease_ms.min(LEASE_MS_MAX));
                kept.until_ns.min(now_ns.saturating_add(furthest))
            } else {
                now_ns.saturating_add(with_drift(kept.lease_ms.min(LEASE_MS_MAX)))
            }
        });
        Self { heard_ns: now_ns, until_ns, kept_ns: 0 }
    }

    /// A controller was heard: nothing is promised for now. What was promised holds.
    pub fn heard(&mut self, now_ns: u64) {
        self.heard_ns = self.heard_ns.max(now_ns);
    }

    /// A ping of the master with the length of its lease. `longest_ms` is `master-lease-max-ms`.
    pub fn ping(&mut self, lease_ms: u64, now_ns: u64, longest_ms: u64) -> Answer {
        let silent_for = now_ns.saturating_sub(self.heard_ns);
        let is_sane = (1..=longest_ms.min(LEASE_MS_MAX)).contains(&lease_ms);
        if !is_sane || silent_for < lease_ms.saturating_mul(MS / 2) {
            return Answer::Silent;
        }
        let until_ns = now_ns.saturating_add(with_drift(lease_ms));
        if until_ns > self.kept_ns {
            // Twice as far as needed, so that the disk is asked once a lease and not once a ping.
            let until_ns = until_ns.saturating_add(with_drift(lease_ms));
            return Answer::Keep(Kept { until_ns, lease_ms });
        }
        self.until_ns = self.until_ns.max(until_ns);
        Answer::Echo
    }

    /// This is on disk now.
    pub fn kept(&mut self, kept: Kept) {
        self.kept_ns = self.kept_ns.max(kept.until_ns);
    }

    /// The same on a clock that began `by_ns` later.
    pub fn rebase(&mut self, by_ns: u64) {
        self.heard_ns = self.heard_ns.saturating_sub(by_ns);
        self.until_ns = self.until_ns.saturating_sub(by_ns);
        self.kept_ns = self.kept_ns.saturating_sub(by_ns);
    }

    /// For how many ns any grant is refused.
    pub fn left_ns(&self, now_ns: u64) -> u64 {
        self.until_ns.saturating_sub(now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: u64 = 1000;
    const LONGEST: u64 = 60_000;

    fn ask(promise: &mut Promise, now_ns: u64) -> Answer {
        match promise.ping(LEASE, now_ns, LONGEST) {
            Answer::Keep(kept) => {
                promise.kept(kept);
                promise.ping(LEASE, now_ns, LONGEST)
            }
            other => other,
        }
    }

    #[test]
    fn nothing_is_promised_while_a_controller_is_heard() {
        let mut promise = Promise::new(0, None, true);
        assert_eq!(ask(&mut promise, 499 * MS), Answer::Silent);
        assert_eq!(ask(&mut promise, 500 * MS), Answer::Echo);
        assert_eq!(promise.left_ns(500 * MS), 1010 * MS);
        promise.heard(600 * MS);
        assert_eq!(ask(&mut promise, 700 * MS), Answer::Silent);
        assert_eq!(promise.left_ns(700 * MS), 810 * MS, "what was promised holds");
    }

    #[test]
    fn a_promise_is_on_disk_before_it_is_given_and_once_a_lease() {
        let mut promise = Promise::new(0, None, true);
        let Answer::Keep(kept) = promise.ping(LEASE, 500 * MS, LONGEST) else {
            panic!("not kept first");
        };
        assert_eq!(promise.left_ns(500 * MS), 0, "not given yet");
        promise.kept(kept);
        let writes = (500..2500).step_by(100).filter(|ms| {
            let answer = promise.ping(LEASE, ms * MS, LONGEST);
            if let Answer::Keep(kept) = answer {
                promise.kept(kept);
            }
            answer != Answer::Echo
        });
        assert_eq!(writes.count(), 1);
    }

    #[test]
    fn the_next_process_keeps_the_promise() {
        let mut promise = Promise::new(0, None, true);
        let Answer::Keep(kept) = promise.ping(LEASE, 500 * MS, LONGEST) else {
            panic!("not kept first");
        };
        promise.kept(kept);
        assert_eq!(promise.ping(LEASE, 500 * MS, LONGEST), Answer::Echo);
        let next = Promise::new(600 * MS, Some(kept), true);
        assert!(next.left_ns(600 * MS) >= promise.left_ns(600 * MS));
        let rebooted = Promise::new(20 * MS, Some(kept), false);
        assert_eq!(rebooted.left_ns(20 * MS), 1010 * MS);
        let nonsense = Kept { until_ns: u64::MAX, lease_ms: LEASE };
        assert_eq!(Promise::new(0, Some(nonsense), true).left_ns(0), 2020 * MS);
    }

    #[test]
    fn a_lease_longer_than_allowed_is_not_promised() {
        let mut promise = Promise::new(0, None, true);
        assert_eq!(promise.ping(60_001, 100_000 * MS, LONGEST), Answer::Silent);
        assert_eq!(promise.ping(0, 100_000 * MS, LONGEST), Answer::Silent);
    }
}
