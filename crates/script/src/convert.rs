//! Replies as Lua values, and Lua values as replies: the conversions of Redis 7.

use std::borrow::Cow;

use mlua::{Lua, Table, Value};
use resp::{Protocol, Writer};

use crate::guard::Fail;

/// Deepest nesting of a reply, in either direction.
const DEPTH_MAX: usize = 512;
/// Values of a reply between two looks at whether the script is to end.
const VALUES: usize = 1_000;

/// Replies that no command of ours writes.
const BROKEN: &str = "ERR a command answered what scripts cannot read";

/// A reply as a Lua value. It is one of our own commands'.
pub(crate) fn to_lua(lua: &Lua, reply: &[u8]) -> Result<Value, Fail> {
    let mut reader = Reader { lua, rest: reply };
    reader.value(0)
}

/// The error that a command answered, as `redis.pcall` shows it.
pub(crate) fn error_table(lua: &Lua, text: &str) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("err", text)?;
    table.raw_set("ignore_error_stats_update", true)?;
    Ok(table)
}

/// An error text in one line, with a code: a word that has nothing behind it is no code.
pub fn command_error(text: &str) -> String {
    let text = text.strip_prefix('-').unwrap_or(text);
    match text.contains(' ') {
        true => text.to_owned(),
        false => format!("ERR {text}"),
    }
}

struct Reader<'r> {
    lua: &'r Lua,
    rest: &'r [u8],
}

impl<'r> Reader<'r> {
    fn broken(&self) -> Fail {
        match error_table(self.lua, BROKEN) {
            Ok(table) => Fail::Raise(Value::Table(table)),
            Err(error) => Fail::Lua(error),
        }
    }

    fn line(&mut self) -> Result<&'r [u8], Fail> {
        let end =
            self.rest.windows(2).position(|two| two == b"\r\n").ok_or_else(|| self.broken())?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = &rest[2..];
        Ok(line)
    }

    fn bytes(&mut self, length: usize) -> Result<&'r [u8], Fail> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.broken())?;
        self.rest = rest.strip_prefix(b"\r\n").ok_or_else(|| self.broken())?;
        Ok(bytes)
    }

    fn text(&self, bytes: &[u8]) -> Result<Value, Fail> {
        Ok(Value::String(self.lua.create_string(bytes)?))
    }

    fn field(&self, name: &str, value: impl mlua::IntoLua) -> Result<Value, Fail> {
        let table = self.lua.create_table_with_capacity(0, 1)?;
        table.raw_set(name, value)?;
        Ok(Value::Table(table))
    }

    fn value(&mut self, depth: usize) -> Result<Value, Fail> {
        if depth > DEPTH_MAX {
            return Err(self.broken());
        }
        let line = self.line()?;
        let (kind, line) = line.split_first().ok_or_else(|| self.broken())?;
        let number = || std::str::from_utf8(line).ok().and_then(|line| line.parse::<i64>().ok());
        let length = || number().and_then(|length| usize::try_from(length).ok());
        match kind {
            b'+' => {
                let text = self.text(line)?;
                self.field("ok", text)
            }
            b'-' => {
                let text = String::from_utf8_lossy(line);
                Ok(Value::Table(error_table(self.lua, &text)?))
            }
            b':' => Ok(number().map_or(Value::Nil, |number| Value::Number(number as f64))),
            b'$' => match length() {
                Some(length) => {
                    let bytes = self.bytes(length)?;
                    self.text(bytes)
                }
                None => Ok(Value::Boolean(false)),
            },
            b'*' | b'>' => match length() {
                Some(length) => self.array(length, depth),
                None => Ok(Value::Boolean(false)),
            },
            b'_' => Ok(Value::Nil),
            b'#' => Ok(Value::Boolean(line == b"t")),
            b',' => {
                let text = String::from_utf8_lossy(line);
                let number = text.parse::<f64>().unwrap_or(f64::NAN);
                self.field("double", number)
            }
            b'(' => {
                let text = self.text(line)?;
                self.field("big_number", text)
            }
            b'=' => self.verbatim(length().unwrap_or(0)),
            b'%' => self.map(length().unwrap_or(0), depth),
            b'~' => self.set(length().unwrap_or(0), depth),
            b'|' => {
                self.map(length().unwrap_or(0), depth)?;
                self.value(depth)
            }
            _ => Err(self.broken()),
        }
    }

    fn array(&mut self, length: usize, depth: usize) -> Result<Value, Fail> {
        let table = self.lua.create_table_with_capacity(length.min(1 << 16), 0)?;
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
            if !key.is_nil() {
                table.raw_set(key, value)?;
            }
        }
        self.field("map", table)
    }

    fn set(&mut self, length: usize, depth: usize) -> Result<Value, Fail> {
        let table = self.lua.create_table()?;
        for _ in 0..length {
            let member = self.value(depth + 1)?;
            if !member.is_nil() {
                table.raw_set(member, true)?;
            }
        }
        self.field("set", table)
    }

    fn verbatim(&mut self, length: usize) -> Result<Value, Fail> {
        let bytes = self.bytes(length)?;
        let (format, text) = bytes.split_at_checked(4).unwrap_or((b"txt:", bytes));
        let table = self.lua.create_table()?;
        table.raw_set("format", self.text(format.get(..3).unwrap_or_default())?)?;
        table.raw_set("string", self.text(text)?)?;
        self.field("verbatim_string", table)
    }
}

