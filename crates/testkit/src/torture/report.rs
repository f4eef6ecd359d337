//! Where runs leave their traces: a folder for each with findings, and a line for each in the
//! results file.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::args::Options;
use super::faults::Kind;
use super::history::Record;
use super::keys::{self, Key};
use super::leaders::{self, Seen};
use super::schedule::Plan;
use super::setup::{Mode, Store};
use super::timeline::seconds;
use super::verdict::Finding;

const HEADER: &str = "when\tcommit\tseed\tmode\tbalancer\tshape\tstyle\toperations\tunknown\tseconds\tanomalies\toutcome\n";

/// Everything a run gives a report.
#[derive(Debug)]
pub struct Run<'a> {
    /// What the seed decided.
    pub plan: &'a Plan,
    /// What was asked for.
    pub options: &'a Options,
    /// All operations, the last reads included.
    pub records: &'a [Record],
    /// All keys.
    pub keys: &'a [Key],
    /// What is wrong.
    pub findings: &'a [Finding],
    /// The claims to lead, where controllers share a store.
    pub claims: &'a [Seen],
    /// What happened, rendered.
    pub timeline: &'a str,
    /// How long it took, s.
    pub seconds: u64,
}

/// The folder of all torture output.
pub fn folder(options: &Options) -> Result<PathBuf> {
    let target = || {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        target.join("torture")
    };
    let dir = options.dir.clone().unwrap_or_else(target);
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    dir.canonicalize().with_context(|| format!("find {}", dir.display()))
}

/// The results file: `TORTURE_RESULTS`, or one in the folder.
fn results(folder: &Path) -> PathBuf {
    std::env::var_os("TORTURE_RESULTS").map_or_else(|| folder.join("results.tsv"), PathBuf::from)
}

/// Adds a line to the results file.
pub fn add_result(folder: &Path, run: &Run<'_>) -> Result<()> {
    let path = results(folder);
    let is_new = !path.exists();
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    let mut kinds: Vec<&str> = run.findings.iter().map(|finding| finding.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let outcome = if kinds.is_empty() { "ok".to_owned() } else { kinds.join(", ") };
    let when = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let plan = run.plan;
    let line = format!(
        "{when}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{outcome}\n",
        commit(),
        plan.seed,
        run.options.mode.as_str(),
        plan.balancer.as_str(),
        shape(plan, run.options),
        plan.style.as_str(),
        run.records.len(),
        unknown(run.records),
        run.seconds,
        run.findings.len(),
    );
    let text = if is_new { format!("{HEADER}{line}") } else { line };
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))
}

/// Shards and nodes, and what is beside them: `3x2+moves+3xetcd`.
fn shape(plan: &Plan, options: &Options) -> String {
    let moves = if options.moves { "+moves" } else { "" };
    let control = match plan.store {
        Store::Embedded => String::new(),
        Store::Etcd => format!("+{}xetcd", plan.controllers),
    };
    format!("{}{moves}{control}", plan.shape)
}

/// Operations of which nobody knows whether they took effect.
pub fn unknown(records: &[Record]) -> usize {
    let is_unknown =
        |record: &&Record| matches!(record.outcome, super::history::Outcome::Unknown(_));
    records.iter().filter(is_unknown).count()
}

/// The commit of the checkout, with a `+` where files differ from it.
fn commit() -> String {
    if let Some(named) = std::env::var_os("TORTURE_COMMIT") {
        return named.to_string_lossy().into_owned();
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"]).filter(|text| !text.is_empty());
    let changed = git(&["status", "--porcelain"]).is_some_and(|text| !text.is_empty());
    format!("{}{}", head.unwrap_or_else(|| "unknown".to_owned()), if changed { "+" } else { "" })
}

fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().copied().map(name).collect()
}

/// The shortest way to ask for some of what there is.
fn chosen(all: &[&str], some: &[&str]) -> String {
    let missing = all.iter().filter(|name| !some.contains(name));
    let missing: Vec<String> = missing.map(|name| format!("-{name}")).collect();
    match (some.len(), missing.len()) {
        (0, _) => "none".to_owned(),
        (_, 0) => "all".to_owned(),
        (some, few) if few < some => missing.join(","),
        _ => some.join(","),
    }
}

/// The arguments that replay a run.
pub fn replay(plan: &Plan, options: &Options) -> String {
    let style = plan.style.as_str();
    let known = names(&options.known(), Kind::as_str);
    let faults = chosen(&known, &names(&options.faults, Kind::as_str));
    let keys =
        chosen(&keys::Kind::ALL.map(keys::Kind::as_str), &names(&options.keys, keys::Kind::as_str));
    let mode = match options.mode {
        Mode::InSync => "in-sync",
        Mode::Async => "async",
    };
    let clients = if plan.is_quiet { "quiet" } else { "busy" };
    let moves = if options.moves { " MOVES=on" } else { "" };
    let control = match plan.store {
        Store::Embedded => String::new(),
        Store::Etcd => format!(" CONTROLLERS={} STORE=etcd", plan.controllers),
    };
    format!(
        "RUNS=1 SEED={} MODE={mode} BALANCER={} SHAPE={} FAULTS={faults},{style} KEYS={keys} CLIENTS={clients} LEASE={} MISSES={} SECONDS={}{moves}{control}",
        plan.seed,
        plan.balancer.as_str(),
        plan.shape,
        plan.lease_ms,
        plan.misses,
        options.seconds
    )
}

/// Writes `report.txt`, `timeline.txt` and `history.txt` beside the logs.
pub fn write(dir: &Path, run: &Run<'_>) -> Result<()> {
    let mut text = format!(
        "commit {}\nreplay: make torture {}\n\nfaults:\n",
        commit(),
        replay(run.plan, run.options)
    );
    for fault in &run.plan.faults {
        text += &format!("  {fault}\n");
    }
    for errand in &run.plan.errands {
        text += &format!("  {errand:?}\n");
    }
    if !run.claims.is_empty() {
        text += &format!("\nleaders:\n{}", leaders::lines(run.claims));
    }
    for finding in run.findings {
        text += &format!("\n{}: {}\n", finding.kind, finding.text);
        for index in &finding.operations {
            if let Some(record) = run.records.get(*index) {
                text += &format!("  {}\n", line(record, run.keys));
            }
        }
    }
    let history: String = run.records.iter().map(|record| line(record, run.keys) + "\n").collect();
    for (name, text) in
        [("report.txt", text.as_str()), ("timeline.txt", run.timeline), ("history.txt", &history)]
    {
        std::fs::write(dir.join(name), text).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}

/// An operation as a line.
fn line(record: &Record, keys: &[Key]) -> String {
    let name = keys.get(record.key).map_or("?", |key| key.name.as_str());
    let by = record.by.as_deref().map_or("?", |id| id.get(..6).unwrap_or(id));
    format!(
        "{} – {}  client {:>2}  {name:<16} {:<18} {}  by {by}",
        seconds(record.invoked),
        seconds(record.ended),
        record.client,
        record.call.to_string(),
        record.outcome,
    )
}

/// Leaves logs and configurations of a run's hosts, and removes their data.
pub fn remove_data(dir: &Path) -> Result<()> {
    for host in std::fs::read_dir(dir).context("look into a run's folder")? {
        let host = host.context("look into a run's folder")?.path();
        let Ok(entries) = std::fs::read_dir(&host) else { continue };
        for entry in entries.flatten() {
            if entry.path().is_dir() {
                std::fs::remove_dir_all(entry.path()).context("remove a node's data")?;
            }
        }
    }
    Ok(())
}
