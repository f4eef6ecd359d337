//! `CLUSTERX DISCARDED …`, for controllers: what this node's rewinds cut off, and putting it back at a master.
//!
//! Putting back never overwrites what is newer: a key that was written at the master since the fork stays as it is. That is found in the log, from the fork
//! on, the last stretch with the write gate held alone; where the log does not go back that far, nobody can tell, and nothing is put back.

use std::collections::HashSet;
use std::sync::Arc;

use resp::{Protocol, Writer};
use storage::rewind::review::{self, Change, Export};
use storage::rewind::since::{Caught, Since};
use storage::types::expiry::Expiry;
use storage::types::keys;
use storage::types::metadata::{Header, Type};
use storage::types::strings::{self, SetOptions};
use storage::{Family, Scope, Store, Txn};
use topology::{Route, RouteRequest, key_slot};

use super::{checked, text};
use crate::clock;
use crate::command::{Args, Error, Reply, Result};
use crate::node::Node;
use crate::replication::rewind::DISCARDED;
use crate::session::dispatch::{LOADING, NAMESPACE};
use crate::session::{Flow, SessionCx, Tells, gates};

/// Most of an export that one answer tells of, in bytes of the file.
const PAGE_BYTES_MAX: u64 = 1 << 20;
/// Most keys in one request to put back; its words have the limits of any command besides.
const KEYS_MAX: usize = 16_384;
/// Words of a key in such a request.
const KEY_WORDS: usize = 4;

pub(super) fn run(cx: &mut SessionCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Flow> {
    checked(cx)?;
    if cx.exec.is_some() {
        return Err(Error::text("ERR CLUSTERX DISCARDED is not possible inside EXEC"));
    }
    let word = args.word().ok_or(Error::Syntax)?;
    match (&*word, args.len()) {
        (b"LIST", 0) => Ok(text(reply, list(cx.node)?.into_bytes()).into()),
        (b"READ", 3) => {
            let file = args.text()?.to_owned();
            let (offset, bytes) = (args.number()?, args.number()?);
            Ok(later(cx, Tells::Read, move |node| read(node, &file, offset, bytes)))
        }
        (b"APPLY", 4..) => {
            let request = Request::parse(args)?;
            let tells = if request.is_dry { Tells::Read } else { Tells::Write };
            Ok(later(cx, tells, move |node| apply(node, &request)))
        }
        _ => Err(Error::Syntax),
    }
}

/// Files and logs are read off the worker.
fn later(
    cx: &SessionCx<'_>,
    tells: Tells,
    work: impl FnOnce(&Node) -> Result<Vec<u8>> + Send + 'static,
) -> Flow {
    let node = Arc::clone(cx.node);
    let answer = Box::pin(async move {
        let done = tokio::task::spawn_blocking(move || work(&node)).await;
        let done = done.unwrap_or_else(|error| Err(Error::err(format!("discarded: {error}"))));
        done.unwrap_or_else(|error| {
            let mut bytes = Vec::new();
            Writer::new(&mut bytes, Protocol::V2).error(&error.to_string());
            bytes
        })
    });
    Flow::Later(answer, tells)
}

fn scope(node: &Node) -> Scope<'static> {
    let cluster = node.config.now().cluster_enabled;
    Scope { namespace: NAMESPACE, cluster, now_ms: clock::unix_ms() }
}

/// A line per export: file, bytes, fork, Unix ms, newest discarded sequence, number and id of the epoch at the fork.
fn list(node: &Node) -> Result<String> {
    let exports = review::list(&node.path(DISCARDED))?;
    let history = node.engine().store.as_ref().map(Store::history);
    let line = |export: &Export| {
        let fork = export.head.fork;
        let entry = history.as_ref().and_then(|history| history.at(fork).copied());
        let (epoch, id) =
            entry.map_or((0, "-".to_owned()), |entry| (entry.epoch, entry.id.to_string()));
        let Export { file, bytes, head, end } = export;
        format!("{file} {bytes} {fork} {} {end} {epoch} {id}\r\n", head.at_ms)
    };
    Ok(exports.iter().map(line).collect())
}

/// Where the next page begins (-1: nowhere), then four words per change: what, key, value, expiry.
fn read(node: &Node, file: &str, offset: u64, bytes: u64) -> Result<Vec<u8>> {
    if !review::is_name(file) {
        return Err(Error::text("ERR that is not the name of an export"));
    }
    let path = node.path(DISCARDED).join(file);
    if !path.exists() {
        return Err(Error::text("ERR there is no such export"));
    }
    let page = review::page(&path, &scope(node), offset, bytes.clamp(1, PAGE_BYTES_MAX))?;
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Protocol::V2);
    writer.array(1 + page.changes.len() * KEY_WORDS);
    writer.integer(page.next.and_then(|next| i64::try_from(next).ok()).unwrap_or(-1));
    for change in &page.changes {
        let (what, key, value, expire_ms): (&[u8], _, &[u8], _) = match change {
            Change::Set { key, value, expire_ms } => (b"set", key, value, *expire_ms),
            Change::Delete { key } => (b"del", key, b"", 0),
            Change::Other { key, what } => (b"other", key, what.as_bytes(), 0),
        };
        for bytes in [what, key, value, expire_ms.to_string().as_bytes()] {
            writer.bulk(bytes);
        }
    }
    Ok(out)
}

