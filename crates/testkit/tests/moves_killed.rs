//! SIGKILL for each party of a move of slots, at each step of its record: the slots have moved as a
//! whole or not at all, what was acknowledged is there, and nothing is left anywhere else.
//!
//! `HOLDFAST_MOVE_KILLS` says how often; 40 are each party at each step once. A step that was over
//! before the kill is tried again, and a table says in the end how often each was met.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::{Value as Json, json};
use testkit::cluster::{Cluster, Options};
use testkit::process;
use testkit::torture::movers::{owner, owners};
use testkit::torture::placement::left_over;
use testkit::wait;
use testkit::wire::{Connection, Reply};

use common::PATIENCE;

/// What moves; all keys are in the slot of the word.
const SLOTS: &str = "800-900";
const SLOT: u16 = 866;
const TAG: &str = "{hello}";
/// So many that a copy takes a while.
const KEYS: usize = 12_000;
const VALUE_BYTES: usize = 600;
const WRITERS: usize = 3;
/// Keys that each of them writes.
const WRITTEN: usize = 3;
/// Kills that are made unless somebody asks for more.
const KILLS: usize = 6;
/// Kills beside one set of writers. Their values grow, and what a move copies would in the end take
/// longer than a step is waited for.
const KILLS_EACH: usize = 40;
/// Moves for one kill: a step that is over in no time is missed now and then.
const TRIES: usize = 8;
/// A step that is over in no time may have been missed.
const STEP_PATIENCE: Duration = Duration::from_secs(30);
const MOVES_PATIENCE: Duration = Duration::from_secs(120);
const EACH: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Queued,
    Begun,
    Copying,
    /// The copy is whole: writes are about to be held, are held, or the record is about to change.
    Closing,
    /// The record has changed; the giver is sealed, the taker opens, the giver deletes.
    Owned,
    /// It was cancelled.
    Dropping,
    /// Writes are held, and the record has not changed: milliseconds.
    Frozen,
    /// It has just become history.
    Over,
}

const STEPS: [Step; 8] = [
    Step::Queued,
    Step::Begun,
    Step::Copying,
    Step::Closing,
    Step::Owned,
    Step::Dropping,
    Step::Frozen,
    Step::Over,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Giver,
    Taker,
    GiversReplica,
    TakersReplica,
    Controller,
}

const VICTIMS: [Victim; 5] = [
    Victim::Giver,
    Victim::Taker,
    Victim::GiversReplica,
    Victim::TakersReplica,
    Victim::Controller,
];

/// The controller's interface.
struct Rest {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    url: String,
}

impl Rest {
    fn new(cluster: &Cluster) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let url = cluster.state()?.controller.url;
        let url = format!("{url}/api/v1/namespaces/local/clusters/main");
        Ok(Self { runtime, http, url })
    }

    fn ask(&self, method: reqwest::Method, path: &str, body: Option<&Json>) -> Result<Json> {
        let request = self.http.request(method, format!("{}{path}", self.url));
        let request = body.map_or(request.try_clone(), |body| Some(request.json(body)));
        self.runtime.block_on(async {
            let answer = request.context("make a request")?.send().await?;
            let (status, text) = (answer.status(), answer.text().await?);
            ensure!(status.is_success(), "{path}: {status}: {text}");
            let mut body: Json = serde_json::from_str(&text)?;
            Ok(body["data"].take())
        })
    }

    fn get(&self, path: &str) -> Result<Json> {
        self.ask(reqwest::Method::GET, path, None)
    }
}

/// What a writer knows of its keys.
#[derive(Debug, Default)]
struct Written {
    /// Newest answer of INCR.
    counted: i64,
    /// Of INCR.
    acknowledged: i64,
    /// Of INCR: nobody knows whether they were carried out.
    unknown: i64,
    /// Elements that were acknowledged, and those of which nobody knows.
    pushed: BTreeSet<i64>,
    perhaps: BTreeSet<i64>,
    /// Fields of a hash, the same.
    fields: i64,
    perhaps_fields: i64,
    moved: usize,
    wrong: Vec<String>,
}

