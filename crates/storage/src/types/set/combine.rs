//! Unions, intersections and differences of sets: walks over sorted members side by side.
//!
//! Memory does not grow with the sets: of each there is one member at a time, or a few of the first
//! one, which the others are asked for. Only a union of very many sets is gathered first. Members
//! come in the order of their bytes.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeSet, BinaryHeap};
use std::ops::ControlFlow;

use super::{MEMBERS, Set, find, held};
use crate::types::CommandError;
use crate::types::bounds::SubRange;
use crate::types::elements::Elements;
use crate::types::kind::Type;
use crate::types::object::{IfEmpty, Object};
use crate::{At, Direction, Error, Scope, Snapshot, Txn, budget};

/// Walks open at once: each keeps blocks of the database in memory.
const WALKS_MAX: usize = 64;
/// Members of the first set that the others are asked for at once.
const CHUNK: usize = 256;
/// Looking a member up takes as long as so many steps of a walk.
const STEPS_OF_A_LOOK: u64 = 4;

/// What is made of several sets; one that does not exist is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combination {
    /// Members of any of them.
    Union,
    /// Members of all of them.
    Intersection,
    /// Members of the first one that are in none of the others.
    Difference,
}

/// SUNION, SINTER, SINTERCARD and SDIFF: calls `visit` with each member of the combination until it
/// breaks off.
///
/// # Errors
/// Wrong type, of any of the keys.
pub fn combine(
    read: &Snapshot<'_>,
    scope: &Scope<'_>,
    how: Combination,
    keys: &[&[u8]],
    mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<(), CommandError> {
    let mut sets = Vec::with_capacity(keys.len());
    for key in keys {
        sets.push(find(read, &scope.at(key))?);
    }
    match how {
        Combination::Union => {
            let sets: Vec<_> = sets.into_iter().flatten().collect();
            if sets.len() > WALKS_MAX {
                return Ok(gathered(read, &sets, visit)?);
            }
            Ok(union(read, &sets, visit)?)
        }
        Combination::Intersection => {
            let Some(mut sets) = sets.into_iter().collect::<Option<Vec<_>>>() else {
                return Ok(());
            };
            sets.sort_by_key(|set| set.size);
            Ok(sift(read, sets, true, &mut visit)?)
        }
        Combination::Difference => {
            if sets.first().is_none_or(Option::is_none) {
                return Ok(());
            }
            Ok(sift(read, sets.into_iter().flatten().collect(), false, &mut visit)?)
        }
    }
}

/// SUNIONSTORE, SINTERSTORE and SDIFFSTORE: replaces what a key holds, whatever it is, and returns
/// how many members it has. Without any the key is written all the same, as Kvrocks does.
///
/// # Errors
/// Wrong type of a source.
pub fn store(
    txn: &mut Txn<'_>,
    to: &At<'_>,
    how: Combination,
    from: &[&[u8]],
) -> Result<u64, CommandError> {
    let read = txn.snapshot();
    let mut result: Object<Set> = Object::new(to);
    txn.log(Type::Set.log_data());
    budget::gathering(txn.store().batch_bytes_max(), || {
        combine(&read, &to.scope, how, from, |member| {
            result.put(txn, MEMBERS, &[member], &[]);
            result.size += 1;
            if txn.must_fit().is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
    })?;
    txn.must_fit()?;
    let size = result.size;
    result.store(txn, IfEmpty::Keep);
    Ok(size)
}

fn walk<'r>(read: &'r Snapshot<'_>, set: &Object<Set>) -> Result<Elements<'r>, Error> {
    set.elements(read, MEMBERS, &SubRange::all(), Direction::Forward)
}

/// Walks all sets side by side; the smallest of their next members comes next.
fn union(
    read: &Snapshot<'_>,
    sets: &[Object<Set>],
    mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<(), Error> {
    let mut walks: Vec<Elements<'_>> =
        sets.iter().map(|set| walk(read, set)).collect::<Result<_, _>>()?;
    // The next member of each walk, and which one.
    let mut heads = BinaryHeap::with_capacity(walks.len());
    for (index, walk) in walks.iter_mut().enumerate() {
        heads.extend(walk.next()?.map(|(member, _)| Reverse((member.to_vec(), index))));
    }
    let mut last: Option<Vec<u8>> = None;
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((member, index)) = &mut *head;
        if last.as_ref() != Some(member) {
            if visit(member).is_break() {
                break;
            }
            std::mem::swap(last.get_or_insert_default(), member);
        }
        let Some(walk) = walks.get_mut(*index) else { break };
        match walk.next()? {
            Some((next, _)) => {
                member.clear();
                member.extend_from_slice(next);
            }
            None => drop(PeekMut::pop(head)),
        }
    }
    Ok(())
}

/// The union of more sets than are walked at once.
fn gathered(
    read: &Snapshot<'_>,
    sets: &[Object<Set>],
    mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<(), Error> {
    let mut members: BTreeSet<Vec<u8>> = BTreeSet::new();
    for set in sets {
        let mut walk = walk(read, set)?;
        while let Some((member, _)) = walk.next()? {
            if !members.contains(member) {
                budget::gather(member.len() + size_of::<Vec<u8>>())?;
                members.insert(member.to_vec());
            }
        }
    }
    let _ = members.iter().try_for_each(|member| visit(member));
    Ok(())
}

/// Walks the first set; of its members those count that all others hold, or that none of them does.
fn sift(
    read: &Snapshot<'_>,
    sets: Vec<Object<Set>>,
    are_held: bool,
    visit: &mut impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<(), Error> {
    let mut sets = sets.into_iter();
    let Some(first) = sets.next() else { return Ok(()) };
    let mut others = Vec::with_capacity(sets.len());
    for (number, set) in sets.enumerate() {
        let is_near = set.size / STEPS_OF_A_LOOK <= first.size;
        others.push(match is_near && number < WALKS_MAX {
            true => Other::Walked { next: None, walk: Some(walk(read, &set)?) },
            false => Other::Asked(set),
        });
    }
    let mut members = walk(read, &first)?;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        while chunk.len() < CHUNK {
            let Some((member, _)) = members.next()? else { break };
            chunk.push(member.to_vec());
        }
        let is_last = chunk.len() < CHUNK;
        for other in others.iter_mut() {
            if chunk.is_empty() {
                break;
            }
            let mut held = other.held(read, &chunk)?.into_iter();
            chunk.retain(|_| held.next() == Some(are_held));
        }
        let flow = chunk.iter().try_for_each(|member| visit(member));
        if is_last || flow.is_break() {
            return Ok(());
        }
    }
}

/// A set that is asked for members of another one, which come in their order.
enum Other<'r> {
    /// It is of about the same size, and walked along.
    Walked {
        /// Where the walk stands; `None` before its beginning and at its end.
        next: Option<Vec<u8>>,
        /// `None` at the end.
        walk: Option<Elements<'r>>,
    },
    /// It is much larger: members are looked up.
    Asked(Object<Set>),
}

impl Other<'_> {
    /// Which of some names are members.
    fn held(&mut self, read: &Snapshot<'_>, names: &[Vec<u8>]) -> Result<Vec<bool>, Error> {
        let (next, walk) = match self {
            Self::Walked { next, walk } => (next, walk),
            Self::Asked(set) => {
                let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
                return Ok(held(read, set, &names)?.into_vec());
            }
        };
        let mut held = Vec::with_capacity(names.len());
        for name in names {
            while let (Some(elements), true) =
                (&mut *walk, next.as_ref().is_none_or(|next| next < name))
            {
                match elements.next()? {
                    Some((member, _)) => {
                        let next = next.get_or_insert_default();
                        next.clear();
                        next.extend_from_slice(member);
                    }
                    None => (*next, *walk) = (None, None),
                }
            }
            held.push(next.as_ref() == Some(name));
        }
        Ok(held)
    }
}
