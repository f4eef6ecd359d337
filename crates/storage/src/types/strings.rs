//! Strings: the whole value lies in the metadata entry behind flags and expiry.
//!
//! Every write carries the log data `1`, except those that only delete (GETDEL, CAD), which carry none. Values that are
//! changed in place keep the form (64-bit or old) they have; whole new values get the current one.

use std::ops::{Deref, Range};

use super::expiry::Expiry;
use super::metadata::{Header, Prefix, Type};
use super::numbers::{add_floats, parse_integer};
use super::{CommandError, bitmap};
use crate::{Family, Read, Scope, Txn, Value};

/// Longest string, bytes.
pub const MAX_BYTES: usize = 512 << 20;

/// The bytes of a string value, or a part of them; pinned in the database where possible.
pub struct Payload<'a> {
    value: Value<'a>,
    range: Range<usize>,
}

impl<'a> Payload<'a> {
    /// The part of `value` from `start` on.
    pub(crate) fn new(value: Value<'a>, start: usize) -> Self {
        let range = start.min(value.len())..value.len();
        Self { value, range }
    }

    fn owned(bytes: Vec<u8>) -> Self {
        Self::new(Value::owned(bytes), 0)
    }

    /// Restricts to bytes `start..=end`, which may be negative and count from the end then (GETRANGE).
    fn slice(mut self, start: i64, end: i64) -> Self {
        let length = self.len() as i64;
        let from_end = |index: i64| if index < 0 { index.saturating_add(length) } else { index };
        // Both negative and in the wrong order is empty whatever the length.
        let (start, end) = match (start, end) {
            (start, end) if start < 0 && end < 0 && start > end => (1, 0),
            (start, end) => (from_end(start).max(0), from_end(end).max(0).min(length - 1)),
        };
        if start > end || length == 0 {
            self.range.end = self.range.start;
        } else {
            let first = self.range.start;
            self.range = first + start as usize..first + end as usize + 1;
        }
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
struct Found<'a> {
    payload: Payload<'a>,
    expire_ms: u64,
    /// Flags and expiry, to be written back unchanged.
    prefix: Prefix,
}

/// Takes a metadata entry for a string; `None` if the key is dead.
fn found<'a>(value: Option<Value<'a>>, now_ms: u64) -> Result<Option<Found<'a>>, CommandError> {
    let Some(value) = value else { return Ok(None) };
    let header =
        Header::decode(&value).ok_or_else(|| CommandError::corrupt("metadata is too short"))?;
    if header.is_dead(now_ms) {
        return Ok(None);
    }
    if header.kind() != Some(Type::String) {
        return Err(CommandError::WrongType);
    }
    let expire_ms = header.expire_ms;
    let prefix = Prefix::rewritten(&header, expire_ms);
    let start = prefix.as_bytes().len();
    Ok(Some(Found { payload: Payload::new(value, start), expire_ms, prefix }))
}

fn load<'a>(
    txn: &Txn<'a>,
    scope: &Scope<'_>,
    ns_key: &[u8],
) -> Result<Option<Found<'a>>, CommandError> {
    found(txn.get(Family::Metadata, ns_key)?, scope.now_ms)
}

fn put(txn: &mut Txn<'_>, ns_key: &[u8], prefix: &Prefix, value: &[&[u8]]) {
    txn.log(Type::String.log_data());
    match value {
        [one] => txn.put_parts(Family::Metadata, &[ns_key], &[prefix.as_bytes(), one]),
        [one, two] => txn.put_parts(Family::Metadata, &[ns_key], &[prefix.as_bytes(), one, two]),
        parts => {
            txn.put_parts(Family::Metadata, &[ns_key], &[prefix.as_bytes(), &parts.concat()]);
        }
    }
}

/// GET. A bitmap is converted to the string Redis would hold.
///
/// # Errors
/// Wrong type; [`CommandError::TooLong`] for a bitmap above [`MAX_BYTES`].
pub fn get<'r>(
    read: &'r impl Read,
    scope: &Scope<'_>,
    key: &[u8],
) -> Result<Option<Payload<'r>>, CommandError> {
    let Some(value) = read.get(Family::Metadata, &scope.ns_key(key))? else { return Ok(None) };
    payload(read, scope, key, value)
}

