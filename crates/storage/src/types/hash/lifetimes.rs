//! Lifetimes of fields: HEXPIRE and its kin, HTTL and its kin, HPERSIST.
//!
//! The first field of a plain hash that gets an end makes a hash with lifetimes of it: all fields
//! are written anew, under a version of its own, in the same batch.

use std::collections::HashMap;

use super::change::Changes;
use super::fields::{Form, Stored, Times, is_over};
use super::{FIELDS, Hash, Kept, find, stored};
use crate::types::CommandError;
use crate::types::bounds::SubRange;
use crate::types::keys::{ExpireCondition, Lifetime};
use crate::types::object::Object;
use crate::{At, Direction, Read, Txn};

/// What HEXPIRE did with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// There is none.
    NoField = -2,
    /// The condition is not met.
    NotMet = 0,
    /// It has the end.
    Set = 1,
    /// The end is past, and the field gone.
    Deleted = 2,
}

/// What HPERSIST did with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persisted {
    /// There is none.
    NoField = -2,
    /// It had no end.
    Endless = -1,
    /// It has none any more.
    Done = 1,
}

/// HTTL, HPTTL, HEXPIRETIME, HPEXPIRETIME: when fields end, in their order.
///
/// # Errors
/// Wrong type.
pub fn lifetimes(
    read: &impl Read,
    at: &At<'_>,
    fields: &[&[u8]],
) -> Result<Vec<Lifetime>, CommandError> {
    let Some(hash) = find(read, at)? else { return Ok(vec![Lifetime::Absent; fields.len()]) };
    let mut found = Vec::with_capacity(fields.len());
    hash.each_element(read, FIELDS, fields, |stored| {
        let end_ms = stored.map(|stored| hash.tail.split(&stored).map(|(end_ms, _)| end_ms));
        found.push(match end_ms.transpose()? {
            None => Lifetime::Absent,
            Some(0) => Lifetime::Endless,
            Some(end_ms) if is_over(end_ms, hash.now_ms) => Lifetime::Absent,
            Some(end_ms) => Lifetime::Until(end_ms),
        });
        Ok::<_, CommandError>(())
    })?;
    Ok(found)
}

/// HEXPIRE, HPEXPIRE, HEXPIREAT, HPEXPIREAT: lets fields end at `end_ms` (Unix ms); at once if that
/// is not ahead. A field that comes twice is treated twice.
///
/// # Errors
/// Wrong type.
pub fn expire(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    fields: &[&[u8]],
    (end_ms, condition): (u64, ExpireCondition),
) -> Result<Vec<Expired>, CommandError> {
    let Some(hash) = find(txn, at)? else { return Ok(vec![Expired::NoField; fields.len()]) };
    let is_past = end_ms <= hash.now_ms;
    let change = |end: &mut Option<u64>| match *end {
        None => Expired::NoField,
        Some(was_ms) if !condition.is_met(was_ms, end_ms) => Expired::NotMet,
        Some(_) if is_past => {
            *end = None;
            Expired::Deleted
        }
        Some(_) => {
            *end = Some(end_ms);
            Expired::Set
        }
    };
    change_ends(txn, at, hash, fields, change)
}

/// HPERSIST: fields that have an end have none any more.
///
/// # Errors
/// Wrong type.
pub fn persist(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    fields: &[&[u8]],
) -> Result<Vec<Persisted>, CommandError> {
    let Some(hash) = find(txn, at)? else { return Ok(vec![Persisted::NoField; fields.len()]) };
    let change = |end: &mut Option<u64>| match end.replace(0) {
        None => {
            *end = None;
            Persisted::NoField
        }
        Some(0) => Persisted::Endless,
        Some(_) => Persisted::Done,
    };
    change_ends(txn, at, hash, fields, change)
}

/// A field as it is stored, and what is to become of it.
pub(super) struct Field<'a> {
    kept: Option<Kept>,
    /// When it is to end; `None` is not at all.
    pub(super) end: Option<u64>,
    /// Its new value, if it gets one.
    pub(super) value: Option<&'a [u8]>,
}

