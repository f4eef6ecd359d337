//! Libraries of functions: what FUNCTION LOAD registers.

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value};

use crate::guard::{Answer, Fail, function};
use crate::header::{ScriptFlags, is_library_name};

/// A function of a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// By which FCALL calls it.
    pub name: String,
    /// What it says of itself.
    pub description: Option<Vec<u8>>,
    /// What it needs.
    pub flags: ScriptFlags,
}

/// A library that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// Its name.
    pub name: String,
    /// Its functions, in the order they were registered.
    pub functions: Vec<Function>,
}

/// A library in a Lua state.
pub(crate) struct Loaded {
    /// The text it was loaded from.
    pub(crate) text: Box<[u8]>,
    /// Its functions and what runs them.
    pub(crate) functions: Vec<Callback>,
}

type Callback = (Function, mlua::Function);

/// Takes down what a library registers while it is loaded.
#[derive(Clone, Default)]
pub(crate) struct Registrar(Rc<RefCell<Option<Vec<Callback>>>>);

impl Registrar {
    /// A library is loaded from here on.
    pub(crate) fn begin(&self) {
        self.0.replace(Some(Vec::new()));
    }

    /// What it has registered.
    pub(crate) fn end(&self) -> Vec<Callback> {
        self.0.take().unwrap_or_default()
    }

    /// `redis.register_function`.
    pub(crate) fn function(&self, lua: &Lua) -> mlua::Result<mlua::Function> {
        let registrar = self.clone();
        function(lua, move |lua, args| registrar.register(lua, args))
    }

    fn register(&self, lua: &Lua, args: MultiValue) -> Answer {
        let args: Vec<Value> = args.into_iter().collect();
        let (function, callback) = match args.as_slice() {
            [Value::Table(table)] => named(lua, table)?,
            [_] => {
                return Err(fail(
                    lua,
                    "calling redis.register_function with a single argument is only applicable to \
                     Lua table (representing named arguments).",
                ));
            }
            [name, callback] => {
                let Some(name) = text(name) else {
                    let what = "first argument to redis.register_function must be a string";
                    return Err(fail(lua, what));
                };
                let Value::Function(callback) = callback else {
                    let what = "second argument to redis.register_function must be a function";
                    return Err(fail(lua, what));
                };
                let flags = ScriptFlags::default();
                (Function { name, description: None, flags }, callback.clone())
            }
            _ => {
                return Err(fail(lua, "wrong number of arguments to redis.register_function"));
            }
        };
        if !is_library_name(&function.name) {
            return Err(fail(
                lua,
                "Library names can only contain letters, numbers, or underscores(_) and must be at \
                 least one character long",
            ));
        }
        let mut registered = self.0.borrow_mut();
        let Some(registered) = &mut *registered else {
            let what = "redis.register_function can only be called on FUNCTION LOAD command";
            return Err(fail(lua, what));
        };
        if registered.iter().any(|(other, _)| other.name == function.name) {
            return Err(fail(lua, "Function already exists in the library"));
        }
        registered.push((function, callback));
        Ok(MultiValue::new())
    }
}

fn fail(lua: &Lua, text: &str) -> Fail {
    let table = lua.create_table().and_then(|table| {
        table.raw_set("err", format!("ERR {text}"))?;
        Ok(table)
    });
    table.map_or_else(Fail::Lua, |table| Fail::Raise(Value::Table(table)))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.to_string_lossy()),
        Value::Integer(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The form with named arguments.
fn named(lua: &Lua, table: &Table) -> Result<Callback, Fail> {
    let (mut name, mut callback, mut description) = (None, None, None);
    let mut flags = ScriptFlags::default();
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        let Value::String(key) = &key else {
            let what = "named argument key given to redis.register_function is not a string";
            return Err(fail(lua, what));
        };
        match (&*key.as_bytes(), &value) {
            (b"function_name", value) => {
                name = Some(text(value).ok_or_else(|| {
                    fail(
                        lua,
                        "function_name argument given to redis.register_function must be a string",
                    )
                })?);
            }
            (b"description", value) => {
                description = Some(text(value).ok_or_else(|| {
                    fail(
                        lua,
                        "description argument given to redis.register_function must be a string",
                    )
                })?);
            }
            (b"callback", Value::Function(function)) => callback = Some(function.clone()),
            (b"callback", _) => {
                let what = "callback argument given to redis.register_function must be a function";
                return Err(fail(lua, what));
            }
            (b"flags", Value::Table(words)) => {
                for word in words.sequence_values::<Value>() {
                    let word = word?;
                    if !text(&word).is_some_and(|word| flags.set(&word)) {
                        return Err(fail(lua, "unknown flag given"));
                    }
                }
            }
            (b"flags", _) => {
                let what = "flags argument to redis.register_function must be a table representing \
                            function flags";
                return Err(fail(lua, what));
            }
            _ => return Err(fail(lua, "unknown argument given to redis.register_function")),
        }
    }
    let Some(name) = name else {
        return Err(fail(lua, "redis.register_function must get a function name argument"));
    };
    let Some(callback) = callback else {
        return Err(fail(lua, "redis.register_function must get a callback argument"));
    };
    Ok((Function { name, description: description.map(String::into_bytes), flags }, callback))
}
