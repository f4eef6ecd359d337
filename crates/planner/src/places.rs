//! Where each node stands in a record: looked up for every heartbeat and answer, and made once for
//! each record, so that neither walks through all nodes.

use std::collections::HashMap;

use crate::{Node, Record, Shard};

/// Where the nodes of one record stand. Of another record it finds what stands in the same place
/// there under the same id, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places(HashMap<String, Place>);

/// From 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    shard: usize,
    node: usize,
}

impl Places {
    /// Of every node of `record`.
    pub fn of(record: &Record) -> Self {
        let mut places = HashMap::new();
        for (index, shard) in record.shards.iter().enumerate() {
            for (place, node) in shard.nodes.iter().enumerate() {
                places.insert(node.id.clone(), Place { shard: index, node: place });
            }
        }
        Self(places)
    }

    /// The node of that id and the shard that has it.
    pub fn find<'a>(&self, record: &'a Record, id: &str) -> Option<(&'a Shard, &'a Node)> {
        let Place { shard, node } = *self.0.get(id)?;
        let shard = record.shards.get(shard)?;
        let node = shard.nodes.get(node).filter(|node| node.id == id)?;
        Some((shard, node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShardId;
    use crate::tests::{id, record};

    #[test]
    fn each_node_is_found_in_its_shard_and_nobody_elses() {
        let mut two = record(&["a", "b"]);
        let mut other = record(&["c", "d", "e"]).shards.remove(0);
        other.id = ShardId(77);
        two.shards.push(other);
        let places = Places::of(&two);
        for (index, node) in two.nodes() {
            let found = places.find(&two, &node.id).expect("a place");
            assert_eq!(found, (&two.shards[index], node));
        }
        assert_eq!(places.find(&two, &id("x")), None);
        // Of a record that has changed it tells nothing wrong.
        let mut next = two.clone();
        next.shards[1].nodes.remove(0);
        assert_eq!(places.find(&next, &id("d")), None);
        assert_eq!(places.find(&next, &id("a")), Some((&next.shards[0], &next.shards[0].nodes[0])));
        next.shards.remove(1);
        assert_eq!(places.find(&next, &id("e")), None);
    }
}
