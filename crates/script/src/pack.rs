//! `struct`: packed binary data, by the format letters of Lua's struct library 0.2.

use mlua::{Lua, MultiValue, Table, Value};

use crate::args::Args;
use crate::guard::{Answer, Fail, function, one};

/// Largest integer, in bytes.
const INTEGER_MAX: usize = 32;
/// Alignment where a format asks for the machine's own.
const NATIVE_ALIGN: usize = 8;
/// Longest text of `pack`.
const BYTES_MAX: usize = 256 << 20;
/// Most values that one call holds, arguments and results. Rust can hold some 8,000 of Lua's.
const HELD_MAX: usize = 7_000;

/// The library.
pub(crate) fn library(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let set = |name: &'static str, call: fn(&Args<'_>) -> Answer| {
        let call = function(lua, move |lua, args| call(&Args::new(lua, name, args)))?;
        table.raw_set(name, call)
    };
    set("pack", pack)?;
    set("unpack", unpack)?;
    set("size", size)?;
    Ok(table)
}

/// What a letter stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Signed,
    Unsigned,
    Float,
    Double,
    /// One byte of padding.
    Padding,
    /// Ends at a zero.
    Text,
    /// So many bytes; 0: as many as the value before says, or all.
    Bytes,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    kind: Kind,
    size: usize,
    /// Bytes in front of it.
    padding: usize,
    is_little: bool,
}

/// Reads a format, item by item.
struct Format<'f> {
    text: &'f [u8],
    at: usize,
    is_little: bool,
    align: usize,
}

impl<'f> Format<'f> {
    fn new(text: &'f [u8]) -> Self {
        Self { text, at: 0, is_little: cfg!(target_endian = "little"), align: 1 }
    }

    /// The number behind a letter, if there is one.
    fn number(&mut self, default: usize) -> Result<usize, Fail> {
        let begin = self.at;
        let mut value = 0_usize;
        while let Some(digit) = self.text.get(self.at).filter(|byte| byte.is_ascii_digit()) {
            value = value * 10 + usize::from(digit - b'0');
            if value > i32::MAX as usize {
                return Err(Fail::At("integral size overflow".into()));
            }
            self.at += 1;
        }
        Ok(if self.at == begin { default } else { value })
    }

    fn integer(&mut self, default: usize) -> Result<usize, Fail> {
        let size = self.number(default)?;
        if size > INTEGER_MAX {
            return Err(Fail::At(format!(
                "integral size {size} is larger than limit of {INTEGER_MAX}"
            )));
        }
        Ok(size)
    }

    /// The next item, behind `total` bytes.
    fn next(&mut self, args: &Args<'_>, total: usize) -> Result<Option<Item>, Fail> {
        use Kind::{Bytes, Double, Float, Padding, Signed, Text, Unsigned};
        while let Some(letter) = self.text.get(self.at).copied() {
            self.at += 1;
            let (kind, size) = match letter {
                b'b' => (Signed, 1),
                b'B' => (Unsigned, 1),
                b'h' => (Signed, 2),
                b'H' => (Unsigned, 2),
                b'l' => (Signed, 8),
                b'L' | b'T' => (Unsigned, 8),
                b'i' => (Signed, self.integer(4)?),
                b'I' => (Unsigned, self.integer(4)?),
                b'f' => (Float, 4),
                b'd' | b'n' => (Double, 8),
                b'x' => (Padding, 1),
                b's' => (Text, 0),
                b'c' => (Bytes, self.number(1)?),
                b' ' => continue,
                b'<' | b'>' => {
                    self.is_little = letter == b'<';
                    continue;
                }
                b'!' => {
                    let align = self.number(NATIVE_ALIGN)?;
                    if !align.is_power_of_two() {
                        return Err(Fail::At(format!("alignment {align} is not a power of 2")));
                    }
                    self.align = align;
                    continue;
                }
                other => {
                    let other = char::from(other);
                    return Err(args.bad(0, format_args!("invalid format option '{other}'")));
                }
            };
            let is_aligned = !matches!(kind, Padding | Text | Bytes);
            let align = if is_aligned { size.min(self.align) } else { 0 };
            let padding = if align > 1 { (align - (total & (align - 1))) & (align - 1) } else { 0 };
            return Ok(Some(Item { kind, size, padding, is_little: self.is_little }));
        }
        Ok(None)
    }
}

/// A number's low bytes.
fn integer_bytes(value: f64, size: usize, is_little: bool) -> Vec<u8> {
    // Large positive numbers keep their bits, as C's cast to an unsigned integer.
    let value =
        if value >= 9_223_372_036_854_775_808.0 { value as u64 as i64 } else { value as i64 };
    let fill = if value < 0 { 0xff } else { 0 };
    let mut bytes = value.to_le_bytes().to_vec();
    bytes.resize(INTEGER_MAX, fill);
    bytes.truncate(size);
    if !is_little {
        bytes.reverse();
    }
    bytes
}

