//! Functions in place of Lua's own, which could hold up a thread for ever, use up its stack or
//! write beyond Lua's: `string.find`, `match`, `gmatch`, `gsub` and `rep`, `table.insert` and
//! `unpack`. What they answer and say is Lua 5.1's.
//!
//! They are C functions in Rust: an error of Lua's leaves them without running what is behind it.
//! So nothing in them needs to be dropped.

#![expect(unsafe_code, reason = "functions that raise errors as Lua's own do, and are as fast")]

use std::ffi::{CStr, c_char, c_int};
use std::mem::MaybeUninit;

use mlua::{Function, Lua, Table, ffi};

use crate::patterns::{Captured, Fault, Matcher, Pace, find_plain, is_plain};
use crate::watched::LARGE;

type State = *mut ffi::lua_State;
type Buffer = *mut ffi::luaL_Buffer;

/// Bytes that `string.rep` makes without a look at whether the script is to end.
const REP_BYTES: usize = 1 << 20;
/// Elements that `table.insert` moves between two looks.
const MOVES: usize = 10_000;

/// Puts the functions into Lua's own tables. `look` answers whether the script is to end; if its
/// argument is true, it ends it.
pub(crate) fn replace(lua: &Lua, look: &Function) -> mlua::Result<()> {
    let string: Table = lua.globals().raw_get("string")?;
    let functions: [(&str, ffi::lua_CFunction); 5] = [
        ("find", find),
        ("match", find_captures),
        ("gmatch", gmatch),
        ("gsub", gsub),
        ("rep", rep),
    ];
    for (name, function) in functions {
        string.raw_set(name, closure(lua, look, function)?)?;
    }
    // Its old name.
    string.raw_set("gfind", string.raw_get::<Function>("gmatch")?)?;
    let table: Table = lua.globals().raw_get("table")?;
    table.raw_set("insert", closure(lua, look, insert)?)?;
    lua.globals().raw_set("unpack", closure(lua, look, unpack)?)
}

fn closure(lua: &Lua, look: &Function, function: ffi::lua_CFunction) -> mlua::Result<Function> {
    // SAFETY: the stack holds `look` alone; the closure takes it and is left there.
    unsafe { lua.exec_raw(look.clone(), |state| ffi::lua_pushcclosure(state, function, 1)) }
}

/// A string, or a number as one, among the arguments. It lives as long as it is on the stack.
unsafe fn bytes<'s>(state: State, index: c_int) -> &'s [u8] {
    unsafe {
        let mut length = 0;
        let text = ffi::luaL_checklstring(state, index, &raw mut length);
        std::slice::from_raw_parts(text.cast(), length)
    }
}

/// The same where it is known to be one.
unsafe fn known_bytes<'s>(state: State, index: c_int) -> &'s [u8] {
    unsafe {
        let mut length = 0;
        let text = ffi::lua_tolstring(state, index, &raw mut length);
        std::slice::from_raw_parts(text.cast(), length)
    }
}

unsafe fn push(state: State, text: &[u8]) {
    unsafe { ffi::lua_pushlstring_(state, text.as_ptr().cast(), text.len()) }
}

unsafe fn push_position(state: State, position: usize) {
    unsafe { ffi::lua_pushinteger(state, position as ffi::lua_Integer) }
}

/// Whether the script is to end, asked of the function in an upvalue. It is ended if `ends`.
unsafe fn look(state: State, upvalue: c_int, ends: bool) -> bool {
    unsafe {
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(upvalue));
        ffi::lua_pushboolean(state, c_int::from(ends));
        ffi::lua_call(state, 1, 1);
        let is_over = ffi::lua_toboolean(state, -1) != 0;
        ffi::lua_settop(state, -2);
        is_over
    }
}

/// Ends the script if it is to end and one of these is long: not all work on them is counted.
unsafe fn look_if_long<const N: usize>(state: State, upvalue: c_int, texts: [&[u8]; N]) {
    if texts.iter().any(|text| text.len() > LARGE) {
        unsafe { look(state, upvalue, true) };
    }
}

unsafe fn raise(state: State, text: &CStr) -> c_int {
    unsafe { ffi::luaL_error(state, c"%s".as_ptr(), text.as_ptr()) }
}

