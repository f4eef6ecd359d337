//! An export told as commands, for people: those that clients sent, as far as the log says so.
//!
//! A batch is told as [`crate::told`] tells it. Of keys of which that says nothing, it is said what
//! became of them. A batch that is too large to be held is told record by record: its strings and
//! deletions are commands, and of the rest the keys are named.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom};
use std::path::Path;

use serde_json::{Map, Value as Json};

use super::lines;
use super::review::{Change, LINE_MAX, bounded, bytes, change, goes_on, large, parse, tell};
use crate::batch::Writer;
use crate::told::{Command, Told};
use crate::{Error, Family, Scope};

const ACTION: &str = "read discarded writes";
/// Bytes of a batch in the file that are held. Told, they are a few times as many at worst.
const BATCH_BYTES: u64 = 1 << 20;

/// What was discarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A command, in words.
    Command(Command),
    /// Something that no command says.
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
    pub said: Vec<Said>,
    /// Where the next part begins; `None` after the last one.
    pub next: Option<u64>,
}

/// Reads batches from an offset that an earlier page gave (or 0), until they have about `bytes` in
/// the file, or one is too large to be held.
///
/// # Errors
/// I/O errors; lines that are none of an export's.
pub fn page(path: &Path, scope: &Scope<'_>, offset: u64, bytes: u64) -> Result<Page, Error> {
    let io = |error: std::io::Error| Error::io(ACTION, &error);
    let mut file = File::open(path).map_err(io)?;
    file.seek(SeekFrom::Start(offset)).map_err(io)?;
    let mut file = BufReader::with_capacity(256 << 10, file);
    let (mut at, mut line) = (offset, Vec::new());
    // In the middle of a batch, unless its first line comes next.
    let mut batch = Batch::of_parts();
    let mut said = Vec::new();
    loop {
        let Some(found) = lines::next(&mut file, &mut line, LINE_MAX).map_err(io)? else {
            batch.tell(scope, &mut said)?;
            return Ok(Page { said, next: None });
        };
        if line.starts_with(b"{\"batch\"") {
            batch.tell(scope, &mut said)?;
            if at.saturating_sub(offset) >= bytes {
                return Ok(Page { said, next: Some(at) });
            }
            batch = Batch::default();
        } else {
            batch.add(&parse(&line)?, found, scope)?;
        }
        at += found.bytes;
        let may_end = batch.is_in_parts && !batch.changes.last().is_some_and(goes_on);
        if may_end && at.saturating_sub(offset) >= bytes {
            batch.tell(scope, &mut said)?;
            return Ok(Page { said, next: Some(at) });
        }
    }
}

/// A batch that is read.
#[derive(Debug, Default)]
struct Batch {
    /// `None` before the first record.
    writer: Option<Writer>,
    /// What each record says by itself.
    changes: Vec<Change>,
    bytes: u64,
    /// It is not held as a whole.
    is_in_parts: bool,
}

impl Batch {
    fn of_parts() -> Self {
        Self { is_in_parts: true, ..Self::default() }
    }

    fn add(
        &mut self,
        line: &Map<String, Json>,
        found: lines::Line,
        scope: &Scope<'_>,
    ) -> Result<(), Error> {
        self.bytes += found.bytes;
        let told = match found.value_bytes {
            None => change(line, scope)?,
            Some(value_bytes) => large(line, value_bytes, scope)?,
        };
        if let Some(told) = told.map(bounded) {
            tell(&mut self.changes, told);
        }
        if self.bytes > BATCH_BYTES || found.value_bytes.is_some() {
            self.is_in_parts = true;
            self.writer = None;
        }
        if !self.is_in_parts {
            let writer = self.writer.get_or_insert_with(|| Writer::new(Vec::new()));
            record(writer, line)?;
        }
        Ok(())
    }

    fn tell(&mut self, scope: &Scope<'_>, said: &mut Vec<Said>) -> Result<(), Error> {
        let changes = std::mem::take(&mut self.changes);
        let Some(mut writer) = self.writer.take() else {
            said.extend(changes.into_iter().flat_map(by_itself));
            return Ok(());
        };
        let mut told = Told::new(scope.cluster);
        told.add(writer.finish())?;
        let mut mine = told.by_namespace().filter(|(name, _)| *name == scope.namespace);
        let commands = mine.next().map(|(_, commands)| commands.to_vec()).unwrap_or_default();
        // The key, and where LMOVE and BITOP lead.
        let keys = |words: &Command| match words.first().map(Vec::as_slice) {
            Some(b"LMOVE" | b"BITOP") => 2,
            _ => 1,
        };
        let named = commands.iter().flat_map(|words| words.iter().skip(1).take(keys(words)));
        let named: HashSet<&[u8]> = named.map(Vec::as_slice).collect();
        let others: Vec<Said> = changes
            .into_iter()
            .filter(|change| !named.contains(key_of(change)))
            .flat_map(by_itself)
            .collect();
        said.extend(commands.into_iter().map(Said::Command));
        said.extend(others);
        Ok(())
    }
}

