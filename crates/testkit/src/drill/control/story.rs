//! The story of each row: settle, write, hurt, wait until control is back or long enough, put
//! everything back, wait, look.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::row::{Control, Row};
use super::witness::{self, Pulse, Successor};
use crate::drill::args::Args;
use crate::drill::clients::{self, Clients};
use crate::drill::outcome::Outcome;
use crate::drill::report::LEASE_MS;
use crate::drill::story::Say;
use crate::torture::args::Options;
use crate::torture::faults::Style;
use crate::torture::host::{Host, Role};
use crate::torture::http::{Caller, apart};
use crate::torture::schedule::Plan;
use crate::torture::setup::{Mode, Shape, Store};
use crate::torture::site::{self, Site};
use crate::torture::{network, rest};
use crate::wait;

/// Controllers on three members of etcd.
pub const CONTROLLERS: usize = 3;
/// How long writes flow before a fault and after everything is healthy: several heartbeats.
const CALM: Duration = Duration::from_millis(800);
/// How long a fault lasts, and longer if nobody leads before.
const LASTS: Duration = Duration::from_secs(4);
/// It is over after that, whoever leads.
const AT_MOST: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(60);
const ASK_PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(5);

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What clients saw.
    pub outcome: Outcome,
    /// What [`Row::control`] says; `None`: it did not come to pass within 20 s of a fault, or a
    /// minute after the start of an etcd that was away.
    pub control: Option<Duration>,
}

impl Found {
    /// Nothing happened that may never happen, however long it took.
    pub fn is_good(&self) -> bool {
        self.outcome.is_good()
    }
}

/// All rows; one site for all of them.
///
/// # Errors
/// The site does not start or does not heal, or a process of it ended by itself.
pub fn tell(
    args: &Args,
    dir: &Path,
    stop: &Arc<AtomicBool>,
    say: Say<'_>,
) -> Result<Vec<(Row, Vec<Found>)>> {
    network::sweep(site::STEM).context("remove what a killed harness left")?;
    std::fs::create_dir_all(dir).context("create the folder")?;
    say(
        "starting a shard with a replica behind 2 load balancers, led by 3 controllers on 3 members of etcd",
    );
    let options = Options {
        balancer: Some(args.balancer),
        shape: Some(Shape { shards: 1, nodes: 2 }),
        style: Some(Style::Alone),
        faults: Vec::new(),
        lease_ms: Some(LEASE_MS),
        controllers: CONTROLLERS,
        store: Store::Etcd,
        ..Options::default()
    };
    let plan = Plan { memtable_mb: 64, ..Plan::new(0, &options) };
    let site = Site::start(dir, &plan, Mode::InSync)?;
    let mut drill = Drill { site, away: args.away, stop: Arc::clone(stop), say };
    let mut rows = Vec::new();
    for row in &args.control {
        let mut runs = Vec::new();
        for run in 1..=args.runs {
            (drill.say)(&format!("-- {}: run {run} of {}", row.name(args.away), args.runs));
            runs.push(drill.row(*row, run).with_context(|| format!("{}, run {run}", row.word()))?);
            ensure!(!stop.load(Ordering::Relaxed), "interrupted");
        }
        rows.push((*row, runs));
    }
    Ok(rows)
}

/// The controller and the member of etcd that lead, at a moment.
#[derive(Debug, Clone, Copy)]
struct Leads {
    /// Position of the host of the controller that leads.
    controller: usize,
    /// Of its claim.
    term: u64,
    /// Position of the host of the member that leads etcd.
    member: usize,
}

/// Those that look on.
enum Watch {
    Successor(Successor),
    Pulses(Vec<Pulse>),
}

struct Drill<'a> {
    site: Site,
    away: Duration,
    stop: Arc<AtomicBool>,
    say: Say<'a>,
}

