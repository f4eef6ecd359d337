//! A write that the disk did not take ends the use of a database (rule R14).
//!
//! After a failed append or sync of the log RocksDB writes nothing more to it, while memory has
//! what the log will never have, and whether a batch that failed half way is in the file shows at
//! the next start only. So nobody may be told anything from here any more, be it a reply, an error,
//! or a read.
//!
//! A limit of the process that was met in the middle of that, descriptors or memory, leaves the
//! database in the same state. It is told apart, for the code that ends the process
//! ([`Cause::is_limit`]). A compaction that met one is tried again by RocksDB and stops nothing.
//!
//! Invariant: once it failed, a database stays failed until it is opened again, and the hook was
//! called before the append or publish that failed returned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rocksdb::event_listener::{
    DBBackgroundErrorReason, EventListener, MutableStatus, StatusSeverity,
};

use crate::{Error, Store};

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// In words.
    pub text: String,
    /// A limit of this process or machine was met; the disk is not at fault.
    pub is_limit: bool,
}

impl From<&Error> for Cause {
    fn from(error: &Error) -> Self {
        Self { text: error.to_string(), is_limit: error.is_limit() }
    }
}

/// Called with what went wrong.
pub type FailureHook = Arc<dyn Fn(&Cause) + Send + Sync>;

/// Whether a database failed, and who is to know.
#[derive(Default)]
pub(super) struct Failure {
    has_failed: AtomicBool,
    told: Mutex<Told>,
    /// How often background work that is tried again met a limit.
    limits_met: AtomicU64,
}

#[derive(Default)]
struct Told {
    why: Option<Cause>,
    hook: Option<FailureHook>,
}

impl Failure {
    /// To be called before the error is passed on. The first cause is kept, and the hook is called
    /// for it alone.
    pub(super) fn fail(&self, why: Cause) {
        let mut told = self.told.lock();
        self.has_failed.store(true, Ordering::SeqCst);
        if told.why.is_some() {
            return;
        }
        let why = told.why.insert(why).clone();
        let hook = told.hook.clone();
        drop(told);
        if let Some(hook) = hook {
            hook(&why);
        }
    }

    /// Passes an error on, and remembers it.
    pub(super) fn failed(&self, error: Error) -> Error {
        self.fail(Cause::from(&error));
        error
    }

    /// Fine unless it failed.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.has_failed.load(Ordering::SeqCst) { Err(Error::Failed) } else { Ok(()) }
    }

    fn set_hook(&self, hook: FailureHook) {
        let mut told = self.told.lock();
        if told.hook.is_some() {
            return;
        }
        let why = told.why.clone();
        told.hook = Some(Arc::clone(&hook));
        drop(told);
        if let Some(why) = why {
            hook(&why);
        }
    }
}

/// Hears of failures in RocksDB's own threads: a flush or a MANIFEST that could not be written.
/// Appends would wait, or fail, from then on.
struct Listener(Arc<Failure>);

impl EventListener for Listener {
    fn on_background_error(&self, reason: DBBackgroundErrorReason, status: MutableStatus) {
        // Softer ones, such as a compaction that found no space, are tried again and stop no
        // writes.
        if status.severity() < StatusSeverity::KHardError {
            return;
        }
        let Err(error) = status.result() else { return };
        let error = Error::engine("run the database", error.clone());
        if error.is_limit() && reason == DBBackgroundErrorReason::KCompaction {
            // Nothing of it is in force, and without an error it goes back into the queue. A flush
            // would not.
            self.0.limits_met.fetch_add(1, Ordering::Relaxed);
            status.reset();
            return;
        }
        self.0.fail(Cause::from(&error));
    }
}

pub(super) fn listen(options: &mut rocksdb::Options, failure: &Arc<Failure>) {
    options.add_event_listener(Listener(Arc::clone(failure)));
}

impl Store {
    /// Whether a write of the log, or one that the log depends on, ever failed. Memory is then
    /// ahead of what the log will ever have: tell nobody what it says, and open the database again.
    pub fn has_failed(&self) -> bool {
        self.inner.failure.check().is_err()
    }

    /// How many compactions met a limit of descriptors or memory and are tried again.
    pub fn limits_met(&self) -> u64 {
        self.inner.failure.limits_met.load(Ordering::Relaxed)
    }

    /// Calls `hook` once, when [`Store::has_failed`] becomes true or at once if it is already; on
    /// the thread that failed and before its append or publish returns, so that a hook which ends
    /// the process ends it before anybody can be told anything. There is one hook: later ones are
    /// ignored.
    pub fn on_failure(&self, hook: FailureHook) {
        self.inner.failure.set_hook(hook);
    }
}

#[cfg(test)]
mod tests;
