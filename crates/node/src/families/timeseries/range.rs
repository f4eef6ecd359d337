//! What reads the samples of a time series: as they are, or what those of each bucket say together.

use std::collections::BTreeSet;

use resp::Writer;
use storage::types::timeseries::{self, Aggregator, Buckets, Grid, Query, Sample, Stamp};

use super::{number, shown};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::ReadCx;

/// From one time to another, both included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) to: u64,
    /// Whether they were given as numbers.
    is_from_given: bool,
    is_to_given: bool,
}

impl Span {
    pub(super) fn parse(args: &mut Args<'_>) -> Result<Self> {
        let mut bound = |open: &[u8], refusal| match args.clone().bytes()? {
            word if word == open => args.bytes().map(|_| None),
            _ => number(args, refusal).map(Some),
        };
        let from = bound(b"-", "ERR wrong fromTimestamp")?;
        let to = bound(b"+", "ERR wrong toTimestamp")?;
        Ok(Self {
            from: from.unwrap_or(0),
            to: to.unwrap_or(u64::MAX),
            is_from_given: from.is_some(),
            is_to_given: to.is_some(),
        })
    }
}

/// What is known of buckets while the words are read.
#[derive(Debug, Default)]
struct Wanted {
    aggregator: Option<(Aggregator, u64)>,
    alignment: Option<u64>,
    stamp: Stamp,
    shows_empty: bool,
}

impl Wanted {
    fn buckets(self) -> Result<Option<Buckets>> {
        let Some((aggregator, duration)) = self.aggregator else {
            if self.alignment.is_some() {
                return refused("ALIGN parameter can only be used with AGGREGATION");
            }
            return Ok(None);
        };
        let Some(grid) = Grid::new(duration, self.alignment.unwrap_or(0)) else {
            return refused("bucketDuration must be greater than zero");
        };
        let Self { stamp, shows_empty, .. } = self;
        Ok(Some(Buckets { aggregator, grid, stamp, shows_empty }))
    }
}

fn refused<T>(text: &str) -> Result<T> {
    Err(Error::err(text))
}

pub(super) fn aggregator(args: &mut Args<'_>) -> Result<(Aggregator, u64)> {
    let word = args.bytes().unwrap_or_default();
    let known = Aggregator::ALL.iter().find(|(_, name)| word.eq_ignore_ascii_case(name.as_bytes()));
    let Some((aggregator, _)) = known else { return refused("Invalid aggregator type") };
    match number(args, "ERR Couldn't parse AGGREGATION")? {
        0 => refused("bucketDuration must be greater than zero"),
        duration => Ok((*aggregator, duration)),
    }
}

fn alignment(args: &mut Args<'_>, span: &Span) -> Result<u64> {
    match args.clone().word().as_deref() {
        Some(b"-" | b"START") if span.is_from_given => args.bytes().map(|_| span.from),
        Some(b"+" | b"END") if span.is_to_given => args.bytes().map(|_| span.to),
        Some(b"-" | b"START") => {
            refused("start alignment can only be used with explicit start timestamp")
        }
        Some(b"+" | b"END") => {
            refused("end alignment can only be used with explicit end timestamp")
        }
        _ => number(args, "ERR unknown ALIGN parameter"),
    }
}

fn count(args: &mut Args<'_>) -> Result<usize> {
    match number(args, "ERR Couldn't parse COUNT")? {
        0 => refused("Invalid COUNT value"),
        count => Ok(usize::try_from(count).unwrap_or(usize::MAX)),
    }
}

/// The numbers that come next.
fn times(args: &mut Args<'_>) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    loop {
        let mut ahead = args.clone();
        let Ok(time) = ahead.number() else { return found };
        found.insert(time);
        *args = ahead;
    }
}

/// The words of the options that say which samples are meant.
pub(super) const WORDS: [&[u8]; 8] = [
    b"AGGREGATION",
    b"ALIGN",
    b"BUCKETTIMESTAMP",
    b"COUNT",
    b"EMPTY",
    b"FILTER_BY_TS",
    b"FILTER_BY_VALUE",
    b"LATEST",
];

