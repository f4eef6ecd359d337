//! Buckets: spans of time of equal length, and what their samples say together.

use super::chunk::Sample;

/// What is said of the samples of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Aggregator {
    /// Their sum.
    Sum = 1,
    /// The smallest.
    Min = 2,
    /// The largest.
    Max = 3,
    /// How many they are.
    Count = 4,
    /// The first.
    First = 5,
    /// The last.
    Last = 6,
    /// Their mean.
    Avg = 7,
    /// From the smallest to the largest.
    Range = 8,
    /// Standard deviation of a population.
    StdP = 9,
    /// Standard deviation of a sample.
    StdS = 10,
    /// Variance of a population.
    VarP = 11,
    /// Variance of a sample.
    VarS = 12,
}

impl Aggregator {
    /// All, and their words.
    pub const ALL: [(Self, &'static str); 12] = [
        (Self::Sum, "sum"),
        (Self::Min, "min"),
        (Self::Max, "max"),
        (Self::Count, "count"),
        (Self::First, "first"),
        (Self::Last, "last"),
        (Self::Avg, "avg"),
        (Self::Range, "range"),
        (Self::StdP, "std.p"),
        (Self::StdS, "std.s"),
        (Self::VarP, "var.p"),
        (Self::VarS, "var.s"),
    ];

    /// The word of an id, if it is one.
    pub fn word(id: u8) -> Option<&'static str> {
        Self::ALL.into_iter().find(|(one, _)| *one as u8 == id).map(|(_, word)| word)
    }

    /// The one with this id.
    pub(super) fn of(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|(one, _)| *one as u8 == id).map(|(one, _)| one)
    }
}

/// Where buckets begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// How long a bucket is, at least 1.
    duration: u64,
    /// Where the first one begins that is not cut off by time 0.
    offset: u64,
}

impl Grid {
    /// Buckets of a length above 0, of which one begins at `alignment`.
    pub fn new(duration: u64, alignment: u64) -> Option<Self> {
        Some(Self { duration, offset: alignment.checked_rem(duration)? })
    }

    /// How long a bucket is.
    pub fn duration(self) -> u64 {
        self.duration
    }

    /// Where the bucket of a time begins.
    pub fn begin(self, at: u64) -> u64 {
        match at.checked_sub(self.offset) {
            Some(behind) => at - behind % self.duration,
            None => 0,
        }
    }

    /// Where the bucket behind one begins; `None` at the end of time.
    pub fn next(self, begin: u64) -> Option<u64> {
        if begin < self.offset { Some(self.offset) } else { begin.checked_add(self.duration) }
    }
}

/// The samples of one bucket, as far as they are asked about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bucket {
    count: u64,
    sum: f64,
    squares: f64,
    min: f64,
    max: f64,
    first: f64,
    last: f64,
}

impl Bucket {
    /// One with a first sample.
    pub(super) fn of(sample: Sample) -> Self {
        let value = sample.value;
        let (sum, squares) = (0.0 + value, 0.0 + value * value);
        Self { count: 1, sum, squares, min: value, max: value, first: value, last: value }
    }

    /// With a sample more, which is later than all others.
    pub(super) fn take(&mut self, sample: Sample) {
        let value = sample.value;
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
        self.min = if value < self.min { value } else { self.min };
        self.max = if value > self.max { value } else { self.max };
        self.last = value;
    }

    /// What its samples say.
    pub(super) fn value(&self, aggregator: Aggregator) -> f64 {
        let count = self.count as f64;
        match aggregator {
            Aggregator::Sum => self.sum,
            Aggregator::Min => self.min,
            Aggregator::Max => self.max,
            Aggregator::Count => count,
            Aggregator::First => self.first,
            Aggregator::Last => self.last,
            Aggregator::Avg => self.sum / count,
            Aggregator::Range => self.max - self.min,
            Aggregator::VarP => self.variance(),
            Aggregator::StdP => self.variance().sqrt(),
            Aggregator::VarS => self.sample_variance(),
            Aggregator::StdS => self.sample_variance().sqrt(),
        }
    }

    /// Rounding must not make it negative, which has no root. What is no number stays none.
    fn variance(&self) -> f64 {
        let count = self.count as f64;
        let variance = (self.squares - self.sum * self.sum / count) / count;
        if variance < 0.0 { 0.0 } else { variance }
    }

    fn sample_variance(&self) -> f64 {
        let count = self.count as f64;
        if self.count <= 1 { 0.0 } else { self.variance() * count / (count - 1.0) }
    }
}
