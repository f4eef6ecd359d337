//! What a store does about its history besides writing it: what may go, what must stay, and for how
//! long.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use rocksdb::wal::WalFileType;

use super::sizes;
use crate::{Error, Store, cache, engine};

impl Store {
    /// Says that everything up to `sequence` is acknowledged: no rewind will ever go before it.
    /// Compactions then remove what was dead there, and old log files up to there may be purged.
    /// Cheap; may be called for every acknowledgement.
    pub fn set_acknowledged(&self, sequence: u64) {
        self.inner.views.acknowledge(sequence);
    }

    /// Nobody says here any more what is acknowledged, as on a replica: what was said last would
    /// keep all later log files for ever. Not before this history was compared with the next
    /// master's: until then a rewind may need them.
    pub fn forget_acknowledged(&self) {
        self.inner.views.forget();
    }

    /// Newest sequence that [`Store::set_acknowledged`] was told.
    pub fn acknowledged(&self) -> Option<u64> {
        self.inner.views.acknowledged()
    }

    /// To be called every ten seconds or so: lets compactions look at what is acknowledged now. May
    /// write a small file.
    ///
    /// # Errors
    /// I/O errors.
    pub fn tend(&self) -> Result<(), Error> {
        if self.history().is_empty() {
            return Ok(());
        }
        self.inner.views.renew(&self.inner.db, &self.inner.dir)
    }

    /// Opened with [`crate::Options::hold_tail`], and not settled yet?
    pub fn is_holding(&self) -> bool {
        self.inner.is_holding.load(Ordering::Acquire)
    }

    /// The history here is known to be the right one: flushes and compactions run as configured
    /// from now on. Does nothing unless the database was opened with [`crate::Options::hold_tail`],
    /// and only once. Writes option files.
    ///
    /// # Errors
    /// I/O errors. Then the next [`Store::resize`] does what is left.
    pub fn settle(&self) -> Result<(), Error> {
        let inner = &*self.inner;
        if !self.is_holding() {
            return Ok(());
        }
        // Held while a family is made, too: one that is made meanwhile would keep the options of
        // before.
        let mut sizes = inner.sizes.lock();
        if !inner.is_holding.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        sizes::bound_memtables(&inner.memtables, sizes.memtables);
        let settled = self
            .set_memtables(sizes.write_buffer)
            .and_then(|()| engine::set_log_size(&inner.db, sizes.log));
        if settled.is_err() {
            // Others than it is asked to have, so that `resize` sets them.
            sizes.write_buffer = sizes.write_buffer.saturating_add(1);
            sizes.log = sizes.log.saturating_add(1);
        }
        settled
    }

    /// Writes all memtables to tables, and waits for that. What is in tables cannot be cut off any
    /// more, so this is refused until the history here is known to be the right one
    /// ([`Store::settle`]).
    ///
    /// # Errors
    /// [`Error::Unsettled`], I/O errors.
    pub fn flush(&self) -> Result<(), Error> {
        if self.is_holding() {
            return Err(Error::Unsettled);
        }
        for family in self.families() {
            self.inner
                .db
                .flush_cf(&self.cf(family)?)
                .map_err(|error| Error::engine("flush memtables", error))?;
        }
        Ok(())
    }

    /// Gives the memory of the block cache, and of values that are kept beside it, back: but for
    /// what is in use just now.
    pub fn release_caches(&self) {
        cache::release(&self.inner.db);
        self.inner.hot.clear();
    }

    /// Removes archived log files as `wal_ttl_seconds` and `wal_size_limit_mb` say, oldest first,
    /// but none with a record that is not acknowledged, once epochs are in use and somebody says
    /// what is. Returns how many.
    ///
    /// # Errors
    /// I/O errors.
    pub fn purge_logs(&self) -> Result<usize, Error> {
        self.purge_logs_before(u64::MAX)
    }

    /// The same, but none with a record of this sequence or a later one.
    ///
    /// # Errors
    /// I/O errors.
    pub fn purge_logs_before(&self, sequence: u64) -> Result<usize, Error> {
        const ACTION: &str = "purge old log files";
        let inner = &*self.inner;
        let files =
            inner.db.get_sorted_wal_files().map_err(|error| Error::engine(ACTION, error))?;
        let mut all: Vec<(u64, u64, u64, bool)> = files
            .iter()
            .map(|file| {
                let is_archived = file.file_type() == WalFileType::ArchivedLogFile;
                (file.log_number(), file.start_sequence(), file.size_file_bytes(), is_archived)
            })
            .collect();
        all.sort_unstable();
        let keep_from = match self.acknowledged() {
            Some(acknowledged) if !self.history().is_empty() => acknowledged.saturating_add(1),
            _ => u64::MAX,
        };
        let keep_from = keep_from.min(sequence);
        let mut archived_bytes: u64 = all.iter().filter(|file| file.3).map(|file| file.2).sum();
        let ends = all.iter().skip(1).map(|next| Some(next.1)).chain([None]);
        let mut removed = 0;
        for ((number, _, bytes, is_archived), next) in all.iter().zip(ends) {
            let is_covered = next.is_some_and(|next| next > 0 && next <= keep_from);
            if !is_archived || !is_covered {
                break;
            }
            let path = inner.dir.join("archive").join(format!("{number:06}.log"));
            if !self.is_overdue(&path, archived_bytes) {
                break;
            }
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(ACTION, &error));
                }
                _ => removed += 1,
            }
            archived_bytes = archived_bytes.saturating_sub(*bytes);
        }
        Ok(removed)
    }

    fn is_overdue(&self, path: &std::path::Path, archived_bytes: u64) -> bool {
        let options = &self.inner.options;
        let (ttl, limit) = (options.wal_ttl_seconds, options.wal_size_limit_mb << 20);
        let age = std::fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|changed| SystemTime::now().duration_since(changed).ok());
        let is_old = age.is_some_and(|age| age.as_secs() >= ttl);
        let is_kept_for_a_time = ttl > 0 || limit == 0;
        (is_kept_for_a_time && is_old) || (limit > 0 && archived_bytes > limit)
    }
}
