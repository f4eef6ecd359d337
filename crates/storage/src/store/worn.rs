//! Tables that are full of deletions, compacted before RocksDB would by itself.
//!
//! RocksDB is told of them, and compacts them in threads of its own when it comes to that: nobody
//! waits for it, and nothing is flushed for it, so that what is in memory alone stays within a
//! rewind's reach. Tables of the last level are left alone: deletions go when they get there.

use std::path::Path;
use std::time::Duration;

use rocksdb::LiveFile;

use crate::{Error, Store};

/// Which tables are worn, as Kvrocks' compaction checker has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worn {
    /// Tables older than that are,
    pub age: Duration,
    /// if of a hundred records so many are deletions.
    pub per_cent: u32,
}

/// Younger tables are left alone.
const YOUNG: Duration = Duration::from_secs(3_600);
/// Of the other ones the worst is worn, if so many of a hundred records are deletions.
const PER_CENT_OF_WORST: u32 = 10;
/// One of so many tables is compacted at a time, one at least.
const TABLES: usize = 360;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Table {
    age: Duration,
    records: u64,
    deletions: u64,
}

impl Table {
    /// In this folder. A table whose age is not known counts as young.
    fn of(file: &LiveFile, dir: &Path) -> Self {
        let path = dir.join(file.name.trim_start_matches('/'));
        let made = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let age = made.and_then(|made| made.elapsed().ok()).unwrap_or_default();
        Self { age, records: file.num_entries, deletions: file.num_deletions }
    }

    /// Whether at least so many of a hundred records are deletions.
    fn has(&self, per_cent: u32) -> bool {
        let wanted = u128::from(self.records) * u128::from(per_cent);
        self.deletions > 0 && u128::from(self.deletions) * 100 >= wanted
    }

    fn is_worn(&self, worn: Worn) -> bool {
        self.age > worn.age && self.has(worn.per_cent)
    }
}

/// Which of these are compacted now, of a family of `count` tables.
fn chosen(tables: &[Table], count: usize, worn: Worn) -> Vec<usize> {
    let most = (count / TABLES).max(1);
    let of_age = tables.iter().enumerate().filter(|(_, table)| table.is_worn(worn));
    let mut chosen: Vec<usize> = of_age.map(|(index, _)| index).take(most).collect();
    if chosen.len() < most {
        let others = tables.iter().enumerate().filter(|(_, table)| {
            !table.is_worn(worn) && table.age >= YOUNG && table.has(PER_CENT_OF_WORST)
        });
        let worst = others.max_by(|(_, a), (_, b)| {
            let share =
                |one: &Table, other: &Table| u128::from(one.deletions) * u128::from(other.records);
            share(a, b).cmp(&share(b, a))
        });
        chosen.extend(worst.map(|(index, _)| index));
    }
    chosen
}

