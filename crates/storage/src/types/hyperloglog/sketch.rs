//! The registers of a HyperLogLog, and what they estimate. Pure.
//!
//! An element's hash says which register it is for, and how many zeros follow: the register holds
//! the greatest number of them, and one more. The estimate is Otmar Ertl's (arXiv:1702.01284), as
//! in Redis and Kvrocks.

use crate::types::murmur;

/// Redis' seed.
const SEED: u64 = 0xadc8_3b19;
/// Bits of a hash that choose the register.
const CHOICE_BITS: u32 = 14;
/// The others.
const RANK_BITS: u32 = 64 - CHOICE_BITS;
/// Registers of all segments.
const ALL: usize = 1 << CHOICE_BITS;
/// Registers of one segment.
pub(super) const REGISTERS: usize = 1024;
/// Segments of a key.
pub(super) const SEGMENTS: usize = ALL / REGISTERS;
/// Bytes of one segment.
pub(super) const SEGMENT_BYTES: usize = REGISTERS * BITS / 8;
/// Bits of a register.
const BITS: usize = 6;
const MASK: u16 = (1 << BITS) - 1;

/// Which register an element is for, and what it wants there.
pub(super) fn place(element: &[u8]) -> (usize, u8) {
    let hash = murmur::hash(element, SEED);
    let rank = (hash >> CHOICE_BITS | 1 << RANK_BITS).trailing_zeros() + 1;
    ((hash & (ALL as u64 - 1)) as usize, rank as u8)
}

/// The two bytes that a register lies in, and its lowest bit there. A last register's second byte
/// is none of it.
fn pair(segment: &[u8; SEGMENT_BYTES], register: usize) -> (usize, u16, usize) {
    let (byte, shift) = (register * BITS / 8, register * BITS % 8);
    let at = |place: usize| u16::from(segment.get(place).copied().unwrap_or(0));
    (byte, at(byte) | at(byte + 1) << 8, shift)
}

/// The value of a register.
fn get(segment: &[u8; SEGMENT_BYTES], register: usize) -> u8 {
    let (_, bytes, shift) = pair(segment, register);
    (bytes >> shift & MASK) as u8
}

/// Gives a register this value if it has a smaller one. Returns whether.
pub(super) fn raise(segment: &mut [u8; SEGMENT_BYTES], register: usize, rank: u8) -> bool {
    if get(segment, register) >= rank {
        return false;
    }
    let (byte, bytes, shift) = pair(segment, register);
    let bytes = bytes & !(MASK << shift) | u16::from(rank) << shift;
    for (place, value) in (byte..).zip(bytes.to_le_bytes()) {
        if let Some(byte) = segment.get_mut(place) {
            *byte = value;
        }
    }
    true
}

/// All registers, a byte each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registers(Vec<u8>);

impl Default for Registers {
    fn default() -> Self {
        Self(vec![0; ALL])
    }
}

impl Registers {
    /// Takes the greater values of a stored segment.
    pub(super) fn merge(&mut self, number: usize, segment: &[u8; SEGMENT_BYTES]) {
        let own = self.0.iter_mut().skip(number * REGISTERS).take(REGISTERS);
        for (register, value) in own.enumerate() {
            *value = (*value).max(get(segment, register));
        }
    }

    /// The registers of a segment.
    pub(super) fn segment(&self, number: usize) -> &[u8] {
        self.0.get(number * REGISTERS..(number + 1) * REGISTERS).unwrap_or_default()
    }

    /// A segment as it is stored.
    pub(super) fn packed(&self, number: usize) -> [u8; SEGMENT_BYTES] {
        let mut packed = [0; SEGMENT_BYTES];
        for (register, value) in self.segment(number).iter().enumerate() {
            raise(&mut packed, register, *value);
        }
        packed
    }

    /// About how many elements there are.
    pub(super) fn estimate(&self) -> u64 {
        const ALPHA: f64 = 0.721_347_520_444_481_7;
        let mut counts = [0_u32; 64];
        for value in &self.0 {
            if let Some(count) = counts.get_mut(usize::from(*value)) {
                *count += 1;
            }
        }
        let count = |value: u32| f64::from(counts.get(value as usize).copied().unwrap_or(0));
        let all = ALL as f64;
        let mut z = all * tau((all - count(RANK_BITS + 1)) / all);
        for value in (1..=RANK_BITS).rev() {
            z = (z + count(value)) * 0.5;
        }
        z += all * sigma(count(0) / all);
        (ALPHA * all * all / z).round() as u64
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn estimates_are_near_and_end_for_any_registers() {
        for wanted in [0_u64, 1, 2, 10, 100, 1_000, 10_000, 100_000] {
            let mut registers = Registers::default();
            for number in 0..wanted {
                let (register, rank) = place(format!("e{number}").as_bytes());
                registers.0[register] = registers.0[register].max(rank);
            }
            let found = registers.estimate();
            assert!(found.abs_diff(wanted) * 50 <= wanted, "{found} of {wanted}");
        }
        for value in 0..64 {
            Registers(vec![value; ALL]).estimate();
        }
    }

    proptest! {
        #[test]
        fn registers_are_packed_and_come_back(values in proptest::collection::vec(0..64_u8, REGISTERS)) {
            let mut registers = Registers::default();
            registers.0[REGISTERS..2 * REGISTERS].copy_from_slice(&values);
            let packed = registers.packed(1);
            let mut back = Registers::default();
            back.merge(1, &packed);
            prop_assert_eq!(back, registers);
        }

        #[test]
        fn a_register_only_rises_and_leaves_the_others(
            mut segment in proptest::collection::vec(any::<u8>(), SEGMENT_BYTES),
            register in 0..REGISTERS,
            rank in 1..64_u8,
        ) {
            let bytes: &mut [u8; SEGMENT_BYTES] = segment.as_mut_slice().try_into().unwrap();
            let before = *bytes;
            let old = get(&before, register);
            prop_assert_eq!(raise(bytes, register, rank), rank > old);
            for other in 0..REGISTERS {
                let wanted = if other == register { old.max(rank) } else { get(&before, other) };
                prop_assert_eq!(get(bytes, other), wanted);
            }
        }
    }
}
