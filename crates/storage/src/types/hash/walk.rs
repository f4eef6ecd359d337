//! Parts of a hash: HSCAN, HRANDFIELD, HRANGEBYLEX.

use super::super::bounds::{Lex, SubRange};
use super::super::page::{self, Page, Request};
use super::super::pick::{self, Element, There, Wanted};
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
    let mut failed = None;
    let pair = |field: &[u8], stored: &[u8]| match hash.lent(stored) {
        Ok(value) => value.map(|value| (field.to_vec(), value.to_vec())),
        Err(error) => {
            failed = Some(error);
            None
        }
    };
    let page = page::page(hash, read, FIELDS, request, pair)?;
    failed.map_or(Ok(page), |error| Err(error.into()))
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
    let there = There { size: hash.count(read)?, value: &|stored| hash.lent(stored) };
    Ok(pick::pick_there(&hash, read, FIELDS, wanted, &there)?)
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
    if range.part.is_empty() {
        return Ok(found);
    }
    hash.visit(read, &names, range.direction, |field, value| {
        if range.part.contains(&rank) {
            found.push((field.to_vec(), value.to_vec()));
        }
        rank += 1;
        rank < range.part.end
    })?;
    Ok(found)
}
