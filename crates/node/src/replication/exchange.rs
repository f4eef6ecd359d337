//! Taking the database out of service and putting one back: the present one cut off ([`super::rewind`]), or a downloaded one.
//!
//! Meanwhile there is none, and clients are answered with LOADING. Every exchange makes the write gate's generation rise twice, so nothing that
//! was begun with the old database goes on with the new one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use replication::history::Position;
use replication::replica::Event;
use storage::Store;

use super::deposed::{self, Place};
use super::link::{Driver, Over};
use super::rewind::wait_a_second;
use super::swap::{self, Old};
use crate::durable::remove_folder_if_there;
use crate::gate::Role;
use crate::node::Node;

impl Driver {
    /// Puts the downloaded database in service. Clients are answered with LOADING meanwhile.
    pub(super) async fn swap(&mut self) -> Result<Event<'static>, Over> {
        let node = Arc::clone(&self.job.node);
        let is_deposed = node.resync.is_required() && !std::mem::take(&mut self.is_exported);
        if !is_deposed {
            return self.exchange(&node, None, Place::plain(Old::Remove)).await;
        }
        let position = node.engine().store.as_ref().map(Store::position).unwrap_or_default();
        // This thread is the link's own: it opens databases, too.
        let place = deposed::place(&node, &position);
        let result = self.exchange(&node, Some(&position), place).await;
        if place.is_above
            && !matches!(result, Ok(Event::Swapped { .. }))
            && let Err(error) = swap::take_way_back(&node.dir)
        {
            tracing::error!(%error, "what lay in db.deposed lies in db.deposed.lesser");
        }
        node.replication.aside.look(&node.dir);
        result
    }

    /// `deposed`: how far the present database goes, if it is to be kept.
    async fn exchange(
        &mut self,
        node: &Arc<Node>,
        deposed: Option<&Position>,
        place: Place,
    ) -> Result<Event<'static>, Over> {
        let old = place.old;
        let failed = |what: &str, error: &dyn std::fmt::Display| Event::SwapFailed {
            cause: format!("{what}: {error}"),
        };
        if let Err(error) = self.make_ready(deposed, place) {
            return Ok(failed("prepare the exchange of databases", &error));
        }
        let Some(store) = self.take_store() else {
            if let Err(error) = swap::forget(&node.dir) {
                tracing::error!(%error, "cannot take back the intent of an exchange of databases");
            }
            return Err(Over::Stale);
        };
        let options = store.options().clone();
        close(store).await;
        let opened =
            swap::move_on(&node.dir, old).map_err(|error| error.to_string()).and_then(|()| {
                Store::open(&node.db_path(), options.clone()).map_err(|e| e.to_string())
            });
        let (store, error) = match opened {
            Ok(store) => (store, None),
            Err(error) => {
                if let Err(error) = swap::move_back(&node.dir, old) {
                    tracing::error!(%error, "cannot take back an exchange of databases");
                }
                (reopen(node, &options).await?, Some(error))
            }
        };
        let next = store.latest_sequence() + 1;
        let is_current = self.install(store).await?;
        if let Some(error) = error {
            return Ok(failed("open the downloaded database", &error));
        }
        if let Err(error) = swap::forget(&node.dir) {
            // The next start finds nothing left to move.
            tracing::warn!(%error, "cannot remove the intent of an exchange of databases");
        }
        let kept = swap::old_path(&node.dir, old);
        match (deposed, old) {
            (None, _) => remove_in_background(kept),
            (Some(position), Old::Remove) => {
                tracing::warn!(
                    %position,
                    "full sync done; the data this node had as a master is removed: all that was set aside before goes further"
                );
                remove_in_background(kept);
            }
            (Some(_), _) => tracing::warn!(
                kept = %kept.display(),
                "full sync done; the data this node had as a master is kept aside"
            ),
        }
        if is_current {
            Ok(Event::Swapped { next, replication_id: None })
        } else {
            Err(Over::Stale)
        }
    }

    /// All that has to be on the disk before the first folder moves.
    fn make_ready(&self, deposed: Option<&Position>, place: Place) -> io::Result<()> {
        let node = &self.job.node;
        if let Some(position) = deposed {
            deposed::note(&node.db_path(), position)?;
        }
        self.seal()?;
        if place.is_above {
            swap::make_way(&node.dir)?;
        }
        swap::intend(&node.dir, place.old)
    }

    /// The copy is complete, says who wrote it and whose it is, and is on the disk.
    pub(super) fn seal(&self) -> io::Result<()> {
        let node = &self.job.node;
        let copy = node.path(super::folder::NAME);
        if let Some(theirs) = self.machine.copied_lineage() {
            super::lineage::write_copied(&copy, theirs)?;
        }
        crate::grants::owner::name(node, &copy)?;
        self.folder.seal()
    }

    /// Takes the database out of service, if this link still speaks for the node.
    pub(super) fn take_store(&mut self) -> Option<Store> {
        let (store, generation) = take_out(&self.job.node, self.job.generation)?;
        self.job.generation = generation;
        Some(store)
    }

    /// Puts a database in service; false if the role changed meanwhile (there must be a database then, too).
    pub(super) async fn install(&mut self, store: Store) -> Result<bool, Over> {
        let node = &self.job.node;
        match put_in(node, store, self.job.generation).await? {
            Some(generation) => self.job.generation = generation,
            None => {
                restart_link(node);
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Takes the database out of service, if the generation is still this one and nothing is granted for it; with it the generation
/// that begins.
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

/// Puts a database in service; the generation that begins, or `None` if the role changed since `generation`.
///
/// A master writes by itself from here on: one that was promoted while there was no database, or is given another one. That
/// is on the disk before, as often as it takes.
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
    node.watches.touch_all();
    Ok(next)
}

fn enter(node: &Node, store: &mut Option<Store>, generation: u64) -> io::Result<Option<u64>> {
    let (db, lineage) = (node.db_path(), &node.replication.lineage);
    let latest = store.as_ref().map_or(0, Store::latest_sequence);
    if node.engine().role.is_master() {
        // Not with everybody waiting at the gate.
        lineage.prepare(&db, latest)?;
    }
    let mut engine = node.gate.write();
    match engine.role.is_master() {
        true => drop(lineage.begin(&db, latest)?),
        false => lineage.give_up(&db),
    }
    let is_current = engine.generation == generation;
    *node.replication.is_bell_hung.lock() = false;
    node.grants.identity.reload(&db);
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
    // Its folder must not be touched before; whoever keeps it that long is a fault that a person should hear of.
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
pub(super) async fn reopen(node: &Node, options: &storage::Options) -> Result<Store, Over> {
    let mut shutdown = node.shutdown();
    loop {
        match Store::open(&node.db_path(), options.clone()) {
            Ok(store) => return Ok(store),
            Err(error) => tracing::error!(%error, "cannot open the database again"),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = shutdown.wait_for(|stop| *stop) => return Err(Over::Shutdown),
        }
    }
}

/// The role changed while the database was out of service: a link that was ordered meanwhile found none and ended.
fn restart_link(node: &Arc<Node>) {
    let (role, generation) = {
        let engine = node.engine();
        (engine.role.clone(), engine.generation)
    };
    if let Role::Replica { from } = role {
        super::follow(node, from, generation);
    }
}

fn remove_in_background(path: std::path::PathBuf) {
    super::spawn("repl-remove", move || {
        if let Err(error) = remove_folder_if_there(&path) {
            tracing::warn!(%error, path = %path.display(), "cannot remove the replaced database");
        }
    });
}
