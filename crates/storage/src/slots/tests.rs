use std::time::Duration;

use proptest::prelude::*;
use replication::slots::{Cursor, Least, Mark, MoveId, Slots, State};

use super::*;
use crate::types::head::Metadata;
use crate::types::keyspace::{self, Selection};
use crate::types::kind::Type;
use crate::{DEFAULT_NAMESPACE, Direction, Options, Read, Scope};

struct Db {
    store: Store,
    _dir: tempfile::TempDir,
}

fn options() -> Options {
    Options { cluster: true, ..Options::default() }
}

fn scope() -> Scope<'static> {
    Scope { namespace: DEFAULT_NAMESPACE, cluster: true, now_ms: 0 }
}

/// In one chunk.
const ALL: Most = Most { bytes: usize::MAX, records: usize::MAX };

impl Db {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: Store::open(&dir.path().join("db"), options()).unwrap(), _dir: dir }
    }

    /// Everything of these slots, as their owner's clients could see it.
    fn pairs(&self, slots: &Slots) -> Vec<(Family, Vec<u8>, Vec<u8>)> {
        let all = super::copy::chunk(&self.store.snapshot(), slots, &Cursor::Start, ALL);
        let records = all.unwrap().records;
        let put = |record| match record {
            crate::batch::Record::Put { family, key, value } => {
                (family, key.to_vec(), value.to_vec())
            }
            other => panic!("{other:?}"),
        };
        crate::batch::records(&records).map(|record| put(record.unwrap())).collect()
    }
}

/// A key of slot 0, 1 or 2 of those that move, or of 3, which stays: by brute force.
fn key(slot: u16, number: u8) -> Vec<u8> {
    (0_u64..)
        .map(|tag| format!("{{{tag}}}{number}").into_bytes())
        .find(|key| crate::key::key_slot(key) % 4 == slot % 4)
        .unwrap()
}

fn slots_of(keys: &[Vec<u8>]) -> Slots {
    let mut slots: Vec<(u16, u16)> =
        keys.iter().map(|key| crate::key::key_slot(key)).map(|slot| (slot, slot)).collect();
    slots.sort_unstable();
    slots.dedup();
    Slots::new(&slots).unwrap()
}

fn staged(id: u64, slots: &Slots) -> Mark {
    let state = State::Staged { at: None, cursor: Cursor::Start };
    Mark { id: MoveId(id), slots: slots.clone(), version: 0, state }
}

