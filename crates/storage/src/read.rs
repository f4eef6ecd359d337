//! Reading: one key, many keys, a range. The same for the database, for a transaction, which sees
//! its own writes, and for a snapshot of either.

use std::cmp::Ordering;
use std::ops::Deref;
use std::sync::Arc;

use rocksdb::{DBPinnableSlice, DBRawIterator};

use crate::overlay::Slice as OverlaySlice;
use crate::slots::marks::Marks;
use crate::{Error, Family, Snapshot, budget};

/// A value read from the database; not copied: pinned in the block cache or memtable, or shared
/// with what is kept in memory.
pub struct Value<'a> {
    repr: Repr<'a>,
    /// The value begins somewhere in what is held.
    start: usize,
}

enum Repr<'a> {
    Pinned(DBPinnableSlice<'a>),
    Owned(Box<[u8]>),
    Shared(Arc<[u8]>),
}

impl<'a> Value<'a> {
    pub(crate) fn pinned(slice: DBPinnableSlice<'a>) -> Self {
        Self { repr: Repr::Pinned(slice), start: 0 }
    }

    pub(crate) fn shared(data: Arc<[u8]>, start: usize) -> Self {
        Self { repr: Repr::Shared(data), start }
    }

    pub(crate) fn owned(bytes: impl Into<Box<[u8]>>) -> Self {
        Self { repr: Repr::Owned(bytes.into()), start: 0 }
    }

    /// The same without so many bytes at its beginning.
    pub(crate) fn without(self, bytes: usize) -> Self {
        Self { start: self.start.saturating_add(bytes), ..self }
    }
}

impl Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let held: &[u8] = match &self.repr {
            Repr::Pinned(slice) => slice,
            Repr::Owned(bytes) => bytes,
            Repr::Shared(data) => data,
        };
        held.get(self.start..).unwrap_or_default()
    }
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}

/// Order of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ascending.
    Forward,
    /// Descending.
    Reverse,
}

/// What commands read from: [`crate::Store`], [`crate::Txn`] or a [`crate::Snapshot`] of one; the
/// module of the last says when one is needed.
pub trait Read {
    /// The value of a key.
    ///
    /// # Errors
    /// I/O errors and corruption.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Value<'_>>, Error>;

    /// The values of many keys at once, in their order.
    ///
    /// # Errors
    /// I/O errors and corruption.
    fn multi_get<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Vec<Option<Value<'_>>>, Error>;

    /// The same, if they are few bytes together ([`FEW_BYTES`]; what is shared with a cache does
    /// not count); `None` if they are more, for then they are not to be held all at once.
    ///
    /// # Errors
    /// I/O errors and corruption.
    fn few<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Option<Vec<Option<Value<'_>>>>, Error>;

    /// Runs what reads several records on a snapshot of this moment.
    fn at_one_moment<T>(&self, run: impl FnOnce(&Snapshot<'_>) -> T) -> T
    where
        Self: Sized;

    /// All entries of `[lower, upper)`; an empty `upper` means no bound. The scan sees the state of
    /// the moment it was opened. Without a call of [`Cursor::next`] nothing is read.
    ///
    /// # Errors
    /// Only if the family is missing; reading errors come from [`Cursor::next`].
    fn scan(
        &self,
        family: Family,
        lower: &[u8],
        upper: &[u8],
        direction: Direction,
    ) -> Result<Cursor<'_>, Error>;

    /// Marks of slot moves, where there are any: keys of slots that are others' are there for no
    /// command on many keys.
    fn marks(&self) -> Option<Arc<Marks>>;
}

/// So many bytes of values are read at once.
pub const FEW_BYTES: usize = 4 << 20;

/// Calls `visit` with the values of many keys, in their order and all as they are at one moment.
/// Where they are more than [`FEW_BYTES`], one of them is held at a time.
///
/// # Errors
/// I/O errors and corruption; those of `visit`, which end it.
pub fn each<K: AsRef<[u8]>, E: From<Error>>(
    read: &impl Read,
    family: Family,
    keys: &[K],
    mut visit: impl FnMut(Option<Value<'_>>) -> Result<(), E>,
) -> Result<(), E> {
    if let Some(values) = read.few(family, keys)? {
        return values.into_iter().try_for_each(visit);
    }
    read.at_one_moment(|read| {
        keys.iter().try_for_each(|key| visit(read.get(family, key.as_ref())?))
    })
}

/// Key and value of an entry.
pub type Entry<'e> = (&'e [u8], &'e [u8]);

/// A range scan. Lends its entries, so that nothing is copied.
pub struct Cursor<'a> {
    engine: DBRawIterator<'a>,
    direction: Direction,
    position: Position,
    overlay: Option<OverlaySlice>,
}

/// Where the engine's iterator stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Unopened,
    /// On an entry that was lent already.
    Used,
    /// On an entry that was not lent yet, or behind the end.
    Fresh,
}

enum Source {
    Engine,
    Overlay,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(
        engine: DBRawIterator<'a>,
        direction: Direction,
        overlay: Option<OverlaySlice>,
    ) -> Self {
        Self { engine, direction, position: Position::Unopened, overlay }
    }

