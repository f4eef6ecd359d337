//! The metadata entry of a key that is there, as a command finds it.

use super::CommandError;
use super::head::Header;
use crate::{At, Family, Read, Txn, Value};

/// The metadata entry of a living key.
#[derive(Debug)]
pub struct Living<'v> {
    value: Value<'v>,
    flags: u8,
    expire_ms: u64,
    /// Where the part behind the expiry begins.
    start: usize,
}

impl<'v> Living<'v> {
    /// Takes what was found in the metadata family; `None` if there is nothing, or it is dead.
    ///
    /// # Errors
    /// The value is none.
    pub fn of(value: Option<Value<'v>>, now_ms: u64) -> Result<Option<Self>, CommandError> {
        let Some(value) = value else { return Ok(None) };
        let Some(header) = Header::living(&value, now_ms)? else { return Ok(None) };
        let (flags, expire_ms) = (header.flags, header.expire_ms);
        let start = value.len() - header.rest.len();
        Ok(Some(Self { value, flags, expire_ms, start }))
    }

    /// Flags and expiry, and what stands behind them.
    pub fn header(&self) -> Header<'_> {
        let rest = self.value.get(self.start..).unwrap_or_default();
        Header { flags: self.flags, expire_ms: self.expire_ms, rest }
    }

    /// The whole entry, and where the part behind the expiry begins.
    pub fn into_value(self) -> (Value<'v>, usize) {
        (self.value, self.start)
    }
}

impl At<'_> {
    /// The metadata entry, if the key is there.
    ///
    /// # Errors
    /// Those of the engine; the entry is none.
    pub fn living<'r>(&self, read: &'r impl Read) -> Result<Option<Living<'r>>, CommandError> {
        Living::of(read.get(Family::Metadata, &self.ns_key)?, self.scope.now_ms)
    }

    /// The same for a write: the entry does not borrow the transaction, which can be written to.
    ///
    /// # Errors
    /// Those of the engine; the entry is none.
    pub fn load<'a>(&self, txn: &Txn<'a>) -> Result<Option<Living<'a>>, CommandError> {
        Living::of(txn.get(Family::Metadata, &self.ns_key)?, self.scope.now_ms)
    }
}
