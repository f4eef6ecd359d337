//! Hashes: a sub-key for each field, its value as it is.
//!
//! Batches are those of Kvrocks: log data `2`, the fields, and the metadata only if their number
//! changed. HSET puts the fields in reverse order, each name once, so that its last value counts;
//! what already has its value is not written. A hash without fields stays, with size 0.

use std::collections::HashSet;

use super::kind::Type;
use super::numbers::{add_floats, parse_integer};
use super::object::{IfEmpty, Kind, Object};
use super::{CommandError, bounds::SubRange};
use crate::{At, Direction, Error, Family, Read, Snapshot, Txn, Value};

mod walk;

pub use walk::{Range, pick, range, scan};

/// The type.
#[derive(Debug)]
pub enum Hash {}

impl Kind for Hash {
    const TYPE: Type = Type::Hash;
    type Tail = ();
}

/// Where fields lie.
const FIELDS: Family = Family::Default;

/// A hash that is there; `None` if there is none.
///
/// # Errors
/// Wrong type.
pub fn find(read: &impl Read, at: &At<'_>) -> Result<Option<Object<Hash>>, CommandError> {
    Object::find(read, at)
}

/// HGET; HSTRLEN and HEXISTS ask the same.
///
/// # Errors
/// Wrong type.
pub fn get<'r>(
    read: &'r impl Read,
    at: &At<'_>,
    field: &[u8],
) -> Result<Option<Value<'r>>, CommandError> {
    let Some(hash) = find(read, at)? else { return Ok(None) };
    Ok(hash.element(read, FIELDS, field)?)
}

/// HMGET: the values of fields, in their order.
///
/// # Errors
/// Wrong type.
pub fn mget<'r>(
    read: &'r impl Read,
    at: &At<'_>,
    fields: &[&[u8]],
) -> Result<Vec<Option<Value<'r>>>, CommandError> {
    match find(read, at)? {
        Some(hash) => Ok(hash.elements_at(read, FIELDS, fields)?),
        None => Ok(fields.iter().map(|_| None).collect()),
    }
}

/// HLEN.
///
/// # Errors
/// Wrong type.
pub fn len(read: &impl Read, at: &At<'_>) -> Result<u64, CommandError> {
    Ok(find(read, at)?.map_or(0, |hash| hash.size))
}

/// HGETALL, HKEYS, HVALS: calls `visit` with each field and its value, in the order of the fields'
/// bytes.
///
/// # Errors
/// Wrong type.
pub fn for_each(
    read: &Snapshot<'_>,
    at: &At<'_>,
    mut visit: impl FnMut(&[u8], &[u8]),
) -> Result<(), CommandError> {
    let Some(hash) = find(read, at)? else { return Ok(()) };
    let mut fields = hash.elements(read, FIELDS, &SubRange::all(), Direction::Forward)?;
    while let Some((field, value)) = fields.next()? {
        visit(field, value);
    }
    Ok(())
}

/// HSET and HMSET: sets fields to values; of a field that comes twice the last value. Returns how
/// many fields are new.
///
/// # Errors
/// Wrong type.
pub fn set(txn: &mut Txn<'_>, at: &At<'_>, pairs: &[(&[u8], &[u8])]) -> Result<u64, CommandError> {
    let mut hash = Object::find_or_new(txn, at)?;
    let (mut seen, mut last) = (HashSet::new(), Vec::with_capacity(pairs.len()));
    last.extend(pairs.iter().rev().filter(|(field, _)| pairs.len() == 1 || seen.insert(*field)));
    let fields: Vec<&[u8]> = last.iter().map(|(field, _)| *field).collect();
    // Each with whether it is new; what has its value already is left out.
    let changes: Vec<_> = stored(txn, &hash, &fields)?
        .into_iter()
        .zip(last)
        .filter(|(old, (_, value))| old.as_deref() != Some(value))
        .map(|(old, pair)| (old.is_none(), pair))
        .collect();
    let mut added = 0;
    txn.log(Type::Hash.log_data());
    for (is_new, (field, value)) in changes {
        added += u64::from(is_new);
        hash.put(txn, FIELDS, &[field], &[value]);
    }
    if added > 0 {
        hash.size += added;
        hash.store(txn, IfEmpty::Keep);
    }
    Ok(added)
}

