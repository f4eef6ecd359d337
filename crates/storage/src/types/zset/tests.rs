use std::collections::{BTreeMap, HashSet};

use super::super::bounds::{Lex, Score};
use super::*;
use crate::types::bench::{SCOPE, store};
use crate::{Direction, Store};

fn fill(store: &Store, key: &[u8], pairs: &[(f64, &str)]) {
    let pairs: Vec<(f64, &[u8])> = pairs.iter().map(|(s, m)| (*s, m.as_bytes())).collect();
    let mut txn = store.txn();
    add(&mut txn, &SCOPE.at(key), &pairs, Condition::default()).unwrap();
    txn.commit().unwrap();
}

fn names(members: &[Member]) -> String {
    let names = members.iter().map(|(member, _)| String::from_utf8(member.clone()).unwrap());
    names.collect::<Vec<_>>().join(" ")
}

fn texts(members: &[Member]) -> String {
    let texts = members
        .iter()
        .map(|(member, score)| format!("{}={score}", String::from_utf8(member.clone()).unwrap()));
    texts.collect::<Vec<_>>().join(" ")
}

#[test]
fn ranks_are_found_from_the_nearer_end_and_are_the_same() {
    let (_dir, store) = store();
    let all: Vec<String> = (0..30).map(|number| format!("m{number:02}")).collect();
    let pairs: Vec<(f64, &str)> =
        all.iter().enumerate().map(|(at, member)| (at as f64 / 4.0, member.as_str())).collect();
    fill(&store, b"z", &pairs);
    let snapshot = store.snapshot();
    for direction in [Direction::Forward, Direction::Reverse] {
        let mut listed = all.clone();
        if direction == Direction::Reverse {
            listed.reverse();
        }
        for start in -31..32_i64 {
            for stop in -31..32_i64 {
                let range = Range { direction, ..Range::of(Part::Ranks(start, stop)) };
                let found = range_of(&snapshot, &range);
                let wanted = super::super::bounds::ranks(start, stop, 30);
                let wanted = &listed[wanted.start as usize..wanted.end as usize];
                assert_eq!(found, wanted.join(" "), "{direction:?} {start} {stop}");
            }
        }
        for (at, member) in listed.iter().enumerate() {
            let found = rank(&snapshot, &SCOPE.at(b"z"), member.as_bytes(), direction).unwrap();
            assert_eq!(found.map(|(rank, _)| rank), Some(at as u64));
        }
    }
}

fn range_of(snapshot: &Snapshot<'_>, wanted: &Range<'_>) -> String {
    let mut found = Vec::new();
    let visit = |member: &[u8], score| found.push((member.to_vec(), score));
    for_each(snapshot, &SCOPE.at(b"z"), wanted, visit).unwrap();
    names(&found)
}

#[test]
fn parts_lie_between_their_bounds_in_both_directions() {
    let (_dir, store) = store();
    fill(&store, b"z", &[(-0.0, "b"), (0.0, "a"), (1.0, "d"), (1.0, "c"), (f64::INFINITY, "e")]);
    let snapshot = store.snapshot();
    let score = |text: &str| Score::parse(text.as_bytes()).unwrap();
    let scores = |min, max| Part::Scores(score(min), score(max));
    for (part, direction, limit, wanted) in [
        (scores("0", "1"), Direction::Forward, 0..u64::MAX, "b a c d"),
        (scores("-0", "(1"), Direction::Reverse, 0..u64::MAX, "a b"),
        (scores("(0", "inf"), Direction::Reverse, 1..3, "d c"),
        (scores("(1", "(inf"), Direction::Forward, 0..u64::MAX, ""),
        (scores("2", "1"), Direction::Forward, 0..u64::MAX, ""),
        (Part::Names(Lex::Least, Lex::Excluded(b"d")), Direction::Forward, 1..9, "b c"),
        (Part::Names(Lex::Included(b"b"), Lex::Greatest), Direction::Reverse, 0..2, "e d"),
    ] {
        let range = Range { part, direction, limit };
        assert_eq!(range_of(&snapshot, &range), wanted, "{range:?}");
    }
    assert_eq!(count(&snapshot, &SCOPE.at(b"z"), &scores("-inf", "inf")).unwrap(), 5);
}

