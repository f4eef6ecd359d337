//! The table `redis` of scripts.

use std::rc::Rc;

use mlua::{Function, Lua, MultiValue, Table, Value};
use resp::Protocol;

use crate::convert::{command_error, push_error, push_reply};
use crate::current::{Asked, Current};
use crate::guard::{Answer, Fail, PACKED, fail, function, one, outcome, raising};
use crate::host::{Level, Settings};
use crate::watched::LARGE;
use crate::{calls, looks, sha1_hex};

const CALL: i64 = 1;
const PCALL: i64 = 2;
const LOG: i64 = 3;
const MAY_CALL: i64 = 4;

/// Levels of `redis.log`.
const LEVELS: [(&str, Level); 4] = [
    ("LOG_DEBUG", Level::Debug),
    ("LOG_VERBOSE", Level::Verbose),
    ("LOG_NOTICE", Level::Notice),
    ("LOG_WARNING", Level::Warning),
];

/// `redis.set_repl` and its constants: accepted, without effect, because the write batch of a
/// script is replicated, not its commands.
const REPLICATION: [(&str, i64); 5] =
    [("REPL_NONE", 0), ("REPL_AOF", 1), ("REPL_SLAVE", 2), ("REPL_REPLICA", 2), ("REPL_ALL", 3)];

/// Arguments that together are larger than Lua's memory may be: one string, many times.
fn too_large(lua: &Lua, current: &Current) -> Fail {
    current.lacks.set(true);
    fail(lua, "The arguments of this redis lib call are too large")
}

/// The arguments of a function of `redis`.
enum Passed {
    Few(MultiValue),
    /// So many, in a table: Rust holds one of them at a time.
    Many(usize, Table),
}

impl Passed {
    fn len(&self) -> usize {
        match self {
            Self::Few(values) => values.len(),
            Self::Many(count, _) => *count,
        }
    }

    fn iter(&self) -> impl Iterator<Item = mlua::Result<Value>> {
        let get = move |at| match self {
            Self::Few(values) => Ok(values.get(at).cloned().unwrap_or(Value::Nil)),
            Self::Many(_, table) => table.raw_get(at + 1),
        };
        (0..self.len()).map(get)
    }
}

/// What the functions of `redis` call that need the host of the run, as [`raising`] expects it.
pub(crate) fn dispatcher(lua: &Lua, current: &Rc<Current>) -> mlua::Result<Function> {
    let current = Rc::clone(current);
    lua.create_function(move |lua, args| outcome(lua, dispatch(lua, &current, args)))
}

fn dispatch(lua: &Lua, current: &Current, mut args: MultiValue) -> Answer {
    let kind = match args.pop_front() {
        Some(Value::Integer(kind)) => kind,
        Some(Value::Number(kind)) => kind as i64,
        _ => 0,
    };
    let (kind, args) = match (args.pop_front(), args.pop_front()) {
        (Some(count), Some(Value::Table(table))) if kind >= PACKED => {
            let count = number(Some(&count)).and_then(|count| usize::try_from(count).ok());
            (kind - PACKED, Passed::Many(count.unwrap_or(0), table))
        }
        (first, second) => {
            second.into_iter().chain(first).for_each(|value| args.push_front(value));
            (kind, Passed::Few(args))
        }
    };
    match kind {
        LOG => log(lua, current, &args),
        MAY_CALL => may_call(lua, current, &args),
        _ => match call(lua, current, &args) {
            Err(Fail::Raise(error)) if kind == PCALL => one(lua, error),
            other => other,
        },
    }
}

/// The words of a command among Lua values.
fn words(lua: &Lua, args: &Passed, current: &Current) -> Result<Vec<Vec<u8>>, Fail> {
    if args.len() == 0 {
        return Err(fail(lua, "Please specify at least one argument for this redis lib call"));
    }
    let mut left = current.bytes_max;
    let mut copy = |text: &[u8]| -> Result<Vec<u8>, Fail> {
        left = left.checked_sub(text.len()).ok_or_else(|| too_large(lua, current))?;
        Ok(text.to_vec())
    };
    let word = |value: mlua::Result<Value>| match value? {
        Value::String(text) => copy(&text.as_bytes()),
        Value::Integer(number) => copy(number.to_string().as_bytes()),
        Value::Number(number) => copy(resp::float_text(number).as_bytes()),
        _ => Err(fail(lua, "Lua redis lib command arguments must be strings or integers")),
    };
    args.iter().map(word).collect()
}

/// A command with arguments that are not the usual ones; the others go through [`calls`].
fn call(lua: &Lua, current: &Current, args: &Passed) -> Answer {
    let words = words(lua, args, current)?;
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let asked = current.call(&words);
    let mut is_error = true;
    #[expect(unsafe_code, reason = "replies are pushed as they are read")]
    // SAFETY: what pushes keeps to the stack that mlua protects.
    let value = unsafe {
        lua.exec_raw::<Value>((), |state| match asked {
            Asked::Replied => is_error = push_reply(state, current.answer()),
            Asked::Refused => push_error(state, current.answer()),
            Asked::Stop => mlua::ffi::lua_pushnil(state),
        })
    };
    match (asked, value?) {
        (Asked::Stop, _) => Err(Fail::Lua(mlua::Error::runtime("the script was stopped"))),
        (_, value) if is_error => Err(Fail::Raise(value)),
        (_, value) => one(lua, value),
    }
}

