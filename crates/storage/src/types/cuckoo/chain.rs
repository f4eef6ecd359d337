//! How a chain is laid out: the numbers it was made with, and what its filters come to by them.

use super::filter::buckets_for;
use crate::types::CommandError;
use crate::types::object::Tail;

/// Bytes of a page of a new chain, at the most.
const PAGE_BYTES: u32 = 2048;
/// Nobody makes larger ones.
const PAGE_BYTES_MAX: u32 = 1 << 20;

/// How a chain was made, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Filters there are.
    pub filters: u16,
    /// How many times more items each next one takes; 0: there is no next one.
    pub expansion: u16,
    /// Items the first one is made for.
    pub capacity: u64,
    /// Fingerprints of a bucket.
    pub bucket_size: u8,
    /// How often fingerprints are moved for one item.
    pub iterations: u16,
    /// Items that were deleted since the chain was last looked through for a filter to give up.
    pub deleted: u64,
    /// Bytes of a page, at the most.
    pub(super) page_bytes: u32,
}

impl Tail for Chain {
    fn fresh() -> Self {
        Self::new(&Shape::default())
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (filters, rest) = bytes.split_first_chunk::<2>()?;
        let (expansion, rest) = rest.split_first_chunk::<2>()?;
        let (capacity, rest) = rest.split_first_chunk::<8>()?;
        let (&bucket_size, rest) = rest.split_first()?;
        let (iterations, rest) = rest.split_first_chunk::<2>()?;
        let (deleted, rest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            filters: u16::from_be_bytes(*filters),
            expansion: u16::from_be_bytes(*expansion),
            capacity: u64::from_be_bytes(*capacity),
            bucket_size,
            iterations: u16::from_be_bytes(*iterations),
            deleted: u64::from_be_bytes(*deleted),
            page_bytes: u32::from_be_bytes(rest.try_into().ok()?),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.filters.to_be_bytes());
        out.extend_from_slice(&self.expansion.to_be_bytes());
        out.extend_from_slice(&self.capacity.to_be_bytes());
        out.push(self.bucket_size);
        out.extend_from_slice(&self.iterations.to_be_bytes());
        out.extend_from_slice(&self.deleted.to_be_bytes());
        out.extend_from_slice(&self.page_bytes.to_be_bytes());
    }
}

/// How a chain is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Items the first filter is made for, at least 2.
    pub capacity: u64,
    /// Fingerprints of a bucket, at least 1.
    pub bucket_size: u8,
    /// See [`Chain::iterations`], at least 1.
    pub iterations: u16,
    /// See [`Chain::expansion`], at most 32,768; becomes a power of two.
    pub expansion: u16,
}

impl Default for Shape {
    fn default() -> Self {
        Self { capacity: 1024, bucket_size: 2, iterations: 20, expansion: 1 }
    }
}

impl Shape {
    /// Whether a filter has buckets enough.
    pub fn is_possible(&self) -> bool {
        buckets_for(self.capacity, self.bucket_size).is_some()
    }
}

/// The buckets of one filter of a chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slots {
    pub(super) filter: u16,
    /// A power of two.
    pub(super) buckets: u32,
    pub(super) per_bucket: usize,
    pub(super) per_page: u32,
}

impl Slots {
    pub(super) fn pages(&self) -> u32 {
        self.buckets.div_ceil(self.per_page)
    }

    /// Bytes of a page; the last one may be shorter.
    pub(super) fn page_bytes(&self, page: u32) -> usize {
        let first = page.saturating_mul(self.per_page);
        let buckets = self.buckets.saturating_sub(first).min(self.per_page);
        (buckets as usize).saturating_mul(self.per_bucket)
    }
}

impl Chain {
    pub(super) fn new(shape: &Shape) -> Self {
        Self {
            filters: 1,
            // No more than 32,768 is asked for.
            expansion: match shape.expansion {
                0 => 0,
                expansion => expansion.checked_next_power_of_two().unwrap_or(1 << 15),
            },
            capacity: shape.capacity,
            bucket_size: shape.bucket_size,
            iterations: shape.iterations,
            deleted: 0,
            page_bytes: PAGE_BYTES,
        }
    }

    /// Whether these can be numbers of a chain.
    pub(super) fn check(&self) -> Result<(), CommandError> {
        let has_all =
            self.filters > 0 && self.capacity > 0 && self.bucket_size > 0 && self.iterations > 0;
        let pages = u32::from(self.bucket_size)..=PAGE_BYTES_MAX;
        if has_all && pages.contains(&self.page_bytes) {
            return Ok(());
        }
        Err(CommandError::corrupt("a chain of cuckoo filters has impossible numbers"))
    }

    /// The buckets of one of its filters, which may be the one behind the last; `None`: it cannot
    /// have as many.
    pub(super) fn layout(&self, filter: u16) -> Option<Slots> {
        let growth = u64::from(self.expansion).checked_pow(u32::from(filter))?;
        let buckets = buckets_for(self.capacity.checked_mul(growth)?, self.bucket_size)?;
        let per_page = self.page_bytes.checked_div(u32::from(self.bucket_size))?.max(1);
        Some(Slots { filter, buckets, per_bucket: usize::from(self.bucket_size), per_page })
    }

    pub(super) fn slots(&self, filter: u16) -> Result<Slots, CommandError> {
        let slots = self.layout(filter);
        slots.ok_or_else(|| CommandError::corrupt("a chain of cuckoo filters is too long"))
    }

    /// Buckets of the first filter.
    ///
    /// # Errors
    /// The numbers of the chain are impossible.
    pub fn buckets(&self) -> Result<u32, CommandError> {
        Ok(self.slots(0)?.buckets)
    }

    /// Bytes of all filters, once each of their pages is there.
    ///
    /// # Errors
    /// The numbers of the chain are impossible.
    pub fn bytes(&self) -> Result<u64, CommandError> {
        let mut bytes = 0_u64;
        for filter in 0..self.filters {
            let slots = self.slots(filter)?;
            let all = u64::from(slots.buckets).saturating_mul(slots.per_bucket as u64);
            bytes = bytes.saturating_add(all);
        }
        Ok(bytes)
    }
}
