//! The story of each row: settle, write, cut, wait until clients write again or long enough, join,
//! wait, look.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::args::{Args, Row};
use super::clients::{self, Clients};
use super::outcome::Outcome;
use super::report;
use crate::torture::args::Options;
use crate::torture::faults::Style;
use crate::torture::host::Role;
use crate::torture::network;
use crate::torture::schedule::Plan;
use crate::torture::setup::{Mode, Shape};
use crate::torture::site::{self, Site};
use crate::wait;

/// How long writes flow before the fault and after the return.
const CALM: Duration = Duration::from_millis(500);
/// How long a fault lasts, and longer if no client writes again before.
const CUT_FOR: Duration = Duration::from_secs(4);
/// A partition that nobody gets around is over after that.
const CUT_AT_MOST: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// What is told as it happens.
pub type Say<'a> = &'a mut dyn FnMut(&str);

/// All rows; one cluster for all of them.
pub fn tell(
    args: &Args,
    dir: &Path,
    stop: &Arc<AtomicBool>,
    say: Say<'_>,
) -> Result<Vec<(Row, Vec<Outcome>)>> {
    network::sweep(site::STEM).context("remove what a killed harness left")?;
    std::fs::create_dir_all(dir).context("create the folder")?;
    say("starting a shard with a replica behind 2 load balancers, a namespace per host");
    let options = Options {
        balancer: Some(args.balancer),
        shape: Some(Shape { shards: 1, nodes: 2 }),
        style: Some(Style::Alone),
        faults: Vec::new(),
        lease_ms: Some(report::LEASE_MS),
        ..Options::default()
    };
    let plan = Plan { memtable_mb: 64, ..Plan::new(0, &options) };
    let mut drill = Drill { site: Site::start(dir, &plan, Mode::InSync)?, say };
    let mut rows = Vec::new();
    for row in &args.rows {
        let mut outcomes = Vec::new();
        for run in 1..=args.runs {
            (drill.say)(&format!("-- {}: run {run} of {}", row.name(), args.runs));
            let outcome = drill.row(*row, run)?;
            outcomes.push(Outcome { may_not_move: row.leaves_the_master(), ..outcome });
            ensure!(!stop.load(Ordering::Relaxed), "interrupted");
        }
        rows.push((*row, outcomes));
    }
    Ok(rows)
}

struct Drill<'a> {
    site: Site,
    say: Say<'a>,
}

impl Drill<'_> {
    fn row(&mut self, row: Row, run: u32) -> Result<Outcome> {
        self.settle()?;
        let old = clients::master(&self.site)?;
        let clients = Clients::start(&self.site, &format!("{}:{run}", row.word()))?;
        wait::pause(CALM);

        let cut_at = Instant::now();
        let done = self.cut_and_join(row, &old, &clients, cut_at);
        // Whatever happened: the network is whole again.
        self.site.network.join_all()?;
        done?;
        self.settle()?;
        (self.say)("everybody is back and in step");
        wait::pause(CALM);

        let outcome = clients.finish(&old)?;
        (self.say)(&format!(
            "longest time without a write {:.3} s; {} writes acknowledged, {} of them missing",
            outcome.outage.as_secs_f64(),
            outcome.acknowledged,
            outcome.missing
        ));
        Ok(outcome)
    }

    fn cut_and_join(
        &mut self,
        row: Row,
        old: &str,
        clients: &Clients,
        cut_at: Instant,
    ) -> Result<()> {
        let host = self.site.member(old).context("find the master's host")?.host;
        let place = self.site.hosts.get(host).context("find the master's host")?.place;
        let name = self.site.name_of(old);
        match row {
            Row::LinkDown => {
                self.site.network.set_link(place, false)?;
                (self.say)(&format!("interface of {name}, the master, is down"));
            }
            Row::PartitionBalancer | Row::PartitionController => {
                for other in self.others(row) {
                    self.site.network.cut(other, place, false)?;
                    self.site.network.cut(place, other, false)?;
                }
                (self.say)(&format!("{name}, the master: {}", row.name()));
            }
        }
        self.await_writes(row, old, clients, cut_at);
        wait::pause(CUT_FOR.saturating_sub(cut_at.elapsed()));
        if row == Row::LinkDown {
            self.site.network.set_link(place, true)?;
        }
        self.site.network.join_all()?;
        (self.say)("all hosts hear each other again");
        Ok(())
    }

    /// Places of the other side of a partition.
    fn others(&self, row: Row) -> Vec<usize> {
        let is_other = |role: Role| match row {
            Row::PartitionController => matches!(role, Role::Controller(_)),
            _ => matches!(role, Role::Balancer(_)),
        };
        let hosts = self.site.hosts.iter().filter(|host| is_other(host.role));
        hosts.map(|host| host.place).collect()
    }

    /// Until every writer wrote again, through another node where that is what is waited for, or it
    /// took too long.
    fn await_writes(&mut self, row: Row, old: &str, clients: &Clients, cut_at: Instant) {
        let not_by = (!row.leaves_the_master()).then_some(old);
        while cut_at.elapsed() < CUT_AT_MOST {
            let Some(write) = clients.again(cut_at, not_by) else {
                wait::pause(POLL);
                continue;
            };
            let after = write.at.duration_since(cut_at).as_secs_f64();
            let how = if write.by == old { "master as before" } else { "the replica" };
            let by = self.site.name_of(&write.by);
            (self.say)(&format!("every client wrote by {after:.2} s, served by {by} ({how})"));
            return;
        }
        (self.say)("clients do not write while it lasts");
    }

    /// Until everything is healthy.
    fn settle(&self) -> Result<()> {
        wait::until("the cluster is healthy", PATIENCE, || self.site.health())
    }
}
