//! A write that the disk did not take ends the use of a database (rule R14).
//!
//! After a failed append or sync of the log RocksDB writes nothing more to it, while memory has what the log will never
//! have, and whether a batch that failed half way is in the file shows at the next start only. So nobody may be told
//! anything from here any more, be it a reply, an error, or a read.
//!
//! Invariant: once it failed, a database stays failed until it is opened again, and the hook was called before the
//! append or publish that failed returned.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rocksdb::event_listener::{
    DBBackgroundErrorReason, EventListener, MutableStatus, StatusSeverity,
};

use crate::{Error, Store};

/// Called with what went wrong.
pub type FailureHook = Arc<dyn Fn(&str) + Send + Sync>;

/// Whether a database failed, and who is to know.
#[derive(Default)]
pub(super) struct Failure {
    has_failed: AtomicBool,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    why: Option<String>,
    hook: Option<FailureHook>,
}

impl Failure {
    /// To be called before the error is passed on. The first cause is kept, and the hook is called for it alone.
    pub(super) fn fail(&self, why: &dyn Display) {
        let mut told = self.told.lock();
        self.has_failed.store(true, Ordering::SeqCst);
        if told.why.is_some() {
            return;
        }
        let why = told.why.insert(why.to_string()).clone();
        let hook = told.hook.clone();
        drop(told);
        if let Some(hook) = hook {
            hook(&why);
        }
    }

    /// Passes an error on, and remembers it.
    pub(super) fn failed(&self, error: Error) -> Error {
        self.fail(&error);
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

/// Hears of failures in RocksDB's own threads: a flush or a MANIFEST that could not be written. Appends would wait, or
/// fail, from then on.
struct Listener(Arc<Failure>);

impl EventListener for Listener {
    fn on_background_error(&self, _reason: DBBackgroundErrorReason, status: MutableStatus) {
        // Softer ones, such as a compaction that found no space, are tried again and stop no writes.
        if status.severity() < StatusSeverity::KHardError {
            return;
        }
        if let Err(error) = status.result() {
            self.0.fail(&format_args!("the database stopped: {error}"));
        }
    }
}

pub(super) fn listen(options: &mut rocksdb::Options, failure: &Arc<Failure>) {
    options.add_event_listener(Listener(Arc::clone(failure)));
}

impl Store {
    /// Whether a write of the log, or one that the log depends on, ever failed. Memory is then ahead of what the log will
    /// ever have: tell nobody what it says, and open the database again.
    pub fn has_failed(&self) -> bool {
        self.inner.failure.check().is_err()
    }

    /// Calls `hook` once, when [`Store::has_failed`] becomes true or at once if it is already; on the thread that failed
    /// and before its append or publish returns, so that a hook which ends the process ends it before anybody can be told
    /// anything. There is one hook: later ones are ignored.
    pub fn on_failure(&self, hook: FailureHook) {
        self.inner.failure.set_hook(hook);
    }
}

#[cfg(test)]
mod tests;
