//! Rules: what the samples of a bucket of one series say becomes a sample of another one.
//!
//! A rule is a sub-key of its source, and names the series it leads to, which names its source. It
//! holds the bucket that the newest samples are in, and what is gathered of it: from all chunks but
//! the last one, which is written anew with each sample. So a sample changes no rule before a
//! bucket or a chunk is over, and any of Kvrocks' processes can go on with it.
//!
//! A bucket that a sample comes late for is computed anew from the samples of the source; Kvrocks
//! adds to the sum, minimum, maximum or count that is there. Where the source keeps its samples for
//! a time only, buckets that it may have lost some of stay as they are.

use std::collections::BTreeSet;

use super::bucket::{Aggregator, Bucket, Grid};
use super::chunk::{Duplicates, Sample};
use super::gathered::Gathered;
use super::{FAMILY, RULES, TimeSeries, chunk, chunks_until, find};
use crate::types::bounds::SubRange;
use crate::types::kind::Type;
use crate::types::object::Object;
use crate::types::{CommandError, log};
use crate::{At, Direction, Read, Txn};

/// Whether a write has the lock of this key. Those of the series that rules lead to are not known
/// before the source is read.
pub type Holds<'h> = &'h dyn Fn(&[u8]) -> bool;

/// A rule that leads to a series which knows of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lead {
    to: Vec<u8>,
    aggregator: Aggregator,
    duration: u64,
    alignment: u64,
    grid: Grid,
    /// Where the bucket begins that is not over.
    open: u64,
    gathered: Gathered,
}

/// What a write did to a source.
pub(super) struct Fed<'s> {
    /// Time of the last sample before it; `None`: there was none.
    pub(super) last_at: Option<u64>,
    /// What was the last chunk, and the chunks that follow it now.
    pub(super) parts: &'s [&'s [Sample]],
    /// Times of the samples that were added or changed.
    pub(super) stored: &'s [u64],
}

impl Lead {
    fn new(to: &[u8], aggregator: Aggregator, (duration, alignment): (u64, u64)) -> Option<Self> {
        let grid = Grid::new(duration, alignment)?;
        let gathered = Gathered::none(aggregator);
        Some(Self { to: to.to_vec(), aggregator, duration, alignment, grid, open: 0, gathered })
    }

