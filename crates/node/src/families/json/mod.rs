//! JSON documents. Redis 7 has none: replies and errors are Kvrocks'.
//!
//! This file has the table and what reads; [`edit`] has what writes.

mod edit;

use std::collections::BTreeMap;

use json::{BYTES_MAX, DEPTH_MAX, Layout, Number, Path, Value};
use resp::Writer;
use storage::types::json::{self as stored, Form, Format};

use crate::command::keys::{KEY, Keys};
use crate::command::row::Usage;
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::config::Values;
use crate::config::value::JsonFormat;
use crate::session::{Command, ReadCx};

/// All words but the last one, which is a path.
const ALL_BUT_PATH: Keys = Keys::Range { first: 1, last: -2, step: 1 };
/// Keys, paths and texts in turn.
const TRIPLES: Keys = Keys::Range { first: 1, last: -3, step: 3 };
/// Behind the name of a container.
const SECOND: Keys = Keys::Range { first: 2, last: 2, step: 1 };

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command::write("json.set",        4, KEY, edit::set),
    Command::read ("json.get",       -2, KEY, get),
    Command::read ("json.info",       2, KEY, info),
    Command::read ("json.type",      -2, KEY, kind),
    Command::write("json.arrappend", -4, KEY, edit::arrappend),
    Command::write("json.arrinsert", -5, KEY, edit::arrinsert),
    Command::write("json.arrtrim",    5, KEY, edit::arrtrim).removes(),
    Command::write("json.clear",     -2, KEY, edit::clear).removes(),
    Command::write("json.toggle",    -2, KEY, edit::toggle),
    Command::read ("json.arrlen",    -2, KEY, arrlen),
    Command::write("json.merge",      4, KEY, edit::merge),
    Command::read ("json.objkeys",   -2, KEY, objkeys),
    Command::write("json.arrpop",    -2, KEY, edit::arrpop).removes(),
    Command::read ("json.arrindex",  -4, KEY, arrindex),
    Command::write("json.del",       -2, KEY, edit::del).removes(),
    Command::write("json.forget",    -2, KEY, edit::del).removes(),
    Command::write("json.numincrby",  4, KEY, edit::numincrby),
    Command::write("json.nummultby",  4, KEY, edit::nummultby),
    Command::read ("json.objlen",    -2, KEY, objlen),
    Command::write("json.strappend", -3, KEY, edit::strappend),
    Command::read ("json.strlen",    -2, KEY, strlen),
    Command::read ("json.mget",      -3, ALL_BUT_PATH, mget),
    Command::write("json.mset",      -4, TRIPLES, edit::mset),
    Command::container("json.debug", DEBUG).usage(Usage::Text(NO_DEBUG)),
    Command::read ("json.resp",      -2, KEY, resp),
];

const NO_DEBUG: &str = "ERR wrong number of arguments for 'json.debug' command";
const DEBUG: &[Command] = &[Command::read("json.debug|memory", -3, SECOND, debug_memory)];

const NO_KEY: &str = "ERR could not perform this operation on a key that doesn't exist";

/// How documents are kept now.
fn form(config: &Values) -> Form {
    let format = match config.json_storage_format {
        JsonFormat::Json => Format::Text,
        JsonFormat::Cbor => Format::Cbor,
    };
    let depth_max = usize::try_from(config.json_max_nesting_depth).unwrap_or(DEPTH_MAX);
    Form::new(format, depth_max)
}

/// The path that may be the last word; without it the root.
fn path<'a>(args: &mut Args<'a>) -> Result<&'a [u8]> {
    let path = if args.is_empty() { &b"$"[..] } else { args.bytes()? };
    if !args.is_empty() {
        return Err(Error::err("The number of arguments is more than expected"));
    }
    Ok(path)
}

fn document(cx: &ReadCx<'_>, key: &[u8]) -> Result<Option<Value>> {
    let document = stored::get(cx.txn, &cx.scope.at(key))?;
    cx.count(document.is_some());
    Ok(document)
}

/// What is said of everything a path leads to.
fn each<T>(document: &Value, path: &[u8], mut say: impl FnMut(&Value) -> T) -> Result<Vec<T>> {
    let mut said = Vec::new();
    Path::parse(path)?.each(document, |value| {
        said.push(say(value));
        Ok(())
    })?;
    Ok(said)
}

fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Numbers, and null where there is none.
fn numbers(reply: Reply<'_>, numbers: &[Option<i64>]) -> Replied {
    reply.with(|writer| {
        writer.array(numbers.len());
        for number in numbers {
            match number {
                Some(number) => writer.integer(*number),
                None => writer.null(),
            }
        }
    })
}

