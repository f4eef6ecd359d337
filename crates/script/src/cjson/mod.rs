//! `cjson`: JSON, with the rules, limits and error texts of lua-cjson.

mod decode;
mod encode;

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Lua, Table, Value};

use crate::args::Args;
use crate::guard::{Answer, Fail, function, one};

/// What may be set.
#[derive(Debug, Clone, Copy)]
struct Options {
    sparse_converts: bool,
    sparse_ratio: i64,
    sparse_safe: i64,
    encode_depth: i64,
    decode_depth: i64,
    precision: i64,
    keeps_buffer: bool,
    /// Whether NaN and infinities are written, and how.
    encode_invalid: Invalid,
    decode_invalid: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Invalid {
    Refused,
    Written,
    AsNull,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sparse_converts: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth: 1000,
            decode_depth: 1000,
            precision: 14,
            keeps_buffer: true,
            encode_invalid: Invalid::Refused,
            decode_invalid: true,
        }
    }
}

/// Deepest nesting that an option may allow. What is deeper would use up the thread's stack; and at
/// each depth two values of Lua's are held, of which Rust can hold some 8,000.
const DEPTH_MAX: i64 = 3_000;

type Shared = Rc<RefCell<Options>>;

/// The library. Each has options of its own; those of the one that scripts share come back to
/// their defaults with a new state only, as in Redis.
pub(crate) fn library(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let options = Shared::default();
    table.raw_set("_NAME", "cjson")?;
    table.raw_set("_VERSION", "2.1.0")?;
    table.raw_set("null", Value::NULL)?;
    let set = |name: &'static str, call: fn(&Args<'_>, &Shared) -> Answer| {
        let options = Rc::clone(&options);
        let call = function(lua, move |lua, args| call(&Args::new(lua, name, args), &options))?;
        table.raw_set(name, call)
    };
    set("encode", |args, options| {
        single(args)?;
        let text = encode::encode(args.lua, args.any(0)?, &options.borrow())?;
        one(args.lua, args.lua.create_string(text)?)
    })?;
    set("decode", |args, options| {
        single(args)?;
        let text = args.bytes(0)?;
        one(args.lua, decode::decode(args.lua, &text, &options.borrow())?)
    })?;
    set("encode_max_depth", |args, options| {
        number(args, (1, i64::from(i32::MAX)), &mut options.borrow_mut().encode_depth)
    })?;
    set("decode_max_depth", |args, options| {
        number(args, (1, i64::from(i32::MAX)), &mut options.borrow_mut().decode_depth)
    })?;
    set("encode_number_precision", |args, options| {
        number(args, (1, 14), &mut options.borrow_mut().precision)
    })?;
    set("encode_keep_buffer", |args, options| {
        at_most(args, 1)?;
        flag(args, 0, &mut options.borrow_mut().keeps_buffer)?;
        one(args.lua, options.borrow().keeps_buffer)
    })?;
    set("decode_invalid_numbers", |args, options| {
        at_most(args, 1)?;
        flag(args, 0, &mut options.borrow_mut().decode_invalid)?;
        one(args.lua, options.borrow().decode_invalid)
    })?;
    set("encode_invalid_numbers", invalid)?;
    set("encode_sparse_array", sparse)?;
    set("new", |args, _| one(args.lua, library(args.lua)?))?;
    Ok(table)
}

fn single(args: &Args<'_>) -> Result<(), Fail> {
    if args.len() == 1 { Ok(()) } else { Err(args.bad(0, "expected 1 argument")) }
}

fn at_most(args: &Args<'_>, count: usize) -> Result<(), Fail> {
    if args.len() <= count { Ok(()) } else { Err(args.bad(count, "found too many arguments")) }
}

fn is_given(args: &Args<'_>, at: usize) -> bool {
    args.get(at).is_some_and(|value| !value.is_nil())
}

/// Sets a number if one is given.
fn limit(args: &Args<'_>, at: usize, (min, max): (i64, i64), field: &mut i64) -> Result<(), Fail> {
    if is_given(args, at) {
        let value = args.integer(at)?;
        if !(min..=max).contains(&value) {
            return Err(args.bad(at, format_args!("expected integer between {min} and {max}")));
        }
        *field = value;
    }
    Ok(())
}

/// Sets a number if one is given; answers what holds.
fn number(args: &Args<'_>, bounds: (i64, i64), field: &mut i64) -> Answer {
    at_most(args, 1)?;
    limit(args, 0, bounds, field)?;
    one(args.lua, *field)
}

fn flag(args: &Args<'_>, at: usize, field: &mut bool) -> Result<(), Fail> {
    match args.get(at) {
        None | Some(Value::Nil) => {}
        Some(Value::Boolean(value)) => *field = *value,
        Some(_) => match &*args.bytes(at)? {
            b"on" => *field = true,
            b"off" => *field = false,
            other => {
                let other = String::from_utf8_lossy(other);
                return Err(args.bad(at, format_args!("invalid option '{other}'")));
            }
        },
    }
    Ok(())
}

fn invalid(args: &Args<'_>, options: &Shared) -> Answer {
    at_most(args, 1)?;
    let mut is_written = options.borrow().encode_invalid == Invalid::Written;
    let is_null = matches!(args.get(0), Some(Value::String(word)) if *word.as_bytes() == *b"null");
    if is_null {
        options.borrow_mut().encode_invalid = Invalid::AsNull;
    } else if is_given(args, 0) {
        flag(args, 0, &mut is_written)?;
        options.borrow_mut().encode_invalid =
            if is_written { Invalid::Written } else { Invalid::Refused };
    }
    match options.borrow().encode_invalid {
        Invalid::Refused => one(args.lua, false),
        Invalid::Written => one(args.lua, true),
        Invalid::AsNull => one(args.lua, "null"),
    }
}

fn sparse(args: &Args<'_>, options: &Shared) -> Answer {
    at_most(args, 3)?;
    let mut options = options.borrow_mut();
    flag(args, 0, &mut options.sparse_converts)?;
    limit(args, 1, (0, i64::from(i32::MAX)), &mut options.sparse_ratio)?;
    limit(args, 2, (0, i64::from(i32::MAX)), &mut options.sparse_safe)?;
    one(args.lua, (options.sparse_converts, options.sparse_ratio, options.sparse_safe))
}
