//! `redis.call` and `redis.pcall` as functions of Lua's own kind.
//!
//! Each command of a script passes here, so nothing is taken along that it does not need: arguments
//! are read where Lua has them, and the reply is pushed as it is read. What is not usual, i.e. many
//! arguments or wrong ones, goes the way of the other functions of `redis` (`guard::raising`),
//! which says what is wrong.
//!
//! An error of Lua's, lack of memory above all, leaves a function without running what is behind
//! it. So where one may come up nothing lives that needs to be dropped.

#![expect(unsafe_code, reason = "a function that raises errors as Lua's own do, and is as fast")]

use std::ffi::{c_int, c_void};
use std::io::Write as _;

use mlua::{Function, LightUserData, Lua, ffi};

use crate::convert::{push_error, push_reply};
use crate::current::{Asked, Current};

type State = *mut ffi::lua_State;

/// So many arguments are many.
const MANY: usize = 32;

/// What ends a run: no script can make such a value, and `prelude.lua` lets none catch it.
static STOP: u8 = 0;

/// A function that runs a command of the script. `is_protected`: errors are answered and not
/// raised. `other` is the function for what is not usual.
pub(crate) fn function(
    lua: &Lua,
    current: *const Current,
    is_protected: bool,
    other: Function,
) -> mlua::Result<Function> {
    let current = LightUserData(current.cast_mut().cast::<c_void>());
    // SAFETY: the stack holds the three upvalues alone; the closure takes them and is left there.
    unsafe {
        lua.exec_raw((current, is_protected, other), |state| {
            ffi::lua_pushcclosure(state, call, 3);
        })
    }
}

// SAFETY: called by Lua, with the upvalues of `function`. The `Current` in the first one outlives
// the state, whose engine holds it.
unsafe extern "C-unwind" fn call(state: State) -> c_int {
    unsafe {
        let current = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Current>();
        let current: &Current = &*current;
        let is_error = match ask(state, current) {
            None => {
                let count = ffi::lua_gettop(state);
                ffi::lua_pushvalue(state, ffi::lua_upvalueindex(3));
                ffi::lua_insert(state, 1);
                ffi::lua_call(state, count, ffi::LUA_MULTRET);
                return ffi::lua_gettop(state);
            }
            Some(Asked::Stop) => {
                ffi::lua_pushlightuserdata(state, (&raw const STOP).cast_mut().cast::<c_void>());
                ffi::lua_error(state)
            }
            Some(Asked::Refused) => {
                ffi::lua_settop(state, 0);
                push_error(state, current.answer());
                true
            }
            Some(Asked::Replied) => {
                ffi::lua_settop(state, 0);
                push_reply(state, current.answer())
            }
        };
        if is_error && ffi::lua_toboolean(state, ffi::lua_upvalueindex(2)) == 0 {
            ffi::lua_error(state);
        }
        1
    }
}

/// Runs the command that the arguments of a function are; `None` if they are not the usual ones.
// SAFETY: nothing here raises an error: strings are not made, and nothing is pushed. The arguments
// stay on the stack, so their bytes stay where they are.
unsafe fn ask(state: State, current: &Current) -> Option<Asked> {
    let count = unsafe { usize::try_from(ffi::lua_gettop(state)).unwrap_or(0) };
    if count == 0 || count >= MANY {
        return None;
    }
    let mut words: [&[u8]; MANY] = [b""; MANY];
    let (mut numbers, mut places) = (Vec::new(), [(0, 0); MANY]);
    let mut bytes = 0;
    for (at, word) in words.iter_mut().take(count).enumerate() {
        let index = at as c_int + 1;
        match unsafe { ffi::lua_type(state, index) } {
            ffi::LUA_TSTRING => unsafe {
                let mut length = 0;
                let text = ffi::lua_tolstring(state, index, &raw mut length);
                *word = std::slice::from_raw_parts(text.cast(), length);
                bytes += length;
            },
            ffi::LUA_TNUMBER => {
                let begin = numbers.len();
                write_number(unsafe { ffi::lua_tonumber(state, index) }, &mut numbers);
                places[at] = (begin, numbers.len());
            }
            _ => return None,
        }
    }
    if bytes > current.bytes_max {
        return None;
    }
    if !numbers.is_empty() {
        for (word, (begin, end)) in words.iter_mut().zip(places) {
            if end > begin {
                *word = &numbers[begin..end];
            }
        }
    }
    Some(current.call(&words[..count]))
}

/// A number as an argument: a whole one without a fraction, another one as a reply has it.
fn write_number(number: f64, out: &mut Vec<u8>) {
    let whole = number as i64;
    // Not -0, and not what is at the edge of the integers.
    if (whole as f64).to_bits() == number.to_bits() && whole != i64::MAX {
        // Into memory: that does not fail.
        let _ = write!(out, "{whole}");
    } else {
        out.extend_from_slice(resp::float_text(number).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_integers_where_they_are_whole() {
        for (number, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (-7.0, "-7"),
            (3.5, "3.5"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (1e18, "1000000000000000000"),
            (9_223_372_036_854_775_808.0, "9.2233720368547758e+18"),
            (1e300, "1.0000000000000001e+300"),
            (f64::INFINITY, "inf"),
        ] {
            let mut out = Vec::new();
            write_number(number, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{number:e}");
        }
    }
}
