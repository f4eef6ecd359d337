//! BITOP.

use std::collections::{BTreeSet, HashSet};

use super::{Bitmap, Bits, Body, SEGMENT_BYTES, SEGMENTS, part, stored, sub_key, turned, walk};
use crate::types::kind::Type;
use crate::types::object::{IfEmpty, Object};
use crate::types::strings::payload::MAX_BYTES;
use crate::types::{CommandError, log};
use crate::{At, Family, Txn};

/// BITOP's number in log data.
const BITOP: &[u8] = b"10";

/// What is made of several keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// 1 where all have it.
    And,
    /// 1 where any has it.
    Or,
    /// 1 where an odd number of them has it.
    Xor,
    /// The opposite of one key.
    Not,
}

/// BITOP: replaces what a key holds, whatever it is, by a bitmap, and returns how many bytes that
/// has; of nothing nothing is left. `name` is the operation as the client wrote it, for the log.
/// Segments that no source has are not written, nor are those of an AND that one lacks.
///
/// # Errors
/// Wrong type of a source; [`CommandError::TooLong`] for one that no command can have made;
/// [`crate::Error::TooLarge`] for strings that together are larger than a batch may be.
pub fn combine(
    txn: &mut Txn<'_>,
    to: &At<'_>,
    (operation, name): (Operation, &[u8]),
    keys: &[&[u8]],
) -> Result<u64, CommandError> {
    let sources = sources(txn, to, operation, keys)?;
    let size = sources.iter().flatten().map(Bits::len_bytes).max().unwrap_or(0);
    if size == 0 {
        if to.load(txn)?.is_some() {
            txn.delete(Family::Metadata, &to.ns_key);
        }
        return Ok(0);
    }
    if size > MAX_BYTES as u64 {
        return Err(CommandError::TooLong);
    }
    let mut result = Object::<Bitmap>::new(to);
    txn.log(&log::words(Type::Bitmap, &[&[BITOP, name], keys].concat()));
    let indexes = match operation {
        Operation::Not => Indexes::All(size.div_ceil(SEGMENT_BYTES as u64)),
        _ => Indexes::Some(common(txn, operation, &sources)?),
    };
    for index in indexes.into_iter() {
        let bytes = match operation {
            Operation::Not => not(fragment(txn, sources.first(), index)?, size, index),
            _ => {
                let mut bytes = Vec::new();
                for (number, source) in sources.iter().enumerate() {
                    let fragment = fragment(txn, Some(source), index)?;
                    merge(&mut bytes, &fragment, operation, number == 0);
                }
                bytes
            }
        };
        result.put(txn, SEGMENTS, &[sub_key(index).as_bytes()], &[&bytes]);
        txn.must_fit()?;
    }
    result.size = size;
    result.store(txn, IfEmpty::Keep);
    Ok(size)
}

/// What the keys hold. Of each string all of it is held: a few bytes of a client may name one any
/// number of times.
fn sources<'a>(
    txn: &Txn<'a>,
    to: &At<'_>,
    operation: Operation,
    keys: &[&[u8]],
) -> Result<Vec<Option<Bits<'a>>>, CommandError> {
    let (mut sources, mut named, mut held) = (Vec::new(), HashSet::new(), 0_usize);
    for key in keys {
        // With what is there already only XOR makes something else of the same once more.
        if !named.insert(*key) && operation != Operation::Xor {
            continue;
        }
        let at = to.scope.at(key);
        let source = at.load(txn)?.map(|living| Bits::of(&at, living)).transpose()?;
        if let Some(Bits(Body::Text(text))) = &source {
            held = held.saturating_add(text.len());
            txn.must_have_room(held)?;
        }
        sources.push(source);
    }
    Ok(sources)
}

/// Which segments are made.
enum Indexes {
    All(u64),
    Some(BTreeSet<u64>),
}

impl Indexes {
    fn into_iter(self) -> impl Iterator<Item = u64> {
        let (all, some) = match self {
            Self::All(count) => (count, BTreeSet::new()),
            Self::Some(some) => (0, some),
        };
        (0..all).chain(some)
    }
}

/// Segments that any of the sources has, or all of them.
fn common(
    txn: &Txn<'_>,
    operation: Operation,
    sources: &[Option<Bits<'_>>],
) -> Result<BTreeSet<u64>, CommandError> {
    let mut common = BTreeSet::new();
    for (number, source) in sources.iter().enumerate() {
        let mut own = BTreeSet::new();
        match source {
            Some(Bits(Body::Segments(object))) => {
                walk(txn, object, |index, _| {
                    own.insert(index);
                })?;
            }
            Some(text) => own.extend(0..text.segments()),
            None => {}
        }
        match operation {
            Operation::And if number > 0 => common.retain(|index| own.contains(index)),
            _ => common.append(&mut own),
        }
    }
    Ok(common)
}

/// A segment of a source as bitmaps store it; empty if it has none.
fn fragment(
    txn: &Txn<'_>,
    source: Option<&Option<Bits<'_>>>,
    index: u64,
) -> Result<Vec<u8>, CommandError> {
    let Some(Some(Bits(body))) = source else { return Ok(Vec::new()) };
    Ok(match body {
        Body::Text(text) => turned(part(text, index).unwrap_or_default()),
        Body::Segments(object) => {
            let mut bytes = stored(txn, object, index)?.map_or_else(Vec::new, |v| v.to_vec());
            bytes.truncate(SEGMENT_BYTES);
            bytes
        }
    })
}

fn merge(bytes: &mut Vec<u8>, fragment: &[u8], operation: Operation, is_first: bool) {
    if bytes.len() < fragment.len() {
        bytes.resize(fragment.len(), 0);
    }
    let fragment = fragment.iter().copied().chain(std::iter::repeat(0));
    for (byte, other) in bytes.iter_mut().zip(fragment) {
        match operation {
            Operation::And if !is_first => *byte &= other,
            Operation::Xor => *byte ^= other,
            _ => *byte |= other,
        }
    }
}

/// The opposite of a segment, as far as the bitmap reaches.
fn not(mut bytes: Vec<u8>, size: u64, index: u64) -> Vec<u8> {
    let left = size.saturating_sub(index * SEGMENT_BYTES as u64);
    bytes.resize(usize::try_from(left).unwrap_or(usize::MAX).min(SEGMENT_BYTES), 0);
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    bytes
}
