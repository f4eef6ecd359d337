//! Samples of a time, as they are, or what those of each bucket say together.

use std::collections::{BTreeSet, VecDeque};

use super::bucket::{Aggregator, Bucket, Grid};
use super::read::each;
use super::{Sample, for_each};
use crate::types::CommandError;
use crate::{At, Direction, Snapshot, budget};

/// Which time stands for a bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stamp {
    /// Where it begins.
    #[default]
    Start,
    /// Its middle.
    Mid,
    /// Where it ends.
    End,
}

/// Samples are put into buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    /// What is said of each.
    pub aggregator: Aggregator,
    /// Where they begin.
    pub grid: Grid,
    /// Which time stands for one.
    pub stamp: Stamp,
    /// Those without samples are listed too.
    pub shows_empty: bool,
}

impl Buckets {
    fn sample(&self, begin: u64, value: f64) -> Sample {
        let behind = match self.stamp {
            Stamp::Start => 0,
            Stamp::Mid => self.grid.duration() / 2,
            Stamp::End => self.grid.duration(),
        };
        Sample { at: begin.saturating_add(behind), value }
    }

    /// What a bucket without samples says behind this one.
    fn nothing(&self, before: &Bucket) -> f64 {
        match self.aggregator {
            Aggregator::Sum | Aggregator::Count => 0.0,
            Aggregator::Last => before.value(Aggregator::Last),
            _ => f64::NAN,
        }
    }
}

/// Which samples are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// From one time to another, both included.
    pub span: (u64, u64),
    /// At these times only.
    pub times: Option<BTreeSet<u64>>,
    /// From one value to another, both included.
    pub values: Option<(f64, f64)>,
    /// No more than so many.
    pub count: usize,
    /// They are put into buckets.
    pub buckets: Option<Buckets>,
    /// The last ones first.
    pub is_reverse: bool,
}

impl Query {
    fn admits(&self, sample: &Sample) -> bool {
        let is_time = self.times.as_ref().is_none_or(|times| times.contains(&sample.at));
        is_time && self.values.is_none_or(|(min, max)| min <= sample.value && sample.value <= max)
    }
}

/// Empty buckets of one reply: a short span between far samples is no reason to fill the memory.
const EMPTY_MAX: usize = 1 << 20;

/// What is found on the way through a series: the first samples, or the last ones.
struct Found<'q> {
    query: &'q Query,
    samples: VecDeque<Sample>,
    /// The bucket that samples are put into.
    open: Option<(u64, Bucket)>,
    empty: usize,
}

impl Found<'_> {
    /// Whether more are wanted.
    fn push(&mut self, sample: Sample) -> Result<bool, CommandError> {
        let count = self.query.count;
        // Each is written into the reply, too.
        budget::step(1)?;
        if !self.query.is_reverse && self.samples.len() >= count {
            return Ok(false);
        }
        self.samples.push_back(sample);
        if self.samples.len() > count {
            self.samples.pop_front();
        } else {
            budget::gather(size_of::<Sample>())?;
        }
        Ok(self.query.is_reverse || self.samples.len() < count)
    }

    /// The next sample of the series; whether more are wanted.
    fn take(&mut self, sample: Sample) -> Result<bool, CommandError> {
        if !self.query.admits(&sample) {
            return Ok(true);
        }
        let Some(buckets) = self.query.buckets else { return self.push(sample) };
        let begin = buckets.grid.begin(sample.at);
        let goes_on = match &mut self.open {
            Some((open, bucket)) if *open == begin => {
                bucket.take(sample);
                return Ok(true);
            }
            Some((open, bucket)) => {
                let (open, bucket) = (*open, *bucket);
                self.close(&buckets, (open, &bucket), begin)?
            }
            None => true,
        };
        self.open = Some((begin, Bucket::of(sample)));
        Ok(goes_on)
    }

    /// A bucket is done, and so are the empty ones before the next one.
    fn close(
        &mut self,
        buckets: &Buckets,
        (open, bucket): (u64, &Bucket),
        next: u64,
    ) -> Result<bool, CommandError> {
        let mut goes_on = self.push(buckets.sample(open, bucket.value(buckets.aggregator)))?;
        let mut empty = buckets.grid.next(open).filter(|_| buckets.shows_empty);
        while let Some(begin) = empty.filter(|begin| *begin < next && goes_on) {
            self.empty += 1;
            if self.empty > EMPTY_MAX {
                return Err(CommandError::TooManyBuckets);
            }
            goes_on = self.push(buckets.sample(begin, buckets.nothing(bucket)))?;
            empty = buckets.grid.next(begin);
        }
        Ok(goes_on)
    }
}

/// Where the last samples begin, or buckets, of which no more than so many are wanted: what lies
/// before that need not be read. Without such a limit, where the span does.
fn begin(read: &Snapshot<'_>, at: &At<'_>, query: &Query) -> Result<u64, CommandError> {
    let (first, _) = query.span;
    if query.count == usize::MAX {
        return Ok(first);
    }
    let (mut begin, mut seen, mut open) = (None, 0, None);
    each(read, at, (query.span, Direction::Reverse), |sample| {
        budget::step(1)?;
        if !query.admits(&sample) {
            return Ok(true);
        }
        let bucket = query.buckets.map(|buckets| buckets.grid.begin(sample.at));
        if bucket.is_none() || bucket != open {
            if seen == query.count.max(1) {
                return Ok(false);
            }
            (seen, open) = (seen + 1, bucket);
        }
        begin = Some(sample.at);
        Ok(true)
    })?;
    Ok(begin.map_or(first, |begin| begin.max(first)))
}

/// TS.RANGE and TS.REVRANGE; `None` if there is no series.
///
/// # Errors
/// Wrong type; [`CommandError::TooManyBuckets`].
pub fn range(
    read: &Snapshot<'_>,
    at: &At<'_>,
    query: &Query,
) -> Result<Option<Vec<Sample>>, CommandError> {
    let mut found = Found { query, samples: VecDeque::new(), open: None, empty: 0 };
    let from = if query.is_reverse { begin(read, at, query)? } else { query.span.0 };
    if !for_each(read, at, (from, query.span.1), |sample| found.take(sample))? {
        return Ok(None);
    }
    if let Some(((open, bucket), buckets)) = found.open.zip(query.buckets) {
        found.push(buckets.sample(open, bucket.value(buckets.aggregator)))?;
    }
    let mut samples = Vec::from(found.samples);
    if query.is_reverse {
        samples.reverse();
    }
    Ok(Some(samples))
}
