//! How fast a node is, beside redis-server and, where there is one, Kvrocks: servers that are
//! started here and measured in turn in one run.
//!
//! Absolute figures belong to the machine and to what else it does; ratios of one run, and the
//! processor time of a server per operation, say more. Nothing here decides whether a figure is
//! good, except [`guard`].

pub mod balancers;
pub mod compaction;
pub mod facts;
pub mod guard;
pub mod handover;
pub mod load;
pub mod minutes;
pub mod open;
pub mod plot;
pub mod publish;
pub mod report;
pub mod rows;
pub mod systems;
pub mod usage;
pub mod weight;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

use load::Measured;
use rows::Row;
use systems::Running;

/// What one row came to: for each system, in their order, what each round measured.
#[derive(Debug)]
pub struct Cell {
    /// What was done.
    pub row: Row,
    /// Of each system, round by round.
    pub of: Vec<Vec<Measured>>,
}

/// Measures each row `rounds` times, the systems in turn: each goes first as often as the others.
pub fn measure(systems: &[Running], rows: &[Row], rounds: usize) -> Result<Vec<Cell>> {
    let (mut cells, mut laid) = (Vec::with_capacity(rows.len()), BTreeSet::new());
    for (done, row) in rows.iter().enumerate() {
        for system in systems {
            load::prepare(system, row, &mut laid)?;
        }
        let of = in_turn(systems, rounds, |system| load::run(system, row))?;
        let cell = Cell { row: row.clone(), of };
        eprintln!("{:>3}/{} {}", done + 1, rows.len(), report::line(systems, &cell));
        cells.push(cell);
    }
    Ok(cells)
}

/// Measures so many rounds, the systems in turn; of each system, in their order, what each round
/// came to.
///
/// # Errors
/// Those of `run`.
pub fn in_turn<T>(
    systems: &[Running],
    rounds: usize,
    mut run: impl FnMut(&Running) -> Result<T>,
) -> Result<Vec<Vec<T>>> {
    let mut of: Vec<Vec<T>> = systems.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for round in 0..rounds {
        for turn in 0..systems.len() {
            let index = (turn + round) % systems.len();
            if let (Some(system), Some(found)) = (systems.get(index), of.get_mut(index)) {
                found.push(run(system)?);
            }
        }
    }
    Ok(of)
}

/// A histogram of times up to a minute, in µs.
///
/// # Errors
/// None that can happen.
pub fn histogram() -> Result<Histogram<u64>> {
    /// Longer than this is counted as this, µs.
    const LONGEST_US: u64 = 60_000_000;
    Histogram::new_with_bounds(1, LONGEST_US, 3).context("make a histogram")
}

/// Adds a time to one.
pub fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
}

/// Of several rounds the middle of one of their times, ms.
pub fn middle_ms<'h>(rounds: impl Iterator<Item = &'h Histogram<u64>>, quantile: f64) -> f64 {
    spread(rounds.map(|one| one.value_at_quantile(quantile) as f64 / 1e3)).0
}

/// The middle of some numbers, the least and the greatest; zeros if there are none.
pub fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    let last = values.len().saturating_sub(1);
    // Of an even number the mean of the two in the middle.
    let middle = (at(last / 2) + at(values.len() / 2)) / 2.0;
    (middle, at(0), at(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_few() {
        assert_eq!(spread([3.0, 1.0, 2.0].into_iter()), (2.0, 1.0, 3.0));
        assert_eq!(spread([4.0, 1.0, f64::NAN, 2.0, 3.0].into_iter()), (2.5, 1.0, 4.0));
        assert_eq!(spread(std::iter::empty()), (0.0, 0.0, 0.0));
    }
}
