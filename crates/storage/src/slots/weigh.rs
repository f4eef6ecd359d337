//! How many bytes slots take, without reading them: by what RocksDB knows of its files and
//! memtables.

use rocksdb::{Range, SizeApproximationFlags};

use super::layout::{STAGES, bounds};
use crate::{Error, Store};

impl Store {
    /// About how many bytes the records of each slot from `first` to `last` take, in this order: in
    /// files as they are compressed there, with what was overwritten or deleted and is not
    /// compacted away yet, and in memtables, of which only the number of entries is looked at.
    /// Files are known to a block. The indexes of files may be read, and no data: for all slots
    /// that may take some tenths of a second.
    ///
    /// # Errors
    /// I/O errors.
    pub fn weigh(&self, first: u16, last: u16) -> Result<Vec<u64>, Error> {
        let keys: Vec<_> = (first..=last).map(bounds).collect();
        let ranges: Vec<Range<'_>> =
            keys.iter().map(|(lower, upper)| Range::new(lower, upper)).collect();
        let what = SizeApproximationFlags::INCLUDE_MEMTABLE
            | SizeApproximationFlags::INCLUDE_FILES
            | SizeApproximationFlags::INCLUDE_BLOB_FILES;
        let mut all = vec![0_u64; ranges.len()];
        for family in STAGES {
            let sizes = self
                .db()
                .get_approximate_sizes_cf_with_flags(&self.cf(family)?, what, &ranges)
                .map_err(|error| Error::engine("weigh slots", error))?;
            for (sum, bytes) in all.iter_mut().zip(sizes) {
                *sum = sum.saturating_add(bytes);
            }
        }
        Ok(all)
    }
}
