//! Names of the connections to the target: a node runs what they have brought even after they
//! broke, and by its name such a connection is known there.

use std::collections::BTreeSet;

/// Names of connections, by which they are known again.
pub(super) struct Names {
    /// What those of all runs of this copy begin with.
    copy: String,
    /// And those of this run.
    run: String,
    /// How many there were.
    count: u64,
    /// Nodes where connections of earlier runs were ended; `None`: there was no earlier run.
    cleared: Option<BTreeSet<String>>,
}

impl Names {
    /// `copy` is that of the runs before, if there were any.
    pub(super) fn new(copy: Option<&str>) -> Self {
        let fresh = || format!("holdfast-import-{:016x}", rand::random::<u64>());
        let cleared = copy.map(|_| BTreeSet::new());
        let copy = copy.map_or_else(fresh, str::to_owned);
        let run = format!("{copy}-{:08x}-", rand::random::<u32>());
        Self { copy, run, count: 0, cleared }
    }

    /// Whether it is one of an earlier run.
    pub(super) fn is_earlier(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&self.copy);
        rest.is_some_and(|rest| rest.starts_with('-')) && !name.starts_with(&self.run)
    }

    /// What those of all runs of this copy begin with.
    pub(super) fn copy(&self) -> &str {
        &self.copy
    }

    /// For another connection.
    pub(super) fn another(&mut self) -> String {
        self.count += 1;
        format!("{}{}", self.run, self.count)
    }

    /// Whether a node has no connection of an earlier run.
    pub(super) fn is_cleared(&self, address: &str) -> bool {
        self.cleared.as_ref().is_none_or(|nodes| nodes.contains(address))
    }

    /// From here on it has none.
    pub(super) fn note_cleared(&mut self, address: &str) {
        if let Some(cleared) = &mut self.cleared {
            cleared.insert(address.to_owned());
        }
    }
}