/// One command of a client: a string, a hash, members of a sorted set, a deletion, a flush.
fn write(store: &Store, what: u8, key: &[u8], number: u64) {
    let mut txn = store.txn();
    let ns_key = scope().ns_key(key);
    match what {
        0 => txn.put(Family::Metadata, &ns_key, &[b"\x81", &[0; 8][..], &[7]].concat()),
        1 | 2 => {
            let kind = if what == 1 { Type::Hash } else { Type::Zset };
            let mut metadata = Metadata::new(kind, number);
            metadata.size = 3;
            txn.put(Family::Metadata, &ns_key, &metadata.encode());
            for field in 0..3_u8 {
                txn.put(Family::Default, &scope().sub_key(key, number, &[field]), b"v");
                if what == 2 {
                    txn.put(Family::ZsetScore, &scope().sub_key(key, number, &[field]), b"");
                }
            }
        }
        3 => txn.delete(Family::Metadata, &ns_key),
        _ => keyspace::flush_namespace(&mut txn, &scope()),
    }
    txn.commit().unwrap();
    store.publish().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Chunks of any size, taken while clients write: what is staged below the cursor is what the
    /// giver has there (rule M8), and the end of it is the giver's data.
    #[test]
    fn a_copy_under_writes_is_the_givers_data(
        steps in prop::collection::vec((0_u8..9, 0_usize..12, 20_usize..400), 1..60),
    ) {
        let (giver, taker) = (Db::new(), Db::new());
        let keys: Vec<Vec<u8>> =
            (0..12_u8).map(|number| key(u16::from(number) % 4, number)).collect();
        let slots = slots_of(&keys[..9]);
        for (number, key) in keys.iter().enumerate() {
            write(&giver.store, number as u8 % 3, key, number as u64 + 1);
        }
        let mut feed = giver.store.feed();
        taker.store.put_mark(&staged(1, &slots), true).unwrap();
        let (mut cursor, mut sent) = (Cursor::Start, 0);
        let steps = steps.into_iter().chain([(8, 0, usize::MAX); 2]);
        for (number, (what, key, bytes)) in steps.enumerate() {
            if what < 5 {
                write(&giver.store, if what == 4 && number % 5 > 0 { 0 } else { what }, &keys[key], 100 + number as u64);
                continue;
            }
            // Forward to the snapshot, then a chunk as of it.
            let snapshot = giver.store.snapshot();
            let mut out = Writer::new(Vec::new());
            while cursor != Cursor::Start && sent < snapshot.sequence() {
                let crate::FeedRead::Batches(batches) = feed.read(sent + 1, 1 << 20).unwrap() else {
                    panic!("the log ends early");
                };
                for batch in batches {
                    forward(&batch.data, &slots, &cursor, &mut out).unwrap();
                    sent = batch.end() - 1;
                }
            }
            sent = snapshot.sequence();
            let mark = |cursor: &Cursor| {
                let at = Some(Least { id: None, sequence: sent });
                Mark { state: State::Staged { at, cursor: cursor.clone() }, ..staged(1, &slots) }
            };
            taker.store.stage(&mark(&cursor), out.finish()).unwrap();
            let records = if bytes == usize::MAX { bytes } else { 1 + bytes % 7 };
            let most = Most { bytes, records };
            let part = chunk(&snapshot, &slots, &cursor, most).unwrap();
            prop_assert!(cursor <= part.cursor);
            cursor = part.cursor;
            taker.store.stage(&mark(&cursor), &part.records).unwrap();
            let mut expected = giver.pairs(&slots);
            expected.retain(|(family, key, _)| {
                cursor.is_above(&position(*family, key).unwrap())
            });
            prop_assert_eq!(taker.pairs(&slots), expected);
            let known = taker.store.marks().unwrap();
            prop_assert_eq!(known.table().of(MoveId(1)), Some(&mark(&cursor)));
            prop_assert_eq!(known.sequence(MoveId(1)), taker.store.latest_sequence());
        }
        prop_assert_eq!(cursor, Cursor::End);
    }
}

#[test]
fn what_is_staged_is_nobodys_until_it_is_held() {
    let db = Db::new();
    let (mine, theirs) = (key(3, 1), key(1, 2));
    let slots = slots_of(std::slice::from_ref(&theirs));
    write(&db.store, 0, &mine, 1);
    db.store.put_mark(&staged(1, &slots), true).unwrap();
    let giver = Db::new();
    write(&giver.store, 1, &theirs, 5);
    let part = chunk(&giver.store.snapshot(), &slots, &Cursor::Start, ALL).unwrap();
    let whole = State::Staged { at: Some(Least::default()), cursor: part.cursor };
    db.store.stage(&Mark { state: whole, ..staged(1, &slots) }, &part.records).unwrap();
    let seen = || {
        let read = &db.store;
        let page = keyspace::scan(read, &scope(), &[], 100, &Selection::default()).unwrap();
        let random = keyspace::random_key(read, &scope()).unwrap();
        let census = keyspace::census(read, &scope(), || true).unwrap();
        (page.items, random.is_some(), census.keys)
    };
    assert_eq!(seen(), (vec![mine.clone()], true, 1));
    for flushes_all in [false, true] {
        let mut txn = db.store.txn();
        match flushes_all {
            true => keyspace::flush_all(&mut txn).unwrap(),
            false => keyspace::flush_namespace(&mut txn, &scope()),
        }
        txn.commit().unwrap();
        assert_eq!(seen(), (vec![], false, 0));
        assert_eq!(db.pairs(&slots), giver.pairs(&slots), "a flush is none of a copy's");
    }
    db.store.put_mark(&Mark { state: State::Held, ..staged(1, &slots) }, false).unwrap();
    assert_eq!(seen(), (vec![theirs], true, 1));
    let gone = State::Gone { is_empty: true };
    db.store.put_mark(&Mark { state: gone, ..staged(1, &slots) }, true).unwrap();
    for family in STAGES {
        assert!(
            db.store.scan(family, b"", b"", Direction::Forward).unwrap().next().unwrap().is_none()
        );
    }
}

