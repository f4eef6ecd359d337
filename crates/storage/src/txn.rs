//! The writes of one command, of a pipeline or of one MULTI: collected as the bytes of one write
//! batch and written at once.
//!
//! It reads what it has written, and below that the database as it is now. A transaction that has
//! written nothing reads as the database itself, and has no batch; written records are looked at
//! only when something is read behind them. Nothing is locked: the caller serialises commands on
//! the same keys.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::batch::{HEADER_BYTES, Mark, Record, Writer};
use crate::changes::{self, Outcome};
use crate::overlay::{Lookup, Overlay};
use crate::slots::marks::Marks;
use crate::snapshot::Moment;
use crate::value::FEW_BYTES;
use crate::{Cursor, Direction, Error, Family, Read, Snapshot, Store, Value};

thread_local! {
    /// The writes of the last transaction of this thread, emptied, for the next one that writes.
    static SPARE: Cell<Option<Box<Writes>>> = const { Cell::new(None) };
}

/// Larger buffers are not kept for reuse.
const KEPT_BUFFER_BYTES: usize = 256 << 10;

/// See the module documentation. Dropped without [`Txn::commit`] it writes nothing.
pub struct Txn<'a> {
    store: &'a Store,
    /// Nothing before the first record: most transactions only read.
    writes: RefCell<Option<Box<Writes>>>,
    /// If there is one, it reads as of that moment, and writes nothing.
    moment: Option<&'a Moment>,
}

/// The writes of a transaction, put aside: it borrows nothing. See [`Txn::suspend`].
#[derive(Debug, Default)]
pub struct Suspended(Option<Box<Writes>>);

impl Suspended {
    /// Bytes of the batch so far.
    pub fn size_bytes(&self) -> usize {
        self.0.as_ref().map_or(HEADER_BYTES, |writes| writes.batch.len())
    }
}

/// What a transaction has written. It goes from command to command of a pipeline, so it stays where
/// it is in memory.
#[derive(Debug)]
struct Writes {
    batch: Writer,
    overlay: Overlay,
}

impl Writes {
    /// Without any record.
    fn empty() -> Box<Self> {
        SPARE.take().unwrap_or_else(|| {
            let (batch, overlay) = (Writer::new(Vec::new()), Overlay::default());
            Box::new(Self { batch, overlay })
        })
    }

    /// Keeps it for the next transaction of this thread.
    fn give_back(mut self: Box<Self>) {
        self.batch.clear();
        self.overlay.clear();
        if self.batch.room() <= KEPT_BUFFER_BYTES {
            SPARE.set(Some(self));
        }
    }
}

impl Store {
    /// A transaction: of one command, of a pipeline, of a MULTI.
    pub fn txn(&self) -> Txn<'_> {
        Txn::new(self)
    }

    /// A transaction that goes on with writes that were put aside ([`Txn::suspend`]).
    pub fn txn_resumed(&self, suspended: Suspended) -> Txn<'_> {
        Txn::resume(self, suspended)
    }
}

impl Moment {
    /// A transaction that reads what it would have read then.
    pub fn txn(&self) -> Txn<'_> {
        Txn::at(self)
    }
}

impl<'a> Txn<'a> {
    fn new(store: &'a Store) -> Self {
        Self::resume(store, Suspended::default())
    }

    /// Goes on with writes that were put aside. Log data of the next command follows what is there,
    /// as in a MULTI.
    fn resume(store: &'a Store, Suspended(writes): Suspended) -> Self {
        Self { store, writes: RefCell::new(writes), moment: None }
    }

    fn at(moment: &'a Moment) -> Self {
        let mut txn = Self::new(moment.store());
        txn.moment = Some(moment);
        txn
    }

    /// Puts the writes aside without committing them, so that the next command of a pipeline can
    /// join the batch.
    pub fn suspend(self) -> Suspended {
        Suspended(self.writes.take())
    }

    /// Where the transaction stands, to come back to when a command fails half way.
    pub fn mark(&self) -> Mark {
        self.of_batch(Mark::BEGIN, Writer::mark)
    }

    /// What became of the keys that were written since `mark`, at `now_ms`.
    pub fn outcomes_since(
        &self,
        mark: Mark,
        cluster: bool,
        now_ms: u64,
    ) -> Vec<(Vec<u8>, Outcome)> {
        self.of_batch(Vec::new(), |batch| {
            changes::outcomes(batch.records_from(mark.bytes()), cluster, now_ms)
        })
    }

    /// Whether something of this family was deleted since `mark`.
    pub fn has_deleted_since(&self, mark: Mark, family: Family) -> bool {
        let is_such = |record: Record<'_>| matches!(record, Record::Delete { family: deleted, .. } if deleted == family);
        self.of_batch(false, |batch| {
            batch.records_from(mark.bytes()).map_while(Result::ok).any(is_such)
        })
    }

