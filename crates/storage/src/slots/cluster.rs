//! Which cluster the marks of a database are of, and which slots have keys in it.
//!
//! Marks are records, so they are in every copy of the database: also in a backup that is restored
//! into another cluster, whose record knows nothing of those moves, and at nodes that are taken out
//! of one cluster and into another.

use replication::slots::{Mark, State, Table};
use rocksdb::WriteBatch;

use super::empty;
use super::layout::{bounds, joined, slot_of};
use super::marks::Marks;
use crate::batch::Writer;
use crate::{Direction, Error, Family, Read as _, Store};

/// Key of the record that says it, in the propagate family; the value is the cluster's name.
const KEY: &[u8] = b"__holdfast_cluster__";

impl Store {
    /// Whether the data says that it is that cluster's.
    ///
    /// # Errors
    /// I/O errors.
    pub fn is_of_cluster(&self, name: &str) -> Result<bool, Error> {
        let kept = self.get(Family::Propagate, KEY)?;
        Ok(kept.as_deref() == Some(name.as_bytes()))
    }

    /// Notes whose data this is; how many marks of another cluster were deleted for it, and with
    /// them, in the same batch, what was never this shard's or is not any more: parts of copies,
    /// and what was given away and not deleted yet. Marks of data that does not say are taken for
    /// that cluster's own. To be called by a master, alone with the write gate.
    ///
    /// # Errors
    /// I/O errors.
    pub fn be_of_cluster(&self, name: &str) -> Result<usize, Error> {
        let kept = self.get(Family::Propagate, KEY)?;
        if kept.as_deref() == Some(name.as_bytes()) {
            return Ok(0);
        }
        let marks = self.marks().filter(|_| kept.is_some()).unwrap_or_default();
        let mut writer = Writer::new(Vec::new());
        // As the batches of a move: nothing of it is a client's.
        writer.log(b"M0");
        left_over(marks.table()).into_iter().for_each(|range| empty(&mut writer, range));
        let keys: Vec<Vec<u8>> = marks.table().iter().map(|mark| Mark::key(mark.id)).collect();
        keys.iter().for_each(|key| writer.delete(Family::Propagate, key));
        writer.put(Family::Propagate, &[KEY], &[name.as_bytes()]);
        let bytes = writer.finish();
        let inner = self.inner();
        let batch = WriteBatch::from_data(bytes);
        let mut hot = inner.hot.writing(bytes);
        let _writing = inner.writing.lock();
        self.append_locked(&batch, &mut hot)?;
        if !keys.is_empty() {
            inner.marks.set(Marks::default());
        }
        Ok(keys.len())
    }

    /// Slots with keys that are this shard's by the marks: ranges in order. Reads one record of
    /// each.
    ///
    /// # Errors
    /// I/O errors.
    pub fn occupied(&self) -> Result<Vec<(u16, u16)>, Error> {
        let marks = self.marks().unwrap_or_default();
        let is_foreign = |slot: u16| marks.foreign().iter().any(|&(a, b)| (a..=b).contains(&slot));
        let (_, upper) = bounds(topology::SLOT_COUNT - 1);
        let (mut found, mut from) = (Vec::new(), 0);
        while from < topology::SLOT_COUNT {
            let (lower, _) = bounds(from);
            let mut cursor = self.scan(Family::Metadata, &lower, &upper, Direction::Forward)?;
            let Some(slot) = cursor.next()?.and_then(|(key, _)| slot_of(key)) else { break };
            if !is_foreign(slot) {
                found.push(slot);
            }
            from = slot + 1;
        }
        Ok(joined(found.into_iter()))
    }
}

/// Slots with records that are nobody's, or another shard's.
fn left_over(table: &Table) -> Vec<(u16, u16)> {
    let is_left = |slot: &u16| {
        let state = table.newest(*slot).map(|mark| &mark.state);
        matches!(state, Some(State::Staged { .. } | State::Gone { is_empty: false }))
    };
    joined((0..topology::SLOT_COUNT).filter(is_left))
}

