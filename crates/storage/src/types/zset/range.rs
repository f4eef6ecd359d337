//! Parts of a sorted set: by rank, by score, by name, along their order or against it.

use super::super::CommandError;
use super::super::bounds::{self, Lex, Score, SubRange};
use super::super::object::Object;
use super::super::score;
use super::{MEMBERS, Member, SCORES, Zset, decode, find, split};
use crate::{At, Direction, Error, Read, Txn, budget};

/// Which members.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Part<'a> {
    /// Those of these ranks, counted in the direction of the range; negative ones from its end.
    Ranks(i64, i64),
    /// Those between two scores.
    Scores(Score, Score),
    /// Those between two names. Where scores differ, Redis leaves open which they are; here they
    /// are those between the names nevertheless, as in Kvrocks.
    Names(Lex<'a>, Lex<'a>),
}

/// What ZRANGE lists.
#[derive(Debug, Clone)]
pub struct Range<'a> {
    /// Which members.
    pub part: Part<'a>,
    /// Along the order, or against it.
    pub direction: Direction,
    /// Which of them (LIMIT), counted in that direction.
    pub limit: std::ops::Range<u64>,
}

impl<'a> Range<'a> {
    /// All of a part, along the order.
    pub fn of(part: Part<'a>) -> Self {
        Self { part, direction: Direction::Forward, limit: 0..u64::MAX }
    }
}

/// Calls `visit` with the members of a part of a set that is there, all of them, until it returns
/// `false`.
///
/// # Errors
/// Those of the engine.
pub fn walk(
    read: &impl Read,
    zset: &Object<Zset>,
    part: &Part<'_>,
    direction: Direction,
    mut visit: impl FnMut(&[u8], f64) -> bool,
) -> Result<(), Error> {
    let range = match part {
        Part::Names(min, max) => {
            let names = SubRange::lex(min, max);
            let mut members = zset.elements(read, MEMBERS, &names, direction)?;
            while let Some((member, value)) = members.next()? {
                if !visit(member, decode(value)?) {
                    break;
                }
            }
            return Ok(());
        }
        Part::Scores(min, max) => SubRange::scores(*min, *max),
        Part::Ranks(..) => SubRange::all(),
    };
    let mut scores = zset.elements(read, SCORES, &range, direction)?;
    while let Some((sub, _)) = scores.next()? {
        let (score, member) = split(sub)?;
        if !visit(member, score) {
            break;
        }
    }
    Ok(())
}

/// The same for a range: within its limit, and its ranks.
pub(super) fn visit(
    read: &impl Read,
    zset: &Object<Zset>,
    range: &Range<'_>,
    mut visit: impl FnMut(&[u8], f64),
) -> Result<(), Error> {
    let wanted = match range.part {
        Part::Ranks(start, stop) => bounds::ranks(start, stop, zset.size),
        _ => range.limit.clone(),
    };
    if wanted.is_empty() {
        return Ok(());
    }
    let is_ranks = matches!(range.part, Part::Ranks(..));
    if is_ranks && zset.size.saturating_sub(wanted.end) < wanted.start {
        return visit_from_end(read, zset, range.direction, wanted, visit);
    }
    let mut rank = 0;
    walk(read, zset, &range.part, range.direction, |member, score| {
        if wanted.contains(&rank) {
            visit(member, score);
        }
        rank += 1;
        rank < wanted.end
    })
}

/// Ranks that are nearer to the end of the listing: found from there, and turned round.
fn visit_from_end(
    read: &impl Read,
    zset: &Object<Zset>,
    direction: Direction,
    wanted: std::ops::Range<u64>,
    mut visit: impl FnMut(&[u8], f64),
) -> Result<(), Error> {
    let opposite = match direction {
        Direction::Forward => Direction::Reverse,
        Direction::Reverse => Direction::Forward,
    };
    let mirrored = zset.size - wanted.end..zset.size - wanted.start;
    let (mut found, mut rank, mut room) = (Vec::<Member>::new(), 0, Ok(()));
    walk(read, zset, &Part::Ranks(0, -1), opposite, |member, score| {
        if mirrored.contains(&rank) {
            room = budget::gather(member.len() + size_of::<Member>());
            found.push((member.to_vec(), score));
        }
        rank += 1;
        room.is_ok() && rank < mirrored.end
    })?;
    room?;
    found.iter().rev().for_each(|(member, score)| visit(member, *score));
    Ok(())
}

/// ZRANGE and its kin: calls `visit` with each member and its score.
///
/// # Errors
/// Wrong type.
pub fn for_each(
    read: &impl Read,
    at: &At<'_>,
    range: &Range<'_>,
    call: impl FnMut(&[u8], f64),
) -> Result<(), CommandError> {
    let Some(zset) = find(read, at)? else { return Ok(()) };
    Ok(visit(read, &zset, range, call)?)
}

/// The same as a list, for those that write what they have read.
///
/// # Errors
/// Wrong type; they are more than may be written at once.
pub fn range(txn: &Txn<'_>, at: &At<'_>, range: &Range<'_>) -> Result<Vec<Member>, CommandError> {
    let (mut found, mut bytes, mut room) = (Vec::new(), 0, Ok(()));
    for_each(txn, at, range, |member, score| {
        // Each is named in two records.
        bytes += 2 * member.len();
        if room.is_ok() {
            found.push((member.to_vec(), score));
            room = txn.must_have_room(bytes);
        }
    })?;
    room?;
    Ok(found)
}

/// ZCOUNT and ZLEXCOUNT: how many members a part has.
///
/// # Errors
/// Wrong type.
pub fn count(read: &impl Read, at: &At<'_>, part: &Part<'_>) -> Result<u64, CommandError> {
    let mut count = 0;
    for_each(read, at, &Range::of(*part), |_, _| count += 1)?;
    Ok(count)
}

/// ZRANK and ZREVRANK: how many members lie before one in this direction, and its score; `None` if
/// it is not there.
///
/// # Errors
/// Wrong type.
pub fn rank(
    read: &impl Read,
    at: &At<'_>,
    member: &[u8],
    direction: Direction,
) -> Result<Option<(u64, f64)>, CommandError> {
    let Some(zset) = find(read, at)? else { return Ok(None) };
    let Some(value) = zset.element(read, MEMBERS, member)? else { return Ok(None) };
    let own = decode(&value)?;
    let sub = [&score::encode(own)[..], member].concat();
    let before = match direction {
        Direction::Forward => SubRange::between(&[], &sub),
        Direction::Reverse => SubRange::after(&sub),
    };
    let mut rank = 0;
    let mut scores = zset.elements(read, SCORES, &before, Direction::Forward)?;
    while scores.next()?.is_some() {
        rank += 1;
    }
    Ok(Some((rank, own)))
}
