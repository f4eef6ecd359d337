use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::Store;
use crate::types::bench::{SCOPE, store};

fn sketch_of(compression: u32, values: &[f64]) -> Sketch {
    let mut sketch = Sketch::empty(compression).with(values.to_vec());
    sketch.min = values.iter().copied().fold(f64::MAX, f64::min);
    sketch.max = values.iter().copied().fold(f64::MIN, f64::max);
    sketch
}

/// What lies under a key, in hexadecimal digits.
fn sub_keys(store: &Store, at: &At<'_>) -> Vec<(String, String)> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let object = find(store, at).unwrap().unwrap();
    let mut elements =
        object.elements(store, FAMILY, &SubRange::all(), Direction::Forward).unwrap();
    let mut found = Vec::new();
    while let Some((sub, value)) = elements.next().unwrap() {
        found.push((hex(sub), hex(value)));
    }
    found
}

#[test]
fn facts_are_written_as_kvrocks_writes_them() {
    let mut tail = Vec::new();
    Facts::new(100).write(&mut tail);
    let numbers = [&[0, 0, 0, 100, 0, 0, 2, 98][..], &[0; 32]].concat();
    let extremes = [0xffef_ffff_ffff_ffff_u64.to_be_bytes(), (1_u64 << 52).to_be_bytes()].concat();
    assert_eq!(tail, [numbers, extremes, vec![0; 16]].concat());
    assert_eq!(Facts::read(&tail), Some(Facts::fresh()));
    for end in 0..tail.len() {
        assert_eq!(Facts::read(&tail[..end]), None);
    }
    assert_eq!(Facts::read(&[&tail[..], b"\0"].concat()), None);
    assert_eq!(Facts::new(COMPRESSION_MAX).capacity, 1024);
    assert_eq!(Facts::new(u32::MAX).capacity, 1024);
}

#[test]
fn values_wait_until_the_buffer_is_full() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"t");
    let mut txn = store.txn();
    assert!(!add(&mut txn, &at, &[1.0]).unwrap());
    assert!(create(&mut txn, &at, 1).unwrap());
    assert!(!create(&mut txn, &at, 1).unwrap());
    assert!(add(&mut txn, &at, &[2.0, 1.0]).unwrap());
    txn.commit().unwrap();
    let two = [("00".to_owned(), "c000000000000000bff0000000000000".to_owned())];
    assert_eq!(sub_keys(&store, &at), two);

    let mut txn = store.txn();
    assert!(add(&mut txn, &at, &[1.0; 15]).unwrap());
    txn.commit().unwrap();
    let stored = sub_keys(&store, &at);
    assert_eq!(
        stored.first().unwrap(),
        &("01bff000000000000000000000".into(), "bff0000000000000".into())
    );
    assert_eq!(stored.last().unwrap().0[..18], *"01c000000000000000");
    let object = find(&store, &at).unwrap().unwrap();
    let facts = object.tail;
    assert_eq!((facts.unmerged, facts.merged, facts.merges), (0, stored.len() as u64, 1));
    assert_eq!((facts.weight, facts.merged_weight, facts.observations), (17, 17, 17));
    assert_eq!((facts.min, facts.max, object.size), (1.0, 2.0, 0));

    let mut txn = store.txn();
    assert!(reset(&mut txn, &at).unwrap());
    txn.commit().unwrap();
    assert_eq!(sub_keys(&store, &at), []);
    assert_eq!(find(&store, &at).unwrap().unwrap().tail, Facts::new(1));
    assert_eq!(sketch(&store.snapshot(), &at).unwrap(), Some(Sketch::empty(1)));
}

#[test]
fn a_read_knows_what_waits_and_writes_nothing() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"t");
    let mut txn = store.txn();
    create(&mut txn, &at, 10).unwrap();
    let values: Vec<f64> = (0..100).map(f64::from).collect();
    add(&mut txn, &at, &values[..60]).unwrap();
    add(&mut txn, &at, &values[60..]).unwrap();
    add(&mut txn, &at, &[1000.0, -1000.0]).unwrap();
    txn.commit().unwrap();
    let before = sub_keys(&store, &at);
    let found = sketch(&store.snapshot(), &at).unwrap().unwrap();
    assert_eq!((found.min, found.max, found.weight), (-1000.0, 1000.0, 102.0));
    assert_eq!(found.rank(-1000.0, End::Smallest), 0);
    assert_eq!(sub_keys(&store, &at), before);
}

