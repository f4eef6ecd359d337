//! Cuckoo filters: a chain of them, each a table of buckets that hold fingerprints of items. The
//! newest one is filled first; when an item finds no place, fingerprints of the last filter are
//! moved to their other buckets, and if that does not help either, another filter follows, which is
//! larger by the expansion.
//!
//! Bytes are those of Kvrocks. Its batches have the log data `14 reserve <key>`, `14 add <key>` and
//! `14 del <key>`, the pages that were changed, and the metadata behind them. What one command adds
//! is one batch here. A filter that is emptied while items are deleted goes with its pages, as far
//! as a chain is small: a write has no bound on what it reads.

use super::kind::Type;
use super::object::{Kind, Object};
use super::{CommandError, log};
use crate::{At, Family, Read, Snapshot, Txn, budget};

mod chain;
mod filter;
mod pages;

use chain::Slots;
pub use chain::{Chain, Shape};
use filter::{EMPTY, Mark};
use pages::Pages;

/// The type.
#[derive(Debug)]
pub enum Cuckoo {}

impl Kind for Cuckoo {
    const TYPE: Type = Type::Cuckoo;
    type Tail = Chain;
}

/// Where pages lie.
const PAGES: Family = Family::Default;
/// Larger chains keep a filter that could be emptied.
const COMPACTED_MAX: u64 = 1 << 18;
/// No chain grows longer: a write looks into each filter for each of its items. RedisBloom ends at
/// 32, with which filters that nobody reserved would hold some 30,000 items; Kvrocks at 65,535.
const FILTERS_MAX: u16 = 1_024;

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is there, once more perhaps.
    Added,
    /// It was there already, as far as a filter can tell, and nothing was added.
    There,
    /// There is no room for it, and the chain does not grow.
    Full,
    /// There is no room for it, and the chain may have no other filter.
    Longest,
}

/// How items are added.
#[derive(Debug, Clone, Copy)]
pub struct Inserting {
    /// How a chain is made if there is none; `None`: it is not.
    pub making: Option<Shape>,
    /// Items that are there are left as they are.
    pub is_new_only: bool,
}

/// A chain that is there; `None` if there is none.
///
/// # Errors
/// Wrong type; its numbers are impossible.
pub fn find(read: &impl Read, at: &At<'_>) -> Result<Option<Object<Cuckoo>>, CommandError> {
    let found = Object::<Cuckoo>::find(read, at)?;
    if let Some(object) = &found {
        object.tail.check()?;
    }
    Ok(found)
}

fn fresh(at: &At<'_>, shape: &Shape) -> Object<Cuckoo> {
    let mut object = Object::<Cuckoo>::new(at);
    object.tail = Chain::new(shape);
    object
}

fn log_of(word: &[u8], at: &At<'_>) -> Vec<u8> {
    log::words(Type::Cuckoo, &[word, at.key])
}

/// CF.RESERVE. False if the key is there.
///
/// # Errors
/// Wrong type.
pub fn reserve(txn: &mut Txn<'_>, at: &At<'_>, shape: &Shape) -> Result<bool, CommandError> {
    if find(txn, at)?.is_some() {
        return Ok(false);
    }
    txn.log(&log_of(b"reserve", at));
    fresh(at, shape).write(txn);
    Ok(true)
}

/// CF.ADD, CF.INSERT and those of them that end in NX: what became of each item; `None` if there is
/// no chain and none is to be made.
///
/// # Errors
/// Wrong type; more than a batch takes.
pub fn insert(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    items: &[&[u8]],
    how: Inserting,
) -> Result<Option<Vec<Inserted>>, CommandError> {
    let mut object = match (find(txn, at)?, how.making) {
        (Some(object), _) => object,
        (None, Some(shape)) => fresh(at, &shape),
        (None, None) => return Ok(None),
    };
    let (before, mut pages) = (object.size, Pages::default());
    let mut outcomes = Vec::with_capacity(items.len());
    for item in items {
        let mark = Mark::of(item);
        let is_there = how.is_new_only && count_of(txn, &object, &mut pages, mark, 1)? > 0;
        let outcome =
            if is_there { Inserted::There } else { add(txn, &mut object, &mut pages, mark)? };
        outcomes.push(outcome);
        pages.settle();
        txn.must_have_room(pages.changed_bytes())?;
    }
    if object.size != before {
        txn.log(&log_of(b"add", at));
        pages.write(txn, &object);
        object.write(txn);
        txn.must_fit()?;
    }
    Ok(Some(outcomes))
}

