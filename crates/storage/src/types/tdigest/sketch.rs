//! What a T-digest says of the values it was made of: centroids, whose weights are small at both
//! ends and large between them.
//!
//! How values are merged decides what lies on disk, so every step is done in the order and with the
//! operations of Kvrocks (those of Apache Arrow): the same values give the same bytes.

use std::cmp::Ordering;
use std::f64::consts::PI;

use super::COMPRESSION_MAX;

/// Values that lie together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Centroid {
    /// Their mean.
    pub mean: f64,
    /// How many they are.
    pub weight: f64,
}

impl Centroid {
    fn absorb(&mut self, other: Self) {
        self.weight += other.weight;
        self.mean += (other.mean - self.mean) * other.weight / self.weight;
    }
}

/// Which end ranks are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The smallest value has rank 0.
    Smallest,
    /// The largest value has rank 0.
    Largest,
}

/// Centroids in the order of their means, and what is known of all values.
#[derive(Debug, Clone, PartialEq)]
pub struct Sketch {
    /// See the module documentation.
    pub centroids: Vec<Centroid>,
    /// How finely: the larger, the more centroids there are.
    pub compression: u32,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// How many values the centroids hold.
    pub weight: f64,
}

/// Coarser than this none is, whatever its compression.
const COMPRESSION_MIN: u32 = 10;

/// Takes centroids in the order of their means, and joins those that may be one.
struct Joiner {
    scale: f64,
    weight: f64,
    so_far: f64,
    /// Up to which weight the last centroid takes more.
    limit: f64,
    joined: Vec<Centroid>,
}

impl Joiner {
    fn new(compression: u32, weight: f64) -> Self {
        let scale = f64::from(compression.max(COMPRESSION_MIN)) / (2.0 * PI);
        Self { scale, weight, so_far: 0.0, limit: -1.0, joined: Vec::new() }
    }

    /// One unit further on the scale, which is steep at its ends: the weight up to there.
    fn next_limit(&self) -> f64 {
        let quantile = self.so_far / self.weight;
        let unit = self.scale * (2.0 * quantile - 1.0).asin() + 1.0;
        self.weight * (((unit / self.scale).sin() + 1.0) / 2.0)
    }

    fn take(&mut self, centroid: Centroid) {
        let so_far = self.so_far + centroid.weight;
        match self.joined.last_mut() {
            Some(last) if so_far <= self.limit => last.absorb(centroid),
            _ => {
                let next = self.next_limit();
                // It grows until the last centroid, which takes what is left.
                self.limit = if next <= self.limit { self.weight } else { next };
                self.joined.push(centroid);
            }
        }
        self.so_far = so_far;
    }
}

impl Sketch {
    /// One of no values.
    pub fn empty(compression: u32) -> Self {
        Self { centroids: Vec::new(), compression, min: f64::MAX, max: f64::MIN, weight: 0.0 }
    }

    /// With these values too, whose smallest and largest one it knows already.
    pub fn with(&self, mut values: Vec<f64>) -> Self {
        if values.is_empty() {
            return self.clone();
        }
        values.sort_by(f64::total_cmp);
        let weight = self.weight + values.len() as f64;
        let mut joiner = Joiner::new(self.compression, weight);
        let mut old = self.centroids.iter().copied().peekable();
        for mean in values {
            while let Some(centroid) = old.next_if(|centroid| centroid.mean < mean) {
                joiner.take(centroid);
            }
            joiner.take(Centroid { mean, weight: 1.0 });
        }
        old.for_each(|centroid| joiner.take(centroid));
        Self { centroids: joiner.joined, weight, ..*self }
    }

    /// One of its values so many times over, by doubling it.
    pub(super) fn repeated(&self, times: u64) -> Self {
        let (mut all, mut power, mut left) = (Self::empty(self.compression), self.clone(), times);
        while left > 0 {
            if left & 1 == 1 {
                all = match all.centroids.is_empty() {
                    true => power.clone(),
                    false => Self::of_all(&[all, power.clone()], COMPRESSION_MAX),
                };
            }
            left >>= 1;
            if left > 0 {
                power = Self::of_all(&[power.clone(), power], COMPRESSION_MAX);
            }
        }
        all
    }

