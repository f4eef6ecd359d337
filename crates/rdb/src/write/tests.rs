use proptest::prelude::*;

use super::*;
use crate::{Error, Part, Reader, body};

/// The parts of a payload, as texts.
fn parts(payload: &[u8]) -> Vec<String> {
    let value = body(payload).unwrap();
    let (code, rest) = value.split_first().unwrap();
    let (mut reader, mut found) = (Reader::new(rest), Vec::new());
    reader
        .value(*code, &mut |part| {
            found.push(format!("{part:?}"));
            Ok::<_, Error>(())
        })
        .unwrap();
    assert_eq!(reader.taken(), rest.len() as u64);
    found
}

#[test]
fn payloads_are_those_of_kvrocks() {
    assert_eq!(string(b"hello"), b"\x00\x05hello\x06\x00\xf5\x9f\xb7\xf6\x90a\x1c\x99");
    assert_eq!(string(b"12345"), b"\x00\xc190\x06\x00\x0by\x82\xa7f\xa94*");
    let mut list = Elements::list();
    list.element(b"a");
    list.element(b"b");
    assert_eq!(
        list.finish(),
        b"\x0e\x02\x0e\x0e\x00\x00\x00\x0a\x00\x00\x00\x01\x00\x00\x01a\xff\
          \x0e\x0e\x00\x00\x00\x0a\x00\x00\x00\x01\x00\x00\x01b\xff\x06\x00x0\xe3U\x8f\xd7\x08\xc9"
    );
    let mut set = Elements::set();
    set.member(b"a");
    assert_eq!(set.finish(), b"\x02\x01\x01a\x06\x00\xf4{\x81\xfe\xb1\x87&\xfe");
    let mut hash = Elements::hash();
    hash.field(b"f", b"v");
    assert_eq!(hash.finish(), b"\x04\x01\x01f\x01v\x06\x00;\x1f+\xd6D\xd32o");
    let mut zset = Elements::zset();
    zset.scored(b"a", 1.0);
    let score = b"\x05\x01\x01a\x00\x00\x00\x00\x00\x00\xf0?\x06\x00O\x1bU\x0e\xe0f\x0a\x83";
    assert_eq!(zset.finish(), score);
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..20),
        (60usize..70).prop_map(|length| vec![b'x'; length]),
        (16380usize..16390).prop_map(|length| vec![b'y'; length]),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        (-200i32..200).prop_map(|number| number.to_string().into_bytes()),
        Just(b"-0".to_vec()),
        Just(b"007".to_vec()),
    ]
}

fn entries() -> impl Strategy<Value = Vec<(Id, Vec<Vec<u8>>)>> {
    let names = proptest::collection::vec(prop_oneof![Just(b"f".to_vec()), texts()], 1..3);
    let entry = (any::<u64>(), 0u64..5, names, texts());
    proptest::collection::vec(entry, 0..300).prop_map(|mut all| {
        all.sort_by_key(|(ms, seq, ..)| (*ms, *seq));
        all.dedup_by_key(|(ms, seq, ..)| (*ms, *seq));
        let fields = |names: Vec<Vec<u8>>, value: Vec<u8>| {
            names.into_iter().flat_map(|name| [name, value.clone()]).collect()
        };
        all.into_iter()
            .map(|(ms, seq, names, value)| (Id { ms, seq }, fields(names, value)))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(all in proptest::collection::vec((texts(), texts(), any::<f64>()), 0..80)) {
        let (mut list, mut set) = (Elements::list(), Elements::set());
        let (mut zset, mut hash) = (Elements::zset(), Elements::hash());
        let mut timed = Vec::new();
        let mut expected: [Vec<String>; 5] = Default::default();
        for (name, value, score) in &all {
            let score = if score.is_nan() { -0.0 } else { *score };
            let end_ms = score.to_bits() >> 20;
            list.element(name);
            set.member(name);
            zset.scored(name, score);
            hash.field(name, value);
            timed.push((&**name, &**value, end_ms));
            let made = [
                Part::Element(name),
                Part::Member(name),
                Part::Scored(name, score),
                Part::Field { name, value, end_ms: 0 },
                Part::Field { name, value, end_ms },
            ];
            for (list, part) in expected.iter_mut().zip(made) {
                list.push(format!("{part:?}"));
            }
        }
        let found = [list.finish(), set.finish(), zset.finish(), hash.finish(), timed_hash(&timed)];
        prop_assert_eq!(found.map(|payload| parts(&payload)), expected);
        for (name, ..) in &all {
            let expected = format!("{:?}", Part::String(name));
            prop_assert_eq!(parts(&string(name)), [expected]);
        }
    }

    #[test]
    fn streams_come_back(entries in entries(), last: (u64, u64), added: u64) {
        let mut stream = Stream::default();
        let mut expected = Vec::new();
        for (id, fields) in &entries {
            let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
            stream.entry(*id, &fields);
            expected.push(format!("{:?}", Part::Entry { id: *id, fields: &fields }));
        }
        let last = Id { ms: last.0, seq: last.1 };
        let state = StreamState { last, max_deleted: Id { ms: 3, seq: 4 }, entries_added: added };
        let length = entries.len() as u64;
        let pending = |ms, consumer| Pending { id: Id { ms, seq: 1 }, delivered_ms: 9, count: 2, consumer };
        let group = Group {
            name: b"g".to_vec(),
            last_delivered: last,
            entries_read: None,
            consumers: vec![(b"one".to_vec(), 5), (b"two".to_vec(), 6)],
            pending: vec![pending(1, 1), pending(2, 0), pending(3, 1)],
        };
        let payload = stream.finish(&state, &[group]);
        expected.push(format!("{:?}", Part::Stream {
            length,
            last,
            max_deleted: Id { ms: 3, seq: 4 },
            entries_added: Some(added),
        }));
        let found = parts(&payload);
        let rest = found.get(expected.len()..).map(<[String]>::len);
        prop_assert_eq!(found.get(..expected.len()), Some(&expected[..]));
        // Two consumers, three entries, one group.
        prop_assert_eq!(rest, Some(6));
    }
}
