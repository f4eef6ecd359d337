//! Changing the marks of slots that are migrated.

use std::sync::Arc;

use topology::Cluster;
use topology::state::Marks;

use crate::gate::Engine;
use crate::node::Node;

/// Changes the marks with the gate held alone: whatever wrote before has ended, and whatever comes
/// sees them. `change` may refuse. The caller holds the lock of changes.
///
/// # Errors
/// Those of `change`: nothing is different then.
pub fn update<T, E>(
    node: &Node,
    change: impl FnOnce(&Engine, &Cluster, &mut Marks) -> Result<T, E>,
) -> Result<T, E> {
    let engine = node.gate.write();
    let cluster = node.cluster.load();
    let mut marks = cluster.marks().clone();
    let done = change(&engine, &cluster, &mut marks)?;
    let mut next = Cluster::clone(&cluster);
    next.update_marks(|kept| *kept = marks);
    node.cluster.store(Arc::new(next));
    Ok(done)
}
