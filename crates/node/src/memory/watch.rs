//! Ten times a second: what the process and its connections take, and what is done about it
//! ([`super::pressure`]).
//!
//! It waits for nothing: neither for the write gate nor for a connection. A connection that is
//! chosen is asked to end, and ends by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use limits::Seldom;
use parking_lot::Mutex;
use storage::Sizes;
use tokio::time::MissedTickBehavior;

use super::held::{Level, even};
use super::parts::Parts;
use super::pressure::{self, Holder};
use crate::clients::Client;
use crate::clock;
use crate::info::process;
use crate::node::Node;
use crate::threads::spawn;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// So many looks from one of the sizes of the database, and of free pages, to the next.
const LOOKS_OF_SIZES: u64 = 10;
/// Between two words in the log about the same.
const WORD: Duration = Duration::from_secs(10);

/// Runs until the node shuts down.
///
/// # Errors
/// None: it is a task like others.
pub async fn run(node: Arc<Node>) -> anyhow::Result<()> {
    let mut shutdown = node.shutdown();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch::default();
    loop {
        tokio::select! {
            _ = look.tick() => {}
            _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
        }
        watch.look(&node, clock::unix_ms());
    }
}

/// What is remembered from one look to the next.
#[derive(Debug)]
pub(crate) struct Watch {
    looks: u64,
    /// Of connections, while memory is tight: what they had done, and since when, ms, they do
    /// nothing.
    seen: BTreeMap<u64, ((u64, usize), u64)>,
    /// Bytes that the block cache has given up.
    given: u64,
    closed: Seldom,
    over: Seldom,
    untaken: Arc<Untaken>,
}

/// Sizes that the database would not take, once the log was told of them.
#[derive(Debug, Default)]
struct Untaken(Mutex<Option<Sizes>>);

impl Untaken {
    /// Notes that it did not take these; whether the log is to be told, as it is not of each try.
    fn note(&self, wanted: Sizes) -> bool {
        self.0.lock().replace(wanted) != Some(wanted)
    }

    /// Notes that it has what it was given; whether the log was told otherwise.
    fn forget(&self) -> bool {
        self.0.lock().take().is_some()
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            looks: 0,
            seen: BTreeMap::new(),
            given: 0,
            closed: Seldom::every(WORD),
            over: Seldom::every(WORD),
            untaken: Arc::default(),
        }
    }
}

impl Watch {
    /// Looks once, at `now_ms`.
    pub(crate) fn look(&mut self, node: &Node, now_ms: u64) {
        self.looks = self.looks.wrapping_add(1);
        let parts = node.config.now().parts();
        node.memory.bound(size(parts.clients), node.clients.len());
        self.look_at_connections(node, now_ms);
        let used = match parts.total {
            0 => 0,
            total => self.look_at_process(node, total),
        };
        if self.looks.is_multiple_of(LOOKS_OF_SIZES) {
            self.resize(node, &parts, used);
        }
    }

    fn look_at_connections(&mut self, node: &Node, now_ms: u64) {
        let memory = &node.memory;
        if memory.level() == Level::Free {
            self.seen.clear();
            return;
        }
        let clients = node.clients.list();
        let each = even(memory.limit(), clients.len());
        let holders = self.holders(&clients, each, now_ms);
        // What is ending is as good as gone.
        let ending: usize =
            clients.iter().filter(|client| client.is_killed()).map(|c| bytes(c)).sum();
        let used = memory.bytes().saturating_sub(ending);
        let chosen = pressure::choose(holders, used, memory.limit(), each);
        for id in &chosen {
            let Some(client) = node.clients.find(*id) else { continue };
            memory.evicted.fetch_add(1, Ordering::Relaxed);
            client.kill();
            if let Some(count) = self.closed.count() {
                let (address, bytes) = (client.address, bytes(&client));
                tracing::warn!(count, %address, bytes, used, "connections hold what maxmemory leaves them: the slowest readers are closed");
            }
        }
    }

