use super::*;
use crate::batch::Writer;

const MIB: usize = 1 << 20;

fn put(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.put(Family::Metadata, &[key], &[value]);
    writer.finish().to_vec()
}

fn missing(hot: &Hot, key: &[u8]) -> Ticket {
    match hot.get(key) {
        Found::Missing(ticket) => ticket,
        Found::Entry(..) => panic!("it is kept"),
        Found::Unknown => panic!("it is being written"),
    }
}

fn value(hot: &Hot, key: &[u8]) -> Option<Vec<u8>> {
    match hot.get(key) {
        Found::Entry(data, start, _) => Some(data[start..].to_vec()),
        Found::Missing(_) | Found::Unknown => None,
    }
}

fn write(hot: &Hot, bytes: &[u8]) {
    write_as(hot, bytes, 1);
}

fn write_as(hot: &Hot, bytes: &[u8], sequence: u64) {
    hot.writing(bytes).written(sequence);
}

fn value_at(hot: &Hot, key: &[u8], sequence: u64) -> Option<Vec<u8>> {
    hot.get_at(key, sequence).map(|(data, start)| data[start..].to_vec())
}

#[test]
fn a_snapshot_sees_what_no_later_batch_has_touched() {
    let hot = Hot::new(STRIPE_BYTES);
    assert_eq!(value_at(&hot, b"k", 9), None);
    write_as(&hot, &put(b"k", b"1"), 5);
    assert_eq!(value_at(&hot, b"k", 4), None);
    assert_eq!(value_at(&hot, b"k", 5).as_deref(), Some(&b"1"[..]));
    let bytes = put(b"other", b"1");
    let mut writing = hot.writing(&bytes);
    assert_eq!(value_at(&hot, b"k", 5), None, "its stripe is being written");
    writing.written(6);
    drop(writing);
    assert_eq!(value_at(&hot, b"k", 5), None, "another key of the stripe may be this one");
    assert_eq!(value_at(&hot, b"k", 6).as_deref(), Some(&b"1"[..]));
    write_as(&hot, &without(b"k", b"l"), 7);
    assert_eq!(value_at(&hot, b"k", 6), None);
    assert_eq!(value_at(&hot, b"other", 6).as_deref(), Some(&b"1"[..]));
}

#[test]
fn what_was_read_is_kept_and_follows_writes() {
    let hot = Hot::new(MIB);
    hot.keep(&missing(&hot, b"k"), b"k", b"1");
    assert_eq!(value(&hot, b"k").as_deref(), Some(&b"1"[..]));
    write(&hot, &put(b"k", b"22"));
    assert_eq!(value(&hot, b"k").as_deref(), Some(&b"22"[..]));
    let mut writer = Writer::new(Vec::new());
    writer.delete(Family::Metadata, b"k");
    write(&hot, writer.finish());
    assert_eq!(value(&hot, b"k"), None);
}

#[test]
fn a_value_takes_the_place_of_one_of_its_length_unless_that_is_being_read() {
    let hot = Hot::new(MIB);
    let held = |key: &[u8]| match hot.get(key) {
        Found::Entry(data, start, _) => (data, start),
        Found::Missing(_) | Found::Unknown => panic!("it is kept"),
    };
    let place = |key: &[u8]| held(key).0.as_ptr();
    write(&hot, &put(b"k", b"1"));
    let before = place(b"k");
    write(&hot, &put(b"k", b"2"));
    assert_eq!((value(&hot, b"k").as_deref(), place(b"k")), (Some(&b"2"[..]), before));
    let (read, start) = held(b"k");
    write(&hot, &put(b"k", b"3"));
    assert_eq!((&read[start..], value(&hot, b"k").as_deref()), (&b"2"[..], Some(&b"3"[..])));
    // What was kept when the write began is gone when it ends, or is another one.
    let bytes = put(b"k", b"4");
    let mut writing = hot.writing(&bytes);
    hot.clear();
    writing.written(1);
    assert_eq!(value(&hot, b"k").as_deref(), Some(&b"4"[..]));
    let (one, other) = (put(b"k", b"55"), put(b"k", b"6"));
    let (mut first, mut second) = (hot.writing(&one), hot.writing(&other));
    first.written(2);
    second.written(3);
    assert_eq!(value(&hot, b"k").as_deref(), Some(&b"6"[..]));
    let stripes = hot.stripes.iter().map(|stripe| {
        let stripe = stripe.lock();
        assert_eq!(stripe.bytes, stripe.entries.iter().map(Entry::bytes).sum::<usize>());
        stripe.entries.len()
    });
    assert_eq!(stripes.sum::<usize>(), 1);
}

#[test]
fn a_stripe_is_two_lines_of_a_cache() {
    assert_eq!(size_of::<Mutex<Stripe>>(), 2 * 64);
}

