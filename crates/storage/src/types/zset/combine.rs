//! Several sorted sets at once: ZUNION, ZINTER, ZDIFF and what stores their results.
//!
//! A set is taken for a sorted set in which every score is 1. Sums of scores are made in the order
//! of the sets' sizes, as Redis makes them: floating-point sums depend on it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::super::CommandError;
use super::super::bounds::SubRange;
use super::super::object::Object;
use super::super::set::{self, Set};
use super::{MEMBERS, Member, Zset, decode};
use crate::{At, Direction, Error, Read, budget};

/// Members that are looked up in other sets at once.
const CHUNK: usize = 256;
/// Sets that are put together one after the other, each with all of those before it.
const MERGED_MAX: usize = 16;
/// There is room for so many members before any is found.
const ROOM: u64 = 1024;

/// How the scores of one member in several sets become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Aggregate {
    /// Their sum.
    #[default]
    Sum,
    /// The least.
    Min,
    /// The greatest.
    Max,
}

impl Aggregate {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Sum => number(a + b),
            Self::Min => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            Self::Max => {
                if b > a {
                    b
                } else {
                    a
                }
            }
        }
    }
}

/// What is no number (0 times infinity, infinity minus infinity) counts as 0.
fn number(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// Bytes that members take.
fn held(members: &[Member]) -> usize {
    members.iter().map(|(member, _)| member.len() + size_of::<Member>()).sum()
}

/// Order of scores, then of names.
pub fn in_order(mut members: Vec<Member>) -> Vec<Member> {
    members.sort_by(|(a, one), (b, other)| {
        one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal).then_with(|| a.cmp(b))
    });
    members
}

#[derive(Debug)]
enum Source {
    Sorted(Object<Zset>),
    Plain(Object<Set>),
}

impl Source {
    fn find(read: &impl Read, at: &At<'_>) -> Result<Option<Self>, CommandError> {
        match Object::find(read, at) {
            Ok(found) => Ok(found.map(Self::Sorted)),
            Err(CommandError::WrongType) => Ok(Object::find(read, at)?.map(Self::Plain)),
            Err(other) => Err(other),
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Sorted(zset) => zset.size,
            Self::Plain(set) => set.size,
        }
    }

    fn score(&self, value: &[u8]) -> Result<f64, Error> {
        match self {
            Self::Sorted(_) => decode(value),
            Self::Plain(_) => Ok(1.0),
        }
    }

    /// Calls `visit` with all members, in the order of their bytes, until it returns `false`.
    fn walk(
        &self,
        read: &impl Read,
        mut visit: impl FnMut(&[u8], f64) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let all = SubRange::all();
        let mut members = match self {
            Self::Sorted(zset) => zset.elements(read, MEMBERS, &all, Direction::Forward)?,
            Self::Plain(set) => set.elements(read, set::MEMBERS, &all, Direction::Forward)?,
        };
        while let Some((member, value)) = members.next()? {
            if !visit(member, self.score(value)?)? {
                break;
            }
        }
        Ok(())
    }

    fn scores(&self, read: &impl Read, chunk: &[Member]) -> Result<Vec<Option<f64>>, Error> {
        let members: Vec<&[u8]> = chunk.iter().map(|(member, _)| member.as_slice()).collect();
        let values = match self {
            Self::Sorted(zset) => zset.elements_at(read, MEMBERS, &members)?,
            Self::Plain(set) => set.elements_at(read, set::MEMBERS, &members)?,
        };
        values.into_iter().map(|value| value.map(|value| self.score(&value)).transpose()).collect()
    }
}

/// The sets that a command names, found in what it reads.
#[derive(Debug)]
pub struct Sources<'r, R> {
    read: &'r R,
    sources: Vec<Option<Source>>,
}

