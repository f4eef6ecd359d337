//! The story of one large move: a shard has much in some of its slots, clients write, those slots
//! go to the other shard.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::client::{Client, Map, Shared};
use super::course::{self, Course, Memory, NODES};
use super::found::{Found, Phase};
use super::load::{Told, missing, under_load};
use super::site::Site;
use super::story::Say;
use crate::bench::usage;
use crate::cluster::{Cluster, Options};
use crate::wait;

/// What moves: half of the slots of the first of two shards. The other half, and the second shard's
/// slots, are where clients of both sides feel it.
const SLOTS: &str = "0-4095";
const LAST: u16 = 4_095;
/// Index of the shard that takes them.
const TAKER: &str = "1";
/// How long clients write before it, and after it.
const CALM: Duration = Duration::from_secs(20);
/// Between two looks at memory.
const SAMPLE: Duration = Duration::from_secs(1);
/// Copies of what moves that lie on the disk at a time, about: two at either side, and logs.
const COPIES: u64 = 5;
/// What is compacted after the shard was filled is not to be taken for what clients feel always.
const SETTLED: Duration = Duration::from_secs(300);
/// Of a processor, of all nodes together: they are at rest.
const REST_SHARE: f64 = 0.2;

/// How it is told.
#[derive(Debug, Clone, Copy)]
pub struct One {
    /// `builtin` or `haproxy`.
    pub balancer: &'static str,
    /// Writes per second, of all clients together.
    pub rate: u32,
    /// What moves, MB.
    pub mb: u32,
    /// What 99 of 100 commands may take before the copy gives way, ms; 0: as nodes find it.
    pub p99_ms: u32,
}

impl One {
    /// One cluster, one move.
    ///
    /// # Errors
    /// When it could not be told to its end.
    pub fn tell(&self, stop: &AtomicBool, say: Say<'_>) -> Result<Course> {
        let needed_mb = u64::from(self.mb) * COPIES;
        say(&format!(
            "starting 2 shards with a replica each; {needed_mb} MB of {} are used",
            std::env::temp_dir().display()
        ));
        let options = Options { shards: 2, balancer: self.balancer, ..Options::default() };
        let cluster = Cluster::start(options)?;
        let told = self.run(&cluster, stop, say);
        told.with_context(|| cluster.logs())
    }

    fn run(&self, cluster: &Cluster, stop: &AtomicBool, say: Say<'_>) -> Result<Course> {
        let site = Site::new(cluster)?;
        if self.p99_ms > 0 {
            for node in cluster.state()?.nodes {
                let words = ["CONFIG", "SET", "move-p99-ms", &self.p99_ms.to_string()];
                let reply = cluster.peer(&node)?.call(&words)?;
                ensure!(reply.text() == "OK", "{words:?}: {}", reply.text());
            }
        }
        let ballast = site.fill(self.mb, |slot| slot <= LAST)?;
        say(&format!("{ballast} keys are there; nodes come to rest"));
        let pids = pids(cluster)?;
        if settle(&pids).is_err() {
            say("nodes are still busy, as they will be for a while");
        }
        ensure!(!stop.load(Ordering::Relaxed), "interrupted");
        let keys = site.keys(1)?;
        let (map, known) = (Map::ask(site.at)?, site.newest_move()?);
        let told = under_load(&keys, &map, self.rate, |shared| {
            let done = AtomicBool::new(false);
            std::thread::scope(|threads| -> Result<_> {
                let sampler = threads.spawn(|| sample(&pids, shared, &done));
                let moved = moved(&site, shared, say);
                done.store(true, Ordering::SeqCst);
                let memory = sampler.join().map_err(|_| anyhow!("a look at memory panicked"))?;
                Ok((moved?, memory?))
            })
        })?;
        let Told { logs, written, took, of: ((moved, parts), memory) } = told;
        let slots: Vec<u16> = keys.iter().map(|key| key.slot).collect();
        let found = Found::of(&logs, &slots, &site.moved_since(known)?, took);
        let missing = missing(Client::new(map), &keys, &written)?;
        say("looking for what has moved");
        ensure!(site.ballast()? == ballast, "keys that nobody wrote to meanwhile are gone");
        Ok(Course {
            balancer: self.balancer,
            mb: self.mb,
            rate: self.rate,
            p99_ms: self.p99_ms,
            parts,
            moved,
            seconds: course::seconds(&logs, took),
            phases: course::phases(&logs, moved, took),
            memory,
            found: Found {
                missing,
                moved_for: Duration::from_secs_f64(moved.1 - moved.0),
                ..found
            },
        })
    }
}

/// The move itself, with calm around it: when it began and when it was over, s, and in how many
/// parts.
fn moved(site: &Site<'_>, shared: &Shared, say: Say<'_>) -> Result<((f64, f64), usize)> {
    wait::pause(CALM);
    say(&format!("slots {SLOTS} move"));
    let began = shared.since_begin().as_secs_f64();
    shared.set(Phase::Moving);
    let parts = site.change(&["move", "slots", SLOTS, "--to", TAKER])?;
    shared.set(Phase::After);
    let ended = shared.since_begin().as_secs_f64();
    say(&format!("they have moved in {:.1} s", ended - began));
    wait::pause(CALM);
    Ok(((began, ended), parts))
}

/// Processes in the order of [`NODES`].
fn pids(cluster: &Cluster) -> Result<[u32; NODES.len()]> {
    let all = [cluster.master(0)?, cluster.replica(0)?, cluster.master(1)?, cluster.replica(1)?];
    let mut pids = [0; NODES.len()];
    for (pid, node) in pids.iter_mut().zip(&all) {
        *pid = node.running()?;
    }
    Ok(pids)
}

fn sample(pids: &[u32; NODES.len()], shared: &Shared, done: &AtomicBool) -> Result<Vec<Memory>> {
    let mut samples = Vec::new();
    while !done.load(Ordering::SeqCst) {
        let mut bytes = [0; NODES.len()];
        for (bytes, pid) in bytes.iter_mut().zip(pids) {
            *bytes = usage::resident_bytes(*pid)?;
        }
        samples.push(Memory { at_s: shared.since_begin().as_secs_f64(), bytes });
        wait::pause(SAMPLE);
    }
    Ok(samples)
}

/// Waits until nodes have little to do.
fn settle(pids: &[u32]) -> Result<()> {
    let used = || pids.iter().map(|pid| usage::cpu_seconds(*pid)).sum::<Result<f64>>();
    wait::until("nodes to be at rest", SETTLED, || -> Result<()> {
        let before = used()?;
        wait::pause(SAMPLE);
        let share = (used()? - before) / SAMPLE.as_secs_f64();
        ensure!(share < REST_SHARE, "they use {share:.2} of a processor");
        Ok(())
    })
}

/// Writes the page and its pictures into a folder.
///
/// # Errors
/// The folder cannot be written.
pub fn write(course: &Course, facts: &[(&str, String)], out: &Path) -> Result<String> {
    std::fs::create_dir_all(out).context("create the folder of results")?;
    let put = |name: &str, text: &str| {
        let file = out.join(name);
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    };
    for (name, svg) in course.pictures() {
        put(name, &svg)?;
    }
    let mut page = "# One large move of slots\n\n".to_owned();
    for (name, value) in facts {
        page += &format!("* {name}: {value}\n");
    }
    page.push('\n');
    page += &course.page();
    put("move.md", &page)?;
    Ok(page)
}
