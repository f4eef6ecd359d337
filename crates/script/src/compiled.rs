//! Texts of scripts, compiled.

use std::collections::HashMap;
use std::ffi::c_int;

use mlua::{ChunkMode, Function, Lua, LuaOptions, StdLib, Table};

use crate::failed::{Error, plain};

/// Compiled scripts that a state keeps, and the bytes of their texts; beyond that it begins anew.
const COUNT_MAX: usize = 2_000;
const BYTES_MAX: usize = 16 << 20;

/// Scripts that were compiled, in a table of Lua's: each one that Rust held would take a place of
/// which there are few.
pub(crate) struct Compiled {
    /// By their places.
    pub(crate) scripts: Table,
    places: HashMap<Box<str>, c_int>,
    bytes: usize,
}

impl Compiled {
    pub(crate) fn new(lua: &Lua) -> mlua::Result<Self> {
        Ok(Self { scripts: lua.create_table()?, places: HashMap::new(), bytes: 0 })
    }

    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// The place of a script.
    pub(crate) fn get(&self, hash: &str) -> Option<c_int> {
        self.places.get(hash).copied()
    }

    /// Keeps a script whose text has so many bytes; its place.
    pub(crate) fn put(
        &mut self,
        lua: &Lua,
        hash: &str,
        script: &Function,
        bytes: usize,
    ) -> mlua::Result<c_int> {
        if self.count() >= COUNT_MAX || self.bytes + bytes > BYTES_MAX {
            *self = Self::new(lua)?;
        }
        let place = self.count() as c_int + 1;
        self.scripts.raw_set(place, script)?;
        self.places.insert(hash.into(), place);
        self.bytes += bytes;
        Ok(place)
    }
}

/// Whether a script can be compiled, in a state of `memory_max` bytes. A long text takes seconds.
///
/// # Errors
/// The text of the error.
pub fn check(text: &[u8], memory_max: usize) -> Result<(), Error> {
    let length = crate::header::parse(text, false).map_err(Error::err)?.length;
    let lua = Lua::new_with(StdLib::NONE, LuaOptions::new())?;
    lua.set_memory_limit(memory_max)?;
    compile(&lua, text.get(length..).unwrap_or_default(), "@user_script", None)
        .map(|_| ())
        .map_err(not_compiled)
}

pub(crate) fn not_compiled(error: mlua::Error) -> Error {
    Error::err(format_args!("Error compiling script (new function): {}", plain(&error)))
}

pub(crate) fn compile(
    lua: &Lua,
    text: &[u8],
    name: &str,
    globals: Option<&Table>,
) -> mlua::Result<Function> {
    let chunk = lua.load(text).set_name(name).set_mode(ChunkMode::Text);
    match globals {
        Some(globals) => chunk.set_environment(globals.clone()).into_function(),
        None => chunk.into_function(),
    }
}
