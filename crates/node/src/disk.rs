//! What this process does when its disk fails it (rule R14): it ends, at once, and comes back as
//! any restarted process does.
//!
//! A log that could not be written or synced is of no more use to this process, and what memory has
//! beyond it must reach nobody. So the process ends on the thread that failed, before that thread
//! can answer anything; others are kept from answering by the store itself. The next process tries
//! the disk out before it opens the database, and says that it is full instead of waiting in the
//! middle of a recovery.
//!
//! A limit of descriptors or memory that is met in the same place leaves the same doubt about the
//! log, so that the process ends too; but it blames no disk ([`LIMIT_EXIT_CODE`]). That clients
//! come so far is prevented elsewhere (`crate::descriptors`).

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// The process ended because its disk is full or does not take what it must: EX_IOERR of
/// sysexits.h. A supervisor may start it again after a while.
pub const EXIT_CODE: u8 = 74;

/// The process ended because it met a limit of descriptors or memory where its log depends on it:
/// EX_OSERR of sysexits.h.
pub const LIMIT_EXIT_CODE: u8 = 71;

/// A disk that takes nothing for so long is said to hang, ms: as long as a controller with default
/// settings waits for an answer.
pub const HANG_MS: u64 = 800;

/// So much must fit before the database is opened: its next log file, MANIFEST and options.
const ROOM_BYTES: usize = 4 << 20;
/// What the disk is tried out with.
const PROBE: &str = "probe";
/// A database that took that long to open may be waiting for space.
const OPENING: Duration = Duration::from_secs(3);

/// A small read that takes so long is that of a busy disk, ms: longer than of a sync, for nothing
/// waits for this one.
const READ_BUSY_MS: u64 = 10_000;
/// Between two of them.
const READ_PACE: Duration = Duration::from_secs(1);
/// What is read of the database: always there, and written seldom.
const READ_FROM: &str = "CURRENT";
/// Size and place of a read that goes past the page cache are multiples of it, bytes.
const BLOCK: usize = 4_096;

/// Ends the process because the log cannot be written.
pub fn end(cause: &storage::Cause) {
    let why = cause.text.as_str();
    if cause.is_limit {
        let (exit_code, open_files) = (LIMIT_EXIT_CODE, limits::open_files().ok());
        let soft_limit = open_files.map(|limit| limit.soft);
        tracing::error!(
            why,
            exit_code,
            soft_limit,
            "a limit of this process was met where its log depends on it: this process ends"
        );
        exit_at_once(LIMIT_EXIT_CODE);
    }
    tracing::error!(
        why,
        exit_code = EXIT_CODE,
        "the write-ahead log cannot be written: this process ends. Is the disk full or broken?"
    );
    exit_at_once(EXIT_CODE);
}

/// Ends the process without its exit handlers.
#[expect(
    unsafe_code,
    reason = "exit handlers of RocksDB wait for its threads, which may wait for the disk, and destroy what a database that is still in use needs"
)]
pub(crate) fn exit_at_once(code: u8) -> ! {
    // SAFETY: _exit takes an integer and does not return; nothing of this process is used after it.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Writes, syncs and removes a file in `dir`, of the size of what opening a database writes at
/// least.
///
/// # Errors
/// Those of the file system, [`ErrorKind::StorageFull`] above all.
pub fn try_out(dir: &Path) -> io::Result<()> {
    let path = dir.join(PROBE);
    let write = || -> io::Result<()> {
        let mut file = File::create(&path)?;
        file.write_all(&vec![0; ROOM_BYTES])?;
        file.sync_all()
    };
    let written = write();
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

/// Whether the system says that the disk is full.
pub fn has_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Whether an error says, anywhere in its chain, that the disk is full.
pub fn is_full(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let system = cause.downcast_ref::<io::Error>();
        let engine = cause.downcast_ref::<storage::Error>();
        system.is_some_and(has_no_room) || matches!(engine, Some(storage::Error::NoSpace { .. }))
    })
}

/// Whether an error says, anywhere in its chain, that a limit of descriptors or memory was met.
pub fn is_limit(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(limits::is_limit)
            || cause.downcast_ref::<storage::Error>().is_some_and(storage::Error::is_limit)
    })
}

