//! The end of an open database: who may close it, and how others learn that it is closed.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Store;
use crate::Error;

/// Tells when a database is closed, whichever thread used it last.
#[derive(Debug, Clone, Default)]
pub struct CloseWatch(Arc<(Mutex<bool>, Condvar)>);

impl CloseWatch {
    /// True once nothing in this process uses the database any more.
    pub fn is_closed(&self) -> bool {
        *self.0.0.lock()
    }

    /// Waits for that, at most so long; false if it is still in use.
    pub fn wait(&self, patience: Duration) -> bool {
        let (closed, changed) = &*self.0;
        let mut closed = closed.lock();
        changed.wait_while_for(&mut closed, |closed| !*closed, patience);
        *closed
    }
}

/// The last field of a database: it says so when it is dropped.
pub(super) struct ClosedFlag(pub(super) CloseWatch);

impl Drop for ClosedFlag {
    fn drop(&mut self) {
        let (closed, changed) = &*self.0.0;
        *closed.lock() = true;
        changed.notify_all();
    }
}

/// Why a store could not be closed.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// Clones, or feed readers, are alive; the database stays open until the last of them is gone.
    #[error("database is still used by {0} others")]
    InUse(usize),
    /// The last writes could not be handed to the operating system. The database is closed.
    #[error(transparent)]
    Storage(#[from] Error),
}

impl Store {
    /// Outlives the store, and says when the database is closed.
    pub fn close_watch(&self) -> CloseWatch {
        self.inner.closed.0.clone()
    }

    /// Publishes and closes the database; afterwards its folder can be renamed or removed.
    ///
    /// # Errors
    /// [`CloseError::InUse`] if this is not the last handle.
    pub fn close(self) -> Result<(), CloseError> {
        let published = self.publish();
        match Arc::try_unwrap(self.inner) {
            Ok(inner) => drop(inner),
            Err(shared) => return Err(CloseError::InUse(Arc::strong_count(&shared) - 1)),
        }
        published?;
        Ok(())
    }
}
