//! SORT: the elements of a list, a set or a sorted set in another order, or what they point at.
//!
//! Semantics are Redis 7's, bytes compared as bytes. All of it is read at one snapshot, the keys
//! that patterns name included. The result is stored as one batch: log data and records are those
//! of RPUSH onto a list that is made anew.

use std::cmp::Ordering;

use super::bounds::SubRange;
use super::head::Header;
use super::kind::Type;
use super::list;
use super::object::{Kind, Object};
use super::set::Set;
use super::zset::Zset;
use super::{CommandError, hash, keys, score, strings};
use crate::{At, Direction, Error, Family, Scope, Snapshot, Txn, budget};

/// What SORT is told.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// BY: what is compared in place of the element. A pattern without `*` leaves the elements in
    /// their own order.
    pub by: Option<&'a [u8]>,
    /// GET: what is returned for each element; nothing: the element itself.
    pub get: Vec<&'a [u8]>,
    /// LIMIT: how many are left out; a negative number is 0.
    pub offset: i64,
    /// LIMIT: how many come then; a negative number is no bound, and so is none.
    pub count: Option<i64>,
    /// Against the order.
    pub is_descending: bool,
    /// Bytes are compared, not numbers.
    pub is_alpha: bool,
    /// The result is stored, so its order must be one.
    pub is_stored: bool,
    /// Bytes that what GET names may take together; `None`: what bounds the read.
    pub room: Option<usize>,
}

/// What is compared.
enum Weight {
    Number(f64),
    /// `None`: the pattern names nothing.
    Bytes(Option<Vec<u8>>),
}

/// The elements in the order asked for, or what GET names in their place, where `None` is what is
/// not there.
///
/// # Errors
/// Wrong type; [`CommandError::NotAFloat`] if what is compared is no number; [`Error::TooLarge`]
/// where there is no room.
pub fn sort(
    read: &Snapshot<'_>,
    at: &At<'_>,
    request: &Request<'_>,
) -> Result<Vec<Option<Vec<u8>>>, CommandError> {
    let Some(living) = at.living(read)? else { return Ok(Vec::new()) };
    let is_set = living.header().kind() == Some(Type::Set);
    let mut elements = elements(read, at, living.header())?;
    let is_fixed = request.by.is_some_and(|by| !by.contains(&b'*'));
    match is_fixed {
        // The order of a set is none to be stored.
        true if is_set && request.is_stored => {
            let request = Request { by: None, is_alpha: true, ..request.clone() };
            elements = ordered(read, &at.scope, elements, &request)?;
        }
        true if is_set || !request.is_descending => {}
        true => elements.reverse(),
        false => elements = ordered(read, &at.scope, elements, request)?,
    }
    let offset = usize::try_from(request.offset.max(0)).unwrap_or(usize::MAX);
    let count = request.count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    let part = elements.into_iter().skip(offset).take(count);
    if request.get.is_empty() {
        return Ok(part.map(Some).collect());
    }
    let (mut found, mut bytes) = (Vec::new(), 0_usize);
    for element in part {
        for pattern in &request.get {
            let value = pointed_at(read, &at.scope, pattern, &element)?;
            let held = value.as_deref().unwrap_or_default();
            gather(held)?;
            bytes = bytes.saturating_add(held.len() + size_of::<Vec<u8>>());
            match request.room {
                Some(max) if bytes > max => return Err(Error::TooLarge { bytes, max }.into()),
                _ => found.push(value),
            }
        }
    }
    Ok(found)
}

/// The elements of a key in their own order.
fn elements(
    read: &Snapshot<'_>,
    at: &At<'_>,
    header: Header<'_>,
) -> Result<Vec<Vec<u8>>, CommandError> {
    match header.kind() {
        Some(Type::List) => {
            let (mut found, mut room) = (Vec::new(), Ok(()));
            list::range(read, at, (0, -1), |value| {
                if room.is_ok() {
                    room = gather(value);
                    found.push(value.to_vec());
                }
            })?;
            room?;
            Ok(found)
        }
        Some(Type::Set) => members::<Set>(read, at, Family::Default, 0),
        // Scores stand before the members.
        Some(Type::Zset) => members::<Zset>(read, at, Family::ZsetScore, 8),
        _ => Err(CommandError::WrongType),
    }
}

