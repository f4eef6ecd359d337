//! What is known of RDB LOAD: the load that runs, or the last one.

use parking_lot::Mutex;

/// See the module.
#[derive(Debug, Default)]
pub struct Loads(Mutex<Progress>);

/// How far a load is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// It still runs.
    pub is_running: bool,
    /// The last one ended with an error.
    pub has_failed: bool,
    /// Keys that were written.
    pub keys: u64,
    /// Keys that were passed over: they have ended, are there already (NX), belong to another
    /// database or node, or are of a module.
    pub skipped: u64,
    /// Bytes of the file that were read.
    pub bytes: u64,
    /// Bytes of the whole file.
    pub total_bytes: u64,
}

impl Loads {
    /// What is known.
    pub fn now(&self) -> Progress {
        *self.0.lock()
    }

    /// Begins to read a file of so many bytes; false if a load runs.
    pub fn begin(&self, total_bytes: u64) -> bool {
        let mut progress = self.0.lock();
        if progress.is_running {
            return false;
        }
        *progress = Progress { is_running: true, total_bytes, ..Progress::default() };
        true
    }

    /// A key was dealt with; so much of the file is read.
    pub fn passed(&self, is_written: bool, bytes: u64) {
        let mut progress = self.0.lock();
        progress.bytes = bytes;
        match is_written {
            true => progress.keys += 1,
            false => progress.skipped += 1,
        }
    }

    /// It is over.
    pub fn end(&self, has_failed: bool) {
        let mut progress = self.0.lock();
        progress.is_running = false;
        progress.has_failed = has_failed;
    }
}
