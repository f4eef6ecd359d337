use std::cell::Cell;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::slots::Marks;
use crate::types::bench::{SCOPE, store};
use crate::types::head::Metadata;
use crate::types::strings::{self, SetOptions};
use crate::{Cursor, Snapshot, Store, Txn};

fn write<T>(store: &Store, run: impl FnOnce(&mut Txn<'_>) -> T) -> T {
    let mut txn = store.txn();
    let result = run(&mut txn);
    txn.commit().unwrap();
    result
}

/// A bitmap as somebody else may have written it.
fn foreign(store: &Store, key: &str, size: u64, segments: &[(&str, &[u8])]) {
    let mut metadata = Metadata::new(Type::Bitmap, 7);
    metadata.size = size;
    write(store, |txn| {
        for (name, bytes) in segments {
            let sub_key = SCOPE.sub_key(key.as_bytes(), 7, name.as_bytes());
            txn.put(Family::Default, &sub_key, bytes);
        }
        txn.put(Family::Metadata, &SCOPE.ns_key(key.as_bytes()), &metadata.encode());
    });
}

fn text(store: &Store, key: &str) -> Vec<u8> {
    strings::get(store, &SCOPE.at(key.as_bytes())).unwrap().unwrap().to_vec()
}

#[test]
fn segments_grow_as_those_of_kvrocks() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"b");
    for (bit, len) in [(0, 1), (8, 2), (16, 4), (80, 11), (90, 22), (5000, 626), (5010, 1024)] {
        write(&store, |txn| set(txn, &at, bit, true)).unwrap();
        let object = Object::<Bitmap>::find(&store, &at).unwrap().unwrap();
        assert_eq!(stored(&store, &object, 0).unwrap().unwrap().len(), len, "{bit}");
        assert_eq!(object.size, bit / 8 + 1);
    }
}

#[test]
fn what_lies_behind_the_size_does_not_count_and_what_is_missing_is_zeros() {
    let (_dir, store) = store();
    foreign(&store, "b", 1027, &[("0", &[0x01]), ("1024", &[0xff; 9])]);
    let string = text(&store, "b");
    assert_eq!((string.len(), string[0], string[1]), (1027, 0x80, 0));
    assert_eq!(string[1024..], [0xff; 3]);
    let bits = Bits::find(&store, &SCOPE.at(b"b")).unwrap().unwrap();
    assert_eq!(bits.count(&store, Span::ALL).unwrap(), 25);
    assert!(!bits.get(&store, 8 * 1027).unwrap());
}

#[test]
fn foreign_data_is_an_error_and_no_more() {
    let (_dir, store) = store();
    foreign(&store, "name", 1 << 20, &[("abc", &[1])]);
    let at = SCOPE.at(b"name");
    let bits = Bits::find(&store, &at).unwrap().unwrap();
    assert!(bits.count(&store, Span::ALL).is_err());
    foreign(&store, "size", u64::MAX, &[("18446744073709551615", &[1]), ("0", &[1; 4000])]);
    let at = SCOPE.at(b"size");
    let bits = Bits::find(&store, &at).unwrap().unwrap();
    assert_eq!(bits.count(&store, Span::ALL).unwrap(), 0);
    assert_eq!(bits.position(&store, true, Span::ALL).unwrap(), None);
    assert!(matches!(strings::get(&store, &at), Err(CommandError::TooLong)));
    let keys: &[&[u8]] = &[b"size"];
    let not = (Operation::Not, b"NOT".as_slice());
    let combined = combine(&mut store.txn(), &SCOPE.at(b"d"), not, keys);
    assert!(matches!(combined, Err(CommandError::TooLong)));
    foreign(&store, "large", (1 << 59) - 1, &[("576460752303423000", &[1; 4])]);
    let bits = Bits::find(&store, &SCOPE.at(b"large")).unwrap().unwrap();
    bits.count(&store, Span::ALL).unwrap();
    bits.position(&store, true, Span::ALL).unwrap();
}

/// Of which fields a change of random ones consists, alike on a string and on a bitmap.
fn fields() -> impl Strategy<Value = Vec<Field>> {
    let width = prop_oneof![
        (1u8..=64).prop_map(|n| format!("i{n}")),
        (1u8..64).prop_map(|n| format!("u{n}"))
    ];
    let offset = prop_oneof![0..80u64, 8100..8300u64];
    let action = prop_oneof![
        Just(Action::Get),
        any::<i64>().prop_map(Action::Set),
        any::<i64>().prop_map(Action::Incr)
    ];
    let overflow =
        prop_oneof![Just(Overflow::Wrap), Just(Overflow::Saturate), Just(Overflow::Fail)];
    let field = (width, offset, action, overflow).prop_map(|(width, offset, action, overflow)| {
        let encoding = Encoding::parse(width.as_bytes()).unwrap();
        Field { encoding, offset, action, overflow }
    });
    proptest::collection::vec(field, 1..6)
}

