//! The table at the end of a drill.

use std::time::Duration;

use super::outcome::{Outcome, median_and_worst};
use crate::up::configs;

/// One row per fault, with what the numbers depend on beside them.
#[expect(clippy::print_stdout, reason = "the drill talks to the person who started it")]
pub(crate) fn print(rows: &[(String, Vec<Outcome>)], runs: u32) {
    println!();
    println!(
        "{runs} runs each; heartbeat {} ms, down after {} misses, lease {} ms",
        configs::HEARTBEAT_MS,
        configs::MISSES,
        configs::LEASE_MS
    );
    println!(
        "{:<42} {:>9} {:>9} {:>8} {:>7} {:>8} {:>7} {:>6} {:>6}",
        "fault", "median s", "worst s", "acked", "errors", "missing", "direct", "stale", "moved"
    );
    for (name, outcomes) in rows {
        let outages: Vec<Duration> = outcomes.iter().map(|outcome| outcome.outage).collect();
        let (median, worst) = median_and_worst(&outages).unwrap_or_default();
        println!(
            "{name:<42} {:>9.3} {:>9.3} {:>8} {:>7} {:>8} {:>7} {:>6} {:>6}",
            median.as_secs_f64(),
            worst.as_secs_f64(),
            outcomes.iter().map(|outcome| outcome.acknowledged).sum::<usize>(),
            outcomes.iter().flat_map(|outcome| outcome.errors.values()).sum::<u64>(),
            outcomes.iter().map(|outcome| outcome.missing).sum::<usize>(),
            outcomes.iter().map(|outcome| outcome.direct_served).sum::<u64>(),
            outcomes.iter().map(|outcome| outcome.stale).sum::<usize>(),
            outcomes.iter().filter(|outcome| outcome.has_moved).count(),
        );
    }
    println!();
    println!("median, worst  longest time without a successful write of one client, over the runs");
    println!(
        "missing        acknowledged writes not found afterwards: must be 0 (commit mode in-sync)"
    );
    println!("direct         keyed commands the old master served at its own port: must be 0");
    println!("stale          answers of the old master after the new one had answered: must be 0");
    println!(
        "moved          runs in which another master answered; 0 where the master was not hurt"
    );
    println!("errors         attempts to write that failed; each was made again by the client");
    for (name, outcomes) in rows {
        details(name, "clients were told", outcomes.iter().map(|outcome| &outcome.errors));
        details(
            name,
            "at the old master's own port",
            outcomes.iter().map(|outcome| &outcome.direct),
        );
    }
}

#[expect(clippy::print_stdout, reason = "the drill talks to the person who started it")]
fn details<'a>(
    name: &str,
    what: &str,
    counts: impl Iterator<Item = &'a std::collections::BTreeMap<String, u64>>,
) {
    let mut sums = std::collections::BTreeMap::<&str, u64>::new();
    for (message, count) in counts.flatten() {
        *sums.entry(message).or_default() += count;
    }
    if !sums.is_empty() {
        println!("\n{name}: {what}");
        for (message, count) in sums {
            println!("  {count:>6} × {message}");
        }
    }
}
