//! BGSAVE: a copy of the database in a folder, as Kvrocks makes it, for a restore into a new
//! cluster (`docs/operating.md`).
//!
//! The copy is a checkpoint: nothing is flushed for it, and the tail of the history is in its log.
//! It is kept only once everything in it is acknowledged by the in-sync set and this node is still
//! what it was when it began, so that no backup holds what may be discarded (rule R13). It carries
//! a name ([`NAME`]) and no incarnation: what is restored from it is other data, and no member of
//! any set.
//!
//! Invariants: one at a time; an earlier backup is there until the new one is complete and on the
//! disk; no folder is replaced or removed that holds anything else than a backup.

mod slots;
pub mod state;
mod tail;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use storage::Store;
use tokio::sync::oneshot;
use web::causes::chain;

use self::slots::Slots;
use crate::clock;
use crate::gate::Role;
use crate::grants::owner::BACKUP;
use crate::node::Node;

/// In the folder: what it is a copy of. A few lines, `name value`.
pub const NAME: &str = BACKUP;
/// Longest wait until the set has what is in the copy.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);

/// Copies that are made while slots come or go.
const COPIES_MAX: usize = 3;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{action} {}", path.display())]
    Folder {
        action: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{} holds `{name}`, which is no part of a backup: choose another backup-dir", path.display())]
    Foreign { path: PathBuf, name: String },
    #[error("backup-dir {} is the database itself: choose another", .0.display())]
    Database(PathBuf),
    #[error(
        "{} holds the backup of another shard, made by node {node}: choose another backup-dir, each node has its own; or remove that one by hand",
        path.display()
    )]
    Others { path: PathBuf, node: String },
    #[error(transparent)]
    Storage(#[from] storage::Error),
    #[error(
        "there is no data here to be trusted: it is being loaded, or to be replaced by the master's"
    )]
    NoData,
    #[error("the role of this node or its database changed meanwhile")]
    Changed,
    #[error("{0}")]
    Tail(String),
    #[error("slots came to this shard or left it each time its data was copied: try it once more")]
    Moving,
}

/// One is being made already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running;

/// Makes a backup on a thread of its own.
///
/// # Errors
/// One is being made, or removed.
pub fn begin(node: &Arc<Node>) -> Result<(), Running> {
    make_and_tell(node).map(drop)
}

/// The same; what is returned tells when it is made, or why it was not, in one line.
///
/// # Errors
/// As [`begin`].
pub fn make_and_tell(
    node: &Arc<Node>,
) -> Result<oneshot::Receiver<std::result::Result<(), String>>, Running> {
    let (tell, told) = oneshot::channel();
    start(node, "backup", move |node: &Arc<Node>| {
        let began_ms = clock::unix_ms();
        let outcome = make(node).map_err(|error| chain(&error));
        match &outcome {
            Ok((folder, sequence)) => {
                tracing::info!(folder = %folder.display(), sequence, "backup made");
            }
            Err(error) => tracing::error!(error, "no backup was made"),
        }
        node.backups.end(began_ms, outcome.as_ref().map(drop).map_err(drop));
        // Nobody listens to BGSAVE's.
        drop(tell.send(outcome.map(drop).map_err(|why| why.replace(['\r', '\n'], " "))));
    })?;
    Ok(told)
}

/// Removes the backup there is, on a thread of its own.
///
/// # Errors
/// One is being made, or removed.
pub fn remove(node: &Arc<Node>) -> Result<(), Running> {
    start(node, "backup-removal", |node: &Arc<Node>| {
        let folder = folder(node);
        match not_of_others(node, &folder).and_then(|()| clear(&folder)) {
            Ok(()) => tracing::info!(folder = %folder.display(), "backup removed"),
            Err(error) => tracing::error!(error = chain(&error), "the backup was not removed"),
        }
        node.backups.removed();
    })
}