fn pack(args: &Args<'_>) -> Answer {
    let text = args.bytes(0)?;
    let mut format = Format::new(&text);
    let (mut out, mut next) = (Vec::<u8>::new(), 1);
    while let Some(item) = format.next(args, out.len())? {
        out.resize(out.len() + item.padding, 0);
        let at = next;
        if item.kind != Kind::Padding {
            next += 1;
        }
        let number = || match args.get(at) {
            Some(_) => args.number(at),
            None => Err(args.bad(at, "number expected, got nil")),
        };
        match item.kind {
            Kind::Padding => out.push(0),
            Kind::Signed | Kind::Unsigned => {
                out.extend(integer_bytes(number()?, item.size, item.is_little));
            }
            Kind::Float | Kind::Double => {
                let value = number()?;
                let mut bytes = match item.kind {
                    Kind::Float => (value as f32).to_le_bytes().to_vec(),
                    _ => value.to_le_bytes().to_vec(),
                };
                if !item.is_little {
                    bytes.reverse();
                }
                out.extend(bytes);
            }
            Kind::Text | Kind::Bytes => {
                let bytes = args.bytes(at)?;
                let size = if item.size == 0 { bytes.len() } else { item.size };
                let bytes = bytes.get(..size).ok_or_else(|| args.bad(at, "string too short"))?;
                out.extend_from_slice(bytes);
                if item.kind == Kind::Text {
                    out.push(0);
                }
            }
        }
        if out.len() > BYTES_MAX {
            return Err(Fail::At("the packed text is too long".into()));
        }
    }
    one(args.lua, args.lua.create_string(out)?)
}

fn unpack(args: &Args<'_>) -> Answer {
    let (text, data) = (args.bytes(0)?, args.bytes(1)?);
    let offset = if args.get(2).is_some() { args.integer(2)? } else { 1 };
    let Some(mut at) = usize::try_from(offset).ok().and_then(|offset| offset.checked_sub(1)) else {
        return Err(args.bad(2, "offset must be 1 or greater"));
    };
    let short = || args.bad(1, "data string too short");
    let mut format = Format::new(&text);
    let mut values: Vec<Value> = Vec::new();
    while let Some(item) = format.next(args, at)? {
        if args.len() + values.len() >= HELD_MAX {
            return Err(Fail::At("too many results to unpack".into()));
        }
        at = at.checked_add(item.padding).ok_or_else(short)?;
        let size = match item.kind {
            Kind::Text => {
                let rest = data.get(at..).ok_or_else(short)?;
                let length = rest.iter().position(|byte| *byte == 0);
                length.ok_or_else(|| Fail::At("unfinished string in data".into()))? + 1
            }
            Kind::Bytes if item.size == 0 => {
                let before = values.pop().and_then(|value| match value {
                    Value::Number(number) => Some(number),
                    _ => None,
                });
                let Some(before) = before else {
                    return Err(Fail::At("format 'c0' needs a previous size".into()));
                };
                before as usize
            }
            _ => item.size,
        };
        let end = at.checked_add(size).ok_or_else(short)?;
        let bytes = data.get(at..end).ok_or_else(short)?;
        at = end;
        match item.kind {
            Kind::Padding => {}
            Kind::Text => {
                let text = bytes.get(..size - 1).unwrap_or_default();
                values.push(Value::String(args.lua.create_string(text)?));
            }
            Kind::Bytes => values.push(Value::String(args.lua.create_string(bytes)?)),
            _ => values.push(Value::Number(number(bytes, item))),
        }
    }
    let mut values = MultiValue::from_iter(values);
    values.push_back(Value::Number((at + 1) as f64));
    Ok(values)
}

/// A number of a data string. Of a large integer the low 64 bits count.
fn number(bytes: &[u8], item: Item) -> f64 {
    let mut low = [0; 8];
    let count = bytes.len().min(8);
    for (at, byte) in low.iter_mut().enumerate().take(count) {
        let from = if item.is_little { at } else { bytes.len() - 1 - at };
        *byte = bytes.get(from).copied().unwrap_or(0);
    }
    let unsigned = u64::from_le_bytes(low);
    match item.kind {
        Kind::Float => f64::from(f32::from_bits(unsigned as u32)),
        Kind::Double => f64::from_bits(unsigned),
        Kind::Signed if count > 0 => {
            let unused = 64 - 8 * count as u32;
            (((unsigned << unused) as i64) >> unused) as f64
        }
        _ => unsigned as f64,
    }
}

fn size(args: &Args<'_>) -> Answer {
    let text = args.bytes(0)?;
    let mut format = Format::new(&text);
    let mut total = 0_usize;
    while let Some(item) = format.next(args, total)? {
        let name = match item.kind {
            Kind::Text => Some("s"),
            Kind::Bytes if item.size == 0 => Some("c0"),
            _ => None,
        };
        if let Some(name) = name {
            return Err(args.bad(0, format_args!("option '{name}' has no fixed size")));
        }
        total = total.saturating_add(item.padding).saturating_add(item.size);
        if total > i32::MAX as usize {
            return Err(Fail::At("total size overflow".into()));
        }
    }
    one(args.lua, total)
}
