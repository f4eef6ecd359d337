//! BITCOUNT and BITPOS.

use std::ops::RangeInclusive;

use super::{Bits, LOOKS_MAX, SEGMENT_BITS};
use crate::Read;
use crate::types::CommandError;

/// What the bounds of a [`Span`] count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// BYTE.
    #[default]
    Byte,
    /// BIT.
    Bit,
}

/// A part of a value, its last unit included; negative bounds count from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first one.
    pub start: i64,
    /// The last one; `None`: up to the end.
    pub end: Option<i64>,
    /// What is counted.
    pub unit: Unit,
}

impl Span {
    /// Everything.
    pub const ALL: Self = Self { start: 0, end: None, unit: Unit::Byte };

    /// First and last bit, of a value of so many bytes; `None` if there are none.
    fn bits(self, len_bytes: u64) -> Option<(u64, u64)> {
        let width = if self.unit == Unit::Bit { 1 } else { 8 };
        let total = i64::try_from(len_bytes.checked_mul(8 / width)?).ok()?;
        let bound = |bound: i64| if bound < 0 { bound.saturating_add(total).max(0) } else { bound };
        let (start, end) = (bound(self.start), self.end.map_or(total - 1, bound).min(total - 1));
        let (start, end) = (u64::try_from(start).ok()?, u64::try_from(end).ok()?);
        (start <= end).then(|| (start * width, end * width + (width - 1)))
    }

    /// Whether bounds are the wrong way round whatever the length.
    pub fn is_reversed(self) -> bool {
        self.end.is_some_and(|end| self.start < 0 && end < 0 && self.start > end)
    }
}

/// Which bits of a segment lie between two bits of the whole.
fn within(index: u64, (first, last): (u64, u64)) -> RangeInclusive<usize> {
    let base = index.saturating_mul(SEGMENT_BITS);
    let place = |bit: u64| bit.saturating_sub(base).min(SEGMENT_BITS - 1) as usize;
    place(first)..=place(last)
}

impl Bits<'_> {
    /// BITCOUNT: how many bits are 1.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn count(&self, read: &impl Read, span: Span) -> Result<u64, CommandError> {
        if span.is_reversed() {
            return Ok(0);
        }
        let Some(span) = span.bits(self.len_bytes()) else { return Ok(0) };
        let mut count = 0;
        self.for_each(read, span.0 / SEGMENT_BITS..span.1 / SEGMENT_BITS + 1, |index, segment| {
            count += ones(segment, within(index, span));
        })?;
        Ok(count)
    }

    /// BITPOS: where the first bit is that is 1, or 0. Where the part has no given end, zeros
    /// follow it.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn position(
        &self,
        read: &impl Read,
        is_one: bool,
        span: Span,
    ) -> Result<Option<u64>, CommandError> {
        let Some(bits) = span.bits(self.len_bytes()) else { return Ok(None) };
        let found = if is_one { self.first_one(read, bits)? } else { self.first_zero(read, bits)? };
        let behind = (!is_one && span.end.is_none()).then_some(bits.1 + 1);
        Ok(found.or(behind))
    }

    fn first_one(&self, read: &impl Read, bits: (u64, u64)) -> Result<Option<u64>, CommandError> {
        let (start, end) = (bits.0 / SEGMENT_BITS, bits.1 / SEGMENT_BITS + 1);
        let place = |index: u64, segment: &[u8]| {
            let found = first(segment, within(index, bits), true)?;
            Some(index * SEGMENT_BITS + found)
        };
        let near = end.min(start.saturating_add(LOOKS_MAX));
        for index in start..near {
            let segment = self.segment(read, index)?;
            if let Some(found) = segment.and_then(|segment| place(index, &segment)) {
                return Ok(Some(found));
            }
        }
        let mut least: Option<u64> = None;
        self.for_each(read, near..end, |index, segment| {
            if least.is_none_or(|least| index * SEGMENT_BITS < least) {
                least = place(index, segment).or(least);
            }
        })?;
        Ok(least)
    }

    /// Looks at one segment more than are full of ones.
    fn first_zero(&self, read: &impl Read, bits: (u64, u64)) -> Result<Option<u64>, CommandError> {
        for index in bits.0 / SEGMENT_BITS..bits.1 / SEGMENT_BITS + 1 {
            let segment = self.segment(read, index)?.unwrap_or_default();
            if let Some(found) = first(&segment, within(index, bits), false) {
                return Ok(Some(index * SEGMENT_BITS + found));
            }
        }
        Ok(None)
    }
}

/// How many of some bits are 1.
fn ones(segment: &[u8], bits: RangeInclusive<usize>) -> u64 {
    let (first, last) = (bits.start() / 8, bits.end() / 8);
    let part = segment.get(first..segment.len().min(last + 1)).unwrap_or_default();
    let all: u64 = part.iter().map(|byte| u64::from(byte.count_ones())).sum();
    let before = part.first().map_or(0, |byte| byte & !(0xff_u8 >> (bits.start() % 8)));
    let behind = segment.get(last).map_or(0, |byte| byte & !(0xff_u8 << (7 - bits.end() % 8)));
    all.saturating_sub(u64::from(before.count_ones() + behind.count_ones()))
}

/// The first of some bits that is so; what lies behind the bytes is 0.
fn first(segment: &[u8], bits: RangeInclusive<usize>, is_one: bool) -> Option<u64> {
    let (start, end) = (*bits.start(), *bits.end());
    for place in start / 8..=end / 8 {
        let byte = segment.get(place).copied().unwrap_or(0);
        let mut wanted = if is_one { byte } else { !byte };
        if place == start / 8 {
            wanted &= 0xff >> (start % 8);
        }
        if place == end / 8 {
            wanted &= 0xff << (7 - end % 8);
        }
        if wanted != 0 {
            return Some(8 * place as u64 + u64::from(wanted.leading_zeros()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_a_segment_are_counted_and_found_between_bounds() {
        let bytes = [0b1010_0101, 0, 0xff];
        let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0);
        for start in 0..30 {
            for end in start..30 {
                let span = start..=end;
                let count = span.clone().filter(|at| bit(*at)).count() as u64;
                assert_eq!(ones(&bytes, span.clone()), count, "{span:?}");
                for is_one in [false, true] {
                    let found = span.clone().find(|at| bit(*at) == is_one).map(|at| at as u64);
                    assert_eq!(first(&bytes, span.clone(), is_one), found, "{span:?} {is_one}");
                }
            }
        }
    }

    #[test]
    fn bounds_are_cut_to_the_value() {
        let bits = |start, end, unit| Span { start, end: Some(end), unit }.bits(2);
        assert_eq!(bits(0, -1, Unit::Byte), Some((0, 15)));
        assert_eq!(bits(1, 100, Unit::Byte), Some((8, 15)));
        assert_eq!(bits(-100, -2, Unit::Byte), Some((0, 7)));
        assert_eq!(bits(-3, -1, Unit::Bit), Some((13, 15)));
        assert_eq!(bits(i64::MIN, i64::MAX, Unit::Bit), Some((0, 15)));
        assert_eq!(bits(2, 3, Unit::Byte), None);
        assert_eq!(bits(1, 0, Unit::Byte), None);
        assert_eq!(Span::ALL.bits(0), None);
        assert_eq!(Span::ALL.bits(u64::MAX), None);
    }
}
