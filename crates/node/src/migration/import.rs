//! The connection that brings slots: what it brings is deleted unless it says that all has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use topology::SlotRange;

use super::marks;
use crate::gate::Engine;
use crate::node::Node;
use crate::threads::spawn;

/// What a session keeps that imports slots. Its end is that of the connection.
pub struct Link {
    /// That of its client.
    pub id: u64,
    node: Arc<Node>,
    /// The import has begun.
    is_active: AtomicBool,
}

impl Link {
    /// A connection that asks to bring slots.
    pub fn new(node: &Arc<Node>, id: u64) -> Arc<Self> {
        Arc::new(Self { id, node: Arc::clone(node), is_active: AtomicBool::new(false) })
    }

    /// Whether it may write slots that come: what is left of a connection that another one has
    /// taken over from may not.
    pub fn is_active(&self) -> bool {
        self.is_active.load(Ordering::SeqCst) && self.node.migration.takes_from(self.id)
    }

    /// It was allowed to.
    pub fn activate(&self) {
        self.is_active.store(true, Ordering::SeqCst);
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({}, {})", self.id, self.is_active())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !self.is_active() {
            return;
        }
        let (node, id) = (Arc::clone(&self.node), self.id);
        // Not on the worker: it may have to wait for a change of topology, or for the import that
        // follows this one, which must not be deleted.
        spawn("import-end", move || {
            let _one_at_a_time = node.changing.blocking_lock();
            if let Some(range) = node.migration.link_ended(id) {
                tracing::warn!(%range, "the connection that brought slots ended before all had come");
                drop_slots(&node, range);
            }
        });
    }
}

/// Deletes what has come of slots that will not come. The caller holds the lock of changes.
pub fn drop_slots(node: &Node, range: SlotRange) {
    let done = marks::update(node, |engine, cluster, marks| {
        marks.importing = None;
        if super::checks::are_mine(cluster, range) {
            // A topology has given them to this node meanwhile.
            if let Some(store) = &engine.store {
                store.slots_have_come(range);
            }
            return Ok(());
        }
        empty(node, engine, range)
    });
    if let Err(error) = done {
        tracing::error!(%error, %range, "cannot delete what has come of slots; the next import of them does");
    }
}

/// Deletes all that lies in slots; nothing on a replica, whose data is its master's. The import is
/// over in any case: compaction may judge again what lies there.
fn empty(node: &Node, engine: &Engine, range: SlotRange) -> Result<(), storage::Error> {
    let Some(store) = &engine.store else { return Ok(()) };
    if !engine.role.is_master() {
        store.slots_have_come(range);
        return Ok(());
    }
    store.empty_slots(range)?;
    store.slots_have_come(range);
    store.publish()?;
    node.touch_all();
    Ok(())
}
