//! Replies of commands as Lua values: the conversions of Redis 7.

#![expect(unsafe_code, reason = "values are pushed as they are read, without a copy of them")]

use std::ffi::{CStr, c_int};

use mlua::ffi;

type State = *mut ffi::lua_State;

/// Deepest nesting of a reply, in either direction.
pub(crate) const DEPTH_MAX: usize = 512;
/// Elements for which a table has room from the start.
const ROOM_MAX: usize = 1 << 16;
/// Places of the stack that one level of a reply takes, and some more.
pub(crate) const PLACES: c_int = 8;

/// Replies that no command of ours writes.
const BROKEN: &[u8] = b"ERR a command answered what scripts cannot read";

/// An error text in one line, with a code: a word that has nothing behind it is no code.
pub fn command_error(text: &str) -> String {
    let text = text.strip_prefix('-').unwrap_or(text);
    match text.contains(' ') {
        true => text.to_owned(),
        false => format!("ERR {text}"),
    }
}

/// The reply is none.
#[derive(Debug, Clone, Copy)]
struct Broken;

struct Reader<'r> {
    state: State,
    rest: &'r [u8],
}

// SAFETY of what follows: it pushes onto the stack of a function that Lua has called, or that mlua
// protects, and makes room there. An error of Lua's, i.e. lack of memory, leaves it without running
// what is behind it: nothing in it needs to be dropped.

/// Pushes a reply, which is one of our own commands', as a value; true if it is an error. Only the
/// reply as a whole is one: in an array it is an element.
pub(crate) unsafe fn push_reply(state: State, reply: &[u8]) -> bool {
    unsafe {
        let top = ffi::lua_gettop(state);
        let mut reader = Reader { state, rest: reply };
        if reader.value(0).is_ok() {
            return reply.first() == Some(&b'-');
        }
        ffi::lua_settop(state, top);
        push_error(state, BROKEN);
        true
    }
}

/// Pushes the error that a command answered, as `redis.pcall` shows it.
pub(crate) unsafe fn push_error(state: State, text: &[u8]) {
    unsafe {
        ffi::lua_createtable(state, 0, 2);
        push_text(state, text);
        ffi::lua_setfield(state, -2, c"err".as_ptr());
        ffi::lua_pushboolean(state, 1);
        ffi::lua_setfield(state, -2, c"ignore_error_stats_update".as_ptr());
    }
}

/// Pushes a string.
pub(crate) unsafe fn push_text(state: State, text: &[u8]) {
    unsafe { ffi::lua_pushlstring_(state, text.as_ptr().cast(), text.len()) }
}

/// Pops the value on top into a field of the table below it.
unsafe fn set_field(state: State, name: &CStr) {
    unsafe { ffi::lua_setfield(state, -2, name.as_ptr()) }
}