    fn read(to: &[u8], bytes: &[u8]) -> Option<Self> {
        let (aggregator, rest) = bytes.split_first()?;
        let (duration, rest) = rest.split_first_chunk::<8>()?;
        let (alignment, rest) = rest.split_first_chunk::<8>()?;
        let (open, rest) = rest.split_first_chunk::<8>()?;
        let [duration, alignment, open] =
            [duration, alignment, open].map(|word| u64::from_be_bytes(*word));
        let lead = Self::new(to, Aggregator::of(*aggregator)?, (duration, alignment))?;
        Some(Self { open, gathered: Gathered::read(lead.aggregator, rest)?, ..lead })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.aggregator as u8];
        for word in [self.duration, self.alignment, self.open] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        self.gathered.write(&mut bytes);
        bytes
    }

    /// It has told of no bucket yet.
    fn is_fresh(&self) -> bool {
        self.open == 0 && self.gathered.is_none(self.aggregator)
    }

    /// The last moment of a bucket.
    fn end(&self, begin: u64) -> u64 {
        self.grid.next(begin).map_or(u64::MAX, |next| next.saturating_sub(1))
    }

    /// What all samples of a bucket say that the source has; `None`: it has none.
    fn whole(
        &self,
        read: &impl Read,
        source: &Object<TimeSeries>,
        begin: u64,
    ) -> Result<Option<Sample>, CommandError> {
        let mut bucket: Option<Bucket> = None;
        each_part(read, source, (begin, self.end(begin)), |samples| {
            for sample in samples {
                match &mut bucket {
                    Some(bucket) => bucket.take(*sample),
                    None => bucket = Some(Bucket::of(*sample)),
                }
            }
        })?;
        let value = bucket.map(|bucket| bucket.value(self.aggregator));
        Ok(value.map(|value| Sample { at: begin, value }))
    }

    /// Gathers anew what the chunks before a time have of the open bucket.
    fn gather(
        &mut self,
        read: &impl Read,
        source: &Object<TimeSeries>,
        before: u64,
    ) -> Result<(), CommandError> {
        let (mut gathered, aggregator) = (Gathered::none(self.aggregator), self.aggregator);
        if let Some(last) = before.checked_sub(1) {
            let span = (self.open, self.end(self.open).min(last));
            each_part(read, source, span, |samples| gathered.take(aggregator, samples))?;
        }
        self.gathered = gathered;
        Ok(())
    }

    /// Ends the open bucket: another one is open then. Nothing is said of one without samples, as
    /// far as that can be told.
    fn close(&mut self, open: u64, news: &mut Vec<Sample>) {
        let value = self.gathered.value(self.aggregator);
        let is_empty = value.is_nan() || self.aggregator == Aggregator::Count && value == 0.0;
        if !is_empty {
            news.push(Sample { at: self.open, value });
        }
        self.open = open;
        self.gathered = Gathered::none(self.aggregator);
    }

    /// Gathers samples, bucket by bucket.
    fn take(&mut self, samples: &[Sample], news: &mut Vec<Sample>) {
        let grid = self.grid;
        for part in samples.chunk_by(|one, next| grid.begin(one.at) == grid.begin(next.at)) {
            let begin = part.first().map_or(0, |first| grid.begin(first.at));
            if begin > self.open {
                self.close(begin, news);
            }
            if begin == self.open {
                self.gathered.take(self.aggregator, part);
            }
        }
    }

    /// Follows a write of the source, which was done; what the series it leads to takes.
    fn feed(
        &mut self,
        read: &impl Read,
        source: &Object<TimeSeries>,
        fed: &Fed<'_>,
    ) -> Result<Vec<Sample>, CommandError> {
        let mut news = Vec::new();
        let Some((last, over)) = fed.parts.split_last() else { return Ok(news) };
        let first = fed.parts.iter().find_map(|part| part.first());
        let (Some(first), Some(newest)) = (first, last.last()) else { return Ok(news) };
        let grid = self.grid;
        // Samples that were there before the rule are told of as far as their bucket is one of
        // those that samples come for, or begins at 0.
        if self.is_fresh() {
            if fed.last_at.is_none_or(|at| grid.begin(at) > 0) {
                let is_behind = |at: &&u64| fed.last_at.is_none_or(|last| **at >= last);
                let behind = fed.stored.iter().filter(is_behind).min().copied();
                self.open = behind.or(fed.last_at).map_or(0, |at| grid.begin(at));
            }
            self.gather(read, source, first.at)?;
        }
        let bound = first.at.max(self.open);
        let late = fed.stored.iter().filter(|at| **at < bound).map(|at| grid.begin(*at));
        let lost_before = source.lost_before(newest.at);
        for begin in late.filter(|begin| *begin >= lost_before).collect::<BTreeSet<u64>>() {
            if begin >= self.open {
                self.gather(read, source, first.at)?;
            } else {
                news.extend(self.whole(read, source, begin)?);
            }
        }
        for part in over {
            self.take(part, &mut news);
        }
        let begin = grid.begin(newest.at);
        if self.open < begin {
            let before = last.partition_point(|sample| grid.begin(sample.at) < begin);
            self.take(last.get(..before).unwrap_or_default(), &mut news);
            self.close(begin, &mut news);
        }
        Ok(news)
    }

    /// Follows a deletion in the source, which was done: deletes what was said of buckets that are
    /// empty now, and returns what is said of the others.
    fn forget(
        &mut self,
        read: &impl Read,
        source: &Object<TimeSeries>,
        (from, to): (u64, u64),
    ) -> Result<Vec<Sample>, CommandError> {
        let last = source.last_chunk(read)?;
        let newest = last.as_ref().and_then(|(_, samples)| samples.last().copied());
        self.open = newest.map_or(0, |newest| self.grid.begin(newest.at));
        let (first, end) = (self.grid.begin(from), self.grid.begin(to));
        let mut news = Vec::new();
        for begin in BTreeSet::from([first, end]).into_iter().filter(|begin| *begin < self.open) {
            news.extend(self.whole(read, source, begin)?);
        }
        if end >= self.open {
            self.gather(read, source, last.map_or(0, |(id, _)| id))?;
        }
        Ok(news)
    }
}