#[test]
fn merged_sketches_hold_everything() {
    let (_dir, store) = store();
    let [a, b, to] = [b"a", b"b", b"c"].map(|key| SCOPE.at(key));
    let mut txn = store.txn();
    create(&mut txn, &a, 50).unwrap();
    create(&mut txn, &b, 20).unwrap();
    add(&mut txn, &a, &[1.0, 2.0]).unwrap();
    add(&mut txn, &b, &[3.0]).unwrap();
    let plain = Merging::default();
    assert_eq!(merge(&mut txn, &to, &[a.clone(), to.clone()], plain).unwrap(), Err(1));
    assert_eq!(merge(&mut txn, &to, &[b.clone(), a.clone()], plain).unwrap(), Ok(()));
    let facts = |read: &Txn<'_>, at| find(read, at).unwrap().unwrap().tail;
    let made = facts(&txn, &to);
    assert_eq!((made.compression, made.weight, made.observations), (50, 3, 3));
    assert_eq!((made.min, made.max, made.unmerged, made.merged), (1.0, 3.0, 0, 3));
    assert_eq!((facts(&txn, &a).unmerged, facts(&txn, &a).merges), (2, 0));
    // What is there stays, its compression too, unless told otherwise.
    merge(&mut txn, &b, std::slice::from_ref(&to), plain).unwrap().unwrap();
    assert_eq!((facts(&txn, &b).compression, facts(&txn, &b).weight), (20, 4));
    let anew = Merging { compression: Some(7), is_override: true };
    merge(&mut txn, &b, std::slice::from_ref(&to), anew).unwrap().unwrap();
    assert_eq!((facts(&txn, &b).compression, facts(&txn, &b).weight), (7, 3));
    // Into itself, with values that wait.
    add(&mut txn, &to, &[9.0]).unwrap();
    merge(&mut txn, &to, std::slice::from_ref(&to), plain).unwrap().unwrap();
    assert_eq!(facts(&txn, &to).weight, 8);
    txn.commit().unwrap();
    let held = sketch(&store.snapshot(), &to).unwrap().unwrap();
    let weights: f64 = held.centroids.iter().map(|centroid| centroid.weight).sum();
    assert_eq!((weights, held.max), (8.0, 9.0));
}

/// Each source is read once, and what is named often is not joined name by name.
#[test]
fn a_source_that_is_named_often_costs_no_more_than_one() {
    const TIMES: u64 = 200_000;
    let (_dir, store) = store();
    let [a, b, to] = [b"a", b"b", b"c"].map(|key| SCOPE.at(key));
    let mut txn = store.txn();
    create(&mut txn, &a, COMPRESSION_MAX).unwrap();
    create(&mut txn, &b, 50).unwrap();
    for part in 0..20 {
        let values: Vec<f64> = (0..1000).map(|value| f64::from(part + value * 20)).collect();
        add(&mut txn, &a, &values).unwrap();
    }
    let mut sources = vec![a.clone(); usize::try_from(TIMES).unwrap()];
    sources.push(b.clone());
    let steps = Rc::new(Cell::new(0_u64));
    let count = Rc::clone(&steps);
    let goes_on = Box::new(move |_| {
        count.set(count.get() + 1000);
        true
    });
    let done =
        budget::watched(1000, goes_on, || merge(&mut txn, &to, &sources, Merging::default()));
    assert_eq!(done.unwrap().unwrap(), Ok(()));
    assert!(steps.get() < 20_000, "{} steps", steps.get());
    let made = find(&txn, &to).unwrap().unwrap().tail;
    assert_eq!((made.weight, made.observations), (20_000 * TIMES, 20_000 * TIMES));
    assert_eq!((made.compression, made.min, made.max), (COMPRESSION_MAX, 0.0, 19_999.0));
    txn.commit().unwrap();
    let merged = sketch(&store.snapshot(), &to).unwrap().unwrap();
    for share in [0.01, 0.5, 0.99] {
        let (told, right) = (merged.quantile(share), 20_000.0 * share);
        assert!((told - right).abs() < 100.0, "{share}: {told}");
    }
    // The first one that is missing is told, also behind so many.
    sources.extend([SCOPE.at(b"x"), a.clone(), SCOPE.at(b"y")]);
    let mut txn = store.txn();
    let missing = usize::try_from(TIMES).unwrap() + 1;
    assert_eq!(merge(&mut txn, &to, &sources, Merging::default()).unwrap(), Err(missing));
}

