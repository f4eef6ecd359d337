//! Time series: samples in the order of their times, in chunks, each a sub-key under the time of
//! its first sample.
//!
//! Bytes are those of Kvrocks. There what is older than samples are kept is dropped by compactions,
//! which replicas do not see; here a chunk that is over goes in the batch that begins a new one.
//! Labels and rules of a series are sub-keys too. How series are found by their labels is in
//! [`labels`] and [`many`], what rules do in [`rules`].

use super::bounds::SubRange;
use super::kind::Type;
use super::object::{IfEmpty, Kind, Object, Tail};
use super::{CommandError, log};
use crate::{At, Direction, Family, Read, Txn};

mod bucket;
mod chunk;
mod delete;
mod filter;
mod gathered;
pub(crate) mod labels;
mod many;
mod range;
mod read;
mod rules;
pub(crate) mod way;

pub use bucket::{Aggregator, Grid};
pub use chunk::{Added, Duplicates, Sample};
use chunk::{New, Split};
pub use delete::delete;
pub use filter::{Filter, NoFilter};
pub use labels::{OwnLabel, relabel};
pub use many::{Joined, Named, named};
pub use range::{Buckets, Query, Stamp, range};
pub use read::{About, Rule, about, for_each, last};
use rules::{Fed, Lead};
pub use rules::{Holds, NoRule, Says, create_rule, delete_rule};
use way::LABELS;
pub use way::Label;

/// Chunks that one write deletes because their time is over.
const TRIMMED_MAX: usize = 1024;

/// The type.
#[derive(Debug)]
pub enum TimeSeries {}

impl Kind for TimeSeries {
    const TYPE: Type = Type::TimeSeries;
    type Tail = Facts;
}

/// How a series is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// How long samples are kept behind the newest one, in milliseconds; 0: for ever.
    pub retention_ms: u64,
    /// Samples of a chunk.
    pub chunk_size: u64,
    /// It was asked for; chunks are not compressed.
    pub is_compressed: bool,
    /// What becomes of duplicates.
    pub duplicates: Duplicates,
    /// The series whose rule leads here; empty if there is none.
    pub source: Vec<u8>,
    /// Time of the newest sample when a chunk was last begun, at which chunks that were over went.
    /// It stays where that sample is deleted.
    pub last_at: u64,
}

impl Tail for Facts {
    fn fresh() -> Self {
        Self {
            retention_ms: 0,
            chunk_size: 1024,
            is_compressed: false,
            duplicates: Duplicates::Block,
            source: Vec::new(),
            last_at: 0,
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (retention_ms, rest) = bytes.split_first_chunk::<8>()?;
        let (chunk_size, rest) = rest.split_first_chunk::<8>()?;
        let ([form, duplicates], rest) = rest.split_first_chunk::<2>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (source, rest) = rest.split_at_checked(length)?;
        // Early data has none.
        let last_at = match rest {
            [] => [0; 8],
            rest => rest.try_into().ok()?,
        };
        Some(Self {
            retention_ms: u64::from_be_bytes(*retention_ms),
            chunk_size: u64::from_be_bytes(*chunk_size),
            is_compressed: *form == 1,
            duplicates: Duplicates::from_id(*duplicates)?,
            source: source.to_vec(),
            last_at: u64::from_be_bytes(last_at),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.retention_ms.to_be_bytes());
        out.extend_from_slice(&self.chunk_size.to_be_bytes());
        out.extend_from_slice(&[u8::from(self.is_compressed), self.duplicates as u8]);
        let length = u32::try_from(self.source.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.source);
        out.extend_from_slice(&self.last_at.to_be_bytes());
    }
}

impl Default for Facts {
    fn default() -> Self {
        Self::fresh()
    }
}

/// What is to be otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// See [`Facts::retention_ms`].
    pub retention_ms: Option<u64>,
    /// See [`Facts::chunk_size`].
    pub chunk_size: Option<u64>,
    /// See [`Facts::is_compressed`].
    pub is_compressed: Option<bool>,
    /// See [`Facts::duplicates`].
    pub duplicates: Option<Duplicates>,
}

impl Changes {
    fn done_to(self, facts: &mut Facts) {
        facts.retention_ms = self.retention_ms.unwrap_or(facts.retention_ms);
        facts.chunk_size = self.chunk_size.unwrap_or(facts.chunk_size);
        facts.is_compressed = self.is_compressed.unwrap_or(facts.is_compressed);
        facts.duplicates = self.duplicates.unwrap_or(facts.duplicates);
    }
}

/// Where sub-keys lie.
const FAMILY: Family = Family::Default;
/// What sub-keys of chunks begin with.
const CHUNKS: &[u8] = &[0];
/// What sub-keys of rules begin with.
const RULES: &[u8] = &[2];

/// The sub-key of a chunk.
fn chunk_sub(id: u64) -> Vec<u8> {
    [CHUNKS, &id.to_be_bytes()].concat()
}

/// The sub-keys of chunks that begin at one time at the latest.
fn chunks_until(at: u64) -> SubRange {
    // One byte more: right behind it.
    SubRange::between(CHUNKS, &[&chunk_sub(at)[..], &[0]].concat())
}

/// A chunk: the time of its first sample, and its samples.
type Chunk = (u64, Vec<Sample>);

fn no_chunk() -> CommandError {
    CommandError::corrupt("a chunk of a time series is none")
}

fn chunk_id(sub: &[u8]) -> Result<u64, CommandError> {
    let id = sub.strip_prefix(CHUNKS).and_then(|id| id.try_into().ok()).map(u64::from_be_bytes);
    id.ok_or_else(no_chunk)
}

fn chunk(sub: &[u8], value: &[u8]) -> Result<Chunk, CommandError> {
    Ok((chunk_id(sub)?, chunk::decode(value).ok_or_else(no_chunk)?))
}

impl Object<TimeSeries> {
    /// The first or the last of some chunks.
    fn chunk_in(
        &self,
        read: &impl Read,
        range: &SubRange,
        direction: Direction,
    ) -> Result<Option<Chunk>, CommandError> {
        let mut elements = self.elements(read, FAMILY, range, direction)?;
        elements.next()?.map(|(sub, value)| chunk(sub, value)).transpose()
    }

