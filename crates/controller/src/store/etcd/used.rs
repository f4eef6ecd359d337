//! Which cluster has which address: two clusters on one would fight for it. One document, because a
//! transaction may look at few keys, and there are many clusters.

use std::collections::BTreeMap;

use planner::Record;
use serde::{Deserialize, Serialize};

use crate::store::{StoreError, failed, fresh_tag};

/// Addresses of nodes and balancers, and whose they are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Used {
    /// New with each write.
    tag: u64,
    /// `node ADDRESS` or `balancer ENDPOINT`, and `NAMESPACE/CLUSTER`.
    by: BTreeMap<String, String>,
}

/// What a cluster uses, sorted.
pub(super) fn addresses(record: &Record) -> Vec<String> {
    let nodes = record.nodes().map(|(_, node)| format!("node {}", node.local));
    let balancers = record.balancers.iter().map(|of| format!("balancer {}", of.endpoint));
    let mut all: Vec<String> = nodes.chain(balancers).collect();
    all.sort();
    all
}

impl Used {
    pub(super) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// As it is written next, with a tag of its own.
    pub(super) fn text(mut self) -> Result<String, StoreError> {
        self.tag = fresh_tag();
        serde_json::to_string(&self).map_err(failed("encode the addresses in use"))
    }

    /// Gives a cluster the addresses of its record, and no others.
    ///
    /// # Errors
    /// One is another cluster's.
    pub(super) fn take(&mut self, record: &Record) -> Result<(), StoreError> {
        let cluster = format!("{}/{}", record.namespace, record.name);
        self.release(&cluster);
        for what in addresses(record) {
            if let Some(other) = self.by.get(&what).filter(|other| **other != cluster) {
                return Err(StoreError::Used { what, cluster: other.clone() });
            }
            self.by.insert(what, cluster.clone());
        }
        Ok(())
    }

    /// A cluster uses nothing any more.
    pub(super) fn release(&mut self, cluster: &str) {
        self.by.retain(|_, of| of != cluster);
    }
}