fn start(
    node: &Arc<Node>,
    name: &str,
    run: impl FnOnce(&Arc<Node>) + Send + 'static,
) -> Result<(), Running> {
    if !node.backups.begin() {
        return Err(Running);
    }
    let own = Arc::clone(node);
    if let Err(error) = std::thread::Builder::new().name(name.into()).spawn(move || run(&own)) {
        tracing::error!(%error, name, "cannot start a thread");
        node.backups.end(clock::unix_ms(), Err(()));
    }
    Ok(())
}

/// `backup-dir`; a relative one lies in `dir`.
pub fn folder(node: &Node) -> PathBuf {
    match node.config.now().backup_dir.as_str() {
        "" => node.path("backup"),
        path => node.path(path),
    }
}

/// Whether there is a backup, and no other shard's.
pub fn is_there(node: &Node) -> bool {
    let folder = folder(node);
    folder.exists() && not_of_others(node, &folder).is_ok()
}

/// Removes an unfinished copy: the process ended while RocksDB made it, and its temporary folder
/// still links every table of that moment. To be called at the start.
pub fn sweep(node: &Node) {
    let mut path = folder(node).into_os_string();
    path.push(".new.tmp");
    if let Err(error) = clear(Path::new(&path)) {
        tracing::warn!(error = chain(&error), "what is left of a backup was not removed");
    }
}

/// What a backup is a copy of, and what must not change while it is made.
struct Origin {
    store: Store,
    generation: u64,
    role: Role,
}

impl Origin {
    fn of(node: &Node) -> Result<Self, Failed> {
        let engine = node.engine();
        match &engine.store {
            Some(store) if !node.resync.is_required() => Ok(Self {
                store: store.clone(),
                generation: engine.generation,
                role: engine.role.clone(),
            }),
            _ => Err(Failed::NoData),
        }
    }

    fn check(&self, node: &Node) -> Result<(), Failed> {
        let engine = node.engine();
        let is_same = engine.generation == self.generation && engine.role == self.role;
        if is_same && !node.resync.is_required() { Ok(()) } else { Err(Failed::Changed) }
    }
}

fn make(node: &Arc<Node>) -> Result<(PathBuf, u64), Failed> {
    let folder = folder(node);
    let beside = |end: &str| {
        let mut path = folder.clone().into_os_string();
        path.push(end);
        PathBuf::from(path)
    };
    let (new, old) = (beside(".new"), beside(".old"));
    prepare(node, &folder, &new, &old)?;
    not_of_others(node, &folder)?;
    let origin = Origin::of(node)?;
    let made = fill(node, &origin, &new);
    let sequence = match made {
        Ok(sequence) => sequence,
        Err(error) => {
            // What is not acknowledged must not lie about; the first error is the one to tell.
            let _ = clear(&new);
            return Err(error);
        }
    };
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |cause| Failed::Folder { action, path, cause }
    };
    if folder.exists() {
        fs::rename(&folder, &old).map_err(io("put aside", &folder))?;
    }
    fs::rename(&new, &folder).map_err(io("put in place", &folder))?;
    sync_parent(&folder).map_err(io("sync the folder of", &folder))?;
    clear(&old)?;
    Ok((folder, sequence))
}

/// Cleans up after an attempt that was cut short, and refuses a folder that holds something else.
fn prepare(node: &Node, folder: &Path, new: &Path, old: &Path) -> Result<(), Failed> {
    if folder.starts_with(node.db_path()) || node.db_path().starts_with(folder) {
        return Err(Failed::Database(folder.to_owned()));
    }
    if !folder.exists() && old.exists() {
        // It was put aside, and nothing came in its place.
        fs::rename(old, folder).map_err(|cause| Failed::Folder {
            action: "take back",
            path: old.to_owned(),
            cause,
        })?;
    }
    parts(folder)?;
    clear(old)?;
    clear(new)?;
    let parent = folder.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(|cause| Failed::Folder {
        action: "create",
        path: parent.to_owned(),
        cause,
    })
}