/// A client of its own thread; who has the lock keeps it from writing.
struct Writer {
    written: Arc<Mutex<Written>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(number: usize, addresses: [SocketAddr; 2]) -> Self {
        let (written, stop) = (Arc::<Mutex<Written>>::default(), Arc::new(AtomicBool::new(false)));
        let (shared, stopped) = (Arc::clone(&written), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let (mut place, mut link, mut turn) = (0, None::<Connection>, 0_i64);
            while !stopped.load(Ordering::SeqCst) {
                let mut written = shared.lock();
                turn += 1;
                let open = || Connection::open_within(addresses[place], EACH, EACH).ok();
                let mut open = match link.take().or_else(open) {
                    Some(open) => open,
                    None => {
                        drop(written);
                        wait::pause(Duration::from_millis(20));
                        continue;
                    }
                };
                let rest = match written.write(number, turn, &mut open) {
                    Said::Done => {
                        link = Some(open);
                        Duration::from_micros(300)
                    }
                    Said::Moved(to) => {
                        written.moved += 1;
                        place = addresses.iter().position(|known| *known == to).unwrap_or(place);
                        Duration::from_micros(300)
                    }
                    Said::Nothing => Duration::from_millis(10),
                };
                // The thread that looks at what was written gets the lock meanwhile.
                drop(written);
                wait::pause(rest);
            }
        });
        Self { written, stop, thread }
    }

    fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| anyhow!("a client panicked"))
    }
}

enum Said {
    Done,
    Moved(SocketAddr),
    Nothing,
}

fn counter(number: usize) -> String {
    format!("{TAG}n{number}")
}

fn list(number: usize) -> String {
    format!("{TAG}l{number}")
}

fn hash(number: usize) -> String {
    format!("{TAG}h{number}")
}

impl Written {
    fn write(&mut self, number: usize, turn: i64, link: &mut Connection) -> Said {
        let text = turn.to_string();
        let said = match turn % 3 {
            0 => link.call(&["INCR", &counter(number)]),
            1 => link.call(&["RPUSH", &list(number), &text]),
            _ => link.call(&["HSET", &hash(number), &text, "v"]),
        };
        match said {
            Ok(Reply::Integer(value)) => {
                match turn % 3 {
                    0 => {
                        if value <= self.counted {
                            let text = format!("INCR answers {value} after {}", self.counted);
                            self.wrong.push(text);
                        }
                        (self.counted, self.acknowledged) = (value, self.acknowledged + 1);
                    }
                    1 => drop(self.pushed.insert(turn)),
                    _ => self.fields += 1,
                }
                Said::Done
            }
            Ok(reply) => {
                let text = reply.text();
                let mut words = text.split(' ');
                match (words.next(), words.nth(1).and_then(|to| to.parse().ok())) {
                    (Some("MOVED"), Some(to)) => Said::Moved(to),
                    (Some("CLUSTERDOWN" | "NOREPLICAS" | "READONLY" | "LOADING"), _)
                    | (Some("MASTERDOWN" | "TRYAGAIN" | "UNBLOCKED"), _) => Said::Nothing,
                    _ => {
                        self.wrong.push(format!("{reply:?}"));
                        Said::Nothing
                    }
                }
            }
            Err(_) => {
                match turn % 3 {
                    0 => self.unknown += 1,
                    1 => drop(self.perhaps.insert(turn)),
                    _ => self.perhaps_fields += 1,
                }
                Said::Nothing
            }
        }
    }

    /// Compares with what is there.
    fn judge(&self, number: usize, there: &mut Connection) -> Result<()> {
        ensure!(self.wrong.is_empty(), "{:?}", self.wrong);
        let said = there.call(&["GET", &counter(number)])?.text();
        let count: i64 = said.parse().with_context(|| said.clone())?;
        let most = self.acknowledged + self.unknown;
        ensure!(
            (self.acknowledged..=most).contains(&count) && count >= self.counted,
            "{count} counted, {} to {most} expected, {} seen",
            self.acknowledged,
            self.counted
        );
        let said = there.call(&["LRANGE", &list(number), "0", "-1"])?;
        let all: Vec<i64> = said.elements().iter().filter_map(|e| e.text().parse().ok()).collect();
        let elements: BTreeSet<i64> = all.iter().copied().collect();
        let missing: Vec<_> = self.pushed.difference(&elements).take(5).collect();
        let sent =
            |element: &&i64| !self.pushed.contains(*element) && !self.perhaps.contains(*element);
        let strange: Vec<_> = elements.iter().filter(sent).take(5).collect();
        ensure!(
            missing.is_empty() && strange.is_empty() && elements.len() == all.len(),
            "missing {missing:?}, strange {strange:?}, {} of {} twice",
            all.len() - elements.len(),
            all.len()
        );
        // One of which nobody knows may have waited for long.
        let known = all.iter().filter(|element| self.pushed.contains(*element));
        ensure!(known.is_sorted(), "elements are out of order");
        let said = there.call(&["HLEN", &hash(number)])?;
        let Reply::Integer(fields) = said else { anyhow::bail!("{said:?}") };
        ensure!(
            (self.fields..=self.fields + self.perhaps_fields).contains(&fields),
            "{fields}: {self:?}"
        );
        Ok(())
    }
}