#[test]
fn what_was_written_is_kept() {
    let hot = Hot::new(MIB);
    write(&hot, &put(b"k", b"1"));
    assert_eq!(value(&hot, b"k").as_deref(), Some(&b"1"[..]));
}

#[test]
fn a_batch_of_scripts_that_fails_ends_the_version_and_not_all_of_them() {
    let mut writer = Writer::new(Vec::new());
    for name in [b"lua_f_1", b"lua_f_2"] {
        writer.put(Family::Propagate, &[name], &[b"text"]);
    }
    let bytes = writer.finish().to_vec();
    for hot in [Hot::new(0), Hot::new(MIB)] {
        let before = hot.scripts.now();
        let (one, other) = (hot.writing(&bytes), hot.writing(&bytes));
        drop(one);
        assert_eq!(hot.scripts.now(), None, "the other one is being written");
        drop(other);
        let after = hot.scripts.now();
        assert!(before.is_some() && after.is_some() && before != after);
        // Nothing is newer than it was.
        assert_eq!(hot.scripts.at(0), after);
    }
}

#[test]
fn of_several_writes_of_a_batch_the_last_one_is_kept() {
    let hot = Hot::new(MIB);
    let mut writer = Writer::new(Vec::new());
    for value in [b"1", b"2"] {
        writer.put(Family::Metadata, &[b"k"], &[value]);
        writer.put(Family::Default, &[b"k"], &[b"of another family"]);
    }
    writer.put(Family::Metadata, &[b"l"], &[b"1"]);
    writer.put(Family::Metadata, &[b"l"], &[b"2"]);
    writer.delete(Family::Metadata, b"l");
    writer.put(Family::Metadata, &[b"m"], &[&[0; ENTRY_BYTES_MAX]]);
    writer.put(Family::Metadata, &[b"m"], &[b"3"]);
    writer.put(Family::Metadata, &[b"k"], &[b"4"]);
    let bytes = writer.finish().to_vec();
    let writing = hot.writing(&bytes);
    assert!([b"k", b"l", b"m"].iter().all(|key| matches!(hot.get(*key), Found::Unknown)));
    drop(writing);
    write(&hot, &bytes);
    assert_eq!(value(&hot, b"k").as_deref(), Some(&b"4"[..]));
    assert_eq!(value(&hot, b"l"), None);
    assert_eq!(value(&hot, b"m").as_deref(), Some(&b"3"[..]));
}

#[test]
fn a_value_read_before_a_write_is_not_kept_after_it() {
    let hot = Hot::new(MIB);
    let before = missing(&hot, b"k");
    write(&hot, &put(b"k", b"new"));
    hot.keep(&before, b"k", b"old");
    assert_eq!(value(&hot, b"k").as_deref(), Some(&b"new"[..]));
}

#[test]
fn a_value_read_during_a_write_is_not_kept() {
    let hot = Hot::new(MIB);
    let mut writer = Writer::new(Vec::new());
    writer.put(Family::Metadata, &[b"k"], &[b"new"]);
    writer.put(Family::Metadata, &[b"other"], &[b"new"]);
    let (bytes, before) = (writer.finish().to_vec(), missing(&hot, b"k"));
    let mut writing = hot.writing(&bytes);
    hot.keep(&before, b"k", b"old");
    assert!(matches!(hot.get(b"k"), Found::Unknown));
    writing.written(1);
    assert!(matches!(hot.get(b"k"), Found::Unknown), "other stripes may not be up to date yet");
    drop(writing);
    assert_eq!(value(&hot, b"k").as_deref(), Some(&b"new"[..]));
}

#[test]
fn a_write_that_failed_leaves_nothing_behind() {
    let hot = Hot::new(MIB);
    hot.keep(&missing(&hot, b"k"), b"k", b"old");
    let bytes = put(b"k", b"new");
    drop(hot.writing(&bytes));
    assert!(matches!(hot.get(b"k"), Found::Missing(_)));
}

fn without(begin: &[u8], end: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.delete_range(Family::Metadata, begin, end);
    writer.finish().to_vec()
}

#[test]
fn removing_a_range_forgets_what_lies_in_it() {
    // One stripe, and many.
    for hot in [Hot::new(STRIPE_BYTES), Hot::new(MIB)] {
        let other = missing(&hot, b"other");
        let kept = [b"a".as_slice(), b"k", b"z", b"~"];
        for key in kept {
            hot.keep(&missing(&hot, key), key, key);
        }
        let bytes = without(b"b", b"z");
        let mut writing = hot.writing(&bytes);
        assert!(matches!(hot.get(b"k"), Found::Unknown));
        assert!(matches!(hot.get(b"a"), Found::Unknown), "what is being written is all of it");
        writing.written(1);
        drop(writing);
        let found = kept.map(|key| value(&hot, key).is_some());
        assert_eq!(found, [true, false, true, true]);
        hot.keep(&other, b"other", b"old");
        assert_eq!(value(&hot, b"other"), None, "read before it");
        // What was written since to a stripe that nobody has looked at.
        write(&hot, &without(b"", b"b"));
        write(&hot, &put(b"a", b"new"));
        assert!(value(&hot, b"a").is_none_or(|value| value == b"new"));
        write(&hot, &without(b"z", b""));
        assert_eq!((value(&hot, b"z"), value(&hot, b"~")), (None, None), "without an end");
        let held = hot.stripes.iter().map(|stripe| {
            let stripe = stripe.lock();
            assert_eq!(stripe.bytes, stripe.entries.iter().map(Entry::bytes).sum::<usize>());
            stripe.entries.len()
        });
        assert!(held.sum::<usize>() <= 2);
    }
}