#[test]
fn members_of_several_sets_are_looked_up_in_chunks_and_all_found() {
    let (_dir, store) = store();
    let numbers: Vec<String> = (0..2000).map(|number| format!("{number:04}")).collect();
    let every = |step: usize| -> Vec<(f64, &str)> {
        numbers.iter().step_by(step).map(|member| (step as f64, member.as_str())).collect()
    };
    for (key, step) in [(b"a", 1), (b"b", 2), (b"c", 3)] {
        fill(&store, key, &every(step));
    }
    let snapshot = store.snapshot();
    let sources = |keys: &[&'static str]| {
        let keys: Vec<_> = keys.iter().map(|key| SCOPE.at(key.as_bytes())).collect();
        Sources::find(&snapshot, keys.into_iter()).unwrap()
    };
    let inter = sources(&["a", "b", "c"]).inter(&[1.0, 10.0, 100.0], Aggregate::Sum, u64::MAX);
    let inter = inter.unwrap();
    assert_eq!(inter.len(), 2000_usize.div_ceil(6));
    assert!(inter.iter().all(|(_, score)| *score == 321.0));
    assert_eq!(inter.iter().map(|(member, _)| member).collect::<HashSet<_>>().len(), inter.len());
    for limit in [1, 256, 300, 10_000] {
        let some = sources(&["b", "c"]).inter(&[], Aggregate::Sum, limit).unwrap();
        assert_eq!(some.len() as u64, limit.min(334));
    }
    let diff = sources(&["a", "b", "c"]).diff().unwrap();
    assert_eq!(diff.len(), 2000 - 1000 - 667 + 334);
    assert!(sources(&["a", "nokey", "a"]).diff().unwrap().is_empty());
    assert!(sources(&["a", "nokey"]).inter(&[], Aggregate::Sum, 1).unwrap().is_empty());
    let union = sources(&["c", "nokey", "b"]).union(&[], Aggregate::Max).unwrap();
    assert_eq!(union.len(), 1000 + 667 - 334);
    assert_eq!(texts(&in_order(union)[..2]), "0002=2 0004=2");
}

#[test]
fn a_union_is_the_same_however_many_sets_it_is_of() {
    let (_dir, store) = store();
    // The sets are of different sizes, and each has some members of others.
    let names: Vec<String> = (0..20).map(|set| format!("set {set}")).collect();
    let members: Vec<String> = (0..200).map(|number| format!("{number:03}")).collect();
    let of = |set: usize| members.iter().skip(set % 7).step_by(40 - set);
    for (set, name) in names.iter().enumerate() {
        let pairs: Vec<(f64, &str)> = of(set).map(|member| (0.1, member.as_str())).collect();
        fill(&store, name.as_bytes(), &pairs);
    }
    let snapshot = store.snapshot();
    for count in [1, 2, 3, 16, 17, 20] {
        let keys = names.iter().take(count).map(|name| SCOPE.at(name.as_bytes()));
        let weights: Vec<f64> = (0..count).map(|set| set as f64).collect();
        let union = Sources::find(&snapshot, keys).unwrap().union(&weights, Aggregate::Sum);
        let mut expected = BTreeMap::<&str, f64>::new();
        let mut sets: Vec<usize> = (0..count).collect();
        sets.sort_by_key(|set| of(*set).count());
        for set in sets {
            for member in of(set) {
                *expected.entry(member).or_default() += set as f64 * 0.1;
            }
        }
        let expected = expected.into_iter().map(|(name, score)| (name.as_bytes().to_vec(), score));
        assert_eq!(union.unwrap(), expected.collect::<Vec<Member>>(), "{count}");
    }
}

#[test]
fn what_has_no_sum_counts_as_nothing() {
    let (_dir, store) = store();
    fill(&store, b"a", &[(f64::INFINITY, "m")]);
    fill(&store, b"b", &[(f64::NEG_INFINITY, "m"), (2.0, "n")]);
    let snapshot = store.snapshot();
    let sources = Sources::find(&snapshot, [SCOPE.at(b"a"), SCOPE.at(b"b")].into_iter()).unwrap();
    assert_eq!(texts(&sources.union(&[], Aggregate::Sum).unwrap()), "m=0 n=2");
    assert_eq!(texts(&sources.inter(&[0.0, 1.0], Aggregate::Max, 9).unwrap()), "m=0");
    assert_eq!(texts(&sources.inter(&[0.0, 1.0], Aggregate::Min, 9).unwrap()), "m=-inf");
}

#[test]
fn one_pair_does_what_it_does_when_it_is_named_twice() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"z");
    let numbers = [f64::NEG_INFINITY, -0.0, 0.0, 1.5, f64::INFINITY];
    for bits in 0..16_u8 {
        let condition = Condition {
            only_new: bits & 1 != 0,
            only_old: bits & 2 != 0,
            only_greater: bits & 4 != 0,
            only_less: bits & 8 != 0,
        };
        for old in numbers.into_iter().map(Some).chain([None]) {
            for new in numbers {
                let [once, twice] = [1, 2].map(|times| {
                    let mut txn = store.txn();
                    if let Some(old) = old {
                        let before: [(f64, &[u8]); 2] = [(old, b"m"), (7.0, b"n")];
                        add(&mut txn, &at, &before, Condition::default()).unwrap();
                    }
                    let pairs = vec![(new, b"m".as_slice()); times];
                    let changed = add(&mut txn, &at, &pairs, condition).unwrap();
                    let found = score(&txn, &at, b"m").unwrap().map(f64::to_bits);
                    (changed, found, txn.count(), txn.size_bytes())
                });
                assert_eq!(once, twice, "{condition:?} {old:?} {new}");
            }
        }
    }
}
