//! The story: a shard is emptied, clients write, it gets its share, it is emptied again, look.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::client::{Client, Map};
use super::found::{Found, Phase};
use super::load::{Told, missing, under_load};
use super::site::{BALLAST_BYTES, Site};
use crate::cluster::{Cluster, Options};
use crate::wait;

/// The shard that comes and goes: the last one.
const GUEST: &str = "3";
const SHARDS: u16 = 4;
/// How long writes flow before anything moves, and after it.
const CALM: Duration = Duration::from_secs(5);

/// How it is told.
#[derive(Debug, Clone, Copy)]
pub struct Story {
    /// How often slots go there and back.
    pub runs: u32,
    /// `builtin` or `haproxy`.
    pub balancer: &'static str,
    /// Writes per second, of all clients together.
    pub rate: u32,
    /// What lies in the cluster besides, MB.
    pub ballast_mb: u32,
}

/// What is told as it happens.
pub type Say<'a> = &'a mut dyn FnMut(&str);

impl Story {
    /// All runs; one cluster for all of them.
    ///
    /// # Errors
    /// When it could not be told to its end.
    pub fn tell(&self, stop: &Arc<AtomicBool>, say: Say<'_>) -> Result<Vec<Found>> {
        say("starting 4 shards with a replica each, of which one is emptied");
        let options = Options { shards: SHARDS, balancer: self.balancer, ..Options::default() };
        let cluster = Cluster::start(options)?;
        let site = Site::new(&cluster)?;
        let told = self.runs(&site, stop, say);
        told.with_context(|| cluster.logs())
    }

    fn runs(&self, site: &Site<'_>, stop: &AtomicBool, say: Say<'_>) -> Result<Vec<Found>> {
        site.change(&["shard", "drain", GUEST])?;
        let ballast = site.fill(self.ballast_mb, |_| true)?;
        say(&format!("{ballast} keys of {BALLAST_BYTES} bytes are there"));
        let mut runs = Vec::new();
        for run in 1..=self.runs {
            ensure!(!stop.load(Ordering::Relaxed), "interrupted");
            let found = self.run(site, run, say)?;
            say(&format!(
                "run {run}: longest stall {:.1} ms, {} of {} writes missing",
                found.stall_worst.as_secs_f64() * 1e3,
                found.missing,
                found.acknowledged
            ));
            runs.push(found);
        }
        ensure!(site.ballast()? == ballast, "keys that nobody wrote to meanwhile are gone");
        Ok(runs)
    }

    fn run(&self, site: &Site<'_>, run: u32, say: Say<'_>) -> Result<Found> {
        let keys = site.keys(run)?;
        let (map, known) = (Map::ask(site.at)?, site.newest_move()?);
        let told = under_load(&keys, &map, self.rate, |shared| {
            wait::pause(CALM);
            let mut moved_for = Duration::ZERO;
            for (words, what) in [
                (&["rebalance"][..], "3 shards become 4"),
                (&["shard", "drain", GUEST], "4 shards become 3"),
            ] {
                say(&format!("run {run}: {what}"));
                let at = Instant::now();
                shared.set(Phase::Moving);
                site.change(words)?;
                shared.set(Phase::After);
                moved_for += at.elapsed();
                wait::pause(CALM);
            }
            Ok(moved_for)
        })?;
        let Told { logs, written, took, of: moved_for } = told;
        let slots: Vec<u16> = keys.iter().map(|key| key.slot).collect();
        let found = Found::of(&logs, &slots, &site.moved_since(known)?, took);
        let missing = missing(Client::new(map), &keys, &written)?;
        Ok(Found { missing, moved_for, ..found })
    }
}
