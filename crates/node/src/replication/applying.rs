//! What one step of the link writes: batches into the database, and the data's lineage.

use std::sync::Arc;

use replication::history::{History, Position};
use replication::lineage::Source;
use replication::replica::Event;
use storage::Store;

use crate::clock;
use crate::node::Node;
use crate::session::serve::{self, Ready, Server};

/// The role or the database is not what it was when the link was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stale;

/// The node, under that generation of its write gate.
pub(super) type To<'a> = (&'a Arc<Node>, u64);

/// A link begins: where the data here ends, of which all is published from now on; `None` if the
/// node is not what it was when the link was ordered. `is_marked`: the data is to be replaced.
///
/// The link before this one may have written a batch and then found another role: that batch may be
/// in this process's memory alone, and the first thing that this link says acknowledges it.
pub(super) fn begin((node, generation): To<'_>, is_marked: bool) -> Option<Position> {
    let engine = node.engine();
    let store = engine.store.as_ref().filter(|_| engine.generation == generation)?;
    if is_marked {
        node.resync.set_required(true);
    }
    let published = store.publish();
    let published =
        published.inspect_err(|error| tracing::error!(%error, "the replication link ends"));
    published.ok().map(|_| store.position())
}

/// The batches of one step on their way into the database.
#[derive(Debug, Default)]
pub(super) struct Applying {
    has_applied: bool,
    failure: Option<storage::Error>,
    /// Whose the batches are could not be noted.
    unnoted: Option<std::io::Error>,
    /// Something else wrote here since the master was told where the data ends.
    is_apart: bool,
}

/// The master's lineage becomes that of the data here, which ended at `told` when it was compared
/// with the master's.
///
/// A replica may be written to (`slave-read-only no`) at any moment. A write that has noted itself
/// and is not in the database yet would lose its note: with the gate taken alone there is none, and
/// one that was made meanwhile shows. That option may change, too, while the gate is shared: then
/// the note itself shows.
pub(super) fn adopt(
    (node, generation): To<'_>,
    theirs: Option<&History>,
    told: Option<u64>,
    applying: &mut Applying,
) -> Result<(), Stale> {
    let replication = &node.replication;
    let known = replication.lineage.now();
    let writes_itself = known.source(u64::MAX) == Some(Source::Own);
    let alone = (writes_itself || !node.config.now().slave_read_only).then(|| node.gate.write());
    let shared = alone.is_none().then(|| node.engine());
    let engine = alone.as_deref().or(shared.as_deref()).ok_or(Stale)?;
    let current = engine.store.as_ref().filter(|_| engine.generation == generation);
    let latest = current.ok_or(Stale)?.latest_sequence();
    if told.is_some_and(|told| told != latest) {
        applying.is_apart = true;
        return Ok(());
    }
    let (db, lineage) = (node.db_path(), &replication.lineage);
    let adopted = match alone.is_some() {
        true => lineage.adopt(&db, latest, theirs).map(Some),
        false => lineage.adopt_from(&known, &db, latest, theirs),
    };
    match adopted {
        Ok(Some(true)) => replication.lineage_changed(),
        Ok(Some(false)) => {}
        Ok(None) => applying.is_apart = true,
        Err(error) => applying.unnoted = Some(error),
    }
    Ok(())
}

/// Writes one batch; after a failure the further ones of the step are skipped.
pub(super) fn apply(
    (node, generation): To<'_>,
    batch: &[u8],
    applying: &mut Applying,
) -> Result<(), Stale> {
    if applying.failure.is_some() || applying.unnoted.is_some() || applying.is_apart {
        return Ok(());
    }
    let engine = node.engine();
    let current = engine.store.as_ref().filter(|_| engine.generation == generation);
    let store = current.ok_or(Stale)?;
    let cluster = node.config.now().cluster_enabled;
    match node.watches.applying(batch, cluster, || store.write_raw(batch)) {
        Ok(_) => {
            applying.has_applied = true;
            serve::note_applied(node, batch);
            serve_reads(node, store, batch);
        }
        Err(error) => applying.failure = Some(error),
    }
    Ok(())
}

/// Reads may wait on a replica too.
pub(crate) fn serve_reads(node: &Node, store: &Store, batch: &[u8]) {
    let mut ready = Ready::new();
    serve::note_ready(node, batch, node.config.now().cluster_enabled, &mut ready);
    if ready.is_empty() {
        return;
    }
    let (config, now_ms) = (node.config.now(), clock::unix_ms());
    Server { node, config: &config, store, worker: 0, now_ms, writer: None }.serve_reads(&ready);
}

impl Applying {
    /// Publishes what was written; the event that tells the machine.
    pub(super) fn finish(
        self,
        (node, generation): To<'_>,
    ) -> Result<Option<Event<'static>>, Stale> {
        if !self.has_applied && self.failure.is_none() && self.unnoted.is_none() && !self.is_apart {
            return Ok(None);
        }
        let engine = node.engine();
        let current = engine.store.as_ref().filter(|_| engine.generation == generation);
        let store = current.ok_or(Stale)?;
        let published = store.publish();
        let next = store.latest_sequence() + 1;
        if let Some(error) = self.unnoted {
            let cause = format!("note in the database folder whose data this is: {error}");
            return Ok(Some(Event::ApplyFailed { next, cause }));
        }
        if self.is_apart {
            return Ok(Some(Event::Diverged { next }));
        }
        Ok(Some(match (self.failure, published) {
            (None, Ok(_)) => Event::Applied { next },
            // Something else wrote here. Numbers alone do not tell: as many records may have been
            // written as were lost.
            (Some(storage::Error::OutOfSequence { .. }), Ok(_)) => Event::Diverged { next },
            (Some(error), _) | (None, Err(error)) => {
                Event::ApplyFailed { next, cause: format!("apply a batch: {error}") }
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::Shell;

    /// The comparison with the master was made; then a client wrote here (`slave-read-only no`).
    #[test]
    fn a_write_since_the_comparison_keeps_its_note_and_costs_a_copy() {
        let mut shell = Shell::new();
        let node = shell.node();
        let generation = node.engine().generation;
        let latest = || node.engine().store.as_ref().map(Store::latest_sequence);
        let told = latest();
        let own = node.replication.lineage.now();
        let theirs = replication::lineage::Lineage::foreign(
            replication::history::EpochId::from_random(5),
            0,
        );
        assert_eq!(shell.run("SET written here"), "+OK");
        assert_ne!(told, latest());

        let mut applying = Applying::default();
        let to = (&node, generation);
        adopt(to, Some(&theirs.history()), told, &mut applying).unwrap();
        apply(to, b"not looked at", &mut applying).unwrap();
        let event = applying.finish(to).unwrap();
        let next = latest().unwrap() + 1;
        assert_eq!(event, Some(Event::Diverged { next }));
        assert_eq!(node.replication.lineage.now(), own, "what was noted stays");

        let mut applying = Applying::default();
        adopt(to, Some(&theirs.history()), latest(), &mut applying).unwrap();
        assert_eq!(applying.finish(to).unwrap(), None);
        assert_eq!(node.replication.lineage.now().history(), theirs.history());
    }
}