/// One more value is held.
fn gather(value: &[u8]) -> Result<(), Error> {
    budget::gather(value.len() + size_of::<Vec<u8>>())
}

/// Sub-keys without so many bytes at their beginning.
fn members<K: Kind>(
    read: &Snapshot<'_>,
    at: &At<'_>,
    family: Family,
    skipped: usize,
) -> Result<Vec<Vec<u8>>, CommandError> {
    let Some(object) = Object::<K>::find(read, at)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let mut members = object.elements(read, family, &SubRange::all(), Direction::Forward)?;
    while let Some((sub, _)) = members.next()? {
        gather(sub)?;
        found.push(sub.get(skipped..).unwrap_or_default().to_vec());
    }
    Ok(found)
}

fn ordered(
    read: &Snapshot<'_>,
    scope: &Scope<'_>,
    elements: Vec<Vec<u8>>,
    request: &Request<'_>,
) -> Result<Vec<Vec<u8>>, CommandError> {
    let mut weighted = Vec::with_capacity(elements.len());
    for element in elements {
        let compared = match request.by {
            Some(pattern) => pointed_at(read, scope, pattern, &element)?,
            None => Some(element.clone()),
        };
        gather(compared.as_deref().unwrap_or_default())?;
        let weight = match (request.is_alpha, compared) {
            (true, compared) => Weight::Bytes(compared),
            (false, None) => Weight::Number(0.0),
            (false, Some(text)) => Weight::Number(number(&text).ok_or(CommandError::NotAFloat)?),
        };
        weighted.push((weight, element));
    }
    weighted.sort_by(|(a, element), (b, other)| {
        let order = match (a, b) {
            (Weight::Number(a), Weight::Number(b)) => {
                a.partial_cmp(b).unwrap_or(Ordering::Equal).then_with(|| element.cmp(other))
            }
            (Weight::Bytes(a), Weight::Bytes(b)) => a.cmp(b),
            _ => Ordering::Equal,
        };
        if request.is_descending { order.reverse() } else { order }
    });
    Ok(weighted.into_iter().map(|(_, element)| element).collect())
}

/// A number as C reads it: a zero byte ends it, blanks before it are nothing, nothing at all is 0.
fn number(text: &[u8]) -> Option<f64> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() { Some(0.0) } else { score::parse(text.trim_ascii_start()) }
}

/// What a pattern names: `#` the element itself, `key*` a string, `key*->field` a field of a hash,
/// with the element in place of the first `*`. What is not there or of another type is none.
fn pointed_at(
    read: &Snapshot<'_>,
    scope: &Scope<'_>,
    pattern: &[u8],
    element: &[u8],
) -> Result<Option<Vec<u8>>, CommandError> {
    if pattern == b"#" {
        return Ok(Some(element.to_vec()));
    }
    let Some(star) = pattern.iter().position(|byte| *byte == b'*') else { return Ok(None) };
    let (before, behind) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = behind.windows(2).position(|pair| pair == b"->");
    let field = arrow.and_then(|at| behind.get(at + 2..)).filter(|field| !field.is_empty());
    let behind = match (field, arrow) {
        (Some(_), Some(at)) => &behind[..at],
        _ => behind,
    };
    let key = [before, element, behind].concat();
    let at = scope.at(&key);
    let value = match field {
        Some(field) => hash::get(read, &at, field).map(|found| found.map(|value| value.to_vec())),
        None => strings::get(read, &at).map(|found| found.map(|value| value.to_vec())),
    };
    match value {
        Err(CommandError::WrongType) => Ok(None),
        value => value,
    }
}

/// STORE: replaces what a key holds by a list, where what is not there is an empty element; no
/// elements are no key.
///
/// # Errors
/// Those of the engine.
pub fn store(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    values: &[Option<Vec<u8>>],
) -> Result<(), CommandError> {
    if values.is_empty() {
        return keys::del(txn, &at.scope, &[at.key]).map(|_| ());
    }
    let values: Vec<&[u8]> = values.iter().map(|value| value.as_deref().unwrap_or(b"")).collect();
    list::replace(txn, at, &values)
}
