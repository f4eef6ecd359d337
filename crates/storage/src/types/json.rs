//! JSON documents: the whole one lies in the metadata entry behind flags, expiry, and a byte that
//! says how it is kept: 0 as text, 1 as CBOR.
//!
//! Batches are those of Kvrocks: log data `10` and the entry. A document that is changed is kept in
//! the form the options say then, and keeps its time. Unlike there, what changes nothing writes
//! nothing. What a document and a path are is in crate `json`.

use std::collections::HashMap;

use json::{DEPTH_MAX, Value, edit, from_cbor, from_text, to_cbor, to_text};

use super::CommandError;
use super::head::{Header, Prefix};
use super::kind::Type;
use super::living::Living;
use crate::read::each;
use crate::{At, Family, Read, Scope, Txn, budget};

/// How a document is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As text.
    Text,
    /// As CBOR.
    Cbor,
}

impl Format {
    /// The byte in front of the document.
    fn byte(self) -> u8 {
        match self {
            Self::Text => 0,
            Self::Cbor => 1,
        }
    }
}

/// How documents are to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// As what.
    pub format: Format,
    depth_max: usize,
}

impl Form {
    /// In this format, and at most so deep; never deeper than can be read again.
    pub fn new(format: Format, depth_max: usize) -> Self {
        Self { format, depth_max: depth_max.min(DEPTH_MAX) }
    }

    /// How deep what comes from a client may be.
    pub fn depth_max(self) -> usize {
        self.depth_max
    }

    /// What a client means as a document.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn parse(self, text: &[u8]) -> Result<Value, CommandError> {
        Ok(from_text(text, self.depth_max)?)
    }
}

/// Bytes of a document that take as long to be read as an element of another type.
const STEP_BYTES: usize = 64;

/// The bytes of a document, and how they are to be read.
struct Stored<'a> {
    living: Living<'a>,
}

impl<'a> Stored<'a> {
    fn of(living: Living<'a>) -> Result<Self, CommandError> {
        living.header().of(Type::Json)?;
        Ok(Self { living })
    }

    fn parts(&self) -> Result<(Format, &[u8]), CommandError> {
        let unknown = || CommandError::corrupt("a document is kept in a form that is not known");
        split(self.living.header().rest).ok_or_else(unknown)
    }

    fn prefix(&self) -> Prefix {
        let header = self.living.header();
        Prefix::rewritten(&header, header.expire_ms)
    }

    fn document(&self) -> Result<Value, CommandError> {
        let (format, bytes) = self.parts()?;
        budget::step((bytes.len() / STEP_BYTES) as u64)?;
        decoded(format, bytes).ok_or_else(|| CommandError::corrupt("a document cannot be read"))
    }
}

/// How a document is kept, and its bytes.
fn split(stored: &[u8]) -> Option<(Format, &[u8])> {
    let (format, bytes) = stored.split_first()?;
    let format = [Format::Text, Format::Cbor].into_iter().find(|known| known.byte() == *format)?;
    Some((format, bytes))
}

fn decoded(format: Format, bytes: &[u8]) -> Option<Value> {
    match format {
        Format::Text => from_text(bytes, DEPTH_MAX),
        Format::Cbor => from_cbor(bytes, DEPTH_MAX),
    }
    .ok()
}

/// The text of a stored document; `None` if it is none.
pub(crate) fn text_of(header: &Header<'_>) -> Option<String> {
    let (format, bytes) = split(header.rest)?;
    to_text(&decoded(format, bytes)?, DEPTH_MAX).ok()
}

fn load<'a>(txn: &Txn<'a>, at: &At<'_>) -> Result<Option<Stored<'a>>, CommandError> {
    at.load(txn)?.map(Stored::of).transpose()
}

/// The bytes of a document in this form.
fn encoded(document: &Value, form: Form) -> Result<Vec<u8>, CommandError> {
    Ok(match form.format {
        Format::Text => to_text(document, form.depth_max)?.into_bytes(),
        Format::Cbor => to_cbor(document, form.depth_max)?,
    })
}

fn put(
    txn: &mut Txn<'_>,
    ns_key: &[u8],
    prefix: &Prefix,
    document: &Value,
    form: Form,
) -> Result<(), CommandError> {
    txn.log(Type::Json.log_data());
    put_more(txn, ns_key, prefix, document, form)
}

/// The same in a batch that has its log data.
fn put_more(
    txn: &mut Txn<'_>,
    ns_key: &[u8],
    prefix: &Prefix,
    document: &Value,
    form: Form,
) -> Result<(), CommandError> {
    let bytes = encoded(document, form)?;
    let value = [prefix.as_bytes(), &[form.format.byte()], &bytes];
    txn.put_parts(Family::Metadata, &[ns_key], &value);
    Ok(())
}

/// The document.
///
/// # Errors
/// Wrong type.
pub fn get(read: &impl Read, at: &At<'_>) -> Result<Option<Value>, CommandError> {
    let stored = at.living(read)?.map(Stored::of).transpose()?;
    stored.map(|stored| stored.document()).transpose()
}

/// JSON.MGET: calls `visit` with the documents, one after the other; `None` for what is not there
/// and for other types.
///
/// # Errors
/// Those of the engine.
pub fn mget(
    read: &impl Read,
    scope: &Scope<'_>,
    keys: &[&[u8]],
    mut visit: impl FnMut(Option<Value>) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let ns_keys: Vec<_> = keys.iter().map(|key| scope.ns_key(key)).collect();
    each(read, Family::Metadata, &ns_keys, |value| {
        let living = Living::of(value, scope.now_ms)?;
        visit(match living.map(Stored::of).transpose() {
            Err(CommandError::WrongType) => None,
            stored => stored?.map(|stored| stored.document()).transpose()?,
        })
    })
}