/// A few names are what they were: each is a source of its own, in its place.
#[test]
fn a_source_that_is_named_twice_is_two() {
    let (_dir, store) = store();
    let [a, b, twice, copied] = [b"a", b"b", b"c", b"d"].map(|key| SCOPE.at(key));
    let copy = SCOPE.at(b"e");
    let mut txn = store.txn();
    for (at, first) in [(&a, 0), (&copy, 0), (&b, 7)] {
        create(&mut txn, at, 30).unwrap();
        let values: Vec<f64> = (0..500).map(|value| f64::from(first + value * 3)).collect();
        add(&mut txn, at, &values).unwrap();
    }
    let plain = Merging::default();
    merge(&mut txn, &twice, &[a.clone(), b.clone(), a.clone()], plain).unwrap().unwrap();
    merge(&mut txn, &copied, &[a, b, copy], plain).unwrap().unwrap();
    txn.commit().unwrap();
    let at = store.snapshot();
    assert_eq!(sketch(&at, &twice).unwrap(), sketch(&at, &copied).unwrap());
}

#[test]
fn many_questions_to_a_sketch_are_steps() {
    let sketch = sketch_of(1000, &(0..5000).map(f64::from).collect::<Vec<_>>());
    let asked = |count: usize| {
        let steps = budget::Budget { steps: 1_000, time: Duration::from_secs(3600) };
        let questions = vec![0.5; count];
        budget::within(steps, || {
            answers(&sketch, &questions, |sketch, share| sketch.quantile(*share))
                .map(|all| all.len())
        })
    };
    assert!(matches!(asked(100), Some(Ok(100))));
    assert!(asked(1_001).is_none());
}

#[test]
fn nothing_is_made_of_nothing() {
    let (_dir, store) = store();
    let (a, to) = (SCOPE.at(b"a"), SCOPE.at(b"b"));
    let mut txn = store.txn();
    create(&mut txn, &a, 50).unwrap();
    merge(&mut txn, &to, std::slice::from_ref(&a), Merging::default()).unwrap().unwrap();
    let made = find(&txn, &to).unwrap().unwrap().tail;
    assert_eq!(made, Facts::new(50));
}

