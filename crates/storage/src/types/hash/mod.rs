//! Hashes: a sub-key for each field, its value as it is, or behind the end of the field.
//!
//! Batches are those of Kvrocks: log data `2`, the fields, and the metadata only if their number
//! changed. HSET puts the fields in reverse order, each name once, so that its last value counts;
//! what already has its value is not written. A hash without fields stays, with size 0.
//!
//! Fields get lifetimes by [`expire`]; until then a hash is kept plainly. What has ended is not
//! there for any function of this module, whether it is still stored or not.

use std::collections::HashSet;

use smallvec::SmallVec;

use super::bounds::SubRange;
use super::fields::{Form, Stored, Times, is_over};
use super::kind::Type;
use super::numbers::{add_floats, parse_integer};
use super::object::{Kind, Object, Tail};
use super::{CommandError, fields};
use crate::{At, Direction, Error, Family, Read, Snapshot, Txn, Value};

mod at_once;
mod change;
mod lifetimes;
mod walk;

pub use at_once::{End, OnlyIf, get_and_delete, get_and_expire, set_and_expire};
pub(super) use change::Changes;
pub use lifetimes::{Expired, Persisted, expire, lifetimes, persist};
pub use walk::{Range, pick, range, scan};

/// The type.
#[derive(Debug)]
pub enum Hash {}

impl Kind for Hash {
    const TYPE: Type = Type::Hash;
    type Tail = Form;
}

impl Tail for Form {
    fn fresh() -> Self {
        Self::Plain
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Self::read(bytes)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.write(out);
    }
}

/// Where fields lie.
pub(super) const FIELDS: Family = Family::Default;

impl Object<Hash> {
    /// What is stored for a field, without its end; `None` if that is past.
    fn living<'v>(&self, stored: Value<'v>) -> Result<Option<Value<'v>>, Error> {
        let (end_ms, _) = self.tail.split(&stored)?;
        let is_living = !is_over(end_ms, self.now_ms);
        Ok(is_living.then(|| stored.without(self.tail.ahead())))
    }

    /// The same of a value that is lent.
    fn lent<'v>(&self, stored: &'v [u8]) -> Result<Option<&'v [u8]>, Error> {
        let (end_ms, value) = self.tail.split(stored)?;
        Ok(if is_over(end_ms, self.now_ms) { None } else { Some(value) })
    }

    /// Calls `visit` with the fields of a range and their values, until it returns false.
    fn visit(
        &self,
        read: &impl Read,
        range: &SubRange,
        direction: Direction,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        let mut elements = self.elements(read, FIELDS, range, direction)?;
        while let Some((field, stored)) = elements.next()? {
            if self.lent(stored)?.is_some_and(|value| !visit(field, value)) {
                break;
            }
        }
        Ok(())
    }

    /// How many fields there are. Reads them if some may have ended: the size counts those too.
    fn count(&self, read: &impl Read) -> Result<u64, Error> {
        if self.tail.is_exact(self.size, self.now_ms) {
            return Ok(self.size);
        }
        let mut count = 0;
        self.visit(read, &SubRange::all(), Direction::Forward, |_, _| {
            count += 1;
            true
        })?;
        Ok(count)
    }
}

/// A hash that is there; `None` if there is none.
///
/// # Errors
/// Wrong type.
pub fn find(read: &impl Read, at: &At<'_>) -> Result<Option<Object<Hash>>, CommandError> {
    Object::find(read, at)
}

/// The same, or a new one, kept as the database makes them.
fn find_or_new(txn: &Txn<'_>, at: &At<'_>) -> Result<Object<Hash>, CommandError> {
    if let Some(hash) = find(txn, at)? {
        return Ok(hash);
    }
    let mut hash = Object::new(at);
    if txn.store().times_hashes() {
        hash.tail = Form::Timed(Times::default());
    }
    Ok(hash)
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
    let stored = hash.element(read, FIELDS, field)?;
    Ok(stored.map(|stored| hash.living(stored)).transpose()?.flatten())
}

