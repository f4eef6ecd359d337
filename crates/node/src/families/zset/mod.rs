//! Sorted sets. Replies are Redis 7's; ZRANK has the WITHSCORE of 7.2.

mod pop;
mod range;
mod store;

use pop::{bzmpop, bzpopmax, bzpopmin, zmpop, zpopmax, zpopmin};
use range::{
    zcount, zlexcount, zrange, zrangebylex, zrangebyscore, zrank, zremrangebylex, zremrangebyrank,
    zremrangebyscore, zrevrange, zrevrangebylex, zrevrangebyscore, zrevrank,
};
use resp::{Protocol, Writer};
use smallvec::SmallVec;
use storage::types::page::{Page, Request};
use storage::types::pick::{Picked, Wanted};
use storage::types::score;
use storage::types::zset::{self, Condition, Member};
use store::{zdiff, zdiffstore, zinter, zintercard, zinterstore, zrangestore, zunion, zunionstore};

use super::walk;
use crate::command::args::ScanWords;
use crate::command::keys::{KEY, KEYS2, Keys};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{Command, ReadCx, WriteCx};

/// Sources behind their number.
const SOURCES: Keys = Keys::Counted { also: 0, count: 1 };
/// A destination, and sources behind their number.
const INTO: Keys = Keys::Counted { also: 1, count: 2 };

/// Keys before the time to wait.
const BEFORE_TIME: Keys = Keys::Range { first: 1, last: -2, step: 1 };

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::write("zadd",             -4, KEY, zadd).fast(),
    Command::write("zincrby",           4, KEY, zincrby).fast(),
    Command::write("zrem",             -3, KEY, zrem).fast().removes(),
    Command::read ("zcard",             2, KEY, zcard).fast(),
    Command::read ("zscore",            3, KEY, zscore).fast(),
    Command::read ("zmscore",          -3, KEY, zmscore).fast(),
    Command::read ("zrandmember",      -2, KEY, zrandmember),
    Command::read ("zscan",            -3, KEY, zscan),
    Command::read ("zrank",            -3, KEY, zrank).fast(),
    Command::read ("zrevrank",         -3, KEY, zrevrank).fast(),
    Command::read ("zcount",            4, KEY, zcount).fast(),
    Command::read ("zlexcount",         4, KEY, zlexcount).fast(),
    Command::read ("zrange",           -4, KEY, zrange),
    Command::read ("zrangebyscore",    -4, KEY, zrangebyscore),
    Command::read ("zrangebylex",      -4, KEY, zrangebylex),
    Command::read ("zrevrange",        -4, KEY, zrevrange),
    Command::read ("zrevrangebyscore", -4, KEY, zrevrangebyscore),
    Command::read ("zrevrangebylex",   -4, KEY, zrevrangebylex),
    Command::write("zremrangebyrank",   4, KEY, zremrangebyrank).removes(),
    Command::write("zremrangebyscore",  4, KEY, zremrangebyscore).removes(),
    Command::write("zremrangebylex",    4, KEY, zremrangebylex).removes(),
    Command::write("zpopmin",          -2, KEY, zpopmin).fast().removes(),
    Command::write("zpopmax",          -2, KEY, zpopmax).fast().removes(),
    Command::write("zmpop",            -4, SOURCES, zmpop).removes(),
    Command::waiting("bzpopmin",       -3, BEFORE_TIME, bzpopmin).fast().removes().no_script(),
    Command::waiting("bzpopmax",       -3, BEFORE_TIME, bzpopmax).fast().removes().no_script(),
    Command::waiting("bzmpop",         -5, Keys::Counted { also: 0, count: 2 }, bzmpop).removes().no_script(),
    Command::write("zrangestore",      -5, KEYS2, zrangestore),
    Command::read ("zunion",           -3, SOURCES, zunion),
    Command::read ("zinter",           -3, SOURCES, zinter),
    Command::read ("zintercard",       -3, SOURCES, zintercard),
    Command::read ("zdiff",            -3, SOURCES, zdiff),
    Command::write("zunionstore",      -4, INTO, zunionstore),
    Command::write("zinterstore",      -4, INTO, zinterstore),
    Command::write("zdiffstore",       -4, INTO, zdiffstore),
];

/// Members, or members and their scores: in RESP3 as pairs, in RESP2 one after the other.
fn listing(writer: &mut Writer<'_>, members: &[Member], with_scores: bool) {
    let is_nested = with_scores && writer.protocol() == Protocol::V3;
    if is_nested {
        return pairs(writer, members);
    }
    writer.array(if with_scores { members.len() * 2 } else { members.len() });
    for (member, score) in members {
        writer.bulk(member);
        if with_scores {
            writer.float(*score);
        }
    }
}

/// Members and their scores as pairs, in both protocols.
fn pairs(writer: &mut Writer<'_>, members: &[Member]) {
    writer.array(members.len());
    for (member, score) in members {
        writer.array(2);
        writer.bulk(member);
        writer.float(*score);
    }
}

fn float_or_null(reply: Reply<'_>, score: Option<f64>) -> Replied {
    reply.with(|writer| match score {
        Some(score) => writer.float(score),
        None => writer.null(),
    })
}

