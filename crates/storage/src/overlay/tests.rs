use proptest::prelude::*;

use super::*;

/// What a test does to a batch: keys and values are single bytes, so that they meet.
#[derive(Debug, Clone)]
enum Act {
    Put(u8, u8),
    Delete(u8),
    DeleteRange(u8, u8),
    /// A look-up takes note of what was written so far.
    Look(u8),
    /// A scan of four keys, which may copy what was written so far.
    Scan(u8),
    Mark,
    Rollback,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..16u8, any::<u8>()).prop_map(|(key, value)| Act::Put(key, value)),
        3 => (0..16u8).prop_map(Act::Delete),
        1 => (0..16u8, 0..17u8).prop_map(|(begin, end)| Act::DeleteRange(begin, end)),
        3 => (0..16u8).prop_map(Act::Look),
        2 => (0..14u8).prop_map(Act::Scan),
        2 => Just(Act::Mark),
        2 => Just(Act::Rollback),
    ]
}

/// What is known of all keys, and what a scan passes over in either direction.
fn all(overlay: &mut Overlay, batch: &Writer) -> Vec<String> {
    let mut seen = Vec::new();
    for key in 0..17u8 {
        seen.push(match overlay.get(batch, Family::Stream, &[key]) {
            Lookup::Value(value) => format!("{key}={value:?}"),
            Lookup::Deleted => format!("{key} deleted"),
            Lookup::Unknown => format!("{key} unknown"),
        });
    }
    for direction in [Direction::Forward, Direction::Reverse] {
        let slice = overlay.slice(batch, Family::Stream, (&[2], &[14]));
        seen.extend(passed(slice, direction));
    }
    seen
}

/// The entries that a scan passes over.
fn passed(slice: Option<Slice>, direction: Direction) -> Vec<String> {
    let Some(mut slice) = slice else { return Vec::new() };
    let mut seen = Vec::new();
    while let Some(key) = slice.head(direction).cloned() {
        slice.pop(direction);
        seen.push(format!("{key:?} {:?}", slice.passed()));
    }
    seen
}

/// The newest state of each key that a batch names or removes: a value, or none.
type Model = BTreeMap<u8, Option<u8>>;

