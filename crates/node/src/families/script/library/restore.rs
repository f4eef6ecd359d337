//! FUNCTION DUMP and FUNCTION RESTORE, and the libraries of a dump file.
//!
//! All libraries of a payload are loaded, and compared with each other, before any is kept.

use storage::Txn;
use storage::types::scripts as kept;

use super::{functions_of, library_name, text};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::config::Values;
use crate::families::script::engine;
use crate::node::Node;
use crate::session::{ReadCx, WriteCx};

/// A library that was loaded, and may be kept.
pub(crate) struct Loaded {
    name: String,
    source: Vec<u8>,
    functions: Vec<String>,
}

/// What is done with libraries that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// All go.
    Flush,
    /// None may have the name of a new one.
    Append,
    /// Those that have it go.
    Replace,
}

/// Loads one of these beside others of the same payload.
fn load(node: &Node, config: &Values, source: Vec<u8>, others: &[Loaded]) -> Result<Loaded> {
    let name = library_name(&source)?;
    if others.iter().any(|other| other.name == name) {
        return Err(Error::err(format_args!("Library '{name}' already exists")));
    }
    let functions = functions_of((node, config), &name, &source)?;
    let functions: Vec<String> = functions.into_iter().map(|function| function.name).collect();
    let known = |name: &&String| others.iter().any(|other| other.functions.contains(name));
    if let Some(function) = functions.iter().find(known) {
        return Err(taken(function));
    }
    Ok(Loaded { name, source, functions })
}

fn taken(function: &str) -> Error {
    Error::err(format_args!("Function {function} already exists"))
}

impl Loaded {
    /// Of a dump file, on a thread that runs no scripts. Holds nothing.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub(crate) fn of_file(node: &Node, config: &Values, source: Vec<u8>) -> Result<Self> {
        let loaded = load(node, config, source, &[]);
        engine::give_up(node);
        loaded
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Keeps it in place of the library of its name, or, if that is to stay and there is one, not.
    /// Returns whether it is kept. The lock of all keys is held.
    ///
    /// # Errors
    /// Another library has one of its functions.
    pub(crate) fn put(&self, txn: &mut Txn<'_>, only_new: bool) -> Result<bool> {
        if only_new && kept::library(txn, self.name.as_bytes())?.is_some() {
            return Ok(false);
        }
        self.replace(txn)?;
        Ok(true)
    }

    fn replace(&self, txn: &mut Txn<'_>) -> Result<()> {
        kept::delete_library(txn, self.name.as_bytes())?;
        for function in &self.functions {
            if kept::library_of(txn, function.as_bytes())?.is_some() {
                return Err(taken(function));
            }
        }
        kept::put_library(txn, &self.name, &self.source, self.functions.iter().map(String::as_str));
        Ok(())
    }
}

pub(super) fn dump(cx: &ReadCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let libraries = kept::libraries(cx.txn)?;
    let sources = libraries.iter().map(|(_, source)| source.as_slice());
    Ok(reply.bulk(&rdb::functions::dump(sources)))
}

fn policy(args: &mut Args<'_>) -> Result<Policy> {
    let policy = match args.word().as_deref() {
        None | Some(b"APPEND") => Policy::Append,
        Some(b"FLUSH") => Policy::Flush,
        Some(b"REPLACE") => Policy::Replace,
        Some(_) => {
            return Err(Error::err(
                "Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
    };
    Ok(policy)
}

pub(super) fn restore(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let payload = args.bytes()?;
    if args.len() > 1 {
        let word = text(args.all().get(1).copied().unwrap_or_default());
        return Err(Error::err(format_args!(
            "unknown subcommand or wrong number of arguments for '{word}'. Try FUNCTION HELP."
        )));
    }
    let policy = policy(args)?;
    let sources = rdb::functions::read(payload).map_err(|error| match error {
        rdb::Error::Footer => Error::err("DUMP payload version or checksum are wrong"),
        rdb::Error::Kind(_) => Error::err("given type is not a function"),
        _ => Error::err("Failed loading library payload"),
    })?;
    let mut new: Vec<Loaded> = Vec::new();
    for source in sources {
        let loaded = load(cx.node, cx.config, source, &new)?;
        new.push(loaded);
    }
    if policy == Policy::Flush {
        kept::flush_libraries(&mut cx.txn);
    }
    for library in &new {
        let name = library.name.as_bytes();
        match policy {
            Policy::Append if kept::library(&cx.txn, name)?.is_some() => {
                return Err(Error::err(format_args!("Library {} already exists", library.name)));
            }
            // The functions of all that go are free for all that come.
            Policy::Replace => {
                kept::delete_library(&mut cx.txn, name)?;
            }
            _ => {}
        }
    }
    new.iter().try_for_each(|library| library.replace(&mut cx.txn))?;
    Ok(reply.ok())
}
