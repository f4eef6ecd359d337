//! `CLUSTERX DISCARDED APPLY`: putting keys back at a master.
//!
//! Never over what is newer: a key that was written at the master since the fork stays as it is. That is found in the log, from the fork on, the last
//! stretch with the write gate held alone; where the log does not go back that far, or is not the one the fork was in, nobody can tell, and nothing is put back.
//!
//! The gate holds up every worker and heartbeat. So nothing is read from the disk under it that was not read just before without it, it is held for a
//! batch at a time, and what it protects is checked anew each time.

use std::collections::HashSet;
use std::ops::Range;

use replication::history::EpochId;
use resp::{Protocol, Writer};
use storage::rewind::review::Change;
use storage::rewind::since::{Caught, Since};
use storage::types::expiry::Expiry;
use storage::types::head::Header;
use storage::types::keys;
use storage::types::kind::Type;
use storage::types::strings::{self, SetOptions};
use storage::{Family, Scope, Store, Txn};
use topology::{Route, key_slot};

use super::KEY_WORDS;
use crate::clock;
use crate::command::texts::LOADING;
use crate::command::{Args, Error, Result};
use crate::node::Node;
use crate::session::gates;
use crate::session::serve::{self, Ready, Server};

/// Most keys in one request; its words have the limits of any command besides.
const KEYS_MAX: usize = 16_384;
/// Most keys that are written with the gate held once.
const BATCH_KEYS: usize = 128;
/// And how many bytes of keys and values, but for the last of them.
const BATCH_BYTES: usize = 1 << 20;

/// What is to be put back.
pub(super) struct Request {
    fork: u64,
    /// Of the epoch that held the fork when the export was made; `None` where nobody wrote it down.
    epoch_id: Option<EpochId>,
    pub is_dry: bool,
    /// Only keys that are not there, whatever the log says.
    only_absent: bool,
    changes: Vec<Change>,
}

impl Request {
    /// `<fork> <epoch id> DRY|RUN SINCE|ABSENT [set|del <key> <value> <expiry Unix ms>]…`
    pub(super) fn parse(args: &mut Args<'_>) -> Result<Self> {
        let fork = args.number()?;
        let epoch_id = match args.bytes()? {
            b"-" => None,
            id => Some(EpochId::parse(id).ok_or(Error::Syntax)?),
        };
        let is_dry = match args.word().as_deref() {
            Some(b"DRY") => true,
            Some(b"RUN") => false,
            _ => return Err(Error::Syntax),
        };
        let only_absent = match args.word().as_deref() {
            Some(b"SINCE") => false,
            Some(b"ABSENT") => true,
            _ => return Err(Error::Syntax),
        };
        if !args.len().is_multiple_of(KEY_WORDS) || args.len() / KEY_WORDS > KEYS_MAX {
            return Err(Error::Syntax);
        }
        let mut changes = Vec::with_capacity(args.len() / KEY_WORDS);
        while !args.is_empty() {
            let is_set = match args.word().as_deref() {
                Some(b"SET") => true,
                Some(b"DEL") => false,
                _ => return Err(Error::Syntax),
            };
            let (key, value) = (args.bytes()?.to_vec(), args.bytes()?.to_vec());
            let expire_ms = args.number()?;
            changes.push(match is_set {
                true => Change::Set { key, value, expire_ms },
                false => Change::Delete { key },
            });
        }
        // Of a key that is there twice, nobody could say what its last state is.
        let distinct: HashSet<&[u8]> = changes.iter().map(key_of).collect();
        if distinct.len() != changes.len() {
            return Err(Error::text("ERR each key may be named once"));
        }
        Ok(Self { fork, epoch_id, is_dry, only_absent, changes })
    }

    fn keys(&self) -> Vec<&[u8]> {
        self.changes.iter().map(key_of).collect()
    }

    /// The changes, with the place of each, that are written with the gate held once.
    fn batches(&self) -> Vec<Range<usize>> {
        let (mut batches, mut start, mut bytes) = (Vec::new(), 0, 0);
        for (place, change) in self.changes.iter().enumerate() {
            bytes += key_of(change).len();
            if let Change::Set { value, .. } = change {
                bytes += value.len();
            }
            let end = place + 1;
            if end - start >= BATCH_KEYS || bytes >= BATCH_BYTES || end == self.changes.len() {
                batches.push(start..end);
                (start, bytes) = (end, 0);
            }
        }
        batches
    }

    /// Whether this database holds what the export's database held up to the fork: an epoch is written by one process (rule R11).
    fn is_of(&self, store: &Store) -> bool {
        let entry = store.history().at(self.fork).map(|entry| entry.id);
        self.epoch_id.is_some() && entry == self.epoch_id && store.latest_sequence() >= self.fork
    }
}

fn key_of(change: &Change) -> &[u8] {
    match change {
        Change::Set { key, .. } | Change::Delete { key } | Change::Other { key, .. } => key,
    }
}

