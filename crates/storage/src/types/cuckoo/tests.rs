use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::Store;
use crate::types::bench::{SCOPE, store};
use crate::types::object::Tail;

const ALWAYS: Inserting = Inserting {
    making: Some(Shape { capacity: 4, bucket_size: 1, iterations: 1, expansion: 2 }),
    is_new_only: false,
};

fn named(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| format!("i{number}").into_bytes()).collect()
}

fn all(items: &[Vec<u8>]) -> Vec<&[u8]> {
    items.iter().map(Vec::as_slice).collect()
}

/// Adds items in one transaction.
fn added(store: &Store, at: &At<'_>, items: &[Vec<u8>], how: Inserting) -> Vec<Inserted> {
    let mut txn = store.txn();
    let outcomes = insert(&mut txn, at, &all(items), how).unwrap().unwrap();
    txn.commit().unwrap();
    outcomes
}

/// The pages of a chain that are there, by filter and number.
fn pages_of(store: &Store, at: &At<'_>) -> Vec<((u16, u32), Vec<u8>)> {
    let object = find(store, at).unwrap().unwrap();
    let mut found = Vec::new();
    for filter in 0..64_u16 {
        for page in 0..4_u32 {
            let sub = [&filter.to_be_bytes()[..], &page.to_be_bytes()].concat();
            let stored = object.element(store, PAGES, &sub).unwrap();
            found.extend(stored.map(|bytes| ((filter, page), bytes.to_vec())));
        }
    }
    found
}

#[test]
fn tails_are_those_of_kvrocks() {
    let shape = Shape { capacity: 1000, bucket_size: 7, iterations: 20, expansion: 3 };
    let chain = Chain { filters: 3, deleted: 5, ..Chain::new(&shape) };
    let mut tail = Vec::new();
    chain.write(&mut tail);
    let expected = [
        &[0, 3, 0, 4][..],
        &1000_u64.to_be_bytes(),
        &[7, 0, 20],
        &5_u64.to_be_bytes(),
        &2048_u32.to_be_bytes(),
    ];
    assert_eq!(tail, expected.concat());
    assert_eq!(Chain::read(&tail), Some(chain));
    for end in 0..tail.len() {
        assert_eq!(Chain::read(&tail[..end]), None);
    }
    assert_eq!(Chain::read(&[&tail[..], b"\0"].concat()), None);
    for (asked, kept) in [(0, 0), (1, 1), (2, 2), (3, 4), (5, 8), (32_767, 32_768)] {
        assert_eq!(Chain::new(&Shape { expansion: asked, ..shape }).expansion, kept);
    }
}

#[test]
fn foreign_chains_are_refused_where_their_numbers_are_impossible() {
    let good = Chain::fresh();
    assert!(good.check().is_ok());
    for bad in [
        Chain { filters: 0, ..good },
        Chain { capacity: 0, ..good },
        Chain { bucket_size: 0, ..good },
        Chain { iterations: 0, ..good },
        Chain { page_bytes: 1, ..good },
        Chain { page_bytes: u32::MAX, ..good },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
    assert!(Chain { capacity: u64::MAX, ..good }.bytes().is_err());
    let grown = Chain { filters: u16::MAX, expansion: 1 << 15, ..good };
    assert!(grown.bytes().is_err() && grown.layout(u16::MAX).is_none());
    let equal = Chain { filters: 300, ..good };
    assert_eq!(equal.bytes().unwrap(), 300 * 2048);
    // The last page may be shorter.
    let odd = Chain { bucket_size: 3, page_bytes: 10, ..good };
    let slots = odd.layout(0).unwrap();
    assert_eq!((slots.buckets, slots.per_page), (512, 3));
    assert_eq!((slots.page_bytes(0), slots.page_bytes(170), slots.page_bytes(171)), (9, 6, 0));
}

#[test]
fn pages_are_those_of_kvrocks() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"c");
    let shape = Shape { capacity: 1000, bucket_size: 4, iterations: 500, expansion: 2 };
    let mut txn = store.txn();
    assert!(reserve(&mut txn, &at, &shape).unwrap());
    assert!(!reserve(&mut txn, &at, &shape).unwrap());
    txn.commit().unwrap();
    assert_eq!(pages_of(&store, &at), [], "a filter has no page before it has an item");
    let how = Inserting { making: None, is_new_only: false };
    assert_eq!(added(&store, &at, &[b"item1".to_vec()], how), [Inserted::Added]);
    let mut page = vec![0; 2048];
    page[50 * 4] = 7;
    assert_eq!(pages_of(&store, &at), [((0, 0), page)]);
}