impl Store {
    /// Has RocksDB compact worn tables, one of each family at least; returns of how many it was
    /// told. None while the log is held, and where it compacts nothing by itself. Looks at the
    /// folder.
    ///
    /// # Errors
    /// Those of RocksDB.
    pub fn compact_worn(&self, worn: Worn) -> Result<usize, Error> {
        if self.is_holding() || self.inner.options.disable_auto_compactions {
            return Ok(0);
        }
        let failed = |error| Error::engine("look for worn tables", error);
        let files = self.inner.db.live_files().map_err(failed)?;
        let mut told = 0;
        for family in self.families() {
            let is_own = |file: &&LiveFile| file.column_family_name == family.name();
            let own: Vec<&LiveFile> = files.iter().filter(is_own).collect();
            let last = own.iter().map(|file| file.level).max();
            let is_above = |file: &&LiveFile| Some(file.level) < last;
            let above: Vec<&LiveFile> = own.iter().copied().filter(is_above).collect();
            let tables: Vec<Table> =
                above.iter().map(|file| Table::of(file, &self.inner.dir)).collect();
            for index in chosen(&tables, own.len(), worn) {
                let Some(file) = above.get(index) else { continue };
                let (lower, upper) = (file.start_key.as_deref(), file.end_key.as_deref());
                let cf = self.cf(family)?;
                self.inner.db.suggest_compact_range_cf(&cf, lower, upper).map_err(failed)?;
                told += 1;
            }
        }
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::time::{Instant, SystemTime};

    use super::*;
    use crate::{DEFAULT_NAMESPACE, Family, Options, Scope};

    const DAY: Duration = Duration::from_secs(86_400);
    const WORN: Worn = Worn { age: Duration::from_secs(2 * 86_400), per_cent: 20 };

    fn table(age: Duration, records: u64, deletions: u64) -> Table {
        Table { age, records, deletions }
    }

    #[test]
    fn old_tables_come_first_and_else_the_worst_of_those_that_are_not_young() {
        let old = table(3 * DAY, 100, 20);
        let worse = table(DAY, 1_000, 300);
        let bad = table(DAY, 100, 29);
        let young = table(YOUNG / 2, 100, 100);
        let first = |tables: &[Table]| chosen(tables, tables.len(), WORN);
        assert_eq!(first(&[bad, old, worse, young]), [1]);
        assert_eq!(first(&[bad, worse, young]), [1]);
        assert_eq!(first(&[worse, bad]), [0]);
        assert_eq!(first(&[young, table(DAY, 100, 9), table(9 * DAY, 100, 0)]), [0; 0]);
        // An old one with fewer deletions is as the others are.
        assert_eq!(first(&[table(3 * DAY, 100, 19), young]), [0]);
        assert_eq!(first(&[table(DAY, 0, 0)]), [0; 0]);
    }

    #[test]
    fn many_tables_have_several_at_a_time() {
        let tables = [table(3 * DAY, 10, 9), table(DAY, 10, 3), table(3 * DAY, 10, 2)];
        assert_eq!(chosen(&tables, 719, WORN), [0]);
        assert_eq!(chosen(&tables, 720, WORN), [0, 2]);
        assert_eq!(chosen(&tables, 1_080, WORN), [0, 2, 1]);
    }

    /// As if all tables had been made so long ago.
    fn make_older(dir: &Path, age: Duration) {
        let made = SystemTime::now() - age;
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "sst") {
                std::fs::File::open(entry.path()).unwrap().set_modified(made).unwrap();
            }
        }
    }

    #[test]
    fn deletions_above_what_they_delete_are_compacted_away() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { block_cache_size: 8 << 20, ..Options::default() };
        let store = Store::open(dir.path(), options).unwrap();
        let scope = Scope { namespace: DEFAULT_NAMESPACE, cluster: false, now_ms: 0 };
        let write = |put: Range<u32>, deleted: Range<u32>| {
            let mut txn = store.txn();
            for key in put {
                let key = scope.ns_key(&key.to_be_bytes());
                txn.put(Family::Metadata, &key, b"\x81\0\0\0\0\0\0\0\0value");
            }
            for key in deleted {
                txn.delete(Family::Metadata, &scope.ns_key(&key.to_be_bytes()));
            }
            txn.commit().unwrap();
            store.flush().unwrap();
        };
        // How many, and deletions in them.
        let tables = || {
            let mut files = store.db().live_files().unwrap();
            files.retain(|file| file.column_family_name == Family::Metadata.name());
            (files.len(), files.iter().map(|file| file.num_deletions).sum::<u64>())
        };
        write(0..100, 0..0);
        store.compact(&[], &[]).unwrap();
        make_older(dir.path(), 3 * DAY);
        assert_eq!((store.compact_worn(WORN).unwrap(), tables()), (0, (1, 0)));
        // A table of which three of ten records are deletions RocksDB would compact by itself.
        write(100..175, 0..25);
        assert_eq!((store.compact_worn(WORN).unwrap(), tables()), (0, (2, 25)), "it is young");
        make_older(dir.path(), 3 * DAY);
        assert_eq!(store.compact_worn(WORN).unwrap(), 1);
        let begun = Instant::now();
        while tables() != (1, 0) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", tables());
            std::thread::yield_now();
        }
    }
}
