//! `cmsgpack`: MessagePack, with the choices of lua-cmsgpack: the shortest form of each number, a
//! table as an array if its keys are 1, 2, 3…, tables nested too deeply as nil.

use mlua::{Lua, MultiValue, Table, Value};

use crate::args::Args;
use crate::guard::{Answer, Fail, function, one};
use crate::looks::Steps;

/// Deepest nesting of tables that are packed.
const PACK_DEPTH: usize = 16;
/// Deepest nesting that is unpacked: what is deeper would use up the thread's stack.
const UNPACK_DEPTH: usize = 1_000;
/// Longest text of `pack`.
const BYTES_MAX: usize = 256 << 20;

/// The library.
pub(crate) fn library(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    table.raw_set("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo")?;
    table.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    let set = |name: &'static str, call: fn(&Args<'_>) -> Answer| {
        let call = function(lua, move |lua, args| call(&Args::new(lua, name, args)))?;
        table.raw_set(name, call)
    };
    set("pack", pack)?;
    set("unpack", |args| unpack(args, 0, 0))?;
    set("unpack_one", |args| {
        let offset = if args.get(1).is_some() { args.integer(1)? } else { 0 };
        unpack(args, 1, offset)
    })?;
    set("unpack_limit", |args| {
        let limit = args.integer(1)?;
        let offset = if args.get(2).is_some() { args.integer(2)? } else { 0 };
        unpack(args, limit, offset)
    })?;
    Ok(table)
}

fn pack(args: &Args<'_>) -> Answer {
    if args.len() == 0 {
        let what = "bad argument #0 to 'pack' (MessagePack pack needs input.)";
        return Err(Fail::At(what.into()));
    }
    let mut packer = Packer { lua: args.lua, out: Vec::new(), steps: Steps::default() };
    for at in 0..args.len() {
        packer.put(args.any(at)?, 0)?;
    }
    one(args.lua, args.lua.create_string(packer.out)?)
}

struct Packer<'p> {
    lua: &'p Lua,
    out: Vec<u8>,
    steps: Steps,
}

/// A head byte and a length of 8 (if there is such a form), 16 or 32 bits.
fn head(out: &mut Vec<u8>, (byte, short, long): (Option<u8>, u8, u8), length: usize) {
    match (u8::try_from(length), byte, u16::try_from(length)) {
        (Ok(length), Some(byte), _) => out.extend_from_slice(&[byte, length]),
        (_, _, Ok(length)) => {
            out.push(short);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(long);
            out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
}

impl Packer<'_> {
    fn put(&mut self, value: &Value, depth: usize) -> Result<(), Fail> {
        let more = if let Value::String(text) = value { text.as_bytes().len() } else { 0 };
        if self.out.len().saturating_add(more) > BYTES_MAX {
            return Err(Fail::At("the packed text is too long".into()));
        }
        self.steps.take(self.lua, more)?;
        let out = &mut self.out;
        match value {
            Value::Boolean(value) => out.push(if *value { 0xc3 } else { 0xc2 }),
            Value::Integer(value) => put_integer(out, *value),
            Value::Number(value) => put_number(out, *value),
            Value::String(text) => {
                let bytes = text.as_bytes();
                match u8::try_from(bytes.len()) {
                    Ok(length) if length < 32 => out.push(0xa0 | length),
                    _ => head(out, (Some(0xd9), 0xda, 0xdb), bytes.len()),
                }
                out.extend_from_slice(&bytes);
            }
            Value::Table(table) if depth < PACK_DEPTH => self.put_table(table, depth)?,
            _ => out.push(0xc0),
        }
        Ok(())
    }

    /// How many elements a table has whose keys are 1, 2, 3…
    fn length_of_array(&mut self, table: &Table) -> Result<Option<usize>, Fail> {
        let (mut max, mut count) = (0, 0);
        for pair in table.pairs::<Value, Value>() {
            self.steps.take(self.lua, 0)?;
            let index = match pair?.0 {
                Value::Integer(index) => index,
                Value::Number(index) if index.fract() == 0.0 => index as i64,
                _ => return Ok(None),
            };
            let Ok(index) = usize::try_from(index) else { return Ok(None) };
            if index == 0 {
                return Ok(None);
            }
            max = max.max(index);
            count += 1;
        }
        Ok((max == count).then_some(count))
    }

    fn put_table(&mut self, table: &Table, depth: usize) -> Result<(), Fail> {
        if let Some(length) = self.length_of_array(table)? {
            match u8::try_from(length) {
                Ok(length) if length < 16 => self.out.push(0x90 | length),
                _ => head(&mut self.out, (None, 0xdc, 0xdd), length),
            }
            for at in 1..=length {
                self.put(&table.raw_get(at)?, depth + 1)?;
            }
            return Ok(());
        }
        // Twice: Rust cannot hold all of them at a time.
        let mut count = 0_usize;
        for pair in table.pairs::<Value, Value>() {
            self.steps.take(self.lua, 0)?;
            pair?;
            count += 1;
        }
        match u8::try_from(count) {
            Ok(length) if length < 16 => self.out.push(0x80 | length),
            _ => head(&mut self.out, (None, 0xde, 0xdf), count),
        }
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            self.put(&key, depth + 1)?;
            self.put(&value, depth + 1)?;
        }
        Ok(())
    }
}

