//! Which nodes a controller has found gone: shown to clients as `slave,fail`, and decided by nobody here.
//!
//! Nodes do not look after each other, so they learn it from the controller (`CLUSTERX DOWN`). It is held in memory only, and
//! what this node sees for itself counts more: a replica whose link is here is not gone, whoever says so.

use std::borrow::Cow;
use std::collections::BTreeSet;

use parking_lot::Mutex;
use topology::{NodeId, Topology};

use crate::node::Node;

/// The nodes that are gone, as last told.
#[derive(Debug, Default)]
pub struct Gone(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    /// Of the controller that said so.
    term: u64,
    ids: BTreeSet<NodeId>,
}

impl Gone {
    /// Takes the word of a controller; false if one with a higher term has spoken before.
    pub fn tell(&self, term: u64, ids: BTreeSet<NodeId>) -> bool {
        let mut told = self.0.lock();
        if term < told.term {
            return false;
        }
        *told = Told { term, ids };
        true
    }

    /// What was told last.
    pub fn told(&self) -> Vec<String> {
        self.0.lock().ids.iter().map(ToString::to_string).collect()
    }

    /// Nobody is known to be gone.
    pub fn forget(&self) {
        self.0.lock().ids.clear();
    }
}

/// The topology as clients of this node are to see it.
pub fn shown<'t>(node: &Node, topology: &'t Topology) -> Cow<'t, Topology> {
    let mut ids = node.gone.0.lock().ids.clone();
    if ids.is_empty() {
        return Cow::Borrowed(topology);
    }
    for member in node.replication.replicas().iter().filter_map(|replica| replica.member) {
        ids.remove(&member.node());
    }
    if let Some(me) = node.cluster.load().id() {
        ids.remove(&me);
    }
    Cow::Owned(topology.with_failed(|id| ids.contains(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_that_was_overtaken_is_not_believed() {
        let gone = Gone::default();
        let ids = |letters: &[&str]| -> BTreeSet<NodeId> {
            letters.iter().filter_map(|letter| NodeId::new(letter.repeat(40).as_bytes())).collect()
        };
        assert!(gone.tell(2, ids(&["a", "b"])));
        assert!(!gone.tell(1, ids(&[])));
        assert_eq!(gone.told(), ["a".repeat(40), "b".repeat(40)]);
        assert!(gone.tell(2, ids(&["b"])));
        assert_eq!(gone.told(), ["b".repeat(40)]);
        gone.forget();
        assert_eq!(gone.told(), [""; 0]);
    }
}
