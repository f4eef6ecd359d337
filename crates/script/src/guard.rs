//! Functions of ours that scripts call, and how they fail.
//!
//! An error that mlua raises for a Rust function is an object of its own, which scripts could
//! neither read nor tell from the end of their run. So a function of ours never fails in mlua's
//! sense: it hands an error back as a value, and a small C function raises it, as the libraries
//! of Redis do. What is left to mlua is what no script may catch: see `prelude.lua`.

use std::os::raw::c_int;

use mlua::{Function, IntoLuaMulti, Lua, MultiValue, Table, Value, ffi};

/// How a function fails.
#[derive(Debug)]
pub(crate) enum Fail {
    /// The error is this value.
    Raise(Value),
    /// The error is a text behind the place of the call, e.g. `user_script:1: `.
    At(String),
    /// The script ends.
    Lua(mlua::Error),
}

impl From<mlua::Error> for Fail {
    fn from(error: mlua::Error) -> Self {
        Self::Lua(error)
    }
}

/// The error that functions of the table `redis` raise: a table, without the place of the call.
pub(crate) fn fail(lua: &Lua, text: &str) -> Fail {
    let table = lua.create_table().and_then(|table| {
        table.raw_set("err", format!("ERR {text}"))?;
        Ok(table)
    });
    table.map_or_else(Fail::Lua, |table| Fail::Raise(Value::Table(table)))
}

/// What a function of ours answers.
pub(crate) type Answer = Result<MultiValue, Fail>;

/// One value as an answer.
pub(crate) fn one(lua: &Lua, value: impl IntoLuaMulti) -> Answer {
    Ok(value.into_lua_multi(lua)?)
}

/// Most arguments of a function of ours. Rust can hold some 8,000 of Lua's values at a time.
const ARGUMENTS_MAX: c_int = 7_000;
/// From so many arguments on a function that is called with a kind has them in a table.
const PACKED_MIN: c_int = 200;
/// Added to the kind where the arguments are packed: they are their number and a table of them.
pub(crate) const PACKED: i64 = 1 << 8;

const DONE: i64 = 0;
const RAISE: i64 = 1;
const RAISE_AT: i64 = 2;

/// The values that [`raising`] expects of what it calls: how it ended, and its values.
pub(crate) fn outcome(lua: &Lua, answer: Answer) -> mlua::Result<MultiValue> {
    let (how, mut values) = match answer {
        Ok(values) => (DONE, values),
        Err(Fail::Raise(error)) => (RAISE, MultiValue::from_iter([error])),
        Err(Fail::At(text)) => (RAISE_AT, text.into_lua_multi(lua)?),
        Err(Fail::Lua(error)) => return Err(error),
    };
    values.push_front(Value::Integer(how));
    Ok(values)
}

/// A function that calls what stands first in `slot`, which answers as [`outcome`], and raises its
/// errors. The first argument is `kind`, the others those of the script; see [`PACKED`] where they
/// are many and `kind` is not 0.
pub(crate) fn raising(lua: &Lua, slot: Table, kind: i64) -> mlua::Result<Function> {
    #[expect(unsafe_code, reason = "mlua cannot raise a value of a script's as an error")]
    // SAFETY: the stack holds slot and kind alone; the closure takes them and is left there.
    // `raise` keeps to the stack of its own call.
    unsafe {
        lua.exec_raw((slot, kind), |state| ffi::lua_pushcclosure(state, raise, 2))
    }
}

/// A function of ours as a script sees it.
pub(crate) fn function(
    lua: &Lua,
    call: impl Fn(&Lua, MultiValue) -> Answer + 'static,
) -> mlua::Result<Function> {
    let inner = lua.create_function(move |lua, mut args: MultiValue| {
        args.pop_front();
        outcome(lua, call(lua, args))
    })?;
    raising(lua, lua.create_sequence_from([inner])?, 0)
}

#[expect(unsafe_code, reason = "mlua cannot raise a value of a script's as an error")]
// SAFETY: called by Lua with a stack of its own, on which a C function has room for 20 values. No
// value of Rust lives here when an error unwinds it.
unsafe extern "C-unwind" fn raise(state: *mut ffi::lua_State) -> c_int {
    unsafe {
        let mut kind = ffi::lua_tointeger_(state, ffi::lua_upvalueindex(2)) as i64;
        if kind != 0 && ffi::lua_gettop(state) >= PACKED_MIN {
            pack(state);
            kind += PACKED;
        }
        let count = ffi::lua_gettop(state);
        if count > ARGUMENTS_MAX {
            return ffi::luaL_error(state, c"stack overflow (too many arguments)".as_ptr());
        }
        ffi::lua_rawgeti_(state, ffi::lua_upvalueindex(1), 1);
        ffi::lua_insert(state, 1);
        ffi::lua_pushinteger(state, kind as ffi::lua_Integer);
        ffi::lua_insert(state, 2);
        ffi::lua_call(state, count + 1, ffi::LUA_MULTRET);
        let how = ffi::lua_tonumber(state, 1) as i64;
        ffi::lua_remove(state, 1);
        if how == DONE {
            return ffi::lua_gettop(state);
        }
        if how == RAISE_AT {
            ffi::luaL_where(state, 1);
            ffi::lua_insert(state, -2);
            ffi::lua_concat(state, 2);
        }
        ffi::lua_error(state)
    }
}

/// Replaces all values on the stack by their number and a table of them.
#[expect(unsafe_code, reason = "as `raise`, which calls it")]
// SAFETY: it takes three places more on the stack than there are values.
unsafe fn pack(state: *mut ffi::lua_State) {
    unsafe {
        let count = ffi::lua_gettop(state);
        ffi::lua_createtable(state, count, 0);
        ffi::lua_insert(state, 1);
        for index in (1..=count).rev() {
            ffi::lua_rawseti_(state, 1, index);
        }
        ffi::lua_pushinteger(state, ffi::lua_Integer::from(count));
        ffi::lua_insert(state, 1);
    }
}