/// HMGET: calls `visit` with the values of fields, in their order. Where they are large, one of
/// them is held at a time.
///
/// # Errors
/// Wrong type.
pub fn mget(
    read: &impl Read,
    at: &At<'_>,
    fields: &[&[u8]],
    mut visit: impl FnMut(Option<&[u8]>) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let Some(hash) = find(read, at)? else {
        return fields.iter().try_for_each(|_| visit(None));
    };
    hash.each_element(read, FIELDS, fields, |stored| {
        let value = stored.as_deref().map(|stored| hash.lent(stored)).transpose()?;
        visit(value.flatten())
    })
}

/// HLEN: fields whose end is past are not counted.
///
/// # Errors
/// Wrong type.
pub fn len(read: &impl Read, at: &At<'_>) -> Result<u64, CommandError> {
    Ok(find(read, at)?.map(|hash| hash.count(read)).transpose()?.unwrap_or(0))
}

/// The same as it was counted when the hash was last written, without a look at its fields: what
/// has ended since counts.
///
/// # Errors
/// Wrong type.
pub fn len_when_written(read: &impl Read, at: &At<'_>) -> Result<u64, CommandError> {
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
    Ok(hash.visit(read, &SubRange::all(), Direction::Forward, |field, value| {
        visit(field, value);
        true
    })?)
}

/// The same, with the end of each field: Unix ms, 0 for never.
///
/// # Errors
/// Wrong type.
pub fn for_each_until(
    read: &Snapshot<'_>,
    at: &At<'_>,
    mut visit: impl FnMut(&[u8], &[u8], u64),
) -> Result<(), CommandError> {
    let Some(hash) = find(read, at)? else { return Ok(()) };
    let mut elements = hash.elements(read, FIELDS, &SubRange::all(), Direction::Forward)?;
    while let Some((field, stored)) = elements.next()? {
        let (end_ms, value) = hash.tail.split(stored)?;
        if !is_over(end_ms, hash.now_ms) {
            visit(field, value, end_ms);
        }
    }
    Ok(())
}

/// HSET and HMSET: sets fields to values; of a field that comes twice the last value. An end goes
/// with the value it was for. Returns how many fields are new.
///
/// # Errors
/// Wrong type.
pub fn set(txn: &mut Txn<'_>, at: &At<'_>, pairs: &[(&[u8], &[u8])]) -> Result<u64, CommandError> {
    set_until(txn, at, pairs, None)
}

/// HSETEXPIRE: the same, and lets the whole key end then (Unix ms) if an end is given.
///
/// # Errors
/// Wrong type.
pub fn set_until(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    pairs: &[(&[u8], &[u8])],
    end_ms: Option<u64>,
) -> Result<u64, CommandError> {
    let hash = find_or_new(txn, at)?;
    let mut seen = HashSet::new();
    let mut last = SmallVec::<[&(&[u8], &[u8]); 4]>::with_capacity(pairs.len());
    last.extend(pairs.iter().rev().filter(|(field, _)| pairs.len() == 1 || seen.insert(*field)));
    let fields: SmallVec<[&[u8]; 4]> = last.iter().map(|(field, _)| *field).collect();
    // Each with whether it is new, and when it ended; what has its value already is left out.
    let mut changes = SmallVec::<[(bool, Stored, &[u8], &[u8]); 4]>::with_capacity(last.len());
    let mut pairs = last.iter();
    visit_stored(txn, &hash, &fields, |was| {
        let Some((field, value)) = pairs.next() else { return };
        match was {
            Some((0, old)) if *old == **value => {}
            Some((was_ms, _)) => {
                let is_new = is_over(was_ms, hash.now_ms);
                changes.push((is_new, Stored::Until(was_ms), *field, *value));
            }
            None => changes.push((true, Stored::Nothing, *field, *value)),
        }
    })?;
    let mut writing = Changes::begin(txn, hash);
    let mut added = 0;
    for (is_new, was, field, value) in changes {
        added += u64::from(is_new);
        writing.put(txn, field, was, (0, value));
    }
    if let Some(end_ms) = end_ms {
        writing.end_key_at(end_ms);
    }
    writing.close(txn)?;
    Ok(added)
}

/// The end of a field, and its value.
type Kept = (u64, Box<[u8]>);

