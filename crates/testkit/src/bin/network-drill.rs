//! `network-drill [options of holdfast drill]`: the rows of the drill that need network namespaces. Needs root.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result};
use testkit::drill::args::{Args, Row};
use testkit::drill::outcome::Outcome;
use testkit::drill::{report, story};
use testkit::netns::Namespace;

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
    let stop = Arc::new(AtomicBool::new(false));
    end_on_signals(&stop)?;
    let dir = args.dir.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("holdfast-drill-network-{}", std::process::id()))
    });
    let start = Instant::now();
    let mut say = |text: &str| println!("[{:7.2} s] {text}", start.elapsed().as_secs_f64());
    let told = story::tell(&args, &dir, &stop, &mut say);
    if stop.load(Ordering::Relaxed) {
        remove(&args, &dir)?;
        return Ok(ExitCode::from(130));
    }
    let rows: Vec<(Row, Vec<Outcome>)> =
        told.with_context(|| format!("drill in {}", dir.display()))?;
    print!("{}", report::render(&rows, args.runs));
    remove(&args, &dir)?;
    let is_good = rows.iter().flat_map(|(_, outcomes)| outcomes).all(Outcome::is_good);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn remove(args: &Args, dir: &PathBuf) -> Result<()> {
    if args.dir.is_some() {
        return Ok(());
    }
    std::fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))
}

/// Ctrl-C and SIGTERM end it after the run that is under way: namespaces and processes go with it.
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
