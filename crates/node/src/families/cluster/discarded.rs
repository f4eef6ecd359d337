//! `CLUSTERX DISCARDED …`, for controllers: what this node's rewinds cut off, and putting it back at a master.
//!
//! Files and logs are read off the workers.

mod apply;

use std::sync::Arc;

use resp::{Protocol, Writer};
use storage::rewind::review::{self, Change, Export, Listing};

use crate::clock;
use crate::command::{Args, Error, Reply, Result};
use crate::node::Node;
use crate::replication::rewind::DISCARDED;
use crate::session::{After, SessionCx, Tells};
use apply::{Request, apply};

/// Most of an export that one answer tells of, in bytes of the file.
const PAGE_BYTES_MAX: u64 = 1 << 20;
/// Words of a key, in a page and in a request to put back.
const KEY_WORDS: usize = 4;

pub(super) fn run(cx: &mut SessionCx<'_>, args: &mut Args<'_>, _reply: Reply<'_>) -> Result<After> {
    let word = args.word().ok_or(Error::Syntax)?;
    match (&*word, args.len()) {
        (b"LIST", 0) => Ok(later(cx, Tells::Nothing, list)),
        (b"READ", 3) => {
            let file = args.text()?.to_owned();
            let (offset, bytes) = (args.number()?, args.number()?);
            Ok(later(cx, Tells::Read, move |node| read(node, &file, offset, bytes)))
        }
        (b"APPLY", 4..) => {
            let request = Request::parse(args)?;
            let tells = if request.is_dry { Tells::Read } else { Tells::Write };
            Ok(later(cx, tells, move |node| apply(node, &request)))
        }
        _ => Err(Error::Syntax),
    }
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

/// A line per export: file, bytes, fork, Unix ms, newest discarded sequence, number and id of the epoch that held the fork when it was made.
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

/// Where the next page begins (-1: nowhere), then four words per change: what, key, value, expiry.
fn read(node: &Node, file: &str, offset: u64, bytes: u64) -> Result<Vec<u8>> {
    if !review::is_name(file) {
        return Err(Error::text("ERR that is not the name of an export"));
    }
    let path = node.path(DISCARDED).join(file);
    if !path.exists() {
        return Err(Error::text("ERR there is no such export"));
    }
    let page =
        review::page(&path, &node.scope(clock::unix_ms()), offset, bytes.clamp(1, PAGE_BYTES_MAX))?;
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Protocol::V2);
    writer.array(1 + page.changes.len() * KEY_WORDS);
    writer.integer(page.next.and_then(|next| i64::try_from(next).ok()).unwrap_or(-1));
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
