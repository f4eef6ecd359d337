//! Time series. Redis 7 has none: replies and errors are Kvrocks', values in the form that the
//! protocol of the connection has for doubles.
//!
//! As in Kvrocks, series have labels outside of cluster mode only: the way from a label to its
//! series has no slot. This file has the table and what concerns a series; [`range`] has what reads
//! its samples, [`many`] what finds series by their labels, [`rules`] what makes one series of
//! another.

mod many;
mod range;
mod rules;

use std::collections::BTreeMap;

use storage::types::CommandError;
use storage::types::timeseries::{
    self, About, Added, Adding, Aggregator, Changes, Duplicates, Label, Sample,
};
use storage::{At, Scope};

use crate::command::keys::{KEY, KEYS2, Keys, NONE};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{Command, ReadCx, WriteCx};

/// Keys, times and values in turn.
const TRIPLES: Keys = Keys::Range { first: 1, last: -3, step: 3 };

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::write("ts.create",   -2, KEY, create),
    Command::write("ts.alter",    -2, KEY, alter),
    Command::write("ts.add",      -4, KEY, add).leads(),
    Command::write("ts.madd",     -4, TRIPLES, madd).leads(),
    Command::write("ts.incrby",   -3, KEY, incrby).leads(),
    Command::write("ts.decrby",   -3, KEY, decrby).leads(),
    Command::write("ts.del",       4, KEY, del).removes().leads(),
    Command::write("ts.createrule", -6, KEYS2, rules::create),
    Command::write("ts.deleterule", 3, KEYS2, rules::delete).removes(),
    Command::read ("ts.info",     -2, KEY, info),
    Command::read ("ts.get",      -2, KEY, range::get),
    Command::read ("ts.range",    -4, KEY, range::range),
    Command::read ("ts.revrange", -4, KEY, range::revrange),
    Command::read ("ts.mget",     -3, NONE, many::mget).keyspace(),
    Command::read ("ts.mrange",   -5, NONE, many::mrange).keyspace(),
    Command::read ("ts.mrevrange", -5, NONE, many::mrevrange).keyspace(),
    Command::read ("ts.queryindex", -2, NONE, many::queryindex).keyspace(),
];

fn no_series() -> Error {
    Error::text("ERR the key is not a TSDB key")
}

/// A number in plain digits; how it is refused otherwise.
fn number(args: &mut Args<'_>, refusal: &'static str) -> Result<u64> {
    args.number().map_err(|_| Error::text(refusal))
}

fn value(args: &mut Args<'_>) -> Result<f64> {
    args.float().map_err(|_| Error::text("ERR invalid value"))
}

/// The time of a sample; `*` is now.
fn time(args: &mut Args<'_>, now_ms: u64) -> Result<u64> {
    let word = args.clone().word();
    if word.as_deref() == Some(b"*") {
        args.bytes()?;
        return Ok(now_ms);
    }
    number(args, "ERR invalid timestamp")
}

fn duplicates(args: &mut Args<'_>) -> Result<Duplicates> {
    const WORDS: [&[u8]; 6] = [b"BLOCK", b"FIRST", b"LAST", b"MIN", b"MAX", b"SUM"];
    let word = args.word();
    let place = WORDS.iter().position(|known| word.as_deref() == Some(*known));
    let found = place.and_then(|place| Duplicates::ALL.get(place).copied());
    found.ok_or_else(|| Error::text("ERR Unknown DUPLICATE_POLICY"))
}

/// What the words behind the first ones say. Words that are not known are passed over, as by
/// Kvrocks.
#[derive(Debug, Default)]
struct Options<'a> {
    changes: Changes,
    on_duplicate: Option<Duplicates>,
    at: Option<u64>,
    labels: Option<Vec<Label<'a>>>,
}

impl<'a> Options<'a> {
    fn parse(args: &mut Args<'a>, scope: Scope<'_>) -> Result<Self> {
        let mut options = Self::default();
        let changes = &mut options.changes;
        while let Some(word) = args.word() {
            match &*word {
                b"RETENTION" => {
                    changes.retention_ms = Some(number(args, "ERR Couldn't parse RETENTION")?);
                }
                b"CHUNK_SIZE" => {
                    let size = number(args, "ERR invalid CHUNK_SIZE")?;
                    let size = Some(size).filter(|size| *size > 0);
                    let size = size.ok_or_else(|| Error::text("ERR invalid CHUNK_SIZE"))?;
                    changes.chunk_size = Some(size);
                }
                b"ENCODING" => {
                    changes.is_compressed = match args.word().as_deref() {
                        Some(b"COMPRESSED") => Some(true),
                        Some(b"UNCOMPRESSED") => Some(false),
                        _ => return Err(Error::text("ERR unknown ENCODING parameter")),
                    };
                }
                b"DUPLICATE_POLICY" => changes.duplicates = Some(duplicates(args)?),
                b"ON_DUPLICATE" => options.on_duplicate = Some(duplicates(args)?),
                b"TIMESTAMP" => options.at = Some(time(args, scope.now_ms)?),
                b"LABELS" => options.labels = labels(args, scope)?,
                _ => {}
            }
        }
        Ok(options)
    }

