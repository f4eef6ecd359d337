//! Which keys a write batch changes: told by the batch itself, so that it is the same whoever wrote
//! it.

use crate::batch::{self, Record};
use crate::key::split_internal;
use crate::{Family, Scope};

/// What one record changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// This key is made, deleted, or changed in what is known of it as a whole: its size, its
    /// expiry, the value of a string.
    Key(&'a [u8]),
    /// Something in this key. Alone this makes and fills no key.
    Part(&'a [u8]),
    /// Keys that are not named: a range of them was removed.
    Range,
}

/// What a batch changes in the namespace of `scope`, record by record: a key comes as often as it
/// has records. Records that cannot be read change nothing.
pub fn of<'a>(bytes: &'a [u8], scope: &Scope<'a>) -> impl Iterator<Item = Change<'a>> {
    let scope = *scope;
    batch::records(bytes).map_while(Result::ok).filter_map(move |record| {
        let (family, key) = match record {
            Record::LogData(_) => return None,
            Record::DeleteRange { family: Family::Propagate, .. } => return None,
            Record::DeleteRange { .. } => return Some(Change::Range),
            Record::Put { family, key, .. } | Record::Delete { family, key } => (family, key),
        };
        match family {
            Family::Metadata => scope.user_key(key).map(Change::Key),
            Family::Default | Family::ZsetScore | Family::Stream => {
                let (prefix, owner, _) = split_internal(key, scope.cluster)?;
                scope.owns(prefix).then_some(Change::Part(owner))
            }
            Family::Propagate | Family::Pubsub | Family::Search => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::Writer;

    fn scope(namespace: &'static [u8], cluster: bool) -> Scope<'static> {
        Scope { namespace, cluster, now_ms: 0 }
    }

    #[test]
    fn keys_are_told_by_their_metadata_and_by_their_sub_keys() {
        for cluster in [false, true] {
            let (mine, other) = (scope(b"__namespace", cluster), scope(b"other", cluster));
            let mut writer = Writer::new(Vec::new());
            writer.put(Family::Metadata, &[&mine.ns_key(b"a")], &[b"v"]);
            writer.put(Family::Default, &[&mine.sub_key(b"h", 7, b"field")], &[b"v"]);
            writer.delete(Family::ZsetScore, &mine.sub_key(b"z", 7, b"score"));
            writer.put(Family::Metadata, &[&other.ns_key(b"b")], &[b"v"]);
            writer.put(Family::Default, &[&other.sub_key(b"b", 7, b"field")], &[b"v"]);
            writer.put(Family::Propagate, &[b"lua"], &[b"v"]);
            writer.delete_range(Family::Metadata, b"a", b"b");
            let bytes: &[u8] = writer.finish();
            let found: Vec<Change<'_>> = of(bytes, &mine).collect();
            let parts = [&b"h"[..], b"z"].map(Change::Part);
            assert_eq!(found, [&[Change::Key(b"a")], &parts[..], &[Change::Range]].concat());
        }
    }

    proptest! {
        #[test]
        fn foreign_batches_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), cluster: bool) {
            let _ = of(&bytes, &scope(b"__namespace", cluster)).count();
        }
    }
}
