//! Cutting this node's data off where it parted from its master's, and keeping what is cut off in
//! `dir/discarded`.
//!
//! `storage::rewind` does the work; here the database is taken out of service before it and put
//! back after it, as in an exchange of databases. If the process ends during a rewind, the next
//! start finishes it before it opens the database ([`finish`]).

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use replication::replica::Event;
use storage::rewind::{self, Failure, Intent, Report};
use storage::{Options, Store};

use super::link::{Driver, Over};
use super::mark::Mark;
use super::service::{close, reopen, wait_a_second};
use crate::clock;

/// Folder in `dir` with the writes that were cut off, a file for each rewind.
pub const DISCARDED: &str = "discarded";

/// Finishes a rewind that was under way when the last process ended. To be called before the
/// database is opened.
///
/// # Errors
/// A step fails again: the database must not be opened.
pub fn finish(dir: &Path, options: &Options) -> anyhow::Result<()> {
    let db = dir.join("db");
    match rewind::resume(&db, &dir.join(DISCARDED), options) {
        Ok(None) => Ok(()),
        Ok(Some(report)) => {
            log(&report);
            Ok(())
        }
        Err(failure @ Failure::Spoiled { .. }) => {
            tracing::error!(%failure, "the data cannot be used; a full sync will replace it");
            spoil(dir).context("note that a full sync is required")
        }
        Err(failure @ (Failure::TooLate { .. } | Failure::NoBoundary { .. })) => {
            tracing::warn!(%failure, "the rewind is given up; nothing was changed");
            Ok(())
        }
        Err(Failure::Storage(error)) => Err(error).context("finish a rewind of the database"),
    }
}

/// Notes durably that the data is of no use, before the intent that says so goes.
fn spoil(dir: &Path) -> anyhow::Result<()> {
    Mark::Spoilt.keep(dir)?;
    rewind::forget(&dir.join("db"))?;
    Ok(())
}

fn log(report: &Report) {
    let Report { fork, discarded, export_ms, cut_ms, clean_ms } = report;
    let discarded = discarded.as_ref().map(|path| path.display().to_string());
    tracing::warn!(
        fork,
        discarded = discarded.as_deref().unwrap_or("nothing"),
        export_ms,
        cut_ms,
        clean_ms,
        "rewound to where the data parted from the master's"
    );
}

impl Driver {
    /// Cuts the database off behind `fork`. Clients are answered with LOADING meanwhile.
    pub(super) async fn rewind(&mut self, fork: u64) -> Result<Event<'static>, Over> {
        let node = Arc::clone(&self.job.node);
        let Some(store) = self.take_store() else { return Err(Over::Stale) };
        // That was behind another fork.
        self.is_exported = false;
        let options = store.options().clone();
        let at_ms = clock::unix_ms();
        let intent = Intent::new(&store.history(), fork, at_ms);
        close(store).await;
        let discarded = node.path(DISCARDED);
        let mut result = rewind::run(&node.db_path(), &discarded, &options, intent);
        while let Err(Failure::Storage(error)) = &result {
            if !matches!(rewind::pending(&node.db_path()), Ok(None)) {
                // The cut may have been made: there is no way but on.
                tracing::error!(%error, "a step of the rewind failed and is tried again");
                wait_a_second(&node).await?;
                result = match rewind::resume(&node.db_path(), &discarded, &options) {
                    Ok(Some(report)) => Ok(report),
                    Ok(None) => break,
                    Err(failure) => Err(failure),
                };
                continue;
            }
            break;
        }
        let event = match result {
            Ok(report) => {
                log(&report);
                Event::Rewound { next: report.fork + 1 }
            }
            Err(Failure::Storage(error)) => {
                Event::RewindFailed { cause: format!("rewind to {fork}: {error}") }
            }
            Err(failure) => {
                let is_spoilt = matches!(failure, Failure::Spoiled { .. });
                while let Err(error) = self.note_spoilt(is_spoilt) {
                    tracing::error!(%error, "cannot note that a full sync is required");
                    wait_a_second(&node).await?;
                }
                self.is_exported = is_spoilt;
                Event::RewindImpossible { cause: failure.to_string(), is_spoilt }
            }
        };
        let store = reopen(&node, &options).await?;
        // The data here is whole: as before, or a part of the master's.
        node.resync.set_touched(self.mark == Some(Mark::Spoilt));
        if matches!(event, Event::RewindImpossible { is_spoilt: false, .. }) {
            self.is_exported = export(&store, &discarded, fork, at_ms);
        }
        if self.install(store).await? { Ok(event) } else { Err(Over::Stale) }
    }

    fn note_spoilt(&mut self, is_spoilt: bool) -> anyhow::Result<()> {
        if is_spoilt {
            spoil(&self.job.node.dir)?;
            self.mark = Some(Mark::Spoilt);
        }
        Ok(())
    }
}

/// Exports what the log still has of the records behind the fork; true if that is all of them.
fn export(store: &Store, discarded: &Path, fork: u64, at_ms: u64) -> bool {
    match rewind::export::from_feed(store, discarded, fork, at_ms) {
        Ok((Some(path), is_all)) => {
            tracing::warn!(path = %path.display(), is_all, "exported the writes that the master has not");
            is_all
        }
        Ok((None, is_all)) => is_all,
        Err(error) => {
            tracing::error!(%error, "cannot export the writes that the master has not");
            false
        }
    }
}
