//! Bits of bitmaps and strings. Replies are Redis 7's.

use storage::types::bitmap::{
    self, Action, Bits, Encoding, Field, MAX_BITS, Operation, Overflow, Span, Unit,
};

use crate::command::args::parse_integer;
use crate::command::keys::{KEY, Keys};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::{Command, ReadCx, WriteCx};

/// Behind the name of an operation: where the result goes, and what it is made of.
const OPERANDS: Keys = Keys::Range { first: 2, last: -1, step: 1 };

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::read ("getbit",       3, KEY,      getbit).fast(),
    Command::write("setbit",       4, KEY,      setbit),
    Command::read ("bitcount",    -2, KEY,      bitcount),
    Command::read ("bitpos",      -3, KEY,      bitpos),
    Command::write("bitop",       -4, OPERANDS, bitop),
    Command::write("bitfield",    -2, KEY,      bitfield),
    Command::read ("bitfield_ro", -2, KEY,      bitfield_ro).fast(),
];

/// The number of a bit; one that begins with `#` counts fields of that width.
fn offset(text: &[u8], width: Option<u64>) -> Result<u64> {
    let (digits, unit) = match (text, width) {
        ([b'#', digits @ ..], Some(width)) => (digits, width),
        _ => (text, 1),
    };
    parse_integer(digits)
        .and_then(|number| u64::try_from(number).ok()?.checked_mul(unit))
        .filter(|bit| *bit < MAX_BITS)
        .ok_or_else(|| Error::text("ERR bit offset is not an integer or out of range"))
}

fn getbit(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, bit) = (cx.scope.at(args.bytes()?), offset(args.bytes()?, None)?);
    let bits = Bits::find(cx.txn, &at)?;
    cx.count(bits.is_some());
    Ok(reply.flag(match bits {
        Some(bits) => bits.get(cx.txn, bit)?,
        None => false,
    }))
}

fn setbit(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, bit) = (args.bytes()?, offset(args.bytes()?, None)?);
    let is_one = match parse_integer(args.bytes()?) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(Error::text("ERR bit is not an integer or out of range")),
    };
    Ok(reply.flag(bitmap::set(&mut cx.txn, &cx.scope.at(key), bit, is_one)?))
}

/// The word behind two bounds.
fn unit(args: &mut Args<'_>) -> Result<Unit> {
    match args.word().as_deref() {
        None => Ok(Unit::Byte),
        Some(b"BYTE") => Ok(Unit::Byte),
        Some(b"BIT") => Ok(Unit::Bit),
        Some(_) => Err(Error::Syntax),
    }
}

fn bitcount(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, snapshot) = (cx.scope.at(args.bytes()?), cx.txn.snapshot());
    // As in Redis, what follows does not matter where there is nothing.
    let Some(bits) = Bits::find(&snapshot, &at)? else { return Ok(reply.integer(0)) };
    let mut span = Span::ALL;
    if !args.is_empty() {
        let (start, end) = (args.bytes()?, args.bytes()?);
        let integer = |text| parse_integer(text).ok_or(Error::NotInteger);
        (span.start, span.end) = (integer(start)?, Some(integer(end)?));
        // As in Redis, neither does the word behind bounds that leave nothing of any value.
        if span.is_reversed() && args.len() <= 1 {
            return Ok(reply.integer(0));
        }
        span.unit = unit(args)?;
        args.end()?;
    }
    Ok(reply.number(bits.count(&snapshot, span)?))
}

fn bitpos(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let at = cx.scope.at(args.bytes()?);
    let is_one = match args.integer()? {
        0 => false,
        1 => true,
        _ => return Err(Error::text("ERR The bit argument must be 1 or 0.")),
    };
    let snapshot = cx.txn.snapshot();
    let Some(bits) = Bits::find(&snapshot, &at)? else {
        return Ok(reply.integer(if is_one { -1 } else { 0 }));
    };
    let mut span = Span::ALL;
    if !args.is_empty() {
        span.start = args.integer()?;
        if !args.is_empty() {
            span.end = Some(args.integer()?);
        }
        span.unit = unit(args)?;
        args.end()?;
    }
    Ok(match bits.position(&snapshot, is_one, span)? {
        Some(bit) => reply.number(bit),
        None => reply.integer(-1),
    })
}

fn bitop(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let name = args.bytes()?;
    let operation = match name.to_ascii_uppercase().as_slice() {
        b"AND" => Operation::And,
        b"OR" => Operation::Or,
        b"XOR" => Operation::Xor,
        b"NOT" => Operation::Not,
        _ => return Err(Error::Syntax),
    };
    let (to, from) = (cx.scope.at(args.bytes()?), args.rest());
    if operation == Operation::Not && from.len() != 1 {
        return Err(Error::text("ERR BITOP NOT must be called with a single source key."));
    }
    Ok(reply.number(bitmap::combine(&mut cx.txn, &to, (operation, name), from)?))
}

/// What follows the key of BITFIELD.
fn fields(args: &mut Args<'_>) -> Result<Vec<Field>> {
    let (mut fields, mut overflow) = (Vec::new(), Overflow::Wrap);
    while let Some(word) = args.word() {
        if *word == *b"OVERFLOW" && !args.is_empty() {
            overflow = match args.word().as_deref() {
                Some(b"WRAP") => Overflow::Wrap,
                Some(b"SAT") => Overflow::Saturate,
                Some(b"FAIL") => Overflow::Fail,
                _ => return Err(Error::text("ERR Invalid OVERFLOW type specified")),
            };
            continue;
        }
        let has_number = match &*word {
            b"GET" if args.len() >= 2 => false,
            b"SET" | b"INCRBY" if args.len() >= 3 => true,
            _ => return Err(Error::Syntax),
        };
        let encoding = Encoding::parse(args.bytes()?).ok_or_else(|| {
            Error::text(
                "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not \
                 supported but i64 is.",
            )
        })?;
        let offset = offset(args.bytes()?, Some(encoding.bits()))?;
        let action = match (&*word, has_number) {
            (b"SET", true) => Action::Set(args.integer()?),
            (_, true) => Action::Incr(args.integer()?),
            (_, false) => Action::Get,
        };
        fields.push(Field { encoding, offset, action, overflow });
    }
    Ok(fields)
}

fn bitfield(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, fields) = (cx.scope.at(args.bytes()?), fields(args)?);
    let values = bitmap::edit_fields(&mut cx.txn, &at, &fields)?;
    Ok(reply.with(|writer| {
        writer.array(values.len());
        for value in values {
            match value {
                Some(value) => writer.integer(value),
                None => writer.null(),
            }
        }
    }))
}

fn bitfield_ro(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (at, fields) = (cx.scope.at(args.bytes()?), fields(args)?);
    if fields.iter().any(|field| field.action != Action::Get) {
        return Err(Error::text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    let values = bitmap::read_fields(&cx.txn.snapshot(), &at, &fields)?;
    Ok(reply.with(|writer| {
        writer.array(values.len());
        for value in values {
            writer.integer(value);
        }
    }))
}
