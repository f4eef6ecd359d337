//! What takes members out of a sorted set: by name, by part, from either end. Each member is
//! removed before its score.

use std::collections::HashSet;

use super::super::CommandError;
use super::super::kind::Type;
use super::super::object::{IfEmpty, Object};
use super::super::score;
use super::range::{Part, Range, visit};
use super::{MEMBERS, Member, SCORES, Zset, find, scores};
use crate::{At, Direction, Error, Txn};

/// ZREM. Returns how many members were there.
///
/// # Errors
/// Wrong type.
pub fn remove(txn: &mut Txn<'_>, at: &At<'_>, members: &[&[u8]]) -> Result<u64, CommandError> {
    let Some(zset) = find(txn, at)? else { return Ok(0) };
    let (mut seen, count) = (HashSet::new(), members.len());
    let each = members.iter().copied().filter(|name| count == 1 || seen.insert(*name));
    let members: Vec<&[u8]> = each.collect();
    let found = scores(txn, &zset, &members)?;
    let there = members.iter().zip(found).filter_map(|(member, score)| Some((*member, score?)));
    Ok(take(txn, zset, there)?)
}

/// ZREMRANGEBYRANK, ZREMRANGEBYSCORE, ZREMRANGEBYLEX. Returns how many members are gone.
///
/// # Errors
/// Wrong type.
pub fn remove_part(txn: &mut Txn<'_>, at: &At<'_>, part: &Part<'_>) -> Result<u64, CommandError> {
    taken(txn, at, &Range::of(*part)).map(|members| members.len() as u64)
}

/// ZPOPMIN (forward), ZPOPMAX (reverse): takes so many members out at one end. Returns them.
///
/// # Errors
/// Wrong type.
pub fn pop(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    direction: Direction,
    count: u64,
) -> Result<Vec<Member>, CommandError> {
    let last = i64::try_from(count).unwrap_or(i64::MAX) - 1;
    if last < 0 {
        // The type is an error nevertheless.
        return find(txn, at).map(|_| Vec::new());
    }
    taken(txn, at, &Range { direction, ..Range::of(Part::Ranks(0, last)) })
}

fn taken(txn: &mut Txn<'_>, at: &At<'_>, range: &Range<'_>) -> Result<Vec<Member>, CommandError> {
    let Some(zset) = find(txn, at)? else { return Ok(Vec::new()) };
    let (mut found, mut bytes, mut room) = (Vec::new(), 0, Ok(()));
    let read: &Txn<'_> = txn;
    visit(read, &zset, range, |member, score| {
        // Each is named in two records.
        bytes += 2 * member.len();
        if room.is_ok() {
            found.push((member.to_vec(), score));
            room = read.must_have_room(bytes);
        }
    })?;
    room?;
    take(txn, zset, found.iter().map(|(member, score)| (member.as_slice(), *score)))?;
    Ok(found)
}

/// Removes members with these scores; returns how many they are.
fn take<'m>(
    txn: &mut Txn<'_>,
    mut zset: Object<Zset>,
    members: impl Iterator<Item = (&'m [u8], f64)>,
) -> Result<u64, Error> {
    let mut count = 0;
    txn.log(Type::Zset.log_data());
    for (member, score) in members {
        count += 1;
        zset.remove(txn, MEMBERS, &[member]);
        zset.remove(txn, SCORES, &[&score::encode(score), member]);
        txn.must_fit()?;
    }
    if count > 0 {
        zset.size = zset.size.saturating_sub(count);
        zset.store(txn, IfEmpty::Keep);
    }
    Ok(count)
}
