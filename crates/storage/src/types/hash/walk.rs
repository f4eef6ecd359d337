//! Parts of a hash: HSCAN, HRANDFIELD, HRANGEBYLEX.

use super::super::bounds::{Lex, SubRange};
use super::super::page::{self, Page, Request};
use super::super::pick::{self, Element, Wanted};
use super::super::{CommandError, object::Object};
use super::{FIELDS, Hash, find};
use crate::{At, Direction, Snapshot};

/// HSCAN: a page of fields and values of a hash that is there.
///
/// # Errors
/// Those of the engine.
pub fn scan(
    read: &Snapshot<'_>,
    hash: &Object<Hash>,
    request: &Request<'_>,
) -> Result<Page<Element>, CommandError> {
    let pair = |field: &[u8], value: &[u8]| Some((field.to_vec(), value.to_vec()));
    Ok(page::page(hash, read, FIELDS, request, pair)?)
}

/// HRANDFIELD: random fields and values.
///
/// # Errors
/// Wrong type.
pub fn pick(
    read: &Snapshot<'_>,
    at: &At<'_>,
    wanted: Wanted,
) -> Result<Vec<Element>, CommandError> {
    let Some(hash) = find(read, at)? else { return Ok(Vec::new()) };
    Ok(pick::pick(&hash, read, FIELDS, wanted)?)
}

/// What HRANGEBYLEX lists.
#[derive(Debug, Clone)]
pub struct Range<'a> {
    /// The first name in the order of bytes.
    pub min: Lex<'a>,
    /// The last one.
    pub max: Lex<'a>,
    /// Against the order of bytes, or along it.
    pub direction: Direction,
    /// Which of them, counted in that direction.
    pub part: std::ops::Range<u64>,
}

/// HRANGEBYLEX: fields between two names, with their values.
///
/// # Errors
/// Wrong type.
pub fn range(
    read: &Snapshot<'_>,
    at: &At<'_>,
    range: &Range<'_>,
) -> Result<Vec<Element>, CommandError> {
    let Some(hash) = find(read, at)? else { return Ok(Vec::new()) };
    let names = SubRange::lex(&range.min, &range.max);
    let (mut found, mut rank) = (Vec::new(), 0);
    let mut fields = hash.elements(read, FIELDS, &names, range.direction)?;
    while let (true, Some((field, value))) = (rank < range.part.end, fields.next()?) {
        if range.part.contains(&rank) {
            found.push((field.to_vec(), value.to_vec()));
        }
        rank += 1;
    }
    Ok(found)
}
