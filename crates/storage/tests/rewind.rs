//! Rewinds of real databases: exact, refused where they cannot be, and whole after SIGKILL at any
//! moment.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use replication::history::{EpochId, Fork, fork};
use storage::rewind::{self, Failure, Intent};
use storage::{Direction, Error, Family, FeedRead, Options, Read, Store};

const AT_MS: u64 = 1_790_000_000_000;
/// Kills of the loop; the environment can ask for more.
const KILLS: usize = 30;
const KILLS_VARIABLE: &str = "HOLDFAST_REWIND_KILLS";
const CHILD_VARIABLE: &str = "HOLDFAST_REWIND_CHILD";
const FAMILIES: [Family; 3] = [Family::Metadata, Family::Default, Family::ZsetScore];

fn options() -> Options {
    Options { block_cache_size: 8 << 20, feed_ring_bytes: 0, ..Options::default() }
}

fn open(dir: &Path) -> Store {
    Store::open(dir, options()).unwrap()
}

/// One batch with a record in each of three families.
fn write(store: &Store, number: usize, value: &str) {
    let mut txn = store.txn();
    txn.log(b"1");
    for family in FAMILIES {
        txn.put(family, format!("key {number:06}").as_bytes(), value.as_bytes());
    }
    txn.commit().unwrap();
}

fn write_all(store: &Store, numbers: std::ops::Range<usize>, value: &str) {
    let value = format!("{value} {}", "x".repeat(60));
    numbers.for_each(|number| write(store, number, &value));
    store.publish().unwrap();
}

/// Everything in the database, in order.
fn content(store: &Store) -> Vec<(Family, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for family in Family::ALL {
        let mut cursor = store.scan(family, b"", b"", Direction::Forward).unwrap();
        while let Some((key, value)) = cursor.next().unwrap() {
            all.push((family, key.to_vec(), value.to_vec()));
        }
    }
    all
}

/// The bytes of all batches from `next` on.
fn log_from(store: &Store, mut next: u64) -> Vec<Vec<u8>> {
    let (mut feed, mut all) = (store.feed(), Vec::new());
    loop {
        match feed.read(next, 1 << 20).unwrap() {
            FeedRead::Batches(batches) => {
                for batch in batches {
                    next = batch.end();
                    all.push(batch.data.to_vec());
                }
            }
            FeedRead::UpToDate => return all,
            FeedRead::Gone => panic!("nothing in the log at {next}"),
        }
    }
}

/// A deposed master and its successor, both closed, and where they part.
struct Pair {
    dir: tempfile::TempDir,
    fork: u64,
}

impl Pair {
    /// `common` batches of both, then `tail` of the deposed one in several log files.
    fn make(common: usize, tail: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        let mut master = open(&old);
        master.open_epoch(1, EpochId::from_random(1), 0).unwrap();
        write_all(&master, 0..common / 4, "common");
        // An archived log file, and tables.
        master.flush().unwrap();
        write_all(&master, common / 4..common / 2, "common");
        master = reopened(master);
        write_all(&master, common / 2..common, "common");
        master.publish().unwrap();
        master.checkpoint(&new).unwrap();
        write_all(&master, common..common + tail / 2, "discarded");
        write_all(&master, 0..tail / 10, "overwritten");
        master = reopened(master);
        write_all(&master, common + tail / 2..common + tail, "discarded");
        let successor = open(&new);
        successor.open_epoch(2, EpochId::from_random(2), 0).unwrap();
        write_all(&successor, common..common + tail / 3, "kept");
        let Fork::At(fork) = fork(&master.position(), &successor.position()) else {
            panic!("no fork");
        };
        assert!(fork > 0 && fork < master.latest_sequence());
        master.close().unwrap();
        successor.close().unwrap();
        Self { dir, fork }
    }

    fn old(&self) -> PathBuf {
        self.dir.path().join("old")
    }

    fn successor(&self) -> Store {
        open(&self.dir.path().join("new"))
    }

    /// A copy of the deposed master's folder.
    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(&self.old(), &copy.path().join("db"));
        copy
    }
}

