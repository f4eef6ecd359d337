//! What writes documents.

use json::edit::{self, Arithmetic};
use json::{DEPTH_MAX, Value, to_text};
use storage::types::json as stored;

use super::{NO_KEY, count, form, number, numbers, path};
use crate::command::{Args, Error, Replied, Reply, Result};
use crate::session::WriteCx;

/// Kvrocks' words where there is no document and the command has none of its own.
pub(super) const NOT_FOUND: &str = "ERR NotFound: ";

/// Changes the document at a key. `None` if there is none.
fn edited<T>(
    cx: &mut WriteCx<'_>,
    key: &[u8],
    edit: impl FnOnce(&mut Value) -> json::Result<(T, bool)>,
) -> Result<Option<T>> {
    Ok(stored::change(&mut cx.txn, &cx.scope.at(key), form(cx.config), edit)?)
}

/// What an edit said of each place, and whether any of them was one for it.
fn any<T>(said: json::Result<Vec<Option<T>>>) -> json::Result<(Vec<Option<T>>, bool)> {
    let said = said?;
    let is_changed = said.iter().any(Option::is_some);
    Ok((said, is_changed))
}

fn counts(reply: Reply<'_>, counts: Vec<Option<usize>>) -> Replied {
    let counts: Vec<_> = counts.into_iter().map(|length| length.map(count)).collect();
    numbers(reply, &counts)
}

pub(super) fn set(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, path, text) = (args.bytes()?, args.bytes()?, args.bytes()?);
    stored::set(&mut cx.txn, &cx.scope.at(key), form(cx.config), path, text)?;
    Ok(reply.ok())
}

pub(super) fn mset(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (settings, rest) = args.rest().as_chunks::<3>();
    if !rest.is_empty() {
        return Err(Error::Arity("json.mset".to_owned()));
    }
    stored::mset(&mut cx.txn, &cx.scope, form(cx.config), settings)?;
    Ok(reply.ok())
}

pub(super) fn merge(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (key, path, patch) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let is_merged = stored::merge(&mut cx.txn, &cx.scope.at(key), form(cx.config), path, patch)?;
    Ok(if is_merged { reply.ok() } else { reply.null() })
}

pub(super) fn del(cx: &mut WriteCx<'_>, args: &mut Args<'_>, reply: Reply<'_>) -> Result<Replied> {
    let (key, path) = (args.bytes()?, path(args)?);
    let removed = stored::remove(&mut cx.txn, &cx.scope.at(key), form(cx.config), path)?;
    Ok(reply.count(removed))
}

pub(super) fn clear(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (key, path) = (args.bytes()?, path(args)?);
    let cleared = edited(cx, key, |document| {
        let count = edit::clear(document, path)?;
        Ok((count, count > 0))
    })?;
    Ok(match cleared {
        Some(count) => reply.count(count),
        None => reply.null(),
    })
}

pub(super) fn toggle(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (key, path) = (args.bytes()?, path(args)?);
    let Some(values) = edited(cx, key, |document| any(edit::toggle(document, path)))? else {
        return Ok(reply.null());
    };
    let values: Vec<_> = values.into_iter().map(|value| value.map(i64::from)).collect();
    Ok(numbers(reply, &values))
}

/// Values that a client means, and the bytes of their texts.
fn values(cx: &WriteCx<'_>, args: &mut Args<'_>) -> Result<(Vec<Value>, usize)> {
    let (form, texts) = (form(cx.config), args.rest());
    let values =
        texts.iter().map(|text| form.parse(text)).collect::<std::result::Result<_, _>>()?;
    Ok((values, texts.iter().map(|text| text.len()).sum()))
}

pub(super) fn arrappend(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (key, path) = (args.bytes()?, args.bytes()?);
    let (values, bytes) = values(cx, args)?;
    let lengths = edited(cx, key, |document| any(edit::append(document, path, &values, bytes)))?;
    Ok(counts(reply, lengths.ok_or(Error::text(NOT_FOUND))?))
}

pub(super) fn arrinsert(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (key, path, index) = (args.bytes()?, args.bytes()?, args.number::<i32>()?);
    let (values, bytes) = values(cx, args)?;
    let lengths = edited(cx, key, |document| {
        any(edit::insert(document, path, i64::from(index), &values, bytes))
    })?;
    Ok(match lengths {
        Some(lengths) => counts(reply, lengths),
        None => reply.null(),
    })
}

pub(super) fn arrpop(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let key = args.bytes()?;
    let path = if args.is_empty() { &b"$"[..] } else { args.bytes()? };
    let index = if args.is_empty() { -1 } else { args.integer()? };
    if !args.is_empty() {
        return Err(Error::Arity("json.arrpop".to_owned()));
    }
    let popped = edited(cx, key, |document| any(edit::pop(document, path, index)))?;
    let popped = popped.ok_or(Error::text(NOT_FOUND))?;
    reply.listing(
        |writer, count| writer.array(count),
        |writer| {
            for value in &popped {
                match value {
                    Some(value) => writer.bulk(to_text(value, DEPTH_MAX)?.as_bytes()),
                    None => writer.null(),
                }
            }
            Ok(popped.len())
        },
    )
}

pub(super) fn arrtrim(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (key, path) = (args.bytes()?, args.bytes()?);
    let (start, stop) = (args.integer()?, args.integer()?);
    let lengths = edited(cx, key, |document| any(edit::trim(document, path, start, stop)))?;
    Ok(counts(reply, lengths.ok_or(Error::text(NO_KEY))?))
}

pub(super) fn strappend(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let key = args.bytes()?;
    let path = if args.len() > 1 { args.bytes()? } else { b"$" };
    let text = args.bytes()?;
    if !args.is_empty() {
        return Err(Error::err("The number of arguments is more than expected"));
    }
    let form = form(cx.config);
    let mut refused = None;
    let lengths = edited(cx, key, |document| match json::from_text(text, form.depth_max())? {
        Value::String(text) => any(edit::append_text(document, path, &text)),
        _ => {
            refused = Some("ERR Invalid argument: STRAPPEND need input a string to append");
            Ok((Vec::new(), false))
        }
    })?;
    match refused {
        Some(refused) => Err(Error::text(refused)),
        None => Ok(counts(reply, lengths.ok_or(Error::text(NOT_FOUND))?)),
    }
}

pub(super) fn numincrby(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    compute(Arithmetic::Add, cx, args, reply)
}

pub(super) fn nummultby(
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    compute(Arithmetic::Multiply, cx, args, reply)
}

fn compute(
    how: Arithmetic,
    cx: &mut WriteCx<'_>,
    args: &mut Args<'_>,
    reply: Reply<'_>,
) -> Result<Replied> {
    let (key, path, by) = (args.bytes()?, args.bytes()?, args.bytes()?);
    let by = number(cx.config, by)?;
    let numbers = edited(cx, key, |document| any(edit::compute(document, path, how, &by)))?;
    let numbers = numbers.ok_or(Error::text(NOT_FOUND))?.into_iter();
    let numbers = numbers.map(|number| number.map_or(Value::Null, Value::Number)).collect();
    Ok(reply.bulk(to_text(&Value::Array(numbers), DEPTH_MAX)?.as_bytes()))
}