impl<'r, R: Read> Sources<'r, R> {
    /// Finds them.
    ///
    /// # Errors
    /// Wrong type: one is neither a sorted set nor a set.
    pub fn find<'k>(read: &'r R, keys: impl Iterator<Item = At<'k>>) -> Result<Self, CommandError> {
        let sources = keys.map(|at| Source::find(read, &at)).collect::<Result<_, _>>()?;
        Ok(Self { read, sources })
    }

    /// The sets that are there with their weights, small ones first.
    fn weighted(&self, weights: &[f64]) -> Vec<(&Source, f64)> {
        let weights = weights.iter().copied().chain(std::iter::repeat(1.0));
        let mut sources: Vec<_> = self
            .sources
            .iter()
            .zip(weights)
            .filter_map(|(source, weight)| Some((source.as_ref()?, weight)))
            .collect();
        sources.sort_by_key(|(source, _)| source.size());
        sources
    }

    /// ZUNION: all members, in the order of their bytes. Of `weights` none may be given.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn union(
        &self,
        weights: &[f64],
        aggregate: Aggregate,
    ) -> Result<Vec<Member>, CommandError> {
        let weighted = self.weighted(weights);
        if weighted.len() > MERGED_MAX {
            return Ok(self.gathered(&weighted, aggregate)?);
        }
        let mut all = Vec::new();
        for source in weighted {
            all = self.merged(all, source, aggregate)?;
        }
        Ok(all)
    }

    /// Members in the order of their bytes, and those of one more set.
    fn merged(
        &self,
        known: Vec<Member>,
        (source, weight): (&Source, f64),
        aggregate: Aggregate,
    ) -> Result<Vec<Member>, Error> {
        let room = usize::try_from(source.size().min(ROOM)).unwrap_or_default();
        let mut all = Vec::with_capacity(known.len().max(room));
        let mut known = known.into_iter();
        let mut next = known.next();
        source.walk(self.read, |member, score| {
            let score = number(score * weight);
            while let Some((name, one)) = &mut next {
                match name.as_slice().cmp(member) {
                    Ordering::Less => all.extend(std::mem::replace(&mut next, known.next())),
                    Ordering::Equal => {
                        *one = aggregate.of(*one, score);
                        return Ok(true);
                    }
                    Ordering::Greater => break,
                }
            }
            budget::gather(member.len() + size_of::<Member>())?;
            all.push((member.to_vec(), score));
            Ok(true)
        })?;
        all.extend(next);
        all.extend(known);
        Ok(all)
    }

    /// The union of more sets than are put together one by one.
    fn gathered(
        &self,
        sources: &[(&Source, f64)],
        aggregate: Aggregate,
    ) -> Result<Vec<Member>, Error> {
        let mut all = BTreeMap::<Vec<u8>, f64>::new();
        for (source, weight) in sources {
            source.walk(self.read, |member, score| {
                let score = number(score * weight);
                match all.get_mut(member) {
                    Some(one) => *one = aggregate.of(*one, score),
                    None => {
                        budget::gather(member.len() + size_of::<Member>())?;
                        all.insert(member.to_vec(), score);
                    }
                }
                Ok(true)
            })?;
        }
        Ok(all.into_iter().collect())
    }

    /// ZINTER: members of every set, in the order of their bytes, `limit` at most.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn inter(
        &self,
        weights: &[f64],
        aggregate: Aggregate,
        limit: u64,
    ) -> Result<Vec<Member>, CommandError> {
        if self.sources.iter().any(Option::is_none) {
            return Ok(Vec::new());
        }
        let weighted = self.weighted(weights);
        let Some(((least, weight), others)) = weighted.split_first() else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.chunks(least, |chunk| {
            chunk.iter_mut().for_each(|(_, score)| *score = number(*score * weight));
            for (source, weight) in others {
                let mut found = source.scores(self.read, chunk)?.into_iter();
                chunk.retain_mut(|(_, score)| {
                    let Some(other) = found.next().flatten() else { return false };
                    *score = aggregate.of(*score, number(other * weight));
                    true
                });
            }
            budget::gather(held(chunk))?;
            all.append(chunk);
            Ok(all.len() < limit)
        })?;
        all.truncate(limit);
        Ok(all)
    }

    /// ZDIFF: members of the first set that no other one has, in the order of their bytes.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn diff(&self) -> Result<Vec<Member>, CommandError> {
        let Some((Some(first), others)) = self.sources.split_first() else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        self.chunks(first, |chunk| {
            for source in others.iter().flatten() {
                let mut found = source.scores(self.read, chunk)?.into_iter();
                chunk.retain(|_| found.next().flatten().is_none());
            }
            budget::gather(held(chunk))?;
            all.append(chunk);
            Ok(true)
        })?;
        Ok(all)
    }

    /// Calls `visit` with a set's members, some at a time, until it returns `false`. They are to be
    /// taken out.
    fn chunks(
        &self,
        source: &Source,
        mut visit: impl FnMut(&mut Vec<Member>) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut is_wanted = true;
        source.walk(self.read, |member, score| {
            chunk.push((member.to_vec(), score));
            if chunk.len() == CHUNK {
                is_wanted = visit(&mut chunk)?;
                chunk.clear();
            }
            Ok(is_wanted)
        })?;
        if is_wanted && !chunk.is_empty() {
            visit(&mut chunk)?;
        }
        Ok(())
    }
}
