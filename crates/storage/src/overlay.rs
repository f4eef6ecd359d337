//! The uncommitted writes of a transaction, as its own later reads see them.
//!
//! Invariant: a key's newest record decides; a range delete removes earlier entries and hides the
//! database's, and later puts into the range are entries again.
//!
//! Everything takes time in proportion to what it concerns, not to what was written before: records
//! are taken note of when something is read; a scan shares the entries, which are copied only if
//! some are added while it is open; a command that fails is taken back by undoing its own entries.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, LazyLock};

use crate::batch::{Record, Writer};
use crate::{Direction, Family, Value};

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

/// What is known of all families.
#[derive(Debug, Default, Clone)]
struct Layers {
    first: [Arc<Layer>; Family::FIRST.len()],
    /// Few transactions write there.
    index: Option<Arc<Layer>>,
}

/// What is known of a family that was not written to.
static NOTHING: LazyLock<Arc<Layer>> = LazyLock::new(Arc::default);

/// All uncommitted writes, as far as [`Overlay::follow`] has seen them.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    layers: Layers,
    /// Bytes of the batch that are known here.
    seen: usize,
    /// Each with where its record begins in the batch.
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
    fn layer(&self, family: Family) -> &Arc<Layer> {
        layer(&self.layers, family)
    }

    fn layer_mut(&mut self, family: Family) -> &mut Layer {
        let Layers { first, index } = &mut self.layers;
        let [default, metadata, zset_score, pubsub, propagate, stream, search] = first;
        Arc::make_mut(match family {
            Family::Default => default,
            Family::Metadata => metadata,
            Family::ZsetScore => zset_score,
            Family::Pubsub => pubsub,
            Family::Propagate => propagate,
            Family::Stream => stream,
            Family::Search => search,
            Family::Index => index.get_or_insert_with(Arc::default),
        })
    }

    /// Takes note of the records that were appended to the batch since the last call.
    pub(crate) fn follow(&mut self, batch: &Writer) {
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

    /// Forgets the records from this byte of the batch on.
    pub(crate) fn rollback(&mut self, bytes: usize) {
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

    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Lookup {
        self.layer(family).get(key)
    }

    /// All of it as it is now, to be read while the transaction goes on.
    pub(crate) fn share(&self) -> Shared {
        Shared(self.layers.clone())
    }

    /// Whether nothing was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.undo.is_empty()
    }

    /// What concerns `[lower, upper)`, as it is now; an empty `upper` means no bound.
    pub(crate) fn slice(&self, family: Family, lower: &[u8], upper: &[u8]) -> Slice {
        Slice::new(self.layer(family), lower, upper)
    }
}

fn layer(layers: &Layers, family: Family) -> &Arc<Layer> {
    let [default, metadata, zset_score, pubsub, propagate, stream, search] = &layers.first;
    match family {
        Family::Default => default,
        Family::Metadata => metadata,
        Family::ZsetScore => zset_score,
        Family::Pubsub => pubsub,
        Family::Propagate => propagate,
        Family::Stream => stream,
        Family::Search => search,
        Family::Index => layers.index.as_ref().unwrap_or(&NOTHING),
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
        layer(&self.0, family).get(key)
    }

    /// See [`Overlay::slice`].
    pub(crate) fn slice(&self, family: Family, lower: &[u8], upper: &[u8]) -> Slice {
        Slice::new(layer(&self.0, family), lower, upper)
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
    fn new(layer: &Arc<Layer>, lower: &[u8], upper: &[u8]) -> Self {
        let back = if upper.is_empty() {
            Bound::Unbounded
        } else {
            // An empty range; the map would take bounds in the wrong order for a mistake.
            Bound::Excluded(upper.max(lower).into())
        };
        Self { layer: Arc::clone(layer), front: Bound::Included(lower.into()), back, last: None }
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
