//! The word of a replica to its master, while no controller is heard: "I shall not become master
//! before …" (rules R9, O3).
//!
//! A master's pings carry its clock and the length of its lease. A replica that has heard no
//! controller for a third of a lease returns the stamp, and from then on refuses any grant until
//! the lease counted from then is over, by its own clock and one percent more. The master's lease
//! is the least such answer of all its other in-sync members, so none of those that could be
//! promoted will be.
//!
//! A promise outlives the process that gave it: it is on disk, rounded up, before it is given. A
//! promise that died with a killed replica would let its next process take a grant while the old
//! master still serves. It is written ahead, from a quarter of a lease of silence on, so that no
//! ping waits for a disk: two thirds of a lease are soon over where the last grant was some time
//! old, and a ping takes its time too.

use crate::lease::{LEASE_MS_MAX, MS};

/// What is kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Kept {
    /// CLOCK_BOOTTIME until which promises may last, ns.
    pub until_ns: u64,
    /// The longest lease that is promised meanwhile, ms: no promise outlives the process that gave
    /// it by more, and one percent. After a reboot the clock says nothing, and that is waited.
    pub lease_ms: u64,
}

/// Promises of this node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Promise {
    /// When a controller was last heard, or the process began.
    heard_ns: u64,
    until_ns: u64,
    kept: Kept,
}

/// One percent longer: clocks may drift.
fn with_drift(lease_ms: u64) -> u64 {
    lease_ms.saturating_mul(MS).saturating_add(lease_ms.saturating_mul(MS / 100))
}

impl Promise {
    /// A process that begins at `now_ns`. `kept` is what an earlier one left on disk,
    /// `is_same_boot` whether its clock is still the same.
    pub fn new(now_ns: u64, kept: Option<Kept>, is_same_boot: bool) -> Self {
        let Some(Kept { until_ns, lease_ms }) = kept else {
            return Self { heard_ns: now_ns, until_ns: 0, kept: Kept::default() };
        };
        let lease_ms = lease_ms.min(LEASE_MS_MAX);
        let furthest_ns = now_ns.saturating_add(with_drift(lease_ms));
        let until_ns = if is_same_boot { until_ns } else { furthest_ns };
        // It is still there: what is written next must cover it, too.
        let kept = Kept { until_ns, lease_ms };
        Self { heard_ns: now_ns, until_ns: until_ns.min(furthest_ns), kept }
    }

    /// A controller was heard: nothing is promised for now. What was promised holds.
    pub fn heard(&mut self, now_ns: u64) {
        self.heard_ns = self.heard_ns.max(now_ns);
    }

    /// Whether no controller was heard for a `part`th of a lease that may be promised at all.
    /// `longest_ms` is `master-lease-max-ms`.
    fn is_silent(&self, part: u64, lease_ms: u64, now_ns: u64, longest_ms: u64) -> bool {
        let is_sane = (1..=longest_ms.min(LEASE_MS_MAX)).contains(&lease_ms);
        let silent_for = now_ns.saturating_sub(self.heard_ns);
        is_sane && silent_for >= lease_ms.saturating_mul(MS / part)
    }

    /// What must be on disk ([`Self::kept`]) for the pings to come to be answered, by a replica
    /// whose master's leases are `lease_ms` long; `None` while a controller is heard, and while
    /// enough is there. To be asked at each ping.
    pub fn ahead(&self, lease_ms: u64, now_ns: u64, longest_ms: u64) -> Option<Kept> {
        if !self.is_silent(4, lease_ms, now_ns, longest_ms) {
            return None;
        }
        let lease_ns = with_drift(lease_ms);
        // The disk has half a lease to take the next one, and is asked once in one and a half.
        let soon_ns = now_ns.saturating_add(lease_ns).saturating_add(lease_ns / 2);
        if self.kept.until_ns >= soon_ns && self.kept.lease_ms >= lease_ms {
            return None;
        }
        // A longer lease may have been promised before, or be until this is written.
        let before_ms = if self.kept.until_ns > now_ns { self.kept.lease_ms } else { 0 };
        let until_ns = now_ns.saturating_add(lease_ns.saturating_mul(3)).max(self.until_ns);
        Some(Kept { until_ns, lease_ms: lease_ms.max(before_ms) })
    }

    /// This is on disk now, and nothing else.
    pub fn kept(&mut self, kept: Kept) {
        self.kept = kept;
    }

    /// A ping of the master with the length of its lease: true if its stamp may be returned,
    /// because the promise is made. False while a controller is heard, if the lease is longer than
    /// allowed, or not enough is on disk yet.
    pub fn ping(&mut self, lease_ms: u64, now_ns: u64, longest_ms: u64) -> bool {
        let until_ns = now_ns.saturating_add(with_drift(lease_ms));
        let is_kept = self.kept.until_ns >= until_ns && self.kept.lease_ms >= lease_ms;
        let is_given = is_kept && self.is_silent(3, lease_ms, now_ns, longest_ms);
        if is_given {
            self.until_ns = self.until_ns.max(until_ns);
        }
        is_given
    }

