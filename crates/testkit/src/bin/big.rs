//! `big [ELEMENTS=n] [TYPES=a,b] [WORST=ms]`: very many elements in one key of each type.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use testkit::big::{Bench, Figures, Phase, TYPES};

const HELP: &str =
    "ELEMENTS=n, 10000000 without; TYPES=list,hash,set,zset; WORST=ms fails above it";

fn main() -> Result<()> {
    let (mut elements, mut types, mut worst) = (10_000_000, String::new(), None);
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').context(HELP)?;
        let number = || value.parse().with_context(|| format!("`{argument}`; accepted: {HELP}"));
        match name {
            "ELEMENTS" => elements = number()?,
            "TYPES" => types = value.to_owned(),
            "WORST" => worst = Some(Duration::from_millis(number()?)),
            _ => bail!("`{argument}`; accepted: {HELP}"),
        }
    }
    let wanted: Vec<&str> = types.split(',').filter(|name| !name.is_empty()).collect();
    let bench = Bench::start()?;
    println!("nothing to do");
    show_phase("idle", &bench.idle()?);
    let mut longest = Duration::ZERO;
    for kind in TYPES.iter().filter(|kind| wanted.is_empty() || wanted.contains(&kind.name)) {
        let figures = bench.run(kind, elements)?;
        show(&figures, elements);
        let reads = figures.phases.iter().filter(|(name, _)| *name != "write");
        longest = reads.map(|(_, phase)| phase.worst).fold(longest, Duration::max);
    }
    bench.finish()?;
    println!(
        "failovers 0, no connection lost; longest wait for PING outside writing {longest:.1?}"
    );
    if let Some(worst) = worst {
        ensure!(longest <= worst, "one PING took {longest:?}, more than {worst:?}");
    }
    Ok(())
}

fn show(figures: &Figures, elements: u64) {
    println!(
        "{} of {elements} elements; all of them are {} bytes",
        figures.name, figures.reply_bytes
    );
    for (name, phase) in &figures.phases {
        show_phase(name, phase);
    }
}

fn show_phase(name: &str, phase: &Phase) {
    println!(
        "  {name:<9} {:>9.1?}  worst PING {:>8.1?}  RSS at most {:>5} MiB",
        phase.time,
        phase.worst,
        phase.memory >> 20
    );
}
