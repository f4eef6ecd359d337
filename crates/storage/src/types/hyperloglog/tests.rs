use super::*;
use crate::Store;
use crate::types::bench::{SCOPE, store};
use crate::types::head::Metadata;

fn foreign(store: &Store, key: &str, tail: &[u8], segment: &[u8]) {
    let mut metadata = Metadata::new(Type::HyperLogLog, 7);
    metadata.tail = tail.to_vec();
    let mut txn = store.txn();
    txn.put(Family::Default, &SCOPE.sub_key(key.as_bytes(), 7, b"3"), segment);
    txn.put(Family::Metadata, &SCOPE.ns_key(key.as_bytes()), &metadata.encode());
    txn.commit().unwrap();
}

#[test]
fn segments_of_another_length_and_other_encodings_are_errors() {
    let (_dir, store) = store();
    foreign(&store, "short", &[0], &[1; 700]);
    foreign(&store, "encoding", &[1], &[1; 768]);
    foreign(&store, "full", &[0], &[0xff; 768]);
    assert!(matches!(count(&store, &SCOPE, &[b"short"]), Err(CommandError::Storage(_))));
    assert!(matches!(count(&store, &SCOPE, &[b"encoding"]), Err(CommandError::WrongType)));
    assert!(count(&store, &SCOPE, &[b"full"]).unwrap() > 0);
    let mut txn = store.txn();
    assert!(merge(&mut txn, &SCOPE.at(b"d"), &[b"full", b"short"]).is_err());
    merge(&mut txn, &SCOPE.at(b"d"), &[b"full"]).unwrap();
    let there = count(&txn, &SCOPE, &[b"d"]).unwrap();
    assert_eq!(there, count(&store, &SCOPE, &[b"full"]).unwrap());
}

#[test]
fn a_merge_writes_what_it_changes_and_keeps_the_lifetime() {
    let (_dir, store) = store();
    let elements: Vec<String> = (0..3000).map(|number| format!("e{number}")).collect();
    let elements: Vec<&[u8]> = elements.iter().map(String::as_bytes).collect();
    let mut txn = store.txn();
    assert!(add(&mut txn, &SCOPE.at(b"a"), &elements[..2000]).unwrap());
    assert!(add(&mut txn, &SCOPE.at(b"b"), &elements[1000..]).unwrap());
    assert!(!add(&mut txn, &SCOPE.at(b"b"), &elements[1000..]).unwrap());
    let mut object = Object::<HyperLogLog>::find(&txn, &SCOPE.at(b"a")).unwrap().unwrap();
    object.set_expire_ms(99);
    object.store(&mut txn, IfEmpty::Keep);
    txn.commit().unwrap();
    let together = count(&store, &SCOPE, &[b"a", b"b", b"none"]).unwrap();
    assert!(together.abs_diff(3000) < 60, "{together}");
    let mut txn = store.txn();
    merge(&mut txn, &SCOPE.at(b"a"), &[b"b", b"none"]).unwrap();
    assert!(txn.commit().unwrap().is_some());
    assert_eq!(count(&store, &SCOPE, &[b"a"]).unwrap(), together);
    let object = Object::<HyperLogLog>::find(&store, &SCOPE.at(b"a")).unwrap().unwrap();
    assert_eq!(object.expire_ms(), 99);
    let mut txn = store.txn();
    merge(&mut txn, &SCOPE.at(b"a"), &[b"b", b"a"]).unwrap();
    assert!(txn.commit().unwrap().is_none());
}
