//! Reading exports of discarded writes again, for people and for applying them.
//!
//! An export says what lay on disk; here it is told in terms of keys and string values, which is
//! what commands can put back. Whatever else it holds, and what is too large for an answer, is
//! named and left alone: it does not spoil the rest.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde_json::{Map, Value as Json};

use replication::history::EpochId;

use super::export::Head;
use super::lines;
use crate::key::split_internal;
use crate::types::head::Header;
use crate::types::kind::Type;
use crate::{Error, Family, Scope};

const ACTION: &str = "read discarded writes";
/// Largest key with its value that is told as such: a page of them fits a reply that controllers
/// read (16 MiB).
pub const CHANGE_BYTES_MAX: usize = 8 << 20;
/// Longest line that is held: a change of [`CHANGE_BYTES_MAX`] fits, six characters a byte.
pub(super) const LINE_MAX: usize = 64 << 20;
/// Bytes from the end within which the last line begins.
const LAST_LINE: u64 = 256;

/// One export in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Name of its file.
    pub file: String,
    /// Size of it.
    pub bytes: u64,
    /// What its first line says.
    pub head: Head,
    /// Newest discarded sequence.
    pub end: u64,
}

/// Whether this is the name of an export: `<unix ms>-<fork>.jsonl`. Nothing else in the folder is
/// ever opened.
pub fn is_name(file: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = file.strip_suffix(".jsonl").and_then(|stem| stem.split_once('-'));
    file.len() <= 64 && parts.is_some_and(|(at, fork)| is_number(at) && is_number(fork))
}

/// What a folder of exports holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// All complete exports, oldest first.
    pub exports: Vec<Export>,
    /// Files of such names that cannot be read as exports, and why not.
    pub unreadable: Vec<(String, Error)>,
}

/// All exports in this folder; none where there is no such folder.
///
/// # Errors
/// The folder cannot be read.
pub fn list(discarded: &Path) -> Result<Listing, Error> {
    let mut listing = Listing::default();
    let entries = match std::fs::read_dir(discarded) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(listing),
        Err(error) => return Err(Error::io(ACTION, &error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| Error::io(ACTION, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_name(&name) {
            match look(&entry.path(), name.clone()) {
                Ok(export) => listing.exports.push(export),
                Err(error) => listing.unreadable.push((name, error)),
            }
        }
    }
    listing.exports.sort_by_key(|export| (export.head.at_ms, export.head.fork));
    Ok(listing)
}

fn look(path: &Path, file: String) -> Result<Export, Error> {
    let read = || -> std::io::Result<(u64, String, String)> {
        let mut open = BufReader::new(File::open(path)?);
        let mut first = String::new();
        open.by_ref().take(LAST_LINE).read_line(&mut first)?;
        let bytes = open.seek(SeekFrom::End(0))?;
        open.seek(SeekFrom::Start(bytes.saturating_sub(LAST_LINE)))?;
        let mut rest = Vec::new();
        open.take(LAST_LINE).read_to_end(&mut rest)?;
        Ok((bytes, first, String::from_utf8_lossy(&rest).into_owned()))
    };
    let (bytes, first, rest) = read().map_err(|error| Error::io(ACTION, &error))?;
    let head = parse(first.as_bytes())?;
    let last = rest.lines().next_back().unwrap_or_default();
    let end = number(&parse(last.as_bytes())?, "end")?;
    let cluster = head.get("cluster").and_then(Json::as_bool).unwrap_or(false);
    let id = head.get("epoch_id").and_then(Json::as_str);
    let id = id.and_then(|id| EpochId::parse(id.as_bytes()));
    let epoch = head.get("epoch").and_then(Json::as_u64).zip(id);
    let (fork, at_ms) = (number(&head, "fork")?, number(&head, "at_ms")?);
    let head = Head { fork, at_ms, cluster, epoch };
    Ok(Export { file, bytes, head, end })
}

/// What a discarded record did, in the order of the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A string was set.
    Set {
        /// As clients know it.
        key: Vec<u8>,
        /// The whole string.
        value: Vec<u8>,
        /// Unix ms, 0 for never.
        expire_ms: u64,
    },
    /// A key was removed.
    Delete {
        /// As clients know it.
        key: Vec<u8>,
    },
    /// Something that no command here puts back, or that is above [`CHANGE_BYTES_MAX`].
    Other {
        /// The key, where it is known.
        key: Vec<u8>,
        /// What it is.
        what: String,
    },
}

/// A part of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In order.
    pub changes: Vec<Change>,
    /// Where the next part begins; `None` after the last one.
    pub next: Option<u64>,
}