impl Field<'_> {
    fn was(&self) -> Option<u64> {
        self.kept.as_ref().map(|(end_ms, _)| *end_ms)
    }

    fn living(&self, now_ms: u64) -> Option<u64> {
        self.was().filter(|end_ms| !is_over(*end_ms, now_ms))
    }

    /// Its value, if it is there.
    pub(super) fn seen(&self) -> Option<&[u8]> {
        self.end?;
        self.value.or(self.kept.as_ref().map(|(_, value)| &**value))
    }

    /// What ended and is still stored goes only where a field beside it changes.
    fn is_changed(&self, now_ms: u64) -> bool {
        let old = self.kept.as_ref().map(|(_, value)| &**value);
        let living = self.living(now_ms);
        living != self.end || living.is_some() && self.value.is_some_and(|new| Some(new) != old)
    }
}

/// Asks `change` for each end, one after the other, and writes what came of it.
fn change_ends<T>(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    hash: Object<Hash>,
    fields: &[&[u8]],
    mut change: impl FnMut(&mut Option<u64>) -> T,
) -> Result<Vec<T>, CommandError> {
    change_fields(txn, at, hash, fields, |_, field| change(&mut field.end))
}

/// Asks `change` for each field, one after the other, with its place among them, and writes what
/// came of it.
pub(super) fn change_fields<'a, T>(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    hash: Object<Hash>,
    fields: &[&[u8]],
    mut change: impl FnMut(usize, &mut Field<'a>) -> T,
) -> Result<Vec<T>, CommandError> {
    let (mut states, mut answers) = (HashMap::new(), Vec::with_capacity(fields.len()));
    for (place, (name, kept)) in fields.iter().zip(stored(txn, &hash, fields)?).enumerate() {
        let field = states.entry(*name).or_insert_with(|| {
            let mut field = Field { kept, end: None, value: None };
            field.end = field.living(hash.now_ms);
            field
        });
        answers.push(change(place, field));
    }
    if !states.values().any(|field| field.is_changed(hash.now_ms)) {
        return Ok(answers);
    }
    let gets_an_end = states.values().any(|field| matches!(field.end, Some(1..)));
    if hash.tail == Form::Plain && gets_an_end {
        convert(txn, at, &hash, (fields, states))?;
        return Ok(answers);
    }
    let mut writing = Changes::begin(txn, hash);
    // In the order in which they came, so that a batch is that of its command.
    for name in fields {
        let Some(field) = states.remove(name) else { continue };
        let (was, old) = match &field.kept {
            Some((was_ms, value)) => (Stored::Until(*was_ms), &**value),
            None => (Stored::Nothing, &[][..]),
        };
        match field.end {
            Some(end_ms)
                if was == Stored::Until(end_ms) && field.value.is_none_or(|new| new == old) => {}
            Some(end_ms) => writing.put(txn, name, was, (end_ms, field.value.unwrap_or(old))),
            None => {
                if let Some(was_ms) = field.was() {
                    writing.remove(txn, name, was_ms);
                }
            }
        }
    }
    writing.close(txn)?;
    Ok(answers)
}

/// Writes all fields of a plain hash anew, each with an end: those that are named with theirs.
fn convert(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    hash: &Object<Hash>,
    (names, mut states): (&[&[u8]], HashMap<&[u8], Field<'_>>),
) -> Result<(), CommandError> {
    // Opened before anything is written, so that it does not look at what is written.
    let (snapshot, all) = (txn.snapshot(), SubRange::all());
    let mut elements = hash.elements(&snapshot, FIELDS, &all, Direction::Forward)?;
    let renewed = hash.renewed(at, Form::Timed(Times::default()));
    let mut writing = Changes::begin_anew(txn, renewed);
    while let Some((name, value)) = elements.next()? {
        let (end, value) = match states.remove(name) {
            Some(field) => (field.end, field.value.unwrap_or(value)),
            None => (Some(0), value),
        };
        if let Some(end_ms) = end {
            writing.put(txn, name, Stored::Nothing, (end_ms, value));
            txn.must_fit()?;
        }
    }
    for name in names {
        let Some(Field { end: Some(end_ms), value: Some(value), .. }) = states.remove(name) else {
            continue;
        };
        writing.put(txn, name, Stored::Nothing, (end_ms, value));
    }
    Ok(writing.close(txn)?)
}
