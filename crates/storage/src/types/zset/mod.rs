//! Sorted sets: a sub-key for each member with its score as eight bytes, and in another family one
//! for each score and member, in the order of scores.
//!
//! Batches are those of Kvrocks: log data `5`; a new member and then its score; of a member that
//! moves first its old score is removed; the metadata only if their number changed. ZADD puts
//! members in reverse order, each once. A sorted set without members stays, with size 0.
//!
//! Members and scores are two families, so that whole answers need a [`Snapshot`]. A score of -0 is
//! kept as it is: it equals 0 in comparisons, and lies before it where scores are listed.

use std::collections::{HashMap, HashSet};

use super::kind::Type;
use super::object::{IfEmpty, Kind, Object};
use super::page::{self, Page, Request};
use super::pick::{self, Picked, Wanted};
use super::{CommandError, score};
use crate::{At, Error, Family, Read, Snapshot, Txn};

mod combine;
mod range;
mod remove;

pub use combine::{Aggregate, Sources, in_order};
pub use range::{Part, Range, count, for_each, range, rank, walk};
pub use remove::{pop, remove, remove_part};

/// The type.
#[derive(Debug)]
pub enum Zset {}

impl Kind for Zset {
    const TYPE: Type = Type::Zset;
    type Tail = ();
}

/// Where each member has its score.
pub(super) const MEMBERS: Family = Family::Default;
/// Where members lie in the order of their scores.
const SCORES: Family = Family::ZsetScore;

/// A member and its score.
pub type Member = (Vec<u8>, f64);

/// What ZADD is told to leave alone. A member that is new is added whatever its score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Condition {
    /// NX: members that are there stay as they are.
    pub only_new: bool,
    /// XX: none are added.
    pub only_old: bool,
    /// GT: scores only rise.
    pub only_greater: bool,
    /// LT: scores only fall.
    pub only_less: bool,
}

impl Condition {
    /// Whether a score may come in place of another one, or of none.
    fn admits(self, old: Option<f64>, new: f64) -> bool {
        match old {
            None => !self.only_old,
            Some(old) => {
                let is_barred = self.only_greater && new <= old || self.only_less && new >= old;
                !self.only_new && !is_barred
            }
        }
    }
}

/// What ZADD has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// Members that are new.
    pub added: u64,
    /// Scores that are others.
    pub updated: u64,
}

/// A sorted set that is there; `None` if there is none.
///
/// # Errors
/// Wrong type.
pub fn find(read: &impl Read, at: &At<'_>) -> Result<Option<Object<Zset>>, CommandError> {
    Object::find(read, at)
}

/// The score in the value of a member.
fn decode(value: &[u8]) -> Result<f64, Error> {
    let bytes = <[u8; 8]>::try_from(value);
    let bytes = bytes.map_err(|_| Error::corrupt("decode a score", "it is not of eight bytes"))?;
    Ok(score::decode(bytes))
}

/// Score and member of a sub-key in the order of scores.
fn split(sub: &[u8]) -> Result<(f64, &[u8]), Error> {
    let (bytes, member) = sub
        .split_first_chunk::<8>()
        .ok_or_else(|| Error::corrupt("decode a score", "it has less than eight bytes"))?;
    Ok((score::decode(*bytes), member))
}

/// The scores of members of a set that is there.
fn scores(
    read: &impl Read,
    zset: &Object<Zset>,
    members: &[&[u8]],
) -> Result<Vec<Option<f64>>, Error> {
    let values = zset.elements_at(read, MEMBERS, members)?;
    values.into_iter().map(|value| value.map(|value| decode(&value)).transpose()).collect()
}

/// The score of one member; a set that is new has none, and is not asked.
fn score_of(read: &impl Read, zset: &Object<Zset>, member: &[u8]) -> Result<Option<f64>, Error> {
    if zset.size == 0 {
        return Ok(None);
    }
    zset.element(read, MEMBERS, member)?.map(|value| decode(&value)).transpose()
}

/// ZCARD.
///
/// # Errors
/// Wrong type.
pub fn len(read: &impl Read, at: &At<'_>) -> Result<u64, CommandError> {
    Ok(find(read, at)?.map_or(0, |zset| zset.size))
}

/// ZSCORE.
///
/// # Errors
/// Wrong type.
pub fn score(read: &impl Read, at: &At<'_>, member: &[u8]) -> Result<Option<f64>, CommandError> {
    let Some(zset) = find(read, at)? else { return Ok(None) };
    Ok(score_of(read, &zset, member)?)
}

/// ZMSCORE: the scores of members, in their order.
///
/// # Errors
/// Wrong type.
pub fn mscore(
    read: &impl Read,
    at: &At<'_>,
    members: &[&[u8]],
) -> Result<Vec<Option<f64>>, CommandError> {
    match find(read, at)? {
        Some(zset) => Ok(scores(read, &zset, members)?),
        None => Ok(vec![None; members.len()]),
    }
}

/// ZADD: gives members their scores, one after the other; of a member that comes twice the second
/// one meets the first one's score.
///
/// # Errors
/// Wrong type.
pub fn add(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    pairs: &[(f64, &[u8])],
    condition: Condition,
) -> Result<Changed, CommandError> {
    let zset = Object::find_or_new(txn, at)?;
    if let [(score, member)] = pairs {
        return add_one(txn, zset, (*score, *member), condition);
    }
    let mut changed = Changed::default();
    let old = stored(txn, &zset, pairs)?;
    let mut new = HashMap::with_capacity(pairs.len());
    for (score, member) in pairs {
        let now = new.get(member).copied().or_else(|| old.get(member).copied());
        if !condition.admits(now, *score) {
            continue;
        }
        match now {
            None => changed.added += 1,
            Some(now) if now != *score => changed.updated += 1,
            Some(_) => continue,
        }
        new.insert(*member, *score);
    }
    let mut seen = HashSet::new();
    let last = pairs.iter().rev().filter(|(_, member)| seen.insert(*member));
    let moves = last.filter_map(|(_, member)| {
        let (old, new) = (old.get(member).copied(), new.get(member).copied()?);
        (old != Some(new)).then_some((*member, old, new))
    });
    place(txn, zset, moves);
    Ok(changed)
}

