//! The records in the embedded store's file: a JSON document each, by namespace and name.
//!
//! No record is changed but from the one that its change was made of; all in a transaction of the
//! caller's.

use std::collections::BTreeSet;

use planner::Record;
use redb::ReadableTable;

use super::{CLUSTERS, Change, StoreError, engine, log, sealed, unused_elsewhere};
use crate::events::Event;
use crate::seal::Keys;

/// What `read` makes of each record.
pub(super) fn each<T>(
    table: &impl ReadableTable<(&'static str, &'static str), &'static [u8]>,
    read: impl Fn(&[u8]) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut all = Vec::new();
    for row in table.iter().map_err(engine("read clusters"))? {
        let (_, bytes) = row.map_err(engine("read clusters"))?;
        all.push(read(bytes.value())?);
    }
    Ok(all)
}

pub(super) fn records(
    table: &impl ReadableTable<(&'static str, &'static str), &'static [u8]>,
    keys: &Keys,
) -> Result<Vec<Record>, StoreError> {
    each(table, |text| sealed::record(text, keys))
}

/// To compare with: without what is sealed in them.
pub(super) fn all(tx: &redb::WriteTransaction) -> Result<Vec<Record>, StoreError> {
    each(&tx.open_table(CLUSTERS).map_err(engine("open clusters"))?, sealed::bare)
}

/// Reads no other cluster's record but where addresses are new: a change of one must not cost more
/// the more there are.
pub(super) fn swap(
    tx: &redb::WriteTransaction,
    change: &Change,
    keys: &Keys,
) -> Result<(), StoreError> {
    let Change { was, record, .. } = change;
    let old = {
        let table = tx.open_table(CLUSTERS).map_err(engine("open clusters"))?;
        let key = (record.namespace.as_str(), record.name.as_str());
        let bytes =
            table.get(key).map_err(engine("read a cluster"))?.ok_or(StoreError::NotFound)?;
        sealed::bare(bytes.value())?
    };
    if old.tag != was.tag || old.revision != was.revision {
        return Err(StoreError::Conflict);
    }
    if has_new_addresses(&old, record) {
        unused_elsewhere(&all(tx)?, record)?;
    }
    put(tx, record, &change.events(), keys)
}

/// Of nodes or balancers; all others are this cluster's already.
fn has_new_addresses(old: &Record, record: &Record) -> bool {
    let nodes: BTreeSet<_> = old.nodes().map(|(_, node)| &node.local).collect();
    let balancers: BTreeSet<_> = old.balancers.iter().map(|of| &of.endpoint).collect();
    record.nodes().any(|(_, node)| !nodes.contains(&node.local))
        || record.balancers.iter().any(|of| !balancers.contains(&of.endpoint))
}

pub(super) fn put(
    tx: &redb::WriteTransaction,
    record: &Record,
    events: &[Event],
    keys: &Keys,
) -> Result<(), StoreError> {
    let text = sealed::text(record, keys)?;
    let mut table = tx.open_table(CLUSTERS).map_err(engine("open clusters"))?;
    table
        .insert((record.namespace.as_str(), record.name.as_str()), text.as_bytes())
        .map_err(engine("write a cluster"))?;
    events.iter().try_for_each(|event| log::append(tx, event))
}
