//! What a taker asks a giver for, and whether that is to be given.
//!
//! It only looks: nothing is given to one that asks for another process, or for another epoch.

use ::replication::slots::copy::parse_place;
use ::replication::slots::{Cursor, Least, MoveId, Slots};
use api::moves::Rate;
use storage::Store;

use super::look::{master, owns};
use crate::node::Node;

/// What a taker asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The move.
    pub id: MoveId,
    /// Its slots.
    pub slots: Slots,
    /// The process that is to give them.
    pub nonce: String,
    /// What that process is granted.
    pub epoch: u64,
    /// What the taker has.
    pub has: Option<Least>,
    /// Below this.
    pub cursor: Cursor,
    /// How fast the copy may come; `None`: as this node's options say.
    pub rate: Option<Rate>,
}

impl Request {
    /// Reads the words behind `PULL`; `None` if they are none.
    pub fn parse(words: &[&[u8]]) -> Option<Self> {
        let text = |word| std::str::from_utf8(word).ok();
        let (words, rate) = match words {
            [words @ .., rate] if words.len() == 5 => (words, Some(text(rate)?.parse().ok()?)),
            words => (words, None),
        };
        let [id, slots, nonce, epoch, place] = words else { return None };
        let (has, cursor) = parse_place(place).ok()?;
        Some(Self {
            id: MoveId(text(id)?.parse().ok()?),
            slots: text(slots)?.parse().ok()?,
            nonce: text(nonce)?.to_owned(),
            epoch: text(epoch)?.parse().ok()?,
            has,
            cursor,
            rate,
        })
    }
}

/// Whether these slots are to be given from here.
pub(super) fn accept(node: &Node, request: &Request) -> Result<Store, &'static str> {
    let engine = node.engine();
    let Some((store, epoch)) = master(node, &engine) else {
        return Err("this node is no master under a grant");
    };
    if epoch != request.epoch || format!("{:x}", node.grants.nonce()) != request.nonce {
        return Err("another process, or another epoch, is asked for");
    }
    if node.resync.is_required() {
        return Err("the data here is to be replaced");
    }
    let marks = store.marks().unwrap_or_default();
    let is_mine = owns(&node.cluster.load(), &request.slots) == Some(true);
    let is_here = !marks.foreign().iter().any(|range| {
        request.slots.ranges().iter().any(|mine| mine.0 <= range.1 && range.0 <= mine.1)
    });
    let is_known = marks.table().of(request.id).is_some();
    if !is_mine || !is_here || is_known || marks.table().is_newer(request.id, &request.slots) {
        return Err("the slots are not this node's to give");
    }
    Ok(store.clone())
}