    /// The next entry (key, value).
    ///
    /// # Errors
    /// I/O errors and corruption; the scan is over then.
    #[expect(clippy::should_implement_trait, reason = "lends from itself, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        let entry = if self.overlay.is_none() {
            self.next_of_engine()?
        } else {
            match self.step()? {
                None => None,
                Some(Source::Engine) => self.engine.item(),
                Some(Source::Overlay) => self.overlay.as_ref().and_then(OverlaySlice::passed),
            }
        };
        if let Some((_, value)) = entry {
            budget::found(value.len());
        }
        Ok(entry)
    }

    /// The next entry of a scan that passes over nothing but the engine's: as few calls of it as
    /// there can be.
    fn next_of_engine(&mut self) -> Result<Option<Entry<'_>>, Error> {
        budget::step(1)?;
        match (self.position, self.direction) {
            (Position::Unopened, Direction::Forward) => self.engine.seek_to_first(),
            (Position::Unopened, Direction::Reverse) => self.engine.seek_to_last(),
            // Behind the end they do nothing.
            (_, Direction::Forward) => self.engine.next(),
            (_, Direction::Reverse) => self.engine.prev(),
        }
        self.position = Position::Used;
        if let Some(entry) = self.engine.item() {
            return Ok(Some(entry));
        }
        self.status()?;
        Ok(None)
    }

    fn status(&self) -> Result<(), Error> {
        self.engine.status().map_err(|error| Error::engine("scan a family", error))
    }

    fn step(&mut self) -> Result<Option<Source>, Error> {
        loop {
            budget::step(1)?;
            self.advance_engine()?;
            let Some(overlay) = &mut self.overlay else { return Ok(self.lend_engine()) };
            let head = overlay.head(self.direction);
            let order = match (self.engine.key(), head) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(engine), Some(key)) => match self.direction {
                    Direction::Forward => engine.cmp(key),
                    Direction::Reverse => (**key).cmp(engine),
                },
            };
            if order == Ordering::Less {
                if self.engine.key().is_some_and(|key| overlay.hides(key)) {
                    self.position = Position::Used;
                    continue;
                }
                return Ok(self.lend_engine());
            }
            if order == Ordering::Equal {
                self.position = Position::Used;
            }
            overlay.pop(self.direction);
            if overlay.passed().is_some() {
                return Ok(Some(Source::Overlay));
            }
        }
    }

    fn lend_engine(&mut self) -> Option<Source> {
        self.engine.valid().then(|| {
            self.position = Position::Used;
            Source::Engine
        })
    }

    fn advance_engine(&mut self) -> Result<(), Error> {
        match (self.position, self.direction) {
            (Position::Fresh, _) => return Ok(()),
            (Position::Unopened, Direction::Forward) => self.engine.seek_to_first(),
            (Position::Unopened, Direction::Reverse) => self.engine.seek_to_last(),
            (Position::Used, _) if !self.engine.valid() => {}
            (Position::Used, Direction::Forward) => self.engine.next(),
            (Position::Used, Direction::Reverse) => self.engine.prev(),
        }
        self.position = Position::Fresh;
        if self.engine.valid() {
            return Ok(());
        }
        self.status()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Store};

    const LARGE: usize = FEW_BYTES / 20;

    fn fill(store: &Store, keys: &[Vec<u8>], byte: u8, length: usize) {
        let mut txn = store.txn();
        for key in keys {
            txn.put(Family::Default, key, &vec![byte; length]);
        }
        txn.commit().unwrap();
    }

    fn few(read: &impl Read, keys: &[Vec<u8>]) -> Option<usize> {
        read.few(Family::Default, keys).unwrap().map(|values| values.len())
    }

    /// How long each value is, and its first byte. `between` runs when the first one was visited.
    fn seen(
        read: &impl Read,
        keys: &[Vec<u8>],
        between: impl Fn(),
    ) -> Vec<Option<(usize, Option<u8>)>> {
        let mut seen = Vec::new();
        let visit = |value: Option<Value<'_>>| {
            seen.push(value.map(|value| (value.len(), value.first().copied())));
            if seen.len() == 1 {
                between();
            }
            Ok::<_, Error>(())
        };
        each(read, Family::Default, keys, visit).unwrap();
        seen
    }

    #[test]
    fn large_values_are_not_held_together_and_are_those_of_one_moment() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db"), Options::default()).unwrap();
        let keys: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![b'k', n]).collect();
        fill(&store, &keys, 1, 10);
        assert_eq!(few(&store, &keys), Some(40));
        assert_eq!(few(&store.snapshot(), &keys), Some(40));
        fill(&store, &keys, 1, LARGE);
        let mut txn = store.txn();
        assert_eq!((few(&store, &keys), few(&txn, &keys)), (None, None));
        txn.put(Family::Default, &keys[0], b"own");
        assert_eq!((few(&txn, &keys), few(&txn.snapshot(), &keys)), (None, None));
        assert_eq!(few(&txn, &keys[..5]), Some(5));
        assert_eq!(few(&txn.snapshot(), &keys[..5]), Some(5));
        let found = seen(&txn, &keys, || {});
        assert_eq!((found.first(), found.len()), (Some(&Some((3, Some(b'o')))), 40));
        drop(txn);
        let found = seen(&store, &keys, || fill(&store, &keys, 2, 10));
        assert_eq!(found, vec![Some((LARGE, Some(1))); 40]);
        let found = seen(&store, &keys, || fill(&store, &keys, 3, LARGE));
        assert_eq!(found, vec![Some((10, Some(2))); 40]);
    }

    /// As EXISTS in a MULTI that has set the key, which may name it as often as it likes.
    #[test]
    fn a_large_value_of_the_batch_is_not_held_once_for_each_time_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db"), Options::default()).unwrap();
        let mut txn = store.txn();
        txn.put(Family::Default, b"k", &vec![1; LARGE]);
        let keys = vec![b"k".to_vec(); 40];
        assert_eq!((few(&txn, &keys[..20]), few(&txn, &keys[..21])), (Some(20), None));
        assert_eq!(seen(&txn, &keys, || {}), vec![Some((LARGE, Some(1))); 40]);
        // One that was taken out again is no bytes.
        txn.delete(Family::Default, b"k");
        assert_eq!(few(&txn, &keys), Some(40));
    }
}
