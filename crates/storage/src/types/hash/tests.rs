use std::collections::HashSet;

use super::*;
use crate::key::DEFAULT_NAMESPACE;
use crate::types::pick::{Element, Picked, Wanted};
use crate::{Options, Scope, Store};

const SCOPE: Scope<'static> = Scope { namespace: DEFAULT_NAMESPACE, cluster: false, now_ms: 1 };

fn filled(count: u32) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { block_cache_size: 1 << 20, ..Options::default() };
    let store = Store::open(dir.path(), options).unwrap();
    let fields: Vec<Vec<u8>> = (0..count).map(|n| format!("{n:x}").into_bytes()).collect();
    let pairs: Vec<(&[u8], &[u8])> = fields.iter().map(|field| (&**field, &**field)).collect();
    let mut txn = store.txn();
    assert_eq!(set(&mut txn, &SCOPE.at(b"h"), &pairs).unwrap(), u64::from(count));
    txn.commit().unwrap();
    (dir, store)
}

fn all(picked: &Picked) -> Vec<Element> {
    let mut all = Vec::new();
    let visit = |name: &[u8], value: &[u8]| {
        all.push((name.to_vec(), value.to_vec()));
        Ok::<_, Error>(())
    };
    picked.each(visit).unwrap();
    all
}

#[test]
fn random_fields_are_as_many_as_wanted_and_all_of_the_hash() {
    for count in [1, 7, 12_000] {
        let (_dir, store) = filled(count);
        let snapshot = store.snapshot();
        let picked = |wanted| all(&pick(&snapshot, &SCOPE.at(b"h"), wanted).unwrap().unwrap());
        let different = |found: &[Element]| {
            assert!(found.iter().all(|(field, value)| field == value));
            found.iter().map(|(field, _)| field.clone()).collect::<HashSet<_>>().len() as u64
        };
        for wanted in [0, 1, 5, 300, 20_000] {
            let found = picked(Wanted::Distinct(wanted));
            let expected = wanted.min(u64::from(count));
            assert_eq!((found.len() as u64, different(&found)), (expected, expected));
            let found = picked(Wanted::Repeated(wanted));
            assert_eq!(found.len() as u64, wanted);
            different(&found);
        }
    }
}

#[test]
fn a_snapshot_keeps_what_a_transaction_had_written_and_no_more() {
    let (_dir, store) = filled(3);
    let at = SCOPE.at(b"h");
    let before = store.snapshot();
    let mut txn = store.txn();
    set(&mut txn, &at, &[(b"own", b"1")]).unwrap();
    del(&mut txn, &at, &[b"0"]).unwrap();
    let within = txn.snapshot();
    set(&mut txn, &at, &[(b"later", b"1")]).unwrap();
    let fields = |read: &Snapshot<'_>| {
        let mut fields = Vec::new();
        for_each(read, &at, |field, _| fields.push(String::from_utf8(field.to_vec()).unwrap()))
            .unwrap();
        fields
    };
    assert_eq!(fields(&within), ["1", "2", "own"]);
    assert_eq!(fields(&txn.snapshot()), ["1", "2", "later", "own"]);
    txn.commit().unwrap();
    assert_eq!(fields(&before), ["0", "1", "2"]);
    assert_eq!((len(&before, &at).unwrap(), len(&store, &at).unwrap()), (3, 4));
    let mut own = Vec::new();
    let visit = |value: Option<&[u8]>| {
        own.push(value.is_some());
        Ok(())
    };
    mget(&before, &at, &[b"own", b"0"], visit).unwrap();
    assert_eq!(own, [false, true]);
}