    fn last_chunk(&self, read: &impl Read) -> Result<Option<Chunk>, CommandError> {
        self.chunk_in(read, &SubRange::starting_with(CHUNKS), Direction::Reverse)
    }

    /// The chunk that a time belongs to: the first one, if it is before all of them.
    fn chunk_of(&self, read: &impl Read, at: u64) -> Result<Option<Chunk>, CommandError> {
        match self.chunk_in(read, &chunks_until(at), Direction::Reverse)? {
            None => self.chunk_in(read, &SubRange::starting_with(CHUNKS), Direction::Forward),
            found => Ok(found),
        }
    }

    /// The time at which the chunk behind one begins.
    fn next_id(&self, read: &impl Read, id: u64) -> Result<Option<u64>, CommandError> {
        let range = SubRange::between(&[&chunk_sub(id)[..], &[0]].concat(), LABELS);
        let mut elements = self.elements(read, FAMILY, &range, Direction::Forward)?;
        let next = elements.next()?.and_then(|(sub, _)| sub.strip_prefix(CHUNKS)?.try_into().ok());
        Ok(next.map(u64::from_be_bytes))
    }

    /// The time before which samples may be gone because they were over once, also where the newest
    /// ones were deleted since.
    fn lost_before(&self, newest_at: u64) -> u64 {
        self.kept_from(newest_at.max(self.tail.last_at))
    }

    /// The time before which nothing is kept.
    fn kept_from(&self, last_at: u64) -> u64 {
        match self.tail.retention_ms {
            0 => 0,
            retention_ms => last_at.saturating_sub(retention_ms),
        }
    }

    /// Writes a chunk anew, as one or several; how many.
    fn put_chunk(
        &self,
        txn: &mut Txn<'_>,
        old: Option<u64>,
        samples: &[Sample],
        how: Split,
    ) -> u64 {
        let parts = chunk::split(samples, self.tail.chunk_size, how);
        let id = |part: &[Sample]| part.first().map_or(0, |first| first.at);
        if let Some(old) = old.filter(|old| parts.first().is_none_or(|part| id(part) != *old)) {
            self.remove(txn, FAMILY, &[&chunk_sub(old)]);
        }
        for part in &parts {
            self.put(txn, FAMILY, &[&chunk_sub(id(part))], &[&chunk::encode(part)]);
        }
        parts.len() as u64
    }

