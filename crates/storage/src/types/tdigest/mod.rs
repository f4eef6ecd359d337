//! T-digests: sketches of many numbers, which tell quantiles and ranks of them. New values wait in
//! a buffer, one sub-key; when it is full they are merged with the centroids, each a sub-key.
//!
//! Bytes are those of Kvrocks. There a read merges the buffer and writes that, on replicas too;
//! here what is only read is merged in memory, so that replicas hold what their master holds. And
//! where Kvrocks clears a sketch by a range, its sub-keys are deleted one by one, which leaves
//! nothing behind for later reads to step over.

use std::collections::HashMap;

use super::bounds::SubRange;
use super::kind::Type;
use super::object::{IfEmpty, Kind, Object, Tail};
use super::{CommandError, score};
use crate::{At, Direction, Family, Read, Snapshot, Txn, budget};

mod sketch;

pub use sketch::{Centroid, End, Sketch};

/// The type.
#[derive(Debug)]
pub enum TDigest {}

impl Kind for TDigest {
    const TYPE: Type = Type::TDigest;
    type Tail = Facts;
}

/// The finest sketch there is.
pub const COMPRESSION_MAX: u32 = 1000;
/// How fine one is of which nothing is said.
pub const COMPRESSION: u32 = 100;
/// A buffer takes no more values than this.
const CAPACITY_MAX: u32 = 1024;

/// What is known of a sketch without its sub-keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts {
    /// See [`Sketch::compression`].
    pub compression: u32,
    /// Values that the buffer takes.
    pub capacity: u32,
    /// Values in the buffer.
    pub unmerged: u64,
    /// Centroids.
    pub merged: u64,
    /// All values.
    pub weight: u64,
    /// Values in centroids.
    pub merged_weight: u64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// Values that were added.
    pub observations: u64,
    /// How often the buffer was merged.
    pub merges: u64,
}

impl Facts {
    fn new(compression: u32) -> Self {
        Self {
            compression,
            capacity: compression.saturating_mul(6).saturating_add(10).min(CAPACITY_MAX),
            unmerged: 0,
            merged: 0,
            weight: 0,
            merged_weight: 0,
            min: f64::MAX,
            max: f64::MIN,
            observations: 0,
            merges: 0,
        }
    }

    fn count(&mut self, values: &[f64]) {
        let count = values.len() as u64;
        self.observations = self.observations.saturating_add(count);
        self.weight = self.weight.saturating_add(count);
        self.min = values.iter().copied().fold(self.min, f64::min);
        self.max = values.iter().copied().fold(self.max, f64::max);
    }
}

