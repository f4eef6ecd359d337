//! Sets: a sub-key for each member, its value empty. Sets of integers have no form of their own.
//!
//! Batches are those of Kvrocks: log data `4`, the members in the order of the command, and the
//! metadata last. What SREM and SMOVE empty is deleted; what SPOP empties stays, with size 0, and
//! so does the result of SINTERSTORE and its kin ([`combine()`] and [`store`]). One deliberate
//! difference: SMOVE is one batch, so that no crash and no replica shows the member in neither set,
//! or in both.

use std::cell::Cell;
use std::collections::HashSet;

use smallvec::SmallVec;

use super::CommandError;
use super::bounds::SubRange;
use super::kind::Type;
use super::object::{IfEmpty, Kind, Object};
use super::page::{self, Page, Request};
use super::pick::{self, Picked, Wanted};
use crate::{At, Direction, Error, Family, Read, Snapshot, Txn};

mod combine;

pub use combine::{Combination, combine, store};

/// The type.
#[derive(Debug)]
pub enum Set {}

impl Kind for Set {
    const TYPE: Type = Type::Set;
    type Tail = ();
}

/// Where members lie.
pub(super) const MEMBERS: Family = Family::Default;

/// A set that is there; `None` if there is none.
///
/// # Errors
/// Wrong type.
pub fn find(read: &impl Read, at: &At<'_>) -> Result<Option<Object<Set>>, CommandError> {
    Object::find(read, at)
}

/// SADD. Returns how many members are new.
///
/// # Errors
/// Wrong type.
pub fn add(txn: &mut Txn<'_>, at: &At<'_>, members: &[&[u8]]) -> Result<u64, CommandError> {
    let mut set = Object::find_or_new(txn, at)?;
    let members = once(members);
    let held = held(txn, &set, &members)?;
    txn.log(Type::Set.log_data());
    let mut added = 0;
    for (member, _) in members.iter().zip(held).filter(|(_, is_held)| !is_held) {
        added += 1;
        set.put(txn, MEMBERS, &[member], &[]);
    }
    if added > 0 {
        set.size += added;
        set.store(txn, IfEmpty::Keep);
    }
    Ok(added)
}

/// SREM. Returns how many members were there.
///
/// # Errors
/// Wrong type.
pub fn remove(txn: &mut Txn<'_>, at: &At<'_>, members: &[&[u8]]) -> Result<u64, CommandError> {
    let Some(set) = find(txn, at)? else { return Ok(0) };
    let members = once(members);
    let held = held(txn, &set, &members)?;
    let gone = members.iter().zip(held).filter(|(_, is_held)| *is_held);
    Ok(take_out(txn, set, gone.map(|(member, _)| *member), IfEmpty::Delete)?)
}

/// SPOP: takes random members out, and returns them.
///
/// # Errors
/// Wrong type.
pub fn pop(txn: &mut Txn<'_>, at: &At<'_>, count: u64) -> Result<Vec<Vec<u8>>, CommandError> {
    let Some(set) = find(txn, at)? else { return Ok(Vec::new()) };
    let read: &Txn<'_> = txn;
    // What is to be removed is known to be too much before it is read; how large it is, then.
    let least = set.sub_key(b"").len();
    let wanted = usize::try_from(count.min(set.size)).unwrap_or(usize::MAX);
    read.must_have_room(wanted.saturating_mul(least))?;
    let held = Cell::new(0_usize);
    let gather = |bytes| {
        held.set(held.get().saturating_add(bytes));
        read.must_have_room(held.get())
    };
    let picked = pick::pick_within(&set, read, MEMBERS, Wanted::Distinct(count), &gather)?;
    let popped: Vec<Vec<u8>> = picked.into_elements().into_iter().map(|(name, _)| name).collect();
    take_out(txn, set, popped.iter().map(Vec::as_slice), IfEmpty::Keep)?;
    Ok(popped)
}

