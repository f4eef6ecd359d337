//! `bench [AXIS=quick] [ROUNDS=3] [OUT=bench/results] [MINUTES=30] [KEYS=500000]`, or
//! `bench GUARD=bench/guard.txt`: figures beside redis-server.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use testkit::bench::compaction::Compacting;
use testkit::bench::facts::{machine_load, place, said};
use testkit::bench::load::Measured;
use testkit::bench::systems::{Running, System};
use testkit::bench::{
    Cell, balancers, guard, handover, in_turn, measure, minutes, open, plot, publish, report, rows,
    weight,
};
use testkit::process::raise_open_files;

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
    /// Of `minutes`.
    minutes: u32,
    /// Of `bytes`.
    keys: u64,
}

/// Measures an axis, and writes its page.
type Axis = fn(&Options) -> Result<()>;

/// Axes that are no rows of redis-benchmark.
const OTHERS: &[(&str, Axis)] = &[
    ("open", open_loop),
    ("publish", publishing),
    ("handover", handing_over),
    ("balancer", load_balancers),
    ("bytes", bytes_per_key),
    ("minutes", writes_for_minutes),
];

fn options() -> Result<Options> {
    let mut options = Options {
        axis: "quick".into(),
        rounds: 3,
        out: "bench/results".into(),
        guard: None,
        minutes: 30,
        keys: 500_000,
    };
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').with_context(|| help(&argument))?;
        match name {
            "AXIS" => options.axis = value.into(),
            "ROUNDS" => options.rounds = value.parse().with_context(|| help(&argument))?,
            "OUT" => options.out = value.into(),
            "GUARD" => options.guard = Some(value.into()),
            "MINUTES" => options.minutes = value.parse().with_context(|| help(&argument))?,
            "KEYS" => options.keys = value.parse().with_context(|| help(&argument))?,
            _ => bail!(help(&argument)),
        }
    }
    Ok(options)
}

fn help(argument: &str) -> String {
    let others: Vec<&str> = OTHERS.iter().map(|(name, _)| *name).collect();
    format!(
        "`{argument}`; accepted: AXIS= ({}, {}; `all` for each of them but minutes), ROUNDS=, \
         OUT= a folder, MINUTES= of minutes, KEYS= of bytes, GUARD= a file",
        rows::AXES,
        others.join(", ")
    )
}

fn main() -> Result<()> {
    let options = options()?;
    // Subscribers, and connections of load, come by the thousand.
    raise_open_files()?;
    if let Some(file) = &options.guard {
        return guard::check(file);
    }
    if options.axis != "all" {
        return axis(&options, &options.axis);
    }
    let others = OTHERS.iter().map(|(name, _)| *name).filter(|name| *name != "minutes");
    let mut all = rows::AXES.split(", ").filter(|name| *name != "quick").chain(others);
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
        "insync" => vec![
            System::cluster("in-sync", 1, "none", "in-sync")?,
            System::cluster("async", 1, "none", "async")?,
        ],
        _ => vec![System::holdfast("holdfast", &[])?],
    };
    let redis = System::redis();
    let has_replica = name == "replica" || name == "insync";
    systems.push(if has_replica { redis.with_replica() } else { redis });
    systems.extend(System::kvrocks());
    systems.into_iter().map(System::start).collect()
}

fn axis(options: &Options, name: &str) -> Result<()> {
    if let Some((_, run)) = OTHERS.iter().find(|(other, _)| *other == name) {
        return run(options);
    }
    let rows = rows::of_axis(name)?;
    let systems = systems(name)?;
    let load_before = machine_load();
    let compacting: Vec<Compacting> = match name {
        "compacting" => systems.iter().map(Compacting::begin).collect::<Result<_>>()?,
        _ => Vec::new(),
    };
    let cells = measure(&systems, &rows, options.rounds)?;
    let mut facts = facts(name, options, &load_before).to_vec();
    if !compacting.is_empty() {
        let of = |(running, one): (&Running, &Compacting)| {
            format!("{} {}", running.system.name, one.begun())
        };
        let begun: Vec<String> = systems.iter().zip(&compacting).map(of).collect();
        facts.push(("compactions begun meanwhile", begun.join(", ")));
    }
    drop(compacting);
    let pictures: [(&str, &str, Figure); 2] = [
        ("throughput", "Throughput over redis-server's (more is better)", |m| m.rate),
        ("cpu", "Processor time per request over redis-server's (less is better)", |m| m.cpu_us),
    ];
    for (what, title, of) in pictures {
        let svg = plot::bars(title, &bars(&systems, &cells, of));
        write(options, &format!("{name}-{what}.svg"), &svg)?;
    }
    tell(options, name, &report::page(&systems, &cells, &facts))
}

/// Writes a file of the results.
fn write(options: &Options, name: &str, text: &str) -> Result<()> {
    std::fs::create_dir_all(&options.out).context("create the folder of results")?;
    let file = options.out.join(name);
    std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))
}

/// Writes a page, and shows it.
fn tell(options: &Options, name: &str, page: &str) -> Result<()> {
    let file = format!("{name}.md");
    write(options, &file, page)?;
    println!("{page}\nwritten to {}", options.out.join(file).display());
    Ok(())
}

/// A page of an axis that is no rows: its title, what it was measured on, and the table.
fn other_page(options: &Options, (name, title): (&str, &str), load_before: &str) -> String {
    let mut page = format!("# {title}\n\n");
    for (name, value) in facts(name, options, load_before) {
        page.push_str(&format!("* {name}: {value}\n"));
    }
    page.push('\n');
    page
}