/// The same by the records alone.
fn model(batch: &Writer) -> (Model, Model) {
    let (mut entries, mut known) = (Model::new(), Model::new());
    for record in batch.records_from(0).map(Result::unwrap) {
        match record {
            Record::Put { key: [key], value: [value], .. } => {
                entries.insert(*key, Some(*value));
                known.insert(*key, Some(*value));
            }
            Record::Delete { key: [key], .. } => {
                entries.insert(*key, None);
                known.insert(*key, None);
            }
            Record::DeleteRange { begin: [begin], end: [end], .. } => {
                for key in *begin..*end {
                    entries.remove(&key);
                    known.insert(key, None);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    (entries, known)
}

proptest! {
    #[test]
    fn a_rollback_leaves_what_the_rest_of_the_batch_says(
        acts in proptest::collection::vec(act(), 0..60),
    ) {
        let (mut batch, mut overlay) = (Writer::new(Vec::new()), Overlay::default());
        let mut marks = vec![batch.mark()];
        for act in acts {
            match act {
                Act::Put(key, value) => batch.put(Family::Stream, &[&[key]], &[&[value]]),
                Act::Delete(key) => batch.delete(Family::Stream, &[key]),
                Act::DeleteRange(begin, end) => batch.delete_range(Family::Stream, &[begin], &[end]),
                Act::Look(key) => drop(overlay.get(&batch, Family::Stream, &[key])),
                Act::Scan(from) => {
                    // What is passed over is what the records leave there.
                    let seen = passed(
                        overlay.slice(&batch, Family::Stream, (&[from], &[from + 4])),
                        Direction::Forward,
                    );
                    let (entries, _) = model(&batch);
                    let expected = entries.range(from..from + 4).map(|(key, value)| {
                        let value = value.map(|value| ([*key], [value]));
                        let value = value.as_ref().map(|(key, value)| (&key[..], &value[..]));
                        format!("{:?} {value:?}", [*key])
                    });
                    prop_assert_eq!(seen, expected.collect::<Vec<_>>());
                }
                Act::Mark => marks.push(batch.mark()),
                Act::Rollback => {
                    let mark = if marks.len() > 1 { marks.pop() } else { marks.last().copied() };
                    if let Some(mark) = mark {
                        batch.rollback(mark);
                        overlay.rollback(mark.bytes());
                    }
                }
            }
        }
        let mut fresh = Overlay::default();
        prop_assert_eq!(all(&mut overlay, &batch), all(&mut fresh, &batch));
        let (shared, fresh) = (overlay.share(&batch), fresh.share(&batch));
        prop_assert_eq!(shared.is_some(), fresh.is_some());
        let (_, known) = model(&batch);
        for key in 0..17u8 {
            let found = match overlay.get(&batch, Family::Stream, &[key]) {
                Lookup::Value(value) => Some(value.first().copied()),
                Lookup::Deleted => Some(None),
                Lookup::Unknown => None,
            };
            prop_assert_eq!(found, known.get(&key).copied());
            let of_shared = match shared.as_ref().map(|all| all.get(Family::Stream, &[key])) {
                Some(Lookup::Value(value)) => Some(value.first().copied()),
                Some(Lookup::Deleted) => Some(None),
                Some(Lookup::Unknown) | None => None,
            };
            prop_assert_eq!(of_shared, found);
        }
    }
}

#[test]
fn a_scan_sees_nothing_that_was_written_after_it_was_opened() {
    let (mut batch, mut overlay) = (Writer::new(Vec::new()), Overlay::default());
    batch.put(Family::Default, &[b"a"], &[b"1"]);
    let mut slice = overlay.slice(&batch, Family::Default, (b"", b"")).unwrap();
    let shared = overlay.share(&batch).unwrap();
    batch.put(Family::Default, &[b"b"], &[b"2"]);
    batch.delete(Family::Default, b"a");
    assert!(overlay.share(&batch).is_some());
    slice.pop(Direction::Forward);
    assert_eq!(slice.passed(), Some((&b"a"[..], &b"1"[..])));
    assert!(slice.head(Direction::Forward).is_none());
    assert!(matches!(shared.get(Family::Default, b"a"), Lookup::Value(_)));
    assert!(matches!(overlay.get(&batch, Family::Default, b"a"), Lookup::Deleted));
}

/// As ZUNIONSTOREs of a pipeline, which read what none of them wrote.
#[test]
fn a_scan_copies_nothing_that_lies_elsewhere() {
    let (mut batch, mut overlay) = (Writer::new(Vec::new()), Overlay::default());
    let within = |overlay: &mut Overlay, batch: &Writer, family, lower: &[u8], upper: &[u8]| {
        overlay.slice(batch, family, (lower, upper)).is_some()
    };
    for key in [b"c1", b"c2", b"c3"] {
        batch.put(Family::Default, &[key], &[b"1"]);
        batch.put(Family::Stream, &[b"a"], &[b"1"]);
        assert!(!within(&mut overlay, &batch, Family::Default, b"a", b"c"));
        assert!(!within(&mut overlay, &batch, Family::Default, b"c4", b""));
        assert!(!within(&mut overlay, &batch, Family::Metadata, b"", b""));
    }
    assert_eq!(overlay.seen, 0);
    // One that was taken back is not passed over either.
    let mark = batch.mark();
    batch.put(Family::Default, &[b"x"], &[b"1"]);
    assert!(matches!(overlay.get(&batch, Family::Default, b"x"), Lookup::Value(_)));
    batch.rollback(mark);
    overlay.rollback(mark.bytes());
    assert!(!within(&mut overlay, &batch, Family::Default, b"d", b""));
    assert_eq!(overlay.seen, 0);
    assert!(within(&mut overlay, &batch, Family::Default, b"c2", b"c3"));
    assert_eq!(overlay.seen, batch.len());
    batch.delete_range(Family::Default, b"a", b"b");
    assert!(within(&mut overlay, &batch, Family::Default, b"a", b"b"));
}

#[test]
fn each_of_many_keys_is_found_with_its_newest_value() {
    let (mut batch, mut overlay) = (Writer::new(Vec::new()), Overlay::default());
    let mut marks = Vec::new();
    for round in 0..3u32 {
        for number in 0..1_000u32 {
            let key = number.to_be_bytes();
            batch.put(Family::Default, &[&key], &[&round.to_be_bytes()]);
            assert!(matches!(overlay.get(&batch, Family::Metadata, &key), Lookup::Unknown));
        }
        marks.push(batch.mark());
    }
    for round in (0..3u32).rev() {
        for number in 0..1_000u32 {
            match overlay.get(&batch, Family::Default, &number.to_be_bytes()) {
                Lookup::Value(value) => assert_eq!(*value, round.to_be_bytes()),
                Lookup::Deleted | Lookup::Unknown => panic!("{number} is not there"),
            }
        }
        marks.pop();
        if let Some(mark) = marks.last() {
            batch.rollback(*mark);
            overlay.rollback(mark.bytes());
        }
    }
}

/// Ten thousand commands that fail behind ten thousand writes, each after a look at all of them:
/// rebuilding or copying what is known each time would take minutes.
#[test]
fn commands_that_fail_and_scans_cost_nothing_of_what_was_written_before() {
    let (mut batch, mut overlay) = (Writer::new(Vec::new()), Overlay::default());
    for number in 0..10_000u32 {
        batch.put(Family::Default, &[&number.to_be_bytes()], &[b"value"]);
    }
    let started = std::time::Instant::now();
    for number in 0..10_000u32 {
        let mark = batch.mark();
        batch.put(Family::Default, &[&number.to_be_bytes()], &[b"other"]);
        let bounds: (&[u8], &[u8]) = (&number.to_be_bytes(), b"");
        let slice = overlay.slice(&batch, Family::Default, bounds).unwrap();
        assert!(slice.head(Direction::Forward).is_some());
        drop(slice);
        batch.rollback(mark);
        overlay.rollback(mark.bytes());
    }
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}

/// As of a transaction that writes and scans in turn, elsewhere.
#[test]
fn scans_of_what_nothing_was_written_to_cost_nothing_of_what_was_written_before() {
    let (mut batch, mut overlay) = (Writer::new(Vec::new()), Overlay::default());
    let started = std::time::Instant::now();
    for number in 0..100_000u32 {
        batch.put(Family::Default, &[&number.to_be_bytes()], &[b"value"]);
        assert!(overlay.slice(&batch, Family::Default, (b"x", b"y")).is_none());
    }
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}
