//! Lists: a sub-key for each element, which is its index as eight bytes; the metadata holds the
//! index of the first element and the one behind the last.
//!
//! Batches are those of Kvrocks: log data `3` and the number of the command, the elements in the
//! order in which they are pushed or popped, the metadata. A list without elements is deleted, with
//! its metadata alone where that is enough. So sub-keys outside of the indexes may exist, and are
//! never looked at.
//!
//! An element is found by two records, and indexes are used again when a list turns: reads take a
//! [`Snapshot`], but for [`len`].

use std::ops::Range;

use super::bounds::{self, SubRange};
use super::kind::Type;
use super::log;
use super::object::{IfEmpty, Kind, Object, Tail};
use super::{CommandError, elements::Elements};
use crate::{At, Direction, Family, Read, Snapshot, Txn, Value};

mod edit;
mod transfer;

pub use edit::{Place, Search, insert, pos, rem, trim};
pub use transfer::{Move, transfer};

/// The type.
#[derive(Debug)]
pub enum List {}

impl Kind for List {
    const TYPE: Type = Type::List;
    type Tail = Ends;
}

/// Indexes of the elements: `head..tail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    head: u64,
    tail: u64,
}

impl Ends {
    fn all(self) -> Range<u64> {
        self.head..self.tail
    }
}

impl Tail for Ends {
    fn fresh() -> Self {
        Self { head: u64::MAX / 2, tail: u64::MAX / 2 }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (halves, []) = bytes.as_chunks::<8>() else { return None };
        let [head, tail] = halves else { return None };
        let ends = Self { head: u64::from_be_bytes(*head), tail: u64::from_be_bytes(*tail) };
        Some(ends).filter(|ends| ends.head <= ends.tail)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.head.to_be_bytes());
        out.extend(self.tail.to_be_bytes());
    }
}

/// Where elements come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Before the first element.
    Left,
    /// Behind the last one.
    Right,
}

impl End {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Left => b"left",
            Self::Right => b"right",
        }
    }

    /// The way from this end to the other one.
    fn inwards(self) -> Direction {
        match self {
            Self::Left => Direction::Forward,
            Self::Right => Direction::Reverse,
        }
    }
}

/// Where elements lie.
const ELEMENTS: Family = Family::Default;

impl Object<List> {
    /// Number of elements as the indexes say.
    fn length(&self) -> u64 {
        self.tail.tail - self.tail.head
    }

    /// The index that lies so far from the first element, or with a negative number from the end.
    fn at_rank(&self, rank: i64) -> Option<u64> {
        let from = if rank < 0 { self.tail.tail } else { self.tail.head };
        from.checked_add_signed(rank).filter(|index| self.tail.all().contains(index))
    }

    /// The index of the element at an end; there must be one.
    fn outermost(&self, end: End) -> u64 {
        match end {
            End::Left => self.tail.head,
            End::Right => self.tail.tail.saturating_sub(1),
        }
    }

    fn value<'r>(&self, read: &'r impl Read, index: u64) -> Result<Value<'r>, CommandError> {
        self.element(read, ELEMENTS, &index.to_be_bytes())?.ok_or_else(missing)
    }

    fn walk<'r>(
        &self,
        read: &'r Snapshot<'_>,
        indexes: &Range<u64>,
        direction: Direction,
    ) -> Result<Walk<'r>, CommandError> {
        let (first, behind) = (indexes.start.to_be_bytes(), indexes.end.to_be_bytes());
        let range = SubRange::between(&first, &behind);
        Ok(Walk(self.elements(read, ELEMENTS, &range, direction)?))
    }

    fn put_at(&self, txn: &mut Txn<'_>, index: u64, value: &[u8]) {
        self.put(txn, ELEMENTS, &[&index.to_be_bytes()], &[value]);
    }

    fn remove_at(&self, txn: &mut Txn<'_>, index: u64) {
        self.remove(txn, ELEMENTS, &[&index.to_be_bytes()]);
    }

    /// One more index at an end.
    fn grow(&mut self, end: End) -> Result<u64, CommandError> {
        let full = || CommandError::corrupt("a list has no index left");
        match end {
            End::Left => self.tail.head = self.tail.head.checked_sub(1).ok_or_else(full)?,
            End::Right => self.tail.tail = self.tail.tail.checked_add(1).ok_or_else(full)?,
        }
        Ok(self.outermost(end))
    }

    /// One index less at an end; there must be one. Returns it.
    fn shrink(&mut self, end: End) -> u64 {
        let index = self.outermost(end);
        match end {
            End::Left => self.tail.head += 1,
            End::Right => self.tail.tail -= 1,
        }
        index
    }

    pub(super) fn push(
        &mut self,
        txn: &mut Txn<'_>,
        end: End,
        value: &[u8],
    ) -> Result<(), CommandError> {
        let index = self.grow(end)?;
        self.put_at(txn, index, value);
        Ok(())
    }

    /// Writes the metadata.
    pub(super) fn close(mut self, txn: &mut Txn<'_>) -> u64 {
        self.size = self.length();
        let size = self.size;
        self.store(txn, IfEmpty::Delete);
        size
    }
}

/// Elements of a list with their indexes.
struct Walk<'r>(Elements<'r>);

impl Walk<'_> {
    fn next(&mut self) -> Result<Option<(u64, &[u8])>, CommandError> {
        let Some((sub, value)) = self.0.next()? else { return Ok(None) };
        let index = <[u8; 8]>::try_from(sub)
            .map_err(|_| CommandError::corrupt("a list has a sub-key that is no index"))?;
        Ok(Some((u64::from_be_bytes(index), value)))
    }
}

fn missing() -> CommandError {
    CommandError::corrupt("an element of a list is missing")
}

