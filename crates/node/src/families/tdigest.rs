//! T-digests. Redis 7 has none: replies and errors are Kvrocks', which are RedisBloom's in all but
//! texts of errors.

use resp::float_text;
use storage::types::tdigest::{self, COMPRESSION, COMPRESSION_MAX, End, Facts, Merging, Sketch};

use crate::command::keys::{KEY, Keys};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{Command, ReadCx, WriteCx};

/// Where the result lies, and behind their number what it is made of.
const MERGED: Keys = Keys::Counted { also: 1, count: 2 };

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::write("tdigest.create",       -2, KEY, create),
    Command::read ("tdigest.info",          2, KEY, info),
    Command::write("tdigest.add",          -3, KEY, add),
    Command::read ("tdigest.max",           2, KEY, max),
    Command::read ("tdigest.min",           2, KEY, min),
    Command::read ("tdigest.quantile",     -3, KEY, quantile),
    Command::write("tdigest.reset",         2, KEY, reset).removes(),
    Command::read ("tdigest.rank",         -3, KEY, rank),
    Command::read ("tdigest.revrank",      -3, KEY, revrank),
    Command::read ("tdigest.byrank",       -3, KEY, byrank),
    Command::read ("tdigest.byrevrank",    -3, KEY, byrevrank),
    Command::read ("tdigest.cdf",          -3, KEY, cdf),
    Command::read ("tdigest.trimmed_mean",  4, KEY, trimmed_mean),
    Command::write("tdigest.merge",        -4, MERGED, merge),
];

fn missing() -> Error {
    Error::text("ERR key does not exist")
}

/// Kvrocks names no command here.
fn arity() -> Error {
    Error::text("ERR wrong number of arguments")
}

fn compression(args: &mut Args<'_>) -> Result<u32> {
    if args.is_empty() {
        return Err(arity());
    }
    let number: i32 =
        args.number().map_err(|_| Error::text("ERR error parsing compression parameter"))?;
    match u32::try_from(number) {
        Ok(number @ 1..=COMPRESSION_MAX) => Ok(number),
        Ok(1..) => Err(Error::text("ERR compression must be between 1 and 1000")),
        _ => Err(Error::text("ERR compression parameter needs to be a positive integer")),
    }
}

fn create(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let compression = match args.word().as_deref() {
        None => COMPRESSION,
        Some(b"COMPRESSION") => compression(args)?,
        Some(_) => return Err(arity()),
    };
    if !args.is_empty() {
        return Err(arity());
    }
    if !tdigest::create(&mut cx.txn, &at, compression)? {
        return Err(Error::text("ERR key already exists"));
    }
    Ok(reply.ok())
}

/// What is known of a sketch without looking into it.
fn facts(cx: &ReadCx<'_>, args: &mut Args<'_>) -> Result<Facts> {
    let found = tdigest::find(cx.txn, &cx.scope.at(args.bytes()?))?;
    cx.count(found.is_some());
    found.map(|object| object.tail).ok_or_else(missing)
}

