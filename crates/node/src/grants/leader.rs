//! The controllers' store that this node obeys: kept on disk before the first answer to a
//! controller of that store (rule O7).

use std::io;
use std::time::Duration;

use ::grant::{HeartbeatError, Said, StoreId};

use super::identity::{self, Obeyed};
use crate::node::Node;

/// Between two attempts to put something on a disk that does not take it.
pub(super) const KEEP_AGAIN: Duration = Duration::from_secs(10);

/// Why a controller is not obeyed. `Display` is what follows `-`.
#[derive(Debug, thiserror::Error)]
pub enum NotBegun {
    /// By its term, or its store.
    #[error("ERR {0}")]
    Refused(#[from] HeartbeatError),
    /// That another store leads from here on could not be made durable.
    #[error("ERR keep on disk from which store this node is led: {0}")]
    Unkept(io::Error),
}

/// A controller of that store and term is about to be obeyed: what is new of it is on disk when
/// this returns.
///
/// A node that none has led by name so far obeys the first one also where the disk does not take
/// it, by its term alone, as nodes of earlier versions do: a full disk must leave nobody without a
/// controller.
///
/// # Errors
/// It is not to be obeyed; or it takes the place of another, and the disk does not take that: the
/// next process would obey the other one again.
pub(super) fn begin(node: &Node, term: u64, said: Option<Said>) -> Result<(), NotBegun> {
    let Some(said) = said else { return Ok(()) };
    let grants = &node.grants;
    let to_begin = || grants.holder.lock().to_begin(term, said);
    if to_begin()?.is_none() {
        return Ok(());
    }
    let mut kept = grants.kept.lock();
    // Another connection may have been faster.
    let Some(store) = to_begin()? else { return Ok(()) };
    let before = grants.store();
    if before.is_none() && node.cluster.load().id().is_none() {
        // The node was reset after this beat was found to be meant for it.
        return Ok(());
    }
    if before.is_none() && kept.failed_at.is_some_and(|at| at.elapsed() < KEEP_AGAIN) {
        return Ok(());
    }
    let obeyed = Obeyed { term: grants.term_on_disk().max(term), store: Some(store) };
    match identity::keep_obeyed(&node.dir, obeyed) {
        Ok(()) => {
            kept.store = Some(store);
            kept.failed_at = None;
            grants.kept_term(obeyed.term);
            grants.holder.lock().led_from(store);
            tell(before, store);
            Ok(())
        }
        Err(error) if before.is_none() => {
            kept.failed_at = Some(std::time::Instant::now());
            tracing::warn!(%error, store = store.told(), "from which store this node is led cannot be kept on disk; it is tried again");
            Ok(())
        }
        Err(error) => Err(NotBegun::Unkept(error)),
    }
}

fn tell(before: Option<StoreId>, store: StoreId) {
    let store = store.told();
    match before {
        None => tracing::info!("led from {store} from here on"),
        Some(before) => tracing::warn!("led from {store} from here on, not from {}", before.told()),
    }
}

/// A command of a controller that names its term: obeyed, with what is new on disk.
///
/// # Errors
/// As [`begin`].
pub fn obey(node: &Node, term: u64, said: Option<Said>) -> Result<(), NotBegun> {
    // A node that no store has led yet is led from its first heartbeat on.
    if node.grants.store().is_some() {
        begin(node, term, said)?;
    }
    Ok(node.grants.holder.lock().obey(term, said)?)
}

/// Puts a higher term on disk; none if the node was reset meanwhile.
pub(super) fn keep_term(node: &Node) -> io::Result<()> {
    let kept = node.grants.kept.lock();
    let Some(term) = node.grants.term_to_keep() else { return Ok(()) };
    identity::keep_obeyed(&node.dir, Obeyed { term, store: kept.store })?;
    node.grants.kept_term(term);
    Ok(())
}

/// The node was reset: it has no id any more, and its next cluster need not know which controllers
/// it obeyed.
pub fn forget(node: &Node) {
    let grants = &node.grants;
    let mut kept = grants.kept.lock();
    kept.store = None;
    grants.holder.lock().forget_leaders();
    grants.kept_term(0);
    // The next start without an id removes it, too.
    if let Err(error) = identity::forget_term(&node.dir) {
        tracing::warn!(%error, "remove the file `term`");
    }
}