    /// The same on a clock that began `by_ns` later.
    pub fn rebase(&mut self, by_ns: u64) {
        self.heard_ns = self.heard_ns.saturating_sub(by_ns);
        self.until_ns = self.until_ns.saturating_sub(by_ns);
        self.kept.until_ns = self.kept.until_ns.saturating_sub(by_ns);
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

    /// Looks after the disk, then answers a ping.
    fn ask(promise: &mut Promise, now_ms: u64) -> bool {
        if let Some(kept) = promise.ahead(LEASE, now_ms * MS, LONGEST) {
            promise.kept(kept);
        }
        promise.ping(LEASE, now_ms * MS, LONGEST)
    }

    #[test]
    fn nothing_is_promised_while_a_controller_is_heard() {
        let mut promise = Promise::new(0, None, true);
        assert!(!ask(&mut promise, 333));
        assert!(ask(&mut promise, 334));
        assert_eq!(promise.left_ns(334 * MS), 1010 * MS);
        promise.heard(500 * MS);
        assert!(!ask(&mut promise, 700));
        assert_eq!(promise.left_ns(700 * MS), 644 * MS, "what was promised holds");
    }

    #[test]
    fn a_promise_is_on_disk_ahead_and_not_once_a_ping() {
        let mut promise = Promise::new(0, None, true);
        assert_eq!(promise.ahead(LEASE, 249 * MS, LONGEST), None);
        let kept = promise.ahead(LEASE, 250 * MS, LONGEST).unwrap();
        assert!(!promise.ping(LEASE, 400 * MS, LONGEST), "it is not there yet");
        assert_eq!(promise.left_ns(400 * MS), 0);
        promise.kept(kept);
        let mut writes = 0;
        for now_ms in (400..6400).step_by(50) {
            // A disk that takes 400 ms keeps nobody waiting.
            let begun = promise.ahead(LEASE, now_ms * MS, LONGEST);
            for late_ms in (0..400).step_by(100) {
                assert!(promise.ping(LEASE, (now_ms + late_ms) * MS, LONGEST), "{now_ms}");
            }
            if let Some(kept) = begun {
                writes += 1;
                promise.kept(kept);
            }
        }
        assert_eq!(writes, 3);
    }

    #[test]
    fn the_next_process_keeps_the_promise() {
        let mut promise = Promise::new(0, None, true);
        let kept = promise.ahead(LEASE, 500 * MS, LONGEST).unwrap();
        promise.kept(kept);
        assert!(promise.ping(LEASE, 500 * MS, LONGEST));
        let next = Promise::new(600 * MS, Some(kept), true);
        assert!(next.left_ns(600 * MS) >= promise.left_ns(600 * MS));
        let late = Promise::new(kept.until_ns, Some(kept), true);
        assert_eq!(late.left_ns(kept.until_ns), 0);
        let rebooted = Promise::new(20 * MS, Some(kept), false);
        assert_eq!(rebooted.left_ns(20 * MS), 1010 * MS);
        let nonsense = Kept { until_ns: u64::MAX, lease_ms: LEASE };
        assert_eq!(Promise::new(0, Some(nonsense), true).left_ns(0), 1010 * MS);
    }

    /// The next process waits no longer than the longest lease on disk says, so no longer one may
    /// be promised, and none that was is forgotten.
    #[test]
    fn leases_that_change_are_kept_anew() {
        let mut promise = Promise::new(0, None, true);
        assert!(ask(&mut promise, 500));
        let longer = promise.ahead(2 * LEASE, 1000 * MS, LONGEST).unwrap();
        assert!(!promise.ping(2 * LEASE, 1000 * MS, LONGEST));
        promise.kept(longer);
        assert!(promise.ping(2 * LEASE, 1000 * MS, LONGEST));
        promise.kept = Kept { until_ns: promise.until_ns, lease_ms: 2 * LEASE };
        let shorter = promise.ahead(LEASE / 10, 1001 * MS, LONGEST);
        assert_eq!(shorter, None, "enough is there");
        let shorter = promise.ahead(LEASE, 2000 * MS, LONGEST).unwrap();
        let next = Promise::new(2001 * MS, Some(shorter), true);
        assert!(next.until_ns >= promise.until_ns, "{next:?} {promise:?}");
    }

    #[test]
    fn a_long_promise_survives_two_processes_and_shorter_leases() {
        let mut first = Promise::new(0, None, true);
        let kept = first.ahead(10 * LEASE, 3000 * MS, LONGEST).unwrap();
        first.kept(kept);
        assert!(first.ping(10 * LEASE, 3400 * MS, LONGEST));
        let mut second = Promise::new(3500 * MS, Some(kept), true);
        // What is there is enough, and is used without a write, until it ends.
        assert_eq!(second.ahead(LEASE, 3900 * MS, LONGEST), None);
        assert!(second.ping(LEASE, 3900 * MS, LONGEST));
        for is_same_boot in [true, false] {
            let mut second = Promise::new(3500 * MS, Some(kept), is_same_boot);
            second.kept.until_ns = second.until_ns.min(4000 * MS);
            let kept = second.ahead(LEASE, 3900 * MS, LONGEST).unwrap();
            let third = Promise::new(3950 * MS, Some(kept), true);
            assert!(third.until_ns >= first.until_ns, "{third:?} {first:?}");
        }
    }

    #[test]
    fn a_lease_longer_than_allowed_is_not_promised() {
        let mut promise = Promise::new(0, None, true);
        assert!(ask(&mut promise, 99_999));
        for lease_ms in [60_001, 0] {
            assert_eq!(promise.ahead(lease_ms, 100_000 * MS, LONGEST), None);
            assert!(!promise.ping(lease_ms, 100_000 * MS, LONGEST));
        }
    }
}