fn fill(address: SocketAddr) -> Result<()> {
    let (mut client, value) = (Connection::open(address)?, "v".repeat(VALUE_BYTES));
    for first in (0..KEYS).step_by(500) {
        for number in first..first + 500 {
            client.send(&["SET", &format!("{TAG}k{number}"), &value])?;
        }
        for _ in 0..500 {
            let said = client.receive()?;
            ensure!(said.text() == "OK", "{said:?}");
        }
    }
    Ok(())
}

/// Clients that write, and what was told of those before them.
struct Writers {
    addresses: [SocketAddr; 2],
    now: Vec<Writer>,
    acknowledged: i64,
    moved: usize,
}

impl Writers {
    fn start(addresses: [SocketAddr; 2]) -> Self {
        let mut writers = Self { addresses, now: Vec::new(), acknowledged: 0, moved: 0 };
        writers.begin();
        writers
    }

    fn begin(&mut self) {
        self.now = (0..WRITERS).map(|number| Writer::start(number, self.addresses)).collect();
    }

    /// They end; what they wrote is counted, and deleted at the shard that has it.
    fn end(&mut self, place: usize) -> Result<()> {
        for writer in self.now.drain(..) {
            let written = Arc::clone(&writer.written);
            writer.end()?;
            let written = written.lock();
            self.acknowledged +=
                written.acknowledged + written.fields + i64::try_from(written.pushed.len())?;
            self.moved += written.moved;
        }
        let mut client = Connection::open(self.addresses[place])?;
        for number in 0..WRITERS {
            for key in [counter(number), list(number), hash(number)] {
                let said = client.call(&["DEL", &key])?;
                ensure!(matches!(said, Reply::Integer(_)), "{key}: {said:?}");
            }
        }
        Ok(())
    }

    /// Others begin in their place, with nothing.
    fn relieve(&mut self, place: usize) -> Result<()> {
        self.end(place)?;
        self.begin();
        Ok(())
    }
}

/// One move, and one kill within it.
struct Case<'a> {
    cluster: &'a Cluster,
    rest: &'a Rest,
    step: Step,
    victim: Victim,
    from: usize,
    id: u64,
}