#[test]
fn fingerprints_are_moved_as_in_kvrocks() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"c");
    let making = ALWAYS.making.map(|shape| Shape { expansion: 0, ..shape });
    let how = Inserting { making, ..ALWAYS };
    let items = named(12);
    let outcomes = added(&store, &at, &items[..6], how);
    assert_eq!(outcomes, [Inserted::Added; 6]);
    let before = [173, 112, 0, 0, 182, 212, 189, 236];
    assert_eq!(pages_of(&store, &at), [((0, 0), before.to_vec())]);
    // The next one takes the last slot, and what was there moves to its other bucket.
    assert_eq!(added(&store, &at, &items[6..7], how), [Inserted::Added]);
    let moved = vec![173, 112, 0, 236, 182, 212, 189, 123];
    assert_eq!(pages_of(&store, &at), [((0, 0), moved.clone())]);
    // No place is found for those: nothing is written.
    let sequence = store.latest_sequence();
    assert_eq!(added(&store, &at, &items[7..], how), [Inserted::Full; 5]);
    assert_eq!(store.latest_sequence(), sequence);
    assert_eq!(pages_of(&store, &at), [((0, 0), moved)]);
    assert_eq!(find(&store, &at).unwrap().unwrap().size, 7);
}

#[test]
fn a_chain_grows_and_shrinks() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"c");
    let items = named(12);
    assert_eq!(added(&store, &at, &items, ALWAYS), [Inserted::Added; 12]);
    let facts = |store: &Store| {
        let object = find(store, &at).unwrap().unwrap();
        (object.size, object.tail.filters, object.tail.deleted, object.tail.bytes().unwrap())
    };
    assert_eq!(facts(&store), (12, 2, 0, 24));
    let read = |store: &Store| has(&store.snapshot(), &at, &all(&items)).unwrap();
    assert_eq!(read(&store), [true; 12]);
    let take = |number: usize| {
        let mut txn = store.txn();
        let is_taken = delete(&mut txn, &at, &items[number]).unwrap();
        txn.commit().unwrap();
        is_taken
    };
    assert!(take(11));
    assert_eq!(facts(&store), (11, 2, 1, 24));
    // One in ten was deleted: the second filter is looked through, and cannot be given up yet.
    assert!(take(10));
    assert_eq!(facts(&store), (10, 2, 0, 24));
    assert!(take(9) && take(8) && take(7));
    assert_eq!(facts(&store), (7, 1, 0, 8));
    let names: Vec<(u16, u32)> = pages_of(&store, &at).into_iter().map(|page| page.0).collect();
    assert_eq!(names, [(0, 0)], "the pages of the second filter are gone");
    assert_eq!(read(&store)[..7], [true; 7]);
    for number in (0..7).rev() {
        assert!(take(number), "{number}");
    }
    let sequence = store.latest_sequence();
    assert!(!take(0));
    assert_eq!(store.latest_sequence(), sequence);
    assert_eq!(facts(&store), (0, 1, 7, 8));
    assert_eq!(count(&store.snapshot(), &at, b"i0").unwrap(), 0);
}