/// Raises what a matcher has found wrong.
unsafe fn fail(state: State, upvalue: c_int, fault: Fault) -> c_int {
    unsafe {
        if fault == Fault::Stop {
            look(state, upvalue, true);
        }
        raise(state, fault.text())
    }
}

unsafe fn push_captured(state: State, text: &[u8], captured: Captured) {
    unsafe {
        match captured {
            Captured::Text(from, to) => push(state, &text[from..to]),
            Captured::Position(position) => push_position(state, position),
        }
    }
}

/// Pushes all captures; how many. Without any it is the match as a whole, if there is one.
unsafe fn push_captures(
    state: State,
    text: &[u8],
    matcher: &Matcher<'_, '_>,
    whole: Option<(usize, usize)>,
) -> Result<c_int, Fault> {
    let count = if matcher.level() == 0 && whole.is_some() { 1 } else { matcher.level() };
    unsafe {
        ffi::luaL_checkstack_(state, count as c_int, c"too many captures".as_ptr());
        for index in 0..count {
            push_captured(state, text, matcher.capture(index, whole.unwrap_or_default())?);
        }
    }
    Ok(count as c_int)
}

// SAFETY of the functions below: Lua calls them with a stack of their own, on which a C function
// has room for 20 values more than its arguments; their upvalues are those that `closure` and
// `gmatch` have given them. Texts stay at the bottom of the stack, or in an upvalue, as long as
// they are read.

unsafe extern "C-unwind" fn find(state: State) -> c_int {
    unsafe { find_in(state, true) }
}

unsafe extern "C-unwind" fn find_captures(state: State) -> c_int {
    unsafe { find_in(state, false) }
}

/// `string.find` and `string.match`.
unsafe fn find_in(state: State, is_find: bool) -> c_int {
    unsafe {
        let (text, pattern) = (bytes(state, 1), bytes(state, 2));
        look_if_long(state, 1, [text, pattern]);
        let init = ffi::luaL_optinteger(state, 3, 1) as i64;
        let init = if init < 0 { init.saturating_add(text.len() as i64 + 1) } else { init };
        let from = usize::try_from(init - 1).unwrap_or(0).min(text.len());
        let mut is_over = || look(state, 1, false);
        let mut pace = Pace::new(&mut is_over);
        if is_find && (ffi::lua_toboolean(state, 4) != 0 || is_plain(pattern)) {
            let found = find_plain(&text[from..], pattern, &mut pace);
            pace.rest();
            match found {
                Err(fault) => return fail(state, 1, fault),
                Ok(None) => {}
                Ok(Some(at)) => {
                    push_position(state, from + at + 1);
                    push_position(state, from + at + pattern.len());
                    return 2;
                }
            }
            ffi::lua_pushnil(state);
            return 1;
        }
        let anchored = pattern.strip_prefix(b"^");
        let mut matcher = Matcher::new(text, anchored.unwrap_or(pattern), pace);
        let found = match anchored {
            Some(_) => matcher.at(from).map(|end| end.map(|end| (from, end))),
            None => matcher.search(from),
        };
        matcher.pace.rest();
        let pushed = match found {
            Err(fault) => Err(fault),
            Ok(None) => {
                ffi::lua_pushnil(state);
                return 1;
            }
            Ok(Some((begin, end))) if is_find => {
                push_position(state, begin + 1);
                push_position(state, end);
                push_captures(state, text, &matcher, None).map(|count| count + 2)
            }
            Ok(whole) => push_captures(state, text, &matcher, whole),
        };
        pushed.unwrap_or_else(|fault| fail(state, 1, fault))
    }
}

unsafe extern "C-unwind" fn gmatch(state: State) -> c_int {
    unsafe {
        bytes(state, 1);
        bytes(state, 2);
        ffi::lua_settop(state, 2);
        ffi::lua_pushinteger(state, 0);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_pushcclosure(state, next_match, 4);
        1
    }
}