    /// Adds samples that belong into chunks before the last one, and returns those that do not.
    fn add_before<'n>(
        &mut self,
        txn: &mut Txn<'_>,
        mut news: &'n [New],
        last_id: u64,
        (duplicates, outcomes): (Duplicates, &mut [Added]),
    ) -> Result<&'n [New], CommandError> {
        while let Some(new) = news.first().filter(|new| new.sample.at < last_id) {
            let Some((id, mut samples)) = self.chunk_of(txn, new.sample.at)? else { break };
            // A chunk may be the last one although samples of it are earlier.
            let Some(end) = self.next_id(txn, id)? else { break };
            let count = news.partition_point(|new| new.sample.at < end);
            let (here, rest) = news.split_at(count);
            if chunk::merge(&mut samples, here, duplicates, outcomes) {
                let parts = self.put_chunk(txn, Some(id), &samples, Split::Even);
                self.size = self.size.saturating_add(parts).saturating_sub(1);
                // A sample writes a whole chunk anew.
                txn.must_fit()?;
            }
            news = rest;
        }
        Ok(news)
    }

    /// Adds samples; the metadata is written if it is another one then. Its rules follow.
    fn add(
        mut self,
        txn: &mut Txn<'_>,
        (at, added): (&At<'_>, &[Sample]),
        duplicates: Duplicates,
        leads: &mut [Lead],
    ) -> Result<Vec<Added>, CommandError> {
        let last = self.last_chunk(txn)?;
        let end_of = |chunk: &Chunk| chunk.1.last().map_or(chunk.0, |sample| sample.at);
        let last_at = last.as_ref().map(end_of);
        let (news, mut outcomes) =
            chunk::arrange(added, last_at.unwrap_or(0), self.tail.retention_ms, duplicates);
        let (before, mark) = ((self.size, self.tail.last_at), txn.mark());
        txn.log(Type::TimeSeries.log_data());
        let logged = txn.count();
        let last_id = last.as_ref().map_or(0, |chunk| chunk.0);
        let rest = self.add_before(txn, &news, last_id, (duplicates, &mut outcomes))?;
        let (old, mut samples) = last.map_or((None, Vec::new()), |(id, all)| (Some(id), all));
        let is_written = chunk::merge(&mut samples, rest, duplicates, &mut outcomes);
        if is_written {
            let parts = self.put_chunk(txn, old, &samples, Split::Full);
            self.size = self.size.saturating_add(parts).saturating_sub(u64::from(old.is_some()));
            if parts > 1 {
                let newest_at = samples.last().map_or(0, |sample| sample.at);
                self.tail.last_at = self.tail.last_at.max(newest_at);
                self.trim(txn, self.kept_from(newest_at))?;
            }
        }
        if (self.size, self.tail.last_at) != before {
            self.write(txn);
        }
        if txn.count() == logged {
            txn.rollback(mark);
        } else if !leads.is_empty() {
            let parts = match is_written {
                true => chunk::split(&samples, self.tail.chunk_size, Split::Full),
                false => vec![samples.as_slice()],
            };
            let stored = added.iter().zip(&outcomes).filter(|(_, what)| **what == Added::Stored);
            let stored: Vec<u64> = stored.map(|(sample, _)| sample.at).collect();
            let fed = Fed { last_at, parts: &parts, stored: &stored };
            rules::feed(txn, at, &self, (leads, &fed))?;
        }
        txn.must_fit()?;
        Ok(outcomes)
    }

    /// Deletes the first chunks, as far as all that they hold is before a time. So many at the
    /// most: a retention may have been shortened by much. What is left is shown to nobody, and goes
    /// with the next chunks.
    fn trim(&mut self, txn: &mut Txn<'_>, kept_from: u64) -> Result<(), CommandError> {
        let Some((mut id, _)) = self.chunk_of(txn, 0)? else { return Ok(()) };
        for _ in 0..TRIMMED_MAX {
            let next = self.next_id(txn, id)?.filter(|next| *next <= kept_from);
            let Some(next) = next else { break };
            self.remove(txn, FAMILY, &[&chunk_sub(id)]);
            self.size = self.size.saturating_sub(1);
            id = next;
        }
        Ok(())
    }

    /// Passes the chunks of a time on as they lie, with their sub-keys; the walk ends when `f` says
    /// false.
    fn walk(
        &self,
        read: &impl Read,
        ((from, to), direction): ((u64, u64), Direction),
        mut f: impl FnMut(&[u8], &[u8]) -> Result<bool, CommandError>,
    ) -> Result<(), CommandError> {
        let Some((first, _)) = self.chunk_of(read, from)? else { return Ok(()) };
        let end = [&chunk_sub(to)[..], &[0]].concat();
        let range = SubRange::between(&chunk_sub(first), &end);
        let mut elements = self.elements(read, FAMILY, &range, direction)?;
        while let Some((sub, value)) = elements.next()? {
            if !f(sub, value)? {
                break;
            }
        }
        Ok(())
    }
}

