//! What a rule knows of a bucket that is not over: enough to say its value without its samples.
//! Pure.

use super::bucket::Aggregator;
use super::chunk::Sample;
use crate::types::score;

/// Numbers that stand for samples: which ones depends on what is asked of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Gathered {
    whole: Vec<u64>,
    numbers: Vec<f64>,
}

impl Gathered {
    /// Those of no sample.
    pub(super) fn none(aggregator: Aggregator) -> Self {
        let (whole, numbers) = match aggregator {
            Aggregator::Sum | Aggregator::Count => (vec![], vec![0.0]),
            Aggregator::Min | Aggregator::Max => (vec![], vec![f64::NAN]),
            Aggregator::First => (vec![u64::MAX], vec![f64::NAN]),
            Aggregator::Last => (vec![0], vec![f64::NAN]),
            Aggregator::Avg => (vec![0], vec![0.0]),
            Aggregator::Range => (vec![], vec![f64::NAN; 2]),
            Aggregator::StdP | Aggregator::StdS | Aggregator::VarP | Aggregator::VarS => {
                (vec![0], vec![0.0; 2])
            }
        };
        Self { whole, numbers }
    }

    /// `None` if the bytes are none, or not those of this aggregator.
    pub(super) fn read(aggregator: Aggregator, bytes: &[u8]) -> Option<Self> {
        let ([whole, numbers], rest) = bytes.split_first_chunk::<2>()?;
        let (words, odd) = rest.as_chunks::<8>();
        let (first, second) = words.split_at_checked(usize::from(*whole))?;
        let found = Self {
            whole: first.iter().map(|word| u64::from_be_bytes(*word)).collect(),
            numbers: second.iter().map(|word| score::decode(*word)).collect(),
        };
        let expected = Self::none(aggregator);
        let is_whole = odd.is_empty() && second.len() == usize::from(*numbers);
        let fits = found.whole.len() == expected.whole.len()
            && found.numbers.len() == expected.numbers.len();
        Some(found).filter(|_| is_whole && fits)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.whole.len() as u8, self.numbers.len() as u8]);
        self.whole.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
        self.numbers.iter().for_each(|number| out.extend_from_slice(&score::encode(*number)));
    }

    /// Whether it stands for no sample.
    pub(super) fn is_none(&self, aggregator: Aggregator) -> bool {
        let bytes = |gathered: &Self| {
            let mut bytes = Vec::new();
            gathered.write(&mut bytes);
            bytes
        };
        bytes(self) == bytes(&Self::none(aggregator))
    }

    /// With samples more, in the order of their times.
    pub(super) fn take(&mut self, aggregator: Aggregator, samples: &[Sample]) {
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return };
        let values = || samples.iter().map(|sample| sample.value);
        // From 0 on: what is empty sums up to -0 otherwise.
        let sum = values().fold(0.0, |sum, value| sum + value);
        let squares = values().fold(0.0, |sum, value| sum + value * value);
        let min = values().fold(first.value, |min, value| if value < min { value } else { min });
        let max = values().fold(first.value, |max, value| if value > max { value } else { max });
        let count = samples.len() as u64;
        let (whole, numbers) = (self.whole.as_mut_slice(), self.numbers.as_mut_slice());
        match (aggregator, whole, numbers) {
            (Aggregator::Sum, _, [all]) => *all += sum,
            (Aggregator::Count, _, [all]) => *all += count as f64,
            (Aggregator::Min, _, [least]) => *least = least.min(min),
            (Aggregator::Max, _, [most]) => *most = most.max(max),
            (Aggregator::First, [at], [value]) if value.is_nan() || first.at < *at => {
                (*at, *value) = (first.at, first.value);
            }
            (Aggregator::Last, [at], [value]) if value.is_nan() || last.at > *at => {
                (*at, *value) = (last.at, last.value);
            }
            (Aggregator::Avg, [all], [total]) => {
                *all = all.saturating_add(count);
                *total += sum;
            }
            (Aggregator::Range, _, [least, most]) => {
                (*least, *most) = (least.min(min), most.max(max));
            }
            (_, [all], [total, square]) => {
                *all = all.saturating_add(count);
                *total += sum;
                *square += squares;
            }
            _ => {}
        }
    }

    /// What the samples say together.
    pub(super) fn value(&self, aggregator: Aggregator) -> f64 {
        let count = self.whole.first().copied().unwrap_or(0);
        match (aggregator, self.numbers.as_slice()) {
            (Aggregator::Avg, [sum]) => sum / count as f64,
            (Aggregator::Range, [min, max]) => max - min,
            (_, [number]) => *number,
            (_, [sum, squares]) => spread(aggregator, count, (*sum, *squares)),
            _ => f64::NAN,
        }
    }
}