/// Looks after a start: while it lasts, a disk that is full ends the process instead of letting it
/// wait for space in silence.
#[derive(Debug)]
pub struct Opening {
    _over: Sender<()>,
}

impl Opening {
    /// Until it is dropped.
    pub fn begin(dir: &Path) -> Self {
        let (over, is_over) = channel();
        let dir = Arc::<Path>::from(dir);
        let watching = std::thread::Builder::new().name("opening".into());
        if let Err(error) = watching.spawn(move || watch(&dir, &is_over)) {
            tracing::warn!(%error, "cannot look after the opening of the database");
        }
        Self { _over: over }
    }
}

fn watch(dir: &Path, is_over: &Receiver<()>) {
    let began = Instant::now();
    // Nothing is ever sent: either time passes, or the sender is gone.
    while is_over.recv_timeout(OPENING) == Err(RecvTimeoutError::Timeout) {
        let seconds = began.elapsed().as_secs();
        tracing::info!(seconds, "still opening the database");
        if let Err(error) = try_out(dir)
            && error.kind() == ErrorKind::StorageFull
        {
            tracing::error!(
                %error, seconds, dir = %dir.display(), exit_code = EXIT_CODE,
                "the disk is full, and the database does not open: this process ends"
            );
            exit_at_once(EXIT_CODE);
        }
    }
}

/// For how long the disk of the database has given nothing back. A disk that hangs blocks every
/// read that memory cannot answer, without an error. The log of a node that is not written to waits
/// for nothing meanwhile, and shows no hang; so a thread reads a little every second, past the page
/// cache.
#[derive(Debug)]
pub struct Reads {
    opened_at: Instant,
    /// When the read under way began, ms since then, plus 1; 0: there is none.
    began: AtomicU64,
}

impl Default for Reads {
    fn default() -> Self {
        Self { opened_at: Instant::now(), began: AtomicU64::new(0) }
    }
}

impl Reads {
    /// For how long a read has been under way beyond what a busy disk makes it take, ms; 0 if
    /// there is none, and where nobody reads.
    pub fn wait_ms(&self) -> u64 {
        waited(self.began.load(Ordering::Acquire), self.now_ms())
    }

    /// Reads from `db` until nobody asks any more. Does nothing more on a file system that cannot
    /// read past the page cache.
    pub fn watch(self: &Arc<Self>, db: &Path) {
        let (reads, path) = (Arc::clone(self), db.join(READ_FROM));
        let watching = std::thread::Builder::new().name("disk-reads".into());
        if let Err(error) = watching.spawn(move || reads.go_on(&path)) {
            tracing::warn!(%error, "cannot look whether the disk gives back what is read");
        }
    }

    fn go_on(self: &Arc<Self>, path: &Path) {
        while Arc::strong_count(self) > 1 {
            match self.time(|| read(path)) {
                Err(error) if error.kind() == ErrorKind::InvalidInput => {
                    tracing::debug!(path = %path.display(), "no reads past the page cache here");
                    return;
                }
                // An error is an answer, and the database tells of it. During a full sync the file
                // may be away.
                Ok(()) | Err(_) => {}
            }
            std::thread::park_timeout(READ_PACE);
        }
    }

    /// One whose read began so long ago, ms.
    #[cfg(test)]
    pub(crate) fn hanging(ms: u64) -> Self {
        let opened_at = Instant::now().checked_sub(Duration::from_millis(ms));
        Self { opened_at: opened_at.expect("a machine that is up"), began: AtomicU64::new(1) }
    }

