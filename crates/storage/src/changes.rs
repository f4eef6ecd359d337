//! Which keys a write batch changes: told by the batch itself, so that its writer makes no
//! difference.

use std::collections::HashMap;

use crate::batch::{self, Record};
use crate::key::{is_of_group, split_internal, split_namespace};
use crate::scope::namespace_of_range;
use crate::types::head::Header;
use crate::{Family, Name};

/// Key of the record that holds all tokens of namespaces, in the family `propagate`.
pub const NAMESPACES: &[u8] = b"__namespace_keys__";

/// What one record changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// This key is made, deleted, or changed in what is known of it as a whole: its size, its
    /// expiry, the value of a string.
    Key(Name<'a>),
    /// This key holds nothing, by its metadata alone: it was emptied, or there was none before.
    Emptied(Name<'a>),
    /// Something in this key. Alone this makes and fills no key.
    Part(Name<'a>),
    /// What a group of consumers of this stream has got: nothing in the stream.
    Group(Name<'a>),
    /// Keys that are not named: a range of them was removed.
    Range {
        /// Whose they are; `None`: perhaps of several namespaces.
        namespace: Option<&'a [u8]>,
    },
    /// The tokens of namespaces: all of them, as JSON.
    Namespaces(&'a [u8]),
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

/// What a batch changes, record by record: a key comes as often as it has records. In a cluster
/// keys carry their slot. Records that cannot be read change nothing.
pub fn of(bytes: &[u8], cluster: bool) -> impl Iterator<Item = Change<'_>> {
    batch::records(bytes).map_while(Result::ok).filter_map(move |record| {
        let (family, key, value) = match record {
            Record::LogData(_) => return None,
            Record::DeleteRange { family: Family::Propagate | Family::Index, .. } => return None,
            Record::DeleteRange { family: Family::Metadata, begin, end } => {
                return Some(Change::Range { namespace: namespace_of_range(begin, end) });
            }
            Record::DeleteRange { .. } => return Some(Change::Range { namespace: None }),
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
                let (namespace, rest) = split_namespace(key)?;
                let key = if cluster { rest.get(2..)? } else { rest };
                let name = Name { namespace, key };
                Some(if is_empty { Change::Emptied(name) } else { Change::Key(name) })
            }
            Family::Default | Family::ZsetScore | Family::Stream => {
                let is_group = family == Family::Stream && is_of_group(key, cluster);
                let (prefix, key, _) = split_internal(key, cluster)?;
                let (namespace, _) = split_namespace(prefix)?;
                let name = Name { namespace, key };
                Some(if is_group { Change::Group(name) } else { Change::Part(name) })
            }
            Family::Propagate if key == NAMESPACES => value.map(Change::Namespaces),
            // What leads to keys changes none.
            Family::Propagate | Family::Pubsub | Family::Search | Family::Index => None,
        }
    })
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It holds something.
    Kept,
    /// It holds nothing, by its metadata.
    Emptied,
    /// It was deleted.
    Deleted,
}

/// What became of each key whose records these are, by the id of its name, in the order in which
/// they come first.
pub(crate) fn outcomes(
    records: batch::Records<'_>,
    cluster: bool,
    now_ms: u64,
) -> Vec<(Vec<u8>, Outcome)> {
    let mut found: Vec<(Vec<u8>, Outcome)> = Vec::new();
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    for record in records.map_while(Result::ok) {
        let (family, key, outcome) = match record {
            Record::Put { family, key, value } => {
                let header = Header::decode(value).filter(|_| family == Family::Metadata);
                let outcome = match header {
                    Some(header) if header.is_empty() => Outcome::Emptied,
                    // Its end was set into the past.
                    Some(header) if header.is_expired(now_ms) => Outcome::Deleted,
                    _ => Outcome::Kept,
                };
                (family, key, outcome)
            }
            Record::Delete { family: Family::Metadata, key } => {
                (Family::Metadata, key, Outcome::Deleted)
            }
            Record::Delete { family, key } => (family, key, Outcome::Kept),
            Record::DeleteRange { .. } | Record::LogData(_) => continue,
        };
        let is_metadata = family == Family::Metadata;
        let name = match family {
            Family::Metadata => split_namespace(key).and_then(|(namespace, rest)| {
                let key = if cluster { rest.get(2..)? } else { rest };
                Some(Name { namespace, key })
            }),
            Family::Default | Family::ZsetScore | Family::Stream => split_internal(key, cluster)
                .and_then(|(prefix, key, _)| {
                    let (namespace, _) = split_namespace(prefix)?;
                    Some(Name { namespace, key })
                }),
            Family::Propagate | Family::Pubsub | Family::Search | Family::Index => None,
        };
        let Some(id) = name.map(|name| name.id()) else { continue };
        match places.get(&*id).and_then(|place| found.get_mut(*place)) {
            // What its metadata says last counts.
            Some(known) if is_metadata => known.1 = outcome,
            Some(_) => {}
            None => {
                places.insert(id.to_vec(), found.len());
                found.push((id.to_vec(), outcome));
            }
        }
    }
    found
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
    use crate::Scope;
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
            let (entry, group) = ([u8::MAX; 16], [&[u8::MAX; 8][..], b"\x01", &[0; 8]].concat());
            writer.put(Family::Stream, &[&mine.sub_key(b"x", 7, &entry)], &[b"v"]);
            writer.delete(Family::Stream, &mine.sub_key(b"x", 7, &group));
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
            let prefix = other.namespace_prefix();
            writer.delete_range(Family::Metadata, &prefix, &crate::key::prefix_end(&prefix));
            writer.put(Family::Propagate, &[NAMESPACES], &[b"{}"]);
            let bytes: &[u8] = writer.finish();
            let found: Vec<Change<'_>> = of(bytes, cluster).collect();
            let (mine, other) = (|key| mine.name(key), |key| other.name(key));
            let expected = [
                Change::Key(mine(b"a")),
                Change::Part(mine(b"h")),
                Change::Part(mine(b"z")),
                Change::Key(other(b"b")),
                Change::Part(other(b"b")),
                Change::Part(mine(b"x")),
                Change::Group(mine(b"x")),
                // A set without members, and a stream, which may be without entries.
                Change::Emptied(mine(b"e")),
                Change::Key(mine(b"s")),
                Change::Range { namespace: None },
                Change::Range { namespace: Some(b"other") },
                Change::Namespaces(b"{}"),
            ];
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn messages_are_told_in_order() {
        let mut writer = Writer::new(Vec::new());
        writer.put(Family::Pubsub, &[b"news"], &[b"a"]);
        writer.delete(Family::Pubsub, &shard_message(b"shard", b"b"));
        writer.delete(Family::Pubsub, b"foreign");
        writer.put(Family::Pubsub, &[b"news"], &[b"c"]);
        let bytes: &[u8] = writer.finish();
        let message = |is_shard, channel, text| Change::Message { is_shard, channel, text };
        let found: Vec<Change<'_>> = of(bytes, false).collect();
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
            let _ = of(&bytes, cluster).count();
        }
    }
}
