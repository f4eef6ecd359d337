//! Commands on many keys: SCAN, KEYS, RANDOMKEY, DBSIZE, FLUSHDB, FLUSHALL, and the keys of a slot.

use super::head::Header;
use super::kind::Type;
use super::page::{Filling, Page, Request};
use super::{CommandError, glob, pick};
use crate::key::{KeyBuf, prefix_end, split_namespace};
use crate::slots;
use crate::{Direction, Error, Family, Name, Read, Scope, Txn, budget};

/// Which keys a scan returns.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection<'a> {
    /// MATCH.
    pub pattern: Option<&'a [u8]>,
    /// TYPE: the name as TYPE replies it, lower or upper case.
    pub type_name: Option<&'a [u8]>,
}

/// SCAN: looks at up to `count` living keys behind `position` (empty at the start, else
/// [`Page::next`]) and returns those selected. Keys come in the order of their bytes, in a cluster
/// slot by slot. Every key that exists during the whole scan is returned exactly once.
///
/// # Errors
/// Those of the engine.
pub fn scan(
    read: &impl Read,
    scope: &Scope<'_>,
    position: &[u8],
    count: usize,
    selection: &Selection<'_>,
) -> Result<Page<Vec<u8>>, CommandError> {
    let namespace = scope.namespace_prefix();
    let (lower, upper) = bounds(scope, position, selection.pattern);
    let mut filling = Filling::new(count);
    for_each_living(read, scope, &lower, &upper, |ns_key, user_key, header| {
        let item = selection.includes(user_key, header).then(|| user_key.to_vec());
        if item.is_some() {
            budget::gather(user_key.len() + size_of::<Vec<u8>>())?;
        }
        Ok(filling.pass(ns_key.strip_prefix(&*namespace).unwrap_or_default(), item))
    })?;
    Ok(filling.done())
}

/// KEYS: calls `visit` with each key that matches.
///
/// # Errors
/// Those of the engine.
pub fn keys(
    read: &impl Read,
    scope: &Scope<'_>,
    pattern: &[u8],
    mut visit: impl FnMut(&[u8]),
) -> Result<(), CommandError> {
    let (lower, upper) = bounds(scope, &[], Some(pattern));
    for_each_living(read, scope, &lower, &upper, |_, user_key, _| {
        if glob::selects(pattern, user_key) {
            visit(user_key);
        }
        Ok(true)
    })
}

/// Bounds of the keys behind a position that may match, in the metadata family.
fn bounds(scope: &Scope<'_>, position: &[u8], pattern: Option<&[u8]>) -> (KeyBuf, Vec<u8>) {
    // In a cluster the slot stands before the beginning of a pattern.
    let pattern = pattern.filter(|_| !scope.cluster);
    Request { position, count: 1, pattern }.range().under(&scope.namespace_prefix())
}

impl Selection<'_> {
    fn includes(&self, user_key: &[u8], header: &Header<'_>) -> bool {
        let is_type = |wanted: &[u8]| {
            header.kind().is_some_and(|kind| kind.name().as_bytes().eq_ignore_ascii_case(wanted))
        };
        self.pattern.is_none_or(|pattern| glob::selects(pattern, user_key))
            && self.type_name.is_none_or(is_type)
    }
}

/// Keys looked at around a random point; one of them is taken.
const RANDOM_WINDOW: usize = 32;

/// RANDOMKEY: any living key. Approximate: keys that follow a large gap in the order of bytes are
/// likelier.
///
/// # Errors
/// Those of the engine.
pub fn random_key(read: &impl Read, scope: &Scope<'_>) -> Result<Option<Vec<u8>>, CommandError> {
    let prefix = scope.namespace_prefix();
    let end = prefix_end(&prefix);
    let Some(middle) = random_point(read, &prefix, &end)? else { return Ok(None) };
    for (lower, upper) in [(&*middle, &*end), (&*prefix, &*middle)] {
        let mut window = Vec::new();
        for_each_living(read, scope, lower, upper, |_, user_key, _| {
            window.push(user_key.to_vec());
            Ok(window.len() < RANDOM_WINDOW)
        })?;
        if !window.is_empty() {
            let index = rand::random_range(0..window.len());
            return Ok(window.into_iter().nth(index));
        }
    }
    Ok(None)
}

