//! RDB LOAD: a dump file of a Redis server, read into this node.
//!
//! The file is read as a stream. Each key is a batch, so it is there whole or not at all, and what
//! is in memory is one value: a value above the limit of batches ends the load. Keys that were
//! written before that stay, as in Kvrocks.
//!
//! A library of functions takes the place of the one of its name; with NX that one stays.
//!
//! A value is read with nothing held. Only for its batch the write gate is held, and the lock of
//! its key; a change of role or database since the begin ends the load there. What ends by itself
//! is waited for with nothing held: a pause of all writes, and the hand-over of the key's slot.
//!
//! Clients name files, so they reach only plain files in `dir`, links resolved.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLockReadGuard;
use rdb::file::{File, Key, Next};
use resp::Writer;
use storage::types::CommandError;
use storage::types::dump::Sink;
use storage::types::keys;
use storage::{Scope, Store, Suspended};
use topology::{Route, key_slot};

use super::script::Loaded;
use crate::clock;
use crate::command::{Args, Error, Reply, Result};
use crate::config::Values;
use crate::gate::Engine;
use crate::locks::{Held, Locks};
use crate::node::Node;
use crate::session::serve::{self, Ready, Server};
use crate::session::{After, Command, SessionCx, Tells, gates};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::container("rdb", RDB).admin().at_node(),
];

#[rustfmt::skip]
const RDB: &[Command] = &[
    Command::session("rdb|load", -3, load).admin().at_node().no_script().no_multi(),
];

/// Keys between two times at which what is written is handed to the operating system.
const PUBLISHED_KEYS: u64 = 256;
/// Between two looks at whether what is waited for is so.
const SET_PAUSE: Duration = Duration::from_millis(10);
/// Bytes that are read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// What is to be loaded.
struct Request {
    path: PathBuf,
    /// NX: keys that are there stay.
    only_new: bool,
    /// The database of Redis from which keys are taken.
    db: u64,
    namespace: Arc<[u8]>,
}

fn load(cx: &mut SessionCx<'_>, args: &mut Args<'_>, _reply: Reply<'_>) -> Result<After> {
    let path = PathBuf::from(args.text()?);
    let namespace = Arc::clone(&cx.session.namespace);
    let mut request = Request { path, only_new: false, db: 0, namespace };
    while let Some(word) = args.word() {
        match &*word {
            b"NX" => request.only_new = true,
            b"DB" => request.db = args.number()?,
            _ => return Err(Error::Syntax),
        }
    }
    let (node, protocol) = (Arc::clone(cx.node), cx.session.protocol);
    let answer = Box::pin(async move {
        let done = tokio::task::spawn_blocking(move || run(&node, &request)).await;
        let done = done.unwrap_or_else(|error| Err(Error::err(format!("load: {error}"))));
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, protocol);
        match done {
            Ok(()) => writer.simple("OK"),
            Err(error) => writer.error(&error.to_string()),
        }
        bytes
    });
    Ok(After::Later(answer, Tells::Write))
}

/// A plain file in `dir`, and its length.
fn open(node: &Node, path: &Path) -> Result<(fs::File, u64)> {
    let failed = |error: std::io::Error| Error::err(format!("open the dump file: {error}"));
    let folder = node.dir.canonicalize().map_err(failed)?;
    let path = folder.join(path).canonicalize().map_err(failed)?;
    // Before it is opened: opening a pipe would wait, and a device might do anything.
    let metadata = fs::metadata(&path).map_err(failed)?;
    if !path.starts_with(&folder) || !metadata.is_file() {
        return Err(Error::text("ERR RDB LOAD reads plain files in the folder `dir` only"));
    }
    Ok((fs::File::open(path).map_err(failed)?, metadata.len()))
}

fn run(node: &Node, request: &Request) -> Result<()> {
    let (file, bytes) = open(node, &request.path)?;
    let generation = node.engine().generation;
    if !node.loads.begin(bytes) {
        return Err(Error::text("ERR another dump file is being loaded"));
    }
    let file = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut load = Load { node, request, generation, written: 0 };
    let outcome = load.all(file);
    node.loads.end(outcome.is_err());
    if let Err(error) = &outcome {
        tracing::warn!(%error, keys = load.written, "a dump file was not loaded to its end");
    }
    outcome
}