/// A series that is there; `None` if there is none.
///
/// # Errors
/// Wrong type.
pub fn find(read: &impl Read, at: &At<'_>) -> Result<Option<Object<TimeSeries>>, CommandError> {
    Object::find(read, at)
}

fn make(txn: &mut Txn<'_>, at: &At<'_>, how: Changes) -> Object<TimeSeries> {
    let mut object = Object::<TimeSeries>::new(at);
    how.done_to(&mut object.tail);
    txn.log(&log::words(Type::TimeSeries, &[b"createTimeSeries"]));
    object.write(txn);
    object
}

/// TS.CREATE. False if the key is there.
///
/// # Errors
/// Wrong type.
pub fn create(txn: &mut Txn<'_>, at: &At<'_>, how: Changes) -> Result<bool, CommandError> {
    create_with(txn, at, how, &[])
}

/// The same with labels; outside of cluster mode only.
///
/// # Errors
/// Wrong type.
pub fn create_with(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    how: Changes,
    labels: &[Label<'_>],
) -> Result<bool, CommandError> {
    if find(txn, at)?.is_some() {
        return Ok(false);
    }
    let object = make(txn, at, how);
    labels::put(txn, at, &object, labels)?;
    Ok(true)
}

/// TS.ALTER. False if there is no series.
///
/// # Errors
/// Wrong type.
pub fn alter(txn: &mut Txn<'_>, at: &At<'_>, how: Changes) -> Result<bool, CommandError> {
    let Some(mut object) = find(txn, at)? else { return Ok(false) };
    let before = object.tail.clone();
    how.done_to(&mut object.tail);
    if object.tail != before {
        txn.log(Type::TimeSeries.log_data());
        object.store(txn, IfEmpty::Keep);
    }
    Ok(true)
}

/// How samples are added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Adding {
    /// How a series is made if there is none; `None`: it is not.
    pub making: Option<Changes>,
    /// What becomes of duplicates now, if not what the series says.
    pub duplicates: Option<Duplicates>,
}

/// A series that takes samples, and its rules.
type Opened = (Object<TimeSeries>, Vec<Lead>);

/// A series that takes samples, made if need be.
fn open(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    making: Option<Changes>,
    holds: Holds<'_>,
) -> Result<Option<Opened>, CommandError> {
    if let Some(object) = find(txn, at)? {
        let leads = rules::of(txn, at, &object, holds)?;
        return Ok(Some((object, leads)));
    }
    let Some(how) = making else { return Ok(None) };
    Ok(Some((make(txn, at, how), Vec::new())))
}

/// TS.ADD and TS.MADD: what became of each sample; `None` if there is no series.
///
/// # Errors
/// Wrong type; [`CommandError::LeadsTo`] where a series is not held that a rule leads to.
pub fn add(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    samples: &[Sample],
    how: Adding,
    holds: Holds<'_>,
) -> Result<Option<Vec<Added>>, CommandError> {
    let Some((object, mut leads)) = open(txn, at, how.making, holds)? else { return Ok(None) };
    let duplicates = how.duplicates.unwrap_or(object.tail.duplicates);
    object.add(txn, (at, samples), duplicates, &mut leads).map(Some)
}

/// TS.INCRBY: adds to the last value, at its time or a later one; `None` if the time is earlier.
///
/// # Errors
/// As [`add`].
pub fn increment(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    mut by: Sample,
    making: Changes,
    holds: Holds<'_>,
) -> Result<Option<Added>, CommandError> {
    let Some((object, mut leads)) = open(txn, at, Some(making), holds)? else { return Ok(None) };
    if let Some(last) = object.last_chunk(txn)?.and_then(|(_, samples)| samples.last().copied()) {
        if by.at < last.at {
            return Ok(None);
        }
        by.value += last.value;
    }
    let outcomes = object.add(txn, (at, &[by][..]), Duplicates::Last, &mut leads)?;
    Ok(outcomes.first().copied())
}

#[cfg(test)]
mod tests;
