//! `CLUSTERX DISCARDED …`, for controllers: what this node's rewinds cut off, and putting it back
//! at a master.
//!
//! Files and logs are read off the workers.

mod apply;
mod request;

use std::path::PathBuf;
use std::sync::Arc;

use resp::{Protocol, Writer};
use storage::rewind::commands::{self, Said};
use storage::rewind::records::{self, Found, Share, What};
use storage::rewind::review::{self, Change, Export, Listing};

use crate::clock;
use crate::command::{Args, Error, Reply, Result};
use crate::node::Node;
use crate::replication::rewind::DISCARDED;
use crate::session::{After, SessionCx, Tells};
use apply::apply;
use request::Request;

/// Most of an export that one answer tells of, in bytes of the file.
const PAGE_BYTES_MAX: u64 = 1 << 20;
/// Words of a change in a page.
const CHANGE_WORDS: usize = 4;
/// Words of a record in a page.
const RECORD_WORDS: usize = 5;

pub(super) fn run(cx: &mut SessionCx<'_>, args: &mut Args<'_>, _reply: Reply<'_>) -> Result<After> {
    let word = args.word().ok_or(Error::Syntax)?;
    match (&*word, args.len()) {
        (b"LIST", 0) => Ok(later(cx, Tells::Nothing, list)),
        (b"READ", 3) => {
            let file = args.text()?.to_owned();
            let (offset, bytes) = (args.number()?, args.number()?);
            Ok(later(cx, Tells::Read, move |node| read(node, &file, offset, bytes)))
        }
        (b"READ", 4) => {
            let file = args.text()?.to_owned();
            let (offset, bytes) = (args.number()?, args.number()?);
            match args.word().as_deref() {
                Some(b"COMMANDS") => {
                    Ok(later(cx, Tells::Read, move |node| tell(node, &file, offset, bytes)))
                }
                _ => Err(Error::Syntax),
            }
        }
        (b"RECORDS", 4) => {
            let file = args.text()?.to_owned();
            let offset = args.number()?;
            let share = Share { part: args.number()?, of: args.number()? };
            if share.part >= share.of {
                return Err(Error::Syntax);
            }
            Ok(later(cx, Tells::Read, move |node| records(node, &file, offset, share)))
        }
        (b"APPLY", 4..) => Ok(put_back(cx, Request::of_strings(args)?)),
        (b"RESTORE", 4..) => Ok(put_back(cx, Request::of_records(args)?)),
        _ => Err(Error::Syntax),
    }
}

fn put_back(cx: &SessionCx<'_>, request: Request) -> After {
    let tells = if request.is_dry { Tells::Read } else { Tells::Write };
    later(cx, tells, move |node| apply(node, &request))
}

fn later(
    cx: &SessionCx<'_>,
    tells: Tells,
    work: impl FnOnce(&Node) -> Result<Vec<u8>> + Send + 'static,
) -> After {
    let node = Arc::clone(cx.node);
    let answer = Box::pin(async move {
        let done = tokio::task::spawn_blocking(move || work(&node)).await;
        let done = done.unwrap_or_else(|error| Err(Error::err(format!("discarded: {error}"))));
        done.unwrap_or_else(|error| {
            let mut bytes = Vec::new();
            Writer::new(&mut bytes, Protocol::V2).error(&error.to_string());
            bytes
        })
    });
    After::Later(answer, tells)
}

/// A line per export: file, bytes, fork, Unix ms, newest discarded sequence, number and id of the
/// epoch that held the fork when it was made.
fn list(node: &Node) -> Result<Vec<u8>> {
    let Listing { exports, unreadable } = review::list(&node.path(DISCARDED))?;
    for (file, error) in unreadable {
        tracing::warn!(file, %error, "a file of discarded writes cannot be read");
    }
    let line = |export: &Export| {
        let Export { file, bytes, head, end } = export;
        let (epoch, id) =
            head.epoch.map_or((0, "-".to_owned()), |(epoch, id)| (epoch, id.to_string()));
        format!("{file} {bytes} {} {} {end} {epoch} {id}\r\n", head.fork, head.at_ms)
    };
    let text: String = exports.iter().map(line).collect();
    let mut out = Vec::new();
    Writer::new(&mut out, Protocol::V2).bulk(text.as_bytes());
    Ok(out)
}