/// Finds a place for a mark.
fn add(
    read: &impl Read,
    object: &mut Object<Cuckoo>,
    pages: &mut Pages,
    mark: Mark,
) -> Result<Inserted, CommandError> {
    let size = object.size.saturating_add(1);
    for filter in (0..object.tail.filters).rev() {
        let slots = object.tail.slots(filter)?;
        if pages.swap_either(read, object, (&slots, mark), (EMPTY, mark.fingerprint))? {
            object.size = size;
            return Ok(Inserted::Added);
        }
    }
    let last = object.tail.slots(object.tail.filters.saturating_sub(1))?;
    if move_for(read, object, pages, (&last, mark))? {
        object.size = size;
        return Ok(Inserted::Added);
    }
    if object.tail.expansion == 0 {
        return Ok(Inserted::Full);
    }
    let longer = object.tail.filters.checked_add(1).filter(|longer| *longer <= FILTERS_MAX);
    let next = object.tail.layout(object.tail.filters);
    let (Some(longer), Some(next)) = (longer, next) else { return Ok(Inserted::Longest) };
    if !pages.swap_either(read, object, (&next, mark), (EMPTY, mark.fingerprint))? {
        return Err(CommandError::corrupt("a filter that is new is full"));
    }
    (object.size, object.tail.filters) = (size, longer);
    Ok(Inserted::Added)
}

/// Puts a mark in the place of another one, which moves to its other bucket, and so on. False if no
/// place was found: all is as before then.
fn move_for(
    read: &impl Read,
    object: &Object<Cuckoo>,
    pages: &mut Pages,
    (slots, mark): (&Slots, Mark),
) -> Result<bool, CommandError> {
    let (mut bucket, mut fingerprint) = (mark.within(slots.buckets), mark.fingerprint);
    let mut slot = 0;
    for _ in 0..object.tail.iterations {
        fingerprint = pages.replace(read, object, (slots, bucket, slot), fingerprint)?;
        if fingerprint == EMPTY {
            return Ok(true);
        }
        bucket = Mark { bucket: u64::from(bucket), fingerprint }.moved().within(slots.buckets);
        if pages.swap(read, object, (slots, bucket), (EMPTY, fingerprint))? {
            return Ok(true);
        }
        slot = (slot + 1) % slots.per_bucket.max(1);
    }
    pages.take_back();
    Ok(false)
}

/// How often a chain has a mark; it is not looked further once that is `enough`.
fn count_of(
    read: &impl Read,
    object: &Object<Cuckoo>,
    pages: &mut Pages,
    mark: Mark,
    enough: u64,
) -> Result<u64, CommandError> {
    let mut count = 0_u64;
    for filter in (0..object.tail.filters).rev() {
        // Also where its pages are held.
        budget::step(1)?;
        count += pages.count(read, object, &object.tail.slots(filter)?, mark)?;
        if count >= enough {
            break;
        }
    }
    Ok(count)
}

/// CF.EXISTS and CF.MEXISTS: which items are there, as far as a filter can tell.
///
/// # Errors
/// Wrong type.
pub fn has(read: &Snapshot<'_>, at: &At<'_>, items: &[&[u8]]) -> Result<Vec<bool>, CommandError> {
    let Some(object) = find(read, at)? else { return Ok(vec![false; items.len()]) };
    let (mut pages, mut there) = (Pages::default(), Vec::with_capacity(items.len()));
    for item in items {
        there.push(count_of(read, &object, &mut pages, Mark::of(item), 1)? > 0);
        pages.settle();
    }
    Ok(there)
}