struct Load<'a> {
    node: &'a Node,
    request: &'a Request,
    /// Of the role and the database when it began.
    generation: u64,
    written: u64,
}

fn unreadable(error: rdb::Error) -> Error {
    Error::err(format!("the dump file cannot be read: {error}"))
}

impl Load<'_> {
    fn all(&mut self, file: impl std::io::Read) -> Result<()> {
        let mut file = File::open(file).map_err(unreadable)?;
        loop {
            if *self.node.shutdown().borrow() {
                return Err(stopped());
            }
            match file.read_next().map_err(unreadable)? {
                Next::Key(key) => {
                    let is_written = self.one(&mut file, &key)?;
                    self.written += u64::from(is_written);
                    self.node.loads.passed(is_written, file.taken());
                }
                Next::Library(source) => self.library(source)?,
                Next::End => return self.publish(),
            }
        }
    }

    /// Loads one key, or passes it over. Returns which.
    fn one(&mut self, file: &mut File<impl std::io::Read>, key: &Key) -> Result<bool> {
        let now_ms = clock::unix_ms();
        let is_over = key.expire_ms != 0 && key.expire_ms <= now_ms;
        let is_module = rdb::Kind::of(key.code).is_none();
        let config = self.node.config.now();
        let (namespace, cluster) = (&*self.request.namespace, config.cluster_enabled);
        let scope = Scope { namespace, cluster, now_ms };
        // Of what is passed over anyway it does not matter whose it is.
        let is_wanted = !is_over && !is_module && key.db == self.request.db;
        let is_ours = is_wanted && {
            let route = self.route(&key.name, &config, &self.node.engine())?;
            matches!(route, Route::Run | Route::TryAgain)
        };
        if !is_ours {
            file.pass(key).map_err(unreadable)?;
            return Ok(false);
        }
        let Some(writes) = self.read(file, key, &scope)? else { return Ok(false) };
        self.write(&key.name, writes, &scope)
    }

    /// Keeps a library, of whichever database: they belong to none.
    fn library(&self, source: Vec<u8>) -> Result<()> {
        let (node, config) = (self.node, self.node.config.now());
        let named = |error: Error| {
            let text = error.to_string();
            let text = text.strip_prefix("ERR ").unwrap_or(&text);
            Error::err(format!("a library of the dump file cannot be kept: {text}"))
        };
        let library = Loaded::of_file(node, &config, source).map_err(named)?;
        self.wait_for_set()?;
        self.has_room(&config)?;
        let entered = self.enter_alone(None, &Locks::all_stripes())?;
        let Some((engine, held)) = entered else { return Ok(()) };
        let store = engine.store.as_ref().ok_or_else(changed)?;
        let mut txn = store.txn();
        let is_kept = library.put(&mut txn, self.request.only_new).map_err(named)?;
        txn.commit()?;
        drop(held);
        tracing::info!(
            library = library.name(),
            is_kept,
            "a dump file holds a library of functions"
        );
        Ok(())
    }

    /// Refuses what would grow a database that is as large as it may be.
    fn has_room(&self, config: &Values) -> Result<()> {
        if self.node.has_reached_its_size(config) {
            return Err(Error::text("ERR the database has reached max-db-size"));
        }
        Ok(())
    }

    /// The database, if nothing has changed since the begin.
    fn store(&self) -> Result<Store> {
        let engine = self.node.engine();
        let store = gates::serves_writes(self.node, &self.node.config.now(), &engine)?;
        if engine.generation != self.generation {
            return Err(changed());
        }
        Ok(store.clone())
    }

    /// The batch of a key; `None` if nothing is left of its value.
    fn read(
        &self,
        file: &mut File<impl std::io::Read>,
        key: &Key,
        scope: &Scope<'_>,
    ) -> Result<Option<Suspended>> {
        let store = self.store()?;
        let mut txn = store.txn();
        let named = |error: CommandError| match error {
            CommandError::Redis(error) => {
                let name = key.name.escape_ascii();
                Error::err(format!("the dump file cannot be read at key {name}: {error}"))
            }
            error => Error::from(error),
        };
        let mut sink = Sink::new(&mut txn, scope.at(&key.name), key.code, key.expire_ms);
        let taken = file.value::<CommandError>(key, &mut |part| sink.take(part));
        taken.map_err(named)?;
        let is_there = sink.finish().map_err(named)?;
        Ok(is_there.then(|| txn.suspend()))
    }

    /// Waits while the in-sync set is as far behind as it may be: then other writes wait too.
    fn wait_for_set(&self) -> Result<()> {
        let limit = self.node.config.now().unacknowledged_max_bytes.0;
        let commit = &self.node.grants.commit;
        while commit.is_waiting() && commit.tail_bytes(&self.store()?) > limit {
            if *self.node.shutdown().borrow() {
                return Err(stopped());
            }
            std::thread::park_timeout(SET_PAUSE);
        }
        Ok(())
    }

    /// Writes the batch of a key. False if the key is to stay as it is.
    fn write(&mut self, name: &[u8], writes: Suspended, scope: &Scope<'_>) -> Result<bool> {
        self.wait_for_set()?;
        let (node, config) = (self.node, self.node.config.now());
        self.has_room(&config)?;
        let stripes = Locks::stripes(std::iter::once(name));
        let entered = self.enter_alone(Some(name), &stripes)?;
        let Some((engine, held)) = entered else { return Ok(false) };
        let store = engine.store.as_ref().ok_or_else(changed)?;
        if self.request.only_new && keys::exists(store, scope, &[name])? > 0 {
            return Ok(false);
        }
        let now_ms = scope.now_ms;
        let server = Server { node, config: &config, store, worker: 0, now_ms, writer: None };
        let mut ready = Ready::new();
        let tell = |batch: &[u8]| serve::note(&server, batch, &mut ready);
        store.txn_resumed(writes).commit_and_tell(tell)?;
        server.serve_holding(&mut ready, &stripes);
        drop(held);
        server.serve(ready);
        if self.written.is_multiple_of(PUBLISHED_KEYS) {
            store.publish()?;
        }
        Ok(true)
    }

    fn publish(&self) -> Result<()> {
        self.store()?.publish()?;
        Ok(())
    }

    /// The write gate, for a key of this node, or for what is of no slot; `None` if the key has
    /// become another's. A slot that is handed over just now is waited for: whose it is then, is
    /// not known before. What is of no slot waits for all of them, as a command does.
    fn enter(&self, key: Option<&[u8]>) -> Result<Option<RwLockReadGuard<'_, Engine>>> {
        loop {
            let (engine, config) = (self.node.engine(), self.node.config.now());
            gates::serves_writes(self.node, &config, &engine)?;
            if engine.generation != self.generation {
                return Err(changed());
            }
            let route = match key {
                _ if gates::is_paused(self.node) => Route::TryAgain,
                Some(key) => self.route(key, &config, &engine)?,
                None if self.node.moves.is_holding() => Route::TryAgain,
                None => Route::Run,
            };
            match route {
                Route::Run => return Ok(Some(engine)),
                Route::TryAgain => drop(engine),
                _ => return Ok(None),
            }
            if *self.node.shutdown().borrow() {
                return Err(stopped());
            }
            std::thread::park_timeout(SET_PAUSE);
        }
    }

    /// The same, with the locks of these stripes. They are not waited for with the gate: a script
    /// may hold them whose end waits for this node to be told something, which takes the gate.
    fn enter_alone(
        &self,
        key: Option<&[u8]>,
        stripes: &[u16],
    ) -> Result<Option<(RwLockReadGuard<'_, Engine>, Held<'_>)>> {
        while let Some(engine) = self.enter(key)? {
            if let Some(held) = self.node.locks.lock_within(stripes, SET_PAUSE) {
                return Ok(Some((engine, held)));
            }
            drop(engine);
            if *self.node.shutdown().borrow() {
                return Err(stopped());
            }
        }
        Ok(None)
    }

    fn route(&self, key: &[u8], config: &Values, engine: &Engine) -> Result<Route> {
        if !config.cluster_enabled {
            return Ok(Route::Run);
        }
        gates::route_write(self.node, engine, key_slot(key))
    }
}

fn stopped() -> Error {
    Error::text("ERR this node is being stopped")
}

fn changed() -> Error {
    Error::text("TRYAGAIN the role of this node or its database changed meanwhile")
}

#[cfg(test)]
mod tests;
