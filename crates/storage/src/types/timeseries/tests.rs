use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::bucket::Bucket;
use super::*;
use crate::types::bench::{SCOPE, store};
use crate::{Store, budget};

/// With all locks.
fn add(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    samples: &[Sample],
    how: Adding,
) -> Result<Option<Vec<Added>>, CommandError> {
    super::add(txn, at, samples, how, &|_: &[u8]| true)
}

fn increment(
    txn: &mut Txn<'_>,
    at: &At<'_>,
    by: Sample,
    making: Changes,
) -> Result<Option<Added>, CommandError> {
    super::increment(txn, at, by, making, &|_: &[u8]| true)
}

fn delete(txn: &mut Txn<'_>, at: &At<'_>, span: (u64, u64)) -> Result<Option<u64>, CommandError> {
    super::delete(txn, at, span, &|_: &[u8]| true)
}

pub(super) fn sample(at: u64, value: f64) -> Sample {
    Sample { at, value }
}

pub(super) fn all(store: &Store, at: &At<'_>) -> Vec<(u64, f64)> {
    let mut found = Vec::new();
    for_each(&store.snapshot(), at, (0, u64::MAX), |sample| {
        found.push((sample.at, sample.value));
        Ok(true)
    })
    .unwrap();
    found
}

/// The chunks as they lie on disk: their ids, and how many samples they have.
fn chunks(store: &Store, at: &At<'_>) -> Vec<(u64, usize)> {
    let object = find(store, at).unwrap().unwrap();
    let range = SubRange::starting_with(CHUNKS);
    let mut elements = object.elements(store, FAMILY, &range, Direction::Forward).unwrap();
    let mut found = Vec::new();
    while let Some((sub, value)) = elements.next().unwrap() {
        let (id, samples) = chunk(sub, value).unwrap();
        assert_eq!(samples.first().map(|first| first.at), Some(id));
        found.push((id, samples.len()));
    }
    assert_eq!(object.size, found.len() as u64);
    found
}

fn sized(chunk_size: u64) -> Changes {
    Changes { chunk_size: Some(chunk_size), ..Changes::default() }
}

fn adding(making: Changes) -> Adding {
    Adding { making: Some(making), duplicates: None }
}

#[test]
fn facts_are_written_as_kvrocks_writes_them() {
    let mut tail = Vec::new();
    let facts = Facts {
        retention_ms: 1,
        duplicates: Duplicates::Sum,
        source: b"src".to_vec(),
        last_at: 9,
        ..Facts::fresh()
    };
    facts.write(&mut tail);
    let numbers = [&1_u64.to_be_bytes()[..], &1024_u64.to_be_bytes(), &[0, 5]].concat();
    let bytes = [&numbers[..], b"\0\0\0\x03src", &9_u64.to_be_bytes()].concat();
    assert_eq!(tail, bytes);
    assert_eq!(Facts::read(&tail), Some(facts.clone()));
    // Early data ends before the last time.
    let early = &tail[..tail.len() - 8];
    assert_eq!(Facts::read(early), Some(Facts { last_at: 0, ..facts }));
    for end in (0..tail.len()).filter(|end| *end != early.len()) {
        assert_eq!(Facts::read(&tail[..end]), None, "{end}");
    }
    assert_eq!(Facts::read(&[&tail[..], b"\0"].concat()), None);
    let odd = [&numbers[..17], &[6, 0, 0, 0, 0]].concat();
    assert_eq!(Facts::read(&odd), None);
}

#[test]
fn chunks_are_written_as_kvrocks_writes_them() {
    let samples = [sample(1, 1.0), sample(258, -0.5)];
    let bytes = chunk::encode(&samples);
    let mut expected = vec![0, 0, 0, 0, 0, 0, 0, 2];
    expected.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    expected.extend([2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe0, 0xbf]);
    assert_eq!(bytes, expected);
    assert_eq!(chunk::decode(&bytes), Some(samples.to_vec()));
    // Kvrocks leaves room behind samples that replaced others.
    assert_eq!(chunk::decode(&[&bytes[..], &[0; 16]].concat()), Some(samples.to_vec()));
    for end in 0..bytes.len() {
        assert_eq!(chunk::decode(&bytes[..end]), None);
    }
    // Compressed, and more samples than any value has.
    assert_eq!(chunk::decode(&[0, 0, 0, 1, 0, 0, 0, 0]), None);
    assert_eq!(chunk::decode(&[0, 0, 0, 0, 255, 255, 255, 255]), None);
}

