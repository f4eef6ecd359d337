//! Copies of records whose keys are longer than a cursor.

use replication::slots::{Cursor, Slots};

use super::{Most, bounds, chunk};
use crate::batch::{Writer, records};
use crate::{Error, Family, Options, Store};

const LENGTH: usize = 1_100_000;
const MAX: Most = Most { bytes: 128 << 10, records: usize::MAX };

/// A database with records in slot 7, and their keys in order.
fn store(keys: impl Iterator<Item = Vec<u8>>) -> (Store, tempfile::TempDir, Vec<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { cluster: true, ..Options::default() };
    let store = Store::open(&dir.path().join("db"), options).unwrap();
    let prefix = bounds(7).0;
    let keys: Vec<Vec<u8>> = keys.map(|rest| [&prefix[..], &rest].concat()).collect();
    for key in &keys {
        let mut writer = Writer::new(Vec::new());
        writer.put(Family::Metadata, &[key], &[b"v"]);
        store.append(writer.finish()).unwrap();
    }
    (store, dir, keys)
}

#[test]
fn a_chunk_ends_between_keys_that_are_longer_than_a_cursor() {
    // The last one alone is short.
    let long = (0..64_u8).map(|first| [&[first][..], &[b'x'; LENGTH]].concat());
    let (store, _dir, keys) = store(long.chain([b"zz".to_vec()]));
    let (snapshot, slots) = (store.snapshot(), "7-8".parse::<Slots>().unwrap());
    let (mut cursor, mut found) = (Cursor::Start, Vec::new());
    while cursor != Cursor::End {
        let part = chunk(&snapshot, &slots, &cursor, MAX).unwrap();
        assert!(part.records.len() < 2 * LENGTH, "{}", part.records.len());
        for record in records(&part.records) {
            let crate::batch::Record::Put { family, key, .. } = record.unwrap() else { panic!() };
            let place = super::position(family, key).unwrap();
            assert!(!cursor.is_above(&place) && part.cursor.is_above(&place));
            found.push(key.to_vec());
        }
        cursor = part.cursor;
    }
    assert!(found == keys, "{} of {}", found.len(), keys.len());
}

/// No cursor names a place among them: a person is told, instead of memory being taken for all.
#[test]
fn keys_that_begin_alike_for_longer_than_a_cursor_are_refused() {
    let alike = |count: u8| (0..count).map(|last| [&[b'x'; LENGTH][..], &[last]].concat());
    let (few, _dir, keys) = store(alike(4));
    let slots: Slots = "7".parse().unwrap();
    let part = chunk(&few.snapshot(), &slots, &Cursor::Start, MAX).unwrap();
    assert_eq!(records(&part.records).count(), keys.len());
    let rest = chunk(&few.snapshot(), &slots, &part.cursor, MAX).unwrap();
    assert_eq!(
        (rest.records.is_empty() || records(&rest.records).count() == 0, rest.cursor),
        (true, Cursor::End)
    );
    let (many, _dir, _) = store(alike(70));
    let refused = chunk(&many.snapshot(), &slots, &Cursor::Start, MAX);
    assert!(
        matches!(refused, Err(Error::TooLarge { .. })),
        "{:?}",
        refused.map(|part| part.cursor)
    );
}
