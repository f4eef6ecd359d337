//! The table at the end, as `holdfast drill` prints it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::args::Row;
use super::outcome::{Outcome, median_and_worst};

/// Length of leases in the drill, ms: what clusters begin with.
pub const LEASE_MS: u64 = 1_000;

/// One line per row, and below it what clients were told.
pub fn render(rows: &[(Row, Vec<Outcome>)], runs: u32) -> String {
    let mut text = format!(
        "\n{runs} runs each, a network namespace per host; heartbeat 200 ms, down after 4 misses, lease {LEASE_MS} ms\n\
         {:<42} {:>9} {:>9} {:>8} {:>7} {:>8} {:>7} {:>6} {:>6}\n",
        "fault", "median s", "worst s", "acked", "errors", "missing", "direct", "stale", "moved"
    );
    for (row, outcomes) in rows {
        let outages: Vec<Duration> = outcomes.iter().map(|outcome| outcome.outage).collect();
        let (median, worst) = median_and_worst(&outages).unwrap_or_default();
        text += &format!(
            "{:<42} {:>9.3} {:>9.3} {:>8} {:>7} {:>8} {:>7} {:>6} {:>6}\n",
            row.name(),
            median.as_secs_f64(),
            worst.as_secs_f64(),
            outcomes.iter().map(|outcome| outcome.acknowledged).sum::<usize>(),
            outcomes.iter().flat_map(|outcome| outcome.errors.values()).sum::<u64>(),
            outcomes.iter().map(|outcome| outcome.missing).sum::<usize>(),
            // Clients have no way to it here.
            "-",
            outcomes.iter().map(|outcome| outcome.stale).sum::<usize>(),
            outcomes.iter().filter(|outcome| outcome.has_moved).count(),
        );
    }
    for (row, outcomes) in rows {
        text += &told(row.name(), outcomes);
    }
    text
}

/// What clients were told in all runs of a row; nothing where that was +OK alone.
pub fn told<'a>(name: &str, outcomes: impl IntoIterator<Item = &'a Outcome>) -> String {
    let mut sums = BTreeMap::<&str, u64>::new();
    for (message, count) in outcomes.into_iter().flat_map(|outcome| &outcome.errors) {
        *sums.entry(message).or_default() += count;
    }
    if sums.is_empty() {
        return String::new();
    }
    let lines = sums.iter().map(|(message, count)| format!("  {count:>6} × {message}\n"));
    format!("\n{name}: clients were told\n{}", lines.collect::<String>())
}