/// What fields hold; a hash that is new holds nothing, and is not asked.
fn stored<'a>(
    txn: &Txn<'a>,
    hash: &Object<Hash>,
    fields: &[&[u8]],
) -> Result<Vec<Option<Box<[u8]>>>, Error> {
    if hash.size == 0 {
        return Ok(vec![None; fields.len()]);
    }
    let values = hash.elements_at(txn, FIELDS, fields)?;
    Ok(values.into_iter().map(|value| value.map(|value| (*value).into())).collect())
}

/// HSETNX. Returns whether the field is new, and set.
///
/// # Errors
/// Wrong type.
pub fn setnx(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    field: &[u8],
    value: &[u8],
) -> Result<bool, CommandError> {
    if get(txn, at, field)?.is_some() {
        return Ok(false);
    }
    set(txn, at, &[(field, value)]).map(|added| added > 0)
}

/// HDEL. Returns how many fields were there.
///
/// # Errors
/// Wrong type.
pub fn del(txn: &mut Txn<'_>, at: &At<'_>, fields: &[&[u8]]) -> Result<u64, CommandError> {
    let Some(mut hash) = find(txn, at)? else { return Ok(0) };
    let mut seen = HashSet::new();
    let fields: Vec<&[u8]> = fields.iter().copied().filter(|field| seen.insert(*field)).collect();
    let is_there: Vec<bool> =
        hash.elements_at(txn, FIELDS, &fields)?.iter().map(Option::is_some).collect();
    let there = fields.iter().zip(is_there).filter(|(_, is_there)| *is_there);
    let mut deleted = 0;
    txn.log(Type::Hash.log_data());
    for (field, _) in there {
        deleted += 1;
        hash.remove(txn, FIELDS, &[field]);
    }
    if deleted > 0 {
        hash.size = hash.size.saturating_sub(deleted);
        hash.store(txn, IfEmpty::Keep);
    }
    Ok(deleted)
}

/// HINCRBY. Returns the new value.
///
/// # Errors
/// Wrong type, [`CommandError::HashValueNotAnInteger`], [`CommandError::Overflow`].
pub fn incrby(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    field: &[u8],
    delta: i64,
) -> Result<i64, CommandError> {
    change(txn, at, field, |old| {
        let old = old.map_or(Some(0), parse_integer);
        let old = old.ok_or(CommandError::HashValueNotAnInteger)?;
        let new = old.checked_add(delta).ok_or(CommandError::Overflow)?;
        Ok((new, itoa::Buffer::new().format(new).as_bytes().to_vec()))
    })
}

/// HINCRBYFLOAT. Returns the new value as text, in the shortest form, as Redis stores it.
///
/// # Errors
/// Wrong type, [`CommandError::HashValueNotAFloat`], [`CommandError::NanOrInfinity`].
pub fn incrbyfloat(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    field: &[u8],
    increment: &[u8],
) -> Result<Vec<u8>, CommandError> {
    change(txn, at, field, |old| {
        let new = add_floats(old.unwrap_or(b"0"), increment).map_err(|error| match error {
            CommandError::NotAFloat => CommandError::HashValueNotAFloat,
            other => other,
        })?;
        Ok((new.clone(), new))
    })
}

/// Sets a field to what `new` makes of its value, which comes second.
fn change<T>(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    field: &[u8],
    new: impl FnOnce(Option<&[u8]>) -> Result<(T, Vec<u8>), CommandError>,
) -> Result<T, CommandError> {
    let mut hash = Object::<Hash>::find_or_new(txn, at)?;
    let old = hash.element(txn, FIELDS, field)?;
    let (answer, value) = new(old.as_deref())?;
    let is_new = old.is_none();
    drop(old);
    txn.log(Type::Hash.log_data());
    hash.put(txn, FIELDS, &[field], &[&value]);
    if is_new {
        hash.size += 1;
        hash.store(txn, IfEmpty::Keep);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests;