/// Refuses the backup of a node of another shard, which shares the folder by mistake: it would be
/// the only one of its slots. That of a node of this shard has the same slots, and is replaced.
fn not_of_others(node: &Node, folder: &Path) -> Result<(), Failed> {
    // What cannot be read says nothing, as in a backup of Kvrocks.
    let Ok(text) = fs::read_to_string(folder.join(NAME)) else { return Ok(()) };
    let said = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_default().to_owned()
    };
    let cluster = node.cluster.load();
    let Some(me) = cluster.myself().map(|me| me.id.to_string()) else { return Ok(()) };
    let maker = said("node");
    if maker.is_empty() || maker == me {
        return Ok(());
    }
    let slots = node.engine().store.as_ref().map(|store| Slots::of(node, store).here());
    if slots.is_some_and(|slots| slots == said("slots")) {
        return Ok(());
    }
    Err(Failed::Others { path: folder.to_owned(), node: maker })
}

/// Makes the copy, waits until all of it is acknowledged, names it, and puts it on the disk.
fn fill(node: &Arc<Node>, origin: &Origin, new: &Path) -> Result<u64, Failed> {
    let began = std::time::Instant::now();
    let slots = copy(node, origin, new)?;
    // At least what is in it.
    let sequence = origin.store.latest_sequence();
    tail::acknowledged(node, origin, sequence, began + ACKNOWLEDGED_WITHIN)?;
    let name = name(node, origin, sequence, &slots);
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |cause| Failed::Folder { action, path, cause }
    };
    let path = new.join(NAME);
    fs::write(&path, name).map_err(io("write", &path))?;
    for path in parts(new)? {
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(io("sync", &path))?;
    }
    let synced = File::open(new).and_then(|folder| folder.sync_all());
    synced.map_err(io("sync", new))?;
    origin.check(node)?;
    Ok(sequence)
}

/// The checkpoint, and the slots of what is in it: they were the same before it and after it.
fn copy(node: &Node, origin: &Origin, new: &Path) -> Result<Slots, Failed> {
    for _ in 0..COPIES_MAX {
        let before = Slots::of(node, &origin.store);
        origin.store.checkpoint(new)?;
        if Slots::of(node, &origin.store) == before {
            return Ok(before);
        }
        clear(new)?;
    }
    Err(Failed::Moving)
}

fn name(node: &Node, origin: &Origin, sequence: u64, slots: &Slots) -> String {
    let cluster = node.cluster.load();
    let myself = cluster.myself();
    let node_id = myself.map(|me| me.id.to_string()).unwrap_or_default();
    let newest = origin.store.history().newest().copied();
    let epoch =
        newest.map_or_else(|| "0 -".to_owned(), |entry| format!("{} {}", entry.epoch, entry.id));
    let role = if origin.role.is_master() { "master" } else { "slave" };
    format!(
        "backup 1\nnode {node_id}\nrole {role}\n{slots}epoch {epoch}\nsequence {sequence}\nat_ms {}\nversion {}\n",
        clock::unix_ms(),
        env!("CARGO_PKG_VERSION")
    )
}

/// Whether RocksDB gives a checkpoint's files such names, or it is the name of the backup: what
/// else lies in a folder is somebody's, and stays.
fn is_part(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match name.split_once(['.', '-']) {
        Some((number, "sst" | "log" | "blob")) => is_number(number),
        Some(("MANIFEST" | "OPTIONS", number)) => is_number(number),
        Some(_) => name == NAME,
        None => name == "CURRENT",
    }
}

/// The files of a backup; an error if anything else lies there. Nothing where there is no folder.
fn parts(folder: &Path) -> Result<Vec<PathBuf>, Failed> {
    let failed = |cause| Failed::Folder { action: "read", path: folder.to_owned(), cause };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut parts = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let is_part = name.to_str().is_some_and(is_part);
        if !is_part || !entry.file_type().map_err(failed)?.is_file() {
            let name = name.to_string_lossy().into_owned();
            return Err(Failed::Foreign { path: folder.to_owned(), name });
        }
        parts.push(entry.path());
    }
    Ok(parts)
}

/// Removes a backup, whole or not.
fn clear(folder: &Path) -> Result<(), Failed> {
    parts(folder)?;
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failed::Folder { action: "remove", path: folder.to_owned(), cause: error })
        }
        _ => Ok(()),
    }
}

fn sync_parent(folder: &Path) -> io::Result<()> {
    match folder.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