/// Words of JSON.GET that say how the text is laid out.
fn layout<'a>(args: &mut Args<'a>) -> Result<Layout<'a>> {
    let mut layout = Layout::default();
    loop {
        let mut ahead = args.clone();
        match ahead.word().as_deref() {
            Some(b"INDENT") => {
                let indent = ahead.bytes()?;
                if indent.iter().any(|byte| *byte != b' ') {
                    return Err(Error::err("Currently only all-space INDENT is supported"));
                }
                layout.indent = indent.len();
            }
            Some(b"NEWLINE") => layout.newline = ahead.text()?,
            Some(b"SPACE") => {
                layout.is_spaced = match ahead.bytes()? {
                    b"" => false,
                    b" " => true,
                    _ => return Err(Error::err("Currently only SPACE ' ' is supported")),
                };
            }
            _ => return Ok(layout),
        }
        *args = ahead;
    }
}

fn get(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let key = args.bytes()?;
    let layout = layout(args)?;
    let Some(document) = document(cx, key)? else { return Ok(reply.null()) };
    let mut text = String::new();
    match args.rest() {
        [] => json::write(&document, layout, DEPTH_MAX, &mut text)?,
        [path] => json::write_found(&Path::parse(path)?, &document, layout, &mut text)?,
        paths => {
            let texts: Vec<_> = paths.iter().map(|path| String::from_utf8_lossy(path)).collect();
            let mut parsed = BTreeMap::new();
            for (text, path) in texts.iter().zip(paths) {
                parsed.insert(&**text, Path::parse(path)?);
            }
            json::write_all(&parsed, &document, layout, &mut text)?;
        }
    }
    Ok(reply.bulk(text.as_bytes()))
}

fn info(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let Some((format, _)) = stored::stored(cx.txn, &cx.scope.at(args.bytes()?))? else {
        return Err(Error::text(edit::NOT_FOUND));
    };
    let format: &[u8] = match format {
        Format::Text => b"json",
        Format::Cbor => b"cbor",
    };
    Ok(reply.bulks(&[&b"storage_format"[..], format]))
}

fn kind(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, path) = (args.bytes()?, path(args)?);
    let Some(document) = document(cx, key)? else { return Ok(reply.null()) };
    Ok(reply.bulks(&each(&document, path, |value| value.kind().name())?))
}

fn arrlen(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, path) = (args.bytes()?, path(args)?);
    let Some(document) = document(cx, key)? else { return Ok(reply.null()) };
    let lengths = each(&document, path, |value| match value {
        Value::Array(items) => Some(count(items.len())),
        _ => None,
    })?;
    Ok(numbers(reply, &lengths))
}

fn objlen(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, is_root) = (args.bytes()?, args.is_empty());
    let path = path(args)?;
    let Some(document) = document(cx, key)? else {
        if is_root {
            return Ok(reply.null());
        }
        let path = String::from_utf8_lossy(path);
        return Err(Error::err(format_args!("Path '{path}' does not exist or not an object")));
    };
    let lengths = each(&document, path, |value| match value {
        Value::Object(members) => Some(count(members.len())),
        _ => None,
    })?;
    Ok(numbers(reply, &lengths))
}

fn strlen(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, is_root) = (args.bytes()?, args.is_empty());
    let path = path(args)?;
    let Some(document) = document(cx, key)? else {
        return if is_root { Ok(reply.null()) } else { Err(Error::text(NO_KEY)) };
    };
    let lengths = each(&document, path, |value| match value {
        Value::String(text) => Some(count(text.len())),
        _ => None,
    })?;
    Ok(numbers(reply, &lengths))
}

fn arrindex(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, path, value) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let (mut start, mut stop) = (0, i64::MAX);
    if !args.is_empty() {
        start = args.integer()?;
    }
    if !args.is_empty() {
        stop = args.integer()?;
    }
    if !args.is_empty() {
        return Err(Error::Arity("json.arrindex".to_owned()));
    }
    let value = form(cx.config).parse(value)?;
    let Some(document) = document(cx, key)? else { return Ok(reply.null()) };
    let places = each(&document, path, |array| json::edit::index_of(array, &value, start, stop))?;
    Ok(numbers(reply, &places))
}