#[test]
fn the_first_end_makes_another_hash_of_it_in_one_batch() {
    let (_dir, store) = filled(3);
    let at = SCOPE.at(b"h");
    let before = find(&store, &at).unwrap().unwrap();
    let plain = crate::types::keys::ExpireCondition::default();
    let mut txn = store.txn();
    let done = expire(&mut txn, &at, &[b"1", b"nope"], (900, plain)).unwrap();
    assert_eq!(done, [Expired::Set, Expired::NoField]);
    // Three fields and the metadata, under another version.
    assert_eq!(txn.count(), 4);
    let mut batch = Vec::new();
    txn.commit_and_tell(|bytes| batch = bytes.to_vec()).unwrap();
    let first = crate::batch::records(&batch).next().unwrap().unwrap();
    assert_eq!(first, crate::batch::Record::LogData(b"2 13 1"));
    let after = find(&store, &at).unwrap().unwrap();
    assert_ne!(*before.sub_key(b"1"), *after.sub_key(b"1"));
    let times = fields::Times { endless: 2, lower_ms: 900, upper_ms: 900 };
    assert_eq!((after.size, after.tail), (3, Form::Timed(times)));
    let stored = |field| after.element(&store, FIELDS, field).unwrap().unwrap().to_vec();
    assert_eq!(stored(b"1"), b"\0\0\0\0\0\0\x03\x841");
    assert_eq!(stored(b"2"), b"\0\0\0\0\0\0\0\x002");
    let mut txn = store.txn();
    assert_eq!(
        persist(&mut txn, &at, &[b"1", b"1"]).unwrap(),
        [Persisted::Done, Persisted::Endless]
    );
    assert_eq!(txn.count(), 2);
    let unmet = crate::types::keys::ExpireCondition { only_later: true, ..plain };
    assert_eq!(expire(&mut store.txn(), &at, &[b"2"], (900, unmet)).unwrap(), [Expired::NotMet]);
}

#[test]
fn of_a_large_hash_only_fields_that_are_there_are_drawn() {
    let (_dir, store) = filled(12_000);
    let names: Vec<Vec<u8>> = (0..11_000).map(|n| format!("{n:x}").into_bytes()).collect();
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let mut txn = store.txn();
    expire(&mut txn, &SCOPE.at(b"h"), &names, (5, Default::default())).unwrap();
    txn.commit().unwrap();
    let later = Scope { now_ms: 6, ..SCOPE };
    let snapshot = store.snapshot();
    assert_eq!(len(&snapshot, &later.at(b"h")).unwrap(), 1000);
    for wanted in [Wanted::Distinct(5), Wanted::Repeated(5), Wanted::Distinct(20_000)] {
        let found = all(&pick(&snapshot, &later.at(b"h"), wanted).unwrap().unwrap());
        let count = if wanted == Wanted::Distinct(20_000) { 1000 } else { 5 };
        assert_eq!(found.len(), count, "{wanted:?}");
        assert!(found.iter().all(|(field, value)| field == value && !names.contains(&&**field)));
    }
}

#[test]
fn setnx_takes_what_has_ended_for_nothing_and_leaves_what_is_there() {
    let (_dir, store) = filled(3);
    let mut txn = store.txn();
    expire(&mut txn, &SCOPE.at(b"h"), &[b"1"], (5, Default::default())).unwrap();
    txn.commit().unwrap();
    let later = Scope { now_ms: 6, ..SCOPE };
    let at = later.at(b"h");
    let mut txn = store.txn();
    assert!(!setnx(&mut txn, &SCOPE.at(b"h"), b"1", b"x").unwrap());
    assert!(!setnx(&mut txn, &at, b"2", b"x").unwrap());
    assert_eq!(txn.count(), 0);
    assert!(setnx(&mut txn, &at, b"1", b"x").unwrap());
    assert!(setnx(&mut txn, &at, b"new", b"x").unwrap());
    assert!(!setnx(&mut txn, &at, b"new", b"y").unwrap());
    txn.commit().unwrap();
    let mut values = Vec::new();
    let visit = |value: Option<&[u8]>| {
        values.push(value.map(<[u8]>::to_vec));
        Ok(())
    };
    mget(&store, &at, &[b"1", b"2", b"new"], visit).unwrap();
    assert_eq!(values, [Some(b"x".to_vec()), Some(b"2".to_vec()), Some(b"x".to_vec())]);
    assert_eq!(len(&store, &at).unwrap(), 4);
}
