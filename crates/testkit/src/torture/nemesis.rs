//! Carries a schedule of faults out, looks after processes that end by themselves, and heals
//! everything at the end.

mod disks;
mod shared;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use self::shared::Quota;
use super::actions::{Action, Fault, Target};
use super::host::Role;
use super::leaders::Leads;
use super::limits::{self, Crowd};
use super::movers;
use super::observer::Reigns;
use super::rest;
use super::setup::Balancer;
use super::site::Site;
use super::timeline::Timeline;
use crate::disk::{self, Frozen};
use crate::process;
use crate::wait;

const TICK: Duration = Duration::from_millis(5);
/// A process that ended by itself is started again after that, as a supervisor would.
const RESTART_MS: u64 = 300;
/// So long after its disk was freed the end of a process may still be its doing: on a busy machine
/// one that has given up gets to its end late.
const FULL_UNTIL_MS: u64 = 2_500;
/// What a node ends with when its disk is full.
const DISK_EXIT_CODE: i32 = 74;
/// So long after it may open files again the end of a process may still be the doing of the limit.
const STARVED_UNTIL_MS: u64 = 2_500;
const REST_PATIENCE: Duration = Duration::from_secs(4);

/// Something to be undone: what a fault did, by host.
#[derive(Debug, Clone)]
enum Undo {
    Start(usize),
    GoOn(usize),
    LinkUp(usize),
    Join(Vec<(usize, usize)>, bool),
    Free(usize),
    Thaw(usize),
    Disperse(usize),
    Give(usize, u32),
    Room,
}

/// The one who does it.
#[derive(Debug)]
pub struct Nemesis<'a> {
    site: &'a mut Site,
    reigns: Reigns,
    leads: Leads,
    timeline: &'a Timeline,
    /// When, ms since the start of the timeline.
    undo: Vec<(u64, Undo)>,
    /// By host: when its disk had space again, ms.
    freed: HashMap<usize, u64>,
    /// Hosts whose disk hangs.
    frozen: HashMap<usize, Frozen>,
    /// Hosts whose places are held.
    crowds: HashMap<usize, Crowd>,
    /// Hosts that were told to have few places, and not yet that they have many again.
    cramped: BTreeSet<usize>,
    /// By process: until when it may end because it had no descriptors, ms.
    starved: HashMap<usize, u64>,
    /// Etcd is full, or was.
    quota: Option<Quota>,
    /// Processes that ended without having been killed.
    pub surprises: Vec<String>,
}

impl<'a> Nemesis<'a> {
    /// For a site whose record, and whose leaders, are watched.
    pub fn new(
        site: &'a mut Site,
        (reigns, leads): (Reigns, Leads),
        timeline: &'a Timeline,
    ) -> Self {
        Self {
            site,
            reigns,
            leads,
            timeline,
            undo: Vec::new(),
            freed: HashMap::new(),
            frozen: HashMap::new(),
            crowds: HashMap::new(),
            cramped: BTreeSet::new(),
            starved: HashMap::new(),
            quota: None,
            surprises: Vec::new(),
        }
    }

    /// Carries out all faults and what ends them; takes `least_ms` at least.
    pub fn run(
        &mut self,
        faults: &[Fault],
        least_ms: u64,
        is_over: impl Fn() -> bool,
    ) -> Result<()> {
        let start = self.now_ms();
        let mut next = faults.iter().peekable();
        let mut now = start;
        while !is_over()
            && (next.peek().is_some() || !self.undo.is_empty() || now < start + least_ms)
        {
            now = self.now_ms();
            if let Some(fault) = next.next_if(|fault| start + fault.at_ms <= now) {
                self.begin(fault).with_context(|| fault.to_string())?;
            }
            self.undo_due(now)?;
            self.look_after()?;
            wait::pause(TICK);
        }
        Ok(())
    }

    /// The cluster, as it is now.
    pub fn site(&self) -> &Site {
        self.site
    }

    /// Everything as it was: all processes run, all hosts hear each other.
    pub fn heal(&mut self) -> Result<()> {
        self.undo_due(u64::MAX)?;
        self.site.network.join_all()?;
        for index in 0..self.site.hosts.len() {
            self.site.network.set_link(self.site.hosts[index].place, true)?;
            disk::free(&self.site.hosts[index].dir)?;
            self.site.hosts[index].go_on()?;
            self.site.hosts[index].start(&self.site.network)?;
        }
        self.await_room();
        self.timeline.note("healed");
        Ok(())
    }

    /// Waits for a healthy cluster, and looks after its processes meanwhile.
    pub fn await_health(&mut self, patience: Duration) -> Result<()> {
        wait::until("the cluster is healthy", patience, || {
            let looked = self.look_after().and_then(|()| self.undo_due(self.now_ms()));
            looked.map_err(|error| format!("{error:#}"))?;
            for index in self.cramped.clone() {
                if self.set_places(index, "10000") {
                    self.cramped.remove(&index);
                }
            }
            self.site.health()
        })
    }