/// GET for callers that hold the metadata entry already.
fn payload<'r>(
    read: &'r impl Read,
    scope: &Scope<'_>,
    key: &[u8],
    value: Value<'r>,
) -> Result<Option<Payload<'r>>, CommandError> {
    let is_bitmap = Header::decode(&value).is_some_and(|h| h.kind() == Some(Type::Bitmap));
    if is_bitmap {
        let bytes = bitmap::to_string(read, scope, key, &value)?;
        return Ok(bytes.map(Payload::owned));
    }
    Ok(found(Some(value), scope.now_ms)?.map(|found| found.payload))
}

/// MGET: `None` for missing keys and for other types; bitmaps are converted.
///
/// # Errors
/// Those of the engine.
pub fn mget<'r>(
    read: &'r impl Read,
    scope: &Scope<'_>,
    keys: &[&[u8]],
) -> Result<Vec<Option<Payload<'r>>>, CommandError> {
    let ns_keys: Vec<_> = keys.iter().map(|key| scope.ns_key(key)).collect();
    let values = read.multi_get(Family::Metadata, &ns_keys)?;
    let mut payloads = Vec::with_capacity(values.len());
    for (key, value) in keys.iter().zip(values) {
        payloads.push(match value.map(|value| payload(read, scope, key, value)).transpose() {
            Ok(found) => found.flatten(),
            Err(CommandError::WrongType) => None,
            Err(error) => return Err(error),
        });
    }
    Ok(payloads)
}

/// STRLEN; 0 for a missing key.
///
/// # Errors
/// Wrong type.
pub fn strlen(read: &impl Read, scope: &Scope<'_>, key: &[u8]) -> Result<usize, CommandError> {
    Ok(get(read, scope, key)?.map_or(0, |payload| payload.len()))
}

/// GETRANGE and SUBSTR: bytes `start..=end`, negative ones from the end; empty if there are none.
///
/// # Errors
/// Wrong type.
pub fn getrange<'r>(
    read: &'r impl Read,
    scope: &Scope<'_>,
    key: &[u8],
    start: i64,
    end: i64,
) -> Result<Option<Payload<'r>>, CommandError> {
    Ok(get(read, scope, key)?.map(|payload| payload.slice(start, end)))
}

/// When SET writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// In any case.
    #[default]
    Always,
    /// NX.
    IfAbsent,
    /// XX.
    IfPresent,
}

/// Options of [`set`]. The default reads nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetOptions {
    /// NX, XX.
    pub condition: Condition,
    /// EX, PX, EXAT, PXAT, KEEPTTL.
    pub expiry: Expiry,
    /// GET: the old value is wanted, and must be a string.
    pub get: bool,
}

/// What [`set`] did.
#[derive(Debug)]
pub struct SetOutcome<'a> {
    /// False if the condition was not met.
    pub is_set: bool,
    /// The old value, if it was asked for.
    pub old: Option<Payload<'a>>,
}

/// SET with all its options; also SETNX, SETEX, PSETEX, GETSET.
///
/// # Errors
/// Wrong type of the old value if that is asked for.
pub fn set<'a>(
    txn: &mut Txn<'a>,
    scope: &Scope<'_>,
    key: &[u8],
    value: &[u8],
    options: &SetOptions,
) -> Result<SetOutcome<'a>, CommandError> {
    let ns_key = scope.ns_key(key);
    let mut expire_ms = match options.expiry {
        Expiry::At(at) => at,
        Expiry::Never | Expiry::Keep => 0,
    };
    let mut old = None;
    let needs_read =
        options.get || options.expiry == Expiry::Keep || options.condition != Condition::Always;
    if needs_read {
        let entry = txn.get(Family::Metadata, &ns_key)?;
        let header = entry.as_deref().and_then(Header::decode);
        let header = header.filter(|header| !header.is_dead(scope.now_ms));
        let is_present = header.is_some();
        if let (Expiry::Keep, Some(header)) = (options.expiry, header) {
            expire_ms = header.expire_ms;
        }
        if options.get {
            old = match entry {
                Some(entry) => match Header::decode(&entry).and_then(|header| header.kind()) {
                    Some(Type::Bitmap) => bitmap::to_string(txn, scope, key, &entry)?,
                    _ => found(Some(entry), scope.now_ms)?.map(|found| found.payload.to_vec()),
                },
                None => None,
            };
        }
        let is_met = match options.condition {
            Condition::Always => true,
            Condition::IfAbsent => !is_present,
            Condition::IfPresent => is_present,
        };
        if !is_met {
            return Ok(SetOutcome { is_set: false, old: old.map(Payload::owned) });
        }
    }
    put(txn, &ns_key, &Prefix::new(Type::String, expire_ms), &[value]);
    Ok(SetOutcome { is_set: true, old: old.map(Payload::owned) })
}

