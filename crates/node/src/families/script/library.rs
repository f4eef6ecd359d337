//! FUNCTION and FCALL.

mod ready;
mod restore;

use std::collections::BTreeMap;
use std::sync::Arc;

use resp::{Protocol, Writer};
use script::{Function, HeaderError, Job};
use storage::types::glob;
use storage::types::scripts as kept;
use storage::{DEFAULT_NAMESPACE, Read};

use super::engine::{self, Loading};
use super::run::{self, Rules};
use super::texts::{self, Kind};
use super::{end_scripts, flush_mode};
use crate::command::keys::Keys;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::config::Values;
use crate::node::Node;
use crate::session::nested::Why;
use crate::session::{After, Command, NestedCx, ReadCx, SessionCx, WriteCx};
pub(in crate::families) use restore::Loaded;

/// All namespaces have the same functions, which run with the rights of whoever calls them: what a
/// client of one namespace put there would be run by others, and by administrators.
#[rustfmt::skip]
pub(super) const FUNCTION: &[Command] = &[
    Command::write  ("function|delete",  3, Keys::None, delete).whole().no_script().keyspace().all_keys().removes(),
    Command::read   ("function|dump",    2, Keys::None, restore::dump).no_script().keyspace(),
    Command::write  ("function|flush",  -2, Keys::None, flush).whole().no_script().keyspace().all_keys().removes(),
    Command::session("function|help",    2, help).loading().stale(),
    Command::session("function|kill",    2, kill).no_script(),
    Command::read   ("function|list",   -2, Keys::None, list).no_script().keyspace().script().prepared(ready::prepare),
    Command::read   ("function|listfunc", -2, Keys::None, list_functions).no_script().keyspace(),
    Command::read   ("function|listlib", 3, Keys::None, list_library).no_script().keyspace(),
    Command::write  ("function|load",   -3, Keys::None, load).whole().no_script().keyspace().all_keys().script().prepared(ready::prepare),
    Command::write  ("function|restore", -3, Keys::None, restore::restore).whole().no_script().keyspace().all_keys().script().prepared(ready::prepare),
    Command::read   ("function|stats",   2, Keys::None, stats).no_script().keyspace(),
];

const HELP: &[&str] = &[
    "FUNCTION <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DELETE <library name>",
    "    Forget a library.",
    "DUMP",
    "    Answer all libraries as a payload for FUNCTION RESTORE, here or at a Redis.",
    "FLUSH [ASYNC|SYNC]",
    "    Forget all libraries.",
    "KILL",
    "    End the functions that run and have written nothing.",
    "LIST [LIBRARYNAME <pattern>] [WITHCODE]",
    "    Describe libraries.",
    "LISTFUNC",
    "    Name all functions and the libraries they are in.",
    "LISTLIB <library name>",
    "    Name the functions of a library.",
    "LOAD [REPLACE] <code>",
    "    Keep a library.",
    "RESTORE <payload> [FLUSH|APPEND|REPLACE]",
    "    Keep the libraries of a payload: in place of all, beside those that are there",
    "    (default), or in place of those of the same names.",
    "STATS",
    "    Tell of the function that has run longest, and of engines.",
    "HELP",
    "    Print this help.",
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How a library is loaded: within half a second.
fn job(name: &str) -> Job<'_> {
    let began = std::time::Instant::now();
    let tick = Box::new(move || {
        (began.elapsed() > std::time::Duration::from_millis(500)).then_some(script::Stop::TooLong)
    });
    Job { name, keys: &[], args: &[], protocol: Protocol::V2, control: Arc::default(), tick }
}

fn said(error: script::Error) -> Error {
    match error {
        script::Error::Script(text) => Error::text(text),
        script::Error::Stopped(script::Stop::Killed) => {
            Error::err("FUNCTION LOAD was ended with FUNCTION KILL")
        }
        script::Error::Stopped(_) => Error::err("FUNCTION LOAD timeout"),
    }
}

/// The functions of a library that is to be kept or shown.
fn functions_of(
    (node, config): (&Node, &Values),
    name: &str,
    text: &[u8],
) -> Result<Vec<Function>> {
    let functions = match ready::take(text) {
        Some(outcome) => outcome,
        None => engine::with(node, config, false, |engine| {
            engine.functions(name, text, &mut Loading, job(name))
        })?,
    };
    functions.map_err(said)
}

pub(super) fn fcall(
    cx: &mut NestedCx<'_>,
    write: &mut WriteCx<'_>,
    args: &mut Args<'_>,
) -> Result<Replied> {
    call(cx, write, args, false)
}

pub(super) fn fcall_ro(
    cx: &mut NestedCx<'_>,
    write: &mut WriteCx<'_>,
    args: &mut Args<'_>,
) -> Result<Replied> {
    call(cx, write, args, true)
}