#[test]
fn the_table_is_that_of_the_records_here_at_a_replica_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (master, replica) = (Store::open(&dir.path().join("m"), options()).unwrap(), Db::new());
    assert!(master.marks().is_none());
    let slots: Slots = "5,9-20".parse().unwrap();
    let mut feed = master.feed();
    master.put_mark(&staged(3, &slots), true).unwrap();
    let state = State::Staged { at: Some(Least::default()), cursor: Cursor::End };
    master.stage(&Mark { state, ..staged(3, &slots) }, b"").unwrap();
    master.put_mark(&staged(4, &"100".parse().unwrap()), true).unwrap();
    master.publish().unwrap();
    let crate::FeedRead::Batches(batches) = feed.read(1, 1 << 20).unwrap() else { panic!() };
    for batch in batches {
        replica.store.write_raw(&batch.data).unwrap();
    }
    drop(feed);
    let told = |store: &Store| {
        let marks = store.marks().unwrap();
        let all: Vec<Mark> = marks.table().iter().cloned().collect();
        (all, marks.foreign().to_vec())
    };
    let expected = told(&master);
    assert_eq!(expected.1, [(5, 5), (9, 20), (100, 100)]);
    assert_eq!(told(&replica.store), expected);
    assert_eq!(replica.store.marks().unwrap().sequence(MoveId(3)), master.latest_sequence() - 5);
    let watch = master.close_watch();
    drop(master);
    watch.wait(Duration::from_secs(20));
    let again = Store::open(&dir.path().join("m"), options()).unwrap();
    assert_eq!(told(&again), expected);
    assert_eq!(again.marks().unwrap().sequence(MoveId(3)), again.latest_sequence());
}

#[test]
fn records_of_anything_else_are_not_taken() {
    let db = Db::new();
    let (mine, theirs) = (key(3, 1), key(1, 2));
    let slots = slots_of(std::slice::from_ref(&theirs));
    let mark = staged(1, &slots);
    let before = db.store.latest_sequence();
    let mut bad: Vec<Vec<u8>> = vec![b"no batch".to_vec()];
    let mut with = |family, key: &[u8]| {
        let mut writer = Writer::new(Vec::new());
        writer.put(family, &[key], &[b"v"]);
        bad.push(std::mem::take(writer.finish()));
    };
    with(Family::Metadata, &scope().ns_key(&mine));
    with(Family::Propagate, &Mark::key(MoveId(9)));
    with(Family::Pubsub, &scope().ns_key(&theirs));
    with(Family::Metadata, b"\x01n\0\0k");
    let (lower, upper) = (bounds(0).0, bounds(16383).1);
    for (begin, end) in [(&lower[..], &upper[..]), (b"", b"\xff"), (&upper[..], &lower[..])] {
        let mut writer = Writer::new(Vec::new());
        writer.delete_range(Family::Metadata, begin, end);
        bad.push(std::mem::take(writer.finish()));
    }
    for records in bad {
        assert!(db.store.stage(&mark, &records).is_err(), "{records:?}");
    }
    assert_eq!(db.store.latest_sequence(), before);
}

