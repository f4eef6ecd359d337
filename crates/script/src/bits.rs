//! `bit`: operations on 32-bit numbers, with the arithmetic of LuaJIT's library.

use mlua::{Lua, Table};

use crate::args::Args;
use crate::guard::{Fail, function, one};

/// A number as 32 bits: rounded to even, modulo 2^32.
fn bits(args: &Args<'_>, at: usize) -> Result<i32, Fail> {
    let number = args.number(at)?;
    // What is added leaves the low bits of the mantissa as the whole number, rounded.
    let shifted = (number + 6_755_399_441_055_744.0).to_bits();
    Ok((shifted & 0xffff_ffff) as u32 as i32)
}

fn fold(args: &Args<'_>, with: fn(i32, i32) -> i32) -> Result<i32, Fail> {
    let mut value = bits(args, 0)?;
    for at in 1..args.len() {
        value = with(value, bits(args, at)?);
    }
    Ok(value)
}

fn shift(args: &Args<'_>, with: fn(u32, u32) -> u32) -> Result<i32, Fail> {
    let (value, by) = (bits(args, 0)? as u32, bits(args, 1)? as u32 & 31);
    Ok(with(value, by) as i32)
}

fn hex(args: &Args<'_>) -> Result<String, Fail> {
    let value = bits(args, 0)? as u32;
    let digits = if args.get(1).is_some() { bits(args, 1)? } else { 8 };
    let count = usize::try_from(digits.unsigned_abs()).unwrap_or(8).min(8);
    let text = if digits < 0 { format!("{value:08X}") } else { format!("{value:08x}") };
    Ok(text[8 - count..].to_owned())
}

type Operation = fn(&Args<'_>) -> Result<i32, Fail>;
const OPERATIONS: [(&str, Operation); 11] = [
    ("tobit", |args| bits(args, 0)),
    ("bnot", |args| Ok(!bits(args, 0)?)),
    ("bswap", |args| Ok(bits(args, 0)?.swap_bytes())),
    ("band", |args| fold(args, |a, b| a & b)),
    ("bor", |args| fold(args, |a, b| a | b)),
    ("bxor", |args| fold(args, |a, b| a ^ b)),
    ("lshift", |args| shift(args, |value, by| value << by)),
    ("rshift", |args| shift(args, |value, by| value >> by)),
    ("arshift", |args| shift(args, |value, by| (value as i32 >> by) as u32)),
    ("rol", |args| shift(args, u32::rotate_left)),
    ("ror", |args| shift(args, u32::rotate_right)),
];

/// The library.
pub(crate) fn library(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for (name, operation) in OPERATIONS {
        let call =
            function(lua, move |lua, args| one(lua, operation(&Args::new(lua, name, args))?))?;
        table.raw_set(name, call)?;
    }
    let tohex = function(lua, |lua, args| one(lua, hex(&Args::new(lua, "tohex", args))?))?;
    table.raw_set("tohex", tohex)?;
    Ok(table)
}
