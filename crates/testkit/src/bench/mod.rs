//! How fast a node is, beside redis-server and, where there is one, Kvrocks: servers that are
//! started here and measured in turn in one run.
//!
//! Absolute figures belong to the machine and to what else it does; ratios of one run, and the
//! processor time of a server per operation, say more. Nothing here decides whether a figure is
//! good, except [`guard`].

pub mod guard;
pub mod load;
pub mod open;
pub mod plot;
pub mod report;
pub mod rows;
pub mod systems;

use std::collections::BTreeSet;

use anyhow::Result;

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
        let mut of = vec![Vec::with_capacity(rounds); systems.len()];
        for round in 0..rounds {
            for turn in 0..systems.len() {
                let index = (turn + round) % systems.len();
                let (Some(system), Some(found)) = (systems.get(index), of.get_mut(index)) else {
                    continue;
                };
                found.push(load::run(system, row)?);
            }
        }
        let cell = Cell { row: row.clone(), of };
        eprintln!("{:>3}/{} {}", done + 1, rows.len(), report::line(systems, &cell));
        cells.push(cell);
    }
    Ok(cells)
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
