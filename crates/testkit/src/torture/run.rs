//! One run from beginning to end, and many of them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value as Json;

use super::actions::Target;
use super::args::Options;
use super::client::{Client, Shared};
use super::finale;
use super::history::Record;
use super::host::Host;
use super::keys;
use super::leaders::{self, Leaders, Leads};
use super::movers::{self, Movers};
use super::nemesis::Nemesis;
use super::network;
use super::observer::{Observer, Reign, Reigns};
use super::placement;
use super::prepare;
use super::report;
use super::rest;
use super::schedule::Plan;
use super::setup::Store;
use super::site::{self, Site};
use super::subscribers::{self, Heard, Subscribers};
use super::terms::{self, Witnesses};
use super::timeline::{Clock, Timeline};
use super::verdict::{self, Finding};
use crate::netns;
use crate::process::START_PATIENCE;
use crate::wait;

const CLIENTS: u32 = 8;
/// How long a cluster may take to be healthy once faults are over: a full sync, at worst, on a busy
/// machine.
const HEAL_PATIENCE: Duration = Duration::from_secs(40);
/// The same where members of etcd have to find each other first, and then controllers the one that
/// leads.
const SHARED_HEAL_PATIENCE: Duration = Duration::from_secs(80);
/// How long moves may take to be over once everything works again, of which several may wait.
const MOVES_PATIENCE: Duration = Duration::from_secs(60);
/// Clients go on for that long after everything is healthy.
const AFTER: Duration = Duration::from_millis(1_000);
const EVENTS_PATIENCE: Duration = Duration::from_secs(10);

/// What many runs came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Total {
    /// Runs that were judged.
    pub runs: u64,
    /// Findings in all of them.
    pub anomalies: usize,
    /// What moves came to.
    pub moves: movers::Outcome,
}

/// Runs as often as asked, telling `say` what happens.
///
/// `total` counts what was judged, also where the harness itself fails in the end.
pub fn all(
    options: &Options,
    stop: &Arc<AtomicBool>,
    total: &mut Total,
    say: &mut dyn FnMut(String),
) -> Result<()> {
    network::sweep(site::STEM).context("remove what a killed harness left")?;
    network::sweep_disks(site::DISK).context("unmount what a killed harness left")?;
    let folder = report::folder(options)?;
    let first = options.seed.unwrap_or_else(|| rand::random_range(1..1_000_000_000));
    for seed in (0..options.runs).map(|run| first.wrapping_add(run)) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let plan = Plan::new(seed, options);
        say(format!("run {}: {}", total.runs + 1, report::replay(&plan, options)));
        let dir = folder.join(format!("seed-{seed}-{}", std::process::id()));
        match one(&dir, &plan, options, stop) {
            Ok((told, findings, moves)) => {
                total.runs += 1;
                total.moves += moves;
                total.anomalies += findings.len();
                say(format!("  {told}"));
                for finding in &findings {
                    say(format!("  {}: {}", finding.kind, finding.text));
                }
                if findings.is_empty() && !options.keep {
                    std::fs::remove_dir_all(&dir).context("remove a good run's folder")?;
                } else {
                    say(format!("  report: {}", dir.display()));
                }
            }
            Err(error) => {
                say(format!("  the harness itself failed; logs: {}", dir.display()));
                return Err(error.context(format!("run with seed {seed}")));
            }
        }
    }
    Ok(())
}

/// What clients did, and what was wrong besides.
struct Done {
    records: Vec<Record>,
    /// Where the last reads begin in `records`.
    last: usize,
    keys: Vec<keys::Key>,
    reigns: Vec<Reign>,
    claims: Vec<leaders::Seen>,
    heard: Vec<Heard>,
    findings: Vec<Finding>,
    moves: movers::Outcome,
    /// What everybody said of themselves at the end.
    state: String,
}

/// What the part with the faults needs to know of a run.
struct Scene<'a> {
    dir: &'a Path,
    /// Namespace of the clients.
    space: &'a str,
    keys: &'a [keys::Key],
    masters: &'a [SocketAddr],
    movers: Option<Movers>,
    timeline: &'a Timeline,
    /// How long it takes at least.
    least_ms: u64,
}

