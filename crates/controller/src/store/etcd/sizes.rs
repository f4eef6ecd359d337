//! How large each record is in the etcd, as it was read or written last. It costs no call: a look
//! shows each record that changed, and a leader writes the others itself.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use super::wire::Pair;

/// Namespace and name of a cluster.
type Key = (String, String);

/// Bytes of each record, by its cluster.
#[derive(Debug, Default)]
pub(super) struct Sizes(Mutex<BTreeMap<Key, usize>>);

impl Sizes {
    /// A record was written.
    pub(super) fn wrote(&self, namespace: &str, name: &str, bytes: usize) {
        self.0.lock().insert((namespace.to_owned(), name.to_owned()), bytes);
    }

    /// These were read, by what `named` makes of their keys, and there are no others than `names`.
    pub(super) fn read(
        &self,
        pairs: &[Pair],
        named: impl Fn(&Pair) -> Option<Key>,
        names: &BTreeSet<Key>,
    ) {
        let mut known = self.0.lock();
        known.extend(pairs.iter().filter_map(|pair| Some((named(pair)?, pair.value.len()))));
        known.retain(|key, _| names.contains(key));
    }

    /// As far as it is known.
    pub(super) fn of(&self, namespace: &str, name: &str) -> Option<usize> {
        self.0.lock().get(&(namespace.to_owned(), name.to_owned())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_that_of_the_newest_record_and_ends_with_its_cluster() {
        let sizes = Sizes::default();
        let pair = |name: &str, bytes| Pair { key: name.to_owned(), value: "x".repeat(bytes) };
        let named = |pair: &Pair| Some(("n".to_owned(), pair.key.clone()));
        let names = |all: &[&str]| {
            let key = |name: &&str| ("n".to_owned(), (*name).to_owned());
            all.iter().map(key).collect::<BTreeSet<Key>>()
        };
        sizes.read(&[pair("c", 10), pair("d", 20)], named, &names(&["c", "d"]));
        sizes.wrote("n", "c", 11);
        // Nothing that changed.
        sizes.read(&[], named, &names(&["c", "d"]));
        assert_eq!((sizes.of("n", "c"), sizes.of("n", "d")), (Some(11), Some(20)));
        sizes.read(&[pair("c", 12)], named, &names(&["c"]));
        assert_eq!((sizes.of("n", "c"), sizes.of("n", "d")), (Some(12), None));
    }
}
