//! What a script returns as a reply: the conversions of Redis 7.

#![expect(unsafe_code, reason = "values are read where Lua has them, without a copy of them")]

use std::ffi::c_int;

use mlua::{Lua, Table, ffi};
use resp::{Protocol, Writer};

use crate::convert::{DEPTH_MAX, PLACES, push_text};

type State = *mut ffi::lua_State;

/// Values of a reply between two looks at whether the script is to end.
const VALUES: usize = 1_000;

/// Fields that tell what a table is.
const FIELDS: [&str; 8] =
    ["err", "ok", "double", "map", "set", "big_number", "verbatim_string", "string"];

/// Strings that a state does not make again and again, as long as this is there.
pub(crate) fn names(lua: &Lua) -> mlua::Result<Table> {
    lua.create_sequence_from(FIELDS.into_iter().chain(["KEYS", "ARGV"]))
}

/// The value is too large for a reply, or the script is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// The reply that is written.
pub(crate) struct Answer<'o> {
    pub(crate) out: &'o mut Vec<u8>,
    /// Of the client.
    pub(crate) protocol: Protocol,
    /// The script has said `redis.setresp(3)`.
    pub(crate) is_script_v3: bool,
    /// Most bytes of `out`.
    pub(crate) bytes_max: usize,
    /// Whether the script is to end.
    pub(crate) is_over: &'o dyn Fn() -> bool,
    /// Values since the last look: few tables, each an element many times, may be many.
    pub(crate) values: usize,
}

/// A number as a reply: what no integer of 64 bits is, is the smallest one.
fn integer(number: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&number) { number as i64 } else { i64::MIN }
}

/// The string on top of the stack, in one line: what stands behind an end of line would be another
/// reply. `None` for what is none.
// SAFETY: no error of Lua's comes up here: a string is not made anew.
unsafe fn text(state: State) -> Option<String> {
    let text = String::from_utf8_lossy(unsafe { bytes(state, -1) }?);
    Some(text.trim_end_matches(['\r', '\n']).replace(['\r', '\n'], " "))
}

/// The bytes of a string, as long as that is on the stack.
// SAFETY: as `text`.
unsafe fn bytes<'s>(state: State, index: c_int) -> Option<&'s [u8]> {
    unsafe {
        if ffi::lua_type(state, index) != ffi::LUA_TSTRING {
            return None;
        }
        let mut length = 0;
        let text = ffi::lua_tolstring(state, index, &raw mut length);
        Some(std::slice::from_raw_parts(text.cast(), length))
    }
}

