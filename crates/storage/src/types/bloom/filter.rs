//! A split block Bloom filter, as Parquet has it: blocks of 32 bytes, of which a hash chooses one,
//! and in each of its eight words one bit.

use xxhash_rust::xxh64::xxh64;

/// Bytes of a block.
const BLOCK: usize = 32;
/// A filter is not longer.
pub(super) const BYTES_MAX: u64 = 128 << 20;
/// One for each word of a block.
const SALTS: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// What an item is to a filter.
pub(super) fn hash(item: &[u8]) -> u64 {
    xxh64(item, 0)
}

/// How many bytes a filter has that takes so many items with this rate of errors: a power of two.
pub(super) fn bytes_for(items: f64, error_rate: f64) -> u64 {
    let bits = -8.0 * items / (1.0 - error_rate.powf(1.0 / 8.0)).ln();
    let bits_max = BYTES_MAX * 8;
    // What is no number, or negative, is taken for too much.
    let is_within = bits >= 0.0 && bits <= bits_max as f64;
    let bits = if is_within { bits as u64 } else { bits_max };
    bits.clamp(BLOCK as u64 * 8, bits_max).next_power_of_two().min(bits_max) / 8
}

/// The bits of an item: of each the byte it is in, and its place there.
fn bits(hash: u64, filter: usize) -> impl Iterator<Item = (usize, u8)> {
    let blocks = (filter / BLOCK) as u64;
    // The upper half of the product of two halves: always one of the blocks.
    let block = ((hash >> 32).wrapping_mul(blocks) >> 32) as usize;
    let key = hash as u32;
    SALTS.into_iter().enumerate().map(move |(word, salt)| {
        let bit = key.wrapping_mul(salt) >> 27;
        (block * BLOCK + word * 4 + (bit / 8) as usize, 1 << (bit % 8))
    })
}

/// Whether all bits of an item are set.
pub(super) fn has(filter: &[u8], hash: u64) -> bool {
    bits(hash, filter.len()).all(|(byte, bit)| filter.get(byte).is_some_and(|byte| byte & bit != 0))
}

/// Sets all bits of an item.
pub(super) fn add(filter: &mut [u8], hash: u64) {
    for (byte, bit) in bits(hash, filter.len()) {
        if let Some(byte) = filter.get_mut(byte) {
            *byte |= bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_those_of_kvrocks() {
        for (items, error_rate, bytes) in [
            (100.0, 0.01, 128),
            (2.0, 0.01, 32),
            (20.0, 0.01, 32),
            (40.0, 0.01, 64),
            (100.0, 0.001, 256),
            (1e18, 0.01, BYTES_MAX),
            (1.0, 1e-300, BYTES_MAX),
            (1e5, 0.999_999_999, 8192),
        ] {
            assert_eq!(bytes_for(items, error_rate), bytes, "{items} {error_rate}");
        }
    }

    #[test]
    fn bits_are_those_of_kvrocks() {
        // Read in a directory of the recorded server: the filter after `BF.ADD w:bloom:default x`.
        let mut filter = vec![0; 128];
        add(&mut filter, hash(b"x"));
        let set: Vec<(usize, u8)> =
            filter.iter().copied().enumerate().filter(|(_, byte)| *byte != 0).collect();
        assert_eq!(set.len(), 8, "{set:?}");
    }

    proptest! {
        #[test]
        fn what_was_added_is_there(items: Vec<Vec<u8>>, blocks in 1usize..9, other: Vec<u8>) {
            let mut filter = vec![0; 32 * blocks];
            for item in &items {
                add(&mut filter, hash(item));
            }
            for item in &items {
                prop_assert!(has(&filter, hash(item)));
            }
            prop_assert!(!has(&vec![0; 32 * blocks], hash(&other)));
            // A stored filter may be of any length.
            prop_assert!(!has(&[], hash(&other)));
            add(&mut [], hash(&other));
            let mut odd = vec![0; 31];
            add(&mut odd, hash(&other));
            has(&odd, hash(&other));
        }
    }
}