#[test]
fn items_are_counted_as_often_as_they_were_added() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"c");
    let how = Inserting { making: Some(Shape::default()), is_new_only: false };
    let twice = vec![b"x".to_vec(); 3];
    assert_eq!(added(&store, &at, &twice, how), [Inserted::Added; 3]);
    let counted = |store: &Store| count(&store.snapshot(), &at, b"x").unwrap();
    assert_eq!(counted(&store), 3);
    let new_only = Inserting { is_new_only: true, ..how };
    assert_eq!(added(&store, &at, &twice, new_only), [Inserted::There; 3]);
    assert_eq!(counted(&store), 3);
    // Two buckets of two take four; the fifth is in another filter.
    assert_eq!(added(&store, &at, &twice, how), [Inserted::Added; 3]);
    assert_eq!(counted(&store), 6);
    assert_eq!(find(&store, &at).unwrap().unwrap().tail.filters, 2);
    let missing =
        insert(&mut store.txn(), &SCOPE.at(b"none"), &[b"x"], Inserting { making: None, ..how });
    assert_eq!(missing.unwrap(), None);
}

#[test]
fn a_chain_grows_up_to_its_bound() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"c");
    let making = Some(Shape { capacity: 2, bucket_size: 1, iterations: 1, expansion: 1 });
    let how = Inserting { making, ..ALWAYS };
    // A filter takes an item twice.
    let same = vec![b"x".to_vec(); 4 * usize::from(FILTERS_MAX)];
    let filled = |filters: u16, before: u64| {
        let outcomes = added(&store, &at, &same, how);
        let more = outcomes.iter().take_while(|one| **one == Inserted::Added).count();
        let has_ended = outcomes[more..].iter().all(|one| *one == Inserted::Longest);
        assert!(more < same.len() && has_ended);
        assert_eq!(find(&store, &at).unwrap().unwrap().tail.filters, filters);
        let counted = count(&store.snapshot(), &at, b"x").unwrap();
        assert_eq!(counted, before + more as u64);
        counted
    };
    let counted = filled(FILTERS_MAX, 0);
    // One that others made may be longer.
    let mut txn = store.txn();
    let mut object = find(&txn, &at).unwrap().unwrap();
    object.tail.filters = FILTERS_MAX + 8;
    object.write(&mut txn);
    txn.commit().unwrap();
    assert!(filled(FILTERS_MAX + 8, counted) > counted);
}

#[test]
fn what_is_looked_for_in_pages_that_are_held_is_counted_too() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"c");
    let how = Inserting { making: Some(Shape::default()), is_new_only: false };
    added(&store, &at, &[b"x".to_vec()], how);
    let items = [&b"x"[..]; 300];
    let few = budget::Budget { steps: 200, time: Duration::from_secs(3600) };
    assert!(budget::within(few, || has(&store.snapshot(), &at, &items)).is_none());
    let most = Rc::new(Cell::new(0));
    let told = Rc::clone(&most);
    let goes_on = Box::new(move |gathered| {
        told.set(gathered);
        true
    });
    let found = budget::watched(1, goes_on, || has(&store.snapshot(), &at, &items)).unwrap();
    assert_eq!(found.unwrap(), [true; 300]);
    assert_eq!(most.get(), 2048, "its page, once");
}

#[test]
fn many_items_are_all_there() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"c");
    let items = named(5000);
    let making = Some(Shape { capacity: 500, bucket_size: 4, iterations: 20, expansion: 2 });
    let how = Inserting { making, is_new_only: false };
    for part in items.chunks(70) {
        assert!(added(&store, &at, part, how).iter().all(|one| *one == Inserted::Added));
    }
    let found = has(&store.snapshot(), &at, &all(&items)).unwrap();
    assert!(found.into_iter().all(|is_there| is_there));
    let others: Vec<Vec<u8>> = (0..1000).map(|number| format!("o{number}").into_bytes()).collect();
    let wrong = has(&store.snapshot(), &at, &all(&others)).unwrap();
    let wrong = wrong.into_iter().filter(|is_there| *is_there).count();
    // Eight slots in each of three filters, of 255 fingerprints.
    assert!(wrong < 250, "{wrong}");
    assert_eq!(find(&store, &at).unwrap().unwrap().size, 5000);
}