/// Reads records from an offset that an earlier page gave (or 0), until they have about `bytes` in
/// the file, one at least. Only keys of `scope`'s namespace are told as such. A page tells of at
/// most `bytes` and [`CHANGE_BYTES_MAX`].
///
/// # Errors
/// I/O errors; lines that are none of an export's.
pub fn page(path: &Path, scope: &Scope<'_>, offset: u64, bytes: u64) -> Result<Page, Error> {
    let io = |error: std::io::Error| Error::io(ACTION, &error);
    let mut file = File::open(path).map_err(io)?;
    file.seek(SeekFrom::Start(offset)).map_err(io)?;
    let mut file = BufReader::with_capacity(256 << 10, file);
    let (mut at, mut changes, mut line) = (offset, Vec::new(), Vec::new());
    while at < offset.saturating_add(bytes) || changes.last().is_none_or(goes_on) {
        let Some(found) = lines::next(&mut file, &mut line, LINE_MAX).map_err(io)? else {
            return Ok(Page { changes, next: None });
        };
        at += found.bytes;
        let told = match found.value_bytes {
            None => change(&parse(&line)?, scope)?,
            Some(value_bytes) => large(&parse(&line)?, value_bytes, scope)?,
        };
        if let Some(told) = told.map(bounded) {
            tell(&mut changes, told);
        }
    }
    Ok(Page { changes, next: Some(at) })
}

/// What is told of a value of which only parts are known.
const PART: &str = "a part of a value";

/// The key of a value of which only a part was told so far.
fn part(change: &Change) -> Option<&[u8]> {
    match change {
        Change::Other { key, what } if what == PART => Some(key),
        _ => None,
    }
}

/// Whether what follows may be of the same value: a page does not end there, but for a key that is
/// large itself.
pub(super) fn goes_on(change: &Change) -> bool {
    part(change).is_some_and(|key| key.len() < 1 << 16)
}

/// Adds a change. Parts of one value follow one another, and its metadata follows them: it is named
/// once.
pub(super) fn tell(changes: &mut Vec<Change>, told: Change) {
    let (Change::Other { key, .. } | Change::Delete { key } | Change::Set { key, .. }) = &told;
    match changes.last_mut() {
        Some(last) if part(last) == Some(key) => *last = told,
        _ => changes.push(told),
    }
}

pub(super) fn change(line: &Map<String, Json>, scope: &Scope<'_>) -> Result<Option<Change>, Error> {
    let family = |name: &str| line.get(name).and_then(Json::as_str);
    if let Some(family) = family("put") {
        return put(family, &bytes(line, "key")?, &bytes(line, "value")?, scope);
    }
    if let Some(family) = family("delete") {
        let ns_key = bytes(line, "key")?;
        let key = scope.user_key(&ns_key).filter(|_| family == Family::Metadata.name());
        return Ok(match key {
            Some(key) => Some(Change::Delete { key: key.to_vec() }),
            None => other(family, &ns_key, scope),
        });
    }
    if let Some(family) = family("delete_range") {
        let what = format!("a range of family {family} was removed");
        return Ok(Some(Change::Other { key: Vec::new(), what }));
    }
    // Heads, log data, the end.
    Ok(None)
}

/// A change that is too large to be told, by its name.
pub(super) fn bounded(change: Change) -> Change {
    let (key, value_bytes) = match &change {
        Change::Set { key, value, .. } => (key, value.len()),
        Change::Delete { key } | Change::Other { key, .. } => (key, 0),
    };
    match key.len() {
        bytes if bytes > CHANGE_BYTES_MAX => {
            Change::Other { key: Vec::new(), what: format!("a key of {bytes} bytes") }
        }
        bytes if bytes + value_bytes > CHANGE_BYTES_MAX => {
            let Change::Set { key, .. } = change else { return change };
            Change::Other { key, what: format!("a value of {value_bytes} bytes") }
        }
        _ => change,
    }
}