/// Passes the samples of a time on, chunk by chunk.
fn each_part(
    read: &impl Read,
    source: &Object<TimeSeries>,
    (from, to): (u64, u64),
    mut f: impl FnMut(&[Sample]),
) -> Result<(), CommandError> {
    if from > to {
        return Ok(());
    }
    source.walk(read, ((from, to), Direction::Forward), |sub, value| {
        let (_, samples) = chunk(sub, value)?;
        let begin = samples.partition_point(|sample| sample.at < from);
        let end = samples.partition_point(|sample| sample.at <= to);
        f(samples.get(begin..end).unwrap_or_default());
        Ok(true)
    })
}

/// The rules of a series that lead to series which know of it.
///
/// # Errors
/// [`CommandError::LeadsTo`] if one of them is not held.
pub(super) fn of(
    read: &impl Read,
    at: &At<'_>,
    source: &Object<TimeSeries>,
    holds: Holds<'_>,
) -> Result<Vec<Lead>, CommandError> {
    let mut named = Vec::new();
    let mut rules =
        source.elements(read, FAMILY, &SubRange::starting_with(RULES), Direction::Forward)?;
    while let Some((sub, value)) = rules.next()? {
        let to = sub.strip_prefix(RULES).unwrap_or_default();
        let lead = Lead::read(to, value);
        named.push(lead.ok_or_else(|| CommandError::corrupt("a rule of a time series is none"))?);
    }
    let mut leads = Vec::new();
    for lead in named {
        if is_source_of(read, at, &lead.to)? {
            leads.push(lead);
        }
    }
    let missing = leads.iter().filter(|lead| !holds(&lead.to)).count();
    if missing > 0 {
        return Err(CommandError::LeadsTo(leads.into_iter().map(|lead| lead.to).collect()));
    }
    Ok(leads)
}

