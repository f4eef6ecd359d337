//! Taking the database out of service and putting one back.
//!
//! Meanwhile there is none, and clients are answered with LOADING. Every exchange raises the write
//! gate's generation twice, so nothing that was begun with the old database goes on with the new
//! one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use storage::Store;

use super::link::Over;
use crate::grants::identity::Identity;
use crate::node::Node;

/// Takes the database out of service, if the generation is still this one and nothing is granted
/// for it; with it the generation that begins.
pub(super) fn take_out(node: &Arc<Node>, generation: u64) -> Option<(Store, u64)> {
    let taken = {
        let mut engine = node.gate.write();
        // A grant is taken under the gate, and only while there is a database.
        if engine.generation != generation || node.grants.granted_epoch().is_some() {
            return None;
        }
        let store = engine.store.take()?;
        engine.generation += 1;
        node.grants.identity.forget();
        (store, engine.generation)
    };
    node.replication.cut_replicas();
    Some(taken)
}

/// Puts a database in service; the generation that begins, or `None` if the role changed since
/// `generation`.
///
/// A master writes on its own from here on, if it was promoted while there was no database, or is
/// given another one. That is put on the disk before, as often as it takes.
pub(super) async fn put_in(
    node: &Arc<Node>,
    store: Store,
    generation: u64,
) -> Result<Option<u64>, Over> {
    node.look_after(&store);
    node.replication.lineage.reload(&node.db_path());
    let mut store = Some(store);
    let next = loop {
        match enter(node, &mut store, generation) {
            Ok(next) => break next,
            Err(error) => {
                tracing::error!(%error, "cannot note in the database folder who writes from now on: the database is not put in service");
            }
        }
        wait_a_second(node).await?;
    };
    crate::grants::owner::keep(node);
    node.touch_all();
    node.waiters.begin_anew();
    if let Some(store) = &node.engine().store {
        // They may have changed while there was none.
        node.tell_options(store);
        node.namespaces.look_into(&node.config.now(), store);
    }
    Ok(next)
}

fn enter(node: &Node, store: &mut Option<Store>, generation: u64) -> io::Result<Option<u64>> {
    let (db, lineage) = (node.db_path(), &node.replication.lineage);
    let latest = store.as_ref().map_or(0, Store::latest_sequence);
    // Not with everybody waiting at the gate.
    if node.engine().role.is_master() {
        lineage.prepare(&db, latest)?;
    }
    let name = Identity::name(&db);
    let mut engine = node.gate.write();
    match engine.role.is_master() {
        true => drop(lineage.begin(&db, latest)?),
        false => lineage.give_up(&db),
    }
    let is_current = engine.generation == generation;
    *node.replication.is_bell_hung.lock() = false;
    node.grants.identity.take(name);
    engine.store = store.take();
    engine.generation += 1;
    Ok(is_current.then_some(engine.generation))
}

/// How often a wait for the last user of a database is told.
const COMPLAIN: Duration = Duration::from_secs(10);

/// Closes the database for good: afterwards nothing in this process holds its folder.
pub(super) async fn close(store: Store) {
    let watch = store.close_watch();
    match store.close() {
        Ok(()) => return,
        Err(storage::CloseError::Storage(error)) => {
            tracing::warn!(%error, "the last writes of the database that is replaced are not in its log");
            return;
        }
        Err(storage::CloseError::InUse(others)) => {
            tracing::debug!(others, "waiting for the last users of the database that is replaced");
        }
    }
    // Its folder must not be touched while it is in use. A user that keeps it for long is a fault
    // that an operator should hear of.
    let mut complain_at = tokio::time::Instant::now() + COMPLAIN;
    while !watch.is_closed() {
        tokio::time::sleep(Duration::from_millis(2)).await;
        if tokio::time::Instant::now() >= complain_at {
            tracing::warn!("still waiting for the last user of the database that is replaced");
            complain_at += COMPLAIN;
        }
    }
}

/// Opens the present database, as often as it takes: a node without a database is of no use.
///
/// Never an empty one in its place: where an exchange could not be taken back, the data lies in
/// another folder, and the next start finishes the exchange.
pub(super) async fn reopen(node: &Node, options: &storage::Options) -> Result<Store, Over> {
    let mut shutdown = node.shutdown();
    let db = node.db_path();
    loop {
        match db.join("CURRENT").try_exists() {
            Ok(true) => match Store::open(&db, options.clone()) {
                Ok(store) => return Ok(store),
                Err(error) => tracing::error!(%error, "cannot open the database again"),
            },
            Ok(false) => {
                tracing::error!(folder = %db.display(), "there is no database: stop this node, and start it again");
            }
            Err(error) => tracing::error!(%error, "cannot look for the database"),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = shutdown.wait_for(|stop| *stop) => return Err(Over::Shutdown),
        }
    }
}

pub(super) async fn wait_a_second(node: &Node) -> Result<(), Over> {
    let mut shutdown = node.shutdown();
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(1)) => Ok(()),
        _ = shutdown.wait_for(|stop| *stop) => Err(Over::Shutdown),
    }
}