/// MSET: all pairs in their order.
pub fn mset(txn: &mut Txn<'_>, scope: &Scope<'_>, pairs: &[(&[u8], &[u8])]) {
    let prefix = Prefix::new(Type::String, 0);
    txn.log(Type::String.log_data());
    for (key, value) in pairs {
        let value = [prefix.as_bytes(), *value];
        txn.put_parts(Family::Metadata, &[&scope.ns_key(key)], &value);
    }
}

/// MSETNX: all pairs, or none if any key exists. Returns whether it wrote.
///
/// # Errors
/// Those of the engine.
pub fn msetnx(
    txn: &mut Txn<'_>,
    scope: &Scope<'_>,
    pairs: &[(&[u8], &[u8])],
) -> Result<bool, CommandError> {
    let keys: Vec<_> = pairs.iter().map(|(key, _)| *key).collect();
    if super::keys::exists(txn, scope, &keys)? > 0 {
        return Ok(false);
    }
    mset(txn, scope, pairs);
    Ok(true)
}

/// GETEX. `None` leaves the time to live; [`Expiry::Never`] is PERSIST.
///
/// # Errors
/// Wrong type.
pub fn getex<'a>(
    txn: &mut Txn<'a>,
    scope: &Scope<'_>,
    key: &[u8],
    expiry: Option<Expiry>,
) -> Result<Option<Payload<'a>>, CommandError> {
    let ns_key = scope.ns_key(key);
    let Some(found) = load(txn, scope, &ns_key)? else { return Ok(None) };
    let expire_ms = match expiry {
        None | Some(Expiry::Keep) => found.expire_ms,
        Some(Expiry::Never) => 0,
        Some(Expiry::At(at)) => at,
    };
    if expire_ms != found.expire_ms {
        put(txn, &ns_key, &Prefix::new(Type::String, expire_ms), &[&found.payload]);
    }
    Ok(Some(found.payload))
}

/// GETDEL. The delete carries no log data.
///
/// # Errors
/// Wrong type.
pub fn getdel<'a>(
    txn: &mut Txn<'a>,
    scope: &Scope<'_>,
    key: &[u8],
) -> Result<Option<Payload<'a>>, CommandError> {
    let ns_key = scope.ns_key(key);
    let Some(found) = load(txn, scope, &ns_key)? else { return Ok(None) };
    txn.delete(Family::Metadata, &ns_key);
    Ok(Some(found.payload))
}

/// APPEND. Returns the new length.
///
/// # Errors
/// Wrong type, [`CommandError::TooLong`].
pub fn append(
    txn: &mut Txn<'_>,
    scope: &Scope<'_>,
    key: &[u8],
    suffix: &[u8],
) -> Result<usize, CommandError> {
    let ns_key = scope.ns_key(key);
    let Some(found) = load(txn, scope, &ns_key)? else {
        put(txn, &ns_key, &Prefix::new(Type::String, 0), &[suffix]);
        return Ok(suffix.len());
    };
    let length = found.payload.len() + suffix.len();
    if length > MAX_BYTES {
        return Err(CommandError::TooLong);
    }
    if !suffix.is_empty() {
        put(txn, &ns_key, &found.prefix, &[&found.payload, suffix]);
    }
    Ok(length)
}

