//! A cluster client: knows which address answers for a slot, and follows MOVED, ASK and TRYAGAIN as
//! client libraries do. What else is answered, it passes on.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::found::{Log, Phase, Write};
use super::kinds::Kind;
use crate::wait::pause;
use crate::wire::{Connection, Reply};

/// Redirections of one command; more go in a circle.
const HOPS_MAX: u32 = 16;
/// A command is answered within this, or it is an error.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before a command is tried again that TRYAGAIN answered.
const AGAIN: Duration = Duration::from_millis(2);

/// A key, its slot, and what is written to it.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) slot: u16,
    pub(super) kind: Kind,
}

/// Which address answers for a slot; what is not known goes to any.
#[derive(Debug, Clone)]
pub(super) struct Map {
    owners: HashMap<u16, SocketAddr>,
    any: SocketAddr,
}

impl Map {
    /// As CLUSTER SLOTS says it there.
    pub(super) fn ask(any: SocketAddr) -> Result<Self> {
        let answer = Connection::open(any)?.call(&["CLUSTER", "SLOTS"])?;
        let mut owners = HashMap::new();
        for run in answer.elements() {
            let [first, last, master, ..] = run.elements() else { bail!("a run is {run:?}") };
            let [host, port, ..] = master.elements() else { bail!("a node is {master:?}") };
            let at = format!("{}:{}", host.text(), port.text());
            let at: SocketAddr = at.parse().with_context(|| format!("`{at}` is no address"))?;
            let number = |reply: &Reply| reply.text().parse::<u16>().context("a slot");
            owners.extend((number(first)?..=number(last)?).map(|slot| (slot, at)));
        }
        ensure!(!owners.is_empty(), "nobody answers for any slot: {answer:?}");
        Ok(Self { owners, any })
    }

    pub(super) fn of(&self, slot: u16) -> SocketAddr {
        self.owners.get(&slot).copied().unwrap_or(self.any)
    }
}

/// A client, with a connection to each address that it needed.
#[derive(Debug)]
pub(super) struct Client {
    map: Map,
    open: HashMap<SocketAddr, Connection>,
    pub(super) redirected: u64,
}

impl Client {
    pub(super) fn new(map: Map) -> Self {
        Self { map, open: HashMap::new(), redirected: 0 }
    }

    fn send(&mut self, at: SocketAddr, words: &[String], is_asking: bool) -> Result<Reply> {
        let connection = match self.open.entry(at) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Connection::open_within(at, PATIENCE, PATIENCE)?),
        };
        let mut ask = || {
            if is_asking {
                connection.call(&["ASKING"])?;
            }
            connection.call(words)
        };
        let answer = ask();
        if answer.is_err() {
            self.open.remove(&at);
        }
        answer
    }

    /// One command, to whom its slot is said to be at.
    ///
    /// # Errors
    /// What a client library would pass on: an error that is no redirection, a connection that
    /// broke.
    pub(super) fn call(&mut self, slot: u16, words: &[String]) -> Result<Reply> {
        let (mut at, mut is_asking) = (self.map.of(slot), false);
        for _ in 0..HOPS_MAX {
            let answer = self.send(at, words, is_asking)?;
            let Some(code) = answer.error_code() else { return Ok(answer) };
            let text = answer.text();
            match code.as_str() {
                "MOVED" | "ASK" => {
                    self.redirected += 1;
                    let to = text.rsplit(' ').next().unwrap_or_default();
                    at = to.parse().with_context(|| text.clone())?;
                    is_asking = code == "ASK";
                    if !is_asking {
                        self.map.owners.insert(slot, at);
                    }
                }
                "TRYAGAIN" => pause(AGAIN),
                _ => bail!("{text}"),
            }
        }
        bail!("more than {HOPS_MAX} redirections of one command, the last one to {at}")
    }
}

/// What all clients share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) stop: AtomicBool,
    phase: AtomicU8,
    began: Instant,
}

impl Shared {
    pub(super) fn new() -> Self {
        let began = Instant::now();
        Self { stop: AtomicBool::new(false), phase: AtomicU8::new(0), began }
    }

    /// How long ago clients began.
    pub(super) fn since_begin(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Before,
            1 => Phase::Moving,
            _ => Phase::After,
        }
    }
}

/// The keys of one writer, by their place in the list of all, and how many writes of each were
/// acknowledged.
pub(super) type Written = Vec<(usize, u64)>;

/// Writes to its keys, so many times a second, until it is told to stop.
pub(super) fn write(
    keys: &[Key],
    its: &[usize],
    (map, rate): (Map, f64),
    shared: &Shared,
) -> (Log, Written) {
    let mut random = StdRng::seed_from_u64(its.first().copied().unwrap_or_default() as u64);
    let (mut client, mut log) = (Client::new(map), Log::default());
    let mut written: Written = its.iter().map(|key| (*key, 0)).collect();
    let (began, mut sent) = (Instant::now(), 0_u32);
    while !shared.stop.load(Ordering::SeqCst) && !written.is_empty() {
        let due = Duration::from_secs_f64(f64::from(sent) / rate);
        sent += 1;
        if let Some(early) = due.checked_sub(began.elapsed()) {
            pause(early);
        }
        let place = random.random_range(0..written.len());
        let Some((index, count)) = written.get_mut(place) else { continue };
        let Some(key) = keys.get(*index) else { continue };
        let at = Instant::now();
        match client.call(key.slot, &key.kind.write(&key.name, *count + 1)) {
            Ok(_) => {
                *count += 1;
                let us = u32::try_from(at.elapsed().as_micros()).unwrap_or(u32::MAX);
                let at_ms = u32::try_from(shared.since_begin().as_millis()).unwrap_or(u32::MAX);
                log.writes.push(Write { key: *index as u32, phase: shared.phase(), at_ms, us });
            }
            Err(error) => {
                // Whether it was done is not known. It is written again, so a key may show more
                // than was acknowledged, and never less.
                *log.errors.entry(error.root_cause().to_string()).or_default() += 1;
                pause(AGAIN);
            }
        }
    }
    log.redirected = client.redirected;
    (log, written)
}