impl Case<'_> {
    /// Waits for the step, and a little longer; false if it was over first.
    fn await_step(&self) -> Result<bool> {
        let (until, mut asked) = (Instant::now() + STEP_PATIENCE, false);
        let path = format!("/moves/{}", self.id);
        loop {
            ensure!(
                Instant::now() < until,
                "{:?} is not reached: {}",
                self.step,
                self.rest.get(&path)?
            );
            let answer = self.rest.get(&path)?;
            let one = &answer["move"];
            if one.is_null() {
                return Ok(self.step == Step::Over);
            }
            let state = one["state"].as_str().unwrap_or_default();
            let is_copying = one["progress"]["records"].as_u64().is_some_and(|count| count > 0);
            let is_whole = one["waits_for"] == "a short stop to be possible";
            let is_frozen = one["waits_for"] == "the taker to have what the giver has";
            if self.step == Step::Frozen && state == "owned" {
                return Ok(false);
            }
            let is_there = match self.step {
                Step::Queued => true,
                Step::Begun => state == "copy",
                Step::Copying => state == "copy" && is_copying,
                Step::Closing => state == "copy" && is_whole || state == "owned",
                Step::Owned => state == "owned",
                Step::Dropping => state == "drop",
                Step::Frozen => state == "copy" && is_frozen,
                Step::Over => false,
            };
            if is_there {
                break;
            }
            if self.step == Step::Dropping && is_copying && !asked {
                asked = true;
                self.rest.ask(reqwest::Method::DELETE, &path, None)?;
            }
        }
        let longest_ms = match self.step {
            // It is close for a second first.
            Step::Closing => 850..1_150,
            Step::Owned => 0..40,
            Step::Copying => 0..100,
            // The next millisecond may be too late.
            Step::Frozen => return Ok(true),
            Step::Queued | Step::Begun | Step::Dropping | Step::Over => 0..10,
        };
        wait::pause(Duration::from_millis(rand::rng().random_range(longest_ms)));
        Ok(true)
    }

    fn kill(&self) -> Result<u32> {
        let to = 1 - self.from;
        let pid = match self.victim {
            Victim::Giver => self.cluster.master(self.from)?.pid,
            Victim::Taker => self.cluster.master(to)?.pid,
            Victim::GiversReplica => self.cluster.replica(self.from)?.pid,
            Victim::TakersReplica => self.cluster.replica(to)?.pid,
            Victim::Controller => self.cluster.state()?.controller.pid,
        };
        let pid = pid.context("find the process")?;
        process::signal(pid, libc::SIGKILL)?;
        Ok(pid)
    }

    /// Waits until another process runs in its place: before, the controller may not have noticed,
    /// and call healthy what was.
    fn await_return(&self, killed: u32) -> Result<()> {
        wait::until("the process to be back", PATIENCE, || {
            let state = self.cluster.state().map_err(|error| format!("{error:#}"))?;
            let nodes = state.nodes.iter().map(|node| node.pid);
            let pids: Vec<Option<u32>> = nodes.chain([state.controller.pid]).collect();
            let are_back = pids.iter().all(|pid| pid.is_some_and(|pid| pid != killed));
            if are_back { Ok(()) } else { Err(format!("{pids:?}, {killed} was killed")) }
        })
    }

    /// Kills, and looks whether all is well; whether the step was met, and who has the slots then.
    fn carry_out(&self, writers: &[Writer]) -> Result<(bool, usize)> {
        let is_met = self.await_step()?;
        let began = Instant::now();
        let killed = self.kill()?;
        self.await_return(killed)?;
        let place = self.await_end()?;
        is_at(self.cluster, place, writers)?;
        eprintln!("{self} (met: {is_met}): now at {place}, well after {:?}", began.elapsed());
        Ok((is_met, place))
    }

    /// Waits until the move has come to an end and everything is well; who has the slots then.
    fn await_end(&self) -> Result<usize> {
        let brief = |error: anyhow::Error| format!("{error:#}");
        wait::until("the move to be over", MOVES_PATIENCE, || {
            let moves = self.rest.get("/moves").map_err(brief)?;
            let is_over = moves["moves"].as_array().is_some_and(Vec::is_empty);
            if is_over { Ok(()) } else { Err(moves["moves"].to_string()) }
        })?;
        let status = wait::until("the cluster to be healthy", MOVES_PATIENCE, || {
            let status = self.rest.get("/status").map_err(brief)?;
            if status["healthy"] == true { Ok(status) } else { Err(status.to_string()) }
        })?;
        let owners = owners(&status)?;
        let place = owner(&owners, SLOT).context("nobody owns the slot")?;
        for slot in 800..=900 {
            ensure!(owner(&owners, slot) == Some(place), "{slot} is not with the others");
        }
        for node in self.cluster.state()?.nodes {
            wait::until("nothing is left where it does not belong", PATIENCE, || {
                let mut peer = self.cluster.peer(&node).map_err(brief)?;
                let said = peer.call(&["CLUSTERX", "MOVE", "SHOW"]).map_err(brief)?.text();
                left_over(&said, &owners, node.shard)
            })
            .with_context(|| format!("{} of shard {}", node.role, node.shard))?;
        }
        Ok(place)
    }
}

impl fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, victim, from, id, .. } = self;
        write!(f, "{victim:?} at {step:?}, move {id} from {from}")
    }
}

