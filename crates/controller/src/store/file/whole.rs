//! The file as a whole: what it is called, all of it at once, its end, and its beginning from
//! another store.
//!
//! Each change here is one transaction: the file is as before, or as it is to be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::store::StoreId;
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _,
    Table, TableDefinition, TableError, WriteTransaction,
};
use serde_json::Value;

use super::clusters::{put, records};
use super::engine::transact;
use super::{CLUSTERS, META, NAMESPACES, PROBE, TEXTS, engine, log, make, named, private, sealed};
use crate::events::Event;
use crate::seal::Keys;
use crate::store::whole::{Beginning, CLOSED, Export, Found, GivenUp, Identity};
use crate::store::{FORMAT, StoreError, failed};

/// Texts: the random name, where the content came from, and what it was given up for. Earlier
/// versions read none of them.
const NAME: &str = "name";
const ORIGIN: &str = "origin";
const GIVEN_UP: &str = "given_up";
/// Text: JSON, a list of the stores whose place it takes.
const INSTEAD_OF: &str = "instead_of";
/// Text: id of the key that its leader seals with. Without: nothing is sealed from now on.
const SEALING: &str = "sealing";
/// Numbers.
const GENERATION: &str = "generation";

/// Documents of users by their names. A file may have none.
const USERS: TableDefinition<&str, &[u8]> = TableDefinition::new("users");

fn text(
    texts: &impl ReadableTable<&'static str, &'static str>,
    key: &str,
) -> Result<Option<String>, StoreError> {
    let found = texts.get(key).map_err(engine("read what the store is called"))?;
    Ok(found.map(|found| found.value().to_owned()))
}

fn number(
    meta: &impl ReadableTable<&'static str, u64>,
    key: &str,
) -> Result<Option<u64>, StoreError> {
    let found = meta.get(key).map_err(engine("read numbers of the store"))?;
    Ok(found.map(|found| found.value()))
}

fn mark(
    texts: &impl ReadableTable<&'static str, &'static str>,
) -> Result<Option<GivenUp>, StoreError> {
    let read = |text: String| {
        serde_json::from_str(&text).map_err(failed("read what the store was given up for"))
    };
    text(texts, GIVEN_UP)?.map(read).transpose()
}

fn identity(
    meta: &impl ReadableTable<&'static str, u64>,
    texts: &impl ReadableTable<&'static str, &'static str>,
) -> Result<Option<Identity>, StoreError> {
    let generation = number(meta, GENERATION)?.unwrap_or(1);
    Ok(text(texts, NAME)?.map(|name| Identity { name, generation }))
}

/// Whether this file may be used at all.
fn check(
    meta: &impl ReadableTable<&'static str, u64>,
    texts: &impl ReadableTable<&'static str, &'static str>,
) -> Result<(), StoreError> {
    if let Some(mark) = mark(texts)? {
        return Err(StoreError::GivenUp { what: "the store".to_owned(), mark });
    }
    match number(meta, "format")?.filter(|found| *found > FORMAT) {
        Some(found) => Err(StoreError::Newer { path: PathBuf::new(), found }),
        None => Ok(()),
    }
}

/// Makes sure that the file may be led from, and has a name.
pub(super) fn begin(
    meta: &mut Table<'_, &'static str, u64>,
    texts: &mut Table<'_, &'static str, &'static str>,
) -> Result<Identity, StoreError> {
    check(&*meta, &*texts)?;
    let known = identity(&*meta, &*texts)?;
    let identity = known.unwrap_or_else(Identity::fresh);
    name(meta, texts, &identity)?;
    Ok(identity)
}

fn name(
    meta: &mut Table<'_, &'static str, u64>,
    texts: &mut Table<'_, &'static str, &'static str>,
    identity: &Identity,
) -> Result<(), StoreError> {
    meta.insert("format", FORMAT).map_err(engine("write the format"))?;
    meta.insert(GENERATION, identity.generation).map_err(engine("write the generation"))?;
    texts.insert(NAME, identity.name.as_str()).map_err(engine("write the name"))?;
    Ok(())
}

/// Makes sure that everything opens with these keys, and says which of them seals from now on.
pub(super) fn opens(
    tx: &WriteTransaction,
    texts: &mut Table<'_, &'static str, &'static str>,
    keys: &Keys,
) -> Result<(), StoreError> {
    if let Some(id) = text(&*texts, SEALING)? {
        let what = "secrets".to_owned();
        keys.check(&id).map_err(|why| StoreError::Locked { what, why })?;
    }
    let table = tx.open_table(CLUSTERS).map_err(engine("open clusters"))?;
    for row in table.iter().map_err(engine("read clusters"))? {
        let (_, bytes) = row.map_err(engine("read clusters"))?;
        // What else is wrong with a record is told when it is read to be led by.
        if let Err(locked @ StoreError::Locked { .. }) = sealed::record(bytes.value(), keys) {
            return Err(locked);
        }
    }
    seals(texts, keys)
}