/// A word per key, in their order: `applied`, `same` (it is so already), `changed`, `exists`, `expired`, `moved`.
pub(super) fn apply(node: &Node, request: &Request) -> Result<Vec<u8>> {
    let mut search = Search::begin(node, request)?;
    let mut words = Vec::with_capacity(request.changes.len());
    for batch in request.batches() {
        // Brings what is on the disk into memory, for what follows with the gate held.
        let told = look(node, request, &search, batch.clone());
        let told = match (told, request.is_dry) {
            (Ok(_), false) => write(node, request, &mut search, batch),
            (told, _) => told,
        };
        match told {
            Ok(told) => words.extend(told),
            Err(error) if words.is_empty() => return Err(error),
            Err(error) => {
                let (done, all) = (words.len(), request.changes.len());
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

/// What the log says of the keys, and for which generation of the write gate: it may be that of a database which this node has no more, though it is
/// master again.
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
            Since::new(&store, &node.scope(clock::unix_ms()), &request.keys(), request.fork);
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

    fn is_changed(&self, place: usize) -> bool {
        let changed = |since: &Since| since.changed().get(place).copied().unwrap_or(true);
        self.since.as_ref().is_some_and(changed)
    }
}

/// What would become of these keys, as far as the log was searched. The gate is taken for a moment for each key, so that a change of role waits for one
/// reading at most.
fn look(
    node: &Node,
    request: &Request,
    search: &Search,
    batch: Range<usize>,
) -> Result<Vec<&'static str>> {
    let mut words = Vec::with_capacity(batch.len());
    for (place, change) in request.changes.iter().enumerate().take(batch.end).skip(batch.start) {
        let (store, route) = {
            let engine = node.engine();
            let store = gates::may_write(node, &node.config.now(), &engine)?;
            if engine.generation != search.generation {
                return Err(changing());
            }
            let route = gates::route_write(node, &engine, key_slot(key_of(change)))?;
            (store.clone(), route)
        };
        let states = (search.is_changed(place), request.only_absent);
        words.push(judge(route, &store.txn(), &node.scope(clock::unix_ms()), change, states)?);
    }
    Ok(words)
}

/// Puts these keys back, with the gate held.
fn write(
    node: &Node,
    request: &Request,
    search: &mut Search,
    batch: Range<usize>,
) -> Result<Vec<&'static str>> {
    // What others wrote meanwhile; little is left then for the time with the gate.
    search.go_on(node)?;
    let engine = node.gate.write();
    let store = gates::may_write(node, &node.config.now(), &engine)?;
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
    let changes = request.changes.get(batch.clone()).unwrap_or_default();
    for (place, change) in batch.zip(changes) {
        let states = (search.is_changed(place), request.only_absent);
        let route = gates::route_write(node, &engine, key_slot(key_of(change)))?;
        let word = judge(route, &txn, &scope, change, states)?;
        if word == "applied" {
            put_back(&mut txn, &scope, change)?;
        }
        words.push(word);
    }
    let config = node.config.now();
    let now_ms = scope.now_ms;
    let server = Server { node, config: &config, store, worker: 0, now_ms, writer: None };
    let mut ready = Ready::new();
    txn.commit_and_tell(|batch| serve::note(&server, batch, &mut ready))?;
    store.publish()?;
    // Of keys that were watched and are not put back, too.
    node.watches.touch(changes.iter().map(|change| scope.name(key_of(change))));
    Ok(words)
}

fn judge(
    route: Route,
    txn: &Txn<'_>,
    scope: &Scope<'_>,
    change: &Change,
    (is_changed, only_absent): (bool, bool),
) -> Result<&'static str> {
    let key = key_of(change);
    match route {
        Route::Run => {}
        // Whose it is will be known soon.
        Route::TryAgain => return Err(Error::text(Route::TryAgain.to_string())),
        _ => return Ok("moved"),
    }
    let now = txn.get(Family::Metadata, &scope.ns_key(key))?;
    let header = now.as_deref().and_then(Header::decode);
    let header = header.filter(|header| !header.is_dead(scope.now_ms));
    let is_same = match (change, header) {
        (Change::Set { value, expire_ms, .. }, Some(header)) => {
            let is_string = header.kind() == Some(Type::String);
            is_string && header.rest == value.as_slice() && header.expire_ms == *expire_ms
        }
        (Change::Delete { .. }, None) => true,
        _ => false,
    };
    let is_over = matches!(change, Change::Set { expire_ms, .. }
        if *expire_ms != 0 && *expire_ms <= scope.now_ms);
    Ok(match () {
        () if is_same => "same",
        () if is_changed => "changed",
        () if is_over => "expired",
        () if only_absent && header.is_some() => "exists",
        () if matches!(change, Change::Other { .. }) => "other",
        () => "applied",
    })
}

fn put_back(txn: &mut Txn<'_>, scope: &Scope<'_>, change: &Change) -> Result<()> {
    match change {
        Change::Set { key, value, expire_ms } => {
            let expiry = if *expire_ms == 0 { Expiry::Never } else { Expiry::At(*expire_ms) };
            let options = SetOptions { expiry, ..SetOptions::default() };
            strings::set(txn, &scope.at(key), value, &options)?;
        }
        Change::Delete { key } => {
            keys::del(txn, scope, &[key])?;
        }
        Change::Other { .. } => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_is_held_for_few_keys_and_bytes() {
        let set =
            |bytes: usize| Change::Set { key: b"k".to_vec(), value: vec![0; bytes], expire_ms: 0 };
        let batches = |changes: Vec<Change>| {
            let request =
                Request { fork: 1, epoch_id: None, is_dry: false, only_absent: true, changes };
            request.batches()
        };
        assert!(batches(Vec::new()).is_empty());
        assert_eq!(batches((0..300).map(|_| set(1)).collect()), [0..128, 128..256, 256..300]);
        let large = [1, BATCH_BYTES, 1, BATCH_BYTES / 2, BATCH_BYTES / 2, 1];
        assert_eq!(batches(large.map(set).to_vec()), [0..2, 2..5, 5..6]);
    }
}