fn call(
    cx: &mut NestedCx<'_>,
    write: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    is_read_only: bool,
) -> Result<Replied> {
    let words = args.all();
    let name = args.bytes()?;
    let none = || Error::err("Function not found");
    let library = texts::find(&write.txn, Kind::Function, name)?.ok_or_else(none)?;
    let code = texts::find(&write.txn, Kind::Library, &library)?.ok_or_else(none)?;
    let (name, library) = (text(name), text(&library));
    let function = function(cx, (&library, &code), &name)?.ok_or_else(none)?;
    let (keys, arguments) = run::split(args.rest(), "ERR Bad number of keys provided")?;
    let rules = Rules { flags: Some(function.flags), is_read_only, is_function: true };
    run::run(cx, write, (words, &name, rules), (keys, arguments), |engine, host, job| {
        engine.call(&library, host, job)
    })
}

/// A function of a library.
fn function(
    cx: &NestedCx<'_>,
    (library, code): (&str, &[u8]),
    name: &str,
) -> Result<Option<Function>> {
    let is_here = cx.is_here();
    if is_here && code.len() > run::TEXT_HERE {
        return Err(cx.give_way(Why::Long));
    }
    let job = match is_here {
        true => Job { tick: run::soon(), ..job(library) },
        false => job(library),
    };
    // By the engine, which then has it: what was found beforehand may be of another text by now.
    let found = engine::with(cx.node, cx.config, is_here, |engine| {
        let found = engine.function((library, code), name, &mut Loading, job);
        if is_here && engine.has_lacked_memory() {
            // With the memory that there is aside it may be another one.
            engine.forget(library)?;
            return Err(script::Error::Stopped(script::Stop::Aborted));
        }
        found
    });
    match found {
        Ok(Ok(function)) => Ok(function),
        // What is wrong with it, and how much time it has, is found out aside.
        _ if is_here => Err(cx.give_way(Why::Long)),
        Ok(Err(error)) => Err(said(error)),
        Err(error) => Err(error),
    }
}

/// The name in the first line of a library.
fn library_name(code: &[u8]) -> Result<String> {
    if !code.starts_with(b"#!") {
        return Err(Error::err("Missing library metadata"));
    }
    let header = script::parse_header(code, true).map_err(|error| match error {
        HeaderError::Endless => Error::err("Invalid library metadata"),
        HeaderError::Engine(engine) => {
            Error::err(format!("Engine '{}' not found", engine.trim_start_matches("#!")))
        }
        HeaderError::Option(option) => {
            Error::err(format!("Invalid metadata value given: {option}"))
        }
        HeaderError::Flag(flag) => Error::err(format!("Invalid metadata value given: {flag}")),
    })?;
    let name = header.name.ok_or_else(|| Error::err("Library name was not given"))?;
    if !script::is_library_name(&name) {
        return Err(Error::err(
            "Library names can only contain letters, numbers, or underscores(_) and must be at \
             least one character long",
        ));
    }
    Ok(name)
}

fn load(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let mut replaces = false;
    let code = loop {
        let word = args.bytes()?;
        if args.is_empty() {
            break word;
        }
        if !word.eq_ignore_ascii_case(b"REPLACE") {
            return Err(Error::err(format!("Unknown option given: {}", text(word))));
        }
        replaces = true;
    };
    if replaces && code.eq_ignore_ascii_case(b"REPLACE") {
        return Err(Error::err("Function code is missing"));
    }
    let name = library_name(code)?;
    let is_known = kept::library(&cx.txn, name.as_bytes())?.is_some();
    if is_known && !replaces {
        return Err(Error::err(format!("Library '{name}' already exists")));
    }
    let functions = functions_of((cx.node, cx.config), &name, code)?;
    for function in &functions {
        let library = kept::library_of(&cx.txn, function.name.as_bytes())?;
        if library.is_some_and(|library| library != name.as_bytes()) {
            return Err(Error::err(format!("Function {} already exists", function.name)));
        }
    }
    kept::delete_library(&mut cx.txn, name.as_bytes())?;
    let names = functions.iter().map(|function| function.name.as_str());
    kept::put_library(&mut cx.txn, &name, code, names);
    Ok(reply.bulk(name.as_bytes()))
}

fn delete(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    match kept::delete_library(&mut cx.txn, args.bytes()?)? {
        true => Ok(reply.ok()),
        false => Err(Error::err("Library not found")),
    }
}

fn flush(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    flush_mode(args, "FUNCTION")?;
    kept::flush_libraries(&mut cx.txn);
    Ok(reply.ok())
}

fn kill(cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    end_scripts(cx, true, reply)
}

