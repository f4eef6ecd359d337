//! From one list to another, or around one: LMOVE and RPOPLPUSH.
//!
//! One deliberate difference from Kvrocks: a destination that is made anew gets a version of its
//! own. Kvrocks gives it version 0, so that elements of its earlier lives come back.

use super::{End, List, find};
use crate::types::kind::Type;
use crate::types::object::Object;
use crate::types::{CommandError, log};
use crate::{At, Txn};

/// Which way an element goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The end it leaves.
    pub from: End,
    /// The end it comes to.
    pub to: End,
}

/// LMOVE, and RPOPLPUSH, which is one from right to left. Returns the element; `None` if there is
/// no source. An element that would come to where it is leaves nothing to write.
///
/// # Errors
/// Wrong type.
pub fn transfer(
    txn: &mut Txn<'_>,
    source: &At<'_>,
    destination: &At<'_>,
    way: Move,
) -> Result<Option<Vec<u8>>, CommandError> {
    let Some(mut from) = find(txn, source)? else { return Ok(None) };
    let is_turn = source.key == destination.key;
    let to = if is_turn { None } else { Some(Object::<List>::find_or_new(txn, destination)?) };
    let value = from.value(txn, from.outermost(way.from))?.to_vec();
    if is_turn && (way.from == way.to || from.length() == 1) {
        return Ok(Some(value));
    }
    let names = [way.from.name(), way.to.name()];
    txn.log(&log::words(Type::List, &[b"12", source.key, destination.key, names[0], names[1]]));
    let index = from.shrink(way.from);
    from.remove_at(txn, index);
    let Some(mut to) = to else {
        from.push(txn, way.to, &value)?;
        from.close(txn);
        return Ok(Some(value));
    };
    from.close(txn);
    to.push(txn, way.to, &value)?;
    to.close(txn);
    Ok(Some(value))
}
