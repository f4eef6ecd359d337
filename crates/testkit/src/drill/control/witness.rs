//! Looks on while controllers are hurt: who leads next, and when nodes hear a controller.
//!
//! It only asks: nothing changes by that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::Value as Json;

use crate::drill::outcome::longest_gap;
use crate::torture::http::{Caller, Door, Question};
use crate::torture::site::Site;
use crate::torture::{rest, terms};
use crate::wire::Connection;
use crate::{netns, wait};

/// Between two questions.
const POLL: Duration = Duration::from_millis(5);
/// Of one question to a controller: one that is asked while it is in a bad way is asked again.
const PATIENCE: Duration = Duration::from_millis(500);
/// A node tells in whole ms how long ago it took a heartbeat: two that are nearer are one.
const BLUR: Duration = Duration::from_millis(20);

/// Threads that ask controllers, each for itself, whether they lead in a later term.
#[derive(Debug)]
pub struct Successor {
    first: Arc<Mutex<Option<(Instant, String)>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Successor {
    /// Asks these until one of them leads in a term after `term`.
    pub fn of(doors: impl IntoIterator<Item = Door>, term: u64) -> Self {
        let first = Arc::<Mutex<Option<(Instant, String)>>>::default();
        let stop = Arc::new(AtomicBool::new(false));
        let ask = |door: Door| {
            let (first, stop) = (Arc::clone(&first), Arc::clone(&stop));
            std::thread::spawn(move || {
                // One that does not lead is not to pass the question on to one that hangs.
                let caller = Caller::of_each(PATIENCE)?;
                while !stop.load(Ordering::Relaxed) && first.lock().is_none() {
                    if leads(&caller, &door).is_some_and(|leads| leads > term) {
                        let mut first = first.lock();
                        first.get_or_insert_with(|| (Instant::now(), door.name.clone()));
                        break;
                    }
                    wait::pause(POLL);
                }
                Ok(())
            })
        };
        let threads = doors.into_iter().map(ask).collect();
        Self { first, stop, threads }
    }

    /// When one of them led, and its name.
    pub fn first(&self) -> Option<(Instant, String)> {
        self.first.lock().clone()
    }

    /// Ends it.
    ///
    /// # Errors
    /// A thread could not ask at all.
    pub fn finish(self) -> Result<Option<(Instant, String)>> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().try_for_each(joined)?;
        Ok(self.first.lock().clone())
    }
}

/// In which term a controller leads, if it does. One that is away is no news here.
fn leads(caller: &Caller, door: &Door) -> Option<u64> {
    let path = format!("/api/v1{}/status", rest::CLUSTER);
    let question = Question { method: Method::GET, path: &path, body: None, is_read: true };
    let status = caller.call(door, &question).ok()?;
    status.pointer("/data/term").and_then(Json::as_u64)
}

/// A thread that asks a node all the time when it took the newest heartbeat.
#[derive(Debug)]
pub struct Pulse {
    taken: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Pulse {
    /// Of each node of a site.
    pub fn of_all(site: &Site) -> Vec<Self> {
        let doors = site.members.iter().filter_map(|member| site.door(member.host));
        doors.map(|(space, address)| Self::of(space, address)).collect()
    }

    fn of(space: String, address: SocketAddr) -> Self {
        let (taken, stop) = (Arc::<Mutex<Vec<Instant>>>::default(), Arc::<AtomicBool>::default());
        let thread = {
            let (taken, stop) = (Arc::clone(&taken), Arc::clone(&stop));
            std::thread::spawn(move || {
                netns::enter(&space)?;
                let mut link: Option<Connection> = None;
                while !stop.load(Ordering::Relaxed) {
                    let asked = link.take().map_or_else(|| terms::connect(address), Ok);
                    // One that is away takes nothing: the silence tells.
                    if let Ok((held, newest)) = asked.and_then(newest) {
                        link = Some(held);
                        add(&mut taken.lock(), newest);
                    }
                    wait::pause(POLL);
                }
                Ok(())
            })
        };
        Self { taken, stop, thread }
    }

    /// When it took the first heartbeat after a moment.
    pub fn after(&self, since: Instant) -> Option<Instant> {
        first_after(&self.taken.lock(), since)
    }

    /// Ends it; returns when it took heartbeats, in order.
    ///
    /// # Errors
    /// The thread could not ask at all.
    pub fn finish(self) -> Result<Vec<Instant>> {
        self.stop.store(true, Ordering::Relaxed);
        joined(self.thread)?;
        Ok(std::mem::take(&mut self.taken.lock()))
    }
}

fn joined(thread: JoinHandle<Result<()>>) -> Result<()> {
    let done = thread.join().map_err(|_| anyhow!("a thread that looks on has panicked"))?;
    done.context("look on")
}

/// When the node took its newest heartbeat; `None`: this process of it never did.
fn newest(mut link: Connection) -> Result<(Connection, Option<Instant>)> {
    let text = link.call(&["CLUSTERX", "OBSERVE"])?.text();
    let ago = heard_ms(&text).map(Duration::from_millis);
    Ok((link, ago.and_then(|ago| Instant::now().checked_sub(ago))))
}

fn heard_ms(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("heard_ms:")?.trim().parse().ok())
}

