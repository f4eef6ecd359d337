//! `bench [AXIS=quick] [ROUNDS=3] [OUT=bench/results]`, or `bench GUARD=bench/guard.txt`: figures
//! beside redis-server.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use testkit::bench::load::Measured;
use testkit::bench::open::{self, Load};
use testkit::bench::systems::{Running, System};
use testkit::bench::{Cell, guard, measure, plot, report, rows};

/// So little memory that most of what is read is in tables, and few of their blocks in the cache.
const COLD: &[&str] = &[
    "--value-cache-size",
    "1",
    "--rocksdb.metadata_block_cache_size",
    "8",
    "--rocksdb.subkey_block_cache_size",
    "8",
    "--rocksdb.write_buffer_size",
    "8",
];

/// One of the figures of a run.
type Figure = fn(&Measured) -> f64;

struct Options {
    axis: String,
    rounds: usize,
    out: PathBuf,
    guard: Option<PathBuf>,
}

fn options() -> Result<Options> {
    let mut options =
        Options { axis: "quick".into(), rounds: 3, out: "bench/results".into(), guard: None };
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').with_context(|| help(&argument))?;
        match name {
            "AXIS" => options.axis = value.into(),
            "ROUNDS" => options.rounds = value.parse().with_context(|| help(&argument))?,
            "OUT" => options.out = value.into(),
            "GUARD" => options.guard = Some(value.into()),
            _ => bail!(help(&argument)),
        }
    }
    Ok(options)
}

fn help(argument: &str) -> String {
    format!(
        "`{argument}`; accepted: AXIS= ({}, open; `all` for each of them), ROUNDS=, OUT= a folder, GUARD= a file",
        rows::AXES
    )
}

fn main() -> Result<()> {
    let options = options()?;
    if let Some(file) = &options.guard {
        return guard::check(file);
    }
    if options.axis != "all" {
        return axis(&options, &options.axis);
    }
    let mut all = rows::AXES.split(", ").filter(|name| *name != "quick").chain(["open"]);
    all.try_for_each(|name| axis(&options, name))
}

/// The systems of an axis; redis-server and Kvrocks come after ours.
fn systems(name: &str) -> Result<Vec<Running>> {
    let mut systems = match name {
        "workers" => vec![
            System::holdfast("workers-1", &["--workers", "1"])?,
            System::holdfast("workers-2", &["--workers", "2"])?,
            System::holdfast("workers-8", &["--workers", "8"])?,
        ],
        "cold" => vec![System::holdfast("holdfast", COLD)?],
        "replica" => vec![System::holdfast("holdfast", &[])?.with_replica()],
        _ => vec![System::holdfast("holdfast", &[])?],
    };
    let redis = System::redis();
    systems.push(if name == "replica" { redis.with_replica() } else { redis });
    systems.extend(System::kvrocks());
    systems.into_iter().map(System::start).collect()
}

fn axis(options: &Options, name: &str) -> Result<()> {
    if name == "open" {
        return open_loop(options);
    }
    let rows = rows::of_axis(name)?;
    let systems = systems(name)?;
    let load_before = machine_load();
    let cells = measure(&systems, &rows, options.rounds)?;
    let facts = facts(name, options, &load_before);
    std::fs::create_dir_all(&options.out).context("create the folder of results")?;
    let page = report::page(&systems, &cells, &facts);
    let file = |end: &str| options.out.join(format!("{name}{end}"));
    std::fs::write(file(".md"), &page).context("write the page")?;
    let pictures: [(&str, &str, Figure); 2] = [
        ("throughput", "Throughput over redis-server's (more is better)", |m| m.rate),
        ("cpu", "Processor time per request over redis-server's (less is better)", |m| m.cpu_us),
    ];
    for (what, title, of) in pictures {
        let svg = plot::bars(title, &bars(&systems, &cells, of));
        std::fs::write(file(&format!("-{what}.svg")), svg).context("write a picture")?;
    }
    println!("{page}\nwritten to {}", file(".md").display());
    Ok(())
}

/// Reads and writes at rates that are kept whatever the servers do.
fn open_loop(options: &Options) -> Result<()> {
    let systems = systems("open")?;
    let load_before = machine_load();
    let mut found = Vec::new();
    for rate in [2_000, 10_000, 20_000] {
        let load = Load { rate, seconds: 5, connections: 16, reads_percent: 90 };
        let mut of: Vec<Vec<open::Found>> = systems.iter().map(|_| Vec::new()).collect();
        for _ in 0..options.rounds {
            for (running, of) in systems.iter().zip(&mut of) {
                of.push(open::run(running, &load)?);
            }
        }
        found.push((load, of));
    }
    let mut page = String::from("# An open loop\n\n");
    for (name, value) in facts("open", options, &load_before) {
        page.push_str(&format!("* {name}: {value}\n"));
    }
    page.push('\n');
    page.push_str(&open::page(&systems, &found));
    let file = options.out.join("open.md");
    std::fs::create_dir_all(&options.out).context("create the folder of results")?;
    std::fs::write(&file, &page).context("write the page")?;
    println!("{page}\nwritten to {}", file.display());
    Ok(())
}

fn facts(name: &str, options: &Options, load_before: &str) -> [(&'static str, String); 7] {
    [
        ("axis", name.to_owned()),
        ("rounds", options.rounds.to_string()),
        ("commit", said(&["git", "rev-parse", "--short", "HEAD"])),
        ("day", said(&["date", "+%Y-%m-%d"])),
        ("machine", said(&["sh", "-c", "nproc; grep -m1 'model name' /proc/cpuinfo; uname -sr"])),
        ("load average before and after", format!("{load_before} · {}", machine_load())),
        (
            "load",
            if name == "open" { "our own".into() } else { said(&["redis-benchmark", "--version"]) },
        ),
    ]
}

/// A bar for each row and system.
fn bars(systems: &[Running], cells: &[Cell], of: Figure) -> Vec<(String, f64, f64, f64)> {
    let Some(redis) = systems.iter().position(|running| running.system.name == "redis") else {
        return Vec::new();
    };
    let mut bars = Vec::new();
    for cell in cells {
        let Some(theirs) = cell.of.get(redis) else { continue };
        for (running, ours) in systems.iter().zip(&cell.of) {
            if running.system.name != "redis" {
                let (middle, least, greatest) = report::ratio(ours, theirs, of);
                let name = format!("{} · {}", cell.row.title(), running.system.name);
                bars.push((name, middle, least, greatest));
            }
        }
    }
    bars
}

fn machine_load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// What a program says, in one line.
fn said(words: &[&str]) -> String {
    let Some((program, arguments)) = words.split_first() else { return String::new() };
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}