/// How a document is kept, and in how many bytes.
///
/// # Errors
/// Wrong type.
pub fn stored(read: &impl Read, at: &At<'_>) -> Result<Option<(Format, usize)>, CommandError> {
    let Some(living) = at.living(read)? else { return Ok(None) };
    let stored = Stored::of(living)?;
    let (format, bytes) = stored.parts()?;
    Ok(Some((format, bytes.len())))
}

/// How many bytes a part of a document would be kept in.
///
/// # Errors
/// It is too deep or too large.
pub fn len(part: &Value, format: Format) -> Result<usize, CommandError> {
    Ok(encoded(part, Form::new(format, DEPTH_MAX))?.len())
}

/// Changes a document; `edit` says something, and whether it changed anything. `None` if there is
/// no document.
///
/// # Errors
/// Wrong type, those of `edit`, and of a document that may not be kept.
pub fn change<T>(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    form: Form,
    edit: impl FnOnce(&mut Value) -> json::Result<(T, bool)>,
) -> Result<Option<T>, CommandError> {
    let Some(stored) = load(txn, at)? else { return Ok(None) };
    let (mut document, prefix) = (stored.document()?, stored.prefix());
    let (said, is_changed) = edit(&mut document)?;
    if is_changed {
        put(txn, &at.ns_key, &prefix, &document, form)?;
    }
    Ok(Some(said))
}

/// JSON.SET.
///
/// # Errors
/// Wrong type, [`CommandError::NotAtRoot`], [`CommandError::Json`].
pub fn set(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    form: Form,
    path: &[u8],
    text: &[u8],
) -> Result<(), CommandError> {
    let Some(stored) = load(txn, at)? else { return create(txn, at, form, path, text) };
    let value = form.parse(text)?;
    let mut document = stored.document()?;
    if edit::set(&mut document, path, &value, text.len())? {
        put(txn, &at.ns_key, &stored.prefix(), &document, form)?;
    }
    Ok(())
}

fn create(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    form: Form,
    path: &[u8],
    text: &[u8],
) -> Result<(), CommandError> {
    if path != b"$" {
        return Err(CommandError::NotAtRoot);
    }
    let document = form.parse(text)?;
    put(txn, &at.ns_key, &Prefix::new(Type::Json, 0), &document, form)
}

/// JSON.MERGE. False if the path or the patch is none: as in Kvrocks that is no error where there
/// is a document.
///
/// # Errors
/// As [`set`].
pub fn merge(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    form: Form,
    path: &[u8],
    patch: &[u8],
) -> Result<bool, CommandError> {
    let Some(stored) = load(txn, at)? else {
        create(txn, at, form, path, patch)?;
        return Ok(true);
    };
    let mut document = stored.document()?;
    match edit::merge(&mut document, path, patch, form.depth_max) {
        Ok(()) => {
            put(txn, &at.ns_key, &stored.prefix(), &document, form)?;
            Ok(true)
        }
        Err(json::Error::Syntax { .. } | json::Error::Nothing) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// JSON.DEL and JSON.FORGET. The root is the key itself.
///
/// # Errors
/// Wrong type, [`CommandError::Json`].
pub fn remove(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    form: Form,
    path: &[u8],
) -> Result<usize, CommandError> {
    if path != b"$" {
        let removed = change(txn, at, form, |document| {
            let count = edit::remove(document, path)?;
            Ok((count, count > 0))
        });
        return Ok(removed?.unwrap_or(0));
    }
    if load(txn, at)?.is_none() {
        return Ok(0);
    }
    txn.log(Type::Json.log_data());
    txn.delete(Family::Metadata, &at.ns_key);
    Ok(1)
}

/// What JSON.MSET sets: a key, a path, a text.
pub type Setting<'a> = [&'a [u8]; 3];

/// JSON.MSET: all or nothing, in one batch. As in Kvrocks, the key that comes last is written
/// first.
///
/// # Errors
/// As [`set`]; [`crate::Error::TooLarge`] for documents that together are larger than a batch may
/// be.
pub fn mset(
    txn: &mut Txn<'_>,
    scope: &Scope<'_>,
    form: Form,
    settings: &[Setting<'_>],
) -> Result<(), CommandError> {
    let mut documents: Vec<(&[u8], Prefix, Value)> = Vec::new();
    let (mut places, mut held): (HashMap<&[u8], usize>, usize) = (HashMap::new(), 0);
    for [key, path, text] in settings {
        let value = form.parse(text)?;
        let known = places.get(key).and_then(|place| documents.get_mut(*place));
        if let Some((_, _, document)) = known {
            edit::set(document, path, &value, text.len())?;
            // Before the next setting makes it deeper still.
            document.depth(form.depth_max)?;
            continue;
        }
        let (prefix, document) = match load(txn, &scope.at(key))? {
            Some(stored) => {
                // All of them are held until all are made.
                held = held.saturating_add(stored.parts()?.1.len());
                txn.must_have_room(held)?;
                let mut document = stored.document()?;
                edit::set(&mut document, path, &value, text.len())?;
                (stored.prefix(), document)
            }
            None if *path == b"$" => (Prefix::new(Type::Json, 0), value),
            None => return Err(CommandError::NotAtRoot),
        };
        places.insert(key, documents.len());
        documents.push((key, prefix, document));
    }
    txn.log(Type::Json.log_data());
    for (key, prefix, document) in documents.iter().rev() {
        put_more(txn, &scope.ns_key(key), prefix, document, form)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