/// SETRANGE. Returns the new length.
///
/// # Errors
/// Wrong type, [`CommandError::OffsetOutOfRange`] for a negative offset, [`CommandError::TooLong`].
pub fn setrange(
    txn: &mut Txn<'_>,
    scope: &Scope<'_>,
    key: &[u8],
    offset: i64,
    patch: &[u8],
) -> Result<usize, CommandError> {
    let offset = usize::try_from(offset).map_err(|_| CommandError::OffsetOutOfRange)?;
    let ns_key = scope.ns_key(key);
    let found = load(txn, scope, &ns_key)?;
    let length = found.as_ref().map_or(0, |found| found.payload.len());
    if patch.is_empty() {
        return Ok(length);
    }
    let end = offset.checked_add(patch.len()).filter(|end| *end <= MAX_BYTES);
    let end = end.ok_or(CommandError::TooLong)?;
    let mut value = found.as_ref().map_or_else(Vec::new, |found| found.payload.to_vec());
    value.resize(length.max(end), 0);
    if let Some(place) = value.get_mut(offset..end) {
        place.copy_from_slice(patch);
    }
    let prefix = found.map_or(Prefix::new(Type::String, 0), |found| found.prefix);
    put(txn, &ns_key, &prefix, &[&value]);
    Ok(value.len())
}

/// INCR, INCRBY, DECR, DECRBY (with a negated `delta`). Returns the new value. The time to live stays.
///
/// # Errors
/// Wrong type, [`CommandError::NotAnInteger`], [`CommandError::Overflow`].
pub fn incrby(
    txn: &mut Txn<'_>,
    scope: &Scope<'_>,
    key: &[u8],
    delta: i64,
) -> Result<i64, CommandError> {
    let ns_key = scope.ns_key(key);
    let (current, prefix) = match load(txn, scope, &ns_key)? {
        Some(found) => {
            (parse_integer(&found.payload).ok_or(CommandError::NotAnInteger)?, found.prefix)
        }
        None => (0, Prefix::new(Type::String, 0)),
    };
    let value = current.checked_add(delta).ok_or(CommandError::Overflow)?;
    put(txn, &ns_key, &prefix, &[itoa::Buffer::new().format(value).as_bytes()]);
    Ok(value)
}

/// INCRBYFLOAT. Returns the new value as text. The time to live stays.
///
/// # Errors
/// Wrong type, [`CommandError::NotAFloat`], [`CommandError::NanOrInfinity`].
pub fn incrbyfloat(
    txn: &mut Txn<'_>,
    scope: &Scope<'_>,
    key: &[u8],
    increment: &[u8],
) -> Result<Vec<u8>, CommandError> {
    let ns_key = scope.ns_key(key);
    let found = load(txn, scope, &ns_key)?;
    let current: &[u8] = found.as_ref().map_or(b"0", |found| &found.payload);
    let value = add_floats(current, increment)?;
    let prefix = found.as_ref().map_or(Prefix::new(Type::String, 0), |found| found.prefix);
    put(txn, &ns_key, &prefix, &[&value]);
    Ok(value)
}

/// Result of [`cas`] and [`cad`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// -1.
    Absent,
    /// 0.
    Different,
    /// 1: the key was changed.
    Equal,
}

/// CAS: sets `new` if the value is `old`. Without an expiry the key lives on without end.
///
/// # Errors
/// Wrong type.
pub fn cas(
    txn: &mut Txn<'_>,
    scope: &Scope<'_>,
    key: &[u8],
    old: &[u8],
    new: &[u8],
    expiry: Expiry,
) -> Result<Compared, CommandError> {
    let ns_key = scope.ns_key(key);
    let Some(found) = load(txn, scope, &ns_key)? else { return Ok(Compared::Absent) };
    if *found.payload != *old {
        return Ok(Compared::Different);
    }
    let expire_ms = match expiry {
        Expiry::Never => 0,
        Expiry::Keep => found.expire_ms,
        Expiry::At(at) => at,
    };
    put(txn, &ns_key, &Prefix::new(Type::String, expire_ms), &[new]);
    Ok(Compared::Equal)
}

/// CAD: deletes the key if the value is `old`. The delete carries no log data.
///
/// # Errors
/// Wrong type.
pub fn cad(
    txn: &mut Txn<'_>,
    scope: &Scope<'_>,
    key: &[u8],
    old: &[u8],
) -> Result<Compared, CommandError> {
    let ns_key = scope.ns_key(key);
    let Some(found) = load(txn, scope, &ns_key)? else { return Ok(Compared::Absent) };
    if *found.payload != *old {
        return Ok(Compared::Different);
    }
    txn.delete(Family::Metadata, &ns_key);
    Ok(Compared::Equal)
}

#[cfg(test)]
mod tests;
