//! What happens inside of a list: LINSERT, LREM, LTRIM, LPOS. Of the two sides of a place the
//! shorter one is moved, the left one if they are equal, as in Kvrocks.

use std::ops::Range;

use super::{End, Ends, List, find};
use crate::types::kind::Type;
use crate::types::object::{IfEmpty, Object};
use crate::types::{CommandError, log};
use crate::{At, Direction, Snapshot, Txn};

/// Where LINSERT puts an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before the pivot.
    Before,
    /// Behind it.
    After,
}

/// LINSERT: puts an element beside the first one that is `pivot`. Returns how many there are then,
/// 0 without a list, -1 without such an element.
///
/// # Errors
/// Wrong type.
pub fn insert(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    place: Place,
    pivot: &[u8],
    value: &[u8],
) -> Result<i64, CommandError> {
    let Some(mut list) = find(txn, at)? else { return Ok(0) };
    let snapshot = txn.snapshot();
    let Some(index) = first(&list, &snapshot, pivot)? else { return Ok(-1) };
    let (flag, index) = match place {
        Place::Before => (b"1", index),
        Place::After => (b"0", index + 1),
    };
    txn.log(&log::words(Type::List, &[b"1", flag, pivot, value]));
    let Ends { head, tail } = list.tail;
    // What is on the left of the new element goes one to the left, or what is on its right one to
    // the right, the nearest first.
    let index = if index - head <= tail - index {
        list.grow(End::Left)?;
        let mut side = list.walk(&snapshot, &(head..index), Direction::Reverse)?;
        while let Some((from, value)) = side.next()? {
            list.put_at(txn, from - 1, value);
            txn.must_fit()?;
        }
        index - 1
    } else {
        list.grow(End::Right)?;
        let mut side = list.walk(&snapshot, &(index..tail), Direction::Forward)?;
        while let Some((from, value)) = side.next()? {
            list.put_at(txn, from + 1, value);
            txn.must_fit()?;
        }
        index
    };
    list.put_at(txn, index, value);
    Ok(i64::try_from(list.close(txn)).unwrap_or(i64::MAX))
}

