//! Libraries of functions: what FUNCTION LOAD registers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value};

use crate::guard::{Answer, Fail, fail, function};
use crate::header::{ScriptFlags, is_library_name};

/// Most libraries that a state keeps, and the bytes of their texts, names and descriptions.
const LIBRARIES_MAX: usize = 1_000;
const TEXT_BYTES_MAX: usize = 16 << 20;
/// Most bytes of the names and descriptions of a library's functions.
const SAID_BYTES_MAX: usize = 4 << 20;

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

/// What a library has registered: its functions, and what runs them, in the same order.
pub(crate) struct Registered {
    pub(crate) functions: Vec<Function>,
    /// In a table of Lua's: each one that Rust held would take a place of which there are few.
    callbacks: Table,
    /// Bytes of names and descriptions.
    said_bytes: usize,
}

/// A library in a Lua state.
struct Loaded {
    /// The text it was loaded from.
    text: Box<[u8]>,
    functions: Vec<Function>,
    /// Of the text, of names and of descriptions.
    bytes: usize,
    /// When it was last asked for.
    used: u64,
}

/// The libraries of a Lua state: those that were used last, as nobody tells it which are deleted.
pub(crate) struct Libraries {
    by_name: HashMap<String, Loaded>,
    /// The tables of callbacks, by the names of the libraries.
    callbacks: Table,
    text_bytes: usize,
    turn: u64,
}

impl Libraries {
    pub(crate) fn new(lua: &Lua) -> mlua::Result<Self> {
        let callbacks = lua.create_table()?;
        Ok(Self { by_name: HashMap::new(), callbacks, text_bytes: 0, turn: 0 })
    }

    /// The functions of a library if it was loaded from that text.
    pub(crate) fn get(&mut self, name: &str, text: &[u8]) -> Option<&[Function]> {
        self.turn += 1;
        let loaded = self.by_name.get_mut(name).filter(|loaded| *loaded.text == *text)?;
        loaded.used = self.turn;
        Some(&loaded.functions)
    }

    /// Keeps a library, in place of the one of its name; those used longest ago go.
    pub(crate) fn put(&mut self, name: &str, text: &[u8], new: Registered) -> mlua::Result<()> {
        self.forget(name)?;
        self.callbacks.raw_set(name, new.callbacks)?;
        self.turn += 1;
        let bytes = text.len() + new.said_bytes;
        self.text_bytes += bytes;
        let loaded = Loaded { text: text.into(), functions: new.functions, bytes, used: self.turn };
        self.by_name.insert(name.to_owned(), loaded);
        while self.by_name.len() > LIBRARIES_MAX || self.text_bytes > TEXT_BYTES_MAX {
            let others = self.by_name.iter().filter(|(other, _)| *other != name);
            let oldest = others.min_by_key(|(_, loaded)| loaded.used).map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { break };
            self.forget(&oldest)?;
        }
        Ok(())
    }

    pub(crate) fn forget(&mut self, name: &str) -> mlua::Result<()> {
        if let Some(loaded) = self.by_name.remove(name) {
            self.text_bytes -= loaded.bytes;
            self.callbacks.raw_set(name, Value::Nil)?;
        }
        Ok(())
    }

    /// Forgets all but one.
    pub(crate) fn keep_only(&mut self, name: Option<&str>) -> mlua::Result<()> {
        let others = self.by_name.keys().filter(|other| Some(other.as_str()) != name);
        let others: Vec<String> = others.cloned().collect();
        others.iter().try_for_each(|other| self.forget(other))
    }

    /// What runs a function of a library.
    pub(crate) fn callback(&self, library: &str, name: &str) -> Option<mlua::Function> {
        let functions = &self.by_name.get(library)?.functions;
        let at = functions.iter().position(|function| function.name == name)?;
        let callbacks: Table = self.callbacks.raw_get(library).ok()?;
        callbacks.raw_get(at + 1).ok()
    }
}

/// Takes down what a library registers while it is loaded.
#[derive(Clone, Default)]
pub(crate) struct Registrar(Rc<RefCell<Option<Registered>>>);

impl Registrar {
    /// A library is loaded from here on.
    pub(crate) fn begin(&self, lua: &Lua) -> mlua::Result<()> {
        let callbacks = lua.create_table()?;
        self.0.replace(Some(Registered { functions: Vec::new(), callbacks, said_bytes: 0 }));
        Ok(())
    }

    /// What it has registered.
    pub(crate) fn end(&self) -> Option<Registered> {
        self.0.take().filter(|registered| !registered.functions.is_empty())
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
        if registered.functions.iter().any(|other| other.name == function.name) {
            return Err(fail(lua, "Function already exists in the library"));
        }
        let said = function.name.len() + function.description.as_ref().map_or(0, Vec::len);
        if registered.said_bytes + said > SAID_BYTES_MAX {
            let what = "names and descriptions of functions of a library are too long";
            return Err(fail(lua, what));
        }
        registered.said_bytes += said;
        registered.callbacks.raw_set(registered.functions.len() + 1, callback)?;
        registered.functions.push(function);
        Ok(MultiValue::new())
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.to_string_lossy()),
        Value::Integer(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The form with named arguments.
fn named(lua: &Lua, table: &Table) -> Result<(Function, mlua::Function), Fail> {
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
