//! `db.deposed`: the database that a full sync has replaced, kept because it may hold writes that
//! no other node has.
//!
//! A file of its own says where it ends, so that a controller can be told without opening it. It is
//! given up only for data that is known to go at least as far ([`place`]), and put back in service
//! ([`restore`]) only when an operator says so.

use std::path::Path;
use std::sync::Arc;

use replication::history::Position;
use storage::Store;
use tokio::sync::oneshot;

use super::aside::{FILE, Found};
use super::mark;
use super::service::{close, put_in, reopen, take_out};
use super::swap::{self, Old};
use crate::durable::{replace_durably, sync_folder};
use crate::node::Node;
use crate::threads::block_on;

/// Writes into a database folder how far it goes, before it is set aside.
pub(super) fn note(db: &Path, position: &Position) -> std::io::Result<()> {
    replace_durably(&db.join(FILE), format!("{position}\n").as_bytes())?;
    sync_folder(db)
}

/// Where data that is set aside goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) old: Old,
    /// What lies in `db.deposed` goes to `db.deposed.lesser` before.
    pub(super) is_above: bool,
}

impl Place {
    pub(super) fn plain(old: Old) -> Self {
        Self { old, is_above: false }
    }
}

/// Where data that is set aside goes: not in the place of data that goes further, or may. Looks at
/// the folders, which may open databases: not for threads that serve clients.
pub(super) fn place(node: &Node, position: &Position) -> Place {
    let there = node.replication.aside.look_closely(&node.dir);
    // Needed only beside the other one.
    let lesser = match there {
        Found::Nothing => Found::Nothing,
        _ => Found::at(&swap::old_path(&node.dir, Old::KeepLesser)),
    };
    choose(&there, &lesser, position)
}

fn choose(there: &Found, lesser: &Found, mine: &Position) -> Place {
    let Found::UpTo(there) = there else {
        let is_free = matches!(there, Found::Nothing);
        return if is_free { Place::plain(Old::Keep) } else { beside(lesser, mine) };
    };
    if end(there) > end(mine) {
        return beside(lesser, mine);
    }
    // It is of an older epoch, or ends earlier. The former may still be most of what there ever
    // was.
    let is_outdone = goes_further(lesser, there);
    Place { old: Old::Keep, is_above: there.latest > mine.latest && !is_outdone }
}

/// `db.deposed` stays. What lies in `db.deposed.lesser` does only where it goes further in every
/// respect: then there is no place left.
fn beside(lesser: &Found, mine: &Position) -> Place {
    Place::plain(if goes_further(lesser, mine) { Old::Remove } else { Old::KeepLesser })
}

/// In every respect: a later epoch with few records is no reason to give up many.
fn goes_further(lesser: &Found, than: &Position) -> bool {
    matches!(
        lesser, Found::UpTo(lesser) if end(lesser) > end(than) && lesser.latest >= than.latest
    )
}

/// By what ends are compared, as controllers do: a later epoch has what was acknowledged before it.
fn end(position: &Position) -> (u64, u64) {
    (position.history.newest().map_or(0, |newest| newest.epoch), position.latest)
}

/// Why the data was not put back. `Display` is what follows `-ERR `.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is none.
    #[error("nothing lies in db.deposed")]
    Nothing,
    /// It is not what the request names.
    #[error("db.deposed goes up to {0}: look again")]
    Other(Position),
    /// What is here is in service.
    #[error(
        "this node serves as master under a grant of epoch {0}: its data is in service and is not set aside"
    )]
    Granted(u64),
    /// The database was out of service already.
    #[error("the data of this node is just being replaced: try again")]
    Busy,
    /// A step failed; the database is what it was.
    #[error("exchange the databases: {0}: nothing was changed")]
    Failed(String),
    /// The node stops.
    #[error("the node stops")]
    Stopping,
}

/// Puts the data in `db.deposed` in service; what is there now lies in `db.deposed` then. Only if
/// that data ends where `expected` says, and never under a grant. A process that dies meanwhile
/// leaves the one or the other whole in `db`.
///
/// It runs on a thread of its own, because it waits for the replication link and for the last users
/// of the database.
pub async fn restore(node: Arc<Node>, expected: Position) -> Result<(), RestoreError> {
    may_restore(&node, &expected)?;
    // The link may be in the middle of replacing the database: it ends at its next step.
    super::stop(&node);
    let (answer, answered) = oneshot::channel();
    let restored = Arc::clone(&node);
    let work = move || {
        let node = restored;
        // Until it has ended, and so that no other begins meanwhile.
        let _no_link = node.replication.one_link.lock();
        let mut result = Err(RestoreError::Failed("start a runtime".to_owned()));
        block_on(async {
            let _one_change = node.changing.lock().await;
            result = exchange(&node, &expected).await;
        });
        // Its link was stopped for the exchange.
        super::follow_again(&node);
        // Nobody may be waiting any more; what was done stays.
        let _ = answer.send(result);
    };
    let thread = std::thread::Builder::new().name("restore".to_owned()).spawn(work);
    if let Err(error) = thread {
        super::follow_again(&node);
        return Err(RestoreError::Failed(error.to_string()));
    }
    answered.await.unwrap_or(Err(RestoreError::Stopping))
}

