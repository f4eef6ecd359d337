//! Counters of the node: what INFO and /metrics show.

pub mod errors;
pub mod latency;

use std::sync::atomic::{AtomicU64, Ordering};

use errors::Errors;
use latency::{Latency, LatencyTotal};

/// Calls and time of one command on one worker.
#[derive(Debug, Default)]
pub struct CommandStats {
    calls: AtomicU64,
    micros: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
    /// Calls by the power of two that is no less than their microseconds.
    times: [AtomicU64; TIMES],
}

/// Powers of two of microseconds that are told apart; the last one holds all longer times.
const TIMES: usize = 28;

/// Counters of one worker thread. Only that thread adds, so the additions never meet.
#[derive(Debug)]
pub struct WorkerStats {
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Bytes read from clients.
    pub bytes_in: AtomicU64,
    /// Bytes written to clients.
    pub bytes_out: AtomicU64,
    /// Reads that found a key.
    pub hits: AtomicU64,
    /// Reads that found none.
    pub misses: AtomicU64,
    /// How long clients waited.
    pub latency: Latency,
    commands: Box<[CommandStats]>,
}

impl WorkerStats {
    fn new(commands: usize) -> Self {
        Self {
            connections: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            latency: Latency::default(),
            commands: (0..commands).map(|_| CommandStats::default()).collect(),
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It ran.
    Done,
    /// It ran and answered an error.
    Failed,
    /// A gate refused it.
    Rejected,
    /// It runs on another thread, which counts it.
    Aside,
    /// It was queued, and counts once EXEC runs it.
    Queued,
}

/// Calls of one command that are gathered to be counted together.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    calls: u64,
    micros: u64,
    failed: u64,
    rejected: u64,
    times: [u32; TIMES],
}

impl Calls {
    /// One more call.
    pub fn add(&mut self, micros: u64, outcome: Outcome) {
        if outcome == Outcome::Rejected {
            self.rejected += 1;
            return;
        }
        self.calls += 1;
        self.micros = self.micros.wrapping_add(micros);
        if let Some(time) = self.times.get_mut(power_of(micros)) {
            *time = time.saturating_add(1);
        }
        if outcome == Outcome::Failed {
            self.failed += 1;
        }
    }
}

/// Which of the powers of two that are told apart holds so many microseconds.
fn power_of(micros: u64) -> usize {
    // The next power of two of more than half of all numbers is no number.
    let micros = micros.clamp(1, 1 << (TIMES - 1));
    micros.next_power_of_two().trailing_zeros() as usize
}

impl WorkerStats {
    /// Adds to a counter that only this worker writes: no locked instruction is needed.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// One more call of the command at that place of the catalog.
    pub fn command(&self, index: usize, micros: u64, outcome: Outcome) {
        let Some(stats) = self.commands.get(index) else { return };
        if outcome == Outcome::Rejected {
            return Self::add(&stats.rejected, 1);
        }
        Self::add(&stats.calls, 1);
        Self::add(&stats.micros, micros);
        if let Some(time) = stats.times.get(power_of(micros)) {
            Self::add(time, 1);
        }
        if outcome == Outcome::Failed {
            Self::add(&stats.failed, 1);
        }
    }

    /// Calls of the command at that place of the catalog.
    pub fn calls(&self, index: usize, calls: &Calls) {
        let Some(stats) = self.commands.get(index) else { return };
        let sums = [
            (&stats.calls, calls.calls),
            (&stats.micros, calls.micros),
            (&stats.failed, calls.failed),
            (&stats.rejected, calls.rejected),
        ];
        let times = stats.times.iter().zip(calls.times.map(u64::from));
        for (counter, amount) in sums.into_iter().chain(times) {
            if amount > 0 {
                Self::add(counter, amount);
            }
        }
    }
}

/// Calls and time of one command on the whole node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommandTotal {
    /// Times it ran.
    pub calls: u64,
    /// Microseconds spent.
    pub micros: u64,
    /// Times it answered an error.
    pub failed: u64,
    /// Times a gate refused it.
    pub rejected: u64,
}

/// How long the calls of one command took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandTimes {
    /// Times it ran.
    pub calls: u64,
    /// Microseconds, a power of two each, and how many calls took no longer: as in Redis those
    /// powers alone at which there are more calls than below.
    pub within: Vec<(u64, u64)>,
}

/// Counters of the node: the workers' sums and some of its own.
#[derive(Debug)]
pub struct Stats {
    /// One per worker.
    pub workers: Vec<WorkerStats>,
    /// Errors that clients were answered.
    pub errors: Errors,
    /// Connections refused by `maxclients`.
    pub rejected_connections: AtomicU64,
    /// Sessions that a balancer moved here.
    pub moved_in: AtomicU64,
    /// Full syncs served.
    pub sync_full: AtomicU64,
    /// Partial syncs accepted.
    pub sync_partial_ok: AtomicU64,
    /// Partial syncs refused.
    pub sync_partial_err: AtomicU64,
    /// Replicas that left the in-sync set of this master while they acknowledged.
    pub in_sync_left: AtomicU64,
    /// Replicas that were dropped from it because they were lost or late.
    pub in_sync_lost: AtomicU64,
    /// What RocksDB did in the last second.
    pub engine_per_second: parking_lot::Mutex<storage::Counters>,
    /// Commands per second, measured over the last second.
    pub ops_per_second: AtomicU64,
    /// Bytes read from clients over the last second.
    pub bytes_in_per_second: AtomicU64,
    /// Bytes written to clients over the last second.
    pub bytes_out_per_second: AtomicU64,
}