    /// Takes back everything since `mark`.
    pub fn rollback(&mut self, mark: Mark) {
        if let Some(writes) = self.writes.get_mut() {
            writes.batch.rollback(mark);
            writes.overlay.rollback(mark.bytes());
        }
    }

    /// The store behind this transaction.
    pub fn store(&self) -> &'a Store {
        self.store
    }

    /// The database as it is now, with what was written here so far.
    pub fn snapshot(&self) -> Snapshot<'a> {
        if let Some(moment) = self.moment {
            return moment.snapshot();
        }
        Snapshot::take(self.store, self.known(Overlay::share).flatten())
    }

    /// Which scripts and libraries of functions it reads: those that each transaction reads that is
    /// told the same number, of whichever database of this process. `None` if that cannot be told,
    /// as it has changed them itself, or they are being changed.
    pub fn scripts_version(&self) -> Option<u64> {
        if self.of_batch(false, Writer::names_propagate) {
            return None;
        }
        let versions = &self.store.inner().hot.scripts;
        match self.moment {
            Some(moment) => versions.at(moment.sequence()?),
            None => versions.now(),
        }
    }

    /// What it sees now, for another thread.
    pub fn moment(&self) -> Moment {
        Moment::take(self.store, self.known(Overlay::share).flatten())
    }

    /// Appends log data: tells consumers of the WAL which type or command the following records
    /// belong to.
    pub fn log(&mut self, data: &[u8]) {
        self.writer().log(data);
    }

    /// Sets a key.
    pub fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.put_parts(family, &[key], &[value]);
    }

    /// Sets a key; key and value are given in parts, which saves the caller their concatenation.
    pub fn put_parts(&mut self, family: Family, key: &[&[u8]], value: &[&[u8]]) {
        self.writer().put(family, key, value);
    }

    /// Sets a key to what `write` appends to the batch, which saves the caller a copy of it.
    pub(crate) fn put_written(
        &mut self,
        family: Family,
        key: &[&[u8]],
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.writer().put_written(family, key, write);
    }

    /// Removes a key.
    pub fn delete(&mut self, family: Family, key: &[u8]) {
        self.delete_parts(family, &[key]);
    }

    /// Removes a key that is given in parts.
    pub fn delete_parts(&mut self, family: Family, key: &[&[u8]]) {
        self.writer().delete_parts(family, key);
    }

    /// Removes `[begin, end)`.
    pub fn delete_range(&mut self, family: Family, begin: &[u8], end: &[u8]) {
        self.writer().delete_range(family, begin, end);
    }

    /// Number of records so far; log data does not count.
    pub fn count(&self) -> u32 {
        self.of_batch(0, Writer::count)
    }

    /// Bytes of the batch so far.
    pub fn size_bytes(&self) -> usize {
        self.of_batch(HEADER_BYTES, Writer::len)
    }

    /// Ends a command whose batch grows without bounds of its own, before all of it is in memory.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn must_fit(&self) -> Result<(), Error> {
        self.must_have_room(0)
    }

    /// The same for one that gathers first what it is going to write: so many more bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn must_have_room(&self, more: usize) -> Result<(), Error> {
        let bytes = self.size_bytes().saturating_add(more);
        let max = self.store.batch_bytes_max();
        if bytes > max { Err(Error::TooLarge { bytes, max }) } else { Ok(()) }
    }

    /// Writes everything as one batch, and returns the sequence number of its last record. Without
    /// any record nothing is written, not even log data, and the answer is `None`.
    ///
    /// # Errors
    /// When RocksDB refuses the write, or [`Error::SlotsMove`]; then nothing of it is visible.
    pub fn commit(self) -> Result<Option<u64>, Error> {
        self.commit_and_tell(|_| {})
    }

    /// As [`Self::commit`]; `tell` gets the batch once it is written, e.g. to find out with
    /// [`crate::changes::of`] which keys it changed. It is not called where nothing is written.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn commit_and_tell(mut self, tell: impl FnOnce(&[u8])) -> Result<Option<u64>, Error> {
        let store = self.store;
        let Some(writes) = self.writes.get_mut() else { return Ok(None) };
        let writer = &mut writes.batch;
        if writer.is_empty() {
            return Ok(None);
        }
        if writer.names_late() {
            store.make_late()?;
        }
        let has_cut_keys = writer.has_cut_keys();
        let batch = writer.finish();
        let sequence = if has_cut_keys { store.append_cut(batch)? } else { store.append(batch)? };
        tell(batch);
        Ok(Some(sequence))
    }

    /// The value of a key, as [`Read::get`], but independent of a borrow of the transaction.
    ///
    /// # Errors
    /// I/O errors and corruption.
    pub fn get(&self, family: Family, key: &[u8]) -> Result<Option<Value<'a>>, Error> {
        match self.known(|overlay, batch| overlay.get(batch, family, key)) {
            Some(Lookup::Value(value)) => Ok(Some(value)),
            Some(Lookup::Deleted) => Ok(None),
            Some(Lookup::Unknown) | None => self.stored(family, key),
        }
    }

    /// The value of a key that was not written here.
    fn stored(&self, family: Family, key: &[u8]) -> Result<Option<Value<'a>>, Error> {
        match self.moment {
            Some(moment) => moment.snapshot().find(family, key),
            None => self.store.get(family, key),
        }
    }

    /// A range, as [`Read::scan`], but the transaction can be written to while the scan is open;
    /// the scan does not see that.
    ///
    /// # Errors
    /// As [`Read::scan`].
    pub fn scan(
        &self,
        family: Family,
        lower: &[u8],
        upper: &[u8],
        direction: Direction,
    ) -> Result<Cursor<'a>, Error> {
        if let Some(moment) = self.moment {
            return moment.snapshot().walk(family, (lower, upper), direction);
        }
        let bounds = (lower, upper);
        let overlay = self.known(|overlay, batch| overlay.slice(batch, family, bounds)).flatten();
        self.store.cursor(family, bounds, direction, overlay, rocksdb::ReadOptions::default())
    }

    /// What the overlay says of the batch; `None` if nothing was written.
    fn known<T>(&self, ask: impl FnOnce(&mut Overlay, &Writer) -> T) -> Option<T> {
        let mut writes = self.writes.borrow_mut();
        let Writes { batch, overlay } = writes.as_deref_mut()?;
        (!batch.is_empty()).then(|| ask(overlay, batch))
    }

    /// What the batch says; `nothing` where there is none.
    fn of_batch<T>(&self, nothing: T, ask: impl FnOnce(&Writer) -> T) -> T {
        match &*self.writes.borrow() {
            Some(writes) => ask(&writes.batch),
            None => nothing,
        }
    }

    /// What the overlay says of several keys; `None` if nothing was written.
    fn looked_up<K: AsRef<[u8]>>(&self, family: Family, keys: &[K]) -> Option<Vec<Lookup>> {
        self.known(|overlay, batch| {
            keys.iter().map(|key| overlay.get(batch, family, key.as_ref())).collect()
        })
    }

    /// The same, if what was written is few bytes together: each value is a copy out of the batch,
    /// and a large one may be named by many of the keys.
    fn few_looked_up<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Option<Option<Vec<Lookup>>> {
        self.known(|overlay, batch| {
            let mut bytes = 0;
            let look_up = |key: &K| {
                let found = overlay.get(batch, family, key.as_ref());
                if let Lookup::Value(value) = &found {
                    bytes += value.len();
                }
                (bytes <= FEW_BYTES).then_some(found)
            };
            keys.iter().map(look_up).collect()
        })
    }

    fn writer(&mut self) -> &mut Writer {
        &mut self.writes.get_mut().get_or_insert_with(Writes::empty).batch
    }
}