/// A random key between the first and the last entry of a range.
fn random_point(
    read: &impl Read,
    lower: &[u8],
    upper: &[u8],
) -> Result<Option<Vec<u8>>, CommandError> {
    let ends = ends(read, lower, upper)?;
    Ok(ends.map(|(first, last)| pick::random_between(&first, &last)))
}

/// First and last key.
type Ends = (Vec<u8>, Vec<u8>);

/// Bounds of a part of a range.
type Part = (Vec<u8>, Vec<u8>);

/// The parts of a range of metadata that hold no keys of slots that are others': a copy in part, or
/// what was given away.
fn visible(read: &impl Read, lower: &[u8], upper: &[u8]) -> Vec<Part> {
    let marks = read.marks();
    slots::visible(marks.as_ref().map_or(&[], |marks| marks.foreign()), lower, upper)
}

/// First and last key of a range; `None` if it is empty.
fn ends(read: &impl Read, lower: &[u8], upper: &[u8]) -> Result<Option<Ends>, CommandError> {
    let parts = visible(read, lower, upper);
    let end = |(lower, upper): &Part, direction| -> Result<Option<Vec<u8>>, CommandError> {
        let mut cursor = read.scan(Family::Metadata, lower, upper, direction)?;
        Ok(cursor.next()?.map(|(key, _)| key.to_vec()))
    };
    for part in &parts {
        let Some(first) = end(part, Direction::Forward)? else { continue };
        for part in parts.iter().rev() {
            if let Some(last) = end(part, Direction::Reverse)? {
                return Ok(Some((first, last)));
            }
        }
    }
    Ok(None)
}

/// What DBSIZE SCAN finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Living keys.
    pub keys: u64,
    /// Living keys with a time to live.
    pub expires: u64,
    /// Average time to live of those, milliseconds.
    pub average_ttl_ms: u64,
    /// Expired keys that are still stored.
    pub expired: u64,
}

/// Entries that a census looks at before it asks whether it is to go on.
const CENSUS_LOOKS: u64 = 1024;

/// Counts the keys of a namespace. Reads all of them. `continues` is asked each time so many more
/// entries were looked at, be they of living keys or not, and may end it early.
///
/// # Errors
/// Those of the engine.
pub fn census(
    read: &impl Read,
    scope: &Scope<'_>,
    mut continues: impl FnMut() -> bool,
) -> Result<Census, CommandError> {
    let prefix = scope.namespace_prefix();
    let (mut census, mut ttl_sum_ms, mut looks) = (Census::default(), 0u128, 0u64);
    'all: for (lower, upper) in visible(read, &prefix, &prefix_end(&prefix)) {
        let mut cursor = read.scan(Family::Metadata, &lower, &upper, Direction::Forward)?;
        while let Some((_, value)) = cursor.next()? {
            looks += 1;
            if looks.is_multiple_of(CENSUS_LOOKS) && !continues() {
                break 'all;
            }
            let Some(header) = Header::decode(value) else { continue };
            if header.is_dead(scope.now_ms) {
                census.expired += 1;
                continue;
            }
            census.keys += 1;
            if header.expire_ms != 0 {
                census.expires += 1;
                ttl_sum_ms += u128::from(header.expire_ms - scope.now_ms);
            }
        }
    }
    census.average_ttl_ms = ttl_sum_ms.checked_div(u128::from(census.expires)).unwrap_or(0) as u64;
    Ok(census)
}

/// Keys whose end is past, by the ids of their names, and where to go on; empty at the end.
pub type Ended = (Vec<Vec<u8>>, Vec<u8>);

/// Finds keys of all namespaces whose end is past: among so many entries behind a position, from
/// the beginning where that is empty. Those of slots that are others' are passed over.
///
/// # Errors
/// Those of the engine.
pub fn ended(
    read: &impl Read,
    (position, count): (&[u8], usize),
    (cluster, now_ms): (bool, u64),
) -> Result<Ended, CommandError> {
    let (mut found, mut left) = (Vec::new(), count);
    // Right behind the last one.
    let begin = if position.is_empty() { Vec::new() } else { [position, &[0]].concat() };
    for (lower, upper) in visible(read, &begin, &[]) {
        let mut cursor = read.scan(Family::Metadata, &lower, &upper, Direction::Forward)?;
        while let Some((key, value)) = cursor.next()? {
            if Header::decode(value).is_some_and(|header| header.has_ended(now_ms)) {
                found.extend(id_of(key, cluster));
            }
            left = left.saturating_sub(1);
            if left == 0 {
                return Ok((found, key.to_vec()));
            }
        }
    }
    Ok((found, Vec::new()))
}