fn one(
    dir: &Path,
    plan: &Plan,
    options: &Options,
    stop: &Arc<AtomicBool>,
) -> Result<(String, Vec<Finding>, movers::Outcome)> {
    let began = Instant::now();
    std::fs::create_dir_all(dir).context("create a run's folder")?;
    let timeline = Timeline::new(Clock::start());
    let done = carry_out(dir, plan, options, stop, &timeline)?;
    let mut findings = done.findings;
    findings.extend(verdict::judge(&done.records, done.last, &done.keys, &done.reigns));
    findings.extend(subscribers::judge(&done.records, &done.heard, &done.keys, &done.reigns));
    findings.extend(leaders::judge(&done.claims));
    let seconds = began.elapsed().as_secs();
    let rendered = timeline.render();
    let run = report::Run {
        plan,
        options,
        records: &done.records,
        keys: &done.keys,
        findings: &findings,
        claims: &done.claims,
        timeline: &rendered,
        seconds,
    };
    report::add_result(&report::folder(options)?, &run)?;
    if !findings.is_empty() || options.keep {
        report::write(dir, &run)?;
        std::fs::write(dir.join("state.txt"), &done.state).context("write state.txt")?;
    }
    if !options.keep {
        report::remove_data(dir)?;
    }
    let moves = match options.moves {
        true => format!("{}, ", done.moves),
        false => String::new(),
    };
    let leaders = match plan.store {
        Store::Embedded => String::new(),
        Store::Etcd => format!("{} leaders, ", leaders::count(&done.claims)),
    };
    let told = format!(
        "{} faults, {} operations, {} without an answer, {} versions, {leaders}{moves}{seconds} s: {}",
        plan.faults.len(),
        done.records.len(),
        report::unknown(&done.records),
        done.reigns.len(),
        if findings.is_empty() { "ok" } else { "FOUND" },
    );
    Ok((told, findings, done.moves))
}