/// Answers of Kvrocks and of RedisBloom, as they are published.
#[test]
fn answers_are_the_published_ones() {
    let sketch = sketch_of(10, &(0..100).map(f64::from).collect::<Vec<_>>());
    let shares =
        [20.0, 40.0, 50.0, 60.0, 80.0].map(|value| score::format(sketch.share_below(value)));
    let texts = [
        "0.20499999999999999",
        "0.40500000000000003",
        "0.505",
        "0.60499999999999998",
        "0.80500000000000005",
    ];
    assert_eq!(shares, texts);

    let values = [-40.0, -36.0, -27.0, -13.0, -12.0, 7.0, 7.0, 25.0, 47.0, 50.0];
    let sketch = sketch_of(200, &values);
    assert_eq!(
        [0.0, 6.9, -41.0, 51.0].map(|value| sketch.share_below(value)),
        [0.5, 0.5, 0.0, 1.0]
    );
    assert_eq!([-40.0, 7.0, 50.0].map(|value| sketch.share_below(value)), [0.05, 0.6, 0.95]);

    let sketch = sketch_of(1000, &[10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
    let values = [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0];
    let ranks = |end| values.map(|value| sketch.rank(value, end));
    assert_eq!(ranks(End::Smallest), [-1, 0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(ranks(End::Largest), [6, 5, 4, 3, 2, 1, 0, -1]);

    let sketch = sketch_of(1000, &[1.0, 2.0, 2.0, 3.0, 3.0, 3.0]);
    let values = |end| [0, 1, 2, 3, 4, 5, 6, 7].map(|rank| sketch.by_rank(rank, end));
    let inf = f64::INFINITY;
    assert_eq!(values(End::Smallest), [1.0, 2.0, 2.0, 3.0, 3.0, 3.0, inf, inf]);
    assert_eq!(values(End::Largest), [3.0, 3.0, 3.0, 2.0, 2.0, 1.0, -inf, -inf]);
    assert_eq!([2.0, 3.0].map(|value| sketch.rank(value, End::Smallest)), [2, 4]);

    let sketch = sketch_of(100, &(1..11).map(f64::from).collect::<Vec<_>>());
    assert_eq!(sketch.trimmed_mean(0.1, 0.9), 5.5);
    assert_eq!([0.0, 0.5, 1.0].map(|share| sketch.quantile(share)), [1.0, 5.5, 10.0]);
}

#[test]
fn foreign_sketches_are_no_danger() {
    let odd = [f64::NAN, f64::INFINITY, -f64::INFINITY, 0.0, -1.0, f64::MAX, 1.0];
    for mean in odd {
        for weight in odd {
            let centroids = vec![Centroid { mean, weight }; 3];
            let sketch = Sketch { centroids, compression: 0, min: mean, max: weight, weight };
            for value in odd {
                sketch.quantile(value);
                sketch.share_below(value);
                sketch.rank(value, End::Smallest);
                sketch.rank(value, End::Largest);
                sketch.trimmed_mean(value, value);
            }
            sketch.by_rank(1, End::Largest);
            let more = sketch.with(vec![1.0; 20]);
            assert!(more.centroids.len() <= 23);
            assert!(Sketch::of_all(&[more, sketch], 1).centroids.len() <= 26);
        }
    }
}

#[test]
fn records_that_contradict_each_other_are_an_error() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"t");
    let mut txn = store.txn();
    create(&mut txn, &at, 10).unwrap();
    add(&mut txn, &at, &[1.0; 100]).unwrap();
    let object = find(&txn, &at).unwrap().unwrap();
    object.put(&mut txn, FAMILY, &[&[1, 9]], &[b"short"]);
    txn.commit().unwrap();
    assert!(matches!(sketch(&store.snapshot(), &at), Err(CommandError::Storage(_))));
    let mut txn = store.txn();
    assert!(add(&mut txn, &at, &[1.0; 100]).is_err());
}

proptest! {
    #[test]
    fn quantiles_and_ranks_are_near(
        mut values in prop::collection::vec(-1e6..1e6_f64, 1..2000),
        parts in 1..5_usize,
        share in 0.0..1.0_f64,
    ) {
        let sketches: Vec<Sketch> = values
            .chunks(values.len().div_ceil(parts))
            .map(|part| sketch_of(100, part))
            .collect();
        let sketch = Sketch::of_all(&sketches, 100);
        values.sort_by(f64::total_cmp);
        let count = values.len() as f64;
        let weights: f64 = sketch.centroids.iter().map(|centroid| centroid.weight).sum();
        prop_assert_eq!((weights, sketch.weight), (count, count));
        prop_assert!(sketch.centroids.is_sorted_by(|one, next| one.mean <= next.mean));
        prop_assert!(sketch.centroids.len() <= 110);
        prop_assert_eq!((sketch.min, sketch.max), (values[0], values[values.len() - 1]));
        // Twice the width of the largest centroid, and the values beside it.
        let room = count * 0.07 + 2.0;
        let value = sketch.quantile(share);
        let below = values.partition_point(|other| *other < value) as f64;
        prop_assert!((below - share * count).abs() <= room, "{} {}", below, share * count);
        let rank = sketch.rank(value, End::Smallest) as f64;
        prop_assert!((rank - below).abs() <= room, "{} {}", rank, below);
        let from_top = sketch.rank(value, End::Largest) as f64;
        prop_assert!((from_top + rank - count).abs() <= room);
        prop_assert!((sketch.share_below(value) - share).abs() * count <= room);
        let again = sketch.by_rank(rank.max(0.0) as u64, End::Smallest);
        let at = values.partition_point(|other| *other < again) as f64;
        prop_assert!(again.is_infinite() || (at - rank).abs() <= room);
    }
}
