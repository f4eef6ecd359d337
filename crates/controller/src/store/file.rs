//! The embedded store's file: term, namespaces, one JSON document per cluster, users, the log of
//! events.
//!
//! Every change is one durable transaction. A cluster changes only by compare-and-swap on its
//! revision, together with the event that says why. The file is locked: one process at a time.
//! A change whose outcome is not known is told apart from one that was not made: [`Outcome`].

mod clusters;
mod engine;
mod log;
mod trial;
mod users;
mod whole;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::store::StoreId;
use planner::Record;
use redb::{Database, ReadableTable, TableDefinition};

use self::clusters::{all, each, put, records, swap};
use self::engine::{Engine, Opener};
pub(super) use self::trial::try_out;
pub(super) use self::whole::Idle;
use super::{
    About, Change, Export, Held, Identity, Outcome, StoreError, failed, sealed, unused_elsewhere,
};
use crate::access::User;
use crate::events::Event;
use crate::seal::Keys;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const NAMESPACES: TableDefinition<&str, ()> = TableDefinition::new("namespaces");
const CLUSTERS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("clusters");
/// Only shows that the disk takes what a change of a record needs.
const PROBE: TableDefinition<&str, &[u8]> = TableDefinition::new("probe");
/// What is said of the file itself; earlier versions neither read nor write it.
const TEXTS: TableDefinition<&str, &str> = TableDefinition::new("texts");

/// Names what failed. What the system said stays in the chain of causes: redb's own errors have
/// none, and whether the disk is full is for the process to know.
fn engine<E: Into<redb::Error>>(what: &'static str) -> impl FnOnce(E) -> StoreError {
    move |error| {
        let cause = match error.into() {
            redb::Error::Io(error) => error.into(),
            other => other.into(),
        };
        StoreError::Engine { what, cause }
    }
}

/// Says of a file that does not open whether the system refused it or its content is at fault.
fn opening(path: PathBuf, cause: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
    match cause.downcast::<std::io::Error>() {
        Ok(cause) => StoreError::File { path, cause: *cause },
        Err(cause) => StoreError::Open { path, cause },
    }
}

/// Says of an error at opening which file it is about.
fn named(path: &Path, error: StoreError) -> StoreError {
    let path = path.to_owned();
    match error {
        StoreError::InUse(_) => StoreError::InUse(path),
        StoreError::Newer { found, .. } => StoreError::Newer { path, found },
        StoreError::GivenUp { mark, .. } => {
            StoreError::GivenUp { what: path.display().to_string(), mark }
        }
        StoreError::Locked { what, why } => {
            StoreError::Locked { what: format!("{what} in {}", path.display()), why }
        }
        StoreError::Engine { what: "open", cause } => opening(path, cause),
        other => other,
    }
}

/// Size of that, bytes.
const PROBE_BYTES: usize = 64 << 10;

/// Makes a store where there is none, whole under another name first: what is half made, because
/// the disk is full or the process dies, would be no store to any later start.
fn make(path: &Path) -> Result<(), StoreError> {
    let refused = |cause| StoreError::File { path: path.to_owned(), cause };
    if path.try_exists().map_err(refused)? {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    // Its user's alone from the start.
    let made = tempfile::Builder::new().prefix(".store-").tempfile_in(folder).map_err(refused)?;
    drop(Database::create(made.path()).map_err(engine("open"))?);
    match made.persist_noclobber(path) {
        Ok(_) => std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(refused),
        // Another process was faster. One of the two will have it.
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(refused(error.error)),
    }
}

/// Leaves the file to its user alone: it holds secrets.
fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let file = std::fs::OpenOptions::new().read(true).append(true).open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(PRIVATE))?;
        tracing::warn!(data = %path.display(), "the store could be read by others, and cannot any more");
    }
    Ok(())
}

/// Mode of the store's file.
const PRIVATE: u32 = 0o600;