/// The id of the name that an entry of the metadata family is for.
fn id_of(ns_key: &[u8], cluster: bool) -> Option<Vec<u8>> {
    let (namespace, rest) = split_namespace(ns_key)?;
    let key = if cluster { rest.get(2..)? } else { rest };
    Some(Name { namespace, key }.id().to_vec())
}

/// FLUSHDB: removes the metadata of a namespace with one range delete, also when there is none;
/// with more of them around slots that are others'. No log data.
pub fn flush_namespace(txn: &mut Txn<'_>, scope: &Scope<'_>) {
    let prefix = scope.namespace_prefix();
    for (lower, upper) in visible(txn, &prefix, &prefix_end(&prefix)) {
        txn.delete_range(Family::Metadata, &lower, &upper);
    }
}

/// FLUSHALL: removes the metadata of all namespaces with one range delete; nothing when there is
/// none. No log data.
///
/// # Errors
/// Those of the engine.
pub fn flush_all(txn: &mut Txn<'_>) -> Result<(), CommandError> {
    if let Some((first, last)) = ends(txn, &[], &[])? {
        let mut end = prefix_end(&last);
        if end.is_empty() {
            // Nothing but bytes 255: the next key is the one with a zero behind.
            end = [&*last, &[0]].concat();
        }
        for (lower, upper) in visible(txn, &first, &end) {
            txn.delete_range(Family::Metadata, &lower, &upper);
        }
    }
    Ok(())
}

/// Bounds of a slot in the metadata family. In sub-key families they hold for the same slot as
/// well.
pub fn slot_bounds(scope: &Scope<'_>, slot: u16) -> (KeyBuf, KeyBuf) {
    (scope.slot_prefix(slot), scope.slot_prefix(slot + 1))
}

/// CLUSTER COUNTKEYSINSLOT: living keys.
///
/// # Errors
/// Those of the engine.
pub fn count_in_slot(read: &impl Read, scope: &Scope<'_>, slot: u16) -> Result<u64, CommandError> {
    let (lower, upper) = slot_bounds(scope, slot);
    let mut count = 0;
    for_each_living(read, scope, &lower, &upper, |_, _, _| {
        count += 1;
        Ok(true)
    })?;
    Ok(count)
}

/// CLUSTER GETKEYSINSLOT: up to `limit` living keys.
///
/// # Errors
/// Those of the engine.
pub fn keys_in_slot(
    read: &impl Read,
    scope: &Scope<'_>,
    slot: u16,
    limit: usize,
) -> Result<Vec<Vec<u8>>, CommandError> {
    let (lower, upper) = slot_bounds(scope, slot);
    let mut keys = Vec::new();
    if limit > 0 {
        for_each_living(read, scope, &lower, &upper, |_, user_key, _| {
            budget::gather(user_key.len() + size_of::<Vec<u8>>())?;
            keys.push(user_key.to_vec());
            Ok(keys.len() < limit)
        })?;
    }
    Ok(keys)
}

/// Removes the metadata of all keys of a slot with one range delete. No log data.
pub fn delete_slot(txn: &mut Txn<'_>, scope: &Scope<'_>, slot: u16) {
    let (lower, upper) = slot_bounds(scope, slot);
    txn.delete_range(Family::Metadata, &lower, &upper);
}

/// Calls `visit` with (metadata key, user key, header) of every living key of a range until it
/// returns false.
fn for_each_living(
    read: &impl Read,
    scope: &Scope<'_>,
    lower: &[u8],
    upper: &[u8],
    mut visit: impl FnMut(&[u8], &[u8], &Header<'_>) -> Result<bool, Error>,
) -> Result<(), CommandError> {
    for (lower, upper) in visible(read, lower, upper) {
        let mut cursor = read.scan(Family::Metadata, &lower, &upper, Direction::Forward)?;
        while let Some((ns_key, value)) = cursor.next()? {
            let Some(user_key) = scope.user_key(ns_key) else { continue };
            // What cannot be read is passed over, so that it does not hide the rest.
            let Ok(Some(header)) = Header::living(value, scope.now_ms) else { continue };
            if !visit(ns_key, user_key, &header)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Whether `name` is one TYPE can reply; SCAN … TYPE with another one is an error.
pub fn is_type_name(name: &[u8]) -> bool {
    Type::ALL.into_iter().any(|kind| kind.name().as_bytes().eq_ignore_ascii_case(name))
}
