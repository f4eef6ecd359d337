//! The arguments of a function that a script calls, with the errors of Lua's own libraries.

use mlua::{Lua, MultiValue, Value};

use crate::guard::Fail;
use crate::looks;
use crate::watched::LARGE;

/// The arguments of one call.
pub(crate) struct Args<'l> {
    pub(crate) lua: &'l Lua,
    name: &'static str,
    values: Vec<Value>,
}

impl<'l> Args<'l> {
    pub(crate) fn new(lua: &'l Lua, name: &'static str, values: MultiValue) -> Self {
        Self { lua, name, values: values.into_iter().collect() }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Value> {
        self.values.get(at)
    }

    /// `bad argument #1 to 'name' (…)`.
    pub(crate) fn bad(&self, at: usize, what: impl std::fmt::Display) -> Fail {
        Fail::At(format!("bad argument #{} to '{}' ({what})", at + 1, self.name))
    }

    fn wrong(&self, at: usize, expected: &str) -> Fail {
        let got = self.get(at).map_or("no value", type_name);
        self.bad(at, format!("{expected} expected, got {got}"))
    }

    /// A number, or a text that is one.
    pub(crate) fn number(&self, at: usize) -> Result<f64, Fail> {
        let number = match self.get(at) {
            Some(value) => self.lua.coerce_number(value.clone())?,
            None => None,
        };
        number.ok_or_else(|| self.wrong(at, "number"))
    }

    /// A whole number; its fraction is cut off.
    pub(crate) fn integer(&self, at: usize) -> Result<i64, Fail> {
        Ok(self.number(at)? as i64)
    }

    /// A string, or a number as one.
    pub(crate) fn bytes(&self, at: usize) -> Result<Vec<u8>, Fail> {
        match self.get(at) {
            Some(Value::String(text)) => {
                let text = text.as_bytes();
                // The work on it is one instruction of Lua's.
                if text.len() > LARGE {
                    looks::go_on(self.lua)?;
                }
                Ok(text.to_vec())
            }
            Some(value @ (Value::Integer(_) | Value::Number(_))) => {
                let text = self.lua.coerce_string(value.clone())?;
                Ok(text.map(|text| text.as_bytes().to_vec()).unwrap_or_default())
            }
            _ => Err(self.wrong(at, "string")),
        }
    }

    /// Any value.
    pub(crate) fn any(&self, at: usize) -> Result<&Value, Fail> {
        self.get(at).ok_or_else(|| self.bad(at, "value expected"))
    }
}

/// What Lua calls the type of a value.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) | Value::Number(_) => "number",
        Value::LightUserData(_) | Value::UserData(_) => "userdata",
        other => other.type_name(),
    }
}
