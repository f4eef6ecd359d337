//! What an item is to a cuckoo filter, and how many buckets a filter has. Pure.
//!
//! An item is a fingerprint of one byte, in one of two buckets: each is known from the other one
//! and the fingerprint, so that a fingerprint can be moved without its item. As in RedisBloom and
//! Kvrocks.

use crate::types::murmur;

/// A slot of a bucket that holds nothing.
pub(super) const EMPTY: u8 = 0;
/// A filter has no more buckets.
const BUCKETS_MAX: u128 = 1 << 31;
/// Of 1,000 slots so many are used by as many items as a filter is made for.
const LOAD: u128 = 955;

/// What is kept of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Its bucket, before it is cut to the number of buckets.
    pub(super) bucket: u64,
    /// Never [`EMPTY`].
    pub(super) fingerprint: u8,
}

impl Mark {
    /// That of an item.
    pub(super) fn of(item: &[u8]) -> Self {
        let hash = murmur::hash(item, 0);
        Self { bucket: hash, fingerprint: (hash % 255) as u8 + 1 }
    }

    /// The same fingerprint in its other bucket.
    pub(super) fn moved(self) -> Self {
        let distance = u64::from(self.fingerprint).wrapping_mul(0x5bd1_e995);
        Self { bucket: self.bucket ^ distance, ..self }
    }

    /// The bucket it is in, of so many: a power of two.
    pub(super) fn within(self, buckets: u32) -> u32 {
        (self.bucket & u64::from(buckets.saturating_sub(1))) as u32
    }

    /// The buckets it may be in, once each.
    pub(super) fn both(self, buckets: u32) -> impl Iterator<Item = u32> {
        let (one, other) = (self.within(buckets), self.moved().within(buckets));
        [Some(one), Some(other).filter(|other| *other != one)].into_iter().flatten()
    }
}

/// How many buckets of so many slots a filter for so many items has: a power of two. `None`: more
/// than a filter may have.
pub(super) fn buckets_for(items: u64, slots: u8) -> Option<u32> {
    let per_bucket = u128::from(slots.max(1)).saturating_mul(LOAD);
    let needed = u128::from(items).saturating_mul(1000).div_ceil(per_bucket);
    let buckets = needed.max(1).next_power_of_two();
    if buckets > BUCKETS_MAX { None } else { u32::try_from(buckets).ok() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The numbers are those of Kvrocks' own tests.
    #[test]
    fn sizes_are_those_of_kvrocks() {
        for (items, slots, buckets) in [
            (0, 4, 1),
            (1, 4, 1),
            (2, 1, 4),
            (4, 4, 2),
            (488, 4, 128),
            (489, 4, 256),
            (977, 4, 256),
            (978, 4, 512),
            (1000, 4, 512),
            (1024, 4, 512),
            (1000, 1, 2048),
            (1000, 16, 128),
            (191, 25, 8),
        ] {
            assert_eq!(buckets_for(items, slots), Some(buckets), "{items} {slots}");
        }
        assert_eq!(buckets_for(u64::MAX, 255), None);
        let most = 2_050_846_883;
        assert_eq!(buckets_for(most, 1), Some(1 << 31));
        assert_eq!(buckets_for(most + 1, 1), None);
    }

    #[test]
    fn items_are_marked_as_in_kvrocks() {
        assert_eq!(Mark::of(b""), Mark { bucket: 0, fingerprint: 1 });
        assert_eq!(Mark::of(b"item1"), Mark { bucket: 0x7930_a108_c52a_9032, fingerprint: 7 });
        assert_eq!(Mark::of(b"hello").fingerprint, 159);
    }

    proptest! {
        #[test]
        fn a_mark_finds_its_way_back(item: Vec<u8>, power in 0..32_u32) {
            let (mark, buckets) = (Mark::of(&item), 1_u32 << power);
            prop_assert!(mark.fingerprint != EMPTY);
            prop_assert_eq!(mark.moved().moved(), mark);
            // Known from its bucket alone, whichever it is in.
            let here = Mark { bucket: u64::from(mark.within(buckets)), ..mark };
            prop_assert_eq!(here.moved().within(buckets), mark.moved().within(buckets));
            prop_assert!(mark.both(buckets).all(|bucket| bucket < buckets));
        }
    }
}
