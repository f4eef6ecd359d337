//! A guard against a command that became dearer unnoticed: the processor time per request beside
//! redis-server in the same run, compared with what is written down.
//!
//! A busy machine moves the ratio by a tenth or two, so only a third more fails, and only if it is
//! found three times.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::rows::Row;
use super::systems::System;
use super::{measure, report};

/// So much more than what is written down fails.
const DEARER: f64 = 4.0 / 3.0;
/// So often it is looked at before it counts.
const TRIES: usize = 3;
const ROUNDS: usize = 5;

/// A line of the file: command, requests in flight, ratio.
fn parse(line: &str) -> Result<(Row, f64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, in_flight, ratio] = words[..] else {
        bail!("`{line}` is not a command and two numbers")
    };
    let name = ["GET", "SET", "INCR", "HSET"].into_iter().find(|known| *known == name);
    let name = name.with_context(|| format!("`{line}`: no such command"))?;
    let in_flight = in_flight.parse().with_context(|| format!("read `{line}`"))?;
    let ratio = ratio.parse().with_context(|| format!("read `{line}`"))?;
    Ok((Row::base(name, in_flight), ratio))
}

/// Compares with what the file says.
///
/// # Errors
/// What became dearer, or what could not be measured.
pub fn check(file: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut left: Vec<(Row, f64)> = lines.map(parse).collect::<Result<_>>()?;
    let systems =
        [System::holdfast("holdfast", &["--workers", "2"])?.start()?, System::redis().start()?];
    for _ in 0..TRIES {
        let rows: Vec<Row> = left.iter().map(|(row, _)| row.clone()).collect();
        let cells = measure(&systems, &rows, ROUNDS)?;
        let found = cells.iter().map(|cell| match &cell.of[..] {
            [ours, theirs] => report::ratio(ours, theirs, |m| m.cpu_us).0,
            _ => f64::INFINITY,
        });
        let found: Vec<f64> = found.collect();
        let mut dearer = Vec::new();
        for ((row, known), found) in left.into_iter().zip(found) {
            eprintln!("{}: {found:.2} of redis, {known:.2} written down", row.title());
            if found > known * DEARER {
                dearer.push((row, known));
            }
        }
        left = dearer;
        if left.is_empty() {
            return Ok(());
        }
    }
    let names: Vec<String> = left.iter().map(|(row, _)| row.title()).collect();
    bail!("dearer by a third than {} says: {}", file.display(), names.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let (row, ratio) = parse("SET 16 2.5").unwrap();
        assert_eq!((row.name, row.in_flight, ratio), ("SET", 16, 2.5));
        assert!(parse("SET 16").is_err() && parse("NO 1 1").is_err());
    }
}
