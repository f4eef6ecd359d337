//! The embedded store: term, namespaces, one JSON document per cluster, the log of events.
//!
//! Every change is one durable transaction. A cluster changes only by compare-and-swap on its
//! revision, together with the event that says why. The file is locked: one process at a time.

use std::path::{Path, PathBuf};

use planner::Record;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use topology::Endpoint;

use crate::events::Event;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const NAMESPACES: TableDefinition<&str, ()> = TableDefinition::new("namespaces");
const CLUSTERS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("clusters");
const EVENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("events");

/// Events kept; older ones are dropped.
const EVENTS_MAX: u64 = 10_000;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the file.
    #[error("another controller uses {}; stop it, or set another `data` file", .0.display())]
    InUse(PathBuf),
    /// The cluster was changed meanwhile.
    #[error("the cluster has been updated by others")]
    Conflict,
    /// It is there already.
    #[error("already exists")]
    Exists,
    /// It is not there.
    #[error("not found")]
    NotFound,
    /// A namespace still has clusters.
    #[error("forbidden: please delete clusters first")]
    NotEmpty,
    /// An address or balancer belongs to another cluster.
    #[error("{what} is already used by cluster {cluster}")]
    Used {
        /// The address.
        what: String,
        /// Its owner.
        cluster: String,
    },
    /// The file cannot be made, or its rights be changed.
    #[error("open the store {} (`data`)", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The file is no store, or a broken one.
    #[error("open the store {} (`data`): is it a controller's?", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file or its content is broken, or the disk is.
    #[error("store {what}")]
    Engine {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn engine<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: &'static str,
) -> impl FnOnce(E) -> StoreError {
    move |cause| StoreError::Engine { what, cause: cause.into() }
}

/// Makes the file where there is none, and leaves it to its user alone: it holds secrets.
fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let file = std::fs::OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(PRIVATE)
        .open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(PRIVATE))?;
        tracing::warn!(data = %path.display(), "the store could be read by others, and cannot any more");
    }
    Ok(())
}

/// Mode of the store's file.
const PRIVATE: u32 = 0o600;

/// The open store. Its methods block on the disk.
#[derive(Debug)]
pub struct Store {
    database: Database,
    term: u64,
}

impl Store {
    /// Opens or creates the file and starts a new term, durably: at least `min_term`, and above
    /// every earlier one.
    pub fn open(path: &Path, min_term: u64) -> Result<Self, StoreError> {
        private(path).map_err(|cause| StoreError::File { path: path.to_owned(), cause })?;
        let database = Database::create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_owned()),
            other => StoreError::Open { path: path.to_owned(), cause: Box::new(other) },
        })?;
        let mut store = Self { database, term: 0 };
        store.term = store.write("start a term", |tx| {
            tx.open_table(NAMESPACES).map_err(engine("open namespaces"))?;
            tx.open_table(CLUSTERS).map_err(engine("open clusters"))?;
            tx.open_table(EVENTS).map_err(engine("open events"))?;
            let mut meta = tx.open_table(META).map_err(engine("open meta"))?;
            let last =
                meta.get("term").map_err(engine("read term"))?.map_or(0, |term| term.value());
            let term = min_term.max(last + 1);
            meta.insert("term", term).map_err(engine("write term"))?;
            Ok(term)
        })?;
        Ok(store)
    }

    /// The term of this process.
    pub fn term(&self) -> u64 {
        self.term
    }

    fn write<T>(
        &self,
        what: &'static str,
        work: impl FnOnce(&redb::WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let transaction = self.database.begin_write().map_err(engine(what))?;
        let result = work(&transaction)?;
        transaction.commit().map_err(engine(what))?;
        Ok(result)
    }

    /// Names of all namespaces, sorted.
    pub fn namespaces(&self) -> Result<Vec<String>, StoreError> {
        let tx = self.database.begin_read().map_err(engine("read namespaces"))?;
        let table = tx.open_table(NAMESPACES).map_err(engine("read namespaces"))?;
        let mut names = Vec::new();
        for row in table.iter().map_err(engine("read namespaces"))? {
            let (name, ()) = row.map(|(k, _)| (k, ())).map_err(engine("read namespaces"))?;
            names.push(name.value().to_owned());
        }
        Ok(names)
    }

    /// Adds a namespace.
    pub fn create_namespace(&self, name: &str) -> Result<(), StoreError> {
        self.write("create a namespace", |tx| {
            let mut table = tx.open_table(NAMESPACES).map_err(engine("open namespaces"))?;
            let old = table.insert(name, ()).map_err(engine("write a namespace"))?;
            if old.is_some() { Err(StoreError::Exists) } else { Ok(()) }
        })
    }

    /// Removes an empty namespace.
    pub fn delete_namespace(&self, name: &str) -> Result<(), StoreError> {
        self.write("delete a namespace", |tx| {
            if all(tx)?.iter().any(|record| record.namespace == name) {
                return Err(StoreError::NotEmpty);
            }
            let mut table = tx.open_table(NAMESPACES).map_err(engine("open namespaces"))?;
            let old = table.remove(name).map_err(engine("delete a namespace"))?;
            if old.is_none() { Err(StoreError::NotFound) } else { Ok(()) }
        })
    }

    /// The record of a cluster; `None` if there is none of that name.
    pub fn cluster(&self, namespace: &str, name: &str) -> Result<Option<Record>, StoreError> {
        let tx = self.database.begin_read().map_err(engine("read a cluster"))?;
        let table = tx.open_table(CLUSTERS).map_err(engine("read a cluster"))?;
        let bytes = table.get((namespace, name)).map_err(engine("read a cluster"))?;
        let read = |bytes: redb::AccessGuard<'_, &[u8]>| {
            serde_json::from_slice(bytes.value()).map_err(engine("read a cluster"))
        };
        bytes.map(read).transpose()
    }

    /// Every cluster of every namespace.
    pub fn clusters(&self) -> Result<Vec<Record>, StoreError> {
        let tx = self.database.begin_read().map_err(engine("read clusters"))?;
        let table = tx.open_table(CLUSTERS).map_err(engine("read clusters"))?;
        records(&table)
    }

    /// Adds a cluster.
    pub fn create(&self, record: &Record, event: &Event) -> Result<(), StoreError> {
        self.write("create a cluster", |tx| {
            let table = tx.open_table(NAMESPACES).map_err(engine("open namespaces"))?;
            if table.get(record.namespace.as_str()).map_err(engine("read a namespace"))?.is_none() {
                return Err(StoreError::NotFound);
            }
            if all(tx)?.iter().any(|r| r.namespace == record.namespace && r.name == record.name) {
                return Err(StoreError::Exists);
            }
            put(tx, record, event)
        })
    }

    /// Replaces a cluster, if its revision is still one less than `record`'s.
    pub fn swap(&self, record: &Record, event: &Event) -> Result<(), StoreError> {
        self.write("change a cluster", |tx| {
            let all = all(tx)?;
            let old = all
                .iter()
                .find(|old| old.namespace == record.namespace && old.name == record.name)
                .ok_or(StoreError::NotFound)?;
            if old.revision + 1 != record.revision {
                return Err(StoreError::Conflict);
            }
            put(tx, record, event)
        })
    }

    /// Forgets a cluster.
    pub fn delete(&self, namespace: &str, name: &str, event: &Event) -> Result<(), StoreError> {
        self.write("delete a cluster", |tx| {
            let mut table = tx.open_table(CLUSTERS).map_err(engine("open clusters"))?;
            let old = table.remove((namespace, name)).map_err(engine("delete a cluster"))?;
            if old.is_none() {
                return Err(StoreError::NotFound);
            }
            append(tx, event)
        })
    }

    /// Adds an event that changes nothing.
    pub fn append(&self, event: &Event) -> Result<(), StoreError> {
        self.write("write an event", |tx| append(tx, event))
    }

    /// The newest `limit` events that `wanted` accepts, oldest first.
    pub fn events(
        &self,
        limit: usize,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Vec<Event>, StoreError> {
        let tx = self.database.begin_read().map_err(engine("read events"))?;
        let table = tx.open_table(EVENTS).map_err(engine("read events"))?;
        let mut events = Vec::new();
        for row in table.iter().map_err(engine("read events"))?.rev() {
            let (number, bytes) = row.map_err(engine("read events"))?;
            let mut event: Event =
                serde_json::from_slice(bytes.value()).map_err(engine("read an event"))?;
            event.number = number.value();
            if wanted(&event) {
                events.push(event);
            }
            if events.len() >= limit {
                break;
            }
        }
        events.reverse();
        Ok(events)
    }
}

