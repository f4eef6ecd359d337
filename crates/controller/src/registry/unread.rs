//! Clusters of a shared store whose record cannot be read here.

use std::collections::BTreeSet;

use planner::Record;

use super::{Key, Registry};

impl Registry {
    /// Notes which records a look could read, and which not.
    pub(super) fn could_read(
        &self,
        read: &[Record],
        (not, locks): (Vec<(Key, String)>, BTreeSet<Key>),
        names: &BTreeSet<Key>,
    ) {
        let mut unread = self.unread.lock();
        let mut locked = self.locked.lock();
        for (key, _) in &not {
            locked.remove(key);
        }
        locked.extend(locks);
        for record in read {
            let key = (record.namespace.clone(), record.name.clone());
            locked.remove(&key);
            if unread.remove(&key).is_some() {
                let cluster = format!("{}/{}", key.0, key.1);
                tracing::info!(cluster, "its record can be read again");
            }
        }
        for (key, why) in not {
            let cluster = format!("{}/{}", key.0, key.1);
            let known = unread.insert(key, why.clone());
            if known.is_none_or(|known| known != why) {
                tracing::warn!(
                    cluster,
                    why,
                    "the record of this cluster cannot be read: it is not looked after from here"
                );
            }
        }
        unread.retain(|key, _| names.contains(key));
        locked.retain(|key| names.contains(key));
    }

    /// Why this process must not lead: secrets of a cluster do not open here.
    pub(crate) fn locked(&self) -> Option<String> {
        let (namespace, name) = self.locked.lock().first()?.clone();
        self.unread(&namespace, &name)
    }

    /// Whether there is a record that cannot be read.
    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.lock().is_empty()
    }

    /// Why the record of this cluster cannot be read, if it is there.
    pub(crate) fn unread(&self, namespace: &str, name: &str) -> Option<String> {
        let key = (namespace.to_owned(), name.to_owned());
        self.unread.lock().get(&key).cloned()
    }

    /// How many records cannot be read.
    pub(crate) fn unread_count(&self) -> usize {
        self.unread.lock().len()
    }
}
