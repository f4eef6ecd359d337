//! Strings: the whole value lies in the metadata entry behind flags and expiry.
//!
//! Every write carries the log data `1`, except those that only delete (GETDEL, CAD), which carry
//! none. Values that are changed in place keep the form (64-bit or old) they have; whole new values
//! get the current one. Unlike Kvrocks, whatever changes a string takes a bitmap too, as in Redis,
//! where there is no such type.

pub mod compared;
pub(super) mod payload;

use std::ops::Range;

use super::expiry::Expiry;
use super::head::{Header, Prefix};
use super::kind::Type;
use super::living::Living;
use super::numbers::{add_floats, parse_integer};
use super::{CommandError, bitmap, bounds};
use crate::{At, Family, Read, Scope, Txn};
use compared::Comparison;
pub use compared::{Compared, cad, cas};
use payload::{Found, put};
pub use payload::{MAX_BYTES, Payload};

/// A bitmap is taken for the string it stands for, and is one once it is written.
fn load<'a>(txn: &Txn<'a>, at: &At<'_>) -> Result<Option<Found<'a>>, CommandError> {
    load_within(txn, at, u64::MAX)
}

/// The same, but of a bitmap only up to so many bytes.
fn load_within<'a>(
    txn: &Txn<'a>,
    at: &At<'_>,
    bitmap_max: u64,
) -> Result<Option<Found<'a>>, CommandError> {
    let Some(living) = at.load(txn)? else { return Ok(None) };
    if !is_bitmap(&living) {
        return Found::of(living).map(Some);
    }
    bitmap::check_length(at, living.header(), bitmap_max)?;
    let expire_ms = living.header().expire_ms;
    let payload = Payload::owned(bitmap::to_string(txn, at, living.header(), |len| 0..len)?);
    Ok(Some(Found { payload, expire_ms, prefix: Prefix::new(Type::String, expire_ms) }))
}

/// GET. A bitmap is converted to the string Redis would hold.
///
/// # Errors
/// Wrong type; [`CommandError::TooLong`] for a bitmap above [`MAX_BYTES`].
pub fn get<'r>(read: &'r impl Read, at: &At<'_>) -> Result<Option<Payload<'r>>, CommandError> {
    get_within(read, at, u64::MAX)
}

/// The same, but of a bitmap only up to so many bytes.
///
/// # Errors
/// Those of [`get`]; [`CommandError::BitmapTooLong`].
pub fn get_within<'r>(
    read: &'r impl Read,
    at: &At<'_>,
    bitmap_max: u64,
) -> Result<Option<Payload<'r>>, CommandError> {
    let Some(living) = at.living(read)? else { return Ok(None) };
    if is_bitmap(&living) {
        bitmap::check_length(at, living.header(), bitmap_max)?;
        return part_at_one_moment(read, at, |len| 0..len);
    }
    Ok(Some(Found::of(living)?.payload))
}

fn is_bitmap(living: &Living<'_>) -> bool {
    living.header().kind() == Some(Type::Bitmap)
}

/// A part of what was a bitmap when it was looked at: its segments are records of their own, which
/// one that writes may change between two looks.
fn part_at_one_moment<'r>(
    read: &impl Read,
    at: &At<'_>,
    part: impl FnOnce(usize) -> Range<usize>,
) -> Result<Option<Payload<'r>>, CommandError> {
    read.at_one_moment(|read| {
        let Some(living) = at.living(read)? else { return Ok(None) };
        let bytes = if is_bitmap(&living) {
            bitmap::to_string(read, at, living.header(), part)?
        } else {
            let payload = Found::of(living)?.payload;
            payload.get(part(payload.len())).unwrap_or_default().to_vec()
        };
        Ok(Some(Payload::owned(bytes)))
    })
}

/// MGET: calls `visit` with the value of each key, in their order and all as they are at one
/// moment; `None` for missing keys and for other types; bitmaps are converted. Where the values are
/// large, one of them is held at a time.
///
/// # Errors
/// Those of the engine; [`CommandError::BitmapTooLong`] for a bitmap above `bitmap_max` bytes.
pub fn mget(
    read: &impl Read,
    scope: &Scope<'_>,
    keys: &[&[u8]],
    bitmap_max: u64,
    mut visit: impl FnMut(Option<&[u8]>),
) -> Result<(), CommandError> {
    let ns_keys: Vec<_> = keys.iter().map(|key| scope.ns_key(key)).collect();
    if let Some(values) = read.few(Family::Metadata, &ns_keys)? {
        let found = values.into_iter().map(|value| Living::of(value, scope.now_ms));
        let found = found.collect::<Result<Vec<_>, _>>()?;
        if !found.iter().flatten().any(is_bitmap) {
            for living in found {
                let payload = living.and_then(|living| Found::of(living).ok());
                visit(payload.as_ref().map(|found| &*found.payload));
            }
            return Ok(());
        }
    }
    read.at_one_moment(|read| {
        for key in keys {
            match get_within(read, &scope.at(key), bitmap_max) {
                Err(CommandError::WrongType) => visit(None),
                found => visit(found?.as_deref()),
            }
        }
        Ok(())
    })
}

