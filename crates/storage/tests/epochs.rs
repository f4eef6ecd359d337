//! Epoch entries: durable, replicated as data, kept by compactions, and never contradicting each
//! other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use replication::history::{Entry, EpochId, Fork, Misfit, fork};
use storage::batch::{self, Record};
use storage::{Error, Family, FeedRead, Options, Store};

fn open(dir: &Path) -> Store {
    Store::open(dir, Options { block_cache_size: 8 << 20, ..Options::default() }).unwrap()
}

fn put(store: &Store, key: &str) {
    let mut txn = store.txn();
    txn.put(Family::Metadata, key.as_bytes(), b"v");
    txn.commit().unwrap();
}

fn id(bits: u64) -> EpochId {
    EpochId::from_random(bits)
}

/// Everything published goes from one to the other.
fn replicate(from: &Store, to: &Store) {
    from.publish().unwrap();
    let mut feed = from.feed();
    loop {
        match feed.read(to.latest_sequence() + 1, 1 << 20).unwrap() {
            FeedRead::Batches(batches) => batches.iter().for_each(|batch| {
                to.write_raw(&batch.data).unwrap();
            }),
            FeedRead::UpToDate => break,
            FeedRead::Gone => panic!("the feed is gone"),
        }
    }
    to.publish().unwrap();
}

#[test]
fn an_epoch_begins_with_a_record_of_its_own_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a");
    assert!(store.history().is_empty());
    assert_eq!(store.open_epoch(3, id(33), 1000).unwrap(), 2);
    assert_eq!(store.open_epoch(3, id(33), 2000).unwrap(), 2, "once");
    assert_eq!(store.published(), 2);
    put(&store, "b");
    assert_eq!(store.open_epoch(8, id(88), 3000).unwrap(), 4);
    let other = Misfit::OtherId { epoch: 8, known: id(88), found: id(89) };
    assert!(
        matches!(store.open_epoch(8, id(89), 0), Err(Error::EpochRefused(why)) if why == other)
    );
    assert!(matches!(store.open_epoch(5, id(55), 0), Err(Error::EpochRefused(_))));
    let entries = [
        Entry { epoch: 3, id: id(33), first: 2, wall_ms: 1000 },
        Entry { epoch: 8, id: id(88), first: 4, wall_ms: 3000 },
    ];
    assert_eq!(store.position().history.entries(), entries);
    assert_eq!(store.position().latest, 4);
    store.flush().unwrap();
    store.compact(b"", b"").unwrap();
    store.close().unwrap();
    assert_eq!(open(dir.path()).history().entries(), entries);
}

/// A replica of Kvrocks' kind looks at the last put of a batch, and acts on two keys of this
/// family; its commands read and remove what begins with its own names; log data are numbers to it.
/// So it applies an epoch's batch as any other, and does nothing about it.
#[test]
fn kvrocks_finds_nothing_in_the_batch_of_an_epoch_that_it_would_act_on() {
    const ACTED_ON: [&[u8]; 2] = [b"script", b"__namespace_keys__"];
    const OWN_NAMES: [&[u8]; 2] = [b"lua_", b"replication_id_"];
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let first = store.open_epoch(3, id(33), 1000).unwrap();
    let FeedRead::Batches(batches) = store.feed().read(first, 1 << 20).unwrap() else {
        panic!("no batch at {first}")
    };
    let [written] = batches.as_slice() else { panic!("{} batches", batches.len()) };
    let records: Result<Vec<Record<'_>>, _> = batch::records(&written.data).collect();
    let records = records.unwrap();
    let [Record::Put { family: Family::Propagate, key, .. }] = records.as_slice() else {
        panic!("{records:?}")
    };
    assert!(!ACTED_ON.contains(key), "{key:?}");
    assert!(!OWN_NAMES.iter().any(|name| key.starts_with(name)), "{key:?}");
}

#[test]
fn epochs_travel_with_the_data() {
    let dirs = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (master, replica) = (open(dirs.0.path()), open(dirs.1.path()));
    master.open_epoch(1, id(1), 0).unwrap();
    put(&master, "a");
    replicate(&master, &replica);
    assert_eq!(replica.position(), master.position());
    replica.open_epoch(2, id(2), 0).unwrap();
    put(&master, "only here");
    put(&master, "and this");
    assert_eq!(fork(&master.position(), &replica.position()), Fork::At(2));
    assert_eq!(fork(&replica.position(), &master.position()), Fork::At(2));
}

#[test]
fn a_foreign_epoch_that_cannot_be_is_refused_before_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.open_epoch(4, id(4), 0).unwrap();
    let batch = |first: u64, entry: &[u8]| {
        let mut writer = batch::Writer::new(Vec::new());
        writer.log(b"x");
        writer.put(Family::Metadata, &[b"k"], &[b"v"]);
        writer.put(Family::Propagate, &[&Entry::key(5)], &[entry]);
        let mut bytes = writer.finish().clone();
        bytes[..8].copy_from_slice(&first.to_le_bytes());
        bytes
    };
    let entry = |first| Entry { epoch: 5, id: id(5), first, wall_ms: 0 }.value();
    assert!(matches!(store.write_raw(&batch(2, b"short")), Err(Error::BadEpoch(_))));
    assert!(matches!(store.write_raw(&batch(2, &entry(2))), Err(Error::EpochRefused(_))));
    assert_eq!(store.latest_sequence(), 1);
    assert_eq!(store.write_raw(&batch(2, &entry(3))).unwrap(), 3);
    assert_eq!(store.history().newest().map(|entry| entry.first), Some(3));
    // A batch that removes entries is believed: the records decide.
    let mut writer = batch::Writer::new(Vec::new());
    writer.delete(Family::Propagate, &Entry::key(5));
    let mut bytes = writer.finish().clone();
    bytes[..8].copy_from_slice(&4_u64.to_le_bytes());
    store.write_raw(&bytes).unwrap();
    assert_eq!(store.history().newest().map(|entry| entry.epoch), Some(4));
}
