//! Which keys were written after a sequence number: found in the log, which is the only place that
//! knows.

use std::collections::HashMap;

use crate::batch::{self, Record};
use crate::key::metadata_key_of;
use crate::{Error, Family, FeedRead, FeedReader, Scope, Store};

/// Read at once.
const READ_BYTES: usize = 1 << 20;

/// How far a search got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caught {
    /// Through everything that was published.
    Up,
    /// The log does not go back that far any more, or is another one: nothing is known.
    Gone,
    /// It was told to end.
    Ended,
}

/// Keys that are watched for, and where in the log the search has got to.
pub struct Since {
    feed: FeedReader,
    /// By key on disk: place among those asked for.
    wanted: HashMap<Vec<u8>, usize>,
    changed: Vec<bool>,
    next: u64,
    cluster: bool,
}

impl Since {
    /// Watches for keys, from the record after `sequence` on.
    pub fn new(store: &Store, scope: &Scope<'_>, keys: &[&[u8]], sequence: u64) -> Self {
        let wanted = keys.iter().enumerate();
        Self {
            feed: store.feed(),
            wanted: wanted.map(|(place, key)| (scope.ns_key(key).to_vec(), place)).collect(),
            changed: vec![false; keys.len()],
            next: sequence + 1,
            cluster: scope.cluster,
        }
    }

    /// Looks through everything that was published, as long as `goes_on`, which is asked every few
    /// ms: a close of the database waits for this reader.
    ///
    /// # Errors
    /// I/O errors.
    pub fn catch_up(&mut self, mut goes_on: impl FnMut() -> bool) -> Result<Caught, Error> {
        loop {
            if !goes_on() {
                return Ok(Caught::Ended);
            }
            match self.feed.read(self.next, READ_BYTES)? {
                FeedRead::UpToDate => return Ok(Caught::Up),
                FeedRead::Gone => return Ok(Caught::Gone),
                FeedRead::Batches(batches) => {
                    for found in &batches {
                        self.note(&found.data)?;
                        self.next = found.end();
                    }
                }
            }
        }
    }

    /// By place of the key: whether a record touched it. Of several places with one key the last
    /// one tells.
    pub fn changed(&self) -> &[bool] {
        &self.changed
    }

    fn note(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for record in batch::records(bytes) {
            match record? {
                Record::LogData(_) => {}
                Record::Put { family, key, .. } | Record::Delete { family, key } => {
                    self.touch(family, key);
                }
                Record::DeleteRange { family, begin, end } => {
                    // Of sub-keys too: a writer that removes all of them removes the metadata as
                    // well.
                    let is_within = |key: &[u8]| begin <= key && key < end;
                    let keys = self.wanted.iter().filter(|_| family == Family::Metadata);
                    for (_, place) in keys.filter(|(key, _)| is_within(key)) {
                        if let Some(changed) = self.changed.get_mut(*place) {
                            *changed = true;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn touch(&mut self, family: Family, key: &[u8]) {
        let place = match family {
            Family::Metadata => self.wanted.get(key).copied(),
            Family::Propagate => None,
            _ => {
                let mut owner = Vec::new();
                let found = metadata_key_of(key, self.cluster, |prefix, user_key| {
                    owner.extend_from_slice(prefix);
                    owner.extend_from_slice(user_key);
                });
                found.and_then(|_| self.wanted.get(owner.as_slice()).copied())
            }
        };
        if let Some(changed) = place.and_then(|place| self.changed.get_mut(place)) {
            *changed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::types::{keys, keyspace, strings};

    #[test]
    fn keys_that_were_written_removed_or_within_a_removed_range_have_changed() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { cluster: true, ..Options::default() };
        let store = Store::open(&dir.path().join("db"), options).unwrap();
        let scope = Scope { namespace: b"__namespace", cluster: true, now_ms: 1 };
        let set = |key: &[u8]| {
            let mut txn = store.txn();
            strings::set(&mut txn, &scope.at(key), b"v", &Default::default()).unwrap();
            txn.commit().unwrap();
            store.publish().unwrap();
        };
        let names: [&[u8]; 5] = [b"written", b"removed", b"ranged", b"sub", b"left"];
        for name in names {
            set(name);
        }
        let fork = store.latest_sequence();
        let mut since = Since::new(&store, &scope, &names, fork);
        assert_eq!(since.catch_up(|| true).unwrap(), Caught::Up);
        assert_eq!(since.changed(), [false; 5]);
        set(b"written");
        assert_eq!(since.catch_up(|| true).unwrap(), Caught::Up);
        let mut txn = store.txn();
        keys::del(&mut txn, &scope, &[b"removed"]).unwrap();
        keyspace::delete_slot(&mut txn, &scope, crate::key::key_slot(b"ranged"));
        txn.put(Family::Default, &scope.sub_key(b"sub", 7, b"field"), b"x");
        txn.commit().unwrap();
        store.publish().unwrap();
        assert_eq!(since.catch_up(|| true).unwrap(), Caught::Up);
        assert_eq!(since.changed(), [true, true, true, true, false]);
        // A place where no batch begins is of another history.
        let mut txn = store.txn();
        txn.put(Family::Default, b"1", b"");
        txn.put(Family::Default, b"2", b"");
        let first = txn.commit().unwrap().unwrap() - 1;
        store.publish().unwrap();
        let mut since = Since::new(&store, &scope, &names, first);
        assert_eq!(since.catch_up(|| true).unwrap(), Caught::Gone);
        assert_eq!(since.catch_up(|| false).unwrap(), Caught::Ended);
    }
}