/// The index of the first element that is `wanted`.
fn first(
    list: &Object<List>,
    read: &Snapshot<'_>,
    wanted: &[u8],
) -> Result<Option<u64>, CommandError> {
    let mut elements = list.walk(read, &list.tail.all(), Direction::Forward)?;
    while let Some((index, value)) = elements.next()? {
        if value == wanted {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// LREM: removes the first `count` elements that are `wanted`, with a negative number the last
/// ones, with 0 all. Returns how many.
///
/// # Errors
/// Wrong type.
pub fn rem(txn: &mut Txn<'_>, at: &At<'_>, count: i64, wanted: &[u8]) -> Result<u64, CommandError> {
    let Some(mut list) = find(txn, at)? else { return Ok(0) };
    let snapshot = txn.snapshot();
    let direction = if count < 0 { Direction::Reverse } else { Direction::Forward };
    let most = if count == 0 { u64::MAX } else { count.unsigned_abs() };
    let Some((found, removed)) = occurrences(&list, &snapshot, (wanted, most), direction)? else {
        return Ok(0);
    };
    let text = count.to_string();
    txn.log(&log::words(Type::List, &[b"5", text.as_bytes(), wanted]));
    if removed == list.length() {
        list.size = 0;
        list.store(txn, IfEmpty::Delete);
        return Ok(removed);
    }
    let Ends { head, tail } = list.tail;
    // No occurrence between two of those that go stays: from either side of them the first
    // `removed` ones are they.
    let end = if found.end - 1 - head <= tail - 1 - found.start { End::Left } else { End::Right };
    let (side, direction) = match end {
        End::Left => (head..found.end, Direction::Reverse),
        End::Right => (found.start..tail, Direction::Forward),
    };
    let (mut elements, mut passed) = (list.walk(&snapshot, &side, direction)?, 0);
    while let Some((index, value)) = elements.next()? {
        if passed < removed && value == wanted {
            passed += 1;
            continue;
        }
        let to = if end == End::Left { index + passed } else { index - passed };
        list.put_at(txn, to, value);
        txn.must_fit()?;
    }
    for _ in 0..removed {
        let index = list.shrink(end);
        list.remove_at(txn, index);
    }
    list.close(txn);
    Ok(removed)
}

/// Indexes from the leftmost to the rightmost one of the first `most` elements that are `wanted`,
/// and how many they are; `None` if there is none.
fn occurrences(
    list: &Object<List>,
    read: &Snapshot<'_>,
    (wanted, most): (&[u8], u64),
    direction: Direction,
) -> Result<Option<(Range<u64>, u64)>, CommandError> {
    let mut elements = list.walk(read, &list.tail.all(), direction)?;
    let (mut span, mut count) = (None::<Range<u64>>, 0);
    while let Some((index, value)) = elements.next()? {
        if value == wanted {
            span =
                Some(span.map_or(index..index + 1, |span| {
                    span.start.min(index)..span.end.max(index + 1)
                }));
            count += 1;
            if count == most {
                break;
            }
        }
    }
    Ok(span.map(|span| (span, count)))
}

/// LTRIM: leaves the elements `start..=stop` only. Where these are all, nothing is written; Kvrocks
/// writes the metadata again.
///
/// # Errors
/// Wrong type.
pub fn trim(txn: &mut Txn<'_>, at: &At<'_>, (start, stop): (i64, i64)) -> Result<(), CommandError> {
    let Some(mut list) = find(txn, at)? else { return Ok(()) };
    let length = i64::try_from(list.length()).unwrap_or(i64::MAX);
    let from_end = |rank: i64| if rank < 0 { rank.saturating_add(length) } else { rank };
    let (start, stop) = (from_end(start).max(0), from_end(stop));
    if start > stop || start >= length {
        list.size = 0;
        // Without log data, as in Kvrocks.
        list.store(txn, IfEmpty::Delete);
        return Ok(());
    }
    if start == 0 && stop >= length - 1 {
        return Ok(());
    }
    let words = [start.to_string(), stop.to_string()];
    txn.log(&log::words(Type::List, &[b"2", words[0].as_bytes(), words[1].as_bytes()]));
    let Ends { head, tail } = list.tail;
    let kept = (stop.min(length - 1) - start).unsigned_abs() + 1;
    list.tail.head = head.saturating_add(start.unsigned_abs());
    list.tail.tail = list.tail.head.saturating_add(kept).min(tail);
    // From the left to the right on either side.
    for side in [head..list.tail.head, list.tail.tail..tail] {
        remove_all(txn, &list, side)?;
    }
    list.close(txn);
    Ok(())
}

/// Up to so many indexes are removed without a look at what is there.
const FEW: u64 = 1024;

/// Removes the elements of these indexes. Where they are many, only those that are there: indexes
/// from elsewhere may be any numbers.
fn remove_all(
    txn: &mut Txn<'_>,
    list: &Object<List>,
    indexes: Range<u64>,
) -> Result<(), CommandError> {
    if indexes.end.saturating_sub(indexes.start) <= FEW {
        indexes.for_each(|index| list.remove_at(txn, index));
        return Ok(());
    }
    let snapshot = txn.snapshot();
    let mut elements = list.walk(&snapshot, &indexes, Direction::Forward)?;
    while let Some((index, _)) = elements.next()? {
        list.remove_at(txn, index);
        txn.must_fit()?;
    }
    Ok(())
}

/// What LPOS looks for.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// The element.
    pub wanted: &'a [u8],
    /// Which of its occurrences is the first that counts, from 1; from the end if negative.
    pub rank: i64,
    /// How many at most; 0 for all.
    pub count: u64,
    /// How many elements are compared at most; 0 for all.
    pub compared: u64,
}

/// LPOS: how far from the first element those lie that are looked for.
///
/// # Errors
/// Wrong type.
pub fn pos(
    read: &Snapshot<'_>,
    at: &At<'_>,
    search: &Search<'_>,
) -> Result<Vec<u64>, CommandError> {
    let Some(list) = find(read, at)? else { return Ok(Vec::new()) };
    let end = if search.rank < 0 { End::Right } else { End::Left };
    let unlimited = |most: u64| if most == 0 { u64::MAX } else { most };
    let (mut left, most) = (unlimited(search.compared), unlimited(search.count));
    let (mut skipped, mut found) = (search.rank.unsigned_abs().saturating_sub(1), Vec::new());
    let mut elements = list.walk(read, &list.tail.all(), end.inwards())?;
    while let (true, Some((index, value))) = (left > 0, elements.next()?) {
        left -= 1;
        if value != search.wanted {
            continue;
        }
        if skipped > 0 {
            skipped -= 1;
            continue;
        }
        found.push(index - list.tail.head);
        if found.len() as u64 == most {
            break;
        }
    }
    Ok(found)
}
