//! `network-drill [options of holdfast drill]`: the rows of the drill that need network namespaces.
//! Needs root.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context as _, Result};
use testkit::drill::args::{Args, Row};
use testkit::drill::outcome::Outcome;
use testkit::drill::{report, story};
use testkit::netns::Namespace;
use testkit::process;

fn main() -> Result<ExitCode> {
    let args = Args::parse(std::env::args().skip(1))?;
    if args.rows.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if let Err(error) = Namespace::create("drill-probe") {
        let rows: Vec<&str> = args.rows.iter().map(|row| row.word()).collect();
        println!("NOT RUN: {}: {error:#}", rows.join(", "));
        return Ok(ExitCode::SUCCESS);
    }
    // It ends after the run that is under way.
    let stop = process::stop_on_signals()?;
    let dir = args.folder("network");
    let start = Instant::now();
    let mut say = |text: &str| println!("[{:7.2} s] {text}", start.elapsed().as_secs_f64());
    let told = story::tell(&args, &dir, &stop, &mut say);
    if stop.load(Ordering::Relaxed) {
        args.clear(&dir)?;
        return Ok(ExitCode::from(130));
    }
    let rows: Vec<(Row, Vec<Outcome>)> =
        told.with_context(|| format!("drill in {}", dir.display()))?;
    print!("{}", report::render(&rows, args.runs));
    args.clear(&dir)?;
    let is_good = rows.iter().flat_map(|(_, outcomes)| outcomes).all(Outcome::is_good);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
