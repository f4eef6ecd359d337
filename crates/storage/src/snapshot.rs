//! The database as it is at one sequence number, with what a transaction has written on top.
//!
//! The rule: **what reads more than one record reads at a snapshot.** Reads take no key locks, and
//! a replica applies its master's batches without any. E.g. LRANGE reads where the list begins and
//! then its elements: if another client rotates the list in between, elements would be missing that
//! were never gone. Functions of types that read several records therefore take a `&Snapshot`.
//!
//! A point read needs none: the metadata of a key, and then sub-keys of the version it names by one
//! [`crate::Read::get`] or one [`crate::Read::multi_get`], which is a moment of its own. The
//! sub-keys of a version do not change once the version is gone, so what is found was there at some
//! moment of the read. Nor does a write need one: the caller has locked its keys, and only a master
//! runs writes.

use rocksdb::{DB, ReadOptions, SnapshotWithThreadMode};

use crate::filters::Keeping;
use crate::overlay::{Lookup, Shared};
use crate::value::{FEW_BYTES, few, taken};
use crate::{Cursor, Direction, Error, Family, Store, Value, budget};

const ACTION: &str = "read keys at a snapshot";

/// See the module documentation. It keeps old states of keys from being compacted away: not to be
/// held for long.
pub struct Snapshot<'a> {
    store: &'a Store,
    at: Taken<'a>,
    overlay: Option<Shared>,
    /// See [`Snapshot::aside`].
    is_aside: bool,
}

/// Where it is from.
enum Taken<'a> {
    Own(Engine<'a>),
    Lent(&'a Engine<'static>),
}

type Engine<'a> = SnapshotWithThreadMode<'a, DB>;

impl<'a> Snapshot<'a> {
    pub(crate) fn take(store: &'a Store, overlay: Option<Shared>) -> Self {
        Self { store, at: Taken::Own(store.db().snapshot()), overlay, is_aside: false }
    }

    pub(crate) fn store(&self) -> &'a Store {
        self.store
    }

    /// Number of the newest record of the database that it sees.
    pub fn sequence(&self) -> u64 {
        match &self.at {
            Taken::Own(at) => at.sequence_number(),
            Taken::Lent(at) => at.sequence_number(),
        }
        .unwrap_or_default()
    }

    /// Reads from now on take no place in the block cache: what is read once and in its order would
    /// drive out of it what clients read again and again.
    #[must_use]
    pub fn aside(self) -> Self {
        Self { is_aside: true, ..self }
    }

    fn look_up(&self, family: Family, key: &[u8]) -> Lookup {
        self.overlay.as_ref().map_or(Lookup::Unknown, |overlay| overlay.get(family, key))
    }

    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        match &self.at {
            Taken::Own(at) => options.set_snapshot(at),
            Taken::Lent(at) => options.set_snapshot(*at),
        }
        options.fill_cache(!self.is_aside);
        options
    }

    /// As [`crate::Read::get`], for as long as the database is open.
    pub(crate) fn find(&self, family: Family, key: &[u8]) -> Result<Option<Value<'a>>, Error> {
        budget::step(1)?;
        match self.look_up(family, key) {
            Lookup::Value(value) => return Ok(Some(value)),
            Lookup::Deleted => return Ok(None),
            Lookup::Unknown => {}
        }
        // With this nearly every read of an object begins.
        if family == Family::Metadata
            && !self.is_aside
            && let Some((data, start)) = self.store.inner().hot.get_at(key, self.sequence())
        {
            return Ok(Some(Value::shared(data, start)));
        }
        let (store, options) = (self.store, self.options());
        let Some(cf) = store.cf_to_read(family)? else { return Ok(None) };
        let found = store.db().get_pinned_cf_opt(&cf, key, &options);
        let found = found.map_err(|error| Error::engine("read a key at a snapshot", error))?;
        budget::found(found.as_ref().map_or(0, |value| value.len()));
        Ok(found.map(Value::pinned))
    }

    /// As [`crate::Read::multi_get`], for as long as the database is open.
    pub(crate) fn find_all<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Vec<Option<Value<'a>>>, Error> {
        if self.overlay.is_some() {
            return keys.iter().map(|key| self.find(family, key.as_ref())).collect();
        }
        budget::step(keys.len() as u64)?;
        let (options, keys) = (self.options(), keys.iter().map(AsRef::as_ref));
        let store = self.store;
        let Some(cf) = store.cf_to_read(family)? else { return Ok(keys.map(|_| None).collect()) };
        let found = store.db().batched_multi_get_cf_slice_opt(&cf, keys, false, &options);
        let found = taken(ACTION, found)?;
        found.ok_or_else(|| Error::corrupt(ACTION, "they were given up"))
    }

    /// As [`crate::Read::few`], for as long as the database is open.
    pub(crate) fn find_few<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Option<Vec<Option<Value<'a>>>>, Error> {
        if self.overlay.is_some() {
            // One after the other: how much the overlay has is not RocksDB's to count.
            let (mut values, mut bytes) = (Vec::with_capacity(keys.len()), 0);
            for key in keys {
                let value = self.find(family, key.as_ref())?;
                bytes += value.as_ref().map_or(0, |value| value.len());
                if bytes > FEW_BYTES {
                    return Ok(None);
                }
                values.push(value);
            }
            return Ok(Some(values));
        }
        budget::step(keys.len() as u64)?;
        let (options, keys) = (few(self.options()), keys.iter().map(AsRef::as_ref));
        let store = self.store;
        let Some(cf) = store.cf_to_read(family)? else {
            return Ok(Some(keys.map(|_| None).collect()));
        };
        taken(ACTION, store.db().batched_multi_get_cf_slice_opt(&cf, keys, false, &options))
    }

    /// As [`crate::Read::scan`], for as long as the database is open.
    pub(crate) fn walk(
        &self,
        family: Family,
        (lower, upper): (&[u8], &[u8]),
        direction: Direction,
    ) -> Result<Cursor<'a>, Error> {
        let overlay = self.overlay.as_ref();
        let overlay = overlay.and_then(|overlay| overlay.slice(family, (lower, upper)));
        self.store.cursor(family, (lower, upper), direction, overlay, self.options())
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

