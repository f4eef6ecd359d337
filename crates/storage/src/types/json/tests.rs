use super::*;
use crate::types::bench::{SCOPE, store};

const TEXT: Form = Form { format: Format::Text, depth_max: DEPTH_MAX };
const CBOR: Form = Form { format: Format::Cbor, depth_max: DEPTH_MAX };

fn entry(read: &impl Read, key: &[u8]) -> Vec<u8> {
    read.get(Family::Metadata, &SCOPE.ns_key(key)).unwrap().unwrap().to_vec()
}

fn text(read: &impl Read, key: &[u8]) -> String {
    to_text(&get(read, &SCOPE.at(key)).unwrap().unwrap(), DEPTH_MAX).unwrap()
}

/// As recorded, but for its time.
#[test]
fn a_document_is_kept_as_kvrocks_keeps_it() {
    let (_dir, store) = store();
    let mut txn = store.txn();
    let at = SCOPE.at(b"j");
    set(&mut txn, &at, TEXT, b"$", b"[1, 2]").unwrap();
    assert_eq!(entry(&txn, b"j"), b"\x8a\0\0\0\0\0\0\0\0\0[1,2]");
    set(&mut txn, &at, CBOR, b"$[0]", b"3").unwrap();
    assert_eq!(entry(&txn, b"j"), b"\x8a\0\0\0\0\0\0\0\0\x01\x82\x03\x02");
    assert_eq!(stored(&txn, &at).unwrap(), Some((Format::Cbor, 3)));
    assert_eq!(text(&txn, b"j"), "[3,2]");
}

#[test]
fn an_old_entry_keeps_its_form_and_its_time() {
    let (_dir, store) = store();
    let mut txn = store.txn();
    txn.put(Family::Metadata, &SCOPE.ns_key(b"j"), b"\x0a\0\0\0\x09\0{\"a\":1}");
    set(&mut txn, &SCOPE.at(b"j"), TEXT, b"$", b"7").unwrap();
    assert_eq!(entry(&txn, b"j"), b"\x0a\0\0\0\x09\x007");
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"j");
    let mut txn = store.txn();
    set(&mut txn, &at, TEXT, b"$", b"{\"a\":1}").unwrap();
    txn.commit().unwrap();
    let before = store.latest_sequence();
    let mut txn = store.txn();
    set(&mut txn, &at, TEXT, b"$.b[0]", b"1").unwrap();
    set(&mut txn, &at, TEXT, b"$..b", b"1").unwrap();
    assert_eq!(remove(&mut txn, &at, TEXT, b"$.b").unwrap(), 0);
    assert_eq!(remove(&mut txn, &SCOPE.at(b"none"), TEXT, b"$").unwrap(), 0);
    assert!(change(&mut txn, &at, TEXT, |_| Ok(((), false))).unwrap().is_some());
    txn.commit().unwrap();
    assert_eq!(store.latest_sequence(), before);
}

#[test]
fn bytes_that_are_no_document_are_told_and_kept() {
    let (_dir, store) = store();
    for rest in [&b""[..], b"\x02{}", b"\0{", b"\0", b"\x01", b"\x01\x82\x01", b"\x01\xf7"] {
        let mut txn = store.txn();
        let mut value = Prefix::new(Type::Json, 0).as_bytes().to_vec();
        value.extend_from_slice(rest);
        txn.put(Family::Metadata, &SCOPE.ns_key(b"j"), &value);
        let at = SCOPE.at(b"j");
        assert!(matches!(get(&txn, &at), Err(CommandError::Storage(_))), "{rest:?}");
        assert!(set(&mut txn, &at, TEXT, b"$", b"1").is_err());
        assert_eq!(remove(&mut txn, &at, TEXT, b"$").unwrap(), 1);
    }
}

#[test]
fn a_document_does_not_grow_deeper_than_it_may() {
    let (_dir, store) = store();
    let form = Form::new(Format::Text, 3);
    let mut txn = store.txn();
    let at = SCOPE.at(b"j");
    assert!(set(&mut txn, &at, form, b"$", b"[[[[]]]]").is_err());
    set(&mut txn, &at, form, b"$", b"[[[]]]").unwrap();
    let deeper = set(&mut txn, &at, form, b"$[0][0]", b"[[]]").unwrap_err();
    assert!(matches!(deeper, CommandError::Json(json::Error::TooDeep)), "{deeper}");
    // Nor step by step within one command.
    let deep = ["[".repeat(1000), "]".repeat(1000)].concat();
    let path = ["$", &"[0]".repeat(999)].concat();
    let settings: Vec<Setting<'_>> =
        vec![[b"k", b"$", deep.as_bytes()], [b"k", path.as_bytes(), deep.as_bytes()]];
    let refused = mset(&mut txn, &SCOPE, TEXT, &settings).unwrap_err();
    assert!(matches!(refused, CommandError::Json(json::Error::TooDeep)), "{refused}");
    assert_eq!(Form::new(Format::Text, usize::MAX).depth_max(), DEPTH_MAX);
}

#[test]
fn several_settings_of_one_key_see_each_other() {
    let (_dir, store) = store();
    let mut txn = store.txn();
    let settings: [Setting<'_>; 3] =
        [[b"a", b"$", b"{\"x\":{}}"], [b"b", b"$", b"1"], [b"a", b"$.x.y", b"2"]];
    mset(&mut txn, &SCOPE, TEXT, &settings).unwrap();
    assert_eq!(text(&txn, b"a"), "{\"x\":{\"y\":2}}");
    let mut all = Vec::new();
    let visit = |document: Option<Value>| {
        all.push(document.is_some());
        Ok(())
    };
    mget(&txn, &SCOPE, &[b"b", b"none", b"a"], visit).unwrap();
    assert_eq!(all, [true, false, true]);
}