// SAFETY of the functions below: they use the stack of a function that mlua protects, and make room
// there. An error of Lua's, i.e. lack of memory, leaves them without running what is behind it:
// where one may come up nothing lives that needs to be dropped.
impl Answer<'_> {
    fn writer(&mut self) -> Writer<'_> {
        Writer::new(self.out, self.protocol)
    }

    /// So many values more were written or counted: a table that holds itself is counted at each
    /// depth, before any of its values is written.
    fn pass_by(&mut self, values: usize) -> Result<(), TooLarge> {
        self.values += values;
        if self.values >= VALUES {
            self.values = 0;
            if (self.is_over)() {
                return Err(TooLarge);
            }
        }
        Ok(())
    }

    /// Writes a value. `index` counts from the bottom of the stack.
    pub(crate) unsafe fn value(
        &mut self,
        state: State,
        index: c_int,
        depth: usize,
    ) -> Result<(), TooLarge> {
        if self.out.len() > self.bytes_max {
            return Err(TooLarge);
        }
        self.pass_by(1)?;
        if depth > DEPTH_MAX {
            self.writer().error("ERR reached lua stack limit");
            return Ok(());
        }
        unsafe {
            match ffi::lua_type(state, index) {
                ffi::LUA_TSTRING => {
                    let text = bytes(state, index).unwrap_or_default();
                    self.writer().bulk(text);
                }
                ffi::LUA_TNUMBER => {
                    let number = integer(ffi::lua_tonumber(state, index));
                    self.writer().integer(number);
                }
                ffi::LUA_TBOOLEAN => match ffi::lua_toboolean(state, index) != 0 {
                    value if self.is_script_v3 => self.writer().boolean(value),
                    true => self.writer().integer(1),
                    false => self.writer().null(),
                },
                ffi::LUA_TTABLE => {
                    ffi::luaL_checkstack_(
                        state,
                        PLACES,
                        c"the reply is nested too deeply".as_ptr(),
                    );
                    let top = ffi::lua_gettop(state);
                    let written = self.table(state, index, depth);
                    ffi::lua_settop(state, top);
                    return written;
                }
                _ => self.writer().null(),
            }
        }
        Ok(())
    }

    /// Writes a table; leaves values on the stack.
    unsafe fn table(&mut self, state: State, index: c_int, depth: usize) -> Result<(), TooLarge> {
        unsafe {
            let top = ffi::lua_gettop(state);
            // Pushes the value of a field, instead of the one before; what it is.
            let field = |name: &str| {
                ffi::lua_settop(state, top);
                push_text(state, name.as_bytes());
                ffi::lua_rawget(state, index)
            };
            if field("err") == ffi::LUA_TSTRING {
                let text = text(state).unwrap_or_default();
                self.writer().error(text.strip_prefix('-').unwrap_or(&text));
                return Ok(());
            }
            if field("ok") == ffi::LUA_TSTRING {
                let text = text(state).unwrap_or_default();
                self.writer().simple(&text);
                return Ok(());
            }
            if field("double") == ffi::LUA_TNUMBER {
                let number = ffi::lua_tonumber(state, -1);
                self.writer().float(number);
                return Ok(());
            }
            if field("map") == ffi::LUA_TTABLE {
                return self.map(state, depth);
            }
            if field("set") == ffi::LUA_TTABLE {
                return self.set(state, depth);
            }
            if field("big_number") == ffi::LUA_TSTRING {
                let digits = text(state).unwrap_or_default();
                self.writer().big_number(&digits);
                return Ok(());
            }
            if field("verbatim_string") == ffi::LUA_TTABLE {
                push_text(state, b"string");
                if ffi::lua_rawget(state, -2) == ffi::LUA_TSTRING {
                    let text = bytes(state, -1).unwrap_or_default();
                    self.writer().verbatim(text);
                    return Ok(());
                }
            }
            self.array(state, index, depth)
        }
    }

    // Twice over each table, to count and to write.

    unsafe fn array(&mut self, state: State, index: c_int, depth: usize) -> Result<(), TooLarge> {
        unsafe {
            let top = ffi::lua_gettop(state);
            let mut count = 0;
            loop {
                ffi::lua_rawgeti_(state, index, count + 1);
                let is_end = ffi::lua_type(state, -1) == ffi::LUA_TNIL;
                ffi::lua_settop(state, top);
                if is_end {
                    break;
                }
                count += 1;
            }
            let length = usize::try_from(count).unwrap_or(0);
            self.pass_by(length)?;
            self.writer().array(length);
            for at in 1..=count {
                ffi::lua_rawgeti_(state, index, at);
                self.value(state, top + 1, depth + 1)?;
                ffi::lua_settop(state, top);
            }
        }
        Ok(())
    }

    /// The table on top of the stack as a map.
    unsafe fn map(&mut self, state: State, depth: usize) -> Result<(), TooLarge> {
        unsafe {
            let index = ffi::lua_gettop(state);
            let count = pairs(state, index);
            self.pass_by(count)?;
            self.writer().map(count);
            ffi::lua_pushnil(state);
            while ffi::lua_next(state, index) != 0 {
                self.value(state, index + 1, depth + 1)?;
                self.value(state, index + 2, depth + 1)?;
                ffi::lua_settop(state, index + 1);
            }
        }
        Ok(())
    }

    /// The same as a set: of its keys.
    unsafe fn set(&mut self, state: State, depth: usize) -> Result<(), TooLarge> {
        unsafe {
            let index = ffi::lua_gettop(state);
            let count = pairs(state, index);
            self.pass_by(count)?;
            self.writer().set(count);
            ffi::lua_pushnil(state);
            while ffi::lua_next(state, index) != 0 {
                ffi::lua_settop(state, index + 1);
                self.value(state, index + 1, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// How many pairs a table has.
// SAFETY: as above.
unsafe fn pairs(state: State, index: c_int) -> usize {
    let mut count = 0;
    unsafe {
        ffi::lua_pushnil(state);
        while ffi::lua_next(state, index) != 0 {
            ffi::lua_settop(state, -2);
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_counted_is_looked_at_too() {
        let lua = Lua::new();
        for text in [
            "local t = {} for i = 1, 2000 do t[i] = t end return t",
            "local m = {} local t = {map = m} for i = 1, 2000 do m[i] = t end return t",
            "local s = {} for i = 1, 2000 do s[{set = s}] = true end return {set = s}",
        ] {
            let table: Table = lua.load(text).eval().unwrap();
            let (mut out, mut written, looks) = (Vec::new(), Ok(()), Cell::new(0));
            let is_over = || {
                looks.set(looks.get() + 1);
                true
            };
            let call = |state: State| {
                let mut answer = Answer {
                    out: &mut out,
                    protocol: Protocol::V3,
                    is_script_v3: false,
                    bytes_max: 1 << 20,
                    is_over: &is_over,
                    values: 0,
                };
                // SAFETY: the stack holds the table alone, and mlua protects the call.
                unsafe {
                    written = answer.value(state, 1, 0);
                    ffi::lua_settop(state, 0);
                }
            };
            // SAFETY: nothing that `call` holds needs to be dropped.
            unsafe { lua.exec_raw::<()>(table, call) }.unwrap();
            // As each of them holds itself, hundreds of them would be counted before a look.
            assert_eq!((written, looks.get()), (Err(TooLarge), 1), "{text}");
            assert!(out.is_empty(), "{text}: {}", out.escape_ascii());
        }
    }
}