#[cfg(test)]
mod tests {
    use replication::slots::{Cursor, MoveId};

    use super::super::layout::STAGES;
    use super::*;
    use crate::{DEFAULT_NAMESPACE, Options, Scope};

    fn store() -> (Store, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { cluster: true, ..Options::default() };
        (Store::open(&dir.path().join("db"), options).unwrap(), dir)
    }

    /// Keys in the slots 0, 10, 20, … 90, put in a batch of metadata.
    fn fill(store: &Store) {
        let scope = Scope { namespace: DEFAULT_NAMESPACE, cluster: true, now_ms: 0 };
        let mut writer = Writer::new(Vec::new());
        for slot in (0..100).step_by(10) {
            let key = [&scope.slot_prefix(slot)[..], b"k"].concat();
            for family in STAGES {
                writer.put(family, &[&key], &[b"v"]);
            }
        }
        store.append(writer.finish()).unwrap();
    }

    fn records(store: &Store) -> Vec<u16> {
        let mut slots = Vec::new();
        for family in STAGES {
            let mut cursor = store.scan(family, b"", b"", Direction::Forward).unwrap();
            while let Some((key, _)) = cursor.next().unwrap() {
                slots.extend(slot_of(key));
            }
        }
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    fn mark(store: &Store, id: u64, slots: &str, state: State) {
        let version = if matches!(state, State::Staged { .. }) { 0 } else { 7 };
        let mark = Mark { id: MoveId(id), slots: slots.parse().unwrap(), version, state };
        store.put_mark(&mark, false).unwrap();
    }

    #[test]
    fn marks_of_another_cluster_go_with_what_was_not_the_shards() {
        let (store, _dir) = store();
        fill(&store);
        mark(&store, 1, "0-39", State::Held);
        mark(&store, 2, "30-49", State::Gone { is_empty: false });
        mark(&store, 3, "50-59", State::Staged { at: None, cursor: Cursor::End });
        mark(&store, 4, "60-69", State::Gone { is_empty: true });
        assert_eq!(
            store.occupied().unwrap(),
            [(0, 0), (10, 10), (20, 20), (70, 70), (80, 80), (90, 90)]
        );
        let all = records(&store);
        // Marks that do not say whose they are: of an earlier version.
        assert_eq!(store.be_of_cluster("0000000000000001").unwrap(), 0);
        assert_eq!((store.marks().unwrap().table().iter().count(), records(&store)), (4, all));
        let latest = store.latest_sequence();
        assert_eq!(store.be_of_cluster("0000000000000001").unwrap(), 0);
        assert_eq!(store.latest_sequence(), latest, "it says so already");
        assert!(store.is_of_cluster("0000000000000001").unwrap());
        assert!(!store.is_of_cluster("0000000000000002").unwrap());
        assert_eq!(store.be_of_cluster("0000000000000002").unwrap(), 4);
        assert!(store.marks().is_none());
        // 60 is empty by its mark: what lies there was not in the way of anybody.
        assert_eq!(records(&store), [0, 10, 20, 60, 70, 80, 90]);
        store.publish().unwrap();
        assert!(store.is_of_cluster("0000000000000002").unwrap());
    }

    /// A replica has it by the log.
    #[test]
    fn a_replica_forgets_the_marks_with_its_master() {
        let ((store, _dir), (replica, _other)) = (store(), store());
        store.be_of_cluster("0000000000000001").unwrap();
        mark(&store, 1, "0-39", State::Held);
        store.be_of_cluster("0000000000000002").unwrap();
        store.publish().unwrap();
        let crate::FeedRead::Batches(sent) = store.feed().read(1, usize::MAX).unwrap() else {
            panic!("there are batches")
        };
        let has_marks = |batch: &crate::FeedBatch| {
            replica.write_raw(&batch.data).unwrap();
            replica.marks().is_some()
        };
        assert_eq!(sent.iter().map(has_marks).collect::<Vec<_>>(), [false, true, false]);
        assert!(replica.is_of_cluster("0000000000000002").unwrap());
    }
}
