//! The bytes of a string behind flags and expiry: found in its entry, and written there.

use std::ops::{Deref, Range};

use crate::types::head::Prefix;
use crate::types::kind::Type;
use crate::types::living::Living;
use crate::types::{CommandError, bounds};
use crate::{At, Family, Txn, Value};

/// Longest string, bytes.
pub const MAX_BYTES: usize = 512 << 20;

/// The bytes of a string value, or a part of them; pinned in the database where possible.
pub struct Payload<'a> {
    value: Value<'a>,
    range: Range<usize>,
}

impl<'a> Payload<'a> {
    /// The part of `value` from `start` on.
    fn new(value: Value<'a>, start: usize) -> Self {
        let range = start.min(value.len())..value.len();
        Self { value, range }
    }

    pub(super) fn owned(bytes: Vec<u8>) -> Self {
        Self::new(Value::owned(bytes), 0)
    }

    /// Restricts to bytes `start..=end`, as GETRANGE counts.
    pub(super) fn slice(mut self, start: i64, end: i64) -> Self {
        let (first, part) = (self.range.start, bounds::bytes(start, end, self.len()));
        self.range = first + part.start..first + part.end;
        self
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.value.get(self.range.clone()).unwrap_or_default()
    }
}

impl std::fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}

/// A living string as it was found.
pub(crate) struct Found<'a> {
    pub(crate) payload: Payload<'a>,
    pub(super) expire_ms: u64,
    /// Flags and expiry, to be written back unchanged.
    pub(crate) prefix: Prefix,
}

impl<'a> Found<'a> {
    pub(crate) fn of(living: Living<'a>) -> Result<Self, CommandError> {
        let header = living.header().of(Type::String)?;
        let (expire_ms, prefix) = (header.expire_ms, Prefix::rewritten(&header, header.expire_ms));
        let (value, start) = living.into_value();
        Ok(Self { payload: Payload::new(value, start), expire_ms, prefix })
    }
}

/// Writes a string: flags and expiry, and a value in parts.
pub(crate) fn put(txn: &mut Txn<'_>, at: &At<'_>, prefix: &Prefix, value: &[&[u8]]) {
    let ns_key = &*at.ns_key;
    txn.log(Type::String.log_data());
    match value {
        [one] => txn.put_parts(Family::Metadata, &[ns_key], &[prefix.as_bytes(), one]),
        [one, two] => txn.put_parts(Family::Metadata, &[ns_key], &[prefix.as_bytes(), one, two]),
        parts => {
            txn.put_parts(Family::Metadata, &[ns_key], &[prefix.as_bytes(), &parts.concat()]);
        }
    }
}