fn info(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let facts = facts(cx, args)?;
    let numbers = [
        ("Compression", u64::from(facts.compression)),
        ("Capacity", u64::from(facts.capacity)),
        ("Merged nodes", facts.merged),
        ("Unmerged nodes", facts.unmerged),
        ("Merged weight", facts.merged_weight),
        ("Unmerged weight", facts.weight.saturating_sub(facts.merged_weight)),
        ("Observations", facts.observations),
        ("Total compressions", facts.merges),
    ];
    Ok(reply.with(|writer| {
        writer.map(numbers.len());
        for (name, number) in numbers {
            writer.bulk(name.as_bytes());
            writer.integer(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }))
}

/// Values to add lie between this and its negative: a mean is made of differences times weights.
const VALUE_MAX: f64 = 1e290;

/// Values to add. Infinite and nearly infinite ones, which Kvrocks takes, would leave means that
/// are no numbers.
fn values(args: &mut Args<'_>) -> Result<Vec<f64>> {
    let values = floats(args)?;
    if values.iter().all(|value| value.abs() <= VALUE_MAX) {
        return Ok(values);
    }
    Err(Error::text("ERR value is not a valid float"))
}

fn floats(args: &mut Args<'_>) -> Result<Vec<f64>> {
    (0..args.len()).map(|_| args.float()).collect()
}

fn add(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let values = values(args)?;
    if !tdigest::add(&mut cx.txn, &at, &values)? {
        return Err(missing());
    }
    Ok(reply.ok())
}

/// The text of NaN, which stands for no answer.
const NAN: &[u8] = b"nan";

/// The fewest digits that tell a number, as C++ prints it.
fn shortest(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

fn extreme(facts: &Facts, value: f64, reply: Reply<'_>) -> Replied {
    match facts.observations {
        0 => reply.bulk(NAN),
        _ => reply.bulk(shortest(value).as_bytes()),
    }
}

fn max(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let facts = facts(cx, args)?;
    Ok(extreme(&facts, facts.max, reply))
}

fn min(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let facts = facts(cx, args)?;
    Ok(extreme(&facts, facts.min, reply))
}

/// What a sketch says, or nothing if it holds nothing.
fn sketch(cx: &ReadCx<'_>, key: &[u8]) -> Result<Option<Sketch>> {
    let found = tdigest::sketch(&cx.txn.snapshot(), &cx.scope.at(key))?;
    cx.count(found.is_some());
    let sketch = found.ok_or_else(missing)?;
    Ok(Some(sketch).filter(|sketch| !sketch.centroids.is_empty()))
}

/// A number for each question, in an array.
fn answers<T>(
    reply: Reply<'_>,
    sketch: Option<&Sketch>,
    questions: &[T],
    answer: impl Fn(&Sketch, &T) -> f64,
) -> Result<Replied> {
    let numbers = sketch.map(|sketch| tdigest::answers(sketch, questions, answer)).transpose()?;
    Ok(reply.with(|writer| {
        writer.array(questions.len());
        for place in 0..questions.len() {
            let number = numbers.as_ref().and_then(|numbers| numbers.get(place).copied());
            writer.bulk(float_text(number.unwrap_or(f64::NAN)).as_bytes());
        }
    }))
}

fn quantile(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, shares) = (args.bytes()?, floats(args)?);
    let sketch = sketch(cx, key)?;
    if sketch.is_some() && !shares.iter().all(|share| (0.0..=1.0).contains(share)) {
        return Err(Error::text("ERR Invalid argument: invalid quantile or empty tdigest"));
    }
    answers(reply, sketch.as_ref(), &shares, |sketch, share| sketch.quantile(*share))
}

fn reset(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    if !tdigest::reset(&mut cx.txn, &cx.scope.at(args.bytes()?))? {
        return Err(missing());
    }
    Ok(reply.ok())
}

/// The rank of nothing among nothing.
const NO_RANK: i64 = -2;

fn ranks(cx: &ReadCx<'_>, args: &mut Args<'_>, end: End, reply: Reply<'_>) -> Result<Replied> {
    let (key, values) = (args.bytes()?, floats(args)?);
    let asked =
        |sketch| tdigest::answers(&sketch, &values, |sketch, value| sketch.rank(*value, end));
    let ranks = sketch(cx, key)?.map(asked).transpose()?;
    Ok(reply.with(|writer| {
        writer.array(values.len());
        for place in 0..values.len() {
            let rank = ranks.as_ref().and_then(|ranks| ranks.get(place).copied());
            writer.integer(rank.unwrap_or(NO_RANK));
        }
    }))
}

fn rank(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    ranks(cx, args, End::Smallest, reply)
}

fn revrank(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    ranks(cx, args, End::Largest, reply)
}

fn by_ranks(cx: &ReadCx<'_>, args: &mut Args<'_>, end: End, reply: Reply<'_>) -> Result<Replied> {
    let key = args.bytes()?;
    let wanted: Vec<i64> = (0..args.len()).map(|_| args.integer()).collect::<Result<_>>()?;
    let wanted: Option<Vec<u64>> = wanted.iter().map(|rank| u64::try_from(*rank).ok()).collect();
    let wanted = wanted.ok_or_else(|| Error::text("ERR rank needs to be non negative"))?;
    let sketch = sketch(cx, key)?;
    answers(reply, sketch.as_ref(), &wanted, |sketch, rank| sketch.by_rank(*rank, end))
}

fn byrank(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    by_ranks(cx, args, End::Smallest, reply)
}

fn byrevrank(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    by_ranks(cx, args, End::Largest, reply)
}

fn cdf(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, values) = (args.bytes()?, floats(args)?);
    let sketch = sketch(cx, key)?;
    answers(reply, sketch.as_ref(), &values, |sketch, value| sketch.share_below(*value))
}

fn trimmed_mean(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, low, high) = (args.bytes()?, args.float()?, args.float()?);
    if ![low, high].iter().all(|cut| (0.0..=1.0).contains(cut)) {
        return Err(Error::text(
            "ERR low cut quantile and high cut quantile must be between 0 and 1",
        ));
    }
    if low >= high {
        return Err(Error::text("ERR low cut quantile must be less than high cut quantile"));
    }
    let mean = sketch(cx, key)?.map_or(f64::NAN, |sketch| sketch.trimmed_mean(low, high));
    Ok(reply.bulk(float_text(mean).as_bytes()))
}

fn merge(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let to = cx.scope.at(args.bytes()?);
    let count: i64 = args.integer().map_err(|_| Error::text("ERR error parsing numkeys"))?;
    let count = usize::try_from(count).ok().filter(|count| *count > 0);
    let count = count.ok_or_else(|| Error::text("ERR numkeys need to be a positive integer"))?;
    let keys = args.take(count).map_err(|_| arity())?;
    let mut how = Merging::default();
    while let Some(word) = args.word() {
        match &*word {
            b"COMPRESSION" => how.compression = Some(compression(args)?),
            b"OVERRIDE" => how.is_override = true,
            _ => return Err(Error::text("ERR wrong keyword")),
        }
    }
    let sources: Vec<_> = keys.iter().map(|key| cx.scope.at(key)).collect();
    match tdigest::merge(&mut cx.txn, &to, &sources, how)? {
        Ok(()) => Ok(reply.ok()),
        Err(number) => {
            let key = keys.get(number).copied().unwrap_or_default();
            let key = String::from_utf8_lossy(key);
            Err(Error::err(format_args!("Invalid argument: key does not exist: {key}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_form_of_cpp() {
        for (value, text) in [
            (0.0, "0"),
            (-0.5, "-0.5"),
            (3.1, "3.1"),
            (1e15, "1000000000000000"),
            (1e16, "1e+16"),
            (-1.25e300, "-1.25e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
        ] {
            assert_eq!(shortest(value), text);
        }
    }
}
