//! Column families. Their ids are part of every write batch, hence of the WAL and of the
//! replication stream.
//!
//! A database has the first seven of them from its beginning. The eighth is made when something is
//! first put into it: a Kvrocks from before September 2025 opens no database that has it.

/// A column family; the discriminant is its id in write batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// Sub-keys of every type that has them.
    Default = 0,
    /// One entry per user key; the whole value of strings and JSON.
    Metadata = 1,
    /// Sorted sets ordered by score.
    ZsetScore = 2,
    /// Transient: published messages on their way to replicas.
    Pubsub = 3,
    /// Scripts, functions, namespaces, replication id, transient commands.
    Propagate = 4,
    /// Stream entries, groups, consumers, pending entries.
    Stream = 5,
    /// Index definitions and index data of FT.*.
    Search = 6,
    /// From labels to time series; made when it is first needed.
    Index = 7,
}

impl Family {
    /// All families in the order of their ids. The last one is made late.
    pub const ALL: [Self; 8] = [
        Self::Default,
        Self::Metadata,
        Self::ZsetScore,
        Self::Pubsub,
        Self::Propagate,
        Self::Stream,
        Self::Search,
        Self::Index,
    ];

    /// Those that every database has, in the order of their ids. RocksDB numbers families in the
    /// order of creation, so a new directory must create them in exactly this order.
    pub const FIRST: [Self; 7] = {
        let [first @ .., _] = Self::ALL;
        first
    };

    /// Whether it is made when it is first needed.
    pub fn is_late(self) -> bool {
        self == Self::Index
    }

    /// Name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Metadata => "metadata",
            Self::ZsetScore => "zset_score",
            Self::Pubsub => "pubsub",
            Self::Propagate => "propagate",
            Self::Stream => "stream",
            Self::Search => "search",
            Self::Index => "index",
        }
    }

    /// Id in write batches.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The family with this id, if there is one.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_is_that_of_its_family_and_no_other_is_one() {
        for id in (0..300).chain([u32::MAX]) {
            let found = Family::ALL.into_iter().find(|family| u32::from(family.id()) == id);
            assert_eq!(Family::from_id(id), found, "{id}");
        }
    }
}
