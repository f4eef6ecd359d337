//! The file on disks that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::*;
use crate::cluster::test_record;

/// What the disk does.
const WELL: u64 = 0;
/// Takes nothing.
const FULL: u64 = 1;
/// Takes everything, and says that it has not.
const LIES: u64 = 2;

#[derive(Debug)]
struct Disk {
    file: FileBackend,
    does: Arc<AtomicU64>,
    syncs: Arc<AtomicU64>,
}

impl Disk {
    fn fails(&self, when: u64) -> Result<(), std::io::Error> {
        let does = self.does.load(Ordering::SeqCst);
        if does == when { Err(std::io::Error::from_raw_os_error(28)) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.fails(FULL)?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        self.file.sync_data()?;
        self.fails(LIES)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.fails(FULL)?;
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), std::io::Error> {
        self.file.close()
    }
}

struct Stage {
    _folder: tempfile::TempDir,
    path: PathBuf,
    does: Arc<AtomicU64>,
    /// How often it was waited for.
    syncs: Arc<AtomicU64>,
    store: File,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let does = Arc::new(AtomicU64::new(WELL));
        let syncs = Arc::new(AtomicU64::new(0));
        let (at, disk, count) = (path.clone(), Arc::clone(&does), Arc::clone(&syncs));
        let opener = move || {
            let mut how = std::fs::File::options();
            let file = how.read(true).write(true).create(true).truncate(false).open(&at)?;
            let file = FileBackend::new(file)?;
            let disk = Disk { file, does: Arc::clone(&disk), syncs: Arc::clone(&count) };
            Database::builder().create_with_backend(disk)
        };
        let store = File::open_with(Box::new(opener), 0, Arc::default()).expect("a new store");
        Self { _folder: folder, path, does, syncs, store }
    }

    fn disk(&self, does: u64) {
        self.does.store(does, Ordering::SeqCst);
    }
}

fn named(stage: &Stage, name: &str) -> Outcome {
    stage.store.create_namespace(name, &Event::now(1, String::new(), "operator", "made".to_owned()))
}

#[test]
fn a_disk_that_was_full_for_a_moment_costs_that_moment() {
    let stage = Stage::new();
    named(&stage, "before").done().expect("room");
    assert_eq!(stage.store.trouble(), None);
    stage.disk(FULL);
    assert!(named(&stage, "full").done().is_err());
    assert!(named(&stage, "still full").done().is_err());
    let trouble = stage.store.trouble().expect("a word of it");
    assert!(trouble.contains("No space left"), "{trouble}");
    stage.disk(WELL);
    // Nothing but a write shows that there is room again.
    assert_eq!(stage.store.namespaces().expect("names"), ["before"]);
    assert!(stage.store.trouble().is_some());
    stage.store.probe().expect("room");
    assert_eq!(stage.store.trouble(), None);
    named(&stage, "after").done().expect("room");
    assert_eq!(stage.store.namespaces().expect("names"), ["after", "before"]);
}

#[test]
fn a_commit_that_failed_and_is_done_is_told_apart_from_one_that_is_not() {
    let stage = Stage::new();
    stage.disk(LIES);
    let outcome = named(&stage, "n");
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    stage.disk(WELL);
    // Whichever it is, it stays so: the file was opened anew.
    let names = stage.store.namespaces().expect("names");
    let again = named(&stage, "n");
    match names.as_slice() {
        [] => assert!(matches!(again, Outcome::Done(())), "{again:?}"),
        _ => assert!(matches!(again, Outcome::NotDone(StoreError::Exists)), "{again:?}"),
    }
    stage.disk(FULL);
    let outcome = named(&stage, "m");
    assert!(!matches!(outcome, Outcome::Done(())), "{outcome:?}");
    stage.disk(WELL);
    assert_eq!(stage.store.namespaces().expect("names"), ["n"]);
}

#[test]
fn a_file_that_another_controller_has_led_with_is_not_taken_back() {
    let stage = Stage::new();
    stage.disk(FULL);
    assert!(stage.store.probe().is_err());
    stage.disk(WELL);
    // The failed file is closed, so somebody else gets in.
    drop(File::open(&stage.path, 0, Arc::default()).expect("the file"));
    assert!(stage.store.probe().is_err());
    let lost = stage.store.lost().expect("the end");
    assert!(lost.contains("term 2") && lost.contains("term 1"), "{lost}");
    assert!(stage.store.namespaces().is_err(), "for good");
}

#[test]
fn history_outlives_any_flood() {
    let stage = Stage::new();
    let event = |kind: &str, text: &str| Event::now(1, "n/c".to_owned(), kind, text.to_owned());
    stage.store.append(&[event("failover", "a master died")]).done().expect("room");
    let flood: Vec<Event> = (0..10_050).map(|n| event("alarm", &n.to_string())).collect();
    stage.store.append(&flood).done().expect("room");
    let all = stage.store.events(20_000, |_| true).expect("events");
    assert_eq!(all.len(), 10_001);
    assert_eq!((all[0].number, all[0].text.as_str()), (1, "a master died"));
    assert!(all.is_sorted_by_key(|event| event.number));
    let newest = stage.store.events(2, |_| true).expect("events");
    assert_eq!(newest[1].text, "10049");
    let failovers = stage.store.events(5, |event| event.kind == "failover").expect("events");
    assert_eq!(failovers.len(), 1);
}

