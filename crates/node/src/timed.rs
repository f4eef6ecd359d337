//! What is done when an option says so: backups, compactions, the removal of old backups.
//!
//! Kvrocks' compaction checker counts keys that have ended among the deletions; those that RocksDB
//! counts are told here, and keys that have ended go with any compaction.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use storage::Worn;

use crate::backup;
use crate::config::Values;
use crate::config::schedule::Moment;
use crate::node::Node;
use crate::replication::folder;

/// What is due in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    /// BGSAVE.
    pub(crate) backup: bool,
    /// COMPACT.
    pub(crate) compaction: bool,
    /// A look for tables with many deletions.
    pub(crate) look: bool,
    /// A backup of that many hours is removed.
    pub(crate) backup_ends_hours: Option<u64>,
}

impl Due {
    /// By these options at that moment.
    pub(crate) fn at(values: &Values, at: Moment) -> Self {
        Self {
            backup: values.bgsave_cron.is_due(at),
            compaction: values.compact_cron.is_due(at),
            look: values.compaction_checker_cron.is_due(at)
                || values.compaction_checker_range.has(at),
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

/// Has tables with many deletions compacted. Looks at the disk.
fn compact_worn(node: &Node) {
    let values = node.config.now();
    let age = u64::try_from(values.force_compact_file_age).unwrap_or(u64::MAX);
    let per_cent = values.force_compact_file_min_deleted_percentage;
    // What has the gate alone may be about to close the database: there is a next minute.
    let Some(store) = node.gate.try_read().and_then(|engine| engine.store.clone()) else { return };
    match store.compact_worn(Worn { age: Duration::from_secs(age), per_cent }) {
        Ok(0) => {}
        Ok(tables) => tracing::info!(tables, "tables with many deletions are to be compacted"),
        Err(error) => tracing::error!(%error, "cannot look for tables with many deletions"),
    }
}

/// Removes the backup while a full sync has files of its own on the disk, if
/// `purge-backup-on-fullsync` says so. Looks at the disk.
pub(crate) fn make_room(node: &Arc<Node>) {
    if !node.config.now().purge_backup_on_fullsync {
        return;
    }
    let is_syncing = [folder::CHECKPOINT, folder::NAME].iter().any(|name| node.path(name).exists());
    if is_syncing && backup::is_there(node) && backup::remove(node).is_ok() {
        tracing::info!("purge-backup-on-fullsync: a full sync needs the disk");
    }
}

/// Removes what a rotation has made of the log, once it is as old as `log-retention-days` says.
/// Looks at the disk.
fn forget_logs(values: &Values) {
    let (Ok(days), Some(log)) = (u64::try_from(values.log_retention_days), values.log_dir.file())
    else {
        return;
    };
    let Some((dir, name)) = log.parent().zip(log.file_name()) else { return };
    let is_rotated = |other: &OsStr| {
        let rest = other.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
        rest.is_some_and(|rest| rest.starts_with(b".") || rest.starts_with(b"-"))
    };
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let age = metadata.modified().ok().and_then(|modified| modified.elapsed().ok());
        let is_old = age.is_some_and(|age| age.as_secs() / 86_400 >= days);
        if !(is_rotated(&entry.file_name()) && metadata.is_file() && is_old) {
            continue;
        }
        let file = entry.path();
        match std::fs::remove_file(&file) {
            Ok(()) => tracing::info!(file = %file.display(), "log-retention-days: removed"),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "cannot remove an old log")
            }
        }
    }
}

/// Does what is due in the minute of these Unix seconds. Looks at the disk.
pub(crate) fn keep_to_schedule(node: &Arc<Node>, unix_seconds: u64) {
    forget_logs(&node.config.now());
    let Some(at) = Moment::at(unix_seconds) else { return };
    let due = Due::at(&node.config.now(), at);
    if due.backup && backup::begin(node).is_err() {
        tracing::warn!("bgsave-cron: a backup is being made or removed already");
    }
    if due.compaction && !compact(node, (Vec::new(), Vec::new())) {
        tracing::warn!("compact-cron: a compaction is under way already");
    }
    if due.look {
        compact_worn(node);
    }
    let Some(hours) = due.backup_ends_hours else { return };
    let made = std::fs::metadata(backup::folder(node)).and_then(|metadata| metadata.modified());
    let age = made.ok().and_then(|made| made.elapsed().ok());
    let is_old = age.is_some_and(|age| age.as_secs() / 3_600 >= hours);
    if is_old && backup::is_there(node) && backup::remove(node).is_ok() {
        tracing::info!(hours, "a backup that is too old is removed");
    }
}