#[test]
fn full_chunks_are_followed_by_others() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"t");
    let mut txn = store.txn();
    for number in 1..=7 {
        add(&mut txn, &at, &[sample(number * 10, 0.0)], adding(sized(3))).unwrap().unwrap();
    }
    txn.commit().unwrap();
    assert_eq!(chunks(&store, &at), [(10, 3), (40, 3), (70, 1)]);
    // The last chunk was begun at 70; samples before the first chunk become its first ones.
    let mut txn = store.txn();
    let early: Vec<Sample> = (1..=4).map(|at| sample(at, 0.0)).collect();
    add(&mut txn, &at, &early, Adding::default()).unwrap().unwrap();
    txn.commit().unwrap();
    assert_eq!(chunks(&store, &at), [(1, 4), (10, 3), (40, 3), (70, 1)]);
    let facts = find(&store, &at).unwrap().unwrap().tail;
    assert_eq!(facts, Facts { chunk_size: 3, last_at: 70, ..Facts::fresh() });
    assert_eq!(last(&store.snapshot(), &at).unwrap(), Some(Some(sample(70, 0.0))));
    // Nothing is written where nothing changes.
    let mut txn = store.txn();
    let how = Adding { duplicates: Some(Duplicates::First), ..Adding::default() };
    add(&mut txn, &at, &[sample(3, 1.0), sample(70, 1.0)], how).unwrap().unwrap();
    delete(&mut txn, &at, (5, 9)).unwrap().unwrap();
    alter(&mut txn, &at, sized(3)).unwrap();
    assert_eq!((txn.count(), txn.commit().unwrap()), (0, None));
}

#[test]
fn what_is_over_goes_with_its_chunk() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"t");
    let mut txn = store.txn();
    let how = Changes { retention_ms: Some(25), ..sized(2) };
    for number in 1..=6 {
        add(&mut txn, &at, &[sample(number * 10, 0.0)], adding(how)).unwrap().unwrap();
    }
    let outcomes = add(&mut txn, &at, &[sample(34, 0.0), sample(35, 0.0)], adding(how));
    assert_eq!(outcomes.unwrap().unwrap(), [Added::Old, Added::Stored]);
    add(&mut txn, &at, &[sample(70, 0.0)], adding(how)).unwrap().unwrap();
    txn.commit().unwrap();
    assert_eq!(chunks(&store, &at), [(30, 3), (50, 2), (70, 1)]);
    assert_eq!(all(&store, &at), [(50, 0.0), (60, 0.0), (70, 0.0)]);
    let about = about(&store.snapshot(), &at).unwrap().unwrap();
    assert_eq!((about.ends, about.chunks), ((50, 70), 3));
}

#[test]
fn increments_go_on_from_the_last_value() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"t");
    let mut txn = store.txn();
    let mut step =
        |at_ms, by| increment(&mut txn, &at, sample(at_ms, by), Changes::default()).unwrap();
    assert_eq!(step(10, 2.0), Some(Added::Stored));
    assert_eq!(step(10, 3.0), Some(Added::Stored));
    assert_eq!(step(20, -1.0), Some(Added::Stored));
    assert_eq!(step(19, 1.0), None);
    txn.commit().unwrap();
    assert_eq!(all(&store, &at), [(10, 5.0), (20, 4.0)]);
}

#[test]
fn labels_and_rules_of_kvrocks_are_shown() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"t");
    let mut txn = store.txn();
    create(&mut txn, &at, Changes::default()).unwrap();
    let object = find(&txn, &at).unwrap().unwrap();
    let rule = [&[7_u8][..], &60_u64.to_be_bytes(), &5_u64.to_be_bytes(), &[0; 8]].concat();
    let rule = [&rule[..], &[1, 1], &[0; 8], &[0x80, 0, 0, 0, 0, 0, 0, 0]].concat();
    object.put(&mut txn, FAMILY, &[RULES, b"u"], &[&rule]);
    object.put(&mut txn, FAMILY, &[LABELS, b"city"], &[b"Bern"]);
    // It leads to no series that knows of it.
    let one = [sample(1, 1.0)];
    for how in [Adding::default(), adding(Changes::default())] {
        let added = super::add(&mut txn, &at, &one, how, &|_: &[u8]| false).unwrap();
        assert!(added.is_some());
        create(&mut txn, &SCOPE.at(b"u"), Changes::default()).unwrap();
    }
    txn.commit().unwrap();
    let about = about(&store.snapshot(), &at).unwrap().unwrap();
    let rule = Rule { to: b"u".to_vec(), aggregator: 7, duration: 60, alignment: 5 };
    assert_eq!((about.rules, about.source), (vec![rule], None));
    assert_eq!(about.labels, [(b"city".to_vec(), b"Bern".to_vec())]);
}

