//! XGROUP: makes groups and consumers, and removes them.

use super::member::{Group, InGroup, RECORD_BYTES};
use super::{Id, STREAM, Span, find, find_group};
use crate::types::CommandError;
use crate::types::kind::Type;
use crate::types::object::{IfEmpty, Object};
use crate::{At, Direction, Txn};

/// Where a group begins to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Behind this entry.
    After(Id),
    /// Behind all that ever were.
    End,
}

impl Position {
    fn id(self, last_generated: Id) -> Id {
        match self {
            Self::After(id) => id,
            Self::End => last_generated,
        }
    }
}

/// How a group is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Creation {
    /// Where it begins.
    pub position: Position,
    /// ENTRIESREAD.
    pub entries_read: Option<u64>,
    /// Also where there is no stream.
    pub makes_stream: bool,
}

/// XGROUP CREATE. False if there is such a group.
///
/// # Errors
/// Wrong type, [`CommandError::NoSuchKey`].
pub fn create_group(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    name: &[u8],
    creation: &Creation,
) -> Result<bool, CommandError> {
    let stream = match find(txn, at)? {
        Some(stream) => stream,
        None if creation.makes_stream => Object::new(at),
        None => return Err(CommandError::NoSuchKey),
    };
    let last_delivered = creation.position.id(stream.tail.last_generated);
    let group = Group { last_delivered, entries_read: creation.entries_read, ..Group::default() };
    let mut made = InGroup::new(at, stream, name, group);
    if InGroup::is_there(txn, &made.stream, name)? {
        return Ok(false);
    }
    txn.log(Type::Stream.log_data());
    made.store(txn);
    made.stream.tail.groups = made.stream.tail.groups.saturating_add(1);
    made.stream.store(txn, IfEmpty::Keep);
    Ok(true)
}

/// XGROUP SETID. False if there is no such group.
///
/// # Errors
/// Wrong type, [`CommandError::NoSuchKey`].
pub fn set_group(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    name: &[u8],
    (position, entries_read): (Position, Option<u64>),
) -> Result<bool, CommandError> {
    let Some(mut found) = in_stream(txn, at, name)? else { return Ok(false) };
    found.group.last_delivered = position.id(found.stream.tail.last_generated);
    found.group.entries_read = entries_read;
    txn.log(Type::Stream.log_data());
    found.store(txn);
    Ok(true)
}

/// XGROUP DESTROY: removes a group and all its records. False if there is none. Those that wait in
/// it learn of it by the metadata, which is written for them.
///
/// # Errors
/// Wrong type, [`CommandError::NoSuchKey`].
pub fn destroy_group(txn: &mut Txn<'_>, at: &At<'_>, name: &[u8]) -> Result<bool, CommandError> {
    let Some(found) = in_stream(txn, at, name)? else { return Ok(false) };
    let keys = found.records(txn)?;
    let mut stream = found.stream;
    txn.log(Type::Stream.log_data());
    for key in keys {
        stream.remove(txn, STREAM, &[&key]);
        txn.must_fit()?;
    }
    stream.tail.groups = stream.tail.groups.saturating_sub(1);
    stream.store(txn, IfEmpty::Keep);
    Ok(true)
}

/// XGROUP CREATECONSUMER: whether it was not there; `None` if there is no such group.
///
/// # Errors
/// Wrong type, [`CommandError::NoSuchKey`].
pub fn create_consumer(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    (group, name): (&[u8], &[u8]),
) -> Result<Option<bool>, CommandError> {
    let Some(mut found) = in_stream(txn, at, group)? else { return Ok(None) };
    if found.consumer(txn, name)?.is_some() {
        return Ok(Some(false));
    }
    let consumer = found.asking(txn, name)?;
    txn.log(Type::Stream.log_data());
    found.put_consumer(txn, name, &consumer);
    found.store(txn);
    Ok(Some(true))
}

/// XGROUP DELCONSUMER: how many pending entries it had; `None` if there is no such group.
///
/// # Errors
/// Wrong type, [`CommandError::NoSuchKey`].
pub fn delete_consumer(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    (group, name): (&[u8], &[u8]),
) -> Result<Option<u64>, CommandError> {
    let Some(mut found) = in_stream(txn, at, group)? else { return Ok(None) };
    if found.consumer(txn, name)?.is_none() {
        return Ok(Some(0));
    }
    let mut ids = Vec::new();
    found.walk_pending(txn, Span::ALL, Direction::Forward, |id, pending| {
        if pending.consumer == name {
            ids.push(id);
            txn.must_have_room(ids.len().saturating_mul(RECORD_BYTES))?;
        }
        Ok(true)
    })?;
    txn.log(Type::Stream.log_data());
    for id in &ids {
        found.remove_pending(txn, *id);
    }
    found.remove_consumer(txn, name);
    let count = ids.len() as u64;
    found.group.consumers = found.group.consumers.saturating_sub(1);
    found.group.pending = found.group.pending.saturating_sub(count);
    found.store(txn);
    Ok(Some(count))
}

/// A group of a stream that must be there.
fn in_stream<'n>(
    txn: &Txn<'_>,
    at: &At<'_>,
    name: &'n [u8],
) -> Result<Option<InGroup<'n>>, CommandError> {
    match find_group(txn, at, name)? {
        None if find(txn, at)?.is_none() => Err(CommandError::NoSuchKey),
        found => Ok(found),
    }
}