/// CF.COUNT: how often an item is there, as far as a filter can tell.
///
/// # Errors
/// Wrong type.
pub fn count(read: &Snapshot<'_>, at: &At<'_>, item: &[u8]) -> Result<u64, CommandError> {
    let Some(object) = find(read, at)? else { return Ok(0) };
    count_of(read, &object, &mut Pages::default(), Mark::of(item), u64::MAX)
}

/// CF.DEL: deletes an item once. False if it is not there.
///
/// # Errors
/// Wrong type.
pub fn delete(txn: &mut Txn<'_>, at: &At<'_>, item: &[u8]) -> Result<bool, CommandError> {
    let Some(mut object) = find(txn, at)? else { return Ok(false) };
    let (mark, mut pages, mut is_found) = (Mark::of(item), Pages::default(), false);
    for filter in (0..object.tail.filters).rev() {
        let slots = object.tail.slots(filter)?;
        is_found = pages.swap_either(txn, &object, (&slots, mark), (mark.fingerprint, EMPTY))?;
        if is_found {
            break;
        }
    }
    if !is_found {
        return Ok(false);
    }
    let size = object.size.checked_sub(1);
    object.size = size.ok_or_else(|| CommandError::corrupt("a filter has more than it says"))?;
    object.tail.deleted = object.tail.deleted.saturating_add(1);
    let is_sparse = object.tail.deleted.saturating_mul(10) > object.size;
    let mut emptied = Vec::new();
    if is_sparse && object.tail.filters > 1 && object.tail.bytes()? <= COMPACTED_MAX {
        emptied = compact(txn, &mut object, &mut pages)?;
    }
    txn.log(&log_of(b"del", at));
    pages.write(txn, &object);
    for slots in &emptied {
        pages::remove(txn, &object, slots)?;
    }
    object.write(txn);
    Ok(true)
}

/// Gives up filters at the end of a chain whose fingerprints find a place in those before; which.
fn compact(
    read: &impl Read,
    object: &mut Object<Cuckoo>,
    pages: &mut Pages,
) -> Result<Vec<Slots>, CommandError> {
    let mut emptied = Vec::new();
    while object.tail.filters > 1 {
        let last = object.tail.slots(object.tail.filters - 1)?;
        if !is_emptied(read, object, pages, &last)? {
            break;
        }
        pages.drop_filter(last.filter);
        object.tail.filters = last.filter;
        emptied.push(last);
    }
    object.tail.deleted = 0;
    Ok(emptied)
}

/// Moves the fingerprints of a filter to the first ones of its chain that have room for them.
/// Whether none is left.
fn is_emptied(
    read: &impl Read,
    object: &Object<Cuckoo>,
    pages: &mut Pages,
    from: &Slots,
) -> Result<bool, CommandError> {
    let mut is_empty = true;
    for page in 0..from.pages() {
        let first = page.saturating_mul(from.per_page);
        let held = pages.page(read, object, (from, page))?.to_vec();
        for (place, fingerprint) in held.into_iter().enumerate().filter(|held| held.1 != EMPTY) {
            let slot = place % from.per_bucket.max(1);
            let bucket = first.saturating_add((place / from.per_bucket.max(1)) as u32);
            let (mark, mut is_moved) = (Mark { bucket: u64::from(bucket), fingerprint }, false);
            for filter in 0..from.filter {
                let slots = object.tail.slots(filter)?;
                is_moved = pages.swap_either(read, object, (&slots, mark), (EMPTY, fingerprint))?;
                if is_moved {
                    pages.replace(read, object, (from, bucket, slot), EMPTY)?;
                    break;
                }
            }
            is_empty &= is_moved;
        }
    }
    Ok(is_empty)
}

#[cfg(test)]
mod tests;