    /// What connections hold that may be closed, and for how long they have done nothing. One that
    /// waits for memory is not still as long as others hold more than `each`.
    fn holders(&mut self, clients: &[Arc<Client>], each: usize, now_ms: u64) -> Vec<Holder> {
        let mut seen = BTreeMap::new();
        let mut holders = Vec::with_capacity(clients.len());
        let is_bounded = |client: &&Arc<Client>| !client.is_killed() && client.is_bound_in_memory();
        let bounded = || clients.iter().filter(is_bounded);
        let waits = |client: &Client| client.waits_for_room.load(Ordering::Relaxed);
        let is_waited_for = bounded().any(|client| !waits(client) && bytes(client) > each);
        for client in bounded() {
            let load = |counter: &std::sync::atomic::AtomicUsize| counter.load(Ordering::Relaxed);
            let done = (client.taken.load(Ordering::Relaxed), load(&client.query_bytes));
            let replies = load(&client.reply_memory).saturating_sub(load(&client.held_bytes));
            let unread = replies.saturating_add(client.inbox.len());
            let since = match self.seen.get(&client.id) {
                Some(_) if waits(client) && is_waited_for => now_ms,
                // It has read all there was.
                Some(((taken, _), _)) if *taken != done.0 && unread == 0 => now_ms,
                Some(((taken, sent), since)) => {
                    let sent = u64::try_from(done.1.abs_diff(*sent)).unwrap_or(u64::MAX);
                    let moved = done.0.wrapping_sub(*taken).saturating_add(sent);
                    pressure::still_since(*since, moved, bytes(client), now_ms)
                }
                None => now_ms,
            };
            seen.insert(client.id, (done, since));
            let still_ms = now_ms.saturating_sub(since);
            holders.push(Holder { id: client.id, bytes: bytes(client), unread, still_ms });
        }
        self.seen = seen;
        holders
    }

    /// What the process takes, bytes.
    fn look_at_process(&mut self, node: &Node, total: u64) -> u64 {
        let memory = &node.memory;
        let is_due = self.looks.is_multiple_of(LOOKS_OF_SIZES);
        let heap = process::heap();
        // It is read from a file.
        let resident = if is_due || heap.is_none() { process::resident_bytes() } else { 0 };
        let used = heap.map_or(resident, |heap| heap.allocated);
        let is_over = pressure::is_over(memory.is_over(), used, total);
        memory.set_over(is_over);
        if is_over && let Some(count) = self.over.count() {
            tracing::warn!(count, used, total, "more than maxmemory is in use: writes are refused");
        }
        if is_due && pressure::is_worth_purging(resident, used, total) {
            spawn("purge", || {
                if !process::purge() {
                    tracing::debug!("the allocator gives no pages back");
                }
            });
        }
        used
    }

    /// Sizes of the database as the options say now: they may have changed, or the database may be
    /// another one than they were said to. The block cache gives way to other parts.
    fn resize(&mut self, node: &Node, parts: &Parts, used: u64) {
        self.given = match parts.total {
            0 => 0,
            total => pressure::give_way(self.given, used, total, parts.block_cache),
        };
        let Some(store) = node.gate.try_read().and_then(|engine| engine.store.clone()) else {
            return;
        };
        store.set_batch_bytes_max(size(parts.batch));
        let wanted = sizes(parts);
        match store.sizes() {
            Some(now) if now == wanted => {
                let cache = size(parts.block_cache.saturating_sub(self.given));
                if store.block_cache_capacity() != cache {
                    store.set_block_cache(cache);
                }
            }
            // On a thread of its own: it may write files, and their disk may hang.
            Some(_) => {
                let untaken = Arc::clone(&self.untaken);
                spawn("resize", move || match store.resize(wanted) {
                    Ok(()) if untaken.forget() => {
                        tracing::info!("the database has its sizes in memory now");
                    }
                    Ok(()) => {}
                    Err(error) if untaken.note(wanted) => {
                        tracing::warn!(%error, "the database cannot be given other sizes in memory: it is tried again each second");
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the database has not its sizes in memory yet")
                    }
                });
            }
            // They are changed just now.
            None => {}
        }
    }
}

/// What the parts of the database have.
fn sizes(parts: &Parts) -> Sizes {
    Sizes {
        block_cache: size(parts.block_cache),
        hot: size(parts.values),
        memtables: size(parts.memtables),
        write_buffer: size(parts.write_buffer),
        feed: size(parts.feed),
        log: parts.log,
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn bytes(client: &Client) -> usize {
    client.charged.load(Ordering::Relaxed).saturating_add(client.inbox.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_told_once_of_sizes_that_are_not_taken() {
        let untaken = Untaken::default();
        let wanted = sizes(&crate::config::Values::default().parts());
        assert_eq!([untaken.note(wanted), untaken.note(wanted)], [true, false]);
        let others = Sizes { feed: wanted.feed + 1, ..wanted };
        assert_eq!([untaken.note(others), untaken.note(wanted)], [true, true]);
        assert_eq!([untaken.forget(), untaken.forget()], [true, false]);
        assert!(untaken.note(wanted), "it is another time");
    }
}
