use std::collections::BTreeSet;
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::key::DEFAULT_NAMESPACE;
use crate::{Options, Scope, Store};

const SCOPE: Scope<'static> = Scope { namespace: DEFAULT_NAMESPACE, cluster: false, now_ms: 1 };

type Members = BTreeSet<Vec<u8>>;

fn empty() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { block_cache_size: 1 << 20, ..Options::default() };
    let store = Store::open(dir.path(), options).unwrap();
    (dir, store)
}

fn fill<'m>(store: &Store, key: &str, members: impl IntoIterator<Item = &'m Vec<u8>>) {
    let members: Vec<&[u8]> = members.into_iter().map(Vec::as_slice).collect();
    let mut txn = store.txn();
    add(&mut txn, &SCOPE.at(key.as_bytes()), &members).unwrap();
    txn.commit().unwrap();
}

fn numbers(range: std::ops::Range<u32>, step: usize) -> Members {
    range.step_by(step).map(|number| number.to_string().into_bytes()).collect()
}

fn combined(store: &Store, how: Combination, keys: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    combine(&store.snapshot(), &SCOPE, how, keys, |member| {
        found.push(member.to_vec());
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

/// What the combination should be.
fn expected(how: Combination, sets: &[&Members]) -> Vec<Vec<u8>> {
    let all: Members = sets.iter().copied().flatten().cloned().collect();
    let is_in = |member: &Vec<u8>| match how {
        Combination::Union => true,
        Combination::Intersection => sets.iter().all(|set| set.contains(member)),
        Combination::Difference => {
            sets[0].contains(member) && !sets[1..].iter().any(|set| set.contains(member))
        }
    };
    all.into_iter().filter(is_in).collect()
}

const ALL: [Combination; 3] =
    [Combination::Union, Combination::Intersection, Combination::Difference];

#[test]
fn sets_of_every_size_are_combined_as_their_members_say() {
    let (_dir, store) = empty();
    // Small beside large, about the same, more than a chunk, exactly one, none.
    let sets = [
        ("small", numbers(0..40, 7)),
        ("large", numbers(0..9000, 2)),
        ("near", numbers(0..9000, 3)),
        ("chunk", numbers(0..256, 1)),
        ("none", Members::new()),
    ];
    for (key, members) in &sets {
        fill(&store, key, members);
    }
    for (one, first) in &sets {
        for (two, second) in &sets {
            for (three, third) in &sets {
                let keys = [one, two, three].map(|key| key.as_bytes());
                for how in ALL {
                    let wanted = expected(how, &[first, second, third]);
                    assert!(combined(&store, how, &keys) == wanted, "{how:?} {one} {two} {three}");
                }
            }
        }
    }
}

#[test]
fn more_sets_than_are_walked_at_once_are_combined_too() {
    let (_dir, store) = empty();
    let keys: Vec<String> = (0..150).map(|number| format!("key{number}")).collect();
    let sets: Vec<Members> = (0..150).map(|from| numbers(from..from + 155, 1)).collect();
    for (key, members) in keys.iter().zip(&sets) {
        fill(&store, key, members);
    }
    let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let sets: Vec<&Members> = sets.iter().collect();
    for how in ALL {
        for count in [64, 65, 150] {
            let (found, wanted) = (combined(&store, how, &keys[..count]), &sets[..count]);
            assert!(found == expected(how, wanted), "{how:?} of {count}");
        }
    }
}

#[test]
fn a_combination_ends_where_it_is_broken_off() {
    let (_dir, store) = empty();
    for key in ["a", "b"] {
        fill(&store, key, &numbers(0..600, 1));
    }
    for (how, keys) in [
        (Combination::Union, &[&b"a"[..], b"b"]),
        (Combination::Intersection, &[b"a", b"b"]),
        (Combination::Difference, &[b"a", b"nokey"]),
    ] {
        for limit in [1, 256, 300, 600] {
            let mut count = 0;
            combine(&store.snapshot(), &SCOPE, how, keys, |_| {
                count += 1;
                if count == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
            assert_eq!(count, limit, "{how:?}");
        }
    }
}

#[test]
fn a_result_may_replace_one_of_its_sources() {
    let (_dir, store) = empty();
    fill(&store, "a", &numbers(0..10, 1));
    fill(&store, "b", &numbers(5..15, 1));
    let mut txn = store.txn();
    let at = SCOPE.at(b"a");
    // Written in the same transaction before, and seen.
    remove(&mut txn, &SCOPE.at(b"b"), &[b"7"]).unwrap();
    assert_eq!(super::store(&mut txn, &at, Combination::Difference, &[b"a", b"b"]).unwrap(), 6);
    assert_eq!(super::store(&mut txn, &at, Combination::Union, &[b"a", b"a"]).unwrap(), 6);
    txn.commit().unwrap();
    let wanted = ["0", "1", "2", "3", "4", "7"].map(|member| member.as_bytes().to_vec());
    assert_eq!(combined(&store, Combination::Union, &[b"a"]), wanted);
    assert_eq!(len(&store, &at).unwrap(), 6);
}

#[test]
fn as_many_members_are_popped_as_wanted_however_they_lie() {
    let (_dir, store) = empty();
    // Nearly all names behind a gap: random points meet its other end.
    let mut members: Members = (0..20_000).map(|n| format!("z{n:05}").into_bytes()).collect();
    members.insert(b"a".to_vec());
    fill(&store, "s", &members);
    let at = SCOPE.at(b"s");
    let mut left = members.len() as u64;
    for wanted in [1, 40, 300, 5_000, 30_000] {
        let mut txn = store.txn();
        let popped = pop(&mut txn, &at, wanted).unwrap();
        txn.commit().unwrap();
        assert_eq!(popped.len() as u64, wanted.min(left));
        assert!(popped.iter().all(|member| members.remove(member)));
        left -= popped.len() as u64;
        assert_eq!(len(&store, &at).unwrap(), left);
    }
    assert!(find(&store, &at).unwrap().is_none() && members.is_empty());
}

fn small_set() -> impl Strategy<Value = Members> {
    prop::collection::btree_set(prop::collection::vec(0..3_u8, 0..3), 0..9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn odd_members_are_combined_as_any(sets in prop::collection::vec(small_set(), 1..5)) {
        let (_dir, store) = empty();
        let keys: Vec<String> = (0..sets.len()).map(|number| number.to_string()).collect();
        for (key, members) in keys.iter().zip(&sets) {
            fill(&store, key, members);
        }
        let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        let sets: Vec<&Members> = sets.iter().collect();
        for how in ALL {
            prop_assert_eq!(combined(&store, how, &keys), expected(how, &sets));
        }
    }
}