/// The same of one pair, as most are: no second one meets what it has done.
fn add_one(
    txn: &mut Txn<'_>,
    zset: Object<Zset>,
    (score, member): (f64, &[u8]),
    condition: Condition,
) -> Result<Changed, CommandError> {
    let old = score_of(txn, &zset, member)?;
    let is_other = condition.admits(old, score) && old != Some(score);
    place(txn, zset, is_other.then_some((member, old, score)).into_iter());
    let count = |is_counted: bool| u64::from(is_other && is_counted);
    Ok(Changed { added: count(old.is_none()), updated: count(old.is_some()) })
}

/// The scores that members have; a set that is new has none, and is not asked.
fn stored<'a>(
    txn: &Txn<'_>,
    zset: &Object<Zset>,
    pairs: &[(f64, &'a [u8])],
) -> Result<HashMap<&'a [u8], f64>, Error> {
    if zset.size == 0 {
        return Ok(HashMap::new());
    }
    let members: Vec<&[u8]> = pairs.iter().map(|(_, member)| *member).collect();
    let found = scores(txn, zset, &members)?;
    Ok(members
        .into_iter()
        .zip(found)
        .filter_map(|(member, score)| Some((member, score?)))
        .collect())
}

/// Writes members with their old scores and new ones.
fn place<'a>(
    txn: &mut Txn<'_>,
    mut zset: Object<Zset>,
    moves: impl Iterator<Item = (&'a [u8], Option<f64>, f64)>,
) {
    let mut added = 0;
    txn.log(Type::Zset.log_data());
    for (member, old, new) in moves {
        match old {
            Some(old) => zset.remove(txn, SCORES, &[&score::encode(old), member]),
            None => added += 1,
        }
        put(txn, &zset, member, new);
    }
    if added > 0 {
        zset.size += added;
        zset.store(txn, IfEmpty::Keep);
    }
}

/// Puts a member and its score.
pub(super) fn put(txn: &mut Txn<'_>, zset: &Object<Zset>, member: &[u8], score: f64) {
    let bytes = score::encode(score);
    zset.put(txn, MEMBERS, &[member], &[&bytes]);
    zset.put(txn, SCORES, &[&bytes, member], &[]);
}

/// ZINCRBY, and ZADD with INCR: adds to a score, where a member that is new has 0. Returns the new
/// score; `None` if the condition leaves the member alone.
///
/// # Errors
/// Wrong type, [`CommandError::ScoreIsNan`].
pub fn incr(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    member: &[u8],
    increment: f64,
    condition: Condition,
) -> Result<Option<f64>, CommandError> {
    let zset = Object::<Zset>::find_or_new(txn, at)?;
    let old = score_of(txn, &zset, member)?;
    if old.is_some() && condition.only_new {
        return Ok(None);
    }
    let new = old.map_or(increment, |old| old + increment);
    if new.is_nan() {
        return Err(CommandError::ScoreIsNan);
    }
    if !condition.admits(old, new) {
        return Ok(None);
    }
    if old != Some(new) {
        place(txn, zset, std::iter::once((member, old, new)));
    }
    Ok(Some(new))
}

/// Replaces whatever a key holds by a sorted set of these members, each of which comes once; of
/// none, an empty one is left. Returns how many they are.
///
/// # Errors
/// The batch becomes too large.
pub fn store(txn: &mut Txn<'_>, at: &At<'_>, members: &[Member]) -> Result<u64, Error> {
    let mut zset = Object::<Zset>::new(at);
    zset.size = members.len() as u64;
    txn.log(Type::Zset.log_data());
    for (member, score) in members {
        put(txn, &zset, member, *score);
        txn.must_fit()?;
    }
    let size = zset.size;
    zset.store(txn, IfEmpty::Keep);
    Ok(size)
}

/// ZSCAN: a page of members and scores of a set that is there.
///
/// # Errors
/// Those of the engine.
pub fn scan(
    read: &Snapshot<'_>,
    zset: &Object<Zset>,
    request: &Request<'_>,
) -> Result<Page<Member>, CommandError> {
    // A value that is no score makes an error of the page.
    let mut corrupt = None;
    let page = page::page(zset, read, MEMBERS, request, |member, value| match decode(value) {
        Ok(score) => Some((member.to_vec(), score)),
        Err(error) => {
            corrupt = Some(error);
            None
        }
    })?;
    corrupt.map_or(Ok(page), |error| Err(error.into()))
}

/// ZRANDMEMBER: random members; `None` where there is no sorted set.
///
/// # Errors
/// Wrong type.
pub fn pick(
    read: &Snapshot<'_>,
    at: &At<'_>,
    wanted: Wanted,
) -> Result<Option<Picked>, CommandError> {
    let Some(zset) = find(read, at)? else { return Ok(None) };
    Ok(Some(pick::pick(&zset, read, MEMBERS, wanted)?))
}

/// Calls `visit` with each of them and its score.
///
/// # Errors
/// A value is no score; the end of a read's budget.
pub fn each_picked(picked: &Picked, mut visit: impl FnMut(&[u8], f64)) -> Result<(), CommandError> {
    picked.each(|member, value| {
        visit(member, decode(value)?);
        Ok(())
    })
}

#[cfg(test)]
mod tests;
