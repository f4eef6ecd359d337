//! `differ [SEED=n] [RUNS=n]`: random sequences of commands, asked of a node and of redis-server.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use testkit::differ::Pair;
use testkit::differ::declared::Declared;
use testkit::differ::run::Outcome;
use testkit::{process, wait};

const HELP: &str = "SEED=n of the first sequence, drawn without; RUNS=n sequences, without end until Ctrl-C. \
                    Each is played in RESP2 and RESP3; SEED=n RUNS=1 plays one again";
/// After so many sequences a declared difference that none needed is one too many.
const MANY: u64 = 50_000;
const EACH: u64 = 1_000;

struct Options {
    seed: u64,
    runs: Option<u64>,
}

fn options() -> Result<Options> {
    let mut options = Options { seed: rand::random_range(1..1_000_000_000), runs: None };
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').context(HELP)?;
        let number = value.parse().with_context(|| format!("`{argument}`; accepted: {HELP}"))?;
        match name {
            "SEED" => options.seed = number,
            "RUNS" => options.runs = Some(number),
            _ => bail!("`{argument}`; accepted: {HELP}"),
        }
    }
    Ok(options)
}

/// Whether it is, or will be in a moment.
fn is_set(stop: &AtomicBool) -> bool {
    let look = || if stop.load(Ordering::Relaxed) { Ok(()) } else { Err("no signal") };
    wait::until("a signal", Duration::from_millis(500), look).is_ok()
}

fn main() -> Result<ExitCode> {
    let options = options()?;
    let stop = process::stop_on_signals()?;
    let declared = Declared::read()?;
    let pairs = [Pair::start(false)?, Pair::start(true)?];
    println!("first seed {}", options.seed);
    let (mut done, mut compared, mut known) = (0, 0, 0);
    // A difference is told once for each command and pair of replies; how often it came is told at
    // the end.
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) && options.runs.is_none_or(|runs| done < runs) {
        for pair in &pairs {
            match pair.check(options.seed.wrapping_add(done), &declared) {
                Ok(Outcome::Alike(replies)) => compared += replies,
                Ok(Outcome::Declared) => known += 1,
                Ok(Outcome::Differs(difference, text)) => {
                    let count = found.entry(difference.kind()).or_default();
                    *count += 1;
                    if *count == 1 {
                        println!("\n{text}\n");
                    }
                }
                // Ctrl-C reaches the servers too, and may end them before it is known here.
                Err(_) if is_set(&stop) => {}
                Err(error) => return Err(error),
            }
        }
        done += 1;
        if done % EACH == 0 {
            println!("{done} sequences, {compared} replies alike, {known} ended as declared");
        }
    }
    println!("{done} sequences, {compared} replies alike, {known} ended as declared");
    for (kind, count) in &found {
        println!("{count} times {kind}");
    }
    let unused = if done < MANY { Vec::new() } else { declared.unused() };
    for line in &unused {
        println!("declared and not needed: {line}");
    }
    let is_good = found.is_empty() && unused.is_empty();
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