/// Reads and writes at rates that are kept whatever the servers do.
fn open_loop(options: &Options) -> Result<()> {
    let (systems, load_before) = (systems("open")?, machine_load());
    let mut found = Vec::new();
    for rate in [2_000, 10_000, 20_000] {
        let load = open::Load { rate, seconds: 5, connections: 16, reads_percent: 90 };
        found.push((load, in_turn(&systems, options.rounds, |running| open::run(running, &load))?));
    }
    let mut page = other_page(options, ("open", "An open loop"), &load_before);
    page.push_str(&open::page(&systems, &found));
    tell(options, "open", &page)
}

fn publishing(options: &Options) -> Result<()> {
    let (systems, load_before) = (systems("publish")?, machine_load());
    let mut found = Vec::new();
    for (subscribers, bytes) in [(10, 100), (1_000, 100), (1_000, 4 << 10)] {
        let load = publish::Load { subscribers, messages: 500, bytes };
        let of = in_turn(&systems, options.rounds, |running| publish::run(running, &load))?;
        found.push((load, of));
    }
    let mut page = other_page(options, ("publish", "PUBLISH"), &load_before);
    page.push_str(&publish::page(&systems, &found));
    tell(options, "publish", &page)
}

fn handing_over(options: &Options) -> Result<()> {
    let (systems, load_before) = (systems("handover")?, machine_load());
    let mut found = Vec::new();
    for others in [0, 100, 1_000] {
        let load = handover::Load { rounds: 1_000, others };
        let of = in_turn(&systems, options.rounds, |running| handover::run(running, &load))?;
        found.push((load, of));
    }
    let mut page = other_page(options, ("handover", "BLPOP"), &load_before);
    page.push_str(&handover::page(&systems, &found));
    tell(options, "handover", &page)
}

/// The same kind of node, reached in three ways.
fn load_balancers(options: &Options) -> Result<()> {
    let systems = [("direct", "none"), ("built-in", "builtin"), ("haproxy", "haproxy")]
        .map(|(name, balancer)| System::cluster(name, 0, balancer, "async")?.start())
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let load_before = machine_load();
    let cells = measure(&systems, &balancers::rows(), options.rounds)?;
    let title = ("balancer", "Load balancers");
    let mut page = other_page(options, title, &load_before);
    page.push_str(&balancers::page(&systems, &cells));
    tell(options, "balancer", &page)
}

fn bytes_per_key(options: &Options) -> Result<()> {
    let (load_before, mut lines) = (machine_load(), String::new());
    let load = weight::Load { keys: options.keys, rest: Duration::from_secs(15) };
    for shape in weight::SHAPES {
        let systems = [System::holdfast("holdfast", weight::SHORT_LOG)?, System::redis()];
        for system in systems.into_iter().chain(System::kvrocks()) {
            let (running, weight) = weight::weigh(system, shape, load)?;
            let line = weight::line(shape, &running.system.name, &weight);
            eprint!("{line}");
            lines.push_str(&line);
        }
    }
    let mut page = other_page(options, ("bytes", "Bytes per key"), &load_before);
    page.push_str(&format!("{} keys of each shape. {}{lines}", options.keys, weight::HEAD));
    tell(options, "bytes", &page)
}

/// One system after the other, each alone: they would take the processors from each other.
fn writes_for_minutes(options: &Options) -> Result<()> {
    /// Points of a line; a picture shows no more.
    const POINTS: usize = 560;
    let load = minutes::Load {
        lasts: Duration::from_secs(u64::from(options.minutes) * 60),
        connections: 8,
        in_flight: 16,
        keys: 10_000_000,
        value_bytes: 100,
    };
    let load_before = machine_load();
    let (mut rates, mut memory, mut lines) = (Vec::new(), Vec::new(), String::new());
    let systems = [System::holdfast("holdfast", &[])?, System::redis()];
    for system in systems.into_iter().chain(System::kvrocks()) {
        let running = system.start()?;
        let samples = minutes::run(&running, &load)?;
        let name = running.system.name.clone();
        lines.push_str(&minutes::line(&name, &samples, running.disk_bytes()?));
        let of = |value: fn(&minutes::Sample) -> f64| {
            let points: Vec<_> =
                samples.iter().map(|sample| (sample.at_s, value(sample))).collect();
            (name.clone(), minutes::thinned(&points, POINTS))
        };
        rates.push(of(|sample| sample.rate));
        memory.push(of(|sample| sample.memory as f64 / f64::from(1 << 20)));
    }
    write(options, "minutes.svg", &plot::lines("SET per second", &rates))?;
    write(options, "minutes-memory.svg", &plot::lines("Memory, MiB", &memory))?;
    let title = ("minutes", "Writes for many minutes");
    let mut page = other_page(options, title, &load_before);
    page.push_str(&format!(
        "SET of {} bytes for {} minutes, {} connections with {} in flight, {} numbers of keys. \
         Pictures: minutes.svg, minutes-memory.svg.\n\n{}{lines}",
        load.value_bytes,
        options.minutes,
        load.connections,
        load.in_flight,
        load.keys,
        minutes::HEAD
    ));
    tell(options, "minutes", &page)
}

fn facts(name: &str, options: &Options, load_before: &str) -> [(&'static str, String); 7] {
    let [commit, day, machine] = place();
    [
        ("axis", name.to_owned()),
        ("rounds", options.rounds.to_string()),
        commit,
        day,
        machine,
        ("load average before and after", format!("{load_before} · {}", machine_load())),
        (
            "load",
            match OTHERS.iter().any(|(other, _)| *other == name) && name != "balancer" {
                true => "our own".into(),
                false => said(&["redis-benchmark", "--version"]),
            },
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
