use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;

use crate::{Direction, Family, Options, Read, Store};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;
/// A key, and its new value or none.
type Change = (Vec<u8>, Option<Vec<u8>>);

fn open(dir: &tempfile::TempDir) -> Store {
    Store::open(&dir.path().join("db"), Options::default()).unwrap()
}

fn pairs(read: &impl Read, lower: &[u8], upper: &[u8], direction: Direction) -> Pairs {
    let mut cursor = read.scan(Family::Default, lower, upper, direction).unwrap();
    let mut found = Vec::new();
    while let Some((key, value)) = cursor.next().unwrap() {
        found.push((key.to_vec(), value.to_vec()));
    }
    found
}

fn check(read: &impl Read, model: &Model, bounds: &[Vec<u8>]) {
    for lower in bounds {
        for upper in bounds.iter().filter(|upper| upper.is_empty() || *upper > lower) {
            let end = if upper.is_empty() { Bound::Unbounded } else { Bound::Excluded(upper) };
            let within = model.range::<Vec<u8>, _>((Bound::Included(lower), end));
            let mut expected: Pairs = within.map(|(k, v)| (k.clone(), v.clone())).collect();
            assert_eq!(pairs(read, lower, upper, Direction::Forward), expected);
            expected.reverse();
            assert_eq!(pairs(read, lower, upper, Direction::Reverse), expected);
        }
        let found = read.get(Family::Default, lower).unwrap();
        assert_eq!(found.as_deref(), model.get(lower).map(Vec::as_slice));
    }
}

/// Keys that are beginnings of each other, that hold zeros, and that differ late or early.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0u8), Just(b'a'), Just(b'b'), Just(0xff)];
    let tail = vec(byte, 1..6);
    let numbered = (0u32..400).prop_map(|number| format!("a long common prefix {number:04}"));
    prop_oneof![tail, numbered.prop_map(String::into_bytes)]
}

/// Keys of few beginnings, as those of sub-keys are, and seldom others before, among and behind
/// them.
fn sub_key() -> impl Strategy<Value = Vec<u8>> {
    let of_object = |name: &'static str| {
        (0u64..3, 0u32..300).prop_map(move |(version, number)| {
            [name.as_bytes(), &version.to_be_bytes(), &number.to_be_bytes()].concat()
        })
    };
    let others = ["", "\0", "an obj", "an object", "an object of it", "an objects", "z"];
    prop_oneof![
        30 => of_object("an object"),
        30 => of_object("an object of its own"),
        1 => (0..others.len()).prop_map(move |at| others[at].as_bytes().to_vec()),
    ]
}

/// Writes the one half, then the other one, and looks for all of them between these bounds: in the
/// newest state, in that of the middle, and in a table.
fn play(before: &[Change], after: &[Change], bounds: &[Vec<u8>]) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let write = |changes: &[Change], model: &mut Model| {
        for part in changes.chunks(50) {
            let mut txn = store.txn();
            for (key, value) in part {
                if let Some(value) = value {
                    txn.put(Family::Default, key, value);
                    model.insert(key.clone(), value.clone());
                } else {
                    txn.delete(Family::Default, key);
                    model.remove(key);
                }
            }
            txn.commit().unwrap();
        }
    };
    let bounds = [bounds, &[Vec::new()]].concat();
    let mut model = Model::new();
    write(before, &mut model);
    let (snapshot, then) = (store.snapshot(), model.clone());
    write(after, &mut model);
    check(&store, &model, &bounds);
    check(&snapshot, &then, &bounds);
    drop(snapshot);
    // From a table, which has what the memtable gave.
    store.flush().unwrap();
    check(&store, &model, &bounds);
}

fn changes(key: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<Change>> {
    vec((key, proptest::option::of(vec(any::<u8>(), 0..9))), 0..700)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_found_in_its_order_then_and_later(
        before in changes(key()), after in changes(key()), bounds in vec(key(), 1..5),
    ) {
        play(&before, &after, &bounds);
    }

    #[test]
    fn what_was_written_of_few_beginnings_is_found_in_its_order_then_and_later(
        before in changes(sub_key()), after in changes(sub_key()), bounds in vec(sub_key(), 1..5),
    ) {
        play(&before, &after, &bounds);
    }
}

#[test]
fn keys_that_come_in_order_are_found_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let mut model = Model::new();
    for number in 0..20_000u32 {
        // Ascending, descending, and one key over and over.
        let keys = [format!("up {number:06}"), format!("down {:06}", 20_000 - number), "x".into()];
        let mut txn = store.txn();
        for key in keys {
            txn.put(Family::Default, key.as_bytes(), &number.to_be_bytes());
            model.insert(key.into_bytes(), number.to_be_bytes().to_vec());
        }
        txn.commit().unwrap();
    }
    check(&store, &model, &[Vec::new(), b"down 010".to_vec(), b"up 0199".to_vec(), b"x".to_vec()]);
}