/// Whether a key holds a series that names this one as its source.
fn is_source_of(read: &impl Read, at: &At<'_>, to: &[u8]) -> Result<bool, CommandError> {
    match find(read, &at.scope.at(to)) {
        Ok(Some(series)) => Ok(series.tail.source == at.key),
        Ok(None) | Err(CommandError::WrongType) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The series that one names as its source, if that has a rule which leads to it.
pub(super) fn source_of(
    read: &impl Read,
    at: &At<'_>,
    named: &[u8],
) -> Result<Option<Vec<u8>>, CommandError> {
    if named.is_empty() {
        return Ok(None);
    }
    let rule = match find(read, &at.scope.at(named)) {
        Ok(Some(source)) => source.element(read, FAMILY, &[RULES, at.key].concat())?,
        Ok(None) | Err(CommandError::WrongType) => None,
        Err(error) => return Err(error),
    };
    Ok(rule.map(|_| named.to_vec()))
}

/// Writes a rule, if it is another one than before.
fn put(txn: &mut Txn<'_>, source: &Object<TimeSeries>, lead: &Lead, before: &[u8]) {
    let bytes = lead.bytes();
    if bytes != before {
        txn.log(&log::words(Type::TimeSeries, &[b"upsertDownStream"]));
        source.put(txn, FAMILY, &[RULES, &lead.to], &[&bytes]);
    }
}

/// Follows a write of a source: its rules, and the series they lead to.
pub(super) fn feed(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    source: &Object<TimeSeries>,
    (leads, fed): (&mut [Lead], &Fed<'_>),
) -> Result<(), CommandError> {
    for lead in leads {
        let before = lead.bytes();
        let news = lead.feed(txn, source, fed)?;
        put(txn, source, lead, &before);
        let to = at.scope.at(&lead.to);
        if let Some(series) = find(txn, &to)?.filter(|_| !news.is_empty()) {
            series.add(txn, (&to, news.as_slice()), Duplicates::Last, &mut [])?;
        }
    }
    Ok(())
}

/// Whether a source may lose the samples of a time: not where buckets of its rules would be
/// computed anew of which it has lost samples already.
pub(super) fn may_delete(
    read: &impl Read,
    source: &Object<TimeSeries>,
    (leads, (from, to)): (&[Lead], (u64, u64)),
) -> Result<(), CommandError> {
    let newest = source.last_chunk(read)?.and_then(|(_, samples)| samples.last().copied());
    let Some(newest) = newest.filter(|_| !leads.is_empty()) else { return Ok(()) };
    // Where the newest samples go, the bucket of the last one before them is open again.
    let before = match (from..=to).contains(&newest.at) {
        true => last_before(read, source, from)?,
        false => None,
    };
    let (first, lost_before) = (before.unwrap_or(from), source.lost_before(newest.at));
    if leads.iter().any(|lead| lead.grid.begin(first) < lost_before) {
        return Err(CommandError::BeyondRetention);
    }
    Ok(())
}

/// The time of the last sample before one.
fn last_before(
    read: &impl Read,
    source: &Object<TimeSeries>,
    at: u64,
) -> Result<Option<u64>, CommandError> {
    let Some(until) = at.checked_sub(1) else { return Ok(None) };
    let found = source.chunk_in(read, &chunks_until(until), Direction::Reverse)?;
    let last = found.and_then(|(_, samples)| {
        samples.into_iter().rfind(|sample| sample.at <= until).map(|sample| sample.at)
    });
    Ok(last)
}

/// Follows a deletion in a source.
pub(super) fn forget(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    source: &Object<TimeSeries>,
    (leads, span): (&mut [Lead], (u64, u64)),
) -> Result<(), CommandError> {
    for lead in leads.iter_mut().filter(|lead| !lead.is_fresh()) {
        let (before, open) = (lead.bytes(), lead.open);
        let news = lead.forget(txn, source, span)?;
        put(txn, source, lead, &before);
        let to = at.scope.at(&lead.to);
        let Some(mut series) = find(txn, &to)? else { continue };
        let (first, end) = (lead.grid.begin(span.0), lead.grid.begin(span.1));
        series.take_out(txn, (first, end))?;
        if lead.open < open {
            series.take_out(txn, (lead.open, u64::MAX))?;
        }
        series.add(txn, (&to, news.as_slice()), Duplicates::Last, &mut [])?;
    }
    Ok(())
}

/// Why no rule is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRule {
    /// One of the series is not there.
    Missing,
    /// They are one series.
    Same,
    /// A rule leads to the source.
    SourceHasSource,
    /// A rule leads to the other one already.
    TargetHasSource,
    /// Rules lead from the other one.
    TargetHasRules,
}

/// What a rule says of each bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Says {
    /// What.
    pub aggregator: Aggregator,
    /// How long a bucket is, above 0.
    pub duration: u64,
    /// Where one begins.
    pub alignment: u64,
}

/// TS.CREATERULE.
///
/// # Errors
/// Wrong type.
pub fn create_rule(
    txn: &mut Txn<'_>,
    (from, to): (&At<'_>, &At<'_>),
    says: Says,
) -> Result<Result<(), NoRule>, CommandError> {
    if from.key == to.key {
        return Ok(Err(NoRule::Same));
    }
    let (Some(source), Some(mut target)) = (find(txn, from)?, find(txn, to)?) else {
        return Ok(Err(NoRule::Missing));
    };
    if source_of(txn, from, &source.tail.source)?.is_some() {
        return Ok(Err(NoRule::SourceHasSource));
    }
    if source_of(txn, to, &target.tail.source)?.is_some() {
        return Ok(Err(NoRule::TargetHasSource));
    }
    if !of(txn, to, &target, &|_: &[u8]| true)?.is_empty() {
        return Ok(Err(NoRule::TargetHasRules));
    }
    let span = (says.duration, says.alignment);
    let lead = Lead::new(to.key, says.aggregator, span);
    let lead = lead.ok_or_else(|| CommandError::corrupt("a bucket is not long"))?;
    txn.log(Type::TimeSeries.log_data());
    txn.log(&log::words(Type::TimeSeries, &[b"createDownStreamMetadata"]));
    source.put(txn, FAMILY, &[RULES, to.key], &[&lead.bytes()]);
    target.tail.source = from.key.to_vec();
    target.write(txn);
    Ok(Ok(()))
}

/// TS.DELETERULE. `Some(false)` if there is no such rule; `None` if one of the series is missing.
///
/// # Errors
/// Wrong type.
pub fn delete_rule(
    txn: &mut Txn<'_>,
    (from, to): (&At<'_>, &At<'_>),
) -> Result<Option<bool>, CommandError> {
    let (Some(source), Some(mut target)) = (find(txn, from)?, find(txn, to)?) else {
        return Ok(None);
    };
    let named = source_of(txn, to, &target.tail.source)?;
    if named.as_deref() != Some(from.key) {
        return Ok(Some(false));
    }
    txn.log(Type::TimeSeries.log_data());
    source.remove(txn, FAMILY, &[RULES, to.key]);
    target.tail.source.clear();
    target.write(txn);
    Ok(Some(true))
}

#[cfg(test)]
mod tests;