/// So many clusters of one node each, in a namespace of their own.
fn with_clusters(count: u16) -> (Stage, Vec<Arc<Record>>) {
    let stage = Stage::new();
    named(&stage, "n").done().expect("a namespace");
    let made = |number: u16| {
        let mut record = Record { name: format!("c{number}"), tag: 1, ..test_record() };
        record.shards[0].nodes[0].local.port = number + 1;
        let event = Event::now(1, String::new(), "operator", "made".to_owned());
        stage.store.create(&record, &event).done().expect("a cluster");
        Arc::new(record)
    };
    let records = (0..count).map(made).collect();
    (stage, records)
}

fn longer(was: &Arc<Record>) -> Change {
    let mut next = was.next();
    next.longest_lease_ms += 1;
    let event = Event::now(1, "n/c".to_owned(), "change", "longer leases".to_owned());
    Change::new(Arc::clone(was), next, event)
}

fn in_force(stage: &Stage, of: &Record) -> Record {
    stage.store.cluster(&of.namespace, &of.name).expect("a read").expect("a cluster")
}

/// Makes what the file has of a cluster no record at all.
fn spoil(stage: &Stage, name: &str) {
    let spoilt = stage.store.engine.write("spoil", |tx| {
        let mut table = tx.open_table(CLUSTERS).expect("clusters");
        table.insert(("n", name), b"no record".as_slice()).expect("room");
        Ok(())
    });
    spoilt.done().expect("room");
}

#[test]
fn changes_of_many_clusters_wait_for_the_disk_as_often_as_one() {
    let (stage, records) = with_clusters(40);
    let syncs = || stage.syncs.swap(0, Ordering::SeqCst);
    syncs();
    let first = longer(&records[0]);
    stage.store.swap(&first).done().expect("a change");
    let of_one = syncs();
    let mut changes: Vec<Change> = records[1..].iter().map(longer).collect();
    // Made from what is there no more, and from what another of them has replaced.
    changes.push(longer(&records[0]));
    changes.push(longer(&records[1]));
    let outcomes = stage.store.swap_all(&changes);
    // The file may grow.
    let of_all = syncs();
    assert!(of_all <= of_one + 2, "{of_one} for one, {of_all} for all");
    let (done, refused) = outcomes.split_at(39);
    assert!(done.iter().all(|one| matches!(one, Outcome::Done(()))), "{done:?}");
    assert_eq!(refused.len(), 2);
    let conflict = |one: &Outcome| matches!(one, Outcome::NotDone(StoreError::Conflict));
    assert!(refused.iter().all(conflict), "{refused:?}");
    for change in std::iter::once(&first).chain(&changes[..39]) {
        assert_eq!(in_force(&stage, &change.record), *change.record);
    }
    // Each with its event, and no event without its change.
    let told = stage.store.events(99, |event| event.kind == "change").expect("events");
    assert_eq!(told.len(), 40);
}

#[test]
fn a_change_reads_no_other_clusters_record_and_what_cannot_be_changed_keeps_nobody() {
    let (stage, records) = with_clusters(3);
    spoil(&stage, "c2");
    let first = longer(&records[0]);
    stage.store.swap(&first).done().expect("a change");
    let changes = [longer(&first.record), longer(&records[2]), longer(&records[1])];
    let outcomes = stage.store.swap_all(&changes);
    assert!(
        matches!(
            outcomes.as_slice(),
            [Outcome::Done(()), Outcome::NotDone(StoreError::Engine { .. }), Outcome::Done(())]
        ),
        "{outcomes:?}"
    );
    for change in [&changes[0], &changes[2]] {
        assert_eq!(in_force(&stage, &change.record), *change.record);
    }
}

/// Rule O4.
#[test]
fn of_a_commit_that_failed_each_change_is_unknown_and_what_was_refused_is_not_done() {
    let (stage, records) = with_clusters(3);
    let mut late = longer(&records[2]);
    late.was = Arc::new(Record { tag: 99, ..Record::clone(&late.was) });
    let changes = [longer(&records[0]), longer(&records[1]), late];
    stage.disk(LIES);
    let outcomes = stage.store.swap_all(&changes);
    stage.disk(WELL);
    assert!(
        matches!(
            outcomes.as_slice(),
            [Outcome::Unknown(_), Outcome::Unknown(_), Outcome::NotDone(StoreError::Conflict)]
        ),
        "{outcomes:?}"
    );
    // Whichever it is, it is the same for all of one transaction, and stays so.
    let is_done = |change: &Change| in_force(&stage, &change.record) == *change.record;
    assert_eq!(is_done(&changes[0]), is_done(&changes[1]));
    assert!(!is_done(&changes[2]));
}
