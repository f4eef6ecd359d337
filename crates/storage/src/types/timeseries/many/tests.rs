//! Series that are found by labels, and ways that lead to nothing any more.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use replication::history::EpochId;

use super::*;
use crate::types::bench::{SCOPE, store};
use crate::types::timeseries::way::Way;
use crate::types::timeseries::{Changes, create_with, relabel};
use crate::types::{copy, keys, keyspace, strings};
use crate::{Error, Read, Store, Txn};

fn write<T>(store: &Store, run: impl FnOnce(&mut Txn<'_>) -> T) -> T {
    let mut txn = store.txn();
    let done = run(&mut txn);
    txn.commit().unwrap();
    done
}

type Texts<'t> = &'t [(&'t str, &'t str)];

fn labels<'t>(texts: Texts<'t>) -> Vec<Label<'t>> {
    texts.iter().map(|(label, value)| (label.as_bytes(), value.as_bytes())).collect()
}

fn make_in(store: &Store, scope: Scope<'_>, key: &str, texts: Texts<'_>) {
    let at = scope.at(key.as_bytes());
    let made = write(store, |txn| create_with(txn, &at, Changes::default(), &labels(texts)));
    assert!(made.unwrap());
}

fn make(store: &Store, key: &str, texts: Texts<'_>) {
    make_in(store, SCOPE, key, texts);
}

fn found_in(store: &Store, scope: Scope<'_>, conditions: &[&str]) -> String {
    let mut filter = Filter::default();
    for condition in conditions {
        filter.add(condition.as_bytes()).unwrap();
    }
    let all = named(&store.snapshot(), scope, &filter).unwrap();
    let keys = all.into_iter().map(|series| String::from_utf8(series.key).unwrap());
    keys.collect::<Vec<_>>().join(" ")
}

fn found(store: &Store, conditions: &[&str]) -> String {
    found_in(store, SCOPE, conditions)
}

/// All ways there are, of all namespaces.
fn ways(store: &Store) -> Vec<String> {
    let mut cursor = store.scan(Family::Index, b"", b"", Direction::Forward).unwrap();
    let mut all = Vec::new();
    while let Some((key, value)) = cursor.next().unwrap() {
        let Way { label, value: of, key, .. } = Way::read(key).unwrap();
        assert!(value.is_empty());
        let [label, of, key] = [label, of, key].map(|text| text.escape_ascii().to_string());
        all.push(format!("{label}={of} {key}"));
    }
    all
}

#[test]
fn series_are_found_by_the_labels_that_they_have_now() {
    let (_dir, store) = store();
    assert_eq!(found(&store, &["room=1"]), "");
    make(&store, "a", &[("room", "1"), ("floor", "2")]);
    make(&store, "b", &[("room", "0"), ("room", "1")]);
    make(&store, "c", &[("room", "2"), ("floor", "2")]);
    make_in(&store, Scope { namespace: b"other", ..SCOPE }, "d", &[("room", "1")]);
    assert_eq!(found(&store, &["room=1"]), "a b");
    assert_eq!(found(&store, &["room=0"]), "");
    assert_eq!(found(&store, &["room=1", "floor=2"]), "a");
    assert_eq!(found(&store, &["room=(2,1)"]), "a b c");
    assert_eq!(found(&store, &["room=(1,2)", "floor!=2"]), "b");
    assert_eq!(found(&store, &["room=(1,2)", "floor="]), "b");
    assert_eq!(found(&store, &["floor=2", "room!=1"]), "c");
    assert_eq!(found_in(&store, Scope { namespace: b"other", ..SCOPE }, &["room=1"]), "d");
    let again = |key: &[u8], texts| {
        write(&store, |txn| relabel(txn, &SCOPE.at(key), &labels(texts)).unwrap())
    };
    assert!(again(b"a", &[("room", "3"), ("floor", "2")]));
    assert!(!again(b"none", &[("room", "3")]));
    assert_eq!(found(&store, &["room=1"]), "b");
    assert_eq!(found(&store, &["room=3", "floor=2"]), "a");
    let before = store.latest_sequence();
    assert!(again(b"a", &[("floor", "2"), ("room", "3")]));
    assert_eq!(store.latest_sequence(), before, "nothing is another one");
    assert!(again(b"a", &[]));
    assert_eq!(found(&store, &["floor=2"]), "c");
    let expected = ["room=1 d", "room=1 b", "room=2 c", "floor=2 c"];
    let mut all = ways(&store);
    all.sort();
    let mut expected = expected.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(all, expected);
}

