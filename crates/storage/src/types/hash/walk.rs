//! Parts of a hash: HSCAN, HRANDFIELD, HRANGEBYLEX.

use super::super::bounds::{Lex, SubRange};
use super::super::page::{self, Page, Request};
use super::super::pick::{self, Element, Picked, There, Wanted};
use super::super::{CommandError, object::Object};
use super::{FIELDS, Hash, find};
use crate::{At, Direction, Snapshot, budget};

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

/// HRANDFIELD: random fields and values; `None` where there is no hash.
///
/// # Errors
/// Wrong type.
pub fn pick(
    read: &Snapshot<'_>,
    at: &At<'_>,
    wanted: Wanted,
) -> Result<Option<Picked>, CommandError> {
    let Some(hash) = find(read, at)? else { return Ok(None) };
    let size = hash.count(read)?;
    let there = There { size, value: &|stored| hash.lent(stored), gather: &budget::gather };
    Ok(Some(pick::pick_there(&hash, read, FIELDS, wanted, &there)?))
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

/// HRANGEBYLEX: calls `visit` with the fields between two names, and their values.
///
/// # Errors
/// Wrong type.
pub fn range(
    read: &Snapshot<'_>,
    at: &At<'_>,
    range: &Range<'_>,
    mut visit: impl FnMut(&[u8], &[u8]),
) -> Result<(), CommandError> {
    let Some(hash) = find(read, at)? else { return Ok(()) };
    let names = SubRange::lex(&range.min, &range.max);
    let mut rank = 0;
    if range.part.is_empty() {
        return Ok(());
    }
    hash.visit(read, &names, range.direction, |field, value| {
        if range.part.contains(&rank) {
            visit(field, value);
        }
        rank += 1;
        rank < range.part.end
    })?;
    Ok(())
}
