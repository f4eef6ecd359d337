use proptest::prelude::*;

use super::*;

/// What a test does to a batch: keys and values are single bytes, so that they meet.
#[derive(Debug, Clone)]
enum Act {
    Put(u8, u8),
    Delete(u8),
    DeleteRange(u8, u8),
    /// A read takes note of what was written so far.
    Look,
    Mark,
    Rollback,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..16u8, any::<u8>()).prop_map(|(key, value)| Act::Put(key, value)),
        3 => (0..16u8).prop_map(Act::Delete),
        1 => (0..16u8, 0..17u8).prop_map(|(begin, end)| Act::DeleteRange(begin, end)),
        3 => Just(Act::Look),
        2 => Just(Act::Mark),
        2 => Just(Act::Rollback),
    ]
}

/// What is known of all keys, and what a scan passes over in either direction.
fn all(overlay: &Overlay) -> Vec<String> {
    let mut seen = Vec::new();
    for key in 0..17u8 {
        seen.push(match overlay.get(Family::Stream, &[key]) {
            Lookup::Value(value) => format!("{key}={value:?}"),
            Lookup::Deleted => format!("{key} deleted"),
            Lookup::Unknown => format!("{key} unknown"),
        });
    }
    for direction in [Direction::Forward, Direction::Reverse] {
        let mut slice = overlay.slice(Family::Stream, &[2], &[14]);
        while let Some(key) = slice.head(direction).cloned() {
            slice.pop(direction);
            seen.push(format!("{key:?} {:?}", slice.passed()));
        }
    }
    seen
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
                Act::Look => overlay.follow(&batch),
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
        overlay.follow(&batch);
        let mut fresh = Overlay::default();
        fresh.follow(&batch);
        prop_assert_eq!(all(&overlay), all(&fresh));
        prop_assert_eq!(overlay.is_empty(), fresh.is_empty());
    }
}

#[test]
fn a_scan_sees_nothing_that_was_written_after_it_was_opened() {
    let (mut batch, mut overlay) = (Writer::new(Vec::new()), Overlay::default());
    batch.put(Family::Default, &[b"a"], &[b"1"]);
    overlay.follow(&batch);
    let (mut slice, shared) = (overlay.slice(Family::Default, b"", b""), overlay.share());
    batch.put(Family::Default, &[b"b"], &[b"2"]);
    batch.delete(Family::Default, b"a");
    overlay.follow(&batch);
    slice.pop(Direction::Forward);
    assert_eq!(slice.passed(), Some((&b"a"[..], &b"1"[..])));
    assert!(slice.head(Direction::Forward).is_none());
    assert!(matches!(shared.get(Family::Default, b"a"), Lookup::Value(_)));
    assert!(matches!(overlay.get(Family::Default, b"a"), Lookup::Deleted));
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
        overlay.follow(&batch);
        let slice = overlay.slice(Family::Default, &number.to_be_bytes(), b"");
        assert!(slice.head(Direction::Forward).is_some());
        drop(slice);
        batch.rollback(mark);
        overlay.rollback(mark.bytes());
    }
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}
