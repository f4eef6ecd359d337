use proptest::prelude::*;

use super::*;
use crate::types::bench::{SCOPE, store};
use crate::types::keys::ExpireCondition;
use crate::types::stream::{self, Addition, Creation, NewId, Position, Reader};
use crate::types::strings::SetOptions;
use crate::types::{bitmap, hyperloglog};
use crate::{Store, Txn};

/// A value as commands make it.
#[derive(Debug, Clone)]
enum Value {
    String(Vec<u8>),
    Bits(Vec<u16>),
    Sketch(Vec<Vec<u8>>),
    List(Vec<Vec<u8>>),
    Set(Vec<Vec<u8>>),
    Zset(Vec<(f64, Vec<u8>)>),
    Hash(Vec<(Vec<u8>, Vec<u8>)>, Vec<bool>),
    Stream(Vec<Vec<u8>>, u64),
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..12),
        2 => any::<i32>().prop_map(|number| number.to_string().into_bytes()),
        1 => (50usize..400).prop_map(|length| vec![b'x'; length]),
    ]
}

fn texts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(text(), 1..30)
}

fn value() -> impl Strategy<Value = Value> {
    let score = any::<f64>().prop_map(|score| if score.is_nan() { f64::INFINITY } else { score });
    let pairs = proptest::collection::vec((text(), text()), 1..30);
    let ends = prop_oneof![Just(Vec::new()), proptest::collection::vec(any::<bool>(), 30)];
    prop_oneof![
        text().prop_map(Value::String),
        proptest::collection::vec(any::<u16>(), 1..20).prop_map(Value::Bits),
        texts().prop_map(Value::Sketch),
        texts().prop_map(Value::List),
        texts().prop_map(Value::Set),
        proptest::collection::vec((score, text()), 1..30).prop_map(Value::Zset),
        (pairs, ends).prop_map(|(pairs, ends)| Value::Hash(pairs, ends)),
        (texts(), 0u64..9).prop_map(|(texts, read)| Value::Stream(texts, read)),
    ]
}

fn lent(texts: &[Vec<u8>]) -> Vec<&[u8]> {
    texts.iter().map(Vec::as_slice).collect()
}

fn make(txn: &mut Txn<'_>, at: &At<'_>, value: &Value) {
    match value {
        Value::String(text) => drop(strings::set(txn, at, text, &SetOptions::default()).unwrap()),
        Value::Bits(bits) => {
            for bit in bits {
                bitmap::set(txn, at, u64::from(*bit), true).unwrap();
            }
        }
        Value::Sketch(texts) => drop(hyperloglog::add(txn, at, &lent(texts)).unwrap()),
        Value::List(texts) => drop(list::push(txn, at, list::End::Right, &lent(texts)).unwrap()),
        Value::Set(texts) => drop(set::add(txn, at, &lent(texts)).unwrap()),
        Value::Zset(pairs) => {
            let pairs: Vec<(f64, &[u8])> = pairs.iter().map(|(s, m)| (*s, m.as_slice())).collect();
            zset::add(txn, at, &pairs, zset::Condition::default()).unwrap();
        }
        Value::Hash(pairs, ends) => {
            let lent: Vec<(&[u8], &[u8])> = pairs.iter().map(|(f, v)| (&**f, &**v)).collect();
            hash::set(txn, at, &lent).unwrap();
            let timed = pairs.iter().zip(ends).filter(|(_, has_end)| **has_end);
            for (number, ((field, _), _)) in timed.enumerate() {
                let end = (5000 + number as u64, ExpireCondition::default());
                hash::expire(txn, at, &[field], end).unwrap();
            }
        }
        Value::Stream(texts, read) => {
            for text in texts {
                let fields: [&[u8]; 2] = [b"f", text];
                let (id, trim) = (NewId::Auto, None);
                let addition = Addition { id, fields: &fields, trim, makes_stream: true };
                stream::add(txn, at, &addition).unwrap();
            }
            let position = Position::After(stream::Id::MIN);
            let creation = Creation { position, entries_read: None, makes_stream: false };
            for name in [&b"g"[..], b"hh"] {
                stream::create_group(txn, at, name, &creation).unwrap();
            }
            for consumer in [&b"c"[..], b"d"] {
                let group = stream::find_group(txn, at, b"g").unwrap().unwrap();
                let reader = Reader { consumer, count: *read, acknowledges: false };
                if *read > 0 {
                    stream::read_new(txn, group, &reader).unwrap();
                }
            }
        }
    }
}

fn restore(store: &Store, key: &[u8], payload: &[u8], end_ms: u64) -> Result<bool, CommandError> {
    let mut txn = store.txn();
    let body = rdb::body(payload)?;
    let mut sink = Sink::new(&mut txn, SCOPE.at(key), body[0], end_ms);
    rdb::Reader::new(&body[1..]).value(body[0], &mut |part| sink.take(part))?;
    let is_stored = sink.finish()?;
    txn.commit()?;
    Ok(is_stored)
}