/// How often each party was killed at each step: of so many moves, in so many the step was met.
type Met = BTreeMap<(Step, Victim), [usize; 2]>;

fn table(met: &Met) -> String {
    let mut text = String::new();
    for ((step, victim), [met, tried]) in met {
        let note = if *met == 0 { ": NEVER MET" } else { "" };
        text += &format!("  {step:?}, {victim:?} killed: met {met} of {tried}{note}\n");
    }
    text
}

/// What was acknowledged is at this shard, and at no other.
fn is_at(cluster: &Cluster, place: usize, writers: &[Writer]) -> Result<()> {
    let addresses = [cluster.master(place)?.announced()?, cluster.master(1 - place)?.announced()?];
    // One that is in the middle of a command ends it first.
    let written: Vec<_> = writers.iter().map(|writer| writer.written.lock()).collect();
    let [mut there, mut other] = addresses.map(Connection::open);
    let (there, other) = (
        there.as_mut().map_err(|e| anyhow!("{e:#}"))?,
        other.as_mut().map_err(|e| anyhow!("{e:#}"))?,
    );
    for (number, written) in written.iter().enumerate() {
        written.judge(number, there).with_context(|| format!("client {number}"))?;
    }
    for number in (0..KEYS).step_by(97) {
        let said = there.call(&["STRLEN", &format!("{TAG}k{number}")])?;
        ensure!(said == Reply::Integer(VALUE_BYTES as i64), "{number}: {said:?}");
    }
    let said = other.call(&["GET", &counter(0)])?;
    ensure!(said.error_code().as_deref() == Some("MOVED"), "{said:?}");
    let count = |at: usize| -> Result<Reply> {
        let mut peer = cluster.peer(&cluster.master(at)?)?;
        peer.call(&["CLUSTER", "COUNTKEYSINSLOT", &SLOT.to_string()])
    };
    let all = i64::try_from(KEYS + WRITERS * WRITTEN)?;
    let (here, elsewhere) = (count(place)?, count(1 - place)?);
    ensure!(
        (&here, &elsewhere) == (&Reply::Integer(all), &Reply::Integer(0)),
        "{here:?} {elsewhere:?}"
    );
    Ok(())
}

#[test]
fn a_move_whose_party_is_killed_at_any_step_is_whole_or_nothing() -> Result<()> {
    let kills = match std::env::var("HOLDFAST_MOVE_KILLS") {
        Ok(text) => text.parse().context("HOLDFAST_MOVE_KILLS is no number")?,
        Err(_) => KILLS,
    };
    let cluster = Cluster::start(Options { shards: 2, ..Options::default() })?;
    let addresses = [cluster.master(0)?.announced()?, cluster.master(1)?.announced()?];
    let rest = Rest::new(&cluster)?;
    fill(addresses[0])?;
    let mut writers = Writers::start(addresses);
    let (mut from, mut ended, mut met) = (0, [0_usize; 2], Met::new());
    for kill in 0..kills {
        if kill > 0 && kill % KILLS_EACH == 0 {
            writers.relieve(from).context("relieve the clients")?;
        }
        let (step, victim) = (STEPS[kill % STEPS.len()], VICTIMS[kill % VICTIMS.len()]);
        for _ in 0..TRIES {
            let wish = json!({ "slots": SLOTS, "to": (1 - from).to_string() });
            let answer = rest.ask(reqwest::Method::POST, "/moves", Some(&wish))?;
            let id = answer["moves"][0]["id"].as_u64().context("read the number of the move")?;
            let case = Case { cluster: &cluster, rest: &rest, step, victim, from, id };
            let (is_met, place) = case
                .carry_out(&writers.now)
                .with_context(|| cluster.logs())
                .with_context(|| format!("kill {kill}: {case}"))?;
            let counts = met.entry((step, victim)).or_default();
            counts[0] += usize::from(is_met);
            counts[1] += 1;
            ended[usize::from(place != from)] += 1;
            from = place;
            if is_met {
                break;
            }
        }
    }
    writers.end(from)?;
    let Writers { acknowledged, moved, .. } = writers;
    eprintln!(
        "{kills} kills, {} stayed, {} moved; {acknowledged} acknowledged, {moved} MOVED\n{}",
        ended[0],
        ended[1],
        table(&met)
    );
    Ok(())
}
