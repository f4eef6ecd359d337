//! What is read: values where they lie, and how much of them is held at once.

use std::ops::Deref;
use std::sync::Arc;

use rocksdb::{DBPinnableSlice, ErrorKind, ReadOptions};

use crate::{Error, budget};

/// A value read from the database; not copied: pinned in the block cache or memtable, or shared
/// with what is kept in memory.
pub struct Value<'a> {
    repr: Repr<'a>,
    /// The value begins somewhere in what is held.
    start: usize,
}

enum Repr<'a> {
    Pinned(DBPinnableSlice<'a>),
    Owned(Box<[u8]>),
    Shared(Arc<[u8]>),
}

impl<'a> Value<'a> {
    pub(crate) fn pinned(slice: DBPinnableSlice<'a>) -> Self {
        Self { repr: Repr::Pinned(slice), start: 0 }
    }

    pub(crate) fn shared(data: Arc<[u8]>, start: usize) -> Self {
        Self { repr: Repr::Shared(data), start }
    }

    pub(crate) fn owned(bytes: impl Into<Box<[u8]>>) -> Self {
        Self { repr: Repr::Owned(bytes.into()), start: 0 }
    }

    /// The same without so many bytes at its beginning.
    pub(crate) fn without(self, bytes: usize) -> Self {
        Self { start: self.start.saturating_add(bytes), ..self }
    }
}

impl Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let held: &[u8] = match &self.repr {
            Repr::Pinned(slice) => slice,
            Repr::Owned(bytes) => bytes,
            Repr::Shared(data) => data,
        };
        held.get(self.start..).unwrap_or_default()
    }
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}

/// Order of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ascending.
    Forward,
    /// Descending.
    Reverse,
}

/// So many bytes of values are read at once.
pub const FEW_BYTES: usize = 4 << 20;

/// The same options for reads that RocksDB gives up above [`FEW_BYTES`].
pub(crate) fn few(mut options: ReadOptions) -> ReadOptions {
    options.set_value_size_soft_limit(FEW_BYTES as u64);
    options
}

/// What RocksDB has found for several keys; `None` if it gave up.
pub(crate) fn taken<'a>(
    action: &'static str,
    found: Vec<Result<Option<DBPinnableSlice<'a>>, rocksdb::Error>>,
) -> Result<Option<Vec<Option<Value<'a>>>>, Error> {
    let mut values = Vec::with_capacity(found.len());
    for found in found {
        match found {
            Ok(found) => {
                budget::found(found.as_ref().map_or(0, |value| value.len()));
                values.push(found.map(Value::pinned));
            }
            Err(error) if error.kind() == ErrorKind::Aborted => return Ok(None),
            Err(error) => return Err(Error::engine(action, error)),
        }
    }
    Ok(Some(values))
}
