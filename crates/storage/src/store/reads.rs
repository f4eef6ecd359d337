//! Reads of the newest state: metadata from memory where it is there.

use rocksdb::ReadOptions;

use super::Store;
use crate::hot::Found;
use crate::{Cursor, Direction, Error, Family, Read, Value, budget};

impl Store {
    fn read_all<'k>(
        &self,
        family: Family,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Result<Vec<Option<Value<'_>>>, Error> {
        self.inner
            .db
            .batched_multi_get_cf_slice(self.cf(family)?, keys, false)
            .into_iter()
            .map(|found| match found {
                Ok(found) => Ok(found.map(Value::pinned)),
                Err(error) => Err(Error::engine("read keys", error)),
            })
            .collect()
    }

    /// Several metadata entries as they are at one moment, some of them from memory: those did not change while the others
    /// were read. `None` if that cannot be told, or none is in memory.
    fn several<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Option<Vec<Option<Value<'_>>>>, Error> {
        let hot = &self.inner.hot;
        let looked: Vec<Found> = keys.iter().map(|key| hot.get(key.as_ref())).collect();
        let is_entry = |found: &Found| matches!(found, Found::Entry(..));
        if !looked.iter().any(is_entry) {
            return Ok(None);
        }
        let others = keys.iter().zip(&looked).filter(|(_, found)| !is_entry(found));
        let others = others.map(|(key, _)| key.as_ref());
        let mut read = self.read_all(Family::Metadata, others)?.into_iter();
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
            Family::Metadata => match self.inner.hot.get(key) {
                Found::Entry(data, start, _) => return Ok(Some(Value::shared(data, start))),
                Found::Missing(ticket) => Some(ticket),
                Found::Unknown => None,
            },
            _ => None,
        };
        let found = self
            .inner
            .db
            .get_pinned_cf(self.cf(family)?, key)
            .map_err(|error| Error::engine("read a key", error))?;
        budget::found(found.as_ref().map_or(0, |value| value.len()));
        if let (Some(ticket), Some(value)) = (&missed, &found) {
            self.inner.hot.keep(ticket, key, value);
        }
        Ok(found.map(Value::pinned))
    }

    fn multi_get<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Vec<Option<Value<'_>>>, Error> {
        budget::step(keys.len() as u64)?;
        if family == Family::Metadata
            && let Some(found) = self.several(keys)?
        {
            return Ok(found);
        }
        self.read_all(family, keys.iter().map(AsRef::as_ref))
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

    fn marks(&self) -> Option<std::sync::Arc<crate::slots::Marks>> {
        Store::marks(self)
    }
}