    fn labels(&self) -> &[Label<'a>] {
        self.labels.as_deref().unwrap_or_default()
    }

    /// Makes a series that labels are given, if there is none.
    fn label(&self, cx: &mut WriteCx<'_>, at: &At<'_>) -> Result<()> {
        if !self.labels().is_empty() {
            timeseries::create_with(&mut cx.txn, at, self.changes, self.labels())?;
        }
        Ok(())
    }
}

/// Labels and their values: all that is left. In cluster mode there are none, and nothing is said
/// of them by a list without any.
fn labels<'a>(args: &mut Args<'a>, scope: Scope<'_>) -> Result<Option<Vec<Label<'a>>>> {
    if scope.cluster {
        return match args.is_empty() {
            true => Ok(None),
            false => {
                Err(Error::text("ERR labels of time series are not supported in cluster mode"))
            }
        };
    }
    let (labels, rest) = args.rest().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Error::text("ERR Couldn't parse LABELS"));
    }
    Ok(Some(labels.iter().map(|[label, value]| (*label, *value)).collect()))
}

fn create(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let options = Options::parse(args, cx.scope)?;
    if !timeseries::create_with(&mut cx.txn, &at, options.changes, options.labels())? {
        return Err(Error::text("ERR key already exists"));
    }
    Ok(reply.ok())
}

fn alter(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let options = Options::parse(args, cx.scope)?;
    if !timeseries::alter(&mut cx.txn, &at, options.changes)? {
        return Err(no_series());
    }
    if let Some(labels) = options.labels {
        timeseries::relabel(&mut cx.txn, &at, &labels)?;
    }
    Ok(reply.ok())
}

const OLD: &str = "ERR Timestamp is older than retention";
const BLOCKED: &str =
    "ERR Error at upsert, update is not supported when DUPLICATE_POLICY is set to BLOCK mode";

/// Times as numbers of the protocol.
fn shown(at: u64) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

fn outcome(added: Option<Added>, at: u64, reply: Reply<'_>) -> Result<Replied> {
    match added {
        Some(Added::Old) => Err(Error::text(OLD)),
        Some(Added::Blocked) => Err(Error::text(BLOCKED)),
        Some(Added::Stored) | None => Ok(reply.integer(shown(at))),
    }
}

fn add(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let key = cx.scope.at(args.bytes()?);
    let (at, value) = (time(args, cx.scope.now_ms)?, value(args)?);
    let options = Options::parse(args, cx.scope)?;
    options.label(cx, &key)?;
    let how = Adding { making: Some(options.changes), duplicates: options.on_duplicate };
    let beyond = cx.beyond;
    let holds = |key: &[u8]| beyond.holds(key);
    let added = timeseries::add(&mut cx.txn, &key, &[Sample { at, value }], how, &holds)?;
    outcome(added.and_then(|added| added.first().copied()), at, reply)
}

fn madd(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    if !args.len().is_multiple_of(3) {
        return Err(Error::text("ERR wrong number of arguments"));
    }
    let mut samples = Vec::with_capacity(args.len() / 3);
    // By key: samples, and their numbers among all.
    let mut series: BTreeMap<&[u8], (Vec<Sample>, Vec<usize>)> = BTreeMap::new();
    while !args.is_empty() {
        let key = args.bytes()?;
        let (at, value) = (time(args, cx.scope.now_ms)?, value(args)?);
        let of_key = series.entry(key).or_default();
        of_key.0.push(Sample { at, value });
        of_key.1.push(samples.len());
        samples.push((at, Ok(Added::Stored)));
    }
    let beyond = cx.beyond;
    let holds = |key: &[u8]| beyond.holds(key);
    for (key, (of_key, numbers)) in series {
        let (at, how) = (cx.scope.at(key), Adding::default());
        let added = timeseries::add(&mut cx.txn, &at, &of_key, how, &holds);
        let outcomes: Vec<std::result::Result<Added, Error>> = match added {
            Ok(Some(added)) => added.into_iter().map(Ok).collect(),
            Ok(None) => numbers.iter().map(|_| Err(no_series())).collect(),
            Err(CommandError::WrongType) => numbers.iter().map(|_| Err(Error::WrongType)).collect(),
            Err(error) => return Err(error.into()),
        };
        for (number, outcome) in numbers.into_iter().zip(outcomes) {
            if let Some(sample) = samples.get_mut(number) {
                sample.1 = outcome;
            }
        }
    }
    Ok(reply.with(|writer| {
        writer.array(samples.len());
        for (at, outcome) in &samples {
            match outcome {
                Ok(Added::Stored) => writer.integer(shown(*at)),
                Ok(Added::Old) => writer.error(OLD),
                Ok(Added::Blocked) => writer.error(BLOCKED),
                Err(error) => writer.error(&error.to_string()),
            }
        }
    }))
}

