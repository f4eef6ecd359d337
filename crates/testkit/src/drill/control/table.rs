//! The table at the end, in Markdown.

use std::time::Duration;

use super::row::{Control, Row};
use super::story::{CONTROLLERS, Found};
use crate::drill::outcome::median_and_worst;
use crate::drill::report::{self, LEASE_MS};

/// One line per row, and below it what the columns mean and what clients were told.
pub fn render(rows: &[(Row, Vec<Found>)], runs: u32, away: Duration) -> String {
    let mut text = format!(
        "\n{runs} runs each, {CONTROLLERS} controllers on 3 members of etcd (heartbeat 50 ms, election 500 ms), a network \
         namespace per process; heartbeat 200 ms, down after 4 misses, lease {LEASE_MS} ms; s, median · worst\n\n\
         | fault | no write | control | acked | errors | missing | stale | moved |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    for (row, found) in rows {
        let outages: Vec<Duration> = found.iter().map(|found| found.outcome.outage).collect();
        let control: Vec<Duration> = found.iter().filter_map(|found| found.control).collect();
        let all = || found.iter().map(|found| &found.outcome);
        text += &format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
            row.name(away),
            both(&outages, found.len()),
            both(&control, found.len()),
            all().map(|outcome| outcome.acknowledged).sum::<usize>(),
            all().flat_map(|outcome| outcome.errors.values()).sum::<u64>(),
            all().map(|outcome| outcome.missing).sum::<usize>(),
            all().map(|outcome| outcome.stale).sum::<usize>(),
            all().filter(|outcome| outcome.has_moved).count(),
        );
    }
    text += "\nno write: longest time without a successful write of one client\n";
    for control in [Control::Leads, Control::Silence, Control::Back] {
        let of: Vec<String> = rows
            .iter()
            .filter(|(row, _)| row.control() == control)
            .map(|(row, _)| row.name(away))
            .collect();
        if !of.is_empty() {
            text += &format!("control ({}): {}\n", of.join("; "), control.text());
        }
    }
    for (row, found) in rows {
        let outcomes = found.iter().map(|found| &found.outcome);
        text += &report::told(&row.name(away), outcomes);
    }
    text
}

/// Median and worst of `runs` runs, of which some may have come to no end.
fn both(times: &[Duration], runs: usize) -> String {
    let Some((median, worst)) = median_and_worst(times) else { return "never".to_owned() };
    let text = format!("{:.3} · {:.3}", median.as_secs_f64(), worst.as_secs_f64());
    if times.len() == runs { text } else { format!("{text} ({} of {runs} runs)", times.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::outcome::Outcome;

    #[test]
    fn a_run_without_an_end_is_told_and_nothing_is_hidden() {
        let found = |outage, control: Option<u64>, missing| {
            let outage = Duration::from_millis(outage);
            let outcome = Outcome { outage, missing, acknowledged: 10, ..Outcome::default() };
            Found { outcome, control: control.map(Duration::from_millis) }
        };
        let rows = [
            (
                Row::LeaderKill,
                vec![found(4, Some(90), 0), found(8, Some(120), 0), found(6, None, 1)],
            ),
            (Row::EtcdAway, vec![found(5, None, 0)]),
        ];
        let text = render(&rows, 3, Duration::from_secs(600));
        let kill = "| leading controller kill -9 | 0.006 · 0.008 | 0.120 · 0.120 (2 of 3 runs) | 30 | 0 | 1 | 0 | 0 |";
        assert!(text.contains(kill), "{text}");
        let away = "| etcd kill -9, away for 600 s | 0.005 · 0.005 | never | 10 | 0 | 0 | 0 | 0 |";
        assert!(text.contains(away), "{text}");
        assert!(!text.contains("longest time between two heartbeats"), "no such row: {text}");
        assert!(!rows[0].1.iter().all(Found::is_good) && rows[1].1.iter().all(Found::is_good));
    }
}
