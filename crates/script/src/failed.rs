//! How scripts fail: what is said, and where.

use mlua::{Function, Lua, Value};

use crate::control::Stop;

/// What Lua says where memory has run out.
const LACK: &str = "not enough memory";

/// Why a run has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text of the error, code included; the script failed by itself.
    #[error("{0}")]
    Script(String),
    /// It was stopped.
    #[error("the script was stopped")]
    Stopped(Stop),
}

impl Error {
    pub(crate) fn err(text: impl std::fmt::Display) -> Self {
        Self::Script(format!("ERR {text}"))
    }
}

impl Error {
    /// Whether memory had run out.
    pub(crate) fn is_lack(&self) -> bool {
        matches!(self, Self::Script(text) if text.contains(LACK))
    }
}

impl From<mlua::Error> for Error {
    fn from(error: mlua::Error) -> Self {
        Self::err(plain(&error))
    }
}

/// The message of an error without what mlua adds.
pub(crate) fn plain(error: &mlua::Error) -> String {
    match error {
        mlua::Error::SyntaxError { message, .. }
        | mlua::Error::RuntimeError(message)
        | mlua::Error::MemoryError(message) => {
            message.lines().next().unwrap_or_default().to_owned()
        }
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

/// A function that says where the function of a script is that is nearest in the stack: source and
/// line. Lua's own `debug` would also give more than that.
pub(crate) fn inspector(lua: &Lua) -> mlua::Result<Function> {
    lua.create_function(|lua, ()| {
        for level in 1..24 {
            let at = lua.inspect_stack(level, |at| {
                let source = at.source();
                let line = at.current_line()?;
                let name = source.source.as_deref().unwrap_or_default().to_owned();
                (source.what != "C" && name != "=prelude").then_some((name, line))
            });
            match at {
                None => break,
                Some(Some((name, line))) => return Ok((Some(name), line)),
                Some(None) => {}
            }
        }
        Ok((None, 0))
    })
}

/// How a script failed by itself.
pub(crate) struct Failed {
    pub(crate) text: String,
    /// Source and line.
    pub(crate) at: Option<(String, i64)>,
}

impl Failed {
    pub(crate) fn of(error: &Value) -> Self {
        let Value::Table(table) = error else {
            let text = match error {
                Value::Error(error) => plain(error),
                Value::String(text) => text.to_string_lossy(),
                // What ends a run: `calls::STOP`.
                Value::LightUserData(_) => "the script was stopped".to_owned(),
                _ => "unknown error".to_owned(),
            };
            return Self { text: format!("ERR {text}"), at: None };
        };
        let text = match table.raw_get("err") {
            Ok(Value::String(text)) => text.to_string_lossy(),
            _ => "ERR unknown error".to_owned(),
        };
        let source = table.raw_get::<String>("source").ok();
        let line = table.raw_get::<i64>("line").ok();
        Self { text, at: source.zip(line) }
    }

    /// The text for a client, which says where.
    pub(crate) fn at(self, name: &str) -> String {
        let text = self.text.trim_end_matches(['\r', '\n']).replace(['\r', '\n'], " ");
        match self.at {
            Some((source, line)) => format!("{text} script: {name}, on {source}:{line}."),
            None => format!("{text} script: {name}."),
        }
    }
}
