use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::Store;
use crate::types::bench::{SCOPE, store};
use crate::types::timeseries::tests::{all, sample};
use crate::types::timeseries::{Adding, Changes, about, add, create, delete};

const ALL: Holds<'static> = &|_: &[u8]| true;

fn says(aggregator: Aggregator, duration: u64, alignment: u64) -> Says {
    Says { aggregator, duration, alignment }
}

fn sized(chunk_size: u64) -> Changes {
    let duplicates = Some(Duplicates::Last);
    Changes { chunk_size: Some(chunk_size), duplicates, ..Changes::default() }
}

/// Two series and a rule from the first to the second.
fn ruled(store: &Store, [from, to]: [&At<'_>; 2], chunk_size: u64, says: Says) {
    let mut txn = store.txn();
    create(&mut txn, from, sized(chunk_size)).unwrap();
    create(&mut txn, to, sized(chunk_size)).unwrap();
    assert_eq!(create_rule(&mut txn, (from, to), says).unwrap(), Ok(()));
    txn.commit().unwrap();
}

fn added(store: &Store, at: &At<'_>, samples: &[Sample]) {
    let mut txn = store.txn();
    add(&mut txn, at, samples, Adding::default(), ALL).unwrap().unwrap();
    txn.commit().unwrap();
}

#[test]
fn rules_are_written_as_kvrocks_writes_them() {
    let (_dir, store) = store();
    let [from, to] = [b"s", b"d"].map(|key| SCOPE.at(key));
    ruled(&store, [&from, &to], 2, says(Aggregator::Avg, 60, 5));
    let rule = |store: &Store| {
        let source = find(store, &from).unwrap().unwrap();
        source.element(store, FAMILY, &[RULES, b"d"].concat()).unwrap().unwrap().to_vec()
    };
    let numbers =
        |open: u64| [60_u64.to_be_bytes(), 5_u64.to_be_bytes(), open.to_be_bytes()].concat();
    let none = [&[1_u8, 1][..], &[0; 8], &[0x80, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(rule(&store), [&[7_u8][..], &numbers(0), &none].concat());
    // The first bucket, of which nothing is in a chunk that is over.
    added(&store, &from, &[sample(70, 1.0), sample(71, 2.0)]);
    assert_eq!(rule(&store), [&[7_u8][..], &numbers(65), &none].concat());
    // A chunk is over: what it has of the bucket is gathered.
    added(&store, &from, &[sample(72, 4.0)]);
    let gathered =
        [&[1_u8, 1][..], &2_u64.to_be_bytes(), &crate::types::score::encode(3.0)].concat();
    assert_eq!(rule(&store), [&[7_u8][..], &numbers(65), &gathered].concat());
    assert_eq!(all(&store, &to), []);
    added(&store, &from, &[sample(125, 1.0)]);
    assert_eq!(rule(&store), [&[7_u8][..], &numbers(125), &none].concat());
    assert_eq!(all(&store, &to), [(65, 7.0 / 3.0)]);
    let source = about(&store.snapshot(), &to).unwrap().unwrap().source;
    assert_eq!(source.as_deref(), Some(&b"s"[..]));
}

#[test]
fn the_series_that_rules_lead_to_are_held() {
    let (_dir, store) = store();
    let [from, to] = [b"s", b"d"].map(|key| SCOPE.at(key));
    ruled(&store, [&from, &to], 2, says(Aggregator::Sum, 10, 0));
    let mut txn = store.txn();
    let how = Adding::default();
    let refused = add(&mut txn, &from, &[sample(1, 1.0)], how, &|_: &[u8]| false);
    assert!(matches!(refused, Err(CommandError::LeadsTo(keys)) if keys == [b"d".to_vec()]));
    let refused = delete(&mut txn, &from, (0, 9), &|_: &[u8]| false);
    assert!(matches!(refused, Err(CommandError::LeadsTo(_))));
    assert_eq!(txn.count(), 0, "nothing was written before the locks were there");
    let held: Holds<'_> = &|key: &[u8]| key == b"d";
    assert!(add(&mut txn, &from, &[sample(1, 1.0)], how, held).unwrap().is_some());
    // What is led to another series, or to none, needs no lock.
    assert!(add(&mut txn, &to, &[sample(1, 1.0)], how, &|_: &[u8]| false).unwrap().is_some());
}

#[test]
fn a_series_has_one_source_and_no_way_is_longer_than_one_rule() {
    let (_dir, store) = store();
    let [a, b, c] = [b"a", b"b", b"c"].map(|key| SCOPE.at(key));
    let sum = says(Aggregator::Sum, 10, 0);
    ruled(&store, [&a, &b], 2, sum);
    let mut txn = store.txn();
    let mut made = |from, to| create_rule(&mut txn, (from, to), sum).unwrap();
    assert_eq!(made(&a, &a), Err(NoRule::Same));
    assert_eq!(made(&a, &c), Err(NoRule::Missing));
    create(&mut txn, &c, Changes::default()).unwrap();
    let mut made = |from, to| create_rule(&mut txn, (from, to), sum).unwrap();
    assert_eq!(made(&b, &c), Err(NoRule::SourceHasSource));
    assert_eq!(made(&c, &b), Err(NoRule::TargetHasSource));
    assert_eq!(made(&c, &a), Err(NoRule::TargetHasRules));
    assert_eq!(made(&a, &c), Ok(()));
    assert_eq!(delete_rule(&mut txn, (&a, &b)).unwrap(), Some(true));
    assert_eq!(delete_rule(&mut txn, (&a, &b)).unwrap(), Some(false));
    assert_eq!(delete_rule(&mut txn, (&a, &SCOPE.at(b"none"))).unwrap(), None);
    assert_eq!(create_rule(&mut txn, (&b, &c), sum).unwrap(), Err(NoRule::TargetHasSource));
    assert_eq!(create_rule(&mut txn, (&a, &b), sum).unwrap(), Ok(()));
}

#[test]
fn a_rule_begins_with_the_samples_that_come_after_it() {
    let (_dir, store) = store();
    let [from, to] = [b"s", b"d"].map(|key| SCOPE.at(key));
    let mut txn = store.txn();
    create(&mut txn, &from, sized(2)).unwrap();
    create(&mut txn, &to, sized(2)).unwrap();
    let before: Vec<Sample> = (10..17).map(|at| sample(at, 1.0)).collect();
    add(&mut txn, &from, &before, Adding::default(), ALL).unwrap();
    let sum = says(Aggregator::Sum, 5, 0);
    create_rule(&mut txn, (&from, &to), sum).unwrap().unwrap();
    txn.commit().unwrap();
    // Of its bucket those count that were there: 15 and 16.
    added(&store, &from, &[sample(18, 1.0)]);
    assert_eq!(all(&store, &to), []);
    added(&store, &from, &[sample(20, 1.0)]);
    assert_eq!(all(&store, &to), [(15, 3.0)]);
    // One that is late.
    added(&store, &from, &[sample(13, 5.0)]);
    assert_eq!(all(&store, &to), [(10, 9.0), (15, 3.0)]);
}

#[test]
fn a_rule_takes_all_that_is_in_the_first_bucket() {
    let (_dir, store) = store();
    let [from, to] = [b"s", b"d"].map(|key| SCOPE.at(key));
    let mut txn = store.txn();
    create(&mut txn, &from, sized(2)).unwrap();
    create(&mut txn, &to, sized(2)).unwrap();
    let before: Vec<Sample> = (0..5).map(|at| sample(at, 1.0)).collect();
    add(&mut txn, &from, &before, Adding::default(), ALL).unwrap();
    create_rule(&mut txn, (&from, &to), says(Aggregator::Sum, 10, 0)).unwrap().unwrap();
    txn.commit().unwrap();
    added(&store, &from, &[sample(10, 1.0)]);
    assert_eq!(all(&store, &to), [(0, 5.0)]);
}

/// Two series and a rule that counts the samples of the first one, which keeps them for 8 ms.
fn forgetful(store: &Store, [from, to]: [&At<'_>; 2], duration: u64) {
    let mut txn = store.txn();
    create(&mut txn, from, Changes { retention_ms: Some(8), ..sized(2) }).unwrap();
    create(&mut txn, to, sized(2)).unwrap();
    create_rule(&mut txn, (from, to), says(Aggregator::Count, duration, 0)).unwrap().unwrap();
    txn.commit().unwrap();
}

#[test]
fn what_is_gathered_stays_where_its_samples_are_gone() {
    let (_dir, store) = store();
    let [from, to] = [b"s", b"d"].map(|key| SCOPE.at(key));
    forgetful(&store, [&from, &to], 1000);
    for number in 0..50 {
        added(&store, &from, &[sample(2 * number, 1.0)]);
    }
    // Late, in the bucket that is open.
    added(&store, &from, &[sample(91, 1.0)]);
    added(&store, &from, &[sample(1000, 1.0)]);
    assert_eq!(all(&store, &to), [(0, 50.0)]);
}

#[test]
fn no_bucket_is_open_again_whose_samples_are_gone() {
    let (_dir, store) = store();
    let [from, to] = [b"s", b"d"].map(|key| SCOPE.at(key));
    forgetful(&store, [&from, &to], 10);
    for at in 0..26 {
        added(&store, &from, &[sample(at, 1.0)]);
    }
    let mut txn = store.txn();
    let refused = delete(&mut txn, &from, (20, 25), ALL);
    assert!(matches!(refused, Err(CommandError::BeyondRetention)));
    assert_eq!(delete(&mut txn, &from, (30, 40), ALL).unwrap(), Some(0));
    // A sample of the bucket stays.
    assert_eq!(delete(&mut txn, &from, (21, 25), ALL).unwrap(), Some(5));
    txn.commit().unwrap();
    added(&store, &from, &[sample(30, 1.0)]);
    assert_eq!(all(&store, &to), [(0, 10.0), (10, 10.0), (20, 1.0)]);
}

#[test]
fn what_a_source_may_have_lost_is_not_computed_anew() {
    let (_dir, store) = store();
    let [from, to] = [b"s", b"d"].map(|key| SCOPE.at(key));
    forgetful(&store, [&from, &to], 10);
    for at in 0..15 {
        added(&store, &from, &[sample(at, 1.0)]);
    }
    assert_eq!(all(&store, &to), [(0, 10.0)]);
    // Late, and not too old: of its bucket the first samples are gone.
    added(&store, &from, &[sample(8, 2.0)]);
    assert_eq!(all(&store, &to), [(0, 10.0)]);
    let mut txn = store.txn();
    let refused = delete(&mut txn, &from, (8, 9), ALL);
    assert!(matches!(refused, Err(CommandError::BeyondRetention)));
    assert_eq!(delete(&mut txn, &from, (12, 13), ALL).unwrap(), Some(2));
}

/// What was over for the newest samples is gone, and does not come back when these go.
#[test]
fn what_is_lost_stays_so_when_the_newest_samples_are_deleted() {
    let (_dir, store) = store();
    let [from, to] = [b"s", b"d"].map(|key| SCOPE.at(key));
    forgetful(&store, [&from, &to], 4);
    for at in 0..26 {
        added(&store, &from, &[sample(at, 1.0)]);
    }
    let said = [(0, 4.0), (4, 4.0), (8, 4.0), (12, 4.0), (16, 4.0)];
    assert_eq!(all(&store, &to), [&said[..], &[(20, 4.0)]].concat());
    let mut txn = store.txn();
    assert_eq!(delete(&mut txn, &from, (21, 25), ALL).unwrap(), Some(5));
    txn.commit().unwrap();
    assert_eq!(all(&store, &to), said);
    // Not too old now, and all others of its bucket are gone.
    added(&store, &from, &[sample(13, 1.0)]);
    assert_eq!(all(&store, &to), said);
    let mut txn = store.txn();
    let refused = delete(&mut txn, &from, (13, 13), ALL);
    assert!(matches!(refused, Err(CommandError::BeyondRetention)));
}

/// What a rule should have said of samples: of each bucket but the last one.
fn expected(samples: &BTreeMap<u64, f64>, aggregator: Aggregator, grid: Grid) -> Vec<(u64, f64)> {
    let mut buckets: BTreeMap<u64, Bucket> = BTreeMap::new();
    for (at, value) in samples {
        let one = sample(*at, *value);
        let entry = buckets.entry(grid.begin(*at));
        entry.and_modify(|bucket| bucket.take(one)).or_insert(Bucket::of(one));
    }
    buckets.pop_last();
    buckets.iter().map(|(begin, bucket)| (*begin, bucket.value(aggregator))).collect()
}

fn are_close(one: &[(u64, f64)], other: &[(u64, f64)]) -> bool {
    let close = |(a, b): (&(u64, f64), &(u64, f64))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-6;
    one.len() == other.len() && one.iter().zip(other).all(close)
}

proptest! {
    /// In whatever order samples come and go, a rule has said what they say now.
    #[test]
    fn rules_say_what_their_sources_hold(
        aggregator in 0..Aggregator::ALL.len(),
        chunk_size in 1..5_u64,
        (duration, alignment) in (1..20_u64, 0..30_u64),
        steps in prop::collection::vec((0..120_u64, -9..9_i32, 0..12_u64), 1..40),
    ) {
        let (_dir, store) = store();
        let [from, to] = [b"s", b"d"].map(|key| SCOPE.at(key));
        let aggregator = Aggregator::ALL[aggregator].0;
        ruled(&store, [&from, &to], chunk_size, says(aggregator, duration, alignment));
        let grid = Grid::new(duration, alignment).unwrap();
        let mut held = BTreeMap::new();
        for (at, value, length) in steps {
            if length < 4 {
                let mut txn = store.txn();
                let span = (at, at + length * 8);
                let gone = held.range(span.0..=span.1).count() as u64;
                prop_assert_eq!(delete(&mut txn, &from, span, ALL).unwrap(), Some(gone));
                txn.commit().unwrap();
                held.retain(|at, _| !(span.0..=span.1).contains(at));
            } else {
                // Several at once now and then.
                let many: Vec<Sample> =
                    (0..length / 4).map(|n| sample(at + n * n, f64::from(value))).collect();
                added(&store, &from, &many);
                held.extend(many.iter().map(|one| (one.at, one.value)));
            }
            let (said, wanted) = (all(&store, &to), expected(&held, aggregator, grid));
            prop_assert!(are_close(&said, &wanted), "{:?}, not {:?}", said, wanted);
        }
    }

    #[test]
    fn foreign_rules_are_no_danger(bytes: Vec<u8>) {
        let (_dir, store) = store();
        let [from, to] = [b"s", b"d"].map(|key| SCOPE.at(key));
        ruled(&store, [&from, &to], 2, says(Aggregator::Sum, 10, 0));
        let mut txn = store.txn();
        let source = find(&txn, &from).unwrap().unwrap();
        source.put(&mut txn, FAMILY, &[RULES, b"d"], &[&bytes]);
        let how = Adding::default();
        for at in [5, 15, 1] {
            let _ = add(&mut txn, &from, &[sample(at, 1.0)], how, ALL).is_ok();
        }
        let _ = delete(&mut txn, &from, (0, 9), ALL).is_ok();
    }
}
