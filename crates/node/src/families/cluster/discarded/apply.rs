//! `CLUSTERX DISCARDED APPLY` and `RESTORE`: putting keys back at a master.
//!
//! Never over what is newer: a key that was written at the master since the fork stays as it is.
//! That is found in the log, from the fork on, the last stretch with the write gate held alone;
//! where the log does not go back that far, or is not the one the fork was in, nobody can tell, and
//! nothing is put back.
//!
//! The gate holds up every worker and heartbeat. So nothing is read from the disk under it that was
//! not read just before without it, it is held for a batch at a time, and what it protects is
//! checked anew each time. What was compared without it is not compared again.

use std::ops::Range;
use std::time::{Duration, Instant};

use parking_lot::RwLockWriteGuard;
use resp::{Protocol, Writer};
use storage::Store;
use storage::rewind::since::{Caught, Since};
use storage::rewind::state::{Rule, Verdict};
use topology::{Route, key_slot};

use super::request::{Request, Wanted};
use crate::clock;
use crate::command::texts::LOADING;
use crate::command::{Error, Result};
use crate::gate::Engine;
use crate::locks::{Held, Locks};
use crate::node::Node;
use crate::session::gates;
use crate::session::serve::{self, Ready, Server};

/// How long scripts are waited for that hold the locks of keys.
const LOCKS_PATIENCE: Duration = Duration::from_secs(2);

/// A word per key, in their order: see [`word_of`], and `moved`.
pub(super) fn apply(node: &Node, request: &Request) -> Result<Vec<u8>> {
    let mut search = Search::begin(node, request)?;
    let mut words = Vec::with_capacity(request.keys.len());
    for batch in request.batches() {
        // Brings what is on the disk into memory, for what follows with the gate held.
        let told = look(node, request, &search, batch.clone());
        let told = match (told, request.is_dry) {
            (Ok(told), false) => write(node, request, &mut search, (batch, told)),
            (told, _) => told,
        };
        match told {
            Ok(told) => words.extend(told),
            Err(error) if words.is_empty() => return Err(error),
            Err(error) => {
                let (done, all) = (words.len(), request.keys.len());
                return Err(Error::text(format!("{error} (after {done} of {all} keys)")));
            }
        }
    }
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Protocol::V2);
    writer.array(words.len());
    for word in words {
        writer.bulk(word.as_bytes());
    }
    Ok(out)
}

fn gone() -> Error {
    Error::text(
        "GONE the log of this master does not go back to the fork, or the fork is of another history: nobody can tell which keys changed since",
    )
}

fn changing() -> Error {
    Error::text("TRYAGAIN the role of this node is changing")
}

/// What the log says of the keys, and for which generation of the write gate: it may be that of a
/// database which this node has no more, though it is master again.
struct Search {
    /// `None` where the log is not asked.
    since: Option<Since>,
    generation: u64,
}

impl Search {
    /// Looks through the log without holding anybody up: a change of role or database ends it.
    fn begin(node: &Node, request: &Request) -> Result<Self> {
        let (store, generation) = {
            let engine = node.engine();
            let store = engine.store.clone().ok_or_else(|| Error::text(LOADING))?;
            (store, engine.generation)
        };
        if request.only_absent {
            return Ok(Self { since: None, generation });
        }
        if !request.is_of(&store) {
            return Err(gone());
        }
        let since =
            Since::new(&store, &node.scope(clock::unix_ms()), &request.names(), request.fork);
        let mut search = Self { since: Some(since), generation };
        store.publish()?;
        drop(store);
        search.go_on(node)?;
        Ok(search)
    }

    /// Through what was published since.
    fn go_on(&mut self, node: &Node) -> Result<()> {
        let generation = self.generation;
        let goes_on = || node.gate.try_read().is_some_and(|engine| engine.generation == generation);
        let Some(since) = &mut self.since else { return Ok(()) };
        match since.catch_up(goes_on)? {
            Caught::Up => Ok(()),
            Caught::Gone => Err(gone()),
            Caught::Ended => Err(changing()),
        }
    }

    /// Through everything there is: nobody writes now.
    fn finish(&mut self, store: &Store) -> Result<()> {
        let Some(since) = &mut self.since else { return Ok(()) };
        store.publish()?;
        if since.catch_up(|| true)? == Caught::Up { Ok(()) } else { Err(gone()) }
    }

    /// By which rule the key at this place is put back.
    fn rule(&self, place: usize) -> Rule {
        self.since.as_ref().map_or(Rule::Absent, |since| Rule::Since {
            is_changed: since.changed().get(place).copied().unwrap_or(true),
        })
    }
}

/// What would become of these keys, as far as the log was searched. The gate is taken for a moment
/// for each key, so that a change of role waits for little reading.
fn look(
    node: &Node,
    request: &Request,
    search: &Search,
    batch: Range<usize>,
) -> Result<Vec<&'static str>> {
    let generation = search.generation;
    let mut goes_on = || node.gate.try_read().is_some_and(|engine| engine.generation == generation);
    let mut words = Vec::with_capacity(batch.len());
    for (place, wanted) in request.keys.iter().enumerate().take(batch.end).skip(batch.start) {
        let (store, route) = {
            let engine = node.engine();
            let store = gates::may_write(node, &node.config.now(), &engine)?;
            if engine.generation != generation {
                return Err(changing());
            }
            let route = gates::route_write(node, &engine, key_slot(&wanted.key))?;
            (store.clone(), route)
        };
        let Some(word) = word_of_route(route)? else {
            let rule = search.rule(place);
            words.push(judge(node, &store, wanted, rule, Some(&mut goes_on))?);
            continue;
        };
        words.push(word);
    }
    Ok(words)
}

