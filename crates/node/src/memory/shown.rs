//! The parts of the memory as INFO and /metrics show them.
//!
//! Neither waits for the write gate nor walks through connections.

use super::parts::Parts;
use crate::node::Node;
use crate::scripts::THREADS_MAX;

/// A part, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// As INFO and the metrics name it.
    pub name: &'static str,
    /// What it may take; 0: no bound.
    pub limit: u64,
    /// What it takes.
    pub used: u64,
}

/// What each part may take and takes. Those of the database are left out where the write gate
/// cannot be had at once, and while there is no database.
pub fn parts(node: &Node) -> Vec<Part> {
    let store = node.gate.try_read().and_then(|engine| engine.store.clone());
    let Parts { total, block_cache, memtables, values, feed, clients, long_reads, script, .. } =
        node.config.now().parts();
    let scripts = if total == 0 { 0 } else { script.saturating_mul(bytes(THREADS_MAX)) };
    let part = |name, limit, used| Part { name, limit, used };
    let mut parts = Vec::with_capacity(7);
    if let Some(store) = store {
        let memory = store.memory();
        parts.extend([
            part("block_cache", block_cache, bytes(memory.block_cache)),
            part("memtables", memtables, bytes(memory.memtables)),
            part("value_cache", values, bytes(memory.hot)),
            part("replica_feed", feed, bytes(memory.feed)),
        ]);
    }
    parts.extend([
        part("clients", clients, bytes(node.memory.bytes())),
        part("long_reads", long_reads, bytes(node.long_reads.used_bytes())),
        part("scripts", scripts, node.scripts.lua_bytes()),
    ]);
    parts
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