fn seals(texts: &mut Table<'_, &'static str, &'static str>, keys: &Keys) -> Result<(), StoreError> {
    match keys.sealing() {
        Some(id) => {
            texts.insert(SEALING, id).map_err(engine("write which key seals"))?;
        }
        None => {
            texts.remove(SEALING).map_err(engine("write that no key seals"))?;
        }
    }
    Ok(())
}

/// Where the content came from.
pub(super) fn origin(tx: &ReadTransaction) -> Result<Option<String>, StoreError> {
    text(&tx.open_table(TEXTS).map_err(engine("open texts"))?, ORIGIN)
}

/// The stores whose place it takes.
pub(super) fn takes(tx: &ReadTransaction) -> Result<Vec<StoreId>, StoreError> {
    let texts = tx.open_table(TEXTS).map_err(engine("open texts"))?;
    let read = |text: String| {
        serde_json::from_str(&text).map_err(failed("read whose place the store takes"))
    };
    text(&texts, INSTEAD_OF)?.map_or(Ok(Vec::new()), read)
}

fn users(tx: &ReadTransaction) -> Result<BTreeMap<String, Value>, StoreError> {
    let table = match tx.open_table(USERS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
        Err(error) => return Err(engine("read users")(error)),
    };
    let mut users = BTreeMap::new();
    for row in table.iter().map_err(engine("read users"))? {
        let (name, bytes) = row.map_err(engine("read users"))?;
        let user = serde_json::from_slice(bytes.value()).map_err(failed("read a user"))?;
        users.insert(name.value().to_owned(), user);
    }
    Ok(users)
}

/// All of it, of one moment.
pub(super) fn export(
    tx: &ReadTransaction,
    from: String,
    keys: &Keys,
) -> Result<Export, StoreError> {
    let meta = tx.open_table(META).map_err(engine("open meta"))?;
    let texts = tx.open_table(TEXTS).map_err(engine("open texts"))?;
    let identity = identity(&meta, &texts)?;
    let identity = identity.ok_or_else(|| StoreError::Unusable("it has no name yet".to_owned()))?;
    let mut namespaces = Vec::new();
    let table = tx.open_table(NAMESPACES).map_err(engine("read namespaces"))?;
    for row in table.iter().map_err(engine("read namespaces"))? {
        let (name, _) = row.map_err(engine("read namespaces"))?;
        namespaces.push(name.value().to_owned());
    }
    Ok(Export {
        format: FORMAT,
        identity,
        term: number(&meta, "term")?.unwrap_or(0),
        from,
        made_at_ms: crate::events::now_ms(),
        namespaces,
        clusters: records(&tx.open_table(CLUSTERS).map_err(engine("read clusters"))?, keys)?,
        users: users(tx)?,
        events: log::newest(tx, usize::MAX, |_| true)?,
    })
}

/// The open file, from which no controller leads: it is this process's as long as this value lives.
#[derive(Debug)]
pub(in crate::store) struct Idle {
    database: Database,
    keys: Arc<Keys>,
}

impl Idle {
    /// Opens a file; `None` if there is none. One without a name gets one.
    ///
    /// # Errors
    /// A controller has it, it is no store, or of a later format.
    pub(in crate::store) fn open(
        path: &Path,
        keys: &Arc<Keys>,
    ) -> Result<Option<Self>, StoreError> {
        let refused = |cause| StoreError::File { path: path.to_owned(), cause };
        if !path.try_exists().map_err(refused)? {
            return Ok(None);
        }
        Self::opened(path, keys).map(Some)
    }

    /// Makes the file first.
    ///
    /// # Errors
    /// As [`Idle::open`].
    pub(in crate::store) fn make(path: &Path, keys: &Arc<Keys>) -> Result<Self, StoreError> {
        make(path)?;
        Self::opened(path, keys)
    }