/// The same of a line that was not held, by how it begins. The bytes are those on disk: type and
/// expiry are among them.
pub(super) fn large(
    line: &Map<String, Json>,
    value_bytes: u64,
    scope: &Scope<'_>,
) -> Result<Option<Change>, Error> {
    let Some(family) = line.get("put").and_then(Json::as_str) else {
        let what = format!("a record of more than {LINE_MAX} bytes");
        return Ok(Some(Change::Other { key: Vec::new(), what }));
    };
    let ns_key = bytes(line, "key")?;
    let key = scope.user_key(&ns_key).filter(|_| family == Family::Metadata.name());
    Ok(match key {
        Some(key) => {
            let what = format!("a value of {value_bytes} bytes");
            Some(Change::Other { key: key.to_vec(), what })
        }
        None => other(family, &ns_key, scope),
    })
}

fn put(
    family: &str,
    ns_key: &[u8],
    value: &[u8],
    scope: &Scope<'_>,
) -> Result<Option<Change>, Error> {
    let key = scope.user_key(ns_key).filter(|_| family == Family::Metadata.name());
    let Some(key) = key else { return Ok(other(family, ns_key, scope)) };
    let key = key.to_vec();
    let header = Header::decode(value);
    Ok(Some(match header.and_then(|header| Some((header, header.kind()?))) {
        Some((header, Type::String)) => {
            Change::Set { key, value: header.rest.to_vec(), expire_ms: header.expire_ms }
        }
        Some((_, kind)) => Change::Other { key, what: format!("a {}", kind.name()) },
        None => Change::Other { key, what: "metadata of an unknown type".to_owned() },
    }))
}

/// Epochs are no data of anybody. A part of a value may be all there is of it: a field that was set
/// anew changes no metadata.
fn other(family: &str, ns_key: &[u8], scope: &Scope<'_>) -> Option<Change> {
    if family == Family::Metadata.name() {
        let what = "a key of another namespace".to_owned();
        let is_foreign = scope.user_key(ns_key).is_none();
        return is_foreign.then(|| Change::Other { key: ns_key.to_vec(), what });
    }
    let families = [Family::Default, Family::ZsetScore, Family::Stream];
    if !families.iter().any(|one| one.name() == family) {
        return None;
    }
    let (prefix, key, _) = split_internal(ns_key, scope.cluster)?;
    scope.owns(prefix).then(|| Change::Other { key: key.to_vec(), what: PART.to_owned() })
}

pub(super) fn parse(line: &[u8]) -> Result<Map<String, Json>, Error> {
    serde_json::from_slice(line).map_err(|error| Error::corrupt(ACTION, error.to_string()))
}

fn number(line: &Map<String, Json>, name: &str) -> Result<u64, Error> {
    let number = line.get(name).and_then(Json::as_u64);
    number.ok_or_else(|| Error::corrupt(ACTION, format!("no `{name}`")))
}