fn may_restore(node: &Node, expected: &Position) -> Result<(), RestoreError> {
    if let Some(epoch) = node.grants.granted_epoch() {
        return Err(RestoreError::Granted(epoch));
    }
    let folder = swap::old_path(&node.dir, Old::Keep);
    if !folder.is_dir() {
        return Err(RestoreError::Nothing);
    }
    // What it says of itself is not enough: it must be a database that opens.
    let there = storage::peek(&folder).map_err(|error| RestoreError::Failed(error.to_string()))?;
    // As texts: they name the newest epochs only.
    if there.to_string() == expected.to_string() { Ok(()) } else { Err(RestoreError::Other(there)) }
}

async fn exchange(node: &Arc<Node>, expected: &Position) -> Result<(), RestoreError> {
    may_restore(node, expected)?;
    let failed = |error: std::io::Error| RestoreError::Failed(error.to_string());
    let position = node.engine().store.as_ref().map(Store::position).ok_or(RestoreError::Busy)?;
    note(&node.db_path(), &position).map_err(failed)?;
    // An older version, or a hand, may have left it without a name.
    crate::grants::owner::name(node, &swap::old_path(&node.dir, Old::Keep)).map_err(failed)?;
    let generation = node.engine().generation;
    let Some((store, generation)) = take_out(node, generation) else {
        return Err(RestoreError::Busy);
    };
    let options = store.options().clone();
    close(store).await;
    let moved = swap::bring_back(&node.dir).map_err(|error| error.to_string());
    let is_moved = moved.is_ok();
    let done = moved.and_then(|()| {
        Store::open(&node.db_path(), options.clone()).map_err(|error| error.to_string())
    });
    let result = match done {
        Ok(store) => {
            node.resync.set_touched(false);
            node.resync.set_required(false);
            put_in(node, store, generation).await.map_err(|_| RestoreError::Stopping)?;
            if let Err(error) = swap::forget(&node.dir) {
                tracing::warn!(%error, "cannot remove the intent of an exchange of databases");
            }
            // It was about the other data.
            if let Err(error) = mark::remove(&node.dir) {
                tracing::warn!(%error, "cannot remove a mark: the next start takes a full sync");
            }
            tracing::warn!(
                restored = %expected, set_aside = %position,
                "an operator put the data from db.deposed back in service"
            );
            Ok(())
        }
        Err(error) => {
            if let Err(error) = swap::take_back_again(&node.dir, is_moved) {
                tracing::error!(%error, "cannot take back an exchange of databases");
            }
            let store = reopen(node, &options).await.map_err(|_| RestoreError::Stopping)?;
            put_in(node, store, generation).await.map_err(|_| RestoreError::Stopping)?;
            Err(RestoreError::Failed(error))
        }
    };
    node.replication.aside.look(&node.dir);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, latest: u64) -> Position {
        Position::parse(format!("{latest};{epoch}:{epoch:016x}:1:0").as_bytes()).unwrap()
    }

    #[test]
    fn what_goes_further_is_not_given_up() {
        let (keep, lesser) = (Place::plain(Old::Keep), Place::plain(Old::KeepLesser));
        let above = Place { old: Old::Keep, is_above: true };
        let nowhere = Place::plain(Old::Remove);
        let found = |end: (u64, u64)| match end {
            (0, 0) => Found::Nothing,
            (0, _) => Found::Unknown,
            (epoch, latest) => Found::UpTo(at(epoch, latest)),
        };
        let (nothing, unknown) = ((0, 0), (0, 1));
        for (there, beside, mine, expected) in [
            (nothing, nothing, (1, 5), keep),
            (nothing, (9, 9), (1, 5), keep),
            ((2, 5), nothing, (2, 5), keep),
            ((2, 5), (1, 3), (2, 6), keep),
            ((2, 6), nothing, (2, 5), lesser),
            // By its epoch it goes further, by its records the other one.
            ((2, 500), nothing, (3, 5), above),
            ((2, 500), (1, 900), (3, 5), above),
            ((2, 500), (2, 900), (3, 5), keep),
            ((2, 500), (3, 10), (4, 5), above),
            ((3, 5), nothing, (2, 500), lesser),
            ((3, 5), (2, 9), (2, 500), lesser),
            ((3, 5), (2, 501), (2, 500), nowhere),
            ((9, 9), (3, 400), (2, 500), lesser),
            // What cannot be known.
            (unknown, nothing, (2, 5), lesser),
            (unknown, (1, 900), (2, 5), lesser),
            (unknown, (2, 6), (2, 5), nowhere),
            ((3, 5), unknown, (2, 500), lesser),
            ((2, 5), unknown, (2, 6), keep),
        ] {
            let place = choose(&found(there), &found(beside), &at(mine.0, mine.1));
            assert_eq!(place, expected, "{there:?} {beside:?} {mine:?}");
        }
    }
}