    fn opened(path: &Path, keys: &Arc<Keys>) -> Result<Self, StoreError> {
        let opened = private(path)
            .map_err(|cause| StoreError::File { path: path.to_owned(), cause })
            .and_then(|()| {
                Database::create(path).map_err(|error| match error {
                    redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_owned()),
                    other => engine("open")(other),
                })
            })
            .and_then(|database| {
                let idle = Self { database, keys: Arc::clone(keys) };
                idle.prepare()?;
                Ok(idle)
            });
        opened.map_err(|error| named(path, error))
    }

    fn write<T>(
        &self,
        what: &'static str,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        transact(&self.database, what, work).done()
    }

    /// All tables, and a name: a file of an earlier version has none.
    fn prepare(&self) -> Result<(), StoreError> {
        self.write("look at the store", |tx| {
            tx.open_table(NAMESPACES).map_err(engine("open namespaces"))?;
            tx.open_table(CLUSTERS).map_err(engine("open clusters"))?;
            tx.open_table(PROBE).map_err(engine("open the probe"))?;
            log::create(tx)?;
            let mut meta = tx.open_table(META).map_err(engine("open meta"))?;
            let mut texts = tx.open_table(TEXTS).map_err(engine("open texts"))?;
            match begin(&mut meta, &mut texts) {
                Ok(_) | Err(StoreError::GivenUp { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        })
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.database.begin_read().map_err(engine("read the store")).and_then(|tx| work(&tx))
    }

    /// What is there.
    ///
    /// # Errors
    /// It cannot be read.
    pub(in crate::store) fn found(&self) -> Result<Found, StoreError> {
        self.read(|tx| {
            let meta = tx.open_table(META).map_err(engine("open meta"))?;
            let texts = tx.open_table(TEXTS).map_err(engine("open texts"))?;
            let namespaces = tx.open_table(NAMESPACES).map_err(engine("open namespaces"))?;
            let clusters = tx.open_table(CLUSTERS).map_err(engine("open clusters"))?;
            let count = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
            Ok(Found {
                identity: identity(&meta, &texts)?,
                term: number(&meta, "term")?.unwrap_or(0),
                namespaces: count(namespaces.len().map_err(engine("count namespaces"))?),
                clusters: count(clusters.len().map_err(engine("count clusters"))?),
                given_up: mark(&texts)?,
                is_filling: false,
                filling_of: None,
            })
        })
    }

    /// All of it, marked or not.
    ///
    /// # Errors
    /// It cannot be read.
    pub(in crate::store) fn export(&self, from: String) -> Result<Export, StoreError> {
        self.read(|tx| export(tx, from, &self.keys))
    }

    /// Marks it: from here on nobody leads from it, and earlier versions do not open it. Its term
    /// rises as well, since a controller whose file a failure closed looks at no more than that
    /// when it opens it again.
    ///
    /// # Errors
    /// The disk does not take it, or does not say.
    pub(in crate::store) fn give_up(&self, mark: &GivenUp) -> Result<(), StoreError> {
        let text = serde_json::to_string(mark).map_err(failed("encode a mark"))?;
        self.write("give up the store", |tx| {
            let mut meta = tx.open_table(META).map_err(engine("open meta"))?;
            let mut texts = tx.open_table(TEXTS).map_err(engine("open texts"))?;
            let term = number(&meta, "term")?.unwrap_or(0).saturating_add(1);
            meta.insert("term", term).map_err(engine("write term"))?;
            meta.insert("format", CLOSED).map_err(engine("write the format"))?;
            texts.insert(GIVEN_UP, text.as_str()).map_err(engine("write a mark"))?;
            Ok(())
        })
    }

    /// Takes it up again as it is, under another generation and a higher term; `event` says so.
    ///
    /// # Errors
    /// The disk does not take it, or does not say.
    pub(in crate::store) fn adopt(&self, as_: &Beginning, event: &Event) -> Result<(), StoreError> {
        self.write("adopt the store", |tx| {
            log::append(tx, event)?;
            begins(tx, as_)
        })
    }

    /// Replaces what it holds, all at once.
    ///
    /// # Errors
    /// The disk does not take it, or does not say.
    pub(in crate::store) fn fill(
        &self,
        export: &Export,
        as_: &Beginning,
    ) -> Result<(), StoreError> {
        self.write("import into the store", |tx| {
            tx.delete_table(NAMESPACES).map_err(engine("empty namespaces"))?;
            tx.delete_table(CLUSTERS).map_err(engine("empty clusters"))?;
            tx.delete_table(USERS).map_err(engine("empty users"))?;
            log::replace(tx, &export.events)?;
            let mut namespaces = tx.open_table(NAMESPACES).map_err(engine("open namespaces"))?;
            for name in &export.namespaces {
                namespaces.insert(name.as_str(), ()).map_err(engine("write a namespace"))?;
            }
            tx.open_table(CLUSTERS).map_err(engine("open clusters"))?;
            for record in &export.clusters {
                put(tx, record, &[], &self.keys)?;
            }
            seals(&mut tx.open_table(TEXTS).map_err(engine("open texts"))?, &self.keys)?;
            let mut users = tx.open_table(USERS).map_err(engine("open users"))?;
            for (name, user) in &export.users {
                let text = serde_json::to_vec(user).map_err(failed("encode a user"))?;
                users.insert(name.as_str(), text.as_slice()).map_err(engine("write a user"))?;
            }
            begins(tx, as_)
        })
    }
}

/// It is at home nowhere: a controller that leads from it first asks the nodes whether they hear
/// another one.
fn begins(tx: &WriteTransaction, as_: &Beginning) -> Result<(), StoreError> {
    let mut meta = tx.open_table(META).map_err(engine("open meta"))?;
    let mut texts = tx.open_table(TEXTS).map_err(engine("open texts"))?;
    texts.remove(GIVEN_UP).map_err(engine("remove a mark"))?;
    name(&mut meta, &mut texts, &as_.identity)?;
    meta.insert("term", as_.term).map_err(engine("write term"))?;
    texts.insert(ORIGIN, as_.origin.as_str()).map_err(engine("write its origin"))?;
    texts.insert("home", as_.origin.as_str()).map_err(engine("write its home"))?;
    let takes = serde_json::to_string(&as_.takes).map_err(failed("encode whose place it takes"))?;
    texts.insert(INSTEAD_OF, takes.as_str()).map_err(engine("write whose place it takes"))?;
    Ok(())
}
