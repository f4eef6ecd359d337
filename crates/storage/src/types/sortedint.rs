//! Sets of whole numbers in their order, which Redis does not have: a sub-key of eight bytes for
//! each number, its value empty.
//!
//! Batches are those of Kvrocks: log data `7`, the numbers in the order of the command, and the
//! metadata last. One that is emptied stays, with size 0. Unlike there, a number that comes twice
//! in one command counts once.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use super::CommandError;
use super::bounds::SubRange;
use super::kind::Type;
use super::object::{IfEmpty, Kind, Object};
use crate::{At, Direction, Error, Family, Read, Snapshot, Txn};

/// The type.
#[derive(Debug)]
pub enum SortedInt {}

impl Kind for SortedInt {
    const TYPE: Type = Type::SortedInt;
    type Tail = ();
}

/// Where numbers lie.
const NUMBERS: Family = Family::Default;

/// Which of some numbers are there, in their order.
fn are_there(
    read: &impl Read,
    object: &Object<SortedInt>,
    numbers: &[u64],
) -> Result<Vec<bool>, Error> {
    let names: Vec<[u8; 8]> = numbers.iter().map(|number| number.to_be_bytes()).collect();
    let names: Vec<&[u8]> = names.iter().map(<[u8; 8]>::as_slice).collect();
    Ok(object.elements_at(read, NUMBERS, &names)?.iter().map(Option::is_some).collect())
}

/// Numbers, each once, and whether each of them is there.
fn held(
    read: &impl Read,
    object: &Object<SortedInt>,
    numbers: &[u64],
) -> Result<Vec<(u64, bool)>, Error> {
    let mut seen = HashSet::new();
    let numbers: Vec<u64> = numbers.iter().copied().filter(|number| seen.insert(*number)).collect();
    let found = are_there(read, object, &numbers)?;
    Ok(numbers.into_iter().zip(found).collect())
}

/// SIADD. Returns how many numbers are new.
///
/// # Errors
/// Wrong type.
pub fn add(txn: &mut Txn<'_>, at: &At<'_>, numbers: &[u64]) -> Result<u64, CommandError> {
    let mut object = Object::<SortedInt>::find_or_new(txn, at)?;
    let held = held(txn, &object, numbers)?;
    txn.log(Type::SortedInt.log_data());
    let mut added = 0;
    for (number, _) in held.into_iter().filter(|(_, is_held)| !is_held) {
        added += 1;
        object.put(txn, NUMBERS, &[&number.to_be_bytes()], &[]);
    }
    if added > 0 {
        object.size = object.size.saturating_add(added);
        object.store(txn, IfEmpty::Keep);
    }
    Ok(added)
}

/// SIREM. Returns how many numbers were there.
///
/// # Errors
/// Wrong type.
pub fn remove(txn: &mut Txn<'_>, at: &At<'_>, numbers: &[u64]) -> Result<u64, CommandError> {
    let Some(mut object) = Object::<SortedInt>::find(txn, at)? else { return Ok(0) };
    let held = held(txn, &object, numbers)?;
    txn.log(Type::SortedInt.log_data());
    let mut removed = 0;
    for (number, _) in held.into_iter().filter(|(_, is_held)| *is_held) {
        removed += 1;
        object.remove(txn, NUMBERS, &[&number.to_be_bytes()]);
    }
    if removed > 0 {
        object.size = object.size.saturating_sub(removed);
        object.store(txn, IfEmpty::Keep);
    }
    Ok(removed)
}

/// SICARD.
///
/// # Errors
/// Wrong type.
pub fn len(read: &impl Read, at: &At<'_>) -> Result<u64, CommandError> {
    Ok(Object::<SortedInt>::find(read, at)?.map_or(0, |object| object.size))
}

/// SIEXISTS: which numbers are there, in their order.
///
/// # Errors
/// Wrong type.
pub fn has(read: &impl Read, at: &At<'_>, numbers: &[u64]) -> Result<Vec<bool>, CommandError> {
    let Some(object) = Object::<SortedInt>::find(read, at)? else {
        return Ok(vec![false; numbers.len()]);
    };
    Ok(are_there(read, &object, numbers)?)
}

/// What is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Between which numbers.
    pub numbers: RangeInclusive<u64>,
    /// From which end.
    pub direction: Direction,
    /// So many are left out.
    pub offset: u64,
    /// So many at most.
    pub count: u64,
}

/// SIRANGE, SIRANGEBYVALUE, and the same from the other end: calls `visit` with each number.
///
/// # Errors
/// Wrong type.
pub fn for_each(
    read: &Snapshot<'_>,
    at: &At<'_>,
    range: &Range,
    mut visit: impl FnMut(u64),
) -> Result<(), CommandError> {
    let Some(object) = Object::<SortedInt>::find(read, at)? else { return Ok(()) };
    if range.numbers.is_empty() || range.count == 0 {
        return Ok(());
    }
    let lower = range.numbers.start().to_be_bytes();
    let subs = match range.numbers.end().checked_add(1) {
        Some(behind) => SubRange::between(&lower, &behind.to_be_bytes()),
        None => SubRange::from(&lower),
    };
    let (mut place, end) = (0, range.offset.saturating_add(range.count));
    let mut numbers = object.elements(read, NUMBERS, &subs, range.direction)?;
    while place < end
        && let Some((sub, _)) = numbers.next()?
    {
        let number = <[u8; 8]>::try_from(sub)
            .map_err(|_| CommandError::corrupt("a number is not of eight bytes"))?;
        if place >= range.offset {
            visit(u64::from_be_bytes(number));
        }
        place += 1;
    }
    Ok(())
}
