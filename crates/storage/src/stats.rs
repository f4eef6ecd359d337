//! Numbers about the engine for INFO and metrics.

pub(crate) mod counters;

use crate::{Error, Family, Options, Store};

pub use counters::Counters;

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
    /// How often its writes had to wait.
    pub stalls: Stalls,
}

/// How often writes of a family were slowed down or stopped since the database was opened, by
/// cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stalls {
    /// Files in level 0.
    pub l0_delays: u64,
    /// The same, stopped.
    pub l0_stops: u64,
    /// Of the delays, those while level 0 was being compacted.
    pub l0_delays_compacting: u64,
    /// Of the stops, those while level 0 was being compacted.
    pub l0_stops_compacting: u64,
    /// Bytes that compactions have to rewrite.
    pub compaction_delays: u64,
    /// The same, stopped.
    pub compaction_stops: u64,
    /// Memtables that wait for their flush.
    pub memtable_delays: u64,
    /// The same, stopped.
    pub memtable_stops: u64,
}

impl Stalls {
    /// From RocksDB's text, `name: number, name: number, …`.
    fn parse(text: &str) -> Self {
        let count = |name: &str| {
            let mut pairs = text.split([',', '\n']).filter_map(|pair| pair.rsplit_once(": "));
            let found = pairs.find(|(key, _)| key.rsplit(' ').next() == Some(name));
            found.and_then(|(_, number)| number.trim().parse().ok()).unwrap_or(0)
        };
        Self {
            l0_delays: count("l0-file-count-limit-delays"),
            l0_stops: count("l0-file-count-limit-stops"),
            l0_delays_compacting: count("cf-l0-file-count-limit-delays-with-ongoing-compaction"),
            l0_stops_compacting: count("cf-l0-file-count-limit-stops-with-ongoing-compaction"),
            compaction_delays: count("pending-compaction-bytes-delays"),
            compaction_stops: count("pending-compaction-bytes-stops"),
            memtable_delays: count("memtable-limit-delays"),
            memtable_stops: count("memtable-limit-stops"),
        }
    }
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
    /// Bytes of the memtables that are written to.
    pub active_memtable_bytes: u64,
    /// Families whose memtables are to be flushed.
    pub pending_flushes: u64,
    /// Families that are to be compacted.
    pub pending_compactions: u64,
    /// Sets of table files that are in use, of all families.
    pub live_versions: u64,
    /// Changes of such a set and its memtables, of all families.
    pub super_versions: u64,
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
    /// What RocksDB has done since the database was opened. Cheap.
    pub fn counters(&self) -> Counters {
        self.inner().meters.read()
    }

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
            active_memtable_bytes: self.sum("rocksdb.cur-size-active-mem-table")?,
            pending_flushes: self.sum("rocksdb.mem-table-flush-pending")?,
            pending_compactions: self.sum("rocksdb.compaction-pending")?,
            live_versions: self.sum("rocksdb.num-live-versions")?,
            super_versions: self.sum("rocksdb.current-super-version-number")?,
        };
        for family in self.families() {
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

    /// Whether RocksDB holds writes back until it has flushed or compacted. Unlike the rest this
    /// touches no file.
    ///
    /// # Errors
    /// If the number cannot be read.
    pub fn is_write_stopped(&self) -> Result<bool, Error> {
        Ok(self.number(Family::Default, "rocksdb.is-write-stopped")? != 0)
    }

    /// Whether writes that can wait had better: RocksDB slows writes down, or stops them, or level
    /// 0 of a family is at four fifths of the files with which it would. Touches no file.
    ///
    /// # Errors
    /// If a number cannot be read.
    pub fn is_pressed(&self) -> Result<bool, Error> {
        let slowed = self.number(Family::Default, "rocksdb.actual-delayed-write-rate")? > 0;
        if slowed || self.is_write_stopped()? {
            return Ok(true);
        }
        for family in self.families() {
            let files = self.number(family, "rocksdb.num-files-at-level0")?;
            if is_near_slowdown(files, &self.inner().options) {
                return Ok(true);
            }
        }
        Ok(false)
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
            stalls: Stalls::parse(&self.property(family, "rocksdb.cf-write-stall-stats")?),
        })
    }

    /// A numeric property; 0 where RocksDB does not have it.
    fn number(&self, family: Family, name: &str) -> Result<u64, Error> {
        Ok(self.property(family, name)?.parse().unwrap_or(0))
    }

    /// A numeric property of all families together.
    fn sum(&self, name: &str) -> Result<u64, Error> {
        self.families().map(|family| self.number(family, name)).sum()
    }

    /// A property as text; empty where RocksDB does not have it.
    fn property(&self, family: Family, name: &str) -> Result<String, Error> {
        let property = self
            .db()
            .property_value_cf(&self.cf(family)?, name)
            .map_err(|error| Error::engine("read a property", error))?;
        Ok(property.unwrap_or_default())
    }
}

/// So many files in level 0 are four fifths of those that slow writes down, and there is going to
/// be less of them: where none are compacted by themselves nobody can wait for that.
fn is_near_slowdown(files: u64, options: &Options) -> bool {
    let number = |trigger: i32| u64::try_from(trigger).unwrap_or(u64::MAX);
    let slowdown = number(options.level0_slowdown_writes_trigger);
    !options.disable_auto_compactions
        && files >= number(options.level0_file_num_compaction_trigger)
        && files.saturating_mul(5) >= slowdown.saturating_mul(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_wait_waits_before_writes_are_slowed_down() {
        let options = Options::default();
        assert_eq!((4, 20), {
            let slowdown = options.level0_slowdown_writes_trigger;
            (options.level0_file_num_compaction_trigger, slowdown)
        });
        assert!(!is_near_slowdown(15, &options) && is_near_slowdown(16, &options));
        let never = Options { disable_auto_compactions: true, ..Options::default() };
        assert!(!is_near_slowdown(16, &never), "it would wait for ever");
        let early = Options { level0_slowdown_writes_trigger: 2, ..Options::default() };
        assert!(!is_near_slowdown(3, &early) && is_near_slowdown(4, &early));
        let off = Options { level0_slowdown_writes_trigger: -1, ..Options::default() };
        assert!(!is_near_slowdown(1_000, &off));
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db"), Options::default()).unwrap();
        assert!(!store.is_pressed().unwrap());
    }

    #[test]
    fn stalls_are_read_by_their_full_names() {
        let text = "Write Stall (count): cf-l0-file-count-limit-delays-with-ongoing-compaction: 9, \
                    l0-file-count-limit-delays: 1, l0-file-count-limit-stops: 2, memtable-limit-delays: 3, \
                    memtable-limit-stops: 4, pending-compaction-bytes-delays: 5, \
                    pending-compaction-bytes-stops: 6, total-delays: 9, total-stops: 12\ninterval: 21 total count\n";
        let expected = Stalls {
            l0_delays: 1,
            l0_stops: 2,
            l0_delays_compacting: 9,
            l0_stops_compacting: 0,
            compaction_delays: 5,
            compaction_stops: 6,
            memtable_delays: 3,
            memtable_stops: 4,
        };
        assert_eq!(Stalls::parse(text), expected);
        let first = "Write Stall (count): l0-file-count-limit-delays: 7";
        assert_eq!(Stalls::parse(first).l0_delays, 7);
    }
}
