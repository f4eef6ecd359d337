//! What this process does when its disk fails it (rule R14): it ends, at once, and comes back as any restarted process does.
//!
//! A log that could not be written or synced is of no more use to this process, and what memory has beyond it must reach nobody. So the process ends on the
//! thread that failed, before that thread can answer anything; others are kept from answering by the store itself. The next process tries the disk out
//! before it opens the database, and says that it is full instead of waiting in the middle of a recovery.
//!
//! A limit of descriptors or memory that is met in the same place leaves the same doubt about the log, so that the process ends too; but it blames no disk
//! ([`LIMIT_EXIT_CODE`]). That clients come so far is prevented elsewhere (`crate::descriptors`).

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// The process ended because its disk is full or does not take what it must: EX_IOERR of sysexits.h. A supervisor may start it again after a while.
pub const EXIT_CODE: u8 = 74;

/// The process ended because it met a limit of descriptors or memory where its log depends on it: EX_OSERR of sysexits.h.
pub const LIMIT_EXIT_CODE: u8 = 71;

/// A disk that takes nothing for so long is said to hang, ms: as long as a controller with default settings waits for an answer.
pub const HANG_MS: u64 = 800;

/// So much must fit before the database is opened: its next log file, MANIFEST and options.
const ROOM_BYTES: usize = 4 << 20;
/// What the disk is tried out with.
const PROBE: &str = "probe";
/// A database that took that long to open may be waiting for space.
const OPENING: Duration = Duration::from_secs(3);

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

/// Writes, syncs and removes a file in `dir`, of the size of what opening a database writes at least.
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

/// Looks after a start: while it lasts, a disk that is full ends the process instead of letting it wait for space in silence.
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