#[test]
fn where_more_ranges_were_removed_than_are_known_nothing_is_kept() {
    let kept = |ranges: usize, fails: bool| {
        let hot = Hot::new(STRIPE_BYTES);
        hot.keep(&missing(&hot, b"k"), b"k", b"1");
        for _ in 0..ranges {
            write(&hot, &without(b"x", b"y"));
        }
        if fails {
            drop(hot.writing(&without(b"x", b"y")));
        }
        value(&hot, b"k").is_some()
    };
    assert!(kept(1, false) && kept(REMOVED_MAX, false));
    assert!(!kept(REMOVED_MAX + 1, false));
    assert!(!kept(1, true), "whatever RocksDB did");
    // One batch of them.
    let hot = Hot::new(STRIPE_BYTES);
    hot.keep(&missing(&hot, b"k"), b"k", b"1");
    let mut writer = Writer::new(Vec::new());
    (0..=REMOVED_MAX).for_each(|_| writer.delete_range(Family::Metadata, b"x", b"y"));
    write(&hot, writer.finish());
    assert_eq!(value(&hot, b"k"), None);
}

#[test]
fn memory_is_bounded_and_what_is_read_stays() {
    let hot = Hot::new(STRIPE_BYTES);
    hot.keep(&missing(&hot, b"wanted"), b"wanted", &[1; 100]);
    for number in 0..1000_u32 {
        let key = number.to_le_bytes();
        hot.keep(&missing(&hot, &key), &key, &[0; 100]);
        assert!(value(&hot, b"wanted").is_some(), "after {number}");
    }
    let stripe = hot.stripes[0].lock();
    assert!(stripe.bytes <= STRIPE_BYTES);
    assert_eq!(stripe.bytes, stripe.entries.iter().map(Entry::bytes).sum::<usize>());
}

#[test]
fn large_values_and_a_size_of_zero() {
    let hot = Hot::new(MIB);
    hot.keep(&missing(&hot, b"k"), b"k", &[0; ENTRY_BYTES_MAX]);
    assert_eq!(value(&hot, b"k"), None);
    hot.keep(&missing(&hot, b"k"), b"k", b"small");
    write(&hot, &put(b"k", &[0; ENTRY_BYTES_MAX]));
    assert_eq!(value(&hot, b"k"), None);
    let none = Hot::new(0);
    assert!(matches!(none.get(b"k"), Found::Unknown));
    write(&none, &put(b"k", b"1"));
}

/// Writers raise two keys in one batch; readers must never see them apart, nor any of them fall.
/// The order look-up, "RocksDB", keep is that of `Store::get`.
#[test]
fn readers_never_see_half_a_batch_or_go_back() {
    let hot = Hot::new(4 * STRIPE_BYTES);
    let database = parking_lot::RwLock::new(0_u64);
    let keys = [b"a".as_slice(), b"b".as_slice()];
    let read = |key: &[u8]| -> u64 {
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        match hot.get(key) {
            Found::Entry(data, start, _) => number(&data[start..]),
            Found::Unknown => *database.read(),
            Found::Missing(ticket) => {
                let value = *database.read();
                hot.keep(&ticket, key, &value.to_le_bytes());
                value
            }
        }
    };
    let is_finished = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for value in 1..=20_000_u64 {
                let mut writer = Writer::new(Vec::new());
                for key in keys {
                    writer.put(Family::Metadata, &[key], &[&value.to_le_bytes()]);
                }
                let bytes = writer.finish().to_vec();
                let mut writing = hot.writing(&bytes);
                *database.write() = value;
                writing.written(1);
            }
            is_finished.store(true, Ordering::SeqCst);
        });
        for turn in 0..2 {
            let (first, second) = (keys[turn], keys[1 - turn]);
            let (read, is_finished) = (&read, &is_finished);
            scope.spawn(move || {
                let mut last = 0;
                while !is_finished.load(Ordering::SeqCst) {
                    let one = read(first);
                    let other = read(second);
                    assert!(one >= last && other >= one, "{last}, {one}, {other}");
                    last = other;
                }
            });
        }
    });
    assert_eq!(read(keys[0]), 20_000);
}
