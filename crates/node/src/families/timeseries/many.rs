//! What finds time series by their labels: TS.MGET, TS.MRANGE, TS.MREVRANGE, TS.QUERYINDEX.
//!
//! Replies are Kvrocks', arrays in both protocols: a series is its key, the labels that were asked
//! for, and its samples. In a cluster a node has a part of the series, and knows no way from a
//! label to them: there these commands are refused, as by Kvrocks.

use std::collections::{BTreeMap, BTreeSet};

use resp::Writer;
use storage::types::timeseries::{
    self, Aggregator, Filter, Joined, Named, NoFilter, OwnLabel, Sample,
};

use super::range::{self, Meant, write_all};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::ReadCx;

/// Words that end a list of labels or conditions.
type Keywords<'k> = &'k [&'k [u8]];

/// Those of options of all these commands.
const WORDS: [&[u8]; 3] = [b"FILTER", b"SELECTED_LABELS", b"WITHLABELS"];

fn outside_clusters(cx: &ReadCx<'_>) -> Result<()> {
    if cx.scope.cluster {
        return Err(Error::err("time series are not found by labels in cluster mode"));
    }
    Ok(())
}

/// In Kvrocks' words.
fn no_filter(why: NoFilter) -> Error {
    Error::err(match why {
        NoFilter::NoOperator => "failed parsing labels",
        NoFilter::NoMatcher => "please provide at least one matcher",
    })
}

/// Passes on what stands before the next keyword.
fn until<'a>(
    args: &mut Args<'a>,
    keywords: Keywords<'_>,
    mut f: impl FnMut(&'a [u8]) -> Result<()>,
) -> Result<()> {
    while let Some(word) = args.clone().word() {
        if keywords.contains(&&*word) {
            break;
        }
        f(args.bytes()?)?;
    }
    Ok(())
}

/// Which series are meant, and which of their labels are shown.
#[derive(Debug, Default)]
struct Chosen<'a> {
    /// `None` before the word FILTER.
    filter: Option<Filter>,
    shows_all: bool,
    shown: BTreeSet<&'a [u8]>,
}