impl Tail for Facts {
    fn fresh() -> Self {
        Self::new(COMPRESSION)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (compression, rest) = bytes.split_first_chunk::<4>()?;
        let (capacity, rest) = rest.split_first_chunk::<4>()?;
        let (words, []) = rest.as_chunks::<8>() else { return None };
        let [unmerged, merged, weight, merged_weight, min, max, observations, merges] =
            <[[u8; 8]; 8]>::try_from(words).ok()?;
        Some(Self {
            compression: u32::from_be_bytes(*compression),
            capacity: u32::from_be_bytes(*capacity).min(CAPACITY_MAX),
            unmerged: u64::from_be_bytes(unmerged),
            merged: u64::from_be_bytes(merged),
            weight: u64::from_be_bytes(weight),
            merged_weight: u64::from_be_bytes(merged_weight),
            min: score::decode(min),
            max: score::decode(max),
            observations: u64::from_be_bytes(observations),
            merges: u64::from_be_bytes(merges),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        for number in [self.compression, self.capacity] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        for number in [self.unmerged, self.merged, self.weight, self.merged_weight] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&score::encode(self.min));
        out.extend_from_slice(&score::encode(self.max));
        for number in [self.observations, self.merges] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// Where sub-keys lie.
const FAMILY: Family = Family::Default;
/// The sub-key of the buffer.
const BUFFER: &[u8] = &[0];
/// What sub-keys of centroids begin with; the mean follows, and the number among all of them, which
/// old data lacks.
const CENTROIDS: &[u8] = &[1];

fn centroid(sub: &[u8], weight: &[u8]) -> Option<Centroid> {
    let mean = sub.strip_prefix(CENTROIDS)?.first_chunk::<8>()?;
    let weight = weight.try_into().ok()?;
    Some(Centroid { mean: score::decode(*mean), weight: score::decode(weight) })
}

/// A sketch as it lies on disk: centroids with their sub-keys, and values that wait.
struct Stored {
    subs: Vec<Vec<u8>>,
    centroids: Vec<Centroid>,
    waiting: Vec<f64>,
}

impl Object<TDigest> {
    /// The bytes of the values that wait.
    fn buffer(&self, read: &impl Read) -> Result<Vec<u8>, CommandError> {
        let wanted = usize::try_from(self.tail.unmerged).unwrap_or(usize::MAX).saturating_mul(8);
        let Some(value) = self.element(read, FAMILY, BUFFER)? else { return Ok(Vec::new()) };
        let bytes = value.get(..wanted).map(<[u8]>::to_vec);
        bytes.ok_or_else(|| CommandError::corrupt("a buffer holds fewer values than it should"))
    }

    fn stored(&self, read: &impl Read) -> Result<Stored, CommandError> {
        let buffer = self.buffer(read)?;
        let (values, _) = buffer.as_chunks::<8>();
        let waiting = values.iter().map(|value| score::decode(*value)).collect();
        let mut stored = Stored { subs: Vec::new(), centroids: Vec::new(), waiting };
        let range = SubRange::starting_with(CENTROIDS);
        let mut elements = self.elements(read, FAMILY, &range, Direction::Forward)?;
        while let Some((sub, value)) = elements.next()? {
            let centroid = centroid(sub, value);
            let centroid = centroid.ok_or_else(|| CommandError::corrupt("a centroid is none"))?;
            stored.subs.push(sub.to_vec());
            stored.centroids.push(centroid);
        }
        if stored.centroids.len() as u64 != self.tail.merged {
            return Err(CommandError::corrupt("a sketch has not the centroids it should have"));
        }
        Ok(stored)
    }

    /// What is stored, with what waits.
    fn sketch(&self, stored: Stored) -> Sketch {
        let Facts { compression, min, max, merged_weight, .. } = self.tail;
        let Stored { centroids, waiting, .. } = stored;
        let merged = Sketch { centroids, compression, min, max, weight: merged_weight as f64 };
        merged.with(waiting)
    }

    /// Deletes what lies under the key.
    fn clear(&self, txn: &mut Txn<'_>, stored: &Stored) {
        self.remove(txn, FAMILY, &[BUFFER]);
        stored.subs.iter().for_each(|sub| self.remove(txn, FAMILY, &[sub]));
    }

    fn put_centroids(&self, txn: &mut Txn<'_>, centroids: &[Centroid]) {
        for (number, centroid) in (0_u32..).zip(centroids) {
            let (mean, number) = (score::encode(centroid.mean), number.to_be_bytes());
            let weight = score::encode(centroid.weight);
            self.put(txn, FAMILY, &[CENTROIDS, &mean, &number], &[&weight]);
        }
    }

    /// Merges what waits, and these values, with the centroids. The metadata is not written.
    fn merge_buffer(&mut self, txn: &mut Txn<'_>, values: &[f64]) -> Result<(), CommandError> {
        let mut stored = self.stored(txn)?;
        self.clear(txn, &stored);
        stored.waiting.extend_from_slice(values);
        let sketch = self.sketch(stored);
        self.put_centroids(txn, &sketch.centroids);
        let tail = &mut self.tail;
        tail.merges = tail.merges.saturating_add(1);
        (tail.merged, tail.unmerged) = (sketch.centroids.len() as u64, 0);
        tail.merged_weight = sketch.weight as u64;
        Ok(())
    }
}

/// A sketch that is there; `None` if there is none.
///
/// # Errors
/// Wrong type.
pub fn find(read: &impl Read, at: &At<'_>) -> Result<Option<Object<TDigest>>, CommandError> {
    Object::find(read, at)
}

/// What a sketch says, waiting values included; `None` if there is none.
///
/// # Errors
/// Wrong type.
pub fn sketch(read: &Snapshot<'_>, at: &At<'_>) -> Result<Option<Sketch>, CommandError> {
    let Some(object) = find(read, at)? else { return Ok(None) };
    Ok(Some(object.sketch(object.stored(read)?)))
}

/// Centroids that a question passes in the time of a step, about.
const CENTROIDS_OF_A_STEP: usize = 256;

/// What a sketch answers to each of these questions, which may be many.
///
/// # Errors
/// It takes too long where it is asked.
pub fn answers<Q, A>(
    sketch: &Sketch,
    questions: &[Q],
    answer: impl Fn(&Sketch, &Q) -> A,
) -> Result<Vec<A>, CommandError> {
    let steps = 1 + (sketch.centroids.len() / CENTROIDS_OF_A_STEP) as u64;
    let asked = questions.iter().map(|question| {
        budget::step(steps)?;
        Ok(answer(sketch, question))
    });
    asked.collect()
}

/// TDIGEST.CREATE. False if the key is there.
///
/// # Errors
/// Wrong type.
pub fn create(txn: &mut Txn<'_>, at: &At<'_>, compression: u32) -> Result<bool, CommandError> {
    if find(txn, at)?.is_some() {
        return Ok(false);
    }
    let mut object = Object::<TDigest>::new(at);
    object.tail = Facts::new(compression);
    txn.log(Type::TDigest.log_data());
    object.store(txn, IfEmpty::Keep);
    Ok(true)
}

/// TDIGEST.ADD. False if there is no sketch.
///
/// # Errors
/// Wrong type.
pub fn add(txn: &mut Txn<'_>, at: &At<'_>, values: &[f64]) -> Result<bool, CommandError> {
    let Some(mut object) = find(txn, at)? else { return Ok(false) };
    txn.log(Type::TDigest.log_data());
    object.tail.count(values);
    let waiting = object.tail.unmerged.saturating_add(values.len() as u64);
    if waiting <= u64::from(object.tail.capacity) {
        let mut buffer = object.buffer(txn)?;
        values.iter().for_each(|value| buffer.extend_from_slice(&score::encode(*value)));
        object.put(txn, FAMILY, &[BUFFER], &[&buffer]);
        object.tail.unmerged = waiting;
    } else {
        object.merge_buffer(txn, values)?;
    }
    object.store(txn, IfEmpty::Keep);
    Ok(true)
}

/// TDIGEST.RESET. False if there is no sketch.
///
/// # Errors
/// Wrong type.
pub fn reset(txn: &mut Txn<'_>, at: &At<'_>) -> Result<bool, CommandError> {
    let Some(mut object) = find(txn, at)? else { return Ok(false) };
    if object.tail.observations == 0 {
        return Ok(true);
    }
    let stored = object.stored(txn)?;
    txn.log(Type::TDigest.log_data());
    let Facts { compression, capacity, .. } = object.tail;
    object.tail = Facts { capacity, ..Facts::new(compression) };
    object.clear(txn, &stored);
    object.store(txn, IfEmpty::Keep);
    Ok(true)
}

/// How sketches become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merging {
    /// How fine it is; by default as it is, or if it is made anew as the finest source.
    pub compression: Option<u32>,
    /// What the destination holds is dropped.
    pub is_override: bool,
}

/// With more of them in memory, sources become one before others are read: a short command may name
/// a long one many times.
const CENTROIDS_MAX: usize = 1 << 20;

/// A source, and its number among those of the command.
type Named<'s> = (usize, &'s At<'s>);

/// What sources are made of.
#[derive(Default)]
struct Gathered {
    parts: Vec<Sketch>,
    /// Centroids of all parts.
    count: usize,
    observations: u64,
    finest: u32,
}

/// A source; `None` if it is not there.
fn source_of(txn: &Txn<'_>, at: &At<'_>) -> Result<Option<(Facts, Sketch)>, CommandError> {
    let Some(object) = find(txn, at)? else { return Ok(None) };
    let stored = object.stored(txn)?;
    Ok(Some((object.tail, object.sketch(stored))))
}

impl Gathered {
    fn take(&mut self, facts: &Facts, times: u64, sketch: Sketch) {
        let observations = facts.observations.saturating_mul(times);
        self.observations = self.observations.saturating_add(observations);
        self.finest = self.finest.max(facts.compression);
        if !sketch.centroids.is_empty() {
            self.count += sketch.centroids.len();
            self.parts.push(sketch);
        }
    }

    fn is_full(&self) -> bool {
        self.count > CENTROIDS_MAX
    }

    fn join(&mut self) {
        let all = Sketch::of_all(&self.parts, COMPRESSION_MAX);
        (self.count, self.parts) = (all.centroids.len(), vec![all]);
    }

    /// Takes the sources in their order, each of them as often as it is named and read once, until
    /// they are as many as may be in memory. Returns the rest; the number of one that is not there.
    fn take_each<'s>(
        &mut self,
        txn: &Txn<'_>,
        sources: &'s [Named<'s>],
    ) -> Result<Result<&'s [Named<'s>], usize>, CommandError> {
        let mut known: HashMap<&[u8], (Facts, Option<usize>)> = HashMap::new();
        for (place, (number, source)) in sources.iter().enumerate() {
            if self.is_full() {
                return Ok(Ok(sources.get(place..).unwrap_or_default()));
            }
            let named = known.get(source.key);
            if let Some((facts, part)) = named {
                let again = part.and_then(|part| self.parts.get(part).cloned());
                self.take(facts, 1, again.unwrap_or_else(|| Sketch::empty(facts.compression)));
                continue;
            }
            let Some((facts, sketch)) = source_of(txn, source)? else { return Ok(Err(*number)) };
            let part = (!sketch.centroids.is_empty()).then_some(self.parts.len());
            known.insert(source.key, (facts, part));
            self.take(&facts, 1, sketch);
        }
        Ok(Ok(&[]))
    }

    /// Takes the sources however many they are: one that is named often becomes one of so many
    /// times its weight, in as many steps as that number has digits.
    fn take_all(
        &mut self,
        txn: &Txn<'_>,
        sources: &[Named<'_>],
    ) -> Result<Result<(), usize>, CommandError> {
        let mut places: HashMap<&[u8], usize> = HashMap::new();
        let mut named: Vec<(usize, &At<'_>, u64)> = Vec::new();
        for (number, source) in sources {
            let place = *places.entry(source.key).or_insert(named.len());
            match named.get_mut(place) {
                Some((.., times)) => *times += 1,
                None => named.push((*number, source, 1)),
            }
        }
        for (number, source, times) in named {
            if self.is_full() {
                self.join();
            }
            let Some((facts, sketch)) = source_of(txn, source)? else { return Ok(Err(number)) };
            self.take(&facts, times, sketch.repeated(times));
        }
        Ok(Ok(()))
    }
}

/// TDIGEST.MERGE: sources, and what the destination holds, become one sketch there. The number of
/// a source that is not there, if one is not.
///
/// # Errors
/// Wrong type.
pub fn merge(
    txn: &mut Txn<'_>,
    to: &At<'_>,
    sources: &[At<'_>],
    how: Merging,
) -> Result<Result<(), usize>, CommandError> {
    let held = find(txn, to)?;
    let kept = held.as_ref().filter(|_| !how.is_override);
    let own = kept.map(|kept| kept.tail.compression);
    let kept = kept.map(|_| to).into_iter().map(|to| (0, to));
    let named: Vec<_> = kept.chain((0..).zip(sources)).collect();
    let mut gathered = Gathered::default();
    let rest = match gathered.take_each(txn, &named)? {
        Ok(rest) => rest,
        Err(missing) => return Ok(Err(missing)),
    };
    if let Err(missing) = gathered.take_all(txn, rest)? {
        return Ok(Err(missing));
    }
    let Gathered { parts, observations, finest, .. } = gathered;
    let merged = Sketch::of_all(&parts, how.compression.or(own).unwrap_or(finest));
    let is_new = held.is_none();
    let mut object = held.unwrap_or_else(|| Object::new(to));
    txn.log(Type::TDigest.log_data());
    if !is_new {
        let stored = object.stored(txn)?;
        object.clear(txn, &stored);
    }
    let weight = merged.weight as u64;
    object.tail = Facts {
        merged: merged.centroids.len() as u64,
        weight,
        merged_weight: weight,
        min: merged.min,
        max: merged.max,
        observations,
        ..Facts::new(merged.compression)
    };
    object.write(txn);
    object.put_centroids(txn, &merged.centroids);
    Ok(Ok(txn.must_fit()?))
}

#[cfg(test)]
mod tests;