/// H13: a view from before the copy knows the version as dead.
#[test]
fn a_view_of_before_a_copy_judges_none_of_it() {
    let db = Db::new();
    let slots: Slots = "7".parse().unwrap();
    let (inside, outside) = (bounds(7).0.to_vec(), bounds(8).0.to_vec());
    let barriers = db.store.inner().filters.barriers();
    let before = db.store.latest_sequence();
    assert!(barriers.allow(&inside, before));
    db.store.put_mark(&staged(1, &slots), true).unwrap();
    let first = before + 1;
    assert!(!barriers.allow(&inside, before) && barriers.allow(&outside, before));
    assert!(barriers.allow(&inside, first));
    let at = Some(Least::default());
    let more = State::Staged { at, cursor: Cursor::Start };
    db.store.stage(&Mark { state: more, ..staged(1, &slots) }, b"").unwrap();
    assert!(barriers.allow(&inside, first), "the same copy");
    assert!(barriers.allow(b"", before) && barriers.allow(b"\x0b__namespace\0", before));
}

#[test]
fn a_range_meets_the_slots_that_lie_in_it_and_no_others() {
    let slots = [(3, 5), (9, 9), (20, 30)];
    let is_in = |slot: u16| slots.iter().any(|&(first, last)| (first..=last).contains(&slot));
    for from in 0..35 {
        for to in from + 1..35 {
            let (begin, end) = (bounds(from).0, bounds(to).0);
            let is_met = (from..to).any(is_in);
            assert_eq!(meet(&[(&begin[..], &end[..])], &slots), is_met, "{from} to {to}");
        }
    }
    let (begin, end) = ([&bounds(5).0[..], b"key"].concat(), bounds(6).0);
    assert!(meet(&[(&begin[..], &end[..])], &slots), "the end of a slot");
    let (begin, end) = (bounds(6).0, [&bounds(9).0[..], b"key"].concat());
    let ranges = [(&b"a"[..], &b"b"[..]), (&begin[..], &end[..])];
    assert!(meet(&ranges, &slots), "the second one");
}

/// A script that deletes all keys may take long until it ends: what it is to leave out is what is
/// others' by then.
#[test]
fn nothing_that_has_been_staged_meanwhile_is_flushed() {
    let db = Db::new();
    let (comes, mine) = (key(0, 1), key(3, 2));
    let slots = slots_of(std::slice::from_ref(&comes));
    let stored = |key: &[u8]| db.store.get(Family::Metadata, &scope().ns_key(key)).unwrap();
    write(&db.store, 0, &mine, 1);
    let mut flush = db.store.txn();
    keyspace::flush_namespace(&mut flush, &scope());
    db.store.put_mark(&staged(1, &slots), true).unwrap();
    let mut records = Writer::new(Vec::new());
    records.put(Family::Metadata, &[&scope().ns_key(&comes)], &[b"v"]);
    db.store.stage(&staged(1, &slots), records.finish()).unwrap();
    let before = db.store.latest_sequence();
    assert!(matches!(flush.commit(), Err(Error::SlotsMove)));
    assert_eq!(db.store.latest_sequence(), before);
    assert!(stored(&comes).is_some() && stored(&mine).is_some());
    // One that knows of it goes around it, also where it ends at its bounds.
    let mut flush = db.store.txn();
    keyspace::flush_namespace(&mut flush, &scope());
    flush.commit().unwrap();
    assert!(stored(&comes).is_some() && stored(&mine).is_none());
}

proptest! {
    #[test]
    fn parts_of_a_range_leave_out_what_is_foreign(
        foreign in prop::collection::btree_set(0_u16..60, 0..8),
        lower in 0_u16..60,
        upper in 0_u16..61,
    ) {
        let foreign: Vec<(u16, u16)> = foreign.into_iter().map(|slot| (slot, slot)).collect();
        let parts = visible(&foreign, &bounds(lower).0, &bounds(upper).0);
        for slot in 0..60 {
            let key = [&*bounds(slot).0, b"k"].concat();
            let is_in = parts.iter().any(|(from, to)| **from <= *key && *key < **to);
            let wanted = (lower..upper).contains(&slot) && !foreign.contains(&(slot, slot));
            prop_assert_eq!(is_in, wanted, "{}", slot);
        }
    }
}