fn add(taken: &mut Vec<Instant>, newest: Option<Instant>) {
    let Some(newest) = newest else { return };
    if taken.last().is_none_or(|last| newest > *last + BLUR) {
        taken.push(newest);
    }
}

fn first_after(taken: &[Instant], since: Instant) -> Option<Instant> {
    taken.iter().copied().find(|at| *at > since)
}

/// The longest time between two heartbeats of a node that was not over at `from`, the end of the
/// watch counting as one. Pure.
pub fn silence(taken: &[Instant], from: Instant, end: Instant) -> Duration {
    let before = taken.iter().rposition(|at| *at <= from);
    let watched = taken.get(before.unwrap_or(0)..).unwrap_or_default();
    // One that never took any was silent all the time.
    let alone = [from];
    let watched = if watched.is_empty() { alone.as_slice() } else { watched };
    longest_gap(watched, end)
}

/// How long it took after `since` until the last node had taken a heartbeat; `None`: one has not.
/// Pure.
pub fn back(nodes: &[Vec<Instant>], since: Instant) -> Option<Duration> {
    let first: Option<Vec<Instant>> = nodes.iter().map(|taken| first_after(taken, since)).collect();
    first?.into_iter().max().map(|at| at.duration_since(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_between_heartbeats_and_may_have_begun_before_the_fault() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let ms = |taken: &[u64], from, end| {
            let taken: Vec<Instant> = taken.iter().map(|ms| at(*ms)).collect();
            silence(&taken, at(from), at(end)).as_millis()
        };
        let beats = [0, 900, 1_100, 1_900, 2_100];
        assert_eq!(
            ms(&beats, 1_000, 2_200),
            800,
            "what was over before the fault is not its doing"
        );
        assert_eq!(ms(&beats, 500, 2_200), 900);
        assert_eq!(ms(&beats, 1_000, 3_100), 1_000, "it lasts until the end");
        assert_eq!(ms(&[], 1_000, 3_000), 2_000);
        assert_eq!(ms(&[1_500], 1_000, 1_600), 100, "the node was not watched before");
    }

    #[test]
    fn control_is_back_when_the_last_node_is_led() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let nodes = [vec![at(10), at(250), at(450)], vec![at(20), at(310)]];
        assert_eq!(back(&nodes, at(100)), Some(Duration::from_millis(210)));
        assert_eq!(back(&nodes, at(400)), None, "one hears nobody");
    }

    #[test]
    fn a_heartbeat_that_is_told_twice_is_one() {
        let start = Instant::now();
        let at = |ms| Some(start + Duration::from_millis(ms));
        let mut taken = Vec::new();
        for newest in [None, at(100), at(101), at(99), at(300), None] {
            add(&mut taken, newest);
        }
        assert_eq!(taken, [at(100).unwrap(), at(300).unwrap()]);
        assert_eq!(heard_ms("term:7\r\nheard_ms:80\r\nheard_term:6\r\n"), Some(80));
        assert_eq!(heard_ms("term:7\r\n"), None);
    }
}