/// The open file. Its methods block on the disk.
#[derive(Debug)]
pub(super) struct File {
    engine: Engine,
    /// Where it lies.
    path: PathBuf,
    term: u64,
    home: Option<String>,
    identity: Identity,
    /// Where its content came from.
    origin: Option<String>,
    /// The stores whose place it takes.
    takes: Vec<StoreId>,
    keys: Arc<Keys>,
}

impl File {
    /// Opens or creates the file and starts a new term, durably: at least `min_term`, and above
    /// every earlier one.
    ///
    /// # Errors
    /// Another process has it, it was given up, it is no store, a secret in it does not open with
    /// these keys, or the disk fails.
    pub(super) fn open(path: &Path, min_term: u64, keys: Arc<Keys>) -> Result<Self, StoreError> {
        let opened = make(path).and_then(|()| {
            private(path).map_err(|cause| StoreError::File { path: path.to_owned(), cause })?;
            let file = path.to_owned();
            Self::open_with(Box::new(move || Database::create(&file)), min_term, keys)
        });
        match opened {
            Ok(file) => Ok(Self { path: path.to_owned(), ..file }),
            Err(error) => Err(named(path, error)),
        }
    }

    fn open_with(opener: Opener, min_term: u64, keys: Arc<Keys>) -> Result<Self, StoreError> {
        let file = Engine::new(opener).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(PathBuf::new()),
            other => engine("open")(other),
        })?;
        let begun = file.write("start a term", |tx| {
            tx.open_table(NAMESPACES).map_err(engine("open namespaces"))?;
            tx.open_table(CLUSTERS).map_err(engine("open clusters"))?;
            tx.open_table(PROBE).map_err(engine("open the probe"))?;
            log::create(tx)?;
            users::create(tx)?;
            let mut meta = tx.open_table(META).map_err(engine("open meta"))?;
            let mut texts = tx.open_table(TEXTS).map_err(engine("open texts"))?;
            let identity = whole::begin(&mut meta, &mut texts)?;
            whole::opens(tx, &mut texts, &keys)?;
            let home = texts.get("home").map_err(engine("read its home"))?;
            let home = home.map(|home| home.value().to_owned());
            let last =
                meta.get("term").map_err(engine("read term"))?.map_or(0, |term| term.value());
            let term = min_term.max(last.saturating_add(1));
            meta.insert("term", term).map_err(engine("write term"))?;
            Ok((term, home, identity))
        });
        let (term, home, identity) = begun.done()?;
        file.hold_term(term);
        let origin = file.read("read its origin", whole::origin)?;
        let takes = file.read("read whose place it takes", whole::takes)?;
        let path = PathBuf::new();
        Ok(Self { engine: file, path, term, home, identity, origin, takes, keys })
    }

    /// The term of this process.
    pub(super) fn term(&self) -> u64 {
        self.term
    }

    /// Where the controller that led from this file last said that it lies; `None` before the
    /// first one that says so.
    pub(super) fn home(&self) -> Option<&str> {
        self.home.as_deref()
    }

    /// Says that the file is led from `home` now.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(super) fn claim(&self, home: &str) -> Result<(), StoreError> {
        let written = self.engine.write("claim the store", |tx| {
            let mut texts = tx.open_table(TEXTS).map_err(engine("open texts"))?;
            texts.insert("home", home).map_err(engine("write its home"))?;
            Ok(())
        });
        written.done()
    }

    /// What it is, for people.
    pub(super) fn about(&self) -> About {
        About {
            kind: "embedded",
            place: self.path.display().to_string(),
            identity: self.identity.clone(),
            origin: self.origin.clone(),
            takes: self.takes.clone(),
        }
    }

    /// Its length, bytes.
    pub(super) fn bytes(&self) -> Option<u64> {
        std::fs::metadata(&self.path).ok().map(|file| file.len())
    }

    /// All of it, of one moment.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn export(&self) -> Result<Export, StoreError> {
        let from = self.path.display().to_string();
        self.engine.read("export the store", |tx| whole::export(tx, from, &self.keys))
    }

    /// What secrets are sealed with.
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// How the secrets of each cluster lie there.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn held(&self) -> Result<Vec<Held>, StoreError> {
        self.engine.read("look at secrets", |tx| {
            let table = tx.open_table(CLUSTERS).map_err(engine("read clusters"))?;
            each(&table, sealed::held)
        })
    }

    /// What keeps the store from its work now, for people; `None` if nothing does. Never waits.
    pub(super) fn trouble(&self) -> Option<String> {
        self.engine.trouble()
    }

    /// Another controller has led with the file: this process must end.
    pub(crate) fn lost(&self) -> Option<String> {
        self.engine.lost()
    }

    /// How long ago this process last wrote something durably.
    pub(crate) fn written_ago(&self) -> Option<Duration> {
        self.engine.written_ago()
    }

    /// For how long nothing was written; `None` while a call is under way.
    pub(crate) fn idle(&self) -> Option<Duration> {
        self.engine.idle()
    }

    /// Writes something that means nothing, of the size of a change.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(crate) fn probe(&self) -> Result<(), StoreError> {
        let filling = vec![0x5a; PROBE_BYTES];
        let written = self.engine.write("write a probe", |tx| {
            let mut table = tx.open_table(PROBE).map_err(engine("open the probe"))?;
            table.insert("probe", filling.as_slice()).map_err(engine("write a probe"))?;
            Ok(())
        });
        written.done()
    }

    /// Names of all namespaces, sorted.
    pub(super) fn namespaces(&self) -> Result<Vec<String>, StoreError> {
        self.engine.read("read namespaces", |tx| {
            let table = tx.open_table(NAMESPACES).map_err(engine("read namespaces"))?;
            let mut names = Vec::new();
            for row in table.iter().map_err(engine("read namespaces"))? {
                let (name, ()) = row.map(|(k, _)| (k, ())).map_err(engine("read namespaces"))?;
                names.push(name.value().to_owned());
            }
            Ok(names)
        })
    }

    /// Adds a namespace.
    pub(super) fn create_namespace(&self, name: &str, event: &Event) -> Outcome {
        self.engine.write("create a namespace", |tx| {
            let mut table = tx.open_table(NAMESPACES).map_err(engine("open namespaces"))?;
            let old = table.insert(name, ()).map_err(engine("write a namespace"))?;
            if old.is_some() { Err(StoreError::Exists) } else { log::append(tx, event) }
        })
    }

    /// Removes an empty namespace.
    pub(super) fn delete_namespace(&self, name: &str, event: &Event) -> Outcome {
        self.engine.write("delete a namespace", |tx| {
            if all(tx)?.iter().any(|record| record.namespace == name) {
                return Err(StoreError::NotEmpty);
            }
            let mut table = tx.open_table(NAMESPACES).map_err(engine("open namespaces"))?;
            let old = table.remove(name).map_err(engine("delete a namespace"))?;
            if old.is_none() { Err(StoreError::NotFound) } else { log::append(tx, event) }
        })
    }

    /// Every user, by name.
    pub(super) fn users(&self) -> Result<Vec<User>, StoreError> {
        self.engine.read("read users", users::all)
    }

    /// Adds a user.
    pub(super) fn add_user(&self, user: &User, event: &Event) -> Outcome {
        self.engine.write("add a user", |tx| {
            users::add(tx, user)?;
            log::append(tx, event)
        })
    }

    /// Notes when users were seen.
    pub(super) fn saw_users(&self, seen: &[(String, u64)]) -> Outcome {
        self.engine.write("note that users were seen", |tx| users::saw(tx, seen))
    }

    /// Removes a user.
    pub(super) fn remove_user(&self, name: &str, event: &Event) -> Outcome {
        self.engine.write("remove a user", |tx| {
            users::remove(tx, name)?;
            log::append(tx, event)
        })
    }

    /// The record of a cluster; `None` if there is none of that name.
    pub(super) fn cluster(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Record>, StoreError> {
        self.engine.read("read a cluster", |tx| {
            let table = tx.open_table(CLUSTERS).map_err(engine("read a cluster"))?;
            let bytes = table.get((namespace, name)).map_err(engine("read a cluster"))?;
            bytes.map(|bytes| sealed::record(bytes.value(), &self.keys)).transpose()
        })
    }

    /// Every cluster of every namespace.
    pub(super) fn clusters(&self) -> Result<Vec<Record>, StoreError> {
        self.engine.read("read clusters", |tx| {
            records(&tx.open_table(CLUSTERS).map_err(engine("read clusters"))?, &self.keys)
        })
    }

    /// Adds a cluster.
    pub(super) fn create(&self, record: &Record, event: &Event) -> Outcome {
        self.engine.write("create a cluster", |tx| {
            let table = tx.open_table(NAMESPACES).map_err(engine("open namespaces"))?;
            if table.get(record.namespace.as_str()).map_err(engine("read a namespace"))?.is_none() {
                return Err(StoreError::NotFound);
            }
            let all = all(tx)?;
            if all.iter().any(|r| r.namespace == record.namespace && r.name == record.name) {
                return Err(StoreError::Exists);
            }
            unused_elsewhere(&all, record)?;
            put(tx, record, std::slice::from_ref(event), &self.keys)
        })
    }

    /// Replaces a cluster, if the store still has what the change was made from.
    pub(super) fn swap(&self, change: &Change) -> Outcome {
        self.engine.write("change a cluster", |tx| swap(tx, change, &self.keys))
    }

    /// [`File::swap`] of each, one after the other, and all in one transaction.
    pub(super) fn swap_all(&self, changes: &[Change]) -> Vec<Outcome> {
        if let [change] = changes {
            return vec![self.swap(change)];
        }
        let mut refused = Vec::new();
        let written = self.engine.write("change clusters", |tx| {
            for change in changes {
                refused.push(match swap(tx, change, &self.keys) {
                    Err(error @ StoreError::Engine { .. }) => return Err(error),
                    outcome => outcome.err(),
                });
            }
            Ok(())
        });
        let failure = match written {
            Outcome::Done(()) => None,
            // Nothing of it is written. One that cannot be must not keep the others from it.
            Outcome::NotDone(_) => return changes.iter().map(|change| self.swap(change)).collect(),
            Outcome::Unknown(error) => Some(error.chain()),
        };
        let outcome = |refused: Option<StoreError>| match (refused, &failure) {
            (Some(error), _) => Outcome::NotDone(error),
            (None, Some(why)) => Outcome::Unknown(failed("change clusters")(why.clone())),
            (None, None) => Outcome::Done(()),
        };
        refused.into_iter().map(outcome).collect()
    }

    /// Forgets a cluster.
    pub(super) fn delete(&self, namespace: &str, name: &str, event: &Event) -> Outcome {
        self.engine.write("delete a cluster", |tx| {
            let mut table = tx.open_table(CLUSTERS).map_err(engine("open clusters"))?;
            let old = table.remove((namespace, name)).map_err(engine("delete a cluster"))?;
            if old.is_none() {
                return Err(StoreError::NotFound);
            }
            log::append(tx, event)
        })
    }

    /// Adds events that change nothing.
    pub(crate) fn append(&self, events: &[Event]) -> Outcome {
        let write = |tx: &redb::WriteTransaction| {
            events.iter().try_for_each(|event| log::append(tx, event))
        };
        self.engine.write("write events", write)
    }

    /// The newest `limit` events that `wanted` accepts, oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn events(
        &self,
        limit: usize,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Vec<Event>, StoreError> {
        self.engine.read("read events", |tx| log::newest(tx, limit, wanted))
    }
}

#[cfg(test)]
mod tests;
