//! The topology of a record, as nodes take it.

use planner::Record;
use topology::{NodeId, Slot, Topology, Warning};

/// What nodes are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopologyText {
    pub(crate) version: i64,
    pub(crate) text: String,
    pub(crate) hash: String,
    /// Nodes that clients take for one. Old records may have them, and failovers go on; no change makes any.
    pub(crate) shared: Vec<Warning>,
}

/// Why a record is no topology.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TopologyError {
    #[error("node id `{0}` is not 40 bytes")]
    Id(String),
    #[error("slots {0}-{1} are out of range")]
    Slots(u16, u16),
    #[error("{0}")]
    Refused(String),
}

/// Renders the record as nodes take it, and reads it back: a node must never be sent what it
/// would refuse or read otherwise.
pub(crate) fn topology_of(record: &Record) -> Result<TopologyText, TopologyError> {
    let id =
        |text: &str| NodeId::new(text.as_bytes()).ok_or_else(|| TopologyError::Id(text.to_owned()));
    let mut nodes = Vec::new();
    for shard in &record.shards {
        let Some(master) = shard.master() else { continue };
        for node in &shard.nodes {
            let is_master = node.role == planner::Role::Master;
            let mut slots = topology::SlotSet::default();
            for &(first, last) in shard.slot_ranges.iter().filter(|_| is_master) {
                for number in first..=last {
                    slots.insert(Slot::new(number).ok_or(TopologyError::Slots(first, last))?);
                }
            }
            let role = if is_master {
                topology::Role::Master
            } else {
                topology::Role::Replica { of: id(&master.id)? }
            };
            nodes.push(topology::Node {
                id: id(&node.id)?,
                local: node.local.clone(),
                announced: node.announced.clone(),
                role,
                failed: false,
                slots,
            });
        }
    }
    let topology = Topology { version: record.version, nodes };
    let text = topology.render();
    if !topology.nodes.is_empty() {
        let read = Topology::parse(&text, record.version)
            .map_err(|error| TopologyError::Refused(error.to_string()))?;
        if read != topology {
            return Err(TopologyError::Refused("an address cannot be expressed".to_owned()));
        }
    }
    let (hash, shared) = (topology.hash(), topology.warnings());
    Ok(TopologyText { version: record.version, text, hash, shared })
}

/// Refuses what would put two nodes at one address and did not before.
pub(super) fn apart(before: &TopologyText, after: &TopologyText) -> Result<(), String> {
    match after.shared.iter().find(|shared| !before.shared.contains(shared)) {
        None => Ok(()),
        Some(shared) => Err(format!("{shared}: announce each at an address of its own")),
    }
}