fn carry_out(
    dir: &Path,
    plan: &Plan,
    options: &Options,
    stop: &Arc<AtomicBool>,
    timeline: &Timeline,
) -> Result<Done> {
    let mut site = Site::start(dir, plan, options.mode).context("start the cluster")?;
    introduce(&site, timeline);
    let keys = Arc::new(keys::keys(&site.slots, &options.keys)?);
    let masters: Vec<SocketAddr> =
        (0..site.slots.len()).map(|shard| site.announced(shard, 0)).collect::<Result<_>>()?;
    let space = site.network.clients.name().to_owned();
    netns::inside(&space, || prepare::prepare(&keys, &masters)).context("make keys ready")?;
    let shared = shared(plan, &keys, &masters, timeline.clock());
    let watchers = Watchers::start(&site, timeline)?;
    let subscribers = Subscribers::start(&space, &keys, &masters, timeline.clock());
    let clients = start_clients(&space, plan.seed, &shared);

    let movers = (!plan.errands.is_empty())
        .then(|| Movers::start(site.control(), &plan.errands, &site.slots, timeline));
    let scene = Scene {
        movers,
        dir,
        space: &space,
        keys: &keys,
        masters: &masters,
        timeline,
        least_ms: options.seconds * 1_000,
    };
    let known = (&watchers.observer.reigns, &watchers.leaders.leads);
    let wounded = wound(plan, scene, &mut site, known, stop);
    shared.stop.store(true, Ordering::Relaxed);
    let mut records = Vec::new();
    for client in clients {
        records.extend(client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
    }
    let heard = subscribers.finish()?;
    let Wounded { mut findings, moves } = wounded.context("carry out the faults")?;
    records.sort_by_key(|record| record.invoked);
    let last = records.len();
    let owners = match site.owners() {
        // That nobody tells is part of what was found.
        Err(_) if !findings.is_empty() => site.slots.clone(),
        owners => owners.context("ask for the owners of slots")?,
    };
    let placed = movers::at_home(&keys, &owners);
    match netns::inside(&space, || finale::read_all(&placed, &masters, timeline.clock())) {
        Ok(reads) => {
            findings.extend(divergence(&site, &placed, &reads)?);
            if options.moves {
                findings.extend(placement::judge(&site, &owners)?);
            }
            records.extend(reads);
        }
        Err(error) => findings.push(stuck(timeline, &error)),
    }
    add_events(&site, timeline);
    let state = site.state();
    let told = watchers.witnesses.finish()?;
    ensure!(told.iter().any(|node| !node.said.is_empty()), "no node has said whom it obeys");
    findings.extend(terms::judge(&told, terms::keeps_terms(plan)));
    let (reigns, claims) = (watchers.observer.finish()?, watchers.leaders.finish()?);
    ensure!(records.len() > last / 2 && last > 100, "clients did only {last} operations");
    let keys = keys.to_vec();
    Ok(Done { records, last, keys, reigns, claims, heard, findings, moves, state })
}

/// Says who is who.
fn introduce(site: &Site, timeline: &Timeline) {
    timeline.note("cluster is up");
    for door in site.control().doors() {
        timeline.note(format!("{} is the controller at {}", door.name, door.address));
    }
    for member in &site.members {
        timeline.note(format!(
            "{} is {} of shard {}",
            site.name_of(&member.id),
            member.id.get(..6).unwrap_or_default(),
            member.shard
        ));
    }
}

/// All who look on while a run goes on.
struct Watchers {
    observer: Observer,
    leaders: Leaders,
    witnesses: Witnesses,
}

impl Watchers {
    /// Waits until the masters are known.
    fn start(site: &Site, timeline: &Timeline) -> Result<Self> {
        let observer = Observer::start(site.control(), timeline);
        let leaders = Leaders::start(site.control(), timeline);
        let witnesses = Witnesses::start(site, timeline.clock());
        wait::until("the observer knows the masters", START_PATIENCE, || {
            let known = observer.reigns.lock().len();
            if known > 0 { Ok(()) } else { Err("nothing") }
        })?;
        Ok(Self { observer, leaders, witnesses })
    }
}

/// What the clients of a run share.
fn shared(plan: &Plan, keys: &Arc<Vec<keys::Key>>, masters: &[SocketAddr], clock: Clock) -> Shared {
    Shared {
        keys: Arc::clone(keys),
        places: Arc::new(keys.iter().map(|key| AtomicUsize::new(key.shard)).collect()),
        unanswered: Arc::new(keys.iter().map(|_| AtomicUsize::default()).collect()),
        masters: Arc::new(masters.to_vec()),
        clock,
        stop: Arc::new(AtomicBool::new(false)),
        ballast_percent: if plan.fills_disks(|target| target != Target::Controller) {
            10
        } else {
            2
        },
        // One write a second, as all clients together go.
        write_permille: if plan.is_quiet { 1 } else { 1_000 },
    }
}

/// What came of the faults.
struct Wounded {
    findings: Vec<Finding>,
    moves: movers::Outcome,
}

/// Faults, healing, and the time until everything works again; returns what went wrong in it.
fn wound(
    plan: &Plan,
    scene: Scene<'_>,
    site: &mut Site,
    (reigns, leads): (&Reigns, &Leads),
    stop: &Arc<AtomicBool>,
) -> Result<Wounded> {
    let timeline = scene.timeline;
    let patience = match plan.store {
        Store::Embedded => HEAL_PATIENCE,
        Store::Etcd => SHARED_HEAL_PATIENCE,
    };
    let known = (Arc::clone(reigns), Arc::clone(leads));
    let mut nemesis = Nemesis::new(site, known, timeline);
    let faults = nemesis.run(&plan.faults, scene.least_ms, || stop.load(Ordering::Relaxed));
    // Also after a failure: clients and processes are about to be asked to end.
    nemesis.heal()?;
    faults?;
    scene.movers.map_or(Ok(()), Movers::finish)?;
    let (mut findings, mut moves) = (Vec::new(), movers::Outcome::default());
    let usable = nemesis.await_health(patience).and_then(|()| {
        if !plan.errands.is_empty() {
            moves = nemesis.await_moves(MOVES_PATIENCE)?;
            timeline.note(moves.to_string());
        }
        let placed = movers::at_home(scene.keys, &nemesis.site().owners()?);
        netns::inside(scene.space, || finale::await_writes(&placed, scene.masters))
    });
    match usable {
        Ok(()) => {
            timeline.note("healthy again");
            wait::pause(AFTER);
        }
        Err(error) => {
            findings.push(stuck(timeline, &error));
            let threads: String = nemesis.site().hosts.iter().map(Host::threads).collect();
            std::fs::write(scene.dir.join("threads.txt"), threads).context("write threads.txt")?;
        }
    }
    let ended = |text| Finding { kind: "ended", text, operations: Vec::new() };
    findings.extend(nemesis.surprises.drain(..).map(ended));
    Ok(Wounded { findings, moves })
}

fn stuck(timeline: &Timeline, error: &anyhow::Error) -> Finding {
    let text = format!("{error:#}");
    timeline.note(format!("STUCK: {text}"));
    Finding { kind: "stuck", text, operations: Vec::new() }
}

fn start_clients(
    space: &str,
    seed: u64,
    shared: &Shared,
) -> Vec<std::thread::JoinHandle<Result<Vec<Record>>>> {
    let start = |number: u32| {
        let (space, shared) = (space.to_owned(), shared.clone());
        std::thread::spawn(move || {
            netns::enter(&space)?;
            Ok(Client::new(number, seed, shared).run())
        })
    };
    (0..CLIENTS).map(start).collect()
}

/// What replicas hold, compared with the last reads.
fn divergence(site: &Site, keys: &[keys::Key], reads: &[Record]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for shard in 0..site.slots.len() {
        for number in 1..site.nodes_per_shard() {
            let address = site.announced(shard, number)?;
            let found = netns::inside(site.network.clients.name(), || {
                finale::divergence(keys, reads, shard, address)
            })?;
            findings.extend(found.into_iter().map(|text| Finding {
                kind: "diverged",
                text: format!("replica {address} of shard {shard}: {text}"),
                operations: Vec::new(),
            }));
        }
    }
    Ok(findings)
}

/// The controller's own story, in its own order at the end: its times are of the wall clock.
fn add_events(site: &Site, timeline: &Timeline) {
    let events = site.control().once(EVENTS_PATIENCE, |client| {
        client.get(&format!("{}/events?limit=10000", rest::CLUSTER))
    });
    let wall = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0));
    let offset = wall.saturating_sub(timeline.clock().now());
    let Ok(events) = events else { return };
    for event in events.get("events").and_then(Json::as_array).into_iter().flatten() {
        let text = |name: &str| event.get(name).and_then(Json::as_str).unwrap_or_default();
        let at_ms = event.get("at_ms").and_then(Json::as_u64).unwrap_or(0);
        let at = (at_ms * 1_000_000).saturating_sub(offset);
        timeline.note_at(at, format!("controller: {}: {}", text("kind"), text("text")));
    }
}

/// What `main` ends with: the last line, and an error unless everything was carried out and nothing
/// found.
pub fn conclude(
    total: Total,
    done: Result<()>,
    asked: u64,
    say: &mut dyn FnMut(String),
) -> Result<()> {
    let Total { runs, anomalies, moves } = total;
    if let Err(error) = &done {
        say(format!("error: {error:#}"));
    }
    let moves = match moves == movers::Outcome::default() {
        true => String::new(),
        false => format!(" {moves}"),
    };
    say(format!("torture: runs={runs} anomalies={anomalies}{moves}"));
    done?;
    ensure!(anomalies == 0, "{anomalies} anomalies");
    ensure!(runs == asked, "{runs} of {asked} runs were carried out");
    Ok(())
}