/// Those of several keys of which the database decides.
fn unknown<'k, K: AsRef<[u8]>>(keys: &'k [K], found: &[Lookup]) -> Vec<&'k [u8]> {
    let unknown = keys.iter().zip(found).filter(|(_, found)| matches!(found, Lookup::Unknown));
    unknown.map(|(key, _)| key.as_ref()).collect()
}

/// What was found here, and in the database what is unknown here.
fn merged<'a>(found: Vec<Lookup>, stored: Vec<Option<Value<'a>>>) -> Vec<Option<Value<'a>>> {
    let mut stored = stored.into_iter();
    let value = |found| match found {
        Lookup::Value(value) => Some(value),
        Lookup::Deleted => None,
        Lookup::Unknown => stored.next().flatten(),
    };
    found.into_iter().map(value).collect()
}

impl Drop for Txn<'_> {
    fn drop(&mut self) {
        if let Some(writes) = self.writes.take() {
            writes.give_back();
        }
    }
}

impl Read for Txn<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Value<'_>>, Error> {
        Txn::get(self, family, key)
    }

    fn look<T>(
        &self,
        family: Family,
        key: &[u8],
        look: impl FnOnce(Option<&[u8]>) -> T,
    ) -> Result<T, Error> {
        let mut writes = self.writes.borrow_mut();
        if let Some(Writes { batch, overlay }) = writes.as_deref_mut()
            && !batch.is_empty()
            && let Some(found) = overlay.find(batch, family, key)
        {
            return Ok(look(found));
        }
        drop(writes);
        Ok(look(self.stored(family, key)?.as_deref()))
    }

    fn multi_get<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Vec<Option<Value<'_>>>, Error> {
        if let Some(moment) = self.moment {
            return moment.snapshot().find_all(family, keys);
        }
        let Some(found) = self.looked_up(family, keys) else {
            return self.store.multi_get(family, keys);
        };
        let stored = self.store.multi_get(family, &unknown(keys, &found))?;
        Ok(merged(found, stored))
    }

    fn few<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Option<Vec<Option<Value<'_>>>>, Error> {
        if let Some(moment) = self.moment {
            return moment.snapshot().find_few(family, keys);
        }
        let found = match self.few_looked_up(family, keys) {
            None => return self.store.few(family, keys),
            Some(None) => return Ok(None),
            Some(Some(found)) => found,
        };
        let stored = self.store.few(family, &unknown(keys, &found))?;
        Ok(stored.map(|stored| merged(found, stored)))
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
        Txn::scan(self, family, lower, upper, direction)
    }

    fn marks(&self) -> Option<Arc<Marks>> {
        self.store.marks()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    fn open(dir: &tempfile::TempDir) -> Store {
        Store::open(&dir.path().join("db"), Options::default()).unwrap()
    }

    #[test]
    fn what_only_reads_has_no_batch_and_what_was_taken_back_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let mut txn = store.txn();
        assert!(txn.get(Family::Metadata, b"a").unwrap().is_none());
        assert!(txn.writes.get_mut().is_none());
        let before = txn.mark();
        let bytes = txn.size_bytes();
        txn.log(b"1");
        txn.put(Family::Metadata, b"a", b"1");
        assert_eq!(txn.get(Family::Metadata, b"a").unwrap().as_deref(), Some(&b"1"[..]));
        txn.rollback(before);
        assert_eq!((txn.mark(), txn.count(), txn.size_bytes()), (before, 0, bytes));
        assert!(txn.get(Family::Metadata, b"a").unwrap().is_none());
        let aside = txn.suspend();
        assert_eq!(aside.size_bytes(), bytes);
        assert_eq!(store.txn_resumed(aside).commit().unwrap(), None);
        assert_eq!(store.txn_resumed(store.txn().suspend()).commit().unwrap(), None);
        assert_eq!(store.latest_sequence(), 0);
    }

    #[test]
    fn a_transaction_finds_nothing_of_the_one_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let mut txn = store.txn();
        txn.put(Family::Metadata, b"b", b"1");
        txn.commit().unwrap();
        let mut dropped = store.txn();
        dropped.delete_range(Family::Metadata, b"a", b"z");
        dropped.put(Family::Propagate, b"lua_f_x", b"text");
        dropped.put(Family::Index, b"way", b"");
        assert!(dropped.get(Family::Metadata, b"b").unwrap().is_none());
        // What a snapshot is made of, too.
        assert!(dropped.snapshot().get(Family::Metadata, b"b").unwrap().is_none());
        drop(dropped);
        let mut txn = store.txn();
        txn.put(Family::Default, b"sub", b"1");
        assert_eq!(txn.get(Family::Metadata, b"b").unwrap().as_deref(), Some(&b"1"[..]));
        let found = txn.snapshot().get(Family::Metadata, b"b").unwrap().map(|value| value.to_vec());
        assert_eq!(found.as_deref(), Some(&b"1"[..]));
        let batch = &txn.writes.get_mut().as_ref().unwrap().batch;
        assert_eq!((batch.count(), batch.names_late()), (1, false));
        assert!(!batch.has_cut_keys() && !batch.names_propagate());
        assert_eq!(txn.commit().unwrap(), Some(2));
    }

    #[test]
    fn a_look_sees_what_is_stored_and_what_was_written_over_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let looked = |txn: &Txn<'_>| {
            ["a", "b", "c"].map(|key| {
                let copied = |value: Option<&[u8]>| value.map(<[u8]>::to_vec);
                txn.look(Family::Metadata, key.as_bytes(), copied).unwrap()
            })
        };
        let one = || Some(b"1".to_vec());
        let mut txn = store.txn();
        assert_eq!(looked(&txn), [None, None, None]);
        txn.put(Family::Metadata, b"a", b"1");
        txn.put(Family::Metadata, b"b", b"1");
        assert_eq!(looked(&txn), [one(), one(), None]);
        txn.commit().unwrap();
        let mut txn = store.txn();
        assert_eq!(looked(&txn), [one(), one(), None]);
        let before = txn.mark();
        txn.put(Family::Metadata, b"c", b"1");
        txn.delete(Family::Metadata, b"a");
        txn.delete_range(Family::Metadata, b"b", b"c");
        assert_eq!(looked(&txn), [None, None, one()]);
        let moment = txn.moment();
        txn.rollback(before);
        assert_eq!(looked(&txn), [one(), one(), None]);
        assert_eq!(looked(&moment.txn()), [None, None, one()]);
    }
}
