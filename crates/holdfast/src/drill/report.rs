//! The table at the end of a drill.

use std::fmt::Write as _;
use std::time::Duration;

use super::outcome::{Outcome, median_and_worst};
use crate::up::configs;

/// One row per fault, with what the numbers depend on beside them.
pub(crate) fn render(rows: &[(String, Vec<Outcome>)], runs: u32) -> String {
    let mut out = String::new();
    out.push('\n');
    let _ = writeln!(
        out,
        "{runs} runs each; heartbeat {} ms, down after {} misses, lease {} ms",
        configs::HEARTBEAT_MS,
        configs::MISSES,
        configs::LEASE_MS
    );
    let _ = writeln!(
        out,
        "{:<42} {:>9} {:>9} {:>8} {:>7} {:>8} {:>7} {:>6} {:>6}",
        "fault", "median s", "worst s", "acked", "errors", "missing", "direct", "stale", "moved"
    );
    for (name, outcomes) in rows {
        let outages: Vec<Duration> = outcomes.iter().map(|outcome| outcome.outage).collect();
        let (median, worst) = median_and_worst(&outages).unwrap_or_default();
        let _ = writeln!(
            out,
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
    out.push('\n');
    let _ = writeln!(
        out,
        "median, worst  longest time without a successful write of one client, over the runs"
    );
    let _ = writeln!(
        out,
        "missing        acknowledged writes not found afterwards: must be 0 (commit mode in-sync)"
    );
    let _ = writeln!(
        out,
        "direct         keyed commands the old master served at its own port: must be 0"
    );
    let _ = writeln!(
        out,
        "stale          answers of the old master after the new one had answered: must be 0"
    );
    let _ = writeln!(
        out,
        "moved          runs in which another master answered; 0 where the master was not hurt"
    );
    let _ = writeln!(
        out,
        "errors         attempts to write that failed; each was made again by the client"
    );
    for (name, outcomes) in rows {
        details(
            &mut out,
            name,
            "clients were told",
            outcomes.iter().map(|outcome| &outcome.errors),
        );
        details(
            &mut out,
            name,
            "at the old master's own port",
            outcomes.iter().map(|outcome| &outcome.direct),
        );
    }
    out
}

fn details<'a>(
    out: &mut String,
    name: &str,
    what: &str,
    counts: impl Iterator<Item = &'a std::collections::BTreeMap<String, u64>>,
) {
    let mut sums = std::collections::BTreeMap::<&str, u64>::new();
    for (message, count) in counts.flatten() {
        *sums.entry(message).or_default() += count;
    }
    if !sums.is_empty() {
        let _ = writeln!(out, "\n{name}: {what}");
        for (message, count) in sums {
            let _ = writeln!(out, "  {count:>6} × {message}");
        }
    }
}