/// What `string.gmatch` answers: upvalues are text, pattern, where it goes on, and the look.
unsafe extern "C-unwind" fn next_match(state: State) -> c_int {
    const LOOK: c_int = 4;
    unsafe {
        let text = known_bytes(state, ffi::lua_upvalueindex(1));
        let pattern = known_bytes(state, ffi::lua_upvalueindex(2));
        let from = ffi::lua_tointeger_(state, ffi::lua_upvalueindex(3));
        // Of the text all work is counted.
        look_if_long(state, LOOK, [pattern]);
        let mut is_over = || look(state, LOOK, false);
        let mut matcher = Matcher::new(text, pattern, Pace::new(&mut is_over));
        let found = matcher.search(usize::try_from(from).unwrap_or(usize::MAX));
        matcher.pace.rest();
        let pushed = match found {
            Err(fault) => Err(fault),
            Ok(None) => return 0,
            Ok(Some((begin, end))) => {
                // An empty match goes on by one.
                push_position(state, if end == begin { end + 1 } else { end });
                ffi::lua_replace(state, ffi::lua_upvalueindex(3));
                push_captures(state, text, &matcher, Some((begin, end)))
            }
        };
        pushed.unwrap_or_else(|fault| fail(state, LOOK, fault))
    }
}

unsafe extern "C-unwind" fn gsub(state: State) -> c_int {
    unsafe {
        let (text, pattern) = (bytes(state, 1), bytes(state, 2));
        let kind = ffi::lua_type(state, 3);
        let most = ffi::luaL_optinteger(state, 4, text.len() as ffi::lua_Integer + 1) as c_int;
        let is_right = [ffi::LUA_TNUMBER, ffi::LUA_TSTRING, ffi::LUA_TFUNCTION, ffi::LUA_TTABLE]
            .contains(&kind);
        if !is_right {
            return ffi::luaL_argerror(state, 3, c"string/function/table expected".as_ptr());
        }
        let replacement: &[u8] = if kind == ffi::LUA_TSTRING { known_bytes(state, 3) } else { &[] };
        look_if_long(state, 1, [text, pattern, replacement]);
        let anchored = pattern.strip_prefix(b"^");
        let mut buffer = MaybeUninit::<ffi::luaL_Buffer>::uninit();
        let buffer: Buffer = buffer.as_mut_ptr();
        ffi::luaL_buffinit(state, buffer);
        let mut is_over = || look(state, 1, false);
        let mut matcher = Matcher::new(text, anchored.unwrap_or(pattern), Pace::new(&mut is_over));
        let (mut from, mut count) = (0, 0);
        while count < most {
            let end = match matcher.at(from) {
                Ok(end) => end,
                Err(fault) => {
                    matcher.pace.rest();
                    return fail(state, 1, fault);
                }
            };
            if let Some(end) = end {
                count += 1;
                if let Err(fault) = add_value(state, buffer, (text, &matcher), (from, end)) {
                    return fail(state, 1, fault);
                }
            }
            match end {
                Some(end) if end > from => from = end,
                _ => {
                    let Some(byte) = text.get(from) else { break };
                    ffi::luaL_addchar(buffer, *byte as c_char);
                    from += 1;
                }
            }
            if anchored.is_some() {
                break;
            }
        }
        matcher.pace.rest();
        add(buffer, &text[from..]);
        ffi::luaL_pushresult(buffer);
        ffi::lua_pushinteger(state, count as ffi::lua_Integer);
        2
    }
}

unsafe fn add(buffer: Buffer, text: &[u8]) {
    unsafe { ffi::luaL_addlstring(buffer, text.as_ptr().cast(), text.len()) }
}

/// What stands in place of a match.
unsafe fn add_value(
    state: State,
    buffer: Buffer,
    (text, matcher): (&[u8], &Matcher<'_, '_>),
    whole: (usize, usize),
) -> Result<(), Fault> {
    unsafe {
        match ffi::lua_type(state, 3) {
            ffi::LUA_TFUNCTION => {
                ffi::lua_pushvalue(state, 3);
                let count = push_captures(state, text, matcher, Some(whole))?;
                ffi::lua_call(state, count, 1);
            }
            ffi::LUA_TTABLE => {
                push_captured(state, text, matcher.capture(0, whole)?);
                ffi::lua_gettable_(state, 3);
            }
            _ => return add_text(state, buffer, (text, matcher), whole),
        }
        if ffi::lua_toboolean(state, -1) == 0 {
            ffi::lua_settop(state, -2);
            push(state, &text[whole.0..whole.1]);
        } else if ffi::lua_isstring(state, -1) == 0 {
            let name = ffi::luaL_typename(state, -1);
            ffi::luaL_error(state, c"invalid replacement value (a %s)".as_ptr(), name);
        }
        ffi::luaL_addvalue(buffer);
    }
    Ok(())
}

