//! The writes of one command, or of one MULTI: collected as the bytes of one write batch and written at once.
//!
//! A plain transaction reads straight from the database; it does not see its own writes, and nothing is copied for it.
//! An isolated one (MULTI/EXEC) sees them. Neither locks anything: the caller serialises commands on the same keys.

use std::cell::Cell;

use crate::batch::{Mark, Record, Writer};
use crate::overlay::{Lookup, Overlay};
use crate::{Cursor, Direction, Error, Family, Read, Store, Value};

thread_local! {
    /// The batch buffer of the last transaction of this thread, to be reused by the next.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Larger buffers are not kept for reuse.
const KEPT_BUFFER_BYTES: usize = 64 << 10;

/// See the module documentation. Dropped without [`Txn::commit`] it writes nothing.
pub struct Txn<'a> {
    store: &'a Store,
    batch: Option<Writer>,
    overlay: Option<Overlay>,
}

/// The writes of a transaction, put aside: it borrows nothing. See [`Txn::suspend`].
#[derive(Debug)]
pub struct Suspended(Writer);

impl<'a> Txn<'a> {
    /// Goes on with writes that were put aside, as a plain transaction. Log data of the next command follows what is there, as in a MULTI.
    pub(crate) fn resume(store: &'a Store, suspended: Suspended) -> Self {
        Self { store, batch: Some(suspended.0), overlay: None }
    }

    /// Puts the writes aside without committing them, so that the next command of a pipeline can join the batch. For plain transactions:
    /// what an isolated one could read of its own writes is lost.
    pub fn suspend(mut self) -> Suspended {
        Suspended(self.batch.take().unwrap_or_else(|| Writer::new(BUFFER.take())))
    }

    /// Where the transaction stands, to come back to when a command fails half way.
    pub fn mark(&self) -> Mark {
        self.batch.as_ref().map_or_else(|| Writer::new(Vec::new()).mark(), Writer::mark)
    }

    /// Takes back everything since `mark`.
    pub fn rollback(&mut self, mark: Mark) {
        if self.writer().mark() == mark {
            return;
        }
        self.writer().rollback(mark);
        let Some(overlay) = &mut self.overlay else { return };
        *overlay = Overlay::default();
        for record in self.batch.iter().flat_map(Writer::records) {
            // Our own bytes: every record decodes.
            match record {
                Ok(Record::Put { family, key, value }) => overlay.put(family, &[key], &[value]),
                Ok(Record::Delete { family, key }) => overlay.delete(family, key),
                Ok(Record::DeleteRange { family, begin, end }) => {
                    overlay.delete_range(family, begin, end);
                }
                Ok(Record::LogData(_)) | Err(_) => {}
            }
        }
    }

    pub(crate) fn new(store: &'a Store, isolated: bool) -> Self {
        let batch = Some(Writer::new(BUFFER.take()));
        Self { store, batch, overlay: isolated.then(Overlay::default) }
    }

    /// The store behind this transaction.
    pub fn store(&self) -> &'a Store {
        self.store
    }

    /// Appends log data: tells consumers of the WAL which type or command the following records belong to.
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
        if let Some(overlay) = &mut self.overlay {
            overlay.put(family, key, value);
        }
    }

    /// Removes a key.
    pub fn delete(&mut self, family: Family, key: &[u8]) {
        self.writer().delete(family, key);
        if let Some(overlay) = &mut self.overlay {
            overlay.delete(family, key);
        }
    }

    /// Removes `[begin, end)`.
    pub fn delete_range(&mut self, family: Family, begin: &[u8], end: &[u8]) {
        self.writer().delete_range(family, begin, end);
        if let Some(overlay) = &mut self.overlay {
            overlay.delete_range(family, begin, end);
        }
    }

    /// Number of records so far; log data does not count.
    pub fn count(&self) -> u32 {
        self.batch.as_ref().map_or(0, Writer::count)
    }

    /// Bytes of the batch so far.
    pub fn size_bytes(&self) -> usize {
        self.batch.as_ref().map_or(0, Writer::len)
    }

    /// Writes everything as one batch, and returns the sequence number of its last record. Without any record nothing is
    /// written, not even log data, and the answer is `None`.
    ///
    /// # Errors
    /// When RocksDB refuses the write; then nothing of it is visible.
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
        let writer = self.writer();
        if writer.is_empty() {
            return Ok(None);
        }
        let batch = writer.finish();
        let sequence = store.append(batch)?;
        tell(batch);
        Ok(Some(sequence))
    }

    /// The value of a key, as [`Read::get`], but independent of a borrow of the transaction.
    ///
    /// # Errors
    /// I/O errors and corruption.
    pub fn get(&self, family: Family, key: &[u8]) -> Result<Option<Value<'a>>, Error> {
        if let Some(overlay) = &self.overlay {
            match overlay.get(family, key) {
                Lookup::Value(value) => return Ok(Some(Value::owned(value))),
                Lookup::Deleted => return Ok(None),
                Lookup::Unknown => {}
            }
        }
        self.store.get(family, key)
    }

    /// A range, as [`Read::scan`], but the transaction can be written to while the scan is open; the scan does not see
    /// that.
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
        let overlay = self.overlay.as_ref().map(|overlay| overlay.slice(family, lower, upper));
        self.store.cursor(family, lower, upper, direction, overlay)
    }

    fn writer(&mut self) -> &mut Writer {
        // Only `drop` takes the writer out.
        self.batch.get_or_insert_with(|| Writer::new(Vec::new()))
    }
}

impl Drop for Txn<'_> {
    fn drop(&mut self) {
        if let Some(writer) = self.batch.take() {
            let buffer = writer.into_buffer();
            if buffer.capacity() <= KEPT_BUFFER_BYTES {
                BUFFER.set(buffer);
            }
        }
    }
}

impl Read for Txn<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Value<'_>>, Error> {
        Txn::get(self, family, key)
    }

    fn multi_get<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Vec<Option<Value<'_>>>, Error> {
        match &self.overlay {
            None => self.store.multi_get(family, keys),
            Some(_) => keys.iter().map(|key| Txn::get(self, family, key.as_ref())).collect(),
        }
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
}