fn log(lua: &Lua, current: &Current, args: &Passed) -> Answer {
    if args.len() < 2 {
        return Err(fail(lua, "redis.log() requires two arguments or more."));
    }
    let mut values = args.iter();
    let Some(level) = number(values.next().transpose()?.as_ref()) else {
        return Err(fail(lua, "First argument must be a number (log level)."));
    };
    let level = usize::try_from(level).ok().and_then(|level| LEVELS.get(level));
    let Some((_, level)) = level else { return Err(fail(lua, "Invalid debug level.")) };
    let mut text = Vec::new();
    for part in values {
        let Some(part) = lua.coerce_string(part?)? else { continue };
        if text.len() + part.as_bytes().len() > current.bytes_max {
            return Err(too_large(lua, current));
        }
        if !text.is_empty() {
            text.push(b' ');
        }
        text.extend_from_slice(&part.as_bytes());
    }
    current.ask(|host| host.log(*level, &text));
    Ok(MultiValue::new())
}

fn may_call(lua: &Lua, current: &Current, args: &Passed) -> Answer {
    let words = words(lua, args, current)?;
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let may = current.ask(|host| host.may_call(&words)).flatten();
    match may {
        Some(may) => one(lua, may),
        None => Err(fail(lua, "Invalid command passed to redis.acl_check_cmd()")),
    }
}

/// `redis.error_reply` and `redis.status_reply`.
fn single(lua: &Lua, field: &str, args: &MultiValue) -> Answer {
    let table = lua.create_table()?;
    match (args.front(), args.len()) {
        (Some(Value::String(text)), 1) if field == "ok" => table.raw_set("ok", text)?,
        (Some(Value::String(text)), 1) => {
            table.raw_set("err", command_error(&text.to_string_lossy()))?;
        }
        _ => table.raw_set("err", "ERR wrong number or type of arguments")?,
    }
    one(lua, table)
}

fn sha1hex(lua: &Lua, args: &MultiValue) -> Answer {
    let text = match (args.front(), args.len()) {
        (Some(value), 1) => lua.coerce_string(value.clone())?,
        _ => return Err(fail(lua, "wrong number of arguments")),
    };
    let text = text.map(|text| text.as_bytes().to_vec()).unwrap_or_default();
    if text.len() > LARGE {
        looks::go_on(lua)?;
    }
    one(lua, sha1_hex(&text))
}

fn number(value: Option<&Value>) -> Option<i64> {
    match value {
        Some(Value::Integer(number)) => Some(*number),
        Some(Value::Number(number)) => Some(*number as i64),
        _ => None,
    }
}

fn setresp(lua: &Lua, current: &Current, args: &MultiValue) -> Answer {
    if args.len() != 1 {
        return Err(fail(lua, "redis.setresp() requires one argument."));
    }
    current.protocol.set(match number(args.front()) {
        Some(2) => Protocol::V2,
        Some(3) => Protocol::V3,
        _ => return Err(fail(lua, "RESP version must be 2 or 3.")),
    });
    Ok(MultiValue::new())
}

fn set_repl(lua: &Lua, args: &MultiValue) -> Answer {
    if args.len() != 1 {
        return Err(fail(lua, "redis.set_repl() requires two arguments."));
    }
    if !number(args.front()).is_some_and(|flags| (0..=3).contains(&flags)) {
        let text = "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.";
        return Err(fail(lua, text));
    }
    Ok(MultiValue::new())
}

/// What a library being loaded sees: it may log.
pub(crate) fn loading(
    lua: &Lua,
    settings: &Settings,
    slot: &Table,
    register: Function,
) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("register_function", register)?;
    table.raw_set("log", raising(lua, slot.clone(), LOG)?)?;
    for (level, (name, _)) in LEVELS.iter().enumerate() {
        table.raw_set(*name, level)?;
    }
    table.raw_set("REDIS_VERSION", settings.version)?;
    table.raw_set("REDIS_VERSION_NUM", settings.version_number)?;
    Ok(table)
}

/// What a script or function sees that runs. `slot` holds a [`dispatcher`].
pub(crate) fn running(
    lua: &Lua,
    settings: &Settings,
    slot: &Table,
    current: &Rc<Current>,
) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for (name, kind) in [("call", CALL), ("pcall", PCALL)] {
        let other = raising(lua, slot.clone(), kind)?;
        table.raw_set(name, calls::function(lua, Rc::as_ptr(current), kind == PCALL, other)?)?;
    }
    for (name, kind) in [("log", LOG), ("acl_check_cmd", MAY_CALL)] {
        table.raw_set(name, raising(lua, slot.clone(), kind)?)?;
    }
    for (level, (name, _)) in LEVELS.iter().enumerate() {
        table.raw_set(*name, level)?;
    }
    for (name, value) in REPLICATION {
        table.raw_set(name, value)?;
    }
    table.raw_set("REDIS_VERSION", settings.version)?;
    table.raw_set("REDIS_VERSION_NUM", settings.version_number)?;
    let set = |name: &str, call: Function| table.raw_set(name, call);
    set("error_reply", function(lua, |lua, args| single(lua, "err", &args))?)?;
    set("status_reply", function(lua, |lua, args| single(lua, "ok", &args))?)?;
    set("sha1hex", function(lua, |lua, args| sha1hex(lua, &args))?)?;
    let current = Rc::clone(current);
    set("setresp", function(lua, move |lua, args| setresp(lua, &current, &args))?)?;
    set("set_repl", function(lua, |lua, args| set_repl(lua, &args))?)?;
    set("replicate_commands", function(lua, |lua, _| one(lua, true))?)?;
    // There is no debugger: as in Redis where none is attached.
    set("breakpoint", function(lua, |lua, _| one(lua, false))?)?;
    set("debug", function(lua, |_, _| Ok(MultiValue::new()))?)?;
    Ok(table)
}