/// What a rewind cuts off a taker's log is an export, and what that holds may be put back.
#[test]
fn an_export_of_discarded_writes_has_nothing_of_a_copy() {
    let (db, folder) = (Db::new(), tempfile::tempdir().unwrap());
    let (moving, own) = (key(0, 1), key(3, 2));
    let slots = slots_of(std::slice::from_ref(&moving));
    db.store.put_mark(&staged(1, &slots), true).unwrap();
    let mut records = Writer::new(Vec::new());
    records.put(Family::Metadata, &[&scope().ns_key(&moving)], &[b"\x81\0\0\0\0\0\0\0\0copied"]);
    db.store.stage(&staged(1, &slots), records.finish()).unwrap();
    write(&db.store, 0, &own, 7);
    let (path, is_whole) =
        crate::rewind::export::from_feed(&db.store, folder.path(), 0, 1).unwrap();
    let text = std::fs::read_to_string(path.unwrap()).unwrap();
    let count = |what: &str| text.matches(what).count();
    assert!(is_whole, "{text}");
    assert_eq!((count("{\"batch\""), count("{\"log\":\"M1\"}")), (3, 2), "{text}");
    assert_eq!((count("{\"put\""), count("copied"), count("range")), (1, 0, 0), "{text}");
}

#[test]
fn what_lies_in_slots_of_others_is_counted_under_their_newest_mark() {
    let db = Db::new();
    let (moving, own) = (key(0, 1), key(3, 2));
    let slots = slots_of(std::slice::from_ref(&moving));
    let count = || {
        let lying = db.store.lying(100).unwrap().into_iter();
        lying.map(|(mark, records)| (mark.id.0, records)).collect::<Vec<_>>()
    };
    assert_eq!(count(), []);
    db.store.put_mark(&staged(1, &slots), true).unwrap();
    write(&db.store, 1, &own, 7);
    write(&db.store, 1, &moving, 8);
    assert_eq!(count(), [(1, 4)], "metadata and three fields");
    db.store.put_mark(&staged(2, &slots), false).unwrap();
    assert_eq!(count(), [(1, 0), (2, 4)]);
    let held = Mark { state: State::Held, ..staged(2, &slots) };
    db.store.put_mark(&held, false).unwrap();
    assert_eq!(count(), [(1, 0), (2, 0)]);
}

/// A file is known to a block, a memtable by the number of its entries.
#[test]
fn a_slot_weighs_about_what_was_written_to_it() {
    let db = Db::new();
    let put = |slot: u16, number: u32, bytes: usize| {
        let mut txn = db.store.txn();
        let key = [&*bounds(slot).0, &number.to_be_bytes()].concat();
        // Nothing that could be compressed.
        let mut state = u64::from(slot) << 32 | u64::from(number);
        let value: Vec<u8> = (0..bytes)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        txn.put(Family::Metadata, &key, &value);
        txn.put(Family::Stream, &key, &value);
        txn.commit().unwrap();
    };
    assert_eq!(db.store.weigh(0, 16_383).unwrap(), vec![0; 16_384]);
    for number in 0..500 {
        put(10, number, 2_000);
        put(11, number, 200);
        put(16_383, number, 1_000);
    }
    let is_about = |found: u64, real: u64| (real / 2..real * 2).contains(&found);
    let all = |store: &Store| store.weigh(0, 16_383).unwrap().iter().sum::<u64>();
    assert!(is_about(all(&db.store), 3_200_000), "{} in memory", all(&db.store));
    db.store.publish().unwrap();
    db.store.flush().unwrap();
    let weights = db.store.weigh(0, 16_383).unwrap();
    for (slot, real) in [(10, 2_000_000), (11, 200_000), (16_383, 1_000_000)] {
        assert!(is_about(weights[slot], real), "slot {slot}: {} in files", weights[slot]);
    }
    assert!(weights[500] < 100_000, "{}", weights[500]);
    assert_eq!(db.store.weigh(10, 11).unwrap(), weights[10..=11]);
}
