//! `holdfast drill`: a scripted story against a real local cluster, told as a timeline.
//!
//! Writes flow through the announced addresses while masters, replicas and the controller are
//! killed, stopped and restarted, and a master is replaced on purpose; for each the drill tells how
//! long clients could not write, which acknowledged writes are gone, and what a returning node
//! answered to clients. Then the same kill with clients that follow a DNS name instead. How long
//! anything took is measured and not judged; what may never happen makes it fail.

mod dns;
mod faults;
mod outcome;
mod report;
mod route;
mod rows;
mod witness;
mod writer;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use self::faults::Drill;
use self::outcome::Outcome;
use self::rows::Row;
use crate::up::layout::BalancerKind;
use crate::up::running::{Running, Wanted};

/// `holdfast drill`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An empty folder to work in (a temporary one, removed afterwards, if left out)
    #[arg(long)]
    dir: Option<PathBuf>,
    /// What stands in front of the nodes
    #[arg(long, value_enum, default_value_t = BalancerKind::Builtin)]
    balancer: BalancerKind,
    /// How often each fault happens
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Only these rows: kill, stop, kill-restart, replica-kill, replica-stop, switchover,
    /// controller-kill, dns; and, where `make drill` runs them, link-down, partition-balancer,
    /// partition-controller, leader-and-master, leader-kill, leader-stop, leader-host, etcd-kill,
    /// etcd-away, reshard and, where it is named, move
    #[arg(long, value_delimiter = ',', value_name = "ROWS")]
    only: Vec<Row>,
    /// For how long a killed controller is away, and in etcd-away a killed etcd, s
    #[arg(long, default_value_t = 60)]
    away: u64,
    /// First of some 310 ports
    #[arg(long, default_value_t = 8000)]
    base_port: u16,
    /// Leave out the clients that follow a DNS name; with a TTL of 30 s they take up to 30 s a run
    #[arg(long)]
    no_dns: bool,
}

const SHARDS: u16 = 3;
/// TTLs of the names in the DNS part.
const TTLS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// Runs the whole story. Exit code 1: it could not be told, or something happened in it that may
/// never happen.
pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    if args.balancer == BalancerKind::None {
        bail!("the drill is about what happens behind balancers: --balancer builtin or haproxy");
    }
    if args.runs == 0 {
        bail!("--runs must be at least 1");
    }
    let Some(chosen) = Row::chosen(&args.only, args.no_dns) else {
        bail!("nothing is left to drill: --only asks for dns, and --no-dns leaves it out");
    };
    let temporary = args.dir.is_none();
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("holdfast-drill-{}", std::process::id())),
    };
    let outcome = tokio::select! {
        outcome = story(&args, &chosen, &dir) => outcome.map(|is_good| match is_good {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }),
        () = crate::signals::terminal()? => Ok(ExitCode::from(130)),
    };
    if temporary && outcome.is_ok() && dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    outcome.with_context(|| format!("drill in {}", dir.display()))
}

/// Tells it; whether nothing happened that may never happen.
async fn story(args: &Args, chosen: &[Row], dir: &Path) -> Result<bool> {
    let timeline = Timeline::start();
    let mut rows = cluster_rows(args, chosen, dir, &timeline).await?;
    if chosen.contains(&Row::ByName) {
        rows.extend(by_name(args, dir, &timeline).await?);
    }
    for name in chosen.iter().filter_map(|row| match row {
        Row::Elsewhere(name) => Some(name),
        _ => None,
    }) {
        timeline.say(&format!("{name} is not run here, but by `make drill`"));
    }
    if !rows.is_empty() {
        crate::out::text(&report::render(&rows, args.runs))?;
    }
    Ok(rows.iter().flat_map(|(_, outcomes)| outcomes).all(Outcome::is_good))
}

async fn cluster_rows(
    args: &Args,
    chosen: &[Row],
    dir: &Path,
    timeline: &Timeline,
) -> Result<Vec<(String, Vec<Outcome>)>> {
    let mut rows = Vec::new();
    let faults = chosen.iter().filter_map(|row| match row {
        Row::Fault(fault) => Some(*fault),
        _ => None,
    });
    let mut faults = faults.enumerate().peekable();
    if faults.peek().is_none() {
        return Ok(rows);
    }
    timeline.say(&format!(
        "starting {SHARDS} shards with a replica each behind 2 {} balancers",
        args.balancer
    ));
    let running = start(&dir.join("lb"), args.balancer, args.base_port).await?;
    timeline.say("every slot accepts writes");
    let mut drill = Drill { running, timeline };
    let away = Duration::from_secs(args.away);
    for (place, fault) in faults {
        let (name, shard) = (fault.name(away), place % usize::from(SHARDS));
        let mut outcomes = Vec::new();
        for run in 1..=args.runs {
            timeline.say(&format!("-- {name}: run {run} of {}", args.runs));
            let outcome = drill.fault(fault, (shard, run), away).await?;
            outcomes.push(Outcome { may_not_move: fault.leaves_the_master(), ..outcome });
        }
        rows.push((name, outcomes));
    }
    drill.running.stop().await;
    Ok(rows)
}

/// The kill once more, without balancers, for clients that follow names of several TTLs at the same
/// time.
async fn by_name(
    args: &Args,
    dir: &Path,
    timeline: &Timeline,
) -> Result<Vec<(String, Vec<Outcome>)>> {
    timeline.say("starting a cluster without balancers, for clients that follow a DNS name");
    let running = start(&dir.join("dns"), BalancerKind::None, args.base_port).await?;
    let server = dns::Server::start().await.context("start the name server")?;
    let mut drill = Drill { running, timeline };
    let mut rows: Vec<(String, Vec<Outcome>)> = TTLS
        .iter()
        .map(|ttl| (format!("kill -9, clients follow DNS, TTL {} s", ttl.as_secs()), Vec::new()))
        .collect();
    for run in 1..=args.runs {
        timeline.say(&format!("-- kill -9, DNS: run {run} of {}", args.runs));
        let outcomes = drill.kill_by_name(&server, &TTLS, run).await?;
        for ((_, row), outcome) in rows.iter_mut().zip(outcomes) {
            row.push(outcome);
        }
    }
    drill.running.stop().await;
    Ok(rows)
}

async fn start(dir: &Path, balancer: BalancerKind, base_port: u16) -> Result<Running> {
    let balancers = if balancer == BalancerKind::None { 0 } else { 2 };
    let wanted = Wanted {
        shards: Some(SHARDS),
        replicas: Some(1),
        balancer: Some(balancer),
        balancers: Some(balancers),
        base_port: Some(base_port),
        commit_mode: None,
        controllers: None,
        store: None,
    };
    let mut running = Running::start(dir, &wanted, true, false)?;
    running.ready().await?;
    Ok(running)
}

/// Lines with the time since the start.
#[derive(Debug)]
pub(crate) struct Timeline(Instant);

impl Timeline {
    fn start() -> Self {
        Self(Instant::now())
    }

    /// A moment as its lines show it, s.
    pub(crate) fn at(&self, moment: Instant) -> f64 {
        moment.duration_since(self.0).as_secs_f64()
    }

    pub(crate) fn say(&self, text: &str) {
        crate::out::say(&format!("[{:7.2} s] {text}", self.0.elapsed().as_secs_f64()));
    }
}
