use std::time::Duration;

use super::*;
use crate::types::bench::{SCOPE, store};

fn chain(filters: u16, expansion: u16, capacity: u32) -> Chain {
    Chain { filters, expansion, capacity, error_rate: 0.01, bytes: 0 }
}

#[test]
fn chains_take_what_all_their_filters_take() {
    for (chain, items) in [
        (chain(1, 2, 100), 100),
        (chain(3, 2, 2), 14),
        (chain(3, 1, 5), 15),
        (chain(3, 4, 10), 210),
        (chain(9, 0, 7), 7),
        (chain(u16::MAX, u16::MAX, u32::MAX), u64::MAX),
        (chain(u16::MAX, 1, 0), 0),
    ] {
        assert_eq!(chain.items_max(), items, "{chain:?}");
    }
}

#[test]
fn foreign_chains_do_not_grow_beyond_their_numbers() {
    assert_eq!(chain(u16::MAX, 2, 1).longer(), None);
    assert_eq!(chain(1, 0, 1).longer(), None);
    let full = Chain { bytes: u32::MAX, ..chain(1, 2, 1) };
    assert_eq!(full.longer(), None);
    for error_rate in [f64::NAN, -1.0, 0.0, 1.0, f64::INFINITY] {
        let odd = Chain { error_rate, ..chain(9, u16::MAX, u32::MAX) };
        assert!(odd.bytes_of_last() <= 128 << 20, "{error_rate}");
    }
    let mut tail = Vec::new();
    Chain::fresh().write(&mut tail);
    assert_eq!(Chain::read(&tail), Some(Chain::fresh()));
    for end in 0..tail.len() {
        assert_eq!(Chain::read(&tail[..end]), None);
    }
    assert_eq!(Chain::read(&[&tail[..], b"\0"].concat()), None);
}

#[test]
fn items_are_there_after_the_chain_has_grown() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"b");
    let items: Vec<Vec<u8>> = (0..300).map(|n| format!("item {n}").into_bytes()).collect();
    let mut txn = store.txn();
    let shape = Shape { capacity: 10, ..Shape::default() };
    let mut added = 0;
    for part in items.chunks(7) {
        let part: Vec<&[u8]> = part.iter().map(Vec::as_slice).collect();
        let outcomes = insert(&mut txn, &at, &part, Some(&shape)).unwrap().unwrap();
        added += outcomes.iter().filter(|outcome| **outcome == Inserted::Added).count();
    }
    txn.commit().unwrap();
    let all: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
    assert!(has(&store, &at, &all).unwrap().into_iter().all(|is_there| is_there));
    let others: Vec<Vec<u8>> = (0..1000).map(|n| format!("other {n}").into_bytes()).collect();
    let others: Vec<&[u8]> = others.iter().map(Vec::as_slice).collect();
    let wrong = has(&store, &at, &others).unwrap().into_iter().filter(|is_there| *is_there).count();
    assert!(wrong < 100, "{wrong}");
    let object = find(&store, &at).unwrap().unwrap();
    assert_eq!((object.size, object.tail.filters), (added as u64, 5));
    let bytes: usize = object.filters(&store).unwrap().iter().map(|filter| filter.len()).sum();
    assert_eq!(bytes, object.tail.bytes as usize);
}

#[test]
fn what_is_looked_for_is_counted() {
    let (_dir, store) = store();
    let at = SCOPE.at(b"b");
    let mut txn = store.txn();
    insert(&mut txn, &at, &[b"x"], Some(&Shape::default())).unwrap();
    txn.commit().unwrap();
    let few = budget::Budget { steps: 200, time: Duration::from_secs(3600) };
    let found = |count| budget::within(few, || has(&store, &at, &vec![&b"x"[..]; count]));
    assert!(found(300).is_none());
    assert_eq!(found(100).expect("few steps").unwrap(), [true; 100]);
}