    /// Waits until all moves are over, and looks after the processes meanwhile.
    pub fn await_moves(&mut self, patience: Duration) -> Result<movers::Outcome> {
        wait::until("all moves are over", patience, || {
            let looked = self.look_after().and_then(|()| self.undo_due(self.now_ms()));
            let ended = looked.and_then(|()| movers::end(self.site.control()));
            ended.map_err(|error| format!("{error:#}"))
        })
    }

    /// Starts what ended by itself, and remembers that it did.
    pub fn look_after(&mut self) -> Result<()> {
        let now = self.now_ms();
        for index in 0..self.site.hosts.len() {
            let host = &mut self.site.hosts[index];
            let Some(status) = host.ended()? else { continue };
            // A full disk is a good reason to give up, in the way that says so, and the end is
            // noticed a little later; nothing else is.
            let was_full = disk::filling(&host.dir).exists()
                || self.freed.get(&index).is_some_and(|at| at + FULL_UNTIL_MS > now);
            let is_full = was_full && status.code() == Some(DISK_EXIT_CODE);
            // So is a want of descriptors.
            let was_starved = self.starved.get(&index).is_some_and(|until| *until > now);
            let is_starved = was_starved && status.code() == Some(limits::EXIT_CODE);
            let text = format!("{} ended by itself: {status}", host.name);
            self.timeline.note(match (is_full, is_starved) {
                (true, _) => format!("{text} (its disk is full)"),
                (_, true) => format!("{text} (it had no descriptors)"),
                _ => text.clone(),
            });
            if !is_full && !is_starved {
                self.surprises.push(text);
            }
            self.undo.push((self.now_ms() + RESTART_MS, Undo::Start(index)));
        }
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        self.timeline.clock().now() / 1_000_000
    }

    fn begin(&mut self, fault: &Fault) -> Result<()> {
        let end = self.now_ms() + fault.for_ms;
        self.timeline.note(format!("fault: {}, for {} ms", fault.action, fault.for_ms));
        match &fault.action {
            Action::Kill(target) => {
                let Some(index) = self.host_of(*target) else { return Ok(()) };
                if self.frozen.contains_key(&index) {
                    // Not even SIGKILL ends a process that waits for its disk.
                    self.say("not killed, for its disk hangs:", index);
                    return Ok(());
                }
                self.say("kill", index);
                self.site.hosts[index].kill()?;
                self.undo.push((end, Undo::Start(index)));
            }
            Action::Stop(target) => {
                let Some(index) = self.host_of(*target) else { return Ok(()) };
                self.say("stop", index);
                self.site.hosts[index].stop()?;
                self.undo.push((end, Undo::GoOn(index)));
            }
            Action::End(target) => self.end(*target, end)?,
            Action::Freeze => self.freeze(end)?,
            Action::Quota => self.use_up_quota(end),
            Action::LinkDown(target) => {
                let Some(index) = self.host_of(*target) else { return Ok(()) };
                self.say("interface down:", index);
                self.site.network.set_link(self.site.hosts[index].place, false)?;
                self.undo.push((end, Undo::LinkUp(index)));
            }
            Action::Cut { from, to, both, blackhole } => {
                self.cut(from, to, *both, *blackhole, end)?;
            }
            Action::Reload(number) => self.reload(*number)?,
            Action::Fill(target) => self.fill(*target, end)?,
            Action::Hang(target) => self.hang(*target, end)?,
            Action::Crowd(target) => self.crowd(*target, end),
            Action::Descriptors(target) => self.starve(*target, end)?,
            Action::Lose(target) => self.lose(*target, end)?,
            Action::Switchover(shard) => self.switchover(*shard),
        }
        Ok(())
    }

    fn crowd(&mut self, target: Target, end: u64) {
        let Some(index) = self.host_of(target) else { return };
        self.set_places(index, "1");
        self.cramped.insert(index);
        let Some((space, address)) = self.site.door(index) else { return };
        self.crowds.insert(index, Crowd::around(&space, address));
        self.undo.push((end, Undo::Disperse(index)));
    }

    /// One that hangs or is stopped takes no order, and is not waited for.
    fn set_places(&self, index: usize, count: &str) -> bool {
        if !self.site.hosts[index].goes_on() || self.frozen.contains_key(&index) {
            return false;
        }
        let said = self.site.ask(index, &["CONFIG", "SET", "maxclients", count]);
        self.timeline.note(format!("maxclients {count}: {said:?}"));
        said.is_ok_and(|said| said == "OK")
    }

    fn starve(&mut self, target: Target, end: u64) -> Result<()> {
        let Some(index) = self.host_of(target) else { return Ok(()) };
        let Some(pid) = self.site.hosts[index].pid() else { return Ok(()) };
        self.say("no descriptors for", index);
        limits::take_descriptors(pid)?;
        self.starved.insert(index, end + STARVED_UNTIL_MS);
        self.undo.push((end, Undo::Give(index, pid)));
        Ok(())
    }