/// What is to be put back.
struct Request {
    fork: u64,
    /// Of the epoch at the fork, as the node that holds the export named it.
    epoch_id: String,
    is_dry: bool,
    /// Only keys that are not there, whatever the log says.
    only_absent: bool,
    changes: Vec<Change>,
}

impl Request {
    /// `<fork> <epoch id> DRY|RUN SINCE|ABSENT [set|del <key> <value> <expiry Unix ms>]…`
    fn parse(args: &mut Args<'_>) -> Result<Self> {
        let fork = args.number()?;
        let epoch_id = args.text()?.to_owned();
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
}

fn key_of(change: &Change) -> &[u8] {
    match change {
        Change::Set { key, .. } | Change::Delete { key } | Change::Other { key, .. } => key,
    }
}

/// A word per key, in their order: `applied`, `same` (it is so already), `changed`, `exists`, `expired`, `moved`.
fn apply(node: &Node, request: &Request) -> Result<Vec<u8>> {
    let keys = request.keys();
    let mut since = match request.only_absent {
        true => None,
        false => Some(search(node, request, &keys)?),
    };
    let engine = node.gate.write();
    let store = gates::may_write(node, &node.config.now(), &engine)?;
    if let Some((since, generation)) = &mut since {
        // The log that was searched may be that of a database this node has no more, though it is master again.
        if engine.generation != *generation {
            return Err(changing());
        }
        // What was written since the search began; with the gate held, that is all there will be.
        store.publish()?;
        if since.catch_up(|| true)? != Caught::Up {
            return Err(gone());
        }
    }
    let scope = scope(node);
    let mut txn = store.txn();
    let mut words = Vec::with_capacity(keys.len());
    for (place, change) in request.changes.iter().enumerate() {
        let is_changed = since
            .as_ref()
            .is_some_and(|(since, _)| since.changed().get(place).copied().unwrap_or(true));
        let word = judge(node, &txn, &scope, change, (is_changed, request.only_absent))?;
        if word == "applied" && !request.is_dry {
            put_back(&mut txn, &scope, change)?;
        }
        words.push(word);
    }
    if request.is_dry {
        drop(txn);
    } else {
        txn.commit()?;
        store.publish()?;
        node.watches.touch(keys.iter().copied());
    }
    drop(engine);
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
        "GONE the log of this master does not go back to the fork: nobody can tell which keys changed since",
    )
}

fn changing() -> Error {
    Error::text("TRYAGAIN the role of this node is changing")
}

/// Looks through the log without holding anybody up: a change of role or database ends it. With the result, the
/// generation of the write gate for which it holds.
fn search(node: &Node, request: &Request, keys: &[&[u8]]) -> Result<(Since, u64)> {
    let (store, generation) = {
        let engine = node.engine();
        let store = engine.store.clone().ok_or_else(|| Error::text(LOADING))?;
        (store, engine.generation)
    };
    let at = store.history().at(request.fork).map_or("-".to_owned(), |entry| entry.id.to_string());
    if at != request.epoch_id {
        return Err(gone());
    }
    store.publish()?;
    let mut since = Since::new(&store, &scope(node), keys, request.fork);
    drop(store);
    let goes_on = || node.gate.try_read().is_some_and(|engine| engine.generation == generation);
    match since.catch_up(goes_on)? {
        Caught::Up => Ok((since, generation)),
        Caught::Gone => Err(gone()),
        Caught::Ended => Err(changing()),
    }
}

fn judge(
    node: &Node,
    txn: &Txn<'_>,
    scope: &Scope<'_>,
    change: &Change,
    (is_changed, only_absent): (bool, bool),
) -> Result<&'static str> {
    let key = key_of(change);
    if !is_mine(node, key) {
        return Ok("moved");
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

fn is_mine(node: &Node, key: &[u8]) -> bool {
    let request = RouteRequest { is_write: true, readonly: false, asking: false };
    matches!(node.cluster.load().route(std::iter::once(key_slot(key)), request), Route::Run)
}

fn put_back(txn: &mut Txn<'_>, scope: &Scope<'_>, change: &Change) -> Result<()> {
    match change {
        Change::Set { key, value, expire_ms } => {
            let expiry = if *expire_ms == 0 { Expiry::Never } else { Expiry::At(*expire_ms) };
            let options = SetOptions { expiry, ..SetOptions::default() };
            strings::set(txn, scope, key, value, &options)?;
        }
        Change::Delete { key } => {
            keys::del(txn, scope, &[key])?;
        }
        Change::Other { .. } => {}
    }
    Ok(())
}
