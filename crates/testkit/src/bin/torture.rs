//! `torture [RUNS=n] [SEED=n] [MODE=in-sync|async] …`: faults against real clusters, as `CONTRIBUTING.md` says. Needs root.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use testkit::torture::args::Options;
use testkit::torture::run::{Total, all, conclude};

fn main() -> Result<ExitCode> {
    let options = Options::parse(std::env::args().skip(1))?;
    let stop = Arc::new(AtomicBool::new(false));
    end_on_signals(&stop)?;
    let mut say = |text: String| {
        println!("{text}");
        // Whoever reads it through a pipe wants to see each run as it ends.
        let _ = std::io::stdout().flush();
    };
    let mut total = Total::default();
    let done = all(&options, &stop, &mut total, &mut say);
    let concluded = conclude(total, done, options.runs, &mut say);
    Ok(if concluded.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ctrl-C and SIGTERM end the faults of the run that is under way, and no other run begins: namespaces and processes go
/// with it.
fn end_on_signals(stop: &Arc<AtomicBool>) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Arc::clone(stop);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
    Ok(())
}