    /// One of the values of all these; centroids are joined only where that is needed.
    pub fn of_all(parts: &[Self], compression: u32) -> Self {
        if let [one] = parts
            && one.compression == compression
        {
            return one.clone();
        }
        let mut all = Self::empty(compression);
        let mut centroids: Vec<Centroid> = Vec::new();
        for part in parts.iter().filter(|part| !part.centroids.is_empty()) {
            all.weight += part.weight;
            (all.min, all.max) = (all.min.min(part.min), all.max.max(part.max));
            centroids.extend(&part.centroids);
        }
        centroids.sort_by(|one, other| one.mean.total_cmp(&other.mean));
        let mut joiner = Joiner::new(compression, all.weight);
        centroids.into_iter().for_each(|centroid| joiner.take(centroid));
        all.centroids = joiner.joined;
        all
    }

    /// The value below which that share of all values lies; of no values none (NaN).
    pub fn quantile(&self, share: f64) -> f64 {
        let index = share * self.weight;
        let (Some(first), Some(last)) = (self.centroids.first(), self.centroids.last()) else {
            return f64::NAN;
        };
        if index <= 1.0 {
            return self.min;
        }
        if index >= self.weight - 1.0 {
            return self.max;
        }
        let (mut so_far, mut at) = (0.0, 0);
        for (number, centroid) in self.centroids.iter().enumerate() {
            (so_far, at) = (so_far + centroid.weight, number);
            if index <= so_far {
                break;
            }
        }
        let Some(centroid) = self.centroids.get(at) else { return f64::NAN };
        // How far behind its middle.
        let behind = index + centroid.weight / 2.0 - so_far;
        if centroid.weight == 1.0 && behind.abs() < 0.5 {
            return centroid.mean;
        }
        let neighbours = if behind > 0.0 {
            self.centroids.get(at + 1).map(|right| (centroid, right, behind))
        } else {
            let left = at.checked_sub(1).and_then(|left| self.centroids.get(left));
            left.map(|left| (left, centroid, behind + left.weight / 2.0 + centroid.weight / 2.0))
        };
        match neighbours {
            Some((left, right, behind)) => {
                let part = behind / (left.weight / 2.0 + right.weight / 2.0);
                between(left.mean, right.mean, part)
            }
            None if behind > 0.0 => between(last.mean, self.max, behind / (last.weight / 2.0)),
            None => between(self.min, first.mean, index / (first.weight / 2.0)),
        }
    }

    /// How many values lie nearer to that end than this one; -1: it lies beyond the end.
    pub fn rank(&self, value: f64, end: End) -> i64 {
        match end {
            End::Smallest if value < self.min => -1,
            End::Largest if value > self.max => -1,
            End::Smallest => rank(self.centroids.iter(), value, self.weight, Ordering::Less),
            End::Largest => {
                rank(self.centroids.iter().rev(), value, self.weight, Ordering::Greater)
            }
        }
    }

    /// The value of a rank; infinite beyond the other end.
    pub fn by_rank(&self, rank: u64, end: End) -> f64 {
        match end {
            End::Smallest => by_rank(self.centroids.iter(), rank).unwrap_or(f64::INFINITY),
            End::Largest => by_rank(self.centroids.iter().rev(), rank).unwrap_or(-f64::INFINITY),
        }
    }

    /// The mean of the values between two shares.
    pub fn trimmed_mean(&self, low: f64, high: f64) -> f64 {
        let (first, last) = ((self.weight * low).floor(), (self.weight * high).ceil());
        let (mut passed, mut sum, mut count) = (0.0, 0.0, 0.0);
        for centroid in &self.centroids {
            let cut = (first - passed).max(0.0).min(centroid.weight);
            let taken = (last - passed).max(0.0).min(centroid.weight - cut);
            passed += centroid.weight;
            sum += centroid.mean * taken;
            count += taken;
            if passed >= last {
                break;
            }
        }
        sum / count
    }

