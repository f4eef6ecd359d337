//! How fast copies go here by what clients and the database feel of them (rule M16): what is kept
//! of that. It is looked in [`super::look`], and what follows is decided in
//! `replication::slots::guest`.

use std::sync::atomic::{AtomicBool, Ordering};

use ::replication::slots::{Absence, Felt, Guest, guest::LOOK_MS};
use api::moves::{Brake, Rate};
use parking_lot::Mutex;

use crate::clock;
use crate::stats::Stats;
use crate::stats::latency::LatencyTotal;

/// Of fewer commands nobody can say what 99 of 100 of them took.
const COMMANDS_MIN: u64 = 100;
/// So long it is waited for as many, ms.
const WINDOW_MS: u64 = 3_000;

/// Of all copies that this node gives and takes.
#[derive(Debug, Default)]
pub struct Guests {
    inner: Mutex<Inner>,
    absence: Mutex<Absence>,
    is_replica_missed: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    guest: Guest,
    looked_ms: u64,
    clients: Clients,
}

/// How fast a copy may go, and why not faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Paced {
    /// Bytes a second; 0: nothing goes just now.
    pub bytes_per_s: u64,
    /// What keeps it from its rate.
    pub brake: Option<Brake>,
}

impl Guests {
    /// How fast a copy may go now whose rate is `most`. To be asked often: now and then it looks
    /// what is felt, beside what clients wait.
    pub(super) fn pace(&self, stats: &Stats, most: Rate, felt: impl FnOnce() -> Felt) -> Paced {
        let now_ms = clock::boottime_ms();
        let is_due = {
            let mut inner = self.inner.lock();
            let is_due = now_ms.saturating_sub(inner.looked_ms) >= LOOK_MS;
            if is_due {
                inner.looked_ms = now_ms;
            }
            is_due
        };
        // The database may take its time to answer: others do not wait for that.
        let felt = is_due.then(felt);
        let mut inner = self.inner.lock();
        if let Some(felt) = felt {
            let p99_us = inner.clients.p99_us(stats, now_ms);
            inner.guest.look(&Felt { p99_us, ..felt });
        }
        Paced { bytes_per_s: inner.guest.bytes_per_s(most), brake: inner.guest.brake() }
    }

    /// To be called once a second while nothing is copied: what clients feel then is what they are
    /// to feel twice at most.
    pub fn rest(&self, stats: &Stats) {
        let mut inner = self.inner.lock();
        let p99_us = inner.clients.p99_us(stats, clock::boottime_ms());
        inner.guest.rest(p99_us);
    }

    /// To be called once a second: whether a replica is away, and how much of the log was ever
    /// appended and is kept, bytes.
    pub(super) fn note_replicas(&self, is_away: bool, log: (u64, u64)) {
        let is_missed = self.absence.lock().look(is_away, log, clock::boottime_ms());
        self.is_replica_missed.store(is_missed, Ordering::SeqCst);
    }

    /// A replica is away, and what is taken may use up the log that it could go on from.
    pub(super) fn is_replica_missed(&self) -> bool {
        self.is_replica_missed.load(Ordering::SeqCst)
    }

    /// What 99 of 100 commands may take while something is copied, µs; `fixed_us`, unless it is 0.
    pub(super) fn bound_us(&self, fixed_us: u64) -> u64 {
        self.inner.lock().guest.bound_us(fixed_us)
    }
}

/// What clients waited since it was last looked at.
#[derive(Debug, Default)]
struct Clients {
    seen: LatencyTotal,
    seen_ms: u64,
}

impl Clients {
    /// `None` while there are too few commands to say.
    fn p99_us(&mut self, stats: &Stats, now_ms: u64) -> Option<u64> {
        let total = stats.latency();
        let since = total.since(&self.seen);
        let (is_old, is_enough) = {
            let age_ms = now_ms.saturating_sub(self.seen_ms);
            (age_ms >= WINDOW_MS, since.commands >= COMMANDS_MIN)
        };
        if is_old || is_enough {
            (self.seen, self.seen_ms) = (total, now_ms);
        }
        // What has gathered since nobody looked is of another time.
        if is_enough && !is_old { since.p99_us() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_few_commands_and_those_of_long_ago_tell_of_nothing() {
        let stats = Stats::new(1, 1);
        let wait = |us, commands| stats.workers[0].latency.add(Duration::from_micros(us), commands);
        let mut clients = Clients::default();
        wait(900, 500);
        assert_eq!(clients.p99_us(&stats, 1_000_000), None, "since when is not known");
        wait(900, 99);
        assert_eq!(clients.p99_us(&stats, 1_000_500), None);
        wait(900, 1);
        let told = clients.p99_us(&stats, 1_001_000);
        assert!(told.is_some_and(|us| (500..=1_000).contains(&us)), "{told:?}");
        wait(9_000, 1_000);
        let told = clients.p99_us(&stats, 1_001_500);
        assert!(
            told.is_some_and(|us| (5_000..=10_000).contains(&us)),
            "only the new ones: {told:?}"
        );
        wait(900, 1_000);
        assert_eq!(clients.p99_us(&stats, 1_009_000), None);
        stats.reset();
        assert_eq!(clients.p99_us(&stats, 1_009_500), None, "counters that fell");
    }
}
