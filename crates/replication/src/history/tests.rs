use proptest::prelude::*;

use super::*;

fn entry(epoch: u64, id: u64, first: u64) -> Entry {
    Entry { epoch, id: EpochId::from_random(id), first, wall_ms: 1_790_000_000_000 }
}

/// Epochs as (number, id, first), and the end.
fn position(entries: &[(u64, u64, u64)], latest: u64) -> Position {
    let mut history = History::default();
    for (epoch, id, first) in entries {
        history.push(entry(*epoch, *id, *first)).unwrap();
    }
    Position { history, latest }
}

#[test]
fn the_fork_is_the_smaller_end_of_the_newest_common_epoch() {
    let theirs = position(&[(1, 11, 1), (2, 22, 61), (3, 33, 90)], 120);
    let at = |mine: &Position| fork(mine, &theirs);
    // A deposed master wrote on to 70 in epoch 1; its successor took over at 60.
    assert_eq!(at(&position(&[(1, 11, 1)], 70)), Fork::At(60));
    // It had restarted since, and opened an epoch that nobody else has.
    assert_eq!(at(&position(&[(1, 11, 1), (9, 99, 65)], 70)), Fork::At(60));
    // It lost its newest records and opened an epoch below its successor's.
    assert_eq!(at(&position(&[(1, 11, 1), (9, 99, 50)], 70)), Fork::At(49));
    // The epoch in the middle is the common one.
    assert_eq!(at(&position(&[(1, 11, 1), (2, 22, 61)], 100)), Fork::At(89));
}

#[test]
fn what_the_other_holds_completely_has_no_fork() {
    let theirs = position(&[(1, 11, 1), (2, 22, 61)], 120);
    for mine in [
        position(&[(1, 11, 1)], 60),
        position(&[(1, 11, 1)], 40),
        position(&[(1, 11, 1), (2, 22, 61)], 61),
        position(&[(1, 11, 1), (2, 22, 61)], 120),
        position(&[], 0),
    ] {
        assert_eq!(fork(&mine, &theirs), Fork::Same, "{mine}");
    }
    // The same epoch, and this side is ahead.
    assert_eq!(fork(&position(&[(1, 11, 1), (2, 22, 61)], 121), &theirs), Fork::At(120));
}

#[test]
fn equal_numbers_are_not_equal_epochs() {
    // Two controllers made an epoch 2 each, even at the same place.
    let mine = position(&[(1, 11, 1), (2, 22, 61)], 70);
    let theirs = position(&[(1, 11, 1), (2, 77, 61)], 70);
    assert_eq!(fork(&mine, &theirs), Fork::At(60));
    // The same epoch opened twice, the first time lost with the power.
    let again = position(&[(1, 11, 1), (2, 22, 58)], 90);
    assert_eq!(fork(&mine, &again), Fork::At(57));
    assert_eq!(common(&mine.history, &again.history).map(|entry| entry.epoch), Some(1));
}

#[test]
fn equal_sequences_with_different_content_are_seen() {
    // Both end at 70, both have one epoch more than the other knows.
    let mine = position(&[(1, 11, 1), (2, 22, 51)], 70);
    let theirs = position(&[(1, 11, 1), (3, 33, 66)], 70);
    assert_eq!(fork(&mine, &theirs), Fork::At(50));
    assert_eq!(fork(&theirs, &mine), Fork::At(50));
}

#[test]
fn without_a_common_epoch_nothing_is_known() {
    let theirs = position(&[(1, 11, 1)], 100);
    assert_eq!(fork(&position(&[(1, 12, 1)], 100), &theirs), Fork::None);
    assert_eq!(fork(&position(&[], 50), &theirs), Fork::None, "a peer without history");
    assert_eq!(fork(&theirs, &position(&[], 500)), Fork::None);
    assert_eq!(fork(&position(&[], 5), &position(&[], 5)), Fork::None);
}

#[test]
fn a_history_only_grows_forward() {
    let mut history = position(&[(3, 33, 10)], 20).history;
    let id = EpochId::from_random;
    let other = Misfit::OtherId { epoch: 3, known: id(33), found: id(34) };
    assert_eq!(history.push(entry(3, 34, 30)), Err(other));
    assert_eq!(history.push(entry(3, 33, 30)), Err(Misfit::OldEpoch { newest: 3, found: 3 }));
    assert_eq!(history.push(entry(2, 22, 30)), Err(Misfit::OldEpoch { newest: 3, found: 2 }));
    assert_eq!(history.push(entry(4, 44, 10)), Err(Misfit::OldSequence { epoch: 4, first: 10 }));
    assert_eq!(history.push(entry(7, 77, 30)), Ok(()));
    assert_eq!(history.at(9), None);
    assert_eq!(history.at(29).map(|entry| entry.epoch), Some(3));
    assert_eq!(history.at(30).map(|entry| entry.epoch), Some(7));
    assert!(history.contains(id(33)) && !history.contains(id(34)));
    assert_eq!(history.up_to(29).entries(), [entry(3, 33, 10)]);
}