fn path_of(node: &Node, file: &str) -> Result<PathBuf> {
    if !review::is_name(file) {
        return Err(Error::text("ERR that is not the name of an export"));
    }
    let path = node.path(DISCARDED).join(file);
    if path.exists() { Ok(path) } else { Err(Error::text("ERR there is no such export")) }
}

/// Where the next page begins; -1: nowhere.
fn place_of(next: Option<u64>) -> i64 {
    next.and_then(|next| i64::try_from(next).ok()).unwrap_or(-1)
}

/// Where the next page begins, then four words per change: what, key, value, expiry.
fn read(node: &Node, file: &str, offset: u64, bytes: u64) -> Result<Vec<u8>> {
    let path = path_of(node, file)?;
    let page =
        review::page(&path, &node.scope(clock::unix_ms()), offset, bytes.clamp(1, PAGE_BYTES_MAX))?;
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Protocol::V2);
    writer.array(1 + page.changes.len() * CHANGE_WORDS);
    writer.integer(place_of(page.next));
    for change in &page.changes {
        let (what, key, value, expire_ms): (&[u8], _, &[u8], _) = match change {
            Change::Set { key, value, expire_ms } => (b"set", key, value, *expire_ms),
            Change::Delete { key } => (b"del", key, b"", 0),
            Change::Other { key, what } => (b"other", key, what.as_bytes(), 0),
        };
        for bytes in [what, key, value, expire_ms.to_string().as_bytes()] {
            writer.bulk(bytes);
        }
    }
    Ok(out)
}

/// The same as commands: two elements each, `command` and its words, or `other` with the key and
/// what became of it.
fn tell(node: &Node, file: &str, offset: u64, bytes: u64) -> Result<Vec<u8>> {
    let path = path_of(node, file)?;
    let scope = node.scope(clock::unix_ms());
    let page = commands::page(&path, &scope, offset, bytes.clamp(1, PAGE_BYTES_MAX))?;
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Protocol::V2);
    writer.array(1 + page.said.len() * 2);
    writer.integer(place_of(page.next));
    for said in &page.said {
        match said {
            Said::Command(words) => {
                writer.bulk(b"command");
                writer.bulks(words);
            }
            Said::Other { key, what } => {
                writer.bulk(b"other");
                writer.bulks(&[key.as_slice(), what.as_bytes()]);
            }
        }
    }
    Ok(out)
}

/// Where the next page begins, how many bytes stand before a key's name, then five words per
/// record: what, the key on disk, the place, the value, and whether the key had no end before.
fn records(node: &Node, file: &str, offset: u64, share: Share) -> Result<Vec<u8>> {
    let path = path_of(node, file)?;
    let scope = node.scope(clock::unix_ms());
    let page = records::page(&path, &scope, offset, share)?;
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Protocol::V2);
    writer.array(2 + page.records.len() * RECORD_WORDS);
    writer.integer(place_of(page.next));
    writer.integer(i64::try_from(scope.ns_key(b"").len()).unwrap_or(i64::MAX));
    for Found { key, what } in &page.records {
        let (word, place, value, was_endless): (&[u8], &[u8], &[u8], bool) = match what {
            What::Put { place, value, was_endless } => (b"put", place, value, *was_endless),
            What::Delete { place } => (b"del", place, b"", false),
            What::Large { place } => (b"large", place, b"", false),
            What::Range { end } => (b"range", end, b"", false),
            What::Foreign => (b"foreign", b"", b"", false),
            What::Copied => (b"copied", b"", b"", false),
        };
        let endless: &[u8] = if was_endless { b"1" } else { b"0" };
        for bytes in [word, key, place, value, endless] {
            writer.bulk(bytes);
        }
    }
    Ok(out)
}