/// The value is too large for a reply, or the script is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// What a script returned as a reply.
pub(crate) struct Reply<'o> {
    pub(crate) out: &'o mut Vec<u8>,
    /// Of the client.
    pub(crate) protocol: Protocol,
    /// The script has said `redis.setresp(3)`.
    pub(crate) is_script_v3: bool,
    /// Most bytes of `out`.
    pub(crate) bytes_max: usize,
    /// Values since the last look: few tables, each an element many times, may be many.
    pub(crate) values: usize,
    /// Whether the script is to end.
    pub(crate) is_over: &'o dyn Fn() -> bool,
}

/// A number as a reply: what no integer of 64 bits is, is the smallest one.
fn integer(number: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&number) { number as i64 } else { i64::MIN }
}

impl Reply<'_> {
    fn writer(&mut self) -> Writer<'_> {
        Writer::new(self.out, self.protocol)
    }

    /// Writes a value.
    pub(crate) fn value(&mut self, value: &Value, depth: usize) -> Result<(), TooLarge> {
        if self.out.len() > self.bytes_max {
            return Err(TooLarge);
        }
        self.values += 1;
        if self.values >= VALUES {
            self.values = 0;
            if (self.is_over)() {
                return Err(TooLarge);
            }
        }
        if depth > DEPTH_MAX {
            self.writer().error("ERR reached lua stack limit");
            return Ok(());
        }
        match value {
            Value::String(text) => self.writer().bulk(&text.as_bytes()),
            Value::Integer(number) => self.writer().integer(*number),
            Value::Number(number) => self.writer().integer(integer(*number)),
            Value::Boolean(value) if self.is_script_v3 => self.writer().boolean(*value),
            Value::Boolean(true) => self.writer().integer(1),
            Value::Table(table) => return self.table(table, depth),
            _ => self.writer().null(),
        }
        Ok(())
    }

    fn table(&mut self, table: &Table, depth: usize) -> Result<(), TooLarge> {
        let field = |name: &str| table.raw_get::<Value>(name).unwrap_or(Value::Nil);
        if let Some(text) = text_of(&field("err")) {
            self.writer().error(text.strip_prefix('-').unwrap_or(&text));
            return Ok(());
        }
        if let Some(text) = text_of(&field("ok")) {
            self.writer().simple(&text);
            return Ok(());
        }
        match field("double") {
            Value::Number(number) => {
                self.writer().float(number);
                return Ok(());
            }
            Value::Integer(number) => {
                self.writer().float(number as f64);
                return Ok(());
            }
            _ => {}
        }
        if let Value::Table(map) = field("map") {
            return self.map(&map, depth);
        }
        if let Value::Table(set) = field("set") {
            return self.set(&set, depth);
        }
        if let Some(digits) = text_of(&field("big_number")) {
            self.writer().big_number(&digits);
            return Ok(());
        }
        if let Value::Table(verbatim) = field("verbatim_string")
            && let Ok(Value::String(text)) = verbatim.raw_get("string")
        {
            self.writer().verbatim(&text.as_bytes());
            return Ok(());
        }
        self.array(table, depth)
    }

    // Twice over each table, to count and to write: Rust can hold some 8,000 of Lua's values at a
    // time, so one at each depth has to do.

    fn array(&mut self, table: &Table, depth: usize) -> Result<(), TooLarge> {
        let item = |at: usize| table.raw_get(at).ok().filter(|item: &Value| !item.is_nil());
        let count = (1..).take_while(|at| item(*at).is_some()).count();
        self.writer().array(count);
        (1..=count).filter_map(item).try_for_each(|item| self.value(&item, depth + 1))
    }

    fn map(&mut self, map: &Table, depth: usize) -> Result<(), TooLarge> {
        let pairs = || map.pairs::<Value, Value>().filter_map(Result::ok);
        self.writer().map(pairs().count());
        for (key, value) in pairs() {
            self.value(&key, depth + 1)?;
            self.value(&value, depth + 1)?;
        }
        Ok(())
    }

    fn set(&mut self, set: &Table, depth: usize) -> Result<(), TooLarge> {
        let members = || set.pairs::<Value, Value>().filter_map(Result::ok);
        self.writer().set(members().count());
        for (member, _) in members() {
            self.value(&member, depth + 1)?;
        }
        Ok(())
    }
}

fn text_of(value: &Value) -> Option<Cow<'static, str>> {
    let Value::String(text) = value else { return None };
    let text = text.to_string_lossy();
    // One line: what stands behind an end of line would be another reply.
    Some(text.trim_end_matches(['\r', '\n']).replace(['\r', '\n'], " ").into())
}