/// What is stored for fields, ended or not; a hash that is new holds nothing, and is not asked.
fn stored(
    txn: &Txn<'_>,
    hash: &Object<Hash>,
    fields: &[&[u8]],
) -> Result<Vec<Option<Kept>>, Error> {
    if hash.size == 0 {
        return Ok(fields.iter().map(|_| None).collect());
    }
    let (mut found, mut held) = (Vec::with_capacity(fields.len()), 0_usize);
    hash.each_element(txn, FIELDS, fields, |stored| {
        let kept = stored.as_deref().map(|stored| hash.tail.split(stored)).transpose()?;
        held = held.saturating_add(kept.map_or(0, |(_, value)| value.len()));
        txn.must_have_room(held)?;
        found.push(kept.map(|(end_ms, value)| (end_ms, value.into())));
        Ok::<_, Error>(())
    })?;
    Ok(found)
}

/// Calls `visit` with the end and the value of each field, in their order. Where values are large,
/// one of them is held at a time.
fn visit_stored(
    txn: &Txn<'_>,
    hash: &Object<Hash>,
    fields: &[&[u8]],
    mut visit: impl FnMut(Option<(u64, &[u8])>),
) -> Result<(), Error> {
    if hash.size == 0 {
        fields.iter().for_each(|_| visit(None));
        return Ok(());
    }
    hash.each_element(txn, FIELDS, fields, |stored| {
        visit(stored.as_deref().map(|stored| hash.tail.split(stored)).transpose()?);
        Ok(())
    })
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
    let hash = find_or_new(txn, at)?;
    let (mut was, mut is_there) = (Stored::Nothing, false);
    visit_stored(txn, &hash, &[field], |kept| {
        if let Some((end_ms, _)) = kept {
            (was, is_there) = (Stored::Until(end_ms), !is_over(end_ms, hash.now_ms));
        }
    })?;
    if is_there {
        return Ok(false);
    }
    let mut writing = Changes::begin(txn, hash);
    writing.put(txn, field, was, (0, value));
    writing.close(txn)?;
    Ok(true)
}

/// HDEL. Returns how many fields were there.
///
/// # Errors
/// Wrong type.
pub fn del(txn: &mut Txn<'_>, at: &At<'_>, fields: &[&[u8]]) -> Result<u64, CommandError> {
    let Some(hash) = find(txn, at)? else { return Ok(0) };
    let (mut seen, count) = (HashSet::new(), fields.len());
    let each = fields.iter().copied().filter(|field| count == 1 || seen.insert(*field));
    let fields: SmallVec<[&[u8]; 4]> = each.collect();
    let mut there = SmallVec::<[(&[u8], u64); 4]>::new();
    let mut names = fields.iter();
    visit_stored(txn, &hash, &fields, |kept| {
        let name = names.next();
        there.extend(name.zip(kept).map(|(field, (end_ms, _))| (*field, end_ms)));
    })?;
    let (now_ms, mut deleted) = (hash.now_ms, 0);
    let mut writing = Changes::begin(txn, hash);
    for (field, end_ms) in there {
        deleted += u64::from(!is_over(end_ms, now_ms));
        writing.remove(txn, field, end_ms);
    }
    writing.close(txn)?;
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

/// Sets a field to what `new` makes of its value, which comes second. It ends when it did.
fn change<T>(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    field: &[u8],
    new: impl FnOnce(Option<&[u8]>) -> Result<(T, Vec<u8>), CommandError>,
) -> Result<T, CommandError> {
    let hash = find_or_new(txn, at)?;
    let was = stored(txn, &hash, &[field])?.pop().flatten();
    let stored = was.as_ref().map_or(Stored::Nothing, |(end_ms, _)| Stored::Until(*end_ms));
    let living = was.as_ref().filter(|(end_ms, _)| !is_over(*end_ms, hash.now_ms));
    let (answer, value) = new(living.map(|(_, value)| &**value))?;
    let end_ms = living.map_or(0, |(end_ms, _)| *end_ms);
    let mut writing = Changes::begin(txn, hash);
    writing.put(txn, field, stored, (end_ms, &value));
    writing.close(txn)?;
    Ok(answer)
}

#[cfg(test)]
mod tests;