/// A replacement that is a text, with `%0` to `%9`.
unsafe fn add_text(
    state: State,
    buffer: Buffer,
    (text, matcher): (&[u8], &Matcher<'_, '_>),
    whole: (usize, usize),
) -> Result<(), Fault> {
    unsafe {
        let replacement = known_bytes(state, 3);
        let mut at = 0;
        while let Some(byte) = replacement.get(at) {
            at += 1;
            if *byte != b'%' {
                ffi::luaL_addchar(buffer, *byte as c_char);
                continue;
            }
            // Behind the end stands a zero byte, in C.
            let digit = replacement.get(at).copied().unwrap_or(0);
            at += 1;
            match digit {
                b'0' => add(buffer, &text[whole.0..whole.1]),
                b'1'..=b'9' => {
                    let captured = matcher.capture(usize::from(digit - b'1'), whole)?;
                    push_captured(state, text, captured);
                    ffi::luaL_addvalue(buffer);
                }
                other => ffi::luaL_addchar(buffer, other as c_char),
            }
        }
    }
    Ok(())
}

unsafe extern "C-unwind" fn rep(state: State) -> c_int {
    unsafe {
        let text = bytes(state, 1);
        let count = usize::try_from(ffi::luaL_checkinteger(state, 2) as c_int).unwrap_or(0);
        if text.is_empty() || count == 0 {
            push(state, b"");
            return 1;
        }
        if text.len().saturating_mul(count) > REP_BYTES {
            look(state, 1, true);
        }
        let mut buffer = MaybeUninit::<ffi::luaL_Buffer>::uninit();
        let buffer: Buffer = buffer.as_mut_ptr();
        ffi::luaL_buffinit(state, buffer);
        // Short texts are added many at a time.
        let mut block = [0; 512];
        let at_once = (block.len() / text.len()).min(count);
        if at_once > 1 {
            for place in block.chunks_exact_mut(text.len()).take(at_once) {
                place.copy_from_slice(text);
            }
            for _ in 0..count / at_once {
                add(buffer, &block[..at_once * text.len()]);
            }
            add(buffer, &block[..count % at_once * text.len()]);
        } else {
            for _ in 0..count {
                add(buffer, text);
            }
        }
        ffi::luaL_pushresult(buffer);
        1
    }
}

/// Lua's own moves all there are, up to 2³¹, without a look.
unsafe extern "C-unwind" fn insert(state: State) -> c_int {
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TTABLE);
        let end = (ffi::lua_objlen(state, 1) as c_int).saturating_add(1);
        let place = match ffi::lua_gettop(state) {
            2 => end,
            3 => ffi::luaL_checkinteger(state, 2) as c_int,
            _ => return raise(state, c"wrong number of arguments to 'insert'"),
        };
        let (mut at, mut moves) = (end.max(place), 0);
        while at > place {
            ffi::lua_rawgeti_(state, 1, at - 1);
            ffi::lua_rawseti_(state, 1, at);
            at -= 1;
            moves += 1;
            if moves == MOVES {
                moves = 0;
                look(state, 1, true);
            }
        }
        ffi::lua_rawseti_(state, 1, place);
        0
    }
}

/// Lua's own counts by subtracting numbers that it does not look at: it overflows.
unsafe extern "C-unwind" fn unpack(state: State) -> c_int {
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TTABLE);
        let first = ffi::luaL_optinteger(state, 2, 1) as c_int;
        let last = match ffi::lua_isnoneornil(state, 3) {
            0 => ffi::luaL_checkinteger(state, 3) as c_int,
            _ => ffi::lua_objlen(state, 1) as c_int,
        };
        let Some(count) = last.checked_sub(first).and_then(|count| count.checked_add(1)) else {
            // Below zero it cannot overflow but where there is nothing.
            return if first > last { 0 } else { raise(state, c"too many results to unpack") };
        };
        if count <= 0 {
            return 0;
        }
        if ffi::lua_checkstack(state, count) == 0 {
            return raise(state, c"too many results to unpack");
        }
        for index in first..=last {
            ffi::lua_rawgeti_(state, 1, index);
        }
        count
    }
}

#[cfg(test)]
mod tests;