fn reopened(store: Store) -> Store {
    let dir = store.dir().to_owned();
    store.close().unwrap();
    open(&dir)
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Of a deposed master of epoch 1.
fn intent(fork: u64, at_ms: u64) -> Intent {
    Intent { fork, at_ms, epoch: Some((1, EpochId::from_random(1))) }
}

fn run(dir: &Path, fork: u64) -> Result<rewind::Report, Failure> {
    rewind::run(&dir.join("db"), &dir.join("discarded"), &options(), intent(fork, AT_MS))
}

/// The rewound database takes the successor's history and is then the same, in its log too.
fn check(dir: &Path, fork: u64, successor: &Store) {
    let store = open(&dir.join("db"));
    assert_eq!(store.latest_sequence(), fork);
    for family in FAMILIES {
        let mut keys = 0;
        let mut cursor = store.scan(family, b"", b"", Direction::Forward).unwrap();
        while let Some((key, value)) = cursor.next().unwrap() {
            assert!(value.starts_with(b"common"), "{family:?} {}", key.escape_ascii());
            keys += 1;
        }
        assert_eq!(keys * 3 + 1, fork, "{family:?} is torn");
    }
    for batch in log_from(successor, fork + 1) {
        store.write_raw(&batch).unwrap();
    }
    store.publish().unwrap();
    assert!(storage::starts_batch(&store, fork + 1).unwrap());
    assert!(log_from(&store, fork + 1) == log_from(successor, fork + 1), "the log differs");
    assert!(content(&store) == content(successor), "the data differs");
    assert_eq!(store.position(), successor.position());
    store.close().unwrap();
}

/// RocksDB's MANIFEST knows of it, and is not rewound: it stays, without the records.
#[test]
fn a_family_that_was_made_behind_the_fork_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("db"), dir.path().join("new"));
    let master = open(&old);
    master.open_epoch(1, EpochId::from_random(1), 0).unwrap();
    write_all(&master, 0..50, "common");
    master.checkpoint(&new).unwrap();
    let lead = |store: &Store, value: &[u8]| {
        let mut txn = store.txn();
        txn.put(Family::Index, b"way", value);
        txn.commit().unwrap();
        store.publish().unwrap();
    };
    lead(&master, b"discarded");
    write_all(&master, 50..60, "discarded");
    let successor = open(&new);
    successor.open_epoch(2, EpochId::from_random(2), 0).unwrap();
    write_all(&successor, 50..55, "kept");
    let Fork::At(fork) = fork(&master.position(), &successor.position()) else {
        panic!("no fork");
    };
    master.close().unwrap();
    assert!(run(dir.path(), fork).unwrap().discarded.is_some());
    let rewound = open(&old);
    assert!(rewound.get(Family::Index, b"way").unwrap().is_none());
    rewound.close().unwrap();
    lead(&successor, b"kept");
    check(dir.path(), fork, &successor);
}

#[test]
fn a_rewind_is_exact_and_keeps_what_it_cuts_off() {
    let pair = Pair::make(400, 300);
    let copy = pair.copy();
    let report = run(copy.path(), pair.fork).unwrap();
    assert_eq!(report.fork, pair.fork);
    let text = std::fs::read_to_string(report.discarded.unwrap()).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let head = lines.first().unwrap();
    assert_eq!(head["fork"], pair.fork);
    assert_eq!((&head["epoch"], &head["epoch_id"]), (&1.into(), &"0000000000000001".into()));
    assert_eq!(lines.iter().filter(|line| line.get("batch").is_some()).count(), 330);
    assert_eq!(lines.iter().filter(|line| line.get("put").is_some()).count(), 990);
    assert_eq!(lines.last().unwrap()["end"], pair.fork + 990);
    check(copy.path(), pair.fork, &pair.successor());
    // Once more to the same place: nothing is left to cut off.
    let copy = pair.copy();
    run(copy.path(), pair.fork).unwrap();
    let again = rewind::run(
        &copy.path().join("db"),
        &copy.path().join("discarded"),
        &options(),
        intent(pair.fork, AT_MS + 1),
    );
    assert_eq!(again.unwrap().discarded, None);
}

#[test]
fn what_cannot_be_rewound_is_left_as_it_is() {
    let pair = Pair::make(40, 30);
    let copy = pair.copy();
    let db = copy.path().join("db");
    let before = content(&open(&db));
    let cut = run(copy.path(), pair.fork - 1).unwrap_err();
    assert!(matches!(cut, Failure::NoBoundary { found, .. } if found == pair.fork - 3), "{cut}");
    let far = run(copy.path(), pair.fork + 100_000).unwrap_err();
    assert!(matches!(far, Failure::NoBoundary { .. }), "{far}");
    let store = open(&db);
    assert!(content(&store) == before, "the data changed");
    store.flush().unwrap();
    let latest = store.latest_sequence();
    // Compacted to where every table says that its largest sequence number is 0. What no reader
    // sees is removed.
    store.compact(b"", b"").unwrap();
    let before = content(&store);
    let (path, is_all) =
        rewind::export::from_feed(&store, &copy.path().join("discarded"), pair.fork, 7).unwrap();
    assert!(is_all && path.unwrap().ends_with(format!("7-{}.jsonl", pair.fork)));
    store.close().unwrap();
    let late = run(copy.path(), pair.fork).unwrap_err();
    assert!(matches!(late, Failure::TooLate { in_tables, .. } if in_tables == latest), "{late}");
    assert!(content(&open(&db)) == before, "the data changed");
    assert!(!rewind::export::path(&copy.path().join("discarded"), AT_MS, pair.fork).exists());
}