fn add_to_last(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    sign: f64,
    reply: Reply<'_>,
) -> Result<Replied> {
    let key = cx.scope.at(args.bytes()?);
    let value = sign * value(args)?;
    let options = Options::parse(args, cx.scope)?;
    options.label(cx, &key)?;
    let at = options.at.unwrap_or(cx.scope.now_ms);
    let by = Sample { at, value };
    let beyond = cx.beyond;
    let holds = |key: &[u8]| beyond.holds(key);
    match timeseries::increment(&mut cx.txn, &key, by, options.changes, &holds)? {
        None => Err(Error::text(
            "ERR timestamp must be equal to or higher than the maximum existing timestamp",
        )),
        added => outcome(added, at, reply),
    }
}

fn incrby(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    add_to_last(cx, args, 1.0, reply)
}

fn decrby(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    add_to_last(cx, args, -1.0, reply)
}

fn del(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let span = range::Span::parse(args)?;
    let beyond = cx.beyond;
    let holds = |key: &[u8]| beyond.holds(key);
    let deleted = timeseries::delete(&mut cx.txn, &at, (span.from, span.to), &holds)?;
    Ok(reply.number(deleted.ok_or_else(no_series)?))
}

/// The word of what becomes of duplicates.
fn word(duplicates: Duplicates) -> &'static str {
    match duplicates {
        Duplicates::Block => "block",
        Duplicates::First => "first",
        Duplicates::Last => "last",
        Duplicates::Min => "min",
        Duplicates::Max => "max",
        Duplicates::Sum => "sum",
    }
}

fn info(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let about = timeseries::about(&cx.txn.snapshot(), &cx.scope.at(args.bytes()?))?;
    cx.count(about.is_some());
    let about = about.ok_or_else(no_series)?;
    Ok(reply.with(|writer| {
        writer.array(24);
        // As many as the chunks would have if all were full, as Kvrocks says it.
        let samples = about.chunks.saturating_mul(about.facts.chunk_size);
        for (name, number) in [
            ("totalSamples", samples),
            ("memoryUsage", 0),
            ("firstTimestamp", about.ends.0),
            ("lastTimestamp", about.ends.1),
            ("retentionTime", about.facts.retention_ms),
            ("chunkCount", about.chunks),
            ("chunkSize", about.facts.chunk_size),
        ] {
            writer.simple(name);
            writer.integer(shown(number));
        }
        let form = if about.facts.is_compressed { "compressed" } else { "uncompressed" };
        for (name, text) in [("chunkType", form), ("duplicatePolicy", word(about.facts.duplicates))]
        {
            writer.simple(name);
            writer.simple(text);
        }
        neighbours(writer, &about);
    }))
}

/// Labels and rules.
fn neighbours(writer: &mut resp::Writer<'_>, about: &About) {
    writer.simple("labels");
    many::write_labels(writer, &about.labels);
    writer.simple("sourceKey");
    writer.bulk_or_null(about.source.as_deref());
    writer.simple("rules");
    writer.array(about.rules.len());
    for rule in &about.rules {
        writer.array(4);
        writer.bulk(&rule.to);
        writer.integer(shown(rule.duration));
        writer.simple(Aggregator::word(rule.aggregator).unwrap_or("none"));
        writer.integer(shown(rule.alignment));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_labels_without_any_is_taken_in_cluster_mode_too() {
        let read = |cluster, words: &[&[u8]]| {
            let scope = Scope { namespace: b"n", cluster, now_ms: 1 };
            labels(&mut Args::behind(0, words), scope).map(|labels| labels.map(|all| all.len()))
        };
        assert_eq!(read(true, &[]).unwrap(), None);
        assert!(read(true, &[b"a", b"b"]).is_err());
        assert_eq!(read(false, &[]).unwrap(), Some(0));
        assert_eq!(read(false, &[b"a", b"b"]).unwrap(), Some(1));
        assert!(read(false, &[b"a"]).is_err());
    }
}
