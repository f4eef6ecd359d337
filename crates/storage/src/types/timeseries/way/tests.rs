//! Bytes of the ways that lead to series: Kvrocks'.

use super::*;
use crate::types::bench::SCOPE;

#[test]
fn ways_are_written_as_kvrocks_writes_them() {
    let key = way(&SCOPE.at(b"k"), (b"room", b"7"));
    assert_eq!(key, b"\x0b__namespace\0\0\0\0\x04room\0\0\0\x017k");
    let read = Way::read(&key).unwrap();
    let expected = Way { namespace: SCOPE.namespace, label: b"room", value: b"7", key: b"k" };
    assert_eq!(read, expected);
    let empty = way(&SCOPE.at(b""), (b"", b""));
    assert_eq!(
        Way::read(&empty).map(|way| (way.label, way.value, way.key)),
        Some((&b""[..], &b""[..], &b""[..]))
    );
}

#[test]
fn what_is_no_way_is_read_as_none() {
    let key = way(&SCOPE.at(b""), (b"room", b"7"));
    for length in 0..key.len() {
        assert_eq!(Way::read(&key[..length]), None, "{length}");
    }
    let mut other = key;
    other[12] = 1;
    assert_eq!(Way::read(&other), None, "another kind");
}
