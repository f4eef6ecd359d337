//! Upkeep of the database that no command waits for.

use storage::Store;

use crate::threads::spawn;

/// Lets flushes and compactions run as configured, from a thread of its own: it writes files.
pub(crate) fn settle(store: Store) {
    if !store.is_holding() {
        return;
    }
    spawn("settle", move || {
        if let Err(error) = store.settle() {
            tracing::warn!(%error, "cannot set the configured memtable size: it is tried again");
        }
    });
}
