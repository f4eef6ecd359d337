//! The record as the text that nodes take.

use std::sync::Arc;

use api::heartbeat::Reply;
use planner::{Node, Record};
use topology::description::Form;
use topology::{NodeId, Slot, Topology, Warning};

/// What nodes are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopologyText {
    pub(crate) version: i64,
    pub(crate) text: Arc<str>,
    pub(crate) hash: Arc<str>,
    /// Text and hash without ports of TLS, where there are some: for nodes that do not know them.
    pub(crate) plain: Option<(Arc<str>, Arc<str>)>,
    /// Nodes that clients take for one. Old records may have them, and failovers go on; no change
    /// makes any.
    pub(crate) shared: Vec<Warning>,
}

impl TopologyText {
    /// The same nodes and slots under another version, which is no part of the text.
    pub(super) fn under(self: &Arc<Self>, version: i64) -> Arc<Self> {
        if version == self.version {
            return Arc::clone(self);
        }
        Arc::new(Self { version, ..Self::clone(self) })
    }

    /// What a node takes that answers so.
    pub(super) fn text_for(&self, reply: Option<&Reply>) -> &Arc<str> {
        let knows_all = reply.is_some_and(|reply| reply.knows_tls_ports);
        let plain = self.plain.as_ref().filter(|_| !knows_all);
        plain.map_or(&self.text, |(text, _)| text)
    }

    pub(super) fn plain_hash(&self) -> Option<String> {
        self.plain.as_ref().map(|(_, hash)| hash.to_string())
    }
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
                tls: node.tls,
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
    let plain = topology
        .has_tls_ports()
        .then(|| (topology.render_in(Form::Plain).into(), topology.hash_in(Form::Plain).into()));
    let (hash, shared) = (topology.hash().into(), topology.warnings());
    Ok(TopologyText { version: record.version, text: text.into(), hash, plain, shared })
}

/// [`topology_of`] `record`, where that of `was` is `known`: most changes are of epochs, sets, or
/// what nodes stated, and leave the text as it was.
pub(super) fn topology_after(
    was: &Record,
    known: &Arc<TopologyText>,
    record: &Record,
) -> Result<Arc<TopologyText>, TopologyError> {
    match is_same_topology(was, record) {
        true => Ok(known.under(record.version)),
        false => topology_of(record).map(Arc::new),
    }
}

fn is_same_topology(a: &Record, b: &Record) -> bool {
    // All fields are named, so that a new one is decided about.
    let is_same = |a: &Node, b: &Node| {
        let Node { id, local, announced, tls, role, created_at: _, stated: _ } = a;
        (id, local, announced, tls, role) == (&b.id, &b.local, &b.announced, &b.tls, &b.role)
    };
    a.shards.len() == b.shards.len()
        && a.shards.iter().zip(&b.shards).all(|(a, b)| {
            a.slot_ranges == b.slot_ranges
                && a.nodes.len() == b.nodes.len()
                && a.nodes.iter().zip(&b.nodes).all(|(a, b)| is_same(a, b))
        })
}

/// Refuses what would put two nodes at one address and did not before.
pub(super) fn apart(before: &TopologyText, after: &TopologyText) -> Result<(), String> {
    match after.shared.iter().find(|shared| !before.shared.contains(shared)) {
        None => Ok(()),
        Some(shared) => Err(format!("{shared}: announce each at an address of its own")),
    }
}

#[cfg(test)]
mod tests {
    use planner::Stated;
    use topology::Endpoint;

    use super::*;
    use crate::cluster::test_record;

    /// Whether it was rendered, of which nothing else tells.
    fn is_kept(change: fn(&mut Record)) -> bool {
        let was = test_record();
        let known = Arc::new(topology_of(&was).expect("a topology"));
        let mut record = was.next();
        change(&mut record);
        let after = topology_after(&was, &known, &record).expect("a topology");
        // Whichever way it comes about.
        assert_eq!(*after, topology_of(&record).expect("a topology"));
        Arc::ptr_eq(&known.text, &after.text)
    }

    #[test]
    fn a_topology_is_rendered_anew_when_nodes_or_slots_change_and_only_then() {
        let kept: [fn(&mut Record); 5] = [
            |record| record.longest_lease_ms += 1,
            |record| record.shards[0].epoch.number += 1,
            |record| record.shards[0].nodes[0].stated = Some(Stated::default()),
            |record| record.version += 1,
            |record| record.term += 1,
        ];
        for (number, change) in kept.into_iter().enumerate() {
            assert!(is_kept(change), "change {number}");
        }
        let rendered: [fn(&mut Record); 6] = [
            |record| record.shards[0].slot_ranges = vec![(0, 9)],
            |record| record.shards[0].nodes[0].local.port += 1,
            |record| record.shards[0].nodes[0].id = "b".repeat(40),
            |record| {
                let lb = Endpoint { host: "lb".to_owned(), port: 1 };
                record.shards[0].nodes[0].announced = Some(lb);
            },
            |record| record.shards[0].nodes[0].tls.local = std::num::NonZeroU16::new(9),
            |record| {
                let mut replica = record.shards[0].nodes[0].clone();
                (replica.id, replica.local.port) = ("c".repeat(40), 9);
                replica.role = planner::Role::Slave;
                record.shards[0].nodes.push(replica);
            },
        ];
        for (number, change) in rendered.into_iter().enumerate() {
            assert!(!is_kept(change), "change {number}");
        }
    }

    #[test]
    fn a_node_is_sent_ports_of_tls_only_if_it_says_that_it_knows_them() {
        let mut record = test_record();
        let without = topology_of(&record).expect("a topology");
        assert_eq!(without.plain, None);
        record.shards[0].nodes[0].tls.local = std::num::NonZeroU16::new(9);
        let with = topology_of(&record).expect("a topology");
        let answer = |more: &str| {
            let text = format!("role:master\r\nsequence:1\r\nversion:1\r\n{more}");
            Reply::parse(&text).expect("a reply")
        };
        let (older, newer) = (answer(""), answer("endpoint_tls:1\r\n"));
        assert_eq!(with.text_for(Some(&newer)), &with.text);
        assert!(with.text.ends_with(" tls=9,0"), "{}", with.text);
        for of in [None, Some(&older)] {
            assert_eq!(with.text_for(of), &without.text);
        }
        assert_eq!(with.plain_hash().as_deref(), Some(&*without.hash));
        assert_ne!(with.hash, without.hash);
        assert_eq!(without.text_for(Some(&older)), &without.text);
    }

    #[test]
    fn another_master_is_another_topology() {
        let mut was = test_record();
        let mut replica = was.shards[0].nodes[0].clone();
        (replica.id, replica.local.port) = ("c".repeat(40), 9);
        replica.role = planner::Role::Slave;
        was.shards[0].nodes.push(replica);
        let mut record = was.next();
        assert!(record.promote(0, &"c".repeat(40)));
        assert!(!is_same_topology(&was, &record));
    }
}