fn records(
    table: &impl ReadableTable<(&'static str, &'static str), &'static [u8]>,
) -> Result<Vec<Record>, StoreError> {
    let mut records = Vec::new();
    for row in table.iter().map_err(engine("read clusters"))? {
        let (_, bytes) = row.map_err(engine("read clusters"))?;
        records.push(serde_json::from_slice(bytes.value()).map_err(engine("read a cluster"))?);
    }
    Ok(records)
}

fn all(tx: &redb::WriteTransaction) -> Result<Vec<Record>, StoreError> {
    records(&tx.open_table(CLUSTERS).map_err(engine("open clusters"))?)
}

fn put(tx: &redb::WriteTransaction, record: &Record, event: &Event) -> Result<(), StoreError> {
    unused_elsewhere(&all(tx)?, record)?;
    let text = serde_json::to_vec(record).map_err(engine("encode a cluster"))?;
    let mut table = tx.open_table(CLUSTERS).map_err(engine("open clusters"))?;
    table
        .insert((record.namespace.as_str(), record.name.as_str()), text.as_slice())
        .map_err(engine("write a cluster"))?;
    append(tx, event)
}

/// Nodes and balancers are told everything as a whole: two clusters on one would fight for it.
fn unused_elsewhere(all: &[Record], record: &Record) -> Result<(), StoreError> {
    for other in all {
        if other.namespace == record.namespace && other.name == record.name {
            continue;
        }
        let cluster = format!("{}/{}", other.namespace, other.name);
        let taken = |local: &Endpoint| other.nodes().any(|(_, node)| node.local == *local);
        if let Some((_, node)) = record.nodes().find(|(_, node)| taken(&node.local)) {
            return Err(StoreError::Used { what: format!("node {}", node.local), cluster });
        }
        let taken = |at: &str| other.balancers.iter().any(|balancer| balancer.endpoint == at);
        if let Some(balancer) = record.balancers.iter().find(|b| taken(&b.endpoint)) {
            return Err(StoreError::Used {
                what: format!("balancer {}", balancer.endpoint),
                cluster,
            });
        }
    }
    Ok(())
}

fn append(tx: &redb::WriteTransaction, event: &Event) -> Result<(), StoreError> {
    let mut table = tx.open_table(EVENTS).map_err(engine("open events"))?;
    let next =
        table.last().map_err(engine("read events"))?.map_or(1, |(number, _)| number.value() + 1);
    let text = serde_json::to_vec(event).map_err(engine("encode an event"))?;
    table.insert(next, text.as_slice()).map_err(engine("write an event"))?;
    if let Some(oldest) = next.checked_sub(EVENTS_MAX) {
        table.remove(oldest).map_err(engine("drop an event"))?;
    }
    Ok(())
}