/// What a transaction sees at one moment, to be read later and by another thread. It holds the
/// database open, and old states of keys as a snapshot does; also those that compaction filters
/// take for rubbish by now.
pub struct Moment {
    /// Before `store`, which it points into.
    at: Engine<'static>,
    overlay: Option<Shared>,
    /// Behind `at`: until that is gone.
    _keeping: Keeping,
    store: Store,
}

impl Moment {
    #[expect(
        unsafe_code,
        reason = "a snapshot borrows its database, and both must live in one value"
    )]
    pub(crate) fn take(store: &Store, overlay: Option<Shared>) -> Self {
        let store = store.clone();
        let keeping = store.keep();
        // SAFETY: the database lives on the heap of an `Arc` of the store, which does not move and
        // which this value holds for longer than the snapshot: fields are dropped in their order.
        let place: &'static DB = unsafe { &*std::ptr::from_ref(store.db()) };
        Self { at: place.snapshot(), overlay, _keeping: keeping, store }
    }

    /// The database it is of.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The newest record that it sees; `None` if it sees writes besides.
    pub(crate) fn sequence(&self) -> Option<u64> {
        if self.overlay.is_some() { None } else { self.at.sequence_number() }
    }

    pub(crate) fn snapshot(&self) -> Snapshot<'_> {
        let overlay = self.overlay.clone();
        Snapshot { store: &self.store, at: Taken::Lent(&self.at), overlay, is_aside: false }
    }
}

impl std::fmt::Debug for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Moment({})", self.at.sequence_number().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Read};

    #[test]
    fn metadata_is_that_of_the_snapshot_whether_it_lies_in_memory_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db"), Options::default()).unwrap();
        let key = |number: u32| format!("key {}", number % 50).into_bytes();
        let mut snapshots = Vec::new();
        for number in 0..400_u32 {
            let mut txn = store.txn();
            match number % 7 {
                3 => txn.delete(Family::Metadata, &key(number)),
                5 => txn.delete_range(Family::Metadata, b"key 1", b"key 2"),
                _ => txn.put(Family::Metadata, &key(number), &number.to_be_bytes()),
            }
            txn.commit().unwrap();
            // What is read is kept.
            let now = |number| store.get(Family::Metadata, &key(number)).unwrap();
            let then: Vec<_> = (0..50).map(|n| now(n).map(|value| value.to_vec())).collect();
            let snapshot = store.snapshot();
            for (number, value) in (0..50).zip(&then) {
                let found = snapshot.get(Family::Metadata, &key(number)).unwrap();
                assert_eq!(found.as_deref(), value.as_deref());
            }
            snapshots.push((snapshot, then));
        }
        for (snapshot, then) in &snapshots {
            for (number, value) in (0..50).zip(then) {
                let found = snapshot.get(Family::Metadata, &key(number)).unwrap();
                assert_eq!(found.as_deref(), value.as_deref());
            }
        }
    }

    #[test]
    fn a_moment_is_what_the_transaction_saw_whatever_is_written_since() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db"), Options::default()).unwrap();
        let put = |key: &[u8], value: &[u8]| {
            let mut txn = store.txn();
            txn.put(Family::Default, key, value);
            txn.commit().unwrap();
        };
        put(b"a", b"1");
        put(b"c", b"1");
        let mut txn = store.txn();
        txn.put(Family::Default, b"b", b"2");
        txn.delete(Family::Default, b"c");
        let moment = txn.moment();
        txn.put(Family::Default, b"d", b"2");
        txn.commit().unwrap();
        put(b"a", b"3");
        std::thread::spawn(move || {
            let txn = moment.txn();
            let mut seen = Vec::new();
            let snapshot = txn.snapshot();
            for mut cursor in [
                txn.scan(Family::Default, b"", b"", Direction::Forward).unwrap(),
                snapshot.scan(Family::Default, b"", b"", Direction::Forward).unwrap(),
            ] {
                while let Some((key, value)) = cursor.next().unwrap() {
                    seen.push((key.to_vec(), value.to_vec()));
                }
            }
            let expected = [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())];
            assert_eq!(seen, [expected.clone(), expected].concat());
            assert_eq!(&*txn.get(Family::Default, b"a").unwrap().unwrap(), b"1");
            let found = Read::multi_get(&txn, Family::Default, &[b"a", b"c"]).unwrap();
            assert!(found[0].is_some() && found[1].is_none());
        })
        .join()
        .unwrap();
    }
}
