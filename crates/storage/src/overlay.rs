//! The uncommitted writes of a MULTI transaction, as its own later reads see them.
//!
//! Invariant: a key's newest record decides; a range delete removes earlier entries of the map and hides the database's,
//! and later puts into the range are entries again.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::{Direction, Family};

/// Newest state of one key: a value, or deleted.
type Entry = Option<Box<[u8]>>;

/// A deleted range `[begin, end)` of a family.
type Range = (Family, Box<[u8]>, Box<[u8]>);

/// All uncommitted writes.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    entries: BTreeMap<(Family, Box<[u8]>), Entry>,
    ranges: Vec<Range>,
}

/// What the overlay knows about a key.
pub(crate) enum Lookup<'a> {
    /// Written here.
    Value(&'a [u8]),
    /// Deleted here.
    Deleted,
    /// The database decides.
    Unknown,
}

impl Overlay {
    pub(crate) fn put(&mut self, family: Family, key: &[&[u8]], value: &[&[u8]]) {
        self.entries.insert((family, key.concat().into()), Some(value.concat().into()));
    }

    pub(crate) fn delete(&mut self, family: Family, key: &[u8]) {
        self.entries.insert((family, key.into()), None);
    }

    pub(crate) fn delete_range(&mut self, family: Family, begin: &[u8], end: &[u8]) {
        if begin >= end {
            return;
        }
        for (_, entry) in self.range_mut(family, begin, end) {
            *entry = None;
        }
        self.ranges.push((family, begin.into(), end.into()));
    }

    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Lookup<'_> {
        match self.entries.get(&(family, key.into())) {
            Some(Some(value)) => Lookup::Value(value),
            Some(None) => Lookup::Deleted,
            None if self.ranges.iter().any(|range| covers(range, family, key)) => Lookup::Deleted,
            None => Lookup::Unknown,
        }
    }

    /// A copy of what concerns `[lower, upper)`, so that the transaction can write while a scan is open.
    pub(crate) fn slice(&self, family: Family, lower: &[u8], upper: &[u8]) -> Slice {
        let from = Bound::Included((family, lower.into()));
        let to = |(of, key): &(Family, Box<[u8]>)| {
            *of == family && (upper.is_empty() || key.as_ref() < upper)
        };
        let entries: Vec<_> = self
            .entries
            .range((from, Bound::Unbounded))
            .take_while(|(key, _)| to(key))
            .map(|((_, key), entry)| (key.clone(), entry.clone()))
            .collect();
        let ranges = self.ranges.iter().filter(|range| range.0 == family).cloned();
        let back = entries.len();
        Slice { family, entries, ranges: ranges.collect(), front: 0, back }
    }

    fn range_mut(
        &mut self,
        family: Family,
        begin: &[u8],
        end: &[u8],
    ) -> impl Iterator<Item = (&(Family, Box<[u8]>), &mut Entry)> {
        self.entries.range_mut((family, begin.into())..(family, end.into()))
    }
}

fn covers(range: &Range, family: Family, key: &[u8]) -> bool {
    range.0 == family && range.1.as_ref() <= key && key < range.2.as_ref()
}

/// The part of an overlay that one scan passes over.
#[derive(Debug)]
pub(crate) struct Slice {
    family: Family,
    entries: Vec<(Box<[u8]>, Entry)>,
    ranges: Vec<Range>,
    front: usize,
    back: usize,
}

impl Slice {
    /// Index and key of the next entry in this direction, deleted ones included.
    pub(crate) fn head(&self, direction: Direction) -> Option<(usize, &[u8])> {
        if self.front >= self.back {
            return None;
        }
        let index = match direction {
            Direction::Forward => self.front,
            Direction::Reverse => self.back - 1,
        };
        self.entries.get(index).map(|(key, _)| (index, key.as_ref()))
    }

    /// Steps over the head.
    pub(crate) fn pop(&mut self, direction: Direction) {
        match direction {
            Direction::Forward => self.front += 1,
            Direction::Reverse => self.back -= 1,
        }
    }

    /// Key and value of an entry; `None` if it is a deletion.
    pub(crate) fn entry(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let (key, entry) = self.entries.get(index)?;
        Some((key, entry.as_deref()?))
    }

    /// Whether a range delete hides the database's entry of this key. Keys with an entry here are met by `head`.
    pub(crate) fn hides(&self, key: &[u8]) -> bool {
        self.ranges.iter().any(|range| covers(range, self.family, key))
    }
}