impl Drill<'_> {
    fn row(&mut self, row: Row, run: u32) -> Result<Found> {
        self.settle()?;
        let old = clients::master(&self.site)?;
        let master = self.site.member(&old).context("find the master's host")?.host;
        let clients = Clients::start(&self.site, &format!("{}:{run}", row.word()))?;
        let pulses = match row.control() {
            Control::Leads => Vec::new(),
            Control::Silence | Control::Back => Pulse::of_all(&self.site),
        };
        wait::pause(CALM);

        let leads = self.leads()?;
        let hurt = self.hurt(row, leads, master);
        let watch = match row.control() {
            Control::Leads => Watch::Successor(self.successor(leads)),
            Control::Silence | Control::Back => Watch::Pulses(pulses),
        };
        let began = Instant::now();
        let done = self.begin(row, &hurt).map(|()| {
            self.tell_hurt(&hurt);
            self.last(row, &old, (&clients, &watch), began);
            Instant::now()
        });
        // Whatever happened: everything runs again.
        let undone = self.undo(row, &hurt);
        let ended = done?;
        undone?;
        if let (Watch::Pulses(pulses), Control::Back) = (&watch, row.control()) {
            self.await_back(pulses, ended);
        }
        self.settle()?;
        (self.say)("everybody is back and in step");
        wait::pause(CALM);

        let control = measured(row, watch, began, ended)?;
        let outcome = Outcome { may_not_move: !row.hurts_the_master(), ..clients.finish(&old)? };
        self.tell_found(row, control, &outcome);
        Ok(Found { outcome, control })
    }

    /// Positions of the hosts that are hurt. The master is the first of them: what clients wait for
    /// begins with its loss.
    fn hurt(&self, row: Row, leads: Leads, master: usize) -> Vec<usize> {
        let members = self.site.hosts.iter().enumerate();
        let members = members.filter(|(_, host)| matches!(host.role, Role::Member(_)));
        match row {
            Row::LeaderAndMaster => vec![master, leads.controller],
            Row::LeaderKill | Row::LeaderStop => vec![leads.controller],
            Row::LeaderHost => vec![master, leads.controller, leads.member],
            Row::EtcdKill => vec![leads.member],
            Row::EtcdAway => members.map(|(index, _)| index).collect(),
        }
    }

    fn begin(&mut self, row: Row, hurt: &[usize]) -> Result<()> {
        match row {
            Row::LeaderStop => self.each(hurt, |host, _| host.stop()),
            Row::LeaderHost => self.each(hurt, |host, net| net.set_link(host.place, false)),
            Row::LeaderAndMaster | Row::LeaderKill | Row::EtcdKill | Row::EtcdAway => {
                // All at one moment: to wait for the end of one takes its time.
                self.each(hurt, |host, _| host.signal(libc::SIGKILL))?;
                self.each(hurt, |host, _| host.kill())
            }
        }
    }

    /// Takes a fault back, also one that was half begun.
    fn undo(&mut self, row: Row, hurt: &[usize]) -> Result<()> {
        self.each(hurt, |host, net| match row {
            Row::LeaderStop => host.go_on(),
            Row::LeaderHost => net.set_link(host.place, true),
            Row::LeaderAndMaster | Row::LeaderKill | Row::EtcdKill | Row::EtcdAway => {
                host.start(net)
            }
        })
    }

    fn each(
        &mut self,
        hurt: &[usize],
        mut act: impl FnMut(&mut Host, &network::Network) -> Result<()>,
    ) -> Result<()> {
        let Site { hosts, network, .. } = &mut self.site;
        hurt.iter().try_for_each(|index| {
            let host = hosts.get_mut(*index).context("find a host")?;
            act(host, network).with_context(|| host.name.clone())
        })
    }

    /// Until a fault has lasted long enough.
    fn last(&mut self, row: Row, old: &str, (clients, watch): (&Clients, &Watch), began: Instant) {
        if row == Row::EtcdAway {
            // Nobody who has interrupted it waits for ten minutes.
            while began.elapsed() < self.away && !self.stop.load(Ordering::Relaxed) {
                wait::pause(POLL);
            }
            return;
        }
        let not_by = row.hurts_the_master().then_some(old);
        let leads = || match watch {
            Watch::Successor(successor) => successor.first().is_some(),
            Watch::Pulses(_) => true,
        };
        while began.elapsed() < AT_MOST && !(leads() && clients.again(began, not_by).is_some()) {
            wait::pause(POLL);
        }
        if let Watch::Successor(successor) = watch {
            match successor.first() {
                Some((at, name)) => {
                    let after = at.saturating_duration_since(began).as_secs_f64();
                    (self.say)(&format!("{name} leads after {after:.3} s"));
                }
                None => (self.say)("nobody leads while it lasts"),
            }
        }
        wait::pause(LASTS.saturating_sub(began.elapsed()));
    }

    fn await_back(&mut self, pulses: &[Pulse], since: Instant) {
        let is_back = || pulses.iter().all(|pulse| pulse.after(since).is_some());
        while since.elapsed() < PATIENCE && !is_back() {
            wait::pause(POLL);
        }
        (self.say)(if is_back() { "every node is led again" } else { "a node hears nobody" });
    }

    fn successor(&self, leads: Leads) -> Successor {
        let leader = self.site.hosts.get(leads.controller).map(|host| host.name.as_str());
        let doors = self.site.control().doors().iter();
        let others = doors.filter(|door| Some(door.name.as_str()) != leader);
        Successor::of(others.cloned(), leads.term)
    }

    /// Those that lead now, as etcd says.
    fn leads(&self) -> Result<Leads> {
        wait::until("somebody leads", PATIENCE, || self.ask_leads())
    }

    fn ask_leads(&self) -> Result<Leads> {
        let etcd = self.site.control().etcd().context("find etcd")?;
        let (claim, ids, raft) = apart(|| {
            let caller = Caller::new(ASK_PATIENCE)?;
            Ok((etcd.claim(&caller)?, etcd.ids(&caller)?, etcd.raft(&caller)?))
        })?;
        let claim = claim.filter(|claim| !claim.claim.is_empty()).context("nobody leads")?;
        let number = ids.iter().position(|id| *id == raft).context("no member leads etcd")?;
        let find = |is_meant: &dyn Fn(&Host) -> bool| self.site.hosts.iter().position(is_meant);
        let url = |host: &Host| format!("http://{}:{}", host.address, rest::PORT);
        let is_controller =
            |host: &Host| matches!(host.role, Role::Controller(_)) && url(host) == claim.address;
        let controller = find(&is_controller);
        let member = find(&|host: &Host| host.role == Role::Member(number));
        Ok(Leads {
            controller: controller.with_context(|| format!("find {}", claim.address))?,
            term: claim.term,
            member: member.context("find the member that leads etcd")?,
        })
    }

    /// Until everything is healthy. Nothing may have ended by itself: no supervisor hides it here.
    fn settle(&mut self) -> Result<()> {
        let healthy = wait::until("the cluster is healthy", PATIENCE, || self.site.health());
        for host in &mut self.site.hosts {
            if let Some(status) = host.ended()? {
                bail!("{} ended by itself: {status}", host.name);
            }
        }
        healthy
    }

    fn tell_hurt(&mut self, hurt: &[usize]) {
        let hosts = hurt.iter().filter_map(|index| self.site.hosts.get(*index));
        let names: Vec<&str> = hosts.map(|host| host.name.as_str()).collect();
        let text = format!("hurt: {}", names.join(", "));
        (self.say)(&text);
    }

    fn tell_found(&mut self, row: Row, control: Option<Duration>, outcome: &Outcome) {
        let control =
            control.map_or("never".to_owned(), |time| format!("{:.3} s", time.as_secs_f64()));
        (self.say)(&format!("{}: {control}", row.control().text()));
        (self.say)(&format!(
            "longest time without a write {:.3} s; {} writes acknowledged, {} of them missing",
            outcome.outage.as_secs_f64(),
            outcome.acknowledged,
            outcome.missing
        ));
    }
}

/// What was seen of the controllers, of a fault that began and ended then.
fn measured(row: Row, watch: Watch, began: Instant, ended: Instant) -> Result<Option<Duration>> {
    let pulses = match watch {
        Watch::Successor(successor) => {
            let first = successor.finish()?;
            return Ok(first.map(|(at, _)| at.saturating_duration_since(began)));
        }
        Watch::Pulses(pulses) => pulses,
    };
    let taken = pulses.into_iter().map(Pulse::finish).collect::<Result<Vec<_>>>()?;
    let now = Instant::now();
    Ok(match row.control() {
        Control::Back => witness::back(&taken, ended),
        Control::Leads | Control::Silence => {
            taken.iter().map(|taken| witness::silence(taken, began, now)).max()
        }
    })
}