/// STRLEN; 0 for a missing key.
///
/// # Errors
/// Wrong type.
pub fn strlen(read: &impl Read, at: &At<'_>) -> Result<usize, CommandError> {
    let bits = bitmap::Bits::find(read, at)?;
    Ok(bits.map_or(0, |bits| usize::try_from(bits.len_bytes()).unwrap_or(usize::MAX)))
}

/// GETRANGE and SUBSTR: bytes `start..=end`, negative ones from the end; empty if there are none.
///
/// # Errors
/// Wrong type.
pub fn getrange<'r>(
    read: &'r impl Read,
    at: &At<'_>,
    start: i64,
    end: i64,
) -> Result<Option<Payload<'r>>, CommandError> {
    let Some(living) = at.living(read)? else { return Ok(None) };
    if is_bitmap(&living) {
        return part_at_one_moment(read, at, |len| bounds::bytes(start, end, len));
    }
    Ok(Some(Found::of(living)?.payload.slice(start, end)))
}

/// When SET writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition<'a> {
    /// In any case.
    #[default]
    Always,
    /// NX.
    IfAbsent,
    /// XX.
    IfPresent,
    /// IFEQ, IFNE, IFDEQ, IFDNE: the old value must be a string.
    If(Comparison<'a>),
}

impl Condition<'_> {
    /// Whether it is met, by the present value, or by whether there is any.
    fn is_met(&self, is_present: bool, value: Option<&[u8]>) -> bool {
        match self {
            Self::Always => true,
            Self::IfAbsent => !is_present,
            Self::IfPresent => is_present,
            Self::If(comparison) => comparison.is_met(value),
        }
    }
}

/// Options of [`set`]. The default reads nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetOptions<'a> {
    /// NX, XX, IFEQ and its kin.
    pub condition: Condition<'a>,
    /// EX, PX, EXAT, PXAT, KEEPTTL.
    pub expiry: Expiry,
    /// GET: the old value is wanted, and must be a string.
    pub get: bool,
}

impl SetOptions<'_> {
    /// Whether the old value is read.
    fn needs_value(&self) -> bool {
        self.get || matches!(self.condition, Condition::If(_))
    }
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
/// Wrong type of the old value if that is asked for, or compared.
pub fn set<'a>(
    txn: &mut Txn<'a>,
    at: &At<'_>,
    value: &[u8],
    options: &SetOptions<'_>,
) -> Result<SetOutcome<'a>, CommandError> {
    let mut expire_ms = match options.expiry {
        Expiry::At(end_ms) => end_ms,
        Expiry::Never | Expiry::Keep => 0,
    };
    let mut old = None;
    let needs_read =
        options.get || options.expiry == Expiry::Keep || options.condition != Condition::Always;
    if needs_read {
        let living = at.load(txn)?;
        let is_present = living.is_some();
        if let (Expiry::Keep, Some(living)) = (options.expiry, &living) {
            expire_ms = living.header().expire_ms;
        }
        let mut value = None;
        if let (true, Some(living)) = (options.needs_value(), living) {
            let bytes = match is_bitmap(&living) {
                true => bitmap::to_string(txn, at, living.header(), |len| 0..len)?,
                false => Found::of(living)?.payload.to_vec(),
            };
            value = Some(Payload::owned(bytes));
        }
        let is_met = options.condition.is_met(is_present, value.as_deref());
        old = value.filter(|_| options.get);
        if !is_met {
            return Ok(SetOutcome { is_set: false, old });
        }
    }
    put(txn, at, &Prefix::new(Type::String, expire_ms), &[value]);
    Ok(SetOutcome { is_set: true, old })
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

/// MSETEX: all pairs, or none if its condition is not met by all keys; comparisons are not for it.
/// Returns whether it wrote. Without an expiry the keys live on without end.
///
/// # Errors
/// Those of the engine.
pub fn msetex(
    txn: &mut Txn<'_>,
    scope: &Scope<'_>,
    pairs: &[(&[u8], &[u8])],
    (condition, expiry): (Condition<'_>, Expiry),
) -> Result<bool, CommandError> {
    let keys: Vec<_> = pairs.iter().map(|(key, _)| *key).collect();
    let count = match condition {
        Condition::Always | Condition::If(_) => None,
        Condition::IfAbsent => Some(0),
        Condition::IfPresent => Some(keys.len()),
    };
    if let Some(wanted) = count
        && super::keys::exists(txn, scope, &keys)? != wanted as u64
    {
        return Ok(false);
    }
    txn.log(Type::String.log_data());
    for (key, value) in pairs {
        let at = scope.at(key);
        let expire_ms = match expiry {
            Expiry::Never => 0,
            Expiry::At(end_ms) => end_ms,
            Expiry::Keep => at.load(txn)?.map_or(0, |living| living.header().expire_ms),
        };
        let prefix = Prefix::new(Type::String, expire_ms);
        txn.put_parts(Family::Metadata, &[&at.ns_key], &[prefix.as_bytes(), value]);
    }
    Ok(true)
}

/// GETEX. `None` leaves the time to live; [`Expiry::Never`] is PERSIST.
///
/// # Errors
/// Wrong type; [`CommandError::BitmapTooLong`] for a bitmap above `bitmap_max` bytes.
pub fn getex<'a>(
    txn: &mut Txn<'a>,
    at: &At<'_>,
    expiry: Option<Expiry>,
    bitmap_max: u64,
) -> Result<Option<Payload<'a>>, CommandError> {
    let Some(found) = load_within(txn, at, bitmap_max)? else { return Ok(None) };
    let expire_ms = match expiry {
        None | Some(Expiry::Keep) => found.expire_ms,
        Some(Expiry::Never) => 0,
        Some(Expiry::At(end_ms)) => end_ms,
    };
    let is_over = expire_ms != 0 && expire_ms < at.scope.now_ms;
    if is_over && txn.store().removes_ended() {
        txn.delete(Family::Metadata, &at.ns_key);
    } else if expire_ms != found.expire_ms {
        put(txn, at, &Prefix::new(Type::String, expire_ms), &[&found.payload]);
    }
    Ok(Some(found.payload))
}

