//! `reshard-drill [options of holdfast drill]`: the rows of the drill in which slots move.
//!
//! `RATE` in the environment is writes per second (8000), `BALLAST_MB` what lies in the cluster
//! besides (200), or what moves at once (10000); `OUT` is where the page and the pictures of that
//! go (`bench/results`), `P99_MS` the nodes' `move-p99-ms` for it.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use testkit::bench::facts;
use testkit::drill::args::Args;
use testkit::process;
use testkit::reshard::found::{self, Found};
use testkit::reshard::one::{self, One};
use testkit::reshard::story::Story;
use testkit::torture::setup::Balancer;

fn main() -> Result<ExitCode> {
    let args = Args::parse(std::env::args().skip(1))?;
    if !args.reshards && !args.moves_one {
        return Ok(ExitCode::SUCCESS);
    }
    // It ends after the run that is under way.
    let stop = process::stop_on_signals()?;
    let (mut is_good, interrupted) = (true, ExitCode::from(130));
    let rows: [(bool, Row); 2] = [(args.reshards, reshard), (args.moves_one, move_one)];
    for (is_chosen, tell) in rows {
        if !is_chosen {
            continue;
        }
        let told = tell(&args, &stop);
        if stop.load(Ordering::Relaxed) {
            return Ok(interrupted);
        }
        is_good &= told?;
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells a row; whether nothing happened in it that may never happen.
type Row = fn(&Args, &Arc<AtomicBool>) -> Result<bool>;

fn reshard(args: &Args, stop: &Arc<AtomicBool>) -> Result<bool> {
    let balancer = balancer(args);
    let (rate, ballast_mb) = (number("RATE", 8_000)?, number("BALLAST_MB", 200)?);
    let story = Story { runs: args.runs, balancer, rate, ballast_mb };
    let start = Instant::now();
    let mut say = |text: &str| tell(start, text);
    let runs = story.tell(stop, &mut say).context("move slots under load")?;
    print!("{}", found::render(balancer, &runs));
    Ok(runs.iter().all(Found::is_good))
}

/// Once, however many runs are asked for.
fn move_one(args: &Args, stop: &Arc<AtomicBool>) -> Result<bool> {
    let balancer = balancer(args);
    let (rate, mb) = (number("RATE", 8_000)?, number("BALLAST_MB", 10_000)?);
    let out = std::env::var_os("OUT").map_or_else(|| "bench/results".into(), PathBuf::from);
    let (start, load) = (Instant::now(), facts::machine_load());
    let mut say = |text: &str| tell(start, text);
    let p99_ms = number("P99_MS", 0)?;
    let course =
        One { balancer, rate, mb, p99_ms }.tell(stop, &mut say).context("move much at once")?;
    let mut of = facts::place().to_vec();
    of.push(("load average before and after", format!("{load} · {}", facts::machine_load())));
    let page = one::write(&course, &of, &out)?;
    println!("{page}\nwritten to {}", out.join("move.md").display());
    Ok(course.found.is_good())
}

fn tell(start: Instant, text: &str) {
    println!("[{:7.2} s] {text}", start.elapsed().as_secs_f64());
}

fn balancer(args: &Args) -> &'static str {
    match args.balancer {
        Balancer::Builtin => "builtin",
        Balancer::Haproxy => "haproxy",
    }
}

/// From the environment, at least 1; what is usual where it is not set.
fn number(name: &str, usual: u32) -> Result<u32> {
    let Ok(text) = std::env::var(name) else { return Ok(usual) };
    let number: u32 = text.parse().with_context(|| format!("{name} needs a number"))?;
    ensure!(number > 0, "{name} must be at least 1");
    Ok(number)
}
