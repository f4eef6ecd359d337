//! How far groups are behind, which XINFO shows.

use super::Stream;
use super::member::Group;
use crate::types::object::Object;

/// How many entries a group has yet to read, if that can be told.
pub fn lag(stream: &Object<Stream>, group: &Group) -> Option<i64> {
    let added = stream.tail.entries_added;
    let read = match group.entries_read {
        _ if added == 0 => 0,
        Some(read) if !stream.has_gaps_from(group.last_delivered) => read,
        _ => stream.added_up_to(group.last_delivered)?,
    };
    let lag = i128::from(added) - i128::from(read);
    Some(i64::try_from(lag).unwrap_or(if lag < 0 { i64::MIN } else { i64::MAX }))
}
