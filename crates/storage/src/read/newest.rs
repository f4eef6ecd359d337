//! Reads of the newest state: metadata from memory where it is there.

use std::sync::Arc;

use rocksdb::ReadOptions;

use super::Read;
use crate::hot::Found;
use crate::slots::marks::Marks;
use crate::value::{few, taken};
use crate::{Cursor, Direction, Error, Family, Snapshot, Store, Value, budget};

/// How much is read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtOnce {
    All,
    /// [`super::FEW_BYTES`], or nothing.
    Few,
}

thread_local! {
    static ALL: ReadOptions = ReadOptions::default();
    static FEW: ReadOptions = few(ReadOptions::default());
}

impl Store {
    fn read<'k>(
        &self,
        family: Family,
        keys: impl Iterator<Item = &'k [u8]>,
        at_once: AtOnce,
    ) -> Result<Option<Vec<Option<Value<'_>>>>, Error> {
        let Some(cf) = self.cf_to_read(family)? else {
            return Ok(Some(keys.map(|_| None).collect()));
        };
        let options = if at_once == AtOnce::Few { &FEW } else { &ALL };
        let found = options
            .with(|options| self.db().batched_multi_get_cf_slice_opt(&cf, keys, false, options));
        taken("read keys", found)
    }

    fn multi<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
        at_once: AtOnce,
    ) -> Result<Option<Vec<Option<Value<'_>>>>, Error> {
        budget::step(keys.len() as u64)?;
        if family == Family::Metadata
            && let Some(found) = self.several(keys, at_once)?
        {
            return Ok(Some(found));
        }
        self.read(family, keys.iter().map(AsRef::as_ref), at_once)
    }

    /// Several metadata entries as they are at one moment, some of them from memory: those did not
    /// change while the others were read. `None` if that cannot be told, or none is in memory, or
    /// the others are too much to be read at once.
    fn several<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        at_once: AtOnce,
    ) -> Result<Option<Vec<Option<Value<'_>>>>, Error> {
        let hot = &self.inner().hot;
        let looked: Vec<Found> = keys.iter().map(|key| hot.get(key.as_ref())).collect();
        let is_entry = |found: &Found| matches!(found, Found::Entry(..));
        if !looked.iter().any(is_entry) {
            return Ok(None);
        }
        let others = keys.iter().zip(&looked).filter(|(_, found)| !is_entry(found));
        let others = others.map(|(key, _)| key.as_ref());
        let Some(read) = self.read(Family::Metadata, others, at_once)? else { return Ok(None) };
        let mut read = read.into_iter();
        let has_changed = |found: &Found| match found {
            Found::Entry(_, _, ticket) => !hot.is_current(ticket),
            Found::Missing(_) | Found::Unknown => false,
        };
        if looked.iter().any(has_changed) {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(keys.len());
        for (key, found) in keys.iter().zip(looked) {
            values.push(match found {
                Found::Entry(data, start, _) => Some(Value::shared(data, start)),
                Found::Unknown => read.next().flatten(),
                Found::Missing(ticket) => {
                    let value = read.next().flatten();
                    if let Some(value) = &value {
                        hot.keep(&ticket, key.as_ref(), value);
                    }
                    value
                }
            });
        }
        Ok(Some(values))
    }
}

impl Read for Store {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Value<'_>>, Error> {
        budget::step(1)?;
        let missed = match family {
            Family::Metadata => match self.inner().hot.get(key) {
                Found::Entry(data, start, _) => return Ok(Some(Value::shared(data, start))),
                Found::Missing(ticket) => Some(ticket),
                Found::Unknown => None,
            },
            _ => None,
        };
        let Some(cf) = self.cf_to_read(family)? else { return Ok(None) };
        let found = self.db().get_pinned_cf(&cf, key);
        let found = found.map_err(|error| Error::engine("read a key", error))?;
        budget::found(found.as_ref().map_or(0, |value| value.len()));
        if let (Some(ticket), Some(value)) = (&missed, &found) {
            self.inner().hot.keep(ticket, key, value);
        }
        Ok(found.map(Value::pinned))
    }

    fn multi_get<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Vec<Option<Value<'_>>>, Error> {
        let found = self.multi(family, keys, AtOnce::All)?;
        found.ok_or_else(|| Error::corrupt("read keys", "they were given up"))
    }

    fn few<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Option<Vec<Option<Value<'_>>>>, Error> {
        self.multi(family, keys, AtOnce::Few)
    }

    fn at_one_moment<T>(&self, run: impl FnOnce(&Snapshot<'_>) -> T) -> T {
        run(&self.snapshot())
    }

    fn scan(
        &self,
        family: Family,
        lower: &[u8],
        upper: &[u8],
        direction: Direction,
    ) -> Result<Cursor<'_>, Error> {
        self.cursor(family, (lower, upper), direction, None, ReadOptions::default())
    }

    fn marks(&self) -> Option<Arc<Marks>> {
        Store::marks(self)
    }
}