#[test]
fn series_that_are_gone_or_have_another_name_are_not_found() {
    let (_dir, store) = store();
    for key in ["a", "b", "c", "d"] {
        make(&store, key, &[("room", "1")]);
    }
    let at = |key: &'static [u8]| SCOPE.at(key);
    write(&store, |txn| keys::del(txn, &SCOPE, &[b"a"]).unwrap());
    write(&store, |txn| strings::mset(txn, &SCOPE, &[(b"b", b"v")]));
    write(&store, |txn| copy::rename(txn, &at(b"c"), &at(b"e")).unwrap());
    write(&store, |txn| copy::copy(txn, &at(b"d"), &at(b"f"), false).unwrap());
    assert_eq!(found(&store, &["room=1"]), "d e f");
    // Of what was deleted the way is left; it leads to what comes in its place, if that is meant.
    assert_eq!(ways(&store), ["a", "b", "d", "e", "f"].map(|key| format!("room=1 {key}")));
    make(&store, "a", &[("room", "2")]);
    assert_eq!(found(&store, &["room=1"]), "d e f");
    write(&store, |txn| keyspace::flush_namespace(txn, &SCOPE));
    assert_eq!(found(&store, &["room=(1,2)"]), "");
}

/// Seen inside of a transaction, before it is written.
#[test]
fn a_transaction_finds_what_it_has_made() {
    let (_dir, store) = store();
    make(&store, "a", &[("room", "1")]);
    let mut txn = store.txn();
    let label: Label<'_> = (b"room", b"1");
    create_with(&mut txn, &SCOPE.at(b"b"), Changes::default(), &[label]).unwrap();
    keys::del(&mut txn, &SCOPE, &[b"a"]).unwrap();
    let mut filter = Filter::default();
    filter.add(b"room=1").unwrap();
    let inside = named(&txn.snapshot(), SCOPE, &filter).unwrap();
    assert_eq!(inside.iter().map(|series| &series.key[..]).collect::<Vec<_>>(), [b"b"]);
    drop(txn);
    assert_eq!(found(&store, &["room=1"]), "a");
}

/// Series, and ways to what is none, or has other labels now.
fn with_rubbish(store: &Store) {
    for key in ["a", "b", "c", "d"] {
        make(store, key, &[("room", "1"), ("floor", "2")]);
    }
    write(store, |txn| keys::del(txn, &SCOPE, &[b"a"]).unwrap());
    write(store, |txn| strings::mset(txn, &SCOPE, &[(b"b", b"v")]));
    write(store, |txn| keys::del(txn, &SCOPE, &[b"c"]).unwrap());
    make(store, "c", &[("room", "1")]);
}

fn compact(store: &Store) {
    store.flush().unwrap();
    store.compact(b"", b"").unwrap();
}

#[test]
fn compactions_drop_ways_that_lead_nowhere() {
    let (_dir, store) = store();
    with_rubbish(&store);
    let all = ways(&store);
    assert_eq!(all.len(), 8);
    let moment = store.txn().moment();
    compact(&store);
    assert_eq!(ways(&store), all, "somebody may still read as of then");
    drop(moment);
    compact(&store);
    assert_eq!(ways(&store), ["room=1 c", "room=1 d", "floor=2 d"]);
    assert_eq!(found(&store, &["room=1"]), "c d");
}

