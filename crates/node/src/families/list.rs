//! Lists, but for what waits. Replies are Redis 7's.

mod pop;
mod waiting;

use pop::{lmpop, lpop, rpop};
use resp::Writer;
use storage::At;
use storage::types::list::{self, End, Move, Place, Search};
use waiting::{blmove, blmpop, blpop, brpop, brpoplpush};

use crate::command::keys::{KEY, KEYS2, Keys};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{Command, ReadCx, WriteCx};

/// Keys before the time to wait.
const BEFORE_TIME: Keys = Keys::Range { first: 1, last: -2, step: 1 };

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::write("lpush",     -3, KEY, lpush).fast(),
    Command::write("lpushx",    -3, KEY, lpushx).fast(),
    Command::write("rpush",     -3, KEY, rpush).fast(),
    Command::write("rpushx",    -3, KEY, rpushx).fast(),
    Command::write("lpop",      -2, KEY, lpop).fast().removes(),
    Command::write("rpop",      -2, KEY, rpop).fast().removes(),
    Command::write("lmpop",     -4, Keys::Counted { also: 0, count: 1 }, lmpop).removes(),
    Command::read ("llen",       2, KEY, llen).fast(),
    Command::read ("lindex",     3, KEY, lindex),
    Command::read ("lrange",     4, KEY, lrange),
    Command::read ("lpos",      -3, KEY, lpos),
    Command::write("lset",       4, KEY, lset),
    Command::write("linsert",    5, KEY, linsert),
    Command::write("lrem",       4, KEY, lrem).removes(),
    Command::write("ltrim",      4, KEY, ltrim).removes(),
    Command::write("lmove",      5, KEYS2, lmove),
    Command::write("rpoplpush",  3, KEYS2, rpoplpush),
    Command::waiting("blpop",   -3, BEFORE_TIME, blpop).removes().no_script(),
    Command::waiting("brpop",   -3, BEFORE_TIME, brpop).removes().no_script(),
    Command::waiting("blmpop",  -5, Keys::Counted { also: 0, count: 2 }, blmpop).removes().no_script(),
    Command::waiting("blmove",   6, KEYS2, blmove).no_script(),
    Command::waiting("brpoplpush", 4, KEYS2, brpoplpush).no_script(),
];

/// LEFT or RIGHT.
fn end(args: &mut Args<'_>) -> Result<End> {
    match args.word().as_deref() {
        Some(b"LEFT") => Ok(End::Left),
        Some(b"RIGHT") => Ok(End::Right),
        _ => Err(Error::Syntax),
    }
}

/// A number that is not negative. Redis has one text for all that is wrong with it.
fn positive(args: &mut Args<'_>, text: &'static str) -> Result<u64> {
    match args.number::<u64>() {
        Err(Error::NotInteger) => Err(Error::text(text)),
        number => number,
    }
}

fn push(cx: &mut WriteCx<'_>, args: &mut Args<'_>, end: End) -> Result<u64> {
    let at = cx.scope.at(args.bytes()?);
    Ok(list::push(&mut cx.txn, &at, end, args.rest())?)
}

fn pushx(cx: &mut WriteCx<'_>, args: &mut Args<'_>, end: End) -> Result<u64> {
    let at = cx.scope.at(args.bytes()?);
    Ok(list::pushx(&mut cx.txn, &at, end, args.rest())?)
}

fn lpush(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.number(push(cx, args, End::Left)?))
}

fn lpushx(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.number(pushx(cx, args, End::Left)?))
}

fn rpush(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.number(push(cx, args, End::Right)?))
}

fn rpushx(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.number(pushx(cx, args, End::Right)?))
}

fn llen(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.number(list::len(cx.txn, &cx.scope.at(args.bytes()?))?))
}

fn lindex(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let snapshot = cx.txn.snapshot();
    // As in Redis, the position does not matter where there is nothing.
    let value = match args.integer() {
        Ok(rank) => list::index(&snapshot, &at, rank)?,
        Err(error) if list::find(&snapshot, &at)?.is_some() => return Err(error),
        Err(_) => None,
    };
    cx.count(value.is_some());
    Ok(reply.bulk_or_null(value.as_deref()))
}