#[test]
fn records_and_texts_have_one_form() {
    let one = entry(258, 0xab, 61);
    assert_eq!(Entry::key(258), b"__holdfast_epoch__\0\0\0\0\0\0\x01\x02");
    assert_eq!(&one.value()[..16], b"\0\0\0\0\0\0\0\xab\0\0\0\0\0\0\0\x3d");
    assert_eq!(Entry::read(&Entry::key(258), &one.value()), Some(Ok(one)));
    assert_eq!(Entry::read(b"script", b"x"), None);
    assert_eq!(Entry::read(KEY_PREFIX, &one.value()), Some(Err(Malformed)));
    assert_eq!(Entry::read(&Entry::key(1), &one.value()[1..]), Some(Err(Malformed)));

    let text = position(&[(1, 11, 1), (2, 0xfe, 61)], 99).to_string();
    assert_eq!(text, "99;1:000000000000000b:1:1790000000000,2:00000000000000fe:61:1790000000000");
    assert_eq!(Position::parse(b"7;-"), Ok(position(&[], 7)));
    for bad in [
        "",
        "7",
        "7;",
        "-1;-",
        "7;1:b:1:0",
        "7;1:000000000000000B:1:0",
        "7;1:000000000000000b:0:0",
        "7;1:000000000000000b:8:0",
        "7;1:000000000000000b:1:0,",
        "7;1:000000000000000b:1:0:0",
        "7;2:000000000000000b:1:0,1:000000000000000c:2:0",
        "7;1:000000000000000b:1:0;",
    ] {
        assert_eq!(Position::parse(bad.as_bytes()), Err(Malformed), "{bad}");
    }
}

#[test]
fn only_the_newest_entries_travel() {
    let mut long = History::default();
    for epoch in 1..=3000 {
        long.push(Entry { epoch, id: EpochId(u64::MAX), first: epoch, wall_ms: u64::MAX }).unwrap();
    }
    let sent = Position { history: long, latest: u64::MAX }.to_string();
    let got = Position::parse(sent.as_bytes()).unwrap();
    assert_eq!(got.history.entries().len(), SENT_ENTRIES_MAX);
    assert_eq!(got.history.newest().map(|entry| entry.epoch), Some(3000));
    let longest = format!("{0}:{1}:{0}:{0},", u64::MAX, EpochId(0));
    assert!(longest.len() * SENT_ENTRIES_MAX + 21 <= TEXT_BYTES_MAX);
}

/// Databases as lists of records, each with the epoch it was written in: what the fork must be, by
/// comparing them.
fn written(steps: &[(bool, u8)]) -> (Position, Position, u64) {
    let (mut one, mut two) = (position(&[], 0), position(&[], 0));
    let mut same = 0;
    for (number, (both, count)) in (1_u64..).zip(steps) {
        let is_parted = one.latest != same || two.latest != same;
        let both = *both && !is_parted;
        let count = u64::from(*count % 7) + 1;
        let write = |side: &mut Position, id: u64| {
            let entry =
                Entry { epoch: number, id: EpochId(id), first: side.latest + 1, wall_ms: 0 };
            side.history.push(entry).unwrap();
            side.latest += count;
        };
        if both {
            write(&mut one, number);
            write(&mut two, number);
            same = one.latest;
        } else if number % 2 == 0 {
            write(&mut one, number);
        } else {
            write(&mut two, number + 1000);
        }
    }
    (one, two, same)
}

proptest! {
    #[test]
    fn the_fork_is_where_the_records_part(steps in prop::collection::vec((any::<bool>(), any::<u8>()), 1..12)) {
        let (one, two, same) = written(&steps);
        let expected = |mine: &Position| match same {
            _ if mine.latest == same => Fork::Same,
            0 => Fork::None,
            same => Fork::At(same),
        };
        prop_assert_eq!(fork(&one, &two), expected(&one));
        prop_assert_eq!(fork(&two, &one), expected(&two));
        prop_assert_eq!(Position::parse(one.to_string().as_bytes()), Ok(one));
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Position::parse(&bytes);
        let _ = Entry::read(&[KEY_PREFIX, &bytes].concat(), &bytes);
        let _ = EpochId::parse(&bytes);
    }
}
