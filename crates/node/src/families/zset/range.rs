//! Parts of a sorted set: listed, counted and removed by rank, score and name.

use resp::{Protocol, Writer};
use storage::Direction;
use storage::types::bounds::{Lex, Score};
use storage::types::zset::{self, Part, Range};

use crate::command::args::{Limit, parse_integer};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{ReadCx, WriteCx};

/// What the two bounds of a part are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Rank,
    Score,
    Name,
}

/// What the name of a command has said already; the rest is said by its options.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) by: Option<By>,
    pub(super) direction: Option<Direction>,
    /// Its members are stored, with their scores.
    pub(super) stores: bool,
}

fn part<'a>(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Part<'a>> {
    let name = |text| {
        Lex::parse(text).ok_or_else(|| Error::text("ERR min or max not valid string range item"))
    };
    let score =
        |text| Score::parse(text).ok_or_else(|| Error::text("ERR min or max is not a float"));
    let rank = |text| parse_integer(text).ok_or(Error::NotInteger);
    Ok(match by {
        By::Rank => Part::Ranks(rank(min)?, rank(max)?),
        By::Score => Part::Scores(score(min)?, score(max)?),
        By::Name => Part::Names(name(min)?, name(max)?),
    })
}

/// The bounds and options of a listing, and whether scores come with it.
pub(super) fn parse<'a>(args: &mut Args<'a>, form: Form) -> Result<(Range<'a>, bool)> {
    let (first, last) = (args.bytes()?, args.bytes()?);
    let Form { mut by, mut direction, stores } = form;
    let (mut limit, mut with_scores) = (Limit::NONE, false);
    while let Some(word) = args.word() {
        match &*word {
            b"WITHSCORES" if !stores => with_scores = true,
            b"LIMIT" if args.len() >= 2 => limit = args.limit()?,
            b"REV" if direction.is_none() => direction = Some(Direction::Reverse),
            b"BYLEX" if by.is_none() => by = Some(By::Name),
            b"BYSCORE" if by.is_none() => by = Some(By::Score),
            _ => return Err(Error::Syntax),
        }
    }
    let (by, direction) = (by.unwrap_or(By::Rank), direction.unwrap_or(Direction::Forward));
    if limit.count != Limit::NONE.count && by == By::Rank {
        return Err(Error::text(
            "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
        ));
    }
    if with_scores && by == By::Name {
        return Err(Error::text(
            "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
        ));
    }
    let is_swapped = direction == Direction::Reverse && by != By::Rank;
    let (min, max) = if is_swapped { (last, first) } else { (first, last) };
    Ok((Range { part: part(by, min, max)?, direction, limit: limit.range() }, with_scores))
}

fn list(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
    by: Option<By>,
    direction: Option<Direction>,
) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let (range, with_scores) = parse(args, Form { by, direction, stores: false })?;
    reply.listing(Writer::array, |writer| {
        let is_nested = with_scores && writer.protocol() == Protocol::V3;
        let mut count = 0;
        zset::for_each(&cx.txn.snapshot(), &at, &range, |member, score| {
            count += 1;
            if is_nested {
                writer.array(2);
            }
            writer.bulk(member);
            if with_scores {
                writer.float(score);
            }
        })?;
        cx.count(count > 0);
        Ok(if with_scores && !is_nested { count * 2 } else { count })
    })
}

pub(super) fn zrange(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    list(cx, args, reply, None, None)
}

pub(super) fn zrangebyscore(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    list(cx, args, reply, Some(By::Score), Some(Direction::Forward))
}

pub(super) fn zrangebylex(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    list(cx, args, reply, Some(By::Name), Some(Direction::Forward))
}

pub(super) fn zrevrange(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    list(cx, args, reply, Some(By::Rank), Some(Direction::Reverse))
}

pub(super) fn zrevrangebyscore(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    list(cx, args, reply, Some(By::Score), Some(Direction::Reverse))
}

pub(super) fn zrevrangebylex(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    list(cx, args, reply, Some(By::Name), Some(Direction::Reverse))
}

fn rank(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
    (command, direction): (&str, Direction),
) -> Result<Replied> {
    let (at, member) = (cx.scope.at(args.bytes()?), args.bytes()?);
    if args.len() > 1 {
        return Err(Error::Arity(command.to_owned()));
    }
    let with_score = match args.word() {
        Some(word) if *word != *b"WITHSCORE" => return Err(Error::Syntax),
        word => word.is_some(),
    };
    let found = zset::rank(&cx.txn.snapshot(), &at, member, direction)?;
    cx.count(found.is_some());
    Ok(reply.with(|writer| {
        let Some((rank, score)) = found else {
            return if with_score { writer.null_array() } else { writer.null() };
        };
        if with_score {
            writer.array(2);
        }
        writer.integer(i64::try_from(rank).unwrap_or(i64::MAX));
        if with_score {
            writer.float(score);
        }
    }))
}

pub(super) fn zrank(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    rank(cx, args, reply, ("zrank", Direction::Forward))
}

pub(super) fn zrevrank(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    rank(cx, args, reply, ("zrevrank", Direction::Reverse))
}

fn count(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>, by: By) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let part = part(by, args.bytes()?, args.bytes()?)?;
    Ok(reply.number(zset::count(&cx.txn.snapshot(), &at, &part)?))
}

pub(super) fn zcount(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    count(cx, args, reply, By::Score)
}

pub(super) fn zlexcount(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    count(cx, args, reply, By::Name)
}

fn remove(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>, by: By) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let part = part(by, args.bytes()?, args.bytes()?)?;
    Ok(reply.number(zset::remove_part(&mut cx.txn, &at, &part)?))
}

pub(super) fn zremrangebyrank(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    remove(cx, args, reply, By::Rank)
}

pub(super) fn zremrangebyscore(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    remove(cx, args, reply, By::Score)
}

pub(super) fn zremrangebylex(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    remove(cx, args, reply, By::Name)
}