fn lrange(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, part) = (cx.scope.at(args.bytes()?), (args.integer()?, args.integer()?));
    reply.listing(Writer::array, |writer| {
        let mut count = 0;
        let is_there = list::range(&cx.txn.snapshot(), &at, part, |value| {
            count += 1;
            writer.bulk(value);
        })?;
        cx.count(is_there);
        Ok(count)
    })
}

fn lpos(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, wanted) = (cx.scope.at(args.bytes()?), args.bytes()?);
    let (mut search, mut count) = (Search { wanted, rank: 1, count: 1, compared: 0 }, None);
    while let Some(word) = args.word() {
        match &*word {
            b"RANK" => search.rank = rank(args)?,
            b"COUNT" => count = Some(positive(args, "ERR COUNT can't be negative")?),
            b"MAXLEN" => search.compared = positive(args, "ERR MAXLEN can't be negative")?,
            _ => return Err(Error::Syntax),
        }
    }
    search.count = count.unwrap_or(1);
    let found = list::pos(&cx.txn.snapshot(), &at, &search)?;
    Ok(match (count, found.first()) {
        (Some(_), _) => reply.with(|writer| {
            writer.array(found.len());
            found.iter().for_each(|rank| writer.integer(i64::try_from(*rank).unwrap_or(i64::MAX)));
        }),
        (None, Some(rank)) => reply.number(*rank),
        (None, None) => reply.null(),
    })
}

fn rank(args: &mut Args<'_>) -> Result<i64> {
    match args.integer()? {
        0 => Err(Error::text(
            "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
             or use negative to start from the end of the list",
        )),
        i64::MIN => Err(Error::err(format_args!(
            "value is out of range, value must between {} and {}",
            -i64::MAX,
            i64::MAX
        ))),
        rank => Ok(rank),
    }
}

fn lset(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let rank = match args.integer() {
        // As in Redis, the key is looked at first.
        Err(error) => {
            let list = list::find(&cx.txn, &at)?;
            return Err(list.map_or(Error::text("ERR no such key"), |_| error));
        }
        Ok(rank) => rank,
    };
    let before = cx.txn.count();
    list::set(&mut cx.txn, &at, rank, args.bytes()?)?;
    cx.touch_unless_written(&at, before);
    Ok(reply.ok())
}

fn linsert(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let place = match args.word().as_deref() {
        Some(b"BEFORE") => Place::Before,
        Some(b"AFTER") => Place::After,
        _ => return Err(Error::Syntax),
    };
    Ok(reply.integer(list::insert(&mut cx.txn, &at, place, args.bytes()?, args.bytes()?)?))
}

fn lrem(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, count) = (cx.scope.at(args.bytes()?), args.integer()?);
    Ok(reply.number(list::rem(&mut cx.txn, &at, count, args.bytes()?)?))
}

fn ltrim(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, part) = (cx.scope.at(args.bytes()?), (args.integer()?, args.integer()?));
    let before = cx.txn.count();
    list::trim(&mut cx.txn, &at, part)?;
    if cx.txn.count() == before && list::find(&cx.txn, &at)?.is_some() {
        cx.touch_unless_written(&at, before);
    }
    Ok(reply.ok())
}

/// As in Redis, an element that comes to where it is changes its list, though nothing is written.
fn transferred(
    cx: &mut WriteCx<'_>,
    source: &At<'_>,
    destination: &At<'_>,
    way: Move,
) -> Result<Option<Vec<u8>>> {
    let before = cx.txn.count();
    let value = list::transfer(&mut cx.txn, source, destination, way)?;
    if value.is_some() && source.key == destination.key {
        cx.touch_unless_written(source, before);
    }
    Ok(value)
}

fn lmove(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (source, destination) = (cx.scope.at(args.bytes()?), cx.scope.at(args.bytes()?));
    let way = Move { from: end(args)?, to: end(args)? };
    let value = transferred(cx, &source, &destination, way)?;
    Ok(reply.bulk_or_null(value.as_deref()))
}

fn rpoplpush(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (source, destination) = (cx.scope.at(args.bytes()?), cx.scope.at(args.bytes()?));
    let way = Move { from: End::Right, to: End::Left };
    let value = transferred(cx, &source, &destination, way)?;
    Ok(reply.bulk_or_null(value.as_deref()))
}
