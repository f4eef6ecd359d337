//! Which slots a copy has: those that the topology gives to the shard, as far as the data says that
//! they are here.

use std::fmt;

use storage::Store;
use topology::SLOT_COUNT;

use crate::node::Node;

/// The slots of a shard at one moment.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Slots {
    /// Of the topology.
    version: i64,
    /// What its clients would find.
    here: Vec<u16>,
    /// Given to it, and elsewhere: a copy in part, or given away.
    moving: Vec<u16>,
}

impl Slots {
    pub(super) fn of(node: &Node, store: &Store) -> Self {
        let cluster = node.cluster.load();
        let owner = cluster.myself().and_then(|me| match me.role {
            topology::Role::Replica { of } => {
                cluster.topology().ok()?.nodes.iter().find(|other| other.id == of)
            }
            _ => Some(me),
        });
        let Some(owner) = owner else { return Self::default() };
        let marks = store.marks().unwrap_or_default();
        let mut slots = Self { version: cluster.version(), ..Self::default() };
        for slot in 0..SLOT_COUNT {
            let is_given = topology::Slot::new(slot).is_some_and(|slot| owner.slots.contains(slot));
            match marks.serves(slot, is_given, slots.version) {
                true => slots.here.push(slot),
                false if is_given => slots.moving.push(slot),
                false => {}
            }
        }
        slots
    }

    /// What its clients would find, as the name says it.
    pub(super) fn here(&self) -> String {
        ranges(&self.here)
    }
}

/// The lines of the name: `moving` only where there are some.
impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "slots {}", self.here())?;
        match self.moving.is_empty() {
            true => Ok(()),
            false => writeln!(f, "moving {}", ranges(&self.moving)),
        }
    }
}

fn ranges(slots: &[u16]) -> String {
    let runs = slots.chunk_by(|before, slot| before + 1 == *slot);
    let range = |run: &[u16]| match run {
        [first, .., last] => format!("{first}-{last}"),
        run => run.iter().map(u16::to_string).collect(),
    };
    runs.map(range).collect::<Vec<_>>().join(" ")
}
