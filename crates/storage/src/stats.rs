//! Numbers about the engine for INFO and metrics.

use crate::{Error, Family, Store};

/// State of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyStats {
    /// Which.
    pub family: Family,
    /// RocksDB's estimate of its number of keys.
    pub estimate_keys: u64,
    /// Bytes of all memtables.
    pub memtable_bytes: u64,
    /// Memtables waiting for their flush.
    pub immutable_memtables: u64,
    /// Bytes of its table files, obsolete ones that are still open included.
    pub table_bytes: u64,
    /// Bytes of its living table files.
    pub live_table_bytes: u64,
    /// Bytes of its blob files.
    pub blob_bytes: u64,
    /// Table files per level.
    pub files_per_level: [u64; 7],
    /// Estimate of the bytes compactions have to rewrite.
    pub pending_compaction_bytes: u64,
    /// Memory of table readers outside the block cache.
    pub table_reader_bytes: u64,
}

/// State of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Newest sequence number.
    pub latest_sequence: u64,
    /// Published sequence number.
    pub published: u64,
    /// Per family, in the order of their ids.
    pub families: Vec<FamilyStats>,
    /// Bytes of live WAL files.
    pub wal_bytes: u64,
    /// Bytes of archived WAL files.
    pub archived_wal_bytes: u64,
    /// Sequence of the oldest batch in any WAL file; `None` without a finished one.
    pub oldest_wal_sequence: Option<u64>,
    /// Bytes in the block cache.
    pub block_cache_bytes: u64,
    /// Bytes of it that are in use right now.
    pub block_cache_pinned_bytes: u64,
    /// Its capacity.
    pub block_cache_capacity: u64,
    /// Errors of flush and compaction since the start.
    pub background_errors: u64,
    /// Compactions running.
    pub running_compactions: u64,
    /// Flushes running.
    pub running_flushes: u64,
    /// Writes are stopped by RocksDB.
    pub is_write_stopped: bool,
    /// Bytes per second writes are slowed down to; 0 if they are not.
    pub delayed_write_rate: u64,
    /// Open snapshots.
    pub snapshots: u64,
}

impl Stats {
    /// Bytes on disk: tables, blobs, WAL.
    pub fn disk_bytes(&self) -> u64 {
        let files: u64 = self.families.iter().map(|f| f.table_bytes + f.blob_bytes).sum();
        files + self.wal_bytes + self.archived_wal_bytes
    }

    /// Bytes of all memtables.
    pub fn memtable_bytes(&self) -> u64 {
        self.families.iter().map(|f| f.memtable_bytes).sum()
    }
}

impl Store {
    /// Collects all numbers. Some milliseconds with many files: not for every command.
    ///
    /// # Errors
    /// I/O errors while listing WAL files.
    pub fn stats(&self) -> Result<Stats, Error> {
        let inner = self.inner();
        let mut stats = Stats {
            latest_sequence: self.latest_sequence(),
            published: self.published(),
            families: Vec::with_capacity(Family::ALL.len()),
            wal_bytes: 0,
            archived_wal_bytes: 0,
            oldest_wal_sequence: None,
            block_cache_bytes: inner.cache.get_usage() as u64,
            block_cache_pinned_bytes: inner.cache.get_pinned_usage() as u64,
            block_cache_capacity: inner.cache.get_capacity() as u64,
            background_errors: self.number(Family::Default, "rocksdb.background-errors")?,
            running_compactions: self.number(Family::Default, "rocksdb.num-running-compactions")?,
            running_flushes: self.number(Family::Default, "rocksdb.num-running-flushes")?,
            is_write_stopped: self.is_write_stopped()?,
            delayed_write_rate: self
                .number(Family::Default, "rocksdb.actual-delayed-write-rate")?,
            snapshots: self.number(Family::Default, "rocksdb.num-snapshots")?,
        };
        for family in Family::ALL {
            stats.families.push(self.family_stats(family)?);
        }
        let files = self
            .db()
            .get_sorted_wal_files()
            .map_err(|error| Error::engine("list log files", error))?;
        for file in files.iter() {
            match file.file_type() {
                rocksdb::WalFileType::ArchivedLogFile => {
                    stats.archived_wal_bytes += file.size_file_bytes()
                }
                _ => stats.wal_bytes += file.size_file_bytes(),
            }
            let start = Some(file.start_sequence()).filter(|start| *start != 0);
            stats.oldest_wal_sequence = stats.oldest_wal_sequence.or(start);
        }
        Ok(stats)
    }

    /// Whether RocksDB holds writes back until it has flushed or compacted. Unlike the rest this touches no file.
    ///
    /// # Errors
    /// If the number cannot be read.
    pub fn is_write_stopped(&self) -> Result<bool, Error> {
        Ok(self.number(Family::Default, "rocksdb.is-write-stopped")? != 0)
    }

    fn family_stats(&self, family: Family) -> Result<FamilyStats, Error> {
        let number = |name| self.number(family, name);
        let mut files_per_level = [0; 7];
        for (level, files) in files_per_level.iter_mut().enumerate() {
            *files = self.number(family, &format!("rocksdb.num-files-at-level{level}"))?;
        }
        Ok(FamilyStats {
            family,
            estimate_keys: number("rocksdb.estimate-num-keys")?,
            memtable_bytes: number("rocksdb.size-all-mem-tables")?,
            immutable_memtables: number("rocksdb.num-immutable-mem-table")?,
            table_bytes: number("rocksdb.total-sst-files-size")?,
            live_table_bytes: number("rocksdb.live-sst-files-size")?,
            blob_bytes: number("rocksdb.total-blob-file-size")?,
            files_per_level,
            pending_compaction_bytes: number("rocksdb.estimate-pending-compaction-bytes")?,
            table_reader_bytes: number("rocksdb.estimate-table-readers-mem")?,
        })
    }

    /// A numeric property; 0 where RocksDB does not have it.
    fn number(&self, family: Family, name: &str) -> Result<u64, Error> {
        let property = self
            .db()
            .property_value_cf(self.cf(family)?, name)
            .map_err(|error| Error::engine("read a property", error))?;
        Ok(property.and_then(|text| text.parse().ok()).unwrap_or(0))
    }
}