impl<'a> Chosen<'a> {
    /// Takes a word that is one of these options; others are passed over, as by Kvrocks.
    fn take(&mut self, word: &[u8], args: &mut Args<'a>, keywords: Keywords<'_>) -> Result<()> {
        match word {
            b"WITHLABELS" => self.shows_all = true,
            b"SELECTED_LABELS" => until(args, keywords, |label| {
                self.shown.insert(label);
                Ok(())
            })?,
            b"FILTER" => {
                let filter = self.filter.get_or_insert_default();
                until(args, keywords, |condition| filter.add(condition).map_err(no_filter))?;
                filter.check().map_err(no_filter)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Series that are not chosen by anything are not all of them.
    fn filter(&self, command: &str) -> Result<&Filter> {
        self.filter.as_ref().ok_or_else(|| Error::Arity(command.to_owned()))
    }

    /// A series with those of its labels that are shown. One that was asked for and is not there is
    /// empty.
    fn entry(&self, series: Named, samples: Vec<Sample>) -> Result<Entry> {
        let labels = match self.shows_all {
            true => series.labels,
            false => series.select(&self.shown)?,
        };
        Ok(Entry { name: series.key, labels, samples })
    }
}

/// Labels as Kvrocks shows them: an empty value is none.
pub(super) fn write_labels(writer: &mut Writer<'_>, labels: &[OwnLabel]) {
    writer.array(labels.len());
    for (label, value) in labels {
        writer.array(2);
        writer.bulk(label);
        writer.bulk_or_null(Some(value.as_slice()).filter(|value| !value.is_empty()));
    }
}

/// One series of a reply, or several that are shown as one.
struct Entry {
    name: Vec<u8>,
    labels: Vec<OwnLabel>,
    samples: Vec<Sample>,
}

fn write(reply: Reply<'_>, entries: &[Entry]) -> Replied {
    reply.with(|writer| {
        writer.array(entries.len());
        for entry in entries {
            writer.array(3);
            writer.bulk(&entry.name);
            write_labels(writer, &entry.labels);
            write_all(writer, &entry.samples);
        }
    })
}

pub(super) fn mget(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    outside_clusters(cx)?;
    let keywords = [&WORDS[..], &[b"LATEST"]].concat();
    let mut chosen = Chosen::default();
    while let Some(word) = args.word() {
        chosen.take(&word, args, &keywords)?;
    }
    let read = cx.txn.snapshot();
    let mut entries = Vec::new();
    for series in timeseries::named(&read, cx.scope, chosen.filter("ts.mget")?)? {
        let last = timeseries::last(&read, &cx.scope.at(&series.key))?.flatten();
        entries.push(chosen.entry(series, last.as_slice().to_vec())?);
    }
    Ok(write(reply, &entries))
}

/// How series are put together: those of which a label has the same value become one.
struct Group<'a> {
    label: &'a [u8],
    reducer: Aggregator,
    /// The word of the reducer.
    word: &'static str,
}

impl<'a> Group<'a> {
    /// What stands behind GROUPBY.
    fn parse(args: &mut Args<'a>, command: &str) -> Result<Self> {
        let incomplete = || Error::Arity(command.to_owned());
        let label = args.bytes().map_err(|_| incomplete())?;
        if args.word().as_deref() != Some(b"REDUCE".as_slice()) {
            return Err(incomplete());
        }
        let name = args.bytes().map_err(|_| incomplete())?;
        let is_it = |(reducer, word): &&(Aggregator, &str)| {
            let has_order = matches!(reducer, Aggregator::First | Aggregator::Last);
            !has_order && name.eq_ignore_ascii_case(word.as_bytes())
        };
        let found = Aggregator::ALL.iter().find(is_it);
        let (reducer, word) = *found.ok_or_else(|| Error::err("Invalid reducer type"))?;
        Ok(Self { label, reducer, word })
    }

    /// An entry of each value of the label, in their order.
    fn entries(
        &self,
        chosen: &Chosen<'_>,
        named: Vec<Named>,
        is_reverse: bool,
        samples: impl Fn(&Named) -> Result<Vec<Sample>>,
    ) -> Result<Vec<Entry>> {
        let mut groups: BTreeMap<Vec<u8>, (Vec<Vec<u8>>, Joined)> = BTreeMap::new();
        for series in named {
            let Some(value) = series.value(self.label) else { continue };
            let (sources, joined) = groups.entry(value.to_vec()).or_default();
            joined.take(&samples(&series)?)?;
            sources.push(series.key);
        }
        let entry =
            |(value, (sources, joined)): (Vec<u8>, (Vec<Vec<u8>>, Joined))| -> Result<Entry> {
                let key = [self.label, b"=", &value].concat();
                let series = Named { key, labels: vec![(self.label.to_vec(), value)] };
                let mut entry = chosen.entry(series, joined.samples(self.reducer, is_reverse))?;
                if chosen.shows_all {
                    entry.labels.push((b"__reducer__".to_vec(), self.word.into()));
                    entry.labels.push((b"__source__".to_vec(), sources.join(b",".as_slice())));
                }
                Ok(entry)
            };
        groups.into_iter().map(entry).collect()
    }
}

fn ranged(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    (command, is_reverse): (&str, bool),
    reply: Reply<'_>,
) -> Result<Replied> {
    outside_clusters(cx)?;
    let keywords = [&WORDS[..], &range::WORDS, &[b"GROUPBY"]].concat();
    let mut meant = Meant::begin(args, is_reverse)?;
    let (mut chosen, mut group) = (Chosen::default(), None);
    while let Some(word) = args.word() {
        if *word == *b"GROUPBY" {
            group = Some(Group::parse(args, command)?);
        } else if !meant.take(&word, args)? {
            chosen.take(&word, args, &keywords)?;
        }
    }
    let query = meant.query()?;
    let read = cx.txn.snapshot();
    let named = timeseries::named(&read, cx.scope, chosen.filter(command)?)?;
    let samples = |series: &Named| -> Result<Vec<Sample>> {
        let found = timeseries::range(&read, &cx.scope.at(&series.key), &query)?;
        Ok(found.unwrap_or_default())
    };
    let entries = match group {
        Some(group) => group.entries(&chosen, named, is_reverse, samples)?,
        None => {
            let entry = |series: Named| -> Result<Entry> {
                let samples = samples(&series)?;
                chosen.entry(series, samples)
            };
            named.into_iter().map(entry).collect::<Result<_>>()?
        }
    };
    Ok(write(reply, &entries))
}

pub(super) fn mrange(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    ranged(cx, args, ("ts.mrange", false), reply)
}

pub(super) fn mrevrange(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    ranged(cx, args, ("ts.mrevrange", true), reply)
}

pub(super) fn queryindex(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    outside_clusters(cx)?;
    let mut filter = Filter::default();
    for condition in args.rest() {
        filter.add(condition).map_err(no_filter)?;
    }
    filter.check().map_err(no_filter)?;
    let named = timeseries::named(&cx.txn.snapshot(), cx.scope, &filter)?;
    Ok(reply.with(|writer| {
        writer.array(named.len());
        named.iter().for_each(|series| writer.bulk(&series.key));
    }))
}