#[test]
fn a_replay_into_small_memtables_is_cut_as_well() {
    let pair = Pair::make(3000, 100);
    let copy = pair.copy();
    let small = Options { write_buffer_size: 64 << 10, ..options() };
    let (db, discarded) = (copy.path().join("db"), copy.path().join("discarded"));
    rewind::run(&db, &discarded, &small, intent(pair.fork, AT_MS)).unwrap();
    check(copy.path(), pair.fork, &pair.successor());
}

/// Not a test of its own: what the processes run that are killed.
#[test]
#[ignore = "run by the test below"]
fn child_rewinds() {
    let Ok(order) = std::env::var(CHILD_VARIABLE) else { return };
    let (fork, dir) = order.split_once(' ').unwrap();
    let dir = Path::new(dir);
    let (db, discarded) = (dir.join("db"), dir.join("discarded"));
    match rewind::resume(&db, &discarded, &options()).unwrap() {
        Some(_) => {}
        None => {
            run(dir, fork.parse().unwrap()).unwrap();
        }
    }
}

fn child(dir: &Path, fork: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_rewinds", "--ignored", "--nocapture", "--test-threads", "1"])
        .env(CHILD_VARIABLE, format!("{fork} {}", dir.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills a child after `delay`; false if it had ended before.
fn kill_after(mut child: Child, delay: Duration) -> bool {
    let end = Instant::now() + delay;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "the child failed");
            return false;
        }
        std::thread::park_timeout(Duration::from_micros(200));
    }
    let is_alive = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    is_alive
}

/// Evenly spread and reproducible: the fractional parts of multiples of the golden ratio.
fn share(index: usize) -> f64 {
    (index as f64 * 0.618_033_988_749_895).fract()
}

#[test]
fn a_rewind_killed_at_any_moment_is_whole_in_the_end() {
    let kills_wanted = std::env::var(KILLS_VARIABLE).map_or(KILLS, |text| text.parse().unwrap());
    let pair = Pair::make(3000, 1500);
    let successor = pair.successor();
    let copy = pair.copy();
    let start = Instant::now();
    assert!(child(copy.path(), pair.fork).wait().unwrap().success());
    let whole = start.elapsed();
    check(copy.path(), pair.fork, &successor);
    let name = |dir: &Path| rewind::export::path(&dir.join("discarded"), AT_MS, pair.fork);
    let expected = std::fs::read(name(copy.path())).unwrap();

    let (mut kills, mut pending, mut round) = (0, 0, 0);
    // Processes that take longer to start than the first one did are killed before they rewind:
    // then later, until one is not.
    let is_hit = |kills: usize, pending: usize| pending > 0 || kills >= 5 * kills_wanted;
    while kills < kills_wanted || !is_hit(kills, pending) {
        let longer = u32::try_from(1 + kills / kills_wanted.max(1)).unwrap();
        let copy = pair.copy();
        let dir = copy.path();
        // Every third one is killed while it resumes, too.
        for again in 0..if round % 3 == 0 { 2 } else { 1 } {
            let delay = whole.mul_f64(share(2 * round + again)) * longer;
            kills += usize::from(kill_after(child(dir, pair.fork), delay));
        }
        round += 1;
        let db = dir.join("db");
        if rewind::pending(&db).unwrap().is_some() {
            pending += 1;
            let refused = Store::open(&db, options()).map(|_| ());
            assert!(matches!(refused, Err(Error::RewindPending { .. })), "{refused:?}");
        }
        let resumed = rewind::resume(&db, &dir.join("discarded"), &options()).unwrap();
        if resumed.is_none() && !name(dir).exists() {
            // Killed before the intent was there: nothing has happened yet.
            run(dir, pair.fork).unwrap();
        }
        assert!(std::fs::read(name(dir)).unwrap() == expected, "round {round}: the export differs");
        check(dir, pair.fork, &successor);
    }
    assert!(pending > 0, "no kill hit a rewind: {kills} kills, {whole:?} for a whole one");
    println!("rewind: kills={kills} within a rewind={pending} whole={whole:?} torn=0 stale=0");
}
