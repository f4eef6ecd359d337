//! Looks at whether a script is to end where instructions do not count: in functions of Lua's that
//! work through all of a large value, and where coroutines take turns, each of which counts its
//! own.

#![expect(
    unsafe_code,
    reason = "functions of Lua's are called in place, so that errors say the same"
)]

use std::ffi::c_int;

use mlua::{Function, Lua, Table, ffi};

/// Bytes or elements of an argument from which on a function's work is worth a look.
pub(crate) const LARGE: usize = 10_000;

/// Instead of a number of arguments: the look is made whatever they are.
const ALWAYS: i64 = -1;

/// Functions that work through their first argument, and with how many arguments they do.
const FUNCTIONS: [(&str, &[(&str, i64)]); 2] = [
    ("string", &[("format", 1), ("lower", 1), ("reverse", 1), ("sub", 1), ("upper", 1)]),
    (
        "table",
        &[
            ("concat", 1),
            ("foreach", ALWAYS),
            ("foreachi", ALWAYS),
            ("maxn", ALWAYS),
            ("remove", 2),
            ("sort", 1),
        ],
    ),
];

/// Puts a look in front of Lua's functions that may take long. `look` ends the script if its
/// argument is true; `collecting` does the same, and is called before each use of the collector.
pub(crate) fn replace(lua: &Lua, look: &Function, collecting: &Function) -> mlua::Result<()> {
    for (library, functions) in FUNCTIONS {
        let library: Table = lua.globals().raw_get(library)?;
        for (name, least) in functions {
            let function: Function = library.raw_get(*name)?;
            library.raw_set(*name, watched(lua, look, function, *least)?)?;
        }
    }
    let collect: Function = lua.globals().raw_get("collectgarbage")?;
    lua.globals().raw_set("collectgarbage", watched(lua, collecting, collect, ALWAYS)?)
}

fn watched(lua: &Lua, look: &Function, function: Function, least: i64) -> mlua::Result<Function> {
    // SAFETY: the stack holds the three upvalues alone; the closure takes them and is left there.
    unsafe {
        lua.exec_raw((look.clone(), function, least), |state| {
            ffi::lua_pushcclosure(state, in_front, 3);
        })
    }
}

/// `coroutine.wrap` whose functions call `turn` each time they are called.
pub(crate) fn wrapping(lua: &Lua, wrap: Function, turn: Function) -> mlua::Result<Function> {
    // SAFETY: as in `watched`.
    unsafe { lua.exec_raw((wrap, turn), |state| ffi::lua_pushcclosure(state, wrap_watched, 2)) }
}

/// Looks, if it is worth it, then is the function itself: to that one its arguments, its caller and
/// its name are what they would be without us.
// SAFETY: called by Lua, with the upvalues of `watched`. The function in the second one is one of
// Lua's that has no upvalues of its own.
unsafe extern "C-unwind" fn in_front(state: *mut ffi::lua_State) -> c_int {
    unsafe {
        let least = ffi::lua_tointeger_(state, ffi::lua_upvalueindex(3)) as i64;
        let is_sized = matches!(ffi::lua_type(state, 1), ffi::LUA_TSTRING | ffi::LUA_TTABLE);
        let is_large = || is_sized && ffi::lua_objlen(state, 1) > LARGE;
        if least == ALWAYS || i64::from(ffi::lua_gettop(state)) >= least && is_large() {
            ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
            ffi::lua_pushboolean(state, 1);
            ffi::lua_call(state, 1, 0);
        }
        ffi::lua_tocfunction(state, ffi::lua_upvalueindex(2)).map_or(0, |function| function(state))
    }
}

/// `coroutine.wrap`. Lua's own makes a function with the coroutine as its upvalue; ours has it in
/// the same place, and calls that one.
// SAFETY: called by Lua, with the upvalues of `wrapping`; the first is Lua's `coroutine.wrap`,
// which has none, and leaves what it has made on the stack.
unsafe extern "C-unwind" fn wrap_watched(state: *mut ffi::lua_State) -> c_int {
    unsafe {
        let Some(wrap) = ffi::lua_tocfunction(state, ffi::lua_upvalueindex(1)) else { return 0 };
        wrap(state);
        let Some(resume) = ffi::lua_tocfunction(state, -1) else { return 0 };
        ffi::lua_getupvalue(state, -1, 1);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(2));
        ffi::lua_pushcfunction(state, resume);
        ffi::lua_pushcclosure(state, wrapped, 3);
        1
    }
}

// SAFETY: called by Lua, with the upvalues of `wrap_watched`. The function in the third one reads
// its first upvalue, and in this call that is ours.
unsafe extern "C-unwind" fn wrapped(state: *mut ffi::lua_State) -> c_int {
    unsafe {
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(2));
        ffi::lua_call(state, 0, 0);
        ffi::lua_tocfunction(state, ffi::lua_upvalueindex(3)).map_or(0, |resume| resume(state))
    }
}
