//! Reading: one key, many keys, a range. The same for the database, for a transaction, which sees
//! its own writes, and for a snapshot of either.

use std::sync::Arc;

use crate::slots::marks::Marks;
use crate::{Cursor, Direction, Error, Family, Snapshot, Value};

pub use crate::cursor::Entry;
pub use crate::value::FEW_BYTES;

mod newest;

/// What commands read from: [`crate::Store`], [`crate::Txn`] or a [`crate::Snapshot`] of one; the
/// module of the last says when one is needed.
pub trait Read {
    /// The value of a key.
    ///
    /// # Errors
    /// I/O errors and corruption.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Value<'_>>, Error>;

    /// Calls `look` with the value of a key, which is not copied out of what was written for that.
    /// It reads nothing itself.
    ///
    /// # Errors
    /// I/O errors and corruption.
    fn look<T>(
        &self,
        family: Family,
        key: &[u8],
        look: impl FnOnce(Option<&[u8]>) -> T,
    ) -> Result<T, Error> {
        Ok(look(self.get(family, key)?.as_deref()))
    }

    /// The values of many keys at once, in their order.
    ///
    /// # Errors
    /// I/O errors and corruption.
    fn multi_get<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Vec<Option<Value<'_>>>, Error>;

    /// The same, if they are few bytes together ([`FEW_BYTES`]; what is shared with a cache does
    /// not count); `None` if they are more, for then they are not to be held all at once.
    ///
    /// # Errors
    /// I/O errors and corruption.
    fn few<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Option<Vec<Option<Value<'_>>>>, Error>;

    /// Runs what reads several records on a snapshot of this moment.
    fn at_one_moment<T>(&self, run: impl FnOnce(&Snapshot<'_>) -> T) -> T
    where
        Self: Sized;

    /// All entries of `[lower, upper)`; an empty `upper` means no bound. The scan sees the state of
    /// the moment it was opened. Without a call of [`Cursor::next`] nothing is read.
    ///
    /// # Errors
    /// Only if the family is missing; reading errors come from [`Cursor::next`].
    fn scan(
        &self,
        family: Family,
        lower: &[u8],
        upper: &[u8],
        direction: Direction,
    ) -> Result<Cursor<'_>, Error>;

    /// Marks of slot moves, where there are any: keys of slots that are others' are there for no
    /// command on many keys.
    fn marks(&self) -> Option<Arc<Marks>>;
}

/// Calls `visit` with the values of many keys, in their order and all as they are at one moment.
/// Where they are more than [`FEW_BYTES`], one of them is held at a time.
///
/// # Errors
/// I/O errors and corruption; those of `visit`, which end it.
pub fn each<K: AsRef<[u8]>, E: From<Error>>(
    read: &impl Read,
    family: Family,
    keys: &[K],
    mut visit: impl FnMut(Option<Value<'_>>) -> Result<(), E>,
) -> Result<(), E> {
    if let Some(values) = read.few(family, keys)? {
        return values.into_iter().try_for_each(visit);
    }
    read.at_one_moment(|read| {
        keys.iter().try_for_each(|key| visit(read.get(family, key.as_ref())?))
    })
}

impl Read for Snapshot<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Value<'_>>, Error> {
        self.find(family, key)
    }

    fn multi_get<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Vec<Option<Value<'_>>>, Error> {
        self.find_all(family, keys)
    }

    fn few<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Option<Vec<Option<Value<'_>>>>, Error> {
        self.find_few(family, keys)
    }

    fn at_one_moment<T>(&self, run: impl FnOnce(&Snapshot<'_>) -> T) -> T {
        run(self)
    }

    fn scan(
        &self,
        family: Family,
        lower: &[u8],
        upper: &[u8],
        direction: Direction,
    ) -> Result<Cursor<'_>, Error> {
        self.walk(family, (lower, upper), direction)
    }

    fn marks(&self) -> Option<Arc<Marks>> {
        self.store().marks()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Store};

    const LARGE: usize = FEW_BYTES / 20;

    fn fill(store: &Store, keys: &[Vec<u8>], byte: u8, length: usize) {
        let mut txn = store.txn();
        for key in keys {
            txn.put(Family::Default, key, &vec![byte; length]);
        }
        txn.commit().unwrap();
    }

    fn few(read: &impl Read, keys: &[Vec<u8>]) -> Option<usize> {
        read.few(Family::Default, keys).unwrap().map(|values| values.len())
    }

    /// How long each value is, and its first byte. `between` runs when the first one was visited.
    fn seen(
        read: &impl Read,
        keys: &[Vec<u8>],
        between: impl Fn(),
    ) -> Vec<Option<(usize, Option<u8>)>> {
        let mut seen = Vec::new();
        let visit = |value: Option<Value<'_>>| {
            seen.push(value.map(|value| (value.len(), value.first().copied())));
            if seen.len() == 1 {
                between();
            }
            Ok::<_, Error>(())
        };
        each(read, Family::Default, keys, visit).unwrap();
        seen
    }

    #[test]
    fn large_values_are_not_held_together_and_are_those_of_one_moment() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db"), Options::default()).unwrap();
        let keys: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![b'k', n]).collect();
        fill(&store, &keys, 1, 10);
        assert_eq!(few(&store, &keys), Some(40));
        assert_eq!(few(&store.snapshot(), &keys), Some(40));
        fill(&store, &keys, 1, LARGE);
        let mut txn = store.txn();
        assert_eq!((few(&store, &keys), few(&txn, &keys)), (None, None));
        txn.put(Family::Default, &keys[0], b"own");
        assert_eq!((few(&txn, &keys), few(&txn.snapshot(), &keys)), (None, None));
        assert_eq!(few(&txn, &keys[..5]), Some(5));
        assert_eq!(few(&txn.snapshot(), &keys[..5]), Some(5));
        let found = seen(&txn, &keys, || {});
        assert_eq!((found.first(), found.len()), (Some(&Some((3, Some(b'o')))), 40));
        drop(txn);
        let found = seen(&store, &keys, || fill(&store, &keys, 2, 10));
        assert_eq!(found, vec![Some((LARGE, Some(1))); 40]);
        let found = seen(&store, &keys, || fill(&store, &keys, 3, LARGE));
        assert_eq!(found, vec![Some((10, Some(2))); 40]);
    }

    /// As EXISTS in a MULTI that has set the key, which may name it as often as it likes.
    #[test]
    fn a_large_value_of_the_batch_is_not_held_once_for_each_time_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db"), Options::default()).unwrap();
        let mut txn = store.txn();
        txn.put(Family::Default, b"k", &vec![1; LARGE]);
        let keys = vec![b"k".to_vec(); 40];
        assert_eq!((few(&txn, &keys[..20]), few(&txn, &keys[..21])), (Some(20), None));
        assert_eq!(seen(&txn, &keys, || {}), vec![Some((LARGE, Some(1))); 40]);
        // One that was taken out again is no bytes.
        txn.delete(Family::Default, b"k");
        assert_eq!(few(&txn, &keys), Some(40));
    }
}
