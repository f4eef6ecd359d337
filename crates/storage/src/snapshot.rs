//! The database as it is at one sequence number, with what a transaction has written on top.
//!
//! The rule: **what reads more than one record reads at a snapshot.** Reads take no key locks, and
//! a replica applies its master's batches without any. E.g. LRANGE reads where the list begins and
//! then its elements: if another client rotates the list in between, elements would be missing that
//! were never gone. Functions of types that read several records therefore take a `&Snapshot`.
//!
//! A point read needs none: the metadata of a key, and then sub-keys of the version it names by one
//! [`Read::get`] or one [`Read::multi_get`], which is a moment of its own. The sub-keys of a
//! version do not change once the version is gone, so what is found was there at some moment of the
//! read. Nor does a write need one: the caller has locked its keys, and only a master runs writes.

use rocksdb::{DB, ReadOptions, SnapshotWithThreadMode};

use crate::overlay::{Lookup, Shared};
use crate::{Cursor, Direction, Error, Family, Read, Store, Value};

/// See the module documentation. It keeps old states of keys from being compacted away: not to be
/// held for long.
pub struct Snapshot<'a> {
    store: &'a Store,
    at: SnapshotWithThreadMode<'a, DB>,
    overlay: Option<Shared>,
}

impl<'a> Snapshot<'a> {
    pub(crate) fn take(store: &'a Store, overlay: Option<Shared>) -> Self {
        Self { store, at: store.db().snapshot(), overlay }
    }

    /// Number of the newest record of the database that it sees.
    pub fn sequence(&self) -> u64 {
        self.at.sequence_number().unwrap_or_default()
    }

    fn look_up(&self, family: Family, key: &[u8]) -> Lookup {
        self.overlay.as_ref().map_or(Lookup::Unknown, |overlay| overlay.get(family, key))
    }

    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.at);
        options
    }
}

impl Store {
    /// The database as it is now.
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot::take(self, None)
    }
}

impl std::fmt::Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({})", self.sequence())
    }
}

impl Read for Snapshot<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Value<'_>>, Error> {
        match self.look_up(family, key) {
            Lookup::Value(value) => return Ok(Some(value)),
            Lookup::Deleted => return Ok(None),
            Lookup::Unknown => {}
        }
        let found = self.store.db().get_pinned_cf_opt(self.store.cf(family)?, key, &self.options());
        let found = found.map_err(|error| Error::engine("read a key at a snapshot", error))?;
        Ok(found.map(Value::pinned))
    }

    fn multi_get<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Vec<Option<Value<'_>>>, Error> {
        if self.overlay.is_some() {
            return keys.iter().map(|key| self.get(family, key.as_ref())).collect();
        }
        let (options, keys) = (self.options(), keys.iter().map(AsRef::as_ref));
        let cf = self.store.cf(family)?;
        self.store
            .db()
            .batched_multi_get_cf_slice_opt(cf, keys, false, &options)
            .into_iter()
            .map(|found| found.map(|found| found.map(Value::pinned)))
            .map(|found| found.map_err(|error| Error::engine("read keys at a snapshot", error)))
            .collect()
    }

    fn scan(
        &self,
        family: Family,
        lower: &[u8],
        upper: &[u8],
        direction: Direction,
    ) -> Result<Cursor<'_>, Error> {
        let overlay = self.overlay.as_ref().map(|overlay| overlay.slice(family, lower, upper));
        self.store.cursor(family, (lower, upper), direction, overlay, self.options())
    }
}
