//! HyperLogLogs: 16384 registers of six bits, 1024 to a segment of 768 bytes. Segments lie under
//! their numbers in decimal; one that is not there is zeros.
//!
//! The metadata's size is always 0, and such a key exists nevertheless. Batches are those of
//! Kvrocks: log data `11`, the segments that change in their order, and the metadata last. Unlike
//! there, PFMERGE goes on with the destination's version and lifetime, as in Redis, and PFADD
//! without elements makes a key.

use std::collections::BTreeMap;

use super::CommandError;
use super::kind::Type;
use super::object::{IfEmpty, Kind, Object, Tail};
use crate::{At, Family, Read, Scope, Txn};

mod redis;
mod sketch;

pub use redis::{Segments, of_redis, replace, to_redis};
use sketch::{REGISTERS, Registers, SEGMENT_BYTES, SEGMENTS};

/// The type.
#[derive(Debug)]
pub enum HyperLogLog {}

impl Kind for HyperLogLog {
    const TYPE: Type = Type::HyperLogLog;
    type Tail = Dense;
}

/// The one encoding there is.
#[derive(Debug)]
pub struct Dense;

impl Tail for Dense {
    fn fresh() -> Self {
        Self
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        (bytes == [0]).then_some(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(0);
    }
}

/// Where segments lie.
const FAMILY: Family = Family::Default;

fn checked(segment: &[u8]) -> Result<&[u8; SEGMENT_BYTES], CommandError> {
    segment.try_into().map_err(|_| CommandError::corrupt("registers are not of 768 bytes"))
}

fn name(segment: usize) -> String {
    segment.to_string()
}

/// PFADD. Returns whether a register has changed, or the key is new.
///
/// # Errors
/// Wrong type.
pub fn add(txn: &mut Txn<'_>, at: &At<'_>, elements: &[&[u8]]) -> Result<bool, CommandError> {
    let found = Object::<HyperLogLog>::find(txn, at)?;
    let is_new = found.is_none();
    let object = found.unwrap_or_else(|| Object::new(at));
    let mut segments: BTreeMap<usize, ([u8; SEGMENT_BYTES], bool)> = BTreeMap::new();
    for element in elements {
        let (register, rank) = sketch::place(element);
        let number = register / REGISTERS;
        if let std::collections::btree_map::Entry::Vacant(entry) = segments.entry(number) {
            let stored = match is_new {
                true => None,
                false => object.element(txn, FAMILY, name(number).as_bytes())?,
            };
            let bytes = match stored {
                Some(stored) => *checked(&stored)?,
                None => [0; SEGMENT_BYTES],
            };
            entry.insert((bytes, false));
        }
        if let Some((bytes, is_changed)) = segments.get_mut(&number) {
            *is_changed |= sketch::raise(bytes, register % REGISTERS, rank);
        }
    }
    let changed = segments.iter().filter(|(_, (_, is_changed))| *is_changed);
    Ok(write(txn, object, changed.map(|(number, (bytes, _))| (*number, bytes)), is_new))
}

/// Writes segments, and the metadata if there is any of them or the key is new. Returns whether.
fn write<'s>(
    txn: &mut Txn<'_>,
    object: Object<HyperLogLog>,
    segments: impl Iterator<Item = (usize, &'s [u8; SEGMENT_BYTES])>,
    is_new: bool,
) -> bool {
    let mut is_changed = is_new;
    txn.log(Type::HyperLogLog.log_data());
    for (number, bytes) in segments {
        is_changed = true;
        object.put(txn, FAMILY, &[name(number).as_bytes()], &[bytes]);
    }
    if is_changed {
        object.store(txn, IfEmpty::Keep);
    }
    is_changed
}

/// Takes the registers of a key in, if it is there.
fn take(
    registers: &mut Registers,
    read: &impl Read,
    object: &Object<HyperLogLog>,
) -> Result<(), CommandError> {
    let names: Vec<String> = (0..SEGMENTS).map(name).collect();
    let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    for (number, stored) in object.elements_at(read, FAMILY, &names)?.into_iter().enumerate() {
        if let Some(stored) = stored {
            registers.merge(number, checked(&stored)?);
        }
    }
    Ok(())
}

/// PFCOUNT: about how many elements the keys have together.
///
/// # Errors
/// Wrong type.
pub fn count(read: &impl Read, scope: &Scope<'_>, keys: &[&[u8]]) -> Result<u64, CommandError> {
    let mut registers = Registers::default();
    for key in keys {
        if let Some(object) = Object::find(read, &scope.at(key))? {
            take(&mut registers, read, &object)?;
        }
    }
    Ok(registers.estimate())
}

/// PFMERGE: adds what other keys have to one.
///
/// # Errors
/// Wrong type of any of them.
pub fn merge(txn: &mut Txn<'_>, to: &At<'_>, keys: &[&[u8]]) -> Result<(), CommandError> {
    let found = Object::<HyperLogLog>::find(txn, to)?;
    let mut old = Registers::default();
    if let Some(object) = &found {
        take(&mut old, txn, object)?;
    }
    let mut new = old.clone();
    for key in keys {
        if let Some(object) = Object::find(txn, &to.scope.at(key))? {
            take(&mut new, txn, &object)?;
        }
    }
    let is_new = found.is_none();
    let object = found.unwrap_or_else(|| Object::new(to));
    let changed = (0..SEGMENTS).filter(|number| new.segment(*number) != old.segment(*number));
    let segments: Vec<(usize, [u8; SEGMENT_BYTES])> =
        changed.map(|number| (number, new.packed(number))).collect();
    write(txn, object, segments.iter().map(|(number, bytes)| (*number, bytes)), is_new);
    Ok(())
}

#[cfg(test)]
mod tests;
