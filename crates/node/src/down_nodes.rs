//! Which nodes a controller has found gone: shown to clients as `slave,fail`, and decided by nobody
//! here.
//!
//! Nodes do not look after each other, so they learn it from the controller (`CLUSTERX DOWN`). It
//! is held in memory only, and what this node hears for itself counts more: a replica that has said
//! something here since then is not gone. That its connection is open says nothing: a cut cable
//! closes none.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use topology::NodeId;

/// The nodes that are gone, as last told.
#[derive(Debug, Default)]
pub struct DownNodes(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    /// Of the controller that said so.
    term: u64,
    /// When each was first told of, ms.
    ids: BTreeMap<NodeId, u64>,
}

impl DownNodes {
    /// Takes the word of a controller; false if one with a higher term has spoken before.
    pub fn tell(&self, term: u64, ids: BTreeSet<NodeId>, now_ms: u64) -> bool {
        let mut told = self.0.lock();
        if term < told.term {
            return false;
        }
        let since = |id: NodeId| (id, told.ids.get(&id).copied().unwrap_or(now_ms));
        let ids = ids.into_iter().map(since).collect();
        *told = Told { term, ids };
        true
    }

    /// Those of whom nothing was heard since they were told of.
    pub fn unheard(&self, heard: &[(NodeId, u64)]) -> BTreeSet<NodeId> {
        let told = self.0.lock();
        let is_silent =
            |id: &NodeId, since: u64| !heard.iter().any(|(other, at)| other == id && *at > since);
        let silent = told.ids.iter().filter(|(id, since)| is_silent(id, **since));
        silent.map(|(id, _)| *id).collect()
    }

    /// What was told last.
    pub fn told(&self) -> Vec<String> {
        self.0.lock().ids.keys().map(ToString::to_string).collect()
    }

    /// Nobody is known to be gone.
    pub fn forget(&self) {
        self.0.lock().ids.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_that_was_overtaken_is_not_believed() {
        let down = DownNodes::default();
        let id = |letter: &str| NodeId::new(letter.repeat(40).as_bytes()).unwrap();
        let ids = |letters: &[&str]| -> BTreeSet<NodeId> {
            letters.iter().map(|letter| id(letter)).collect()
        };
        assert!(down.tell(2, ids(&["a", "b"]), 5));
        assert!(!down.tell(1, ids(&[]), 6));
        assert_eq!(down.told(), ["a".repeat(40), "b".repeat(40)]);
        assert!(down.tell(2, ids(&["b", "c"]), 9));
        assert_eq!(down.told(), ["b".repeat(40), "c".repeat(40)]);
        // What was heard before is no sign of life; what is heard after is, though the controller
        // has not said so.
        assert_eq!(down.unheard(&[(id("b"), 5), (id("c"), 9)]), ids(&["b", "c"]));
        assert_eq!(down.unheard(&[(id("b"), 6), (id("c"), 9)]), ids(&["c"]));
        down.forget();
        assert_eq!(down.told(), [""; 0]);
    }
}