fn put_integer(out: &mut Vec<u8>, value: i64) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        0x1_0000_0000.. => {
            out.push(0xcf);
            out.extend_from_slice(&value.to_be_bytes());
        }
        -32..=-1 => out.push(value as i8 as u8),
        -128..=-33 => out.extend_from_slice(&[0xd0, value as i8 as u8]),
        -0x8000..=-129 => {
            out.push(0xd1);
            out.extend_from_slice(&(value as i16).to_be_bytes());
        }
        -0x8000_0000..=-0x8001 => {
            out.push(0xd2);
            out.extend_from_slice(&(value as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

fn put_number(out: &mut Vec<u8>, value: f64) {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if value.fract() == 0.0 && (-LIMIT..LIMIT).contains(&value) {
        return put_integer(out, value as i64);
    }
    let short = value as f32;
    if f64::from(short) == value {
        out.push(0xca);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Unpacks `limit` values from `offset` on, or all; with a limit the offset of the next one comes
/// first, or -1 at the end.
fn unpack(args: &Args<'_>, limit: i64, offset: i64) -> Answer {
    let text = args.bytes(0)?;
    if offset < 0 || limit < 0 {
        return Err(Fail::At(format!(
            "Invalid request to unpack with offset of {offset} and limit of {}.",
            text.len()
        )));
    }
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    if offset > text.len() {
        return Err(Fail::At(format!(
            "Start offset {offset} greater than input length {}.",
            text.len()
        )));
    }
    let mut reader = Unpacker { lua: args.lua, text: &text, at: offset, held: args.len() };
    let mut values = MultiValue::new();
    let limit = match limit {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    while reader.at < text.len() && values.len() < limit {
        if reader.held >= HELD_MAX {
            return Err(Fail::At("Too many values to unpack.".into()));
        }
        values.push_back(reader.value(0)?);
        reader.held += 1;
    }
    if limit != usize::MAX {
        let next = if reader.at < text.len() { reader.at as f64 } else { -1.0 };
        values.push_front(Value::Number(next));
    }
    Ok(values)
}

/// Most values that one call holds, arguments and results. Rust can hold some 8,000 of Lua's.
const HELD_MAX: usize = 7_000;

struct Unpacker<'u> {
    lua: &'u Lua,
    text: &'u [u8],
    at: usize,
    /// Values that are held beside those being read.
    held: usize,
}

fn missing() -> Fail {
    Fail::At("Missing bytes in input.".into())
}

impl Unpacker<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fail> {
        let bytes = self.text.get(self.at..).and_then(<[u8]>::first_chunk::<N>);
        let bytes = *bytes.ok_or_else(missing)?;
        self.at += N;
        Ok(bytes)
    }

    fn count(&mut self, width: usize) -> Result<usize, Fail> {
        Ok(match width {
            1 => usize::from(u8::from_be_bytes(self.take()?)),
            2 => usize::from(u16::from_be_bytes(self.take()?)),
            _ => usize::try_from(u32::from_be_bytes(self.take()?)).unwrap_or(usize::MAX),
        })
    }

    fn string(&mut self, length: usize) -> Result<Value, Fail> {
        let end = self.at.checked_add(length).ok_or_else(missing)?;
        let bytes = self.text.get(self.at..end).ok_or_else(missing)?;
        self.at = end;
        Ok(Value::String(self.lua.create_string(bytes)?))
    }

    fn array(&mut self, length: usize, depth: usize) -> Result<Value, Fail> {
        let table = self.lua.create_table()?;
        for at in 1..=length {
            let value = self.value(depth + 1)?;
            table.raw_set(at, value)?;
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, length: usize, depth: usize) -> Result<Value, Fail> {
        let table = self.lua.create_table()?;
        for _ in 0..length {
            let (key, value) = (self.value(depth + 1)?, self.value(depth + 1)?);
            // Lua has no such keys.
            let is_key = !key.is_nil() && !matches!(&key, Value::Number(key) if key.is_nan());
            if is_key {
                table.raw_set(key, value)?;
            }
        }
        Ok(Value::Table(table))
    }

    fn value(&mut self, depth: usize) -> Result<Value, Fail> {
        // A table and a key at each depth.
        if depth > UNPACK_DEPTH || self.held + 2 * depth > HELD_MAX {
            return Err(Fail::At("Found too many nested data structures.".into()));
        }
        let [head] = self.take()?;
        let number = |number: f64| Ok(Value::Number(number));
        match head {
            0x00..=0x7f => number(f64::from(head)),
            0xe0..=0xff => number(f64::from(head as i8)),
            0x80..=0x8f => self.map(usize::from(head & 0x0f), depth),
            0x90..=0x9f => self.array(usize::from(head & 0x0f), depth),
            0xa0..=0xbf => self.string(usize::from(head & 0x1f)),
            0xc0 => Ok(Value::Nil),
            0xc2 | 0xc3 => Ok(Value::Boolean(head == 0xc3)),
            0xc4..=0xc6 | 0xd9..=0xdb => {
                let width = match head {
                    0xc4 | 0xd9 => 1,
                    0xc5 | 0xda => 2,
                    _ => 4,
                };
                let length = self.count(width)?;
                self.string(length)
            }
            0xca => number(f64::from(f32::from_be_bytes(self.take()?))),
            0xcb => number(f64::from_be_bytes(self.take()?)),
            0xcc => number(f64::from(u8::from_be_bytes(self.take()?))),
            0xcd => number(f64::from(u16::from_be_bytes(self.take()?))),
            0xce => number(f64::from(u32::from_be_bytes(self.take()?))),
            0xcf => number(u64::from_be_bytes(self.take()?) as f64),
            0xd0 => number(f64::from(i8::from_be_bytes(self.take()?))),
            0xd1 => number(f64::from(i16::from_be_bytes(self.take()?))),
            0xd2 => number(f64::from(i32::from_be_bytes(self.take()?))),
            0xd3 => number(i64::from_be_bytes(self.take()?) as f64),
            0xdc | 0xdd => {
                let length = self.count(if head == 0xdc { 2 } else { 4 })?;
                self.array(length, depth)
            }
            0xde | 0xdf => {
                let length = self.count(if head == 0xde { 2 } else { 4 })?;
                self.map(length, depth)
            }
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => Err(Fail::At("Bad data format in input.".into())),
        }
    }
}
