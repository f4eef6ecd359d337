//! DUMP and RESTORE: values as Redis writes them ([`rdb`]), out of keys and into keys.
//!
//! What has a form in Redis is written in it: a bitmap is a string, a HyperLogLog the string that
//! Redis keeps one in, and such a string is restored as a HyperLogLog. Sorted sets of integers,
//! Bloom filters, JSON and later types have none.
//!
//! [`Sink`] takes a value part by part, so that a file is read without being in memory; a key is
//! one batch, written whole or not at all.

use rdb::write::{self, Elements};

use super::kind::Type;
use super::living::Living;
use super::strings::{self, MAX_BYTES};
use super::{CommandError, hash, hyperloglog, list, set, zset};
use crate::{At, Direction, Snapshot};

mod sink;
mod stream;

pub use sink::Sink;

/// DUMP: the payload of a key; `None` if there is none.
///
/// # Errors
/// [`CommandError::NoRedisForm`]; [`CommandError::TooLong`] above [`MAX_BYTES`].
pub fn dump(read: &Snapshot<'_>, at: &At<'_>) -> Result<Option<Vec<u8>>, CommandError> {
    let Some(living) = at.living(read)? else { return Ok(None) };
    payload(read, at, &living).map(Some)
}

fn payload(read: &Snapshot<'_>, at: &At<'_>, living: &Living<'_>) -> Result<Vec<u8>, CommandError> {
    match living.header().kind() {
        Some(Type::String | Type::Bitmap) => {
            let text = strings::get(read, at)?;
            Ok(write::string(text.as_deref().unwrap_or_default()))
        }
        Some(Type::HyperLogLog) => Ok(write::string(&hyperloglog::to_redis(read, at)?)),
        Some(Type::List) => {
            let mut elements = Elements::list();
            list::range(read, at, (0, -1), |value| fitting(&mut elements, |to| to.element(value)))?;
            finish(elements)
        }
        Some(Type::Set) => {
            let mut elements = Elements::set();
            set::for_each(read, at, |member| fitting(&mut elements, |to| to.member(member)))?;
            finish(elements)
        }
        Some(Type::Zset) => {
            let mut elements = Elements::zset();
            if let Some(found) = zset::find(read, at)? {
                let all = zset::Part::Ranks(0, -1);
                zset::walk(read, &found, &all, Direction::Forward, |member, score| {
                    fitting(&mut elements, |to| to.scored(member, score));
                    true
                })?;
            }
            finish(elements)
        }
        Some(Type::Hash) => of_hash(read, at),
        Some(Type::Stream) => stream::payload(read, at),
        _ => Err(CommandError::NoRedisForm),
    }
}

/// Adds an element unless the payload is too long already: then [`finish`] refuses it.
fn fitting(elements: &mut Elements, add: impl FnOnce(&mut Elements)) {
    if elements.len_bytes() <= MAX_BYTES {
        add(elements);
    }
}

fn finish(elements: Elements) -> Result<Vec<u8>, CommandError> {
    if elements.len_bytes() > MAX_BYTES {
        return Err(CommandError::TooLong);
    }
    Ok(elements.finish())
}

/// A hash of which a field has an end is of the type that Redis has for those.
fn of_hash(read: &Snapshot<'_>, at: &At<'_>) -> Result<Vec<u8>, CommandError> {
    let (mut elements, mut has_ends) = (Elements::hash(), false);
    hash::for_each_until(read, at, |name, value, end_ms| {
        fitting(&mut elements, |to| to.field(name, value));
        has_ends |= end_ms != 0;
    })?;
    if !has_ends || elements.len_bytes() > MAX_BYTES {
        return finish(elements);
    }
    let mut fields = Vec::new();
    hash::for_each_until(read, at, |name, value, end_ms| {
        fields.push((name.to_vec(), value.to_vec(), end_ms));
    })?;
    let lent: Vec<_> = fields.iter().map(|(name, value, end)| (&**name, &**value, *end)).collect();
    Ok(write::timed_hash(&lent))
}

#[cfg(test)]
mod tests;
