//! `torture [RUNS=n] [SEED=n] [MODE=in-sync|async] …`: faults against real clusters, as
//! `CONTRIBUTING.md` says. Needs root.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use testkit::process;
use testkit::torture::args::Options;
use testkit::torture::run::{Total, all, conclude};

fn main() -> Result<ExitCode> {
    let options = Options::parse(std::env::args().skip(1))?;
    // The faults of the run that is under way end, and no other run begins.
    let stop = process::stop_on_signals()?;
    let mut say = |text: String| {
        println!("{text}");
        // A reader at the end of a pipe wants to see each run as it ends.
        let _ = std::io::stdout().flush();
    };
    let mut total = Total::default();
    let done = all(&options, &stop, &mut total, &mut say);
    let concluded = conclude(total, done, options.runs, &mut say);
    Ok(if concluded.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