impl Stats {
    /// Counters for that many workers and commands.
    pub fn new(workers: usize, commands: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| WorkerStats::new(commands)).collect(),
            errors: Errors::default(),
            rejected_connections: AtomicU64::new(0),
            moved_in: AtomicU64::new(0),
            sync_full: AtomicU64::new(0),
            sync_partial_ok: AtomicU64::new(0),
            sync_partial_err: AtomicU64::new(0),
            in_sync_left: AtomicU64::new(0),
            in_sync_lost: AtomicU64::new(0),
            engine_per_second: parking_lot::Mutex::default(),
            ops_per_second: AtomicU64::new(0),
            bytes_in_per_second: AtomicU64::new(0),
            bytes_out_per_second: AtomicU64::new(0),
        }
    }

    /// Sum of one counter over the workers.
    pub fn sum(&self, counter: impl Fn(&WorkerStats) -> &AtomicU64) -> u64 {
        self.workers.iter().map(|worker| counter(worker).load(Ordering::Relaxed)).sum()
    }

    /// How long clients of all workers waited.
    pub fn latency(&self) -> LatencyTotal {
        LatencyTotal::of(self.workers.iter().map(|worker| &worker.latency))
    }

    /// Sums of one command.
    pub fn command(&self, index: usize) -> CommandTotal {
        let mut total = CommandTotal::default();
        for stats in self.workers.iter().filter_map(|worker| worker.commands.get(index)) {
            total.calls += stats.calls.load(Ordering::Relaxed);
            total.micros += stats.micros.load(Ordering::Relaxed);
            total.failed += stats.failed.load(Ordering::Relaxed);
            total.rejected += stats.rejected.load(Ordering::Relaxed);
        }
        total
    }

    /// How long the calls of the command at that place of the catalog took.
    pub fn times(&self, index: usize) -> CommandTimes {
        let mut counts = [0_u64; TIMES];
        for stats in self.workers.iter().filter_map(|worker| worker.commands.get(index)) {
            for (sum, time) in counts.iter_mut().zip(&stats.times) {
                *sum += time.load(Ordering::Relaxed);
            }
        }
        let mut times = CommandTimes { calls: counts.iter().sum(), within: Vec::new() };
        let mut below = 0;
        for (power, count) in counts.into_iter().enumerate() {
            below += count;
            if count > 0 {
                times.within.push((1 << power, below));
            }
            if below == times.calls {
                break;
            }
        }
        times
    }

    /// Commands processed since start.
    pub fn commands(&self) -> u64 {
        let commands = self.workers.iter().flat_map(|worker| &worker.commands);
        commands.map(|command| command.calls.load(Ordering::Relaxed)).sum()
    }

    /// CONFIG RESETSTAT: back to zero. A counter its worker adds to at this very moment may keep
    /// its value.
    pub fn reset(&self) {
        self.errors.reset();
        let own = [
            &self.rejected_connections,
            &self.sync_full,
            &self.sync_partial_ok,
            &self.sync_partial_err,
            &self.in_sync_left,
            &self.in_sync_lost,
        ];
        let of_workers = self.workers.iter().flat_map(|worker| {
            [&worker.connections, &worker.bytes_in, &worker.bytes_out, &worker.hits, &worker.misses]
        });
        let of_commands =
            self.workers.iter().flat_map(|worker| &worker.commands).flat_map(|command| {
                [&command.calls, &command.micros, &command.failed, &command.rejected]
                    .into_iter()
                    .chain(&command.times)
            });
        let of_latency = self.workers.iter().flat_map(|worker| worker.latency.counters());
        for counter in own.into_iter().chain(of_workers).chain(of_commands).chain(of_latency) {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_were_gathered_count_as_if_each_came_alone() {
        let stats = Stats::new(1, 3);
        let (mut gathered, worker) = (Calls::default(), &stats.workers[0]);
        let calls = [
            (0, Outcome::Done),
            (1, Outcome::Done),
            (1000, Outcome::Failed),
            (7, Outcome::Rejected),
            (u64::MAX >> 2, Outcome::Done),
        ];
        for (micros, outcome) in calls {
            worker.command(0, micros, outcome);
            gathered.add(micros, outcome);
        }
        worker.calls(1, &gathered);
        worker.calls(3, &gathered);
        let micros = 1001 + (u64::MAX >> 2);
        let total = CommandTotal { calls: 4, micros, failed: 1, rejected: 1 };
        assert_eq!((stats.command(0), stats.command(1)), (total, total));
        assert_eq!(stats.times(0), stats.times(1));
        let within = [(1, 2), (1024, 3), (1 << (TIMES - 1), 4)];
        assert_eq!(stats.times(1).within, within, "as in Redis no bucket that nothing fell into");
        assert_eq!(stats.command(2), CommandTotal::default());
    }
}