/// Which samples are meant, as far as the words were read.
#[derive(Debug)]
pub(super) struct Meant {
    span: Span,
    query: Query,
    wanted: Wanted,
}

impl Meant {
    /// From the span on, with which the words begin.
    pub(super) fn begin(args: &mut Args<'_>, is_reverse: bool) -> Result<Self> {
        let span = Span::parse(args)?;
        let query = Query {
            span: (span.from, span.to),
            times: None,
            values: None,
            count: usize::MAX,
            buckets: None,
            is_reverse,
        };
        Ok(Self { span, query, wanted: Wanted::default() })
    }

    /// Whether a word is one of these options.
    pub(super) fn take(&mut self, word: &[u8], args: &mut Args<'_>) -> Result<bool> {
        let Self { span, query, wanted } = self;
        match word {
            b"FILTER_BY_TS" => {
                // Without a number it filters nothing.
                query.times = Some(times(args)).filter(|times| !times.is_empty());
            }
            b"FILTER_BY_VALUE" => {
                let (Ok(min), Ok(max)) = (args.float(), args.float()) else {
                    return refused("Invalid min or max value");
                };
                query.values = Some((min, max));
            }
            b"COUNT" => query.count = count(args)?,
            b"ALIGN" => wanted.alignment = Some(alignment(args, span)?),
            b"AGGREGATION" => wanted.aggregator = Some(aggregator(args)?),
            b"BUCKETTIMESTAMP" if wanted.aggregator.is_none() => {
                return refused(
                    "BUCKETTIMESTAMP flag should be the 3rd or 4th flag after AGGREGATION flag",
                );
            }
            b"BUCKETTIMESTAMP" => {
                wanted.stamp = match args.word().as_deref() {
                    Some(b"START" | b"-") => Stamp::Start,
                    Some(b"END" | b"+") => Stamp::End,
                    Some(b"MID" | b"~") => Stamp::Mid,
                    _ => return refused("unknown BUCKETTIMESTAMP parameter"),
                };
            }
            b"EMPTY" if wanted.aggregator.is_none() => {
                return refused("EMPTY flag should be the 3rd or 5th flag after AGGREGATION flag");
            }
            b"EMPTY" => wanted.shows_empty = true,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What all words said.
    pub(super) fn query(self) -> Result<Query> {
        Ok(Query { buckets: self.wanted.buckets()?, ..self.query })
    }
}

/// Words that are not known are passed over, as by Kvrocks.
fn parse(args: &mut Args<'_>, is_reverse: bool) -> Result<Query> {
    let mut meant = Meant::begin(args, is_reverse)?;
    while let Some(word) = args.word() {
        meant.take(&word, args)?;
    }
    meant.query()
}

/// Samples as a reply shows them.
pub(super) fn write_all(writer: &mut Writer<'_>, samples: &[Sample]) {
    writer.array(samples.len());
    samples.iter().for_each(|sample| write(writer, sample));
}

fn write(writer: &mut Writer<'_>, sample: &Sample) {
    writer.array(2);
    writer.integer(shown(sample.at));
    writer.float(sample.value);
}

fn ranged(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    is_reverse: bool,
    reply: Reply<'_>,
) -> Result<Replied> {
    let key = args.bytes()?;
    let query = parse(args, is_reverse)?;
    let samples = timeseries::range(&cx.txn.snapshot(), &cx.scope.at(key), &query)?;
    cx.count(samples.is_some());
    let samples = samples.ok_or_else(no_key)?;
    Ok(reply.with(|writer| write_all(writer, &samples)))
}

fn no_key() -> Error {
    Error::text("ERR key does not exist")
}

pub(super) fn range(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    ranged(cx, args, false, reply)
}

pub(super) fn revrange(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    ranged(cx, args, true, reply)
}

pub(super) fn get(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let last = timeseries::last(&cx.txn.snapshot(), &cx.scope.at(args.bytes()?))?;
    cx.count(last.is_some());
    let last = last.ok_or_else(no_key)?;
    Ok(reply.with(|writer| write_all(writer, last.as_slice())))
}