#[test]
fn foreign_chunks_are_no_danger() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"t");
    let mut txn = store.txn();
    create(&mut txn, &at, sized(u64::MAX)).unwrap();
    let object = find(&txn, &at).unwrap().unwrap();
    object.put(&mut txn, FAMILY, &[&chunk_sub(5)], &[b"short"]);
    txn.commit().unwrap();
    assert!(last(&store.snapshot(), &at).is_err());
    let mut txn = store.txn();
    assert!(add(&mut txn, &at, &[sample(1, 1.0)], Adding::default()).is_err());
    drop(txn);
    let mut txn = store.txn();
    // Empty ones, and times at the end of time.
    object.put(&mut txn, FAMILY, &[&chunk_sub(5)], &[&chunk::encode(&[])]);
    let news = [sample(u64::MAX, 1.0), sample(0, 1.0), sample(u64::MAX, 2.0)];
    let how = Adding { duplicates: Some(Duplicates::Sum), ..Adding::default() };
    add(&mut txn, &at, &news, how).unwrap().unwrap();
    txn.commit().unwrap();
    assert_eq!(all(&store, &at), [(0, 1.0), (u64::MAX, 3.0)]);
    let mut txn = store.txn();
    assert_eq!(delete(&mut txn, &at, (0, u64::MAX)).unwrap(), Some(2));
}

#[test]
fn buckets_lie_on_their_grid() {
    let grid = Grid::new(30, 100).unwrap();
    let begins = [0, 9, 10, 39, 40, 100, 129, 130].map(|at| grid.begin(at));
    assert_eq!(begins, [0, 0, 10, 10, 40, 100, 100, 130]);
    assert_eq!([0, 10, 100].map(|begin| grid.next(begin)), [Some(10), Some(40), Some(130)]);
    assert_eq!(grid.next(u64::MAX - 5), None);
    assert_eq!(Grid::new(0, 5), None);
}

#[test]
fn buckets_say_what_their_samples_say() {
    let mut bucket = Bucket::of(sample(1, 2.0));
    for (at, value) in [(2, 4.0), (3, 4.0), (4, 4.0), (5, 5.0), (6, 5.0), (7, 7.0), (8, 9.0)] {
        bucket.take(sample(at, value));
    }
    let values = Aggregator::ALL.map(|(aggregator, _)| bucket.value(aggregator));
    let deviation = (32.0_f64 / 7.0).sqrt();
    let sums = [40.0, 2.0, 9.0, 8.0, 2.0, 9.0, 5.0, 7.0];
    assert_eq!(values[..8], sums);
    assert_eq!(values[8..], [2.0, deviation, 4.0, 32.0 / 7.0]);
    let one = Bucket::of(sample(1, 3.0));
    let values = Aggregator::ALL.map(|(aggregator, _)| one.value(aggregator));
    assert_eq!(values, [3.0, 3.0, 3.0, 1.0, 3.0, 3.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn empty_buckets_between_far_samples_are_refused() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"t");
    let mut txn = store.txn();
    let far = [sample(0, 1.0), sample(1 << 40, 1.0)];
    add(&mut txn, &at, &far, adding(Changes::default())).unwrap();
    txn.commit().unwrap();
    let grid = Grid::new(1, 0).unwrap();
    let (aggregator, stamp) = (Aggregator::Avg, Stamp::Start);
    let buckets = Some(Buckets { aggregator, grid, stamp, shows_empty: true });
    let span = (0, u64::MAX);
    let mut query = Query { span, times: None, values: None, count: 3, buckets, is_reverse: false };
    let found = range(&store.snapshot(), &at, &query).unwrap().unwrap();
    assert_eq!(found.iter().map(|sample| sample.at).collect::<Vec<_>>(), [0, 1, 2]);
    query.is_reverse = true;
    let found = range(&store.snapshot(), &at, &query);
    assert!(matches!(found, Err(CommandError::TooManyBuckets)));
}

/// A series of a thousand chunks.
fn long(store: &Store, at: &At<'_>) {
    let mut txn = store.txn();
    let all: Vec<Sample> = (0..10_000).map(|time| sample(time, time as f64)).collect();
    add(&mut txn, at, &all, adding(sized(10))).unwrap();
    txn.commit().unwrap();
}

#[test]
fn the_last_samples_are_read_from_the_end() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"t");
    long(&store, &at);
    let buckets = |duration| {
        let grid = Grid::new(duration, 0).unwrap();
        let (aggregator, stamp) = (Aggregator::Sum, Stamp::Start);
        Buckets { aggregator, grid, stamp, shows_empty: false }
    };
    let last = |buckets: Option<Buckets>| {
        let query = Query {
            span: (0, u64::MAX),
            times: None,
            values: None,
            count: 1,
            buckets,
            is_reverse: true,
        };
        let few = budget::Budget { steps: 300, time: Duration::from_secs(3600) };
        let found = budget::within(few, || range(&store.snapshot(), &at, &query));
        found.expect("few steps").unwrap().unwrap()
    };
    assert_eq!(last(None), [sample(9_999, 9_999.0)]);
    let sum = (9_950..10_000).sum::<u64>() as f64;
    assert_eq!(last(Some(buckets(50))), [sample(9_950, sum)]);
}

