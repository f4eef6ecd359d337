//! Places in sorted sets. Replies are Redis 7's.

mod search;

use resp::{Protocol, Writer};
use search::{
    georadius, georadius_ro, georadiusbymember, georadiusbymember_ro, geosearch, geosearchstore,
};
use storage::types::geo::{self, Point};
use storage::types::zset::{self, Condition};

use crate::command::keys::{KEY, KEYS2, Keys};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::table::{ReadHandler, Reading};
use crate::session::{Command, ReadCx, WriteCx};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::write("geoadd",               -5, KEY, geoadd),
    Command::read ("geodist",              -4, KEY, geodist),
    Command::read ("geohash",              -2, KEY, geohash),
    Command::read ("geopos",               -2, KEY, geopos),
    Command::write("georadius",            -6, Keys::FirstAnd(search::destinations), georadius).or_read(&RADIUS),
    Command::read ("georadius_ro",         -6, KEY, georadius_ro),
    Command::write("georadiusbymember",    -5, Keys::FirstAnd(search::destinations), georadiusbymember).or_read(&BY_MEMBER),
    Command::read ("georadiusbymember_ro", -5, KEY, georadiusbymember_ro),
    Command::read ("geosearch",            -7, KEY, geosearch),
    Command::write("geosearchstore",       -8, KEYS2, geosearchstore),
];

/// GEORADIUS without STORE and STOREDIST.
const RADIUS: Reading = reading("georadius", -6, georadius_ro);
/// The same of GEORADIUSBYMEMBER.
const BY_MEMBER: Reading = reading("georadiusbymember", -5, georadiusbymember_ro);

const fn reading(name: &'static str, arity: i8, handler: ReadHandler) -> Reading {
    let keys = Keys::FirstAnd(search::destinations);
    Reading { command: Command::read(name, arity, keys, handler).as_write(), is_meant: only_reads }
}

fn only_reads(words: &[&[u8]]) -> bool {
    search::destinations(words).is_empty()
}

/// Longitude and latitude.
fn point(longitude: &[u8], latitude: &[u8]) -> Result<Point> {
    let number = |text| Args::new(&[text, text]).float();
    let point = Point { longitude: number(longitude)?, latitude: number(latitude)? };
    if point.is_valid() {
        return Ok(point);
    }
    Err(Error::err(format_args!(
        "invalid longitude,latitude pair {:.6},{:.6}",
        point.longitude, point.latitude
    )))
}

/// Metres of a unit of length.
fn unit(word: &[u8]) -> Result<f64> {
    match word.to_ascii_lowercase().as_slice() {
        b"m" => Ok(1.0),
        b"km" => Ok(1_000.0),
        b"ft" => Ok(0.3048),
        b"mi" => Ok(1_609.34),
        _ => Err(Error::text("ERR unsupported unit provided. please use M, KM, FT, MI")),
    }
}

/// Four digits are accurate enough, and what Redis gives.
fn distance(writer: &mut Writer<'_>, distance: f64) {
    writer.bulk(format!("{distance:.4}").as_bytes());
}

/// A coordinate with all its digits.
fn coordinate(writer: &mut Writer<'_>, value: f64) {
    let text = format!("{value:.17}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let text = if text == "-0" { "0" } else { text };
    match writer.protocol() {
        Protocol::V2 => writer.bulk(text.as_bytes()),
        Protocol::V3 => writer.double(text),
    }
}

fn coordinates(writer: &mut Writer<'_>, point: Point) {
    writer.array(2);
    coordinate(writer, point.longitude);
    coordinate(writer, point.latitude);
}

fn geoadd(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let (mut condition, mut counts_updates) = (Condition::default(), false);
    let mut rest = args.rest();
    while let Some((word, behind)) = rest.split_first() {
        match word.to_ascii_uppercase().as_slice() {
            b"NX" => condition.only_new = true,
            b"XX" => condition.only_old = true,
            b"CH" => counts_updates = true,
            _ => break,
        }
        rest = behind;
    }
    let (places, left_over) = rest.as_chunks::<3>();
    if places.is_empty() || !left_over.is_empty() || condition.only_new && condition.only_old {
        return Err(Error::Syntax);
    }
    let pairs = places
        .iter()
        .map(|[longitude, latitude, member]| Ok((point(longitude, latitude)?.score(), *member)))
        .collect::<Result<Vec<(f64, &[u8])>>>()?;
    let changed = zset::add(&mut cx.txn, &at, &pairs, condition)?;
    let updated = if counts_updates { changed.updated } else { 0 };
    Ok(reply.number(changed.added + updated))
}

fn geodist(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let members = args.take(2)?;
    // As in Redis, too many words are told before a unit that is none.
    if args.len() > 1 {
        return Err(Error::Syntax);
    }
    let unit = if args.is_empty() { 1.0 } else { unit(args.bytes()?)? };
    let scores = zset::mscore(&cx.txn.snapshot(), &at, members)?;
    let [Some(from), Some(to)] = scores[..] else { return Ok(reply.null()) };
    let metres = Point::of_score(from).distance_m(Point::of_score(to));
    Ok(reply.with(|writer| distance(writer, metres / unit)))
}

fn geohash(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let scores = zset::mscore(&cx.txn.snapshot(), &at, args.rest())?;
    Ok(reply.with(|writer| {
        writer.array(scores.len());
        for score in scores {
            let text = score.map(geo::text_of_score);
            writer.bulk_or_null(text.as_ref().map(<[u8; 11]>::as_slice));
        }
    }))
}

fn geopos(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let scores = zset::mscore(&cx.txn.snapshot(), &at, args.rest())?;
    Ok(reply.with(|writer| {
        writer.array(scores.len());
        for score in scores {
            match score {
                Some(score) => coordinates(writer, Point::of_score(score)),
                None => writer.null_array(),
            }
        }
    }))
}