/// What stands under a key, without the key's name and version.
fn raw(store: &Store, key: &[u8]) -> Vec<(crate::Family, Vec<u8>, Vec<u8>)> {
    use crate::Read as _;
    let at = SCOPE.at(key);
    let living = at.living(store).unwrap().unwrap();
    let (value, _) = living.into_value();
    let mut metadata = value.to_vec();
    if metadata.first() == Some(&0x81) {
        return vec![(crate::Family::Metadata, Vec::new(), metadata)];
    }
    let version = u64::from_be_bytes(metadata[9..17].try_into().unwrap());
    metadata[9..17].fill(0);
    let mut all = vec![(crate::Family::Metadata, Vec::new(), metadata)];
    let prefix = SCOPE.sub_key_prefix(key, version);
    for family in [crate::Family::Default, crate::Family::ZsetScore, crate::Family::Stream] {
        let end = crate::key::prefix_end(&prefix);
        let mut cursor = store.scan(family, &prefix, &end, Direction::Forward).unwrap();
        while let Some((name, value)) = cursor.next().unwrap() {
            all.push((family, name[prefix.len()..].to_vec(), value.to_vec()));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn what_is_restored_is_what_was_dumped(value in value(), other in value()) {
        let (_dir, store) = store();
        let mut txn = store.txn();
        make(&mut txn, &SCOPE.at(b"from"), &value);
        // What was there is replaced, of whatever type.
        make(&mut txn, &SCOPE.at(b"to"), &other);
        txn.commit().unwrap();
        let payload = dump(&store.snapshot(), &SCOPE.at(b"from")).unwrap().unwrap();
        prop_assert!(restore(&store, b"to", &payload, 0).unwrap());
        let again = dump(&store.snapshot(), &SCOPE.at(b"to")).unwrap().unwrap();
        prop_assert_eq!(&again, &payload);
        // A bitmap comes back as the string that it is in Redis, and a list begins elsewhere if it
        // was pushed to at its left.
        if !matches!(value, Value::Bits(_)) {
            prop_assert_eq!(raw(&store, b"to"), raw(&store, b"from"));
        }
        prop_assert!(restore(&store, b"to", &payload, 7000).unwrap());
        let header = SCOPE.at(b"to").living(&store).unwrap().unwrap().header().expire_ms;
        prop_assert_eq!(header, 7000);
    }
}

#[test]
fn what_contradicts_itself_leaves_nothing() {
    let (_dir, store) = store();
    let before = store.latest_sequence();
    let mut set = Elements::set();
    set.member(b"a");
    let empty = Elements::hash();
    let mut twice = [Elements::set(), Elements::zset(), Elements::hash()];
    for _ in 0..2 {
        twice[0].member(b"a");
        twice[2].field(b"f", b"v");
    }
    twice[1].scored(b"a", 1.0);
    twice[1].scored(b"a", 2.0);
    for payload in twice.map(Elements::finish).into_iter().chain([empty.finish()]) {
        let refused = restore(&store, b"k", &payload, 0);
        assert!(matches!(refused, Err(CommandError::Redis(rdb::Error::Malformed(_)))));
    }
    assert_eq!(store.latest_sequence(), before);
    assert!(restore(&store, b"k", &set.finish(), 0).unwrap());
}

#[test]
fn fields_that_have_ended_are_not_restored() {
    let (_dir, store) = store();
    let mut txn = store.txn();
    let at = At { scope: crate::Scope { now_ms: 10_000, ..SCOPE }, ..SCOPE.at(b"h") };
    let payload =
        rdb::write::timed_hash(&[(b"a", b"1", 9000), (b"b", b"2", 11_000), (b"c", b"3", 0)]);
    let body = rdb::body(&payload).unwrap();
    let mut sink = Sink::new(&mut txn, at.clone(), body[0], 0);
    rdb::Reader::new(&body[1..]).value::<CommandError>(24, &mut |part| sink.take(part)).unwrap();
    assert!(sink.finish().unwrap());
    txn.commit().unwrap();
    assert_eq!(hash::len(&store, &at).unwrap(), 2);
    let payload = rdb::write::timed_hash(&[(b"a", b"1", 9000)]);
    let body = rdb::body(&payload).unwrap();
    let mut txn = store.txn();
    let mut sink = Sink::new(&mut txn, at, body[0], 0);
    rdb::Reader::new(&body[1..]).value::<CommandError>(24, &mut |part| sink.take(part)).unwrap();
    assert!(!sink.finish().unwrap());
}

#[test]
fn types_that_redis_has_not_are_not_dumped() {
    let (_dir, store) = store();
    let mut txn = store.txn();
    crate::types::sortedint::add(&mut txn, &SCOPE.at(b"s"), &[1]).unwrap();
    txn.commit().unwrap();
    let refused = dump(&store.snapshot(), &SCOPE.at(b"s"));
    assert!(matches!(refused, Err(CommandError::NoRedisForm)));
    assert!(dump(&store.snapshot(), &SCOPE.at(b"none")).unwrap().is_none());
}
