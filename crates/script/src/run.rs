//! One run of a function: what it is called with, and what it returns as a reply.
//!
//! All of it is one call that mlua protects. Each value that Rust would hold of Lua's, each table
//! that it would make, would be such a call by itself.

#![expect(unsafe_code, reason = "a run is one protected call")]

use std::ffi::{CStr, c_int};

use mlua::{Function, IntoLua, Lua, Table, Value, ffi};
use resp::Protocol;

use crate::answer::{Answer, TooLarge};
use crate::convert::push_text;
use crate::current::Current;
use crate::job::Job;

type State = *mut ffi::lua_State;

/// Elements for which a table has room from the start.
const ROOM_MAX: usize = 1 << 16;

/// How a function gets keys and arguments.
#[derive(Clone, Copy)]
pub(crate) enum Passing<'t> {
    /// As KEYS and ARGV in a table, as long as it runs.
    Globals(&'t Table),
    /// As its arguments.
    Arguments,
    /// There are none.
    Nothing,
}

/// What a run needs besides.
pub(crate) struct How<'h> {
    /// Handles errors.
    pub(crate) located: &'h Function,
    pub(crate) current: &'h Current,
    pub(crate) passing: Passing<'h>,
    /// Whether the script is to end.
    pub(crate) is_over: &'h dyn Fn() -> bool,
}

/// What came of it: whether the reply was written, or the error of the script.
pub(crate) type Ran = Result<Result<(), TooLarge>, Value>;

/// Where things are on the stack of a run.
const LOCATED: c_int = 1;
const FUNCTION: c_int = 2;
const GLOBALS: c_int = 3;

const NAMES: [&CStr; 2] = [c"KEYS", c"ARGV"];

/// Runs a function, or what has that place in a table of functions. Its reply goes to `out`.
pub(crate) fn run(
    lua: &Lua,
    how: How<'_>,
    (function, place): (impl IntoLua, c_int),
    job: &Job<'_>,
    out: Option<&mut Vec<u8>>,
) -> mlua::Result<Ran> {
    let How { located, current, passing, is_over } = how;
    let globals = match passing {
        Passing::Globals(globals) => Some(globals),
        Passing::Arguments | Passing::Nothing => None,
    };
    let mut written = Ok(());
    let call = |state: State| {
        // SAFETY: `enter` and `answer` use the stack of this call, which mlua protects, and has
        // pushed there what they expect.
        unsafe {
            if enter(state, passing, place, job) {
                if let Some(out) = out {
                    let mut answer = Answer {
                        out,
                        protocol: job.protocol,
                        is_script_v3: current.protocol.get() == Protocol::V3,
                        bytes_max: current.bytes_max,
                        is_over,
                        values: 0,
                    };
                    written = answer.value(state, ffi::lua_gettop(state), 0);
                }
                ffi::lua_settop(state, 0);
                ffi::lua_pushnil(state);
                ffi::lua_pushboolean(state, 1);
            } else {
                ffi::lua_replace(state, 1);
                ffi::lua_settop(state, 1);
                ffi::lua_pushboolean(state, 0);
            }
        }
    };
    // SAFETY: nothing that `call` holds needs to be dropped where an error of Lua's ends it.
    let done = unsafe { lua.exec_raw::<(Value, bool)>((located, function, globals), call) };
    if let (Err(_), Some(globals)) = (&done, globals) {
        // It has ended before it could do that by itself.
        for name in ["KEYS", "ARGV"] {
            globals.raw_set(name, Value::Nil)?;
        }
    }
    Ok(match done? {
        (_, true) => Ok(written),
        (error, false) => Err(error),
    })
}

/// Calls the function; true if it has returned, and what it did is on top of the stack: its value,
/// or its error.
// SAFETY: called with `located`, the function or the table of functions, and the globals or nil on
// the stack, in a call that mlua protects.
unsafe fn enter(state: State, passing: Passing<'_>, place: c_int, job: &Job<'_>) -> bool {
    unsafe {
        if let Passing::Globals(_) = passing {
            for (name, words) in NAMES.into_iter().zip([job.keys, job.args]) {
                push_text(state, name.to_bytes());
                push_words(state, words);
                ffi::lua_rawset(state, GLOBALS);
            }
        }
        match place {
            0 => ffi::lua_pushvalue(state, FUNCTION),
            place => ffi::lua_rawgeti_(state, FUNCTION, place),
        }
        let count = match passing {
            Passing::Arguments => {
                push_words(state, job.keys);
                push_words(state, job.args);
                2
            }
            Passing::Globals(_) | Passing::Nothing => 0,
        };
        let status = ffi::lua_pcall(state, count, 1, LOCATED);
        if let Passing::Globals(_) = passing {
            for name in NAMES {
                push_text(state, name.to_bytes());
                ffi::lua_pushnil(state);
                ffi::lua_rawset(state, GLOBALS);
            }
        }
        status == ffi::LUA_OK
    }
}

/// Pushes a table of strings.
// SAFETY: as `enter`.
unsafe fn push_words(state: State, words: &[&[u8]]) {
    unsafe {
        ffi::lua_createtable(state, words.len().min(ROOM_MAX) as c_int, 0);
        for (at, word) in words.iter().enumerate() {
            push_text(state, word);
            ffi::lua_rawseti_(state, -2, at as c_int + 1);
        }
    }
}