impl<'r> Reader<'r> {
    fn line(&mut self) -> Result<&'r [u8], Broken> {
        let end = self.rest.windows(2).position(|two| two == b"\r\n").ok_or(Broken)?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = &rest[2..];
        Ok(line)
    }

    fn bytes(&mut self, length: usize) -> Result<&'r [u8], Broken> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Broken)?;
        self.rest = rest.strip_prefix(b"\r\n").ok_or(Broken)?;
        Ok(bytes)
    }

    /// Pushes one value.
    unsafe fn value(&mut self, depth: usize) -> Result<(), Broken> {
        let state = self.state;
        if depth > DEPTH_MAX {
            return Err(Broken);
        }
        let line = self.line()?;
        let (kind, line) = line.split_first().ok_or(Broken)?;
        let number = || std::str::from_utf8(line).ok().and_then(|line| line.parse::<i64>().ok());
        let length = || number().and_then(|length| usize::try_from(length).ok());
        unsafe {
            ffi::luaL_checkstack_(state, PLACES, c"the reply is nested too deeply".as_ptr());
            match kind {
                b'+' => {
                    ffi::lua_createtable(state, 0, 1);
                    push_text(state, line);
                    set_field(state, c"ok");
                }
                b'-' => push_error(state, line),
                b':' => match number() {
                    Some(number) => ffi::lua_pushnumber(state, number as f64),
                    None => ffi::lua_pushnil(state),
                },
                b'$' => match length() {
                    Some(length) => push_text(state, self.bytes(length)?),
                    None => ffi::lua_pushboolean(state, 0),
                },
                b'*' | b'>' => match length() {
                    Some(length) => self.array(length, depth)?,
                    None => ffi::lua_pushboolean(state, 0),
                },
                b'_' => ffi::lua_pushnil(state),
                b'#' => ffi::lua_pushboolean(state, c_int::from(line == b"t")),
                b',' => {
                    let text = std::str::from_utf8(line).unwrap_or_default();
                    ffi::lua_createtable(state, 0, 1);
                    ffi::lua_pushnumber(state, text.parse::<f64>().unwrap_or(f64::NAN));
                    set_field(state, c"double");
                }
                b'(' => {
                    ffi::lua_createtable(state, 0, 1);
                    push_text(state, line);
                    set_field(state, c"big_number");
                }
                b'=' => self.verbatim(length().unwrap_or(0))?,
                b'%' => self.map(length().unwrap_or(0), depth)?,
                b'~' => self.set(length().unwrap_or(0), depth)?,
                b'|' => {
                    self.map(length().unwrap_or(0), depth)?;
                    ffi::lua_settop(state, -2);
                    self.value(depth)?;
                }
                _ => return Err(Broken),
            }
        }
        Ok(())
    }

    unsafe fn array(&mut self, length: usize, depth: usize) -> Result<(), Broken> {
        let state = self.state;
        unsafe {
            ffi::lua_createtable(state, length.min(ROOM_MAX) as c_int, 0);
            for at in 1..=length {
                self.value(depth + 1)?;
                ffi::lua_rawseti_(state, -2, at as c_int);
            }
        }
        Ok(())
    }

    unsafe fn map(&mut self, length: usize, depth: usize) -> Result<(), Broken> {
        let state = self.state;
        unsafe {
            ffi::lua_createtable(state, 0, 1);
            ffi::lua_createtable(state, 0, 0);
            for _ in 0..length {
                self.value(depth + 1)?;
                self.value(depth + 1)?;
                // No table has nil as a key.
                match ffi::lua_type(state, -2) {
                    ffi::LUA_TNIL => ffi::lua_settop(state, -3),
                    _ => ffi::lua_rawset(state, -3),
                }
            }
            set_field(state, c"map");
        }
        Ok(())
    }

    unsafe fn set(&mut self, length: usize, depth: usize) -> Result<(), Broken> {
        let state = self.state;
        unsafe {
            ffi::lua_createtable(state, 0, 1);
            ffi::lua_createtable(state, 0, 0);
            for _ in 0..length {
                self.value(depth + 1)?;
                if ffi::lua_type(state, -1) == ffi::LUA_TNIL {
                    ffi::lua_settop(state, -2);
                    continue;
                }
                ffi::lua_pushboolean(state, 1);
                ffi::lua_rawset(state, -3);
            }
            set_field(state, c"set");
        }
        Ok(())
    }

    unsafe fn verbatim(&mut self, length: usize) -> Result<(), Broken> {
        let (state, bytes) = (self.state, self.bytes(length)?);
        let (format, text) = bytes.split_at_checked(4).unwrap_or((b"txt:", bytes));
        unsafe {
            ffi::lua_createtable(state, 0, 1);
            ffi::lua_createtable(state, 0, 2);
            push_text(state, format.get(..3).unwrap_or_default());
            set_field(state, c"format");
            push_text(state, text);
            set_field(state, c"string");
            set_field(state, c"verbatim_string");
        }
        Ok(())
    }
}
