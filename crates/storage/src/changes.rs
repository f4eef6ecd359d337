//! Which keys a write batch changes: told by the batch itself, so that it is the same whoever wrote
//! it.

use crate::batch::{self, Record};
use crate::key::split_internal;
use crate::types::head::Header;
use crate::{Family, Scope};

/// What one record changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// This key is made, deleted, or changed in what is known of it as a whole: its size, its
    /// expiry, the value of a string.
    Key(&'a [u8]),
    /// This key holds nothing, by its metadata alone: it was emptied, or there was none before.
    Emptied(&'a [u8]),
    /// Something in this key. Alone this makes and fills no key.
    Part(&'a [u8]),
    /// Keys that are not named: a range of them was removed.
    Range,
    /// Nothing that stays: a message to a channel. PUBLISH writes it as Kvrocks does, channel and
    /// text as a record of the family `pubsub`; SPUBLISH, which Kvrocks does not have, as the
    /// deletion of a key that holds both, so that a replica that does not know it finds nothing.
    Message {
        /// To a shard channel.
        is_shard: bool,
        /// Where to.
        channel: &'a [u8],
        /// What.
        text: &'a [u8],
    },
}

/// What a batch changes in the namespace of `scope`, record by record: a key comes as often as it
/// has records. Records that cannot be read change nothing.
pub fn of<'a>(bytes: &'a [u8], scope: &Scope<'a>) -> impl Iterator<Item = Change<'a>> {
    let scope = *scope;
    batch::records(bytes).map_while(Result::ok).filter_map(move |record| {
        let (family, key, value) = match record {
            Record::LogData(_) => return None,
            Record::DeleteRange { family: Family::Propagate, .. } => return None,
            Record::DeleteRange { .. } => return Some(Change::Range),
            Record::Put { family: Family::Pubsub, key, value } => {
                return Some(Change::Message { is_shard: false, channel: key, text: value });
            }
            Record::Delete { family: Family::Pubsub, key } => {
                let (channel, text) = split_shard_message(key)?;
                return Some(Change::Message { is_shard: true, channel, text });
            }
            Record::Put { family, key, value } => (family, key, Some(value)),
            Record::Delete { family, key } => (family, key, None),
        };
        match family {
            Family::Metadata => {
                let is_empty =
                    value.and_then(Header::decode).is_some_and(|header| header.is_empty());
                scope.user_key(key).map(if is_empty { Change::Emptied } else { Change::Key })
            }
            Family::Default | Family::ZsetScore | Family::Stream => {
                let (prefix, owner, _) = split_internal(key, scope.cluster)?;
                scope.owns(prefix).then_some(Change::Part(owner))
            }
            Family::Propagate | Family::Pubsub | Family::Search => None,
        }
    })
}

/// The key whose deletion is a message to a shard channel: the channel's length, the channel, the
/// text.
pub fn shard_message(channel: &[u8], text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(channel.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], channel, text].concat()
}

fn split_shard_message(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = key.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
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
            writer.put(
                Family::Metadata,
                &[&mine.ns_key(b"e")],
                &[b"\x84", &[0; 8], &[7; 8], &[0; 8]],
            );
            writer.put(
                Family::Metadata,
                &[&mine.ns_key(b"s")],
                &[b"\x88", &[0; 8], &[7; 8], &[0; 8]],
            );
            writer.delete_range(Family::Metadata, b"a", b"b");
            let bytes: &[u8] = writer.finish();
            let found: Vec<Change<'_>> = of(bytes, &mine).collect();
            let parts = [&b"h"[..], b"z"].map(Change::Part);
            // A set without members, and a stream, which may be without entries.
            let rest = [Change::Emptied(b"e"), Change::Key(b"s"), Change::Range];
            assert_eq!(found, [&[Change::Key(b"a")], &parts[..], &rest].concat());
        }
    }

    #[test]
    fn messages_are_told_in_order() {
        let mine = scope(b"__namespace", false);
        let mut writer = Writer::new(Vec::new());
        writer.put(Family::Pubsub, &[b"news"], &[b"a"]);
        writer.delete(Family::Pubsub, &shard_message(b"shard", b"b"));
        writer.delete(Family::Pubsub, b"foreign");
        writer.put(Family::Pubsub, &[b"news"], &[b"c"]);
        let bytes: &[u8] = writer.finish();
        let message = |is_shard, channel, text| Change::Message { is_shard, channel, text };
        let found: Vec<Change<'_>> = of(bytes, &mine).collect();
        let expected = [
            message(false, b"news", b"a"),
            message(true, b"shard", b"b"),
            message(false, b"news", b"c"),
        ];
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn foreign_batches_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), cluster: bool) {
            let _ = of(&bytes, &scope(b"__namespace", cluster)).count();
        }
    }
}