    /// The share of values below this one, and half of those equal to it.
    pub fn share_below(&self, value: f64) -> f64 {
        let below = match self.centroids.as_slice() {
            [] => return f64::NAN,
            _ if value < self.min => 0.0,
            _ if value > self.max => self.weight,
            [_] => self.weight / 2.0,
            [first, .., _] if value < first.mean => match first.mean - self.min {
                // A value of its own lies at the end.
                _ if is_equal(value, self.min) => HALF,
                width => between(HALF, first.weight / 2.0, (value - self.min) / width),
            },
            [.., last] if value > last.mean && !is_equal(value, last.mean) => {
                let (width, middle) = (self.max - last.mean, self.weight - last.weight / 2.0);
                match is_equal(value, self.max) {
                    true => self.weight - HALF,
                    false => between(middle, self.weight - HALF, (value - last.mean) / width),
                }
            }
            _ => self.weight_below(value),
        };
        (below / self.weight).clamp(0.0, 1.0)
    }

    /// The weight below a value between the first and the last mean.
    fn weight_below(&self, value: f64) -> f64 {
        let mut so_far = 0.0;
        for (at, pair) in self.centroids.windows(2).enumerate() {
            let [left, right] = pair else { break };
            if is_equal(value, left.mean) {
                let rest = self.centroids.get(at..).unwrap_or_default();
                let equal = rest.iter().take_while(|centroid| is_equal(centroid.mean, left.mean));
                return so_far + equal.map(|centroid| centroid.weight).sum::<f64>() / 2.0;
            }
            if left.mean < value && value < right.mean && !is_equal(value, right.mean) {
                return weight_between((left, right), so_far, value);
            }
            so_far += left.weight;
        }
        so_far + self.centroids.last().map_or(0.0, |last| last.weight / 2.0)
    }
}

const HALF: f64 = 0.5;

/// The weight below a value between two centroids. A single value is a step at its place, and
/// counts for nothing between it and its neighbour.
fn weight_between((left, right): (&Centroid, &Centroid), so_far: f64, value: f64) -> f64 {
    let (is_left, is_right) = (left.weight == 1.0, right.weight == 1.0);
    if is_left && is_right {
        return so_far + 1.0;
    }
    let excluded = |is_single| if is_single { HALF } else { 0.0 };
    let begin = so_far + left.weight / 2.0 + excluded(is_left);
    let width = (left.weight + right.weight) / 2.0 - excluded(is_left) - excluded(is_right);
    between(begin, begin + width, (value - left.mean) / (right.mean - left.mean))
}

fn between(from: f64, to: f64, part: f64) -> f64 {
    from + part * (to - from)
}

/// Means are the results of divisions: what is that close is equal.
fn is_equal(one: f64, other: f64) -> bool {
    let apart = (one - other).abs();
    let nearly = one.abs().max(other.abs()) * 1e-12;
    // An infinite rank is asked for, and no mean is infinite.
    one == other || apart <= 1e-9 || apart.is_finite() && apart <= nearly
}

/// See [`Sketch::rank`]: of centroids from an end on, of which the nearer ones compare `nearer`.
fn rank<'a>(
    centroids: impl Iterator<Item = &'a Centroid>,
    value: f64,
    weight: f64,
    nearer: Ordering,
) -> i64 {
    let (mut before, mut equal) = (0.0, None);
    for centroid in centroids {
        match equal {
            Some((mean, half)) if is_equal(mean, centroid.mean) => {
                equal = Some((mean, half + centroid.weight / 2.0));
            }
            Some((_, half)) => return (before + half) as i64,
            None if is_equal(centroid.mean, value) => {
                equal = Some((centroid.mean, centroid.weight / 2.0));
            }
            None if centroid.mean.partial_cmp(&value) == Some(nearer) => before += centroid.weight,
            None => return before as i64,
        }
    }
    equal.map_or(weight, |(_, half)| before + half) as i64
}

/// See [`Sketch::by_rank`].
fn by_rank<'a>(centroids: impl Iterator<Item = &'a Centroid>, rank: u64) -> Option<f64> {
    let mut so_far = 0.0;
    for centroid in centroids {
        so_far += centroid.weight;
        if rank < so_far as u64 {
            return Some(centroid.mean);
        }
    }
    None
}
