//! The uncommitted writes of a transaction, as its own later reads see them.
//!
//! Invariant: a key's newest record decides; a range delete removes earlier entries and hides the
//! database's, and later puts into the range are entries again.
//!
//! Everything takes time in proportion to what it concerns, not to what was written before: records
//! are taken note of when something is read; a command that fails is taken back by undoing its own.
//!
//! A key is looked up in the batch itself ([`Points`]). Only where a scan may pass over a record,
//! or a snapshot is taken, are records copied into maps in the order of their keys ([`Layers`]).
//! A scan shares these, and they are copied only if records are added while it is open. Most
//! batches are never scanned where they were written to, e.g. those of ZUNIONSTORE.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, LazyLock};

use points::Points;

use crate::batch::{Record, Writer};
use crate::{Direction, Family, Value};

mod points;

/// Newest state of one key: a value, or deleted.
type Entry = Option<Arc<[u8]>>;

type Entries = BTreeMap<Arc<[u8]>, Entry>;

/// A deleted range `[begin, end)`.
type Range = (Box<[u8]>, Box<[u8]>);

/// What is known of one family.
#[derive(Debug, Default, Clone)]
struct Layer {
    entries: Entries,
    ranges: Vec<Range>,
}

/// What is known of each family, in the order of their ids; nothing of one that was not written to.
#[derive(Debug, Default, Clone)]
struct Layers([Option<Arc<Layer>>; Family::ALL.len()]);

/// What is known of a family that was not written to.
static NOTHING: LazyLock<Arc<Layer>> = LazyLock::new(Arc::default);

/// All uncommitted writes. Each of its functions is given the batch, the same one each time.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    points: Points,
    layers: Layers,
    /// Bytes of the batch that are known in `layers`.
    seen: usize,
    /// How to take back what is in `layers`, each with where its record begins in the batch.
    undo: Vec<(usize, Undo)>,
}

/// How to take one change back.
#[derive(Debug)]
enum Undo {
    /// The entry was another one, or there was none.
    Entry(Family, Arc<[u8]>, Option<Entry>),
    /// The last range was not there.
    Range(Family),
}

/// What the overlay knows about a key.
pub(crate) enum Lookup {
    /// Written here.
    Value(Value<'static>),
    /// Deleted here.
    Deleted,
    /// The database decides.
    Unknown,
}

impl Overlay {
    fn layer_mut(&mut self, family: Family) -> &mut Layer {
        let Layers([default, metadata, zset_score, pubsub, propagate, stream, search, index]) =
            &mut self.layers;
        let layer = match family {
            Family::Default => default,
            Family::Metadata => metadata,
            Family::ZsetScore => zset_score,
            Family::Pubsub => pubsub,
            Family::Propagate => propagate,
            Family::Stream => stream,
            Family::Search => search,
            Family::Index => index,
        };
        Arc::make_mut(layer.get_or_insert_with(Arc::default))
    }

    /// Copies the records that were appended to the batch since the last call.
    fn copy(&mut self, batch: &Writer) {
        self.points.follow(batch);
        self.points.forget_spans();
        if self.seen == batch.len() {
            return;
        }
        let mut records = batch.records_from(self.seen);
        loop {
            let at = records.position();
            // Our own bytes: every record decodes.
            match records.next() {
                Some(Ok(Record::Put { family, key, value })) => {
                    self.set(at, family, key, Some(value.into()));
                }
                Some(Ok(Record::Delete { family, key })) => self.set(at, family, key, None),
                Some(Ok(Record::DeleteRange { family, begin, end })) if begin < end => {
                    self.delete_range(at, family, begin, end);
                }
                Some(Ok(Record::DeleteRange { .. } | Record::LogData(_))) => {}
                Some(Err(_)) | None => break,
            }
        }
        self.seen = batch.len();
    }

    fn set(&mut self, at: usize, family: Family, key: &[u8], entry: Entry) {
        let key: Arc<[u8]> = key.into();
        let old = self.layer_mut(family).entries.insert(Arc::clone(&key), entry);
        self.undo.push((at, Undo::Entry(family, key, old)));
    }

    fn delete_range(&mut self, at: usize, family: Family, begin: &[u8], end: &[u8]) {
        let layer = self.layer_mut(family);
        let bounds = (Bound::Included(begin), Bound::Excluded(end));
        let within = layer.entries.range::<[u8], _>(bounds);
        let within: Vec<_> = within.map(|(key, _)| Arc::clone(key)).collect();
        let mut undo = Vec::with_capacity(within.len() + 1);
        for key in within {
            let old = layer.entries.remove(&key);
            undo.push((at, Undo::Entry(family, key, old)));
        }
        let is_known = layer.ranges.iter().any(|(from, to)| **from <= *begin && *end <= **to);
        if !is_known {
            layer.ranges.push((begin.into(), end.into()));
            undo.push((at, Undo::Range(family)));
        }
        self.undo.extend(undo);
    }

    /// Forgets everything, for another batch; what was small of it keeps its place in memory.
    pub(crate) fn clear(&mut self) {
        self.points.clear();
        (self.layers, self.seen, self.undo) = (Layers::default(), 0, Vec::new());
    }

    /// Forgets the records from this byte of the batch on.
    pub(crate) fn rollback(&mut self, bytes: usize) {
        self.points.rollback(bytes);
        self.seen = self.seen.min(bytes);
        while let Some((_, undo)) = self.undo.pop_if(|(at, _)| *at >= bytes) {
            match undo {
                Undo::Entry(family, key, Some(old)) => {
                    self.layer_mut(family).entries.insert(key, old);
                }
                Undo::Entry(family, key, None) => {
                    self.layer_mut(family).entries.remove(&key);
                }
                Undo::Range(family) => {
                    self.layer_mut(family).ranges.pop();
                }
            }
        }
    }

