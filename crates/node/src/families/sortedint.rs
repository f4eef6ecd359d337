//! Sorted sets of whole numbers, which only Kvrocks has. Replies are Kvrocks'.

use std::ops::RangeInclusive;

use storage::Direction;
use storage::types::sortedint::{self, Range};

use crate::command::keys::KEY;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{Command, ReadCx, WriteCx};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::write("siadd",             -3, KEY, siadd),
    Command::write("sirem",             -3, KEY, sirem).removes(),
    Command::read ("sicard",             2, KEY, sicard),
    Command::read ("siexists",          -3, KEY, siexists),
    Command::read ("sirange",           -4, KEY, sirange),
    Command::read ("sirevrange",        -4, KEY, sirevrange),
    Command::read ("sirangebyvalue",    -4, KEY, sirangebyvalue),
    Command::read ("sirevrangebyvalue", -4, KEY, sirevrangebyvalue),
];

/// A number without sign: all 64 bits count.
fn number(text: &[u8]) -> Result<u64> {
    let digits = std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'));
    digits.and_then(|digits| digits.parse().ok()).ok_or(Error::NotInteger)
}

fn numbers(args: &mut Args<'_>) -> Result<Vec<u64>> {
    args.rest().iter().map(|text| number(text)).collect()
}

fn siadd(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, numbers) = (cx.scope.at(args.bytes()?), numbers(args)?);
    Ok(reply.number(sortedint::add(&mut cx.txn, &at, &numbers)?))
}

fn sirem(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, numbers) = (cx.scope.at(args.bytes()?), numbers(args)?);
    Ok(reply.number(sortedint::remove(&mut cx.txn, &at, &numbers)?))
}

fn sicard(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    Ok(reply.number(sortedint::len(cx.txn, &cx.scope.at(args.bytes()?))?))
}

fn siexists(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, numbers) = (cx.scope.at(args.bytes()?), numbers(args)?);
    let held = sortedint::has(&cx.txn.snapshot(), &at, &numbers)?;
    Ok(reply.with(|writer| {
        writer.array(held.len());
        held.into_iter().for_each(|is_held| writer.integer(i64::from(is_held)));
    }))
}

fn list(cx: &ReadCx<'_>, key: &[u8], range: &Range, reply: Reply<'_>) -> Result<Replied> {
    let snapshot = cx.txn.snapshot();
    reply.listing(
        |writer, count| writer.array(count),
        |writer| {
            let mut count = 0;
            sortedint::for_each(&snapshot, &cx.scope.at(key), range, |number| {
                count += 1;
                writer.bulk(itoa::Buffer::new().format(number).as_bytes());
            })?;
            Ok(count)
        },
    )
}

/// A number that is negative stands for one that is very large, as in Kvrocks.
fn limit(args: &mut Args<'_>) -> Result<u64> {
    Ok(u64::try_from(args.integer()?).unwrap_or(u64::MAX))
}

/// As many as there are, where it is 0.
fn most(args: &mut Args<'_>) -> Result<u64> {
    Ok(Some(limit(args)?).filter(|count| *count > 0).unwrap_or(u64::MAX))
}

/// By place; behind CURSOR is the last number of the page before, or 0 if there was none. As in
/// Kvrocks, CURSOR without a number says nothing, and 0 of the numbers is no limit.
fn by_place(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
    direction: Direction,
) -> Result<Replied> {
    let (key, offset, count) = (args.bytes()?, limit(args)?, most(args)?);
    let mut range = Range { numbers: 0..=u64::MAX, direction, offset, count };
    if args.len() == 2 {
        if args.word().as_deref() != Some(b"CURSOR") {
            return Err(Error::Syntax);
        }
        let cursor = number(args.bytes()?)?;
        range.numbers = match direction {
            Direction::Forward => above(cursor),
            Direction::Reverse if cursor == 0 => 0..=u64::MAX,
            Direction::Reverse => below(cursor),
        };
    }
    list(cx, key, &range, reply)
}

#[expect(clippy::reversed_empty_ranges, reason = "an empty range is meant")]
const NONE: RangeInclusive<u64> = 1..=0;

fn above(number: u64) -> RangeInclusive<u64> {
    number.checked_add(1).map_or(NONE, |next| next..=u64::MAX)
}

fn below(number: u64) -> RangeInclusive<u64> {
    number.checked_sub(1).map_or(NONE, |last| 0..=last)
}

fn sirange(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    by_place(cx, args, reply, Direction::Forward)
}

fn sirevrange(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    by_place(cx, args, reply, Direction::Reverse)
}

/// A bound, and whether it is left out itself; beyond all numbers there is `-inf` and `+inf`.
fn bound(text: &[u8], what: &'static str) -> Result<(u64, bool)> {
    match text {
        b"-inf" => return Ok((0, false)),
        b"+inf" => return Ok((u64::MAX, false)),
        _ => {}
    }
    let (digits, is_excluded) = match text {
        [b'(', digits @ ..] => (digits, true),
        digits => (digits, false),
    };
    let value = number(digits).map_err(|_| Error::err(format_args!("the {what} isn't integer")))?;
    Ok((value, is_excluded))
}

/// By number, between two bounds. As in Kvrocks, one or two words behind them say nothing, and of a
/// LIMIT what is negative does not, nor a count of 0.
fn by_value(
    cx: &ReadCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
    direction: Direction,
) -> Result<Replied> {
    let (key, first, second) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let (min, max) = match direction {
        Direction::Forward => (first, second),
        Direction::Reverse => (second, first),
    };
    if min == b"+inf" || max == b"-inf" {
        return Err(Error::err("min > max"));
    }
    let (min, is_above) = bound(min, "min")?;
    let (max, is_below) = bound(max, "max")?;
    let lower = if is_above { above(min) } else { min..=u64::MAX };
    let upper = if is_below { below(max) } else { 0..=max };
    let numbers = match lower.is_empty() || upper.is_empty() {
        true => NONE,
        false => *lower.start()..=*upper.end(),
    };
    let mut range = Range { numbers, direction, offset: 0, count: u64::MAX };
    if args.len() == 3 {
        if args.word().as_deref() != Some(b"LIMIT") {
            return Err(Error::Syntax);
        }
        range.offset = u64::try_from(args.integer()?).unwrap_or_default();
        range.count = most(args)?;
    }
    list(cx, key, &range, reply)
}

fn sirangebyvalue(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    by_value(cx, args, reply, Direction::Forward)
}

fn sirevrangebyvalue(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    by_value(cx, args, reply, Direction::Reverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_sign_and_all_their_bits() {
        for (text, value) in [("0", 0), ("18446744073709551615", u64::MAX), ("007", 7)] {
            assert_eq!(number(text.as_bytes()).unwrap(), value);
        }
        for text in ["", "-1", "+1", " 1", "1 ", "1.0", "18446744073709551616", "abc"] {
            assert!(number(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn bounds_at_the_ends_leave_nothing() {
        assert!(above(u64::MAX).is_empty());
        assert!(below(0).is_empty());
        assert_eq!((above(1), below(1)), (2..=u64::MAX, 0..=0));
    }
}
