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

/// What a function of ours answers.
pub(crate) type Answer = Result<MultiValue, Fail>;

/// One value as an answer.
pub(crate) fn one(lua: &Lua, value: impl IntoLuaMulti) -> Answer {
    Ok(value.into_lua_multi(lua)?)
}

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
/// errors. The first argument is `kind`, the others those of the script.
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
        let count = ffi::lua_gettop(state);
        ffi::lua_rawgeti(state, ffi::lua_upvalueindex(1), 1);
        ffi::lua_insert(state, 1);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(2));
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