fn help(_cx: &mut SessionCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<After> {
    Ok(reply.help(HELP).into())
}

/// A library and its functions, as FUNCTION LIST shows them.
struct Shown {
    name: String,
    code: Vec<u8>,
    functions: Vec<Function>,
}

fn list(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (mut pattern, mut with_code) = (None, false);
    while !args.is_empty() {
        let word = args.bytes()?;
        if !with_code && word.eq_ignore_ascii_case(b"WITHCODE") {
            with_code = true;
        } else if pattern.is_none() && word.eq_ignore_ascii_case(b"LIBRARYNAME") {
            let missing = |_| Error::err("library name argument was not given");
            pattern = Some(args.bytes().map_err(missing)?);
        } else {
            return Err(Error::err(format!("Unknown argument {}", text(word))));
        }
    }
    let mut shown = Vec::new();
    for (name, code) in kept::libraries(cx.txn)? {
        if pattern.is_none_or(|pattern| glob::matches(pattern, &name)) {
            let name = text(&name);
            let functions = functions_of((cx.node, cx.config), &name, &code)?;
            shown.push(Shown { name, code, functions });
        }
    }
    Ok(reply.with(|writer| {
        writer.array(shown.len());
        for library in &shown {
            describe(writer, library, with_code);
        }
    }))
}

fn describe(writer: &mut Writer<'_>, library: &Shown, with_code: bool) {
    writer.map(if with_code { 4 } else { 3 });
    writer.bulk(b"library_name");
    writer.bulk(library.name.as_bytes());
    writer.bulk(b"engine");
    writer.bulk(b"LUA");
    writer.bulk(b"functions");
    writer.array(library.functions.len());
    for function in &library.functions {
        writer.map(3);
        writer.bulk(b"name");
        writer.bulk(function.name.as_bytes());
        writer.bulk(b"description");
        writer.bulk_or_null(function.description.as_deref());
        writer.bulk(b"flags");
        let flags: Vec<&str> = function.flags.words().collect();
        writer.set(flags.len());
        flags.iter().for_each(|flag| writer.simple(flag));
    }
    if with_code {
        writer.bulk(b"library_code");
        writer.bulk(&library.code);
    }
}

/// All functions, by their libraries.
fn by_library(read: &impl Read) -> Result<BTreeMap<Vec<u8>, Vec<Vec<u8>>>> {
    let mut libraries: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for (function, library) in kept::functions(read)? {
        libraries.entry(library).or_default().push(function);
    }
    Ok(libraries)
}

/// Kvrocks' own: all functions, whatever words follow.
fn list_functions(cx: &ReadCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let functions = kept::functions(cx.txn)?;
    Ok(reply.with(|writer| {
        writer.array(functions.len());
        for (function, library) in &functions {
            writer.map(2);
            writer.bulk(b"function_name");
            writer.bulk(function);
            writer.bulk(b"from_library");
            writer.bulk(library);
        }
    }))
}

/// Kvrocks' own: one library.
fn list_library(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let name = args.bytes()?;
    if kept::library(cx.txn, name)?.is_none() {
        return Err(Error::err("The library is not found or not loaded from storage"));
    }
    let functions = by_library(cx.txn)?.remove(name).unwrap_or_default();
    Ok(reply.with(|writer| {
        writer.map(3);
        writer.bulk(b"library_name");
        writer.bulk(name);
        writer.bulk(b"engine");
        writer.bulk(b"lua");
        writer.simple("functions");
        writer.bulks(&functions);
    }))
}

fn stats(cx: &ReadCx<'_>, _args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (libraries, functions) = (kept::libraries(cx.txn)?.len(), kept::functions(cx.txn)?.len());
    // The words of the command may be another namespace's. With databases there are no clients of
    // one.
    let is_tenant = cx.config.redis_databases == 0 && cx.scope.namespace != DEFAULT_NAMESPACE;
    let own = is_tenant.then_some(cx.scope.namespace);
    let running = cx.node.scripts.oldest(Some(true), own);
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    Ok(reply.with(|writer| {
        writer.map(2);
        writer.bulk(b"running_script");
        match running {
            None => writer.null(),
            Some(running) => {
                writer.map(3);
                writer.bulk(b"name");
                writer.bulk(running.name.as_bytes());
                writer.bulk(b"command");
                writer.bulks(&running.words);
                writer.bulk(b"duration_ms");
                writer.integer(
                    i64::try_from(running.since.elapsed().as_millis()).unwrap_or(i64::MAX),
                );
            }
        }
        writer.bulk(b"engines");
        writer.map(1);
        writer.bulk(b"LUA");
        writer.map(2);
        writer.bulk(b"libraries_count");
        writer.integer(count(libraries));
        writer.bulk(b"functions_count");
        writer.integer(count(functions));
    }))
}
