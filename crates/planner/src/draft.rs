//! What one shard is to be in the next record.
//!
//! A copy of that shard alone: where a thousand masters of one cluster are lost in one moment, as
//! many changes are made by one plan, and the record with all its nodes is copied once for them.

use crate::{Record, Shard};

/// A shard before it is changed, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    /// Of the topology that the change is in.
    pub(crate) version: i64,
    /// As it is to be.
    pub(crate) shard: Shard,
}

impl Draft {
    /// The shard at `index`, from 0, as it is.
    pub(crate) fn of(record: &Record, index: usize) -> Self {
        Self { version: record.version, shard: record.shards[index].clone() }
    }
}