/// Rounding must not make a variance negative, which has no root.
fn spread(aggregator: Aggregator, count: u64, (sum, squares): (f64, f64)) -> f64 {
    let all = count as f64;
    let deviation = squares - sum * sum / all;
    let deviation = if deviation < 0.0 { 0.0 } else { deviation };
    match aggregator {
        Aggregator::VarP => deviation / all,
        Aggregator::StdP => (deviation / all).sqrt(),
        _ if count <= 1 => 0.0,
        Aggregator::VarS => deviation / (all - 1.0),
        _ => (deviation / (all - 1.0)).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::timeseries::bucket::Bucket;

    fn samples(values: &[f64]) -> Vec<Sample> {
        (5..).zip(values).map(|(at, value)| Sample { at, value: *value }).collect()
    }

    /// What is gathered in parts says what all samples together say.
    #[test]
    fn parts_say_what_the_whole_says() {
        let all = samples(&[3.0, -1.5, 8.0, 8.0, 0.25, -7.0]);
        for (aggregator, word) in Aggregator::ALL {
            let mut bucket = Bucket::of(all[0]);
            all[1..].iter().for_each(|sample| bucket.take(*sample));
            for cut in 0..=all.len() {
                let mut gathered = Gathered::none(aggregator);
                assert!(gathered.is_none(aggregator), "{word}");
                // The later part first: a bucket may get samples that come late.
                gathered.take(aggregator, &all[cut..]);
                gathered.take(aggregator, &all[..cut]);
                let (value, expected) = (gathered.value(aggregator), bucket.value(aggregator));
                assert!((value - expected).abs() < 1e-9, "{word}: {value}, not {expected}");
                let mut bytes = Vec::new();
                gathered.write(&mut bytes);
                assert_eq!(Gathered::read(aggregator, &bytes), Some(gathered), "{word}");
                assert_eq!(Gathered::read(aggregator, &bytes[..bytes.len() - 1]), None, "{word}");
            }
        }
    }

    #[test]
    fn numbers_are_written_as_kvrocks_writes_them() {
        let check = |aggregator, expected: &[u8]| {
            let mut gathered = Gathered::none(aggregator);
            gathered.take(aggregator, &samples(&[1.0, 2.0]));
            let mut bytes = Vec::new();
            gathered.write(&mut bytes);
            assert_eq!(bytes, expected);
        };
        let [two, three, five, one] = [2.0, 3.0, 5.0, 1.0].map(score::encode);
        check(Aggregator::Sum, &[&[0, 1][..], &three].concat());
        check(Aggregator::Count, &[&[0, 1][..], &two].concat());
        check(Aggregator::Avg, &[&[1, 1][..], &2_u64.to_be_bytes(), &three].concat());
        check(Aggregator::VarS, &[&[1, 2][..], &2_u64.to_be_bytes(), &three, &five].concat());
        check(Aggregator::Range, &[&[0, 2][..], &one, &two].concat());
        check(Aggregator::First, &[&[1, 1][..], &5_u64.to_be_bytes(), &one].concat());
        check(Aggregator::Last, &[&[1, 1][..], &6_u64.to_be_bytes(), &two].concat());
        // Of another aggregator.
        assert_eq!(Gathered::read(Aggregator::Avg, &[&[0, 1][..], &two].concat()), None);
    }
}
