//! What is read of a series: its samples, and what TS.INFO tells.

use super::{FAMILY, Facts, LABELS, RULES, Sample, chunk, find, rules};
use crate::types::CommandError;
use crate::types::bounds::SubRange;
use crate::{At, Direction, Snapshot, budget};

/// TS.GET: the last sample, if there is one; `None` if there is no series.
///
/// # Errors
/// Wrong type.
pub fn last(read: &Snapshot<'_>, at: &At<'_>) -> Result<Option<Option<Sample>>, CommandError> {
    let Some(object) = find(read, at)? else { return Ok(None) };
    let chunk = object.last_chunk(read)?;
    Ok(Some(chunk.and_then(|(_, samples)| samples.last().copied())))
}

/// Passes the samples of a time on, those that are kept, until `f` says false. False if there is no
/// series.
///
/// # Errors
/// Wrong type.
pub fn for_each(
    read: &Snapshot<'_>,
    at: &At<'_>,
    span: (u64, u64),
    f: impl FnMut(Sample) -> Result<bool, CommandError>,
) -> Result<bool, CommandError> {
    each(read, at, (span, Direction::Forward), f)
}

/// The same from the last one to the first one, where that is asked for.
pub(super) fn each(
    read: &Snapshot<'_>,
    at: &At<'_>,
    ((from, to), direction): ((u64, u64), Direction),
    mut f: impl FnMut(Sample) -> Result<bool, CommandError>,
) -> Result<bool, CommandError> {
    let Some(object) = find(read, at)? else { return Ok(false) };
    let Some((_, last)) = object.last_chunk(read)? else { return Ok(true) };
    let kept_from = object.kept_from(last.last().map_or(0, |sample| sample.at));
    let from = from.max(kept_from);
    if from > to {
        return Ok(true);
    }
    object.walk(read, ((from, to), direction), |sub, value| {
        let (_, samples) = chunk(sub, value)?;
        let begin = samples.partition_point(|sample| sample.at < from);
        let end = samples.partition_point(|sample| sample.at <= to);
        let inside = samples.get(begin..end).unwrap_or_default();
        match direction {
            Direction::Forward => all(inside.iter(), &mut f),
            Direction::Reverse => all(inside.iter().rev(), &mut f),
        }
    })?;
    Ok(true)
}

/// Whether `f` wants more behind all of these.
fn all<'s>(
    mut samples: impl Iterator<Item = &'s Sample>,
    f: &mut impl FnMut(Sample) -> Result<bool, CommandError>,
) -> Result<bool, CommandError> {
    let end = samples.find_map(|sample| match f(*sample) {
        Ok(true) => None,
        end => Some(end),
    });
    end.unwrap_or(Ok(true))
}

/// A rule: samples of the buckets of one series become samples of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where it leads.
    pub to: Vec<u8>,
    /// The id of an [`Aggregator`].
    pub aggregator: u8,
    /// How long a bucket is.
    pub duration: u64,
    /// Where one begins.
    pub alignment: u64,
}

impl Rule {
    fn read(to: &[u8], bytes: &[u8]) -> Option<Self> {
        let (aggregator, rest) = bytes.split_first()?;
        let (duration, rest) = rest.split_first_chunk::<8>()?;
        let (alignment, _) = rest.split_first_chunk::<8>()?;
        let [duration, alignment] = [duration, alignment].map(|word| u64::from_be_bytes(*word));
        Some(Self { to: to.to_vec(), aggregator: *aggregator, duration, alignment })
    }
}

/// What TS.INFO tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// How it is kept.
    pub facts: Facts,
    /// The series of which a rule leads here.
    pub source: Option<Vec<u8>>,
    /// How many chunks there are.
    pub chunks: u64,
    /// Times of the first and the last sample; 0 if there is none.
    pub ends: (u64, u64),
    /// Labels and their values.
    pub labels: Vec<(Vec<u8>, Vec<u8>)>,
    /// Rules that lead from here.
    pub rules: Vec<Rule>,
}

/// TS.INFO; `None` if there is no series.
///
/// # Errors
/// Wrong type.
pub fn about(read: &Snapshot<'_>, at: &At<'_>) -> Result<Option<About>, CommandError> {
    let Some(object) = find(read, at)? else { return Ok(None) };
    let last = last(read, at)?.flatten().map_or(0, |last| last.at);
    let mut first = 0;
    for_each(read, at, (0, u64::MAX), |sample| {
        first = sample.at;
        Ok(false)
    })?;
    let (mut labels, mut rules) = (Vec::new(), Vec::new());
    let range = SubRange::from(LABELS);
    let mut elements = object.elements(read, FAMILY, &range, Direction::Forward)?;
    while let Some((sub, value)) = elements.next()? {
        match (sub.strip_prefix(LABELS), sub.strip_prefix(RULES)) {
            (Some(label), _) => labels.push((label.to_vec(), value.to_vec())),
            (_, Some(to)) => rules.extend(Rule::read(to, value)),
            _ => {}
        }
        budget::gather(sub.len() + value.len())?;
    }
    let source = rules::source_of(read, at, &object.tail.source)?;
    let ends = (first, last);
    Ok(Some(About { chunks: object.size, facts: object.tail, source, ends, labels, rules }))
}