#[test]
fn what_is_told_of_a_series_is_counted_while_it_is_gathered() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"t");
    let mut txn = store.txn();
    create(&mut txn, &at, Changes::default()).unwrap();
    let object = find(&txn, &at).unwrap().unwrap();
    for label in 0..100_u8 {
        object.put(&mut txn, FAMILY, &[LABELS, &[label]], &[&[b'x'; 10_000]]);
    }
    txn.commit().unwrap();
    let most = Rc::new(Cell::new(0));
    let told = Rc::clone(&most);
    let goes_on = Box::new(move |gathered| {
        told.set(gathered);
        true
    });
    let about = budget::watched(1, goes_on, || about(&store.snapshot(), &at)).unwrap();
    assert_eq!(about.unwrap().unwrap().labels.len(), 100);
    assert!(most.get() > 980_000, "{}", most.get());
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let one = (0..60_u64, -9..9_i32).prop_map(|(at, value)| sample(at, f64::from(value)));
    prop::collection::vec(one, 1..12)
}

proptest! {
    /// Backwards no more is found, and no other.
    #[test]
    fn the_last_of_a_span_are_the_last_of_all_in_it(
        chunk_size in 1..5_u64,
        samples in samples(),
        (first, length) in (0..60_u64, 0..60_u64),
        (low, count) in (-9..9_i32, 0..8_usize),
        (duration, shows_empty) in (prop::option::of(1..9_u64), any::<bool>()),
    ) {
        let (_dir, store) = store();
        let at = SCOPE.at(b"t");
        let mut txn = store.txn();
        add(&mut txn, &at, &samples, adding(sized(chunk_size))).unwrap();
        txn.commit().unwrap();
        let buckets = duration.map(|duration| {
            let grid = Grid::new(duration, 2).unwrap();
            let (aggregator, stamp) = (Aggregator::Last, Stamp::Start);
            Buckets { aggregator, grid, stamp, shows_empty }
        });
        let all = Query {
            span: (first, first + length),
            times: None,
            values: Some((f64::from(low), 9.0)),
            count: usize::MAX,
            buckets,
            is_reverse: false,
        };
        let mut expected = range(&store.snapshot(), &at, &all).unwrap().unwrap();
        expected.reverse();
        expected.truncate(count);
        let last = Query { count, is_reverse: true, ..all };
        prop_assert_eq!(range(&store.snapshot(), &at, &last).unwrap().unwrap(), expected);
    }

    #[test]
    fn series_hold_what_a_map_holds(
        chunk_size in 1..5_u64,
        duplicates in prop::sample::select(&Duplicates::ALL[..]),
        steps in prop::collection::vec((samples(), prop::option::of((0..60_u64, 0..20_u64))), 1..12),
    ) {
        let (_dir, store) = store();
        let at = SCOPE.at(b"t");
        let mut map = BTreeMap::new();
        let making = Changes { duplicates: Some(duplicates), ..sized(chunk_size) };
        for (samples, deleted) in steps {
            let mut txn = store.txn();
            let outcomes = add(&mut txn, &at, &samples, adding(making)).unwrap().unwrap();
            // Those of one command are joined first.
            let mut news: BTreeMap<u64, f64> = BTreeMap::new();
            for (sample, outcome) in samples.iter().zip(&outcomes) {
                match news.get(&sample.at).copied() {
                    None => _ = news.insert(sample.at, sample.value),
                    Some(old) => match duplicates.join(old, sample.value) {
                        Some(value) => _ = news.insert(sample.at, value),
                        None => prop_assert_eq!(*outcome, Added::Blocked),
                    },
                }
            }
            for (time, value) in news {
                let old = map.get(&time).copied();
                let value = old.map_or(Some(value), |old| duplicates.join(old, value));
                map.extend(value.map(|value| (time, value)));
            }
            if let Some((from, length)) = deleted {
                let count = map.range(from..=from + length).count() as u64;
                map.retain(|time, _| !(from..=from + length).contains(time));
                prop_assert_eq!(delete(&mut txn, &at, (from, from + length)).unwrap(), Some(count));
            }
            txn.commit().unwrap();
            let held: Vec<(u64, f64)> = map.iter().map(|(at, value)| (*at, *value)).collect();
            prop_assert_eq!(all(&store, &at), held.clone());
            let last = last(&store.snapshot(), &at).unwrap().flatten();
            prop_assert_eq!(last.map(|last| (last.at, last.value)), held.last().copied());
            let sizes = chunks(&store, &at);
            prop_assert!(sizes.iter().all(|(_, size)| *size as u64 <= 2 * chunk_size));
        }
    }
}