    /// What the batch says of a key, `None` if nothing: its value where it lies, or that it is
    /// deleted.
    pub(crate) fn find<'b>(
        &mut self,
        batch: &'b Writer,
        family: Family,
        key: &[u8],
    ) -> Option<Option<&'b [u8]>> {
        self.points.follow(batch);
        self.points.find(batch, family, key)
    }

    pub(crate) fn get(&mut self, batch: &Writer, family: Family, key: &[u8]) -> Lookup {
        match self.find(batch, family, key) {
            Some(Some(value)) => Lookup::Value(Value::owned(value)),
            Some(None) => Lookup::Deleted,
            None => Lookup::Unknown,
        }
    }

    /// All of it as it is now, to be read while the transaction goes on; `None` if nothing was
    /// written.
    pub(crate) fn share(&mut self, batch: &Writer) -> Option<Shared> {
        self.copy(batch);
        (!self.undo.is_empty()).then(|| Shared(self.layers.clone()))
    }

    /// What concerns `[lower, upper)`, as it is now, if something does; an empty `upper` means no
    /// bound.
    pub(crate) fn slice(
        &mut self,
        batch: &Writer,
        family: Family,
        (lower, upper): (&[u8], &[u8]),
    ) -> Option<Slice> {
        self.points.follow(batch);
        if self.points.may_concern(batch, self.seen, family, (lower, upper)) {
            self.copy(batch);
        }
        Slice::of(&self.layers, family, (lower, upper))
    }
}

impl Layers {
    fn of(&self, family: Family) -> &Arc<Layer> {
        let layer = self.0.get(usize::from(family.id()));
        layer.and_then(Option::as_ref).unwrap_or(&NOTHING)
    }
}

impl Layer {
    fn get(&self, key: &[u8]) -> Lookup {
        match self.entries.get(key) {
            Some(Some(value)) => Lookup::Value(Value::shared(Arc::clone(value), 0)),
            Some(None) => Lookup::Deleted,
            None if self.hides(key) => Lookup::Deleted,
            None => Lookup::Unknown,
        }
    }

    fn hides(&self, key: &[u8]) -> bool {
        self.ranges.iter().any(|(begin, end)| **begin <= *key && *key < **end)
    }
}

/// An overlay as it was at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Layers);

impl Shared {
    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Lookup {
        self.0.of(family).get(key)
    }

    /// See [`Overlay::slice`].
    pub(crate) fn slice(&self, family: Family, bounds: (&[u8], &[u8])) -> Option<Slice> {
        Slice::of(&self.0, family, bounds)
    }
}

/// The part of an overlay that one scan passes over.
#[derive(Debug)]
pub(crate) struct Slice {
    layer: Arc<Layer>,
    /// Bounds of what was not passed yet.
    front: Bound<Box<[u8]>>,
    back: Bound<Box<[u8]>>,
    /// What was passed last.
    last: Option<Arc<[u8]>>,
}

impl Slice {
    /// The part between these bounds; `None` where nothing is.
    fn of(layers: &Layers, family: Family, (lower, upper): (&[u8], &[u8])) -> Option<Self> {
        let layer = layers.of(family);
        if layer.entries.is_empty() && layer.ranges.is_empty() {
            return None;
        }
        let back = if upper.is_empty() {
            Bound::Unbounded
        } else {
            // An empty range; the map would take bounds in the wrong order for a mistake.
            Bound::Excluded(upper.max(lower).into())
        };
        let (layer, front) = (Arc::clone(layer), Bound::Included(lower.into()));
        let slice = Self { layer, front, back, last: None };
        let concerns = !slice.layer.ranges.is_empty() || slice.head(Direction::Forward).is_some();
        concerns.then_some(slice)
    }

    /// Key of the next entry in this direction, deleted ones included.
    pub(crate) fn head(&self, direction: Direction) -> Option<&Arc<[u8]>> {
        let last = self.last.as_deref().map(Bound::Excluded);
        let front = self.front.as_ref().map(|key| &**key);
        let back = self.back.as_ref().map(|key| &**key);
        let bounds = match direction {
            Direction::Forward => (last.unwrap_or(front), back),
            Direction::Reverse => (front, last.unwrap_or(back)),
        };
        if is_nothing(bounds) {
            return None;
        }
        let mut rest = self.layer.entries.range::<[u8], _>(bounds);
        let found = match direction {
            Direction::Forward => rest.next(),
            Direction::Reverse => rest.next_back(),
        };
        found.map(|(key, _)| key)
    }

    /// Steps over the head.
    pub(crate) fn pop(&mut self, direction: Direction) {
        self.last = self.head(direction).cloned().or_else(|| self.last.take());
    }

    /// Key and value of the entry that was stepped over last; `None` if it is a deletion.
    pub(crate) fn passed(&self) -> Option<(&[u8], &[u8])> {
        let key = self.last.as_ref()?;
        Some((key, self.layer.entries.get(key)?.as_deref()?))
    }

    /// Whether a range delete hides the database's entry of this key. Keys with an entry here are
    /// met by `head`.
    pub(crate) fn hides(&self, key: &[u8]) -> bool {
        self.layer.hides(key)
    }
}

/// Whether a map would refuse these bounds: nothing lies between them.
fn is_nothing(bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> bool {
    match bounds {
        (Bound::Included(from), Bound::Excluded(to)) => from >= to,
        (Bound::Excluded(from), Bound::Excluded(to)) => from >= to,
        (Bound::Excluded(from), Bound::Included(to))
        | (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

#[cfg(test)]
mod tests;