/// GETDEL. The delete carries no log data.
///
/// # Errors
/// Wrong type.
pub fn getdel<'a>(txn: &mut Txn<'a>, at: &At<'_>) -> Result<Option<Payload<'a>>, CommandError> {
    let Some(found) = load(txn, at)? else { return Ok(None) };
    txn.delete(Family::Metadata, &at.ns_key);
    Ok(Some(found.payload))
}

/// APPEND. Returns the new length.
///
/// # Errors
/// Wrong type, [`CommandError::TooLong`].
pub fn append(txn: &mut Txn<'_>, at: &At<'_>, suffix: &[u8]) -> Result<usize, CommandError> {
    let Some(found) = load(txn, at)? else {
        put(txn, at, &Prefix::new(Type::String, 0), &[suffix]);
        return Ok(suffix.len());
    };
    let length = found.payload.len() + suffix.len();
    if length > MAX_BYTES {
        return Err(CommandError::TooLong);
    }
    if !suffix.is_empty() {
        put(txn, at, &found.prefix, &[&found.payload, suffix]);
    }
    Ok(length)
}

/// SETRANGE. Returns the new length.
///
/// # Errors
/// Wrong type, [`CommandError::OffsetOutOfRange`] for a negative offset, [`CommandError::TooLong`].
pub fn setrange(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    offset: i64,
    patch: &[u8],
) -> Result<usize, CommandError> {
    let offset = usize::try_from(offset).map_err(|_| CommandError::OffsetOutOfRange)?;
    let found = load(txn, at)?;
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
    put(txn, at, &prefix, &[&value]);
    Ok(value.len())
}

/// INCR, INCRBY, DECR, DECRBY (with a negated `delta`). Returns the new value. The time to live
/// stays.
///
/// # Errors
/// Wrong type, [`CommandError::NotAnInteger`], [`CommandError::Overflow`].
pub fn incrby(txn: &mut Txn<'_>, at: &At<'_>, delta: i64) -> Result<i64, CommandError> {
    let seen = txn.look(Family::Metadata, &at.ns_key, |value| number(value, at.scope.now_ms))??;
    let (current, prefix) = match seen {
        Some(seen) => seen,
        None => match load(txn, at)? {
            Some(found) => {
                (parse_integer(&found.payload).ok_or(CommandError::NotAnInteger)?, found.prefix)
            }
            None => (0, Prefix::new(Type::String, 0)),
        },
    };
    let value = current.checked_add(delta).ok_or(CommandError::Overflow)?;
    put(txn, at, &prefix, &[itoa::Buffer::new().format(value).as_bytes()]);
    Ok(value)
}

/// The number that a metadata entry holds, 0 where there is none, and what stands before it. `None`
/// for a bitmap, which holds nothing itself.
fn number(value: Option<&[u8]>, now_ms: u64) -> Result<Option<(i64, Prefix)>, CommandError> {
    let header = value.map(|value| Header::living(value, now_ms)).transpose()?.flatten();
    let Some(header) = header else { return Ok(Some((0, Prefix::new(Type::String, 0)))) };
    if header.kind() == Some(Type::Bitmap) {
        return Ok(None);
    }
    let header = header.of(Type::String)?;
    let number = parse_integer(header.rest).ok_or(CommandError::NotAnInteger)?;
    Ok(Some((number, Prefix::rewritten(&header, header.expire_ms))))
}

/// INCRBYFLOAT. Returns the new value as text. The time to live stays.
///
/// # Errors
/// Wrong type, [`CommandError::NotAFloat`], [`CommandError::NanOrInfinity`].
pub fn incrbyfloat(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    increment: &[u8],
) -> Result<Vec<u8>, CommandError> {
    let found = load(txn, at)?;
    let current: &[u8] = found.as_ref().map_or(b"0", |found| &found.payload);
    let value = add_floats(current, increment)?;
    let prefix = found.as_ref().map_or(Prefix::new(Type::String, 0), |found| found.prefix);
    put(txn, at, &prefix, &[&value]);
    Ok(value)
}

#[cfg(test)]
mod tests;
