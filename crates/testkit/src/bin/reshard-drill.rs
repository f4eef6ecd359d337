//! `reshard-drill [options of holdfast drill]`: the row of the drill in which slots move.
//!
//! `RATE` in the environment is writes per second (8000), `BALLAST_MB` what lies in the cluster
//! besides (200).

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use testkit::drill::args::Args;
use testkit::process;
use testkit::reshard::found::{self, Found};
use testkit::reshard::story::Story;
use testkit::torture::args::Balancer;

fn main() -> Result<ExitCode> {
    let args = Args::parse(std::env::args().skip(1))?;
    if !args.reshards {
        return Ok(ExitCode::SUCCESS);
    }
    // It ends after the run that is under way.
    let stop = process::stop_on_signals()?;
    let balancer = match args.balancer {
        Balancer::Builtin => "builtin",
        Balancer::Haproxy => "haproxy",
    };
    let (rate, ballast_mb) = (number("RATE", 8_000)?, number("BALLAST_MB", 200)?);
    let story = Story { runs: args.runs, balancer, rate, ballast_mb };
    let start = Instant::now();
    let mut say = |text: &str| println!("[{:7.2} s] {text}", start.elapsed().as_secs_f64());
    let told = story.tell(&stop, &mut say);
    if stop.load(Ordering::Relaxed) {
        return Ok(ExitCode::from(130));
    }
    let runs = told.context("move slots under load")?;
    print!("{}", found::render(balancer, &runs));
    Ok(if runs.iter().all(Found::is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// From the environment; at least 1.
fn number(name: &str, usual: u32) -> Result<u32> {
    let Ok(text) = std::env::var(name) else { return Ok(usual) };
    let number: u32 = text.parse().with_context(|| format!("{name} needs a number"))?;
    ensure!(number > 0, "{name} must be at least 1");
    Ok(number)
}