/// What stands between the key and the first score of ZADD.
#[derive(Debug, Default)]
struct Options {
    condition: Condition,
    counts_updates: bool,
    increments: bool,
}

impl Options {
    /// Takes a word; `false` if it is none of the options.
    fn take(&mut self, word: &[u8]) -> bool {
        let options = [
            ("NX", &mut self.condition.only_new),
            ("XX", &mut self.condition.only_old),
            ("GT", &mut self.condition.only_greater),
            ("LT", &mut self.condition.only_less),
            ("CH", &mut self.counts_updates),
            ("INCR", &mut self.increments),
        ];
        let is_meant = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        match options.into_iter().find(|(name, _)| is_meant(name)) {
            Some((_, option)) => *option = true,
            None => return false,
        }
        true
    }

    fn check(&self, pairs: usize) -> Result<()> {
        let Condition { only_new, only_old, only_greater, only_less } = self.condition;
        let text = if only_new && only_old {
            "ERR XX and NX options at the same time are not compatible"
        } else if only_new && (only_greater || only_less) || only_greater && only_less {
            "ERR GT, LT, and/or NX options at the same time are not compatible"
        } else if self.increments && pairs > 1 {
            "ERR INCR option supports a single increment-element pair"
        } else {
            return Ok(());
        };
        Err(Error::text(text))
    }
}

fn zadd(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    add(cx, args, reply, Options::default())
}

/// ZADD with INCR; as in Redis it knows the options too, and has no room for any.
fn zincrby(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    add(cx, args, reply, Options { increments: true, ..Options::default() })
}

fn add(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
    mut options: Options,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let mut rest = args.rest();
    while let Some((word, behind)) = rest.split_first()
        && options.take(word)
    {
        rest = behind;
    }
    let (words, left_over) = rest.as_chunks::<2>();
    if words.is_empty() || !left_over.is_empty() {
        return Err(Error::Syntax);
    }
    options.check(words.len())?;
    let pairs = words.iter().map(|[score, member]| Ok((float(score)?, *member)));
    let pairs = pairs.collect::<Result<SmallVec<[(f64, &[u8]); 4]>>>()?;
    let condition = options.condition;
    if let (true, [(increment, member)]) = (options.increments, pairs.as_slice()) {
        let score = zset::incr(&mut cx.txn, &at, member, *increment, condition)?;
        return Ok(float_or_null(reply, score));
    }
    let changed = zset::add(&mut cx.txn, &at, &pairs, condition)?;
    let updated = if options.counts_updates { changed.updated } else { 0 };
    Ok(reply.number(changed.added + updated))
}

fn float(text: &[u8]) -> Result<f64> {
    score::parse(text).ok_or_else(|| Error::text("ERR value is not a valid float"))
}

fn zrem(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    Ok(reply.number(zset::remove(&mut cx.txn, &at, args.rest())?))
}

fn zcard(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.number(zset::len(cx.txn, &cx.scope.at(args.bytes()?))?))
}

fn zscore(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let score = zset::score(cx.txn, &cx.scope.at(args.bytes()?), args.bytes()?)?;
    cx.count(score.is_some());
    Ok(float_or_null(reply, score))
}

fn zmscore(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let scores = zset::mscore(cx.txn, &cx.scope.at(args.bytes()?), args.rest())?;
    Ok(reply.with(|writer| {
        writer.array(scores.len());
        for score in scores {
            match score {
                Some(score) => writer.float(score),
                None => writer.null(),
            }
        }
    }))
}

fn zrandmember(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    if args.is_empty() {
        let one = zset::pick(&cx.txn.snapshot(), &at, Wanted::Distinct(1))?;
        let one = one.as_ref().and_then(Picked::first);
        return Ok(reply.bulk_or_null(one.map(|(member, _)| member.as_slice())));
    }
    let (wanted, with_scores) = args.draws(b"WITHSCORES")?;
    let Some(picked) = zset::pick(&cx.txn.snapshot(), &at, wanted)? else {
        return reply.elements(0, |_| Ok(()));
    };
    let is_nested = with_scores && reply.protocol() == Protocol::V3;
    let words = if with_scores && !is_nested { 2 } else { 1 };
    reply.elements(words * picked.len(), |writer| {
        zset::each_picked(&picked, |member, score| {
            if is_nested {
                writer.array(2);
            }
            writer.bulk(member);
            if with_scores {
                writer.float(score);
            }
        })?;
        Ok(())
    })
}

fn zscan(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, position) = (cx.scope.at(args.bytes()?), walk::position(cx, args.bytes()?)?);
    let snapshot = cx.txn.snapshot();
    // As in Redis, options do not matter where there is nothing.
    let page = match zset::find(&snapshot, &at)? {
        Some(zset) => {
            let options = args.scan_options(ScanWords::WithoutType)?;
            let (count, pattern) = (options.count, options.pattern);
            zset::scan(&snapshot, &zset, &Request { position: &position, count, pattern })?
        }
        None => Page { items: Vec::new(), next: None },
    };
    // Scores are texts here in both protocols.
    Ok(walk::reply(cx, &page, reply, |writer, members| {
        writer.array(members.len() * 2);
        for (member, score) in members {
            writer.bulk(member);
            writer.bulk(score::format(*score).as_bytes());
        }
    }))
}