fn key_of(change: &Change) -> &[u8] {
    match change {
        Change::Set { key, .. } | Change::Delete { key } | Change::Other { key, .. } => key,
    }
}

/// What a record says without the others of its batch.
fn by_itself(change: Change) -> Vec<Said> {
    match change {
        Change::Set { key, value, expire_ms } => {
            let end = (expire_ms != 0).then(|| {
                let end = expire_ms.to_string().into_bytes();
                Said::Command(vec![b"PEXPIREAT".to_vec(), key.clone(), end])
            });
            let set = Said::Command(vec![b"SET".to_vec(), key, value]);
            std::iter::once(set).chain(end).collect()
        }
        Change::Delete { key } => vec![Said::Command(vec![b"DEL".to_vec(), key])],
        Change::Other { key, what } => vec![Said::Other { key, what }],
    }
}

/// Appends what a line says to a batch. Families that this version does not have are nothing.
fn record(writer: &mut Writer, line: &Map<String, Json>) -> Result<(), Error> {
    let family = |name: &str| {
        let name = line.get(name)?.as_str()?;
        Family::ALL.into_iter().find(|family| family.name() == name)
    };
    if line.contains_key("log") {
        writer.log(&bytes(line, "log")?);
    } else if let Some(family) = family("put") {
        writer.put(family, &[&bytes(line, "key")?], &[&bytes(line, "value")?]);
    } else if let Some(family) = family("delete") {
        writer.delete(family, &bytes(line, "key")?);
    } else if let Some(family) = family("delete_range") {
        writer.delete_range(family, &bytes(line, "begin")?, &bytes(line, "end")?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewind::export;
    use crate::types::{hash, hyperloglog, keys, list, strings};
    use crate::{Options, Store, Txn};

    const SCOPE: Scope<'static> = Scope { namespace: b"__namespace", cluster: true, now_ms: 1 };

    fn all(path: &Path, bytes: u64) -> Vec<String> {
        let (mut lines, mut next) = (Vec::new(), Some(0));
        while let Some(offset) = next {
            let page = page(path, &SCOPE, offset, bytes).unwrap();
            lines.extend(page.said.into_iter().map(|said| match said {
                Said::Command(words) => words.join(&b'|').escape_ascii().to_string(),
                Said::Other { key, what } => format!("{}: {what}", key.escape_ascii()),
            }));
            assert!(page.next.is_none_or(|next| next > offset));
            next = page.next;
        }
        lines
    }

    #[test]
    fn batches_are_told_as_commands_however_they_are_paged() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { cluster: true, ..Options::default() };
        let store = Store::open(&dir.path().join("db"), options).unwrap();
        let write = |run: &dyn Fn(&mut Txn<'_>)| {
            let mut txn = store.txn();
            run(&mut txn);
            txn.commit().unwrap();
        };
        write(&|txn| {
            hash::set(txn, &SCOPE.at(b"h"), &[(b"f", b"v"), (b"g", b"w")]).unwrap();
        });
        // One batch of two commands, of which one cannot be told.
        write(&|txn| {
            list::push(txn, &SCOPE.at(b"l"), list::End::Left, &[b"p"]).unwrap();
            hyperloglog::add(txn, &SCOPE.at(b"p"), &[b"x"]).unwrap();
        });
        write(&|txn| {
            strings::set(txn, &SCOPE.at(b"s"), b"\xff", &Default::default()).unwrap();
            keys::del(txn, &SCOPE, &[b"h"]).unwrap();
        });
        let (path, _) = export::from_feed(&store, &dir.path().join("d"), 0, 1).unwrap();
        let path = path.unwrap();
        // HSET writes its last pair first.
        let expected =
            ["HSET|h|g|w", "HSET|h|f|v", "LPUSH|l|p", "p: a hyperloglog", "SET|s|\\xff", "DEL|h"];
        for bytes in [1, 100, 1 << 20] {
            assert_eq!(all(&path, bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn a_batch_that_is_not_held_is_told_by_its_records_in_several_pages() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { cluster: true, ..Options::default() };
        let store = Store::open(&dir.path().join("db"), options).unwrap();
        let mut txn = store.txn();
        let value = vec![b'v'; 400 << 10];
        for key in [b"a", b"b", b"c", b"d"] {
            strings::set(&mut txn, &SCOPE.at(key), &value, &Default::default()).unwrap();
        }
        hash::set(&mut txn, &SCOPE.at(b"h"), &[(b"f", b"v")]).unwrap();
        keys::del(&mut txn, &SCOPE, &[b"a"]).unwrap();
        txn.commit().unwrap();
        let (path, _) = export::from_feed(&store, &dir.path().join("d"), 0, 1).unwrap();
        let path = path.unwrap();
        for bytes in [1, 1 << 20] {
            let lines = all(&path, bytes);
            let short: Vec<&str> = lines.iter().map(|line| &line[..line.len().min(8)]).collect();
            let mut expected = vec!["SET|a|vv", "SET|b|vv", "SET|c|vv", "SET|d|vv"];
            expected.extend(["h: a has", "DEL|a"]);
            assert_eq!(short, expected, "{bytes}");
        }
    }
}
