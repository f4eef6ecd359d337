//! The file on disks that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::*;

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
    store: File,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let does = Arc::new(AtomicU64::new(WELL));
        let (at, disk) = (path.clone(), Arc::clone(&does));
        let opener = move || {
            let mut how = std::fs::File::options();
            let file = how.read(true).write(true).create(true).truncate(false).open(&at)?;
            let disk = Disk { file: FileBackend::new(file)?, does: Arc::clone(&disk) };
            Database::builder().create_with_backend(disk)
        };
        let store = File::open_with(Box::new(opener), 0).expect("a new store");
        Self { _folder: folder, path, does, store }
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
    drop(File::open(&stage.path, 0).expect("the file"));
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
