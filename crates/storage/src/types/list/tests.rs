use super::*;
use crate::Store;
use crate::types::bench::{SCOPE, store};

fn elements(read: &Snapshot<'_>) -> String {
    let mut found = Vec::new();
    range(read, &SCOPE.at(b"l"), (0, -1), |value| found.extend(value)).unwrap();
    String::from_utf8(found).unwrap()
}

fn pushed(store: &Store, values: &str) {
    let mut txn = store.txn();
    let values: Vec<&[u8]> = values.as_bytes().chunks(1).collect();
    push(&mut txn, &SCOPE.at(b"l"), End::Right, &values).unwrap();
    txn.commit().unwrap();
}

#[test]
fn ends_are_sixteen_bytes_in_order() {
    let ends = Ends { head: 3, tail: 9 };
    let mut bytes = Vec::new();
    ends.write(&mut bytes);
    assert_eq!(Ends::read(&bytes), Some(ends));
    assert_eq!(Ends::read(&bytes[1..]), None);
    assert_eq!(Ends::read(&[&bytes[..], &[0]].concat()), None);
    let (head, tail) = bytes.split_at(8);
    assert_eq!(Ends::read(&[tail, head].concat()), None);
}

#[test]
fn the_shorter_side_is_moved() {
    for (place, pivot, records) in [
        (Place::Before, b"a", 2),
        (Place::After, b"a", 3),
        (Place::After, b"b", 4),
        (Place::Before, b"d", 4),
        (Place::After, b"d", 3),
        (Place::After, b"e", 2),
    ] {
        let (_dir, store) = store();
        pushed(&store, "abcde");
        let mut txn = store.txn();
        assert_eq!(insert(&mut txn, &SCOPE.at(b"l"), place, pivot, b"x").unwrap(), 6);
        assert_eq!(txn.count(), records, "{place:?} {}", pivot.escape_ascii());
        let wanted = match place {
            Place::Before => {
                "abcde".replace(char::from(pivot[0]), &format!("x{}", char::from(pivot[0])))
            }
            Place::After => {
                "abcde".replace(char::from(pivot[0]), &format!("{}x", char::from(pivot[0])))
            }
        };
        assert_eq!(elements(&txn.snapshot()), wanted);
    }
    // Two of six go: what lies between them and the nearer end is moved.
    for (values, count, records, left) in [
        ("xabxcdef", 2, 5, "abcdef"),
        ("abcdxefx", 2, 5, "abcdef"),
        ("axbxcxdx", 1, 3, "abxcxdx"),
        ("axbxcxdx", -1, 2, "axbxcxd"),
        ("xxx", 0, 1, ""),
    ] {
        let (_dir, store) = store();
        pushed(&store, values);
        let mut txn = store.txn();
        rem(&mut txn, &SCOPE.at(b"l"), count, b"x").unwrap();
        assert_eq!(
            (txn.count(), elements(&txn.snapshot())),
            (records, left.to_owned()),
            "{values}"
        );
    }
}

#[test]
fn a_list_without_an_index_left_is_refused_and_a_missing_element_is_no_element() {
    let (_dir, store) = store();
    pushed(&store, "ab");
    let at = SCOPE.at(b"l");
    let mut txn = store.txn();
    let mut list = find(&txn, &at).unwrap().unwrap();
    list.tail = Ends { head: 0, tail: 2 };
    list.store(&mut txn, IfEmpty::Keep);
    assert!(push(&mut txn, &at, End::Left, &[b"x"]).is_err());
    for count in [1, 2] {
        assert!(pop(&mut txn, &at, End::Left, count).is_err());
    }
    assert!(index(&txn.snapshot(), &at, 0).is_err());
    assert_eq!(len(&txn, &at).unwrap(), 2);
}

#[test]
fn trimming_by_absurd_indexes_removes_what_is_there() {
    let (_dir, store) = store();
    pushed(&store, "abc");
    let at = SCOPE.at(b"l");
    let mut txn = store.txn();
    let mut list = find(&txn, &at).unwrap().unwrap();
    let Ends { head, tail } = list.tail;
    list.tail = Ends { head: head - (1 << 40), tail: tail + (1 << 40) };
    list.store(&mut txn, IfEmpty::Keep);
    txn.commit().unwrap();
    let mut txn = store.txn();
    let second = (1 << 40) + 1;
    trim(&mut txn, &at, (second, second)).unwrap();
    // Two elements and the metadata.
    assert_eq!(txn.count(), 3);
    assert_eq!((tail - head, elements(&txn.snapshot())), (3, "b".to_owned()));
}

#[test]
fn a_push_and_a_pop_are_logged_by_the_numbers_of_their_commands() {
    use crate::batch::{self, Record};

    let (_dir, store) = store();
    let at = SCOPE.at(b"l");
    let logged = |run: &dyn Fn(&mut Txn<'_>)| {
        let (mut txn, mut logged) = (store.txn(), Vec::new());
        run(&mut txn);
        let committed = txn.commit_and_tell(|batch| {
            logged.extend(batch::records(batch).filter_map(|record| match record.unwrap() {
                Record::LogData(data) => Some(data.to_vec()),
                _ => None,
            }));
        });
        committed.unwrap();
        logged
    };
    for (end, pushes, pops) in [(End::Left, b"6", b"3"), (End::Right, b"7", b"4")] {
        let push = |txn: &mut Txn<'_>| {
            push(txn, &at, end, &[b"a", b"b"]).unwrap();
        };
        assert_eq!(logged(&push), [log::words(Type::List, &[pushes])]);
        let pop = |txn: &mut Txn<'_>| {
            pop(txn, &at, end, 1).unwrap();
        };
        assert_eq!(logged(&pop), [log::words(Type::List, &[pops])]);
    }
}