/// What is dead may live again there.
#[test]
fn where_writes_may_be_discarded_all_ways_stay() {
    let (_dir, store) = store();
    store.open_epoch(1, EpochId::from_random(1), 0).unwrap();
    with_rubbish(&store);
    store.set_acknowledged(store.latest_sequence());
    compact(&store);
    assert_eq!(ways(&store).len(), 8);
    assert_eq!(found(&store, &["room=1"]), "c d");
}

#[test]
fn labels_that_are_asked_for_are_counted_while_they_are_chosen() {
    let own = |label: &str, value: &str| (label.as_bytes().to_vec(), value.as_bytes().to_vec());
    let labels = vec![own("floor", "2"), own("room", "1")];
    let series = Named { key: b"a".to_vec(), labels: labels.clone() };
    let names = BTreeSet::from([&b"room"[..], b"door", b"floor"]);
    let selected = series.select(&names).unwrap();
    assert_eq!(selected, [own("door", ""), labels[0].clone(), labels[1].clone()]);
    let names: Vec<String> = (0..1000).map(|number| format!("label{number}")).collect();
    let names: BTreeSet<&[u8]> = names.iter().map(String::as_bytes).collect();
    let few = budget::Budget { steps: 500, time: Duration::from_secs(3600) };
    assert!(budget::within(few, || series.select(&names)).is_none());
    let most = Rc::new(Cell::new(0));
    let told = Rc::clone(&most);
    let goes_on = Box::new(move |gathered| {
        told.set(gathered);
        gathered < 20_000
    });
    assert!(budget::watched(1, goes_on, || series.select(&names)).is_none());
    assert!((20_000..21_000).contains(&most.get()), "{}", most.get());
}

#[test]
fn labels_that_do_not_fit_into_a_batch_end_it_before_all_of_them_are_in_it() {
    let (_dir, store) = store();
    store.set_batch_bytes_max(10_000);
    let names: Vec<String> = (0..1000).map(|number| format!("label{number}")).collect();
    let labels: Vec<Label<'_>> = names.iter().map(|name| (name.as_bytes(), &b"v"[..])).collect();
    let mut txn = store.txn();
    let made = create_with(&mut txn, &SCOPE.at(b"a"), Changes::default(), &labels);
    let Err(CommandError::Storage(Error::TooLarge { bytes, .. })) = made else {
        panic!("{made:?}")
    };
    assert!(bytes < 10_200, "{bytes}");
}

#[test]
fn samples_of_one_time_are_joined() {
    let samples = |all: &[(u64, f64)]| -> Vec<Sample> {
        all.iter().map(|(at, value)| Sample { at: *at, value: *value }).collect()
    };
    let mut joined = Joined::default();
    joined.take(&samples(&[(1, 1.0), (3, 5.0)])).unwrap();
    joined.take(&samples(&[(1, 3.0), (2, 7.0)])).unwrap();
    let say = |reducer| joined.samples(reducer, false);
    assert_eq!(say(Aggregator::Sum), samples(&[(1, 4.0), (2, 7.0), (3, 5.0)]));
    assert_eq!(say(Aggregator::Avg), samples(&[(1, 2.0), (2, 7.0), (3, 5.0)]));
    assert_eq!(say(Aggregator::Max), samples(&[(1, 3.0), (2, 7.0), (3, 5.0)]));
    assert_eq!(say(Aggregator::Range), samples(&[(1, 2.0), (2, 0.0), (3, 0.0)]));
    assert_eq!(say(Aggregator::VarS), samples(&[(1, 2.0), (2, 0.0), (3, 0.0)]));
    let back = samples(&[(3, 1.0), (2, 1.0), (1, 2.0)]);
    assert_eq!(joined.samples(Aggregator::Count, true), back);
    assert!(Joined::default().samples(Aggregator::Avg, false).is_empty());
}