/// SMOVE. Returns whether the member was in the first set; then it is in the second one.
///
/// # Errors
/// Wrong type; not where the first set does not exist, as in Redis.
pub fn shift(
    txn: &mut Txn<'_>,
    from: &At<'_>,
    to: &At<'_>,
    member: &[u8],
) -> Result<bool, CommandError> {
    let Some(source) = find(txn, from)? else { return Ok(false) };
    let mut target: Object<Set> = Object::find_or_new(txn, to)?;
    let is_there = source.element(txn, MEMBERS, member)?.is_some();
    if !is_there || from.key == to.key {
        return Ok(is_there);
    }
    let is_new = target.element(txn, MEMBERS, member)?.is_none();
    take_out(txn, source, [member].into_iter(), IfEmpty::Delete)?;
    if is_new {
        txn.log(Type::Set.log_data());
        target.put(txn, MEMBERS, &[member], &[]);
        target.size += 1;
        target.store(txn, IfEmpty::Keep);
    }
    Ok(true)
}

/// Which of some names are members: of few mostly.
pub type Held = SmallVec<[bool; 8]>;

/// Members, each once, in the order of the command.
fn once<'m>(members: &[&'m [u8]]) -> SmallVec<[&'m [u8]; 4]> {
    let mut seen = HashSet::new();
    members.iter().copied().filter(|member| members.len() == 1 || seen.insert(*member)).collect()
}

/// Which of some names are members; a set that is new has none, and is not asked.
fn held(read: &impl Read, set: &Object<Set>, names: &[&[u8]]) -> Result<Held, Error> {
    if set.size == 0 {
        return Ok(Held::from_elem(false, names.len()));
    }
    if let [name] = names {
        return Ok(Held::from_elem(set.element(read, MEMBERS, name)?.is_some(), 1));
    }
    Ok(set.elements_at(read, MEMBERS, names)?.iter().map(Option::is_some).collect())
}

/// Takes members out that are there. Returns how many they are.
fn take_out<'m>(
    txn: &mut Txn<'_>,
    mut set: Object<Set>,
    members: impl Iterator<Item = &'m [u8]>,
    if_empty: IfEmpty,
) -> Result<u64, Error> {
    let mut removed = 0;
    txn.log(Type::Set.log_data());
    for member in members {
        removed += 1;
        set.remove(txn, MEMBERS, &[member]);
        txn.must_fit()?;
    }
    if removed > 0 {
        set.size = set.size.saturating_sub(removed);
        set.store(txn, if_empty);
    }
    Ok(removed)
}

/// SCARD.
///
/// # Errors
/// Wrong type.
pub fn len(read: &impl Read, at: &At<'_>) -> Result<u64, CommandError> {
    Ok(find(read, at)?.map_or(0, |set| set.size))
}

/// SISMEMBER and SMISMEMBER: which names are members, in their order.
///
/// # Errors
/// Wrong type.
pub fn has(read: &impl Read, at: &At<'_>, names: &[&[u8]]) -> Result<Held, CommandError> {
    match find(read, at)? {
        Some(set) => Ok(held(read, &set, names)?),
        None => Ok(Held::from_elem(false, names.len())),
    }
}

/// SMEMBERS: calls `visit` with each member, in the order of their bytes.
///
/// # Errors
/// Wrong type.
pub fn for_each(
    read: &Snapshot<'_>,
    at: &At<'_>,
    mut visit: impl FnMut(&[u8]),
) -> Result<(), CommandError> {
    let Some(set) = find(read, at)? else { return Ok(()) };
    let mut members = set.elements(read, MEMBERS, &SubRange::all(), Direction::Forward)?;
    while let Some((member, _)) = members.next()? {
        visit(member);
    }
    Ok(())
}

/// SRANDMEMBER: random members; `None` where there is no set.
///
/// # Errors
/// Wrong type.
pub fn pick(
    read: &Snapshot<'_>,
    at: &At<'_>,
    wanted: Wanted,
) -> Result<Option<Picked>, CommandError> {
    let Some(set) = find(read, at)? else { return Ok(None) };
    Ok(Some(pick::pick(&set, read, MEMBERS, wanted)?))
}

/// SSCAN: a page of members of a set that is there.
///
/// # Errors
/// Those of the engine.
pub fn scan(
    read: &Snapshot<'_>,
    set: &Object<Set>,
    request: &Request<'_>,
) -> Result<Page<Vec<u8>>, CommandError> {
    Ok(page::page(set, read, MEMBERS, request, |member, _| Some(member.to_vec()))?)
}

#[cfg(test)]
mod tests;
