//! Chunks: samples in the order of their times, as they lie in one value. Their numbers are
//! little-endian, as the machines that Kvrocks runs on have them in memory.

/// A value at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Milliseconds, in most cases since 1970.
    pub at: u64,
    /// The value.
    pub value: f64,
}

/// What becomes of a sample at a time that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Duplicates {
    /// It is refused.
    Block = 0,
    /// It is dropped.
    First = 1,
    /// It replaces the other one.
    Last = 2,
    /// The smaller one stays.
    Min = 3,
    /// The larger one stays.
    Max = 4,
    /// They are added up.
    Sum = 5,
}

impl Duplicates {
    /// All, by their ids.
    pub const ALL: [Self; 6] =
        [Self::Block, Self::First, Self::Last, Self::Min, Self::Max, Self::Sum];

    /// The one with this id.
    pub(super) fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| *one as u8 == id)
    }

    /// What is there afterwards; `None` if the new one is refused.
    pub(super) fn join(self, old: f64, new: f64) -> Option<f64> {
        match self {
            Self::Block => None,
            Self::First => Some(old),
            Self::Last => Some(new),
            Self::Min => Some(if new < old { new } else { old }),
            Self::Max => Some(if new > old { new } else { old }),
            Self::Sum => Some(old + new),
        }
    }
}

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is there, as far as its duplicates let it be.
    Stored,
    /// It is older than samples are kept.
    Old,
    /// There is one at its time, and it may not change.
    Blocked,
}

/// Bytes of a sample.
const SAMPLE: usize = 16;
/// Set in the flags of a chunk that is compressed, which nobody writes yet.
const COMPRESSED: u32 = 1;

fn sample(bytes: &[u8; SAMPLE]) -> Option<Sample> {
    let (at, value) = bytes.split_first_chunk::<8>()?;
    let value = f64::from_le_bytes(value.try_into().ok()?);
    Some(Sample { at: u64::from_le_bytes(*at), value })
}

/// The samples of a chunk as they lie; `None` if it is none. More bytes than it has samples may
/// follow: Kvrocks leaves room for samples that replaced others.
fn stored(bytes: &[u8]) -> Option<&[[u8; SAMPLE]]> {
    let (flags, rest) = bytes.split_first_chunk::<4>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    if u32::from_be_bytes(*flags) & COMPRESSED != 0 {
        return None;
    }
    let (samples, _) = rest.as_chunks::<SAMPLE>();
    samples.get(..usize::try_from(u32::from_be_bytes(*count)).ok()?)
}

/// The samples of a chunk; `None` if it is none.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Sample>> {
    stored(bytes)?.iter().map(sample).collect()
}

/// Times of the first and the last sample of a chunk, and how many there are; `None` if it is none,
/// or has none.
pub(super) fn span(bytes: &[u8]) -> Option<(u64, u64, u64)> {
    let samples = stored(bytes)?;
    let (first, last) = (sample(samples.first()?)?, sample(samples.last()?)?);
    Some((first.at, last.at, samples.len() as u64))
}

/// The bytes of a chunk.
pub(super) fn encode(samples: &[Sample]) -> Vec<u8> {
    let count = u32::try_from(samples.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(8 + samples.len() * SAMPLE);
    bytes.extend_from_slice(&0_u32.to_be_bytes());
    bytes.extend_from_slice(&count.to_be_bytes());
    for sample in samples {
        bytes.extend_from_slice(&sample.at.to_le_bytes());
        bytes.extend_from_slice(&sample.value.to_le_bytes());
    }
    bytes
}

/// Samples to add, in the order of their times, none at the time of another one; and whose they are
/// in the command.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct New {
    pub(super) sample: Sample,
    pub(super) number: usize,
}

/// Puts the samples of a command in order: what is too old and what has duplicates among them is
/// known afterwards.
pub(super) fn arrange(
    samples: &[Sample],
    mut last_at: u64,
    retention_ms: u64,
    duplicates: Duplicates,
) -> (Vec<New>, Vec<Added>) {
    let mut outcomes = vec![Added::Stored; samples.len()];
    let mut kept = Vec::with_capacity(samples.len());
    for (number, (sample, outcome)) in samples.iter().zip(&mut outcomes).enumerate() {
        if retention_ms != 0 && sample.at.saturating_add(retention_ms) < last_at {
            *outcome = Added::Old;
            continue;
        }
        last_at = last_at.max(sample.at);
        kept.push(New { sample: *sample, number });
    }
    kept.sort_by_key(|new| new.sample.at);
    kept.dedup_by(|next, first| {
        let is_same = next.sample.at == first.sample.at;
        if is_same {
            match duplicates.join(first.sample.value, next.sample.value) {
                Some(value) => first.sample.value = value,
                None => {
                    if let Some(outcome) = outcomes.get_mut(next.number) {
                        *outcome = Added::Blocked;
                    }
                }
            }
        }
        is_same
    });
    (kept, outcomes)
}

/// Adds samples to those of a chunk; whether it is another one afterwards.
pub(super) fn merge(
    chunk: &mut Vec<Sample>,
    news: &[New],
    duplicates: Duplicates,
    outcomes: &mut [Added],
) -> bool {
    let (mut has_changed, mut added) = (false, Vec::new());
    for New { sample, number } in news {
        let Ok(place) = chunk.binary_search_by_key(&sample.at, |old| old.at) else {
            added.push(*sample);
            continue;
        };
        let Some(old) = chunk.get_mut(place) else { continue };
        match duplicates.join(old.value, sample.value) {
            Some(value) => {
                has_changed |= value.to_bits() != old.value.to_bits();
                old.value = value;
            }
            None => {
                if let Some(outcome) = outcomes.get_mut(*number) {
                    *outcome = Added::Blocked;
                }
            }
        }
    }
    has_changed |= !added.is_empty();
    let is_behind = match (chunk.last(), added.first()) {
        (Some(last), Some(first)) => last.at < first.at,
        _ => true,
    };
    chunk.append(&mut added);
    if !is_behind {
        chunk.sort_by_key(|sample| sample.at);
    }
    has_changed
}

/// How a chunk becomes several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    /// The last one of a series: full ones, and what is left.
    Full,
    /// Another one: into equal ones, if it is twice as large as it should be.
    Even,
}

/// A chunk has no more samples, whatever its series says: it is written anew with each of them.
const SAMPLES_MAX: u64 = 1 << 16;

/// Parts of a chunk, each a chunk of about `size` samples.
pub(super) fn split(samples: &[Sample], size: u64, split: Split) -> Vec<&[Sample]> {
    let size = size.clamp(1, SAMPLES_MAX) as usize;
    match split {
        Split::Full => samples.chunks(size).collect(),
        Split::Even if samples.len() <= 2 * size => vec![samples],
        Split::Even => {
            let parts = samples.len() / size;
            let (each, larger) = (samples.len() / parts, samples.len() % parts);
            let (front, back) = samples.split_at(larger * (each + 1));
            front.chunks(each + 1).chain(back.chunks(each)).collect()
        }
    }
}