fn number(bits: u64) -> impl Strategy<Value = i64> {
    -(bits as i64)..bits as i64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every command sees the same bits of a string and of a bitmap.
    #[test]
    fn a_bitmap_and_a_string_are_alike(
        changes in proptest::collection::vec(fields(), 1..5),
        (start, end, is_bits) in (number(9000), number(9000), any::<bool>()),
    ) {
        let (_dir, store) = store();
        let (map, string) = (SCOPE.at(b"map"), SCOPE.at(b"string"));
        write(&store, |txn| {
            strings::set(txn, &string, b"", &SetOptions::default()).unwrap();
        });
        for fields in &changes {
            let there = write(&store, |txn| edit_fields(txn, &map, fields)).unwrap();
            let here = write(&store, |txn| edit_fields(txn, &string, fields)).unwrap();
            prop_assert_eq!(there, here);
        }
        let (Some(bits), Some(other)) =
            (Bits::find(&store, &map).unwrap(), Bits::find(&store, &string).unwrap())
        else {
            return Ok(());
        };
        prop_assert_eq!(text(&store, "map"), text(&store, "string"));
        let part = |at| strings::getrange(&store, at, start, end).unwrap().unwrap().to_vec();
        prop_assert_eq!(part(&map), part(&string));
        let len = strings::strlen(&store, &map).unwrap();
        prop_assert_eq!(len, strings::strlen(&store, &string).unwrap());
        let unit = if is_bits { Unit::Bit } else { Unit::Byte };
        for span in [Span::ALL, Span { start, end: Some(end), unit }, Span { start, end: None, unit }] {
            prop_assert_eq!(bits.count(&store, span).unwrap(), other.count(&store, span).unwrap());
            for is_one in [false, true] {
                prop_assert_eq!(
                    bits.position(&store, is_one, span).unwrap(),
                    other.position(&store, is_one, span).unwrap()
                );
            }
        }
        let keys: &[&[u8]] = &[b"map", b"string"];
        let xor = (Operation::Xor, b"XOR".as_slice());
        let len = write(&store, |txn| combine(txn, &SCOPE.at(b"xor"), xor, keys)).unwrap();
        if len > 0 {
            prop_assert!(text(&store, "xor").iter().all(|byte| *byte == 0));
        }
    }
}

/// A database that is written to after a look at it.
struct Interrupted<'a> {
    store: &'a Store,
    looks: Cell<u32>,
    /// Behind which look.
    at: u32,
}

impl Interrupted<'_> {
    /// Both bits in one batch.
    fn interrupt(&self) {
        self.looks.set(self.looks.get() + 1);
        if self.looks.get() == self.at {
            write(self.store, |txn| {
                for bit in [8 * 1023, 8 * 1024] {
                    set(txn, &SCOPE.at(b"b"), bit, true).unwrap();
                }
            });
        }
    }
}

impl Read for Interrupted<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Value<'_>>, Error> {
        let found = Read::get(self.store, family, key);
        self.interrupt();
        found
    }

    fn multi_get<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Vec<Option<Value<'_>>>, Error> {
        let found = self.store.multi_get(family, keys);
        self.interrupt();
        found
    }

    fn few<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Option<Vec<Option<Value<'_>>>>, Error> {
        let found = self.store.few(family, keys);
        self.interrupt();
        found
    }

    fn at_one_moment<T>(&self, run: impl FnOnce(&Snapshot<'_>) -> T) -> T {
        self.store.at_one_moment(run)
    }

    fn scan(
        &self,
        family: Family,
        lower: &[u8],
        upper: &[u8],
        direction: Direction,
    ) -> Result<Cursor<'_>, Error> {
        let cursor = self.store.scan(family, lower, upper, direction);
        self.interrupt();
        cursor
    }

    fn marks(&self) -> Option<Arc<Marks>> {
        Read::marks(self.store)
    }
}

#[test]
fn a_bitmap_is_read_as_a_string_at_one_moment() {
    type Reading = fn(&Interrupted<'_>) -> Vec<u8>;
    let readings: [Reading; 3] = [
        |read| strings::get(read, &SCOPE.at(b"b")).unwrap().unwrap()[1023..=1024].to_vec(),
        |read| strings::getrange(read, &SCOPE.at(b"b"), 1023, 1024).unwrap().unwrap().to_vec(),
        |read| {
            let mut found = Vec::new();
            let visit =
                |value: Option<&[u8]>| found.extend_from_slice(&value.unwrap()[1023..=1024]);
            strings::mget(read, &SCOPE, &[b"b"], u64::MAX, visit).unwrap();
            found
        },
    ];
    for reading in readings {
        for at in 1..=3 {
            let (_dir, store) = store();
            write(&store, |txn| set(txn, &SCOPE.at(b"b"), 8 * 2000, true)).unwrap();
            let read = Interrupted { store: &store, looks: Cell::new(0), at };
            let found = reading(&read);
            assert!(found == [0, 0] || found == [0x80, 0x80], "{found:?} behind look {at}");
            assert!(read.looks.get() > 0);
        }
    }
}
