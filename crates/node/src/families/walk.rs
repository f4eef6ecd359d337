//! Cursors and pages of SCAN, HSCAN, SSCAN and ZSCAN.

use resp::Writer;
use storage::types::page::Page;

use crate::command::{Error, Replied, Reply, Result};
use crate::session::ReadCx;

/// Where a cursor points: a number from the table of cursors, or `_` and a position. A number that
/// is not known any more begins anew.
pub(super) fn position(cx: &ReadCx<'_>, cursor: &[u8]) -> Result<Vec<u8>> {
    if cursor == b"0" {
        return Ok(Vec::new());
    }
    if let Some(position) = cursor.strip_prefix(b"_") {
        return Ok(position.to_vec());
    }
    let number = std::str::from_utf8(cursor).ok().and_then(|text| text.parse::<u64>().ok());
    let number = number.ok_or_else(|| Error::text("ERR invalid cursor"))?;
    Ok(cx.node.cursors.recall(number).unwrap_or_default())
}

/// A page: the cursor of the next one, and what `write` makes of the items, as one array.
pub(super) fn reply<T>(
    cx: &ReadCx<'_>,
    page: &Page<T>,
    reply: Reply<'_>,
    write: impl FnOnce(&mut Writer<'_>, &[T]),
) -> Replied {
    let cursor = match &page.next {
        None => b"0".to_vec(),
        Some(next) if cx.config.redis_cursor_compatible => {
            cx.node.cursors.remember(next).to_string().into_bytes()
        }
        Some(next) => [b"_".as_slice(), next].concat(),
    };
    reply.with(|writer| {
        writer.array(2);
        writer.bulk(&cursor);
        write(writer, &page.items);
    })
}