/// A list that is there; `None` if there is none.
///
/// # Errors
/// Wrong type.
pub fn find(read: &impl Read, at: &At<'_>) -> Result<Option<Object<List>>, CommandError> {
    Object::find(read, at)
}

/// LLEN.
///
/// # Errors
/// Wrong type.
pub fn len(read: &impl Read, at: &At<'_>) -> Result<u64, CommandError> {
    Ok(find(read, at)?.map_or(0, |list| list.length()))
}

/// LINDEX: the element so far from the first one, or with a negative number from the end.
///
/// # Errors
/// Wrong type.
pub fn index<'r>(
    read: &'r Snapshot<'_>,
    at: &At<'_>,
    rank: i64,
) -> Result<Option<Value<'r>>, CommandError> {
    let Some(list) = find(read, at)? else { return Ok(None) };
    list.at_rank(rank).map(|index| list.value(read, index)).transpose()
}

/// LRANGE: calls `visit` with the elements `start..=stop` in their order. Returns whether there is
/// a list.
///
/// # Errors
/// Wrong type.
pub fn range(
    read: &Snapshot<'_>,
    at: &At<'_>,
    (start, stop): (i64, i64),
    mut visit: impl FnMut(&[u8]),
) -> Result<bool, CommandError> {
    let Some(list) = find(read, at)? else { return Ok(false) };
    let ranks = bounds::ranks(start, stop, list.length());
    let indexes = list.tail.head + ranks.start..list.tail.head + ranks.end;
    if indexes.is_empty() {
        return Ok(true);
    }
    let mut elements = list.walk(read, &indexes, Direction::Forward)?;
    while let Some((_, value)) = elements.next()? {
        visit(value);
    }
    Ok(true)
}

/// LPUSH and RPUSH: adds elements at an end, one after the other. Returns how many there are then.
///
/// # Errors
/// Wrong type.
pub fn push(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    end: End,
    values: &[&[u8]],
) -> Result<u64, CommandError> {
    let list = Object::find_or_new(txn, at)?;
    pushed(txn, list, end, values)
}

/// LPUSHX and RPUSHX: the same if there is a list; 0 if not.
///
/// # Errors
/// Wrong type.
pub fn pushx(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    end: End,
    values: &[&[u8]],
) -> Result<u64, CommandError> {
    match find(txn, at)? {
        Some(list) => pushed(txn, list, end, values),
        None => Ok(0),
    }
}

/// Replaces whatever a key holds by a list of these elements, of which there is one at least.
///
/// # Errors
/// Those of the engine.
pub fn replace(txn: &mut Txn<'_>, at: &At<'_>, values: &[&[u8]]) -> Result<(), CommandError> {
    pushed(txn, Object::new(at), End::Right, values).map(|_| ())
}

fn pushed(
    txn: &mut Txn<'_>,
    mut list: Object<List>,
    end: End,
    values: &[&[u8]],
) -> Result<u64, CommandError> {
    txn.log(match end {
        End::Left => b"3 6",
        End::Right => b"3 7",
    });
    for value in values {
        list.push(txn, end, value)?;
    }
    Ok(list.close(txn))
}

/// LPOP, RPOP, LMPOP: removes up to `count` elements from an end, and returns them in the order in
/// which they go. `None` if there is no list.
///
/// # Errors
/// Wrong type.
pub fn pop(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    end: End,
    count: u64,
) -> Result<Option<Vec<Vec<u8>>>, CommandError> {
    let Some(mut list) = find(txn, at)? else { return Ok(None) };
    let count = count.min(list.length());
    // How much is to be removed is known before any of it is read.
    let least = list.sub_key(&[0; size_of::<u64>()]).len();
    txn.must_have_room(usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(least))?;
    let popped = outermost(txn, &list, end, count)?;
    if count == 0 {
        return Ok(Some(popped));
    }
    txn.log(match end {
        End::Left => b"3 3",
        End::Right => b"3 4",
    });
    for _ in 0..count {
        let index = list.shrink(end);
        list.remove_at(txn, index);
    }
    list.close(txn);
    Ok(Some(popped))
}

/// So many elements from an end inwards; there must be as many.
fn outermost(
    txn: &Txn<'_>,
    list: &Object<List>,
    end: End,
    count: u64,
) -> Result<Vec<Vec<u8>>, CommandError> {
    if count <= 1 {
        let one = (0..count).map(|_| Ok(list.value(txn, list.outermost(end))?.to_vec()));
        return one.collect();
    }
    let indexes = match end {
        End::Left => list.tail.head..list.tail.head + count,
        End::Right => list.tail.tail - count..list.tail.tail,
    };
    let snapshot = txn.snapshot();
    let mut elements = list.walk(&snapshot, &indexes, end.inwards())?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some((_, value)) = elements.next()? {
        bytes += value.len();
        txn.must_have_room(bytes)?;
        found.push(value.to_vec());
    }
    if found.len() as u64 == count { Ok(found) } else { Err(missing()) }
}

/// LSET: replaces an element. What it has already is not written.
///
/// # Errors
/// Wrong type, [`CommandError::NoSuchKey`], [`CommandError::IndexOutOfRange`].
pub fn set(txn: &mut Txn<'_>, at: &At<'_>, rank: i64, value: &[u8]) -> Result<(), CommandError> {
    let list = find(txn, at)?.ok_or(CommandError::NoSuchKey)?;
    let index = list.at_rank(rank).ok_or(CommandError::IndexOutOfRange)?;
    if *list.value(txn, index)? == *value {
        return Ok(());
    }
    let rank = (index - list.tail.head).to_string();
    txn.log(&log::words(Type::List, &[b"0", rank.as_bytes()]));
    list.put_at(txn, index, value);
    Ok(())
}

#[cfg(test)]
mod tests;