    fn time<T>(&self, read: impl FnOnce() -> T) -> T {
        self.began.store(self.now_ms() + 1, Ordering::Release);
        let done = read();
        self.began.store(0, Ordering::Release);
        done
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.opened_at.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

fn waited(began: u64, now_ms: u64) -> u64 {
    let began_ms = began.checked_sub(1);
    began_ms.map_or(0, |began_ms| now_ms.saturating_sub(began_ms).saturating_sub(READ_BUSY_MS))
}

/// Reads the first block of a file from the disk itself.
fn read(path: &Path) -> io::Result<()> {
    let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(path)?;
    let mut space = vec![0_u8; 2 * BLOCK];
    let skipped = space.as_ptr().align_offset(BLOCK).min(BLOCK);
    file.read_at(&mut space[skipped..][..BLOCK], 0).map(drop)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_disk_with_room_is_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        try_out(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(try_out(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn child_whose_database_does_not_open() {
        if !crate::threads::tests::is_child() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        // Whatever is written to try the disk out meets a full one.
        std::os::unix::fs::symlink("/dev/full", dir.path().join(PROBE)).unwrap();
        let _opening = Opening::begin(dir.path());
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// Rule R14: RocksDB may wait for space without a word.
    #[test]
    fn a_database_that_takes_long_to_open_on_a_full_disk_ends_its_process() {
        let end_of = crate::threads::tests::end_of_child;
        let (code, said) = end_of("disk::tests::child_whose_database_does_not_open");
        assert_eq!(code, Some(i32::from(EXIT_CODE)), "{said}");
    }

    #[test]
    fn a_full_disk_is_told_from_other_errors_wherever_it_is_in_the_chain() {
        let full = || io::Error::from(ErrorKind::StorageFull);
        let wrapped: anyhow::Result<()> = Err(full()).context("write a").context("start b");
        assert!(is_full(&wrapped.unwrap_err()));
        let engine = storage::Error::NoSpace { action: "open the database" };
        assert!(is_full(&anyhow::Error::new(engine).context("start")));
        assert!(!is_full(&anyhow::Error::new(io::Error::from(ErrorKind::NotFound))));
        assert!(!is_full(&anyhow::anyhow!("no space left on the device")));
    }

    #[test]
    fn a_read_that_hangs_is_told_once_a_busy_disk_would_have_given_it_back() {
        assert_eq!(waited(0, 1_000_000), 0, "nobody reads");
        // Begun at 2 s.
        assert_eq!([2_000, 11_900, 12_000, 12_800].map(|now| waited(2_001, now)), [0, 0, 0, 800]);
        let reads = Reads::default();
        let began = reads.time(|| reads.began.load(Ordering::Acquire));
        assert!(began > 0, "while it lasts it is one");
        assert_eq!(reads.began.load(Ordering::Acquire), 0, "and no more");
    }

    #[test]
    fn what_is_looked_at_is_read_and_its_absence_is_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(READ_FROM), "MANIFEST-000001\n").unwrap();
        match read(&dir.path().join(READ_FROM)) {
            Ok(()) => {}
            // A file system in memory.
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}"),
        }
        let gone = read(&dir.path().join("missing")).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }

    /// Opening the file hangs: nobody writes to it.
    #[test]
    fn the_watch_tells_of_a_disk_that_gives_nothing_back_and_goes_on_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(READ_FROM);
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let reads = Arc::new(Reads::default());
        reads.watch(dir.path());
        let deadline = Instant::now() + Duration::from_secs(30);
        let until = |is_read: bool| {
            while (reads.began.load(Ordering::Acquire) > 0) != is_read {
                assert!(Instant::now() < deadline, "is it read? {is_read} is waited for");
                std::thread::yield_now();
            }
        };
        until(true);
        let writer = File::options().write(true).open(&path).unwrap();
        until(false);
        drop(writer);
    }

    #[test]
    fn a_limit_is_told_from_other_errors_wherever_it_is_in_the_chain() {
        let error = |number| io::Error::from_raw_os_error(number);
        let wrapped: anyhow::Result<()> = Err(error(libc::EMFILE)).context("open a");
        assert!(is_limit(&wrapped.unwrap_err()));
        let message = "Too many open files".to_owned();
        let engine = storage::Error::Limit { action: "open the database", message };
        assert!(is_limit(&anyhow::Error::new(engine).context("start")));
        assert!(!is_limit(&anyhow::Error::new(error(libc::EIO))));
        assert!(!is_full(&anyhow::Error::new(error(libc::EMFILE))));
    }
}