/// Writes something for everything a path leads to; `write` tells how many bytes that is about, so
/// that an answer has its bound.
fn listed(
    document: &Value,
    path: &[u8],
    reply: Reply<'_>,
    mut write: impl FnMut(&mut Writer<'_>, &Value) -> usize,
) -> Result<Replied> {
    let path = Path::parse(path)?;
    reply.listing(Writer::array, |writer| {
        let (mut found, mut bytes) = (0, 0_usize);
        path.each(document, |value| {
            found += 1;
            bytes = bytes.saturating_add(write(writer, value));
            if bytes > BYTES_MAX { Err(json::Error::TooLarge) } else { Ok(()) }
        })?;
        Ok(found)
    })
}

fn objkeys(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, path) = (args.bytes()?, path(args)?);
    let Some(document) = document(cx, key)? else { return Ok(reply.null()) };
    listed(&document, path, reply, |writer, value| {
        let Value::Object(members) = value else {
            writer.null();
            return 4;
        };
        writer.array(members.len());
        members
            .keys()
            .map(|name| {
                writer.bulk(name.as_bytes());
                name.len() + 16
            })
            .sum()
    })
}

fn mget(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let words = args.rest();
    let Some((path, keys)) = words.split_last() else { return Err(Error::Syntax) };
    // As in Kvrocks a path that is none leads nowhere, everywhere.
    let path = Path::parse(path).ok();
    let mut texts = Vec::with_capacity(keys.len());
    let mut bytes = 0_usize;
    stored::mget(cx.txn, &cx.scope, keys, |document| {
        cx.count(document.is_some());
        let (Some(document), Some(path)) = (document, &path) else {
            texts.push(None);
            return Ok(());
        };
        let mut text = String::new();
        json::write_found(path, &document, Layout::default(), &mut text)?;
        bytes = bytes.saturating_add(text.len());
        if bytes > BYTES_MAX {
            return Err(json::Error::TooLarge.into());
        }
        texts.push(Some(text));
        Ok(())
    })?;
    Ok(reply.with(|writer| {
        writer.array(texts.len());
        texts.iter().for_each(|text| writer.bulk_or_null(text.as_deref().map(str::as_bytes)));
    }))
}

fn debug_memory(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, is_root) = (args.bytes()?, args.is_empty());
    let path = path(args)?;
    let Some((format, bytes)) = stored::stored(cx.txn, &cx.scope.at(key))? else {
        return Ok(if is_root { reply.integer(0) } else { numbers(reply, &[]) });
    };
    if path == b"$" {
        return Ok(numbers(reply, &[Some(count(bytes))]));
    }
    let Some(document) = document(cx, key)? else { return Ok(numbers(reply, &[])) };
    let mut lengths = Vec::new();
    for length in each(&document, path, |value| stored::len(value, format))? {
        lengths.push(Some(count(length?)));
    }
    Ok(numbers(reply, &lengths))
}

fn resp(cx: &ReadCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, is_root) = (args.bytes()?, args.is_empty());
    let path = path(args)?;
    let Some(document) = document(cx, key)? else { return Ok(reply.null()) };
    if is_root {
        return Ok(reply.with(|writer| {
            write_resp(writer, &document);
        }));
    }
    listed(&document, path, reply, write_resp)
}

/// A value as replies have it: arrays and objects begin with their bracket. Returns about how many
/// bytes that is.
fn write_resp(writer: &mut Writer<'_>, value: &Value) -> usize {
    const HEAD: usize = 16;
    match value {
        Value::Null => writer.null(),
        Value::Bool(value) => writer.simple(if *value { "true" } else { "false" }),
        Value::String(text) => {
            writer.bulk(text.as_bytes());
            return HEAD + text.len();
        }
        Value::Number(number) => match number.integer().map(i64::try_from) {
            Some(Ok(integer)) => writer.integer(integer),
            _ => writer.bulk(json::number_text(number).as_bytes()),
        },
        Value::Array(items) => {
            writer.array(items.len() + 1);
            writer.simple("[");
            return HEAD + items.iter().map(|item| write_resp(writer, item)).sum::<usize>();
        }
        Value::Object(members) => {
            writer.array(members.len() * 2 + 1);
            writer.simple("{");
            let each = |(name, member): (&String, &Value)| {
                writer.bulk(name.as_bytes());
                HEAD + name.len() + write_resp(writer, member)
            };
            return HEAD + members.iter().map(each).sum::<usize>();
        }
    }
    HEAD
}

/// A number that a client means, where only numbers of 64 bits and doubles count.
fn number(cx: &Values, text: &[u8]) -> Result<Number> {
    match form(cx).parse(text) {
        Ok(Value::Number(number)) if !matches!(number, Number::Big(_)) => Ok(number),
        _ => Err(Error::err("Invalid argument: the input value should be a number")),
    }
}