/// Characters U+0000 to U+00FF.
pub(super) fn bytes(line: &Map<String, Json>, name: &str) -> Result<Vec<u8>, Error> {
    let text = line.get(name).and_then(Json::as_str);
    let bytes: Option<Vec<u8>> =
        text.and_then(|text| text.chars().map(|char| u8::try_from(char).ok()).collect());
    bytes.ok_or_else(|| Error::corrupt(ACTION, format!("`{name}` holds no bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewind::export;
    use crate::{Options, Store};

    fn scope() -> Scope<'static> {
        Scope { namespace: b"__namespace", cluster: true, now_ms: 1 }
    }

    #[test]
    fn an_export_is_listed_and_told_in_pages() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { cluster: true, ..Options::default() };
        let store = Store::open(&dir.path().join("db"), options).unwrap();
        let set = |key: &[u8], value: &[u8]| {
            let mut txn = store.txn();
            let options = crate::types::strings::SetOptions::default();
            crate::types::strings::set(&mut txn, &scope().at(key), value, &options).unwrap();
            txn.commit().unwrap();
        };
        store.open_epoch(4, EpochId::from_random(0xabc), 0).unwrap();
        set(b"before", b"the fork");
        let fork = store.latest_sequence();
        set(b"a\xff", b"\x00\"\\");
        set(b"b", b"2");
        let mut txn = store.txn();
        crate::types::keys::del(&mut txn, &scope(), &[b"before"]).unwrap();
        txn.put(Family::Metadata, &scope().ns_key(b"h"), &[2; 30]);
        let field = |key: &[u8], field: &[u8]| {
            let mut sub = scope().sub_key_prefix(key, 7);
            sub.push(field);
            sub
        };
        txn.put(Family::Default, &field(b"h", b"f"), b"one");
        txn.put(Family::Default, &field(b"parts", b"f"), b"one");
        txn.delete(Family::ZsetScore, &field(b"parts", b"g"));
        txn.put(Family::Default, &field(b"whole", b"f"), b"one");
        txn.put(Family::Metadata, &scope().ns_key(b"whole"), &[2; 30]);
        txn.delete_range(Family::Default, b"a", b"b");
        txn.commit().unwrap();
        let folder = dir.path().join("discarded");
        assert_eq!(list(&folder).unwrap().exports, []);
        export::from_feed(&store, &folder, fork, 77).unwrap();
        std::fs::write(folder.join("78-1.unfinished"), "x").unwrap();
        std::fs::write(folder.join("79-1.jsonl"), "x").unwrap();
        let Listing { exports, unreadable } = list(&folder).unwrap();
        let [export] = exports.as_slice() else { panic!("{exports:?}") };
        // One that cannot be read does not hide the others.
        let [(bad, _)] = unreadable.as_slice() else { panic!("{unreadable:?}") };
        assert_eq!(bad, "79-1.jsonl");
        let epoch = Some((4, EpochId::from_random(0xabc)));
        assert_eq!(export.head, Head { fork, at_ms: 77, cluster: true, epoch });
        assert_eq!(export.end, store.latest_sequence());
        let path = folder.join(&export.file);
        let whole = page(&path, &scope(), 0, 1 << 20).unwrap();
        assert_eq!(whole.next, None);
        let (mut changes, mut next) = (Vec::new(), Some(0));
        while let Some(offset) = next {
            let page = page(&path, &scope(), offset, 1).unwrap();
            changes.extend(page.changes);
            next = page.next;
        }
        assert_eq!(changes, whole.changes);
        let other = |key: &[u8], what: &str| Change::Other { key: key.into(), what: what.into() };
        let expected = [
            Change::Set { key: b"a\xff".into(), value: b"\x00\"\\".into(), expire_ms: 0 },
            Change::Set { key: b"b".into(), value: b"2".into(), expire_ms: 0 },
            Change::Delete { key: b"before".into() },
            other(b"h", "a hash"),
            other(b"h", PART),
            other(b"parts", PART),
            other(b"whole", "a hash"),
            other(b"", "a range of family default was removed"),
        ];
        assert_eq!(changes, expected);
    }

    /// The file is of use beyond them.
    #[test]
    fn values_that_fit_no_answer_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db"), Options::default()).unwrap();
        let scope = Scope { cluster: false, ..scope() };
        let sizes = [CHANGE_BYTES_MAX - 1, CHANGE_BYTES_MAX, 1, LINE_MAX, 2];
        for (number, size) in sizes.into_iter().enumerate() {
            let (mut txn, value) = (store.txn(), vec![b'v'; size]);
            let options = crate::types::strings::SetOptions::default();
            let key = number.to_string();
            crate::types::strings::set(&mut txn, &scope.at(key.as_bytes()), &value, &options)
                .unwrap();
            txn.commit().unwrap();
        }
        let folder = dir.path().join("discarded");
        let (path, _) = export::from_feed(&store, &folder, 0, 1).unwrap();
        let (mut told, mut next) = (Vec::new(), Some(0));
        while let Some(offset) = next {
            let page = page(path.as_ref().unwrap(), &scope, offset, 1 << 20).unwrap();
            next = page.next;
            told.extend(page.changes.into_iter().map(|change| match change {
                Change::Set { key, value, .. } => (key, format!("set {}", value.len())),
                Change::Other { key, what } => (key, what),
                Change::Delete { key } => (key, "deleted".to_owned()),
            }));
        }
        // With the byte of the type and eight of the expiry.
        let stored = LINE_MAX + 9;
        let expected = [
            format!("set {}", sizes[0]),
            format!("a value of {} bytes", sizes[1]),
            "set 1".to_owned(),
            format!("a value of {stored} bytes"),
            "set 2".to_owned(),
        ];
        let keys = (0..sizes.len()).map(|number| number.to_string().into_bytes());
        assert_eq!(told, keys.zip(expected).collect::<Vec<_>>());
    }

    #[test]
    fn only_names_of_exports_are_names() {
        assert!(is_name("1790000000000-600.jsonl"));
        for name in ["../1-2.jsonl", "1-2.unfinished", "-.jsonl", "1-2-3.jsonl", "a-1.jsonl", ""] {
            assert!(!is_name(name), "{name}");
        }
    }
}
