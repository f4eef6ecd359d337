//! `STORE <name> <generation> [FOR <name> <generation>]` in what controllers say.

use ::grant::Said;

use crate::command::{Args, Error, Result};
use crate::node::Node;

fn malformed() -> Error {
    Error::text(
        "ERR malformed word of a store: STORE <name> <generation> [FOR <name> <generation>] expected",
    )
}

fn parse(words: &[&[u8]]) -> Result<Said> {
    let words = words.iter().map(|word| std::str::from_utf8(word));
    let words: std::result::Result<Vec<_>, _> = words.collect();
    words.ok().and_then(|words| Said::parse(&words)).ok_or_else(malformed)
}

/// Behind all else that a heartbeat says.
pub(super) fn behind(args: &mut Args<'_>) -> Result<Option<Said>> {
    args.split_behind(3, b"store").map(parse).transpose()
}

/// In front of a command that is said under a term.
pub(super) fn before(args: &mut Args<'_>) -> Result<Option<Said>> {
    let is = |args: &Args<'_>, at: usize, word: &[u8]| {
        args.ahead(at).is_some_and(|found| found.eq_ignore_ascii_case(word))
    };
    if !is(args, 0, b"store") {
        return Ok(None);
    }
    let count = if is(args, 3, b"for") { 6 } else { 3 };
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        words.push(args.bytes().map_err(|_| malformed())?);
    }
    parse(&words[1..]).map(Some)
}

/// What a heartbeat for the shard of `master` says of a store, as far as it is said to this node:
/// one that no store has led is led by none that leads another cluster, and has mistaken the node
/// for its own.
pub(super) fn of_own(node: &Node, master: &[u8], said: Option<Said>) -> Option<Said> {
    said.filter(|_| node.grants.store().is_some() || is_own(node, master))
}

fn is_own(node: &Node, master: &[u8]) -> bool {
    let cluster = node.cluster.load();
    let knows = |topology: &topology::Topology| {
        topology.nodes.iter().any(|node| node.id.as_bytes() == master)
    };
    cluster.id().is_some() && cluster.topology().is_ok_and(knows)
}
