//! How a link replaces the database with the one that it has downloaded.

use std::io;
use std::path::Path;
use std::sync::Arc;

use replication::files::{CheckpointId, RemoteFile};
use replication::history::Position;
use replication::replica::{Event, Held};
use storage::Store;

use super::deposed::{self, Place};
use super::link::{Driver, Over};
use super::mark::Mark;
use super::service::{close, put_in, reopen, take_out, wait_a_second};
use super::swap::{self, Old};
use crate::durable::remove_folder_if_there;
use crate::node::Node;
use crate::threads::spawn;

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
        let Some(store) = self.take_store() else { return Err(Over::Stale) };
        // Not before: a node that is promoted while this link waits for the gate writes on, and its
        // next process would finish the exchange.
        if let Err(error) = swap::intend(&node.dir, old) {
            return self.give_up(store, failed("intend the exchange of databases", &error)).await;
        }
        let was_apart = self.mark == Some(Mark::Apart);
        if was_apart {
            self.note(Mark::Spoilt, Mark::keep_for_now);
        }
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
                let store = reopen(node, &options).await?;
                forget(node).await?;
                if was_apart {
                    self.note(Mark::Apart, Mark::take_back);
                }
                node.resync.set_touched(false);
                (store, Some(error))
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

    /// The exchange cannot be made, and nothing has moved: the database goes on.
    async fn give_up(
        &mut self,
        store: Store,
        event: Event<'static>,
    ) -> Result<Event<'static>, Over> {
        let node = &self.job.node;
        forget(node).await?;
        node.resync.set_touched(false);
        if self.install(store).await? { Ok(event) } else { Err(Over::Stale) }
    }

    /// All that has to be on the disk before the database is taken out of service.
    fn make_ready(&self, deposed: Option<&Position>, place: Place) -> io::Result<()> {
        let node = &self.job.node;
        if let Some(position) = deposed {
            deposed::note(&node.db_path(), position)?;
        }
        self.seal()?;
        if place.is_above { swap::make_way(&node.dir) } else { Ok(()) }
    }

    /// The folder for a download, and what is in it already. No intent may be left of an exchange
    /// before: the next process would take what has come by then for the database.
    pub(super) fn prepare(
        &mut self,
        checkpoint: Option<&CheckpointId>,
        files: &[RemoteFile],
    ) -> io::Result<Vec<Held>> {
        swap::forget(&self.job.node.dir)?;
        let held = self.folder.prepare(checkpoint, files)?;
        self.folder.has_room(files, held)
    }

    /// The link ends.
    pub(super) fn end(&mut self) {
        let node = Arc::clone(&self.job.node);
        if !self.machine.must_full_sync() {
            // The data in service is whole, and no longer has to be compared with this master's.
            node.resync.set_touched(false);
        }
        if node.engine().role.is_master() {
            self.clear_download();
        }
    }

    /// The data here is the master's: what was exported, or downloaded, was about other data.
    pub(super) fn has_joined(&mut self) {
        self.is_exported = false;
        self.clear_download();
    }

    /// What was downloaded is of no use: the data here is the master's, or this node is one itself.
    /// It may be as large as the data, and nothing else would remove it.
    fn clear_download(&mut self) {
        match self.folder.let_go() {
            Ok(Some(stale)) => remove_in_background(stale),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "cannot remove what a full sync has brought"),
        }
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
        // There is no database now: a promotion by hand must not take what lies here for this
        // node's own data.
        self.job.node.resync.set_touched(true);
        Some(store)
    }

    /// Changes what the mark says, where there is one. A disk that does not take it leaves the
    /// other word, and the next start goes by that.
    fn note(&mut self, mark: Mark, keep: fn(Mark, &Path) -> io::Result<()>) {
        match keep(mark, &self.job.node.dir) {
            Ok(()) => self.mark = Some(mark),
            Err(error) => tracing::error!(%error, "cannot note what a full sync has done"),
        }
    }

    /// Puts a database in service; false if the role changed meanwhile (there must be a database
    /// then, too).
    pub(super) async fn install(&mut self, store: Store) -> Result<bool, Over> {
        let node = &self.job.node;
        match put_in(node, store, self.job.generation).await? {
            Some(generation) => self.job.generation = generation,
            None => {
                // The role changed while the database was out of service: a link that was ordered
                // meanwhile found none and ended.
                super::follow_again(node);
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Takes the intent back before the old database is put in service again, as often as it takes: the
/// next process would finish the exchange, whatever was written by then.
async fn forget(node: &Node) -> Result<(), Over> {
    while let Err(error) = swap::forget(&node.dir) {
        tracing::error!(%error, "cannot take back the intent of an exchange of databases; the database stays out of service until then");
        wait_a_second(node).await?;
    }
    Ok(())
}

fn remove_in_background(path: std::path::PathBuf) {
    spawn("repl-remove", move || {
        if let Err(error) = remove_folder_if_there(&path) {
            tracing::warn!(%error, path = %path.display(), "cannot remove data that nobody needs");
        }
    });
}