/// Readers beside the writer of these keys, all different, find each that was there when they
/// began, once and in its order.
fn read_beside_a_writer(keys: &[Vec<u8>]) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (written, has_ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let read = |seed: usize| {
        let mut rounds = 0;
        while !has_ended.load(Ordering::Acquire) || rounds < 3 {
            let (known, snapshot) = (written.load(Ordering::Acquire), store.snapshot());
            let found = pairs(&snapshot, b"", b"", Direction::Forward);
            assert!(found.len() >= known, "{} of {known}", found.len());
            assert!(found.windows(2).all(|two| two[0].0 < two[1].0));
            let mut backwards = pairs(&snapshot, b"", b"", Direction::Reverse);
            backwards.reverse();
            assert_eq!(found, backwards);
            for step in (seed..known).step_by(97) {
                let value = store.get(Family::Default, &keys[step]).unwrap();
                assert_eq!(value.as_deref(), Some(&step.to_be_bytes()[..]));
            }
            rounds += 1;
        }
    };
    std::thread::scope(|threads| {
        for seed in 0..3 {
            let read = &read;
            threads.spawn(move || read(seed));
        }
        for (step, key) in keys.iter().enumerate() {
            let mut txn = store.txn();
            txn.put(Family::Default, key, &step.to_be_bytes());
            txn.commit().unwrap();
            written.store(step + 1, Ordering::Release);
        }
        has_ended.store(true, Ordering::Release);
    });
}

#[test]
fn readers_find_all_that_was_there_when_they_began() {
    const KEYS: usize = 30_000;
    // A walk through all numbers, far from the last one at each step.
    let key = |step: usize| format!("key:{:08}", step * 7919 % KEYS).into_bytes();
    read_beside_a_writer(&(0..KEYS).map(key).collect::<Vec<_>>());
}

/// Keys that are put beside the last one, from below and from above, and those of other beginnings,
/// for which the nodes at the ends choose anew by which bytes they tell keys apart.
#[test]
fn readers_find_all_of_keys_that_come_in_order_and_of_those_that_come_between() {
    const KEYS: usize = 16_000;
    const OTHERS: [&str; 5] = ["", "a", "a stream 0000", "a stream of", "b"];
    let key = |step: usize| match step % 16 {
        0..8 => format!("a stream {step:08}"),
        8..15 => format!("a list {:08}", KEYS - step),
        _ => format!("{} {step}", OTHERS[step / 16 % OTHERS.len()]),
    };
    let keys: Vec<Vec<u8>> = (0..KEYS).map(|step| key(step).into_bytes()).collect();
    read_beside_a_writer(&keys);
}

/// As of streams, and of sorted sets that are stored again and again: each node at the end has keys
/// of one beginning, until one comes that has another.
#[test]
fn keys_that_come_behind_all_others_are_found_as_are_those_before_and_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let mut model = Model::new();
    let put = |key: &str, model: &mut Model| {
        let mut txn = store.txn();
        txn.put(Family::Default, key.as_bytes(), b"value");
        model.insert(key.as_bytes().to_vec(), b"value".to_vec());
        txn.commit().unwrap();
    };
    for round in 0..40 {
        for number in 0..200 {
            put(&format!("a stream of entries {round:04} of {number:06}"), &mut model);
        }
        for key in ["", "a", "a stream of entries 00", "a stream of entries 0039 of 00019", "b"] {
            put(&format!("{key}{round}"), &mut model);
        }
    }
    let keys: Vec<Vec<u8>> = model.keys().cloned().collect();
    for key in keys.iter().map(Vec::as_slice) {
        let shorter = &key[..key.len() - 1];
        for key in [key, shorter, &[key, b"\0"].concat()] {
            let found = store.get(Family::Default, key).unwrap();
            assert_eq!(found.as_deref(), model.get(key).map(Vec::as_slice));
        }
    }
    let bounds = ["", "a stream of entries 0011 of", "a stream of e", "a stream of f", "c"];
    check(&store, &model, &bounds.map(|bound| bound.as_bytes().to_vec()));
}

/// As of a list that is pushed to at its head, behind keys that fill a node.
#[test]
fn keys_that_descend_behind_a_full_node_share_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let put = |key: String| {
        let mut txn = store.txn();
        txn.put(Family::Default, key.as_bytes(), b"value");
        txn.commit().unwrap();
    };
    for number in 0..64 {
        put(format!("a {number:06}"));
    }
    let before = store.stats().unwrap().memtable_bytes();
    for number in (0..20_000).rev() {
        put(format!("q {number:06}"));
    }
    let each = (store.stats().unwrap().memtable_bytes() - before) / 20_000;
    // A node of its own would be above a thousand.
    assert!(each < 200, "{each} bytes an entry");
}