/// The gate alone, and the locks of these keys. A script that runs aside holds those of its keys
/// and not the gate, and what it will have written in the end goes by what it has read.
fn alone<'n>(
    node: &'n Node,
    search: &mut Search,
    stripes: &[u16],
) -> Result<(RwLockWriteGuard<'n, Engine>, Held<'n>)> {
    let until = Instant::now() + LOCKS_PATIENCE;
    // Waited for without the gate, and without the locks of other keys, which clients need.
    let is_free = |stripe: &u16| {
        let left = until.saturating_duration_since(Instant::now());
        node.locks.lock_within(&[*stripe], left).is_some()
    };
    while stripes.iter().all(is_free) {
        // What others wrote meanwhile; little is left then for the time with the gate.
        search.go_on(node)?;
        let engine = node.gate.write();
        if let Some(held) = node.locks.try_lock(stripes) {
            return Ok((engine, held));
        }
        if Instant::now() >= until {
            break;
        }
    }
    Err(Error::text("TRYAGAIN a script that has not ended holds one of the keys"))
}

/// Puts these keys back, with the gate held: those of which it was just said that they can be.
fn write(
    node: &Node,
    request: &Request,
    search: &mut Search,
    (batch, told): (Range<usize>, Vec<&'static str>),
) -> Result<Vec<&'static str>> {
    let config = node.config.now();
    let keys = request.keys.get(batch.clone()).unwrap_or_default();
    let stripes = Locks::stripes(keys.iter().map(|wanted| wanted.key.as_slice()));
    let (engine, held) = alone(node, search, &stripes)?;
    let store = gates::may_write(node, &config, &engine)?;
    if engine.generation != search.generation {
        return Err(changing());
    }
    if !request.only_absent && !request.is_of(store) {
        return Err(gone());
    }
    search.finish(store)?;
    let scope = node.scope(clock::unix_ms());
    let mut txn = store.txn();
    let mut words = Vec::with_capacity(batch.len());
    for ((place, wanted), told) in batch.zip(keys).zip(told) {
        let route = gates::route_write(node, &engine, key_slot(&wanted.key))?;
        let word = match (word_of_route(route)?, &wanted.state) {
            (Some(word), _) => word,
            (None, Some(state)) if told == APPLIED => {
                let verdict = state.judge(&txn, &scope, search.rule(place), None)?;
                if verdict == Verdict::Fits {
                    state.put_back(&mut txn, &scope)?;
                }
                word_of(verdict)?
            }
            // As it was a moment ago: nothing is done to it.
            (None, _) => told,
        };
        words.push(word);
    }
    let now_ms = scope.now_ms;
    let server = Server { node, config: &config, store, worker: 0, now_ms, writer: None };
    let mut ready = Ready::new();
    txn.commit_and_tell(|batch| serve::note(&server, batch, &mut ready))?;
    store.publish()?;
    // Of keys that were watched and are not put back, too.
    node.watches.touch(keys.iter().map(|wanted| scope.name(&wanted.key)));
    drop(held);
    // Commands that waited for one of these keys run as those of any client do, and not alone.
    let engine = RwLockWriteGuard::downgrade(engine);
    if let Some(store) = engine.store.as_ref().filter(|_| !ready.is_empty()) {
        let server = Server { node, config: &config, store, worker: 0, now_ms, writer: None };
        if server.serve(ready) {
            store.publish()?;
        }
    }
    Ok(words)
}

/// Of a key that is not this master's; `None` if it is.
fn word_of_route(route: Route) -> Result<Option<&'static str>> {
    match route {
        Route::Run => Ok(None),
        // Whose it is will be known soon.
        Route::TryAgain => Err(Error::text(Route::TryAgain.to_string())),
        _ => Ok(Some("moved")),
    }
}

/// Of a key that can be put back, or was.
const APPLIED: &str = "applied";

fn judge(
    node: &Node,
    store: &Store,
    wanted: &Wanted,
    rule: Rule,
    goes_on: Option<&mut dyn FnMut() -> bool>,
) -> Result<&'static str> {
    // Of another version, or damaged.
    let Some(state) = &wanted.state else { return Ok("unreadable") };
    word_of(state.judge(&store.txn(), &node.scope(clock::unix_ms()), rule, goes_on)?)
}

fn word_of(verdict: Verdict) -> Result<&'static str> {
    Ok(match verdict {
        Verdict::Fits => APPLIED,
        Verdict::Same => "same",
        Verdict::Changed => "changed",
        Verdict::Exists => "exists",
        Verdict::Expired => "expired",
        Verdict::Lapsed => "lapsed",
        Verdict::Partial => "partial",
        Verdict::Large => "large",
        Verdict::Ended => return Err(changing()),
    })
}
