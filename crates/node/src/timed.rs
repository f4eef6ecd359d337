//! What is done when an option says so: backups, compactions, the removal of old backups.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backup;
use crate::config::Values;
use crate::config::schedule::Moment;
use crate::node::Node;

/// What is due in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    /// BGSAVE.
    pub(crate) backup: bool,
    /// COMPACT.
    pub(crate) compaction: bool,
    /// A backup of that many hours is removed.
    pub(crate) backup_ends_hours: Option<u64>,
}

impl Due {
    /// By these options at that moment.
    pub(crate) fn at(values: &Values, at: Moment) -> Self {
        Self {
            backup: values.bgsave_cron.is_due(at),
            compaction: values.compact_cron.is_due(at),
            backup_ends_hours: match (values.max_backup_to_keep, values.max_backup_keep_hours) {
                (0, _) => Some(0),
                (_, 0) => None,
                (_, hours) => Some(u64::from(hours)),
            },
        }
    }
}

/// Compacts on a thread of its own; false if one is under way.
pub(crate) fn compact(node: &Arc<Node>, (lower, upper): (Vec<u8>, Vec<u8>)) -> bool {
    if node.is_compacting.swap(true, Ordering::SeqCst) {
        return false;
    }
    let own = Arc::clone(node);
    let spawned = std::thread::Builder::new().name("compact".into()).spawn(move || {
        let store = own.engine().store.clone();
        match store.map(|store| store.compact(&lower, &upper)) {
            Some(Ok(())) => tracing::info!("compaction done"),
            Some(Err(error)) => tracing::error!(%error, "the compaction failed"),
            None => tracing::warn!("nothing was compacted: the data is being replaced"),
        }
        own.is_compacting.store(false, Ordering::SeqCst);
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "cannot start a thread for a compaction");
        node.is_compacting.store(false, Ordering::SeqCst);
    }
    true
}

/// Does what is due in the minute of these Unix seconds. Looks at the disk.
pub(crate) fn keep_to_schedule(node: &Arc<Node>, unix_seconds: u64) {
    let Some(at) = Moment::at(unix_seconds) else { return };
    let due = Due::at(&node.config.now(), at);
    if due.backup && backup::begin(node).is_err() {
        tracing::warn!("bgsave-cron: a backup is being made or removed already");
    }
    if due.compaction && !compact(node, (Vec::new(), Vec::new())) {
        tracing::warn!("compact-cron: a compaction is under way already");
    }
    let Some(hours) = due.backup_ends_hours else { return };
    let made = std::fs::metadata(backup::folder(node)).and_then(|metadata| metadata.modified());
    let age = made.ok().and_then(|made| made.elapsed().ok());
    let is_old = age.is_some_and(|age| age.as_secs() / 3_600 >= hours);
    if is_old && backup::remove(node).is_ok() {
        tracing::info!(hours, "a backup that is too old is removed");
    }
}