    fn cut(
        &mut self,
        from: &[Target],
        to: &[Target],
        both: bool,
        blackhole: bool,
        end: u64,
    ) -> Result<()> {
        let places = |targets: &[Target]| -> Vec<usize> {
            let hosts = targets.iter().filter_map(|target| self.host_of(*target));
            let mut places: Vec<usize> = hosts.map(|index| self.site.hosts[index].place).collect();
            places.sort_unstable();
            places.dedup();
            places
        };
        let (from, to) = (places(from), places(to));
        let mut pairs = Vec::new();
        for one in &from {
            for other in &to {
                if one != other {
                    pairs.push((*one, *other));
                    if both {
                        pairs.push((*other, *one));
                    }
                }
            }
        }
        for (one, other) in &pairs {
            self.site.network.cut(*one, *other, blackhole)?;
        }
        self.undo.push((end, Undo::Join(pairs, blackhole)));
        Ok(())
    }

    /// HAProxy keeps the old worker beside the new one; the built-in balancer is told to end and
    /// started again.
    fn reload(&mut self, number: usize) -> Result<()> {
        let Some(index) = self.host_of(Target::Balancer(number)) else { return Ok(()) };
        let is_haproxy = self.site.balancer == Balancer::Haproxy;
        // One that is just starting would end by the signal instead of reloading.
        let is_ready = |pid| process::catches(pid, libc::SIGUSR2);
        if is_haproxy && !self.site.hosts[index].pid().is_some_and(is_ready) {
            return Ok(());
        }
        self.say("reload", index);
        match self.site.balancer {
            Balancer::Haproxy => self.site.hosts[index].signal(libc::SIGUSR2),
            Balancer::Builtin => {
                self.site.hosts[index].kill()?;
                self.site.hosts[index].start(&self.site.network)
            }
        }
    }

    /// Whether it succeeds is not the point: it may meet any other fault.
    fn switchover(&mut self, shard: usize) {
        let (control, timeline) = (self.site.control().clone(), self.timeline.clone());
        // On a thread of its own: it may take seconds, and other faults are due.
        std::thread::spawn(move || {
            let path = format!("{}/shards/{shard}/failover", rest::CLUSTER);
            let done = control.once(REST_PATIENCE, |client| client.post(&path, &json!({})));
            timeline.note(match done {
                Ok(answer) => format!("switchover of shard {shard}: {answer}"),
                Err(error) => format!("switchover of shard {shard} failed: {error:#}"),
            });
        });
    }

    fn undo_due(&mut self, now: u64) -> Result<()> {
        let (due, later) = self.undo.drain(..).partition(|(at, _)| *at <= now);
        self.undo = later;
        let due: Vec<(u64, Undo)> = due;
        for (_, undo) in due {
            match undo {
                Undo::Start(index) => {
                    self.say("start", index);
                    self.site.hosts[index].start(&self.site.network)?;
                }
                Undo::GoOn(index) => {
                    self.say("continue", index);
                    self.site.hosts[index].go_on()?;
                }
                Undo::LinkUp(index) => {
                    self.say("interface up:", index);
                    self.site.network.set_link(self.site.hosts[index].place, true)?;
                }
                Undo::Join(pairs, blackhole) => {
                    self.timeline.note(format!("join {} ways", pairs.len()));
                    for (one, other) in pairs {
                        self.site.network.join(one, other, blackhole)?;
                    }
                }
                Undo::Thaw(index) => {
                    self.say("thaw the disk of", index);
                    self.frozen.remove(&index).map_or(Ok(()), Frozen::thaw)?;
                }
                Undo::Disperse(index) => {
                    self.say("the crowd leaves", index);
                    self.crowds.remove(&index);
                    if self.set_places(index, "10000") {
                        self.cramped.remove(&index);
                    }
                }
                Undo::Give(index, pid) => {
                    self.say("descriptors for", index);
                    limits::give_descriptors(pid)?;
                }
                Undo::Room => self.wants_room(),
                Undo::Free(index) => {
                    self.say("free the disk of", index);
                    // It may have been freed by another fault's end.
                    disk::free(&self.site.hosts[index].dir)?;
                    self.freed.insert(index, self.now_ms());
                }
            }
        }
        Ok(())
    }

    fn say(&self, what: &str, index: usize) {
        self.timeline.note(format!("{what} {}", self.site.hosts[index].name));
    }

    /// The host that plays a role now, as far as the controllers told.
    fn host_of(&self, target: Target) -> Option<usize> {
        let by_role = |role: Role| self.site.hosts.iter().position(|host| host.role == role);
        match target {
            Target::Controller => self.leading(),
            Target::Standby(number) => self.standing_by(number),
            Target::Member(number) => by_role(Role::Member(number)),
            Target::Raft => by_role(Role::Member(self.leads.lock().raft.unwrap_or(0))),
            Target::Balancer(number) => by_role(Role::Balancer(number)),
            Target::Master(_) | Target::Replica(..) => self.node_of(target),
        }
    }

    fn node_of(&self, target: Target) -> Option<usize> {
        let reigns = self.reigns.lock();
        let last = reigns.last()?;
        let id = match target {
            Target::Master(shard) => last.masters.get(shard)?,
            Target::Replica(shard, number) => last.replicas.get(shard)?.get(number)?,
            _ => return None,
        };
        self.site.member(id).map(|member| member.host)
    }
}
